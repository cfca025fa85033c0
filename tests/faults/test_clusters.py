"""Workers, nannies and schedulers that die, come and go."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import psutil
import pytest

from tests.faults.injection import at
from tests.faults.record import Case
from tests.faults.site import Site, slots_of
from tests.faults.starter import wait_until
from tests.test_engine import can_unshare, cluster, started

pytestmark = pytest.mark.slow

MODES = pytest.mark.parametrize("mode", ["cooperative", "independent"])
INWORKERS = str(Path(__file__).parent / "inworkers")
ROOT = str(Path(__file__).parents[2])


def in_workers(*faults: dict[str, object]) -> dict[str, str]:
    """Environment by which the worker processes that a command starts meet faults."""
    path = os.pathsep.join(p for p in (INWORKERS, ROOT, os.environ.get("PYTHONPATH", "")) if p)
    return {"CUBEINGEST_TEST_FAULTS": json.dumps(faults), "PYTHONPATH": path}


@pytest.mark.fault("worker killed mid-tile")
@MODES
@pytest.mark.parametrize("storage", ["local", "s3"])
def test_worker_killed_mid_tile(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    """Each of two worker processes, the first time that it writes its eighth chunk or record."""
    died = tmp_path / "died"
    env = in_workers(at("chunk", "kill", nth=8, once=died, tickets=2))
    command = ("ingest", "--mode", mode, "--workers", 2, "--json")
    with site.watched() as watch:
        ran = site.run(*command, **env)
    assert Path(f"{died}.0").exists()
    assert (ran.code, ran.json["written"], ran.json["failed"]) == (0, 7, []), ran
    fault.assess(site, done=7, watch=watch)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 0, all written")


@pytest.mark.fault("worker killed by the same tile each time")
@MODES
def test_tile_that_kills_every_worker(site: Site, fault: Case, mode: str) -> None:
    """The tile's pixels are what kills: the worker dies whenever it reads them."""
    site.env = in_workers() | {"CUBEINGEST_TEST_DEADLY": "2000/10N_000E.tif"}
    ran = site.run("ingest", "--mode", mode, "--workers", 2, "--json")
    assert ran.code == 1, ran
    failed = [(row["region"], row["axes"]) for row in ran.json["failed"]]
    assert ("10N_000E", {"year": "2000"}) in failed
    assert len(failed) + ran.json["written"] == 7
    fault.assess(site, done=ran.json["written"])
    site.env = {}
    fault.complete(site, *site.command(mode))
    fault.settle("exit 1; the region is reported after Dask's tries, the run ends")


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("scheduler", marks=pytest.mark.fault("scheduler lost")),
        pytest.param("worker", marks=pytest.mark.fault("worker leaves")),
    ],
)
@MODES
def test_scheduler_or_worker_goes(site: Site, fault: Case, mode: str, victim: str, tmp_path: Path) -> None:
    reached = tmp_path / "pause"
    env = in_workers(at("chunk", "pause", nth=6, file=reached))
    with cluster(tmp_path / "dask", (), (), **env) as address:
        process = site.start("ingest", "--mode", mode, "--scheduler", address, "--json")
        wait_until(lambda: reached.exists() or process.ended.is_set(), "a worker is in its second tile")
        if victim == "scheduler":
            named = [p for p in psutil.process_iter(["cmdline"]) if "scheduler" in (p.info["cmdline"] or [])]
            (own,) = [p for p in named if str(tmp_path / "dask" / "scheduler.json") in p.info["cmdline"]]
            own.kill()
        else:
            named = [p for p in psutil.process_iter(["cmdline"]) if {"worker", "w0"} <= set(p.info["cmdline"] or [])]
            (own,) = [p for p in named if address in p.info["cmdline"]]
            own.terminate()
        reached.with_name("pause.go").touch()
        ran = site.finish(process)
    if victim == "worker":
        assert (ran.code, ran.json["written"], ran.json["failed"]) == (0, 7, []), ran
    else:
        assert ran.code == 1, ran
        assert ran.json["written"] + len(ran.json["failed"]) == 7
    # What an independent worker commits as the scheduler dies, the coordinator cannot know: more may be there than reported.
    fault.assess(site, done=ran.json["written"] if victim == "worker" or mode == "cooperative" else None)
    fault.complete(site, *site.command(mode))
    fault.settle(
        "exit 0, all written"
        if victim == "worker"
        else "exit 1; what was finished is committed, the rest reported; completed by the same command"
    )


@pytest.mark.skipif(not can_unshare(), reason="needs a mount namespace: unshare -rm")
@pytest.mark.parametrize(
    "late",
    [
        pytest.param(False, marks=pytest.mark.fault("worker sees another store")),
        pytest.param(True, marks=pytest.mark.fault("worker that joins late sees another store")),
    ],
)
@MODES
def test_worker_that_sees_another_store(site: Site, fault: Case, mode: str, late: bool, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(site.uri, other)
    mount = ("unshare", "-rm", "sh", "-c", f'mount --bind "{other}" "{site.uri}" && exec "$@"', "sh")
    reached = tmp_path / "pause"
    env = in_workers(at("chunk", "pause", nth=6, file=reached))
    with cluster(tmp_path / "dask", (), *(() if late else (mount,)), **(env if late else {})) as address:
        command = ("ingest", "--mode", mode, "--scheduler", address, "--json")
        if not late:
            ran = site.run(*command)
            assert (ran.code, ran.out) == (2, "")
            assert ran.err.startswith("error: worker tcp://127.0.0.1:")
        else:
            process = site.start(*command)
            wait_until(lambda: reached.exists() or process.ended.is_set(), "the worker is in its second tile")
            options = f"worker {address} --name late --nthreads 1 --no-dashboard --local-directory {tmp_path}".split()
            with started(*mount, sys.executable, "-m", "dask", *options, cwd=tmp_path, log=tmp_path / "late.log"):
                _wait_for_workers(address, 2)
                reached.with_name("pause.go").touch()
                ran = site.finish(process)
            assert ran.code == 1, ran
            assert "a worker that has joined" in ran.err, ran
            assert ran.json["written"] + len(ran.json["failed"]) + ran.json["unfinished"] == 7
    fault.assess(site, done=0 if not late else ran.json["written"])
    fault.complete(site, *site.command(mode))
    fault.settle("exit 2, naming the worker" if not late else "exit 1, saying so; what it wrote is not committed")


@pytest.mark.fault("worker joins late")
@MODES
def test_worker_joins_late(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    reached = tmp_path / "pause"
    env = in_workers(at("chunk", "pause", nth=6, file=reached))
    with cluster(tmp_path / "dask", (), **env) as address:
        process = site.start("ingest", "--mode", mode, "--scheduler", address, "--json")
        wait_until(lambda: reached.exists() or process.ended.is_set(), "the worker is in its second tile")
        options = f"worker {address} --name late --nthreads 1 --no-dashboard --local-directory {tmp_path}".split()
        with started(sys.executable, "-m", "dask", *options, cwd=tmp_path, log=tmp_path / "late.log"):
            _wait_for_workers(address, 2)
            reached.with_name("pause.go").touch()
            ran = site.finish(process)
    assert slots_of(ran) == {"written": 7, "empty": 0, "skipped": 0, "failed": 0}, ran
    fault.assess(site, done=7)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 0, all written")


def _wait_for_workers(address: str, n: int) -> None:
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(n, timeout=120)
