"""Versions of a cube: branches, publish, tags, --at and diff; and what is refused there."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import icechunk
import numpy as np
import pytest

import cubeingest as ci
from cubeingest.errors import GridError, StoreError
from cubeingest.store import made_known
from tests.conftest import Ran, World
from tests.test_bad_store import refused

Invoke = Callable[..., Ran]


@pytest.fixture
def cube(world: World) -> ci.Cube:
    """The world's cube, with 2000 ingested."""
    made = ci.init(world.spec_file)
    made.ingest(year=2000)
    return made


def counts(invoke: Invoke, *args: object) -> tuple[int, int]:
    found = invoke("status", "--json", *args).json
    return found["done"], found["pending"]


def history_agrees(cube: ci.Cube) -> bool:
    """Whether the slots that commits say are new add up to those that the ledger has."""
    status = cube.status()
    return sum(c.details.get("new", 0) for c in cube.history()) == status.done + status.empty


# ---- branches and publish -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["cooperative", "independent"])
def test_readers_of_main_see_nothing_of_a_branch_until_it_is_published(
    world: World, cube: ci.Cube, invoke: Invoke, mode: str
) -> None:
    before = cube.store.tip
    where = ("--store", world.store)
    ran = invoke("ingest", "--branch", "staging", "--mode", mode, *where, "--json")
    assert (ran.code, ran.json["written"], ran.json["skipped"], ran.json["branch"]) == (0, 2, 5, "staging")
    assert cube.store.tip == before
    assert counts(invoke, *where) == (5, 2)
    assert counts(invoke, *where, "--branch", "staging") == (7, 0)
    assert (cube.dataset()["cover"][1].values == 255).all()
    assert not (cube.on("staging").dataset()["cover"][1].values == 255).all()
    published = invoke("publish", "staging", *where, "--json")
    assert published.code == 0
    assert (published.json["action"], published.json["slots"]) == ("published", 2)
    assert published.json["verified"]["equal"] == 2
    assert counts(invoke, *where) == (7, 0)
    assert ci.open(world.store).store.tip == published.json["snapshot"] == ran.json["snapshot"]
    assert history_agrees(ci.open(world.store))
    again = invoke("publish", "staging", *where, "--json")
    assert (again.code, again.json["action"], again.json["verified"]) == (0, "unchanged", None)


def test_branch_is_continued_and_moved_up_to_a_main_that_contains_it(world: World, cube: ci.Cube) -> None:
    assert cube.ingest(branch="work", year=2005, limit=1).written == 1
    assert cube.ingest(branch="work", year=2005).written == 1
    cube.publish("work")
    world.add_tile(2005, "20N_010E")
    assert ci.open(world.store).ingest(year=2005).written == 1  # main goes on by itself
    world.add_tile(2005, "10N_000E")
    report = ci.open(world.store).ingest(branch="work")
    assert (report.written, report.skipped) == (1, 8)  # the branch has all of main
    assert ci.open(world.store).publish("work").action == "published"


def test_moved_main_is_not_published_over(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    cube.ingest(branch="staging", year=2005, region="20N_000E")
    ci.open(world.store).ingest(year=2005, region="10N_020E")
    before = ci.open(world.store).store.tip
    refused(
        invoke("publish", "staging", "--store", world.store, "--json"),
        "main has moved since branch 'staging' was made: nothing was published",
    )
    assert ci.open(world.store).store.tip == before
    found = ci.open(world.store).check().findings
    assert [f.kind for f in found] == ["branch"]
    assert "publish staging --discard" in found[0].remedy
    assert invoke("publish", "staging", "--discard", "--store", world.store).code == 0
    assert ci.open(world.store).check().findings == []
    refused(invoke("publish", "staging", "--store", world.store), "there is no branch 'staging' to publish")


def test_branch_whose_source_changed_is_not_published(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    cube.ingest(branch="staging", year=2005)
    world.add_tile(2005, "20N_000E", world.pixels("20N_000E"))
    before = cube.store.tip
    ran = invoke("publish", "staging", "--store", world.store, "--json")
    assert (ran.code, ran.json["action"]) == (2, "refused")
    assert [row["region"] for row in ran.json["verified"]["different"]] == ["20N_000E"]
    assert ci.open(world.store).store.tip == before


def test_branch_of_something_else_is_refused(world: World, cube: ci.Cube, invoke: Invoke, tmp_path: Path) -> None:
    """A branch from before the cube was made in the repository holds no cube."""
    repo = cube.store.repo
    first = list(repo.ancestry(branch="main"))[-1].id
    repo.create_branch("empty", first)
    refused(invoke("ingest", "--branch", "empty", "--store", world.store), "not a cube that cubeingest made")
    session = repo.writable_session("empty")
    from cubeingest.create import write_template

    write_template(session.store, cube.spec, "another")
    session.commit("another cube")
    for command in ("ingest --branch empty", "publish empty"):
        refused(
            invoke(*command.split(), "--store", world.store), "branch 'empty' does not descend from this cube's init"
        )


@pytest.mark.parametrize("name", ["cubeingest-run.x", "-x", "a b", "", "\u00e9", "x" * 200, "../x"])
def test_name_that_cannot_be_is_refused(world: World, cube: ci.Cube, invoke: Invoke, name: str) -> None:
    for command in (("ingest", f"--branch={name}"), ("tag", "--", name)):
        ran = invoke(command[0], "--store", world.store, *command[1:])
        assert ran.code == 2
        assert "cannot be a" in ran.err
    assert cube.store.repo.list_branches() == {"main"}
    assert cube.store.repo.list_tags() == set()


def test_unknown_branch_is_named_with_those_that_there_are(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    cube.ingest(branch="staging", year=2005)
    for command in ("status", "verify", "history", "check"):
        refused(
            invoke(command, "--branch", "stagin", "--store", world.store),
            r"no branch 'stagin'; did you mean 'staging'\? \(branches: main, staging\)",
        )


# ---- tags, --at, diff -----------------------------------------------------------------------------------------


def test_cube_is_read_as_it_was(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    first = cube.store.tip
    where = ("--store", world.store)
    assert invoke("tag", "v1", *where, "--json").json == {"tag": "v1", "snapshot": first}
    ci.open(world.store).ingest(year=2005)
    for ref in ("v1", first):
        assert counts(invoke, *where, "--at", ref) == (5, 2)
        assert invoke("history", *where, "--at", ref, "--json").json["commits"][0]["snapshot"] == first
        assert invoke("verify", *where, "--at", ref, "--json").json["equal"] == 5
        assert (ci.open(world.store, at=ref).dataset()["cover"][1].values == 255).all()
        assert (cube.dataset(snapshot=ref)["cover"][1].values == 255).all()
    assert counts(invoke, *where) == (7, 0)
    with pytest.raises(StoreError, match="can only be read"):
        ci.open(world.store, at="v1").ingest()
    assert invoke("tag", *where, "--json").json == {"tags": {"v1": first}}


def test_tag_never_changes(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    where = ("--store", world.store)
    first = cube.store.tip
    invoke("tag", "v1", *where)
    cube.ingest(year=2005)
    refused(invoke("tag", "v1", *where), "there is, or was, a tag 'v1' already")
    assert invoke("tag", "v0", "--at", first, *where, "--json").json["snapshot"] == first
    cube.store.repo.delete_tag("v1")
    refused(invoke("tag", "v1", *where), "there is, or was, a tag 'v1' already")


@pytest.mark.parametrize("ref", ["nonsense", "V0000000000000000000", "1CECHNKREP0F1RSTCMT0"])
def test_ref_that_is_none_is_refused(world: World, cube: ci.Cube, invoke: Invoke, ref: str) -> None:
    where = ("--store", world.store)
    message = (
        "not a cube that cubeingest made"
        if ref.startswith("1")
        else f"'{ref}' is no tag, branch or snapshot of the cube"
    )
    for command in (
        f"status --at {ref}",
        f"verify --at {ref}",
        f"history --at {ref}",
        f"tag x --at {ref}",
        f"diff {ref}",
    ):
        refused(invoke(*command.split(), *where), message)
    assert cube.store.repo.list_tags() == set()


def test_diff_names_the_regions(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    where = ("--store", world.store)
    cube.tag("v1")
    cube.ingest(year=2005)
    changed = world.pixels("20N_000E")
    world.add_tile(2000, "20N_000E", changed)
    path = world.folder / "tiles" / "2000" / "10N_010E.tif"
    path.write_bytes(path.read_bytes())  # another date, the same pixels
    ci.open(world.store).ingest()
    found = invoke("diff", "v1", *where, "--json").json
    assert {(c["region"], c["axes"]["year"], c["change"]) for c in found["changes"]} == {
        ("20N_000E", "2005", "added"),
        ("10N_020E", "2005", "added"),
        ("20N_000E", "2000", "changed"),
        ("10N_010E", "2000", "reread"),
    }
    assert (found["added"], found["removed"], found["changed"], found["reread"]) == (2, 0, 1, 1)
    back = invoke("diff", "main", "v1", *where, "--json").json
    assert (back["added"], back["removed"], back["changed"], back["reread"]) == (0, 2, 1, 1)
    assert invoke("diff", "v1", "v1", *where, "--json").json["changes"] == []
    assert "changed  20N_000E 2000 cover" in invoke("diff", "v1", *where).out


def test_diff_works_after_history_has_expired(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    cube.tag("v1")
    cube.ingest(year=2005, mode="independent")
    cube.gc(keep=1)
    found = invoke("diff", "v1", "--store", world.store, "--json").json
    assert (found["added"], len(found["changes"])) == (2, 2)


def test_history_and_ledger_agree(world: World, cube: ci.Cube) -> None:
    assert history_agrees(cube)
    world.add_tile(2005, "20N_010E", np.full((100, 100), 255, np.uint8))
    cube.ingest(mode="independent")
    assert cube.status().empty == 1
    cube.ingest(redo=True, region="20N_000E")
    cube.ingest(redo=True, year=2005, mode="independent", commit_every=2)
    assert history_agrees(cube)


def test_python_names_what_it_cannot_find(cube: ci.Cube) -> None:
    with pytest.raises(StoreError, match="no branch 'nowhere'"):
        cube.on("nowhere")
    with pytest.raises(StoreError, match=re.escape("'nowhere' is no tag, branch or snapshot")):
        cube.at("nowhere")
    with pytest.raises(StoreError, match="could be given up"):
        cube.discard("main")
    assert isinstance(cube.store.repo, icechunk.Repository)


@pytest.mark.parametrize("at", ["tag", "snapshot"])
def test_a_cube_as_it_was_is_never_written_to(world: World, cube: ci.Cube, at: str) -> None:
    cube.tag("v1")
    before = cube.store.tip
    old = ci.open(world.store, at="v1" if at == "tag" else before)
    for write in (old.ingest, lambda: old.ingest(region="20N_000E"), lambda: old.ingest(redo=True, mode="independent")):
        with pytest.raises(StoreError, match="can only be read"):
            write()
    with pytest.raises(StoreError, match="can only be read"):
        old.store.commit(lambda _: True, lambda: "x", dict)
    assert cube.store.tip == before


def test_tags_and_branches_share_no_name(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    cube.ingest(branch="staging", year=2005)
    cube.tag("v1")
    where = ("--store", world.store)
    for name in ("main", "staging"):
        refused(invoke("tag", name, *where), f"'{name}' is a branch of the cube")
    refused(invoke("ingest", "--branch", "v1", *where), "'v1' is a tag of the cube")
    for name in ("a//b", "a/../b", "a/"):
        refused(invoke("tag", name, *where), "cannot be a tag's name")
    assert cube.store.repo.list_tags() == {"v1"}


def test_branch_that_has_left_main_is_not_ingested_onto(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    cube.ingest(branch="staging", year=2005, limit=1)
    ci.open(world.store).ingest(year=2005)
    refused(invoke("ingest", "--branch", "staging", "--store", world.store), "could never be published: name another")


def test_branch_survives_housekeeping(world: World, cube: ci.Cube) -> None:
    cube.ingest(branch="staging", year=2005, mode="independent")
    for done in (cube.gc(expire=timedelta(0)), cube.on("staging").gc(keep=1)):
        assert done.snapshots_expired <= 1
    assert ci.open(world.store).check().findings == []
    assert ci.open(world.store).publish("staging").action == "published"


def test_branch_is_not_given_up_while_a_run_may_write_to_it(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    cube.ingest(branch="staging", year=2005)
    with made_known(cube.on("staging").store, "abc"):
        refused(invoke("publish", "staging", "--discard", "--store", world.store), "may be written to by process")
    assert invoke("publish", "staging", "--discard", "--store", world.store).code == 0
    refused(invoke("publish", "main", "--store", world.store), "main is what readers see already")


def test_plan_for_a_branch_that_is_not_there_yet(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    assert invoke("plan", "--branch", "staging", "--store", world.store, "--json").json["tasks"] == 2
    cube.ingest(branch="staging", year=2005, limit=1)
    assert invoke("plan", "--branch", "staging", "--store", world.store, "--json").json["tasks"] == 1


def test_ingest_reads_by_the_spec_as_it_is_now(world: World, cube: ci.Cube) -> None:
    """The cube was opened before somebody updated it."""
    (world.folder / "tiles").rename(world.folder / "moved")
    ci.init(world.write_spec(("href: tiles", "href: moved"), ("tiles/{year}.txt", "moved/{year}.txt")), update=True)
    report = cube.ingest()
    assert (report.written, report.failed) == (7, [])


def test_what_cannot_be_asked_is_refused_in_python_too(world: World, cube: ci.Cube) -> None:
    for wrong in ({"mode": "indep"}, {"on_error": "stop"}, {"commit_every": -1}, {"commit_every": 0}, {"workers": 0}):
        with pytest.raises(GridError, match=next(iter(wrong))):
            cube.ingest(**wrong)  # type: ignore[arg-type]
    with pytest.raises(GridError, match="negative"):
        cube.gc(older_than=timedelta(days=-1))
    assert cube.store.repo.list_branches() == {"main"}


def test_cube_on_a_branch_that_is_gone_says_so(world: World, cube: ci.Cube) -> None:
    cube.ingest(branch="staging", year=2005)
    staging = cube.on("staging")
    cube.discard("staging")
    for ask in (staging.status, staging.history, staging.dataset, staging.ingest, staging.check):
        with pytest.raises(StoreError, match="staging"):
            ask()
