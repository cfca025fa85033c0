"""The work on one place of an export: read the cube window by window, and write its files, each whole or not at all."""

from __future__ import annotations

import errno
import math
import pickle
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.engine import SlotResult
from cubeingest.errors import StoreError, TileError
from cubeingest.export.bands import Band
from cubeingest.export.files import FilePlan, TileFile
from cubeingest.ingest import why_unreadable
from cubeingest.mosaic import WINDOW_BYTES
from cubeingest.overviews import halve
from cubeingest.spec import CubeSpec, Variable
from cubeingest.store import open_array, read_window
from cubeingest.tile import Cog, CogWriter
from cubeingest.writer import all_fill

if TYPE_CHECKING:
    import icechunk

ENCODERS = 2
"""Threads that compress blocks: one worker is started for every two cores."""

ROWS_BYTES = 256 * 2**20
"""Rows of blocks that may wait in a worker. Where an axis block makes more files than that, the chunks are read several times."""

TAG_CUBE, TAG_TILE, TAG_STAMP, TAG_SNAPSHOT = (f"CUBEINGEST_{name}" for name in ("CUBE", "TILE", "STAMP", "SNAPSHOT"))
"""What every file says of itself: of which cube it is, what it holds, what tells this from an earlier one, and the snapshot."""

SIDECARS = (".aux.xml", ".ovr", ".msk")
"""What the names of files end with that GDAL reads along with one, after its whole name."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ExportJob:
    """What a worker needs besides its places. ``session`` is a readonly session, pickled; unfinished files lie in ``scratch``, which is on the
    filesystem of ``output``.
    """

    spec: CubeSpec
    session: bytes
    output: str
    scratch: str
    cube: str
    snapshot: str
    bands: Mapping[str, Band] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """What became of a place's files: names of those written, their bytes, and of those that would hold nothing but fill value."""

    names: tuple[str, ...] = ()
    n_bytes: int = 0
    empty: tuple[str, ...] = ()


def export_cogs(job: ExportJob, plan: FilePlan) -> SlotResult:
    """Write the COGs of one place, those of all positions of the axis block.

    Raises :class:`StoreError` if the output folder takes no more, :class:`TileError` if pixels cannot be read.
    """
    variable = job.spec.variable(plan.slot.variable)
    per_file = cog_of(job, plan, variable, plan.files[0]).row_bytes
    names: list[str] = []
    empty: list[str] = []
    n_bytes = 0
    with ThreadPoolExecutor(ENCODERS) as encoders:
        for files in batched(plan.files, max(1, ROWS_BYTES // per_file)):
            with ExitStack() as stack, writing(job):
                writers = [
                    stack.enter_context(CogWriter(scratch_file(job), cog_of(job, plan, variable, file), _halver(job, variable), encoders))
                    for file in files
                ]  # fmt: skip
                seen = [False] * len(files)
                for (pixels,) in windows_of(job, plan, [variable], plan.slot.block):
                    for n, (file, writer) in enumerate(zip(files, writers, strict=True)):
                        rows = pixels[_within(job, variable, plan, file)]
                        writer.write(rows.view(np.uint8) if rows.dtype.kind == "b" else rows)
                        seen[n] = seen[n] or has_data(rows, variable)
                for file, writer, is_seen in zip(files, writers, seen, strict=True):
                    if not is_seen:
                        empty.append(file.name)
                        continue
                    writer.finish()
                    n_bytes += put(job, writer.path, file.name)
                    names.append(file.name)
    return _result(plan, variable, Written(tuple(names), n_bytes, tuple(empty)), len(plan.files))


def _result(plan: FilePlan, variable: Variable, written: Written, positions: int) -> SlotResult:
    pixels = positions * math.prod(s.stop - s.start for s in plan.window)
    return SlotResult(
        plan.slot, "", "done" if written.names else "empty", n_bytes=pixels * variable.np_dtype.itemsize, n_pixels=pixels,
        detail=written,
    )  # fmt: skip


def cog_of(job: ExportJob, plan: FilePlan, variable: Variable, file: TileFile) -> Cog:
    """What one file is to be."""
    band = job.bands[variable.name]
    y, x = plan.window
    tags = {TAG_CUBE: job.cube, TAG_TILE: file.what, TAG_STAMP: plan.stamp, TAG_SNAPSHOT: job.snapshot}
    return Cog(
        (y.stop - y.start, x.stop - x.start), np.dtype(np.uint8) if variable.np_dtype.kind == "b" else variable.np_dtype,
        job.spec.tiling.crs, job.spec.tiling.affine(y.start, x.start), band.nodata, band.colours, band.scale, band.offset, band.units, band.title,
        tags, band.tags, band.predictor,
    )  # fmt: skip


def _halver(job: ExportJob, variable: Variable) -> Any:
    method = job.bands[variable.name].method

    def halved(rows: Array) -> Array:
        return (
            halve(rows.view(bool), variable, method).view(np.uint8)
            if variable.np_dtype.kind == "b"
            else halve(rows, variable, method)
        )

    return halved


def has_data(pixels: Array, variable: Variable) -> bool:
    """Whether any pixel is not the fill value; of booleans any counts."""
    return variable.np_dtype.kind == "b" or not all_fill(pixels, variable)


def _within(job: ExportJob, variable: Variable, plan: FilePlan, file: TileFile) -> tuple[int, ...]:
    """Where a file's position stands in its axis block."""
    axes = job.spec.axes_of(variable)
    return tuple(i - a.block_slice(b).start for i, a, b in zip(file.position, axes, plan.slot.block, strict=True))


def windows_of(
    job: ExportJob, plan: FilePlan, variables: Sequence[Variable], block: tuple[int, ...]
) -> Iterator[list[Array]]:
    """The pixels of a place and axis block, (axis positions..., rows, x) of each variable (cells of HEALPix are one row), whole chunk rows at a time, the next being read meanwhile.

    Raises :class:`TileError` where the cube refers to tiles that cannot be read any more.
    """
    import icechunk

    session: icechunk.Session = pickle.loads(job.session)
    arrays = [open_array(session, v.name) for v in variables]
    axes = tuple(a.block_slice(b) for a, b in zip(job.spec.axes_of(variables[0]), block, strict=True))
    y, x = plan.window

    def read(rows: slice) -> list[Array]:
        return [read_window(array, axes, rows, x) for array in arrays]

    try:
        with ThreadPoolExecutor(1) as ahead:
            waiting = None
            for rows in row_slices(variables, axes, y, x):
                reading = ahead.submit(read, rows)
                if waiting is not None:
                    yield waiting.result()
                waiting = reading
            if waiting is not None:
                yield waiting.result()
    except icechunk.IcechunkError as e:
        if plan.referring is None:
            raise
        raise TileError(why_unreadable(plan.referring, e)) from None


def row_slices(variables: Sequence[Variable], axes: tuple[slice, ...], y: slice, x: slice) -> Iterator[slice]:
    """Rows of each window in turn: up to the end of whole chunk rows, as many as fit into ``WINDOW_BYTES``."""
    chunk = max(v.chunk_yx[0] for v in variables)
    row_bytes = math.prod(s.stop - s.start for s in (*axes, x)) * sum(v.np_dtype.itemsize for v in variables)
    step = chunk * max(1, WINDOW_BYTES // (row_bytes * chunk))
    start = y.start
    while start < y.stop:
        stop = min((start // chunk) * chunk + step, y.stop)
        yield slice(start, stop)
        start = stop


# ---- files ----------------------------------------------------------------------------------------------------


def scratch_file(job: ExportJob) -> Path:
    """Where a file is written until it is whole."""
    return Path(job.scratch) / f"{uuid.uuid4().hex[:16]}.part"


def put(job: ExportJob, path: Path, name: str) -> int:
    """Move a file that is whole into its place; its bytes."""
    place = Path(job.output) / name
    place.parent.mkdir(parents=True, exist_ok=True)
    size = path.stat().st_size
    path.replace(place)
    unlink_beside(place)
    return size


def unlink_beside(path: Path) -> None:
    """Take away what GDAL has noted beside a file that is no more: statistics, overviews, masks."""
    for suffix in SIDECARS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def writing(job: ExportJob) -> Iterator[None]:
    """Turn what the filesystem says into :class:`StoreError`, which ends the run: no other file would fare better."""
    try:
        yield
    except OSError as e:
        if e.errno is None:
            raise
        reason = "the disk is full" if e.errno in (errno.ENOSPC, errno.EDQUOT) else e.strerror
        raise StoreError(f"cannot write into {job.output!r}: {reason}") from e
