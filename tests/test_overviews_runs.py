"""Overviews as a job among others: workers, kills, interruptions, others who commit, object stores, references."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cubeingest as ci
from cubeingest import Cube
from cubeingest.branches import start_branch
from cubeingest.engine import Options
from cubeingest.overviews import current_slots, make_overviews, run
from cubeingest.selection import Selection
from cubeingest.store import made_known
from tests.objectstore import Bucket
from tests.test_blocks import _state_of_its_own, put_back_older, virtual_cube
from tests.test_engine import SLOW, cluster, finish, started
from tests.test_overviews import assert_levels, classes, cube, made, make

__all__ = ["_state_of_its_own", "cube", "made"]


def is_current(cube: Cube) -> bool:
    return all(bool(slots.all()) for slots in current_slots(cube.store.readonly(), cube.spec).values())


@SLOW
@pytest.mark.parametrize("where", ["workers", "cluster"])
def test_made_by_several_processes_they_are_the_same(tmp_path: Path, where: str) -> None:
    cube = make(tmp_path)
    cube.ingest(source=classes)
    if where == "workers":
        report = cube.overviews(workers=2, levels=5)
    else:
        with cluster(tmp_path / "dask", (), ()) as address:
            report = cube.overviews(scheduler=address, levels=5)
    assert (report.written, report.failed) == (14, [])
    assert assert_levels(cube, "cover") == 5


@SLOW
def test_in_an_object_store(tmp_path: Path, bucket: Bucket) -> None:
    make(tmp_path)
    cube = ci.init(tmp_path / "grid.yaml", bucket.uri("cube"))
    cube.ingest(source=classes, region=["y0_x0", "y0_x1"], year=2000)
    assert cube.overviews(levels=4).written == 2 + 1
    assert assert_levels(cube, "cover") == 4


KILLED = """
import os, signal, sys
import cubeingest as ci
from cubeingest.overviews import run

commit = run._Work._commit
def commit_and_die(*args):
    if {before}: os.kill(os.getpid(), signal.SIGKILL)
    commit(*args)
    os.kill(os.getpid(), signal.SIGKILL)
run._Work._commit = commit_and_die
ci.open(sys.argv[1]).overviews(levels=5)
"""


@SLOW
@pytest.mark.parametrize("before", [True, False])
def test_killed_between_stages_the_next_run_goes_on(tmp_path: Path, before: bool) -> None:
    cube = make(tmp_path)
    cube.ingest(source=classes, year=2000)
    with started(sys.executable, "-c", KILLED.format(before=before), cube.store.uri, cwd=tmp_path) as process:
        assert finish(process).code == -signal.SIGKILL
    assert not current_slots(cube.store.readonly(), cube.spec)["cover"][0].any()  # none is in all levels
    assert [f.kind for f in cube.check().findings] == ["dead-run"]
    report = cube.overviews()
    assert (report.written, report.skipped) == ((7, 0) if before else (1, 6))
    assert assert_levels(cube, "cover") == 5
    assert is_current(cube)


@SLOW
def test_what_others_ingest_meanwhile_is_stale_and_nothing_is_lost(tmp_path: Path) -> None:
    cube = make(tmp_path)
    cube.ingest(source=classes, year=2000, region=["y0_x0", "y1_x1"])
    other = ci.open(cube.store.uri)

    def ingest_once(progress: Any) -> None:
        if progress.result is not None and other.status().done == 2:
            other.ingest(source=lambda g, year: classes(g, 1), year=2000, region="y0_x0", redo=True)
            other.ingest(source=classes, year=2000, region="y0_x2")

    report = cube.overviews(levels=4, on_progress=ingest_once)
    assert report.failed == []
    # The first stage had read the old region: its cell is known to be stale, though the second stage was made after that.
    stale = ~current_slots(cube.store.readonly(), cube.spec)["cover"]
    assert np.argwhere(stale).tolist() == [[0, 0, 0], [0, 0, 2]]
    cube.overviews()
    assert assert_levels(cube, "cover") == 4
    assert is_current(cube)


@SLOW
@pytest.mark.parametrize("mode", ["cooperative", "independent"])
def test_ingest_goes_on_while_overviews_are_made_for_the_first_time(tmp_path: Path, mode: Any) -> None:
    """New groups and attributes are a conflict for everybody who is about to commit."""
    cube = make(tmp_path)
    cube.ingest(source=classes, year=2001, region="y0_x0")
    other = ci.open(cube.store.uri)
    made: list[int] = []

    def make_once(progress: Any) -> None:
        if progress.result is not None and not made:
            made.append(other.overviews(levels=4).written)

    report = cube.ingest(source=classes, year=2000, mode=mode, on_progress=make_once)
    assert (report.written + report.empty, report.failed) == (9, [])
    assert made[0] >= 2
    cube.overviews()
    assert assert_levels(cube, "cover") == 4
    assert cube.check(deep=True).findings == []


@SLOW
def test_two_runs_at_once_make_what_one_makes(tmp_path: Path) -> None:
    cube = make(tmp_path)
    cube.ingest(source=classes)
    command = (sys.executable, "-m", "cubeingest", "overviews", "--levels", 5, "--store", cube.store.uri)
    with started(*command, cwd=tmp_path) as one, started(*command, cwd=tmp_path) as two:
        done = [finish(one), finish(two)]
    assert [d.code for d in done] == [0, 0], done
    assert assert_levels(cube, "cover") == 5
    assert is_current(cube)
    assert cube.check(deep=True).findings == []


@SLOW
def test_interruption_commits_what_is_finished(tmp_path: Path) -> None:
    cube = make(tmp_path)
    cube.ingest(source=classes)

    def stop(progress: Any) -> None:
        if progress.result is not None:
            os.kill(os.getpid(), signal.SIGINT)

    report = cube.overviews(levels=5, on_progress=stop)
    assert report.exit_code == 130
    assert 1 <= report.written < 12
    assert report.planned == report.written + report.unfinished
    cube.overviews()
    assert assert_levels(cube, "cover") == 5


def test_snapshot_cannot_be_given_overviews(tmp_path: Path) -> None:
    cube = make(tmp_path)
    with pytest.raises(ci.CubeIngestError, match="can only be read"):
        make_overviews(cube.at(cube.store.tip).store, Selection(), Options())


def test_cell_above_a_tile_that_is_gone_fails_and_says_why(tmp_path: Path) -> None:
    cube = virtual_cube(tmp_path)
    assert cube.overviews(levels=2).written == 2
    assert assert_levels(cube, "v") == 2
    put_back_older(tmp_path / "tiles/2000/y0_x0.tif", np.full((64, 64), 3, "int16"))
    report = cube.overviews(redo=True)
    assert (report.written, len(report.failed), report.exit_code) == (1, 1, 1)
    assert "has changed" in report.failed[0]["error"]


def test_store_that_fails_in_the_second_stage_keeps_the_first(tmp_path: Path) -> None:
    cube = make(tmp_path)
    cube.ingest(source=classes, region="y0_x0", year=2000)

    def lose_chunks(progress: Any) -> None:
        if progress.result is not None:  # what the first stage has written, the second cannot read
            for file in (tmp_path / "made.icechunk" / "chunks").iterdir():
                file.unlink()

    report = cube.overviews(levels=5, on_progress=lose_chunks)
    assert (report.written, report.exit_code) == (1, 1)
    assert "the store failed" in report.error
    assert report.planned == 2 == report.written + report.unfinished


def test_nothing_is_taken_away_before_the_workers_are_known_to_be_there(cube: Cube) -> None:
    with pytest.raises(ci.CubeIngestError, match="no Dask scheduler"):
        cube.overviews(levels=2, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ci.CubeIngestError, match="leave the selection out"):
        cube.overviews(levels=2, year=2000)
    assert is_current(cube)
    assert assert_levels(cube, "cover") == 3


@SLOW
def test_cells_that_an_older_run_made_meanwhile_are_made_again(cube: Cube, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs plan the same cell; between their plans the region changes; the one that read the older cube commits first."""
    cube.ingest(source=lambda g, year: classes(g, 1), region="y0_x0", year=2000, redo=True)
    old_session = cube.store.writable()
    other = ci.open(cube.store.uri)
    cube.ingest(source=lambda g, year: classes(g, 2), region="y0_x0", year=2000, redo=True)
    seen: list[str] = []

    def older_run(progress: Any) -> None:
        if progress.result is not None and not seen:
            seen.append(old_session.snapshot_id)
            before = run.Store.writable
            monkeypatch.setattr(
                run.Store, "writable", lambda store: old_session if store is other.store else before(store)
            )
            assert make_overviews(other.store, Selection(), Options()).written >= 1
            monkeypatch.setattr(run.Store, "writable", before)

    report = cube.overviews(on_progress=older_run)
    assert report.failed == []
    assert seen
    assert is_current(cube)
    assert assert_levels(cube, "cover") == 3


@pytest.mark.parametrize("there_and_back", [False, pytest.param(True, marks=SLOW)])
def test_overviews_made_anew_meanwhile_end_the_run(cube: Cube, there_and_back: bool) -> None:
    """Somebody publishes a branch with other overviews: forks of arrays that are gone must not count as written."""
    cube.ingest(source=lambda g, year: classes(g, 1), region="y0_x0", year=2000, redo=True)
    branch = ci.Cube(start_branch(cube.store, "b"))
    branch.overviews(levels=2)
    if there_and_back:
        branch.overviews(levels=3)

    def publish_once(progress: Any) -> None:
        if progress.result is not None:
            cube.publish("b")

    with pytest.raises(ci.CubeIngestError, match="made anew by somebody else"):
        cube.overviews(on_progress=publish_once)


def test_group_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    import zarr

    cube = make(tmp_path)
    session = cube.store.writable()
    zarr.open_group(session.store, mode="r+").create_group("overviews/mine")
    session.commit("mine")
    with pytest.raises(ci.CubeIngestError, match="did not make"):
        cube.overviews()


def test_number_of_levels_is_not_changed_beside_another_run(tmp_path: Path) -> None:
    cube = make(tmp_path)
    cube.overviews()
    with made_known(cube.store, "other"):
        with pytest.raises(ci.CubeIngestError, match="an ingest is running"):
            cube.overviews(levels=2)
        assert len(cube.overviews().levels) == 3
    assert len(cube.overviews(levels=2).levels) == 2
