"""Points in Parquet to nine statistics of HEALPix cells in a cube, end to end, on one core: cubeingest and a polars script.

    uv run python -m benchmarks.points [--points 16000000] [--granules 4] [--runs 3] [--keep FOLDER]

The points lie evenly on the cap south of 70°S, in no order, in files of zstd-compressed Parquet on a local disk. ``ours`` makes a cube (order 10,
regions of order 4) and ingests it: its granules are read twice, first their coordinates, to find which regions they feed. ``again`` is the same where
that is kept in the catalog of points from before. ``polars`` reads all files into memory, asks healpix-geo for the cells, groups by them, and writes
dense arrays of one chunk a region with Zarr; it has no ledger, no restart, and holds all points. Whole processes, pinned to one core, each its own start included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import Measured, describe, interleave, machine, medians, run
from benchmarks.rivals import say

ORDER, REGION_ORDER = 10, 4
QUANTILES = (0.25, 0.5, 0.75)

SPEC = """\
name: points
grid: {type: healpix, order: 10, region_order: 4, ellipsoid: WGS84}
points:
  tiles: {glob: "granule_*.parquet"}
  coordinates: {x: lon, y: lat}
  columns: {h: h, s: s}
variables:
  count: {dtype: uint32, fill_value: 0, aggregate: count}
  h_min: {dtype: float32, fill_value: .nan, aggregate: {min: h}}
  h_max: {dtype: float32, fill_value: .nan, aggregate: {max: h}}
  h_mean: {dtype: float64, fill_value: .nan, aggregate: {mean: h, weights: 1/s**2}}
  h_sigma: {dtype: float64, fill_value: .nan, aggregate: {sigma_of_mean: h, weights: 1/s**2}}
  h_var: {dtype: float64, fill_value: .nan, aggregate: {variance: h}}
  h_q25: {dtype: float32, fill_value: .nan, aggregate: {quantile: h, q: 0.25}}
  h_q50: {dtype: float32, fill_value: .nan, aggregate: {quantile: h, q: 0.5}}
  h_q75: {dtype: float32, fill_value: .nan, aggregate: {quantile: h, q: 0.75}}
store: ./points.icechunk
"""


def make_granules(folder: Path, n: int, granules: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for k in range(granules):
        rng, size = np.random.default_rng(k), n // granules
        z = rng.uniform(-1, np.sin(np.radians(-70)), size)
        table = {"lon": rng.uniform(-180, 180, size), "lat": np.degrees(np.arcsin(z))}
        table |= {"h": rng.normal(1000, 50, size).astype("f4"), "s": rng.uniform(0.1, 1, size).astype("f4")}
        pq.write_table(pa.table(table), folder / f"granule_{k}.parquet", compression="zstd")
    (folder / "grid.yaml").write_text(SPEC)


def ours(folder: Path) -> None:
    import cubeingest as ci

    report = ci.init(folder / "grid.yaml").ingest(workers=1)
    if report.failed:
        raise SystemExit(report.failed[0].error)


def polars(folder: Path) -> None:
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars as pl
    import zarr
    from healpix_geo import nested

    frame = pl.read_parquet(folder / "granule_*.parquet")
    cells = nested.lonlat_to_healpix(
        frame["lon"].to_numpy(), frame["lat"].to_numpy(), ORDER, ellipsoid="WGS84", num_threads=1
    )
    h, w = pl.col("h").cast(pl.Float64), 1 / pl.col("s").cast(pl.Float64) ** 2
    wanted = {
        "count": pl.len(), "h_min": pl.col("h").min(), "h_max": pl.col("h").max(), "h_mean": (h * w).sum() / w.sum(),
        "h_sigma": 1 / w.sum().sqrt(), "h_var": h.var(ddof=0),
        **{f"h_q{q * 100:.0f}": h.quantile(q, "linear").cast(pl.Float32) for q in QUANTILES},
    }  # fmt: skip
    found = frame.with_columns(pl.Series("cell", cells)).group_by("cell").agg(**wanted).sort("cell")
    root, own = zarr.open_group(folder / "polars.zarr", mode="w"), found["cell"].to_numpy()
    size = 4 ** (ORDER - REGION_ORDER)
    for name in wanted:
        values = found[name].to_numpy()
        fill = 0 if name == "count" else np.nan
        array = root.create_array(name, shape=(12 * 4**ORDER,), chunks=(size,), dtype=values.dtype, fill_value=fill)
        for region in np.unique(own // size).tolist():
            part = slice(*np.searchsorted(own, [region * size, (region + 1) * size]))
            chunk = np.full(size, fill, values.dtype)
            chunk[own[part] - region * size] = values[part]
            array[region * size : (region + 1) * size] = chunk


def check(folder: Path) -> None:
    """Both hold the same, but for rounding."""
    import zarr

    import cubeingest as ci

    cube, other = ci.open(folder / "points.icechunk").dataset(), zarr.open_group(folder / "polars.zarr", mode="r")
    for name in cube:
        np.testing.assert_allclose(np.asarray(other[str(name)]), cube[name].values, rtol=1e-6, err_msg=str(name))


def measure(folder: Path, way: str) -> Measured:
    shutil.rmtree(folder / "points.icechunk", ignore_errors=True)
    shutil.rmtree(folder / "polars.zarr", ignore_errors=True)
    if way == "ours":
        (folder / "points.catalog.parquet").unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "benchmarks.points",
        "--way",
        "polars" if way == "polars" else "ours",
        "--keep",
        str(folder),
    ]
    return run(command, cwd=Path(__file__).parent.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=16_000_000)
    parser.add_argument("--granules", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder to keep granules in between runs")
    parser.add_argument("--way", choices=["ours", "polars"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        {"ours": ours, "polars": polars}[options.way](options.keep)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(exist_ok=True)
        if not (folder / "grid.yaml").exists():
            make_granules(folder, options.points, options.granules)
        say(describe(machine()))
        ours(folder)
        polars(folder)
        check(folder)
        found = interleave(["ours", "again", "polars"], options.runs, lambda way: measure(folder, way), say)
    for way, results in found.items():
        m = medians(results)
        rate, work = (options.points / m[key] / 1e6 for key in ("seconds", "cpu_seconds"))
        say(
            f"{way:7} {m['seconds']:6.1f} s, {rate:.2f} M points/s ({work:.2f} by processor time), {m['memory']:.0f} MB"
        )


if __name__ == "__main__":
    main()
