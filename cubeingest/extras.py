"""Libraries that only some uses need: extras bring them, and where one is absent, a line says what needs it and how to get it."""

from __future__ import annotations

from typing import Any

from cubeingest.errors import ExtraError

CLIENTS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure")}
"""By kind of storage: the library that reads files there, and the extra that brings it. (Cubes need none: Icechunk reads them.)"""

NAMES = {"PIL": "pillow"}
"""Libraries that are installed by another name than they are imported by."""


def import_extra(module: str, extra: str, what: str) -> Any:
    """A module of a library that comes with ``extra``, and that ``what`` needs. Raises :class:`ExtraError` where it cannot be imported."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as e:
        raise ExtraError(lack_of(module.partition(".")[0], extra, what, e)) from None


def import_client(kind: str) -> None:
    """Import what reads files in a kind of storage. Raises :class:`ExtraError` where it cannot be imported."""
    if kind in CLIENTS:
        library, extra = CLIENTS[kind]
        import_extra(library, extra, f"reading {kind}://")


def lack_of(library: str, extra: str, what: str, reason: ImportError) -> str:
    """The line that says that ``what`` needs a ``library``: one that is absent, or one that is there and broken, and how."""
    is_absent = isinstance(reason, ModuleNotFoundError) and (reason.name or "").partition(".")[0] == library
    broken = "" if is_absent else f", which cannot be imported ({' '.join(str(reason).split())})"
    return f"{what} needs {NAMES.get(library, library.replace('_', '-'))}{broken}: pip install 'cubeingest[{extra}]'"
