"""A cluster on hosts of its own: network namespaces with addresses of their own, joined by a bridge."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import cubeingest as ci
from tests.conftest import World
from tests.objectstore import KEYS, Bucket, moto_server
from tests.test_engine import HREF, finish, oracle, started, wait_until
from tests.test_glad import Web, serve

pytestmark = pytest.mark.slow

DASK = (sys.executable, "-m", "dask")


def ip(*words: str) -> bool:
    """Run `ip`; whether it could."""
    found = shutil.which("ip")
    return bool(found) and subprocess.run([str(found), *words], capture_output=True, check=False).returncode == 0


@dataclass
class Hosts:
    """``here`` is this machine's address on the bridge, ``names`` are namespaces."""

    here: str
    names: list[str] = field(default_factory=list)

    def run_on(self, i: int) -> tuple[str, ...]:
        """What a command starts with to run on host ``i``."""
        return ("ip", "netns", "exec", self.names[i])

    def address(self, i: int) -> str:
        return f"{self.here.rpartition('.')[0]}.{i + 2}"


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Two hosts. Skipped where namespaces cannot be made: it takes Linux, iproute2 and root."""
    tag = f"ci{uuid.uuid4().hex[:6]}"  # a namespace that was deleted keeps its links for a while
    made = Hosts(f"10.{os.getpid() % 200 + 20}.77.1", [f"{tag}a", f"{tag}b"])
    with ExitStack() as stack:
        if not ip("link", "add", f"{tag}br", "type", "bridge"):
            pytest.skip("no network namespaces: needs Linux, iproute2 and root")
        stack.callback(ip, "link", "del", f"{tag}br")
        assert ip("addr", "add", f"{made.here}/24", "dev", f"{tag}br")
        assert ip("link", "set", f"{tag}br", "up")
        for i, name in enumerate(made.names):
            assert ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            assert ip("link", "add", f"{name}v", "type", "veth", "peer", "name", f"{name}p")
            assert ip("link", "set", f"{name}v", "master", f"{tag}br")
            assert ip("link", "set", f"{name}v", "up")
            assert ip("link", "set", f"{name}p", "netns", name)
            assert ip("-n", name, "addr", "add", f"{made.address(i)}/24", "dev", f"{name}p")
            assert ip("-n", name, "link", "set", f"{name}p", "up")
            assert ip("-n", name, "link", "set", "lo", "up")
        yield made


@pytest.fixture
def shared(world: World, hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Web, str]]:
    """Tiles on a web server and a cube in a bucket that all hosts reach, some of the tiles held back."""
    with serve(hosts.here) as web, moto_server(hosts.here) as url:
        for path in (world.folder / "tiles").glob("*/*.tif"):
            web.files[f"/{path.parent.name}/{path.name}"] = path.read_bytes()
        world.write_spec((HREF, f"href: {web.url}/{{year}}/{{id}}.tif"))
        bucket = Bucket(url, "hosts")
        bucket.client.create_bucket(Bucket=bucket.name)
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        uri = f"{bucket.uri('cube')}?endpoint={url}"
        ci.init(world.spec_file, uri)
        yield web, uri
        web.release()


def worker(hosts: Hosts, i: int, address: str, folder: Path) -> list[object]:
    options = f"worker {address} --name host{i} --nthreads 1 --no-dashboard --local-directory {folder / str(i)}".split()
    return [*hosts.run_on(i), *DASK, *options]


@pytest.mark.parametrize("mode", ["cooperative", "independent"])
def test_workers_on_two_hosts_of_which_one_joins_and_one_leaves_during_the_run(
    world: World, hosts: Hosts, shared: tuple[Web, str], tmp_path: Path, mode: str
) -> None:
    from distributed import Client

    web, uri = shared
    web.hold("/2000/10N_000E.tif", "/2005/10N_020E.tif")
    folder = tmp_path / "dask"
    folder.mkdir()
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        own = ("scheduler", "--host", hosts.here, "--port", 0, "--no-dashboard", "--scheduler-file", file)
        stack.enter_context(started(*DASK, *own, cwd=folder, log=folder / "scheduler.log"))
        wait_until(lambda: file.exists() and file.read_text().endswith("}"), "the scheduler has started")
        address = json.loads(file.read_text())["address"]
        first = stack.enter_context(started(*worker(hosts, 0, address, folder), cwd=folder, log=folder / "0.log"))
        client = stack.enter_context(Client(address, set_as_default=False))
        client.wait_for_workers(1, timeout=60)
        command = (
            sys.executable,
            "-m",
            "cubeingest",
            "ingest",
            "--mode",
            mode,
            "--scheduler",
            address,
            "--store",
            uri,
            "--json",
        )
        run = stack.enter_context(started(*command, cwd=world.folder))
        web.waiting.get(timeout=60)  # the first host is at work, on a tile that does not come
        stack.enter_context(started(*worker(hosts, 1, address, folder), cwd=folder, log=folder / "1.log"))
        client.wait_for_workers(2, timeout=60)
        web.waiting.get(timeout=60)  # and now the second one, too
        seen = {w["host"] for w in client.scheduler_info(n_workers=-1)["workers"].values()}
        assert seen == {hosts.address(0), hosts.address(1)}
        first.terminate()
        first.wait(60)
        web.release()
        done = finish(run)
    assert done.code == 0, done.err
    assert (done.json["written"], done.json["failed"]) == (7, [])
    cube = ci.open(uri)
    assert cube.check(deep=True).findings == []
    assert (cube.dataset()["cover"].values == oracle(world)).all()


def test_worker_without_credentials_is_named(
    world: World, hosts: Hosts, shared: tuple[Web, str], tmp_path: Path
) -> None:
    """Its environment has no credentials: they are never sent along."""
    _, uri = shared
    folder = tmp_path / "dask"
    folder.mkdir()
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        own = ("scheduler", "--host", hosts.here, "--port", 0, "--no-dashboard", "--scheduler-file", file)
        stack.enter_context(started(*DASK, *own, cwd=folder, log=folder / "scheduler.log"))
        wait_until(lambda: file.exists() and file.read_text().endswith("}"), "the scheduler has started")
        address = json.loads(file.read_text())["address"]
        no_keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
        stack.enter_context(started(*worker(hosts, 0, address, folder), cwd=folder, log=folder / "0.log", **no_keys))
        command = (sys.executable, "-m", "cubeingest", "ingest", "--scheduler", address, "--store", uri)
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        run = stack.enter_context(started(*command, cwd=world.folder))
        done = finish(run)
    assert done.code == 2
    assert f"worker tcp://{hosts.address(0)}" in done.err
    assert "cannot read store" in done.err
    assert ci.open(uri).status().done == 0
