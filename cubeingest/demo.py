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
from cubeingest.selection import Selection
from cubeingest.spec import CubeSpec, read_spec
from cubeingest.wording import counted

BLOCK_PIXELS = 240
"""Blocks of the tiles: one a tile, and a multiple of 16 as TIFF wants."""

LEVELS = 2
"""Overviews: a half and a quarter. The cube is so small that none would be needed."""

SEA = "#c9dbe6"
"""As in the spec's colours: 0 % of land."""


def run_demo(folder: Path, say: Callable[[str], None], on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Run the demo in ``folder``; what it made, as plain data. Running it again goes on where it stopped.

    What is whole already is said, and not done again. Of an ingest that was interrupted there is no picture yet. Raises :class:`CubeIngestError` if a step does not end as it should.
    """
    names, spec = _prepare(folder)
    spec_file, picture = folder / "land.yaml", folder / "land.png"
    say(f"tiles     {len(names)} GeoTIFFs of 10 degrees in {folder / 'tiles'}; tiles of open sea are not in the list")
    done = init_cube(spec)
    cube = Cube(done.store)
    made = "created" if done.action == "created" else "is there already"
    say(f"init      cube {made} at {folder / 'land.icechunk'}: {counted(cube.grid.n_regions, 'region')}")
    plan = cube.plan()
    say(
        f"plan      {counted(plan.tasks, 'task')}, {counted(plan.skipped, 'slot')} done already, {counted(len(plan.problems), 'problem')}"
    )
    report = cube.ingest(on_progress=on_progress)
    commit = "in one commit" if report.snapshot else "nothing to commit"
    say(
        f"ingest    {counted(report.written, 'slot')} written, {report.empty} empty, {len(report.failed)} failed, {commit} ({report.seconds:.1f} s)"
    )
    if report.signum is not None:
        say("interrupted: what is finished is committed, and the same command goes on")
        return {"store": done.store.uri, "spec": str(spec_file), "ingest": report.to_json()}
    status = cube.status()
    say(f"status    {status.done} done, {status.pending} pending, {status.absent} absent of {status.total}")
    if report.failed or status.pending:
        raise CubeIngestError(f"the demo's cube is not whole: see `cubeingest status --store {done.store.uri}`")
    made_now = {}
    if report.snapshot or not picture.exists():
        made_now = _check_and_draw(cube, picture, say)
    else:
        say(f"picture   {picture}; all was there already, and nothing was done again: remove {folder} to begin anew")
    return {"store": done.store.uri, "spec": str(spec_file), "picture": str(picture), "ingest": report.to_json(), "status": status.to_json(),
            **made_now}  # fmt: skip


def _check_and_draw(cube: Cube, picture: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The steps after the ingest, once something was written; the picture comes last, so that its being there says that they were done."""
    check = cube.verify()
    say(f"verify    {check.equal} of {counted(check.checked, 'slot')} equal their tiles, pixel for pixel")
    if check.different or check.missing:
        raise CubeIngestError(f"the demo's cube is not as its tiles: see `cubeingest verify --store {cube.store.uri}`")
    levels = cube.overviews(levels=LEVELS, workers=1)
    sizes = ", ".join(" x ".join(map(str, level["shape"])) for level in levels.levels)
    say(f"overviews {counted(len(levels.levels), 'coarser level')} to look at: {sizes} pixels")
    drawn = _drawn(cube, picture, say)
    return {"picture": drawn and str(drawn), "verify": check.to_json(), "overviews": levels.to_json()}


def _prepare(folder: Path) -> tuple[list[str], CubeSpec]:
    """Write the spec and cut the tiles, where they are not there yet: the tiles' names, and the spec."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        spec_file = folder / "land.yaml"
        with as_file(files("cubeingest") / "data") as data:
            shutil.copyfile(data / "land.yaml", spec_file)
            shutil.copyfile(data / "LICENSE.md", folder / "LICENSE.md")
            spec = read_spec(spec_file)
            if not (folder / "tiles" / "tiles.txt").exists():
                cut_tiles(data / "land.tif", spec.tiling, folder / "tiles")
        return (folder / "tiles" / "tiles.txt").read_text(encoding="utf-8").split(), spec
    except OSError as e:
        raise StoreError(
            f"the demo cannot write into {str(folder)!r} ({e.strerror or e}): give another folder, --keep DIR"
        ) from e


def _drawn(cube: Cube, path: Path, say: Callable[[str], None]) -> Path | None:
    """Draw the cube; where nothing can be drawn, say why. All else of the demo needs no extra."""
    try:
        check_drawing()
    except ExtraError as e:
        say(f"picture   none: {e}")
        return None
    draw(cube, path)
    say(f"picture   {path}")
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
