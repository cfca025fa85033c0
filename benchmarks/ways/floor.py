"""The floor: decode, encode, write a file a chunk, on all cores, and nothing else.

No GDAL, no Zarr, no session, no commit: each block is decoded once, by the fastest decoder at hand, straight into the chunks
that it touches; each chunk goes through the codec that Zarr uses and into a file of its own. The processes are forks of one
that has imported all (three libraries), which is the cheapest start there is. Chunks of fill value alone are not written, and
those of which the TIFF has no block are not even looked at, which is the least that ours do, too.

What it leaves is a Zarr v3 store all the same, so that it can be checked like the others.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd

from benchmarks.job import ARRAY, LEVEL, Job
from benchmarks.ways.tiff import Array, Blocks

Band = tuple[int, int, int]
"""Tile, first row and end of a band of whole rows of chunks."""


def run(job: Job) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    folder = Path(job.store) / ARRAY
    folder.mkdir(parents=True)
    _write_metadata(job)
    for iy in range(job.shape[0] // job.chunk):
        (folder / "c" / str(iy)).mkdir(parents=True)
    shares = share_out(job, cores)
    fork = multiprocessing.get_context("fork")
    others = [fork.Process(target=_fill, args=(job, share)) for share in shares[1:]]
    for process in others:
        process.start()
    _fill(job, shares[0])
    for process in others:
        process.join()
        assert process.exitcode == 0, f"a process ended with {process.exitcode}"


def share_out(job: Job, cores: int) -> list[list[Band]]:
    """As much for each core, in whole tiles where their number allows; only blocks at the edge of a band are decoded twice."""
    parts = next(n for n in range(1, cores + 1) if job.count * n % cores == 0)
    n_rows = job.side // job.chunk
    edges = [round(n_rows * i / parts) * job.chunk for i in range(parts + 1)]
    bands = [(tile, edges[i], edges[i + 1]) for tile in range(job.count) for i in range(parts)]
    each = len(bands) // cores
    return [bands[i * each : (i + 1) * each] for i in range(cores)]


def _fill(job: Job, bands: list[Band]) -> None:
    for tile, start, stop in bands:
        blocks = Blocks(job.hrefs[tile])
        try:
            _Band(job, blocks, tile * job.side // job.chunk).run(start, stop)
        finally:
            blocks.close()


class _Band:
    """Rows of chunks: the one that is being filled, and those into which its last blocks reach (one, if chunks are larger)."""

    def __init__(self, job: Job, blocks: Blocks, first_column: int) -> None:
        self.job, self.blocks, self.first_column = job, blocks, first_column
        self.chunk, self.columns = job.chunk, job.side // job.chunk
        self.fill = np.dtype(job.kind.dtype).type(job.kind.fill)
        self.codec = Zstd(level=LEVEL)
        shape = (self.columns, self.chunk, self.chunk)
        n = 1 + -(-blocks.rows // job.chunk)
        self.pixels = [np.empty(shape, job.kind.dtype) for _ in range(n)]
        self.present: list[Array] = []

    def run(self, start: int, stop: int) -> None:
        row = start // self.blocks.rows * self.blocks.rows
        self.present = [self._present(start + i * self.chunk) for i in range(len(self.pixels))]
        for top in range(start, stop, self.chunk):
            while row < top + self.chunk:
                self._decode(row, top, stop)
                row += self.blocks.rows
            self._write(top // self.chunk)
            self.pixels.append(self.pixels.pop(0))
            self.present = [*self.present[1:], self._present(top + len(self.pixels) * self.chunk)]

    def _present(self, top: int) -> Array:
        """For each chunk at row ``top``: does the TIFF have any of its blocks."""
        high, wide = self.blocks.tiff.block
        rows = self.blocks.tiff.counts[top // high : -(-(top + self.chunk) // high)] > 0
        there = rows.any(axis=0)
        return np.array([there[x * self.chunk // wide : -(-(x + 1) * self.chunk // wide)].any() for x in range(self.columns)])  # fmt: skip

    def _decode(self, row: int, top: int, stop: int) -> None:
        """Put the blocks at ``row`` into the chunks at ``top`` and below."""

        def put(left: int, block: Array | None) -> None:
            wide = self.job.side - left if block is None else block.shape[1]
            right = min(left + min(wide, self.blocks.tiff.block[1]), self.job.side)
            for i, (pixels, present) in enumerate(zip(self.pixels, self.present, strict=True)):
                first = top + i * self.chunk
                a, b = max(row, first), min(row + self.blocks.rows, first + self.chunk, stop)
                if a >= b:
                    continue
                if right - left == self.job.side and block is not None:  # strips: all columns of chunks in one go
                    part = block[a - row : b - row].reshape(b - a, self.columns, self.chunk)
                    pixels[:, a - first : b - first] = part.transpose(1, 0, 2)
                    continue
                for x in range(left // self.chunk, -(-right // self.chunk)):
                    c, d = max(left, x * self.chunk), min(right, (x + 1) * self.chunk)
                    if present[x]:
                        part = self.fill if block is None else block[a - row : b - row, c - left : d - left]
                        pixels[x, a - first : b - first, c - x * self.chunk : d - x * self.chunk] = part

        self.blocks.read(row, put)

    def _write(self, iy: int) -> None:
        folder = f"{self.job.store}/{ARRAY}/c/{iy}"
        for x, present in enumerate(self.present[0]):
            if not present:
                continue
            chunk = self.pixels[0][x]
            if chunk[0, 0] == self.fill and (chunk == self.fill).all():
                continue
            file = os.open(f"{folder}/{self.first_column + x}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(file, self.codec.encode(chunk))
            os.close(file)


def _write_metadata(job: Job) -> None:
    codec: dict[str, Any] = {"name": "zstd", "configuration": {"level": LEVEL, "checksum": False}}
    array = {
        "zarr_format": 3, "node_type": "array", "shape": job.shape, "data_type": job.kind.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": job.chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": job.kind.fill, "dimension_names": ["y", "x"], "attributes": {},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, codec],
    }  # fmt: skip
    (Path(job.store) / ARRAY / "zarr.json").write_text(json.dumps(array))
    (Path(job.store) / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))
