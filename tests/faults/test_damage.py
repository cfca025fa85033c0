"""Something in the store is not what we wrote: it is told, and what can be mended is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.core.sync import sync

from tests.conftest import Ran
from tests.faults.record import Case
from tests.faults.site import Site, slots_of

pytestmark = pytest.mark.slow

STORAGES = pytest.mark.parametrize("storage", ["local", "s3"])
VICTIM = ("--region", "20N_000E", "--year", 2000)
KEY = (2000, "20N_000E")


def commit_by_other_means(site: Site, change: Callable[[object], None]) -> None:
    session = site.repository().writable_session("main")
    change(session.store)
    session.commit("by other means")


def redo_mends(site: Site, fault: Case) -> None:
    claimed = site.claimed
    ran = site.ingest("cooperative", "--redo", *VICTIM)
    site.claimed = claimed  # it was counted when it was first written
    assert (ran.code, ran.json["written"]) == (0, 1), ran
    fault.assess(site, done=7)
    fault.complete(site, *site.command("cooperative"))


def kinds(ran: Ran) -> list[str]:
    return sorted({f["kind"] for f in ran.json["findings"]})


@pytest.mark.fault("corrupt ledger record")
@STORAGES
@pytest.mark.parametrize("text", ["{", '{"state": "done"}', "[1, 2]"])
def test_corrupt_record(site: Site, fault: Case, text: str) -> None:
    assert site.ingest("cooperative").code == 0

    def corrupt(store: object) -> None:
        zarr.open_array(store, path="cubeingest/ledger/cover/record", mode="r+")[0, 0, 0] = text  # type: ignore[arg-type]

    commit_by_other_means(site, corrupt)
    fault.assess(site, done=7, findings=("record",))
    site.claimed -= 1
    assert slots_of(site.ingest("cooperative")) == {"written": 1, "empty": 0, "skipped": 6, "failed": 0}
    fault.assess(site, done=7, history=False)
    fault.complete(site, *site.command("cooperative"), history=False)
    new = sum(c.details.get("new", 0) for c in site.cube().history())
    assert new == 7, f"{new} slots are called new in the history of a cube that has 7"
    fault.settle("`check --deep` names the region; the next ingest does it again")


@pytest.mark.fault("cube of a newer version")
@STORAGES
def test_newer_format(site: Site, fault: Case) -> None:
    def newer(store: object) -> None:
        zarr.open_group(store, path="cubeingest", mode="r+").attrs.update(format=99, version="9.1")  # type: ignore[arg-type]

    assert site.ingest("cooperative", "--year", 2000).code == 0
    commit_by_other_means(site, newer)
    before = site.objects()
    for command in ("ingest", "status", "verify", "check", "gc", "plan", "history"):
        ran = site.run(command)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
        assert "has format 99, written by cubeingest 9.1" in ran.err
    assert site.objects() == before

    def older(store: object) -> None:
        zarr.open_group(store, path="cubeingest", mode="r+").attrs.update(format=1)  # type: ignore[arg-type]

    commit_by_other_means(site, older)
    fault.assess(site, done=5)
    fault.complete(site, *site.command("cooperative"))
    fault.settle("every command exits 2 with one line; no object of the store changed")


def objects_of_victim(site: Site) -> list[str]:
    """Names of the chunk objects of one region: it was ingested alone."""
    before = set(site.objects("chunks"))
    assert site.ingest("cooperative", *VICTIM).code == 0
    own = sorted(set(site.objects("chunks")) - before)
    assert site.ingest("cooperative").code == 0
    return own


@pytest.mark.fault("chunk object deleted")
@STORAGES
def test_chunk_object_deleted(site: Site, fault: Case) -> None:
    site.delete_object(objects_of_victim(site)[0])
    told = site.run("check", "--deep", "--json")
    assert (told.code, kinds(told)) == (1, ["unreadable"])
    assert [f["region"] for f in told.json["findings"]] == [KEY[1]]
    verified = site.run("verify", "--json")
    assert verified.code == 1
    assert [r["region"] for r in verified.json["different"] + verified.json["missing"]] == [KEY[1]]
    redo_mends(site, fault)
    fault.settle("`check --deep` and `verify` name the region; `ingest --redo` mends it")


@pytest.mark.fault("chunk object overwritten")
@STORAGES
def test_chunk_object_overwritten(site: Site, fault: Case) -> None:
    own = objects_of_victim(site)
    if site.bucket is None:
        (Path(site.uri) / own[0]).write_bytes((Path(site.uri) / own[1]).read_bytes())
    else:
        key = site.uri.split("/", 3)[3]
        body = site.bucket.client.get_object(Bucket=site.bucket.name, Key=f"{key}/{own[1]}")["Body"].read()
        site.bucket.put(f"{key}/{own[0]}", body)
    told = site.run("check", "--deep", "--json")
    assert told.code == 1
    assert [f["region"] for f in told.json["findings"]] == [KEY[1]]
    verified = site.run("verify", "--json")
    assert verified.code == 1
    assert [r["region"] for r in verified.json["different"] + verified.json["missing"]] == [KEY[1]]
    redo_mends(site, fault)
    fault.settle("`check --deep` and `verify` name the region; `ingest --redo` mends it")


@pytest.mark.fault("pixels changed by other means")
@STORAGES
def test_pixels_changed(site: Site, fault: Case) -> None:
    assert site.ingest("cooperative").code == 0

    def change(store: object) -> None:
        array = zarr.open_array(store, path="cover", mode="r+")  # type: ignore[arg-type]
        array[0, 7, 7] = np.uint8(201)  # no tile has it

    commit_by_other_means(site, change)
    fault.assess(site, done=6, findings=("changed",), broken=[KEY])
    verified = site.run("verify", "--json")
    assert (verified.code, [(r["region"], r["pixels"]) for r in verified.json["different"]]) == (1, [(KEY[1], 1)])
    redo_mends(site, fault)
    fault.settle("`check --deep` and `verify` name the region; `ingest --redo` mends it")


@pytest.mark.fault("chunks deleted by other means")
@STORAGES
def test_chunks_deleted(site: Site, fault: Case) -> None:
    assert site.ingest("cooperative").code == 0

    def delete(store: object) -> None:
        for y in range(2):
            for x in range(2):
                sync(store.delete(f"cover/c/0/{y}/{x}"))  # type: ignore[attr-defined]

    commit_by_other_means(site, delete)
    fault.assess(site, done=6, findings=("lost",), broken=[KEY], deep=False)
    redo_mends(site, fault)
    fault.settle("`check` names the region; `ingest --redo` mends it")


@pytest.mark.fault("chunks without a record")
@STORAGES
def test_chunks_without_a_record(site: Site, fault: Case) -> None:
    assert site.ingest("cooperative", "--year", 2005).code == 0

    def add(store: object) -> None:
        zarr.open_array(store, path="cover", mode="r+")[0, :60, :60] = np.uint8(5)  # type: ignore[arg-type]

    commit_by_other_means(site, add)
    fault.assess(site, done=2, findings=("unrecorded",), broken=[KEY])
    fault.complete(site, *site.command("cooperative"))
    fault.settle("`check` names the region; the next ingest makes it right")


@pytest.mark.fault("manifest object deleted")
@STORAGES
def test_manifest_deleted(site: Site, fault: Case) -> None:
    assert site.ingest("cooperative", "--year", 2000).code == 0
    good, before = site.repository().lookup_branch("main"), set(site.objects("manifests"))
    assert site.ingest("cooperative").code == 0
    for name in set(site.objects("manifests")) - before:
        site.delete_object(name)
    for command in (("check", "--deep"), ("verify",), ("status",)):
        ran = site.run(*command)
        assert ran.code in (1, 2), ran
        assert "Traceback" not in ran.err
        assert "--debug" not in ran.err, ran.err
    assert len(site.account(snapshot=good).whole) == 5
    site.repository().reset_branch("main", good)
    site.claimed = 5
    fault.assess(site, done=5)
    fault.complete(site, *site.command("cooperative"))
    fault.settle("exit 1 or 2; the snapshot before is whole, and completed by the same command from there")


@pytest.mark.fault("repo file cut short")
def test_repo_cut_short(site: Site, fault: Case) -> None:
    assert site.ingest("cooperative", "--year", 2000).code == 0
    repo = Path(site.uri) / "repo"
    whole = repo.read_bytes()
    repo.write_bytes(whole[: len(whole) // 2])
    for command in ("ingest", "status", "check", "gc"):
        ran = site.run(command)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
        assert "--debug" not in ran.err, ran.err
    assert repo.read_bytes() == whole[: len(whole) // 2]
    repo.write_bytes(whole)
    fault.assess(site, done=5)
    fault.complete(site, *site.command("cooperative"))
    fault.settle("exit 2, one line; once it is put back, all is there")
