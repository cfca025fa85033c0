"""Others write to the same cube at the same time, ours and strangers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

import cubeingest as ci
from tests.conftest import Ran
from tests.faults.injection import at
from tests.faults.record import Case
from tests.faults.site import Site
from tests.faults.starter import PATIENCE

pytestmark = pytest.mark.slow

MODES = pytest.mark.parametrize("mode", ["cooperative", "independent"])
STORAGES = pytest.mark.parametrize("storage", ["local", "s3"])

N_WRITERS = 16


def refused(ran: Ran, what: str) -> None:
    assert ran.code == 2, ran
    assert len(ran.err.splitlines()) == 1, ran.err
    assert what in ran.err, ran.err


# ---- our own --------------------------------------------------------------------------------------------------


@pytest.mark.fault("conflict storm")
@pytest.mark.parametrize("mode", ["independent", "cooperative"])
@STORAGES
def test_conflict_storm(site: Site, fault: Case, mode: str) -> None:
    """All twelve slots have a tile, so that most parts have one and every part meets the others."""
    for year in (2000, 2005):
        for region in ("20N_000E", "20N_010E", "20N_020E", "10N_000E", "10N_010E", "10N_020E"):
            site.replace_tile(year, region)
    commands = [site.start(*site.command(mode, "--part", f"{k}/{N_WRITERS}")) for k in range(1, N_WRITERS + 1)]
    with site.watched() as watch:
        done = [site.finish(c) for c in commands]
    assert [d.code for d in done] == [0] * N_WRITERS, [d.err for d in done]
    assert sum(d.json["written"] for d in done) == 12
    fault.assess(site, done=12, watch=watch)
    fault.complete(site, *site.command(mode))
    fault.settle("every process exits 0; each region is written once")


@pytest.mark.fault("same regions at once")
@MODES
@STORAGES
def test_same_regions_at_once(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    """One has planned and is in its first tile when the other starts; then both run."""
    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.watched() as watch:
        with site.paused(pause, *command, inject=[at("chunk", "pause", nth=2, file=pause)]) as one:
            two = site.start(*command)
        done = [site.finish(one), site.finish(two)]
    assert [d.code for d in done] == [0, 0], [d.err for d in done]
    assert sum(d.json["written"] for d in done) == 7
    assert sum(d.json["skipped"] for d in done) == 7
    fault.assess(site, done=7, watch=watch)
    fault.complete(site, *command)
    fault.settle("both exit 0; 7 regions written and 7 skipped between them")


@pytest.mark.parametrize(
    ("region", "own"),
    [
        pytest.param("20N_000E", 5, marks=pytest.mark.fault("same region committed meanwhile")),
        pytest.param("20N_010E", 5, marks=pytest.mark.fault("another region committed meanwhile")),
    ],
)
@MODES
@STORAGES
def test_another_commits_first(site: Site, fault: Case, mode: str, region: str, own: int, tmp_path: Path) -> None:
    """Its commit is made while ours is about to be. The run takes two regions of five, or is given the others."""
    pause = tmp_path / "pause"
    same = region == "20N_000E"
    ours = ("--region", "20N_000E", "--region", "10N_020E")
    command = site.command(mode, *ours, "--commit-every", 4)
    with site.paused(pause, *command, inject=[at("commit", "pause", file=pause)]) as process:
        # On a local disk the run holds the lock there: the other one waits for it, and ours is first.
        other = site.start(*site.command("cooperative", "--region", region))
        if site.storage == "s3":
            assert other.wait() == 0
    done, first = site.finish(process), site.finish(other)
    assert (done.code, first.code) == (0, 0), (done.err, first.err)
    n_other = 2 if same else 1
    assert done.json["written"] + done.json["skipped"] == 4
    assert first.json["written"] + first.json["skipped"] == n_other
    if site.storage == "s3":
        assert first.json["written"] == n_other
    assert done.json["written"] + first.json["written"] == (4 if same else own)
    fault.assess(site, done=4 if same else own)
    fault.complete(site, *site.command(mode))
    fault.settle("both exit 0; each region is written once")


@pytest.mark.fault("attributes changed meanwhile")
@MODES
@STORAGES
def test_attributes_changed_meanwhile(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("merge", "pause", file=pause)]) as process:
        site.world.write_spec(("license: CC0-1.0", "license: MIT"))
        if site.storage == "s3":
            assert site.run("init", "grid.yaml", "--update").code == 0
        else:
            update = site.start("init", "grid.yaml", "--update")
    if site.storage == "local":
        assert update.wait() == 0
    done = site.finish(process)
    assert (done.code, done.json["written"]) == (0, 7), done.err
    assert ci.open(site.uri).dataset().attrs["license"] == "MIT"
    fault.assess(site, done=7)
    fault.complete(site, *command)
    fault.settle("exit 0; all is written, with the new attributes")


@pytest.mark.fault("gc during a run")
@MODES
@STORAGES
def test_gc_during_a_run(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("chunk", "pause", nth=13, file=pause)]) as process:
        before = {name for name in site.objects("chunks") if "#" not in name}  # with "#": still being written
        refused(site.run("gc", "--older-than", "0s", "--keep", 1), "an ingest is running")
        assert before <= set(site.objects("chunks"))
    done = site.finish(process)
    assert (done.code, done.json["written"]) == (0, 7), done.err
    fault.assess(site, done=7)
    fault.complete(site, *command)
    fault.settle("`gc` exits 2, naming the run; the run exits 0")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param("ingest", marks=pytest.mark.fault("run during gc")),
        pytest.param("gc", marks=pytest.mark.fault("gc during gc")),
    ],
)
@STORAGES
def test_started_during_gc(site: Site, fault: Case, other: str, tmp_path: Path) -> None:
    assert site.ingest("cooperative", "--year", 2000).code == 0
    pause = tmp_path / "pause"
    inject = [at("expire", "pause", file=pause), at("gc", "sleep", seconds=0.2)]
    with site.paused(pause, "gc", "--older-than", "0s", "--keep", 1, inject=inject) as process:
        second = site.command("independent") if other == "ingest" else ("gc",)
        if site.storage == "s3":
            refused(site.run(*second), "garbage is being collected")
        else:
            waits = site.start(*second)  # for the lock, which `gc` holds while it removes
    assert site.finish(process).code == 0
    if site.storage == "local":
        ran = site.finish(waits)
        assert ran.code in (0, 2)
        if ran.code == 2:
            refused(ran, "garbage is being collected")
    fault.assess(site, history=False)
    fault.complete(site, *site.command("independent"), history=False)
    fault.settle("refused in one line, or done after it; `gc` exits 0")


# ---- strangers ------------------------------------------------------------------------------------------------


@pytest.mark.fault("chunks written meanwhile by other means")
@MODES
@STORAGES
def test_stranger_writes_the_same_chunks_meanwhile(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    """Pixels without a record: nothing says what they are, and the run has the region's tile."""
    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("chunk", "pause", nth=3, file=pause)]) as process:
        session = site.repository().writable_session("main")
        zarr.open_array(session.store, path="cover", mode="r+")[0, :100, :100] = 9
        session.commit("by other means")
    done = site.finish(process)
    assert (done.code, done.json["written"]) == (0, 7), done
    fault.assess(site, done=7)
    fault.complete(site, *command)
    fault.settle("exit 0; the region has its tile's pixels")


@pytest.mark.parametrize(
    "expire",
    [
        pytest.param(False, marks=pytest.mark.fault("garbage collected by other means")),
        pytest.param(True, marks=pytest.mark.fault("snapshots expired and collected during a run")),
    ],
)
@MODES
@STORAGES
def test_stranger_collects_garbage(site: Site, fault: Case, mode: str, expire: bool, tmp_path: Path) -> None:
    from datetime import UTC, datetime, timedelta

    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("chunk", "pause", nth=13, file=pause)]) as process:
        if expire:
            assert site.ingest("cooperative", "--region", "10N_020E").code == 0
        repo, later = site.repository(), datetime.now(UTC) + timedelta(minutes=1)
        if expire:
            repo.expire_snapshots(older_than=later)
        assert repo.garbage_collect(later).chunks_deleted > 0
    done = site.finish(process)
    assert done.code in (1, 2)
    assert "garbage of" in done.err
    done_by_then = (0 if mode == "cooperative" else 2) + 2 * expire
    fault.assess(site, done=done_by_then, history=not expire)
    fault.complete(site, *command, history=not expire)
    fault.settle("the run ends with an error that says what happened; completed by the same command")


@pytest.mark.fault("snapshots expired during a run")
@MODES
@STORAGES
def test_stranger_expires_snapshots(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    from datetime import UTC, datetime, timedelta

    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("chunk", "pause", nth=3, file=pause)]) as process:
        assert site.ingest("cooperative", "--region", "10N_020E").code == 0
        site.repository().expire_snapshots(older_than=datetime.now(UTC) + timedelta(minutes=1))
    done = site.finish(process)
    assert (done.code, done.json["written"], done.json["skipped"]) == (0, 5, 2), done
    fault.assess(site, done=7, history=False)
    fault.complete(site, *command, history=False)
    fault.settle("exit 0; all is written")


# ---- the lock -------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("release", marks=pytest.mark.fault("lock held by another process")),
        pytest.param("kill", marks=pytest.mark.fault("lock holder killed")),
    ],
)
@MODES
def test_lock_of_another_process_is_waited_for(site: Site, fault: Case, mode: str, end: str) -> None:
    lock = f"{site.uri}/.cubeingest.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        process = site.start(*site.command(mode))
        assert not process.ended.wait(3), "it did not wait for the lock"
        assert len(site.account().recorded) == 0
        if end == "kill":
            holder.kill()
        else:
            holder.stdin.write("\n")
            holder.stdin.flush()
        holder.wait(PATIENCE)
    done = site.finish(process)
    assert (done.code, done.json["written"]) == (0, 7), done.err
    fault.assess(site, done=7)
    fault.complete(site, *site.command(mode))
    fault.settle("the ingest waits, then writes all; exit 0")


# ---- branches -------------------------------------------------------------------------------------------------


@pytest.mark.fault("main moved before publish")
@MODES
@STORAGES
def test_main_moved_before_publish(site: Site, fault: Case, mode: str) -> None:
    assert site.ingest(mode, "--branch", "staging", "--year", 2000).code == 0
    site.claimed = 0  # of main
    fault.assess(site, done=0)
    assert site.ingest(mode, "--year", 2005).code == 0
    refused(site.run("publish", "staging"), "main has moved since branch 'staging' was made")
    fault.assess(site, done=2, findings=("branch",))
    fault.complete(site, *site.command(mode), findings=("branch",))
    fault.settle("exit 2, one line; main is as it was")


@pytest.mark.fault("main moved during publish")
@STORAGES
def test_main_moved_during_publish(site: Site, fault: Case, tmp_path: Path) -> None:
    assert site.ingest("cooperative", "--branch", "staging", "--year", 2000).code == 0
    site.claimed = 0  # of main
    pause = tmp_path / "pause"
    with site.paused(pause, "publish", "staging", inject=[at("reset branch", "pause", file=pause)]) as process:
        # A stranger, for whom the lock of a local store means nothing.
        session = site.repository().writable_session("main")
        zarr.open_group(session.store, mode="r+").attrs["note"] = "by other means"
        moved = session.commit("by other means")
    refused(site.finish(process), "main")
    assert site.repository().lookup_branch("main") == moved
    fault.assess(site, done=0, findings=("branch",))
    fault.complete(site, *site.command("cooperative"), findings=("branch",))
    fault.settle("exit 2, one line; main is as it was")


@pytest.mark.fault("publish killed")
@STORAGES
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_publish(site: Site, fault: Case, when: str) -> None:
    assert site.ingest("cooperative", "--branch", "staging").code == 0
    site.claimed = 0
    with site.watched() as watch:
        assert site.run("publish", "staging", inject=[at("reset branch", "kill", when=when)]).code == -9
    fault.assess(site, done=0 if when == "before" else 7, watch=watch)
    again = site.run("publish", "staging", "--json")
    assert (again.code, again.json["action"]) == (0, "published" if when == "before" else "unchanged")
    fault.assess(site, done=7)
    fault.complete(site, *site.command("cooperative"))
    fault.settle("main is where it was, or at the branch; `publish` again ends at the branch")


@pytest.mark.fault("branch of another cube")
@STORAGES
def test_branch_of_another_cube(site: Site, fault: Case) -> None:
    """Another cube of the same layout, made by hand on a branch from the repository's very first snapshot."""
    from cubeingest.create import write_template

    repo = site.repository()
    first = list(repo.ancestry(branch="main"))[-1].id
    repo.create_branch("foreign", first)
    session = repo.writable_session("foreign")
    write_template(session.store, ci.read_spec(site.world.spec_file), "another")
    zarr.open_array(session.store, path="cover", mode="r+")[...] = np.uint8(3)
    session.commit("another cube")
    refused(site.run("publish", "foreign"), "does not descend from this cube's init")
    refused(site.run("ingest", "--branch", "foreign"), "does not descend from this cube's init")
    fault.assess(site, done=0, findings=("branch",))
    fault.complete(site, *site.command("cooperative"), findings=("branch",))
    fault.settle("exit 2, one line; main is as it was")
