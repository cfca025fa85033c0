"""The arrays of a cube's overviews: made, grown, taken away, found again, and announced to readers.

``overviews/<level>`` is a group that any reader opens like the cube itself. The cube's group and ``overviews`` carry the Zarr convention
``multiscales`` (https://github.com/zarr-conventions/multiscales, v0.1), which says what is derived from what, and how.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cubeingest.ledger import create_records
from cubeingest.overviews.levels import LAYOUT, Level, Pyramid, most_levels
from cubeingest.spec import INTERNAL_GROUP, OVERVIEWS, CubeSpec
from cubeingest.store import LEDGER
from cubeingest.template import write_arrays

if TYPE_CHECKING:
    import icechunk
    import zarr

CONVENTION = "multiscales"


def find_pyramid(session: icechunk.Session, spec: CubeSpec) -> Pyramid | None:
    """The overviews that the cube of a session says it has, or None: of the variables that it made them for and that still are to have some."""
    import zarr

    return _pyramid_of(_kept(zarr.open_group(session.store, mode="r")), spec)


def pyramid_id(session: icechunk.Session) -> str:
    """What tells the overviews that a cube has from those that it had before they were made anew; empty if it has none."""
    import zarr

    return str(_kept(zarr.open_group(session.store, mode="r")).get("id", ""))


def has_overviews(session: icechunk.Session) -> bool:
    """Whether a cube has a group of overviews that cubeingest made, also one that it does not use any more: of another layout, or spoilt."""
    import zarr

    return bool(_kept(zarr.open_group(session.store, mode="r")))


def _kept(root: zarr.Group) -> dict[str, Any]:
    """What is kept of a cube's overviews in their group; empty if it has none of ours."""
    import zarr

    group = root.get(OVERVIEWS)
    kept: Any = group.attrs.asdict().get(INTERNAL_GROUP) if isinstance(group, zarr.Group) else None
    return kept if isinstance(kept, dict) else {}


def _pyramid_of(kept: dict[str, Any], spec: CubeSpec) -> Pyramid | None:
    n, names = kept.get("levels"), kept.get("variables")
    if (
        kept.get("layout") != LAYOUT
        or type(n) is not int
        or not 1 <= n <= most_levels(spec.grid)
        or not isinstance(names, list)
    ):
        return None
    found = Pyramid(spec, n)
    if [v.name for v in found.variables] != names:
        found = Pyramid(spec, n, tuple(names))
    return found if found.variables else None


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


def is_complete(session: icechunk.Session, pyramid: Pyramid) -> bool:
    """Whether the cube of a session has all of a pyramid's arrays."""
    import zarr

    root = zarr.open_group(session.store, mode="r")
    wanted = [lv.path(v.name) for lv in pyramid.levels for v in pyramid.variables]
    wanted += [f"{LEDGER}/{v.name}/record" for stage in pyramid.stages for v in stage.spec.variables]
    return all(path in root for path in wanted)


def write_pyramid(store: Any, pyramid: Pyramid) -> None:
    """Make what a pyramid lacks in a Zarr store that holds the cube: groups, arrays and ledger, and say so in attributes.

    Where one of a variable's arrays is lacking, all that its ledger says is forgotten.
    """
    import zarr

    root = zarr.open_group(store, mode="r+")
    for v in pyramid.variables:
        own = [stage.name(v.name) for stage in pyramid.stages]
        lacking = [lv for lv in pyramid.levels if lv.path(v.name) not in root]
        if not lacking and all(f"{LEDGER}/{name}/record" in root for name in own):
            continue
        _forget(root, v.name)
        for level in lacking:
            only = replace(level.spec, variables=(level.spec.variable(v.name),))
            write_arrays(store, only, level.group, "a" if level.group in root else "w")
        for stage in pyramid.stages:
            create_records(root, stage.spec, stage.spec.variable(stage.name(v.name)))
    describe(root, pyramid)


def settle_pyramid(root: zarr.Group, spec: CubeSpec) -> None:
    """Let the overviews that a cube has follow its spec: those of variables that are to have none any more are taken away, and what is said
    of the others is as it is now.
    """
    kept = _kept(root)
    if not kept:
        return
    pyramid = _pyramid_of(kept, spec)
    if pyramid is None:
        drop_pyramid(root, spec)
        return
    for name in {str(n) for n in kept["variables"]} - set(pyramid.methods):
        _forget(root, name)
        for level in pyramid.levels:
            if level.path(name) in root:
                del root[level.path(name)]
    if kept.get("methods") != pyramid.methods:
        describe(root, pyramid)


def _forget(root: zarr.Group, variable: str) -> None:
    """Take away the ledger of a variable's overviews."""
    if f"{LEDGER}/{variable}/{OVERVIEWS}" in root:
        del root[f"{LEDGER}/{variable}/{OVERVIEWS}"]


def describe(root: zarr.Group, pyramid: Pyramid) -> None:
    """Say in the attributes of the cube's group and of ``overviews`` which levels there are; as it is now, if it was said before."""
    from zarr_cm import multiscales

    methods = pyramid.methods
    of_arrays, of_groups = [], []
    for name in methods:
        of_arrays.append({"asset": name, **_place(pyramid.base)})
        for level in pyramid.levels:
            below = name if level.number == 1 else pyramid.levels[level.number - 2].path(name)
            of_arrays.append({"asset": level.path(name), **_derived(below, level.spec), **_place(level.spec), "resampling_method": _term(methods[name])})  # fmt: skip
    for level in pyramid.levels:
        derived = {} if level.number == 1 else _derived(str(level.number - 1), level.spec)
        of_groups.append({"asset": str(level.number), **derived, **_place(level.spec)})
    own: Any = root.attrs.asdict()
    root.attrs.put(multiscales.insert(own, multiscales.create(layout=of_arrays), overwrite=True))  # type: ignore[arg-type]
    group = root.require_group(OVERVIEWS)
    is_own = pyramid.base.healpix is None  # cells of HEALPix are others at each level, which says so itself
    conventions: Any = {
        k: v for k, v in own.items() if is_own and (k == "zarr_conventions" or k.startswith(("proj:", "spatial:dim")))
    }
    attrs = multiscales.insert(conventions, multiscales.create(layout=of_groups), overwrite=True)  # type: ignore[arg-type]
    kept = {
        "layout": LAYOUT, "levels": pyramid.n_levels, "variables": list(methods), "methods": methods, "id": _kept(root).get("id") or uuid.uuid4().hex,
    }  # fmt: skip
    group.attrs.put({**attrs, INTERNAL_GROUP: kept})


def _derived(below: str, spec: CubeSpec) -> dict[str, Any]:
    scale = [2.0, 2.0] if spec.healpix is None else [4.0]
    return {"derived_from": below, "transform": {"scale": scale, "translation": [0.0] * len(scale)}}


def _place(spec: CubeSpec) -> dict[str, Any]:
    """What the convention ``spatial:`` says of a level; of HEALPix cells nothing."""
    if spec.healpix is not None:
        return {}
    a = spec.tiling.affine()
    return {"spatial:shape": list(spec.tiling.shape_yx), "spatial:transform": [a.a, a.b, a.c, a.d, a.e, a.f]}


def _term(method: str) -> str:
    """What the convention, and GDAL, call a method."""
    return {"mean": "average"}.get(method, method)


def drop_pyramid(root: zarr.Group, spec: CubeSpec) -> None:
    """Take all overviews away, and what speaks of them."""
    from zarr_cm import multiscales

    del root[OVERVIEWS]
    for v in spec.variables:
        _forget(root, v.name)
    attrs: Any = root.attrs.asdict()
    if CONVENTION in attrs:
        root.attrs.put(multiscales.extract(attrs)[0])
