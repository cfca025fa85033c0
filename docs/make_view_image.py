"""Make the picture of docs/view.md: a real viewer in a real browser, of the vegetation of examples/ndvi_series.py.

    uv run python docs/make_view_image.py [FILE]

Needs Chromium on PATH, playwright, and earthpy (see the example).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "examples"))

SIZE = 1200, 750

POINT = -105.5526, 40.3514
"""A valley meadow: Beaver Meadows."""

NDVI = """\
name: vegetation
crs: EPSG:4326
grid:
  origin: {x: -105.9066005603556, y: 40.54768153576429}
  resolution: {x: 0.0015, y: -0.0015}
  shape: {y: 256, x: 256}
  region: {y: 128, x: 128}
axes:
  time: {start: 2021-01-01, stop: 2021-12-01, freq: MS}
variables:
  ndvi: {dtype: float32, fill_value: .nan, chunks: {time: 1, y: 128, x: 128}, attrs: {long_name: vegetation (NDVI), colormap: YlGn, valid_min: 0, valid_max: 0.8}}
  elevation: {dtype: float32, fill_value: .nan, axes: [], chunks: {y: 128, x: 128}, attrs: {long_name: elevation, units: m}}
store: ./vegetation.icechunk
"""


def make_cube(folder: Path) -> Any:
    """The example's months as NDVI, and its elevation."""
    import ndvi_series

    import cubeingest as ci

    season = ndvi_series.main(folder / "season").dataset(chunks={})
    (folder / "grid.yaml").write_text(NDVI, encoding="utf-8")
    cube = ci.init(folder / "grid.yaml")

    def part(geobox: Any, **axes: Any) -> Any:
        box = geobox.extent.boundingbox
        return season.sel(x=slice(box.left, box.right), y=slice(box.top, box.bottom), **axes).load()

    def ndvi(geobox: Any, time: Any) -> Any:
        bands = part(geobox, time=time)["reflectance"].astype("float32")
        red, nir = (bands.sel(band=band).values for band in ("red", "nir"))
        with np.errstate(invalid="ignore"):
            return np.where((red > 0) & (nir > 0), np.clip((nir - red) / (nir + red), 0, None), np.nan).astype(
                np.float32
            )

    cube.ingest(source=ndvi, variable="ndvi", workers=1)
    cube.ingest(source=lambda geobox: part(geobox)["elevation"].values, variable="elevation", workers=1)
    cube.tag("v1.0")
    return cube


def take(url: str, file: Path) -> None:
    """A picture of the page at ``url``."""
    from playwright.sync_api import sync_playwright

    browser = next(p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n)))
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme="light")
        page.goto(url)
        page.wait_for_selector("body[data-shown]:not(.busy)")
        page.wait_for_selector("#panel .value")
        page.wait_for_selector("#legend .ramp")
        page.mouse.move(700, 300)
        page.screenshot(path=file)
        chromium.close()


def shrink(file: Path) -> None:
    """Fewer colours, rare ones kept, so that the file is small."""
    from PIL import Image

    picture = Image.open(file).convert("RGB")
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "images" / "view.png"
    with tempfile.TemporaryDirectory() as folder:
        cube = make_cube(Path(folder))
        with cube.view() as viewer:
            lon, lat = POINT
            take(f"{viewer.url}#time=2021-07-01&at=-105.70,40.36,1.75&point={lon},{lat}", file)
    shrink(file)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")  # noqa: T201


if __name__ == "__main__":
    main()
