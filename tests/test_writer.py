"""Windows that are encoded and written while the next ones are read: what is in the cube is what was in the tiles."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import icechunk
import numpy as np
import pytest
import rasterio
import zarr
from rasterio.transform import from_origin

import cubeingest as ci
from cubeingest import mosaic
from cubeingest.windows import Memory, Windows

SPEC = """\
name: plain
crs: EPSG:4326
grid:
  origin: {x: 0, y: 8}
  resolution: {x: 1/128, y: -1/128}
  shape: {y: 1024, x: 1024}
  region: {y: 256, x: 256}
  id: "{left:03H}{top:02H}"
variables:
  cover:
    dtype: uint8
    fill_value: 255
    chunks: {y: 64, x: 256}
    compressor: none
    source: {href: "tiles/{id}.tif"}
store: ./plain.icechunk
"""


def test_chunks_that_nothing_compresses_are_those_of_their_own_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are handed to the store as they lie in memory, which may be lent to the next window when it takes them."""
    set_now = icechunk.IcechunkStore.set

    async def set_late(self: icechunk.IcechunkStore, key: str, value: Any) -> None:
        await asyncio.sleep(0.01)
        await set_now(self, key, value)

    monkeypatch.setattr(icechunk.IcechunkStore, "set", set_late)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mosaic, "WINDOW_BYTES", 1)  # windows of one row of chunks
    (tmp_path / "tiles").mkdir()
    (tmp_path / "grid.yaml").write_text(SPEC)
    pixels = np.random.default_rng(11).integers(0, 250, (1024, 1024), dtype=np.uint8)
    for left in range(0, 8, 2):
        for top in range(8, 0, -2):
            part = pixels[(8 - top) * 128 :, left * 128 :][:256, :256]
            profile = {"driver": "GTiff", "height": 256, "width": 256, "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
            transform = from_origin(left, top, 1 / 128, 1 / 128)
            with rasterio.open(f"tiles/{left:03d}E{top:02d}N.tif", "w", transform=transform, **profile) as tile:
                tile.write(part, 1)
    cube = ci.init("grid.yaml")
    assert cube.ingest().written == 16
    array = zarr.open_array(cube.store.readonly().store, path="cover", mode="r")
    np.testing.assert_array_equal(np.asarray(array[:]), pixels)


def test_memory_that_cannot_be_had_fails_one_slot_and_leaves_the_next_its_turn() -> None:
    memory = Memory()

    def read(windows: Windows, size: int):  # type: ignore[no-untyped-def]
        taken = windows.take((size,), np.dtype("u1"))
        assert taken is not None
        yield slice(0, 1), taken[0], taken[1]

    for size in (2**60, 2**60, 2**60, 10):
        windows = Windows(lambda w, n=size: read(w, n), memory)  # type: ignore[misc]
        done: list[object] = []

        def take_all(windows: Windows = windows, done: list[object] = done) -> None:
            try:
                done.append(sum(1 for _ in windows))
            except MemoryError:
                done.append("none")

        thread = Thread(target=take_all, daemon=True)
        thread.start()
        thread.join(10)
        assert done == [1 if size == 10 else "none"]
        windows.close()


def test_windows_that_are_left_early_give_their_memory_to_the_next() -> None:
    memory = Memory()

    def read(windows: Windows):  # type: ignore[no-untyped-def]
        for i in range(5):
            taken = windows.take((8,), np.dtype("u1"))
            if taken is None:
                return
            taken[0][...] = i
            yield slice(i, i + 1), taken[0], taken[1]

    for _ in range(3):
        windows = Windows(read, memory)
        next(windows.lent())
        windows.close()
    windows = Windows(read, memory)
    with ThreadPoolExecutor(1) as other:
        seen = other.submit(lambda: [int(pixels[0]) for _, pixels in windows]).result(10)
    windows.close()
    assert seen == [0, 1, 2, 3, 4]
