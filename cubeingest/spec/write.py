"""Values as one line of YAML."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

_PLAIN = re.compile(r"[\w./-]*", re.ASCII)
"""Texts that hold no syntax of lists and mappings."""


def flow_text(value: Any, inside: bool = False) -> str:
    """``value`` (plain data) as YAML on one line, which reads back as the same after ``key: ``, such as ``{y: 10, x: 10}``.

    ``inside`` a list or mapping, commas and braces are quoted.
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow_text(k, True)}: {flow_text(v, True)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow_text(v, True) for v in value) + "]"
    if isinstance(value, str) and not (_PLAIN.fullmatch(value) if inside else value.isprintable()):
        return f'"{"".join(_escaped(c) for c in value)}"'
    if inside or value == "":
        return _dump([value], flow=True)[1:-1]
    return _dump({"k": value}, flow=False).removeprefix("k:").strip()


def _escaped(character: str) -> str:
    if character.isprintable():
        return "\\" + character if character in '"\\' else character
    return f"\\U{ord(character):08X}"


def _dump(value: Any, flow: bool) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(pure=True)
    yaml.default_flow_style = flow
    yaml.width = 10**9
    out = StringIO()
    yaml.dump(value, out)
    return out.getvalue().strip()
