"""Values as one line of YAML."""

from __future__ import annotations

from io import StringIO
from typing import Any


def flow_text(value: Any) -> str:
    """``value`` (plain data) as YAML on one line, which reads back as the same after ``key: ``, such as ``{y: 10, x: 10}``."""
    if isinstance(value, dict | list):
        return _dump(value, flow=True)
    text = _dump({"k": value}, flow=False).removeprefix("k:").strip()
    # A text of several lines, or none, is quoted where it stands in a list.
    return text if text and "\n" not in text else _dump([value], flow=True)[1:-1]


def _dump(value: Any, flow: bool) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(pure=True)
    yaml.default_flow_style = flow
    yaml.width = 10**9
    out = StringIO()
    yaml.dump(value, out)
    return out.getvalue().strip()
