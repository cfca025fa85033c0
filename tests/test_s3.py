"""The whole job in an object store: a real S3 server, real processes."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import cubeingest as ci
from cubeingest.errors import SpecError, StoreError
from cubeingest.storage import Storage, split_uri
from cubeingest.store import normalize_uri
from tests.conftest import Ran, World
from tests.objectstore import KEYS, Bucket, free_port
from tests.test_bad_store import refused
from tests.test_engine import SLOW, finish, oracle, started

Invoke = Callable[..., Ran]
SECRETS = ("AKIAOFTHETESTS", "secret-of-the-tests")


@pytest.fixture
def tiles(world: World, bucket: Bucket) -> World:
    """The world with its tiles, and their lists, in the bucket; the spec names them, and a store there."""
    for path in sorted((world.folder / "tiles").rglob("*.*")):
        bucket.put(str(path.relative_to(world.folder)), path)
    world.write_spec(
        ("href: tiles/", f"href: {bucket.uri('tiles/')}"),
        ("tiles/{year}.txt", bucket.uri("tiles/{year}.txt")),
        ("./small.icechunk", bucket.uri("cubes/small")),
    )
    return world


def is_whole(world: World, uri: str) -> bool:
    cube = ci.open(uri)
    status = cube.status()
    return (
        cube.check(deep=True).findings == []
        and (status.done, status.pending) == (7, 0)
        and np.array_equal(cube.dataset()["cover"].values, oracle(world))
    )


def test_whole_job_with_cube_and_tiles_in_s3(tiles: World, bucket: Bucket, invoke: Invoke) -> None:
    uri = bucket.uri("cubes/small")
    assert invoke("init", "grid.yaml").code == 0
    assert (tiles.folder / ".cubeingest").read_text() == f"{uri}\n"
    plan = invoke("plan", "--json").json
    assert (plan["tasks"], plan["problems"]) == (7, [])
    assert invoke("ingest", "--year", 2000, "--json").json["written"] == 5
    again = invoke("ingest", "--mode", "independent", "--json").json
    assert (again["written"], again["skipped"]) == (2, 5)
    assert invoke("verify", "--json").json["equal"] == 7
    assert invoke("ingest", "--json").json["skipped"] == 7
    assert is_whole(tiles, uri)
    assert invoke("tag", "v1").code == 0
    assert invoke("gc", "--older-than", "0s", "--keep", 1).code == 0
    assert is_whole(tiles, uri)


@SLOW
@pytest.mark.parametrize("mode", ["cooperative", "independent"])
def test_eight_processes_at_once(tiles: World, bucket: Bucket, mode: str) -> None:
    uri = bucket.uri("cubes/small")
    ci.init(tiles.spec_file)
    command = (sys.executable, "-m", "cubeingest", "ingest", "--mode", mode, "--store", uri, "--json")
    with ExitStack() as stack:
        running = [stack.enter_context(started(*command, "--part", f"{k}/8", cwd=tiles.folder)) for k in range(1, 9)]
        done = [finish(process) for process in running]
    assert [ran.code for ran in done] == [0] * 8, [ran.err for ran in done]
    assert sum(ran.json["written"] for ran in done) == 7
    assert is_whole(tiles, uri)


@pytest.mark.parametrize("mode", ["cooperative", pytest.param("independent", marks=SLOW)])
def test_two_local_workers(tiles: World, bucket: Bucket, invoke: Invoke, mode: str) -> None:
    ci.init(tiles.spec_file)
    ran = invoke("ingest", "--mode", mode, "--workers", 2, "--store", bucket.uri("cubes/small"), "--json")
    assert (ran.code, ran.json["written"]) == (0, 7)
    assert is_whole(tiles, bucket.uri("cubes/small"))


def test_tile_that_changes_in_the_bucket_is_read_again(tiles: World, bucket: Bucket, invoke: Invoke) -> None:
    invoke("init", "grid.yaml")
    invoke("ingest")
    tiles.add_tile(2005, "20N_000E", tiles.pixels("20N_000E"))
    bucket.put("tiles/2005/20N_000E.tif", tiles.folder / "tiles" / "2005" / "20N_000E.tif")
    again = invoke("ingest", "--json").json
    assert (again["written"], again["skipped"]) == (1, 6)
    assert is_whole(tiles, bucket.uri("cubes/small"))


# ---- endpoints, regions, anonymous ----------------------------------------------------------------------------


@pytest.fixture
def unset(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment holds credentials, and says nothing of where the server is."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_REGION")


def test_endpoint_in_the_spec(tiles: World, bucket: Bucket, invoke: Invoke, unset: None) -> None:
    text = tiles.spec_file.read_text()
    text = text.replace("nodata: 255\n", f"nodata: 255\n      storage: {{endpoint: '{bucket.endpoint}'}}\n")
    tiles.spec_file.write_text(text + f"storage: {{endpoint: '{bucket.endpoint}'}}\n")
    assert invoke("init", "grid.yaml").code == 0
    pointer = (tiles.folder / ".cubeingest").read_text().strip()
    assert pointer == f"{bucket.uri('cubes/small')}?endpoint={bucket.endpoint}"
    ran = invoke("ingest", "--json")
    assert (ran.json["failed"], ran.json["written"]) == ([], 7)
    assert is_whole(tiles, pointer)


def test_endpoint_in_the_uri(world: World, bucket: Bucket, invoke: Invoke, unset: None) -> None:
    uri = f"{bucket.uri('cube')}?endpoint={bucket.endpoint}&region=us-east-1"
    assert invoke("init", "grid.yaml", "--store", uri).code == 0
    ran = invoke("ingest", "--store", uri, "--json").json
    assert (ran["written"], ran["store"]) == (7, uri)
    assert is_whole(world, uri)


def test_public_cube_is_read_without_credentials(
    tiles: World, bucket: Bucket, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = bucket.uri("cubes/small")
    invoke("init", "grid.yaml")
    invoke("ingest")
    policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}]}'
    bucket.client.put_bucket_policy(Bucket=bucket.name, Policy=policy)
    bucket.client.put_bucket_acl(Bucket=bucket.name, ACL="public-read")
    for key in bucket.keys(""):
        bucket.client.put_object_acl(Bucket=bucket.name, Key=key, ACL="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    refused(invoke("status", "--store", uri), "no credentials|credentials")
    assert invoke("status", "--store", f"{uri}?anonymous=true", "--json").json["done"] == 7
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert invoke("status", "--store", uri, "--json").json["done"] == 7
    assert invoke("verify", "--store", uri, "--json").json["equal"] == 7


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://b/c?endpoint=localhost:9000", r"endpoint 'localhost:9000' must look like https://host:port"),
        ("s3://b/c?key=abc", r"option 'key' is not known \(known: endpoint, region, anonymous\)"),
        ("s3://b/c?anonymous=maybe", "anonymous must be true or false"),
        ("s3://key:pass@b/c", "holds a user or password: leave them out"),
        ("s3://b/c?endpoint=http://key:pass@host", "without user and password"),
        ("s3://b", "needs a bucket and a prefix"),
        ("ftp://b/c", "scheme 'ftp' is not known"),
    ],
)
def test_uri_that_cannot_be_is_refused_and_keeps_its_secrets(
    world: World, invoke: Invoke, uri: str, message: str
) -> None:
    ran = invoke("status", "--store", uri)
    refused(ran, message)
    assert "pass" not in ran.err.replace("password", "")


def test_uri_and_its_options_survive_the_round_trip() -> None:
    options = Storage("http://127.0.0.1:9000/s3", "eu-west-1", anonymous=True)
    assert split_uri("s3://b/c" + options.query) == ("s3://b/c", options)
    assert split_uri("s3://b/c") == ("s3://b/c", Storage())
    assert normalize_uri("s3://b/c/?anonymous=true") == "s3://b/c?anonymous=true"
    with pytest.raises(StoreError, match="option 'secret'"):
        normalize_uri("s3://b/c?secret=1")


def test_storage_in_a_spec_is_checked(world: World) -> None:
    for old, new, message in (
        (
            "store: ./small.icechunk",
            "store: s3://b/c\nstorage: {endpoint: host}",
            "store: endpoint 'host' must look like",
        ),
        (
            "store: ./small.icechunk",
            "store: s3://b/c?region=x\nstorage: {region: y}",
            "in storage or as a query, not both",
        ),
        ("store: ./small.icechunk", "store: ./x\nstorage: {anonymous: true}", "storage is for an object store"),
        ("store: ./small.icechunk", "store: s3://a:b@c/d", "leave user and password out"),
        ("nodata: 255", "nodata: 255\n      storage: {endpiont: x}", "did you mean 'endpoint'"),
        ("href: tiles", "href: github://tiles", "has a scheme that is not opened"),
    ):
        world.write_spec((old, new))
        with pytest.raises(SpecError, match=re.escape(message)):
            ci.read_spec(world.spec_file)


# ---- what fails, at once and once -----------------------------------------------------------------------------


def timed(invoke: Invoke, *args: object) -> tuple[Ran, float]:
    began = time.monotonic()
    ran = invoke(*args)
    return ran, time.monotonic() - began


def test_bad_credential_bucket_or_endpoint_fails_within_seconds(
    world: World, bucket: Bucket, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"{bucket.uri('cube')}?endpoint=http://127.0.0.1:{free_port()}"
    for uri, message in (
        ("s3://no-such-bucket/cube", "no cube at|bucket"),
        (nowhere, "cannot reach store .*Connection refused"),
        (bucket.uri("none"), "no cube at .*nothing is there"),
    ):
        ran, seconds = timed(invoke, "ingest", "--store", uri)
        refused(ran, message)
        assert len(ran.err.splitlines()) == 1
        assert seconds < 20
    refused(invoke("init", "grid.yaml", "--store", "s3://no-such-bucket/cube"), "cannot create a cube at .*bucket")
    for name in KEYS:
        monkeypatch.delenv(name)
    ran, seconds = timed(invoke, "status", "--store", bucket.uri("cube"))
    refused(ran, "credentials")
    assert seconds < 20


@SLOW
def test_credentials_are_in_no_object_message_or_pickle(tiles: World, bucket: Bucket, run: Callable[..., Ran]) -> None:
    import pickle

    uri = bucket.uri("cubes/small")
    outputs = [run("init", "grid.yaml"), run("ingest", "--debug", "--workers", 2), run("history", "--json")]
    (bad := tiles.folder / "tiles" / "2005" / "20N_000E.tif").write_bytes(b"no raster")
    bucket.put("tiles/2005/20N_000E.tif", bad)
    outputs += [
        run("ingest", "--json", "--debug"),
        run("verify", "--json"),
        run("status", "--debug", "--store", "s3://nope/x"),
    ]
    for ran in outputs:
        assert not any(secret in ran.out + ran.err for secret in SECRETS)
    store = ci.open(uri).store
    kept = [pickle.dumps(store), pickle.dumps(store.writable().fork())]
    kept += [bucket.client.get_object(Bucket=bucket.name, Key=k)["Body"].read() for k in bucket.keys("cubes/")]
    assert len(kept) > 20
    for content in kept:
        assert not any(secret.encode() in content for secret in SECRETS)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] in SECRETS


def test_list_in_the_bucket_cannot_lead_elsewhere(tiles: World, bucket: Bucket, invoke: Invoke, tmp_path: Path) -> None:
    invoke("init", "grid.yaml")
    for line in ("../../etc/passwd", "file:///etc/passwd", "/etc/passwd", "s3://other/20N_000E", "x" * 10_000_000):
        bucket.put("tiles/2000.txt", f"20N_000E.tif\n{line}\n".encode())
        refused(invoke("ingest", "--json"), "fits no region|10000000 characters")
