"""A small real world for tests: GeoTIFF tiles with GLAD's names, and the spec that goes with them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from tests.objectstore import bucket, s3_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from cubeingest import Cube

__all__ = ["bucket", "s3_server"]

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.register_profile("few", deadline=None, max_examples=10)
hypothesis.settings.load_profile("untimed")

SPEC = """\
name: small
crs: EPSG:4326
grid:
  origin: {x: 0, y: 20}
  resolution: {x: 1/10, y: -1/10}
  shape: {y: 200, x: 250}
  region: {y: 100, x: 100}
  id: "{top:02H}_{left:03H}"
axes:
  year: {values: [2000, 2005]}
variables:
  cover:
    dtype: uint8
    fill_value: 255
    chunks: {year: 1, y: 50, x: 50}
    source:
      href: tiles/{year}/{id}.tif
      tiles: {list: "tiles/{year}.txt"}
      nodata: 255
attrs: {license: CC0-1.0}
store: ./small.icechunk
"""
"""2 x 3 regions of 100 x 100 pixels of 0.1 degree, the last column half as wide; two years."""

CORNERS = {
    "20N_000E": (0, 20),
    "20N_010E": (10, 20),
    "20N_020E": (20, 20),
    "10N_000E": (0, 10),
    "10N_010E": (10, 10),
    "10N_020E": (20, 10),
}
"""Left and top of each region of SPEC."""


def write_tile(
    path: Path, pixels: np.ndarray, left: float, top: float, resolution: float = 0.1, **profile: Any
) -> Path:
    """Write a (rows, columns) or (bands, rows, columns) array as a GeoTIFF whose upper left corner is (left, top)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = pixels if pixels.ndim == 3 else pixels[np.newaxis]
    options: dict[str, Any] = {
        "driver": "GTiff", "dtype": bands.dtype, "crs": "EPSG:4326", "compress": "deflate",
        "count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2],
        "transform": from_origin(left, top, resolution, resolution),
    }  # fmt: skip
    with rasterio.open(path, "w", **{**options, **profile}) as tile:
        tile.write(bands)
    return path


GRID = """\
name: made
crs: EPSG:4326
grid: {origin: {x: 0, y: 20}, resolution: {x: 1/10, y: -1/10}, shape: {y: 200, x: 250}, region: {y: 100, x: 100}}
store: ./made.icechunk
"""
"""A grid without variables: 2 x 3 regions of 100 x 100 pixels, the last column half as wide."""


@dataclass
class World:
    """A folder with a spec, tiles and their lists; the cube comes when a test makes it."""

    folder: Path
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    @property
    def spec_file(self) -> Path:
        return self.folder / "grid.yaml"

    @property
    def store(self) -> Path:
        return self.folder / "small.icechunk"

    def write_spec(self, *changes: tuple[str, str]) -> Path:
        """Write SPEC with pieces of its text replaced."""
        text = SPEC
        for old, new in changes:
            assert old in text, f"{old!r} is not in the spec"
            text = text.replace(old, new)
        self.spec_file.write_text(text, encoding="utf-8")
        return self.spec_file

    def pixels(self, region: str) -> np.ndarray:
        """Random class values, none of them the fill value, of the region's shape."""
        return self.rng.integers(0, 200, (100, 50 if region.endswith("020E") else 100), dtype=np.uint8)

    def add_tile(self, year: int, region: str, pixels: np.ndarray | None = None, **profile: Any) -> Path:
        """Write one tile of SPEC and put it on its year's list."""
        left, top = CORNERS[region]
        path = self.folder / "tiles" / str(year) / f"{region}.tif"
        write_tile(path, self.pixels(region) if pixels is None else pixels, left, top, **profile)
        listed = self.folder / "tiles" / f"{year}.txt"
        lines = listed.read_text().split() if listed.exists() else []
        if f"{region}.tif" not in lines:
            listed.write_text("".join(f"{line}\n" for line in [*lines, f"{region}.tif"]))
        return path

    def read_tile(self, year: int, region: str) -> np.ndarray:
        """What rasterio reads, which knows nothing of our grid."""
        with rasterio.open(self.folder / "tiles" / str(year) / f"{region}.tif") as tile:
            return tile.read(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(name): the fault of tests/faults/catalogue.py that a test injects")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Spec, five tiles of 2000 (20N_020E is missing, as open sea is) and two of 2005; no cube yet."""
    made = World(tmp_path)
    made.write_spec()
    for region in ("20N_000E", "20N_010E", "10N_000E", "10N_010E", "10N_020E"):
        made.add_tile(2000, region)
    for region in ("20N_000E", "10N_020E"):
        made.add_tile(2005, region)
    return made


@pytest.fixture(scope="session")
def xdggs() -> Any:
    """What others open cubes of HEALPix cells by. It needs a newer xarray than the oldest that we allow."""
    return pytest.importorskip("xdggs", exc_type=ImportError)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"no browser is on PATH ({', '.join(BROWSERS)}): apt-get install chromium")
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def make_cube(tmp_path: Path) -> Callable[[str], Cube]:
    """Make a cube of GRID with ``more`` in its spec."""

    def init(more: str) -> Cube:
        import cubeingest as ci

        file = tmp_path / "made.yaml"
        file.write_text(GRID + more, encoding="utf-8")
        return ci.init(file)

    return init


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        import json

        return json.loads(self.out)


@pytest.fixture
def run(world: World) -> Callable[..., Ran]:
    """Run ``cubeingest ARGS...`` as a process of its own in the world's folder (or ``cwd``), as a person would."""

    def call(*args: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> Ran:
        import os

        environment = {k: v for k, v in os.environ.items() if k != "CUBEINGEST_STORE"} | (env or {})
        done = subprocess.run(
            [sys.executable, "-m", "cubeingest", *map(str, args)], cwd=cwd or world.folder, env=environment, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def invoke(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """As ``run``, but inside this process: much quicker, for tests of what is printed and returned."""
    from typer.testing import CliRunner

    from cubeingest.cli import app

    def call(*args: object, cwd: Path | None = None) -> Ran:
        import logging
        import warnings

        monkeypatch.chdir(cwd or world.folder)
        monkeypatch.delenv("CUBEINGEST_STORE", raising=False)
        with warnings.catch_warnings():
            result = CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)
        logging.disable(logging.NOTSET)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return call
