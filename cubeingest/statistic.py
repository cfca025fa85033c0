"""What a statistic of points is: one number that all points of a cell give, as a spec asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cubeingest.errors import nearest
from cubeingest.expressions import Expression, parse_expression

NEEDS: dict[str, tuple[str, ...]] = {
    "sigma_of_mean": ("weights",), "quantile": ("q",), "first": ("by",), "last": ("by",), "function": ("of",),
}  # fmt: skip
"""Kind → keys that must stand beside it."""
MAY: dict[str, tuple[str, ...]] = {"mean": ("weights",), "variance": ("ddof",), "std": ("ddof",)}
"""Kind → keys that may."""
KINDS = (
    "count", "min", "max", "mean", "variance", "std", "sigma_of_mean", "sum", "median", "quantile", "mode", "first",
    "last", "function",
)  # fmt: skip


@dataclass(frozen=True)
class Statistic:
    """One number that all points of a cell give. Points without a value, a weight or a ``by`` do not count for it."""

    kind: str
    of: Expression | None = None
    """None only for the count of all points."""
    weights: Expression | None = None
    q: float | None = None
    ddof: int = 0
    by: Expression | None = None
    """What ``first`` and ``last`` go by."""
    function: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """The columns that it reads."""
        return frozenset().union(*(e.names for e in (self.of, self.weights, self.by) if e is not None))

    @property
    def is_real(self) -> bool:
        """Whether it is no whole number even where all values are."""
        return self.kind in ("mean", "variance", "std", "sigma_of_mean", "median", "quantile", "function")

    @property
    def text(self) -> str:
        """In words that stay the same: ``mean of h weighted by 1/s**2``. Two statistics are equal if their texts are."""
        if self.of is None:
            return "count"
        what = {"quantile": f"quantile {self.q!r}", "function": f"function {self.function}"}.get(self.kind, self.kind)
        text = f"{what} of {self.of.text}"
        if self.weights is not None:
            text += f" weighted by {self.weights.text}"
        if self.by is not None:
            text += f" by {self.by.text}"
        return f"{text} with ddof {self.ddof}" if self.kind in ("variance", "std") else text


def parse_statistic(doc: object) -> Statistic:
    """The statistic that ``doc`` asks for, as YAML gives it: ``count``, ``{mean: h, weights: 1/s**2}``, ``{quantile: h, q: 0.25}``.

    ``variance`` and ``std`` take ``ddof: 1`` (default 0); ``first`` and ``last`` need ``by``; ``sigma_of_mean`` is one over the root of
    the sum of its ``weights``; ``{function: name, of: h}`` is a function of Python that ``aggregate`` is given. Columns may be expressions.

    Raises :class:`ValueError` that names the key.
    """
    if doc == "count":
        return Statistic("count")
    if isinstance(doc, str):
        hint = f": write {{{doc}: COLUMN}}" if doc in KINDS else nearest(doc, [*KINDS])
        raise ValueError(f"statistic {doc!r} is not 'count' or a mapping such as {{mean: h}}{hint}")
    if not isinstance(doc, Mapping):
        raise ValueError(f"a statistic is 'count' or a mapping such as {{mean: h}}; got {doc!r}")
    kinds = [key for key in doc if key in KINDS]
    if len(kinds) != 1:
        odd = next((str(key) for key in doc if key not in KINDS), "")
        listed = " and ".join(repr(kind) for kind in kinds) or f"none{nearest(odd, [*KINDS])}"
        raise ValueError(f"statistic {dict(doc)!r}: expected one of {', '.join(KINDS)}; got {listed}")
    kind = str(kinds[0])
    keys = {kind, *NEEDS.get(kind, ()), *MAY.get(kind, ())}
    for key in doc:
        if key not in keys:
            hint = nearest(str(key), sorted(keys - {kind}))
            raise ValueError(f"statistic {kind!r} has no key {key!r}{hint} (keys: {', '.join(sorted(keys))})")
    for key in NEEDS.get(kind, ()):
        if doc.get(key) is None:
            raise ValueError(f"statistic {kind!r} of {doc[kind]!r} needs {key!r}")
    if kind == "function" and not (isinstance(doc[kind], str) and doc[kind].strip()):
        raise ValueError(f"statistic 'function' takes the name of a function; got {doc[kind]!r}")
    q, ddof = doc.get("q"), doc.get("ddof", 0)
    if kind == "quantile" and (isinstance(q, bool) or not isinstance(q, int | float) or not 0 <= q <= 1):
        raise ValueError(f"statistic 'quantile': q must be a number from 0 to 1; got {q!r}")
    if isinstance(ddof, bool) or ddof not in (0, 1):
        raise ValueError(f"statistic {kind!r}: ddof must be 0 or 1; got {ddof!r}")
    return Statistic(
        kind,
        of=_expression(kind, "of" if kind == "function" else kind, doc),
        weights=_expression(kind, "weights", doc),
        q=None if q is None else float(q),
        ddof=int(ddof),
        by=_expression(kind, "by", doc),
        function=doc[kind].strip() if kind == "function" else None,
    )


def _expression(kind: str, key: str, doc: Mapping[Any, Any]) -> Expression | None:
    if key not in doc:
        return None
    try:
        return parse_expression(doc[key])
    except ValueError as err:
        raise ValueError(f"statistic {kind!r}, key {key!r}: {err}") from None
