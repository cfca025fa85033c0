"""The commands that draw, as a person runs them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import cubeingest as ci
from cubeingest.cli import charts
from cubeingest.look import file_name
from cubeingest.look.attributes import TABLE_KEYS
from cubeingest.selection import Selection
from cubeingest.sketch import STATE_COLOURS
from cubeingest.status import read_slot_states
from tests.conftest import Ran, World

Invoke = Callable[..., Ran]


@pytest.fixture
def cube(world: World) -> ci.Cube:
    """The world's cube with one region of 2000 in it, and a tag of when it had none."""
    made = ci.init(world.spec_file)
    made.tag("v0")
    made.ingest(year=2000, region="20N_000E")
    return made


def read_picture(path: Path) -> np.ndarray:
    import matplotlib.image

    return (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)


NAMES: list[tuple[list[Any], str]] = [
    (["grid", "--bbox", 1, 11, 3, 13], "small-grid.png"),
    (["status"], "small-status.png"),
    (["status", "--year", "2000"], "small-status-2000.png"),
    (["map", "--year", "2000"], "small-map-2000.png"),
    (["map", "--year", "2000", "--bbox", 1, 11, 3, 13, "--variable", "cover"], "small-map-cover-2000.png"),
    (["map", "--region", "20N_000E"], "small-map-20N_000E.png"),
    (["diff", "v0"], "small-diff-v0-main.png"),
]


def test_pictures_have_names_that_say_what_they_show(cube: ci.Cube, world: World, invoke: Invoke) -> None:
    for args, name in NAMES:
        done = invoke("show", *args, "--store", world.store)
        assert (done.code, done.out) == (0, f"{name}\n"), done.err
        assert {p.name for p in world.folder.glob("*.png")} == {name}
        assert min(read_picture(world.folder / name).shape[:2]) > 300
        assert not list(world.folder.glob(".small*"))
        (world.folder / name).unlink()


def test_a_picture_takes_the_place_of_a_file_with_its_permissions_and_through_a_link(
    cube: ci.Cube, world: World, invoke: Invoke
) -> None:
    held = world.folder / "held.png"
    held.write_bytes(b"old")
    held.chmod(0o640)
    (world.folder / "a.png").symlink_to("held.png")
    assert invoke("show", "grid", "-o", "a.png", "--store", world.store).code == 0
    assert (world.folder / "a.png").is_symlink()
    assert held.stat().st_mode & 0o777 == 0o640
    assert held.read_bytes()[:4] == b"\x89PNG"
    assert not list(world.folder.glob(".*png*"))


def test_names_of_pictures_are_cut_where_file_systems_want_it() -> None:
    assert file_name("a" * 300) == "a" * 120 + ".png"
    assert file_name("x", "土" * 100, "map") == "x-" + "土" * 39 + ".png"


def test_json_says_where_the_picture_is_and_what_it_shows(cube: ci.Cube, world: World, invoke: Invoke) -> None:
    done = invoke("show", "map", "--year", "2000", "--output", "a.SVG", "--json", "--store", world.store)
    assert done.json == {
        "picture": "a.SVG", "kind": "map", "snapshot": cube.store.tip, "variable": "cover", "axes": {"year": "2000"},
        "window": {"y": [0, 200], "x": [0, 250]}, "step": 1, "note": "",
    }  # fmt: skip
    assert "<svg" in (world.folder / "a.SVG").read_text()[:1000]


def test_status_picture_is_in_the_colours_of_the_states(cube: ci.Cube, world: World, invoke: Invoke) -> None:
    assert invoke("show", "status", "-o", "s.png", "--store", world.store).code == 0
    drawn = read_picture(world.folder / "s.png").reshape(-1, 3)
    for state in ("done", "pending", "absent"):
        colour = [int(STATE_COLOURS[state][i : i + 2], 16) for i in (1, 3, 5)]
        assert (abs(drawn - colour) < 4).all(axis=1).sum() > 50, state  # in the legend at least


REFUSED: list[tuple[list[Any], str]] = [
    (["map", "-o", "a.jpg"], "'.jpg': pictures are .png or .svg"),
    (["map", "-o", "a"], "pictures are .png or .svg"),
    (["map", "-o", "none/a.png"], "there is no folder 'none'"),
    (["map", "--year", "2000,2005"], "one value of axis 'year'"),
    (["map", "--year", "2000..2005"], "one value of axis 'year'"),
    (["map", "--year", "1999"], "axis 'year' has no value '1999'"),
    (["map", "--variable", "cver"], "no variable 'cver'; did you mean 'cover'"),
    (["map", "--bbox", 100, 50, 110, 60], "overlaps no region"),
    (["map", "--month", "3"], "no such option: --month"),
    (["grid", "--region", "nowhere"], "no region 'nowhere'"),
    (["diff", "v9"], "'v9' is no tag"),
]


def test_what_cannot_be_drawn_is_refused_in_one_line(cube: ci.Cube, world: World, invoke: Invoke) -> None:
    for args, said in REFUSED:
        done = invoke("show", *args, "--store", world.store)
        assert done.code == 2, args
        assert said in " ".join(done.err.split())
        assert "Traceback" not in done.err
        assert not [p for p in world.folder.rglob("*") if p.suffix in (".png", ".jpg", ".svg")]


@pytest.mark.parametrize("system", [None, "truecolor", "standard"], ids=["letters", "truecolor", "16 colours"])
def test_status_in_a_terminal_ends_in_a_map(cube: ci.Cube, monkeypatch: pytest.MonkeyPatch, system: Any) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=20, color_system=system or "truecolor", soft_wrap=True)
    monkeypatch.setattr(charts, "out_console", lambda: console)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if system is None:
        monkeypatch.setenv("NO_COLOR", "1")
    charts.print_map(read_slot_states(cube.store, Selection({"year": ("2000",)})))
    out = text.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert "done 1" in plain
    assert "absent 1" in plain
    rows = [line for line in plain.split("\n") if line and "done" not in line]
    assert max(map(len, rows)) <= 19
    if system is None:
        assert "".join(dict.fromkeys(rows[0])) == "#?."
        assert set(rows[-1]) == {"?"}
    else:
        assert set("".join(rows)) == {"▀"}
        assert ("38;2;31;122;109" in out) == (system == "truecolor")


def test_status_that_is_no_terminal_prints_no_map(cube: ci.Cube, world: World, invoke: Invoke) -> None:
    done = invoke("status", "--store", world.store)
    assert "▀" not in done.out
    assert "part:" not in done.out


def test_documented_commands_exist_and_documented_attributes_are_read(invoke: Invoke) -> None:
    text = (Path(__file__).parent.parent / "docs" / "pictures.md").read_text(encoding="utf-8")
    for command in sorted(set(re.findall(r"^cubeingest (show \w+|\w+)", text, re.M))):
        assert invoke(*command.split(), "--help").code == 0
    named = {name for cell in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"`(\w+)`", cell)}
    others = {
        "flag_values",
        "flag_meanings",
        "valid_min",
        "valid_max",
        "valid_range",
        "units",
        "long_name",
        "scale_factor",
        "add_offset",
    }
    assert others < named
    assert named - others < set(TABLE_KEYS)
