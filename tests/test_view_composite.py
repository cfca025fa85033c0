"""Red, green and blue of an axis together in the viewer, against numpy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cubeingest as ci
from cubeingest.view.composite import find_composite
from tests.viewing import Client

SPEC = """\
name: colours
crs: EPSG:32633
grid: {origin: {x: 300000, y: 5600000}, resolution: {x: 30, y: -30}, shape: {y: 300, x: 400}, region: {y: 256, x: 256}}
axes: {year: {values: [2000, 2005]}, band: {values: [Blue, Green, nir, Red]}}
variables:
  light:
    dtype: int16
    fill_value: -1
    chunks: {year: 1, band: 1, y: 128, x: 128}
    attrs: {long_name: reflectance, units: "%"}
  valid:
    dtype: uint8
    fill_value: 255
    chunks: {year: 1, band: 1, y: 128, x: 128}
    attrs: {flag_values: [0, 1], flag_meanings: bad good}
  height: {dtype: float32, fill_value: .nan, chunks: {y: 128, x: 128}, axes: []}
store: ./colours.icechunk
"""


def light(geobox: Any, year: int, band: str) -> np.ndarray:
    """Bands differ; each lacks other pixels."""
    rows, columns = np.indices(geobox.shape)
    out = {"Blue": rows, "Green": columns, "nir": rows * 0 + 30_000, "Red": 300 - rows + year - 2000}[band] + 100
    return np.where(rows % 50 == len(band), -1, out).astype(np.int16)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> ci.Cube:
    folder = tmp_path_factory.mktemp("colours")
    (folder / "grid.yaml").write_text(SPEC)
    made = ci.init(folder / "grid.yaml")
    made.ingest(source=light, variable="light", workers=1)
    return made


@pytest.fixture(scope="module")
def client(cube: ci.Cube) -> Iterator[Client]:
    with cube.view() as viewer:
        yield Client(viewer.url)


def test_a_tile_has_three_bands_over_one_range_and_is_clear_where_one_lacks(cube: ci.Cube, client: Client) -> None:
    told = client.get(f"api/legend/{client.tip}/light/1.rgb").json
    low, high = told["low"], told["high"]
    bands = cube.dataset()["light"].sel(year=2005, band=["Red", "Green", "Blue"]).values
    known = bands[bands != -1]
    assert known.min() <= low < np.quantile(known, 0.1)
    assert np.quantile(known, 0.9) < high <= known.max()
    missing = (bands == -1).any(axis=0)
    share = np.clip((bands.astype("f4") - low) / (high - low), 0, 1) * 255
    for row, column in ((0, 0), (0, 1), (1, 1)):
        at = np.s_[row * 256 : row * 256 + 256, column * 256 : column * 256 + 256]
        tile = client.tile("light", "1.rgb", f"0/{row}/{column}")
        ny, nx = missing[at].shape
        own = tile[:ny, :nx]
        assert np.array_equal(own[..., 3], np.where(missing[at], 0, 255))
        wanted = np.moveaxis(share[(slice(None), *at)], 0, -1).round()
        assert np.abs(own[..., :3].astype(int) - np.where(missing[at][..., None], 0, wanted)).max() <= 1
        assert not tile[ny:].any()
        assert not tile[:, nx:].any()


def test_legend_names_the_bands(client: Client) -> None:
    told = client.get(f"api/legend/{client.tip}/light/0.rgb").json
    assert (told["kind"], told["title"], told["units"]) == ("rgb", "reflectance", "%")
    assert [c["name"] for c in told["classes"]] == ["Red", "Green", "Blue"]
    assert told["high"] < 30_000


def test_values_at_a_point_are_those_of_all_bands(cube: ci.Cube, client: Client) -> None:
    path = f"api/point/{client.tip}/grid/light?x=303015&y=5596985"
    one, together = (client.get(f"{path}&index={index}").json for index in ("0.3", "0.rgb"))
    assert one == together
    assert one["values"] == [int(v) for v in cube.dataset()["light"].values[:, :, 100, 100].ravel()]


def test_cube_says_which_variables_have_colours(client: Client) -> None:
    found = {v["name"]: v["composite"] for v in client.get(f"api/cube/{client.tip}").json["variables"]}
    assert found == {"light": {"axis": "band", "positions": [3, 1, 0]}, "valid": None, "height": None}


@pytest.mark.parametrize(
    "address", ["light/rgb.0", "light/rgb", "light/0.RGB", "valid/0.rgb", "height/rgb", "light/0.-1"]
)
def test_colours_elsewhere_are_no_position(client: Client, address: str) -> None:
    reply = client.get(f"api/legend/{client.tip}/{address}")
    assert reply.status == 404
    assert "has no position" in reply.json["error"]


@pytest.mark.parametrize(
    ("values", "dtype", "attrs", "labels"),
    [
        ("[red, green, blue]", "uint8", "{}", ("red", "green", "blue")), ("[B, G, R, N]", "float32", "{}", ("R", "G", "B")),
        ("[B02, B03, B04, B08]", "uint16", "{}", ("B04", "B03", "B02")), ("[red, nir]", "uint8", "{}", None), ("[1, 2, 3]", "uint8", "{}", None),
        ("[red, green, blue]", "uint8", "{flag_values: [1], flag_meanings: a}", None), ("[red, green, blue]", "bool", "{}", None),
    ],
)  # fmt: skip
def test_colours_are_found_by_the_names_of_bands(
    tmp_path: Path, values: str, dtype: str, attrs: str, labels: Any
) -> None:
    fill = "false" if dtype == "bool" else "0"
    (tmp_path / "c.yaml").write_text(
        f"name: c\ncrs: EPSG:4326\ngrid: {{origin: {{x: 0, y: 20}}, resolution: {{x: 1, y: -1}}, shape: {{y: 10, x: 10}}, region: {{y: 10, x: 10}}}}\n"
        f"axes: {{time: {{values: [day, night]}}, band: {{values: {values}}}}}\n"
        f"variables: {{v: {{dtype: {dtype}, fill_value: {fill}, chunks: {{time: 1, band: 1, y: 10, x: 10}}, attrs: {attrs}}}}}\nstore: ./c.icechunk\n"
    )
    spec = ci.read_spec(tmp_path / "c.yaml")
    found = find_composite(spec, spec.variables[0])
    assert (found and found.labels) == labels
    if found:
        assert found.axis == 1
        assert found.apart((1, -1)) == [(1, p) for p in found.positions]
