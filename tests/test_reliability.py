"""docs/reliability.md promises what the fault suite tests, no more and no less. (The suite itself is slow: .ci/run runs it.)"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.catalogue import FAULTS
from tests.faults.record import BEGIN, END, HEADER, escape

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
MODULES = sorted((Path(__file__).parent / "faults").glob("test_*.py"))


def table() -> str:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    return text.partition(BEGIN)[2].partition(END)[0]


def test_table_names_the_faults_of_the_catalogue_with_their_promises() -> None:
    head, rows = table().strip("\n")[: len(HEADER)], table().strip("\n")[len(HEADER) :].splitlines()
    assert head == HEADER
    cells = [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows if row.startswith("|")]
    written = [(injected.strip(), promised.strip()) for injected, _, _, promised in cells]
    assert written == [(escape(f.injected), escape(f.promised)) for f in FAULTS.values()]
    assert all(where.strip() and observed.strip() for _, where, observed, _ in cells)


def test_sum_below_the_table_is_that_of_the_catalogue_and_nothing_was_lost() -> None:
    (line,) = [row for row in table().splitlines() if "distinct faults" in row]
    found = re.fullmatch(r"(\d+) distinct faults in (\d+) runs: 0 regions lost, 0 doubled, 0 half-written\.", line)
    assert found is not None, line
    assert int(found[1]) == len(FAULTS) >= 40
    assert int(found[2]) >= len(FAULTS)


def test_every_fault_is_injected_by_a_test_and_every_such_test_is_slow() -> None:
    used = []
    for path in MODULES:
        module = importlib.import_module(f"tests.faults.{path.stem}")
        marks = module.pytestmark if isinstance(module.pytestmark, list) else [module.pytestmark]
        assert "slow" in [m.name for m in marks], f"{path.name} is not marked slow"
        for name, function in vars(module).items():
            if name.startswith("test_"):
                own = list(faults_of(getattr(function, "pytestmark", [])))
                assert own, f"{name} names no fault"
                used += own
    assert set(used) == set(FAULTS)


def faults_of(marks: list[Any]) -> Iterator[str]:
    """Names in ``mark.fault(...)`` of a test, and of its parameters."""
    for mark in marks:
        if mark.name == "fault":
            yield mark.args[0]
        elif mark.name == "parametrize":
            for values in mark.args[1]:
                yield from faults_of([m for m in getattr(values, "marks", ()) if m.name == "fault"])
