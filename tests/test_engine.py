"""Where work is done, and what happens when it is cut off: real processes, real signals, a real Dask cluster.

Tiles come from a web server on this machine that holds back some of them, so that a test knows where a run is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

import cubeingest as ci
from cubeingest.engine import ClusterPool, Progress
from cubeingest.ledger import read_records
from cubeingest.plan import slots_of
from cubeingest.selection import Selection, choose
from tests.conftest import Ran, World
from tests.test_glad import Web, serve

HREF = "href: tiles/{year}/{id}.tif"
TILES = {2000: ("20N_000E", "20N_010E", "10N_000E", "10N_010E", "10N_020E"), 2005: ("20N_000E", "10N_020E")}
"""What ``world`` starts with, in the order in which one process takes them."""

SLOW = pytest.mark.slow

PATIENCE = 120
"""Seconds that anything here may take on a busy machine. Nothing waits for them to pass."""


def oracle(world: World) -> np.ndarray:
    """The tiles pasted by their names."""
    out = np.full((2, 200, 250), 255, np.uint8)
    for t, (year, regions) in enumerate(TILES.items()):
        for region in regions:
            y, x = (20 - int(region[:2])) * 10, int(region[4:7]) * 10
            pixels = world.read_tile(year, region)
            out[t, y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return out


def is_whole(world: World) -> bool:
    """Whether every slot is done and every pixel right."""
    cube = ci.open(world.store)
    status = cube.status()
    return (status.done, status.pending) == (7, 0) and np.array_equal(cube.dataset()["cover"].values, oracle(world))


def checksums(cube: ci.Cube) -> dict[str, str]:
    records = read_records(cube.store.readonly(), slots_of(cube.spec, choose(cube.spec, Selection())))
    return {str(slot): f"{record.state} {record.checksum} {record.sources}" for slot, record in records.items()}


def wait_until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


@pytest.fixture
def web(world: World) -> Iterator[Web]:
    """The world's tiles by way of HTTP; the spec says so, and the cube is made."""
    with serve() as made:
        for path in (world.folder / "tiles").glob("*/*.tif"):
            made.files[f"/{path.parent.name}/{path.name}"] = path.read_bytes()
        world.write_spec((HREF, f"href: {made.url}/{{year}}/{{id}}.tif"))
        ci.init(world.spec_file)
        yield made


@contextmanager
def started(*command: object, cwd: Path, log: Path | None = None, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, killed with all it started in the end, if it still runs then."""
    environment = {k: v for k, v in os.environ.items() if k != "CUBEINGEST_STORE"} | env
    with ExitStack() as stack:
        output = subprocess.PIPE if log is None else stack.enter_context(log.open("w"))
        errors = subprocess.PIPE if log is None else subprocess.STDOUT
        process = subprocess.Popen(
            [str(c) for c in command], cwd=cwd, env=environment, stdout=output, stderr=errors, text=True, start_new_session=True
        )  # fmt: skip
        try:
            yield process
        finally:
            family = [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
            for member in family:
                member.kill()
            process.communicate()


def cubeingest(world: World, *args: object) -> tuple[object, ...]:
    return (sys.executable, "-m", "cubeingest", *args, "--store", world.store)


def finish(process: subprocess.Popen[str]) -> Ran:
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, out, err)


@contextmanager
def cluster(folder: Path, *workers: tuple[object, ...], **env: str) -> Iterator[str]:
    """`dask scheduler` and some `dask worker`, as a person starts them; its address. ``workers`` are prefixes."""
    folder.mkdir()
    file = folder / "scheduler.json"
    dask = (sys.executable, "-m", "dask")
    with ExitStack() as stack:
        own = ("scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file)
        stack.enter_context(started(*dask, *own, cwd=folder, log=folder / "scheduler.log"))
        wait_until(lambda: file.exists() and file.read_text().endswith("}"), "the scheduler has started")
        address = json.loads(file.read_text())["address"]
        for i, prefix in enumerate(workers):
            options = f"worker {address} --name w{i} --nthreads 1 --no-dashboard --local-directory {folder}".split()
            stack.enter_context(started(*prefix, *dask, *options, cwd=folder, log=folder / f"worker{i}.log", **env))
        if workers:
            from distributed import Client

            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(len(workers), timeout=PATIENCE)
        yield address


# ---- one result, wherever the work is done ---------------------------------------------------------------------


@pytest.mark.slow
def test_this_process_two_local_ones_and_a_cluster_make_the_same_cube(world: World, tmp_path: Path) -> None:
    cubes = {}
    with cluster(tmp_path / "dask", (), ()) as address:
        places = {"here": {"workers": 1}, "local": {"workers": 2}, "cluster": {"scheduler": address}}
        for name, options in places.items():
            cubes[name] = ci.init(world.spec_file, store=world.folder / name)
            report = cubes[name].ingest(**options)
            assert (report.written, report.failed) == (7, [])
            check = cubes[name].verify(**options)
            assert (check.equal, check.different, check.missing) == (7, [], [])
    expected = oracle(world)
    for cube in cubes.values():
        assert np.array_equal(cube.dataset()["cover"].values, expected)
        assert checksums(cube) == checksums(cubes["here"])
    assert len(checksums(cubes["here"])) == 7


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("run()", id="plain", marks=SLOW),
        pytest.param(
            "import threading as t; a = t.Thread(target=run); a.start(); a.join()", id="in a thread", marks=SLOW
        ),
        pytest.param("import asyncio\nasync def main(): run()\nasyncio.run(main())", id="in an event loop", marks=SLOW),
    ],
)
def test_script_without_a_main_guard_may_use_workers(world: World, body: str) -> None:
    script = world.folder / "script.py"
    text = "import cubeingest as ci\ndef run(): print('written', ci.init('grid.yaml').ingest(workers=2).written)\n"
    script.write_text(text + body + "\n")
    with started(sys.executable, "script.py", cwd=world.folder) as process:
        done = finish(process)
    assert (done.code, done.out) == (0, "written 7\n"), done.err
    assert is_whole(world)


# ---- a cluster that cannot do it ------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [pytest.param("tcp://127.0.0.1:9", marks=SLOW), "nonsense", "gopher://127.0.0.1:9"])
def test_scheduler_that_is_not_there_is_said(world: World, run: Callable[..., Ran], address: str) -> None:
    ci.init(world.spec_file)
    refused = run("ingest", "--store", world.store, "--scheduler", address)
    assert (refused.code, refused.out) == (2, "")
    assert f"error: no Dask scheduler answers at '{address}'" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_cluster_without_workers_is_said(world: World, run: Callable[..., Ran], tmp_path: Path) -> None:
    ci.init(world.spec_file)
    with cluster(tmp_path / "dask") as address:
        refused = run("ingest", "--store", world.store, "--scheduler", address)
    assert (refused.code, refused.out) == (2, "")
    assert f"error: the cluster at '{address}' has no workers: start some with `dask worker {address}`" in refused.err


def can_unshare() -> bool:
    found = shutil.which("unshare")
    return bool(found) and subprocess.run([found, "-rm", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs a mount namespace: unshare -rm")
@pytest.mark.parametrize("elsewhere", ["a copy", pytest.param("nothing", marks=SLOW)])
def test_worker_that_sees_another_store_at_the_same_path_is_named(
    world: World, run: Callable[..., Ran], tmp_path: Path, elsewhere: str
) -> None:
    """One worker has its own copy of the store, or an empty folder, mounted over the store's path."""
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000)
    other = tmp_path / "other"
    shutil.copytree(world.store, other) if elsewhere == "a copy" else other.mkdir()
    mount = ("unshare", "-rm", "sh", "-c", f'mount --bind "{other}" "{world.store}" && exec "$@"', "sh")
    before = cube.store.tip
    with cluster(tmp_path / "dask", (), mount) as address:
        refused = run("ingest", "--store", world.store, "--scheduler", address)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: worker tcp://127.0.0.1:")
    assert repr(str(world.store)) in refused.err
    assert cube.store.tip == before
    assert cube.status().pending == 2


@SLOW
def test_worker_with_other_versions_is_named(world: World, run: Callable[..., Ran], tmp_path: Path) -> None:
    ci.init(world.spec_file)
    old = tmp_path / "old" / "cubeingest-0.0.9.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: cubeingest\nVersion: 0.0.9\n")
    with cluster(tmp_path / "dask", (), PYTHONPATH=str(old.parent)) as address:
        refused = run("ingest", "--store", world.store, "--scheduler", address)
    assert refused.code == 2
    assert f"has other versions: cubeingest 0.0.9 (here {ci.__version__})" in refused.err


@SLOW
def test_proof_fails_when_the_store_is_moved_aside(world: World, tmp_path: Path) -> None:
    from distributed import Client

    store = ci.init(world.spec_file).store
    with cluster(tmp_path / "dask", ()) as address, Client(address, set_as_default=False) as client:
        pool = ClusterPool(client)
        pool.prove(store)
        os.rename(world.store, tmp_path / "aside")
        with pytest.raises(ci.CubeIngestError, match=r"small\.icechunk"):
            pool.prove(store)


# ---- something dies or is interrupted -------------------------------------------------------------------------


@SLOW
@pytest.mark.parametrize("victim", ["worker", "nanny"])
def test_killed_worker_costs_nothing(world: World, web: Web, victim: str) -> None:
    web.hold("/2000/10N_010E.tif")
    with started(*cubeingest(world, "ingest", "--workers", 2, "--json"), cwd=world.folder) as process:
        _, port = web.waiting.get(timeout=PATIENCE)
        workers = psutil.Process(process.pid).children(recursive=True)
        (reader,) = [w for w in workers if any(c.laddr.port == port for c in w.net_connections("tcp4") if c.laddr)]
        (reader if victim == "worker" else reader.parent()).kill()
        web.waiting.get(timeout=PATIENCE)  # another one takes the task over
        web.release()
        done = finish(process)
    assert (done.code, done.json["written"], done.json["failed"]) == (0, 7, []), done.err
    assert is_whole(world)


@pytest.mark.parametrize(
    ("signum", "code", "hangs_on"),
    [
        pytest.param(signal.SIGINT, 130, False, id="SIGINT"),
        pytest.param(signal.SIGTERM, 143, False, id="SIGTERM", marks=SLOW),
        pytest.param(signal.SIGINT, 130, True, id="SIGINT while a tile hangs", marks=SLOW),
    ],
)
def test_signal_commits_what_is_finished_and_the_same_command_goes_on(
    world: World, web: Web, run: Callable[..., Ran], signum: signal.Signals, code: int, hangs_on: bool
) -> None:
    command = cubeingest(world, "ingest", "--workers", 1, "--json")
    web.hold("/2000/10N_010E.tif")
    with started(*command, cwd=world.folder) as process:
        web.waiting.get(timeout=PATIENCE)  # three are finished, the fourth is being read
        process.send_signal(signum)
        if not hangs_on:
            web.release()
        done = finish(process)
    assert (done.code, done.json["interrupted"]) == (code, signum.name)
    assert 3 <= done.json["written"] == 7 - done.json["unfinished"] < 7
    assert "interrupted: what was finished is committed" in done.err
    assert ci.open(world.store).status().done == done.json["written"]
    web.release()
    rest = run(*command[3:])
    assert (rest.code, rest.json["written"], rest.json["skipped"]) == (0, 7 - done.json["written"], done.json["written"])  # fmt: skip
    assert is_whole(world)


SCRIPT = """
import sys, cubeingest as ci
def show(progress):
    print("result" if progress.result else "plan", flush=True)
report = ci.open(sys.argv[1]).ingest(workers=2, on_progress=show)
print(report.written, report.unfinished, report.signum, flush=True)
"""


@SLOW
def test_signal_with_workers_commits_what_is_finished_though_tiles_hang(world: World, web: Web) -> None:
    """Ctrl-C goes to all processes of a terminal. Both workers hang in reads when it comes, and stay so."""
    (world.folder / "script.py").write_text(SCRIPT)
    web.hold(*(path for path in web.files if "/2000/20N" not in path))
    with started(sys.executable, "script.py", world.store, cwd=world.folder) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in range(3)] == ["plan", "result", "result"]
        web.waiting.get(timeout=PATIENCE)
        web.waiting.get(timeout=PATIENCE)
        os.killpg(process.pid, signal.SIGINT)
        assert finish(process).out == f"2 5 {signal.SIGINT.value}\n"
    assert ci.open(world.store).status().done == 2


@pytest.mark.parametrize("hangs_on", [False, True], ids=["tile comes", "tile hangs"])
def test_second_signal_drops_what_is_not_committed(world: World, web: Web, hangs_on: bool) -> None:
    web.hold("/2000/10N_010E.tif")
    with started(*cubeingest(world, "ingest", "--workers", 1), cwd=world.folder) as process:
        web.waiting.get(timeout=PATIENCE)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        if not hangs_on:
            web.release()
        done = finish(process)
    assert done.code in (130, 143)
    assert "nothing more was committed" in done.err
    assert ci.open(world.store).status().done == 0


@pytest.mark.parametrize(("after", "workers"), [(0, 1), (0, 2), (2, 1)])
def test_signal_between_two_tasks_or_before_the_first_loses_nothing(world: World, after: int, workers: int) -> None:
    seen = []

    def interrupt(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == after + 1:
            signal.raise_signal(signal.SIGINT)

    report = ci.init(world.spec_file).ingest(workers=workers, on_progress=interrupt)
    assert (report.written, report.unfinished, report.signum) == (after, 7 - after, signal.SIGINT)
    assert report.exit_code == 130


@SLOW
@pytest.mark.parametrize("hangs_on", [False, True], ids=["tiles come", "tiles hang"])
def test_killed_coordinator_leaves_no_process_and_the_cube_as_it_was(
    world: World, web: Web, run: Callable[..., Ran], hangs_on: bool
) -> None:
    before = ci.open(world.store).store.tip
    command = cubeingest(world, "ingest", "--workers", 2, "--json")
    web.hold("/2000/10N_000E.tif", "/2000/10N_010E.tif")
    with started(*command, cwd=world.folder) as process:
        web.waiting.get(timeout=PATIENCE)
        web.waiting.get(timeout=PATIENCE)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 4
        process.kill()
        process.wait()
        if not hangs_on:
            web.release()
        _, alive = psutil.wait_procs(workers, timeout=90)
        left = [w.cmdline() for w in alive]
        for worker in alive:
            worker.kill()
        assert left == []
    cube = ci.open(world.store)
    assert (cube.store.tip, cube.status().done) == (before, 0)
    web.release()
    done = run(*command[3:])
    assert (done.code, done.json["written"]) == (0, 7)
    assert is_whole(world)


# ---- others at the same cube ----------------------------------------------------------------------------------


def test_two_runs_at_once_lose_nothing(world: World, web: Web) -> None:
    web.hold("/2005/10N_020E.tif")
    command = cubeingest(world, "ingest", "--workers", 1, "--json")
    with started(*command, cwd=world.folder) as one, started(*command, cwd=world.folder) as two:
        ports = {web.waiting.get(timeout=PATIENCE)[1] for _ in range(2)}
        assert len(ports) == 2  # both have filled all slots but the last
        web.release()
        done = finish(one), finish(two)
    assert [d.code for d in done] == [0, 0]
    assert sorted((d.json["written"], d.json["skipped"]) for d in done) == [(0, 7), (7, 0)]
    assert is_whole(world)


@pytest.mark.parametrize("commit_every", [None, 1])
@pytest.mark.parametrize("when", [1, 4, 8])
def test_slots_that_another_finished_meanwhile_are_dropped_and_counted(
    world: World, when: int, commit_every: int | None
) -> None:
    """The other one commits before the first result, after the third, or after the last."""
    seen = []
    other = []

    def interfere(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == when:
            other.append(ci.open(world.store).ingest(region="10N_020E", workers=1))

    cube = ci.init(world.spec_file)
    report = cube.ingest(workers=1, commit_every=commit_every, on_progress=interfere)
    own = 1 if commit_every and when == 8 else 0  # 10N_020E of 2000 is the fifth, and committed by then
    assert (other[0].written, other[0].skipped) == (2 - own, own)
    assert (report.written, report.skipped, report.failed) == (5 + own, 2 - own, [])
    assert report.planned == 7
    assert is_whole(world)


def test_what_another_wrote_from_a_newer_tile_is_not_overwritten_by_an_older_one(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest()
    for region in TILES[2000]:
        world.add_tile(2000, region)

    def interfere(progress: Progress) -> None:
        if progress.result is not None and (progress.result.slot.iy, progress.result.slot.ix) == (0, 1):
            world.add_tile(2000, "20N_010E")
            assert ci.open(world.store).ingest(region="20N_010E", workers=1).written == 1

    report = cube.ingest(workers=1, on_progress=interfere)
    assert (report.written, report.skipped) == (4, 3)
    assert is_whole(world)
    assert cube.ingest().skipped == 7


def test_new_attributes_committed_meanwhile_stay(world: World) -> None:
    cube = ci.init(world.spec_file)

    def interfere(progress: Progress) -> None:
        if progress.result is None:
            ci.init(world.write_spec(("license: CC0-1.0", "license: MIT")), update=True)

    assert cube.ingest(workers=1, on_progress=interfere).written == 7
    assert cube.dataset().attrs["license"] == "MIT"
    assert is_whole(world)


@SLOW
def test_local_workers_open_no_port_to_other_machines(world: World) -> None:
    """Nor do they need a certain port: Dask's usual one may be taken by another run."""
    open_to_all = set()

    def look(progress: Progress) -> None:
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            listening = [c.laddr for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            open_to_all.update((process.name(), *where) for where in listening if where.ip not in ("127.0.0.1", "::1"))

    assert ci.init(world.spec_file).ingest(workers=2, on_progress=look).written == 7
    assert open_to_all == set()
