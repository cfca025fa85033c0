"""The arrays of a cube's overviews: made, grown, taken away, found again, and announced to readers.

``overviews/<level>`` is a group that any reader opens like the cube itself. The cube's group and ``overviews`` carry the Zarr convention
``multiscales`` (https://github.com/zarr-conventions/multiscales, v0.1), which says what is derived from what, and how.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cubeingest.ledger import create_records
from cubeingest.overviews.halving import method_of
from cubeingest.overviews.levels import Level, Pyramid
from cubeingest.spec import INTERNAL_GROUP, OVERVIEWS, CubeSpec
from cubeingest.store import LEDGER
from cubeingest.template import write_arrays

if TYPE_CHECKING:
    import icechunk
    import zarr

CONVENTION = "multiscales"


def find_pyramid(session: icechunk.Session, spec: CubeSpec) -> Pyramid | None:
    """The overviews that the cube of a session has arrays for, or None."""
    import zarr
    from zarr.errors import GroupNotFoundError

    try:
        attrs = zarr.open_group(session.store, path=OVERVIEWS, mode="r").attrs.asdict()
    except (GroupNotFoundError, FileNotFoundError):
        return None
    kept: Any = attrs.get(INTERNAL_GROUP)
    if not isinstance(kept, dict) or not isinstance(kept.get("levels"), int):
        return None  # somebody else's
    return _only(Pyramid(spec, kept["levels"]), kept.get("variables", ()))


def levels_of(session: icechunk.Session, spec: CubeSpec) -> tuple[Level, ...]:
    """The levels that the cube of a session has, finest first; of a level's variables those that have overviews."""
    pyramid = find_pyramid(session, spec)
    return () if pyramid is None else pyramid.levels


def level_arrays(root: zarr.Group, variable: str) -> Iterator[zarr.Array[Any]]:
    """A variable's arrays at all levels that a cube has."""
    import zarr

    group = root.get(OVERVIEWS)
    for _, level in group.groups() if isinstance(group, zarr.Group) else ():
        array = level.get(variable)
        if isinstance(array, zarr.Array):
            yield array


def _only(pyramid: Pyramid, names: Iterable[str]) -> Pyramid:
    """A pyramid of those variables alone that have arrays: the spec may name others by now."""
    base = pyramid.base
    kept = tuple(v for v in base.variables if v.name in names)
    return pyramid if kept == pyramid.variables else Pyramid(replace(base, variables=kept), pyramid.n_levels)


def write_pyramid(store: Any, pyramid: Pyramid) -> None:
    """Make what a pyramid lacks in a Zarr store that holds the cube: groups, arrays and ledger, and say so in attributes."""
    import zarr

    root = zarr.open_group(store, mode="r+")
    for level in pyramid.levels:
        there = set(root[level.group].array_keys()) if level.group in root else set()  # type: ignore[union-attr]
        missing = tuple(v for v in level.spec.variables if v.name not in there)
        if missing:
            write_arrays(store, replace(level.spec, variables=missing), level.group, "a" if there else "w")
    for stage in pyramid.stages:
        for v in stage.spec.variables:
            if f"{LEDGER}/{v.name}/record" not in root:
                create_records(root, stage.spec, v)
    describe(root, pyramid)


def describe(root: zarr.Group, pyramid: Pyramid) -> None:
    """Say in the attributes of the cube's group and of ``overviews`` which levels there are; as it is now, if it was said before."""
    from zarr_cm import multiscales

    names = [v.name for v in pyramid.variables]
    methods = {v.name: str(method_of(v)) for v in pyramid.variables}
    of_arrays, of_groups = [], []
    for name in names:
        of_arrays.append({"asset": name, **_place(pyramid.base)})
        for level in pyramid.levels:
            below = name if level.number == 1 else pyramid.levels[level.number - 2].path(name)
            of_arrays.append({"asset": level.path(name), **_derived(below), **_place(level.spec), "resampling_method": _term(methods[name])})  # fmt: skip
    for level in pyramid.levels:
        derived = {} if level.number == 1 else _derived(str(level.number - 1))
        of_groups.append({"asset": str(level.number), **derived, **_place(level.spec)})
    own: Any = root.attrs.asdict()
    root.attrs.put(multiscales.insert(own, multiscales.create(layout=of_arrays), overwrite=True))  # type: ignore[arg-type]
    group = root.require_group(OVERVIEWS)
    conventions: Any = {
        k: v for k, v in own.items() if k == "zarr_conventions" or k.startswith(("proj:", "spatial:dim"))
    }
    attrs = multiscales.insert(conventions, multiscales.create(layout=of_groups), overwrite=True)  # type: ignore[arg-type]
    group.attrs.put({**attrs, INTERNAL_GROUP: {"levels": pyramid.n_levels, "variables": names, "methods": methods}})


def _derived(below: str) -> dict[str, Any]:
    return {"derived_from": below, "transform": {"scale": [2.0, 2.0], "translation": [0.0, 0.0]}}


def _place(spec: CubeSpec) -> dict[str, Any]:
    a = spec.grid.affine()
    return {"spatial:shape": list(spec.grid.shape_yx), "spatial:transform": [a.a, a.b, a.c, a.d, a.e, a.f]}


def _term(method: str) -> str:
    """What the convention, and GDAL, call a method."""
    return {"mean": "average"}.get(method, method)


def drop_pyramid(root: zarr.Group, spec: CubeSpec) -> None:
    """Take all overviews away, and what speaks of them."""
    from zarr_cm import multiscales

    del root[OVERVIEWS]
    for v in spec.variables:
        if f"{LEDGER}/{v.name}/{OVERVIEWS}" in root:
            del root[f"{LEDGER}/{v.name}/{OVERVIEWS}"]
    attrs: Any = root.attrs.asdict()
    if CONVENTION in attrs:
        root.attrs.put(multiscales.extract(attrs)[0])
