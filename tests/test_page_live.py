"""The page of a run: what it tells meanwhile and when it is over, and that it holds nothing up."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cubeingest as ci
from cubeingest.engine import Options, Progress
from cubeingest.page import ingest_with_page
from cubeingest.page.live import LivePage
from cubeingest.page.render import write_page
from cubeingest.selection import Selection
from tests.conftest import Ran, World
from tests.pages import Page, read_page


def test_the_command_names_no_page_that_could_not_be_written(
    world: World, invoke: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cubeingest.page.live.write_page", fail)
    assert invoke("init", "grid.yaml").code == 0
    done = invoke("ingest", "--json", "--html", "page.html")
    assert (done.code, done.json["written"], done.json["html"]) == (0, 7, None)
    assert done.err.count("could not be written (No space left on device)") == 1


def wait_for(path: Path, is_so: Callable[[Page], bool]) -> Page:
    """The page as soon as it tells something, which its thread writes by itself."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        page = read_page(path)
        if is_so(page):
            return page
    raise AssertionError(f"the page does not say so: {page.data['run']}")


@pytest.mark.parametrize("mode", ["cooperative", "independent"])
def test_a_page_follows_a_run(world: World, mode: str) -> None:
    (world.folder / "tiles" / "2000" / "10N_000E.tif").write_bytes(b"no raster")
    cube = ci.init(world.spec_file)
    path = world.folder / "page.html"
    tried: list[Progress] = []
    seen: list[Page] = []

    def look(progress: Progress) -> None:
        tried.append(progress)
        if len(tried) in (1, 8):
            seen.append(wait_for(path, lambda page: page.data["run"]["finished"] == len(tried) - 1))

    report = ingest_with_page(cube.store, Selection(), Options(mode=mode), look, None, path, pytest.fail, refresh=0.001)  # type: ignore[arg-type]
    assert len(report.failed) == 1
    first, last = seen[0], seen[-1]
    assert first.states("cover").count("pending") == 7
    assert first.data["run"]["outcome"] == last.data["run"]["outcome"] == ""
    assert "The run is going on" in last.text
    assert last.states("cover").count("done" if mode == "independent" else "fresh") == 6
    assert last.states("cover")[3] == "failed"
    assert last.data["variables"][0]["records"] is None
    whole = read_page(path)
    run = whole.data["run"]
    assert (run["outcome"], run["planned"], run["written"], run["failed"]) == ("failed", 7, 6, 1)
    assert whole.states("cover").count("done") == 6
    assert whole.states("cover")[3] == "failed"
    assert len(whole.records("cover")) == 6
    assert [f["region"] for f in whole.data["failures"]] == ["10N_000E"]
    assert whole.data["variables"][0]["pictures"]


def test_a_page_tells_during_a_run_what_is_committed(world: World) -> None:
    cube = ci.init(world.spec_file)
    path = world.folder / "page.html"

    seen: list[int] = []

    def look(progress: Progress) -> None:
        if not seen and progress.result is not None and cube.status().done:
            done = cube.status().done
            seen.append(done)
            wait_for(
                path,
                lambda page: page.states("cover").count("done") == done and len(page.data["commits"]["snapshot"]) > 1,
            )

    ingest_with_page(cube.store, Selection(), Options(commit_every=2), look, None, path, pytest.fail, refresh=0.001)
    assert seen
    assert read_page(path).data["run"]["outcome"] == "done"


def test_the_page_of_an_interrupted_run_says_so(world: World) -> None:
    cube = ci.init(world.spec_file)

    signalled: list[Progress] = []

    def stop(progress: Progress) -> None:
        if progress.result is not None and not signalled:
            signalled.append(progress)
            os.kill(os.getpid(), signal.SIGINT)

    report = cube.ingest(html=world.folder / "page.html", on_progress=stop)
    assert report.signum == signal.SIGINT
    page = read_page(world.folder / "page.html")
    assert page.data["run"]["outcome"] == "interrupted"
    assert f"{report.unfinished} slots are left" in page.text
    assert page.states("cover").count("done") == report.written


def test_the_page_of_a_run_that_breaks_off_says_so(world: World) -> None:
    cube = ci.init(world.spec_file)

    def fail(progress: Progress) -> None:
        if progress.result is not None:
            raise ValueError("not ours")

    with pytest.raises(ValueError, match="not ours"):
        cube.ingest(html=world.folder / "page.html", on_progress=fail)
    assert read_page(world.folder / "page.html").data["run"]["outcome"] == "broken"


def test_a_page_that_cannot_be_written_any_more_does_not_stop_the_run(world: World) -> None:
    cube = ci.init(world.spec_file)
    folder = world.folder / "pages"
    folder.mkdir()
    said: list[str] = []

    def take_away(progress: Progress) -> None:
        (folder / "page.html").unlink(missing_ok=True)
        folder.rmdir() if folder.exists() else None

    report = ingest_with_page(
        cube.store, Selection(), Options(), take_away, None, folder / "page.html", said.append, refresh=0.001
    )
    assert report.written == 7
    assert len(said) == 1
    assert "could not be written" in said[0]


def test_a_page_that_was_written_in_the_end_gives_no_warning(world: World) -> None:
    cube = ci.init(world.spec_file)
    folder = world.folder / "pages"
    folder.mkdir()

    def take_away_and_give_back(progress: Progress) -> None:
        if progress.result is None:
            folder.rename(world.folder / "away")
        elif not folder.exists():
            (world.folder / "away").rename(folder)

    ingest_with_page(
        cube.store, Selection(), Options(), take_away_and_give_back, None, folder / "page.html", pytest.fail, refresh=0.001
    )  # fmt: skip
    assert read_page(folder / "page.html").data["run"]["outcome"] == "done"


def test_a_run_is_not_lost_where_warnings_are_errors_and_says_that_there_is_no_page(
    world: World, invoke: Callable[..., Ran]
) -> None:
    cube = ci.init(world.spec_file)
    folder = world.folder / "pages"
    folder.mkdir()

    def take_away(progress: Progress) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    report = cube.ingest(html=folder / "page.html", on_progress=take_away)  # the tests' warnings are errors
    assert report.written == 7
    folder.mkdir()
    with pytest.warns(UserWarning, match="could not be written"):
        cube.ingest(html=folder / "page.html", redo=True, on_progress=take_away)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is written and the cube looked at again as soon as there is news, whatever it costs."""
    monkeypatch.setattr("cubeingest.page.live.COST", 0)
    monkeypatch.setattr("cubeingest.page.live.QUIET_SECONDS", 0.05)


def pages_of(cube: ci.Cube, path: Path, options: Options, **kwargs: Any) -> list[Page]:
    """The page as it was before each result of a run, and when it was over; ``before`` is called with the number of the result first."""
    before, function = kwargs.pop("before", lambda n: None), kwargs.pop("function", None)
    seen: list[Page] = []
    n = itertools.count()

    def look(progress: Progress) -> None:
        number = next(n)
        before(number)
        if number:
            seen.append(wait_for(path, lambda page: page.data["run"]["finished"] == number))

    try:
        ingest_with_page(cube.store, Selection(**kwargs), options, look, function, path, pytest.fail, refresh=0.001)
    finally:
        seen.append(read_page(path))
    return seen


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("mode", ["cooperative", "independent"])
def test_what_the_cube_holds_is_never_shown_as_pending_or_failed(world: World, mode: Any) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(workers=1)
    (world.folder / "tiles" / "2000" / "10N_000E.tif").write_bytes(b"no raster")
    path = world.folder / "page.html"
    pages = pages_of(cube, path, Options(1, redo=True, mode=mode))
    assert [page.states("cover").count("done") for page in pages] == [7] * 8
    assert len(pages[-1].data["failures"]) == 1


@pytest.mark.usefixtures("hasty")
def test_the_page_of_a_run_that_breaks_off_tells_what_the_cube_holds(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000, workers=1)
    path = world.folder / "page.html"

    def fail(number: int) -> None:
        if number == 4:
            raise ValueError("not ours")

    with pytest.raises(ValueError, match="not ours"):
        pages_of(cube, path, Options(1, on_error="abort", redo=True), before=fail)
    page = read_page(path)
    assert page.data["run"]["outcome"] == "broken"
    assert {s: page.states("cover").count(s) for s in ("done", "fresh", "pending")} == {
        "done": 5,
        "fresh": 0,
        "pending": 2,
    }


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("mode", ["cooperative", "independent"])
def test_a_page_tells_what_others_fill_during_the_run(world: World, mode: Any) -> None:
    cube = ci.init(world.spec_file)
    path = world.folder / "page.html"
    seen: list[str] = []

    def fill(number: int) -> None:
        if number == 1:
            ci.open(str(world.store)).ingest(workers=1, year=2005)
            wait_for(path, lambda page: page.states("cover")[6:].count("done") == 2)
            wait_for(path, lambda page: len(page.data["commits"]["snapshot"]) > 1)
        elif number == 7:
            seen.extend(wait_for(path, lambda page: page.data["run"]["finished"] == number).states("cover")[6:])

    pages_of(cube, path, Options(1, mode=mode), before=fill)
    assert seen.count("done") == 2
    assert read_page(path).data["run"]["skipped"] == 2


def test_a_last_page_that_cannot_be_made_whole_says_that_the_run_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise ValueError("no such projection")

    monkeypatch.setattr("cubeingest.page.pictures.coast_within", fail)
    monkeypatch.setattr("cubeingest.page.pictures.read_colours", fail)
    cube = ci.init(world.spec_file)
    cube.ingest(html=world.folder / "page.html", workers=1, year=2005)
    page = read_page(world.folder / "page.html")
    assert "There are no coastlines: no such projection." in page.text
    assert "There are no pictures of the pixels: no such projection." in page.text
    assert len(page.records("cover")) == 2
    monkeypatch.setattr("cubeingest.page.live.gather_whole", fail)
    cube.ingest(html=world.folder / "page.html", workers=1)
    page = read_page(world.folder / "page.html")
    assert page.data["run"]["outcome"] == "done"
    assert page.states("cover").count("done") == 7
    assert "not as complete as it could be: no such projection." in page.text


@pytest.mark.parametrize("hangs", ["gather", "write_page", "gather_whole"])
def test_a_run_does_not_wait_for_a_page_that_hangs(world: World, monkeypatch: pytest.MonkeyPatch, hangs: str) -> None:
    from cubeingest.page import live

    ends, real = threading.Event(), getattr(live, hangs)
    calls = itertools.count()

    def hang(*args: Any, **kwargs: Any) -> Any:
        if hangs == "gather_whole" or next(calls) >= 1:
            ends.wait()
        return real(*args, **kwargs)

    for name in ("STOP_SECONDS", "LAST_SECONDS"):
        monkeypatch.setattr(live, name, 0.2)
    monkeypatch.setattr(live, hangs, hang)
    cube = ci.init(world.spec_file)
    path, said = world.folder / "page.html", []
    try:
        report = ingest_with_page(
            cube.store, Selection(), Options(1), lambda progress: None, None, path, said.append, refresh=0.001
        )
    finally:
        ends.set()
    assert report.written == 7
    if hangs == "write_page":
        assert len(said) == 1
    else:
        assert read_page(path).data["run"]["outcome"] == "done"


def test_a_page_written_too_late_does_not_replace_a_later_one(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("later")
    write_page("earlier", tmp_path / "page.html", lambda: False)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["later"]


def test_what_a_page_cannot_take_does_not_stop_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise KeyError("no such axis")

    monkeypatch.setattr("cubeingest.page.live.failure_of", fail)
    (world.folder / "tiles" / "2000" / "10N_000E.tif").write_bytes(b"no raster")
    cube = ci.init(world.spec_file)
    report = cube.ingest(html=world.folder / "page.html", workers=1)
    assert (report.written, len(report.failed)) == (6, 1)
    assert read_page(world.folder / "page.html").data["run"]["outcome"] == "failed"


def test_a_page_looks_alive_however_slow_it_is_to_write(world: World) -> None:
    live = LivePage(ci.init(world.spec_file).store, Options(), world.folder / "page.html", pytest.fail, 3.0)
    assert [live._pace(spent) for spent in (0.0, 1.0, 100.0)] == [3.0, 20.0, 45.0]
