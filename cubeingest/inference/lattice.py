"""The lattice that most tiles lie on: CRS, pixel size, origin, and the step from tile to tile. Pure."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from cubeingest.errors import TileError
from cubeingest.grid import TOLERANCE_PX
from cubeingest.inference.snap import snap_edge, snap_resolution
from cubeingest.inference.tiles import Misfit, Seen
from cubeingest.steps import to_fraction
from cubeingest.tile import Window

LARGEST_OVERLAP = Fraction(1, 4)
"""Of a tile's size. Tiles that share more than this lie on no lattice of their own."""


@dataclass(frozen=True)
class Lattice:
    """Where the tiles lie, in pixels from the corner of the box that holds them all.

    ``tile_yx`` is the size of most tiles and ``step_yx`` the way from one to the next (None: they lie anyhow). ``sizes`` are the
    pixel sizes (x, y) as the files have them.
    """

    crs: str
    resolution_x: Fraction
    resolution_y: Fraction
    origin_x: Fraction
    origin_y: Fraction
    sizes: tuple[float, float]
    tiles: tuple[Seen, ...]
    windows: Mapping[str, Window]
    tile_yx: tuple[int, int]
    step_yx: tuple[int, int] | None

    @cached_property
    def extent_yx(self) -> tuple[int, int]:
        y, x = (max(w[dim].stop for w in self.windows.values()) for dim in (0, 1))
        return y, x

    @property
    def overlap_yx(self) -> tuple[int, int]:
        """Pixels that neighbours share."""
        if self.step_yx is None:
            return 0, 0
        return self.tile_yx[0] - self.step_yx[0], self.tile_yx[1] - self.step_yx[1]

    def cell(self, tile: Seen) -> tuple[int, int]:
        """Row and column of a tile, where there is a step."""
        assert self.step_yx is not None
        y, x = self.windows[tile.href]
        return y.start // self.step_yx[0], x.start // self.step_yx[1]

    def only(self, tiles: Sequence[Seen]) -> tuple[Lattice, tuple[int, int]]:
        """The lattice of some of its tiles, its corner moved up to them; and the steps by which it was."""
        windows = {t.href: self.windows[t.href] for t in tiles}
        step = self.step_yx or (1, 1)
        cells = [min(w[dim].start for w in windows.values()) // step[dim] for dim in (0, 1)]
        dy, dx = (n * s for n, s in zip(cells, step, strict=True))
        moved = {
            h: (slice(y.start - dy, y.stop - dy), slice(x.start - dx, x.stop - dx)) for h, (y, x) in windows.items()
        }
        origin_y, origin_x = self.origin_y + dy * self.resolution_y, self.origin_x + dx * self.resolution_x
        return replace(self, tiles=tuple(tiles), windows=moved, origin_y=origin_y, origin_x=origin_x), (
            cells[0],
            cells[1],
        )

    @cached_property
    def n_places(self) -> int:
        return len({(w[0].start, w[0].stop, w[1].start, w[1].stop) for w in self.windows.values()})


def find_lattice(tiles: Sequence[Seen]) -> tuple[Lattice, list[Misfit]]:
    """The lattice of most of the tiles, and the tiles that are not on it.

    Raises :class:`TileError` if no tile has a CRS and an upright transform.
    """
    misfits: list[Misfit] = []
    upright = _keep(
        tiles,
        misfits,
        _is_upright,
        "are rotated or mirrored (warp or flip them first)",
        lambda t: f"transform {t.header.transform}",
    )
    upright = _keep(
        upright, misfits, lambda t: bool(t.header.crs), "have no CRS (gdal_edit.py -a_srs gives them one)", lambda t: ""
    )
    if not upright:
        worst = misfits[0]
        raise TileError(f"no tile can be placed: {len(misfits)} {worst.kind}, such as {worst.name!r}")
    texts = _crs_texts(upright)
    crs = _most(texts.values())
    same = _keep(
        upright,
        misfits,
        lambda t: texts[t.href] == crs,
        f"are in another CRS than {_short(crs)}",
        lambda t: _short(texts[t.href]),
    )
    alike = _most_alike(same)
    size = (alike[0].header.transform[0], abs(alike[0].header.transform[4]))
    known = {t.href for t in alike}
    same = _keep(
        same, misfits, lambda t: t.href in known, f"have another resolution than {_pair(size)}",
        lambda t: _pair((t.header.transform[0], abs(t.header.transform[4]))),
    )  # fmt: skip
    return _place(crs, same, misfits), misfits


def _keep(
    tiles: Sequence[Seen], misfits: list[Misfit], fits: Callable[[Seen], bool], kind: str, detail: Callable[[Seen], str]
) -> list[Seen]:
    misfits += [Misfit(kind, t.name, detail(t)) for t in tiles if not fits(t)]
    return [t for t in tiles if fits(t)]


def _most[T: Hashable](values: Iterable[T]) -> T:
    """The commonest; of equally common ones the first."""
    found: T = Counter(values).most_common(1)[0][0]
    return found


def _is_upright(tile: Seen) -> bool:
    a, b, _, d, e, _ = tile.header.transform
    return not b and not d and a > 0 and e != 0


def _pair(size: tuple[float, float]) -> str:
    return repr(size[0]) if size[0] == size[1] else f"{size[0]!r} x {size[1]!r}"


def _short(crs: str) -> str:
    return crs if len(crs) <= 40 else crs[:37] + "..."


def _crs_texts(tiles: Sequence[Seen]) -> dict[str, str]:
    """The CRS of each tile by href, as a spec writes it: an authority's code where that means the same. Equal ones are one text."""
    from pyproj import CRS

    known: dict[str, str] = {}
    kinds: list[tuple[Any, str]] = []
    for text, wkt in {t.header.crs.to_string(): t.header.crs.to_wkt() for t in tiles}.items():
        crs = CRS.from_wkt(wkt)
        twin = next((name for other, name in kinds if crs.equals(other, ignore_axis_order=True)), None)
        if twin is None:
            kinds.append((crs, twin := _code(crs, text)))
        known[text] = twin
    return {t.href: known[t.header.crs.to_string()] for t in tiles}


def _code(crs: Any, text: str) -> str:
    from pyproj import CRS

    if ":" in text and len(text) < 40:
        return text
    found = crs.to_authority(min_confidence=70)
    if found and crs.equals(CRS.from_authority(*found), ignore_axis_order=True):
        return ":".join(found)
    return str(crs.to_wkt())


def _most_alike(tiles: Sequence[Seen]) -> list[Seen]:
    """The largest group of tiles whose pixel sizes differ by less than their far edges show; the commonest size comes first."""
    sizes = {t.href: (t.header.transform[0], abs(t.header.transform[4])) for t in tiles}
    left = [t for size, _ in Counter(sizes.values()).most_common() for t in tiles if sizes[t.href] == size]
    groups: list[list[Seen]] = []
    for tile in left:
        height, width = tile.header.shape_yx
        for group in groups:
            drift = [
                abs(Fraction(a) / Fraction(b) - 1) for a, b in zip(sizes[tile.href], sizes[group[0].href], strict=True)
            ]
            if drift[0] * width <= TOLERANCE_PX and drift[1] * height <= TOLERANCE_PX:
                group.append(tile)
                break
        else:
            groups.append([tile])
    return max(groups, key=len)


def _place(crs: str, tiles: Sequence[Seen], misfits: list[Misfit]) -> Lattice:
    """Tiles of one CRS and pixel size on the lattice that most of them share."""
    sizes = (tiles[0].header.transform[0], abs(tiles[0].header.transform[4]))
    down = _most(t.header.transform[4] < 0 for t in tiles)
    longest = max(n for t in tiles for n in t.header.shape_yx)
    corners = [_corner(t, down) for t in tiles]
    ys, xs = _along_both([y for y, _ in corners], [x for _, x in corners], sizes, longest)
    on = [i for i in range(len(tiles)) if ys.on[i] and xs.on[i]]
    for i in sorted(set(range(len(tiles))) - set(on)):
        detail = f"{abs(ys.off[i]):.3g} px off along y, {abs(xs.off[i]):.3g} along x"
        misfits.append(Misfit("do not lie on the pixel lattice of the others", tiles[i].name, detail))
    kept = [tiles[i] for i in on]
    tile_yx: tuple[int, int] = _most(t.header.shape_yx for t in kept)
    starts_yx = ([ys.place[i] for i in on], [xs.place[i] for i in on])
    step_yx, (first_y, first_x) = _steps(starts_yx, tile_yx)
    windows = {}
    for tile, y, x in zip(kept, *starts_yx, strict=True):
        height, width = tile.header.shape_yx
        windows[tile.href] = (slice(y - first_y, y - first_y + height), slice(x - first_x, x - first_x + width))
    origin_x, origin_y = xs.edge(first_x), ys.edge(first_y)
    return Lattice(
        crs, xs.resolution, -ys.resolution if down else ys.resolution, origin_x, -origin_y if down else origin_y, sizes, tuple(kept), windows,
        tile_yx, step_yx,
    )  # fmt: skip


def _corner(tile: Seen, down: bool) -> tuple[Fraction, Fraction]:
    """(y, x) of the corner where the lattice's rows start, y measured downward where rows run so."""
    left, bottom, _, top = tile.header.bounds
    return (-top if down else bottom), left


@dataclass(frozen=True)
class _Along:
    """Tiles along one dimension: ``place`` in whole pixels from ``anchor``, ``off`` the rest, ``on`` whether that is noise."""

    resolution: Fraction
    anchor: Fraction
    place: list[int]
    off: list[float]
    on: list[bool]

    def edge(self, place: int) -> Fraction:
        return self.anchor + place * self.resolution


def _along_both(
    y: Sequence[Fraction], x: Sequence[Fraction], sizes: tuple[float, float], longest: int
) -> tuple[_Along, _Along]:
    """Tiles along y and x: on the lattice that most of them share in both."""
    ys = _along(y, sizes[1], longest, range(len(y)))
    xs = _along(x, sizes[0], longest, [i for i, on in enumerate(ys.on) if on])
    other_xs = _along(x, sizes[0], longest, range(len(x)))
    other_ys = _along(y, sizes[1], longest, [i for i, on in enumerate(other_xs.on) if on])
    ways = [(ys, xs), (other_ys, other_xs)]
    return max(ways, key=lambda way: sum(a and b for a, b in zip(way[0].on, way[1].on, strict=True)))


def _along(edges: Sequence[Fraction], size: float, longest: int, among: Sequence[int]) -> _Along:
    """Tiles along one dimension, on the lattice that most of ``among`` (their positions) share."""
    sizes = (snap_resolution(size, longest), to_fraction(size))
    snapped, plain = (_fit(edges, resolution, among) for resolution in sizes)
    return snapped if sum(snapped.on) >= sum(plain.on) else plain  # a rational that tiles contradict is none


def _fit(edges: Sequence[Fraction], resolution: Fraction, among: Sequence[int]) -> _Along:
    offsets = [(edge - edges[among[0]]) / resolution for edge in edges]
    phases = [float(o - math.floor(o)) for o in offsets]
    phase = _densest([phases[i] for i in among], float(TOLERANCE_PX))
    anchor = snap_edge(edges[min(among, key=lambda i: _apart(phases[i], phase))], resolution)
    places = [(edge - anchor) / resolution for edge in edges]
    off = [float(p - round(p)) for p in places]
    return _Along(resolution, anchor, [round(p) for p in places], off, [abs(o) <= TOLERANCE_PX for o in off])


def _apart(a: float, b: float) -> float:
    """Distance on the circle of phases from 0 to 1."""
    return min(abs(a - b), 1 - abs(a - b))


def _densest(phases: Sequence[float], width: float) -> float:
    """The middle of the arc of ``width`` that holds most phases; of equals the first phase's own."""
    circle = sorted(phases)
    circle += [p + 1 for p in circle]
    best, count = phases[0], bisect.bisect_right(circle, phases[0] + width) - bisect.bisect_left(circle, phases[0])
    for i in range(len(phases)):
        stop = bisect.bisect_right(circle, circle[i] + width)
        if stop - i > count:
            best, count = circle[(i + stop - 1) // 2] % 1, stop - i
    return best


def _steps(
    starts_yx: tuple[Sequence[int], Sequence[int]], tile_yx: tuple[int, int]
) -> tuple[tuple[int, int] | None, tuple[int, int]]:
    """The step (y, x) from one tile to the next, None if they lie anyhow; and where the first one starts."""
    found = [_step(starts, size) for starts, size in zip(starts_yx, tile_yx, strict=True)]
    if any(f is None for f in found):
        return None, (min(starts_yx[0]), min(starts_yx[1]))
    steps, phases = zip(*(f for f in found if f is not None), strict=True)
    if 0 in steps:  # one row, or one column: neighbours share as much as in the other dimension
        shared = next((size - step for size, step in zip(tile_yx, steps, strict=True) if step), 0)
        steps = tuple(step or size - shared for size, step in zip(tile_yx, steps, strict=True))
    first = [min(s) - (min(s) - phase) % step for s, phase, step in zip(starts_yx, phases, steps, strict=True)]
    return (steps[0], steps[1]), (first[0], first[1])


def _step(starts: Sequence[int], size: int) -> tuple[int, int] | None:
    """(step, a start) of tiles of ``size`` along one dimension; step 0 if they all start at one place, None if there is no step."""
    distinct = sorted(set(starts))
    apart = math.gcd(*(s - distinct[0] for s in distinct))
    if apart % size == 0:
        return (size if apart else 0), distinct[0]
    least = size - int(size * LARGEST_OVERLAP)
    near = [apart // n for n in range(1, apart // least + 1) if apart % n == 0 and least <= apart // n < size]
    if near:
        return max(near), distinct[0]
    for some in (distinct, starts):  # a few that lie elsewhere are no reason to see no step
        phase, count = Counter(s % size for s in some).most_common(1)[0]
        if count * 2 > len(some):
            return size, phase
    return None
