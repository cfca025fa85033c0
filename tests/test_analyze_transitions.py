"""Changes of classes, and areas of pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from pyproj import CRS, Geod

from cubeingest.analyze.areas import row_areas, says_how
from cubeingest.errors import GridError
from cubeingest.grid import TilingGrid
from tests.analysis import Seasons, seasons
from tests.conftest import Ran

__all__ = ["seasons"]

Invoke = Callable[..., Ran]


def lattice(crs: str, resolution: Fraction, rows: int, top: Fraction) -> TilingGrid:
    return TilingGrid(crs, Fraction(0), top, resolution, -resolution, (rows, 10), (rows, 10))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4267", "+proj=longlat +R=6371000 +type=crs"])
def test_areas_of_rows_are_geodesic(crs: str) -> None:
    """A geodesic polygon along parallels that are cut finely has the area of the pixel."""
    grid = lattice(crs, Fraction(1, 2), 360, Fraction(90))
    areas = row_areas(grid, slice(0, 360))
    ellipsoid = CRS.from_user_input(crs).ellipsoid
    assert ellipsoid is not None
    geod = Geod(a=ellipsoid.semi_major_metre, b=ellipsoid.semi_minor_metre)
    for row in (0, 60, 179, 300, 359):
        top, bottom = 90 - row / 2, 89.5 - row / 2
        lon = np.linspace(0, 0.5, 200)
        ring = np.concatenate([lon, lon[::-1]]), np.concatenate([np.full(200, bottom), np.full(200, top)])
        assert areas[row] == pytest.approx(abs(geod.polygon_area_perimeter(*ring)[0]) / 1e6, rel=1e-6)
    # All rows together are the globe.
    whole = lattice(crs, Fraction(1, 2), 360, Fraction(90))
    assert row_areas(whole, slice(0, 360)).sum() * 720 == pytest.approx(
        510_065_621.724 if crs == "EPSG:4326" else areas.sum() * 720, rel=1e-9
    )


def test_areas_of_a_projection_are_pixel_areas() -> None:
    grid = lattice("EPSG:5070", Fraction(30), 4, Fraction(0))
    np.testing.assert_allclose(row_areas(grid, slice(1, 3)), 900 / 1e6)
    feet = lattice("EPSG:2263", Fraction(100), 4, Fraction(0))
    np.testing.assert_allclose(row_areas(feet, slice(0, 1)), (100 * 1200 / 3937) ** 2 / 1e6)
    assert "true only where it keeps areas" in says_how(grid)


def test_transitions_are_what_numpy_counts(seasons: Seasons) -> None:
    report = seasons.cube.transitions({"year": 2000}, {"year": 2010}, variable="cover")
    before, after = seasons.cover[0], seasons.cover[2]
    areas = np.broadcast_to(row_areas(seasons.cube.grid, slice(0, 200))[:, np.newaxis], before.shape)
    for a in (1, 2, 3):
        for b in (1, 2, 3):
            hits = (before == a) & (after == b)
            assert report.counts[a, b] == (hits.sum(), pytest.approx(areas[hits].sum()))
    missing = np.isnan(before) | np.isnan(after)
    assert report.missing == (missing.sum(), pytest.approx(areas[missing].sum()))
    assert report.gaps.pending == 1
    assert report.rows()["from_name"][0] == "water"
    assert report.rows()["to_name"][2] == "bare soil"
    n, area = report.changed
    assert n == ((before != after) & ~missing).sum()
    assert area == pytest.approx(areas[(before != after) & ~missing].sum())


def test_wide_integers_are_classes_too(seasons: Seasons) -> None:
    report = seasons.cube.transitions({"band": "red"}, {"band": "nir"}, variable="refl", year=2000, bbox=(1, 17, 2, 18))
    red, nir = seasons.refl[0, :, 20:30, 10:20]
    both = ~np.isnan(red) & ~np.isnan(nir)
    pairs, counts = np.unique(np.stack([red[both], nir[both]]), axis=1, return_counts=True)
    assert {k: v[0] for k, v in report.counts.items()} == {
        (int(a), int(b)): n for (a, b), n in zip(pairs.T, counts, strict=True)
    }


def test_what_has_no_transitions_is_refused(seasons: Seasons) -> None:
    cube = seasons.cube
    for before, after, more, message in (
        ({"year": 2000}, {"year": 2000}, {"variable": "cover"}, "from and to are the same"),
        ({"year": 2000}, {"year": 2005}, {"variable": "height"}, "only whole numbers are classes"),
        ({"year": 2000}, {"year": 2005}, {"variable": "refl"}, "band has 2 values here"),
        ({"year": 2000}, {"year": 1999}, {"variable": "cover"}, "no value '1999'"),
        ({"yaer": 2000}, {"year": 2005}, {"variable": "cover"}, "no axis 'yaer'"),
    ):
        with pytest.raises(GridError, match=message):
            cube.transitions(before, after, **more)


def test_the_command_prints_a_matrix(seasons: Seasons, tmp_path: Path, invoke: Invoke) -> None:
    words = ("compute", "transitions", "--from", "year=2000", "--to", "year=2005", "--variable", "cover")
    done = invoke(*words, "--store", seasons.cube.store.uri, "-o", "t.csv", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "km², rows year 2000, columns year 2005" in done.out
    assert "bare soil" in done.out
    assert "changed: " in done.out
    assert "areas are of pixels on the ellipsoid WGS 84" in done.err
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert (lines[0], len(lines)) == ("from,to,from_name,to_name,pixels,area_km2", 10)
    done = invoke(*words, "--store", seasons.cube.store.uri, "--json", cwd=tmp_path)
    found = json.loads(done.out)
    both = ~np.isnan(seasons.cover[:2]).any(axis=0)
    assert sum(t["pixels"] for t in found["transitions"]) == both.sum()
    done = invoke("compute", "transitions", "--from", "2000", "--to", "year=2005", "--store", seasons.cube.store.uri)
    assert (done.code, "write AXIS=VALUE" in done.err) == (2, True)
