"""What is stored of a cube, chunk by chunk, as its chunk index tells it."""

from cubeingest.contents.index import (
    ASKED_SINGLY,
    INLINE,
    Manifests,
    Objects,
    Pieces,
    ask_objects,
    list_objects,
    manifests_of,
    objects_of,
)
from cubeingest.contents.report import Amount, Contents, VariableContents, read_contents
from cubeingest.contents.sizes import Sizes

__all__ = [
    "ASKED_SINGLY",
    "INLINE",
    "Amount",
    "Contents",
    "Manifests",
    "Objects",
    "Pieces",
    "Sizes",
    "VariableContents",
    "ask_objects",
    "list_objects",
    "manifests_of",
    "objects_of",
    "read_contents",
]
