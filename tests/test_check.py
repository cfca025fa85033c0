"""`check` tells a sound cube from one that is not, and `gc` gives back what nobody needs and nothing else."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import icechunk
import numpy as np
import pytest
import zarr

import cubeingest as ci
from cubeingest.check import count_chunks
from cubeingest.errors import GridError, StoreError
from cubeingest.garbage import parse_age
from cubeingest.store import LEDGER, Run, made_known, read_runs
from cubeingest.store.runs import SILENCE, birth_of, this_host
from tests.conftest import Ran, World
from tests.test_bad_store import refused
from tests.test_engine import started, wait_until

Invoke = Callable[..., Ran]


@pytest.fixture
def cube(world: World) -> ci.Cube:
    """The world's cube, all of it ingested; one region of 2005 is open sea."""
    world.add_tile(2005, "20N_010E", np.full((100, 100), 255, np.uint8))
    made = ci.init(world.spec_file)
    assert made.ingest().empty == 1
    return made


def change(cube: ci.Cube, write: Callable[[zarr.Group], object], message: str = "by hand") -> None:
    """Commit something behind our back."""
    session = cube.store.repo.writable_session("main")
    write(zarr.open_group(session.store, mode="r+"))
    session.commit(message)


def kinds(cube: ci.Cube, deep: bool = False) -> list[str]:
    return [f.kind for f in ci.open(cube.store.uri).check(deep=deep).findings]


# ---- check ----------------------------------------------------------------------------------------------------


def test_sound_cube_is_sound(cube: ci.Cube, invoke: Invoke) -> None:
    for deep in ((), ("--deep",)):
        ran = invoke("check", *deep, "--store", cube.store.uri, "--json")
        assert ran.code == 0
        assert (ran.json["sound"], ran.json["slots"], ran.json["findings"]) == (True, 8, [])
        assert ran.json["chunks"] == 4 * 5 + 2 * 2  # regions of four chunks, those at the end of two
    assert invoke("check", "--store", cube.store.uri).out.startswith("the cube is sound: 8 slots, 24 chunks")


def record(cube: ci.Cube, group: zarr.Group) -> zarr.Array:
    array = group[f"{LEDGER}/cover/record"]
    assert isinstance(array, zarr.Array)
    return array


BREAKS: dict[str, tuple[str, bool, Callable[[zarr.Group], object]]] = {
    "pixels deleted": ("lost", False, lambda g: g["cover"].__setitem__((0, slice(0, 100), slice(0, 100)), 255)),
    "record deleted": ("unrecorded", False, lambda g: g[f"{LEDGER}/cover/record"].__setitem__((0, 0, 0), "")),
    "pixels in the sea": ("not-empty", False, lambda g: g["cover"].__setitem__((1, slice(0, 50), slice(100, 150)), 7)),
    "coordinate moved": ("coordinate", False, lambda g: g["x"].__setitem__(3, 0.0)),
    "array resized": ("layout", False, lambda g: g["cover"].resize((2, 200, 300))),
    "pixel changed": ("changed", True, lambda g: g["cover"].__setitem__((0, 3, 4), 201)),
    "record garbled": ("record", True, lambda g: g[f"{LEDGER}/cover/record"].__setitem__((0, 0, 0), "nonsense")),
}


@pytest.mark.parametrize(("kind", "deep", "write"), BREAKS.values(), ids=BREAKS)
def test_what_is_wrong_is_found(
    cube: ci.Cube, invoke: Invoke, kind: str, deep: bool, write: Callable[[zarr.Group], object]
) -> None:
    change(cube, write)
    assert kinds(cube, deep=True) == [kind]
    assert kinds(cube) == ([] if deep else [kind])
    ran = invoke("check", "--deep", "--store", cube.store.uri)
    assert ran.code == 1
    assert ran.err.startswith(f"{kind}: ")


@pytest.mark.parametrize("name", [n for n, (k, *_) in BREAKS.items() if k not in ("coordinate", "layout")])
def test_what_check_says_to_do_mends_it(cube: ci.Cube, invoke: Invoke, name: str) -> None:
    change(cube, BREAKS[name][2])
    (finding,) = invoke("check", "--deep", "--store", cube.store.uri, "--json").json["findings"]
    command = re.search("`cubeingest (.*)`", finding["remedy"])
    assert command is not None, finding
    assert invoke(*command[1].split(), "--store", cube.store.uri).code == 0
    assert kinds(cube, deep=True) == []
    assert invoke("verify", "--store", cube.store.uri, "--json").json["equal"] == 8


def test_chunks_that_no_record_speaks_of_are_cleared_by_the_next_ingest(cube: ci.Cube, world: World) -> None:
    """Where the tile is fill value they would stay, under a record that says otherwise."""
    world.add_tile(2000, "20N_020E", np.full((100, 50), 255, np.uint8))
    change(cube, lambda g: g["cover"].__setitem__((0, slice(0, 100), slice(200, 250)), 9))
    assert kinds(cube) == ["unrecorded"]
    assert ci.open(world.store).ingest().empty == 1
    assert kinds(cube, deep=True) == []
    assert (ci.open(world.store).dataset()["cover"][0, :100, 200:].values == 255).all()


def test_remedy_names_the_branch(cube: ci.Cube, world: World) -> None:
    cube.ingest(branch="staging")
    session = cube.store.repo.writable_session("staging")
    zarr.open_group(session.store, mode="r+")["cover"][0, :100, :100] = 255  # type: ignore[index]
    session.commit("by hand")
    (finding,) = cube.on("staging").check().findings
    assert "ingest --redo --branch staging --region 20N_000E" in finding.remedy


def test_chunk_object_that_is_gone_is_found_by_reading(cube: ci.Cube, world: World) -> None:
    objects = sorted((world.store / "chunks").iterdir(), key=lambda p: p.stat().st_size)
    objects[-1].unlink()
    assert kinds(cube) == []
    assert kinds(cube, deep=True) == ["unreadable"]


def test_splitting_that_was_lost_is_found_and_mended(cube: ci.Cube, world: World, invoke: Invoke) -> None:
    storage = icechunk.local_filesystem_storage(str(world.store))
    config = icechunk.RepositoryConfig.default()
    config.manifest = icechunk.ManifestConfig(splitting=icechunk.ManifestSplittingConfig.from_dict({}))
    icechunk.Repository.open(storage, config=config).save_config()
    assert kinds(cube) == ["splitting"]
    ran = invoke("init", "grid.yaml", "--update", "--json")
    assert (ran.code, ran.json["action"]) == (0, "updated")
    assert kinds(cube) == []


def test_chunks_are_counted_where_slots_are(cube: ci.Cube) -> None:
    session = cube.store.readonly()
    counts, outside = count_chunks(session, cube.spec, cube.spec.variable("cover"))
    expected = np.zeros((2, 2, 3), int)
    expected[0] = [[4, 4, 0], [4, 4, 2]]
    expected[1, 0, 0], expected[1, 1, 2] = 4, 2
    assert np.array_equal(counts, expected)
    assert outside == 0


def test_check_reads_a_store_that_takes_no_writing(cube: ci.Cube, world: World, invoke: Invoke) -> None:
    before = {p: p.stat().st_mtime_ns for p in world.store.rglob("*")}
    assert invoke("check", "--deep", "--store", world.store).code == 0
    assert {p: p.stat().st_mtime_ns for p in world.store.rglob("*")} == before


# ---- runs that are known --------------------------------------------------------------------------------------


def test_run_is_known_while_it_lasts(cube: ci.Cube) -> None:
    with made_known(cube.store, "abc"):
        (run,) = read_runs(cube.store)
        assert (run.kind, run.id, run.pid, run.is_alive) == ("run", "abc", os.getpid(), True)
        assert Run.from_branch(run.branch) == run
        with pytest.raises(StoreError, match=f"an ingest is running in .* by process {os.getpid()} on"):
            cube.gc(older_than=timedelta(0))
        with made_known(cube.store, "def"):
            assert len(read_runs(cube.store)) == 2
    assert read_runs(cube.store) == []
    assert cube.store.repo.list_branches() == {"main"}


def test_run_cannot_start_while_garbage_is_collected(cube: ci.Cube, world: World, invoke: Invoke) -> None:
    world.add_tile(2005, "10N_000E")
    with made_known(cube.store, "abc", "gc"):
        refused(invoke("ingest", "--store", cube.store.uri), "garbage is being collected in .*: nothing was done")
        assert len(read_runs(cube.store)) == 1
    assert invoke("ingest", "--store", cube.store.uri, "--json").json["written"] == 1


@pytest.mark.parametrize(
    ("host", "process", "ago", "birth", "alive"),
    [
        ("here", "parent", timedelta(0), "own", True),
        ("here", "parent", timedelta(hours=9), "own", True),  # the clock was set
        ("here", "this", timedelta(0), "own", False),  # this process has no such run
        ("here", "none", timedelta(0), "5", False),
        ("here", "parent", timedelta(0), "5", False),  # the process has another's number
        ("elsewhere-1", "none", timedelta(minutes=30), "5", True),
        ("elsewhere-1", "none", SILENCE + timedelta(minutes=1), "5", False),
        ("elsewhere-1", "none", -timedelta(hours=1), "5", True),  # its clock is ahead
    ],
)
def test_dead_run_is_told_from_one_that_lives(host: str, process: str, ago: timedelta, birth: str, alive: bool) -> None:
    pid = {"parent": os.getppid(), "this": os.getpid(), "none": 2**22 + 1}[process]
    host = this_host() if host == "here" else host
    birth = birth_of(pid) if birth == "own" else birth
    then = (datetime.now(UTC) - ago).replace(microsecond=0)
    assert Run("run", "abc", then, then, host, pid, birth).is_alive is alive


# ---- gc -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "age"), [("90s", 90), ("30m", 1800), ("12h", 43200), ("7d", 604800), ("2w", 1209600)])
def test_age_is_read(text: str, age: int) -> None:
    assert parse_age(text).total_seconds() == age


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1.5h", "7 days", "9999999d"])
def test_age_that_is_none_is_refused(cube: ci.Cube, invoke: Invoke, text: str) -> None:
    with pytest.raises(GridError, match="write a number and a unit"):
        parse_age(text)
    refused(invoke("gc", f"--older-than={text}", "--store", cube.store.uri), "write a number and a unit")


def n_files(world: World, folder: str = "chunks") -> int:
    return len(list((world.store / folder).iterdir()))


def test_killed_run_is_cleaned_up_after(cube: ci.Cube, world: World, invoke: Invoke) -> None:
    """What a run that was killed has written is removed, what counts is not."""
    for region in ("10N_000E", "10N_010E"):
        world.add_tile(2005, region)
    before = n_files(world)
    script = "import os, signal, cubeingest as ci\nfrom cubeingest.engine import Merger\n"
    script += "Merger.commit = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
    script += f"ci.open({cube.store.uri!r}).ingest()\n"
    with started(sys.executable, "-c", script, cwd=world.folder) as process:
        process.wait(60)
    assert process.returncode == -signal.SIGKILL
    assert n_files(world) > before
    assert kinds(cube) == ["dead-run"]
    young = invoke("gc", "--store", cube.store.uri, "--json").json
    assert (young["chunks"], young["runs_forgotten"]) == (0, 1)
    left = invoke("gc", "--older-than", "0s", "--dry-run", "--store", cube.store.uri, "--json").json
    assert left["chunks"] == n_files(world) - before
    assert n_files(world) > before
    freed = invoke("gc", "--older-than", "0s", "--store", cube.store.uri, "--json").json
    assert freed["chunks"] == left["chunks"]
    assert freed["bytes"] >= left["bytes"] > 0
    assert n_files(world) == before
    assert kinds(cube, deep=True) == []
    assert invoke("ingest", "--store", cube.store.uri, "--json").json["written"] == 2
    assert kinds(cube, deep=True) == []


def test_gc_refuses_while_another_process_ingests(cube: ci.Cube, world: World, invoke: Invoke) -> None:
    world.add_tile(2005, "10N_000E")
    script = "import time, cubeingest as ci\nfrom cubeingest.engine import Merger\nbefore = Merger.commit\n"
    script += "def commit(*a, **k):\n    while not __import__('os').path.exists('go'): time.sleep(0.05)\n    return before(*a, **k)\n"
    script += f"Merger.commit = commit\nprint(ci.open({cube.store.uri!r}).ingest().written)\n"
    with started(sys.executable, "-c", script, cwd=world.folder) as process:
        wait_until(lambda: read_runs(ci.open(cube.store.uri).store), "the run is known")
        time.sleep(0.2)
        refused(
            invoke("gc", "--older-than", "0s", "--store", cube.store.uri),
            "an ingest is running in .*: nothing was removed",
        )
        (world.folder / "go").touch()
        assert process.communicate(timeout=60)[0] == "1\n"
    assert process.returncode == 0
    assert kinds(cube, deep=True) == []


def test_old_snapshots_are_forgotten_but_for_those_with_a_tag(cube: ci.Cube, invoke: Invoke, world: World) -> None:
    cube.tag("v1")
    for n in range(4):
        cube.ingest(redo=True, region="20N_000E", year=2000)
        if n == 1:
            cube.tag("v2")
    assert len(cube.history()) == 6
    objects = n_files(world)
    where = ("--older-than", "0s", "--store", cube.store.uri, "--json")
    dry = invoke("gc", "--keep", 2, "--dry-run", *where).json
    assert dry["snapshots_expired"] == 2  # init, and the first time it was redone
    before = [c.snapshot for c in cube.history()]
    assert len(before) == 6
    done = invoke("gc", "--keep", 2, *where).json
    assert done["snapshots_expired"] == 2
    after = [c.snapshot for c in cube.history()]
    assert after[:2] == before[:2]
    assert set(after[2:]) <= {cube.store.repo.lookup_tag(t) for t in ("v1", "v2")}
    assert n_files(world) < objects
    for ref in ("v1", "v2", "main"):
        assert ci.open(world.store, at=ref).verify().equal == 8, ref
    assert kinds(cube, deep=True) == []
    assert invoke("gc", "--keep", 2, *where).json["snapshots_expired"] == 0


def test_expire_by_age_and_number_keep_what_either_keeps(cube: ci.Cube, invoke: Invoke) -> None:
    for _ in range(3):
        cube.ingest(redo=True, region="20N_000E", year=2000)
    where = ("--store", cube.store.uri, "--json")
    assert invoke("gc", "--expire", "1d", *where).json["snapshots_expired"] == 0
    assert invoke("gc", "--expire", "0s", "--keep", 9, *where).json["snapshots_expired"] == 0
    assert invoke("gc", "--expire", "1d", "--keep", 1, *where).json["snapshots_expired"] == 0
    assert len(cube.history()) == 5
    assert invoke("gc", "--expire", "0s", *where).json["snapshots_expired"] == 4
    assert len(cube.history()) == 1
    assert cube.ingest().skipped == 8  # the ledger does not live in the history


def test_resume_works_after_everything_expired(cube: ci.Cube, world: World) -> None:
    world.add_tile(2005, "10N_000E")
    cube.gc(older_than=timedelta(0), keep=1)
    report = ci.open(world.store).ingest()
    assert (report.written, report.skipped) == (1, 8)


def test_garbage_collected_by_other_means_is_noticed(cube: ci.Cube, world: World) -> None:
    """Icechunk's own collection takes what a run has written and not committed; a commit would point to nothing."""
    world.add_tile(2005, "10N_000E")
    from cubeingest.engine import Merger

    class Meddled(Merger):
        def commit(self, *args: object, **kwargs: object) -> str | None:
            self.store.repo.garbage_collect(datetime.now(UTC) + timedelta(minutes=1))
            return super().commit(*args, **kwargs)  # type: ignore[arg-type]

    from cubeingest.ingest import run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Merger", Meddled)
        with pytest.raises(StoreError, match="was collected by other means"):
            ci.open(world.store).ingest()
    assert kinds(cube, deep=True) == []
    assert ci.open(world.store).ingest().written == 1
    assert kinds(cube, deep=True) == []
