"""Slots whose tiles' blocks are the chunks themselves: referred to where they lie, or copied as they are. No pixel is decoded but a few, as proof."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cubeingest.catalog import TileRow
from cubeingest.checksum import BlocksChecksum
from cubeingest.engine import SlotResult, timestamp
from cubeingest.errors import TileError
from cubeingest.ingest.chunks import ChunkIndex, Chunks, indices_in
from cubeingest.ingest.fill import IngestJob
from cubeingest.ledger import COPIED, VIRTUAL, Record, write_record
from cubeingest.mosaic import SlotShape, slot_shape, source_ids
from cubeingest.pieces import OPEN_AT_ONCE, overlap
from cubeingest.plan import SlotPlan, hrefs_of, reading_of
from cubeingest.remote import fetched, local_path, url_of, version_of
from cubeingest.spec import CubeSpec, Variable
from cubeingest.storage import is_remote, public_href
from cubeingest.store import reason_of
from cubeingest.tile import SourceId, Window, not_as_is, open_blocks, storage_of
from cubeingest.tile.chunks import BlockReader
from cubeingest.tile.pixels import Array
from cubeingest.writer import is_fill

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

COPY_BYTES = 16 * 2**20
"""What is read of a tile before it is handed to the store."""

FETCH_SHARE = 4
"""A remote tile is fetched to copy blocks of it for a slot if it is no larger than so many times the slot's pixels."""


@dataclass(frozen=True)
class TileBlocks:
    """Blocks of one tile that are chunks of a slot: ``offsets`` and ``lengths`` (0: left out) by row and column, from chunk ``first`` on.

    ``samples`` are some that are there, by row and column: index of the pixels that the array has of it, and a digest of what GDAL reads there.
    """

    href: str
    first: ChunkIndex
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    samples: Mapping[tuple[int, int], tuple[tuple[int | slice, ...], bytes]]

    def index(self, row: int, column: int) -> ChunkIndex:
        """Index of the chunk that a block is."""
        return (*self.first[:-2], self.first[-2] + row, self.first[-1] + column)

    def indices(self, present: bool) -> Iterator[tuple[ChunkIndex, int, int]]:
        """(chunk, row, column) of the blocks that are there, or are left out."""
        for row, column in np.argwhere((self.lengths > 0) == present).tolist():
            yield self.index(row, column), row, column


def fill_blocks(job: IngestJob, plan: SlotPlan) -> SlotResult:
    """Make chunks of a slot of its tiles' blocks, as ``job.how`` says, in a fork of its own, and record it there.

    Raises :class:`TileError` for a tile that must be decoded, or changes meanwhile; then the fork is dropped.
    """
    variable = job.spec.variable(plan.slot.variable)
    shape, storage = slot_shape(job.spec, variable, plan), storage_of(variable)
    sources = source_ids(plan, storage)
    by_href = dict(zip(hrefs_of(plan.tiles), sources, strict=True))
    session = pickle.loads(job.session) if isinstance(job.session, bytes) else job.session.fork()
    chunks = Chunks(session, variable, job.layout)
    if job.how == VIRTUAL:
        found = slot_blocks(job.spec, variable, plan, shape)
        _refer(session, variable, found, by_href)
        checksum = "" if any(tile.lengths.any() for tile in found) else BlocksChecksum().hexdigest()
    else:
        with _copies(variable, by_href, shape) as copies:
            found = slot_blocks(job.spec, variable, plan, shape, copies)
            checksum = _copy(chunks, found, copies)
    there = {chunk for tile in found for chunk, _, _ in tile.indices(present=True)}
    chunks.clear(chunk for chunk in indices_in(shape, variable) if chunk not in there)
    _prove(chunks, found)
    if source_ids(plan, storage) != sources:
        raise TileError(f"tile {public_href(plan.tiles[0].href)!r} changed while it was read: run the command again")
    state, how = ("done", VIRTUAL if job.how == VIRTUAL else COPIED) if there else ("empty", COPIED)
    reading = reading_of(job.spec, plan.slot, plan.tiles)
    record = Record(state, sources, checksum, reading, timestamp(), job.run, how)
    write_record(session, plan.slot, record, plan.is_new, job.layout)
    return SlotResult(
        plan.slot, public_href(plan.tiles[0].href), state, pickle.dumps(session),
        n_bytes=shape.n_pixels * variable.np_dtype.itemsize, n_pixels=shape.n_pixels,
    )  # fmt: skip


# ---- which blocks are which chunks ----------------------------------------------------------------------------


def slot_blocks(
    spec: CubeSpec,
    variable: Variable,
    plan: SlotPlan,
    shape: SlotShape,
    copies: Mapping[str, str] | None = None,
    proof: bool = True,
) -> list[TileBlocks]:
    """The blocks of a slot's tiles, each of which is just one of its chunks; read from ``copies``, where there are.

    With ``proof`` some of them are read as pixels. Raises :class:`TileError` for the first tile that must be decoded, and why.
    """
    out: list[TileBlocks] = []
    taken: dict[ChunkIndex, str] = {}
    for tile in plan.tiles:
        copy = (copies or {}).get(tile.href)
        with open_blocks(tile.href, spec.tiling, variable, tile.band, tile.expected, copy) as reader:
            for window, used in _used(spec, tile, reader.window, (shape.y, shape.x)):
                found = _blocks(spec, variable, tile, reader, window, used, proof)
                for chunk, _, _ in found.indices(present=True):
                    if chunk in taken:
                        other = public_href(taken[chunk])
                        raise not_as_is(tile.href, f"it shares pixels with {other!r}, which comes first")
                rows, columns = found.lengths.shape
                taken |= {found.index(r, c): tile.href for r in range(rows) for c in range(columns)}
                out.append(found)
    return out


def _used(spec: CubeSpec, tile: TileRow, window: Window, region: Window) -> list[tuple[Window, Window]]:
    """For each turn of the globe in which a tile has a part in a region: its window, and that part."""
    out = []
    for turned in [window] if tile.expected is not None else spec.tiling.turns(window):
        own = turned if tile.cell is None else overlap(turned, tile.cell)
        part = None if own is None else overlap(own, region)
        if own is not None and part is not None:
            out.append((turned, part))
    return out


def _blocks(
    spec: CubeSpec, variable: Variable, tile: TileRow, reader: BlockReader, window: Window, used: Window, proof: bool
) -> TileBlocks:
    ranges = []
    for whole, part, size, end in zip(window, used, variable.chunks[-2:], spec.tiling.shape_yx, strict=True):
        if whole.start % size or part.start % size or (part.stop % size and part.stop != end):
            raise not_as_is(
                tile.href,
                f"pixels {part.start}:{part.stop} of the grid are used of it, which are no whole chunks of {size}",
            )
        ranges.append(range((part.start - whole.start) // size, -(-(part.stop - whole.start) // size)))
    rows, columns = ranges
    table = reader.table(rows, columns)
    first = (*tile.position, *(part.start // size for part, size in zip(used, variable.chunks[-2:], strict=True)))
    found = TileBlocks(tile.href, first, table.offsets, table.lengths, {})
    return replace(found, samples=_samples(spec, variable, reader, found, rows, columns)) if proof else found


def _samples(
    spec: CubeSpec, variable: Variable, reader: BlockReader, found: TileBlocks, rows: range, columns: range
) -> dict[tuple[int, int], tuple[tuple[int | slice, ...], bytes]]:
    """See :class:`TileBlocks`. Raises :class:`TileError` if blocks that are left out hold anything."""
    out: dict[tuple[int, int], tuple[tuple[int | slice, ...], bytes]] = {}
    for row, column in _sampled(found.lengths):
        pixels = reader.pixels(rows[row], columns[column])
        chunk = found.index(row, column)
        iy, ix = chunk[-2:]
        y, x = iy * variable.chunks[-2], ix * variable.chunks[-1]
        ends = spec.tiling.shape_yx
        inside = np.ascontiguousarray(pixels[: ends[0] - y, : ends[1] - x])  # the array may end before the tile
        if found.lengths[row, column] == 0:
            if not is_fill(inside, variable).all():
                raise not_as_is(found.href, "GDAL does not tell where its blocks lie")
            continue
        index: tuple[int | slice, ...] = (*chunk[:-2], slice(y, y + inside.shape[0]), slice(x, x + inside.shape[1]))
        out[row, column] = index, _digest(inside)
    return out


def _digest(pixels: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()


def _sampled(lengths: npt.NDArray[np.int64]) -> set[tuple[int, int]]:
    """The first and the last block that is there (a strip may be short at the end), the largest, and two that are left out.

    Of several that are the largest, as all that are not compressed, the middle one.
    """
    out = set()
    for where in (lengths > 0, lengths == 0):
        found = np.argwhere(where)
        out |= {tuple(p) for p in found[[0, -1]].tolist()} if len(found) else set()
    largest = np.argwhere(lengths == lengths.max())
    row, column = largest[len(largest) // 2].tolist()
    return out | {(row, column)}


# ---- referring, copying, proof --------------------------------------------------------------------------------


def _refer(
    session: icechunk.Session, variable: Variable, found: Sequence[TileBlocks], sources: Mapping[str, SourceId]
) -> None:
    import icechunk

    for tile in found:
        if not tile.lengths.any():
            continue
        url = url_of(tile.href)
        try:
            failed = session.store.set_virtual_refs_arr(
                variable.name, (*(1 for _ in variable.axes), *tile.lengths.shape),
                [url if n else "" for n in tile.lengths.ravel().tolist()],
                tile.offsets.ravel().astype(np.uint64), tile.lengths.ravel().astype(np.uint64),
                arr_offset=tile.first, checksum=version_of(tile.href, sources[tile.href]),
            )  # fmt: skip
        except (icechunk.InvalidInputError, ValueError) as e:
            raise TileError(f"tile {public_href(tile.href)!r} cannot be referred to: {reason_of(e)}") from None
        if failed:
            raise TileError(
                f"tile {public_href(tile.href)!r} cannot be referred to: it lies in none of the cube's places"
            )


def refuse_large(variable: Variable, sources: Mapping[str, SourceId], shape: SlotShape) -> None:
    """Raise :class:`TileError` for a remote tile, by href, that is too large to be fetched for the sake of one slot."""
    largest = FETCH_SHARE * shape.n_pixels * variable.np_dtype.itemsize
    for href, source in sources.items():
        if is_remote(href) and (source.size is None or source.size > max(largest, COPY_BYTES)):
            raise not_as_is(href, "only a small part of it is used here, and it would have to be fetched whole")


@contextmanager
def _copies(variable: Variable, sources: Mapping[str, SourceId], shape: SlotShape) -> Iterator[dict[str, str]]:
    """The files of a slot's tiles on this disk, by href; remote ones are fetched."""
    here = {href: local_path(href) for href in sources if not is_remote(href)}
    wanted = {href: source for href, source in sources.items() if href not in here}
    refuse_large(variable, wanted, shape)
    with fetched(wanted, storage_of(variable), Event()) as copies:
        for href in wanted:
            if href not in copies:
                raise not_as_is(href, "it cannot be fetched whole (no room in the scratch folder, or no TIFF)")
        yield here | copies


def _copy(chunks: Chunks, found: Sequence[TileBlocks], files: Mapping[str, str]) -> str:
    """Copy blocks into chunks, in the order of these; the checksum of their bytes."""
    checksum = BlocksChecksum()
    blocks = sorted(
        (chunk, n, row, column) for n, tile in enumerate(found) for chunk, row, column in tile.indices(present=True)
    )
    batch: dict[ChunkIndex, bytes] = {}
    held = 0
    with _OpenFiles() as opened:
        for chunk, n, row, column in blocks:
            tile = found[n]
            file, length = opened.open(files[tile.href]), int(tile.lengths[row, column])
            file.seek(int(tile.offsets[row, column]))
            content = file.read(length)
            if len(content) != length:
                raise TileError(f"tile {public_href(tile.href)!r} is cut short: it ends within a block")
            checksum.update(chunk, content)
            batch[chunk] = content
            held += length
            if held > COPY_BYTES:
                chunks.put(batch)
                batch, held = {}, 0
        chunks.put(batch)
    return checksum.hexdigest()


class _OpenFiles(ExitStack):
    """A few files, kept open while they are read in turn."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[str, BinaryIO] = {}

    def open(self, path: str) -> BinaryIO:
        if path not in self._files:
            if len(self._files) == OPEN_AT_ONCE:
                self.close()
                self._files.clear()
            self._files[path] = self.enter_context(open(path, "rb"))  # noqa: SIM115  (it is one)
        return self._files[path]


def _prove(chunks: Chunks, found: Sequence[TileBlocks]) -> None:
    """Read the sampled chunks as any reader would, and compare them with what GDAL reads of the tile.

    Raises :class:`TileError` if they differ: in bits, since what the ordinary path writes is what GDAL reads.
    """
    for tile in found:
        for index, digest in tile.samples.values():
            if _digest(_read(chunks, index, tile.href)) != digest:
                raise not_as_is(tile.href, "its blocks, read as chunks, are other pixels than GDAL reads")


def _read(chunks: Chunks, index: tuple[int | slice, ...], href: str) -> Array:
    import icechunk

    try:
        return np.asarray(chunks.array[index])
    except icechunk.IcechunkError as e:
        if "VIRTUAL" not in e.kind.upper():
            raise
        raise not_as_is(href, f"what refers to it cannot be read: {reason_of(e)}") from None
    except (RuntimeError, ValueError) as e:
        raise not_as_is(
            href, f"its blocks cannot be read as chunks (is the last strip short?): {reason_of(e)}"
        ) from None
