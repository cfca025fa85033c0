"""What is read from names, pixel sizes and headers: snapping, ids, axes, layouts, and what is said of what does not fit."""

from __future__ import annotations

import math
from datetime import date, datetime
from fractions import Fraction as F
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import example, given
from hypothesis import strategies as st

from cubeingest.inference import Inferred, infer_spec
from cubeingest.inference.document import axis_document
from cubeingest.inference.snap import number, simplest_between, snap_edge, snap_resolution
from cubeingest.spec import flow_text, read_spec
from tests.conftest import write_tile
from tests.test_infer import placed, sparse

# ---- numbers ------------------------------------------------------------------------------------------------------


@given(p=st.integers(1, 1000), q=st.integers(1, 1000), noise=st.floats(-1e-10, 1e-10), pixels=st.integers(1, 100_000))
@example(p=1, q=4000, noise=-4e-11, pixels=40000)
@example(p=1, q=12000, noise=1e-10, pixels=36000)
def test_rational_comes_back_exact_through_noise(p: int, q: int, noise: float, pixels: int) -> None:
    assert snap_resolution(p / q * (1 + noise), pixels) == F(p, q)


@pytest.mark.parametrize(("size", "pixels", "meant"), [
    (0.00025, 40000, F(1, 4000)), (0.00024999999999, 40000, F(1, 4000)), (0.000277777778, 3601, F(1, 3600)),
    (0.0002777778, 3601, F(1, 3600)), (8.333333333333333e-05, 36000, F(1, 12000)), (10.0, 10980, F(10)), (2.5, 1000, F(5, 2)),
    (29.999999999999996, 7000, F(30)), (1000.0, 10, F(1000)),
    (0.00030799387843671866, 208881, F("0.00030799387843671866")), (463.3127165279165, 2400, F("463.3127165279165")),
    (0.00026949458523585647, 30000, F("0.00026949458523585647")), (4.77731426716, 256, F("4.77731426716")),
])  # fmt: skip
def test_pixel_size_is_the_rational_that_was_meant_or_the_decimal_that_it_is(
    size: float, pixels: int, meant: F
) -> None:
    assert snap_resolution(size, pixels) == meant


@given(low=st.fractions(min_value=F(1, 10**6), max_value=10**6), width=st.fractions(min_value=F(1, 10**9), max_value=1))
def test_simplest_rational_lies_in_its_interval_and_none_has_a_smaller_denominator(low: F, width: F) -> None:
    found = simplest_between(low, low + width)
    assert low <= found <= low + width
    if found.denominator < 200:
        assert all(math.ceil(low * q) > (low + width) * q for q in range(1, found.denominator))


@pytest.mark.parametrize(("edge", "resolution", "meant"), [
    (-180.00000000000003, F(1, 4000), F(-180)), (5.999861111111111, F(1, 3600), F(43199, 7200)), (399960.0, F(10), F(399960)),
    (-128.3875562194317, F("0.00030799387843671866"), F("-128.3875562194317")), (7.00000000000001, F("0.000123456789"), F(7)),
    (0.3, F(1), F("0.3")),
])  # fmt: skip
def test_edges_lie_on_pixels_or_are_the_decimals_that_they_are(edge: float, resolution: F, meant: F) -> None:
    assert snap_edge(F(edge), resolution) == meant


@pytest.mark.parametrize(("value", "written"), [
    (F(10), "10"), (F(1, 4000), "1/4000"), (F(-1, 10), "-1/10"), (F(5, 2), "2.5"), (F(3, 40000), "3/40000"), (F(43199, 7200), "43199/7200"),
    (F("0.00030799387843671866"), "0.00030799387843671866"), (F("399960.25"), "399960.25"),
])  # fmt: skip
def test_numbers_are_written_as_a_person_would(value: F, written: str) -> None:
    assert str(number(value)) == written


@given(st.recursive(
    st.text(max_size=8) | st.integers() | st.floats(allow_infinity=False) | st.dates(date(1900, 1, 1)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3), max_leaves=5,
))  # fmt: skip
def test_yaml_on_one_line_reads_back_the_same(value: Any) -> None:
    from ruamel.yaml import YAML

    text = flow_text(value)
    assert "\n" not in text
    assert repr(YAML(typ="safe", pure=True).load(f"k: {text}  # a comment\n")["k"]) == repr(value)


# ---- names --------------------------------------------------------------------------------------------------------


def draft(folder: Path, *names: str, **profile: Any) -> Inferred:
    """The draft for tiles of one degree; each is named as ``left,top: name``."""
    for text in names:
        place, name = text.split(": ", 1)
        left, top = (float(n) for n in place.split(","))
        sparse(folder / f"{name}.tif", left, top, **{"nodata": 255, **profile})
    found = infer_spec(folder, folder)
    (folder / "grid.yaml").write_text(found.text, encoding="utf-8")
    read_spec(folder / "grid.yaml")
    return found


def source_of(found: Inferred) -> dict[str, Any]:
    """The only variable's source."""
    (variable,) = found.document["variables"].values()
    source: dict[str, Any] = variable["source"]
    return source


@pytest.mark.parametrize(("names", "template", "href"), [
    (["-180,70: 70N_180W", "-170,70: 70N_170W"], "{top:02H}_{left:03H}", "{id}.tif"),
    (["6,46: N45E006", "6,1: S00E006"], "y{iy}_x{ix}", None),
    (["6,46: a/N45E006_Map", "-7,3: a/N02W007_Map"], "{bottom:H02}{left:H03}", "a/{id}_Map.tif"),
    (["6,46: N45E6", "107,3: N2E107"], "{bottom:H1}{left:H1}", "{id}.tif"),
    (["100,10: occ_100E_10Nv1_4_2021", "0,0: occ_0E_0Nv1_4_2021"], "{left:H}_{top:H}", "occ_{id}v1_4_2021.tif"),
    (["100,10: 100E_10N", "-90,10: 90W_10N"], "{left:H}_{top:H}", "{id}.tif"),
    (["100,10: 100E_10N", "110,5: 110E_05N"], "{left:03H}_{top:02H}", "{id}.tif"),
    (["0,6: t_y5_x14", "1,6: t_y5_x15"], "y{iy}_x{ix}", "t_{id}.tif"),
    (["0,6: r05c14", "1,5: r06c15"], "r{iy:02d}c{ix:02d}", "{id}.tif"),
    (["0,6: h18v04.006", "3,6: h21v04.006"], "h{ix:02d}v{iy:02d}", "{id}.006.tif"),
    (["0,6: 03_07", "0,5: 04_07", "1,6: 03_08"], "{iy:02d}_{ix:02d}", "{id}.tif"),
    (["0,6: N05_E000/N05_E000", "1,6: N05_E001/N05_E001"], "{bottom:H02}_{left:H03}", "{id}/{id}.tif"),
    (["6,46: n45e006", "7,46: n45e007"], "y{iy}_x{ix}", None), (["0,6: paris", "1,6: rome"], "y{iy}_x{ix}", None),
    (["0,6: 1998", "1,6: 1999", "2,6: 2000"], "y{iy}_x{ix}", None),
])  # fmt: skip
def test_id_template_is_the_one_by_which_every_name_is_written(
    tmp_path: Path, names: list[str], template: str, href: str | None
) -> None:
    found = draft(tmp_path, *names)
    assert (found.document["grid"]["id"], source_of(found).get("href")) == (template, href)
    assert ("glob" in source_of(found).get("tiles", {})) == (href is None)
    assert set(placed(read_spec(tmp_path / "grid.yaml"))) == {str(p) for p in tmp_path.rglob("*.tif")}


def test_columns_that_names_count_from_elsewhere_put_the_origin_there(tmp_path: Path) -> None:
    found = draft(tmp_path, "0,6: y5_x14", "1,6: y5_x15")
    assert found.document["grid"]["origin"] == {"x": -14, "y": 11}
    assert found.document["grid"]["shape"] == {"y": 6 * 3600, "x": 16 * 3600}
    assert source_of(found)["missing"] == "absent"


TWO = ("6,46: {}N45E006", "7,46: {}N45E007")


@pytest.mark.parametrize(("parts", "href", "axis", "values"), [
    (["2000/", "2005/"], "{year}/{id}.tif", "year", {"values": [2000, 2005]}),
    (["2000/", "2005/", "2010/"], "{year}/{id}.tif", "year", {"start": 2000, "stop": 2010, "step": 5}),
    (["lulc2000_", "lulc2005_"], "lulc{year}_{id}.tif", "year", {"values": [2000, 2005]}),
    (["2020/01/", "2020/02/", "2020/03/"], "{time:%Y}/{time:%m}/{id}.tif", "time", {"start": "2020-01-01", "stop": "2020-03-01", "freq": "MS"}),
    (["20200131_", "20200302_"], "{time:%Y%m%d}_{id}.tif", "time", {"values": ["2020-01-31", "2020-03-02"]}),
    (["2020-01-31/", "2020-03-02/"], "{time:%Y-%m-%d}/{id}.tif", "time", {"values": ["2020-01-31", "2020-03-02"]}),
    (["202001_", "202007_"], "{time:%Y%m}_{id}.tif", "time", {"values": ["2020-01-01", "2020-07-01"]}),
    (["A2020001.", "A2020017."], "A{time:%Y%j}.{id}.tif", "time", {"values": ["2020-01-01", "2020-01-17"]}),
    (["2020/20200131T101031_", "2021/20210131T101112_"], "{time:%Y}/{time:%Y%m%dT%H%M%S}_{id}.tif", "time",
     {"values": ["2020-01-31T10:10:31", "2021-01-31T10:11:12"]}),
    (["v100/2020/a_2020_v100_", "v200/2021/a_2021_v200_"],
     {"2020": "v100/2020/a_2020_v100_{id}.tif", "2021": "v200/2021/a_2021_v200_{id}.tif"}, "year", {"values": [2020, 2021]}),
    (["B02_", "B8A_"], "{band}_{id}.tif", "band", {"values": ["B02", "B8A"]}),
    (["occurrence/occurrence_", "change/change_"], "{band}/{band}_{id}.tif", "band", {"values": ["change", "occurrence"]}),
    (["cycle01_", "cycle02_", "cycle04_"], "cycle{cycle:02d}_{id}.tif", "cycle", {"values": [1, 2, 4]}),
    ([f"prec_{m}_" for m in range(1, 13)], "prec_{month}_{id}.tif", "month", {"start": 1, "stop": 12, "step": 1}),
    (["2020_"], "2020_{id}.tif", None, None),
])  # fmt: skip
def test_axes_are_what_differs_in_the_names(
    tmp_path: Path, parts: list[str], href: Any, axis: str | None, values: Any
) -> None:
    found = draft(tmp_path, *(tile.format(part) for part in parts for tile in TWO))
    assert source_of(found)["href"] == href
    assert found.document.get("axes") == ({axis: values} if axis else None)
    assert source_of(found)["missing"] == "fail"
    assert set(placed(read_spec(tmp_path / "grid.yaml"))) == {str(p) for p in tmp_path.rglob("*.tif")}


def test_two_numbers_that_may_be_the_year_make_no_axis_and_a_note_says_which_key_settles_it(tmp_path: Path) -> None:
    found = draft(
        tmp_path,
        *(tile.format(part) for part in ("a_2000_2005_", "a_2005_2010_") for tile in TWO),
        "8,46: a_2000_2005_N45E008",
    )
    assert "axes" not in found.document
    assert source_of(found)["href"] == "a_2000_2005_{id}.tif"
    assert found.notes[0].startswith("2 of 5 tiles have other dates in their names: a_2005_2010_N45E006.tif, ")
    assert "several numbers in the names may be the year ('2000' and '2005' in" in found.notes[1]
    assert "{year} in source.href in place of the right one" in found.notes[1]


def test_rows_and_columns_that_could_be_swapped_make_no_id(tmp_path: Path) -> None:
    found = draft(tmp_path, "0,6: a_0_2", "1,5: a_1_3", "2,4: a_2_4")
    assert any("row and column either way ({ix}_{iy} or {iy}_{ix}): say which with grid.id" in n for n in found.notes)
    assert source_of(found)["tiles"] == {"glob": "a_*_*.tif"}


def test_numbers_that_none_tells_to_be_padded_are_said_to_be_a_guess(tmp_path: Path) -> None:
    found = draft(tmp_path, "-180,70: 70N_180W")
    assert found.document["grid"]["id"] == "{top:02H}_{left:03H}"
    assert any("is a guess: that numbers are padded" in note for note in found.notes)


def test_words_with_pixels_of_another_kind_are_variables(tmp_path: Path) -> None:
    for tile in TWO:
        draft(tmp_path, tile.format("height_"), dtype="float32", nodata=-9999)
    found = draft(tmp_path, *(tile.format("class_") for tile in TWO))
    assert "axes" not in found.document
    kinds = {
        name: (v["dtype"], v["fill_value"], v["source"]["href"]) for name, v in found.document["variables"].items()
    }
    assert kinds == {"class": ("uint8", 255, "class_{id}.tif"), "height": ("float32", "NaN", "height_{id}.tif")}


def test_variable_beside_a_yearly_one_has_no_year(tmp_path: Path) -> None:
    years = [tile.format(f"cover/{y}/") for y in (2000, 2001) for tile in TWO]
    found = draft(tmp_path, *years, *(tile.format("elevation/") for tile in TWO))
    assert found.document["axes"] == {"year": {"values": [2000, 2001]}}
    variables = found.document["variables"]
    assert (variables["cover"].get("axes"), variables["elevation"]["axes"]) == (None, [])
    assert len(placed(read_spec(tmp_path / "grid.yaml"))) == 6


def test_places_without_names_are_found_by_a_glob_for_each_year(tmp_path: Path) -> None:
    found = draft(
        tmp_path, *(f"{lon},46: {name}_{y}" for y in (2000, 2001) for lon, name in ((6, "turin"), (7, "milan")))
    )
    assert source_of(found)["tiles"] == {"glob": "*_{year}.tif"}
    assert len(placed(read_spec(tmp_path / "grid.yaml"))) == 4


def test_glob_that_matches_too_much_is_told(tmp_path: Path) -> None:
    found = draft(
        tmp_path, *(f"{lon},46: {name}_{b}" for b in ("a", "b_a") for lon, name in ((6, "turin"), (7, "milan")))
    )
    assert any("a glob matches 2 tiles that it should not" in note for note in found.notes)


def test_one_raster_a_year_covers_all_regions(tmp_path: Path) -> None:
    found = draft(tmp_path, *(f"0.5,10: lc_{y}" for y in (2000, 2005)), shape=(9000, 17000))
    assert source_of(found) == {"href": "lc_{year}.tif", "missing": "fail", "band": 1}
    assert found.document["grid"]["region"] == {"y": 9000, "x": 16384}, "whole chunks, on the raster's own blocks"
    assert source_of(draft(tmp_path / "one", "0.5,10: dem"))["file"] == "dem.tif"


@pytest.mark.parametrize(("values", "document"), [
    ([2000], {"values": [2000]}), ([1, 2, 4], {"values": [1, 2, 4]}), (["a", "b", "c"], {"values": ["a", "b", "c"]}),
    ([datetime(2020, m, 1) for m in (1, 4, 7)], {"start": date(2020, 1, 1), "stop": date(2020, 7, 1), "freq": "3MS"}),
    ([datetime(2020, 1, 31), datetime(2020, 2, 29), datetime(2020, 3, 31)], {"start": date(2020, 1, 31), "stop": date(2020, 3, 31), "freq": "ME"}),
    ([datetime(2020, 1, d) for d in (1, 9, 17)], {"start": date(2020, 1, 1), "stop": date(2020, 1, 17), "freq": "8D"}),
    ([datetime(2020, 1, 1, h) for h in (0, 6, 12)], {"start": date(2020, 1, 1), "stop": "2020-01-01T12:00:00", "freq": "6h"}),
    ([datetime(2020, 1, d) for d in (1, 9, 18)], {"values": [date(2020, 1, 1), date(2020, 1, 9), date(2020, 1, 18)]}),
])  # fmt: skip
def test_regular_axes_are_written_by_their_step(values: list[Any], document: dict[str, Any]) -> None:
    assert axis_document(values) == document


# ---- what does not fit --------------------------------------------------------------------------------------------


def test_misfits_are_counted_by_kind_with_three_examples_and_the_majority_decides(tmp_path: Path) -> None:
    for lon in range(12):
        sparse(tmp_path / f"N45E{lon:03d}.tif", lon, 46, nodata=255)
    for lon in range(5):
        sparse(tmp_path / f"N46E{lon:03d}.tif", 500000 + lon, 47, 30, crs="EPSG:32632")
    sparse(tmp_path / "N47E000.tif", 0, 48, 1 / 1200, (1200, 1200))
    sparse(tmp_path / "N47E001.tif", 1 + 0.4 / 3600, 48)
    sparse(tmp_path / "N47E002.tif", 2, 48, shape=(3599, 3600))
    sparse(tmp_path / "N47E003.tif", 3, 48, dtype="int16")
    sparse(tmp_path / "N47E004.tif", 4, 48, nodata=0)
    sparse(tmp_path / "N47E009.tif", 5, 48)
    sparse(tmp_path / "N47E006.tif", 6, 48, transform=(1 / 3600, 0.1, 6, 0.1, -1 / 3600, 48))
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    found = infer_spec(tmp_path, tmp_path)
    joined = "\n".join(found.notes)
    for line in (
        "1 of 25 tiles cannot be read: broken.tif (is not a raster",
        "1 of 25 tiles are rotated or mirrored (warp or flip them first): N47E006.tif",
        "5 of 25 tiles are in another CRS than EPSG:4326: N46E000.tif (EPSG:32632), N46E001.tif (EPSG:32632), N46E002.tif (EPSG:32632), ...",
        "1 of 25 tiles have another resolution than 0.0002777777777777778: N47E000.tif (0.0008333333333333334)",
        "1 of 25 tiles do not lie on the pixel lattice of the others: N47E001.tif (0 px off along y, 0.4 along x)",
        "2 of 25 tiles are not named or sized as most are ({bottom:H02}{left:H03}): N47E002.tif (3599 x 3600 pixels), N47E009.tif (lies where N47E005 does)",
        "1 of 25 tiles have another dtype or number of bands than uint8, 1: N47E003.tif (int16, 1)",
        "nodata differs: 255 in most bands, 0 in others",
    ):
        assert line in joined
    assert found.text.startswith("# Drafted by `cubeingest infer` from 13 tiles of 25.")
    for note in found.notes:
        assert f"# {note}\n" in found.text
    assert found.document["grid"]["shape"] == {"y": 3 * 3600, "x": 12 * 3600}


def test_noise_in_headers_is_no_misfit(tmp_path: Path) -> None:
    for n, lon in enumerate(range(0, 30, 10)):
        sparse(
            tmp_path / f"20N_{lon:03d}E.tif",
            lon + n * 1e-12,
            20 - n * 1e-13,
            0.00025 - n * 5e-15,
            (40000, 40000),
            nodata=255,
        )
    found = infer_spec(tmp_path, tmp_path)
    assert found.notes == ()
    assert found.document["grid"]["resolution"] == {"x": "1/4000", "y": "-1/4000"}
    assert found.document["grid"]["origin"] == {"x": 0, "y": 20}


def test_tiles_in_no_even_steps_are_placed_by_their_headers(tmp_path: Path) -> None:
    found = draft(tmp_path, "0,46: a", "1.5,46.25: b", "2.75,44: c")
    assert any("in no even steps" in note for note in found.notes)
    assert set(placed(read_spec(tmp_path / "grid.yaml"))) == {str(p) for p in tmp_path.rglob("*.tif")}


def test_tiles_of_which_no_two_share_a_lattice_leave_the_first(tmp_path: Path) -> None:
    found = draft(tmp_path, "0,46: a", "1.00011,46.00005: b", "2.0002,46.00015: c", "3.0001,46.0001: d")
    assert found.notes[0].startswith("3 of 4 tiles do not lie on the pixel lattice of the others: ")
    assert source_of(found)["file"] == "a.tif"


def test_names_without_an_end_are_names(tmp_path: Path) -> None:
    for lon, name in ((6, "2000"), (7, "2001")):
        sparse(tmp_path / "set" / f"{name}.tif", lon, 46, nodata=255).rename(tmp_path / "set" / name)
    found = infer_spec(tmp_path / "set" / "*", tmp_path)
    assert source_of(found)["tiles"] == {"glob": "set/*"}


def test_rows_run_as_those_of_most_tiles_do(tmp_path: Path) -> None:
    for lon, step in ((6, 1), (7, 1), (8, -1)):
        transform = (1 / 3600, 0, lon, 0, step / 3600, 45 if step > 0 else 46)
        sparse(tmp_path / f"N45E{lon:03d}.tif", 0, 0, transform=transform, nodata=255)
    found = infer_spec(tmp_path, tmp_path)
    assert (found.document["grid"]["resolution"]["y"], found.document["grid"]["origin"], found.notes) == (
        "1/3600",
        {"x": 6, "y": 45},
        (),
    )
    assert "rows run south to north" in found.text


@pytest.mark.parametrize(("dtype", "values", "fill"), [
    ("uint8", [0, 1], 255), ("uint8", [0, 255, 254], 253), ("int16", [0], -32768), ("int16", [-32768, 5], -9999), ("uint16", [65535], 65534),
    ("uint8", range(256), 255),
])  # fmt: skip
def test_fill_value_is_guessed_from_pixels_where_no_nodata_is_declared(
    tmp_path: Path, dtype: str, values: Any, fill: int
) -> None:
    pixels = np.resize(np.array(list(values), dtype), (64, 64))
    write_tile(tmp_path / "a.tif", pixels, 0, 0)
    found = infer_spec(tmp_path, tmp_path)
    assert [v["fill_value"] for v in found.document["variables"].values()] == [fill]
    assert any(f"fill_value {fill} is a guess" in note for note in found.notes)
    assert ("holds every value" in found.text) == (len(list(values)) == 256)


def test_nodata_of_floats_becomes_nan(tmp_path: Path) -> None:
    found = draft(tmp_path, "0,10: a", dtype="float32", nodata=-9999)
    assert [v["fill_value"] for v in found.document["variables"].values()] == ["NaN"]
    assert "fill_value: .nan" in found.text
    assert "the files' nodata, -9999.0, becomes NaN" in found.text


def test_nodata_that_the_dtype_cannot_hold_is_none(tmp_path: Path) -> None:
    """GDAL lets a text say so, though its own writer refuses it."""
    sparse(tmp_path / "whole.tif", 0, 10, dtype="uint8")
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="3600" rasterYSize="3600"><SRS>EPSG:4326</SRS><GeoTransform>0, 0.1, 0, 10, 0, -0.1</GeoTransform>'
        '<VRTRasterBand dataType="Byte" band="1"><NoDataValue>-9999</NoDataValue><SimpleSource>'
        '<SourceFilename relativeToVRT="1">whole.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    found = infer_spec(tmp_path / "a.vrt", tmp_path)
    assert [v["fill_value"] for v in found.document["variables"].values()] == [255]
    assert "no nodata is declared" in found.text or "is no uint8" in found.text


def test_tile_that_an_ingest_would_refuse_is_told(tmp_path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_tile(tmp_path / "a.tif", np.ones((50, 50), np.uint8), 0, 10)
        with rasterio.open(path, "r+") as tile:
            tile.write_mask(np.ones((50, 50), bool))
    assert infer_spec(tmp_path, tmp_path).notes[0].startswith("1 of 1 tile would be refused: a.tif (has a mask band")


@pytest.mark.parametrize(("shape", "dtype", "chunk_mb"), [((40000, 40000), "uint8", (1, 4.5)), ((10980, 10980), "uint16", (1, 4.5)),
                                                          ((3600, 3600), "float32", (1, 4.5)), ((3601, 3601), "int16", (0.5, 30)),
                                                          ((97579, 20888), "float64", (1, 4.5))])  # fmt: skip
def test_chunks_are_good_to_read_and_divide_the_region(
    tmp_path: Path, shape: tuple[int, int], dtype: str, chunk_mb: tuple[float, float]
) -> None:
    sparse(tmp_path / "a.tif", 0, 50, 1 / 4000, shape, dtype=dtype, nodata=0, BIGTIFF="YES")
    sparse(tmp_path / "b.tif", shape[1] / 4000, 50, 1 / 4000, shape, dtype=dtype, nodata=0, BIGTIFF="YES")
    (variable,) = infer_spec(tmp_path, tmp_path).document["variables"].values()
    chunk = variable["chunks"]["y"] * variable["chunks"]["x"] * np.dtype(dtype).itemsize / 1e6
    assert chunk_mb[0] <= chunk <= chunk_mb[1]
    objects = math.prod(shape) / (
        variable.get("shards", variable["chunks"])["y"] * variable.get("shards", variable["chunks"])["x"]
    )
    assert objects < 6000
