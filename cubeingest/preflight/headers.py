"""Headers of a plan's tiles: each read once, all at the same time, and compared with one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cubeingest.catalog import REQUESTS_AT_ONCE
from cubeingest.errors import CubeIngestError
from cubeingest.plan import SlotPlan
from cubeingest.spec import CubeSpec, Variable
from cubeingest.storage import public_href
from cubeingest.tile import Header, header_for

EXAMPLES = 3
"""Tiles named for each trait that a set is divided over."""

Headers = Mapping[tuple[str, str], Header | str]
"""By variable and href: a header, or why it cannot be read."""


@dataclass(frozen=True)
class Problem:
    """One finding.

    ``kind`` is ``none`` (no tile at all for a variable, or for labels of an axis), ``misfit`` (a tile that would fail), ``mixed`` (a set of tiles in several CRS, pixel sizes, dtypes, nodata or
    numbers of bands), ``duplicate`` (a tile in whose place another comes first), ``overlap``, ``gap``, or ``points`` (what is to be known of points).
    """

    kind: str
    region: str | None
    href: str
    message: str

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "region": self.region, "href": self.href, "message": self.message}


def read_headers(spec: CubeSpec, plans: Iterable[SlotPlan], known: Headers) -> Headers:
    """The header of every tile of some slots, and those that are ``known`` already."""
    planned = ((p.slot.variable, t.href) for p in plans for t in p.tiles)
    wanted = [key for key in dict.fromkeys(planned) if key not in known]

    def read(key: tuple[str, str]) -> Header | str:
        try:
            return header_for(spec.variable(key[0]), key[1])
        except CubeIngestError as e:
            return str(e)

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return {**known, **dict(zip(wanted, pool.map(read, wanted), strict=True))}


def find_mixed(spec: CubeSpec, headers: Headers) -> list[Problem]:
    """Traits in which the tiles of one variable differ: each with how many tiles have it, and the first of them."""
    out = []
    for variable in spec.variables:
        own = [h for (name, _), h in headers.items() if name == variable.name and isinstance(h, Header)]
        for trait, value_of in _traits(variable):
            out += _divided(variable, trait, value_of, own)
    return out


def _traits(variable: Variable) -> Iterable[tuple[str, Callable[[Header], str]]]:
    resampled = variable.source is not None and variable.source.resampling is not None
    if not resampled:  # then tiles of several are what the key is for
        yield "CRS", lambda h: h.crs.to_string()[:60] if h.crs else "none"
        yield "pixel size", lambda h: f"{_short(h.transform[0])} x {_short(h.transform[4])}"
    yield "dtype", lambda h: "/".join(dict.fromkeys(h.dtypes))
    yield "number of bands", lambda h: str(len(h.dtypes))
    if variable.source is None or variable.source.nodata == "file":
        yield "nodata", lambda h: "/".join(dict.fromkeys("none" if n is None else f"{n:g}" for n in h.nodata))


def _short(size: float) -> str:
    """A pixel size, without what rounding adds to it."""
    near = Fraction(size).limit_denominator(10**6)
    return f"{float(near) if abs(float(near) - size) < 1e-9 * abs(size) else size:.9g}"


def _divided(variable: Variable, trait: str, value_of: Callable[[Header], str], headers: list[Header]) -> list[Problem]:
    counts = Counter(value_of(h) for h in headers)
    if len(counts) < 2:
        return []
    parts = []
    for value, count in counts.most_common():
        names = [repr(public_href(h.href)) for h in headers if value_of(h) == value][:EXAMPLES]
        parts.append(f"{value} in {count} ({', '.join(names)}{', ...' if count > EXAMPLES else ''})")
    message = f"the tiles of variable {variable.name!r} have several values of {trait}: {'; '.join(parts)}"
    rarest = counts.most_common()[-1][0]
    first = next(h for h in headers if value_of(h) == rarest)
    return [Problem("mixed", None, public_href(first.href), message)]
