"""Independent mode: commits of their own, by processes that know nothing of each other."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest

import cubeingest as ci
from cubeingest.engine import SlotResult, Unit, failed, slots_in
from cubeingest.engine.merge import Merger
from cubeingest.errors import StoreError
from cubeingest.ingest.independent import CommitJob, fill_and_commit, units_of
from cubeingest.ingest.prepare import prepare
from cubeingest.selection import Selection
from cubeingest.store import Store, read_runs, repository
from cubeingest.store.location import may_pass
from tests.conftest import Ran, World
from tests.test_engine import HREF, PATIENCE, SLOW, cluster, finish, is_whole, oracle, started
from tests.test_glad import Web, serve

Invoke = Callable[..., Ran]


@pytest.fixture(params=["disk", "s3"])
def store(world: World, request: pytest.FixtureRequest) -> Store:
    """The world's cube, empty, on a disk and in a bucket."""
    where = request.getfixturevalue("bucket").uri("cube") if request.param == "s3" else world.store
    return ci.init(world.spec_file, where).store


def whole(world: World, uri: str) -> bool:
    cube = ci.open(uri)
    report = cube.check(deep=True)
    status = cube.status()
    new = sum(c.details.get("new", 0) for c in cube.history())
    return (
        report.findings == []
        and (status.done, status.pending, new) == (7, 0, 7)
        and np.array_equal(cube.dataset()["cover"].values, oracle(world))
    )


@pytest.mark.parametrize("commit_every", [None, 3])
def test_each_worker_commits_by_itself(world: World, store: Store, commit_every: int | None) -> None:
    report = ci.Cube(store).ingest(mode="independent", commit_every=commit_every)
    assert (report.mode, report.written, report.failed, report.unfinished) == ("independent", 7, [], 0)
    assert report.snapshot == store.tip
    commits = [c for c in ci.Cube(store).history() if c.details["action"] == "ingest"]
    assert sorted(c.details["written"] for c in commits) == ([1] * 7 if commit_every is None else [1, 3, 3])
    assert whole(world, store.uri)


def test_snapshot_of_a_run_is_its_last_commit_in_whatever_order_workers_tell_of_theirs(
    world: World, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cubeingest.ingest import run

    take, heard = run._take_committed, []

    def late(report: Any, results: Any) -> None:
        """As if the first commit were heard of last."""
        take(report, results)
        heard.append(report.snapshot)
        report.snapshot = heard[0]

    monkeypatch.setattr(run, "_take_committed", late)
    report = ci.Cube(store).ingest(mode="independent", year=2000)
    assert len(set(heard)) == 5
    assert report.snapshot == store.tip != heard[0]


@SLOW
def test_on_workers_of_its_own_and_on_a_cluster(world: World, tmp_path: object) -> None:
    for name, workers in (("local", 2), ("cluster", None)):
        cube = ci.init(world.spec_file, world.folder / name)
        with ExitStack() as stack:
            address = None if workers else stack.enter_context(cluster(world.folder / "dask", (), ()))
            report = cube.ingest(mode="independent", workers=workers, scheduler=address)
        assert (report.written, report.failed) == (7, [])
        assert whole(world, cube.store.uri)


def test_one_bad_tile_costs_one_slot_of_its_commit(world: World, store: Store, invoke: Invoke) -> None:
    (world.folder / "tiles" / "2000" / "20N_010E.tif").write_bytes(b"no raster")
    ran = invoke("ingest", "--mode", "independent", "--commit-every", 4, "--store", store.uri, "--json")
    assert (ran.code, ran.json["written"], len(ran.json["failed"])) == (1, 6, 1)
    assert ran.json["failed"][0]["region"] == "20N_010E"
    world.add_tile(2000, "20N_010E")
    assert invoke("ingest", "--mode", "independent", "--store", store.uri, "--json").json["written"] == 1
    assert whole(world, store.uri)


def test_abort_keeps_what_was_committed_before(world: World, store: Store, invoke: Invoke) -> None:
    (world.folder / "tiles" / "2000" / "10N_000E.tif").unlink()
    ran = invoke("ingest", "--mode", "independent", "--on-error", "abort", "--store", store.uri, "--json")
    assert ran.code == 1
    assert ran.json["written"] >= 1
    assert ran.json["written"] + ran.json["unfinished"] + 1 == 7


@SLOW
def test_processes_that_know_nothing_of_each_other_cover_everything(world: World, store: Store) -> None:
    """Four parts at once, each of which somebody started twice."""
    command = (sys.executable, "-m", "cubeingest", "ingest", "--mode", "independent", "--store", store.uri, "--json")
    with ExitStack() as stack:
        running = [
            stack.enter_context(started(*command, "--part", f"{k}/4", cwd=world.folder))
            for k, _ in product((1, 2, 3, 4), range(2))
        ]
        done = [finish(process) for process in running]
    assert [ran.code for ran in done] == [0] * 8, [ran.err for ran in done]
    assert sum(ran.json["written"] for ran in done) == 7
    assert sum(ran.json["written"] + ran.json["skipped"] for ran in done) == 14
    assert whole(world, store.uri)


def test_a_slot_that_somebody_else_finished_meanwhile_is_theirs(world: World, store: Store) -> None:
    units = list(units_of(prepare(store, Selection()).plan.tasks, 2))
    assert ci.Cube(store).ingest(region="20N_000E").written == 2
    tip = store.tip
    results = fill_and_commit(CommitJob(store, "late"), units[0])
    assert sorted(r.snapshot is None for r in results) == [False, True]
    assert store.tip != tip
    assert ci.open(store.uri).check(deep=True).findings == []


def test_a_slot_that_somebody_finishes_while_it_is_committed_is_theirs(
    world: World, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other comes after the work is done and before the commit: only the conflict tells."""
    (unit, *_) = units_of(prepare(store, Selection()).plan.tasks, 1)
    commit = Merger.commit

    def late(merger: Merger, *args: object, **kwargs: object) -> str | None:
        if merger.run == "late":
            monkeypatch.setattr(Merger, "commit", commit)
            ci.open(store.uri).ingest(region=store.spec.grid.region_id(unit[0].iy, unit[0].ix), year=2000)
        return commit(merger, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Merger, "commit", late)
    (result,) = fill_and_commit(CommitJob(store, "late"), unit)
    assert result.snapshot is None
    assert result.error is None
    assert ci.open(store.uri).check(deep=True).findings == []
    assert len([c for c in ci.open(store.uri).history() if c.details["action"] == "ingest"]) == 1


def test_attributes_changed_meanwhile_cost_nothing(world: World, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`init --update` conflicts with every writer of chunks; their work is put onto it."""
    (unit, *_) = units_of(prepare(store, Selection()).plan.tasks, 1)
    commit = Merger.commit

    def late(merger: Merger, *args: object, **kwargs: object) -> str | None:
        monkeypatch.setattr(Merger, "commit", commit)
        ci.init(world.write_spec(("CC0-1.0", "MIT")), store.uri, update=True)
        return commit(merger, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Merger, "commit", late)
    (result,) = fill_and_commit(CommitJob(store, "late"), unit)
    assert result.snapshot is not None
    assert ci.open(store.uri).dataset().attrs["license"] == "MIT"
    assert ci.open(store.uri).check(deep=True).findings == []


def test_a_commit_whose_answer_was_lost_is_not_taken_for_another_s(world: World, store: Store) -> None:
    (unit, *_) = units_of(prepare(store, Selection()).plan.tasks, 1)
    first = fill_and_commit(CommitJob(store, "same"), unit)
    again = fill_and_commit(CommitJob(store, "same"), unit)
    other = fill_and_commit(CommitJob(store, "other"), unit)
    assert [r.snapshot is not None for r in (*first, *again, *other)] == [True, True, False]
    assert [p.slot for p in slots_in(unit)] == [first[0].slot]


def test_many_writers_at_once_lose_nothing(world: World, store: Store) -> None:
    """Threads with repositories of their own, each committing slot by slot."""
    tasks = prepare(store, Selection()).plan.tasks

    def work(task: object) -> list[bool]:
        return [r.snapshot is not None for r in fill_and_commit(CommitJob(ci.open(store.uri).store, "run"), (task,))]  # type: ignore[arg-type]

    with ThreadPoolExecutor(7) as pool:
        assert list(pool.map(work, tasks)) == [[True]] * 7
    assert whole(world, store.uri)


# ---- runs that end early: what workers still commit is waited for, and counted -------------------------------


@pytest.fixture
def web(world: World) -> Iterator[Web]:
    """The world's tiles by way of HTTP; the spec says so, and the cube is made."""
    with serve() as made:
        for path in (world.folder / "tiles").glob("*/*.tif"):
            made.files[f"/{path.parent.name}/{path.name}"] = path.read_bytes()
        world.write_spec((HREF, f"href: {made.url}/{{year}}/{{id}}.tif"))
        ci.init(world.spec_file)
        yield made


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=SLOW)])
def test_a_signal_lets_the_regions_at_hand_be_committed(world: World, web: Web, workers: int) -> None:
    web.hold("/2000/20N_010E.tif", "/2000/20N_000E.tif", "/2005/20N_000E.tif")
    command = (sys.executable, "-m", "cubeingest", "ingest", "--mode", "independent", "--workers", workers, "--json")
    with started(*command, "--store", world.store, cwd=world.folder) as process:
        web.waiting.get(timeout=PATIENCE)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None  # a region is at hand
        assert len(read_runs(ci.open(world.store).store)) == 1
        web.release()
        done = finish(process)
    assert done.code == 143, done.err
    report, status = done.json, ci.open(world.store).status()
    assert report["written"] == status.done >= 1
    assert report["written"] + report.get("unfinished", 0) == 7
    assert report["failed"] == []
    assert read_runs(ci.open(world.store).store) == []
    assert ci.open(world.store).ingest(mode="independent").written == 7 - status.done
    assert is_whole(world)


def test_a_second_signal_waits_for_nothing(world: World, web: Web) -> None:
    web.hold("/2000/20N_010E.tif")
    command = (sys.executable, "-m", "cubeingest", "ingest", "--mode", "independent", "--workers", 1)
    with started(*command, "--store", world.store, cwd=world.folder) as process:
        web.waiting.get(timeout=PATIENCE)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.code == 130, done.err
    assert read_runs(ci.open(world.store).store) == []
    web.release()
    ci.open(world.store).ingest()
    assert is_whole(world)


@SLOW
def test_abort_counts_what_other_workers_commit_still(world: World, web: Web, tmp_path: Path) -> None:
    """On a cluster another region is at hand when the first one fails."""
    web.files["/2000/20N_000E.tif"] = b"no raster"
    web.hold("/2005/20N_000E.tif", "/2000/20N_000E.tif")
    with cluster(tmp_path / "dask", (), ()) as address:
        command = (
            sys.executable,
            "-m",
            "cubeingest",
            "ingest",
            "--mode",
            "independent",
            "--on-error",
            "abort",
            "--json",
        )
        with started(*command, "--scheduler", address, "--store", world.store, cwd=world.folder) as process:
            for _ in range(2):
                web.waiting.get(timeout=PATIENCE)
            web.held["/2000/20N_000E.tif"].set()
            time.sleep(3)
            web.release()
            done = finish(process)
    status = ci.open(world.store).status()
    assert done.code == 1, done.err
    assert done.json["written"] == status.done >= 1
    assert done.json["written"] + done.json.get("unfinished", 0) + len(done.json["failed"]) == 7


def test_worker_lost_after_its_commit_is_counted(world: World, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer never came; the cube knows."""
    from cubeingest.ingest import run

    def lost(job: CommitJob, unit: Unit) -> list[SlotResult]:
        results = fill_and_commit(job, unit)
        if unit[0].iy == 0:
            return [failed(p, "the worker was lost") for p in slots_in(unit)]
        return results

    monkeypatch.setattr(run, "fill_and_commit", lost)
    report = ci.Cube(store).ingest(mode="independent")
    assert (report.written, report.failed, report.unfinished) == (7, [], 0)


def test_store_that_fails_ends_the_run_at_once(world: World, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(self: Store) -> icechunk.Session:
        calls.append(self)
        raise StoreError("the store is gone")

    monkeypatch.setattr(Store, "writable", refuse)
    with pytest.raises(StoreError, match="the store is gone"):
        ci.Cube(store).ingest(mode="independent")
    assert 1 <= len(calls) <= 2  # of seven: two are at work at a time
    assert read_runs(store) == []


# ---- what is tried again, and for how long --------------------------------------------------------------------


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits that are asked for, none of which is waited."""
    waits: list[float] = []
    monkeypatch.setattr(repository.time, "sleep", waits.append)
    return waits


def test_others_that_keep_committing_are_given_up_on(
    world: World, monkeypatch: pytest.MonkeyPatch, counting: list[float]
) -> None:
    store = ci.init(world.spec_file).store
    monkeypatch.setattr(repository, "COMMIT_TRIES", 4)

    def meddle(session: icechunk.Session) -> bool:
        import zarr

        zarr.open_group(session.store, mode="r+").attrs["mine"] = 1
        other = store.repo.writable_session("main")
        zarr.open_group(other.store, mode="r+").attrs["theirs"] = len(counting)
        other.commit("theirs")
        return True

    with pytest.raises(StoreError, match=r"others kept committing to .*: gave up after 4 tries"):
        store.commit(meddle, lambda: "mine", dict)
    assert len(counting) == 4
    assert is_whole(world) is False


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("object store error dispatch failure: timeout", True),
        ("object store error service error: SlowDown: reduce your request rate", True),
        ("object store error dispatch failure: io error: connection reset by peer", True),
        ("object store error service error: AccessDenied: no", False),
        ("object store error service error: NoSuchBucket: none", False),
        ("object store error dispatch failure: other: an error occurred while loading credentials: none", False),
        ("object store error dispatch failure: io error: dns error: no such host", False),
        ("something nobody has seen", False),
    ],
)
def test_only_what_may_pass_is_tried_again(text: str, passes: bool) -> None:
    assert may_pass(icechunk.ErrorKind.OBJECT_STORE, text) is passes
    assert not may_pass(icechunk.ErrorKind.DESERIALIZATION, text)
