"""Cells of HEALPix as tables, against numpy over the whole arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from healpix_geo import nested

import cubeingest as ci
from cubeingest.errors import GridError
from tests.conftest import Ran
from tests.test_analyze_healpix import IN_REGION, ORDER, YEARS, cube, expected_h, expected_n, ids_of, template

__all__ = ["cube", "template"]


def read_folder(folder: Path, below: str) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted((folder / below).glob("*.parquet"))], ignore_index=True)


def test_tables_hold_each_cell_that_has_a_value(cube: ci.Cube, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = cube.export(out, format="parquet")
    assert (report.failed, report.pending) == ([], 0)
    ids = ids_of(cube)
    h, n = read_folder(out, "year"), read_folder(out, "year-beam")
    assert list(h) == ["year", "cell_ids", "lon", "lat", "geometry", "h"]
    for k, year in enumerate(YEARS):
        own = h[h.year == year].sort_values("cell_ids")
        held = np.isfinite(expected_h(cube)[k])
        assert np.array_equal(own.cell_ids, ids[held])
        assert np.array_equal(own.h, expected_h(cube)[k, held])
        for b, beam in enumerate(("day", "night")):
            other = n[(n.year == year) & (n.beam == beam)].sort_values("cell_ids")
            there = np.isfinite(expected_n(cube)[k, b])
            assert np.array_equal(other.cell_ids, ids[there])
            assert np.array_equal(other.n, expected_n(cube)[k, b, there])
    lon, lat = nested.healpix_to_lonlat(h.cell_ids.to_numpy().astype("u8"), ORDER, ellipsoid="WGS84")
    assert np.allclose(np.exp(1j * np.radians(h.lon)), np.exp(1j * np.radians(lon)))
    assert np.allclose(h.lat, lat)
    points = shapely.from_wkb(h.geometry.to_numpy())
    assert np.array_equal(shapely.get_coordinates(points), h[["lon", "lat"]].to_numpy())


def test_what_has_not_changed_stays_and_what_has_is_written_again(cube: ci.Cube, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = cube.export(out, format="parquet", variable="h", region=["3", "20", "21"])
    assert (first.written, sorted(p.name for p in out.glob("*.parquet"))) == (
        3,
        ["20.parquet", "21.parquet", "3.parquet"],
    )
    cube.ingest(source=_twice, variable="h", region="20", redo=True)
    again = cube.export(out, format="parquet", variable="h", region=["3", "20", "21"])
    assert (again.written, again.current) == (1, 2)
    table = pd.read_parquet(out / "20.parquet")
    assert set(table.cell_ids // IN_REGION) == {20}
    assert np.array_equal(table.h, 2.0 * table.year)


def _twice(area: ci.grid.HealpixRegion, year: int) -> np.ndarray:
    return np.full(area.shape, 2 * year, "f4")


def test_rasters_and_tiles_are_refused(cube: ci.Cube, tmp_path: Path) -> None:
    with pytest.raises(GridError, match="cells of HEALPix are no raster"):
        cube.export(tmp_path / "out")
    with pytest.raises(GridError, match="each file has one region"):
        cube.export(tmp_path / "out", format="parquet", tile=(10, 10))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["lon", "lat", "geometry"])
def test_variable_that_a_column_of_places_has_is_refused(tmp_path: Path, name: str) -> None:
    spec = f"name: c\ngrid: {{type: healpix, order: 2, region_order: 0}}\nstore: ./c.icechunk\nvariables: {{{name}: {{dtype: float32, fill_value: .nan}}}}\n"
    (tmp_path / "c.yaml").write_text(spec)
    made = ci.init(tmp_path / "c.yaml")
    with pytest.raises(GridError, match=f"the cube has '{name}' already"):
        made.export(tmp_path / "out", format="parquet")


def test_command_line(cube: ci.Cube, tmp_path: Path, invoke: Callable[..., Ran]) -> None:
    words = (
        "--format",
        "parquet",
        "--variable",
        "h",
        "--region",
        "3",
        "--output",
        tmp_path / "out",
        "--store",
        cube.store.uri,
    )
    ran = invoke("export", *words, "--json")
    assert (ran.code, ran.json["written"], ran.json["failed"]) == (0, 1, [])
    assert json.loads(json.dumps(ran.json)) == ran.json
    assert (tmp_path / "out" / "3.parquet").exists()
