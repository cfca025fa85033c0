"""Views of the globe for what lies on no lattice: a projection, chosen by what is to be seen, and where each pixel of a picture is.

Every pixel of a picture is taken to a longitude and latitude, and from there to whatever lies at it; so pictures have no gaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cubeingest.boxes import Box, mapper, parse_crs
from cubeingest.look.frame import EDGE, SEA, SMALL_POINTS, SOFT, draw_coast, draw_ground, name_degrees

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]

LONLAT = "EPSG:4326"

POLAR_FROM = 45.0
"""Degrees of latitude: what lies wholly beyond is seen from above its pole."""

PLAIN_DEGREES = (120.0, 100.0)
"""Of longitude and latitude, up to which longitudes and latitudes themselves are the picture."""

MARGIN = 0.03
"""Of what is shown, beyond it on each side of a view that is not cut by a box."""

BOX_POINTS = 61
"""Points along and across a box by which its place in a projection is found."""

LINE_POINTS = 181
"""Points of a line of the graticule."""

STEPS = (1, 2, 5, 10, 15, 30)
"""Degrees between lines of the graticule."""

MOST_ACROSS = 5
"""Lines of a graticule across a view, about."""

LIMB_X, LIMB_Y = 1.004, 1.008
"""How much larger than the ellipse its picture is, for the line around it."""

SEAM = 1e-6
"""Degrees that lines stay away from where the globe is cut."""


@dataclass(frozen=True)
class Globe:
    """A view: the whole globe as an equal-area ellipse (Mollweide), the surroundings of a pole in equal areas (Lambert), or plain longitudes and latitudes.

    ``bounds`` are in units of ``crs``. A plain view across the antimeridian goes on beyond 180 degrees.
    """

    kind: Literal["ellipse", "polar", "plain"]
    crs: str
    bounds: Box
    middle: float = 0.0
    """The longitude in the middle."""

    def places(self, rows: int, columns: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Longitudes (from -180 to 180) and latitudes of the centres of pixels, (rows, columns), the first row at the top; NaN off the globe."""
        left, bottom, right, top = self.bounds
        x = left + (right - left) * (np.arange(columns) + 0.5) / columns
        y = top - (top - bottom) * (np.arange(rows) + 0.5) / rows
        lon, lat = (v.astype(np.float64) for v in np.meshgrid(x, y))
        if self.kind != "plain":
            lon, lat = (np.asarray(v) for v in mapper(parse_crs(self.crs), parse_crs("OGC:CRS84"))(lon, lat))
        there = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90)
        if self.kind == "ellipse":  # PROJ gives places to points beyond the edge as well
            there &= ((x / right * LIMB_X) ** 2 + ((y / top * LIMB_Y) ** 2)[:, np.newaxis]) < 1
        lon, lat = np.where(there, lon, np.nan), np.where(there, lat, np.nan)
        return (lon + 180) % 360 - 180, lat

    def lines(self, rings: Sequence[Array]) -> list[Array]:
        """Lines of longitude and latitude, (n, 2), in this view, cut where the globe is."""
        parts: list[Array] = []
        for ring in rings:
            if self.kind == "plain":
                west, east = ring[:, 0].min(), ring[:, 0].max()
                turns = range(math.ceil((self.bounds[0] - east) / 360), math.floor((self.bounds[2] - west) / 360) + 1)
                parts += [ring + np.array([360.0 * k, 0.0]) for k in turns]
            elif self.kind == "polar":
                parts.append(ring)
            else:
                parts += self._cut(ring)
        if self.kind == "plain" or not parts:
            return parts
        every = np.stack(self._project(*np.concatenate(parts).T), axis=1)
        lines = np.split(every, np.cumsum([len(part) for part in parts])[:-1])
        return [line for line in lines if np.isfinite(line).all()]

    def _cut(self, ring: Array) -> list[Array]:
        """A line as those parts of it that lie on either side of the seam."""
        lon = self.middle + (ring[:, 0] - self.middle + 180) % 360 - 180
        points = np.stack([lon, ring[:, 1]], axis=1)
        out, start = [], 0
        before: list[Array] = []
        for i in np.flatnonzero(np.abs(np.diff(lon)) > 180).tolist():
            side = math.copysign(180 - SEAM, lon[i] - self.middle)
            to = lon[i + 1] + math.copysign(360, side)
            share = min(1.0, max(0.0, (self.middle + side - lon[i]) / (to - lon[i]))) if to != lon[i] else 0.0
            lat = points[i, 1] + share * (points[i + 1, 1] - points[i, 1])
            out.append(np.concatenate([*before, points[start : i + 1], [[self.middle + side, lat]]]))
            before, start = [np.array([[self.middle - side, lat]])], i + 1
        out.append(np.concatenate([*before, points[start:]]))
        return [part for part in out if len(part) > 1]

    def _project(self, lon: Any, lat: Any) -> tuple[Array, Array]:
        x, y = mapper(parse_crs("OGC:CRS84"), parse_crs(self.crs))(lon, lat)
        return np.asarray(x), np.asarray(y)

    # ---- drawing ----------------------------------------------------------------------------------------------

    def draw_under(self, axes_list: list[Axes], pixels: int, labels: bool) -> None:
        """Sea, land and the graticule, in each of several axes; its labels only if there is room for them."""
        from matplotlib.collections import LineCollection
        from matplotlib.patches import Polygon
        from matplotlib.patheffects import withStroke

        limb = self._limb()
        lines, names = self._graticule()
        for axes in axes_list:
            axes.set_facecolor(SEA if limb is None else "white")
            if limb is not None:
                axes.add_patch(Polygon(limb, facecolor=SEA, edgecolor=EDGE, linewidth=0.6, zorder=0.4))
                for spine in axes.spines.values():
                    spine.set_visible(False)
            if lines:
                axes.add_collection(
                    LineCollection(lines, colors=SOFT, linewidths=0.35, alpha=0.45, zorder=2.4), autolim=False
                )
            for text, x, y, across, up in names if labels else []:
                words = axes.annotate(
                    text, (x, y), (4 * across, 4 * up), textcoords="offset points", fontsize=SMALL_POINTS - 0.5, color=SOFT,
                    ha={-1: "right", 0: "center", 1: "left"}[across], va={-1: "top", 0: "center", 1: "bottom"}[up],
                    annotation_clip=False, zorder=7,
                )  # fmt: skip
                if not (across or up):
                    words.set_path_effects([withStroke(linewidth=2, foreground="white", alpha=0.75)])
        draw_ground(axes_list, self.bounds, self.crs, pixels)

    def draw_over(self, axes_list: list[Axes], pixels: int, colour: str, width: float) -> None:
        """Coastlines."""
        draw_coast(axes_list, self.bounds, self.crs, pixels, colour, width)

    def _limb(self) -> Array | None:
        """The edge of the ellipse."""
        if self.kind != "ellipse":
            return None
        lat = np.linspace(-90, 90, LINE_POINTS)
        sides = [self._project(np.full(lat.size, self.middle + side * (180 - SEAM)), lat) for side in (-1, 1)]
        return np.concatenate([np.stack(sides[0], axis=1), np.stack(sides[1], axis=1)[::-1]])

    def _graticule(self) -> tuple[list[Array], list[tuple[str, float, float, int, int]]]:
        """Meridians and parallels, and labels: text, place, and on which side of it they stand."""
        if self.kind == "plain":
            return [], []
        return self._ellipse_graticule() if self.kind == "ellipse" else self._polar_graticule()

    def _ellipse_graticule(self) -> tuple[list[Array], list[tuple[str, float, float, int, int]]]:
        lat, lon = np.linspace(-90, 90, LINE_POINTS), self.middle + np.linspace(-180 + SEAM, 180 - SEAM, LINE_POINTS)
        first = math.ceil((self.middle - 179) / 30) * 30
        lines = [
            np.stack(self._project(np.full(lat.size, m), lat), axis=1) for m in range(first, int(self.middle) + 180, 30)
        ]
        names = []
        for p in range(-60, 61, 30):
            lines.append(np.stack(self._project(lon, np.full(lon.size, p)), axis=1))
            names.append((name_degrees(("N", "S"))(p), *lines[-1][0].tolist(), -1, 0))
        x, y = (float(v) for v in self._project(self.middle, 90.0))
        names.append((name_degrees(("E", "W"))(self.middle), x, y, 0, 1))
        return lines, names

    def _polar_graticule(self) -> tuple[list[Array], list[tuple[str, float, float, int, int]]]:
        left, bottom, right, top = self.bounds
        north = 1 if "lat_0=90" in self.crs else -1
        seen_lon, seen_lat = self.places(BOX_POINTS, BOX_POINTS)
        has_pole = left <= 0 <= right and bottom <= 0 <= top
        turned = (seen_lon - self.middle + 180) % 360 - 180
        across = 30 if has_pole else _step(float(np.ptp(turned)))
        up = _step(float(np.ptp(seen_lat)) + (90 - float(np.abs(seen_lat).max())) * has_pole)
        nearest = 0.0 if has_pole else 90 - float(np.abs(seen_lat).max())
        farthest = 90 - float(np.abs(seen_lat).min())
        # From beyond the edge inwards: the first point that is in the picture is where a meridian leaves it.
        lat = north * (90 - np.linspace(farthest * 1.5, max(0.1, nearest / 1.5), 6 * LINE_POINTS))
        lon = np.linspace(-180, 180, 4 * LINE_POINTS)
        lines, names = [], []
        for m in range(-180, 180, across):
            x, y = self._project(np.full(lat.size, m), lat)
            lines.append(np.stack([x, y], axis=1))
            inside = np.flatnonzero((x >= left) & (x <= right) & (y >= bottom) & (y <= top))
            if not len(inside) or not inside[0]:
                continue
            at_x, at_y = float(x[inside[0]]), float(y[inside[0]])
            gaps = {(-1, 0): at_x - left, (1, 0): right - at_x, (0, -1): at_y - bottom, (0, 1): top - at_y}
            side = min(gaps, key=lambda k: gaps[k])
            if side != (1, 0):  # there the legend is
                names.append((name_degrees(("E", "W"))(m), at_x, at_y, *side))
        for p in range(up, 90, up):
            if nearest * 0.8 < p < farthest * 1.2:
                x, y = self._project(lon, np.full(lon.size, north * (90 - p)))
                lines.append(np.stack([x, y], axis=1))
                at_x, at_y = (float(v) for v in self._project(self.middle + across / 2, float(north * (90 - p))))
                if left < at_x < right and bottom < at_y < top:
                    names.append((name_degrees(("N", "S"))(north * (90 - p)), at_x, at_y, 0, 0))
        return lines, names


def _step(degrees: float) -> int:
    """Degrees between lines of a graticule that spans so many."""
    return next((s for s in STEPS if degrees / s <= MOST_ACROSS), STEPS[-1])


def choose_globe(box: Box, is_cut: bool = False) -> Globe:
    """The view of a box of longitudes and latitudes (left may be up to 180, right beyond it): what lies beyond ``POLAR_FROM`` from
    above its pole, what is small as it is, everything else as a whole globe. ``is_cut`` says that a plain view ends at the box.
    """
    west, south, east, north = box
    if south >= POLAR_FROM or north <= -POLAR_FROM:
        return _polar(box)
    if east - west <= PLAIN_DEGREES[0] and north - south <= PLAIN_DEGREES[1]:
        room = 0 if is_cut else MARGIN * max(east - west, north - south)
        return Globe("plain", LONLAT, (west - room, max(-90.0, south - room), east + room, min(90.0, north + room)), (west + east) / 2)  # fmt: skip
    middle = 0.0 if east - west > 300 or (west >= -180 and east <= 180) else 10.0 * round((west + east) / 20)
    middle = (middle + 180) % 360 - 180
    crs = f"+proj=moll +lon_0={middle:g} +datum=WGS84 +units=m +no_defs"
    x, y = mapper(parse_crs("OGC:CRS84"), parse_crs(crs))(
        np.array([middle + 180 - SEAM, middle]), np.array([0.0, 90.0])
    )
    wide, high = float(x[0]) * LIMB_X, float(y[1]) * LIMB_Y
    return Globe("ellipse", crs, (-wide, -high, wide, high), middle)


def _polar(box: Box) -> Globe:
    west, south, east, north = box
    is_north = south > 0
    middle = 0.0 if east - west > 180 else float(round((west + east) / 2))
    middle = (middle + 180) % 360 - 180
    crs = f"+proj=laea +lat_0={90 if is_north else -90} +lon_0={middle:g} +datum=WGS84 +units=m +no_defs"
    lon, lat = np.meshgrid(np.linspace(west, east, 4 * BOX_POINTS), np.linspace(south, north, BOX_POINTS))
    x, y = (np.asarray(v) for v in mapper(parse_crs("OGC:CRS84"), parse_crs(crs))(lon.ravel(), lat.ravel()))
    room = MARGIN * max(float(np.ptp(x)), float(np.ptp(y)))
    bounds = (float(x.min()) - room, float(y.min()) - room, float(x.max()) + room, float(y.max()) + room)
    return Globe("polar", crs, bounds, middle)


def enclosing_box(boxes: npt.NDArray[np.float64]) -> Box:
    """The smallest box around boxes of longitudes and latitudes (rows of left, bottom, right, top), across the antimeridian if it is smaller so."""
    south, north = float(boxes[:, 1].min()), float(boxes[:, 3].max())
    west = (boxes[:, 0] + 180) % 360 - 180
    order = np.argsort(west, kind="stable")
    west, east = west[order], west[order] + (boxes[:, 2] - boxes[:, 0])[order]
    reached = np.maximum(
        np.maximum.accumulate(east), east.max() - 360
    )  # one that crosses the antimeridian covers the first, too
    gaps = np.concatenate([west[1:] - reached[:-1], [west[0] + 360 - reached[-1]]])
    widest = int(np.argmax(gaps))
    if gaps[widest] <= 0:
        return -180.0, south, 180.0, north
    first = (widest + 1) % len(west)
    left = float(west[first])
    right = max(float(reached[widest]) + 360, float(reached[-1])) if first else float(reached[-1])
    return left, south, right, north
