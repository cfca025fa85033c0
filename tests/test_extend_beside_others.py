"""Cubes that grow while others are at work: they are refused, or see all of it or nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr

import cubeingest as ci
import cubeingest.extend
import cubeingest.ingest.run
from cubeingest.engine import EachSlot, Merger
from cubeingest.errors import SpecError, StoreError
from cubeingest.ingest import IngestJob, fill_slot, prepare
from cubeingest.ingest.independent import CommitJob, fill_and_commit
from cubeingest.selection import Selection
from cubeingest.store import made_known, open_store
from tests.conftest import Ran, World
from tests.objectstore import Bucket
from tests.test_bad_store import refused
from tests.test_engine import cubeingest as command
from tests.test_engine import finish, started, wait_until
from tests.test_extend import add, at, chunks, cube, is_sound

__all__ = ["cube"]

Invoke = Callable[..., Ran]


# ---- others at work -------------------------------------------------------------------------------------------


def held_run(world: World, kind: str) -> str:
    """Source of a process that is known as a run of a kind until a file appears."""
    script = "import os, time\nfrom cubeingest.store import made_known, open_store\n"
    script += f"with made_known(open_store({str(world.store)!r}), 'abc', {kind!r}):\n    open('known', 'w')\n"
    return script + "    while not os.path.exists('go'): time.sleep(0.02)\n"


@pytest.mark.parametrize(
    ("kind", "message"), [("run", "an ingest is running in"), ("gc", "garbage is being collected in")]
)
def test_extend_is_refused_while_another_process_is_at_work(
    world: World, cube: ci.Cube, invoke: Invoke, kind: str, message: str
) -> None:
    tip = cube.store.tip
    with started(sys.executable, "-c", held_run(world, kind), cwd=world.folder) as process:
        wait_until((world.folder / "known").exists, "the run is known")
        for more in ((), ("--dry-run",)):
            ran = invoke("extend", "--year", 2010, *at(world), *more)
            refused(ran, rf"{message} .* by process {process.pid} on .*: nothing was done; try again when it has ended")
        assert invoke("extend", "--year", 2005, *at(world)).code == 0  # which is there already
        (world.folder / "go").touch()
        assert finish(process).code == 0
    assert cube.store.tip == tip
    assert invoke("extend", "--year", 2010, *at(world)).code == 0


def test_nothing_else_begins_while_the_cube_is_extended(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    add(world, "2005", "10N_000E")
    with made_known(cube.store, "abc", "extend"):
        for words in (("ingest",), ("gc",), ("ingest", "--branch", "staging", "--mode", "independent")):
            refused(invoke(*words, *at(world)), "the cube is being extended in .* by process")
    with started(sys.executable, "-c", held_run(world, "extend"), cwd=world.folder) as process:
        wait_until((world.folder / "known").exists, "the extension is known")
        process.kill()
        process.wait()
    (finding,) = cube.check().findings
    assert (finding.kind, finding.message.partition(" by ")[0]) == ("dead-run", "an extension")
    assert cube.gc().runs_forgotten == 1
    assert cube.ingest().written == 1


@pytest.mark.slow
def test_two_processes_with_the_same_command_both_succeed(world: World, cube: ci.Cube) -> None:
    words = command(world, "extend", "--year", "2010,2015", "--json")
    with started(*words, cwd=world.folder) as one, started(*words, cwd=world.folder) as other:
        done = [finish(one), finish(other)]
    assert [ran.code for ran in done] == [0, 0], done
    assert [c.details["action"] for c in ci.open(world.store).history()].count("extend") == 1
    assert ci.open(world.store).ingest().written == 4
    assert is_sound(cube, world, ("2000", "2005", "2010", "2015"))


@pytest.mark.parametrize(("first", "outcome"), [("2010", ("2015",)), ("2015", ())])
def test_extension_by_somebody_else_meanwhile_is_built_upon(
    world: World, cube: ci.Cube, monkeypatch: pytest.MonkeyPatch, first: str, outcome: tuple[str, ...]
) -> None:
    """Between what is looked at and the commit another extension is committed; the second starts anew from there."""
    before = cubeingest.extend.list_expected
    other = ci.open(world.store)

    def meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(cubeingest.extend, "list_expected", before)
        other.extend(year=first)
        return before(*args)

    monkeypatch.setattr(cubeingest.extend, "list_expected", meanwhile)
    if outcome:
        assert cube.extend(year=2015).growth[0].values == outcome
    else:
        with pytest.raises(SpecError, match="2010 is below 2015"):
            cube.extend(year=2010)
    assert ci.open(world.store).grid.axis("year").labels[2:] == (first, *outcome)
    assert ci.open(world.store).check().findings == []


def test_slot_that_is_done_meanwhile_is_seen_in_the_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `publish` would do it, which is no run: a slot at the old end is done just before the commit."""
    cube = ci.init(world.spec_file)
    before = cubeingest.extend.list_expected

    def meanwhile(*args: Any) -> Any:
        ci.open(world.store).ingest(region="10N_020E")
        return before(*args)

    monkeypatch.setattr(cubeingest.extend, "list_expected", meanwhile)
    world.write_spec(("x: 250}", "x: 300}"))
    with pytest.raises(StoreError, match="2 slots that are done would get more pixels"):
        cube.extend(world.spec_file)
    assert cube.dataset().sizes["x"] == 250


@pytest.mark.parametrize("mode", ["cooperative", "independent"])
def test_ingest_that_was_planned_before_is_refused_before_it_works(
    world: World, cube: ci.Cube, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    add(world, "2005", "10N_000E")
    before = cubeingest.ingest.run.prepare

    def meanwhile(*args: Any) -> Any:
        prepared = before(*args)
        ci.open(world.store).extend(year=2010)
        return prepared

    monkeypatch.setattr(cubeingest.ingest.run, "prepare", meanwhile)
    with pytest.raises(StoreError, match=r"layout .* was changed during this run: run the command again"):
        cube.ingest(mode=mode, year=2005)
    monkeypatch.setattr(cubeingest.ingest.run, "prepare", before)
    assert cube.ingest(mode=mode).written == 3
    assert is_sound(cube, world, ("2000", "2005", "2010"))


def test_worker_of_a_run_that_nobody_knows_of_commits_nothing_into_another_layout(world: World) -> None:
    """It may have outlived its coordinator: its session is from before, or from after, and its plan is of the old grid."""
    cube = ci.init(world.spec_file)
    world.add_tile(
        2005, "20N_020E", np.full((100, 50), 255, np.uint8)
    )  # nothing of it is a chunk, but for the ledger's
    store = open_store(str(world.store))
    tasks = prepare(store, Selection({"year": ("2005",)}, regions=("20N_020E",))).plan.tasks
    session = store.writable()
    merger = Merger(store, "lost", {}, new={p.slot for p in tasks[0].slots}, base=session)
    merger.keep(EachSlot(fill_slot)(IngestJob(store.spec, session, "lost", store.layout_key), tasks))
    world.write_spec(("x: 250}", "x: 300}"))
    cube.extend(world.spec_file)
    with pytest.raises(StoreError, match=r"layout .* was changed"):
        merger.commit(lambda _: "lost", lambda _: {})
    (result,) = fill_and_commit(CommitJob(store, "lost"), tasks)
    assert re.search("layout .* was changed", result.error or "")
    assert cube.status().done == cube.status().empty == 0
    assert cube.check().findings == []


def test_writer_with_any_other_program_gets_a_conflict(world: World, cube: ci.Cube) -> None:
    session = cube.store.repo.writable_session("main")
    zarr.open_array(session.store, path="cover", mode="r+")[0, 0, 0] = 1
    cube.extend(year=2010)
    with pytest.raises(icechunk.ConflictError):
        session.commit("too late")
    with pytest.raises(icechunk.RebaseFailedError):
        session.rebase(icechunk.ConflictDetector())
    cube.ingest()
    assert is_sound(cube, world, ("2000", "2005", "2010"))


# ---- branches, tags, versions ---------------------------------------------------------------------------------


def test_versions_from_before_and_after_can_be_compared(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    cube.tag("v1")
    cube.extend(year=2010)
    cube.ingest()
    add(world, "2005", "10N_000E")
    cube.ingest()
    cube.ingest(redo=True, region="20N_000E", year=2000)
    where = (*at(world), "--json")
    there = invoke("diff", "v1", "main", *where).json
    assert (there["added"], there["removed"], there["changed"], there["reread"]) == (3, 0, 0, 1)
    back = invoke("diff", "main", "v1", *where).json
    assert (back["added"], back["removed"], back["changed"], back["reread"]) == (0, 3, 0, 1)
    assert {row["axes"]["year"] for row in back["changes"]} == {"2000", "2005", "2010"}


def test_branch_that_is_ahead_of_main_is_published_first(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    add(world, "2005", "10N_000E")
    cube.ingest(branch="staging")
    refused(
        invoke("extend", "--year", 2010, *at(world)),
        "branch 'staging' holds what main does not, and could not be published any more: first publish it",
    )
    cube.publish("staging")
    late = cube.on("staging")
    assert cube.extend(year=2010).action == "extended"
    add(world, "2005", "10N_010E")
    assert late.ingest(year=2005).written == 1  # the branch by itself is as it was
    refused(invoke("publish", "staging", *at(world)), "main has moved since branch 'staging' was made")
    assert len(cube.diff("main", "staging")) == 1
    refused(invoke("ingest", "--branch", "staging", *at(world)), "main has moved since")
    assert cube.ingest(branch="next").written == 3
    assert cube.publish("next").action == "published"
    cube.discard("staging")
    assert is_sound(cube, world, ("2000", "2005", "2010"))


def test_longer_file_is_named_by_init(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    world.write_spec(("2000, 2005]", "2000, 2005, 2010]"))
    refused(invoke("init", "grid.yaml", "--update"), "where it only grows at its ends, `cubeingest extend GRID.yaml`")


# ---- object store ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_cube_in_s3_grows_too(world: World, bucket: Bucket, invoke: Invoke, tmp_path: Path) -> None:
    world.write_spec(("./small.icechunk", bucket.uri("cubes/small")))
    cube = ci.init(world.spec_file)
    cube.ingest()
    refs = chunks(cube)
    for label in ("2010", "2015"):
        add(world, label, "20N_000E")
    words = (sys.executable, "-m", "cubeingest", "extend", "--year", "2010", "--store", cube.store.uri, "--json")
    with started(*words, cwd=tmp_path) as one, started(*words, cwd=tmp_path) as other:
        done = [finish(one), finish(other)]
    assert [ran.code for ran in done] == [0, 0], done
    session = cube.store.repo.writable_session("main")
    zarr.open_array(session.store, path="cover", mode="r+")[0, 0, 0] = 1
    assert invoke("extend", "--year", 2015, "--store", cube.store.uri).code == 0
    with pytest.raises(icechunk.ConflictError):
        session.commit("too late")
    assert chunks(cube) == refs
    assert ci.open(cube.store.uri).ingest(mode="independent").written == 2
    assert is_sound(cube, world, ("2000", "2005", "2010", "2015"))
