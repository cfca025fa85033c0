"""The benchmarks run, and every way gives the same pixels, so that none is timed while it does something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import aggregate, analyze, pictures, remote, rivals
from benchmarks.report import PAGE, local_tables, plot, remote_tables, rewrite
from benchmarks.tiles import INPUTS
from benchmarks.ways import LOCAL, REMOTE, WAYS

SMALL = ["--chunk", "200", "--tiles", "2", "--runs", "1"]
"""Sides that 512 does not divide, and chunks that its blocks straddle."""


def test_the_page_has_a_place_for_each_suite(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    for suite in ("rivals", "remote"):
        rewrite(suite, f"new words of {suite}", page)
    assert page.read_text().count("new words of") == 2
    with pytest.raises(ValueError, match="0 places marked 'nothing'"):
        rewrite("nothing", "", page)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ways"),
    # Strips are decoded by GDAL in all ways but ours, so some will do.
    [("zstd-float32-ocean", LOCAL), ("strips", ["floor", "ours", "notebook", "gdal"])],
)
def test_every_way_makes_the_same_cube_of_the_same_tiles(kind: str, ways: list[str], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    where = ["--keep", str(tmp_path / "tiles"), "--json", str(file)]
    found = rivals.main(["--size", "1200", "--inputs", kind, "--ways", ",".join(ways), *where, *SMALL])

    assert json.loads(file.read_text()) == found
    (result,) = found["results"]
    # What each left was compared with the tiles: a difference ends the run.
    assert {name: way["compared"] for name, way in result["ways"].items()} == dict.fromkeys(ways, 1)
    assert len(local_tables(found)) == 6
    assert all(path.stat().st_size for path in plot(found, "floor", "title", tmp_path / "picture"))
    assert not list((tmp_path / "tiles").glob("*store*"))


@pytest.mark.slow
def test_the_floor_decodes_every_kind_of_tile(tmp_path: Path) -> None:
    found = rivals.main(["--size", "1200", "--inputs", "all", "--ways", "floor", "--folder", str(tmp_path), *SMALL])
    assert [result["ways"]["floor"]["compared"] for result in found["results"]] == [1] * len(INPUTS)


@pytest.mark.slow
def test_every_way_makes_the_same_cube_from_a_web_server(tmp_path: Path) -> None:
    found = remote.main(["--size", "600", "--inputs", "blocks", "--keep", str(tmp_path), "--latency", "0.001", *SMALL])

    assert len(found["results"]) == 2
    for result in found["results"]:
        writing = {name: way["compared"] for name, way in result["ways"].items() if WAYS[name].writes}
        assert writing == {name: 1 for name in REMOTE if WAYS[name].writes}
        assert all(way["requests"] >= 2 and way["sent"] > 0 for way in result["ways"].values())
    assert "requests" in remote_tables(found)[2]


@pytest.mark.slow
def test_every_picture_is_drawn_and_measured(tmp_path: Path) -> None:
    commands = {**pictures.FULL, **pictures.THINNED}
    found = pictures.measure(pictures.make_cube(tmp_path, 1), tmp_path, 1, commands)
    assert set(found) == set(commands)
    assert all(
        (tmp_path / name).stat().st_size for name in ("grid.png", "status.png", "map.png", "region.png", "page.html")
    )


@pytest.mark.slow
def test_every_way_makes_the_same_statistics_of_the_same_points(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    found = aggregate.main(["--points", "8000", "--runs", "1", "--json", str(file)])
    assert json.loads(file.read_text()) == found
    # Each way's results were compared with numpy's: a difference ends the run.
    assert all(set(result["ways"]) == set(aggregate.WAYS) for result in found["results"])


@pytest.mark.slow
def test_computing_is_measured_beside_what_gives_the_same(tmp_path: Path) -> None:
    found = analyze.main(
        ["--size", "4000", "--points", "100", "--zones", "20", "--repeats", "1", "--keep", str(tmp_path)]
    )
    assert set(found) == {"mean", "series", "zonal"}
