"""What a page tells, read back in Python; the browser's tests see that its own script reads the same."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARKS = "\x01\x02\x03\x04\x05\x06\x07\x08"


@dataclass(frozen=True)
class Page:
    """The text of a page, and its data as plain JSON."""

    text: str
    data: dict[str, Any]

    @property
    def size(self) -> int:
        return len(self.text.encode())

    def region_id(self, iy: int, ix: int) -> str:
        places = {"y": iy, "x": ix}
        return "".join(p if isinstance(p, str) else p[1][places[p[0]]] for p in self.data["grid"]["ids"])

    def states(self, variable: str) -> list[str]:
        """By slot, in C order."""
        letters, runs = self.data["letters"], re.findall(r"([a-z])(\d*)", self._variable(variable)["states"])
        return [letters[letter] for letter, n in runs for _ in range(int(n or 1))]

    def records(self, variable: str) -> dict[int, dict[str, Any]]:
        """By slot's number in C order; of slots with one source."""
        held = [n for n, state in enumerate(self.states(variable)) if state in ("done", "empty")]
        v, texts = self._variable(variable), self._texts()
        columns = {name: column for name, column in v["records"].items() if name != "sources"}
        out = {}
        for row, slot in enumerate(held):
            record = {name: column[row] for name, column in columns.items()}
            for name in ("href", "reading", "run"):
                record[name] = texts[record[name]]
            record["href"] = self._expand(record["href"], v, slot)
            record["commit"] = None if record["commit"] is None else self.data["commits"]["snapshot"][record["commit"]]
            out[slot] = record
        return out

    def _expand(self, pattern: str, v: dict[str, Any], slot: int) -> str:
        ny, nx = (len(self.data["grid"][d]) - 1 for d in "yx")
        frame, place = divmod(slot, ny * nx)
        for n in reversed(v["axes"]):
            frame, block = divmod(frame, len(self.data["axes"][n]["labels"]))
            pattern = pattern.replace(MARKS[n + 1], self.data["axes"][n]["labels"][block])
        return pattern.replace(MARKS[0], self.region_id(*divmod(place, nx)))

    def _texts(self) -> list[str]:
        out: list[str] = []
        items = iter(self.data["texts"])
        for item in items:
            out.append(item if isinstance(item, str) else out[-1][:item] + next(items))
        return out

    def _variable(self, name: str) -> dict[str, Any]:
        return next(v for v in self.data["variables"] if v["name"] == name)


def read_page(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return Page(text, json.loads(data))
