"""The cube's own record of which slots are done or empty, and from which source.

It lies in the cube, in the same transaction as the pixels it speaks of. Per variable there are three arrays over
(axis blocks..., region rows, region columns), below ``cubeingest/ledger/<variable>``:

``record``
    one JSON text a slot, one chunk a slot (kept inline in Icechunk's manifest up to 512 bytes), so that writers of different slots
    never conflict, and counting is listing chunks.
``empty``
    one byte a slot that is done and holds nothing but fill value, likewise one chunk a slot.
``virtual``
    one byte a slot whose chunks are references into its tiles, likewise. Cubes of earlier versions lack it until they have such slots.
``expected``
    1 where the catalog, as last read, has a tile, and everywhere for a variable without a source; one chunk an axis block.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cubeingest.spec import CubeSpec, Variable
from cubeingest.store import LEDGER, ledger_dims, open_array, put_chunk
from cubeingest.tile import SourceId

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt
    import zarr

NOTHING, DONE, EMPTY = 0, 1, 2
"""States of a slot as :func:`read_states` gives them."""

VIRTUAL, COPIED = "virtual", "copied"
"""How a slot was filled, where its pixels were not decoded; see :class:`Record`."""

MANY = 64
"""Records from which on it is quicker to go through all that there are."""


@dataclass(frozen=True, order=True, slots=True)
class Slot:
    """One region at one axis block of one variable; ``block`` has one index for each axis of the variable."""

    variable: str
    block: tuple[int, ...]
    iy: int
    ix: int

    @property
    def index(self) -> tuple[int, ...]:
        return (*self.block, self.iy, self.ix)


@dataclass(frozen=True, slots=True)
class Record:
    """What the ledger says of one slot.

    ``checksum`` is the xxh3-64 of its pixels in C order, little endian; ``reading`` says how the sources were read (band and
    nodata), so that a spec that reads them otherwise is noticed.

    ``how`` is empty for pixels that were decoded and encoded. ``"copied"``: the chunks are the tiles' blocks as they are, and the checksum is that of their
    bytes (:class:`BlocksChecksum`). ``"virtual"``: they are references to those, and there is no checksum.
    """

    state: str
    sources: tuple[SourceId, ...]
    checksum: str
    reading: str
    time: str
    run: str
    how: str = ""

    def to_json(self) -> str:
        sources = [[s.href, s.size, s.stamp] for s in self.sources]
        kept = {
            "state": self.state,
            "sources": sources,
            "checksum": self.checksum,
            "reading": self.reading,
            "time": self.time,
            "run": self.run,
        }
        if self.how:
            kept["how"] = self.how
        return json.dumps(kept, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Record | None:
        """The record, or None for text that is no record: such a slot counts as not done."""
        try:
            kept = json.loads(text)
            sources = tuple(SourceId(str(h), size, str(stamp)) for h, size, stamp in kept["sources"])
            texts = (kept[key] for key in ("state", "checksum", "reading", "time", "run"))
            state, checksum, reading, time, run = texts
            return cls(state, sources, checksum, reading, time, run, kept.get("how", ""))
        except (ValueError, KeyError, TypeError):
            return None


def create_ledger(root: zarr.Group, spec: CubeSpec) -> None:
    """Make the (empty) arrays for every variable of the spec, in the cube's root group."""
    for v in spec.variables:
        create_records(root, spec, v)
        create_flag(root, spec, v, VIRTUAL)
        shape = spec.slot_shape(v)
        lattice = (*(1,) * len(v.axes), *shape[-2:])
        root.create_array(
            f"{LEDGER}/{v.name}/expected", shape=shape, chunks=lattice, dtype="uint8", fill_value=0, dimension_names=ledger_dims(v),
        )  # fmt: skip


def create_records(root: zarr.Group, spec: CubeSpec, variable: Variable) -> None:
    """Make the (empty) arrays that hold records, and say which slots are empty."""
    shape = spec.slot_shape(variable)
    root.create_array(
        f"{LEDGER}/{variable.name}/record", shape=shape, chunks=(1,) * len(shape), dtype="str", fill_value="",
        dimension_names=ledger_dims(variable),
    )  # fmt: skip
    create_flag(root, spec, variable, "empty")


def create_flag(root: zarr.Group, spec: CubeSpec, variable: Variable, name: str) -> None:
    """Make an (empty) array of one byte a slot, which only the slots have that it is true of."""
    shape = spec.slot_shape(variable)
    dims = ledger_dims(variable)
    root.create_array(
        f"{LEDGER}/{variable.name}/{name}", shape=shape, chunks=(1,) * len(shape), dtype="uint8", fill_value=0, dimension_names=dims,
    )  # fmt: skip


def _array(
    session: icechunk.Session, slot_or_variable: Slot | str, name: str, mode: Literal["r", "r+"] = "r", layout: str = ""
) -> zarr.Array[Any]:
    variable = slot_or_variable.variable if isinstance(slot_or_variable, Slot) else slot_or_variable
    return open_array(session, f"{LEDGER}/{variable}/{name}", mode, layout)


def write_record(session: icechunk.Session, slot: Slot, record: Record, is_new: bool = False, layout: str = "") -> None:
    """Put a slot's record into a session, beside its pixels. ``is_new`` says that it has none yet; ``layout`` is the store's ``layout_key``."""
    array = _array(session, slot, "record", "r+", layout)
    if _is_plain(array):
        encode_text, pack = _decoders()
        content = pack.encode(encode_text.encode(np.array([record.to_json()], object)))
        put_chunk(session, array, slot.index, content)
    else:
        array[slot.index] = record.to_json()
    if record.state == "empty" or not is_new:
        _array(session, slot, "empty", "r+", layout)[slot.index] = record.state == "empty"
    if record.how == VIRTUAL:
        _array(session, slot, "virtual", "r+", layout)[slot.index] = True
    elif not is_new:
        with suppress(FileNotFoundError):  # in a cube that has never had references
            _array(session, slot, "virtual", "r+", layout)[slot.index] = False


def read_states(session: icechunk.Session, spec: CubeSpec) -> dict[str, npt.NDArray[np.uint8]]:
    """State of every slot (``NOTHING``, ``DONE``, ``EMPTY``), by variable, from lists of chunks: no record is read."""
    out = {}
    for v in spec.variables:
        states = np.zeros(spec.slot_shape(v), np.uint8)
        for name, state in (("record", DONE), ("empty", EMPTY)):
            present = present_chunks(session, f"/{LEDGER}/{v.name}/{name}")
            if present:
                states[tuple(np.array(present).T)] = state
        out[v.name] = states
    return out


def read_virtual(session: icechunk.Session, spec: CubeSpec) -> dict[str, npt.NDArray[np.bool_]]:
    """Whether each slot's chunks are references into its tiles, by variable, from lists of chunks."""
    out = {}
    for v in spec.variables:
        out[v.name] = np.zeros(spec.slot_shape(v), bool)
        if has_references(session, v.name):
            present = present_chunks(session, f"/{LEDGER}/{v.name}/virtual")
            if present:
                out[v.name][tuple(np.array(present).T)] = True
    return out


def has_references(session: icechunk.Session, variable: str) -> bool:
    """Whether a cube can record references to tiles of a variable: those that earlier versions made cannot at first."""
    from zarr.core.sync import sync

    return bool(sync(session.store.exists(f"{LEDGER}/{variable}/virtual/zarr.json")))


def present_chunks(session: icechunk.Session, path: str) -> list[tuple[int, ...]]:
    """Indices of the chunks that an array has, without reading any."""
    from zarr.core.sync import sync  # its own thread, so that this works inside a notebook's event loop

    async def collect() -> list[tuple[int, ...]]:
        return [tuple(c) async for c in session.chunk_coordinates(path, batch_size=10_000)]

    return sync(collect())


def read_records(session: icechunk.Session, slots: Iterable[Slot], layout: str = "") -> dict[Slot, Record]:
    """Records of those of ``slots`` that have a readable one."""
    by_variable: dict[str, list[Slot]] = {}
    for slot in slots:
        by_variable.setdefault(slot.variable, []).append(slot)
    out = {}
    for variable, wanted in by_variable.items():
        texts = _inline_texts(session, variable, wanted, layout) if len(wanted) >= MANY else {}
        rest = [slot for slot in wanted if slot not in texts]
        if rest:
            index = tuple(np.array([s.index for s in rest]).T)
            try:
                found = _array(session, variable, "record", layout=layout).get_coordinate_selection(index)
                texts.update(zip(rest, np.atleast_1d(np.asarray(found)).tolist(), strict=True))
            except (RuntimeError, ValueError):  # one of them is damaged
                texts.update((slot, _read_text(session, slot, layout)) for slot in rest)
        for slot in wanted:
            record = Record.from_json(texts[slot]) if texts[slot] else None
            if record is not None:
                out[slot] = record
    return out


def _read_text(session: icechunk.Session, slot: Slot, layout: str) -> str:
    """Text of one record; empty if it is damaged."""
    try:
        return str(_array(session, slot, "record", layout=layout)[slot.index])
    except (RuntimeError, ValueError):
        return ""


def _inline_texts(session: icechunk.Session, variable: str, wanted: list[Slot], layout: str) -> dict[Slot, str]:
    """Texts of those records that Icechunk keeps in its manifest, decoded as Zarr would but without asking for each by itself,
    which took four times as long; and "" for slots that have none, which took as long again.
    """
    from zarr.core.sync import sync

    if not _is_plain(_array(session, variable, "record", layout=layout)):
        return {}
    places = {slot.index: slot for slot in wanted}
    texts = dict.fromkeys(wanted, "")

    async def collect() -> None:
        async for batch in session.store.array_chunk_iterator(f"/{LEDGER}/{variable}/record", batch_size=10_000):
            for row, index in enumerate(batch[0].tolist()):
                slot = places.get(tuple(index))
                if slot is None:
                    continue
                if row in batch[5]:
                    texts[slot] = _decode(batch[5][row])
                else:  # too long to lie in the manifest
                    del texts[slot]

    sync(collect())
    return texts


def _is_plain(array: zarr.Array[Any]) -> bool:
    """Whether records are encoded as we do it ourselves, which takes a third of the time that Zarr takes for one element."""
    from zarr.codecs import VLenUTF8Codec, ZstdCodec

    metadata: Any = array.metadata
    return [type(codec) for codec in metadata.codecs] == [VLenUTF8Codec, ZstdCodec]


@cache
def _decoders() -> tuple[Any, Any]:
    from numcodecs.vlen import VLenUTF8
    from numcodecs.zstd import Zstd

    return VLenUTF8(), Zstd()


def _decode(content: bytes) -> str:
    """Text of a record; empty if it is damaged."""
    texts, packed = _decoders()
    try:
        return str(texts.decode(packed.decode(content))[0])
    except (RuntimeError, ValueError, IndexError):
        return ""


def are_as_planned(session: icechunk.Session, before: Mapping[Slot, Record | None], layout: str) -> bool:
    """Whether slots have the records that they had before; for those that had none, only whether there is one is asked."""
    from zarr.core.sync import sync

    for slot in (s for s, record in before.items() if record is None):
        array = _array(session, slot, "record", layout=layout)
        metadata: Any = array.metadata
        if sync(session.store.exists(f"{array.path}/{metadata.encode_chunk_key(slot.index)}")):
            return False
    had = {slot: record for slot, record in before.items() if record is not None}
    return not had or read_records(session, had, layout) == had


def read_expected(session: icechunk.Session, spec: CubeSpec) -> dict[str, npt.NDArray[np.bool_]]:
    """Whether the catalog, as last read, has a tile for each slot, by variable."""
    return {v.name: np.asarray(_array(session, v.name, "expected")[...]).astype(bool) for v in spec.variables}


def write_expected(
    session: icechunk.Session, spec: CubeSpec, expected: Mapping[str, Mapping[tuple[int, ...], npt.NDArray[np.bool_]]]
) -> bool:
    """Put what the catalog has, by variable and axis block, into a session; whether anything changed.

    Axis blocks that are not given are left as they are: a run that read the list of one year speaks of that year only.
    """
    changed = False
    for variable, blocks in expected.items():
        array = _array(session, variable, "expected", "r+")
        for block, lattice in blocks.items():
            if not np.array_equal(np.asarray(array[block]), lattice):
                array[block] = lattice.astype(np.uint8)
                changed = True
    return changed
