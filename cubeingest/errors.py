"""The errors that cubeingest raises on purpose, by what the caller can do about them.

Every one says what was wrong, what was got, what was expected and what to do. The command line prints the
message as one line and exits with 2; a traceback is a bug.
"""

from __future__ import annotations


class CubeIngestError(Exception):
    """Base of all errors that a caller's input, files or store can cause."""


class GridError(CubeIngestError):
    """Bounds, a point, an id or a selection that the grid does not hold."""


class SpecError(CubeIngestError):
    """A spec (``grid.yaml``) that cannot be accepted; the message names the key."""


class CatalogError(CubeIngestError):
    """A list, pattern or table of tiles that cannot be read or does not fit the grid."""


class TileError(CubeIngestError):
    """One raster that cannot be read or does not fit its place in the grid."""


class FunctionError(CubeIngestError):
    """A source function that cannot be used, or that returned for a region what does not fit there."""


class StoreError(CubeIngestError):
    """A store that is not there, is not a cube, or cannot take what is to be written."""


class ExtraError(CubeIngestError):
    """A library that is not installed, and that only some uses need; the message names the extra that brings it."""


class WorkerError(CubeIngestError):
    """A cluster whose workers do not see the coordinator's store, or whose versions differ."""


def nearest(word: str, known: list[str]) -> str:
    """A hint ``; did you mean 'x'?`` for a misspelt ``word``, or an empty string where nothing is near."""
    from difflib import get_close_matches

    hits = get_close_matches(word, known, n=1, cutoff=0.6) or [k for k in known if sorted(k) == sorted(word)]
    return f"; did you mean {hits[0]!r}?" if hits else ""
