"""What pages of the documentation speak of: each function makes it in a page's folder, and returns what to add to the environment.

A page names one (``<!-- setup: glad -->``); `tests/test_docs.py` calls it, and then, when the page has run, ``check_NAME(folder, names)``
if there is one: ``names`` are those of the page's Python.
"""

from __future__ import annotations

import atexit
import functools
import os
import runpy
import shutil
import tempfile
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import shapely
from rasterio.transform import from_origin

import cubeingest as ci
from tests.doc_setups_howto import europe, europe_bucket, europe_tiles, tiles
from tests.objectstore import KEYS, free_port, moto_server
from tests.pointfiles import write_hdf5

__all__ = ["europe", "europe_bucket", "europe_tiles", "tiles"]

ROOT = Path(__file__).parent.parent
LAND = ROOT / "cubeingest" / "data" / "land.tif"

OPENED = ExitStack()
"""What a setup has opened; closed when the page has run."""

CHANGES: dict[str, list[tuple[str, str]]] = {}
"""By setup: texts of a page, and what stands in their place when it runs, where they occur."""


@functools.cache
def kept_folder() -> Path:
    """A folder for as long as this process runs, for what several pages need alike."""
    folder = tempfile.mkdtemp(prefix="docs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def point_to(folder: Path, store: str) -> None:
    """As `init` does on the command line: commands in this folder are about this cube."""
    (folder / ".cubeingest").write_text(store, encoding="utf-8")


# ---- classes of land cover on GLAD's grid ---------------------------------------------------------------------

GLAD_REGIONS = ("60N_000E", "50N_000E", "60N_010E", "50N_010E", "50N_110W", "40N_110W", "00N_070W", "70N_180W")
GLAD_YEARS = (2000, 2005, 2010, 2015, 2020)
GLAD = """\
name: glad-lclu
crs: EPSG:4326
grid: {origin: {x: -180, y: 80}, resolution: {x: 1/24, y: -1/24}, shape: {y: 3360, x: 8640}, region: {y: 240, x: 240}, id: "{top:02H}_{left:03H}"}
axes: {year: {start: 2000, stop: 2020, step: 5}}
variables:
  lclu: {dtype: uint8, fill_value: 255, chunks: {year: 1, y: 120, x: 120}, source: {
      href: "tiles/{year}/{id}.tif", nodata: 255, tiles: {list: "tiles/{year}.txt"}},
      attrs: {flag_values: [0, 1, 2], flag_meanings: water land forest, flag_colors: "#3366cc #ddcc77 #117733"}}
store: ./glad-lclu.icechunk
"""

CHANGES["glad_tiles"] = [
    ("gs://earthenginepartners-hansen/GLCLU2000-2020/v2", "tiles"),
    ("resolution: {x: 1/4000, y: -1/4000}", "resolution: {x: 1/24, y: -1/24}"),
    ("shape: {y: 560000, x: 1440000}", "shape: {y: 3360, x: 8640}"),
    ("region: {y: 40000, x: 40000}", "region: {y: 240, x: 240}"),
    ("chunks: {year: 1, y: 1000, x: 1000}", "chunks: {year: 1, y: 120, x: 120}"),
]
CHANGES["readme"] = [
    *CHANGES["glad_tiles"],
    ('ci.init("grid.yaml")', 'ci.init("grid.yaml", store="python.icechunk")'),
    ("workers=8", "workers=1"),
    ("cube.ingest(source=far_from", 'cube = ci.init("distance.yaml")\ncube.ingest(source=far_from'),
    ("workers=2", "workers=1"),
]
DISTANCE = """\
name: distance
crs: EPSG:4326
grid: {origin: {x: 0, y: 20}, resolution: {x: 1/10, y: -1/10}, shape: {y: 200, x: 250}, region: {y: 100, x: 100}}
variables: {distance: {dtype: float32, fill_value: .nan, chunks: {y: 50, x: 50}}}
store: ./distance.icechunk
"""


def glad_tiles(folder: Path) -> dict[str, str]:
    """GLAD's tiles of five years at 24 pixels a degree, of eight regions, in ``tiles/``: land and water are real, the forest is not."""
    shutil.copytree(_glad_tiles(), folder / "tiles")
    return {}


def glad_spec(folder: Path) -> dict[str, str]:
    """The same, and their ``grid.yaml``."""
    _write(folder / "grid.yaml", GLAD)
    return glad_tiles(folder)


def readme(folder: Path) -> dict[str, str]:
    """GLAD's tiles, and a spec without tiles for a function to fill."""
    _write(folder / "distance.yaml", DISTANCE)
    return glad_tiles(folder)


def check_readme(folder: Path, names: dict[str, Any]) -> None:
    held = ci.open(folder / "distance.icechunk").dataset()["distance"]
    assert np.allclose(held, abs(held["y"].values[:, np.newaxis]) * 111.2)
    held = ci.open(folder / "glad-lclu.icechunk").dataset()["lclu"].sel(year=2000, x=slice(0, 10), y=slice(50, 40))
    with rasterio.open(folder / "tiles" / "2000" / "50N_000E.tif") as tile:
        assert np.array_equal(held, tile.read(1))


@functools.cache
def _glad_tiles() -> Path:
    folder = kept_folder() / "glad" / "tiles"
    with rasterio.open(LAND) as source:
        land = source.read(1)
        top, left = round(source.transform.f), round(source.transform.c)
    grid = ci.read_spec(_write(kept_folder() / "glad" / "grid.yaml", GLAD)).grid
    assert isinstance(grid, ci.TilingGrid)
    for year in GLAD_YEARS:
        rng = np.random.default_rng(7)
        for region in GLAD_REGIONS:
            west, _, _, north = grid.bounds(region)
            row, column = round((top - north) * 24), round((west - left) * 24)
            pixels = land[row : row + 240, column : column + 240].copy()
            assert pixels.shape == (240, 240)
            pixels[pixels == 255] = 0
            wooded = rng.random((24, 24)).repeat(10, 0).repeat(10, 1) < 0.7 - (year - 2000) / 100
            pixels[(pixels == 1) & wooded] = 2
            write_geotiff(folder / str(year) / f"{region}.tif", pixels, west, north, 1 / 24, nodata=255)
        (folder / f"{year}.txt").write_text("".join(f"{region}.tif\n" for region in GLAD_REGIONS))
    return folder


def glad(folder: Path) -> dict[str, str]:
    """A cube of those tiles, ``glad-lclu.icechunk``, which commands in the folder are about: the first four years ingested; tagged v1.0; then the last."""
    shutil.copytree(_glad(), folder, dirs_exist_ok=True)
    point_to(folder, "glad-lclu.icechunk")
    return {}


@functools.cache
def _glad() -> Path:
    folder = kept_folder() / "glad"
    _glad_tiles()
    cube = ci.init(folder / "grid.yaml")
    assert cube.ingest(workers=1, year="2000..2015").exit_code == 0
    cube.tag("v1.0")
    assert cube.ingest(workers=1).exit_code == 0
    return folder


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_geotiff(path: Path, pixels: np.ndarray, left: float, top: float, size: float, **profile: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"driver": "GTiff", "dtype": pixels.dtype, "crs": "EPSG:4326", "compress": "deflate", **profile}
    with rasterio.open(
        path, "w", count=1, height=pixels.shape[0], width=pixels.shape[1], transform=from_origin(left, top, size, size), **options
    ) as tile:  # fmt: skip
        tile.write(pixels, 1)


# ---- the demo's cube ------------------------------------------------------------------------------------------


def demo(folder: Path) -> dict[str, str]:
    """What `cubeingest demo` leaves, in ``cubeingest-demo/``; commands in the folder are about its cube."""
    shutil.copytree(_demo() / "cubeingest-demo", folder / "cubeingest-demo")
    point_to(folder, "cubeingest-demo/land.icechunk")
    return {}


@functools.cache
def _demo() -> Path:
    from typer.testing import CliRunner

    from cubeingest.cli import app

    folder, before = kept_folder() / "demo", Path.cwd()
    folder.mkdir()
    os.chdir(folder)
    try:
        done = CliRunner().invoke(app, ["demo"], catch_exceptions=False)
    finally:
        os.chdir(before)
    assert done.exit_code == 0, done.stderr
    return folder


def demo_and_glad(folder: Path) -> dict[str, str]:
    """Both cubes; commands are about the demo's."""
    glad(folder)
    return demo(folder)


def glad_and_demo(folder: Path) -> dict[str, str]:
    """Both cubes; commands are about GLAD's."""
    demo(folder)
    return glad(folder)


CHANGES["glad_and_demo"] = [("--tile 5000,5000", "--tile 600,600")]


# ---- recipes --------------------------------------------------------------------------------------------------

ZONES = {
    "Japan": [(129, 31), (142, 34), (146, 44), (140, 45), (129, 34)],
    "South Pacific": [(170, -50), (200, -50), (200, -35), (170, -35)],
}


def recipes(folder: Path) -> dict[str, str]:
    """The cubes of two recipes, ``jet.icechunk`` and ``antilles.icechunk``, with zones and towns. Commands are about the first."""
    from tests.test_analyze_series import to_geojson, write_geopackage

    for name, place in (("netcdf_months", "jet"), ("years_and_patterns", "antilles")):
        run_recipe(name, kept_folder() / place)
        shutil.copytree(kept_folder() / place / f"{place}.icechunk", folder / f"{place}.icechunk")
    (folder / "zones.geojson").write_text(to_geojson([shapely.Polygon(p) for p in ZONES.values()], list(ZONES)))
    write_geopackage(folder / "towns.gpkg", [shapely.Point(140, 35)], ["Tokyo"])
    point_to(folder, "jet.icechunk")
    return {}


def check_recipes(folder: Path, names: dict[str, Any]) -> None:
    assert np.isfinite(ci.open(folder / "jet.icechunk").dataset()["uwnd_std"].values).all()


def examples(folder: Path) -> dict[str, str]:
    """The recipes themselves, beside the reader."""
    (folder / "examples").symlink_to(ROOT / "examples")
    return {}


def run_recipe(name: str, folder: Path) -> None:
    """Run a recipe of ``examples/`` in a folder, once a process."""
    import sys

    if folder.exists():
        return
    folder.mkdir(parents=True)
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        with redirect_stdout(None):
            runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"](folder)
    finally:
        sys.path.remove(str(ROOT / "examples"))


# ---- points ---------------------------------------------------------------------------------------------------

BEAMS = ["gt1l", "gt1r", "gt2l", "gt2r", "gt3l", "gt3r"]


def points(folder: Path) -> dict[str, str]:
    """Granules of two cycles over a few degrees of ice in ``granules/``, and two years of earthquakes as CSV."""
    write_granules(folder)
    write_quakes(folder)
    return {}


def check_points(folder: Path, names: dict[str, Any]) -> None:
    """The page's map, and its cubes against numpy and pandas."""
    assert (folder / "map.png").stat().st_size > 10_000
    assert names["report"].exit_code == 0
    assert names["ds"].cycle.values.tolist() == [22, 23, 24]
    assert int(np.isfinite(names["change"]).sum()) > 10
    assert names["at"].sizes["cells"] == 1
    means, exported = (
        pd.read_parquet(folder / "mean.parquet"),
        pd.concat(map(pd.read_parquet, (folder / "tables").glob("*.parquet"))),
    )
    assert len(exported) == int(names["ds"]["h_mean"].notnull().sum())
    expected = exported.groupby("cell_ids").h_mean.mean()
    assert np.allclose(means.set_index("cell_ids").value, expected)
    assert (means.lat < -70).all()
    most = ci.open(folder / "ice.icechunk").dataset()["h_low_most"]
    assert np.array_equal(most, names["ds"]["h_low"].max("cycle"), equal_nan=True)
    for year in (2023, 2024):
        table = pd.read_csv(folder / f"quakes_{year}.csv")
        table = table[table.mag >= 5]
        cells = (np.floor((90 - table.lat) / 5) * 72 + np.floor((table.lon + 180) / 5)).astype(int)
        found = names["cube"].dataset().sel(year=year)
        assert np.array_equal(found["n"].values.ravel(), np.bincount(cells, minlength=36 * 72))
        depth = table.depth_km.groupby(cells)
        reach = (depth.max() - depth.min()).astype("f4")
        assert np.array_equal(found["reach"].values.ravel()[reach.index], reach)


def write_granules(folder: Path) -> None:
    """Two cycles over a few degrees of ice."""
    for cycle in (22, 23):
        rng = np.random.default_rng(cycle)
        n = 200
        beam = {
            "longitude": rng.uniform(5, 15, n), "latitude": rng.uniform(-80, -78, n), "h_li": rng.normal(2000, 9, n).astype("f4"),
            "h_li_sigma": rng.uniform(0.01, 0.1, n).astype("f4"), "atl06_quality_summary": rng.integers(0, 2, n).astype("i1"),
            "delta_time": np.arange(n) * 1.0,
        }  # fmt: skip
        (folder / "granules").mkdir(exist_ok=True)
        write_hdf5(
            folder / "granules" / f"ATL06_20240101000000_0001{cycle}11_006_01.h5",
            {f"{name}/land_ice_segments": beam for name in BEAMS},
        )


def write_quakes(folder: Path) -> None:
    for year in (2023, 2024):
        rng = np.random.default_rng(year)
        n = 300
        pd.DataFrame(
            {"lon": rng.uniform(-180, 180, n), "lat": rng.uniform(-60, 60, n), "depth_km": rng.uniform(1, 600, n), "mag": rng.uniform(4, 8, n)}
        ).to_csv(folder / f"quakes_{year}.csv", index=False)  # fmt: skip


def glad_and_ice(folder: Path) -> dict[str, str]:
    """GLAD's cube, and ``ice.icechunk`` of HEALPix cells."""
    shutil.copytree(_ice() / "ice.icechunk", folder / "ice.icechunk")
    return glad(folder)


ICE = """\
name: ice
grid: {type: healpix, order: 8, region_order: 4, ellipsoid: WGS84}
axes: {cycle: {values: [22, 23]}}
points:
  tiles: {glob: "granules/ATL06_*_????{cycle}??_*.h5"}
  groups: [gt1l, gt1r, gt2l, gt2r, gt3l, gt3r]
  coordinates: {x: land_ice_segments/longitude, y: land_ice_segments/latitude}
  columns: {h: land_ice_segments/h_li, sigma: land_ice_segments/h_li_sigma, quality: land_ice_segments/atl06_quality_summary}
  filter: quality == 0
variables:
  n: {dtype: uint32, fill_value: 0, aggregate: {count: h}}
  h_mean: {dtype: float64, fill_value: .nan, aggregate: {mean: h}}
store: ./ice.icechunk
"""


@functools.cache
def _ice() -> Path:
    folder = kept_folder() / "ice"
    cube = ci.init(_write(folder / "grid.yaml", ICE))
    write_granules(folder)
    assert cube.ingest(workers=1).exit_code == 0
    return folder


# ---- blocks of TIFFs that are chunks --------------------------------------------------------------------------

BLOCKS = """\
name: blocks
crs: EPSG:4326
grid: {origin: {x: 0, y: 20}, resolution: {x: 1/10, y: -1/10}, shape: {y: 192, x: 192}, region: {y: 96, x: 96}}
axes: {year: {values: [2000, 2005]}}
variables:
  cover: {dtype: uint8, fill_value: 255, chunks: {year: 1, y: 16, x: 16}, compressor: {name: zstd}, source: {
      href: "data/tiles/{year}/{id}.tif", nodata: 255, tiles: {glob: "data/tiles/{year}/*.tif"}}}
store: ./cube.icechunk
"""


def blocks(folder: Path) -> dict[str, str]:
    """An empty cube, ``cube.icechunk``, and tiles in ``$DATA/tiles`` whose blocks are its chunks."""
    rng = np.random.default_rng(7)
    for year in (2000, 2005):
        for iy, ix in np.ndindex(2, 2):
            write_geotiff(
                folder / "data" / "tiles" / str(year) / f"y{iy}_x{ix}.tif", rng.integers(0, 200, (96, 96), "uint8"),
                9.6 * ix, 20 - 9.6 * iy, 0.1, tiled=True, blockxsize=16, blockysize=16, compress="zstd", nodata=255,
            )  # fmt: skip
    ci.init(_write(folder / "grid.yaml", BLOCKS))
    point_to(folder, "cube.icechunk")
    return {"DATA": str(folder / "data")}


# ---- an object store, and many machines -----------------------------------------------------------------------


def open_s3(*buckets: str) -> dict[str, str]:
    """An S3 server of this page alone, with these buckets; what commands need in their environment to reach it."""
    import boto3

    environment = {**KEYS, "AWS_ENDPOINT_URL": OPENED.enter_context(moto_server())}
    client = boto3.client(
        "s3", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name=KEYS["AWS_REGION"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"], aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    for bucket in buckets:
        client.create_bucket(Bucket=bucket)
    client.close()
    return environment


WAITING = """python -c "from distributed import Client; Client('tcp://127.0.0.1:$PORT').wait_for_workers(1)" """
CHANGES["cluster"] = [
    ("--port 8786 ", "--host 127.0.0.1 --port $PORT --no-dashboard & "),
    ("--nthreads 1 --nworkers 4 ", "--nthreads 1 --nworkers 1 --no-dashboard & "),
    ("cubeingest ingest --scheduler", f"{WAITING}; cubeingest ingest --scheduler"),
    ("SCHEDULER:8786", "127.0.0.1:$PORT"),
]


def cluster(folder: Path) -> dict[str, str]:
    """GLAD's tiles, an empty cube of them at ``s3://my-bucket/glad-lclu``, a free port for a scheduler, and what Slurm says to job 3 of 64."""
    environment = open_s3("my-bucket")
    spec = _write(folder / "grid.yaml", GLAD.replace("./glad-lclu.icechunk", "s3://my-bucket/glad-lclu"))
    glad_tiles(folder)
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        ci.init(spec)
    finally:
        os.environ.clear()
        os.environ.update(before)
    point_to(folder, "s3://my-bucket/glad-lclu")
    slurm = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "64"}
    return {**environment, **slurm, "PORT": str(free_port())}
