"""What a cube stores: chunks that are there, their bytes and sizes, by variable and axis value. From the chunk index: no pixel is read for it, but
for the few bytes of chunks that may hold one value only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.contents.constant import READ_BYTES, Candidates, Constant, bytes_of_constant, count_constant
from cubeingest.contents.index import KINDS, Manifests, Objects, Pieces, list_objects, manifests_of, objects_of
from cubeingest.contents.sizes import Sizes
from cubeingest.selection import Chosen, Selection, choose
from cubeingest.spec import CubeSpec, Variable
from cubeingest.store import Store, open_array

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

SHARDED = "what lies in a shard is not in the chunk index"
"""Why chunks of one value are not looked for there."""


@dataclass(frozen=True)
class Amount:
    """Objects (chunks, or shards) that are ``present`` of ``total``; bytes as stored, and of the pixels that they hold: of a shard as if all of its
    chunks were there, at the end of the array as far as that goes.
    """

    present: int
    total: int
    stored: int
    raw: int

    @property
    def ratio(self) -> float | None:
        """How many times smaller they are than their pixels; None where there are none."""
        return self.raw / self.stored if self.stored else None

    def to_json(self) -> dict[str, Any]:
        ratio = None if self.ratio is None else round(self.ratio, 3)
        return {
            "present": self.present,
            "total": self.total,
            "bytes": self.stored,
            "raw_bytes": self.raw,
            "ratio": ratio,
        }


@dataclass(frozen=True)
class VariableContents:
    """What is stored of one variable. ``kind`` says what is counted: ``"chunk"``, or ``"shard"``, which is what lies in the store then; ``piece`` is its
    shape. ``by`` has amounts by axis and label of its values (of axis blocks, where a chunk spans several).
    """

    name: str
    dtype: str
    dims: tuple[str, ...]
    kind: str
    piece: tuple[int, ...]
    chunks: tuple[int, ...]
    amount: Amount
    kinds: Mapping[str, int]
    smallest: int | None
    median: int | None
    largest: int | None
    histogram: Mapping[int, int]
    constant: Constant
    manifests: Manifests
    by: Mapping[str, Mapping[str, Amount]]

    def to_json(self) -> dict[str, Any]:
        return {
            "variable": self.name, "dtype": self.dtype, "object": self.kind, "shape": dict(zip(self.dims, self.piece, strict=True)),
            "chunks": dict(zip(self.dims, self.chunks, strict=True)), **self.amount.to_json(), "kept": dict(self.kinds),
            "sizes": {"smallest": self.smallest, "median": self.median, "largest": self.largest,
                      "histogram": [{"from": size, "below": 2 * size, "count": n} for size, n in self.histogram.items()]},
            "constant": self.constant.to_json(), "manifests": self.manifests.to_json(),
            "by": {axis: {label: a.to_json() for label, a in rows.items()} for axis, rows in self.by.items()},
        }  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """What is stored of a selection, at a snapshot."""

    store: str
    snapshot: str
    variables: tuple[VariableContents, ...]

    def to_json(self) -> dict[str, Any]:
        return {"store": self.store, "snapshot": self.snapshot, "variables": [v.to_json() for v in self.variables]}


def read_contents(store: Store, selection: Selection) -> Contents:
    """What is stored of a selection. Raises :class:`GridError` for one that the cube does not have."""
    store = store.on(store.branch, store.tip)  # spec and chunks of one snapshot
    chosen = choose(store.spec, selection)
    session = store.readonly()
    found = tuple(_read_variable(store, session, chosen, v) for v in chosen.variables)
    return Contents(store.uri, store.tip, found)


def _read_variable(store: Store, session: icechunk.Session, chosen: Chosen, variable: Variable) -> VariableContents:
    pieces = objects_of(store.spec, variable)
    array = open_array(session, variable.name)
    part = _Part(store.spec, chosen, variable, pieces)
    at_most = 0 if variable.shards else bytes_of_constant(array, variable, pieces)
    why_not = SHARDED if variable.shards else ""
    if at_most > READ_BYTES:
        why_not = f"one of them could take {at_most} bytes, so that very many would have to be read"
    sizes, candidates, tally = Sizes(), Candidates(at_most), _Tally(variable, part, pieces)
    for batch in list_objects(session, variable.name, pieces):
        objects = part.of(batch)
        sizes.add(objects.lengths)
        tally.add(objects)
        if not why_not:
            candidates.add(objects.index, objects.lengths)
    constant = Constant(None, why_not=why_not)
    if not why_not:
        constant = count_constant(session, array, variable, pieces, candidates)
    with store.asking():
        manifests = manifests_of(store.repo, store.tip, variable.name)
    return VariableContents(
        name=variable.name, dtype=variable.dtype, dims=variable.dims, kind="shard" if variable.shards else "chunk",
        piece=variable.write_shape, chunks=variable.chunks, amount=tally.amount(),
        kinds={name: int(tally.kinds[k]) for k, name in KINDS.items()}, smallest=sizes.smallest, median=sizes.median,
        largest=sizes.largest, histogram=sizes.histogram(), constant=constant, manifests=manifests, by=tally.by(store.spec),
    )  # fmt: skip


class _Part:
    """The objects of a variable that are chosen: whole axis blocks, and whole regions."""

    def __init__(self, spec: CubeSpec, chosen: Chosen, variable: Variable, pieces: Pieces) -> None:
        axes, in_space = spec.axes_of(variable), spec.grid.lattice_shape_yx[-len(spec.grid.spatial_dims) :]
        slots = (*(a.n_blocks for a in axes), *in_space)
        spans = [*(a.block for a in axes), *spec.grid.region_shape]
        self.slot_of = [
            np.arange(count) * p // span for count, p, span in zip(pieces.counts, pieces.piece, spans, strict=True)
        ]
        """By dimension, the axis block, or the row or column of regions, that an object lies in."""
        self.blocks = [chosen.blocks(a) for a in axes]
        self.chosen_along = []
        for n, blocks in zip(slots, self.blocks, strict=False):
            along = np.zeros(n, bool)
            along[list(blocks)] = True
            self.chosen_along.append(along)
        self.lattice: npt.NDArray[np.bool_] | None = None
        if chosen.places is not None:
            self.lattice = np.zeros(spec.grid.lattice_shape_yx, bool)
            self.lattice[tuple(np.array(sorted(chosen.places)).T)] = True
            self.lattice = self.lattice.reshape(in_space)
        self.is_all = self.lattice is None and all(along.all() for along in self.chosen_along)
        self.per_slot = [np.bincount(s, minlength=n) for s, n in zip(self.slot_of, slots, strict=True)]
        self.n_axes = len(axes)

    def of(self, objects: Objects) -> Objects:
        """Those that are chosen."""
        if self.is_all:
            return objects
        slots = [slot_of[objects.index[:, d]] for d, slot_of in enumerate(self.slot_of)]
        keep = np.ones(len(objects), bool)
        for along, slot in zip(self.chosen_along, slots, strict=False):
            keep &= along[slot]
        if self.lattice is not None:
            keep &= self.lattice[tuple(slots[self.n_axes :])]
        return objects[keep]

    @property
    def n_in_space(self) -> int:
        """Objects at one place along the axes."""
        counts = self.per_slot[self.n_axes :]
        if self.lattice is None:
            return prod(int(c.sum()) for c in counts)
        return int((reduce(np.multiply, np.ix_(*counts)) * self.lattice).sum())

    def n_along(self, axis: int) -> dict[int, int]:
        """{axis block: objects along the axis in it}, of those that are chosen."""
        return {b: int(self.per_slot[axis][b]) for b in self.blocks[axis]}


class _Tally:
    """Counts and bytes of objects, together and by the values of each axis."""

    def __init__(self, variable: Variable, part: _Part, pieces: Pieces) -> None:
        self.variable, self.part, self.pieces = variable, part, pieces
        self.kinds = np.zeros(max(KINDS) + 1, np.int64)
        self.sums = [np.zeros((3, len(part.per_slot[a])), np.int64) for a in range(part.n_axes)]
        self.whole = np.zeros(3, np.int64)

    def add(self, objects: Objects) -> None:
        raw = self.pieces.elements(objects.index) * self.variable.np_dtype.itemsize
        self.kinds += np.bincount(objects.kinds, minlength=len(self.kinds))
        self.whole += np.array([len(objects), objects.lengths.sum(), raw.sum()])
        for axis, sums in enumerate(self.sums):
            slot = self.part.slot_of[axis][objects.index[:, axis]]
            for row, weights in enumerate((None, objects.lengths, raw)):
                # Sums of a batch are whole numbers far below 2**53, which floats hold exactly.
                sums[row] += np.bincount(slot, weights, sums.shape[1]).astype(np.int64)

    def amount(self) -> Amount:
        total = self.part.n_in_space * prod(sum(self.part.n_along(a).values()) for a in range(self.part.n_axes))
        present, stored, raw = (int(n) for n in self.whole)
        return Amount(present, total, stored, raw)

    def by(self, spec: CubeSpec) -> dict[str, dict[str, Amount]]:
        """Amounts by axis and label."""
        out: dict[str, dict[str, Amount]] = {}
        whole = self.amount().total
        for i, axis in enumerate(spec.axes_of(self.variable)):
            along = self.part.n_along(i)
            out[axis.name] = {}
            for block, n in along.items():
                present, stored, raw = (int(s) for s in self.sums[i][:, block])
                out[axis.name][axis.block_label(block)] = Amount(present, whole // sum(along.values()) * n, stored, raw)
        return out
