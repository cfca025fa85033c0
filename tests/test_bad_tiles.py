"""Faulty tiles through the whole command: each costs its own slot, is named, and leaves no pixel behind."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

import cubeingest as ci
from cubeingest import mosaic
from tests.conftest import CORNERS, Ran, World, write_tile

Invoke = Callable[..., Ran]

BAD = "20N_010E"
"""The region of 2000 whose tile is made faulty: left 10, top 20."""

NO_NODATA = ("      nodata: 255\n", "")
BY_HEADER = ("href: tiles/{year}/{id}.tif\n      ", "")
GAIN = (
    "attrs: {license",
    """\
  gain:
    dtype: int16
    fill_value: -1
    chunks: {year: 1, y: 50, x: 50}
    source:
      href: gain/{year}/{id}.tif
      tiles: {list: "tiles/{year}.txt"}
attrs: {license""",
)
"""A second variable on the same grid; its tiles have the same names in a folder of their own."""


def north_up(path: Path) -> np.ndarray:
    """What rasterio reads, top row first."""
    with rasterio.open(path) as tile:
        pixels: np.ndarray = tile.read(1)
        return pixels[::-1] if tile.transform.e > 0 else pixels


def pasted(world: World, *without: tuple[int, str], folder: str = "tiles", fill: float = 255, dtype: str = "uint8") -> np.ndarray:  # fmt: skip
    """The cube that the tiles make, pasted by file name, ``without`` some that are faulty."""
    cube = np.full((2, 200, 250), fill, dtype)
    for t, year in enumerate((2000, 2005)):
        for path in (world.folder / folder / str(year)).glob("*.tif"):
            if (year, path.stem) in without:
                continue
            left, top = CORNERS[path.stem]
            y, x = (20 - top) * 10, left * 10
            pixels = north_up(path)
            cube[t, y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return cube


def held(world: World, variable: str = "cover") -> np.ndarray:
    values: np.ndarray = ci.open(world.store).dataset()[variable].values
    return values


def add_gain(world: World) -> None:
    world.write_spec(GAIN)
    for year in (2000, 2005):
        for name in (world.folder / "tiles" / f"{year}.txt").read_text().split():
            region = name.removesuffix(".tif")
            write_tile(world.folder / "gain" / str(year) / name, world.pixels(region).astype("int16"), *CORNERS[region])


# ---- tiles that cannot be used --------------------------------------------------------------------------------


def rewrite(pixels: np.ndarray | None = None, left: float = 10, top: float = 20, **profile: Any) -> Callable[[World, Path], None]:  # fmt: skip
    """Write the tile again, with something wrong."""

    def fault(world: World, path: Path) -> None:
        write_tile(path, world.pixels(BAD) if pixels is None else pixels, left, top, **profile)

    return fault


def cut(start: float, stop: float, **profile: Any) -> Callable[[World, Path], None]:
    """Keep only part of the file, from and to a fraction of its bytes."""

    def fault(world: World, path: Path) -> None:
        whole = world.add_tile(2000, BAD, **profile).read_bytes()
        path.write_bytes(whole[int(start * len(whole)) : int(stop * len(whole))])

    return fault


def a_folder(world: World, path: Path) -> None:
    path.unlink()
    path.mkdir()


def unreadable(world: World, path: Path) -> None:
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root may read everything")


def valid_pixels_equal_to_fill(world: World, path: Path) -> None:
    world.write_spec(NO_NODATA)
    pixels = world.pixels(BAD)
    pixels[-1, -3:] = 255
    world.add_tile(2000, BAD, pixels)


def some(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


FAULTS: dict[str, tuple[Callable[[World, Path], None], str]] = {
    "text": (lambda _, path: path.write_text("<html>404</html>") and None, "is not a raster that can be read: .*not recognized"),
    "nothing in it": (lambda _, path: path.write_bytes(b"") and None, "is not a raster that can be read"),
    "missing": (lambda _, path: path.unlink(), "is not there"),
    "a folder": (a_folder, "is not a raster that can be read"),
    "unreadable": (unreadable, "is not a raster that can be read: .*[Pp]ermission"),
    "header gone": (cut(0.1, 1), "is not a raster that can be read"),
    "cut in its header": (cut(0, 0.02), "is not a raster that can be read"),
    "cut in its strips": (cut(0, 0.5, blockysize=10), r"cannot be read at rows 0:100 \(cut short or damaged\?\)"),
    "cut in its blocks": (cut(0, 0.9, tiled=True, blockxsize=32, blockysize=32), "cut short or damaged"),
    "cut, not compressed": (cut(0, 0.9, compress=None), "cut short or damaged"),
    "another CRS": (rewrite(crs="EPSG:3857"), "is in CRS EPSG:3857, expected EPSG:4326"),
    "no CRS": (rewrite(crs=None), "has no CRS, expected EPSG:4326"),
    "finer pixels": (rewrite(some(200, 200), resolution=0.05), r"pixel size 0\.05 along x, expected 0\.1: over its 200 pixels that is 100 px off"),
    "slightly larger pixels": (rewrite(resolution=0.10002), r"pixel size 0\.10002 along x, expected 0\.1: over its 100 pixels that is 0\.02 px"),
    "0.3 px east": (rewrite(left=10.03), r"lies 0\.3 px east of the grid \(allowed 0\.01 px\): check its transform"),
    "0.3 px south": (rewrite(top=19.97), r"lies 0\.3 px south of the grid"),
    "half a pixel": (rewrite(left=10.05, top=19.95), r"lies 0\.5 px (east|west) of the grid"),
    "a region to the west": (rewrite(left=0), "lies at x 0:100, but by its name it belongs at x 100:200"),
    "a region to the south": (rewrite(top=10), "lies at y 100:200, but by its name it belongs at y 0:100"),
    "another continent": (rewrite(left=-120, top=80), "lies at y -600:-500, but by its name it belongs at y 0:100"),
    "99 rows": (rewrite(some(99, 100)), "has 99 pixels along y, its place in the grid has 100"),
    "one column more": (rewrite(some(100, 101)), "has 101 pixels along x, its place in the grid has 100"),
    "int16": (rewrite(some(100, 100, dtype="int16")), "is int16, variable 'cover' is uint8: .* declare dtype int16 in the spec"),
    "float32": (rewrite(some(100, 100, dtype="float32")), "is float32, variable 'cover' is uint8: .* declare dtype float32"),
    "two bands": (rewrite(some(2, 100, 100)), "has 2 bands, expected one: say which with source.band or source.bands"),
    "east to west": (rewrite(transform=Affine(-0.1, 0, 20, 0, -0.1, 20)), "columns that run east to west .*: flip it first"),
    "rotated": (rewrite(transform=Affine(0.1, 0.001, 10, 0, -0.1, 20)), "is rotated or sheared .*: warp it to the grid first"),
    "valid fill": (valid_pixels_equal_to_fill, r"has valid pixels equal to the fill value 255 .*at least 3; its nodata is none.* say source.nodata: 255; else"),
}  # fmt: skip

every_fault = pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)


@every_fault
def test_faulty_tile_costs_only_its_own_slot(
    world: World, invoke: Invoke, fault: Callable[[World, Path], None], message: str
) -> None:
    path = world.add_tile(2000, BAD)
    fault(world, path)
    assert invoke("init", "grid.yaml").code == 0
    ran = invoke("ingest", "--json")
    assert ran.code == 1
    (row,) = ran.json["failed"]
    assert (row["region"], row["axes"], row["variable"], row["href"]) == (BAD, {"year": "2000"}, "cover", str(path))
    assert (ran.json["planned"], ran.json["written"], ran.json["empty"], ran.json["skipped"]) == (7, 6, 0, 0)
    assert re.match(rf"tile '{path}' .*{message}", row["error"])
    assert "\n" not in row["error"]
    assert f"failed: {BAD} 2000 cover: {row['error']}" in ran.err
    assert np.array_equal(held(world), pasted(world, (2000, BAD)))
    status = invoke("status", "--region", BAD, "--json").json["by"]["year"]
    assert status["2000"] == {"done": 0, "empty": 0, "pending": 1, "absent": 0}
    assert invoke("status", "--json").json["done"] == 6


@every_fault
def test_abort_commits_nothing_at_all(
    world: World, invoke: Invoke, fault: Callable[[World, Path], None], message: str
) -> None:
    fault(world, world.add_tile(2000, BAD))
    invoke("init", "grid.yaml")
    tip = ci.open(world.store).store.tip
    ran = invoke("ingest", "--on-error", "abort", "--json")
    assert ran.code == 2
    assert ci.open(world.store).store.tip == tip
    assert (held(world) == 255).all()
    assert (ran.json["snapshot"], ran.json["written"], ran.json["bytes"]) == (None, 0, 0)
    assert [row["region"] for row in ran.json["failed"]] == [BAD]
    assert "aborted at the first failure: nothing was written" in ran.err


def test_abort_counts_every_planned_slot(world: World, invoke: Invoke) -> None:
    """What was finished but not committed is unfinished: planned = written + empty + skipped + failed + unfinished."""
    world.add_tile(2000, BAD).write_text("no raster")
    invoke("init", "grid.yaml")
    report = invoke("ingest", "--on-error", "abort", "--json").json
    assert report["planned"] == 7
    assert report["unfinished"] == 6


def test_abort_keeps_what_was_committed_before(world: World, invoke: Invoke) -> None:
    world.add_tile(2005, "10N_020E").write_text("no raster")
    invoke("init", "grid.yaml")
    ran = invoke("ingest", "--on-error", "abort", "--commit-every", 1, "--json")
    assert ran.code == 1
    assert "what was committed before stays" in ran.err
    assert np.array_equal(held(world), pasted(world, (2005, "10N_020E")))


def test_repaired_tile_is_all_that_the_next_run_reads(world: World, invoke: Invoke) -> None:
    world.add_tile(2000, BAD).write_text("no raster")
    invoke("init", "grid.yaml")
    assert invoke("ingest").code == 1
    world.add_tile(2000, BAD)
    ran = invoke("ingest", "--json")
    assert (ran.code, ran.json["written"], ran.json["skipped"]) == (0, 1, 6)
    assert np.array_equal(held(world), pasted(world))


def test_window_after_the_first_may_fail_and_leaves_no_pixel(
    world: World, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic, "WINDOW_BYTES", 1)  # windows of one chunk row, so that the tile has two
    path = world.add_tile(2000, BAD, blockysize=10)
    path.write_bytes(path.read_bytes()[: int(0.9 * path.stat().st_size)])
    invoke("init", "grid.yaml")
    ran = invoke("ingest", "--json")
    assert ran.code == 1
    assert "cannot be read at rows 50:100" in ran.json["failed"][0]["error"]
    assert np.array_equal(held(world), pasted(world, (2000, BAD)))


@pytest.mark.parametrize("break_it", [lambda p: p.write_text("no raster"), lambda p: p.unlink()], ids=["text", "gone"])
def test_tile_that_goes_bad_later_leaves_what_was_there(
    world: World, invoke: Invoke, break_it: Callable[[Path], object]
) -> None:
    path = world.add_tile(2000, BAD)
    invoke("init", "grid.yaml")
    invoke("ingest")
    before, tip = held(world), ci.open(world.store).store.tip
    break_it(path)
    ran = invoke("ingest", "--json")
    assert (ran.code, ran.json["skipped"], ran.json["snapshot"]) == (1, 6, None)
    assert np.array_equal(held(world), before)
    assert ci.open(world.store).store.tip == tip
    assert invoke("status", "--json").json["done"] == 7


def test_fault_in_one_variable_does_not_cost_the_other(world: World, invoke: Invoke) -> None:
    add_gain(world)
    world.add_tile(2000, BAD).write_text("no raster")
    invoke("init", "grid.yaml")
    ran = invoke("ingest", "--json")
    assert (ran.code, ran.json["planned"], ran.json["written"]) == (1, 14, 13)
    assert [(r["region"], r["variable"]) for r in ran.json["failed"]] == [(BAD, "cover")]
    assert np.array_equal(held(world), pasted(world, (2000, BAD)))
    assert np.array_equal(held(world, "gain"), pasted(world, folder="gain", fill=-1, dtype="int16"))


STRAYS: dict[str, tuple[Callable[[World, Path], None], str]] = {
    "text": (lambda _, path: path.write_text("no raster") and None, "is not a raster that can be read"),
    "no place on earth": (rewrite(crs=None, transform=Affine.identity()), "has no CRS, expected EPSG:4326"),
    "another CRS": (rewrite(crs="EPSG:32631", left=5e5, top=2e6), "is in CRS EPSG:32631, expected EPSG:4326"),
    "east to west": (rewrite(transform=Affine(-0.1, 0, 20, 0, -0.1, 20)), "columns that run east to west"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("fault", "message"), STRAYS.values(), ids=STRAYS)
def test_stray_tile_costs_no_region_where_headers_say_what_lies_where(
    world: World, invoke: Invoke, fault: Callable[[World, Path], None], message: str
) -> None:
    world.write_spec(BY_HEADER, ('{list: "tiles/{year}.txt"}', '{glob: "tiles/{year}/*.tif"}'))
    path = world.add_tile(2000, BAD)
    fault(world, path)
    invoke("init", "grid.yaml")
    ran = invoke("ingest", "--json")
    assert (ran.code, ran.json["planned"], ran.json["written"]) == (1, 7, 6)
    (row,) = ran.json["failed"]
    assert (row["region"], row["axes"], row["href"]) == (None, {"year": "2000"}, str(path))
    assert re.match(rf"tile '{path}' .*{message}", row["error"])
    assert np.array_equal(held(world), pasted(world, (2000, BAD)))
    assert invoke("ingest", "--redo", "--on-error", "abort").code == 2


# ---- tiles that look odd, and are right -----------------------------------------------------------------------


def ingested(world: World, invoke: Invoke) -> np.ndarray:
    assert invoke("init", "grid.yaml").code == 0
    ran = invoke("ingest", "--json")
    assert (ran.code, ran.json["failed"]) == (0, [])
    return held(world)


def test_south_up_tile_is_turned(world: World, invoke: Invoke) -> None:
    world.add_tile(2000, BAD, transform=Affine(0.1, 0, 10, 0, 0.1, 10))
    assert np.array_equal(ingested(world, invoke), pasted(world))


def test_lossless_widening_works(world: World, invoke: Invoke) -> None:
    world.write_spec(("dtype: uint8", "dtype: int16"))
    assert np.array_equal(ingested(world, invoke), pasted(world, dtype="int16"))


def test_nodata_of_the_file_becomes_fill(world: World, invoke: Invoke) -> None:
    world.write_spec(NO_NODATA)
    pixels = world.pixels(BAD)
    world.add_tile(2000, BAD, pixels, nodata=0)
    oracle = pasted(world)
    oracle[0, :100, 100:200][pixels == 0] = 255
    assert (pixels == 0).any()
    assert np.array_equal(ingested(world, invoke), oracle)


def test_fill_value_in_pixels_is_allowed_where_it_means_no_data(world: World, invoke: Invoke) -> None:
    pixels = world.pixels(BAD)
    pixels[:7] = 255
    world.add_tile(2000, BAD, pixels)
    assert np.array_equal(ingested(world, invoke), pasted(world))


@pytest.mark.parametrize("nodata", [float("nan"), -9999])
def test_nodata_of_floats_becomes_nan(world: World, invoke: Invoke, nodata: float) -> None:
    world.write_spec(NO_NODATA, ("dtype: uint8", "dtype: float32"), ("fill_value: 255", "fill_value: .nan"))
    pixels = world.rng.random((100, 100), dtype=np.float32)
    pixels[3:30] = nodata
    world.add_tile(2000, BAD, pixels, nodata=nodata)
    oracle = pasted(world, fill=np.nan, dtype="float32")
    oracle[0, 3:30, 100:200] = np.nan
    assert np.array_equal(ingested(world, invoke), oracle, equal_nan=True)


def test_source_band_chooses_and_a_tile_without_it_fails(world: World, invoke: Invoke) -> None:
    world.write_spec(("nodata: 255", "nodata: 255\n      band: 2"))
    oracle = pasted(world, (2000, BAD))
    for path in (world.folder / "tiles").glob("*/*.tif"):
        if path.parts[-2:] != ("2000", f"{BAD}.tif"):
            world.add_tile(int(path.parent.name), path.stem, np.stack([some(*(one := north_up(path)).shape), one]))
    invoke("init", "grid.yaml")
    ran = invoke("ingest", "--json")
    assert ran.code == 1
    assert [row["region"] for row in ran.json["failed"]] == [BAD]
    assert "has no band 2: it has 1" in ran.json["failed"][0]["error"]
    assert np.array_equal(held(world), oracle)


# ---- a tile that changes while it is read ---------------------------------------------------------------------


class _Restless(BaseHTTPRequestHandler):
    """Serves ``content`` under a new ETag each time it is asked."""

    content = b""
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.send_header("ETag", f'"{self.asked}"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.content)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        """Say nothing."""


@pytest.fixture
def restless(world: World) -> Iterator[str]:
    """The address of a tile for BAD that is replaced all the time."""
    _Restless.content = (world.add_tile(2000, BAD)).read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Restless) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_tile_that_changes_while_it_is_read_is_not_taken(world: World, invoke: Invoke, restless: str) -> None:
    world.write_spec(
        ("href: tiles/{year}/{id}.tif", f"href: {{2000: '{restless}/{{id}}.tif', 2005: 'tiles/2005/{{id}}.tif'}}")
    )
    (world.folder / "tiles" / "2000.txt").write_text(f"{BAD}\n")
    invoke("init", "grid.yaml")
    ran = invoke("ingest", "--year", 2000, "--json")
    assert ran.code == 1
    assert "changed while it was read: run the command again" in ran.json["failed"][0]["error"]
    assert (held(world) == 255).all()
