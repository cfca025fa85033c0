"""What cubeingest keeps of a cube in the cube itself: a format number, the spec, the regions that are valid."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cubeingest.errors import StoreError
from cubeingest.spec import INTERNAL_GROUP, CubeSpec, spec_from_json

if TYPE_CHECKING:
    import icechunk

VALID = f"{INTERNAL_GROUP}/valid"
"""An array over region rows and columns: 1 where a region is valid, in cubes whose spec restricts the grid."""
FORMAT = 1
"""Version of what cubeingest itself keeps in a cube. Raised when an older version could no longer read it."""


def read_internal(session: icechunk.Session, uri: str) -> dict[str, Any]:
    """What cubeingest keeps in a cube's attributes. Raises :class:`StoreError` if this version cannot read it."""
    import zarr
    from zarr.errors import GroupNotFoundError

    try:
        attrs = zarr.open_group(session.store, path=INTERNAL_GROUP, mode="r").attrs.asdict()
    except (GroupNotFoundError, FileNotFoundError):
        attrs = {}
    if "format" not in attrs or "spec" not in attrs:
        raise StoreError(f"{uri!r} is an Icechunk repository, but not a cube that cubeingest made")
    if not isinstance(attrs["format"], int) or attrs["format"] > FORMAT:
        raise StoreError(
            f"the cube at {uri!r} has format {attrs['format']!r}, written by cubeingest {attrs.get('version', '?')}; this version "
            f"reads up to format {FORMAT}: upgrade cubeingest"
        )
    return dict(attrs)


def read_spec_of(session: icechunk.Session, uri: str) -> CubeSpec:
    """The spec kept in a cube. Raises :class:`StoreError` for no cube that this version can read, :class:`SpecError` for such a spec."""
    spec = spec_from_json(str(read_internal(session, uri)["spec"]))
    return spec if spec.valid_source is None else replace(spec, valid=_read_valid(session, uri))


def _read_valid(session: icechunk.Session, uri: str) -> frozenset[tuple[int, int]]:
    import numpy as np
    import zarr
    from zarr.errors import ArrayNotFoundError

    try:
        lattice = np.asarray(zarr.open_array(session.store, path=VALID, mode="r")[...])
    except (ArrayNotFoundError, FileNotFoundError):
        raise StoreError(
            f"the cube at {uri!r} is damaged: its spec restricts the grid, and {VALID!r}, which says to what, is not there; open it at an "
            "earlier snapshot (--at)"
        ) from None
    return frozenset((int(iy), int(ix)) for iy, ix in np.argwhere(lattice))


def is_unused(session: icechunk.Session) -> bool:
    """Whether a session's snapshot holds nothing at all: a repository whose ``init`` did not come to its commit."""
    import zarr
    from zarr.errors import GroupNotFoundError

    try:
        return not list(zarr.open_group(session.store, mode="r").keys())
    except (GroupNotFoundError, FileNotFoundError):
        return True
