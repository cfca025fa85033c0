"""GeoTIFFs that we write byte by byte, read by rasterio: every dtype, predictor and size, overviews, texts, and what GDAL's own driver loses."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeingest.errors import GridError
from cubeingest.tile import Cog, CogWriter, check_crs, cog, is_whole_cog, read_cog_tags, tiff

PLACE = Affine(0.1, 0, 10, 0, -0.1, 20)

DTYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]


def quarter(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows[::2, ::2])


def write(path: Path, wanted: Cog, pixels: np.ndarray, step: int = 100) -> Path:
    with ThreadPoolExecutor(2) as encoders, CogWriter(path, wanted, quarter, encoders) as writer:
        for start in range(0, pixels.shape[0], step):
            writer.write(pixels[start : start + step])
        writer.finish()
    return path


def some(dtype: str, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Pixels of the whole range of a dtype, also NaN and infinities."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        with np.errstate(over="ignore"):
            pixels = (rng.normal(size=shape) * 10.0 ** rng.integers(-40, 40, shape)).astype(dtype)
        pixels.flat[:: max(1, pixels.size // 7)] = np.nan
        return pixels
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def predictors(dtype: str) -> list[int]:
    kind, size = np.dtype(dtype).kind, np.dtype(dtype).itemsize
    return [1, 2] if kind in "iu" and size < 8 else [1, 3] if kind == "f" and size > 2 else [1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_and_overviews_are_as_rasterio_reads_them(dtype: str, tmp_path: Path) -> None:
    for n, (shape, predictor) in enumerate(
        (s, p) for s in ((530, 600), (33, 50), (1025, 20), (1, 1)) for p in predictors(dtype)
    ):
        pixels = some(dtype, shape, n)
        nodata = float("nan") if pixels.dtype.kind == "f" else int(np.iinfo(dtype).max)
        south_up = n % 2
        place = Affine(1 / 3, 0, 10, 0, 1 / 7 if south_up else -1 / 7, 20)
        path = write(
            tmp_path / f"{n}.tif", Cog(shape, pixels.dtype, "EPSG:4326", place, nodata, predictor=predictor), pixels
        )
        with rasterio.open(path) as raster:
            assert raster.read(1).tobytes() == pixels.tobytes()
            assert (raster.transform, raster.crs.to_epsg(), raster.dtypes) == (place, 4326, (dtype,))
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            overviews = len(raster.overviews(1))
        if dtype != "float16":  # which GDAL's second reader of TIFF, written anew in 2024, does not know
            with rasterio.open(path, driver="LIBERTIFF") as raster:
                assert raster.read(1).tobytes() == pixels.tobytes()
                assert raster.transform == place
        assert (max(shape) >> overviews) <= 512
        for level in range(overviews):
            pixels = quarter(pixels)
            with rasterio.open(path, overview_level=level) as raster:
                assert raster.read(1).tobytes() == pixels.tobytes()
        assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".tif")] == []


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_raster_whose_pixels_are_their_own_coordinates_is_somewhere_too(tmp_path: Path) -> None:
    """GDAL does not write that transform, since it reads as none."""
    for transform in (Affine.identity(), Affine(1, 0, 0, 0, -1, 0)):
        path = write(
            tmp_path / "a.tif", Cog((3, 4), np.dtype("uint8"), "EPSG:4326", transform), np.ones((3, 4), "uint8")
        )
        assert {33550, 34264} & set(_tags(path))
        with rasterio.open(path) as raster:
            assert raster.transform == transform


def _tags(path: Path) -> dict[int, Any]:
    return dict(tiff.read_tags(path.read_bytes()))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 1200), st.integers(1, 1200), st.integers(1, 700), st.sampled_from(["uint8", "int16", "float32"]))
def test_any_shape_fed_in_any_steps_comes_back(rows: int, columns: int, step: int, dtype: str) -> None:
    from tempfile import TemporaryDirectory

    pixels = some(dtype, (rows, columns))
    with TemporaryDirectory() as folder:
        place = Affine(10, 0, 500_000, 0, -10, 4_000_000)
        wanted = Cog((rows, columns), pixels.dtype, "EPSG:32633", place, predictor=predictors(dtype)[-1])
        with rasterio.open(write(Path(folder) / "a.tif", wanted, pixels, step)) as raster:
            assert raster.read(1).tobytes() == pixels.tobytes()
            assert raster.nodata is None


def test_big_files_have_offsets_of_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cog, "CLASSIC_BYTES", 0)
    pixels = some("uint16", (1100, 900))
    path = write(
        tmp_path / "a.tif",
        Cog(pixels.shape, pixels.dtype, "EPSG:3035", Affine(25, 0, 4e6, 0, -25, 3e6), 7, tags={"A": "ä & <b>"}),
        pixels,
    )
    assert path.read_bytes()[:4] == b"II+\0"
    with rasterio.open(path) as raster:
        assert raster.read(1).tobytes() == pixels.tobytes()
        assert (raster.nodata, raster.tags()["A"], raster.overviews(1)) == (7, "ä & <b>", [2, 4])


def test_texts_colours_and_scale_are_in_the_file(tmp_path: Path) -> None:
    pixels = some("uint8", (40, 30))
    wanted = Cog(
        pixels.shape, pixels.dtype, "EPSG:4326", Affine(1, 0, 0, 0, -1, 40), 255, {0: (1, 2, 3), 200: (9, 8, 7)}, 0.5, -3.0, "m", "depth", {"A": "b"},
        {"flag_values": "0 200"},
    )  # fmt: skip
    with rasterio.open(write(tmp_path / "a.tif", wanted, pixels)) as raster:
        assert (raster.scales, raster.offsets, raster.units, raster.descriptions) == (
            (0.5,),
            (-3.0,),
            ("m",),
            ("depth",),
        )
        assert [raster.colormap(1)[v][:3] for v in (0, 200)] == [(1, 2, 3), (9, 8, 7)]
        assert raster.tags(1)["flag_values"] == "0 200"
        assert raster.block_shapes == [(48, 32)]
    assert read_cog_tags(tmp_path / "a.tif") is not None
    (tmp_path / "b.tif").write_text("no raster")
    assert read_cog_tags(tmp_path / "b.tif") is None


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("int64", -(2**63)), ("uint64", 2**64 - 1), ("int64", -9999), ("float32", np.float32(-3.4e38).item())],
)
def test_nodata_is_exact_in_the_file(dtype: str, nodata: Any, tmp_path: Path) -> None:
    """rasterio itself gives nodata as a float, and none beyond 2**63."""
    path = write(
        tmp_path / "a.tif",
        Cog((16, 16), np.dtype(dtype), "EPSG:4326", PLACE, nodata),
        np.zeros((16, 16), dtype),
    )
    assert f"{nodata!r}\0".encode() in path.read_bytes()
    if abs(nodata) < 2**53 or dtype == "float32":
        with rasterio.open(path) as raster:
            assert raster.nodata == nodata


def test_rows_wait_in_the_file_not_in_memory(tmp_path: Path) -> None:
    rows = some("uint8", (512, 2048))
    wanted = Cog((16 * 512, 2048), rows.dtype, "EPSG:4326", PLACE)
    with ThreadPoolExecutor(1) as encoders, CogWriter(tmp_path / "a.tif", wanted, quarter, encoders) as writer:
        writer.write(rows)
        tracemalloc.start()
        for _ in range(15):
            writer.write(rows)
        writer.finish()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (tmp_path / "a.tif").stat().st_size > 20 * 2**20
    assert peak < 6 * 2**20


def test_disk_that_takes_no_more_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """With the same limit GDAL's GTiff driver returned without an error, and its COG driver crashed."""
    code = f"""
import resource, signal
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from affine import Affine
from cubeingest.tile import Cog, CogWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
pixels = np.random.default_rng(0).integers(0, 255, (1000, 1000), dtype="uint8")
cog = Cog((1000, 1000), pixels.dtype, "EPSG:4326", Affine(1, 0, 0, 0, -1, 9))
for limit in (1000, 900_000, 1_100_000):  # in the first block, the first rows, when it is put together
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        with ThreadPoolExecutor(1) as pool, CogWriter(Path({str(tmp_path / "a.tif")!r}), cog, lambda rows: rows[::2, ::2], pool) as writer:
            writer.write(pixels)
            writer.finish()
    except OSError as e:
        print(e.strerror)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "File too large\n" * 3), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_whole_files_are_told_from_short_ones_in_either_kind_of_tiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for big in (False, True):
        if big:
            monkeypatch.setattr(cog, "CLASSIC_BYTES", 0)
        for shape in ((20, 30), (700, 600), (20, 1100)):
            pixels = some("uint8", shape)
            path = write(tmp_path / "a.tif", Cog(shape, pixels.dtype, "EPSG:4326", PLACE), pixels)
            assert is_whole_cog(path)
            content = path.read_bytes()
            for n in (len(content) - 1, len(content) // 2, 20, 3, 0):
                path.write_bytes(content[:n])
                assert not is_whole_cog(path), (big, shape, n)


@pytest.mark.parametrize(
    "crs", ["EPSG:3035", "ESRI:54009", "+proj=sinu +R=6371007.181 +units=m", "+proj=longlat +a=3396190 +b=3376200"]
)
def test_crs_that_keys_hold_pass_and_others_do_not(crs: str) -> None:
    check_crs(crs)
    with pytest.raises(GridError, match=r"GeoTIFF cannot hold this CRS: '.proj=eqearth' is read back as none"):
        check_crs("+proj=eqearth")
