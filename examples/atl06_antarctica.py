"""Heights along a satellite's ground tracks become a map of Antarctica, cycle by cycle.

    pip install 'cubeingest[points]'
    python atl06_antarctica.py ice          # 174 granules in two steps, under a minute, and two pictures

MADE DATA, NOT MEASUREMENTS: the script writes granules in the layout of ICESat-2's ATL06 along tracks like ICESat-2's, over an ice sheet
that it makes up within the real coast. Archives like it: ATL06, ATL08, GEDI, CryoSat-2, any HDF5 with a group for each beam.

A granule is a file of points, and lies in many regions; `cubeingest plan` reads the coordinates once, and keeps beside the spec which part of
which granule lies where (`ice.catalog.parquet`). `groups` are the beams, `filter` says which points count, each variable is one
statistic of those in a cell, and all of them come of one reading. The second cycle arrives later: `ingest` again, and only that is done.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import shapely
import xarray as xr
from _tiles import fill_more, folder_argument, start_cube, verify_cube
from healpix_geo import nested
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pyproj import Transformer

import cubeingest as ci
from cubeingest.coast import coast_within, land_within
from cubeingest.look import save_picture

SPEC = """\
name: ice
grid:
  type: healpix
  order: 8                                # cells of 649 km2
  region_order: 3                         # regions of 1,024 cells
  ellipsoid: WGS84
  regions: {bbox: [-180, -90, 180, -60]}  # only these are in the arrays; without the key the whole globe is
axes:
  cycle: {values: [22, 23]}               # 91 days each
points:
  tiles: {glob: "granules/ATL06_*_????{cycle}11_*.h5"}
  groups: [gt1l, gt1r, gt2l, gt2r, gt3l, gt3r]
  coordinates: {x: land_ice_segments/longitude, y: land_ice_segments/latitude}
  columns:                                # the names that filter and statistics use
    h: land_ice_segments/h_li
    sigma: land_ice_segments/h_li_sigma
    quality: land_ice_segments/atl06_quality_summary
    dem: land_ice_segments/dem/dem_h      # what was known of the height before
  filter: quality == 0 and sigma < 1
variables:
  n: {dtype: uint32, fill_value: 0, aggregate: {count: h}}
  h: &metres
    dtype: float32
    fill_value: .nan
    aggregate: {mean: h, weights: 1 / sigma**2}
    attrs: {long_name: height of a made-up ice sheet, units: m, colormap: ["#1b3a5c", "#3f7ea6", "#9cc7d8", "#f4f1e4", "#d8b98a"]}
  h_std: {<<: *metres, aggregate: {std: h, ddof: 1}, attrs: {units: m}}
  above_dem:                              # a cell is seen at other places in each cycle: only what the slope is taken from can be compared
    dtype: float64
    fill_value: .nan
    aggregate: {mean: h - dem, weights: 1 / sigma**2}
    attrs: {units: m}
  above_dem_error: {dtype: float64, fill_value: .nan, aggregate: {sigma_of_mean: h - dem, weights: 1 / sigma**2}, attrs: {units: m}}
attrs: {source: "MADE DATA in the layout of ICESat-2 ATL06, not measurements"}
store: ./ice.icechunk
"""

BEAMS_M = {"gt1l": -3345, "gt1r": -3255, "gt2l": -45, "gt2r": 45, "gt3l": 3255, "gt3r": 3345}
"""How far to the right of the reference track each beam runs."""
TRACKS, REPEAT_DAYS, INCLINATION = 1387, 91, 92.0
EVERY_TRACK, EVERY_SEGMENT = 16, 150
"""The recipe has each 16th track, and each 150th of the segments of 20 m along it."""
EARTH_M = 6.371e6
FILL = np.float32(3.4028235e38)
EPOCH, FIRST_CYCLE = datetime(2018, 1, 1, tzinfo=UTC), datetime(2018, 10, 13, tzinfo=UTC)
POLAR = "EPSG:3031"


def ground_track(node: float, beam_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes and latitudes, from one crossing of 60 S over the southernmost point to the next, of a track that crosses the equator at ``node``."""
    step = 20 * EVERY_SEGMENT / EARTH_M
    u = np.arange(np.radians(240), np.radians(300), step)  # along the orbit from its node
    i = np.radians(INCLINATION)

    def places(u: NDArray[np.float64]) -> NDArray[np.float64]:
        turned = np.radians(node) - u * REPEAT_DAYS / TRACKS  # the earth has turned below it
        x, y, z = np.cos(u), np.cos(i) * np.sin(u), np.sin(i) * np.sin(u)
        return np.stack([x * np.cos(turned) - y * np.sin(turned), x * np.sin(turned) + y * np.cos(turned), z])

    at = places(u)
    right = np.cross(places(u + 1e-6) - at, at, axis=0)
    at += right / np.linalg.norm(right, axis=0) * (beam_m / EARTH_M)
    return np.degrees(np.arctan2(at[1], at[0])), np.degrees(
        np.arcsin(np.clip(at[2] / np.linalg.norm(at, axis=0), -1, 1))
    )


@dataclass(frozen=True)
class Segments:
    """What lies below a beam, where there is ice: places, how far along the track (m), height in cycle 22, and change from one cycle to the next."""

    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    along: NDArray[np.float64]
    h: NDArray[np.float64]
    change: NDArray[np.float64]


def make_ice() -> dict[int, dict[str, Segments]]:
    """Segments by track and beam, over an ice sheet that is made up: a plastic dome within the real coast, with undulations, and thinning where
    glaciers run into the Amundsen Sea.
    """
    land = shapely.unary_union([p for p in land_within((-3e6, -3e6, 3e6, 3e6), POLAR) if p.area > 1e12])
    land = land.buffer(5_000).simplify(20_000)  # without the cut along 180 degrees
    shapely.prepare(land)
    to_polar = Transformer.from_crs("EPSG:4326", POLAR, always_xy=True)

    def below(track: int, beam_m: float) -> Segments:
        lon, lat = ground_track(-360 * REPEAT_DAYS / TRACKS * track, beam_m)
        x, y = to_polar.transform(lon, lat)
        there = np.flatnonzero(shapely.contains_xy(land, x, y))
        x, y = x[there], y[there]
        inland = np.minimum(shapely.distance(shapely.points(x, y), land.boundary) / 1.1e6, 1)
        dome = (1 - (1 - inland) ** (4 / 3)) ** (3 / 8)  # Vialov's profile
        west = 1 / (1 + np.exp((x + 4e5) / 2e5))  # the western part is lower
        waves = 30 * np.sin(x / 6e4) * np.cos(y / 9e4) + 60 * np.sin((x + 2 * y) / 2.2e5)
        h = 3900 * (1 - 0.45 * west) * dome + waves * np.sqrt(inland)
        glaciers = np.exp(-(((x + 1.45e6) / 2.5e5) ** 2) - ((y + 4.5e5) / 3e5) ** 2)
        change = 0.5 * np.sin(x / 6e5) * np.cos(y / 8e5) * inland - 2 * glaciers
        return Segments(lon[there], lat[there], there * 20.0 * EVERY_SEGMENT, h, change)

    evenly = [k for k in range(TRACKS) if k * REPEAT_DAYS % TRACKS % EVERY_TRACK == 0]  # apart on the equator
    return {k: {beam: below(k, offset) for beam, offset in BEAMS_M.items()} for k in evenly}


def write_cycle(folder: Path, ice: dict[int, dict[str, Segments]], cycle: int) -> int:
    """Write a cycle's granules, a file a track, in ATL06's layout and names; how many."""
    (folder / "granules").mkdir(parents=True, exist_ok=True)
    for track, beams in ice.items():
        begin = FIRST_CYCLE + timedelta(days=REPEAT_DAYS * (cycle - 1 + track / TRACKS))
        rng = np.random.default_rng([cycle, track])
        name = f"ATL06_{begin:%Y%m%d%H%M%S}_{track + 1:04}{cycle:02}11_006_01.h5"
        with h5py.File(folder / "granules" / name, "w") as file:
            for beam, segments in beams.items():
                write_beam(file.create_group(f"{beam}/land_ice_segments"), segments, cycle, begin, rng)
    return len(ice)


def write_beam(group: Any, below: Segments, cycle: int, begin: datetime, rng: np.random.Generator) -> None:
    """The segments of one beam; a tenth of them is of poor quality, or missing, below clouds."""
    n = below.h.size
    sigma = rng.gamma(2, 0.03, n).astype("f4")
    cloudy = rng.random(n) < 0.1
    seen = below.h + below.change * (cycle - 22) + rng.normal(0, 1, n) * sigma
    group["longitude"], group["latitude"] = below.lon, below.lat
    group["delta_time"] = (begin - EPOCH).total_seconds() + below.along / 7000  # 7 km/s
    h_li = group.create_dataset("h_li", data=np.where(cloudy & (rng.random(n) < 0.5), FILL, seen).astype("f4"))
    h_li_sigma = group.create_dataset("h_li_sigma", data=sigma)
    dem_h = group.create_dataset("dem/dem_h", data=below.h.astype("f4"))
    for data in (h_li, h_li_sigma, dem_h):
        data.attrs["_FillValue"] = FILL
    group["atl06_quality_summary"] = cloudy.astype("i1")


def change(ds: xr.Dataset) -> xr.DataArray:
    """Metres that the surface rose from the first cycle to the second, in cells that both saw: plain xarray."""
    return ds["above_dem"].sel(cycle=23) - ds["above_dem"].sel(cycle=22)


def draw_change(dh: xr.DataArray, path: Path) -> None:
    """Each pixel of a polar map shows the cell that it lies in."""
    half, size = 2.75e6, 1100
    steps = np.linspace(-half, half, size)
    x, y = np.meshgrid(steps, -steps)
    lon, lat = Transformer.from_crs(POLAR, "EPSG:4326", always_xy=True).transform(x, y)
    cells = nested.lonlat_to_healpix(lon.ravel(), lat.ravel(), 8, ellipsoid="WGS84").astype("int64")
    ids = dh["cell_ids"].values
    at = np.minimum(np.searchsorted(ids, cells), ids.size - 1)
    pixels = np.where(ids[at] == cells, dh.values[at], np.nan).reshape(x.shape)
    figure = Figure(figsize=(9, 8.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("#ccd5dc")
    colours = axes.imshow(
        pixels, cmap="RdBu", vmin=-1, vmax=1, extent=(-half, half, -half, half), interpolation="nearest"
    )
    for line in coast_within((-half, -half, half, half), POLAR):
        axes.plot(*line.T, color="#30404c", linewidth=0.6)
    axes.set(xlim=(-half, half), ylim=(-half, half), xticks=[], yticks=[])
    axes.set_title("Height of cycle 23 less that of cycle 22", loc="left", fontsize=13, fontweight="bold")
    axes.set_xlabel("made data, not measurements", loc="left", color="#5f6b76")
    figure.colorbar(colours, ax=axes, label="m", shrink=0.7, extend="both")
    figure.savefig(path)


def look_with_xdggs(ds: xr.Dataset) -> None:
    """What the cube says of its cells is enough for xdggs: it finds the one at a place. Skipped where that is not installed."""
    try:
        import xdggs
    except ImportError:
        print("xdggs: not installed (pip install xdggs)")
        return
    found = xdggs.decode(ds, convention="zarr").dggs.sel_latlon(np.array([-86.0]), np.array([90.0]))
    print(f"xdggs:  86 S, 90 E lies in cell {int(found['cell_ids'].item())}, {found['h'].sel(cycle=22).item():.0f} m")


def main(folder: Path) -> ci.Cube:
    """Write a cycle, make the cube, write another, ingest again, draw both."""
    ice = make_ice()
    print(f"{write_cycle(folder, ice, 22)} granules of made data")
    cube = start_cube(folder, SPEC)
    fill_more(cube)
    print(f"{write_cycle(folder, ice, 23)} more")
    fill_more(cube)  # what is done is skipped
    verify_cube(cube)
    status = cube.status()
    print(f"status: {status.done} slots done, {status.pending} pending, {status.absent} absent: no track crosses them")
    save_picture(cube.show_map("h", cycle=22, bbox=(-180, -90, 180, -62)), folder / "atl06_antarctica.png")
    draw_change(change(cube.dataset()), folder / "atl06_change.png")
    look_with_xdggs(cube.dataset())
    return cube


if __name__ == "__main__":
    main(folder_argument())
