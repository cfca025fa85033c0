"""A spec is refused with the key that is wrong and the way to right it, or it means what it says."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import typer.main

import cubeingest.cli
from cubeingest.errors import GridError, SpecError
from cubeingest.spec import RESERVED_AXIS_NAMES, CubeSpec, builtin_specs, differences, read_spec, spec_from_json
from tests.conftest import SPEC

YEAR = "values: [2000, 2005]"
"""Of SPEC's axis; the other constants too are pieces of SPEC that tests replace."""
HREF = "tiles/{year}/{id}.tif"
TILES = '{list: "tiles/{year}.txt"}'
CHUNKS = "chunks: {year: 1, y: 50, x: 50}"
SHAPE = "shape: {y: 200, x: 250}"
DTYPE = "dtype: uint8\n    fill_value: 255"
ID = '"{top:02H}_{left:03H}"'

Read = Callable[..., CubeSpec]
Change = tuple[str, str]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read SPEC with pieces of its text replaced."""

    def call(*changes: Change) -> CubeSpec:
        text = SPEC
        for old, new in changes:
            assert old in text, f"{old!r} is not in the spec"
            text = text.replace(old, new)
        (tmp_path / "grid.yaml").write_text(text, encoding="utf-8")
        return read_spec(tmp_path / "grid.yaml")

    return call


def variable(text: str) -> Change:
    """Add a key to the variable."""
    return "    source:", f"    {text}\n    source:"


def dtype(name: str, fill: str) -> Change:
    return DTYPE, f"dtype: {name}\n    fill_value: {fill}"


# ---- the file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "match"), [
    (b"", r"a spec is a mapping with keys name, crs, grid, .*; got NoneType"),
    (b"# nothing\n", "a spec is a mapping with keys .*; got NoneType"),
    (b"- name: a\n", "a spec is a mapping with keys .*; got list"),
    (b"42", "a spec is a mapping with keys .*; got int"),
    (b"II*\x00\xff\xfe\x08", "grid.yaml' is no text: a spec is a YAML file"),
    (b"\x00\x01\x02", "not valid YAML: unacceptable character"),
    (b"name: a\nname: b\n", r"grid.yaml line 2, column 1: found duplicate key .name."),
    (b"name: a\ngrid:\n  id: a\n  id: b\n", r"line 4, column 3: found duplicate key .id."),
    (b"name: !!python/object/apply:os.system ['true']", "line 1, column 7: .*only plain YAML is read, tags are refused"),
    (b"name: !!python/name:os.system\n", "only plain YAML is read, tags are refused"),
    (b"name: !land glad\n", "line 1, column 7: .*tags are refused"),
    (b"name: x\n\tcrs: y\n", "line 2, column 1: .*indented by spaces, not by tabs"),
    (b"name: [\n", "line 2, column 1: expected the node content"), (b"a: b: c\n", "line 1, column 5: mapping values"),
    (b"name: a\n---\nname: b\n", "line 2, column 1: but found another document"),
    (b"attrs: &a {again: *a}\n", "recursi|refers to itself|nested"), (b"[" * 500, "recursi|nested"),
])  # fmt: skip
def test_file_that_is_no_spec_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "grid.yaml").write_bytes(content)
    with pytest.raises(SpecError, match=match):
        read_spec(tmp_path / "grid.yaml")


def test_path_without_a_spec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError,
        match=r"no spec file '.*none\.yaml'.*specs that come with cubeingest: atl06, esa-worldcover, glad-lclu",
    ):
        read_spec(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match=r"no spec file 'glad-lcul'; did you mean 'glad-lclu'\?"):
        read_spec("glad-lcul")
    with pytest.raises(SpecError, match="is a folder: name the YAML file in it"):
        read_spec(tmp_path)
    for uri in (f"file://{tmp_path}/none.yaml", "nowhere://bucket/grid.yaml"):
        with pytest.raises(SpecError, match=f"cannot read spec {uri!r}"):
            read_spec(uri)


# ---- keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "match"), [
    (("store:", "stroe:"), r"unknown key 'stroe'; did you mean 'store'\? \(known: name, crs, grid"),
    (("  shape:", "  shap:"), r"grid: unknown key 'shap'; did you mean 'shape'\?"),
    (("{x: 0, y: 20}", "{x: 0, y: 20, z: 0}"), r"grid\.origin: unknown key 'z' \(known: x, y\)"),
    (("  id:", "  dims: {lat: y, x: x}\n  id:"), r"grid\.dims: unknown key 'lat' \(known: y, x\)"),
    ((YEAR, "valeus: [2000]"), r"axes\.year: unknown key 'valeus'; did you mean 'values'\?"),
    (("fill_value:", "fillvalue:"), r"variables\.cover: unknown key 'fillvalue'; did you mean 'fill_value'\?"),
    (("nodata:", "no_data:"), r"variables\.cover\.source: unknown key 'no_data'; did you mean 'nodata'\?"),
    (("{list:", "{lst:"), r"variables\.cover\.source\.tiles: unknown key 'lst'; did you mean 'list'\?"),
    (("nodata: 255", "bands: {axs: year}"), r"source\.bands: unknown key 'axs'; did you mean 'axis'\?"),
    ((CHUNKS, "chunks: {yaer: 1, y: 50, x: 50}"), r"cover\.chunks: unknown dimension 'yaer'; did you mean 'year'\? \(dimensions: year, y, x\)"),
    (("name: small\n", ""), r"name: is missing"),
    (("  resolution: {x: 1/10, y: -1/10}\n", ""), r"grid\.resolution: is missing"),
    (("    dtype: uint8\n", ""), r"variables\.cover\.dtype: is missing"),
    ((CHUNKS, "chunks: {year: 1, x: 50}"), r"variables\.cover\.chunks\.y: is missing"),
    (("name: small", "name: 7"), r"name: must be a valid string; got 7"),
    ((SHAPE, "shape: {y: '200', x: 250}"), r"grid\.shape\.y: must be a valid integer; got '200'"),
    ((SHAPE, "shape: {y: 200.5, x: 250}"), r"grid\.shape\.y: must be a valid integer; got 200\.5"),
    ((SHAPE, "shape: {y: -200, x: 250}"), r"grid\.shape\.y: must be greater than 0; got -200"),
    ((SHAPE, "shape: [200, 250]"), r"grid\.shape: must be a mapping with keys y, x; got \[200, 250\]"),
    ((CHUNKS, "chunks: 50"), r"cover\.chunks: must be a valid dictionary; got 50"),
    (("attrs: {license: CC0-1.0}", "attrs: CC0"), r"attrs: must be a valid dictionary; got 'CC0'"),
    (("attrs: {license: CC0-1.0}", "cf_fill: 1"), r"cf_fill: must be a valid boolean; got 1"),
    (("attrs: {license: CC0-1.0}", "attrs: {logo: !!binary aGk=}"), r"logo"),
    ((YEAR, "values: 2000"), r"axes\.year\.values: must be a valid list; got 2000"),
    (("crs: EPSG:4326", "crs: banana"), r"crs: 'banana' is not a CRS: write an authority code such as EPSG:4326"),
    (("crs: EPSG:4326", "crs: 999999"), r"crs: 999999 is not a CRS"), (("crs: EPSG:4326", "crs: ''"), r"crs: '' is not a CRS"),
    (("crs: EPSG:4326", "crs: [1]"), r"crs.*: must be a valid (string|integer).*got \[1\]"),
])  # fmt: skip
def test_key_that_is_wrong_is_named(read: Read, change: Change, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        read(change)


def test_all_wrong_keys_are_named_at_once(read: Read, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read(("name: small\n", ""), ("y: 200", "y: no"), ("  shape:", "  shape:"), ("    dtype: uint8\n", ""))
    keys = [line.removeprefix(f"{tmp_path}/grid.yaml: ").split(":")[0] for line in str(caught.value).splitlines()]
    assert keys == ["name", "grid.shape.y", "variables.cover.dtype"]


# ---- grid, axes and names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "match"), [
    (("x: 0, y: 20", "x: abc, y: 20"), r"grid\.origin\.x: must be a number or a fraction such as 1/4000; got 'abc'"),
    (("x: 0, y: 20", "x: 1/0, y: 20"), r"grid\.origin\.x: must be a number or a fraction"),
    (("x: 0, y: 20", "x: .nan, y: 20"), r"grid\.origin\.x: must be a number or a fraction"),
    (("x: 0, y: 20", "x: true, y: 20"), r"grid\.origin\.x: must be a number or a fraction"),
    (("x: 1/10, y", "x: -1/10, y"), r"grid: resolution is \(x -1/10, y -1/10\): x must be above 0 and y not 0"),
    (("y: -1/10", "y: 0"), r"grid: resolution .* y not 0"),
    (("region: {y: 100", "region: {y: 300"), r"grid: region y is 300 of 200 pixels: it must be between 1 and the grid's shape"),
    (("  id:", "  dims: {y: x, x: x}\n  id:"), r"grid\.dims: y 'x' and x 'x' must be two different names"),
    (("  id:", "  dims: {y: spatial_ref, x: x}\n  id:"), r"grid\.dims.*spatial_ref"),
    (("  id:", "  dims: {y: cubeingest, x: x}\n  id:"), r"grid\.dims.*cubeingest"),
    ((ID, "'{left:03H}'"), r"grid: id '{left:03H}' must name a row \(iy, top or bottom\) and a column"),
    ((ID, "'{top:02H}'"), r"grid: id '{top:02H}' must name a row .* and a column \(ix, left or right\)"),
    ((ID, "'{topp}_{left}'"), r"grid: id .* names 'topp'; did you mean 'top'\?"),
    (("y: 20}", "y: 19.93}"), r"grid: id .* uses 'top', but region edges are not whole numbers .*: use iy and ix"),
    ((YEAR, "values: [2000, 2005, 2000]"), r"axes\.year: has duplicate values: 2000"),
    ((YEAR, "values: ['2000-01-01', '2000-01-01T00:00:00']"), r"axes\.year: has duplicate values: 2000-01-01"),
    ((YEAR, "values: ['2000-01-01T00:00:00+02:00']"), r"axes\.year: dates are UTC, without a time zone"),
    ((YEAR, "values: [2000, late]"), r"axes\.year: has values of several types: int, str"),
    ((YEAR, "values: [2000, 2000-01-01]"), r"axes\.year: has values of several types: datetime, int"),
    ((YEAR, "values: []"), r"axes\.year: has no values"),
    ((YEAR, "values: [true, false]"), r"axes\.year: values must be numbers, strings or dates; got True"),
    ((YEAR, "values: [2000], start: 2000"), r"axes\.year: give either values, or start and stop"),
    ((YEAR, "start: 2000"), r"axes\.year: give values, or start and stop \(stop included\) with step or freq"),
    ((YEAR, "start: 2000, stop: 2011, step: 5"), r"axes\.year: start 2000 does not reach stop 2011 \(which is included\) in whole steps of 5"),
    ((YEAR, "start: 2000, stop: 2010, step: 0"), r"axes\.year: start 2000 does not reach stop 2010 .* steps of 0"),
    ((YEAR, "start: 2010, stop: 2000, step: 5"), r"axes\.year: start 2010 does not reach stop 2000"),
    ((YEAR, "start: 2000, stop: 2010, freq: YS"), r"axes\.year: .*must be a date such as 2000-01-31; got 2000"),
    ((YEAR, "start: 2000-01-01, stop: 2000-06-01, freq: moon"), r"axes\.year: start '2000-01-01', .* freq 'moon': Invalid frequency"),
    ((YEAR, "start: 2000-01-01, stop: 2000-06-01"), r"axes\.year: .*freq"),
    ((YEAR, "start: 2000-01-01, stop: 2000-06-01, step: 2, freq: MS"), r"axes\.year: .*(step.*freq|freq.*step)"),
    ((YEAR, "start: 2000-01-15, stop: 2000-06-01, freq: MS"), r"axes\.year: start '?2000-01-15"),
    ((YEAR, "start: 2000-01-01T00:00:00+01:00, stop: 2000-06-01, freq: MS"), r"axes\.year: "),
    (("variables:", "variables: {}\nattributes:"), "unknown key 'attributes'"),
])  # fmt: skip
def test_grid_or_axis_that_cannot_be_is_refused(read: Read, change: Change, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        read(change)


@pytest.mark.parametrize("name", ["limit", "on_error", "commit-every", "json", "spatial_ref", "cubeingest", "y", "x", "id", "lat", "2x", "a b",
                                  "geobox", "source", "on_progress"])  # fmt: skip
def test_axis_name_that_is_taken_is_refused(read: Read, name: str) -> None:
    """By an option, by what the cube holds beside it, or by a parameter of ``Cube.ingest`` or of a source function."""
    changes = [
        ("  id:", "  dims: {y: lat, x: lon}\n  id:"),
        (f"  year: {{{YEAR}", f"  {name}: {{{YEAR}"),
        (CHUNKS, "chunks: {y: 50, x: 50}"),
    ]
    with pytest.raises(SpecError, match=rf"axes\.{name}: ('{name}' is|an axis name is letters)"):
        read(*changes, ("{year}", f"{{{name}}}"))


def test_axes_that_python_cannot_tell_apart_are_refused(read: Read) -> None:
    with pytest.raises(SpecError, match=r"axes\.the_day: 'the_day' and 'the-day' would be one keyword in Python"):
        read((f"  year: {{{YEAR}", f"  the-day: {{values: [1]}}\n  the_day: {{values: [1]}}\n  year: {{{YEAR}"))


@pytest.mark.parametrize("name", ["year", "x", "y", "spatial_ref", "cubeingest", "2x", "a b"])
def test_variable_name_that_is_taken_is_refused(read: Read, name: str) -> None:
    with pytest.raises(
        SpecError, match=f"variables.{name}: '{name}' cannot be a variable's name: it is taken, or not letters"
    ):
        read(("  cover:", f"  {name}:"))


def test_every_long_option_is_reserved() -> None:
    commands = typer.main.get_command(cubeingest.cli.app).commands  # type: ignore[attr-defined]
    options = {o.removeprefix("--") for c in commands.values() for p in c.params for o in p.opts if o.startswith("--")}
    assert {"store", "bbox", "limit", "part"} <= options
    assert (options | {"help", "version"}) - RESERVED_AXIS_NAMES == set()


def test_every_keyword_beside_a_selection_is_reserved() -> None:
    """Otherwise an axis of that name could not be selected there."""
    methods = [
        inspect.signature(m).parameters.values() for m in vars(cubeingest.Cube).values() if inspect.isfunction(m)
    ]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    keywords = {
        p.name.replace("_", "-")
        for parameters in methods
        if any(p.kind is p.VAR_KEYWORD for p in parameters)
        for p in parameters
        if p.kind in named
    }
    assert {"workers", "by-class", "on-progress"} <= keywords
    assert keywords - {"self"} - RESERVED_AXIS_NAMES == set()


# ---- variables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "match"), [
    ((CHUNKS, "chunks: {y: 30, x: 50}"), r"chunks\.y: 30 does not divide the region's 100 pixels, so two regions would share a chunk; 10, 20, 25 would"),
    ((CHUNKS, "chunks: {y: 50, x: 200}"), r"chunks\.x: 200 does not divide the region's 100 pixels"),
    ((CHUNKS, "chunks: {year: 0, y: 50, x: 50}"), r"chunks\.year: must be greater than 0; got 0"),
    (variable("shards: {y: 75, x: 100}"), r"shards\.y: 75 is not a multiple of the chunk 50"),
    (variable("shards: {y: 150, x: 100}"), r"shards\.y: 150 does not divide the region's 100 pixels"),
    (variable("axes: [yaer]"), r"axes: unknown axis 'yaer'; did you mean 'year'\?"),
    (variable("axes: []"), r"chunks: unknown dimension 'year' \(dimensions: y, x\)"),
    (variable("compressor: {name: zstdd}"), r"compressor: Zarr v3 has no codec {'name': 'zstdd'} \(zstd, blosc, gzip are common\)"),
    (variable("compressor: {name: zstd, lvl: 3}"), r"compressor: Zarr v3 has no codec .*'lvl'"),
    (variable("compressor: {name: bytes}"), r"compressor: .*'bytes' does not compress"),
    (variable("compressor: 3"), r"compressor: write {name: zstd, level: 3} or none; got 3"),
    (dtype("uint8", "256"), r"fill_value: 256 does not fit dtype uint8: give a whole number from 0 to 255"),
    (dtype("uint8", "-1"), r"fill_value: -1 does not fit dtype uint8"),
    (dtype("int16", "1.5"), r"fill_value: 1\.5 does not fit dtype int16: give a whole number from -32768 to 32767"),
    (dtype("uint8", "9" * 26), r"fill_value: 9+ does not fit dtype uint8: give a whole number from 0 to 255"),
    (dtype("uint8", ".nan"), r"fill_value: 'NaN' does not fit dtype uint8"), (dtype("int32", "'nan'"), r"fill_value: 'NaN' does not fit dtype int32"),
    (dtype("int64", "-.inf"), r"fill_value: '-Infinity' does not fit dtype int64"), (dtype("bool", "2"), r"fill_value: 2 does not fit dtype bool: give true or false"),
    (dtype("float32", "1e60"), r"fill_value: 1e\+60 does not fit dtype float32"),
    (dtype("float32", "--nan"), r"fill_value: '--nan' is not a number"), (dtype("uint8", "'255'"), r"fill_value: '255' is not a number"),
    (dtype("uint8", "null"), r"fill_value: None is not a number"), (dtype("uint8", "[1]"), r"fill_value: \[1\] is not a number"),
    (dtype("float32", "1" + "0" * 400), r"fill_value: 10+ does not fit dtype float32(?!: give true or false)"),
    (dtype("uint9", "0"), r"dtype: 'uint9' is not a number type; write uint8, int16, float32"), (dtype("S3", "0"), r"dtype: 'S3' is not a number type"),
    (dtype("complex64", "0"), r"dtype: 'complex64' is not"), (dtype("datetime64[s]", "0"), r"dtype: .* is not a number type"),
    (dtype("float128", "0"), r"dtype: 'float128' is not"), (dtype("'u1,('", "0"), r"dtype: 'u1,\(' is not"), (dtype("'i4,[,'", "0"), r"dtype: 'i4,\[,' is not"),
])  # fmt: skip
def test_variable_that_cannot_be_is_refused(read: Read, change: Change, match: str) -> None:
    with pytest.raises(SpecError, match=rf"variables\.cover\.({match})"):
        read(change)


@pytest.mark.parametrize(("name", "fill", "kept"), [
    ("float32", ".nan", math.nan), ("float32", "nan", math.nan), ("float64", "NaN", math.nan), ("float32", "-.inf", -math.inf),
    ("float32", "Infinity", math.inf), ("float32", "-9999", -9999.0), ("float32", "0.1", float(np.float32(0.1))), ("uint8", "255.0", 255),
    ("uint64", "18446744073709551615", 2**64 - 1), ("int64", "-9223372036854775808", -(2**63)), ("bool", "true", True), ("'>u2'", "7", 7),
])  # fmt: skip
def test_fill_value_is_kept_in_the_dtype(read: Read, name: str, fill: str, kept: float) -> None:
    cover = read(dtype(name, fill)).variable("cover")
    assert cover.fill_value == pytest.approx(kept, abs=0, rel=0, nan_ok=True)
    assert cover.np_fill.dtype == cover.np_dtype == np.dtype(name.strip("'>").replace("u2", "uint16"))
    assert type(cover.fill_value) is type(kept)


# ---- sources --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "match"), [
    ([(HREF, "tiles/{yaer}/{id}.tif")], r"href: unknown field {yaer}; did you mean 'year'\?"),
    ([(HREF, "tiles/{}/{id}.tif")], r"href: unknown field {}"),
    ([(HREF, "tiles/{year/{id}.tif")], r"href: 'tiles/{year/{id}\.tif' is not a valid pattern"),
    ([(HREF, "tiles/{year:%Y}/{id}.tif")], r"href: .*{year:%Y}"), ([(HREF, "tiles/{year}/{id:{width}}.tif")], r"href: .*{?width"),
    ([(TILES, '{list: "tiles/{yer}.txt"}')], r"tiles\.list: unknown field {yer}; did you mean 'year'\?"),
    ([(TILES, '{list: "{year}/{id}.txt"}')], r"tiles\.list: unknown field {id}(?!; did you mean 'id')"),
    ([(TILES, "{}")], r"tiles: give one of list, glob or table"), ([(TILES, "{list: a, glob: b}")], r"tiles: give one of list, glob or table"),
    ([(HREF, "tiles/{id}.tif"), (TILES, "{list: tiles.txt}")], r": nothing names the axis 'year', which has 2 values: put {year} into href or tiles"),
    ([(f"href: {HREF}", "href: {2000: 'a/{id}.tif', 2006: 'b/{id}.tif'}")], r"href: the keys 2000, 2006 are not values of one axis \(year\)"),
    ([(f"href: {HREF}", "href: {2000: 'a/{di}.tif', 2005: 'b/{id}.tif'}")], r"href: unknown field {di}; did you mean 'id'\?"),
    ([(f"href: {HREF}", "href: {2000: 3}")], r"href: write a pattern, or one pattern per axis value; got {'2000': 3}"),
    ([(f"href: {HREF}", "href: {}")], r"href: write a pattern"), ([(f"href: {HREF}", "href: [a.tif]")], r"href: write a pattern"),
    ([(f"href: {HREF}", f"href: {HREF}\n      file: all.tif")], r"file: one raster covers all regions, so href and tiles do not go with it"),
    ([(f"href: {HREF}", "file: '{year}.tif'")], r"file: one raster covers all regions, so href and tiles do not go with it"),
    ([(f"href: {HREF}", "band: 1"), (f"tiles: {TILES}", "missing: fail")], r": say where the tiles are: href, tiles or file"),
    ([(f"tiles: {TILES}", "missing: maybe")], r"missing: must be 'fail' or 'absent'; got 'maybe'"),
    ([(f"tiles: {TILES}", "band: 0")], r"band: must be greater than 0; got 0"),
    ([(f"tiles: {TILES}", "bands: {axis: band}")], r"bands\.axis: 'band' is not an axis of the variable"),
    ([(HREF, "s3://me:secret@b/{year}/{id}.tif")], r": leave user and password out of hrefs"),
    ([("nodata: 255", "nodata: water")], r"nodata: write a number or none; got 'water'"), ([("nodata: 255", "nodata: true")], r"nodata: write a number"),
    ([("nodata: 255", "tile: {y: 300, x: 10}")], r": .* is 300 of 200 pixels"),
    ([("nodata: 255", "id: '{left}'")], r": id '{left}' must name a row"),
])  # fmt: skip
def test_source_that_cannot_be_is_refused(read: Read, changes: list[Change], match: str) -> None:
    with pytest.raises(SpecError, match=rf"variables\.cover\.source(\.?{match})"):
        read(*changes)


def test_relative_hrefs_start_from_the_folder_of_the_spec(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = read()
    source = spec.variables[0].source
    assert source is not None
    assert source.pattern({"year": "2000"}) == f"{tmp_path}/tiles/{{year}}/{{id}}.tif"
    assert source.tiles == ("list", f"{tmp_path}/tiles/{{year}}.txt")
    assert spec.store == f"{tmp_path}/small.icechunk"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_spec("../grid.yaml").variables[0].source == source
    assert read_spec(f"file://{tmp_path}/grid.yaml").variables[0].source.href == {
        "": f"file://{tmp_path}/tiles/{{year}}/{{id}}.tif"
    }  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "href", ["/data/{year}/{id}.tif", "s3://b/{year}/{id}.tif", "gs://b/{year}/{id}.tif", "https://h/{year}/{id}.tif"]
)
def test_absolute_href_stays_as_it_is(read: Read, href: str) -> None:
    source = read((HREF, href)).variables[0].source
    assert source is not None
    assert source.href == {"": href}
    assert source.names_regions


def test_href_may_differ_by_axis_value(read: Read, tmp_path: Path) -> None:
    source = (
        read(
            (f"href: {HREF}", "href: {2000: 'a/{id}.tif', 2005: 's3://b/{id}.tif'}"),
            (f"tiles: {TILES}", "missing: absent"),
        )
        .variables[0]
        .source
    )
    assert source is not None
    assert source.href_axis == "year"
    assert [source.pattern({"year": y}) for y in ("2000", "2005")] == [f"{tmp_path}/a/{{id}}.tif", "s3://b/{id}.tif"]


# ---- what a good spec means -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "exact"), [
    ("1/12000", Fraction(1, 12000)), ("0.1", Fraction(1, 10)), ("'0.1'", Fraction(1, 10)), ("0.00030799387843671866", Fraction("0.00030799387843671866")),
    ("1e-3", Fraction(1, 1000)), ("30", Fraction(30)), ("5/3", Fraction(5, 3)),
])  # fmt: skip
def test_numbers_are_kept_exactly(read: Read, text: str, exact: Fraction) -> None:
    grid = read(("{x: 1/10, y: -1/10}", f"{{x: {text}, y: {text}}}"), (ID, "y{iy}_x{ix}")).grid
    assert (grid.resolution_x, grid.resolution_y) == (exact, exact)


def test_defaults_are_as_documented(read: Read) -> None:
    spec = read(
        (f"  id: {ID}\n", ""),
        (CHUNKS, "chunks: {y: 50, x: 50}"),
        ("attrs: {license: CC0-1.0}\nstore: ./small.icechunk\n", ""),
    )
    cover = spec.variable("cover")
    assert (spec.grid.id_template, spec.grid.dims_yx, spec.store, spec.attrs, spec.cf_fill) == (
        "y{iy}_x{ix}",
        ("y", "x"),
        None,
        {},
        False,
    )
    assert (cover.dims, cover.chunks, cover.shards, cover.write_shape) == (
        ("year", "y", "x"),
        (1, 50, 50),
        None,
        (1, 50, 50),
    )
    assert cover.compressor == {"name": "zstd", "level": 3}
    assert read(variable("compressor: none")).variable("cover").compressor is None
    with pytest.raises(GridError, match=r"no variable 'covr'; did you mean 'cover'\? \(variables: cover\)"):
        spec.variable("covr")


@pytest.mark.parametrize(("axis", "labels"), [
    ("start: 2000, stop: 2020, step: 5", ("2000", "2005", "2010", "2015", "2020")), ("start: 2000, stop: 2002", ("2000", "2001", "2002")),
    ("start: 2010, stop: 2000, step: -5", ("2010", "2005", "2000")), ("start: 0, stop: 1, step: 1/4", ("0.0", "0.25", "0.5", "0.75", "1.0")),
    ("start: 2000-01-01, stop: 2000-03-01, freq: MS", ("2000-01-01", "2000-02-01", "2000-03-01")), ("values: [red, nir]", ("red", "nir")),
    ("values: [2000-01-31, 2000-02-29T12:00:00]", ("2000-01-31", "2000-02-29T12:00:00")), ("values: [7]", ("7",)),
])  # fmt: skip
def test_axis_has_the_values_that_were_asked_for(read: Read, axis: str, labels: tuple[str, ...]) -> None:
    assert read((YEAR, axis)).grid.axis("year").labels == labels


def test_variables_may_have_axes_shards_and_blocks_of_their_own(read: Read) -> None:
    still = "  land: {dtype: float32, fill_value: .nan, axes: [], chunks: {y: 25, x: 50}, shards: {y: 50, x: 100}}\n"
    spec = read(
        (YEAR, "start: 2000, stop: 2004"),
        (CHUNKS, "chunks: {year: 2, y: 50, x: 50}"),
        ("variables:\n", "variables:\n" + still),
    )
    land, cover = spec.variables
    assert (land.dims, land.chunks, land.shards, land.source) == (("y", "x"), (25, 50), (50, 100), None)
    assert (spec.slot_shape(land), spec.shape_of(land)) == ((2, 3), (200, 250))
    assert (spec.slot_shape(cover), spec.shape_of(cover)) == ((3, 2, 3), (5, 200, 250))
    assert [spec.grid.axis("year").block_label(b) for b in range(3)] == ["2000..2001", "2002..2003", "2004"]


def test_chunks_may_be_named_y_and_x_whatever_the_dimensions(read: Read) -> None:
    cover = read(
        ("  id:", "  dims: {y: latitude, x: longitude}\n  id:"), (CHUNKS, "chunks: {y: 50, longitude: 25}")
    ).variable("cover")
    assert (cover.dims, cover.chunks) == (("year", "latitude", "longitude"), (1, 50, 25))


def test_one_region_for_all_may_have_any_chunks(read: Read) -> None:
    assert (
        read(
            ("region: {y: 100, x: 100}", "region: {y: 200, x: 250}"), (CHUNKS, "chunks: {y: 60, x: 70}")
        ).grid.n_regions
        == 1
    )


@pytest.mark.parametrize("changes", [
    (), (dtype("float32", ".nan"),), (variable("shards: {y: 100, x: 100}"), variable("compressor: {name: gzip, level: 5}")),
    ((YEAR, "start: 2000-01-01, stop: 2000-03-01, freq: MS"), ("x: 1/10", "x: 0.1")), (("license: CC0-1.0", "day: 2000-01-01, worst: .inf, 7: seven"),),
])  # fmt: skip
def test_json_gives_the_same_spec_back(read: Read, changes: tuple[Change, ...]) -> None:
    spec = read(*changes)
    again = spec_from_json(spec.to_json())
    assert (again.layout, again.grid, again.attrs, again.store, again.base) == (
        spec.layout,
        spec.grid,
        spec.attrs,
        spec.store,
        spec.base,
    )
    assert [v.source for v in again.variables] == [v.source for v in spec.variables]
    assert again.to_json() == spec.to_json()


def test_differences_name_the_keys(read: Read) -> None:
    changed = read((YEAR, "values: [2000, 2005, 2010]"), ("y: 20}", "y: 30}"))
    assert differences(read().layout, changed.layout) == [
        'grid.origin.y: "20" -> "30"',
        'axes.year.values: ["2000", "2005"] -> ["2000", "2005", "2010"]',
    ]


@pytest.mark.parametrize(("name", "regions", "ids"), [
    ("glad-lclu", 504, {"80N_180W": (0, 0), "70N_180W": (1, 0), "00N_000E": (8, 18), "50S_170E": (13, 35)}),
    ("hansen-gfc", 504, {"40N_080W": (4, 10), "10S_060W": (9, 12)}),
    ("jrc-gsw", 504, {"100E_10N": (7, 28), "0E_0N": (8, 18), "180W_80N": (0, 0), "10W_50S": (13, 17)}),
    ("esa-worldcover", 48 * 120, {"N45E006": (12, 62), "S03W003": (28, 59), "N81W180": (0, 0), "S60E177": (47, 119)}),
    ("ocr-conus-30m", 799, {"y5_x14": (5, 14), "y16_x46": (16, 46)}),
    ("atl06", 12 * 4**6, {"0": (0, 0), "49151": (0, 49151)}),
])  # fmt: skip
def test_spec_that_comes_with_the_package_is_found_by_name(
    name: str, regions: int, ids: dict[str, tuple[int, int]]
) -> None:
    spec = read_spec(name)
    assert (spec.name, spec.grid.n_regions) == (name, regions)
    assert {region: spec.grid.region_index(region) for region in ids} == ids
    assert spec_from_json(spec.to_json()).layout == spec.layout


def test_no_spec_of_the_package_is_untested() -> None:
    assert sorted(builtin_specs()) == ["atl06", "esa-worldcover", "glad-lclu", "hansen-gfc", "jrc-gsw", "ocr-conus-30m"]
