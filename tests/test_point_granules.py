"""Granules that come, go, change or break between runs: no statistic is ever of other points than its record says, nor worse than it was."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cubeingest as ci
from tests.test_point_cubes import make_points

SPEC = """\
name: granules
grid: {type: healpix, order: 3, region_order: 0}
axes: {cycle: {values: [1, 2]}}
points:
  tiles: {list: "c{cycle}.txt"}
  coordinates: {x: lon, y: lat}
  columns: {h: height, q: quality}
variables:
  n: {dtype: int32, fill_value: 0, aggregate: count}
  h: {dtype: float64, fill_value: .nan, aggregate: {min: h}}
store: ./granules.icechunk
"""


def write(folder: Path, name: str, n: int, seed: int, **places: float) -> pd.DataFrame:
    table = make_points(n, seed, **places)
    table.to_parquet(folder / name)
    return table


def make_list(folder: Path, cycle: int, *hrefs: str) -> None:
    (folder / f"c{cycle}.txt").write_text("\n".join(hrefs))


def make_cube(folder: Path, text: str = SPEC, update: bool = False) -> ci.Cube:
    (folder / "grid.yaml").write_text(text)
    return ci.init(folder / "grid.yaml", update=update)


def counts(cube: ci.Cube) -> list[int]:
    return [int(v) for v in cube.dataset().n.sum("cells").values]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Granules a and b for cycle 1, c for cycle 2."""
    for name, n in (("a", 300), ("b", 200), ("c", 100)):
        write(tmp_path, f"{name}.parquet", n, n)
    make_list(tmp_path, 1, "a.parquet", "b.parquet")
    make_list(tmp_path, 2, "c.parquet")
    return tmp_path


def test_granule_that_is_away_for_a_while_leaves_its_regions_as_they_are(two: Path) -> None:
    cube = make_cube(two)
    cube.ingest()
    (two / "b.parquet").rename(two / "away")
    report = cube.ingest()
    assert report.written == 0
    assert {f.variable for f in report.failed} == {"n", "h"}
    assert all("b.parquet' is not there" in f.error for f in report.failed)
    assert report.planned == report.written + report.empty + report.skipped + len(report.failed)
    assert counts(cube) == [500, 100]
    missing = cube.verify().missing
    assert len(missing) == 24
    assert "is not there" in missing[0]["error"]
    (two / "away").rename(two / "b.parquet")
    again = cube.ingest()
    assert (again.written, again.failed) == (0, [])
    assert cube.verify().exit_code == 0


def test_granule_that_cannot_be_read_at_first_is_named_for_every_variable_and_comes_later(two: Path) -> None:
    content = (two / "b.parquet").read_bytes()
    (two / "b.parquet").write_bytes(content[: len(content) // 2])
    cube = make_cube(two)
    report = cube.ingest()
    assert [(f.region, f.variable) for f in report.failed] == [(None, "n"), (None, "h")]
    assert "made of the other granules, and again when it can be read" in report.failed[0].error
    assert counts(cube) == [300, 100]
    (two / "b.parquet").write_bytes(content)
    assert not cube.ingest().failed
    assert counts(cube) == [500, 100]


def test_granule_that_is_damaged_after_it_was_scanned_leaves_its_regions_as_they_are(two: Path) -> None:
    cube = make_cube(two)
    cube.ingest()
    (two / "b.parquet").write_bytes(b"none")
    report = cube.ingest()
    assert report.written == 0
    assert counts(cube) == [500, 100]


def test_granule_that_is_replaced_after_the_plan_was_made_is_refused(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranges that were scanned are those of the old one."""
    from cubeingest.ingest import run

    cube = make_cube(two)
    make_known = run.made_known

    def replace(*args: Any, **kwargs: Any) -> Any:
        write(two, "a.parquet", 900, 7)
        return make_known(*args, **kwargs)

    monkeypatch.setattr(run, "made_known", replace)
    report = cube.ingest(workers=1)
    assert len(report.failed) == 24
    assert all("a.parquet' changed during the run" in f.error for f in report.failed)
    monkeypatch.undo()
    assert not cube.ingest().failed
    assert counts(cube) == [1100, 100]


def test_release_with_another_name_leaves_nothing_of_the_one_before(two: Path) -> None:
    cube = make_cube(two)
    cube.ingest()
    table = write(two, "new.parquet", 50, 9, south=60.0)
    make_list(two, 1, "new.parquet")
    report = cube.ingest(cycle=1)
    assert report.empty > 0
    assert counts(cube) == [len(table), 100]
    assert cube.ingest().written == 0
    assert cube.verify().exit_code == 0
    assert cube.check().findings == []


def test_axis_value_without_any_granule_keeps_what_it_has(two: Path) -> None:
    """As a folder that is not mounted would have it."""
    cube = make_cube(two)
    cube.ingest()
    make_list(two, 1)
    assert cube.ingest().written == 0
    assert counts(cube) == [500, 100]


def test_variable_of_a_function_that_becomes_a_statistic_keeps_nothing_of_the_function(two: Path) -> None:
    plain = SPEC.replace("fill_value: .nan, aggregate: {min: h}", "fill_value: .nan")
    cube = make_cube(two, plain)
    cube.ingest(source=lambda region, cycle: np.full(64, 7.0), variable="h")
    for cycle, name in ((1, "a"), (2, "c")):
        write(two, f"{name}.parquet", 50, 1, south=60.0)
        make_list(two, cycle, f"{name}.parquet")
    cube = make_cube(two, SPEC, update=True)
    cube.ingest()
    assert not (cube.dataset().h == 7).any()


def test_function_of_points_is_asked_again_for_another_statistic_or_filter(tmp_path: Path) -> None:
    table = make_points(500, 1)

    def observe(region: Any, cycle: int) -> pd.DataFrame:
        return table

    text = SPEC.replace('  tiles: {list: "c{cycle}.txt"}\n', "")
    cube = make_cube(tmp_path, text)
    cube.ingest(source=observe)
    least = float(cube.dataset().h.sum())
    cube = make_cube(tmp_path, text.replace("{min: h}", "{max: h}"), update=True)
    assert cube.ingest(source=observe).written == 24
    assert float(cube.dataset().h.sum()) > least
    cube = make_cube(tmp_path, text.replace("columns:", "filter: q == 0\n  columns:"), update=True)
    assert cube.ingest(source=observe).written == 48
    assert counts(cube) == [int((table.quality == 0).sum())] * 2
    assert cube.verify().exit_code == 0


def test_granule_that_moves_within_an_axis_block_is_noticed(two: Path) -> None:
    text = SPEC.replace("aggregate:", "chunks: {cycle: 2, cells: 64}, aggregate:")
    cube = make_cube(two, text)
    cube.ingest()
    assert counts(cube) == [500, 100]
    make_list(two, 1, "a.parquet")
    make_list(two, 2, "b.parquet", "c.parquet")
    assert cube.ingest().written == 24
    assert counts(cube) == [300, 300]


def test_granule_that_is_named_in_several_ways_counts_once(two: Path) -> None:
    make_list(two, 1, "b.parquet", f"file://{two}/b.parquet", f"{two}//b.parquet", "./x/../b.parquet")
    cube = make_cube(two)
    cube.ingest()
    assert counts(cube) == [200, 100]


def test_filter_that_is_nan_is_not_true_wherever_points_come_from(tmp_path: Path) -> None:
    table = make_points(400, 1)
    table["quality"] = np.where(np.arange(400) % 3, table.quality.astype(float), np.nan)
    kept = int(((table.quality != 0) & table.quality.notna()).sum())
    table.to_parquet(tmp_path / "a.parquet")
    make_list(tmp_path, 1, "a.parquet")
    make_list(tmp_path, 2, "a.parquet")
    cube = make_cube(tmp_path, SPEC.replace("columns:", "filter: q\n  columns:"))
    cube.ingest(cycle=1)
    cube.ingest(cycle=2, source=lambda region, cycle: table, variable=["n", "h"])
    assert counts(cube) == [kept, kept]


def test_two_runs_of_one_process_do_not_take_each_other_their_readers(tmp_path: Path) -> None:
    cubes = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        write(folder, "a.parquet", 3000, 1)
        make_list(folder, 1, "a.parquet")
        make_list(folder, 2, "a.parquet")
        cubes.append(make_cube(folder))
    reports: list[Any] = []
    threads = [threading.Thread(target=lambda cube=cube: reports.append(cube.ingest(workers=1))) for cube in cubes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(r.failed, r.written) for r in reports] == [([], 48), ([], 48)]
    assert [counts(c) for c in cubes] == [[3000, 3000]] * 2


def test_scratch_and_granules_are_given_back_when_a_run_ends(two: Path) -> None:
    from cubeingest.ingest.points import reading

    cube = make_cube(two)
    cube.ingest(workers=1)  # what libraries open once stays open
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        cube.ingest(workers=1, redo=True)
    assert reading._held == {}
    assert len(os.listdir("/proc/self/fd")) < before + 5
