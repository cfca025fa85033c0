"""The pixels of a quicklook: from overviews where the cube has them, else thinned from the full resolution, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import GridError
from cubeingest.ledger import EMPTY, NOTHING, read_states
from cubeingest.look.samples import WORTH_SAYING_SECONDS, SparseArray, Window, place_samples
from cubeingest.overviews import current_slots, levels_of
from cubeingest.spec import CubeSpec, Variable
from cubeingest.store import Store
from cubeingest.wording import counted

if TYPE_CHECKING:
    import numpy.typing as npt
    import zarr

Array = np.ndarray[Any, Any]

MAX_PIXELS = 2000
"""Pixels along the longer side of a picture: what a screen shows."""

MOST_SECONDS = 6.0
"""How long a picture may take to read from the full resolution, as `samples.py` counts; beyond it is thinned further."""

LEAST_PIXELS = 200
"""Pixels along the longer side that a picture keeps all the same: with fewer it would show nothing, least of all if chunks are large."""


@dataclass(frozen=True)
class Picture:
    """Pixels of a variable, thinned.

    ``pixels`` are in the variable's dtype, (y, x) in the order of the cube, with the fill value where there is nothing. Each stands for
    ``step`` × ``step`` pixels of the cube; all for its ``window``, which may reach past the grid's end by part of a step.
    ``note`` says how they were read; empty if there is nothing to say.
    """

    pixels: Array
    window: Window
    step: int
    note: str = ""


class PixelReader:
    """Reads pictures of one snapshot of a cube; what is asked for again and again is read once."""

    def __init__(self, store: Store) -> None:
        self.store = store.on(store.branch, store.tip)
        self.spec = self.store.spec
        self._session = self.store.readonly()

    def read(
        self,
        variable: Variable,
        position: Mapping[str, int] | None = None,
        window: Window | None = None,
        max_pixels: int = MAX_PIXELS,
        longest: int | None = None,
    ) -> Picture:
        """Pixels of ``variable`` within a ``window`` of the grid (all of it by default), at a position on each axis (the first by default).

        Along its longer side the picture has about ``max_pixels``, from overviews less than twice as many; ``longest`` is that side of a
        view that the window is only part of. What would take long to read from the full resolution is thinned further, and the
        picture's note says so. Memory is a few chunks besides the picture. Raises :class:`GridError` for a position or window that
        there is not, :class:`StoreError` if pixels cannot be read.
        """
        index = self._index(variable, position or {})
        window = self._window(window)
        longest = longest or max(s.stop - s.start for s in window)
        with self.store.asking():
            wanted = (longest // max_pixels).bit_length() - 1
            fitting = {n: path for n, path in self._paths(variable).items() if n <= wanted}
            held = [n for n, path in fitting.items() if path in self._root]
            if held:
                picture = self._from_overviews(variable, index, window, wanted, max(held))
            else:
                picture = self._from_base(variable, index, window, -(-longest // max_pixels))
        best = max(fitting, default=0)
        if best in held or not best:
            return picture
        lost = f"{fitting[best]} is lost: `cubeingest overviews` makes it again"
        return replace(picture, note=", ".join(filter(None, (picture.note, lost))))

    def has_overviews(self, variable: Variable) -> bool:
        """Whether pictures of a variable come from overviews, but for what these lack."""
        with self.store.asking():
            return any(path in self._root for path in self._paths(variable).values())

    def _paths(self, variable: Variable) -> dict[int, str]:
        """Where the overviews of a variable should be, by number."""
        held = self._levels.items()
        return {n: path(variable.name) for n, (spec, path) in held if variable.name in {v.name for v in spec.variables}}

    def _from_base(self, variable: Variable, index: tuple[int, ...], window: Window, step: int) -> Picture:
        source = SparseArray(self._session, variable.name, variable, index, self.spec.shape_of(variable)[-2:])
        finer, longest = step, max(s.stop - s.start for s in window)
        while (
            step * LEAST_PIXELS < longest
            and source.seconds(place_samples(window, step, source.shape_yx)) > MOST_SECONDS
        ):
            step += max(1, step // 5)
        samples = place_samples(window, step, source.shape_yx)
        notes = [f"every {_ordinal(step)} pixel"] * (step > 1)
        if step > finer or source.seconds(samples) > WORTH_SAYING_SECONDS:
            better = "sharp and quick" if step > finer else "quick"
            notes.append(f"read from the full resolution: `cubeingest overviews` makes it {better}")
        return Picture(source.read(samples), _covered(window, step), step, ", ".join(notes))

    def _from_overviews(
        self, variable: Variable, index: tuple[int, ...], window: Window, wanted: int, number: int
    ) -> Picture:
        """Of 2 to the power of ``wanted`` pixels each, from overview ``number``; slots that it does not hold as they are now come from the base."""
        step = 2**wanted
        spec, path = self._levels[number]
        level = spec.variable(variable.name)
        coarse = SparseArray(self._session, path(variable.name), level, index, spec.shape_of(level)[-2:])
        y, x = (slice(s.start >> number, -(-s.stop >> number)) for s in window)
        longest = max(s.stop - s.start for s in window)
        while (
            step * LEAST_PIXELS < longest
            and coarse.seconds(place_samples((y, x), step >> number, coarse.shape_yx)) > MOST_SECONDS
        ):
            step *= 2  # the cube has no level that is coarse enough
        pixels = coarse.read(place_samples((y, x), step >> number, coarse.shape_yx))
        base = SparseArray(self._session, variable.name, variable, index, self.spec.shape_of(variable)[-2:])
        samples = place_samples(window, step, base.shape_yx)
        behind = self._behind(variable, index)
        todo = []
        for iy, ix in np.argwhere(behind != NOTHING).tolist():
            at = samples.at(self.spec.tiling.slices(iy, ix))
            if at[0].start < at[0].stop and at[1].start < at[1].stop:
                pixels[at] = variable.np_fill
                if behind[iy, ix] != EMPTY:
                    todo.append((at, samples.part(at)))
        if sum(base.seconds(part) for _, part in todo) > MOST_SECONDS:
            return self._from_base(variable, index, window, step)
        for at, part in todo:
            pixels[at] = base.read(part)
        note = f"from overview {number}" + (
            f", {counted(len(todo), 'region')} from the full resolution" if todo else ""
        )
        return Picture(pixels, _covered(window, step), step, note)

    @cached_property
    def _levels(self) -> dict[int, tuple[CubeSpec, Any]]:
        """Overviews by number: (the spec of its arrays, their path by variable)."""
        return {level.number: (level.spec, level.path) for level in levels_of(self._session, self.spec)}

    @cached_property
    def _root(self) -> zarr.Group:
        """The group of the cube."""
        import zarr

        return zarr.open_group(self._session.store, mode="r")

    @cached_property
    def _slots_behind(self) -> dict[str, npt.NDArray[np.uint8]]:
        """By variable, the states of those slots that the overviews do not hold as they are now."""
        current, states = current_slots(self._session, self.spec), read_states(self._session, self.spec)
        return {name: np.where(held, NOTHING, states[name]) for name, held in current.items()}

    def _behind(self, variable: Variable, index: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        block = tuple(i // a.block for i, a in zip(index, self.spec.axes_of(variable), strict=True))
        behind: npt.NDArray[np.uint8] = self._slots_behind[variable.name][block]
        return behind

    def _index(self, variable: Variable, position: Mapping[str, int]) -> tuple[int, ...]:
        out = tuple(position.get(name, 0) for name in variable.axes)
        for i, axis in zip(out, self.spec.axes_of(variable), strict=True):
            if not 0 <= i < axis.size:
                raise GridError(
                    f"axis {axis.name!r} of {variable.name!r} has {axis.size} values, so no position {i}: the first is 0"
                )
        return out

    def _window(self, window: Window | None) -> Window:
        ny, nx = self.spec.tiling.shape_yx
        y, x = window or (slice(0, ny), slice(0, nx))
        if not (0 <= y.start < y.stop <= ny and 0 <= x.start < x.stop <= nx):
            raise GridError(
                f"window y {y.start}:{y.stop}, x {x.start}:{x.stop} is not within the grid's {ny} x {nx} pixels"
            )
        return y, x


def _covered(window: Window, step: int) -> Window:
    y, x = (slice(s.start // step * step, -(-s.stop // step) * step) for s in window)
    return y, x


def _ordinal(n: int) -> str:
    last = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{last}"
