"""A result becomes a variable of the cube: the spec grows by it in one commit, and it is filled as any source function fills one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.analyze.parts import (
    Filled,
    Gaps,
    Where,
    cut,
    on_kept_thread,
    part_pixels,
    read_filled,
    refuse_parts,
    whole_window,
)
from cubeingest.analyze.quantity import Quantity, Reader
from cubeingest.analyze.reduction import Reduction, compute_window, result_variable
from cubeingest.axes import axis_label
from cubeingest.create import commit_details, take_over
from cubeingest.engine import Options, Progress
from cubeingest.errors import GridError, SpecError, StoreError
from cubeingest.grid import Grid, HealpixRegion, TilingGrid
from cubeingest.ingest import IngestReport, expected_slots, ingest
from cubeingest.ledger import create_ledger, read_records, write_expected
from cubeingest.plan import slots_of
from cubeingest.selection import Selection, choose
from cubeingest.spec import COMPUTED_ATTR, CubeSpec, Variable, differences, spec_from_document
from cubeingest.store import (
    MAIN,
    Store,
    is_split,
    made_known,
    open_store,
    read_internal,
    refuse_beside,
    save_splitting,
)
from cubeingest.template import write_arrays

if TYPE_CHECKING:
    import icechunk
    from odc.geo.geobox import GeoBox

CHANGED_MEANWHILE = "somebody else has changed the spec of {uri!r} meanwhile: nothing was added; try again"


@dataclass(frozen=True)
class Computed:
    """The source function of a variable that ``compute`` made: reads one snapshot of the cube, and gives regions of the result."""

    uri: str
    snapshot: str
    reduction: Reduction

    def __call__(self, geobox: GeoBox | HealpixRegion, **axes: Any) -> np.ndarray[Any, Any] | None:
        """One region, at one value of each axis that is left; None if the cube has nothing there."""
        return on_kept_thread(self._compute, geobox, axes)

    def _compute(self, geobox: GeoBox | HealpixRegion, axes: Mapping[str, Any]) -> np.ndarray[Any, Any] | None:
        reader, filled = _opened(self.uri, self.snapshot, _Same(self.reduction))
        spec, quantity = reader.spec, self.reduction.quantity
        region = _region_of(spec.grid, geobox)
        if not filled.regions(quantity)[region]:
            return None
        y, x = spec.grid.plane_slices(*region)
        rest = {a: (spec.grid.axis(a).index(axis_label(axes[a.replace("-", "_")])),) for a in self.reduction.rest}
        index = {a: rest.get(a, quantity.positions[a]) for a in quantity.axes}
        out = np.full((y.stop - y.start, x.stop - x.start), self.reduction.fill, self.reduction.dtype)
        most = part_pixels(spec, quantity, self.reduction.over, self.reduction.method)
        for part in cut((y, x), quantity.written(spec), most):
            at = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, (y, x), strict=True))
            found = compute_window(reader, self.reduction, index, *part)
            out[at] = found[(0,) * len(rest)]
        return out if spec.healpix is None else out[0]


def _region_of(grid: Grid, area: GeoBox | HealpixRegion) -> tuple[int, int]:
    """Lattice row and column of the region that a source function is asked for."""
    if isinstance(area, HealpixRegion):
        return grid.region_index(area.id)
    assert isinstance(grid, TilingGrid)
    left, bottom, right, top = area.boundingbox
    y, x = grid.window((left, bottom, right, top))
    return y.start // grid.region_shape_yx[0], x.start // grid.region_shape_yx[1]


class _Same:
    """A reduction as a key: two are the same if their texts are."""

    def __init__(self, reduction: Reduction) -> None:
        self.reduction = reduction

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and repr(self.reduction) == repr(other.reduction)

    def __hash__(self) -> int:
        return hash(repr(self.reduction))


@lru_cache(maxsize=2)
def _opened(uri: str, snapshot: str, same: _Same) -> tuple[Reader, Filled]:
    """On a worker: the cube as it was, opened once a process."""
    store = open_store(uri, at=snapshot)
    session, quantity = store.readonly(), same.reduction.quantity
    return Reader(session, store.spec, quantity), read_filled(session, store.spec, quantity)


@dataclass(frozen=True)
class IntoReport:
    """What became of a result in the cube: whether the variable was ``added``, from which ``source`` snapshot, and the run that
    filled it. ``changed`` are slots of what it was made from that are others by now.
    """

    name: str
    added: bool
    source: str
    run: IngestReport
    gaps: Gaps
    document: Mapping[str, Any]
    changed: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "variable": self.name, "added": self.added, "source": self.source, "changed": self.changed, "gaps": self.gaps.to_json(),
            "ingest": self.run.to_json(),
        }  # fmt: skip


def reduce_into(
    store: Store,
    selection: Selection,
    reduction: Reduction,
    name: str,
    options: Options,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> IntoReport:
    """Compute a reduction into the variable ``name`` of the same cube, which is added if there is none.

    The first run notes the snapshot that it computes from; the same command goes on from that, and fills what is missing. With
    ``options.redo`` it is computed anew from the cube as it is now. Regions that are not selected stay pending.

    Raises :class:`GridError` for a variable that is there and was not made so, :class:`StoreError` while others write, and if the snapshot
    is gone.
    """
    store.refuse_at()
    store = store.on(store.branch)  # with the spec as it is now
    refuse_parts(selection)
    spec, asked = store.spec, reduction.quantity
    # What is selected of regions and axes that are left must not show in the function: another selection goes on with the same.
    every = {a: tuple(range(spec.grid.axis(a).size)) for a in reduction.rest}
    reduction = replace(reduction, quantity=replace(asked, positions={**asked.positions, **every}))
    places = choose(spec, replace(selection, axes={}, variables=())).places
    where = Where(whole_window(spec.grid), places)
    filled = read_filled(store.readonly(), store.spec, reduction.quantity)
    gaps = filled.gaps(asked, where)
    regions = () if places is None else tuple(spec.grid.region_id(*p) for p in sorted(places))
    rest = {a: tuple(spec.grid.axis(a).labels[i] for i in asked.positions[a]) for a in reduction.rest}
    filling = Selection(axes=rest, regions=regions, variables=(name,))
    choose(spec, replace(filling, variables=()))  # what is refused must not leave a variable
    there = {v.name: v for v in store.spec.variables}.get(name)
    how = describe(reduction, store.spec)
    if there is None:
        added, source = True, store.tip
        store = add_variable(store, _made(store.spec, reduction, name, {**how, "snapshot": source}))
    else:
        added, source = False, _source_of(there, how)
        if options.redo:
            source = store.tip
            store = _note_source(store, name, source)
    try:
        then = open_store(store.uri, at=source).spec
    except StoreError as e:
        raise StoreError(f"{name!r} was computed from snapshot {source}, which is gone ({e}): --redo computes it from the cube as it is now") from None  # fmt: skip
    grown = [a for a in reduction.quantity.axes if then.grid.axis(a).labels != store.spec.grid.axis(a).labels]
    if grown or then.grid.spatial_shape != store.spec.grid.spatial_shape:
        raise GridError(
            f"{name!r} was computed from snapshot {source}, since when the cube has grown ({', '.join(grown) or 'its area'}): --redo computes it from the cube "
            "as it is now"
        )
    function = Computed(store.uri, source, reduction)
    run = ingest(store, filling, options, on_progress, function)
    changed = 0 if added or options.redo else _count_changed(store, source, reduction.quantity)
    return IntoReport(name, added, source, run, gaps, store.spec.document["variables"][name], changed)


def describe(reduction: Reduction, spec: CubeSpec) -> dict[str, Any]:
    """How a result is made, as kept in its attributes: of two runs that say the same, one goes on with the other's."""
    quantity = reduction.quantity
    out: dict[str, Any] = {"method": reduction.method, "of": quantity.text, "over": list(reduction.over)}
    if quantity.band_axis is not None:
        out["variable"] = quantity.columns[0].variable
    values = {
        a: [spec.grid.axis(a).labels[i] for i in quantity.positions[a]]
        for a in reduction.over
        if len(quantity.positions[a]) < spec.grid.axis(a).size
    }
    if values:
        out["values"] = values
    return out


def _source_of(variable: Variable, how: Mapping[str, Any]) -> str:
    """The snapshot that a variable was computed from, if it was made so."""
    kept = variable.attrs.get(COMPUTED_ATTR)
    if not isinstance(kept, Mapping) or "snapshot" not in kept:
        raise GridError(f"the cube has a variable {variable.name!r} that `compute` did not make: choose another name")
    own = {k: v for k, v in kept.items() if k != "snapshot"}
    if own != dict(how):
        raise GridError(
            f"the cube's {variable.name!r} was made otherwise ({'; '.join(differences(own, how))}): choose another name"
        )
    return str(kept["snapshot"])


def _made(spec: CubeSpec, reduction: Reduction, name: str, how: Mapping[str, Any]) -> dict[str, Any]:
    """The spec's entry of a new variable. ``name`` is its key."""
    made = result_variable(spec, reduction, name)
    dims = dict(zip(spec.grid.spatial_dims, ("y", "x"), strict=True)) if spec.healpix is None else {}
    fill = made.fill_value
    out: dict[str, Any] = {
        "dtype": made.dtype,
        "fill_value": "NaN" if isinstance(fill, float) and np.isnan(fill) else fill,
        "axes": list(made.axes),
        "chunks": {dims.get(d, d): n for d, n in zip(made.dims, made.chunks, strict=True)},
        "attrs": {**made.attrs, COMPUTED_ATTR: dict(how)},
    }
    if made.shards is not None:
        out["shards"] = {dims.get(d, d): n for d, n in zip(made.dims, made.shards, strict=True)}
    if made.compressor is not None:
        out["compressor"] = dict(made.compressor)
    return {name: out}


# ---- the commit -----------------------------------------------------------------------------------------------


def add_variable(store: Store, entry: Mapping[str, Any]) -> Store:
    """Let the cube's spec grow by one variable without a source: its array, ledger and spec in one commit; the store, opened anew.

    Raises :class:`SpecError` for a variable that cannot be, :class:`StoreError` beside running ingests, on another branch than main and if
    somebody else changed the spec meanwhile.
    """
    import zarr

    if store.branch != MAIN:
        raise StoreError("a variable can only be added to main: open the cube without --branch")
    old = store.spec
    (name,) = entry
    document = {**old.document, "variables": {**old.document["variables"], **entry}}
    new = replace(spec_from_document(document, old.base, f"variable {name!r}"), valid=old.valid)
    others = {**new.layout, "variables": {k: v for k, v in new.layout["variables"].items() if k != name}}
    changed = differences(old.layout, others)
    if changed:
        raise SpecError(f"variable {name!r} would change what is there: {'; '.join(changed)}")
    refuse_beside(store, "extend")
    variable = new.variable(name)
    fresh = zarr.storage.MemoryStore()
    write_arrays(fresh, replace(new, variables=(variable,)))
    expected = expected_slots(new, choose(new, Selection(variables=(name,))), None)

    def build(session: icechunk.Session) -> bool:
        if read_internal(session, store.uri)["spec"] != old.to_json():
            raise StoreError(CHANGED_MEANWHILE.format(uri=store.uri))
        root = zarr.open_group(session.store, mode="r+")
        if name in root:
            raise StoreError(f"the cube holds an array {name!r} that its spec does not name: choose another name")
        _copy_metadata(fresh, session, name)
        create_ledger(root, replace(new, variables=(variable,)))
        take_over(root, old, new, store.cube_id)
        write_expected(session, new, expected)
        return True

    with made_known(store, uuid.uuid4().hex[:12], "extend"):
        store.commit(build, lambda: f"add variable {name}", lambda: {**commit_details("add"), "variables": [name]})
        later = open_store(store.uri)
        if not is_split(later):
            save_splitting(later)
    return open_store(store.uri)


def _copy_metadata(fresh: Any, session: icechunk.Session, name: str) -> None:
    """The description of an array that has no chunks yet."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    async def copy() -> None:
        value = await fresh.get(f"{name}/zarr.json", default_buffer_prototype())
        assert value is not None
        await session.store.set(f"{name}/zarr.json", value)

    sync(copy())


def _note_source(store: Store, name: str, source: str) -> Store:
    """Note that a variable is computed from another snapshot from now on."""
    import zarr

    old = store.spec
    kept = old.document["variables"][name]
    attrs = {**kept["attrs"], COMPUTED_ATTR: {**kept["attrs"][COMPUTED_ATTR], "snapshot": source}}
    if attrs == kept["attrs"]:
        return store
    document = {**old.document, "variables": {**old.document["variables"], name: {**kept, "attrs": attrs}}}
    new = replace(spec_from_document(document, old.base, f"variable {name!r}"), valid=old.valid)
    refuse_beside(store, "extend")

    def build(session: icechunk.Session) -> bool:
        if read_internal(session, store.uri)["spec"] != old.to_json():
            raise StoreError(CHANGED_MEANWHILE.format(uri=store.uri))
        take_over(zarr.open_group(session.store, mode="r+"), old, new, store.cube_id)
        return True

    with made_known(store, uuid.uuid4().hex[:12], "extend"):
        store.commit(build, lambda: f"compute {name} anew", lambda: {**commit_details("update"), "variables": [name]})
    return open_store(store.uri, store.branch)


def _count_changed(store: Store, source: str, quantity: Quantity) -> int:
    """Slots of a quantity's variables that are others now than in the snapshot ``source``."""
    spec = store.spec
    slots = list(slots_of(spec, choose(spec, Selection(variables=quantity.variables))))
    now = read_records(store.readonly(), slots)
    then = read_records(store.on(at=source).readonly(), slots)
    return sum(now.get(s) != then.get(s) for s in slots if s in now or s in then)
