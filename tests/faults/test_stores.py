"""The store fails: it refuses, is slow, answers nonsense or not at all, is full, or is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ran
from tests.faults.injection import at
from tests.faults.proxy import Proxy
from tests.faults.record import Case
from tests.faults.site import Site
from tests.objectstore import KEYS, free_port

pytestmark = pytest.mark.slow

MODES = pytest.mark.parametrize("mode", ["cooperative", "independent"])
S3 = pytest.mark.parametrize("storage", ["s3"])

QUICKLY = 60
"""Seconds within which a person is told that a store cannot be used, on a busy machine."""


def proxy_of(site: Site) -> Proxy:
    assert site.proxy is not None
    return site.proxy


def refused(ran: Ran) -> None:
    """Exit 2 and one line that says why, without secrets."""
    assert (ran.code, ran.out) == (2, ""), ran
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("error: "), ran.err
    assert "--debug" not in ran.err, ran.err
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in ran.err


# ---- trouble that passes --------------------------------------------------------------------------------------

PASSING: dict[str, dict[str, Any]] = {
    "SlowDown for a while": {"status": 503, "times": 12},
    "internal errors for a while": {"status": 500, "times": 12},
    "connections dropped for a while": {"drop": "before", "times": 8},
    "slow store": {"seconds": 0.03},
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.fault(n)) for n in PASSING])
@MODES
@S3
def test_trouble_that_passes_is_survived(site: Site, fault: Case, mode: str, name: str) -> None:
    """It begins with the ingest's first write of a chunk, so that some of it meets chunks and some of it the rest."""
    trouble = proxy_of(site).trouble(part="/small/", after=25, **PASSING[name])
    ran = site.ingest(mode)
    assert (ran.code, ran.json["written"], ran.json["failed"]) == (0, 7, []), ran.err
    assert trouble.met > 0
    assert trouble.times in (None, trouble.met)
    fault.assess(site, done=7)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 0, all written")


@pytest.mark.parametrize(
    ("drop", "status"),
    [
        pytest.param("after", None, marks=pytest.mark.fault("answer of the commit lost")),
        pytest.param("after", 500, marks=pytest.mark.fault("commit made, but answered with an error")),
        pytest.param("after", 503, marks=pytest.mark.fault("commit made, but answered with SlowDown")),
    ],
)
@MODES
@S3
def test_lost_answer_of_a_commit_neither_loses_nor_doubles(
    site: Site, fault: Case, mode: str, drop: str, status: int | None, tmp_path: Path
) -> None:
    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("commit", "pause", file=pause)]) as process:
        trouble = proxy_of(site).trouble(method="PUT", suffix="/small/repo", times=1, drop=drop, status=status)
    ran = site.finish(process)
    assert trouble.met == 1
    assert (ran.code, ran.json["failed"]) == (0, []), ran.err
    assert ran.json["written"] == 7
    fault.assess(site, done=7)
    fault.complete(site, *command)
    fault.settle("exit 0, all written, each region once")


# ---- trouble that stays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix",
    [
        pytest.param("", marks=pytest.mark.fault("store refuses all writes")),
        pytest.param("/repo", marks=pytest.mark.fault("store refuses commits")),
    ],
)
@MODES
@S3
def test_store_that_refuses_writes(site: Site, fault: Case, mode: str, suffix: str) -> None:
    proxy_of(site).trouble(method="PUT", part="/small/", suffix=suffix, status=403)
    refused(site.ingest(mode))
    proxy_of(site).troubles.clear()
    fault.assess(site, done=0)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 2, one line; nothing written")


@pytest.mark.fault("store refuses writes from some moment on")
@MODES
@S3
@pytest.mark.parametrize("part", ["/small/", "/small/chunks/"])
def test_store_that_refuses_writes_later(site: Site, fault: Case, mode: str, part: str, tmp_path: Path) -> None:
    """After the second commit, of each one region: the run ends with a report of what is committed."""
    pause = tmp_path / "pause"
    command = site.command(mode, "--commit-every", 1)
    with site.paused(pause, *command, inject=[at("commit", "pause", nth=3, file=pause)]) as process:
        proxy_of(site).trouble(method="PUT", part=part, status=403)
    ran = site.finish(process)
    proxy_of(site).troubles.clear()
    n = 2 if part == "/small/" else 3
    assert (ran.code, ran.json["written"]) == (1, n), ran
    assert ran.json["error"]
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in ran.out + ran.err
    account = site.account()
    assert len(account.whole) == n
    found = ("dead-run",) if part == "/small/" else ()
    fault.assess(site, done=n, findings=found and dead(site))
    fault.complete(site, *command, findings=dead(site))
    fault.settle("exit 1; what was committed before stays and is reported; completed by the same command")


def dead(site: Site) -> tuple[str, ...]:
    """A run that could not say goodbye, because the store refused that too, counts as killed."""
    return ("dead-run",) if any(b.startswith("cubeingest-") for b in site.repository().list_branches()) else ()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param({}, 403, marks=pytest.mark.fault("wrong credentials")),
        pytest.param({"uri": "s3://no-such-bucket-here/small"}, None, marks=pytest.mark.fault("wrong bucket")),
        pytest.param({"endpoint": "closed"}, None, marks=pytest.mark.fault("wrong endpoint")),
        pytest.param({"uri": "s3://{bucket}/other"}, None, marks=pytest.mark.fault("wrong prefix")),
    ],
)
@S3
def test_store_that_cannot_be_reached_is_said_at_once(
    site: Site, fault: Case, change: dict[str, str], status: int | None
) -> None:
    assert site.bucket is not None
    env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"} if "endpoint" in change else {}
    uri = change.get("uri", site.uri).format(bucket=site.bucket.name)
    if status is not None:
        proxy_of(site).trouble(status=status)
    started = time.monotonic()
    for command in ("status", "ingest"):
        refused(site.run(command, "--store", uri, **env))
    assert time.monotonic() - started < QUICKLY
    proxy_of(site).troubles.clear()
    fault.assess(site, done=0)
    fault.complete(site, *site.command("cooperative"))
    fault.settle("exit 2 within seconds, one line without secrets")


# ---- local disks ----------------------------------------------------------------------------------------------


def can_mount() -> bool:
    found = shutil.which("unshare")
    return bool(found) and subprocess.run([found, "-rm", "true"], capture_output=True, check=False).returncode == 0


def run_mounted(site: Site, mount: str, *args: object) -> Ran:
    """Run a command in a mount namespace of its own, after the shell commands ``mount``."""
    command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-m", "cubeingest"]
    root = str(Path(__file__).parents[2])
    env = site.environment | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [*command, *map(str, args), "--store", site.uri], cwd=site.folder, env=env, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.fault("read-only folder")
@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace: unshare -rm")
@MODES
def test_read_only_folder(site: Site, fault: Case, mode: str) -> None:
    """Mounted read-only: root, too, cannot write there."""
    mount = f'mount --bind "{site.uri}" "{site.uri}" && mount -o remount,bind,ro "{site.uri}"'
    refused(run_mounted(site, mount, *site.command(mode)))
    assert run_mounted(site, mount, "status", "--json").json["pending"] == 7
    fault.assess(site, done=0)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 2, one line; nothing written; reading commands work")


@pytest.mark.fault("full disk")
@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace: unshare -rm")
@MODES
@pytest.mark.parametrize("spare", [8, 48])
def test_full_disk(site: Site, fault: Case, mode: str, spare: int, tmp_path: Path) -> None:
    """The store lies on a file system with room for a few more chunks; what it holds in the end is copied out of it."""
    kept = tmp_path / "kept"
    used = int(subprocess.run(["du", "-sk", site.uri], capture_output=True, text=True, check=True).stdout.split()[0])
    size = used + spare
    aside = tmp_path / "aside"
    mount = f'cp -a "{site.uri}" "{aside}" && mount -t tmpfs -o size={size}k full "{site.uri}" && cp -a "{aside}/." "{site.uri}"'
    command = ["unshare", "-rm", "sh", "-c", f'{mount} && "$@"; code=$?; cp -a "{site.uri}" "{kept}"; exit $code', "sh"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [*command, sys.executable, "-m", "cubeingest", *map(str, site.command(mode)), "--store", site.uri], cwd=site.folder,
        env=site.environment | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    ran = Ran(done.returncode, done.stdout, done.stderr)
    assert ran.code in (1, 2), ran
    assert "Traceback" not in ran.err
    assert len(ran.err.splitlines()) <= 7, ran.err
    assert "no space" in (ran.err + ran.out).lower(), ran
    if ran.code == 1:
        site.claimed += ran.json["written"]
    else:
        assert ran.out == ""
    shutil.rmtree(site.uri)
    shutil.copytree(kept, site.uri)
    fault.assess(site, done=site.claimed, findings=dead(site))
    fault.complete(site, *site.command(mode), findings=dead(site))
    fault.settle(
        "it says that no space is left; what it reports as written is there; with space, completed by the same command"
    )
