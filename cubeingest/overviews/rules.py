"""How the overviews of each variable are made, and why some have none."""

from __future__ import annotations

from dataclasses import dataclass

from cubeingest.coarser import merge_plan
from cubeingest.overviews.halving import method_of
from cubeingest.spec import CubeSpec

MERGED = "merged"
"""The method of statistics of points in HEALPix cells: each level is what all points of its cells give."""

BY_SPEC = "the spec says so (overviews: none)"


@dataclass(frozen=True)
class Rule:
    """How a variable's overviews are made: ``merged``, or a method of :func:`method_of`; ``needs`` are the variables that it takes, itself first."""

    method: str
    needs: tuple[str, ...]


def rules_of(spec: CubeSpec) -> tuple[dict[str, Rule], dict[str, str]]:
    """The rule of each variable that has overviews, and why the others have none.

    What the spec says (``overviews``) comes first. Statistics in HEALPix cells for which it says nothing are merged, or have none;
    the rest goes by :func:`method_of`.
    """
    statistics = {v.name: v.aggregate for v in spec.variables if v.aggregate is not None and spec.healpix is not None}
    plan, refused = merge_plan(statistics)
    rules: dict[str, Rule] = {}
    without: dict[str, str] = {}
    for v in spec.variables:
        if v.overviews is None and v.name in refused:
            without[v.name] = refused[v.name]
        elif v.overviews is None and v.name in plan:
            other = next((n for n in plan[v.name] if spec.variable(n).overviews is not None), None)
            if other is None:
                rules[v.name] = Rule(MERGED, plan[v.name])
            else:
                said = spec.variable(other).overviews
                without[v.name] = (
                    f"it takes {other!r} of each cell, which is not merged (overviews: {said} in the spec)"
                )
        elif (method := method_of(v)) is not None:
            rules[v.name] = Rule(method, (v.name,))
        else:
            without[v.name] = BY_SPEC
    return rules, without
