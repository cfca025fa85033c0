"""LZW blocks decoded without GDAL: the same pixels as GDAL reads, or GDAL itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cubeingest.tile.lzw import LzwReader, lzw_reader

SHAPE = 300, 417
STRIPS = {"tiled": False, "blockysize": 7}
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 96}


def write(path: Path, dtype: str, count: int = 1, nodata: int = 7, **options: Any) -> Path:
    """A tile of patches, with a third of it nodata."""
    rng = np.random.default_rng(5)
    pixels = np.kron(rng.integers(0, 100, (count, 30, 42)), np.ones((10, 10), int))[:, : SHAPE[0], : SHAPE[1]]
    pixels[:, 96:200] = nodata
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": SHAPE[0],
        "width": SHAPE[1],
        "crs": "EPSG:4326",
        "nodata": nodata,
    }
    transform = from_origin(0, 3, 0.01, 0.01)
    with rasterio.open(path, "w", dtype=dtype, count=count, transform=transform, **profile, **options) as tile:
        tile.write(pixels.astype(dtype))
    return path


@contextmanager
def reading(src: rasterio.DatasetReader, path: Path, band: int = 1) -> Iterator[LzwReader | None]:
    with ThreadPoolExecutor(2) as threads:
        yield lzw_reader(src, band, str(path), threads)


@pytest.mark.parametrize("layout", [STRIPS, TILES, TILES | {"sparse_ok": True}, STRIPS | {"endianness": "BIG"}])
@pytest.mark.parametrize(
    ("dtype", "predictor"), [("uint8", 1), ("uint8", 2), ("int16", 2), ("uint32", 2), ("int8", 2), ("float32", 1)]
)
def test_lzw_blocks_are_read_as_by_gdal(tmp_path: Path, dtype: str, predictor: int, layout: dict[str, Any]) -> None:
    path = write(tmp_path / "t.tif", dtype, compress="lzw", predictor=predictor, **layout)
    with rasterio.open(path) as src, reading(src, path) as lzw:
        expected = src.read(1)
        assert lzw is not None
        rows = src.block_shapes[0][0]
        for y in (slice(0, SHAPE[0]), slice(rows, 2 * rows), slice(SHAPE[0] // rows * rows, SHAPE[0])):
            for x in (slice(0, SHAPE[1]), slice(50, 131), slice(400, 417)):
                out = np.full((y.stop - y.start, x.stop - x.start), 99, dtype)
                assert lzw.read_into(out, y, x)
                np.testing.assert_array_equal(out, expected[y, x])


def test_bands_that_lie_apart_are_read_each_by_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tif", "uint8", count=3, compress="lzw", interleave="band", **TILES)
    with rasterio.open(path) as src, reading(src, path, 2) as lzw:
        assert lzw is not None
        out = np.empty(SHAPE, "uint8")
        assert lzw.read_into(out, slice(0, SHAPE[0]), slice(0, SHAPE[1]))
        np.testing.assert_array_equal(out, src.read(2))


@pytest.mark.parametrize(
    ("dtype", "count", "options"),
    [
        ("uint8", 1, {"compress": "deflate"}),
        ("uint8", 3, {"compress": "lzw", "interleave": "pixel"}),
        ("float32", 1, {"compress": "lzw", "predictor": 3}),
        ("uint8", 1, {"compress": "lzw", "nbits": 7}),
    ],
)
def test_what_is_unusual_is_left_to_gdal(tmp_path: Path, dtype: str, count: int, options: dict[str, Any]) -> None:
    path = write(tmp_path / "t.tif", dtype, count, **TILES, **options)
    with rasterio.open(path) as src, reading(src, path) as lzw:
        assert lzw is None


def test_broken_block_is_left_to_gdal(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tif", "uint8", compress="lzw", **STRIPS)
    with rasterio.open(path) as src:
        offset = int(src.get_tag_item("BLOCK_OFFSET_0_20", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 20)
    with rasterio.open(path) as src, reading(src, path) as lzw:
        assert lzw is not None
        out = np.empty((7, SHAPE[1]), "uint8")
        assert lzw.read_into(out, slice(0, 7), slice(0, SHAPE[1]))
        assert not lzw.read_into(out, slice(140, 147), slice(0, SHAPE[1]))


@pytest.mark.parametrize("nodata", [b"256", b"7.5"])
def test_nodata_that_no_pixel_can_be_is_left_to_gdal(tmp_path: Path, nodata: bytes) -> None:
    """It reads blocks that the file leaves out as another value then."""
    path = write(tmp_path / "t.tif", "uint8", nodata=200, compress="lzw", sparse_ok=True, **TILES)
    path.write_bytes(path.read_bytes().replace(b"200\0", nodata + b"\0"))
    with rasterio.open(path) as src, reading(src, path) as lzw:
        assert lzw is None


def test_high_strip_that_gdal_shows_as_rows_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "t.tif"
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": 2500,
        "width": 40,
        "count": 1,
        "dtype": "uint8",
        "nodata": 7,
    }
    place = {"crs": "EPSG:4326", "transform": from_origin(0, 3, 0.01, 0.01)}
    with rasterio.open(path, "w", compress="lzw", blockysize=2500, tiled=False, **profile, **place) as tile:
        tile.write(np.random.default_rng(3).integers(8, 99, (1, 2500, 40), dtype=np.uint8))
    with rasterio.open(path) as src, reading(src, path) as lzw:
        assert src.block_shapes == [(1, 40)]
        assert lzw is None
