"""Values over all axes at points; points are grouped by chunk, so that each chunk is read once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cubeingest.analyze.parts import Gaps, Where, read_filled, whole_window
from cubeingest.analyze.quantity import Quantity, Reader, find_quantity, to_floats
from cubeingest.analyze.tables import Rows, free_name
from cubeingest.analyze.vectors import LON_LAT
from cubeingest.boxes import mapper, parse_crs
from cubeingest.errors import GridError
from cubeingest.grid import Grid, HealpixGrid, TilingGrid
from cubeingest.ledger import NOTHING
from cubeingest.selection import Selection
from cubeingest.spec import CubeSpec, Variable
from cubeingest.steps import ROUNDING_PX
from cubeingest.store import Store
from cubeingest.wording import counted

if TYPE_CHECKING:
    import icechunk

Array = np.ndarray[Any, Any]

CHUNKS_AT_ONCE = 8
"""That are fetched and decoded side by side."""

LETTERS = 64
"""Of labels that fit below a plot."""

PICTURE_POINTS = 12
"""Lines that a plot has at most: more could not be told apart."""


@dataclass(frozen=True)
class Series:
    """Values of a quantity at points: ``values`` is (points, axes...), NaN where there is nothing.

    ``outside`` are points that lie outside the grid, ``pending`` (points, axes...) where the cube does not hold the slot.
    """

    quantity: Quantity
    labels: Mapping[str, tuple[str, ...]]
    snapshot: str
    lon: npt.NDArray[np.float64]
    lat: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    outside: npt.NDArray[np.bool_]
    pending: npt.NDArray[np.bool_]
    attributes: Mapping[str, Sequence[Any]]
    gaps: Gaps
    title: str = ""
    units: str = ""

    @property
    def warnings(self) -> list[str]:
        out = []
        n = int(self.outside.sum())
        if n:
            where = np.flatnonzero(self.outside)[:3]
            named = ", ".join(f"{self.lon[i]:g} {self.lat[i]:g}" for i in where)
            out.append(f"{n:,} of {counted(len(self.lon), 'point')} outside the cube ({named}{', ...' if n > 3 else ''}): no values there")  # fmt: skip
        waiting = self.pending & ~self.outside.reshape(-1, *(1,) * len(self.labels))
        if waiting.any():
            of = waiting.size - int(self.outside.sum()) * (waiting.size // max(1, len(self.lon)))
            out.append(f"{int(waiting.sum()):,} of {counted(of, 'value')} not ingested")
        return out

    def rows(self) -> Rows:
        """A long table: one row for each point and set of axis values."""
        n, each = len(self.lon), int(np.prod([len(v) for v in self.labels.values()], dtype=int))
        out: dict[str, Any] = {
            "point": np.repeat(np.arange(n), each),
            "lon": np.repeat(self.lon, each),
            "lat": np.repeat(self.lat, each),
        }
        axes = {a: free_name(a, {*out, "value"}) for a in self.labels}
        taken = {*out, *axes.values(), "value"}
        for name, values in self.attributes.items():
            out[free_name(name, taken)] = [v for v in values for _ in range(each)]
        along = list(itertools.product(*self.labels.values()))
        for k, name in enumerate(axes.values()):
            out[name] = [a[k] for a in along] * n
        out["value"] = self.values.ravel()
        return out

    def to_json(self) -> dict[str, Any]:
        from cubeingest.analyze.tables import to_records

        return {
            "of": self.quantity.text, "snapshot": self.snapshot, "points": len(self.lon), "outside": int(self.outside.sum()),
            "gaps": self.gaps.to_json(), "rows": to_records(self.rows()),
        }  # fmt: skip


def read_series(
    store: Store,
    selection: Selection,
    lon: Sequence[float] | Array,
    lat: Sequence[float] | Array,
    attributes: Mapping[str, Sequence[Any]] | None = None,
    expression: str | None = None,
) -> Series:
    """Values at longitudes and latitudes of a variable, or of an expression, at all axis values that are selected.

    A point is in the pixel that holds it; on a shared edge, in the one with the higher index. Raises :class:`GridError` for what the
    cube does not have.
    """
    store = store.on(store.branch, store.tip)
    spec = store.spec
    if selection.bbox or selection.regions or selection.polygon is not None or selection.limit or selection.part:
        raise GridError("points say where: select by axis values and variable only")
    quantity = find_quantity(spec, selection, expression)
    lon, lat = np.asarray(lon, float).ravel(), np.asarray(lat, float).ravel()
    if lon.shape != lat.shape or not lon.size:
        raise GridError(f"there are {lon.size} longitudes and {lat.size} latitudes: give both of every point")
    session = store.readonly()
    row, column = locate(spec.grid, lon, lat)
    inside = row >= 0
    shape = tuple(len(quantity.positions[a]) for a in quantity.axes)
    values = np.full((lon.size, *shape), np.nan)
    pending = np.ones((lon.size, *shape), bool)
    values[inside] = read_pixels(Reader(session, spec, quantity), row[inside], column[inside])
    filled = read_filled(session, spec, quantity)
    pending[inside] = _pending(spec, quantity, filled.states, row[inside], column[inside])
    labels = {a: tuple(spec.grid.axis(a).labels[p] for p in quantity.positions[a]) for a in quantity.axes}
    whole = Where(whole_window(spec.grid), _regions(spec.grid, row[inside], column[inside]))
    variable = None if quantity.is_expression else spec.variable(quantity.text)
    attrs = {} if variable is None else variable.attrs
    return Series(
        quantity, labels, store.tip, lon, lat, values, ~inside, pending, attributes or {}, filled.gaps(quantity, whole),
        str(attrs.get("long_name", quantity.text)), str(attrs.get("units", "")),
    )  # fmt: skip


def read_pixel(
    session: icechunk.Session,
    spec: CubeSpec,
    states: Mapping[str, npt.NDArray[np.uint8]],
    selection: Selection,
    row: int,
    column: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Values of a variable at one pixel, by the axis values that are selected, as in :class:`Series`; and which of them are not ingested, by the
    ``states`` of slots as the ledger has them.
    """
    quantity = find_quantity(spec, selection, None)
    at = np.array([row]), np.array([column])
    values = read_pixels(Reader(session, spec, quantity), *at)
    return values[0], np.broadcast_to(_pending(spec, quantity, states, *at), values.shape)[0]


def locate(grid: Grid, lon: Array, lat: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row and column of the pixel that holds each point; -1 for points outside the grid. Cells of HEALPix are one row."""
    if isinstance(grid, HealpixGrid):
        cells = np.full(lon.shape, -1, np.int64)
        real = np.isfinite(lon) & (np.abs(lat) <= 90)
        lon, lat = lon[real], lat[real]
        cells[real] = grid.locate(np.where(np.abs(lon) > 360, lon % 360, lon), lat)
        return np.where(cells < 0, -1, 0), cells
    assert isinstance(grid, TilingGrid)
    crs = parse_crs(grid.crs)
    x, y = mapper(parse_crs(LON_LAT), crs)(lon, lat)
    x, y = np.asarray(x, float), np.asarray(y, float)
    left, _, right, _ = grid.bounds()
    with np.errstate(invalid="ignore"):
        if crs.is_geographic:
            x = np.where((x >= left) & (x < right), x, left + (x - left) % 360)
        places = []
        for at, origin, step, n in (
            (y, grid.origin_y, grid.resolution_y, grid.shape_yx[0]),
            (x, grid.origin_x, grid.resolution_x, grid.shape_yx[1]),
        ):
            place = (at - float(origin)) / float(step)
            edge = np.rint(place)
            place = np.floor(np.where(np.abs(place - edge) < float(ROUNDING_PX), edge, place))
            places.append(np.where(np.isfinite(place) & (place >= 0) & (place < n), place, -1).astype(np.int64))
    outside = (places[0] < 0) | (places[1] < 0)
    return np.where(outside, -1, places[0]), np.where(outside, -1, places[1])


def _regions(grid: Grid, row: Array, column: Array) -> frozenset[tuple[int, int]]:
    ry, rx = grid.plane_region_yx
    return frozenset((int(a), int(b)) for a, b in np.unique(np.stack([row // ry, column // rx], axis=1), axis=0))


def read_pixels(reader: Reader, row: Array, column: Array) -> npt.NDArray[np.float64]:
    """(pixels, axes...) of a quantity at rows and columns of the grid. Each chunk is read once, ``CHUNKS_AT_ONCE`` side by side."""
    spec, quantity = reader.spec, reader.quantity
    if not quantity.is_expression:
        return _read_variable(reader, spec.variable(quantity.text), dict(quantity.positions), row, column)
    columns: dict[str, npt.NDArray[np.float64]] = {}
    band = quantity.band_axis
    for name in quantity.variables:
        variable = spec.variable(name)
        mine = [c for c in quantity.columns if c.variable == name]
        wanted = tuple(sorted({c.position for c in mine if c.position is not None}))
        positions = dict(quantity.positions) | ({} if band is None else {band: wanted})
        found = _read_variable(reader, variable, positions, row, column)
        for c in mine:
            at = None if c.position is None or band is None else 1 + variable.axes.index(band)
            columns[c.name] = found if at is None else np.take(found, wanted.index(c.position or 0), axis=at)
    return reader.evaluate(columns)


def _read_variable(
    reader: Reader, variable: Variable, positions: Mapping[str, tuple[int, ...]], row: Array, column: Array
) -> npt.NDArray[np.float64]:
    spec = reader.spec
    cy, cx = variable.chunk_yx
    across = -(-spec.grid.plane_shape_yx[1] // cx)
    chunk = (row // cy) * across + column // cx
    order = np.argsort(chunk, kind="stable")
    starts = np.flatnonzero(np.diff(chunk[order], prepend=-1))
    groups = np.split(order, starts[1:]) if order.size else []
    out = np.full((row.size, *(len(positions[a]) for a in variable.axes)), np.nan)
    blocks = [list(_blocks(positions[a], variable.chunks[n])) for n, a in enumerate(variable.axes)]

    def read(job: tuple[Array, tuple[tuple[int, ...], ...]]) -> None:
        group, places = job
        rows, columns = row[group], column[group]
        y, x = slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1)
        index = {a: tuple(positions[a][p] for p in part) for a, part in zip(variable.axes, places, strict=True)}
        raw = reader.read_raw(variable, index, y, x)
        picked = to_floats(raw[..., rows - y.start, columns - x.start], variable, spec)
        out[np.ix_(group, *places)] = np.moveaxis(picked, -1, 0)

    with ThreadPoolExecutor(CHUNKS_AT_ONCE) as pool:
        for _ in pool.map(read, itertools.product(groups, itertools.product(*blocks))):
            pass
    return out


def _blocks(positions: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Places among selected positions, by chunk along an axis."""
    for _, group in itertools.groupby(range(len(positions)), key=lambda n: positions[n] // size):
        yield tuple(group)


def _pending(
    spec: CubeSpec, quantity: Quantity, states: Mapping[str, npt.NDArray[np.uint8]], row: Array, column: Array
) -> npt.NDArray[np.bool_]:
    """(points, axes...): where one of the variables has no pixels in the cube."""
    ry, rx = spec.grid.plane_region_yx
    out = np.zeros((row.size, *(len(quantity.positions[a]) for a in quantity.axes)), bool)
    for name in quantity.variables:
        held = states[name] != NOTHING
        variable = spec.variable(name)
        if quantity.band_axis is not None:
            n = variable.axes.index(quantity.band_axis)
            size = spec.grid.axis(quantity.band_axis).block
            wanted = sorted({(c.position or 0) // size for c in quantity.columns})
            held = np.take(held, wanted, axis=n).all(axis=n)
        blocks = [[p // spec.grid.axis(a).block for p in quantity.positions[a]] for a in quantity.axes]
        lattice = held[np.ix_(*blocks, *(range(n) for n in held.shape[-2:]))]
        out |= np.moveaxis(~lattice[..., row // ry, column // rx], -1, 0)
    return out


def plot_series(series: Series, path: Path) -> None:
    """A picture of the first few points' values along the longest axis: a line for each point and other axis value.

    Raises :class:`GridError` for values that have no axis.
    """
    from cubeingest.look import new_figure, save_picture

    if not series.labels:
        raise GridError(f"{series.quantity.text!r} has no axes here: there is nothing to plot")
    along = max(series.labels, key=lambda a: len(series.labels[a]))
    n = list(series.labels).index(along)
    others = [a for a in series.labels if a != along]
    figure = new_figure(7.2, 3.6)
    axes = figure.add_axes((0.1, 0.15, 0.66, 0.76))
    ticks = series.labels[along]
    lines = 0
    for i in range(len(series.lon)):
        values = np.moveaxis(series.values[i], n, -1)
        for at in np.ndindex(*values.shape[:-1]):
            if lines == PICTURE_POINTS:
                break
            what = [f"{series.lon[i]:.4g} {series.lat[i]:.4g}", *(series.labels[a][k] for a, k in zip(others, at, strict=True))]  # fmt: skip
            axes.plot(range(len(ticks)), values[at], marker="o", markersize=3, linewidth=1.2, label=" ".join(what))
            lines += 1
    months = all(len(t) == 10 and t.endswith("-01") for t in ticks)
    texts = [t[:7] for t in ticks] if months else list(ticks)
    step = max(1, -(-len(texts) * (max(map(len, texts)) + 2) // LETTERS))
    axes.set_xticks(range(0, len(texts), step), texts[::step], fontsize=8)
    axes.tick_params(labelsize=8)
    axes.set_ylabel(" ".join(filter(None, [series.title, f"({series.units})" if series.units else ""])), fontsize=9)
    axes.set_xlabel(along, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=8, title="lon lat", title_fontsize=8
    )
    total = (
        series.values[:, ..., 0].size if len(series.labels) == 1 else int(np.prod(series.values.shape)) // len(ticks)
    )
    if total > lines:
        axes.set_title(f"the first {lines} of {total} series", fontsize=8, loc="left")
    save_picture(axes, path)
