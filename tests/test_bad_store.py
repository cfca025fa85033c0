"""What is refused: stores that are no cube, specs that differ, catalogs that cannot be, and command lines that ask for it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr

import cubeingest as ci
from tests.conftest import CORNERS, Ran, World, write_tile

Invoke = Callable[..., Ran]


def tip(world: World) -> str:
    return ci.open(world.store).store.tip


def refused(ran: Ran, message: str) -> None:
    """Exit 2, nothing on stdout, and one clear line; a traceback, or an error that nobody foresaw, is a bug."""
    assert ran.code == 2, ran
    assert ran.out == ""
    assert re.search(message, ran.err), ran.err
    assert "--debug" not in ran.err
    assert "Traceback" not in ran.err


def repository(path: Path) -> icechunk.Repository:
    storage = icechunk.local_filesystem_storage(str(path))
    return icechunk.Repository.open(storage) if path.exists() else icechunk.Repository.create(storage)


def write_attrs(path: Path, group: str = "cubeingest", **attrs: Any) -> None:
    """Commit attributes to a group of a repository behind our back."""
    session = repository(path).writable_session("main")
    zarr.open_group(session.store, path=group, mode="a").attrs.update(attrs)
    session.commit("by hand")


# ---- stores ---------------------------------------------------------------------------------------------------

OPENING = ["plan", "ingest", "status", "verify", "regions", "history"]


@pytest.mark.parametrize(
    ("store", "message", "at_init"),
    [
        (None, "which cube\\? There is no --store, no .CUBEINGEST_STORE, and no .cubeingest file in this folder: create", None),
        ("nowhere", r"no cube at '.*nowhere' \(nothing is there\): create one with `cubeingest init GRID.yaml`, or give", None),
        ("grid.yaml", "store '.*grid.yaml' is a file: name a folder that does not exist yet", "is a file"),
        ("tiles", r"no cube at '.*tiles' \(the folder is not an Icechunk repository\)", "is not empty and not a cube: name another place"),
        ("theirs", "'.*theirs' is an Icechunk repository, but not a cube that cubeingest made", "but not a cube"),
        ("ftp://host/cube", "scheme 'ftp' is not known; use a path, s3://, gs:// or az://", "'ftp' is not known"),
        ("s3://bucket", "needs a bucket and a prefix: s3://bucket/name", "needs a bucket"),
    ],
    ids=["none", "nothing", "file", "folder", "not a cube", "scheme", "no prefix"],
)  # fmt: skip
def test_what_is_no_cube_is_refused_and_left_alone(
    world: World, invoke: Invoke, store: str | None, message: str, at_init: str | None
) -> None:
    write_attrs(world.folder / "theirs", group="theirs", a=1)
    before = sorted(world.folder.rglob("*"))
    where = [] if store is None else ["--store", store]
    for command in OPENING:
        refused(invoke(command, *where, "--json"), message)
    if at_init is not None:
        refused(invoke("init", "grid.yaml", *where, "--json"), at_init)
    assert sorted(world.folder.rglob("*")) == before


def test_same_spec_again_changes_and_commits_nothing(world: World, invoke: Invoke) -> None:
    invoke("init", "grid.yaml")
    invoke("ingest")
    before = tip(world)
    for options in ([], ["--update"]):
        again = invoke("init", "grid.yaml", *options, "--json")
        assert (again.code, again.json["action"], again.json["changes"]) == (0, "unchanged", [])
        assert again.json["snapshot"] == before == tip(world)
    assert "is there already, from this spec: nothing changed" in invoke("init", "grid.yaml").err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("y: 200, x: 250", "y: 300, x: 250"), "grid.shape.y: 200 -> 300"),
        (("{x: 0, y: 20}", "{x: 10, y: 20}"), 'grid.origin.x: "0" -> "10"'),
        (("[2000, 2005]", "[2000, 2005, 2010]"), 'axes.year.values: ["2000", "2005"] -> ["2000", "2005", "2010"]'),
        (("dtype: uint8", "dtype: int16"), 'variables.cover.dtype: "uint8" -> "int16"'),
        (("  cover:", "  color:"), "variables.cover: "),
        (("y: 50, x: 50", "y: 100, x: 50"), "variables.cover.chunks: [1, 50, 50] -> [1, 100, 50]"),
    ],
)
def test_another_layout_is_refused_with_update_too(
    world: World, invoke: Invoke, change: tuple[str, str], says: str
) -> None:
    invoke("init", "grid.yaml")
    before = tip(world)
    world.write_spec(change)
    for options in ([], ["--update"]):
        ran = invoke("init", "grid.yaml", *options, "--json")
        refused(ran, r"another spec, whose layout differs \(cube -> spec\): .* cannot change: use another --store")
        assert says in ran.err
    assert tip(world) == before


def test_other_sources_and_attributes_need_update(world: World, invoke: Invoke) -> None:
    invoke("init", "grid.yaml")
    invoke("ingest", "--year", 2000)
    before, pixels = tip(world), ci.open(world.store).dataset()["cover"].values
    world.write_spec(("nodata: 255", "nodata: 7"), ("CC0-1.0", "MIT"))
    ran = invoke("init", "grid.yaml", "--json")
    refused(ran, r"from another spec \(cube -> spec\): .*Nothing was changed; `init --update` takes this over")
    assert "variables.cover.source.nodata: 255 -> 7" in ran.err
    assert 'attrs.license: "CC0-1.0" -> "MIT"' in ran.err
    assert tip(world) == before
    updated = invoke("init", "grid.yaml", "--update", "--json").json
    assert (updated["action"], len(updated["changes"])) == ("updated", 2)
    cube = ci.open(world.store)
    assert [c.message for c in cube.history()] == ["update small", "ingest 5 slots", "init small"]
    assert cube.dataset().attrs["license"] == "MIT"
    assert cube.dataset().rio.crs.to_epsg() == 4326
    assert np.array_equal(cube.dataset()["cover"].values, pixels)
    assert (cube.status().done, cube.status().pending) == (5, 2)
    assert invoke("init", "grid.yaml", "--json").json["action"] == "unchanged"


def test_pixels_are_read_again_once_their_source_is_read_in_another_way(world: World, invoke: Invoke) -> None:
    """What ingest calls done, verify must find equal."""
    invoke("init", "grid.yaml")
    invoke("ingest")
    world.write_spec(("nodata: 255", "nodata: 7"))
    invoke("init", "grid.yaml", "--update")
    assert invoke("ingest").code == 0
    assert invoke("verify", "--json").json["equal"] == 7


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"format": 99, "version": "9.1"}, "has format 99, written by cubeingest 9.1; this version reads up to format 1: upgrade cubeingest"),
        ({"spec": "no json"}, "the spec in the cube"),
        ({"spec": '{"base": "/", "document": {"name": "x"}}'}, "the spec in the cube: grid: is missing"),
    ],
    ids=["newer", "no json", "not a spec"],
)  # fmt: skip
def test_cube_that_this_version_cannot_read_is_refused(
    world: World, invoke: Invoke, attrs: dict[str, Any], message: str
) -> None:
    invoke("init", "grid.yaml")
    write_attrs(world.store, **attrs)
    before = repository(world.store).lookup_branch("main")
    for command in (*OPENING, ("init", "grid.yaml", "--update")):
        refused(invoke(*([command] if isinstance(command, str) else command), "--json"), message)
    assert repository(world.store).lookup_branch("main") == before


@pytest.mark.parametrize("lost", ["repo", "snapshots"])
def test_damaged_store_is_named(world: World, invoke: Invoke, lost: str) -> None:
    invoke("init", "grid.yaml")
    if lost == "repo":
        (world.store / "repo").write_bytes(b"cut short")
    else:
        shutil.rmtree(world.store / "snapshots")
    for command in ("status", "ingest"):
        refused(invoke(command), rf"store '{world.store}': ")


# ---- catalogs -------------------------------------------------------------------------------------------------


def add_lines(world: World, *lines: str, year: int = 2000) -> None:
    with (world.folder / "tiles" / f"{year}.txt").open("a") as listed:
        listed.writelines(f"{line}\n" for line in lines)


def test_missing_list_is_a_warning_at_init_and_refused_at_ingest(world: World, invoke: Invoke) -> None:
    (world.folder / "tiles" / "2005.txt").unlink()
    made = invoke("init", "grid.yaml", "--json")
    assert made.code == 0
    assert re.search("ingest will try again: list '.*2005.txt' is not there", made.json["warning"])
    assert f"warning: {made.json['warning']}" in made.err
    before = tip(world)
    refused(invoke("ingest", "--json"), "list '.*2005.txt' is not there: check source.tiles.list")
    assert tip(world) == before
    assert invoke("ingest", "--year", 2000, "--json").json["written"] == 5


LINES = {
    "no id": ("garbage.tif", "fits no region: no region 'garbage' in this grid"),
    "id elsewhere": ("90N_000E.tif", "fits no region: no region '90N_000E' in this grid"),
    "another year": ("2005/20N_000E.tif", "is for year 2005, but stands in the list of year 2000"),
    "very long": ("x" * 10_000, "has a line of 10000 characters: that is no href and no id"),
    "out of the folder": ("../../etc/passwd", "fits no region"),
    "absolute": ("/etc/passwd", "fits no region"),
    "file": ("file:///etc/passwd", "fits no region"),
    "another scheme": ("ftp://host/passwd", "fits no region"),
    "not utf-8": (b"\x1f\x8b\xff".decode("latin-1"), "cannot read list '.*2000.txt': 'utf-8' codec"),
}


@pytest.mark.parametrize(("line", "message"), LINES.values(), ids=LINES)
def test_line_that_cannot_be_is_refused_before_any_work(world: World, invoke: Invoke, line: str, message: str) -> None:
    invoke("init", "grid.yaml")
    before = tip(world)
    with (world.folder / "tiles" / "2000.txt").open("ab") as listed:
        listed.write(line.encode("latin-1") + b"\n")
    for command in ("ingest", "plan", "verify"):
        ran = invoke(command, "--json")
        refused(ran, message)
        assert "2000" in ran.err
    assert tip(world) == before


def test_line_twice_says_so(world: World, invoke: Invoke) -> None:
    """Two hrefs that are one and the same are no help in finding the two lines."""
    invoke("init", "grid.yaml")
    add_lines(world, "20N_000E.tif")
    refused(invoke("ingest"), "20N_000E.* twice")


def test_secrets_of_a_line_are_not_printed(world: World, invoke: Invoke) -> None:
    invoke("init", "grid.yaml")
    add_lines(world, "https://bob:pass@host/x.tif?sig=key")
    ran = invoke("ingest")
    refused(ran, "fits no region")
    assert "pass" not in ran.err
    assert "sig=key" not in ran.err


@pytest.mark.parametrize(
    "prefix", ["../other/2000/", "{folder}/other/2000/", "file://{folder}/other/2000/", "s3://other/2000/"]
)
def test_hostile_line_cannot_lead_out_of_the_href_pattern(world: World, invoke: Invoke, prefix: str) -> None:
    """A line only says which tile there is; where it is, the pattern says."""
    other = write_tile(world.folder / "other" / "2000" / "20N_020E.tif", world.pixels("20N_020E"), *CORNERS["20N_020E"])
    invoke("init", "grid.yaml")
    add_lines(world, prefix.format(folder=world.folder) + "20N_020E.tif")
    ran = invoke("ingest", "--year", 2000, "--json")
    assert [row["href"] for row in ran.json["failed"]] == [str(world.folder / "tiles" / "2000" / "20N_020E.tif")]
    assert str(other) not in ran.out
    assert (ci.open(world.store).dataset()["cover"].values[0, :100, 200:] == 255).all()


def test_listed_year_without_a_pattern_is_told(world: World, invoke: Invoke) -> None:
    world.write_spec(("href: tiles/{year}/{id}.tif", "href: {2000: 'tiles/2000/{id}.tif'}"))
    assert invoke("init", "grid.yaml").code == 0
    refused(invoke("ingest", "--year", 2005), "2005.txt.*href")
    assert invoke("ingest", "--year", 2000, "--json").json["written"] == 5


def test_address_that_is_none_costs_only_its_own_slot(world: World, invoke: Invoke) -> None:
    world.write_spec(("href: tiles/{year}/{id}.tif\n      ", ""), ("tiles/{year}.txt", "{year}.txt"))
    for year in (2000, 2005):
        names = (world.folder / "tiles" / f"{year}.txt").read_text().split()
        (world.folder / f"{year}.txt").write_text("".join(f"tiles/{year}/{name}\n" for name in names))
    with (world.folder / "2000.txt").open("a") as listed:
        listed.write("https://[half/an/address.tif\n")
    assert invoke("init", "grid.yaml").code == 0
    ran = invoke("ingest", "--json")
    assert (ran.code, ran.json["written"], len(ran.json["failed"])) == (1, 7, 1)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("year,path\n2000,a.tif\n", r"table '.*t\.csv' has no column 'href' \(columns: year, path\)"),
        ("href\na.tif\n", r"has no column 'year' \(columns: href\)"),
        ("href,year\na.tif,1999\n", r"href 'a\.tif': axis 'year' has no value '1999' \(values: 2000, 2005\)"),
        ("href,year,region\na.tif,2000,50N_000E\n", r"href 'a\.tif': no region '50N_000E' in this grid"),
        ("href,year,region\na.tif,2000,20N_000E\nb.tif,2000,20N_000E\n", r"two tiles for region '20N_000E', year 2000 .*a\.tif' and '.*b\.tif'"),
        ("href,year,left,bottom,right,top\na.tif,2000,0.03,10,10,20\n", r"href 'a\.tif': .*0\.3 px east of the grid"),
        ("", "cannot read table"),
        (None, r"table '.*t\.csv' is not there: check source\.tiles\.table"),
    ],
)  # fmt: skip
def test_table_that_cannot_be_is_refused(world: World, invoke: Invoke, table: str | None, message: str) -> None:
    world.write_spec(("href: tiles/{year}/{id}.tif\n      ", ""), ('{list: "tiles/{year}.txt"}', "{table: t.csv}"))
    if table is not None:
        (world.folder / "t.csv").write_text(table)
    assert re.search(message, invoke("init", "grid.yaml", "--json").json["warning"])
    before = tip(world)
    refused(invoke("ingest", "--json"), message)
    assert tip(world) == before


def test_glob_that_matches_nothing_gives_nothing_to_do(world: World, invoke: Invoke) -> None:
    world.write_spec(('{list: "tiles/{year}.txt"}', '{glob: "tilez/{year}/*.tif"}'))
    assert invoke("init", "grid.yaml").code == 0
    ran = invoke("ingest", "--json")
    assert (ran.code, ran.json["planned"], ran.json["snapshot"]) == (0, 0, None)
    assert invoke("status", "--json").json["absent"] == 12


def test_glob_that_matches_nothing_is_said(world: World, invoke: Invoke) -> None:
    world.write_spec(('{list: "tiles/{year}.txt"}', '{glob: "tilez/{year}/*.tif"}'))
    assert "tilez" in invoke("init", "grid.yaml").err


# ---- command lines --------------------------------------------------------------------------------------------

LINES_REFUSED = {
    "--yaer 2000": "no such option: --yaer; did you mean --year\\? \\(axes of this cube: --year\\)",
    "--yaer=2000": "no such option: --yaer; did you mean --year",
    "--regoin 20N_000E": "no such option: --regoin; did you mean --region",
    "2000": "unexpected argument '2000'",
    "--year": "--year needs a value, such as --year 2000",
    "--year --json": "--year needs a value",
    "--year=": "--year needs a value",
    "--year ,": "--year needs a value",
    "--year 1999": r"axis 'year' has no value '1999' \(values: 2000, 2005\)",
    "--year 2000..2010": "axis 'year' has no value '2010'",
    "--year 2005..2000": "the range is empty",
    "--part 5/4": "--part 5/4: write K/N with K from 1 to N, such as 3/16",
    "--part 0/4": "--part 0/4: write K/N",
    "--part 1": "--part 1: write K/N",
    "--part \u00b2/4": "write K/N",
    "--limit 0": "--limit.*(greater than or equal to 1|not in the range x>=1)",
    "--bbox 0 10 10 5": "has no area: give west south east north",
    "--bbox 100 0 110 10": r"overlaps no region of the grid, whose bounds are \(0\.0, 0\.0, 25\.0, 20\.0\)",
    "--bbox 25 0 30 10": "overlaps no region of the grid",
    "--bbox nan 0 1 1": "not finite",
    "--bbox 0 0 1": "--bbox.*requires 4 arguments",
    "--region 50N_000E": r"no region '50N_000E' in this grid \(ids look like '20N_000E'\)",
    "--variable covr": r"no variable 'covr'; did you mean 'cover'\? \(variables: cover\)",
    "--mode together": "--mode",
}


@pytest.mark.parametrize(("line", "message"), LINES_REFUSED.items(), ids=LINES_REFUSED)
def test_command_line_that_cannot_be_is_refused(world: World, invoke: Invoke, line: str, message: str) -> None:
    invoke("init", "grid.yaml")
    before = tip(world)
    refused(invoke("ingest", "--json", *line.split()), message)
    assert tip(world) == before


@pytest.mark.parametrize(
    ("line", "slots"),
    [
        ("--year 2000..2005", 7),
        ("--year 2000,2005", 7),
        ("--year 2000 --year 2005", 7),
        ("--year=2005 --year=2005", 2),
        ("--region 20N_000E --region 10N_020E", 4),
        ("--bbox 0.1 10.1 9.9 19.9", 2),
        ("--bbox -10 -10 10 20 --year 2000", 2),
        ("--bbox 350 10 5 20", 2),
        ("--bbox 0 0 25 20 --region 10N_020E --limit 1", 1),
        ("--limit 3", 3),
        ("--variable cover --variable cover", 7),
    ],
)
def test_selection_is_what_is_planned(world: World, invoke: Invoke, line: str, slots: int) -> None:
    invoke("init", "grid.yaml")
    assert invoke("plan", "--json", *line.split()).json["tasks"] == slots


def test_parts_together_cover_everything_once(world: World, invoke: Invoke) -> None:
    """Also where some was done before the parts began: they are cut before that is left out."""
    invoke("init", "grid.yaml")
    invoke("ingest", "--region", "20N_000E")
    parts = [invoke("ingest", "--part", f"{k}/3", "--json").json for k in (1, 2, 3)]
    assert sum(p["planned"] for p in parts) == 7
    assert (sum(p["written"] for p in parts), sum(p["skipped"] for p in parts)) == (5, 2)
    assert invoke("ingest", "--json").json["skipped"] == 7


@pytest.mark.parametrize("done", [False, True], ids=["empty", "filled"])
def test_json_is_one_object_on_stdout(world: World, invoke: Invoke, done: bool) -> None:
    if done:
        invoke("init", "grid.yaml")
        invoke("ingest")
    for command in ("init grid.yaml", "plan", "status", "regions", "history", "ingest", "verify"):
        ran = invoke(*command.split(), "--json")
        assert ran.code == 0
        assert ran.out.endswith("}\n")
        assert isinstance(ran.json, dict), command


def test_store_is_option_then_environment_then_pointer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from cubeingest.cli import app

    def asked(*args: str, **env: str) -> str:
        result = CliRunner().invoke(app, ["status", "--json", *args], env={"CUBEINGEST_STORE": None, **env})
        return os.path.basename(json.loads(result.stdout)["store"])

    for name in ("option", "variable", "pointer"):
        ci.init(world.spec_file, world.folder / name)
    (world.folder / ".cubeingest").write_text("pointer\n")
    monkeypatch.chdir(world.folder)
    assert asked() == "pointer"
    assert asked(CUBEINGEST_STORE="variable") == "variable"
    assert asked("--store", "option", CUBEINGEST_STORE="variable") == "option"
    assert asked("--store", "option") == "option"


def test_init_leaves_a_pointer_only_where_there_is_a_cube(world: World, invoke: Invoke) -> None:
    pointer = world.folder / ".cubeingest"
    refused(invoke("init", "grid.yaml", "--store", "tiles"), "not empty")
    assert not pointer.exists()
    invoke("init", "grid.yaml", "--store", "here")
    assert pointer.read_text() == f"{world.folder / 'here'}\n"
    refused(invoke("status", cwd=world.folder / "tiles"), "which cube")
    shutil.rmtree(world.folder / "here")
    refused(invoke("status"), r"no cube at '.*here' \(nothing is there\)")
