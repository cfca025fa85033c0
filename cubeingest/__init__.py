"""Turn a pile of raster tiles into one analysis-ready, versioned datacube.

>>> import cubeingest as ci
>>> grid = ci.read_spec("glad-lclu").grid
>>> grid.region("70N_180W", year=2000)
{'year': slice(0, 1, None), 'y': slice(40000, 80000, None), 'x': slice(0, 40000, None)}
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from cubeingest.axes import Axis as Axis
    from cubeingest.cube import Cube as Cube
    from cubeingest.cube import init as init
    from cubeingest.cube import open as open  # noqa: A004
    from cubeingest.errors import CatalogError as CatalogError
    from cubeingest.errors import CubeIngestError as CubeIngestError
    from cubeingest.errors import ExtraError as ExtraError
    from cubeingest.errors import FunctionError as FunctionError
    from cubeingest.errors import GridError as GridError
    from cubeingest.errors import SpecError as SpecError
    from cubeingest.errors import StoreError as StoreError
    from cubeingest.errors import TileError as TileError
    from cubeingest.errors import WorkerError as WorkerError
    from cubeingest.grid import HealpixGrid as HealpixGrid
    from cubeingest.grid import TilingGrid as TilingGrid
    from cubeingest.inference import infer as infer
    from cubeingest.ingest import register_statistic as register_statistic
    from cubeingest.look import show_grid as show_grid
    from cubeingest.spec import CubeSpec as CubeSpec
    from cubeingest.spec import read_spec as read_spec

_HOMES = {
    "cube": ("Cube", "init", "open"),
    "errors": (
        "CatalogError",
        "CubeIngestError",
        "ExtraError",
        "FunctionError",
        "GridError",
        "SpecError",
        "StoreError",
        "TileError",
        "WorkerError",
    ),
    "axes": ("Axis",),
    "grid": ("HealpixGrid", "TilingGrid"),
    "inference": ("infer",),
    "ingest": ("register_statistic",),
    "look": ("show_grid",),
    "spec": ("CubeSpec", "read_spec"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604  (names are loaded when they are asked for)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that ``cubeingest --help`` need not wait for xarray."""
    if name == "__version__":
        from importlib.metadata import version

        return globals().setdefault(name, version("cubeingest"))  # kept: finding it takes milliseconds
    if name not in _HOME_OF:
        raise AttributeError(f"module 'cubeingest' has no attribute {name!r}")
    return getattr(import_module(f"cubeingest.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
