"""Computing over a cube: a mean along an axis, values at points, means of zones, each beside what people write by hand.

    uv run python -m benchmarks.analyze [--size 12000] [--points 10000] [--zones 1000] [--repeats 3] [--keep FOLDER]

The cube has five years of ``--size`` squared uint8 classes in chunks of 1000 x 1000, a hundredth of them missing.

mean: `cubeingest compute mean --over year` into a GeoTIFF, and into the cube, against xarray with all years in a chunk (the best of its
chunkings), which writes to Zarr; whole processes, their peak memory. series: ``Cube.series`` against a loop of ``.sel``, of which a fiftieth is
run. zonal: ``Cube.zonal`` of one year against exactextract on a tiled GeoTIFF of the same pixels; coverage-weighted means are compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import run

SPEC = """\
name: analyze
crs: EPSG:4326
grid: {{origin: {{x: 0, y: 50}}, resolution: {{x: 1/1000, y: -1/1000}}, shape: {{y: {n}, x: {n}}}, region: {{y: 4000, x: 4000}}}}
axes: {{year: {{start: 2000, stop: 2020, step: 5}}}}
variables:
  cover: {{dtype: uint8, fill_value: 255, chunks: {{year: 1, y: 1000, x: 1000}}}}
"""

SCALE = 1000
"""Pixels of a degree."""

LOOPED = 50
"""One point in so many is looked up by the loop."""

RIVAL = """
import sys, warnings
import xarray as xr
import cubeingest as ci
warnings.simplefilter("ignore")
cube = ci.open(sys.argv[1])
pixels = cube.dataset(chunks={"year": -1, "y": 2000, "x": 2000}).cover
mean = pixels.where(pixels != 255).mean("year").astype("float32")
mean.drop_attrs().drop_encoding().to_dataset(name="mean").drop_vars("spatial_ref").to_zarr(sys.argv[2], mode="w", consolidated=False)
"""


def make_cube(folder: Path, n: int) -> Path:
    """The cube in ``folder``; its store, which is used as it is if it is there already."""
    import cubeingest as ci

    store = folder / f"analyze-{n}.icechunk"
    if store.exists():
        return store
    (folder / "analyze.yaml").write_text(SPEC.format(n=n), encoding="utf-8")
    making = folder / "making.icechunk"
    shutil.rmtree(making, ignore_errors=True)
    ci.init(folder / "analyze.yaml", making).ingest(source=_pixels)
    return making.rename(store)


def _pixels(geobox: Any, year: int) -> np.ndarray[Any, Any]:
    """Classes in waves, some noise, a hundredth missing."""
    y, x = np.ogrid[0 : geobox.shape[0], 0 : geobox.shape[1]]
    rng = np.random.default_rng([year, round(geobox.affine.c), round(geobox.affine.f)])
    pixels = ((np.sin(y / 90 + year) + np.cos(x / 70)) * 12 + 24).astype(np.uint8)
    noise = rng.random(pixels.shape, np.float32)
    pixels[noise < 0.05] = 99
    pixels[noise < 0.01] = 255
    return pixels


def measure_mean(store: Path, folder: Path, repeats: int) -> dict[str, tuple[float, float]]:
    """(median seconds, peak MB) of each way."""
    (folder / "rival.py").write_text(RIVAL, encoding="utf-8")
    ours = [sys.executable, "-m", "cubeingest", "compute", "mean", "--over", "year", "--store"]
    into = folder / "into.icechunk"
    ways = {
        "compute mean, into a GeoTIFF": [*ours, str(store), "--output", "mean.tif"],
        "compute mean, into the cube": [*ours, str(into), "--into", "mean", "--redo"],
        "xarray, all years in a chunk": [sys.executable, "rival.py", str(store), "mean.zarr"],
    }
    found: dict[str, list[Any]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, command in ways.items():
            if str(into) in command:
                shutil.rmtree(into, ignore_errors=True)
                shutil.copytree(store, into)
            found[name].append(run(command, cwd=folder))
    shutil.rmtree(into, ignore_errors=True)
    return {name: (statistics.median(r.seconds for r in runs), max(r.largest for r in runs)) for name, runs in found.items()}  # fmt: skip


def measure_series(store: Path, n: int, points: int) -> tuple[float, float]:
    """Seconds of ``Cube.series``, and what a loop of ``.sel`` would take."""
    import cubeingest as ci

    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(0, n / SCALE, points), 50 - rng.uniform(0, n / SCALE, points)
    cube = ci.open(store)
    seconds, series = _timed(lambda: cube.series(lon, lat, variable="cover"))
    ds = cube.dataset()
    some = range(0, points, LOOPED)

    def loop() -> list[Any]:
        return [ds.cover.sel(x=lon[i], y=lat[i], method="nearest").values for i in some]

    looped, picked = _timed(loop)
    found = np.nan_to_num(series.values[list(some)], nan=255)
    if not np.array_equal(found, np.array(picked)):
        raise SystemExit("series and .sel differ")
    return seconds, looped * LOOPED


def measure_zonal(store: Path, folder: Path, n: int, zones: int, repeats: int) -> tuple[float, float]:
    """Median seconds of ``Cube.zonal``, and of exactextract on a GeoTIFF."""
    import rasterio
    import shapely
    from exactextract import exact_extract
    from rasterio.transform import from_origin

    import cubeingest as ci
    from cubeingest.analyze import Features

    cube = ci.open(store)
    tif = folder / "cover.tif"
    if not tif.exists():
        with rasterio.open(tif, "w", driver="GTiff", height=n, width=n, count=1, dtype="uint8", nodata=255, tiled=True, compress="zstd",
                           blockxsize=512, blockysize=512, crs="EPSG:4326", transform=from_origin(0, 50, 1 / SCALE, 1 / SCALE)) as dst:  # fmt: skip
            dst.write(cube.dataset().cover[0].values, 1)
    rng = np.random.default_rng(2)
    side = n / SCALE
    centres = rng.uniform(0.02 * side, 0.98 * side, (zones, 2))
    shapes = [
        shapely.Point(x, 50 - y).buffer(r) for (x, y), r in zip(centres, rng.uniform(0.005, 0.15, zones), strict=True)
    ]
    given = Features(np.array(shapes, object), {}, "OGC:CRS84", "'zones'")
    plain = [{"type": "Feature", "id": i, "properties": {}, "geometry": json.loads(shapely.to_geojson(s))} for i, s in enumerate(shapes)]  # fmt: skip
    ours, theirs = [], []
    for _ in range(repeats):
        seconds, report = _timed(lambda: cube.zonal(given, ["mean"], variable="cover", year=2000))
        ours.append(seconds)
        seconds, found = _timed(lambda: exact_extract(str(tif), plain, ["mean"]))
        theirs.append(seconds)
    np.testing.assert_allclose(report.rows()["mean"], [f["properties"]["mean"] for f in found], rtol=1e-9)
    return statistics.median(ours), statistics.median(theirs)


def _timed[T](function: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def main(args: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=12_000)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--zones", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder to keep the cube in between runs")
    options = parser.parse_args(args)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        store = make_cube(folder, options.size)
        means = measure_mean(store, folder, options.repeats)
        for name, (seconds, megabytes) in means.items():
            print(f"{name:32} {seconds:6.2f} s, peak {megabytes:5.0f} MB", flush=True)
        series = measure_series(store, options.size, options.points)
        print(
            f"series at {options.points:,} points: {series[0]:.2f} s; a loop of .sel {series[1]:.1f} s: {series[1] / series[0]:.0f} x"
        )
        zonal = measure_zonal(store, folder, options.size, options.zones, options.repeats)
        print(
            f"means of {options.zones:,} zones: {zonal[0]:.2f} s; exactextract {zonal[1]:.2f} s: {zonal[0] / zonal[1]:.2f} x"
        )
    return {"mean": means, "series": series, "zonal": zonal}


if __name__ == "__main__":
    main()
