"""The notebooks of ``examples/`` run from top to bottom, and say nothing that a reader need not see."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
import rasterio
from nbclient import NotebookClient
from rasterio.windows import from_bounds

EXAMPLES = Path(__file__).parent.parent / "examples"
LAND = EXAMPLES.parent / "cubeingest" / "data" / "land.tif"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))

LARGEST_BYTES = 20_000


def run_notebook(name: str, folder: Path) -> Any:
    """Execute a notebook in ``folder``; the value of its last cell. Fails where a cell raises, or writes to stderr."""
    book = nbformat.read(EXAMPLES / name, as_version=4)
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [o for cell in book.cells if cell.cell_type == "code" for o in cell.outputs]
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 3
    assert all(len(o.data["image/png"]) > 10_000 for o in pictures)
    assert sum("text/html" in o.get("data", {}) for o in outputs) >= 2  # the cube, its dataset
    return ast.literal_eval(outputs[-1].data["text/plain"])


@pytest.mark.slow
def test_notebook_goes_from_tiles_to_two_versions_of_a_cube(tmp_path: Path) -> None:
    last = run_notebook("tiles_to_cube.ipynb", tmp_path)
    with rasterio.open(LAND) as raster:
        right = raster.read(1, window=from_bounds(-15, 35, 35, 65, raster.transform)).astype(float)
    right[right == 255] = 0
    upside_down = right.copy()
    kattegat = (slice(120, 240), slice(600, 720))
    upside_down[kattegat] = right[kattegat][::-1]
    km2 = (111.2 / 24) ** 2 * np.cos(np.radians(65 - (np.arange(720) + 0.5) / 24))[:, np.newaxis]
    area = {"v1": (upside_down / 100 * km2).sum(), "v2": (right / 100 * km2).sum()}
    assert last == {**{name: pytest.approx(value, abs=1) for name, value in area.items()}, "regions that differ": 1}


@pytest.mark.slow
def test_notebook_goes_from_points_to_cells(tmp_path: Path) -> None:
    from healpix_geo import nested

    last = run_notebook("points_to_healpix.ipynb", tmp_path)
    places = pd.read_csv(tmp_path / "places-notebook" / "places.csv")
    cells = nested.lonlat_to_healpix(places["lon"].to_numpy(), places["lat"].to_numpy(), 6, ellipsoid="WGS84")
    counts = np.bincount(cells.astype("int64"), minlength=12 * 4**6)
    (paris,) = nested.lonlat_to_healpix(np.array([2.35]), np.array([48.86]), 6, ellipsoid="WGS84")
    assert last == {"places around Paris": counts[int(paris)], "the densest cell": counts.max(), "all": len(places)}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebook_is_small_and_holds_no_outputs(path: Path) -> None:
    assert path.stat().st_size < LARGEST_BYTES
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert set(book.metadata) == {"kernelspec", "language_info"}
    for cell in book.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
