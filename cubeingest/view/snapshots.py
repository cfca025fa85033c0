"""One snapshot of a cube, opened: its arrays and overviews, which regions these lack, and what there is to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.ledger import NOTHING, read_states
from cubeingest.look import Attributes
from cubeingest.look.samples import SparseArray
from cubeingest.overviews import Level, current_slots, levels_of
from cubeingest.spec import CubeSpec, Variable
from cubeingest.store import Store
from cubeingest.view.composite import Composite, Index, find_composite
from cubeingest.view.kept import Kept
from cubeingest.view.lattice import Lattice, lattices_of

if TYPE_CHECKING:
    import numpy.typing as npt

ARRAYS = 64
"""Arrays of one axis position that are kept open, with what is known of their chunks."""


class Snapshot:
    """A cube as it was; every thread may read it. Raises :class:`StoreError` if it cannot be read."""

    def __init__(self, store: Store) -> None:
        self.store, self.id = store, store.tip
        self.spec: CubeSpec = store.spec
        self.session = store.readonly()
        self._arrays: Kept[SparseArray] = Kept(ARRAYS)
        self._once: Kept[Any] = Kept(1000)

    # ---- what it holds -------------------------------------------------------------------------------------------

    @cached_property
    def lattices(self) -> dict[str, Lattice]:
        """By name; the one that suits it first."""
        if self.spec.healpix is None:
            found = lattices_of(self.spec.grid)
        else:
            done = sum(self.held(v).astype(np.int64) for v in self.spec.variables)
            places = {(0, int(ix)) for ix in np.flatnonzero(np.asarray(done).ravel())}
            found = lattices_of(self.spec.grid, places or None)
        return {lattice.name: lattice for lattice in found}

    @property
    def states(self) -> Mapping[str, npt.NDArray[np.uint8]]:
        """The state of every slot, by variable."""
        return self._once.get("states", lambda: read_states(self.session, self.spec))  # type: ignore[no-any-return]

    def held(self, variable: Variable) -> npt.NDArray[np.bool_]:
        """Whether a variable's region (iy, ix) is done at any axis value."""
        held: npt.NDArray[np.bool_] = self.states[variable.name] != NOTHING
        return held.reshape(-1, *held.shape[-2:]).any(axis=0)

    def levels(self, variable: Variable) -> dict[int, Level]:
        """The overviews that a variable has, by number, finest first."""

        def find() -> dict[str, dict[int, Level]]:
            import zarr

            with self.store.asking():
                root = zarr.open_group(self.session.store, mode="r")
                return {
                    v.name: {
                        level.number: level
                        for level in levels_of(self.session, self.spec)
                        if v.name in {w.name for w in level.spec.variables} and level.path(v.name) in root
                    }
                    for v in self.spec.variables
                }

        return self._once.get("levels", find)[variable.name]  # type: ignore[no-any-return]

    def behind(self, variable: Variable, index: Index) -> npt.NDArray[np.uint8]:
        """States of regions (iy, ix) that the overviews do not hold as they are now; ``NOTHING`` where they do."""

        def find() -> dict[str, npt.NDArray[np.uint8]]:
            with self.store.asking():
                current = current_slots(self.session, self.spec)
            return {name: np.where(held, NOTHING, self.states[name]) for name, held in current.items()}

        blocks = tuple(i // a.block for i, a in zip(index, self.spec.axes_of(variable), strict=True))
        behind: npt.NDArray[np.uint8] = self._once.get("behind", find)[variable.name][blocks]
        return behind

    def array(self, variable: Variable, index: Index, number: int = 0) -> SparseArray:
        """A variable of a grid of pixels at an axis position, or its overview ``number``."""

        def make() -> SparseArray:
            if not number:
                shape = self.spec.shape_of(variable)[-2:]
                return SparseArray(self.session, variable.name, variable, index, shape)
            level = self.levels(variable)[number]
            own = level.spec.variable(variable.name)
            return SparseArray(self.session, level.path(variable.name), own, index, level.spec.shape_of(own)[-2:])

        return self._arrays.get((variable.name, index, number), make)

    def scattered(self, variable: Variable, number: int = 0) -> Variable:
        """A variable of HEALPix cells, or its overview ``number``, as ``look.scattered`` reads it: its name is its path."""
        if not number:
            return variable
        level = self.levels(variable)[number]
        return replace(level.spec.variable(variable.name), name=level.path(variable.name))

    def composite(self, variable: Variable) -> Composite | None:
        """Red, green and blue of a variable, if it has them."""
        return find_composite(self.spec, variable)

    # ---- what there is to choose from ----------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        spec = self.spec
        lattices = [{**lattice.to_json(), "view": self._view(lattice)} for lattice in self.lattices.values()]
        return {
            "snapshot": self.id,
            "name": spec.name,
            "variables": [
                {
                    "name": v.name, "title": Attributes(v).title, "dtype": v.dtype, "axes": list(v.axes),
                    "levels": len(self.levels(v)), "first": self._first(v), "composite": self._composite(v),
                }
                for v in spec.variables
            ],
            "axes": [{"name": a.name, "labels": list(a.labels)} for a in spec.grid.axes],
            "lattices": lattices,
            "attrs": {k: str(v)[:300] for k, v in spec.attrs.items() if isinstance(v, str | int | float)},
        }  # fmt: skip

    def _composite(self, variable: Variable) -> dict[str, Any] | None:
        """The axis whose red, green and blue can be seen together, and where on it these are."""
        found = self.composite(variable)
        return None if found is None else {"axis": variable.axes[found.axis], "positions": list(found.positions)}

    def _first(self, variable: Variable) -> dict[str, int]:
        """The first position on each axis of a variable at which something is done."""
        held = (self.states[variable.name] != NOTHING).any(axis=(-2, -1))
        axes = self.spec.axes_of(variable)
        at = np.argwhere(held)[0].tolist() if held.any() else [0] * len(axes)
        return {a.name: int(block) * a.block for a, block in zip(axes, at, strict=True)}

    def _view(self, lattice: Lattice) -> list[float]:
        """The pixels that are shown first: [row, column, row, column] around all that is done."""
        rows, columns = lattice.shape_yx
        done = np.zeros(self.spec.grid.lattice_shape_yx, bool)
        for v in self.spec.variables:
            done |= self.held(v)
        if not done.any() or (done.all() and self.spec.healpix is None):
            return [0, 0, rows, columns]
        if self.spec.healpix is None:
            (ry, rx), at = self.spec.tiling.region_shape_yx, np.argwhere(done)
            (y0, x0), (y1, x1) = at.min(axis=0), at.max(axis=0) + 1
            return [int(y0 * ry), int(x0 * rx), int(min(y1 * ry, rows)), int(min(x1 * rx, columns))]
        from cubeingest.boxes import mapper, parse_crs
        from cubeingest.healpix import centres
        from cubeingest.look.fields import parents_of

        grid = self.spec.healpix
        lon, lat = centres(parents_of(grid)[np.flatnonzero(done.ravel())], grid.region_order, grid.ellipsoid)
        room = 60 / 2**grid.region_order
        if lattice.is_geographic:
            x, y = lattice.origin_x + (lon - lattice.origin_x) % 360, lat
        else:
            keep = (lat > 0) == (lattice.name == "north")
            if not keep.any():
                return [rows // 4, columns // 4, rows - rows // 4, columns - columns // 4]
            x, y = mapper(parse_crs("OGC:CRS84"), parse_crs(lattice.crs))(lon[keep], lat[keep])
            room *= 111_195.0
        xs = np.clip((np.array([x.min() - room, x.max() + room]) - lattice.origin_x) / lattice.step_x, 0, columns)
        ys = np.clip((np.array([y.max() + room, y.min() - room]) - lattice.origin_y) / lattice.step_y, 0, rows)
        return [float(ys[0]), float(xs[0]), float(ys[1]), float(xs[1])]
