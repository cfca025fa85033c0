"""A copy of one variable with other chunks, in a cube of its own: made region by region, resumed and verified as computed variables are."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import Axis
from cubeingest.create import init_cube
from cubeingest.engine import Options, Progress
from cubeingest.errors import GridError, SpecError, StoreError, nearest
from cubeingest.export import overlapped
from cubeingest.extend import extend
from cubeingest.grid import TilingGrid
from cubeingest.ingest import IngestReport, ingest, keyword
from cubeingest.ledger import NOTHING, Slot, read_expected, read_records, read_states
from cubeingest.overviews import stamp_of_region
from cubeingest.selection import Selection, choose
from cubeingest.spec import CubeSpec, Variable, differences, spec_from_document
from cubeingest.store import Store, is_local, normalize_uri, open_array, open_store, store_exists
from cubeingest.wording import counted

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

REGION_BYTES = 128 * 2**20
"""What a region of the copy may weigh with its whole axis block, of which a worker holds one."""

CHUNK_BYTES = 2**31 - 1
"""What a chunk may weigh: Zarr's codecs count its bytes in 32 bits."""

FROM = "rechunked_from"
"""Attribute of the copy: the store that it was made from. Others that begin so say of which cube, variable and snapshot."""

SEVERAL = "several"
"""What stands for the snapshot where parts of the copy are of different ones."""

MOST_LENGTHS = 256
"""Lengths of a region that are weighed along a dimension: of very small chunks there could be ten thousand."""

Array = np.ndarray[Any, Any]


@dataclass
class RechunkReport:
    """What was done: the account of the copy's slots in ``ingest``; ``waiting`` are those of which the base has not all yet. ``region`` and
    ``chunks`` are the copy's, in pixels; ``memory`` is what one worker holds at most, about, in bytes.
    """

    ingest: IngestReport
    base: str
    base_snapshot: str
    chunks: dict[str, int]
    region: dict[str, int]
    memory: int
    waiting: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            **self.ingest.to_json(), "base": self.base, "base_snapshot": self.base_snapshot, "chunks": self.chunks, "region": self.region,
            "memory": self.memory, "waiting": self.waiting,
        }  # fmt: skip

    @property
    def exit_code(self) -> int:
        return self.ingest.exit_code


def rechunk(
    store: Store,
    variable: str,
    chunks: Mapping[str, int],
    to: str | os.PathLike[str],
    selection: Selection,
    options: Options,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> RechunkReport:
    """Copy a variable, with ``chunks`` by dimension (-1: all of it; those not named stay), into a cube of its own at ``to``.

    Made again, the copy is brought up to date: slots whose base slots have changed are made anew. Slots of which the base still lacks a part
    are left pending. Raises :class:`GridError` for chunks that cannot be, or if nothing can be copied yet; :class:`StoreError` if ``to`` is the cube
    itself, or another.
    """
    store = store.on(store.branch, store.tip)  # everything of one snapshot
    base, own = store.spec, store.spec.variable(variable)
    base.tiling  # noqa: B018  (refused before anything else is wrong with chunks)
    wanted = read_chunks(base, own, chunks)
    uri = normalize_uri(to)
    document = copy_document(store, own, wanted)
    spec = spec_from_document(document, base.base, "the copy")
    _check_target(store, uri, own, spec)
    copied = spec.variable(variable)
    source = BaseReader(store.uri, variable, store.tip)
    stamps, n_waiting = _stamp_slots(store, own, spec, selection)
    source.stamps.update(stamps)
    if not _is_of_one_snapshot(store, own, spec, uri, stamps):
        document["attrs"][f"{FROM}_snapshot"] = SEVERAL
        spec = spec_from_document(document, base.base, "the copy")
    made = init_cube(spec, uri, update=True)
    chosen = Selection(selection.axes, variables=(variable,), limit=selection.limit, part=selection.part)
    report = ingest(made.store, chosen, options, on_progress, source)
    return RechunkReport(
        report, store.uri, store.tip, dict(zip(copied.dims, copied.chunks, strict=True)),
        dict(zip(spec.tiling.dims_yx, spec.tiling.region_shape_yx, strict=True)), memory_of(base, own, spec), n_waiting,
    )  # fmt: skip


# ---- what the copy is to be -----------------------------------------------------------------------------------


def read_chunks(spec: CubeSpec, variable: Variable, chunks: Mapping[str, int]) -> dict[str, int]:
    """Length of a chunk along each dimension of a variable; what is not named stays as it is. Raises :class:`GridError`."""
    sizes = dict(zip(variable.dims, spec.shape_of(variable), strict=True))
    spelt = {{"y": variable.dims[-2], "x": variable.dims[-1]}.get(d, d): n for d, n in chunks.items()}
    if not spelt:
        raise GridError(f"say how the copy is to be chunked, such as {', '.join(f'{d}={n}' for d, n in sizes.items())}")
    for dim, n in spelt.items():
        if dim not in sizes:
            raise GridError(
                f"chunks: unknown dimension {dim!r}{nearest(dim, list(sizes))} (of {variable.name!r}: {', '.join(sizes)})"
            )
        if not isinstance(n, int) or (n != -1 and not 1 <= n <= sizes[dim]):
            raise GridError(
                f"chunks: {dim} is {n}, the cube has {sizes[dim]} along it: it must be from 1 to that, or -1 for all"
            )
    kept = dict(zip(variable.dims, variable.chunks, strict=True))
    out = {
        dim: min(sizes[dim], kept[dim]) if dim not in spelt else sizes[dim] if spelt[dim] == -1 else spelt[dim]
        for dim in sizes
    }
    n_bytes = math.prod(out.values()) * variable.np_dtype.itemsize
    if n_bytes > CHUNK_BYTES:
        raise GridError(f"chunks of {' x '.join(map(str, out.values()))} {variable.dtype} would weigh {n_bytes / 2**30:.1f} GB each (allowed 2): choose smaller ones")  # fmt: skip
    return out


def copy_document(store: Store, variable: Variable, chunks: Mapping[str, int]) -> dict[str, Any]:
    """The copy's spec as plain data: the base's grid and axes, the variable with other chunks, smaller regions if need be."""
    base = store.spec
    document = base.document
    region = region_for(base, variable, chunks)
    names = ("dtype", "fill_value", "compressor", "attrs", "overviews")
    own = {k: v for k, v in document["variables"][variable.name].items() if k in names}
    dims = [*variable.axes, "y", "x"]
    made_from = {
        FROM: store.uri, f"{FROM}_id": store.cube_id, f"{FROM}_variable": variable.name, f"{FROM}_snapshot": store.tip,
    }  # fmt: skip
    return {
        "name": f"{base.name} ({variable.name}, other chunks)",
        "crs": document["crs"],
        "grid": {
            **document["grid"],
            "region": dict(zip("yx", region, strict=True)),
            "id": _id_template(base.tiling, region),
        },
        "axes": {name: document["axes"][name] for name in variable.axes},
        "variables": {variable.name: {**own, "chunks": dict(zip(dims, chunks.values(), strict=True))}},
        "attrs": {**document.get("attrs", {}), **made_from},
        "cf_fill": base.cf_fill,
    }


def _id_template(grid: TilingGrid, region: tuple[int, int]) -> str:
    """The base's, unless it names regions by edges that are whole numbers there but not in the copy."""
    try:
        return replace(grid, region_shape_yx=region).id_template
    except GridError:
        return "y{iy}_x{ix}"


def region_for(spec: CubeSpec, variable: Variable, chunks: Mapping[str, int]) -> tuple[int, int]:
    """Regions (y, x) of the copy: whole chunks, as large as ``REGION_BYTES`` allows but no larger than the base's, and if that can be
    whole chunks of the base too, so that none of these is read twice.
    """
    depth = math.prod(chunks[a] for a in variable.axes) * variable.np_dtype.itemsize
    spans = [
        _lengths(n, region, chunks[dim], written)
        for dim, n, region, written in zip(
            variable.dims[-2:],
            spec.tiling.shape_yx,
            spec.tiling.region_shape_yx,
            variable.write_shape[-2:],
            strict=True,
        )
    ]
    fitting = [
        (ay + ax, y * x, -abs(y - x), (y, x))
        for (y, ay), (x, ax) in itertools.product(*spans)
        if y * x * depth <= REGION_BYTES
    ]
    if fitting:
        return max(fitting)[-1]
    return spans[0][0][0], spans[1][0][0]


def _lengths(n: int, region: int, chunk: int, written: int) -> list[tuple[int, bool]]:
    """Lengths that a region may have along a dimension of ``n`` pixels, and whether none of the base's regions and chunks are cut by it."""
    if chunk >= n:
        return [(n, True)]
    every = range(chunk, max(region, chunk) + 1, chunk)
    few = every[:: -(-len(every) // MOST_LENGTHS)]
    multiples = every if few == every else sorted({*few, *(m for m in every if region % m == 0)})
    return [(m, region % m == 0 and m % min(written, region) == 0) for m in multiples] + ([(n, True)] if region >= n and n % chunk else [])  # fmt: skip


def memory_of(base: CubeSpec, variable: Variable, copy: CubeSpec) -> int:
    """Bytes that a worker holds of a region of the copy, and of one axis block of the base there; libraries and what is on its way to the store
    took some 450 MB besides, for regions of 80 MB and of 160.
    """
    copied = copy.variable(variable.name)
    blocks, below = (math.prod(a.block for a in axes) for axes in (copy.axes_of(copied), base.axes_of(variable)))
    depth = blocks + below + 1
    return depth * math.prod(copy.tiling.region_shape_yx) * variable.np_dtype.itemsize


def _check_target(store: Store, uri: str, variable: Variable, spec: CubeSpec) -> None:
    """Raise :class:`StoreError` unless nothing is at ``uri``, or a copy of the same variable of the same cube with the same chunks."""
    if is_local(uri) and is_local(store.uri) and Path(uri).is_relative_to(store.uri) and uri != store.uri:
        raise StoreError(f"--to {uri!r} lies in the cube's own store: name another place")
    if not store_exists(uri):
        return
    try:
        there = open_store(uri)
    except StoreError:
        return  # nothing was ever written there, or it is no cube: init says so
    if there.cube_id == store.cube_id:
        raise StoreError(
            f"--to {uri!r} is the cube itself: axis blocks are common to all its variables, so the copy needs a store of its own"
        )
    attrs = there.spec.attrs
    if (attrs.get(f"{FROM}_id"), attrs.get(f"{FROM}_variable")) != (store.cube_id, variable.name):
        raise StoreError(
            f"--to {uri!r} is another cube ({there.spec.name}), not a copy of {variable.name!r} of this one: name another place"
        )
    layout = differences(there.spec.layout, spec.layout)
    if not layout:
        return
    try:
        extend(there, spec)  # the cube may have grown, and so may the copy, where no chunk of it reaches past its end
    except (SpecError, StoreError):
        raise StoreError(
            f"--to {uri!r} is a copy whose layout differs (there -> asked for): {'; '.join(layout)}. Name another place"
        ) from None


# ---- what it is made from -------------------------------------------------------------------------------------


def _stamp_slots(store: Store, variable: Variable, copy: CubeSpec, selection: Selection) -> tuple[dict[Slot, str], int]:
    """A stamp for each slot of the copy whose base slots are all there, or never will be; and how many others are selected.

    Raises :class:`GridError` if there is none of the first kind that has anything in it.
    """
    base, session = store.spec, store.readonly()
    states, expected = read_states(session, base)[variable.name], read_expected(session, base)[variable.name]
    held = [Slot(variable.name, tuple(i[:-2]), i[-2], i[-1]) for i in np.argwhere(states != NOTHING).tolist()]
    digests = {slot: stamp_of_region(record) for slot, record in read_records(session, held).items()}
    own = copy.variable(variable.name)
    somewhere = replace(selection, axes={}, variables=(), limit=None, part=None)
    places = None if somewhere == Selection() else choose(base, somewhere).places
    chosen = choose(copy, Selection(selection.axes))
    windows = (
        None if places is None else {p for place in places for p in overlapped(copy.tiling, base.tiling.slices(*place))}
    )
    pairs = list(zip(base.axes_of(variable), copy.axes_of(own), strict=True))
    out: dict[Slot, str] = {}
    n_waiting = n_held = 0
    for iy, ix in sorted(windows) if windows is not None else np.ndindex(*copy.tiling.lattice_shape_yx):
        below = overlapped(base.tiling, copy.tiling.slices(iy, ix))
        for block in itertools.product(*(chosen.blocks(a) for a in copy.axes_of(own))):
            blocks = itertools.product(*(_blocks_below(a, b, n) for (a, b), n in zip(pairs, block, strict=True)))
            slots = [Slot(variable.name, other, *place) for other in blocks for place in below]
            if any(states[s.index] == NOTHING and expected[s.index] for s in slots):
                n_waiting += 1
                continue
            n_held += any(s in digests for s in slots)
            texts = [f"{s.block} {s.iy},{s.ix} {digests.get(s, '')}" for s in slots]
            out[Slot(variable.name, block, iy, ix)] = hashlib.blake2b(
                "\n".join(texts).encode(), digest_size=16
            ).hexdigest()
    if not n_held:
        raise GridError(
            f"nothing can be copied yet: of {variable.name!r} the cube holds nothing that is selected, or only parts of what a slot of the copy "
            f"is made of ({n_waiting} of them wait for slots that are pending: `cubeingest status` shows where)"
        )
    return out, n_waiting


def _is_of_one_snapshot(store: Store, variable: Variable, copy: CubeSpec, uri: str, stamps: Mapping[Slot, str]) -> bool:
    """Whether all that the copy will hold is as the base is now; ``stamps`` are those of the slots that are to be made.

    Raises :class:`StoreError` if the copy holds slots of which the base lacks a part now: they are of another version.
    """
    if not store_exists(uri):
        return True
    there = open_store(uri).readonly()
    states = read_states(there, copy)[variable.name]
    held = [Slot(variable.name, tuple(i[:-2]), i[-2], i[-1]) for i in np.argwhere(states != NOTHING).tolist()]
    others = [slot for slot in held if slot not in stamps]
    if not others:
        return True
    now, _ = _stamp_slots(store, variable, copy, Selection())
    lacking = [slot for slot in others if slot not in now]
    if lacking:
        names = ", ".join(copy.grid.region_id(s.iy, s.ix) for s in lacking[:3])
        raise StoreError(
            f"the copy at {uri!r} holds {counted(len(lacking), 'slot')} ({names}{', ...' if len(lacking) > 3 else ''}) of another version of the cube, which lacks "
            "parts of them in this one: name another place"
        )
    records = read_records(there, others)
    return all(s in records and [source.stamp for source in records[s].sources] == [now[s]] for s in others)


def _blocks_below(base: Axis, copy: Axis, block: int) -> range:
    """Axis blocks of the base that one of the copy reaches into."""
    span = copy.block_slice(block)
    return range(span.start // base.block, -(-span.stop // base.block))


@dataclass(frozen=True)
class BaseReader:
    """The source function of a copy: a region's pixels at one set of axis values, as the base has them at a snapshot.

    Its ``stamps`` by slot stay with the coordinator: they tell which slots there are to make, and of what they were made.
    """

    uri: str
    variable: str
    snapshot: str
    stamps: dict[Slot, str] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return BaseReader, (self.uri, self.variable, self.snapshot)

    def stamps_of(self, slots: Iterable[Slot]) -> Mapping[Slot, str]:
        return {slot: self.stamps[slot] for slot in slots if slot in self.stamps}

    def __call__(self, geobox: GeoBox, **axes: Any) -> Array:
        spec = _open_base(self.uri, self.snapshot).spec
        variable = spec.variable(self.variable)
        own = spec.axes_of(variable)
        position = [a.index(axes[keyword(a.name)]) for a in own]
        spans = tuple(a.block_slice(i // a.block) for a, i in zip(own, position, strict=True))
        left, bottom, right, top = geobox.boundingbox
        y, x = spec.tiling.window((left, bottom, right, top))
        block = _read_block(self, tuple((s.start, s.stop) for s in (*spans, y, x)))
        pixels: Array = block[tuple(i - s.start for i, s in zip(position, spans, strict=True))]
        return pixels


@lru_cache(maxsize=1)
def _open_base(uri: str, snapshot: str) -> Store:
    return open_store(uri, at=snapshot)


@lru_cache(maxsize=1)
def _read_block(reader: BaseReader, index: tuple[tuple[int, int], ...]) -> Array:
    """An axis block of the base within a region of the copy; the last one is kept, since its values are asked for one by one."""
    store = _open_base(reader.uri, reader.snapshot)
    array = open_array(store.readonly(), reader.variable)
    return np.asarray(array[tuple(slice(*span) for span in index)])
