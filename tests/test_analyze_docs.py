"""docs/analyze.md: its commands run, and print what it shows."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely

import cubeingest as ci
from tests.conftest import Ran
from tests.test_analyze_series import to_geojson, write_geopackage

Invoke = Callable[..., Ran]

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "analyze.md").read_text(encoding="utf-8")

ZONES = {
    "Japan": [(129, 31), (142, 34), (146, 44), (140, 45), (129, 34)],
    "South Pacific": [(170, -50), (200, -50), (200, -35), (170, -35)],
}


def blocks(language: str) -> list[str]:
    """Code blocks of the page; those that begin with ``language``."""
    return [text.partition("\n")[2] for text in PAGE.split("```")[1::2] if text.partition("\n")[0] == language]


def shown(text: str) -> list[str]:
    """Lines without snapshots, which differ, and spaces at the end."""
    return [
        re.sub(r"\b[0-9A-HJKMNP-TV-Z]{20}\b", "ID", line).rstrip() for line in text.splitlines() if "..." not in line
    ]


@pytest.mark.slow
def test_commands_print_what_the_page_shows(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    for name, folder in (("netcdf_months", "jet"), ("years_and_patterns", "antilles")):
        (tmp_path / folder).mkdir()
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"](tmp_path / folder)
    jet = tmp_path / "jet"
    (jet / "zones.geojson").write_text(to_geojson([shapely.Polygon(p) for p in ZONES.values()], list(ZONES)))
    write_geopackage(jet / "towns.gpkg", [shapely.Point(140, 35)], ["Tokyo"])
    said: list[str] = []
    for command in "".join(blocks("sh")).splitlines():
        folder = tmp_path / "antilles" if "transitions" in command else jet
        store = next(folder.glob("*.icechunk"))
        done = invoke(*shlex.split(command)[1:], "--store", store, cwd=folder)
        assert done.code == 0, done.err
        said += shown(done.err) + shown(done.out)
    for text in blocks(""):
        missing = [line for line in shown(text) if line not in said]
        assert missing == [], f"the page shows what no command prints, of {said}"
    for code in blocks("python"):
        monkeypatch.chdir(jet)
        cubes = {"transitions": ci.open(tmp_path / "antilles" / "antilles.icechunk")}
        for line in code.splitlines():
            exec(line, {"cube": cubes.get(line[5:16], ci.open(jet / "jet.icechunk"))})
    assert np.isfinite(ci.open(jet / "jet.icechunk").dataset().uwnd_std.values).all()
