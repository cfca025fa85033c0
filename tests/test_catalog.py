"""Every way to say which tiles there are, against what rasterio reads from the same files."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

import cubeingest as ci
from cubeingest.catalog import read_catalog
from tests.conftest import CORNERS, Ran, World, write_tile

HREF = "      href: tiles/{year}/{id}.tif\n"
TILES = '      tiles: {list: "tiles/{year}.txt"}\n'
BY_YEAR = "      href: {2000: 'tiles/2000/{id}.tif', 2005: 'tiles/2005/{id}.tif'}\n"
YEAR_AXIS = "year: {values: [2000, 2005]}"
THERE = {(2000, r) for r in ("20N_000E", "20N_010E", "10N_000E", "10N_010E", "10N_020E")} | {
    (2005, "20N_000E"),
    (2005, "10N_020E"),
}
"""(year, region) of each tile that ``world`` starts with."""


def found(world: World, variable: str = "cover") -> set[tuple[int, str]]:
    """(year, region) of each row of the catalog; every row's href must be the very file of that year and region."""
    spec = ci.read_spec(world.spec_file)
    rows = read_catalog(spec).rows[variable]
    out = {((2000, 2005)[row.position[0]], spec.grid.region_id(row.iy, row.ix)): row.href for row in rows}
    assert len(out) == len(rows)
    assert out == {(y, r): str(world.folder / "tiles" / str(y) / f"{r}.tif") for y, r in out}
    return set(out)


def paste(shape: tuple[int, ...], *tiles: tuple[int, Path]) -> np.ndarray:
    """The oracle: (position on the first axis, file) pasted by the files' own transforms; the first with data wins."""
    out = np.full(shape, 255, np.uint8)
    for position, path in tiles:
        with rasterio.open(path) as tile:
            x, y = round(tile.transform.c * 10), round((20 - tile.transform.f) * 10)
            target = out[position, y : y + tile.height, x : x + tile.width]
            pixels = tile.read(1)[: target.shape[0], : target.shape[1]]
            target[...] = np.where(target == 255, pixels, target)
    return out


def cover(cube: ci.Cube, variable: str = "cover") -> np.ndarray:
    return cube.dataset()[variable].values


# ---- lists ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "https://elsewhere.example/GLCLU/v2/{year}/{id}.tif",
        "gs://bucket/v2/{year}/{id}.tif",
        "/data/{year}/{id}.tif",
        "tiles/{year}/{id}.tif",
        "{year}/{id}.tif",
        "{id}.tif",
        "{id}",
        "\n# {id}.tif is here\n\n   {id}.tif  \n",
        "{id}.tif\r",
        "\ufeff{id}.tif",
    ],
    ids=["https", "gs", "path", "relative", "year", "name", "id", "comment", "crlf", "bom"],
)
def test_list_of_a_year_may_give_urls_paths_names_or_ids(world: World, line: str) -> None:
    for year in (2000, 2005):
        mark, text = line[: line.startswith("\ufeff")], line.lstrip("\ufeff")
        lines = [text.format(year=year, id=r) for y, r in sorted(THERE) if y == year]
        (world.folder / "tiles" / f"{year}.txt").write_bytes((mark + "\n".join(lines)).encode())
    assert found(world) == THERE


@pytest.mark.parametrize("line", ["https://elsewhere.example/v2/{year}/{id}.tif", "{year}/{id}.tif"])
def test_one_list_may_speak_of_all_years(world: World, line: str) -> None:
    world.write_spec((TILES, "      tiles: {list: all.txt}\n"))
    (world.folder / "all.txt").write_text("\n".join(line.format(year=y, id=r) for y, r in sorted(THERE)))
    assert found(world) == THERE


def test_list_alone_names_the_files_and_their_headers_tell_the_region(world: World) -> None:
    world.write_spec((HREF, ""), (TILES, '      tiles: {list: "tiles/{year}/list.txt"}\n'))
    for year in (2000, 2005):
        names = "".join(f"tiles/{year}/{r}.tif\n" for y, r in sorted(THERE) if y == year)
        (world.folder / "tiles" / str(year) / "list.txt").write_text(names)
    assert found(world) == THERE, "relative to the spec, wherever the list is"


@pytest.mark.parametrize("href", [HREF, BY_YEAR], ids=["one href", "an href a year"])
@pytest.mark.parametrize("line", ["{id}.tif", "{id}"])
def test_one_list_for_all_years_must_say_which_year_a_line_is_for(world: World, line: str, href: str) -> None:
    world.write_spec((HREF, href), (TILES, "      tiles: {list: all.txt}\n"))
    (world.folder / "all.txt").write_text("\n".join(line.format(id=r) for _, r in sorted(THERE)))
    with pytest.raises(ci.CatalogError, match="nothing says which axis value it is for"):
        found(world)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("2005/20N_000E.tif", "is for year 2005, but stands in the list of year 2000"),
        ("1999/20N_000E.tif", "'1999' is not a value of the axis 'year'"),
        ("https://elsewhere.example/v2/1999/20N_000E.tif", "'1999' is not a value of the axis 'year'"),
        ("90N_000E.tif", "no region '90N_000E'"),
        ("20N_005E.tif", "no region '20N_005E'"),
        ("readme.html", "fits no region.*20N_000E.tif"),
        ("20N_000E.tif", "region '20N_000E', year 2000"),
    ],
)
def test_line_that_fits_nowhere_is_refused_with_the_reason(world: World, line: str, match: str) -> None:
    with (world.folder / "tiles" / "2000.txt").open("a") as listed:
        listed.write(line)
    with pytest.raises(ci.CatalogError, match=match):
        found(world)


def test_year_that_the_axis_lacks_is_refused_in_a_list_of_all_years(world: World) -> None:
    world.write_spec((TILES, "      tiles: {list: all.txt}\n"))
    (world.folder / "all.txt").write_text("2000/20N_000E.tif\n1999/20N_000E.tif\n")
    with pytest.raises(ci.CatalogError, match="'1999' is not a value of the axis 'year'"):
        found(world)


def test_missing_list_is_said_by_init_and_stops_ingest(world: World, invoke: Callable[..., Ran]) -> None:
    (world.folder / "tiles" / "2005.txt").unlink()
    assert "2005.txt' is not there" in invoke("init", "grid.yaml").err
    assert invoke("ingest", "--year", 2000).code == 0
    refused = invoke("ingest")
    assert refused.code == 2
    assert "2005.txt' is not there" in refused.err


# ---- hrefs by axis value, globs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tiles",
    ["      tiles: {glob: '?/*.tif'}\n", "      tiles: {list: '{year}.txt'}\n", "      missing: absent\n"],
    ids=["glob", "list", "none"],
)
def test_href_may_differ_by_year(world: World, tiles: str) -> None:
    world.write_spec((HREF, "      href: {2000: 'a/v_{id}.tif', 2005: 'b/v_{id}.tif'}\n"), (TILES, tiles))
    pasted = []
    for year, folder in ((2000, "a"), (2005, "b")):
        (world.folder / folder).mkdir()
        (world.folder / f"{year}.txt").write_text("".join(f"{r}\n" for y, r in sorted(THERE) if y == year))
        for region in sorted(r for y, r in THERE if y == year):
            new = world.folder / folder / f"v_{region}.tif"
            pasted.append((int(year == 2005), (world.folder / "tiles" / str(year) / f"{region}.tif").rename(new)))
    cube = ci.init(world.spec_file)
    assert cube.ingest().written == 7
    assert np.array_equal(cover(cube), paste((2, 200, 250), *pasted))


@pytest.mark.parametrize(
    "source",
    [
        "      href: {2000: 'tiles/2000/{id}.tif'}\n      missing: absent\n",
        "      href: {2000: 'tiles/2000/{id}.tif'}\n      tiles: {list: 'tiles/{year}.txt'}\n",
        "      href: {2000: 'tiles/2000/10N_000E.tif'}\n",
        "      href: {2000: 'tiles/2000/{id}.tif'}\n      tiles: {glob: 'tiles/2000/*.tif'}\n",
    ],
)
def test_year_without_an_href_has_no_tiles(world: World, source: str) -> None:
    world.write_spec((HREF, source), (TILES, ""))
    (world.folder / "tiles" / "2005.txt").write_text("")
    assert {year for year, _ in found(world)} == {2000}


@pytest.mark.parametrize("href", [HREF, ""], ids=["names", "headers"])
@pytest.mark.parametrize("glob", ["tiles/{year}/*.tif", "tiles/{year}/**/?0N_*.tif"])
def test_glob_lists_what_is_there(world: World, href: str, glob: str) -> None:
    world.write_spec((HREF, href), (TILES, f'      tiles: {{glob: "{glob}"}}\n'))
    assert found(world) == THERE


@pytest.mark.parametrize(("tiles", "missing", "pending"), [("", "fail", 12), ("", "absent", 7)], ids=["fail", "absent"])
def test_without_tiles_every_region_is_expected(world: World, tiles: str, missing: str, pending: int) -> None:
    world.write_spec((TILES, f"{tiles}      missing: {missing}\n"))
    cube = ci.init(world.spec_file)
    assert (cube.status().pending, cube.status().absent) == (pending, 12 - pending)
    report = cube.ingest()
    assert (report.written, len(report.failed)) == (7, pending - 7)
    assert all(f"{f.region}.tif' is not there" in f.error for f in report.failed)
    assert report.exit_code == (1 if report.failed else 0)


@pytest.mark.parametrize("folder", ["two words", "Überblick 50%", "run[1]", "a{b}c", "a::b", "a#b?c=d", "~x", "x*"])
@pytest.mark.parametrize(
    "tiles", [TILES, "      tiles: {glob: 'tiles/{year}/*.tif'}\n", ""], ids=["list", "glob", "none"]
)
def test_folder_of_the_spec_may_have_any_name(tmp_path: Path, folder: str, tiles: str) -> None:
    """What is a pattern in an href or a glob is only a name in the folder that they are relative to."""
    (tmp_path / folder).mkdir()
    there = World(tmp_path / folder)
    for year in (2000, 2005):
        there.add_tile(year, "20N_010E")
    cube = ci.init(there.write_spec((TILES, tiles)))
    assert cube.ingest(region="20N_010E").written == 2
    assert np.array_equal(cover(cube)[0, :100, 100:200], there.read_tile(2000, "20N_010E"))


# ---- tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("where", ["header", "region", "bounds"])
def test_table_gives_href_and_year_and_may_give_the_place(world: World, kind: str, where: str) -> None:
    world.write_spec((HREF, ""), (TILES, f"      tiles: {{table: catalog.{kind}}}\n"))
    rows = []
    for year, region in sorted(THERE):
        left, top = CORNERS[region]
        right = left + (5 if region.endswith("020E") else 10)
        places = {"header": {}, "region": {"region": region}, "bounds": {"left": left, "bottom": top - 10.0, "right": right, "top": top}}  # fmt: skip
        rows.append({"href": f"tiles/{year}/{region}.tif", "year": year, "note": "x", **places[where]})
    if kind == "csv":
        pd.DataFrame(rows).to_csv(world.folder / "catalog.csv", index=False)
    else:
        pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
        pd.DataFrame(rows).to_parquet(world.folder / "catalog.parquet")
    assert found(world) == THERE
    if where != "header":  # the table's word is enough: no file is opened for it
        for path in (world.folder / "tiles").glob("*/*.tif"):
            path.write_bytes(b"no raster")
        assert found(world) == THERE


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("href\ntiles/2000/20N_000E.tif\n", "has no column 'year' .columns: href"),
        ("url,year\na.tif,2000\n", "has no column 'href'"),
        ("href,year\na.tif,1999\n", "href 'a.tif': axis 'year' has no value '1999'"),
        ("href,year,region\na.tif,2000,90N_000E\n", "href 'a.tif': no region '90N_000E'"),
        ("href,year,left,bottom,right,top\na.tif,2000,0.5,10,10.5,20.04\n", "href 'a.tif': 0.4 px north"),
        ("href,year,region\na.tif,2000,20N_000E\nb.tif,2000,20N_000E\n", "two tiles for region '20N_000E', year 2000"),
        ("", "cannot read table"),
    ],
)
def test_table_that_does_not_fit_is_refused_with_the_row(world: World, text: str, match: str) -> None:
    world.write_spec((HREF, ""), (TILES, "      tiles: {table: catalog.csv}\n"))
    (world.folder / "catalog.csv").write_text(text)
    with pytest.raises(ci.CatalogError, match=match):
        found(world)


# ---- tiles that are not the regions ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mosaic_{year}.tif", "mosaic.tif"])
def test_one_raster_may_cover_all_regions(world: World, name: str) -> None:
    one_year = "{year}" not in name
    changes = [(YEAR_AXIS, "year: {values: [2000]}")] if one_year else []
    world.write_spec((HREF, f"      file: {name}\n"), (TILES, ""), *changes)
    # It begins inside the first regions and reaches past the grid's right end.
    years = [2000] if one_year else [2000, 2005]
    paths = [world.folder / name.format(year=y) for y in years]
    for path in paths:
        write_tile(path, world.rng.integers(0, 200, (170, 300), dtype=np.uint8), left=1, top=17)
    cube = ci.init(world.spec_file)
    assert cube.ingest().written == 6 * len(years)
    assert np.array_equal(cover(cube), paste((len(years), 200, 250), *enumerate(paths)))
    assert cube.ingest().skipped == 6 * len(years)


@pytest.mark.parametrize(
    "source",
    [
        HREF.replace("{id}", "t{id}")
        + "      tile: {y: 40, x: 50}\n      id: '{iy:02d}-{ix}'\n      missing: absent\n",
        "      tiles: {glob: 'tiles/{year}/t*.tif'}\n",
    ],
    ids=["names", "headers"],
)
def test_several_small_tiles_feed_one_region(world: World, source: str) -> None:
    world.write_spec((HREF, source), (TILES, ""))
    paths = []
    for iy, ix in itertools.product(range(5), range(5)):
        if (iy, ix) == (1, 1) or ix == 4:
            continue  # one is missing in the first region; the last column has none at all
        path = world.folder / "tiles" / "2000" / f"t{iy:02d}-{ix}.tif"
        paths.append(write_tile(path, world.rng.integers(0, 200, (40, 50), dtype=np.uint8), ix * 5, 20 - iy * 4))
    cube = ci.init(world.spec_file)
    assert {p.kind for p in cube.plan().problems} == {"gap", "none"}
    assert cube.ingest().written == 4
    assert np.array_equal(cover(cube), paste((2, 200, 250), *[(0, p) for p in paths]))
    # t02-0 lies across the edge of two regions: both are filled again when it changes.
    write_tile(world.folder / "tiles" / "2000" / "t02-0.tif", np.full((40, 50), 7, np.uint8), 0, 12)
    report = cube.ingest()
    assert (report.written, report.skipped) == (2, 2)
    assert np.array_equal(cover(cube), paste((2, 200, 250), *[(0, p) for p in paths]))


def test_first_of_two_overlapping_tiles_wins_where_it_has_data_and_plan_says_so(world: World) -> None:
    world.write_spec((HREF, ""), (TILES, '      tiles: {glob: "tiles/{year}/?.tif"}\n'))
    paths = []
    for i, name in enumerate("abc"):  # 51 columns each, the last one shared with the next tile
        pixels = world.rng.integers(0, 200, (100, 51), dtype=np.uint8)
        pixels[30:40, -1] = 255  # nodata: there the second tile shows
        paths.append(write_tile(world.folder / "tiles" / "2000" / f"{name}.tif", pixels, i * 5, 20))
    cube = ci.init(world.spec_file)
    assert [(p.region, p.href, p.message) for p in cube.plan().problems if p.kind == "overlap"] == [
        (region, str(second), f"shares 100 pixels with {str(first)!r}, which comes first and wins")
        for region, first, second in zip(("20N_000E", "20N_010E"), paths, paths[1:], strict=False)
    ]
    assert cube.ingest().written == 2
    assert np.array_equal(cover(cube), paste((2, 200, 250), *[(0, p) for p in paths]))


def test_year_without_tiles_is_fill_value_in_a_chunk_that_spans_years(world: World) -> None:
    world.write_spec((HREF, ""), (TILES, "      tiles: {glob: 'tiles/{year}/?.tif'}\n"), ("{year: 1,", "{year: 2,"))
    paths = [world.folder / "tiles" / "2000" / f"{name}.tif" for name in "ab"]
    for path in paths:  # both cover the region whole
        write_tile(path, world.pixels("20N_000E"), 0, 20)
    cube = ci.init(world.spec_file)
    assert cube.ingest().written == 1
    assert np.array_equal(cover(cube), paste((2, 200, 250), *[(0, p) for p in paths]))


# ---- bands and variables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_chunk", [1, 2, 4])
def test_bands_of_one_file_fill_a_band_axis(world: World, per_chunk: int) -> None:
    world.write_spec(
        (YEAR_AXIS, f"{YEAR_AXIS}\n  band: {{values: [red, green, blue, nir]}}"),
        ("{year: 1,", f"{{year: 1, band: {per_chunk},"),
        (TILES, TILES + "      bands: {axis: band}\n"),
    )
    pixels = {}
    for year, region in sorted(THERE):
        pixels[year, region] = np.stack([world.pixels(region) for _ in range(4)])
        world.add_tile(year, region, pixels[year, region])
    world.add_tile(2005, "20N_000E", pixels[2005, "20N_000E"][:3])
    cube = ci.init(world.spec_file)
    report = cube.ingest()
    assert (report.written, len(report.failed)) == (7 * 4 // per_chunk - 1, 1)
    assert "has no band 4: it has 3" in report.failed[0].error
    data = cube.dataset()["cover"]
    assert data.dims == ("year", "band", "y", "x")
    for (year, region), bands in pixels.items():
        y, x = cube.grid.slices(*cube.grid.region_index(region))
        if (year, region) != (2005, "20N_000E"):
            assert np.array_equal(data.sel(year=year)[:, y, x].values, bands)
    assert (data.sel(year=2005, band="nir")[:100, :100].values == 255).all()


EXTRA = """\
  height:
    dtype: int16
    fill_value: -9999
    axes: []
    chunks: {y: 100, x: 100}
    source: {href: "height/{id}.tif", missing: absent}
  quality:
    dtype: uint8
    fill_value: 0
    chunks: {y: 20, x: 25}
    source: {href: "quality/{year}/{id}.tif", missing: absent}
attrs:"""


def test_variable_without_axes_lies_beside_those_with_a_year(world: World) -> None:
    """And two variables share the grid, each with chunks, tiles and fill value of its own."""
    world.write_spec(("attrs:", EXTRA))
    height = world.rng.integers(-500, 9000, (100, 100), dtype=np.int16)
    height[:9] = -1  # nodata of the file
    write_tile(world.folder / "height" / "10N_010E.tif", height, 10, 10, nodata=-1)
    quality = world.rng.integers(1, 9, (100, 100), dtype=np.uint8)
    write_tile(world.folder / "quality" / "2005" / "20N_000E.tif", quality, 0, 20)
    write_tile(
        world.folder / "quality" / "2005" / "20N_010E.tif", quality * 0, 10, 20
    )  # valid zeros: they look like fill
    cube = ci.init(world.spec_file)
    assert (cube.status().total, cube.status().pending) == (12 + 6 + 12, 7 + 1 + 2)
    report = cube.ingest(year=2005)
    assert (report.written, [(f.variable, f.region) for f in report.failed]) == (4, [("quality", "20N_010E")])
    assert cube.ingest(year=2000).written == 5
    ds = cube.dataset()
    assert ds["height"].dims == ("y", "x")
    assert np.array_equal(ds["height"][100:, 100:200].values, np.where(height == -1, -9999, height))
    assert (ds["height"][:100].values == -9999).all()
    assert np.array_equal(ds["quality"].sel(year=2005)[:100, :100].values, quality)
    assert not ds["quality"].sel(year=2000).values.any()
    assert cube.status(variable="height").done == 1
    assert cube.ingest(variable=["height", "cover"]).skipped == 8
