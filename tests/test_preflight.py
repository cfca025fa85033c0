"""What `plan` says before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cubeingest as ci
from cubeingest.preflight.headers import Problem
from tests.conftest import Ran, World, write_tile

BY_HEADER = ("href: tiles/{year}/{id}.tif\n      tiles: {list: \"tiles/{year}.txt\"}", 'tiles: {glob: "tiles/{year}/*.tif"}')  # fmt: skip


def kinds(problems: tuple[Problem, ...]) -> list[str]:
    return [p.kind for p in problems]


def test_plan_counts_what_an_ingest_then_does(world: World) -> None:
    cube = ci.init(world.spec_file)
    before = {p: p.stat().st_mtime_ns for p in sorted(world.store.rglob("*"))}
    report = cube.plan()
    assert {p: p.stat().st_mtime_ns for p in sorted(world.store.rglob("*"))} == before
    assert (report.tasks, report.slots, report.skipped, report.absent, report.tiles) == (7, 7, 0, 5, 7)
    assert report.problems == ()
    assert report.bytes == 5 * 10_000 + 2 * 5_000
    assert report.bytes_to_read == sum(p.stat().st_size for p in (world.folder / "tiles").rglob("*.tif"))
    assert report.seconds is not None
    done = cube.ingest()
    assert (done.written, done.bytes) == (report.slots, report.bytes)
    again = cube.plan()
    assert (again.tasks, again.skipped, again.seconds, again.bytes_to_read) == (0, 7, None, 0)


def test_tiles_that_differ_from_one_another_are_counted_with_the_first_three(world: World) -> None:
    world.write_spec(BY_HEADER, ("dtype: uint8", "dtype: int16"), ("fill_value: 255", "fill_value: -1"), ("      nodata: 255\n", ""))  # fmt: skip
    shutil.rmtree(world.folder / "tiles")
    some = np.ones((100, 100), np.uint8)
    folder = world.folder / "tiles" / "2000"
    for i, region in enumerate(("a", "b", "c", "d")):
        write_tile(folder / f"{region}.tif", some, 10 * (i % 2), 20 - 10 * (i // 2))
    write_tile(folder / "e.tif", some.astype("int16"), 20, 20, nodata=-1)
    write_tile(folder / "f.tif", np.ones((200, 200), np.uint8), 20, 10, 0.05)
    write_tile(folder / "g.tif", some, 500_000, 1_000_000, 1000, crs="EPSG:32631")
    report = ci.init(world.spec_file).plan(year=2000)
    misfits = [p for p in report.problems if p.kind == "misfit"]
    assert sorted(Path(p.href).name for p in misfits) == ["f.tif", "g.tif"]
    assert all("set source.resampling" in p.message for p in misfits)
    # Misfits have no region to be planned for; what is planned differs in dtype and nodata.
    mixed = [p.message for p in report.problems if p.kind == "mixed"]
    assert len(mixed) == 4
    by_trait = {m.partition("values of ")[2].partition(":")[0]: m for m in mixed}
    assert set(by_trait) == {"CRS", "pixel size", "dtype", "nodata"}
    assert "EPSG:4326 in 6 (" in by_trait["CRS"]
    assert "EPSG:32631 in 1 (" in by_trait["CRS"]
    assert "0.1 x -0.1 in 5 (" in by_trait["pixel size"]
    assert by_trait["dtype"].count(".tif") == 4
    assert ", ...)" in by_trait["dtype"]


def test_tile_in_whose_place_another_comes_first_is_a_duplicate(world: World) -> None:
    world.write_spec(BY_HEADER)
    shutil.copy(world.folder / "tiles/2000/20N_000E.tif", world.folder / "tiles/2000/20N_000E_copy.tif")
    report = ci.init(world.spec_file).plan(year=2000)
    assert kinds(report.problems) == ["duplicate"]
    problem = report.problems[0]
    assert problem.region == "20N_000E"
    assert problem.href.endswith("20N_000E_copy.tif")
    assert "which comes first and wins" in problem.message


def test_tile_that_a_table_names_twice_is_a_duplicate(world: World) -> None:
    world.write_spec(("href: tiles/{year}/{id}.tif\n      tiles: {list: \"tiles/{year}.txt\"}", "tiles: {table: t.csv}"))  # fmt: skip
    href = "tiles/2000/20N_000E.tif"
    (world.folder / "t.csv").write_text(f"href,year\n{href},2000\n{href},2000\n")
    report = ci.init(world.spec_file).plan(year=2000)
    assert kinds(report.problems) == ["duplicate"]
    assert "twice" in report.problems[0].message


def test_a_header_of_a_tile_for_many_slots_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from cubeingest.catalog import placing
    from cubeingest.preflight import headers

    write_tile(world.folder / "all.tif", np.ones((2, 200, 250), np.uint8), 0, 20)
    world.write_spec(("href: tiles/{year}/{id}.tif\n      tiles: {list: \"tiles/{year}.txt\"}", "file: all.tif\n      bands: {axis: year}"))  # fmt: skip
    cube = ci.init(world.spec_file)
    asked: list[str] = []
    read = headers.header_for
    for module in (headers, placing):
        monkeypatch.setattr(module, "header_for", lambda variable, href: (asked.append(href), read(variable, href))[1])
    assert cube.plan().tasks == 12
    assert len(asked) == 1


def test_without_headers_no_tile_is_opened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.folder / "tiles/2000/20N_000E.tif").write_text("no raster")
    cube = ci.init(world.spec_file)
    report = cube.plan(headers=False)
    assert (report.tasks, report.problems, report.seconds, report.headers_read) == (7, (), None, False)
    assert kinds(cube.plan().problems) == ["misfit"]


def test_table_for_a_person_shows_three_of_each_kind_and_json_all(world: World, invoke: Callable[..., Ran]) -> None:
    for region in ("20N_000E", "20N_010E", "10N_000E", "10N_010E"):
        world.add_tile(2000, region, np.ones((100, 100), "uint16"))
    assert invoke("init", "grid.yaml").code == 0
    ran = invoke("plan", "--workers", 2)
    assert ran.code == 0
    assert "7, which fill 7 slots from 7 tiles; no two share a chunk" in ran.out
    assert "5 have no tile" in ran.out
    assert "4 misfit: tiles that would fail" in ran.out
    assert ran.out.count("not every value would survive") == 3
    assert "... and 1 more (--json has them all)" in ran.out
    assert "2 workers here" in ran.out
    found = invoke("plan", "--json").json
    assert {"tasks", "bytes", "memory_per_worker", "problems"} <= set(found)
    assert sorted({p["kind"] for p in found["problems"]}) == ["misfit", "mixed"]
    ran = invoke("plan", "--year", 2005, "--no-headers")
    assert "no tile was opened" in ran.out
    assert invoke("plan", "--year", 2005).out.strip().endswith("every tile fits, by its header")


def test_many_tiles_on_one_region_are_one_problem_each(world: World) -> None:
    world.write_spec(BY_HEADER)
    folder = world.folder / "tiles/2000"
    first = sorted(folder.glob("20N_000E.tif"))[0]
    for i in range(30):
        shutil.copy(first, folder / f"z{i:02}.tif")
    write_tile(folder / "zz.tif", np.ones((100, 60), np.uint8), 2, 20, nodata=255)
    problems = ci.init(world.spec_file).plan(year=2000).problems
    assert kinds(problems).count("duplicate") == 30
    (overlap,) = [p for p in problems if p.kind == "overlap" and p.region == "20N_000E"]
    assert "shares 6000 pixels with" in overlap.message
    assert "20N_000E.tif" in overlap.message


def test_variable_or_year_without_any_tile_is_told(world: World, invoke: Callable[..., Ran]) -> None:
    world.write_spec(BY_HEADER, ("values: [2000, 2005]", "values: [2000, 2005, 2010, 2015, 2020, 2025]"))
    assert invoke("init", "grid.yaml").code == 0
    (problem,) = [p for p in invoke("plan", "--json").json["problems"] if p["kind"] == "none"]
    assert "no tile at all for year 2010, 2015, 2020 and 1 more of 6 of variable 'cover' (glob '" in problem["message"]
    assert "tiles/2010/*.tif" in problem["message"]
    ran = invoke("ingest", "--year", 2010, "--json")
    assert (ran.code, ran.json["planned"]) == (0, 0)
    assert "warning: no tile was found" in ran.err
    assert "warning" not in invoke("ingest", "--year", 2000).err
    assert "warning" not in invoke("ingest", "--year", 2000).err
    assert "no tile at all of variable 'cover'" in invoke("plan", "--year", 2010).out
