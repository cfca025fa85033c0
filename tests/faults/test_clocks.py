"""Clocks that are wrong: a library put before the C library's own shifts what a process takes for the time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Ran
from tests.faults.injection import at
from tests.faults.record import Case
from tests.faults.site import Site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None or not sys.platform.startswith("linux"), reason="needs gcc"),
]

MODES = pytest.mark.parametrize("mode", ["cooperative", "independent"])
STORAGES = pytest.mark.parametrize("storage", ["local", "s3"])

DAY = 86_400
MINUTES = 300
"""Less than what Icechunk takes for a wrong clock when it compares with the store's own."""

SHIFT = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long offset(void) {
    const char *text = getenv("TEST_CLOCK_OFFSET");
    return text ? atol(text) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, t);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) t->tv_sec += offset();
    return result;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return result;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture(scope="session")
def shift(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, built, and seen to work in Python."""
    folder = tmp_path_factory.mktemp("shift")
    source, built = folder / "shift.c", folder / "shift.so"
    source.write_text(SHIFT)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O", "-o", built, source, "-ldl"], check=True)
    env = {**os.environ, "LD_PRELOAD": str(built), "TEST_CLOCK_OFFSET": str(1000 * DAY)}
    year = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"], env=env, capture_output=True, text=True, check=True
    )
    import time

    assert float(year.stdout) > time.time() + 999 * DAY
    return built


def run_at(site: Site, shift: Path, seconds: int, *args: object) -> Ran:
    """A command with a clock that is ``seconds`` off."""
    with popen_at(site, shift, seconds, *args) as process:
        out, err = process.communicate(timeout=120)
    ran = Ran(process.returncode, out, err)
    if args[0] == "ingest" and ran.code == 0:
        site.claimed += ran.json["written"]
    return ran


def popen_at(site: Site, shift: Path, seconds: int, *args: object, code: str = "") -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    env = site.environment | {
        "LD_PRELOAD": str(shift), "TEST_CLOCK_OFFSET": str(seconds),
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    program = f"{code}\nfrom cubeingest.cli import main\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args), "--store", site.uri], cwd=site.folder, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def refused_for_its_clock(ran: Ran) -> None:
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
    assert "clock" in ran.err


@pytest.mark.fault("clock a day ahead")
@MODES
@STORAGES
def test_clock_ahead(site: Site, fault: Case, mode: str, shift: Path) -> None:
    """Icechunk takes no change that is older than the newest one: one from tomorrow would lock all others out until then."""
    refused_for_its_clock(run_at(site, shift, DAY, *site.command(mode, "--year", 2000)))
    fault.assess(site, done=0)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 2, naming the clock; nothing written; others go on")


@pytest.mark.fault("clock a day behind")
@MODES
@STORAGES
def test_clock_behind(site: Site, fault: Case, mode: str, shift: Path) -> None:
    assert site.ingest(mode, "--year", 2000).code == 0
    refused_for_its_clock(run_at(site, shift, -DAY, *site.command(mode)))
    fault.assess(site, done=5)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 2, naming the clock; nothing written")


@pytest.mark.fault("clock some seconds behind another's")
@MODES
@STORAGES
def test_clock_some_seconds_behind(site: Site, fault: Case, mode: str, shift: Path) -> None:
    """As those of two machines may be at any time."""
    one = run_at(site, shift, 12, *site.command(mode, "--year", 2000))
    assert (one.code, one.json["written"]) == (0, 5), one
    two = site.ingest(mode)
    assert (two.code, two.out != "" and two.json["written"]) == (0, 2), two
    fault.assess(site, done=7)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 0; it waits for those seconds, all is written")


@pytest.mark.fault("gc with the clock a week ahead")
@STORAGES
def test_gc_with_a_wrong_clock(site: Site, fault: Case, shift: Path) -> None:
    """Beside what counts lies the litter of a killed run."""
    assert site.ingest("cooperative", "--year", 2000).code == 0
    assert site.ingest("independent", "--region", "10N_020E", inject=[at("commit", "kill")]).code == -9
    before = site.objects("chunks")
    refused_for_its_clock(run_at(site, shift, 7 * DAY, "gc"))
    assert site.objects("chunks") == before
    fault.assess(site, done=5, findings=("dead-run",))
    fault.complete(site, *site.command("cooperative"), findings=("dead-run",))
    fault.settle("exit 2, naming the clock; nothing removed; ingests go on")


@pytest.mark.fault("gc with the clock a week ahead during a run")
@STORAGES
def test_gc_with_a_wrong_clock_during_a_run(site: Site, fault: Case, shift: Path, tmp_path: Path) -> None:
    pause = tmp_path / "pause"
    command = site.command("independent")
    with site.paused(pause, *command, inject=[at("chunk", "pause", nth=13, file=pause)]) as process:
        refused = run_at(site, shift, 7 * DAY, "gc")
        assert refused.code == 2, refused
        assert "an ingest is running" in refused.err
    assert site.finish(process).code == 0
    fault.assess(site, done=7)
    fault.complete(site, *command)
    fault.settle("`gc` exits 2, naming the run; the run exits 0")


@pytest.mark.fault("run started with the clock behind, then gc")
@MODES
def test_gc_after_the_clock_was_set_right(site: Site, fault: Case, mode: str, shift: Path, tmp_path: Path) -> None:
    from tests.faults.starter import wait_until

    site.uri += "-earlier"  # a cube of that time: no change may be older than the one before
    assert run_at(site, shift, -MINUTES - 60, "init", "grid.yaml").code == 0
    pause = tmp_path / "pause"
    code = f"from tests.faults.injection import install\ninstall([{at('chunk', 'pause', nth=13, file=pause)!r}])"
    with popen_at(site, shift, -MINUTES, *site.command(mode), code=code) as process:
        wait_until(lambda: pause.exists() or process.poll() is not None, "the run is where it waits")
        assert process.poll() is None
        refused = site.run("gc", "--older-than", "0s")
        process.kill()
        process.communicate()
    assert refused.code == 2, refused
    assert "an ingest is running" in refused.err
    done = 0 if mode == "cooperative" else 2
    fault.assess(site, done=done, findings=("dead-run",))
    fault.complete(site, *site.command(mode), findings=("dead-run",))
    fault.settle("`gc` exits 2, naming the run")
