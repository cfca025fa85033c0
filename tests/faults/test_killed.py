"""Processes are killed, stopped and interrupted at chosen moments."""

from __future__ import annotations

import random
import signal
from datetime import timedelta
from pathlib import Path

import pytest

import cubeingest as ci
from tests.faults.injection import at
from tests.faults.record import Case
from tests.faults.site import Site, slots_of

pytestmark = pytest.mark.slow

MODES = pytest.mark.parametrize("mode", ["cooperative", "independent"])
STORAGES = pytest.mark.parametrize("storage", ["local", "s3"])

KILLED = -9
DEAD = ("dead-run",)
"""What ``check`` says of a cube whose run was killed, until ``gc`` forgets it."""


AT_THE_THIRD = range(1, 3)
"""Slots that are whole when the third is to be committed: two are at work at a time, so one of the others may still be."""


def dead(site: Site) -> tuple[str, ...]:
    """The same, where a kill may come so late that the run has said goodbye."""
    return DEAD if any(b.startswith("cubeingest-") for b in site.repository().list_branches()) else ()


def whole(site: Site) -> int:
    return len(site.account().whole)


# ---- killed ---------------------------------------------------------------------------------------------------


@pytest.mark.fault("coordinator killed mid-tile")
@MODES
@STORAGES
def test_killed_mid_tile(site: Site, fault: Case, mode: str) -> None:
    """The eighth chunk or record: two tiles are at work then, and each has four and its record."""
    with site.watched() as watch:
        assert site.ingest(mode, inject=[at("chunk", "kill", nth=8)]).code == KILLED
    fault.assess(site, done=0 if mode == "cooperative" else range(2), findings=DEAD, watch=watch)
    fault.complete(site, *site.command(mode), findings=DEAD)
    fault.settle("only what was committed before is there; completed by the same command")


@pytest.mark.fault("coordinator killed before merge")
@MODES
@STORAGES
def test_killed_before_merge(site: Site, fault: Case, mode: str) -> None:
    nth = 1 if mode == "cooperative" else 3
    assert site.ingest(mode, inject=[at("merge", "kill", nth=nth)]).code == KILLED
    fault.assess(site, done=AT_THE_THIRD if nth == 3 else 0, findings=DEAD)
    fault.complete(site, *site.command(mode), findings=DEAD)
    fault.settle("only what was committed before is there; completed by the same command")


@pytest.mark.fault("coordinator killed between merge and commit")
@MODES
@STORAGES
def test_killed_between_merge_and_commit(site: Site, fault: Case, mode: str) -> None:
    nth = 1 if mode == "cooperative" else 3
    with site.watched() as watch:
        assert site.ingest(mode, inject=[at("commit", "kill", nth=nth)]).code == KILLED
    fault.assess(site, done=AT_THE_THIRD if nth == 3 else 0, findings=DEAD, watch=watch)
    fault.complete(site, *site.command(mode), findings=DEAD)
    fault.settle("only what was committed before is there; completed by the same command")


@pytest.mark.fault("coordinator killed during commit")
@MODES
@pytest.mark.parametrize("milliseconds", [0, 5, 20])
def test_killed_during_commit(site: Site, fault: Case, mode: str, milliseconds: int) -> None:
    """On a local disk: where exactly it is by then nobody knows, and it must not matter."""
    with site.watched() as watch:
        site.ingest(mode, inject=[at("commit", "kill later", seconds=milliseconds / 1000)])
    done = whole(site)
    assert done in ((0, 7) if mode == "cooperative" else range(8))
    fault.assess(site, findings=dead(site), watch=watch)
    fault.complete(site, *site.command(mode), findings=dead(site))
    fault.settle("each commit is there whole or not at all; completed by the same command")


@pytest.mark.parametrize("mode", ["cooperative", "independent"])
@pytest.mark.parametrize("storage", ["s3"])
@pytest.mark.parametrize(
    "when",
    [
        pytest.param("before", marks=pytest.mark.fault("coordinator killed as the commit is sent")),
        pytest.param("afterwards", marks=pytest.mark.fault("coordinator killed as the commit is answered")),
    ],
)
def test_killed_at_the_put_that_is_the_commit(site: Site, fault: Case, mode: str, when: str, tmp_path: Path) -> None:
    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("commit", "pause", file=pause)]) as process:
        assert site.proxy is not None
        what = {when: lambda: process.send(signal.SIGKILL)} | ({"drop": "before"} if when == "before" else {})
        site.proxy.trouble(method="PUT", suffix="/small/repo", times=1, **what)
    assert process.wait() == KILLED
    made = 0 if when == "before" else 7 if mode == "cooperative" else 1
    fault.assess(site, done=made, findings=DEAD)
    fault.complete(site, *command, findings=DEAD)
    fault.settle(
        "nothing of that commit is there; completed by the same command"
        if when == "before"
        else "the commit is there, whole; the same command skips what it holds"
    )


@pytest.mark.fault("coordinator killed after commit")
@MODES
@STORAGES
def test_killed_after_the_commit_before_saying_so(site: Site, fault: Case, mode: str) -> None:
    assert site.ingest(mode, inject=[at("commit", "kill", when="after")]).code == KILLED
    made = 7 if mode == "cooperative" else 1
    fault.assess(site, done=made, findings=DEAD)
    again = site.ingest(mode)
    assert slots_of(again) == {"written": 7 - made, "empty": 0, "skipped": made, "failed": 0}
    fault.assess(site, done=7, findings=DEAD)
    fault.complete(site, *site.command(mode), findings=DEAD)
    fault.settle("the commit is there, whole; the same command skips what it holds")


@pytest.mark.fault("coordinator killed again and again")
@MODES
@STORAGES
def test_killed_again_and_again_comes_to_an_end(site: Site, fault: Case, mode: str) -> None:
    """Each round is killed after some random chunk of the third tile or a later one (two are at work at a time); what it had committed by then is what the next one need not do."""
    rng = random.Random(f"{mode} {site.storage}")
    command = site.command(mode, "--commit-every", 1)
    with site.watched() as watch:
        for _ in range(8):
            before = whole(site)
            ran = site.run(*command, inject=[at("chunk", "kill", nth=rng.randint(11, 16))])
            assert ran.code in (0, KILLED)
            assert whole(site) > before or ran.code == 0
            if ran.code == 0:
                break
    assert ran.code == 0
    fault.assess(site, done=7, findings=DEAD, watch=watch)
    fault.complete(site, *command, findings=DEAD)
    fault.settle("complete after at most 8 rounds, each going on where the last was killed")


@pytest.mark.fault("killed run leaves traces")
@STORAGES
def test_what_a_killed_run_leaves_is_named_and_removed(site: Site, fault: Case) -> None:
    assert site.ingest("cooperative", "--year", 2000).code == 0
    kept = set(site.objects("chunks"))
    assert site.ingest("independent", inject=[at("chunk", "kill", nth=8)]).code == KILLED
    litter = set(site.objects("chunks")) - kept
    done = whole(site)  # two were at work: one more than before, or none
    fault.assess(site, done=range(5, 7), findings=DEAD)
    told = site.run("check")
    assert told.code == 1
    assert "was killed and left what it wrote; remove that with `cubeingest gc`" in told.err
    gone = site.run("gc", "--older-than", "0s", "--json")
    assert (gone.code, gone.json["runs_forgotten"], gone.json["errors"]) == (0, 1, [])
    left = set(site.objects("chunks"))
    assert kept <= left
    # An object store has a clock of its own: what seems just written stays there, whatever age is asked for.
    assert len(litter - left) == gone.json["chunks"]
    assert (len(litter - left) > 0) == (site.storage == "local")
    fault.assess(site, done=done)
    fault.complete(site, *site.command("independent"))
    fault.settle("`check` names the killed run; `gc` forgets it and frees its chunks (young ones on S3 later)")


@pytest.mark.fault("init killed")
@STORAGES
def test_killed_init(site: Site, fault: Case) -> None:
    site.uri = site.uri.replace("small", "other")
    (site.folder / "other").mkdir()
    assert site.run("init", "grid.yaml", inject=[at("commit", "kill")]).code == KILLED
    refused = site.run("ingest")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert site.run("init", "grid.yaml").code == 0
    fault.assess(site, done=0)
    fault.complete(site, *site.command("cooperative"))
    fault.settle("ingest refuses the unfinished cube in one line; `init` again completes it")


@pytest.mark.fault("gc killed")
@STORAGES
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_gc(site: Site, fault: Case, when: str) -> None:
    assert site.ingest("cooperative", "--year", 2000).code == 0
    assert site.ingest("cooperative", inject=[at("commit", "kill")]).code == KILLED
    assert site.run("gc", "--older-than", "0s", "--keep", 1, inject=[at("gc", "kill", when=when)]).code == KILLED
    fault.assess(site, done=5, findings=DEAD, history=False)
    fault.complete(site, *site.command("cooperative"), findings=DEAD, history=False)
    assert site.run("gc", "--older-than", "0s").code == 0
    fault.assess(site, done=7, history=False)
    fault.settle("all that counts is there; ingests and the next `gc` go on")


# ---- interrupted, stopped -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.fault("interrupted once")),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.fault("terminated")),
    ],
)
@MODES
@STORAGES
def test_signal_commits_what_is_finished(
    site: Site, fault: Case, mode: str, signum: int, code: int, tmp_path: Path
) -> None:
    """The third tile is being written when it comes: two are finished."""
    pause = tmp_path / "pause"
    command = site.command(mode)
    with (
        site.watched() as watch,
        site.paused(pause, *command, inject=[at("chunk", "pause", nth=13, file=pause)]) as process,
    ):
        process.send(signum)
    done = site.finish(process)
    assert done.code == code
    assert "interrupted: what was finished is committed" in done.err
    written = done.json["written"]
    assert 2 <= written < 7
    assert done.json["unfinished"] == 7 - written
    fault.assess(site, done=written, findings=dead(site), watch=watch)
    fault.complete(site, *command, findings=dead(site))
    fault.settle(f"exit {code}; what was finished is committed; completed by the same command")


@pytest.mark.fault("interrupted during an independent commit")
@pytest.mark.parametrize("mode", ["independent"])
@STORAGES
def test_signal_during_an_independent_commit(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    """The third commit is under way when it comes: whether it is made or not, the report says which."""
    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("commit", "pause", nth=3, file=pause)]) as process:
        process.send(signal.SIGINT)
        process.ended.wait(0.5)  # long enough for it to act on the signal while the commit is held
    done = site.finish(process)
    assert done.code == 130
    fault.assess(site, done=done.json["written"], findings=dead(site))
    fault.complete(site, *command, findings=dead(site))
    fault.settle("exit 130; the commit is there and reported, or neither; completed by the same command")


@pytest.mark.fault("interrupted while the store hangs")
@MODES
def test_signal_is_obeyed_though_a_write_hangs(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    """Independent workers are let finish by the first signal, not by the second."""
    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("chunk", "pause", nth=13, file=pause)]) as process:
        process.send(signal.SIGINT)
        if mode == "independent":
            assert not process.ended.wait(0.5)
            process.send(signal.SIGINT)
        ended = process.ended.wait(20)
    done = site.finish(process)
    assert ended, "it waited for the chunk that hangs"
    assert done.code == 130
    fault.assess(site, done=2, findings=dead(site))
    fault.complete(site, *command, findings=dead(site))
    fault.settle("exit 130 without waiting for the store; what was finished is committed")


@pytest.mark.fault("interrupted twice")
@STORAGES
def test_second_signal_drops_what_is_not_committed(site: Site, fault: Case, tmp_path: Path) -> None:
    """Both come while the commit is being prepared; independent workers have nothing that waits for a commit."""
    pause = tmp_path / "pause"
    command = site.command("cooperative")
    with site.paused(pause, *command, inject=[at("merge", "pause", file=pause)]) as process:
        process.send(signal.SIGINT)
        process.send(signal.SIGTERM)
    done = site.finish(process)
    assert done.code in (130, 143)
    assert "nothing more was committed" in done.err
    fault.assess(site, done=0, findings=dead(site))
    fault.complete(site, *command, findings=dead(site))
    fault.settle("nothing more is committed, and it says so; completed by the same command")


@pytest.mark.fault("run suspended while another finishes")
@MODES
@STORAGES
def test_run_that_slept_while_another_finished_adds_nothing(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("chunk", "pause", nth=13, file=pause)]) as process:
        process.send(signal.SIGSTOP)
        before = whole(site)
        other = site.ingest("cooperative")
        assert slots_of(other) == {"written": 7 - before, "empty": 0, "skipped": before, "failed": 0}
    tip = ci.open(site.uri).store.tip
    process.send(signal.SIGCONT)
    done = site.finish(process)
    assert slots_of(done) == {"written": before, "empty": 0, "skipped": 7 - before, "failed": 0}
    assert ci.open(site.uri).store.tip == tip
    fault.assess(site, done=7)
    fault.complete(site, *command)
    fault.settle("exit 0; the slots of the other run are counted as skipped and not written again")


@pytest.mark.fault("traces of a run on another machine")
@STORAGES
def test_run_of_another_machine_is_left_alone_until_it_is_silent(site: Site, fault: Case) -> None:
    """Nobody here can ask whether that process lives; only how long ago it was heard of."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from cubeingest.store import Run

    assert site.ingest("cooperative", "--year", 2000).code == 0
    repo, now = site.repository(), datetime.now(UTC)
    fresh = Run("run", "abc123", now - timedelta(days=1), now - timedelta(minutes=90), "elsewhere-1", 7, "5")
    repo.create_branch(fresh.branch, repo.lookup_branch("main"))
    refused = site.run("gc", "--older-than", "0s")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "process 7 on elsewhere-1" in refused.err
    repo.delete_branch(fresh.branch)
    silent = replace(fresh, beat=now - timedelta(hours=3))
    repo.create_branch(silent.branch, repo.lookup_branch("main"))
    fault.assess(site, done=5, findings=DEAD)
    done = site.run("gc", "--older-than", "0s", "--json")
    assert (done.code, done.json["runs_forgotten"]) == (0, 1)
    fault.assess(site, done=5)
    fault.complete(site, *site.command("cooperative"))
    fault.settle("`gc` refuses, naming it, until it has been silent for 2 hours")
