"""Cubes that a Python function fills: done once, on workers, beside tiles, verified, published; the example."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

import cubeingest as ci
from cubeingest.errors import CatalogError
from cubeingest.ingest.function import FunctionSource, function_source
from tests.conftest import Ran, World
from tests.test_check import change
from tests.test_engine import cluster, finish, started
from tests.test_function import NUMBER, PLACE, YEARS, Panic, is_sound, number, records, some_variable

Invoke = Callable[..., Ran]
Make = Callable[[str], ci.Cube]
ROOT = Path(__file__).parent.parent


# ---- running it again -----------------------------------------------------------------------------------------


def twice(geobox: Any, factor: int = 2) -> Any:
    return number(geobox) * factor


def times(factor: Any) -> Callable[[Any], Any]:
    def f(geobox: Any) -> Any:
        return number(geobox) * int(np.sum(factor))

    return f


class Scaled:
    """A function with a memory of its own."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, geobox: Any) -> Any:
        return number(geobox) * self.factor

    def method(self, geobox: Any) -> Any:
        return self(geobox)


def test_same_code_is_skipped_and_other_code_is_not(make_cube: Make) -> None:
    cube = make_cube(NUMBER)
    assert cube.ingest(source=twice, limit=4).written == 4
    again = cube.ingest(source=twice)
    assert (again.written, again.skipped, again.planned) == (2, 4, 6)
    tip = cube.store.tip
    assert (cube.ingest(source=twice).skipped, cube.store.tip) == (6, tip)
    assert cube.ingest(source=twice, redo=True, region="y0_x0").written == 1
    assert cube.ingest(source=number).written == 6
    assert np.array_equal(cube.dataset()["number"], PLACE)


@pytest.mark.parametrize(("one", "other", "name"), [
    (partial(twice, factor=3), partial(twice, factor=4), "twice"),
    (times(3), times(4), "times.<locals>.f"),
    (times(np.array([1, 2])), times(np.array([1, 3])), "times.<locals>.f"),
    (times((1, 2)), times({1, 3}), "times.<locals>.f"),
    (lambda g, k=3: number(g) * k, lambda g, k=4: number(g) * k, "<lambda>"),
    (partial(partial(twice), factor=3), partial(partial(twice), factor=4), "twice"),
])  # fmt: skip
def test_what_a_function_captures_tells_it_apart(one: Any, other: Any, name: str) -> None:
    sources = [function_source(f, (_without_axes(),)) for f in (one, one, other)]
    assert sources[0].href == f"python:tests.test_computed.{name}"
    assert sources[0].stamp == sources[1].stamp != sources[2].stamp
    assert len(sources[0].stamp) == 32


def _without_axes() -> Any:
    from dataclasses import replace

    return replace(some_variable("int32"), axes=())


def test_names_of_callables_that_are_no_functions() -> None:
    v = (_without_axes(),)
    assert function_source(Scaled(2), v).href == "python:tests.test_computed.Scaled"
    assert function_source(Scaled(2), v).stamp == function_source(Scaled(2), v).stamp  # no address in it
    assert function_source(Scaled(2).method, v).href == "python:tests.test_computed.Scaled.method"
    names: dict[str, Any] = {}
    exec(compile("def typed(geobox): return None", "<typed>", "exec"), names)
    source = function_source(names["typed"], v)
    assert (source.href, source.stamp) == ("python:typed", "")


def test_edited_module_is_noticed(make_cube: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = make_cube(NUMBER)
    file = tmp_path / "my_risk.py"
    monkeypatch.syspath_prepend(tmp_path)
    for value, written in ((1, 6), (1, 0), (2, 6)):
        file.write_text(
            f"import numpy as np\ndef risk(geobox):\n    return np.full(geobox.shape, {value}){' ' * value}\n"
        )
        sys.modules.pop("my_risk", None)
        import my_risk  # type: ignore[import-not-found]

        assert cube.ingest(source=my_risk.risk).written == written
        assert (cube.dataset()["number"] == value).all()
    assert {r.sources[0].href for r in records(cube)} == {"python:my_risk.risk"}


# ---- independent mode, parts, workers -------------------------------------------------------------------------


def test_independent_parts_cover_everything(make_cube: Make) -> None:
    cube = make_cube(YEARS + NUMBER)

    def f(geobox: Any, year: int) -> Any:
        if year == 2005 and geobox.affine.c == 20:
            raise Panic("there")
        return number(geobox, year=year)

    reports = [cube.ingest(source=f, mode="independent", commit_every=3, part=(k, 2)) for k in (1, 2)]
    assert [sum(getattr(r, name) for r in reports) for name in ("planned", "written", "skipped")] == [12, 10, 0]
    assert [f.error.partition(" (")[0] for r in reports for f in r.failed] == ["Panic: there"] * 2
    assert 4 <= len([c for c in cube.history() if c.details["action"] == "ingest"]) <= 6
    again = cube.ingest(source=f, mode="independent")
    assert (again.written, again.skipped, len(again.failed)) == (0, 10, 2)
    assert cube.verify().equal == 10
    assert is_sound(cube)


@pytest.mark.slow
def test_local_workers_are_sent_a_closure_and_one_that_dies_is_replaced(make_cube: Make, tmp_path: Path) -> None:
    """The worker kills itself once, inside the function; what it computes is lazy."""
    cube = make_cube(NUMBER)
    died, offset = tmp_path / "died", 5

    def f(geobox: Any) -> Any:
        (tmp_path / f"by-{os.getpid()}").touch()
        if geobox.affine.c == 10 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return da.from_array(number(geobox), chunks=20).compute() + da.full(tuple(geobox.shape), offset, dtype="int32")

    report = cube.ingest(source=f, workers=2)
    assert (report.written, report.failed) == (6, [])
    assert died.exists()
    workers = list(tmp_path.glob("by-*"))
    assert len(workers) >= 2
    assert not (tmp_path / f"by-{os.getpid()}").exists()
    assert np.array_equal(cube.dataset()["number"], PLACE + 5)
    assert is_sound(cube)


SCRIPT = """
import os, sys
import numpy as np
import cubeingest as ci

cube = ci.open(sys.argv[1])
EXTRA = 3

def helper(geobox):
    return np.full(geobox.shape, cube.grid.n_regions + EXTRA)

def f(geobox):
    if os.path.exists("die") and geobox.affine.c == 20:
        os.kill(os.getpid(), 9)
    return helper(geobox)

print(cube.ingest(source=f, workers=int(sys.argv[2])).written)
"""


@pytest.mark.slow
def test_script_without_a_main_guard_may_use_workers(make_cube: Make, tmp_path: Path) -> None:
    cube = make_cube(NUMBER)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "die").touch()
    with started(sys.executable, "script.py", cube.store.uri, 1, cwd=tmp_path) as process:
        assert finish(process).code == -signal.SIGKILL
    assert cube.status().pending == 6
    (tmp_path / "die").unlink()
    with started(sys.executable, "script.py", cube.store.uri, 2, cwd=tmp_path) as process:
        done = finish(process)
    assert (done.code, done.out) == (0, "6\n"), done.err
    assert (cube.dataset()["number"] == 9).all()
    assert {r.sources[0].href for r in records(cube)} == {"python:__main__.f"}
    assert [f.kind for f in cube.check(deep=True).findings] == ["dead-run"]


@pytest.mark.slow
def test_cluster_is_sent_what_it_can_load(make_cube: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = make_cube(YEARS + NUMBER)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "only_here.py").write_text("def f(geobox, year): return None\n")
    monkeypatch.syspath_prepend(tmp_path / "here")
    import only_here  # type: ignore[import-not-found]

    def always_dies(geobox: Any, year: int) -> Any:
        if year == 2005 and geobox.affine.c == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return number(geobox, year=year)

    with cluster(tmp_path / "dask", (), ()) as address:
        with pytest.raises(
            ci.CubeIngestError, match=r"cannot load source function 'python:only_here\.f': ModuleNotFoundError"
        ):
            cube.ingest(source=only_here.f, scheduler=address)
        assert cube.status().pending == 12
        there, here = {"scheduler": address}, {"workers": 2}
        for mode, place in (("cooperative", there), ("independent", there), ("independent", here)):
            report = cube.ingest(source=lambda g, year: number(g, year=year), mode=mode, redo=True, **place)
            assert (report.written, report.failed) == (12, [])
    report = cube.ingest(source=always_dies, workers=2)
    assert (report.written, len(report.failed)) == (10, 2)
    assert "KilledWorker" in report.failed[0].error
    assert report.failed[0].href.endswith("always_dies")
    assert is_sound(cube)


def test_signal_commits_what_is_finished_and_the_same_goes_on(make_cube: Make) -> None:
    cube = make_cube(NUMBER)

    def f(geobox: Any) -> Any:
        if geobox.affine.c == 10 and cube.status().pending == 6:
            signal.raise_signal(signal.SIGINT)
        return number(geobox)

    report = cube.ingest(source=f)
    assert (report.exit_code, report.failed) == (130, [])
    assert 1 <= report.written < 6
    assert report.written + report.unfinished == 6
    assert cube.ingest(source=f).written == 6 - report.written
    assert np.array_equal(cube.dataset()["number"], PLACE)
    assert is_sound(cube)


def test_function_survives_its_way(make_cube: Make) -> None:
    import pickle

    source = function_source(times(3), make_cube(NUMBER).spec.variables)
    assert isinstance(source, FunctionSource)
    one, other = pickle.loads(pickle.dumps(source)), pickle.loads(pickle.dumps(source))
    assert (one.id, one.variables) == (source.id, source.variables)
    assert one.function is other.function is not source.function  # made once a process


# ---- beside tiles ---------------------------------------------------------------------------------------------

DERIVED = """\
  share: {dtype: float32, fill_value: nan, chunks: {y: 50, x: 50}}
attrs:"""


@pytest.fixture
def mixed(world: World) -> ci.Cube:
    """The world's cube with a variable that is computed from its tiles."""
    return ci.init(world.write_spec(("attrs:", DERIVED)))


def derive(geobox: Any, year: int) -> Any:
    ds = ci.open(os.environ["MIXED_CUBE"]).dataset()
    left, bottom, right, top = geobox.boundingbox
    cover = ds["cover"].sel(year=year, y=slice(top, bottom), x=slice(left, right))
    return None if (cover == 255).all() else cover.where(cover != 255) / 100


def test_variable_is_derived_from_the_tiles_of_another(
    mixed: ci.Cube, world: World, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    monkeypatch.setenv("MIXED_CUBE", mixed.store.uri)
    assert mixed.status(variable="share").pending == 12
    tiles = mixed.ingest()
    assert (tiles.written, tiles.planned) == (7, 7)
    assert mixed.status(variable="share").pending == 12
    report = mixed.ingest(source=derive)
    assert (report.written, report.empty, report.failed) == (7, 5, [])
    ds = mixed.dataset()
    expected = (ds["cover"].where(ds["cover"] != 255) / 100).astype("float32")
    assert np.array_equal(ds["share"].values, expected.values, equal_nan=True)
    for again in (mixed.ingest(), mixed.ingest(source=derive)):
        assert (again.written, again.empty, again.failed) == (0, 0, [])
    with pytest.raises(CatalogError, match="no source is given for share"):
        mixed.ingest(variable=["cover", "share"])
    assert (mixed.status().done, mixed.status().empty, mixed.status().pending, mixed.status().absent) == (14, 5, 0, 5)
    check = mixed.verify()
    assert (check.checked, check.equal, check.missing) == (19, 19, [])
    assert is_sound(mixed)
    assert ci.init(world.spec_file).store.tip == mixed.store.tip
    # a changed tile changes what was read, which is asked for anew
    world.add_tile(2000, "20N_000E")
    assert mixed.ingest().written == 1
    assert mixed.ingest(source=derive, redo=True, region="20N_000E", year=2000).written == 1
    assert invoke("verify", "--store", mixed.store.uri).code == 0


def test_tiles_may_be_replaced_by_a_function_and_come_back(mixed: ci.Cube) -> None:
    mixed.ingest()
    report = mixed.ingest(source=lambda g, year: np.full(g.shape, 9), variable="cover", year=2000)
    assert (report.written, report.planned) == (6, 6)
    assert mixed.verify(variable="cover").equal == 8
    back = mixed.ingest(year=2000)
    assert back.written == 5
    assert mixed.verify(variable="cover").equal == 8
    assert is_sound(mixed)


def test_catalog_that_cannot_be_read_yet_leaves_computed_variables_expected(world: World) -> None:
    (world.folder / "tiles" / "2000.txt").unlink()
    cube = ci.init(world.write_spec(("attrs:", DERIVED)))
    assert (cube.status(variable="share").pending, cube.status(variable="cover").absent) == (12, 12)


def test_changed_pixels_are_found(make_cube: Make, invoke: Invoke) -> None:
    cube = make_cube(NUMBER)
    cube.ingest(source=number)
    change(cube, lambda g: g["number"].__setitem__((3, 4), 7))
    ran = invoke("verify", "--store", cube.store.uri, "--json")
    assert (ran.code, ran.json["equal"]) == (1, 5)
    (row,) = ran.json["different"]
    assert (row["region"], row["href"], row["pixels"]) == ("y0_x0", "python:tests.test_function.number", None)
    assert "some pixels differ from python:" in invoke("verify", "--store", cube.store.uri).err
    (finding,) = ci.open(cube.store.uri).check(deep=True).findings
    assert (finding.kind, finding.remedy) == (
        "changed",
        "compute it again: Cube.ingest(source=f, redo=True, ...) with its region, axes and variable",
    )
    change(cube, lambda g: g["cubeingest/ledger/number/record"].__setitem__((0, 0), "nonsense"))
    (missing,) = ci.open(cube.store.uri).verify().missing
    assert "nor a record of a function" in missing["error"]
    assert cube.ingest(source=number).written == 1
    assert is_sound(cube)


def test_branch_that_a_function_filled_is_published_if_it_is_sound(make_cube: Make) -> None:
    cube = make_cube(NUMBER)
    cube.ingest(source=number, branch="staging", region=["y0_x0", "y0_x1"])
    assert cube.status().pending == 6
    session = cube.store.repo.writable_session("staging")
    import zarr

    zarr.open_group(session.store, mode="r+")["number"][3, 4] = 7  # type: ignore[index]
    session.commit("by hand")
    refusal = cube.publish("staging")
    assert (refusal.action, refusal.verified and len(refusal.verified.different)) == ("refused", 1)
    assert cube.ingest(source=number, branch="staging", redo=True, region="y0_x0").written == 1
    done = cube.publish("staging")
    assert (done.action, done.slots) == ("published", 2)
    assert cube.status().done == 2
    assert np.array_equal(cube.dataset()["number"].values[:100, :200], PLACE[:100, :200])


# ---- what is shown to people ----------------------------------------------------------------------------------


def test_example_computes_what_numpy_computes_of_the_whole_raster(tmp_path: Path) -> None:
    import matplotlib.image
    import rasterio
    from rasterio.windows import Window

    example = runpy.run_path(str(ROOT / "examples" / "computed.py"))
    cube = example["main"](tmp_path)
    assert (cube.status().done, cube.status().total) == (36, 36)
    with rasterio.open(tmp_path / "land.tif") as raster:
        land = raster.read(1, window=Window((180 - 12) * 24, (80 - 72) * 24, 1152, 864)).astype("float64")
    land[land == 255] = 0
    wide = np.pad(land, 12, mode="edge")
    nearby = np.lib.stride_tricks.sliding_window_view(wide, (25, 25))[::7, ::7].mean(axis=(2, 3))
    assert np.allclose(cube.dataset()["nearby"][::7, ::7], nearby, atol=1e-4)
    assert max(matplotlib.image.imread(tmp_path / "nearby.png").shape) > 1500
