"""How long a tile of `cubeingest view` takes, and a page to its first paint; and a tile of the same pixels from a COG by rio-tiler.

    uv run python -m benchmarks.view [--side 16384] [--tiles 60] [--keep FOLDER]

A cube of one raster of ``--side`` pixels a side: 48 classes in waves with some noise, in chunks of 1000 x 1000 uint8, with overviews. Tiles are of all zooms, none asked for
twice, one after another, over HTTP from a server of its own process: read, coloured, encoded, sent. Of the full resolution four chunks lie below most of them.

rio-tiler reads the same windows from a COG of the same pixels (zstd, blocks of 512, overviews by the nearest), which it opens for each tile as titiler does, colours them by a table and
encodes a PNG; within its process, without HTTP. It is fetched by ``uv run --with rio-tiler``; where that cannot be, a line says so.

First paint: Chromium, already running, from the address until the last tile that is to be seen is there; every page has a browser profile of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SPEC = """\
name: waves
crs: EPSG:4326
grid: {{origin: {{x: 0, y: 60}}, resolution: {{x: 1/4000, y: -1/4000}}, shape: {{y: {side}, x: {side}}}, region: {{y: {region}, x: {region}}}}}
axes: {{year: {{values: [2000]}}}}
variables:
  classes: {{dtype: uint8, fill_value: 255, chunks: {{year: 1, y: 1000, x: 1000}}, attrs: {{flag_values: {values}, flag_meanings: "{names}"}}}}
store: ./waves.icechunk
"""

N_CLASSES = 48

RIVAL = """\
import io, json, sys, time
import numpy as np
from rio_tiler.io import Reader

path, windows = sys.argv[1], json.loads(sys.argv[2])
table = {n: (n * 5 % 256, n * 11 % 256, n * 23 % 256, 255) for n in range(48)}
found = []
for bounds in windows:
    started = time.perf_counter()
    with Reader(path) as source:
        image = source.part(bounds, width=256, height=256)
        body = image.render(img_format="PNG", colormap=table)
    found.append(1000 * (time.perf_counter() - started))
print(json.dumps(found))
"""


def waves(geobox: Any, year: int) -> np.ndarray[Any, Any]:
    """The pixels of a region."""
    rows, columns = geobox.shape
    affine = geobox.affine
    x = (affine.c + affine.a * (np.arange(columns) + 0.5)) * 40
    y = (affine.f + affine.e * (np.arange(rows) + 0.5)) * 40
    pixels = ((np.sin(y)[:, None] + np.cos(x * 1.3)[None, :]) * 11 + 24).astype(np.uint8)
    noise = np.random.default_rng(abs(hash((affine.c, affine.f))) % 2**32).random(pixels.shape, np.float32)
    pixels[noise < 0.03] = 3
    return pixels


def make(folder: Path, side: int) -> Path:
    """The cube; as it is if it is there already."""
    import cubeingest as ci

    names = " ".join(f"class_{n}" for n in range(N_CLASSES))
    (folder / "waves.yaml").write_text(
        SPEC.format(side=side, region=min(4000, side), values=list(range(N_CLASSES)), names=names)
    )
    if not (folder / "done").exists():
        shutil.rmtree(folder / "waves.icechunk", ignore_errors=True)
        cube = ci.init(folder / "waves.yaml")
        cube.ingest(source=waves)
        cube.overviews()
        (folder / "done").touch()
    return folder / "waves.icechunk"


def make_cog(store: Path, file: Path) -> None:
    """The cube's pixels as one COG."""
    import rasterio
    from rasterio.shutil import copy
    from rasterio.transform import from_origin

    import cubeingest as ci

    if file.exists():
        return
    pixels = ci.open(store).dataset()["classes"][0]
    side = pixels.shape[0]
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8", "crs": "EPSG:4326", "nodata": 255, "tiled": True,
               "transform": from_origin(0, 60, 1 / 4000, 1 / 4000)}  # fmt: skip
    plain = file.with_suffix(".plain.tif")
    with rasterio.open(plain, "w", **profile) as out:
        for row in range(0, side, 1000):
            n = min(1000, side - row)
            out.write(pixels[row : row + n].values, 1, window=((row, row + n), (0, side)))
    copy(plain, file, driver="COG", COMPRESS="ZSTD", BLOCKSIZE=512, RESAMPLING="NEAREST", OVERVIEW_RESAMPLING="NEAREST")
    plain.unlink()


def choose(side: int, n: int) -> list[tuple[int, int, int]]:
    """(level, row, column) of tiles of all levels, those that are whole."""
    rng = random.Random(1)
    every: dict[int, list[tuple[int, int, int]]] = {}
    for level in range(max(1, (side // 256).bit_length() - 1)):
        across = side // (256 << level)
        every[level] = [(level, row, column) for row in range(across) for column in range(across)]
        rng.shuffle(every[level])
    each = max(1, n // len(every))
    return [tile for tiles in every.values() for tile in tiles[:each]]


def start(store: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "cubeingest", "view", "--store", str(store), "--port", "0", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    return server, server.stdout.readline().split()[-1]


def asked(store: Path, what: Callable[[str], Any]) -> Any:
    """What is measured at a server that has just started."""
    server, url = start(store)
    try:
        return what(url)
    finally:
        server.terminate()
        server.wait()


def measure_tiles(url: str, tiles: list[tuple[int, int, int]]) -> dict[int, list[float]]:
    """Milliseconds of each, by level."""
    with urllib.request.urlopen(f"{url}api/refs") as answer:
        tip = json.load(answer)["branches"]["main"]
    urllib.request.urlopen(f"{url}api/legend/{tip}/classes/0").read()
    found: dict[int, list[float]] = {}
    for level, row, column in tiles:
        started = time.perf_counter()
        with urllib.request.urlopen(f"{url}tiles/{tip}/grid/classes/0/{level}/{row}/{column}.png") as answer:
            answer.read()
        found.setdefault(level, []).append(1000 * (time.perf_counter() - started))
    return found


def measure_rival(file: Path, tiles: list[tuple[int, int, int]]) -> dict[int, list[float]] | None:
    """Milliseconds of the same windows by rio-tiler; None where it cannot be had."""
    uv = shutil.which("uv")
    if uv is None:
        return None
    windows = []
    for level, row, column in tiles:
        size = (256 << level) / 4000
        windows.append([column * size, 60 - (row + 1) * size, (column + 1) * size, 60 - row * size])
    command = [
        uv,
        "run",
        "--no-project",
        "--with",
        "rio-tiler",
        "python",
        "-W",
        "ignore",
        "-c",
        RIVAL,
        str(file),
        json.dumps(windows),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"rio-tiler did not run: {done.stderr.strip().splitlines()[-1:]}")
        return None
    found: dict[int, list[float]] = {}
    for (level, _, _), ms in zip(tiles, json.loads(done.stdout), strict=True):
        found.setdefault(level, []).append(ms)
    return found


def measure_paint(url: str, runs: int) -> list[float] | None:
    """Seconds until a page shows all its tiles; None without a browser."""
    browser = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if browser is None:
        return None
    from playwright.sync_api import sync_playwright

    out = []
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for _ in range(runs):
            context = chromium.new_context(viewport={"width": 1200, "height": 750})
            page = context.new_page()
            started = time.perf_counter()
            page.goto(url)
            page.wait_for_selector("body[data-shown]")
            out.append(time.perf_counter() - started)
            context.close()
        chromium.close()
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=16384, help="pixels along the sides of the raster")
    parser.add_argument("--tiles", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="folder to keep cube and COG in between runs")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        store = make(folder, options.side)
        tiles = choose(options.side, options.tiles)
        ours, paints = (
            asked(store, what) for what in (lambda url: measure_tiles(url, tiles), lambda url: measure_paint(url, 3))
        )
        make_cog(store, folder / "waves.tif")
        rival = measure_rival(folder / "waves.tif", tiles)
    report("cubeingest view", ours)
    if rival is None:
        print("rio-tiler: not measured (it needs uv on PATH, and a registry of packages)")
    else:
        report("rio-tiler", rival)
        ratio = statistics.median(all_of(ours)) / statistics.median(all_of(rival))
        print(f"ratio of the medians: {ratio:.2f}")
    if paints is None:
        print("first paint: not measured (it needs Chromium on PATH)")
    else:
        print(
            f"first paint: {paints[0]:.2f} s of a server that has just started, then {', '.join(f'{s:.2f}' for s in paints[1:])} s"
        )


def all_of(found: dict[int, list[float]]) -> list[float]:
    return [ms for some in found.values() for ms in some]


def report(name: str, found: dict[int, list[float]]) -> None:
    every = all_of(found)
    levels = ", ".join(f"{level}: {statistics.median(ms):.0f}" for level, ms in sorted(found.items()))
    print(
        f"{name:16} {statistics.median(every):6.1f} ms a tile (median of {len(every)}; the slowest {max(every):.0f}); by level {levels}"
    )


if __name__ == "__main__":
    main()
