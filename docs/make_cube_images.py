"""Make the pictures of the demo's cube and of the recipes: ``python docs/make_cube_images.py [NAME ...]``, into docs/images.

Each is what a command that a reader can type has drawn, made smaller. The page of a cube needs Chromium on PATH, and playwright.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"

WIDTHS = {
    "demo": 1446, "pictures-grid": 1200, "pictures-map": 1100, "pictures-status": 1100, "points-change": 800, "points-height": 900,
    "points-places": 1000, "analyze-series": 1152, "report": 1280,
}  # fmt: skip
"""Pixels, by picture."""

THIRD = "-30 -40 60 80"
"""A box that holds a part of the demo's tiles: Africa and Europe."""

REGION = "60N_000E"
"""That the page shows: the North Sea."""


def run(words: str, folder: Path) -> None:
    """A command as it is typed in a folder, with the Python of this script."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(shlex.split(words), cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)  # noqa: S603  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{words}: {done.stderr}")


@functools.cache
def scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="cube-images-"))


@functools.cache
def demo() -> Path:
    run("cubeingest demo --keep demo", scratch())
    return scratch() / "demo"


@functools.cache
def recipe(name: str) -> Path:
    """The folder of a recipe of ``examples/`` that has been run."""
    folder = scratch() / name
    folder.mkdir()
    run(f"python {shlex.quote(str(ROOT / 'examples' / name))}.py .", folder)
    return folder


def draw_demo() -> Path:
    return demo() / "land.png"


def draw_status() -> Path:
    run("cubeingest init land.yaml --store part.icechunk", demo())
    run(f"cubeingest ingest --store part.icechunk --bbox {THIRD}", demo())
    run("cubeingest show status --store part.icechunk --output status.png", demo())
    return demo() / "status.png"


def draw_grid() -> Path:
    import cubeingest as ci
    from cubeingest.look import save_picture

    save_picture(
        ci.show_grid(ci.read_spec("ocr-conus-30m"), bbox=(-109.06, 36.99, -102.04, 41.0)), scratch() / "grid.png"
    )
    return scratch() / "grid.png"


def draw_map() -> Path:
    folder = recipe("years_and_patterns")
    run("cubeingest show map --year 2021 --store antilles.icechunk --output map.png", folder)
    return folder / "map.png"


def draw_series() -> Path:
    folder = recipe("netcdf_months")
    places = "--at 140 35 --at -65 45 --at 75 -50"
    run(
        f'cubeingest compute series {places} --expr "sqrt(uwnd**2 + vwnd**2)" --store jet.icechunk --output series.png',
        folder,
    )
    return folder / "series.png"


def draw_page() -> Path:
    """The demo's page in a browser, with one region selected; its paths are shown as if it lay in /data/demo."""
    from playwright.sync_api import sync_playwright

    run("cubeingest status --html report.html --store land.icechunk", demo())
    page_file, file = demo() / "report.html", demo() / "report.png"
    page_file.write_text(page_file.read_text(encoding="utf-8").replace(str(demo()), "/data/demo"), encoding="utf-8")
    browser = next(p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n)))
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": WIDTHS["report"], "height": 935}, color_scheme="light")
        page.goto(f"{page_file.as_uri()}#region={REGION}&kind=pixels")
        page.wait_for_selector("#panel canvas, #panel img")
        page.screenshot(path=file)
        chromium.close()
    return file


PICTURES: dict[str, Callable[[], Path]] = {
    "demo": draw_demo,
    "pictures-status": draw_status,
    "pictures-grid": draw_grid,
    "pictures-map": draw_map,
    "points-height": lambda: recipe("atl06_antarctica") / "atl06_antarctica.png",
    "points-change": lambda: recipe("atl06_antarctica") / "atl06_change.png",
    "points-places": lambda: recipe("places") / "places.png",
    "analyze-series": draw_series,
    "report": draw_page,
}


def keep(drawn: Path, file: Path, width: int) -> None:
    """A picture made smaller, with 256 colours, rare ones kept."""
    with Image.open(drawn) as picture:
        small = picture.convert("RGBA")
    ground = Image.new("RGBA", small.size, "white")
    small = Image.alpha_composite(ground, small)
    if small.width > width:
        small = small.resize((width, round(small.height * width / small.width)), Image.Resampling.LANCZOS)
    small.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    for name in sys.argv[1:] or PICTURES:
        keep(PICTURES[name](), IMAGES / f"{name}.png", WIDTHS[name])
        print(f"{name}: {(IMAGES / f'{name}.png').stat().st_size / 1000:.0f} kB")  # noqa: T201
    if scratch.cache_info().currsize:
        shutil.rmtree(scratch())


if __name__ == "__main__":
    main()
