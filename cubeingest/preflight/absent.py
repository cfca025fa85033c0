"""Variables, and labels of axes, for which there is no tile at all: a typo, or a folder that is empty."""

from __future__ import annotations

from cubeingest.catalog import Catalog
from cubeingest.preflight.headers import Problem
from cubeingest.spec import CubeSpec, Source, Variable
from cubeingest.storage import public_href

NAMED = 3
"""Labels that one message names."""


def find_absent(spec: CubeSpec, catalog: Catalog) -> list[Problem]:
    """One problem for each variable, and each axis, of which the catalog has labels without a tile.

    A tile that is listed but fits nowhere is a misfit, which says more: its label counts as found.
    """
    out = []
    for name, rows in catalog.rows.items():
        variable = spec.variable(name)
        assert variable.source is not None
        positions = {row.position for row in rows} | {m.position for m in catalog.misplaced if m.variable == name}
        if not positions:
            out.append(_problem(variable, variable.source, "", {}))
            continue
        for i, axis in enumerate(spec.axes_of(variable)):
            found = {position[i] for position in positions}
            missing = [axis.labels[k] for k in catalog.positions[axis.name] if k not in found]
            if missing:
                more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
                labels = f" for {axis.name} {', '.join(missing[:NAMED])}{more} of {len(catalog.positions[axis.name])}"
                out.append(_problem(variable, variable.source, labels, {axis.name: missing[0]}))
    return out


def _problem(variable: Variable, source: Source, labels: str, example: dict[str, str]) -> Problem:
    where = _where(source, example)
    return Problem("none", None, where, f"no tile at all{labels} of variable {variable.name!r} ({where})")


def _where(source: Source, example: dict[str, str]) -> str:
    """What the spec says of where such tiles are, with the first label without one."""
    kind = "href"
    if source.tiles is not None:
        kind, text = str(source.tiles[0]), source.tiles[1]
    elif source.href_axis is None:
        text = source.href[""]
    elif source.href_axis in example and example[source.href_axis] not in source.href:
        return f"source.href has no pattern for {example[source.href_axis]}"
    else:
        text = source.href.get(example.get(source.href_axis, ""), next(iter(source.href.values())))
    for name, label in example.items():
        text = text.replace("{" + name + "}", label)
    return f"{kind} {public_href(text)!r}"
