"""The whole way on small real tiles: cut them, make the cube, fill it, check it, draw it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from cubeingest.create import init_cube
from cubeingest.cube import Cube
from cubeingest.engine import Progress
from cubeingest.errors import CubeIngestError, ExtraError, StoreError
from cubeingest.grid import TilingGrid
from cubeingest.look import check_drawing, picture_map, read_map, save_picture
from cubeingest.plan import Selection
from cubeingest.spec import read_spec

BLOCK_PIXELS = 240
"""Blocks of the tiles: one a tile, and a multiple of 16 as TIFF wants."""

SEA = "#c9dbe6"
"""As in the spec's colours: 0 % of land."""


def run_demo(folder: Path, say: Callable[[str], None], on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Run the demo in ``folder``; what it made, as plain data. Running it again goes on where it stopped.

    Raises :class:`CubeIngestError` if a step does not end as it should.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        spec_file = folder / "land.yaml"
        with as_file(files("cubeingest") / "data") as data:
            shutil.copyfile(data / "land.yaml", spec_file)
            shutil.copyfile(data / "LICENSE.md", folder / "LICENSE.md")
            spec = read_spec(spec_file)
            if not (folder / "tiles" / "tiles.txt").exists():
                cut_tiles(data / "land.tif", spec.tiling, folder / "tiles")
    except OSError as e:
        raise StoreError(f"the demo cannot write into {str(folder)!r}: {e.strerror or e}") from e
    names = (folder / "tiles" / "tiles.txt").read_text(encoding="utf-8").split()
    say(f"tiles   {len(names)} GeoTIFFs of 10 degrees in {folder / 'tiles'}; tiles of open sea are not in the list")
    done = init_cube(spec)
    cube = Cube(done.store)
    say(f"init    cube {done.action} at {done.store.uri}: {cube.grid.n_regions} regions")
    plan = cube.plan()
    say(f"plan    {plan.tasks} tasks, {plan.skipped} slots done already, {len(plan.problems)} problems")
    report = cube.ingest(on_progress=on_progress)
    say(
        f"ingest  {report.written} slots written, {report.empty} empty, {len(report.failed)} failed, in one commit ({report.seconds:.1f} s)"
    )
    status = cube.status()
    say(f"status  {status.done} done, {status.pending} pending, {status.absent} absent of {status.total}")
    check = cube.verify()
    say(f"verify  {check.equal} of {check.checked} slots equal their tiles, pixel for pixel")
    if report.failed or check.different or check.missing or status.pending:
        raise CubeIngestError(f"the demo's cube is not whole: see `cubeingest status --store {done.store.uri}`")
    picture = _drawn(cube, folder / "land.png", say)
    return {"store": done.store.uri, "spec": str(spec_file), "picture": picture and str(picture), "ingest": report.to_json(), "status": status.to_json(),
            "verify": check.to_json()}  # fmt: skip


def _drawn(cube: Cube, path: Path, say: Callable[[str], None]) -> Path | None:
    """Draw the cube; where nothing can be drawn, say why. All else of the demo needs no extra."""
    try:
        check_drawing()
    except ExtraError as e:
        say(f"picture {e}")
        return None
    draw(cube, path)
    say(f"picture {path}")
    return path


def draw(cube: Cube, path: Path) -> None:
    """The world's coasts, with the regions. Sea is 0 inside a tile and fill value where there is none: drawn alike."""
    view = read_map(cube.store, Selection())
    save_picture(picture_map(view, replace(view.colours, missing=SEA)), path)


def cut_tiles(raster: Path, grid: TilingGrid, folder: Path) -> list[str]:
    """Cut a raster that covers ``grid`` into one GeoTIFF a region, named by region id; names of those written.

    Tiles that hold only zeros (open sea) are left out. ``tiles.txt`` lists the others, one name a line; it is written
    last, so that a folder that has it is complete.
    """
    import rasterio
    from rasterio.windows import Window

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    with rasterio.open(raster) as source:
        for region in grid.region_ids():
            y, x = grid.slices(*grid.region_index(region))
            pixels = source.read(1, window=Window.from_slices(y, x))
            if not pixels.any():
                continue
            profile = {
                "driver": "GTiff", "count": 1, "dtype": pixels.dtype, "nodata": source.nodata, "crs": source.crs, "compress": "deflate",
                "height": pixels.shape[0], "width": pixels.shape[1], "transform": grid.affine(y.start, x.start),
                "tiled": True, "blockxsize": BLOCK_PIXELS, "blockysize": BLOCK_PIXELS,
            }  # fmt: skip
            with rasterio.open(folder / f"{region}.tif", "w", **profile) as tile:
                tile.write(pixels, 1)
            names.append(f"{region}.tif")
    (folder / "tiles.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return names
