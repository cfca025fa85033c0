"""Attributes become colours and legends; what makes no sense in them never fails a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cubeingest.look import MISSING_COLOUR, read_colours
from cubeingest.look.colours import LEGEND_ROWS
from cubeingest.look.palette import parse_colour
from cubeingest.spec import Variable

MISSING = list(parse_colour(MISSING_COLOUR))


def variable(dtype: str = "uint8", fill: Any = 255, **attrs: Any) -> Variable:
    return Variable("v", dtype, fill, (), ("y", "x"), (10, 10), None, None, attrs, None)


def paint(v: Variable, pixels: np.ndarray) -> list[list[int]]:
    return read_colours(v, pixels).paint(pixels)[..., :3].reshape(-1, 3).tolist()


FLAGS = {"flag_values": [1, 2, 4], "flag_meanings": "open_water forest built"}


@pytest.mark.parametrize(
    "colours",
    [
        {"flag_colors": "#0000ff green #FF0000"},
        {"flag_colours": ["#0000ff", "green", "red"]},
        {"flag_colors": "#0000ff, green, #ff0000"},
        {"color_table": {"1": "#0000ff", "2": [0, 128, 0], "4": "red"}},
        {"colors": ["blue", "green", "red"]},
    ],
    ids=["hex and names", "a list", "commas", "by value", "a list beside flags"],
)
def test_classes_have_the_colours_and_names_that_the_attributes_give(colours: dict[str, Any]) -> None:
    pixels = np.array([[1, 2, 4, 255, 9]], np.uint8)
    v = variable(**FLAGS, **colours)
    assert paint(v, pixels)[:4] == [[0, 0, 255], [0, 128, 0], [255, 0, 0], MISSING]
    read = read_colours(v, pixels)
    assert [(row.value, row.name, row.pixels) for row in read.legend] == [
        (1, "open water", 1), (2, "forest", 1), (4, "built", 1), (9, "9", 1),
    ]  # fmt: skip
    assert read.warnings == ()


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({**FLAGS, "flag_colors": "red"}, "1 colours for 3 flag_values"),
        ({**FLAGS, "flag_colors": "red nonsense blue"}, "'nonsense', which is no colour"),
        ({**FLAGS, "flag_meanings": "one two"}, "2 names for 3 flag_values"),
        ({"flag_values": [1, 999]}, "flag_values of 'v' cannot be used"),
        ({"flag_values": "a b"}, "flag_values of 'v' cannot be used"),
        ({"flag_values": [1, 1]}, "flag_values of 'v' cannot be used"),
        ({"cmap": "no-such-map"}, "no colormap 'no-such-map'"),
        ({"colors": {"x": "red"}}, "colors of 'v' cannot be used"),
        ({"colormap": 7}, "colormap of 'v' cannot be used"),
        ({"valid_range": [3, 1]}, "valid range of 'v' cannot be used"),
        ({"valid_min": "low"}, "valid range of 'v' cannot be used"),
        ({"valid_max": 10**400}, "valid range of 'v' cannot be used"),
        ({"scale_factor": 0, "add_offset": 3}, "scale_factor and add_offset of 'v' cannot be used"),
        ({"colors": {300: "red", -1: "blue"}}, "2 values that uint8 does not have, such as 300"),
        ({"colors": {300: "red", 1: "blue", 2: "red", 4: "green"}}, "1 value that uint8 does not have, such as 300"),
        ({"colors": {1.5: "red", 1: "blue", 2: "red", 4: "green"}}, "1 value that uint8 does not have, such as 1.5"),
        ({"colors": [[v % 7, 9, v % 11] for v in range(300)]}, "44 values that uint8 does not have, such as 256"),
        ({"colors": {1: "none", 2: "red", 4: "blue"}}, "'none', which is no colour"),
        ({"colors": []}, "no colours"),
        ({"colormap": ""}, "a ramp takes two colours"),
        ({"colormap": {"inf": "white", "nan": "red"}}, "2 values that no scale has, such as inf"),
        ({**FLAGS, "flag_colors": [[float("inf"), 0, 0], "red", "blue"]}, "[inf, 0, 0], which is no colour"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_attributes_that_make_no_sense_are_left_out_with_a_warning(attrs: dict[str, Any], said: str) -> None:
    pixels = np.array([[1, 2, 4, 255]], np.uint8)
    read = read_colours(variable(**attrs), pixels)
    assert len(read.warnings) == 1
    assert said in read.warnings[0]
    assert read.paint(pixels).shape == (1, 4, 4)
    assert len({tuple(c) for c in read.paint(pixels)[0].tolist()}) == 4


def test_a_range_has_the_limits_units_and_colormap_of_the_attributes() -> None:
    pixels = np.array([[0, 50, 100, 101]], np.int16)
    v = variable("int16", -1, units="m", long_name="depth", colormap={"0": "#000000", "100": "#ffffff"}, valid_max=100)
    read = read_colours(v, pixels)
    assert (read.kind, read.low, read.high, read.units, read.title) == ("range", 0, 100, "m", "depth")
    assert read.paint(pixels)[0, :, :3].tolist() == [[0] * 3, [128] * 3, [255] * 3, MISSING]


@pytest.mark.parametrize("scale", [0.01, -0.01])
def test_packed_numbers_are_told_as_what_they_mean(scale: float) -> None:
    packing = {"scale_factor": scale, "add_offset": 273.15, "units": "K"}
    pixels = np.array([[0, 500, 1000, 1200, -32768]], np.int16)
    stops = {0: "#000000", 1000: "#ffffff"}
    read = read_colours(variable("int16", -32768, colormap=stops, **packing), pixels)
    assert (read.low, read.high) == pytest.approx(sorted((273.15, 273.15 + 1000 * scale)))
    assert read.extend == ("max" if scale > 0 else "min")
    assert read.paint(pixels)[0, :, :3].tolist() == [
        [0] * 3,
        [128 if scale > 0 else 127] * 3,
        [255] * 3,
        [255] * 3,
        MISSING,
    ]
    named = read_colours(variable("int16", -32768, cmap="gray", valid_max=1000, **packing), pixels)
    greys = named.paint(pixels)[0, :3, 0].tolist()
    assert greys == (sorted(greys) if scale > 0 else sorted(greys)[::-1])
    assert named.paint(pixels)[0, 3, :3].tolist() == MISSING
    classes = read_colours(variable("int16", -32768, flag_values=[0, 500], flag_meanings="ice", **packing), pixels)
    assert [row.name for row in classes.legend] == ["273.15", f"{273.15 + 500 * scale:g}", "2 values without a colour"]
    assert read_colours(variable("int16", -32768, **packing | {"units": ""}), pixels).kind == "range"


@pytest.mark.parametrize(
    "colormap",
    [{float("inf"): "white", 3: "red"}, {"-inf": "white", "inf": "red"}, {float("nan"): "white", 10**400: "red"}],
    ids=["one end", "both ends", "no numbers"],
)
def test_a_ramp_has_finite_ends_whatever_its_stops(colormap: dict[Any, str]) -> None:
    pixels = np.array([[0, 50, 100, 101]], np.float32)
    read = read_colours(variable("float32", -1, colormap=colormap), pixels)
    assert any("colormap of 'v'" in warning for warning in read.warnings)
    assert (read.low, read.high) == tuple(np.percentile(pixels.astype(float), (2, 98)))
    assert len(np.unique(read.paint(pixels)[0], axis=0)) == 4


def test_without_attributes_few_numbers_are_classes_and_many_a_range() -> None:
    few = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert read_colours(variable(), few).kind == "classes"
    assert read_colours(variable(units="%"), few).kind == "range"
    many = np.arange(200, dtype=np.uint8).reshape(10, 20)
    read = read_colours(variable(), many)
    assert read.kind == "range"
    assert (read.low, read.high) == tuple(np.percentile(many, (2, 98)))
    assert read.extend == "both"


def test_long_legends_are_cut_to_the_classes_that_occur_most() -> None:
    pixels = np.repeat(np.arange(50), np.arange(1, 51)).astype(np.int16)[np.newaxis]
    read = read_colours(variable("int16", -1, flag_values=list(range(60))), pixels)
    assert [row.value for row in read.legend] == list(range(50 - LEGEND_ROWS, 50))
    assert read.more == 30


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "uint64", "float16", "float32", "float64"])
@pytest.mark.parametrize("held", ["all missing", "one value", "several"])
def test_pixels_of_any_dtype_are_painted(dtype: str, held: str) -> None:
    is_float = dtype.startswith("float")
    fill = np.nan if is_float else 0
    pixels = np.full((4, 6), fill, dtype)
    if held != "all missing":
        pixels[1:] = 1
    if held == "several":
        pixels[2:] = np.inf if is_float else np.iinfo(dtype).max if dtype != "bool" else 1
    v = variable(dtype, float("nan") if is_float else False if dtype == "bool" else 0)
    painted = read_colours(v, pixels).paint(pixels)
    assert (painted[0, :, :3] == MISSING).all()
    assert (painted[1:, :, :3] == MISSING).all(axis=-1).any() == (held == "all missing")


def test_a_fill_value_that_is_a_class_is_painted_as_one() -> None:
    v = variable(fill=0, flag_values=[0, 1], flag_meanings="sea land", flag_colors="blue green")
    assert paint(v, np.array([[0, 1]], np.uint8)) == [[0, 0, 255], [0, 128, 0]]
