"""What is computed from: pixels of a variable, or an expression over variables or over the values of an axis of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import Axis
from cubeingest.errors import GridError
from cubeingest.expressions import Expression, parse_expression
from cubeingest.selection import Selection, find_positions
from cubeingest.spec import CLASS_ATTRS, COMPUTED_ATTR, CubeSpec, Variable
from cubeingest.store import open_array, read_window

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

Array = np.ndarray[Any, Any]

Index = Mapping[str, tuple[int, ...]]
"""Positions by axis, those of each axis within one axis block."""


@dataclass(frozen=True)
class Column:
    """A name in an expression: a variable, or one of it at ``position`` of the axis whose values are names."""

    name: str
    variable: str
    position: int | None = None


@dataclass(frozen=True)
class Quantity:
    """What is computed from. ``text`` is a variable's name, or an expression if ``is_expression``.

    ``axes`` are those that it has, in the order of the cube: an expression over the values of ``band_axis`` has that no more.
    ``positions`` are those that are selected, by axis.
    """

    text: str
    columns: tuple[Column, ...]
    axes: tuple[str, ...]
    positions: Mapping[str, tuple[int, ...]]
    is_expression: bool = False
    band_axis: str | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables that are read."""
        return tuple(dict.fromkeys(c.variable for c in self.columns))

    def written(self, spec: CubeSpec) -> tuple[int, int]:
        """Rows and columns that the chunks of all its variables fill whole, as far as one is a multiple of the others."""
        chunks = [spec.variable(name).chunk_yx for name in self.variables]
        return max(c[0] for c in chunks), max(c[1] for c in chunks)

    def blocks(self, axis: Axis) -> list[tuple[int, ...]]:
        """The selected positions of an axis, by axis block."""
        out: dict[int, list[int]] = {}
        for position in self.positions[axis.name]:
            out.setdefault(position // axis.block, []).append(position)
        return [tuple(v) for v in out.values()]


def find_quantity(spec: CubeSpec, selection: Selection, expression: str | None = None) -> Quantity:
    """What a selection and an expression mean: without one, the variable that is selected, or the only one that `compute` did not make.

    Names in an expression are variables, or else labels of an axis of texts (``band``). Raises :class:`GridError` if it is not
    clear what is meant, or the cube does not have it; and for an expression that is none.
    """
    positions = {
        axis.name: find_positions(axis, selection.axes[axis.name]) if axis.name in selection.axes else tuple(range(axis.size))
        for axis in spec.grid.axes
    }  # fmt: skip
    for name in selection.axes:
        spec.grid.axis(name)
    chosen = tuple(spec.variable(name) for name in dict.fromkeys(selection.variables)) or given_variables(spec)
    if expression is None:
        if len(chosen) > 1:
            names = ", ".join(v.name for v in chosen)
            raise GridError(f"which variable? Say one of {names} with --variable, or compute with several by --expr")
        axes = chosen[0].axes
        return Quantity(
            chosen[0].name, (Column(chosen[0].name, chosen[0].name),), axes, {a: positions[a] for a in axes}
        )
    return _of_expression(spec, expression, chosen, positions, bool(selection.variables))


def given_variables(spec: CubeSpec) -> tuple[Variable, ...]:
    """The variables that `compute` did not make: a command that added one means the same afterwards."""
    return tuple(v for v in spec.variables if COMPUTED_ATTR not in v.attrs) or spec.variables


def _of_expression(
    spec: CubeSpec,
    text: str,
    chosen: Sequence[Variable],
    positions: Mapping[str, tuple[int, ...]],
    is_chosen: bool,
) -> Quantity:
    labels = {label: axis for axis in reversed(spec.grid.axes) if isinstance(axis.values[0], str) for label in axis.labels}  # fmt: skip
    variables = {v.name for v in spec.variables}
    parsed = _parsed(text, (*variables, *labels))
    try:
        parsed.evaluate({name: np.ones(2) for name in parsed.names})
    except ValueError as e:
        raise GridError(f"expression {text!r} cannot be computed: {e}") from None
    names = sorted(parsed.names, key=text.find)
    if not names:
        raise GridError(f"expression {text!r} names no variable, so it is the same everywhere")
    named = [n for n in names if n in variables]
    banded = [n for n in names if n not in variables]
    if named and banded:
        raise GridError(
            f"expression {text!r} mixes variables ({', '.join(named)}) with values of an axis ({', '.join(banded)}): name one kind"
        )
    if named:
        columns = tuple(Column(n, n) for n in named)
        axes = spec.variable(named[0]).axes
        for n in named:
            if spec.variable(n).axes != axes:
                raise GridError(
                    f"expression {text!r}: {named[0]} has axes {', '.join(axes) or 'none'}, {n} has "
                    f"{', '.join(spec.variable(n).axes) or 'none'}: they must have the same"
                )
        return Quantity(text, columns, axes, {a: positions[a] for a in axes}, True)
    found = {labels[n].name for n in banded}
    if len(found) > 1:
        raise GridError(
            f"expression {text!r} names values of several axes ({', '.join(sorted(found))}): name those of one"
        )
    (band,) = found
    of = [v for v in chosen if band in v.axes]
    if len(of) != 1:
        known = ", ".join(v.name for v in of) or ", ".join(v.name for v in chosen)
        what = "has" if is_chosen and not of else "which one?"
        raise GridError(
            f"expression {text!r} is of values of {band}: {'no such axis ' + what if not of else what} ({known}): say --variable NAME"
        )
    axis = spec.grid.axis(band)
    columns = tuple(Column(n, of[0].name, axis.labels.index(n)) for n in banded)
    axes = tuple(a for a in of[0].axes if a != band)
    return Quantity(text, columns, axes, {a: positions[a] for a in axes}, True, band)


def _parsed(text: str, known: Sequence[str]) -> Expression:
    """An expression over ``known`` names. Raises :class:`GridError`."""
    try:
        return parse_expression(text, known)
    except ValueError as e:
        raise GridError(str(e)) from None


class Reader:
    """Reads a quantity from one snapshot, in any thread."""

    def __init__(self, session: icechunk.Session, spec: CubeSpec, quantity: Quantity) -> None:
        self.spec, self.quantity = spec, quantity
        self._arrays = {name: open_array(session, name) for name in quantity.variables}
        self._expression = (
            _parsed(quantity.text, [c.name for c in quantity.columns]) if quantity.is_expression else None
        )

    def read(self, index: Index, y: slice, x: slice) -> tuple[Array, npt.NDArray[np.bool_] | None]:
        """(axes..., y, x) at some positions, and which of them there are; None for all.

        Of an expression they are float64; of a variable as they are stored, if nothing has to be undone.
        """
        if self._expression is None:
            variable = self.spec.variable(self.quantity.text)
            values = self.read_raw(variable, index, y, x)
            return self.valid(variable, values)
        floats = self.read_floats(index, y, x)
        missing = np.isnan(floats)
        return floats, ~missing if missing.any() else None

    def valid(self, variable: Variable, values: Array) -> tuple[Array, npt.NDArray[np.bool_] | None]:
        """Values of a variable as stored, scaled if its spec says so, and which of them there are."""
        missing = is_missing(values, variable)
        values = unscaled(values, variable, self.spec)
        return values, ~missing if missing.any() else None

    def read_floats(self, index: Index, y: slice, x: slice) -> npt.NDArray[np.float64]:
        """(axes..., y, x) as float64, NaN where there is nothing."""
        if self._expression is None:
            variable = self.spec.variable(self.quantity.text)
            return to_floats(self.read_raw(variable, index, y, x), variable, self.spec)
        return self.evaluate(self.read_columns(index, y, x))

    def read_columns(self, index: Index, y: slice, x: slice) -> dict[str, npt.NDArray[np.float64]]:
        """By name in the expression: (axes..., y, x) as float64, NaN where there is nothing. Each chunk is read once."""
        band = self.quantity.band_axis
        out: dict[str, npt.NDArray[np.float64]] = {}
        for name in self.quantity.variables:
            variable = self.spec.variable(name)
            mine = [c for c in self.quantity.columns if c.variable == name]
            if band is None:
                raw = self.read_raw(variable, index, y, x)
                out.update((c.name, to_floats(raw, variable, self.spec)) for c in mine)
                continue
            # One axis block at a time, which is one chunk.
            by_block: dict[int, list[Column]] = {}
            for c in mine:
                assert c.position is not None
                by_block.setdefault(c.position // self.spec.grid.axis(band).block, []).append(c)
            at = variable.axes.index(band)
            for columns in by_block.values():
                wanted = tuple(sorted({c.position for c in columns if c.position is not None}))
                raw = self.read_raw(variable, {**index, band: wanted}, y, x)
                for c in columns:
                    assert c.position is not None
                    out[c.name] = to_floats(np.take(raw, wanted.index(c.position), axis=at), variable, self.spec)
        return out

    def evaluate(self, columns: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """The expression of columns that were read; what is not finite (a division by zero) is missing."""
        assert self._expression is not None
        with np.errstate(all="ignore"):
            values = np.asarray(self._expression.evaluate(columns), np.float64)
        return np.where(np.isfinite(values), values, np.nan)

    def read_raw(self, variable: Variable, index: Index, y: slice, x: slice) -> Array:
        """(axes..., y, x) of a variable as stored; cells of HEALPix are one row."""
        spans, picks = [], []
        for axis in variable.axes:
            positions = index[axis]
            first, last = min(positions), max(positions)
            spans.append(slice(first, last + 1))
            picks.append(None if len(positions) == last + 1 - first else [p - first for p in positions])
        values = read_window(self._arrays[variable.name], spans, y, x)
        for n, pick in enumerate(picks):
            if pick is not None:
                values = np.take(values, pick, axis=n)
        return values

    def array(self, name: str) -> Any:
        """The Zarr array of a variable."""
        return self._arrays[name]


def is_missing(values: Array, variable: Variable) -> npt.NDArray[np.bool_]:
    """Where stored values are the fill value, or NaN."""
    fill = variable.np_fill
    if values.dtype.kind != "f":
        return np.asarray(values == fill)
    missing = np.isnan(values)
    return missing if np.isnan(fill) else missing | (values == fill)


def to_floats(values: Array, variable: Variable, spec: CubeSpec) -> npt.NDArray[np.float64]:
    """Stored values as float64, NaN where they are the fill value; scaled where :func:`unscaled` does."""
    missing = is_missing(values, variable)
    floats = unscaled(values, variable, spec).astype(np.float64)  # a copy
    floats[missing] = np.nan
    return floats


def unscaled(values: Array, variable: Variable, spec: CubeSpec) -> Array:
    """What stored values stand for by CF's ``scale_factor`` and ``add_offset``, in a cube that is read so (``cf_fill``)."""
    if not spec.cf_fill or not is_scaled(variable, spec):
        return values
    scale, offset = (float(variable.attrs.get(k, d)) for k, d in (("scale_factor", 1), ("add_offset", 0)))
    return values.astype(np.float64) * scale + offset


def is_scaled(variable: Variable, spec: CubeSpec) -> bool:
    """Whether readers of the cube see other values of a variable than are stored."""
    return spec.cf_fill and any(k in variable.attrs for k in ("scale_factor", "add_offset"))


def classes_of(variable: Variable) -> dict[int, str]:
    """Names of a variable's classes by value, of CF's ``flag_values`` and ``flag_meanings``; empty where it has none."""
    values, names = variable.attrs.get("flag_values"), variable.attrs.get("flag_meanings")
    if not isinstance(values, list | tuple) or not isinstance(names, str | list | tuple):
        return {}
    words = names.split() if isinstance(names, str) else [str(n) for n in names]
    return {int(v): w.replace("_", " ") for v, w in zip(values, words, strict=False)}


def is_classes(variable: Variable) -> bool:
    """Whether a variable says of itself that its values are classes."""
    return any(k in variable.attrs for k in CLASS_ATTRS)
