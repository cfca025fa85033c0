"""Specs that grow: which values an axis gets, how the document says it, and what is no growth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cubeingest.errors import CubeIngestError, GridError, SpecError
from cubeingest.spec import CubeSpec, find_growth, grow_axes, leaves_step, spec_from_document


def spec(axis: Mapping[str, Any], name: str = "t", block: int = 1, **grid: Any) -> CubeSpec:
    """A spec with one axis."""
    lattice = {
        "origin": {"x": 0, "y": 20}, "resolution": {"x": 1, "y": -1}, "shape": {"y": 20, "x": 20}, "region": {"y": 10, "x": 10},
        **grid,
    }  # fmt: skip
    variable = {"dtype": "uint8", "fill_value": 0, "chunks": {name: block, "y": 10, "x": 10}}
    return spec_from_document(
        {"name": "s", "crs": "EPSG:4326", "grid": lattice, "axes": {name: axis}, "variables": {"v": variable}}, "/"
    )


STEPPED = {"start": 2000, "stop": 2020, "step": 5}
MONTHS = {"start": "2000-01-01", "stop": "2000-03-01", "freq": "MS"}


@pytest.mark.parametrize(
    ("axis", "texts", "said"),
    [
        (STEPPED, ["2025"], {**STEPPED, "stop": 2025}),
        (STEPPED, ["2035", "2025", "2030"], {**STEPPED, "stop": 2035}),
        (STEPPED, ["2021..2032"], {**STEPPED, "stop": 2030}),
        (STEPPED, ["2010..2030"], {**STEPPED, "stop": 2030}),
        (STEPPED, ["2027"], {"values": [2000, 2005, 2010, 2015, 2020, 2027]}),
        ({"start": 1, "stop": 3}, ["4..6"], {"start": 1, "stop": 6}),
        ({"start": 0, "stop": -20, "step": -10}, ["-30..-50"], {"start": 0, "stop": -50, "step": -10}),
        ({"start": 0.1, "stop": 0.3, "step": 0.1}, ["0.4..0.6"], {"start": 0.1, "stop": 0.6, "step": 0.1}),
        ({"values": [2000, 2005]}, ["2006..2015"], {"values": [2000, 2005, 2010, 2015]}),
        ({"values": [2000, 2001, 2005]}, ["2006", "2009"], {"values": [2000, 2001, 2005, 2006, 2009]}),
        ({"values": [0.5, 1.5]}, ["2"], {"values": [0.5, 1.5, 2.0]}),
        ({"values": [0.5, 1.5]}, ["2..4"], {"values": [0.5, 1.5, 2.5, 3.5]}),
        ({"values": [3, 1, 2]}, ["0"], {"values": [3, 1, 2, 0]}),
        ({"values": ["red", "nir"]}, ["swir", "blue"], {"values": ["red", "nir", "swir", "blue"]}),
        (MONTHS, ["2000-04-01"], {**MONTHS, "stop": "2000-04-01"}),
        (MONTHS, ["2000-04..2001-02"], {**MONTHS, "stop": "2001-02-01"}),
        (MONTHS, ["2000"], {**MONTHS, "stop": "2000-12-01"}),
        (MONTHS, ["2000-04-02"], {"values": ["2000-01-01", "2000-02-01", "2000-03-01", "2000-04-02"]}),
        ({"values": ["2000-01-31", "2000-03-02"]}, ["2000-03-03T12:00"],
         {"values": ["2000-01-31", "2000-03-02", "2000-03-03T12:00:00"]}),
    ],
)  # fmt: skip
def test_axis_goes_on_and_says_so_as_it_did_before(
    axis: dict[str, Any], texts: list[str], said: dict[str, Any]
) -> None:
    old = spec(axis)
    new = grow_axes(old, {"t": texts})
    assert new.document["axes"]["t"] == said
    assert old.document["axes"]["t"] == axis
    (growth,) = find_growth(old, new)
    assert new.grid.axis("t").labels == (*old.grid.axis("t").labels, *growth.values)
    assert leaves_step(old, new, "t") == ("values" in said and "values" not in axis)
    assert grow_axes(new, {"t": texts}) is new  # the second person with the same command


def test_list_of_numbers_that_leaves_its_step_is_noticed() -> None:
    old = spec({"values": [2000, 2001, 2002]})
    assert not leaves_step(old, grow_axes(old, {"t": ["2003"]}), "t")
    assert leaves_step(old, grow_axes(old, {"t": ["2004"]}), "t")


@pytest.mark.parametrize(
    ("axis", "text", "message"),
    [
        (STEPPED, "2025.5", r"t '2025.5' cannot go with the axis' values \(2000, 2005, ..., 2020\)"),
        (STEPPED, "abc", "cannot go with"),
        (STEPPED, "2021..2024", "2021..2024 holds no value that the axis would have"),
        (STEPPED, "2030..2021", "holds no value"),
        (STEPPED, "2025..", "a range has both ends"),
        (STEPPED, "0..999999999", "would add 199999"),
        (STEPPED, "2025..x", "'x' cannot go with"),
        ({"values": [1, 2, 4]}, "5..7", "no regular step .*: name each value"),
        ({"values": [7]}, "8..9", "no regular step"),
        ({"values": [0.5]}, "nan", "it is not finite"),
        ({"values": ["red"]}, "a..b", "texts have no ranges"),
        ({"values": ["red"]}, "a/b", "cannot go with .* slash"),
        ({"values": ["red"]}, "2000-01-01", "write it as red is written"),
        (MONTHS, "2001-13..2001-14", "t 2001-13..2001-14: "),
        (MONTHS, "spring..2001", "'spring' is no date such as 2000-03-01, nor a year or month"),
        (MONTHS, "soon", "write it as 2000-03-01 is written"),
        ({"values": ["2000-01-31"]}, "2000-02", "write it as 2000-01-31 is written"),
        ({"values": ["2000-01-31"]}, "2000-02..2000-03", "the axis has no freq: name each date"),
    ],
)  # fmt: skip
def test_what_is_no_value_of_the_axis_is_refused(axis: dict[str, Any], text: str, message: str) -> None:
    with pytest.raises(GridError, match=message):
        grow_axes(spec(axis), {"t": [text]})


def test_value_given_twice_and_unknown_axis_are_refused() -> None:
    with pytest.raises(GridError, match="t: 2025 is given twice"):
        grow_axes(spec(STEPPED), {"t": ["2025", "2021..2030"]})
    with pytest.raises(GridError, match="no axis 'u'"):
        grow_axes(spec(STEPPED), {"u": ["1"]})


@pytest.mark.parametrize(
    ("axis", "text", "message"),
    [
        (STEPPED, "1995", "axes.t: 1995 is below 2020, but the axis runs in order, and .* move existing pixels"),
        ({"values": [2000]}, "1995", "1995 is below 2000"),
        ({"values": [0, -10]}, "-5", "-5 is above -10"),
        (MONTHS, "1999-12-01", "1999-12-01 is earlier than 2000-03-01"),
    ],
)
def test_value_that_belongs_before_others_is_refused(axis: dict[str, Any], text: str, message: str) -> None:
    old = spec(axis)
    with pytest.raises(SpecError, match=message):
        find_growth(old, grow_axes(old, {"t": [text]}))


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (spec(STEPPED, origin={"x": -10, "y": 20}, shape={"y": 20, "x": 30}), r'grid.origin.x: "0" -> "-10"\. Existing pixels'),
        (spec(STEPPED, region={"y": 20, "x": 20}), "grid.region.y: 10 -> 20"),
        (spec(STEPPED, resolution={"x": 2, "y": -1}), "grid.resolution.x"),
        (spec(STEPPED, id="{iy}-{ix}"), "grid.id"),
        (spec(STEPPED, "u"), "axes.t: .* -> absent; axes.u: absent -> "),
        (spec(STEPPED, block=5), "variables.v.chunks"),
        (spec(STEPPED, shape={"y": 10, "x": 20}), "grid.shape.y: 20 -> 10: a cube can grow, but not shrink"),
        (spec({**STEPPED, "stop": 2015}), "axes.t lacks 2020, which the cube has"),
        (spec({"start": 1995, "stop": 2020, "step": 5}), "axes.t: 1995 stands before 2000, which would move existing pixels"),
        (spec({"values": [2000, 2005, 2010, 2015, 2020, 2030, 2025]}), "2025 is below 2030"),
    ],
)  # fmt: skip
def test_what_is_no_growth_is_refused(new: CubeSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        find_growth(spec(STEPPED), new)


def test_longer_spec_must_be_a_spec() -> None:
    """One region as large as the grid may have chunks of any size; several may not."""
    whole = {"shape": {"y": 10, "x": 10}, "region": {"y": 10, "x": 10}}
    one = spec(STEPPED, **whole)
    assert [g.dim for g in find_growth(one, spec(STEPPED, **{**whole, "shape": {"y": 25, "x": 10}}))] == ["y"]
    document = {**one.document, "variables": {"v": {**one.document["variables"]["v"], "chunks": {"y": 7, "x": 7}}}}
    assert spec_from_document(document, "/").variables[0].chunks == (1, 7, 7)
    document["grid"] = {**document["grid"], "shape": {"y": 25, "x": 10}}
    with pytest.raises(CubeIngestError, match="7 does not divide the region's 10 pixels"):
        spec_from_document(document, "/")


def test_growth_reads_as_a_person_would_say_it() -> None:
    old = spec(STEPPED)
    new = spec({**STEPPED, "stop": 2050}, shape={"y": 30, "x": 20})
    assert [str(g) for g in find_growth(old, new)] == [
        "t by 2025, 2030, 2035, 2040 and 2 more, to 2050",
        "y from 20 to 30 pixels",
    ]
    assert [g.to_json() for g in find_growth(old, new)][1] == {"from": 20, "to": 30}
