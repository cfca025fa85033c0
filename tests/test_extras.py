"""What needs a library that only an extra brings says so in one line, in a process where that library is absent; all else goes on without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cubeingest as ci
from cubeingest.extras import import_extra
from tests.conftest import GRID, Ran, World
from tests.pointfiles import write_as
from tests.test_labelled import spec as labelled_spec
from tests.test_labelled import write as write_netcdf

ABSENT = """\
import os
import sys
from importlib.machinery import PathFinder

absent = set(os.environ["ABSENT"].split())


class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
"""``sitecustomize.py``: Python looks for some packages in vain, in this process and in those that it starts."""

COMMANDS = """\
import json
import os
import sys
from typer.testing import CliRunner
from cubeingest.cli import app

for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
os._exit(0)
"""
"""Commands one after another in one process, which is quicker than one each."""

Commands = Callable[..., list[Ran]]


@pytest.fixture
def without(tmp_path: Path) -> Callable[..., Commands]:
    """``without("h5py")("init grid.yaml", "plan")`` runs commands where these packages are not installed."""

    def absent(*packages: str) -> Commands:
        folder = tmp_path / "site"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(ABSENT, encoding="utf-8")
        env = os.environ | {"PYTHONPATH": str(folder), "ABSENT": " ".join(packages)}
        env.pop("CUBEINGEST_STORE", None)

        def run(*commands: str) -> list[Ran]:
            words = json.dumps([c.split() for c in commands])
            done = subprocess.run(
                [sys.executable, "-c", COMMANDS, words],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return [Ran(*json.loads(line)) for line in done.stdout.splitlines()]

        return run

    return absent


def check_refused(done: Ran, needs: str, extra: str) -> None:
    """One line, and nothing written."""
    assert done.code == 2, done
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.err
    assert f"{needs}: pip install 'cubeingest[{extra}]'" in lines[0], done.err
    assert "Traceback" not in done.err


# ---- pictures -------------------------------------------------------------------------------------------------


def test_pictures_name_matplotlib_and_all_else_goes_on_without(world: World, without: Callable[..., Commands]) -> None:
    pictures = (
        "show grid", "show status", "show map --year 2000", "compute max --over year --output max.png", "compute series --at 3 14 --output s.svg",
    )  # fmt: skip
    others = (
        "init grid.yaml",
        "ingest --html run.html",
        "status --html cube.html",
        "compute max --over year --output max.tif",
    )
    done = without("matplotlib", "PIL")(*others, *pictures)
    assert [d.code for d in done[: len(others)]] == [0, 0, 0, 0], done
    for refused in done[len(others) :]:
        check_refused(refused, "a picture needs matplotlib", "pictures")
    pages = [(world.folder / name).read_text(encoding="utf-8") for name in ("run.html", "cube.html")]
    assert all(
        "There are no pictures of the pixels: a page with them needs pillow: pip install" in page for page in pages
    )


@pytest.mark.slow
def test_demo_goes_the_whole_way_without_a_picture(without: Callable[..., Commands], tmp_path: Path) -> None:
    (done,) = without("matplotlib", "PIL")("demo")
    assert done.code == 0, done.err
    assert "353 of 353 slots equal" in done.err
    assert "picture none: a picture needs matplotlib: pip install 'cubeingest[pictures]'" in " ".join(done.err.split())
    assert not (tmp_path / "cubeingest-demo" / "land.png").exists()
    assert "None" not in done.out


@pytest.mark.parametrize(
    ("attrs", "words"), [("flag_colors: red blue", "colour by name"), ("cmap: magma", "colormap by name")]
)
def test_colours_that_only_matplotlib_knows_become_a_warning(
    attrs: str, words: str, monkeypatch: pytest.MonkeyPatch, make_cube: Callable[[str], ci.Cube]
) -> None:
    from cubeingest.look import Attributes

    flags = "flag_values: [1, 2], flag_meanings: a b, "
    cube = make_cube(
        f"variables: {{v: {{dtype: uint8, fill_value: 0, chunks: {{y: 50, x: 50}}, attrs: {{{flags}{attrs}}}}}}}\n"
    )
    for module in ("matplotlib", "matplotlib.colors"):
        monkeypatch.setitem(sys.modules, module, None)
    (warning,) = Attributes(cube.spec.variables[0]).warnings
    assert f"a {words} needs matplotlib: pip install 'cubeingest[pictures]'" in warning


# ---- the viewer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["starlette", "uvicorn", "matplotlib"])
def test_the_viewer_names_what_it_lacks(world: World, without: Callable[..., Commands], library: str) -> None:
    done = without(library)("init grid.yaml", "view --no-browser --port 0")
    assert done[0].code == 0
    check_refused(done[1], f"the viewer needs {library}", "view")


# ---- netcdf, parquet ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_netcdf_source_names_h5netcdf(tmp_path: Path, without: Callable[..., Commands]) -> None:
    write_netcdf(tmp_path / "t.nc")
    labelled_spec(tmp_path)
    made, *refused = without("h5netcdf", "h5py", "netCDF4")("init grid.yaml", "plan", "ingest")
    assert made.code == 0, made
    for done in refused:
        check_refused(done, "needs h5netcdf", "netcdf")


@pytest.mark.slow
def test_calendar_of_a_climate_model_names_cftime(tmp_path: Path, without: Callable[..., Commands]) -> None:
    labelled_spec(tmp_path, axes="{time: {values: [2000-01-01], calendar: noleap}}")
    (done,) = without("cftime")("init grid.yaml")
    check_refused(done, "calendar 'noleap' needs cftime", "netcdf")


@pytest.mark.slow
def test_table_of_tiles_names_pyarrow(world: World, without: Callable[..., Commands]) -> None:
    names = [f"tiles/2000/{path.name}" for path in sorted((world.folder / "tiles" / "2000").glob("*.tif"))]
    pd.DataFrame({"href": names, "year": 2000}).to_parquet(world.folder / "t.parquet")
    world.write_spec(('{list: "tiles/{year}.txt"}', "{table: t.parquet}"))
    made, *refused = without("pyarrow")("init grid.yaml", "plan", "ingest")
    assert made.code == 0, made
    for done in refused:
        check_refused(done, "t.parquet' needs pyarrow", "parquet")


@pytest.mark.slow
def test_export_as_a_table_names_pyarrow(world: World, without: Callable[..., Commands]) -> None:
    made, filled, refused = without("pyarrow")("init grid.yaml", "ingest", "export --output out --format parquet")
    assert (made.code, filled.code) == (0, 0), filled
    check_refused(refused, "format parquet needs pyarrow", "parquet")
    assert not (world.folder / "out").exists()


# ---- points ---------------------------------------------------------------------------------------------------

POINTS = """\
points: {{tiles: {{glob: "*{suffix}"}}, coordinates: {{x: lon, y: lat}}, columns: {{h: h}}}}
variables: {{n: {{dtype: uint32, fill_value: 0, chunks: {{y: 50, x: 50}}, aggregate: {{count: h}}}}}}
"""

HEALPIX = """\
name: cells
grid: {type: healpix, order: 6, region_order: 2, ellipsoid: WGS84}
variables: {v: {dtype: uint8, fill_value: 0}}
store: ./cells.icechunk
"""


@pytest.mark.slow
def test_grid_of_cells_names_healpix_geo(tmp_path: Path, without: Callable[..., Commands]) -> None:
    (tmp_path / "cells.yaml").write_text(HEALPIX, encoding="utf-8")
    made, done = without("healpix_geo")("init cells.yaml", "plan --bbox 0 0 10 10")
    assert made.code == 0, made
    check_refused(done, "a grid of HEALPix cells needs healpix-geo", "points")


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "library"), [(".h5", "h5py"), (".parquet", "pyarrow"), (".csv", "pyarrow")])
def test_granules_name_the_library_that_reads_them(
    suffix: str, library: str, tmp_path: Path, without: Callable[..., Commands]
) -> None:
    columns = {"lon": np.array([1.0, 2, 3]), "lat": np.array([2.0, 3, 4]), "h": np.array([1.0, 2, 3])}
    write_as(suffix, tmp_path, columns)
    (tmp_path / "points.yaml").write_text(GRID + POINTS.format(suffix=suffix), encoding="utf-8")
    made, *refused = without(library)("init points.yaml", "plan", "ingest")
    assert made.code == 0, made
    for done in refused:
        check_refused(done, f"needs {library}", "points")


# ---- analyze --------------------------------------------------------------------------------------------------


def test_zones_and_points_name_what_reads_them(world: World, without: Callable[..., Commands]) -> None:
    square = '{"type": "Polygon", "coordinates": [[[1, 1], [9, 1], [9, 9], [1, 9], [1, 1]]]}'
    (world.folder / "zones.geojson").write_text(square, encoding="utf-8")
    pd.DataFrame({"lon": [3.0], "lat": [14.0]}).to_parquet(world.folder / "p.parquet")
    made, filled, zonal, points, table = without("exactextract", "pyarrow")(
        "init grid.yaml",
        "ingest",
        "compute zonal zones.geojson --year 2000",
        "compute series --points p.parquet",
        "compute series --at 3 14 --output s.parquet",
    )
    assert (made.code, filled.code) == (0, 0), filled
    check_refused(zonal, "statistics of polygons needs exactextract", "analyze")
    check_refused(points, "reading Parquet needs pyarrow", "analyze")
    check_refused(table, "writing Parquet needs pyarrow", "analyze")


# ---- object stores --------------------------------------------------------------------------------------------

STORES = [("s3", "s3fs", "s3"), ("az", "adlfs", "azure"), ("gs", "gcsfs", "gcs")]
READ_BY_WEB = {("gs", "href")}
"""Public tiles of Google's are read by their web addresses, for which nothing more is needed."""


def test_files_in_object_stores_name_their_library_before_any_is_asked_for(
    world: World, without: Callable[..., Commands]
) -> None:
    commands = []
    for scheme, _, _ in STORES:
        globbed = world.write_spec(('{list: "tiles/{year}.txt"}', f'{{glob: "{scheme}://bucket/{{year}}/*.tif"}}'))
        globbed.rename(world.folder / f"glob-{scheme}.yaml")
        world.write_spec(("href: tiles/", f"href: {scheme}://bucket/")).rename(world.folder / f"href-{scheme}.yaml")
        commands.append(f"init {scheme}://bucket/grid.yaml")
        for way in ("glob", "href"):
            store = f"{way}-{scheme}.icechunk"
            commands.append(f"init {way}-{scheme}.yaml --store {store}")
            if (scheme, way) not in READ_BY_WEB:
                commands += [f"plan --store {store}", f"ingest --store {store}"]
    done = iter(without("s3fs", "adlfs", "gcsfs")(*commands))
    for scheme, library, extra in STORES:
        needs = f"reading {scheme}:// needs {library}"
        check_refused(next(done), needs, extra)
        for way in ("glob", "href"):
            made = next(done)
            assert made.code == 0, made
            if (scheme, way) not in READ_BY_WEB:
                check_refused(next(done), needs, extra)
                check_refused(next(done), needs, extra)


# ---- the line -------------------------------------------------------------------------------------------------


def test_broken_library_is_told_from_an_absent_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_one.py").write_text("import nothing_like_it", encoding="utf-8")
    (tmp_path / "broken_two.py").write_text("raise ImportError('libx.so is\\ntoo old')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for module, words in (
        ("absent_one", "a thing needs absent-one: pip install 'cubeingest[x]'"),
        (
            "broken_one",
            "a thing needs broken-one, which cannot be imported (No module named 'nothing_like_it'): pip install 'cubeingest[x]'",
        ),
        (
            "broken_two",
            "a thing needs broken-two, which cannot be imported (libx.so is too old): pip install 'cubeingest[x]'",
        ),
    ):
        with pytest.raises(ci.ExtraError) as refused:
            import_extra(module, "x", "a thing")
        assert str(refused.value) == words
