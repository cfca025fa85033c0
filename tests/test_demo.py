"""The demo and the full mask of land, run as a user would."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

import cubeingest as ci
from tests.conftest import Ran

ROOT = Path(__file__).parent.parent


def check_picture(path: Path) -> None:
    """Land is green and sea is blue: much of a row through the Sahara is land, little of one through Tasmania."""
    import matplotlib.image

    image = matplotlib.image.imread(path)[..., :3]
    assert image.shape[1] > 1500
    green = image[..., 1] > image[..., 2]
    rows = np.flatnonzero(green.any(axis=1))
    height = rows[-1] - rows[0]
    assert green[rows[0] + int(0.4 * height)].mean() > 3 * green[rows[0] + int(0.92 * height)].mean() > 0


@pytest.mark.slow
def test_demo_goes_the_whole_way_and_its_cube_is_the_land(tmp_path: Path, run: Callable[..., Ran]) -> None:
    done = run("demo", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    report = done.json
    assert report["ingest"]["written"] == report["status"]["done"] == report["verify"]["equal"] == 353
    with rasterio.open(ROOT / "cubeingest" / "data" / "land.tif") as land:
        whole = land.read(1)
    held = ci.open(report["store"]).dataset()["land"].values
    assert np.array_equal(np.where(held == 255, 0, held), whole)
    assert ((held == 255) <= (whole == 0)).all()
    assert "353 slots written" in done.err
    check_picture(tmp_path / report["picture"])
    again = run("demo", cwd=tmp_path)
    assert again.code == 0
    assert "0 slots written" in again.err
    assert "ci.open(" in again.out


@pytest.mark.slow
def test_full_mask_example_becomes_a_cube(tmp_path: Path, run: Callable[..., Ran]) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "glad_names_full_30s.py"))
    names = example["cut_mask"](tmp_path)
    assert len(names) == 463
    assert run("init", "land-30s.yaml", cwd=tmp_path).code == 0
    assert run("ingest", "--json", cwd=tmp_path).json["written"] == 463
    land = ci.open(tmp_path / "land-30s.icechunk").dataset()["land"]
    from importlib.metadata import distribution

    path = distribution("global-land-mask").locate_file("global_land_mask/globe_combined_mask_compressed.npz")
    with np.load(str(path)) as arrays:
        mask = ~arrays["mask"]
    part = (slice(6000, 9000), slice(20000, 26000))
    assert np.array_equal(land.values[part] == 1, mask[part])


def test_help_has_a_place_for_every_command() -> None:
    import typer

    from cubeingest.cli import app
    from cubeingest.cli.app import ORDER

    assert sorted(ORDER) == sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
