"""A spec drafted from tiles is the spec that they were made by: it is accepted as it is, and places every tile where it lies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from fractions import Fraction as F
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

import cubeingest as ci
from cubeingest.catalog import read_catalog
from cubeingest.hrefs import HrefPattern
from cubeingest.inference import infer_spec
from cubeingest.spec import CubeSpec, builtin_specs, read_spec
from tests.conftest import Ran, World, write_tile
from tests.objectstore import Bucket
from tests.website import Site, site

__all__ = ["site"]

Invoke = Callable[..., Ran]


def sparse(
    path: Path | str,
    left: float,
    top: float,
    resolution: float = 1 / 3600,
    shape: tuple[int, int] = (3600, 3600),
    **profile: Any,
) -> Path:
    """A GeoTIFF of any size that holds no pixels. ``top`` is where its first row starts."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = profile.pop("descriptions", None)
    transform = profile.pop("transform", Affine(resolution, 0, left, 0, -resolution, top))
    options: dict[str, Any] = {
        "driver": "GTiff", "dtype": "uint8", "count": 1, "crs": "EPSG:4326", "height": shape[0], "width": shape[1],
        "transform": transform, "SPARSE_OK": "TRUE", "tiled": True, "blockxsize": 1024, "blockysize": 1024,
    }  # fmt: skip
    with rasterio.open(path, "w", **{**options, **profile}) as tile:
        if names:
            tile.descriptions = names
    return path


def sparse_like(path: Path, spec: CubeSpec, region: str | None, dtype: str, **profile: Any) -> Path:
    """The tile of a region of ``spec`` (None: one raster for all of it)."""
    grid = spec.grid
    y, x = (slice(0, n) for n in grid.shape_yx) if region is None else grid.slices(*grid.region_index(region))
    shape = (y.stop - y.start, x.stop - x.start)
    return sparse(path, 0, 0, shape=shape, transform=grid.affine(y.start, x.start), dtype=dtype, **profile)


def placed(spec: CubeSpec) -> dict[str, set[tuple[Any, ...]]]:
    """Each href that the catalog of a spec finds, with the (variable, axis labels, region's exact bounds) that it feeds."""
    out: dict[str, set[tuple[Any, ...]]] = {}
    for name, rows in read_catalog(spec).rows.items():
        axes = spec.axes_of(spec.variable(name))
        for row in rows:
            labels = tuple(a.labels[i] for a, i in zip(axes, row.position, strict=True))
            bounds = spec.grid.exact_bounds(spec.grid.region_id(row.iy, row.ix))
            out.setdefault(row.href, set()).add((name, labels, spec.grid.region_id(row.iy, row.ix), bounds))
    return out


# ---- every spec that comes with the package ----------------------------------------------------------------------

REGIONS: dict[str, list[str | None]] = {
    "glad-lclu": ["70N_180W", "70N_170W", "00N_050E"],
    "hansen-gfc": ["40N_080W", "30N_080W", "00N_020E"],
    "jrc-gsw": ["100E_10N", "0E_0N", "90W_20S"],
    "esa-worldcover": ["N45E006", "N48E009", "S03W012"],
    "ocr-conus-30m": [None],
}
NODATA: dict[str, Any] = {"esa-worldcover": 0, "jrc-gsw": 255, "hansen-gfc/datamask": 0}
"""What the files declare."""


def write_tiles_of(name: str, folder: Path) -> dict[str, tuple[str, str | None]]:
    """Tiles of a spec's regions for two values of its axes, named as its hrefs: (variable, region) by path."""
    spec = read_spec(name)
    out = {}
    for v in spec.variables:
        assert v.source is not None
        for region in REGIONS[name]:
            for i in range(2 if v.axes else 1):
                position = dict.fromkeys(v.axes, i)
                pattern = v.source.pattern({a: spec.grid.axis(a).labels[n] for a, n in position.items()})
                assert pattern is not None
                href = HrefPattern(pattern, spec.grid).fill(position, region)
                path = folder / (href.partition("://")[2] or os.path.relpath(href, Path.cwd()))
                sparse_like(path, spec, region, v.dtype, nodata=NODATA.get(f"{name}/{v.name}", NODATA.get(name)))
                out[str(path)] = (v.name, region)
    return out


def test_there_is_a_round_trip_for_every_spec_of_tiles() -> None:
    """Points have no headers from which a grid could be told."""
    assert set(REGIONS) == {name for name in builtin_specs() if read_spec(name).points is None}


@pytest.mark.parametrize("name", sorted(REGIONS))
def test_round_trip_of_specs_that_come_with_the_package(name: str, tmp_path: Path, invoke: Invoke) -> None:
    folder = tmp_path / name
    files = write_tiles_of(name, folder)
    true = read_spec(name)
    ran = invoke("infer", ".", cwd=folder)
    assert (ran.code, ran.err) == (0, "")
    (folder / "grid.yaml").write_text(ran.out, encoding="utf-8")
    spec = read_spec(folder / "grid.yaml")
    assert (spec.grid.crs, spec.grid.resolution_x, spec.grid.resolution_y) == (
        true.grid.crs, true.grid.resolution_x, true.grid.resolution_y,
    )  # fmt: skip
    assert {v.dtype for v in spec.variables} == {v.dtype for v in true.variables}
    found = placed(spec)
    assert set(found) == set(files)
    if REGIONS[name] == [None]:
        assert (spec.grid.origin_x, spec.grid.origin_y, spec.grid.shape_yx) == (
            true.grid.origin_x,
            true.grid.origin_y,
            true.grid.shape_yx,
        )
        assert {len(where) for where in found.values()} == {spec.grid.n_regions}
    else:
        assert spec.grid.region_shape_yx == true.grid.region_shape_yx
        size = [
            n * r
            for n, r in zip(true.grid.region_shape_yx, (true.grid.resolution_y, true.grid.resolution_x), strict=True)
        ]
        assert ((spec.grid.origin_y - true.grid.origin_y) / size[0]).denominator == 1
        assert ((spec.grid.origin_x - true.grid.origin_x) / size[1]).denominator == 1
        for href, where in found.items():
            region = files[href][1]
            assert region is not None
            assert {w[2:] for w in where} == {(region, true.grid.exact_bounds(region))}
    assert invoke("init", "grid.yaml", cwd=folder).code == 0
    assert ci.open(str(spec.store)).plan().problems == ()


def test_nodata_that_files_declare_is_the_fill_value(tmp_path: Path) -> None:
    write_tiles_of("hansen-gfc", tmp_path)
    found = infer_spec(tmp_path, tmp_path)
    values = {name: v["fill_value"] for name, v in found.document["variables"].items()}
    assert values["datamask"] == 0, "another nodata makes another variable"
    assert {v for name, v in values.items() if name != "datamask"} == {255}
    assert any("255 is a guess: no nodata is declared" in note for note in found.notes)


# ---- the whole way ------------------------------------------------------------------------------------------------


def drafted(folder: Path, *tiles: Path | str) -> ci.Cube:
    """The cube of the spec that is drafted from tiles, ingested; nothing of it fails or overlaps without being told."""
    (folder / "drafted.yaml").write_text(ci.infer(tiles or [folder], folder), encoding="utf-8")
    cube = ci.init(folder / "drafted.yaml")
    report = cube.ingest()
    assert (report.failed, report.unfinished) == ([], 0)
    return cube


def paste(grid: ci.TilingGrid, files: Iterable[Path], fill: int, band: int = 1) -> np.ndarray:
    """What rasterio reads, pasted by the files' own coordinates; the first file wins."""
    out = np.full(grid.shape_yx, fill)
    for file in reversed(list(files)):
        with rasterio.open(file) as tile:
            top, left = (
                round((tile.bounds.top - float(grid.origin_y)) / tile.transform.e),
                round((tile.bounds.left - float(grid.origin_x)) / tile.transform.a),
            )
            pixels = tile.read(band)
            part = out[top : top + tile.height, left : left + tile.width]
            part[...] = pixels[: part.shape[0], : part.shape[1]]
    return out


def test_small_tiles_share_a_region_and_the_cube_holds_their_pixels(world: World) -> None:
    cube = drafted(world.folder, world.folder / "tiles")
    source = cube.spec.variables[0].source
    assert source is not None
    assert (source.tile_shape_yx, source.id_template, cube.grid.n_regions) == ((100, 100), "{top:02H}_{left:03H}", 1)
    data = cube.dataset()[cube.spec.variables[0].name]
    assert data.dims == ("year", "y", "x")
    for year in (2000, 2005):
        files = sorted((world.folder / "tiles" / str(year)).glob("*.tif"))
        assert np.array_equal(data.sel(year=year).values, paste(cube.grid, files, 255))


def test_tiles_that_share_a_row_with_the_next_are_placed_by_their_headers(tmp_path: Path) -> None:
    """As SRTM's 3601 x 3601 pixels of one degree: here 41 x 41."""
    rng = np.random.default_rng(4)
    half = 1 / 80
    files = [
        write_tile(
            tmp_path / f"N{lat}E{lon:03d}.tif",
            rng.integers(0, 99, (41, 41), dtype=np.int16),
            lon - half,
            lat + 1 + half,
            1 / 40,
            nodata=-1,
        )
        for lat in (45, 46)
        for lon in (6, 7, 8)
    ]
    found = infer_spec(tmp_path, tmp_path)
    assert any("lie 40 x 40 apart: neighbours share 1 row and 1 column" in note for note in found.notes)
    cube = drafted(tmp_path)
    grid = cube.grid
    assert (grid.origin_x, grid.origin_y, grid.shape_yx) == (6 - F(1, 80), 47 + F(1, 80), (80, 120))
    assert np.array_equal(cube.dataset()[cube.spec.variables[0].name].values, paste(grid, sorted(files), -1))


def test_bands_of_a_file_fill_an_axis_with_their_descriptions(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for lon in (6, 7):
        pixels = rng.integers(1, 99, (3, 50, 50), dtype=np.uint16)
        path = write_tile(tmp_path / f"N45E{lon:03d}.tif", pixels, lon, 46, 1 / 50, nodata=0)
        with rasterio.open(path, "r+") as tile:
            tile.descriptions = ("blue", "near infrared", "red")
    cube = drafted(tmp_path)
    data = cube.dataset()[cube.spec.variables[0].name]
    assert list(data["band"].values) == ["blue", "near_infrared", "red"]
    for band in (1, 2, 3):
        assert np.array_equal(
            data.isel(band=band - 1).values, paste(cube.grid, sorted(tmp_path.glob("*.tif")), 0, band)
        )


def test_dates_in_folders_and_words_in_names_become_axes(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    written = {}
    for month in (1, 2, 3):
        for band in ("B02", "B8A"):
            pixels = rng.integers(1, 99, (30, 30), dtype=np.uint8)
            written[month, band] = pixels
            write_tile(tmp_path / "in" / "2020" / f"{month:02d}" / f"scene_{band}.tif", pixels, 6, 46, 1 / 30, nodata=0)
    cube = drafted(tmp_path)
    data = cube.dataset()[cube.spec.variables[0].name]
    assert data.dims == ("time", "band", "y", "x")
    for (month, band), pixels in written.items():
        assert np.array_equal(data.sel(time=f"2020-{month:02d}-01", band=band).values, pixels)


def test_names_with_syntax_of_globs_and_patterns_are_only_names(tmp_path: Path) -> None:
    folder = tmp_path / "we[ir]d {year} 'x' # y"
    rng = np.random.default_rng(8)
    for name, left in (("rome", 6), ("a: b", 7), ("{c}", 8)):
        write_tile(folder / f"{name}.tif", rng.integers(1, 9, (20, 20), dtype=np.uint8), left, 46, 1 / 20, nodata=0)
    cube = drafted(tmp_path)
    assert np.array_equal(cube.dataset()[cube.spec.variables[0].name].values, paste(cube.grid, folder.glob("*.tif"), 0))


# ---- the command --------------------------------------------------------------------------------------------------


def test_output_is_written_once_with_hrefs_relative_to_it(world: World, invoke: Invoke) -> None:
    (world.folder / "specs").mkdir()
    ran = invoke("infer", "tiles", "--output", "specs/here.yaml")
    assert (ran.code, ran.out) == (0, "")
    text = (world.folder / "specs" / "here.yaml").read_text()
    assert f"href: {world.folder}/tiles/{{year}}/{{id}}.tif" in text, "not in the spec's folder, so absolute"
    assert set(placed(read_spec(world.folder / "specs" / "here.yaml"))) == {str(p) for p in world.folder.rglob("*.tif")}
    again = invoke("infer", "tiles", "--output", "specs/here.yaml")
    assert again.code == 2
    assert "'specs/here.yaml' is there already" in again.err
    assert (world.folder / "specs" / "here.yaml").read_text() == text
    assert invoke("infer", "tiles", "--output", "tiles.yaml").code == 0
    assert "href: tiles/{year}/{id}.tif" in (world.folder / "tiles.yaml").read_text()
    assert invoke("infer", "tiles", "--output", "nowhere/tiles.yaml").code == 2


def test_json_holds_the_spec_and_the_notes(world: World, invoke: Invoke) -> None:
    world.add_tile(2000, "20N_020E", crs="EPSG:32632")
    ran = invoke("infer", "tiles/*/*.tif", "--json")
    assert (ran.code, ran.err, set(ran.json)) == (0, "", {"spec", "notes"})
    assert (
        ran.json["notes"][0] == "1 of 8 tiles are in another CRS than EPSG:4326: tiles/2000/20N_020E.tif (EPSG:32632)"
    )
    (world.folder / "grid.yaml").write_text(json.dumps(ran.json["spec"]))
    assert len(placed(read_spec(world.folder / "grid.yaml"))) == 8, (
        "JSON is YAML; where a pattern names it, plan tells of the misfit"
    )
    printed = invoke("infer", "tiles/*/*.tif").out
    assert f"# {ran.json['notes'][0]}\n" in printed


def test_tiles_are_named_by_paths_globs_folders_and_lists(world: World, invoke: Invoke) -> None:
    whole = invoke("infer", "tiles").out
    (world.folder / "list.txt").write_text("# tiles\ntiles/2000\n\ntiles/2005/*.tif\n")
    for named in (
        ["tiles/*/*.tif"],
        ["tiles/**/*.tif"],
        ["tiles/2000", "tiles/2005"],
        ["@list.txt"],
        sorted(world.folder.rglob("*.tif")),
    ):
        assert invoke("infer", *named).out == whole
    assert ci.infer(world.folder / "tiles", world.folder) == whole


def refused(ran: Ran, *words: str) -> None:
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    for word in words:
        assert word in ran.err


def test_bad_input_is_refused_in_a_line(world: World, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    refused(invoke("infer", "nothing/*.tif"), "no file matches 'nothing/*.tif'")
    refused(invoke("infer", empty), "holds no raster")
    refused(invoke("infer", "gone.tif"), "the tile cannot be read", "gone.tif")
    refused(invoke("infer", "@gone.txt"), "cannot read list")
    refused(invoke("infer", "ftp://a/b.tif"), "known scheme")
    (empty / "list.txt").write_text("")
    refused(invoke("infer", f"@{empty}/list.txt"), "no tiles")
    (empty / "half.tif").write_bytes((world.folder / "tiles/2000/20N_000E.tif").read_bytes()[:100])
    refused(invoke("infer", empty), "the tile cannot be read", "half.tif")
    write_tile(empty / "plain.tif", np.zeros((9, 9), np.uint8), 0, 0, crs=None)
    refused(invoke("infer", empty / "plain.tif"), "no tile can be placed", "no CRS")
    write_tile(empty / "turned.tif", np.zeros((9, 9), np.uint8), 0, 0, transform=Affine(1, 0.1, 0, 0.1, -1, 0))
    refused(invoke("infer", empty / "turned.tif"), "no tile can be placed", "rotated")
    write_tile(empty / "waves.tif", np.zeros((9, 9), np.complex64), 0, 0)
    refused(invoke("infer", empty / "waves.tif"), "dtype that a cube can keep", "complex64")
    assert invoke("infer").code == 2


# ---- elsewhere ----------------------------------------------------------------------------------------------------


def test_tiles_on_a_web_server_are_named_without_their_signatures(world: World, site: Site) -> None:
    files = sorted((world.folder / "tiles").rglob("*.tif"))
    hrefs = [site.put(f"/glad/{p.parent.name}/{p.name}", p.read_bytes()) + "?sig=hush" for p in files]
    found = infer_spec(hrefs)
    (variable,) = found.document["variables"].values()
    assert variable["source"]["href"] == f"{site.url}/glad/{{year}}/{{id}}.tif"
    assert "hush" not in found.text
    assert any("signatures" in note for note in found.notes)


def test_tiles_in_a_bucket_are_found_by_a_glob(world: World, bucket: Bucket) -> None:
    for path in (world.folder / "tiles").rglob("*.tif"):
        bucket.put(f"tiles/{path.parent.name}/{path.name}", path)
    (world.folder / "grid.yaml").write_text(ci.infer(bucket.uri("tiles/*/*.tif"), world.folder))
    spec = read_spec(world.folder / "grid.yaml")
    assert set(placed(spec)) == {bucket.uri(k) for k in bucket.keys("tiles/")}
