"""Which regions granules fall in is found once, kept in a file, and found again only for those that changed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from cubeingest.errors import CatalogError
from cubeingest.grid import TilingGrid
from cubeingest.points import (
    EVERY_RUN,
    Footprint,
    Footprints,
    GranuleRow,
    Part,
    Run,
    catalogfile,
    footprints_of,
    hdf5,
    parquet,
    read_areas,
    read_footprints,
    rows_by_region,
    scan_granule,
    write_footprints,
)
from cubeingest.points import footprints as footprints_module
from cubeingest.points.locate import order_by_region
from tests.pointfiles import (
    Boxes,
    Healpix,
    Source,
    a_track,
    some_points,
    write_as,
    write_csv,
    write_hdf5,
    write_parquet,
)
from tests.website import Site, scratch_folder, site

__all__ = ["scratch_folder", "site"]

GRID = Boxes()


def plain(footprint: Footprint | str) -> Any:
    """A footprint as plain values that can be compared."""
    if isinstance(footprint, str):
        return footprint
    columns = (footprint.run, footprint.region, footprint.start, footprint.stop, footprint.count)
    parts = sorted(zip(*(c.tolist() for c in columns), strict=True))
    named = [(footprint.runs[run].name, *rest) for run, *rest in parts]
    counts = (footprint.n_invalid, footprint.n_outside, footprint.n_points)
    return (
        footprint.source.size,
        footprint.source.stamp,
        sorted(footprint.runs, key=lambda r: r.name),
        sorted(named),
        counts,
    )


def granules(folder: Path, n: int = 4) -> list[str]:
    folder.mkdir(exist_ok=True)
    return [write_as((".parquet", ".h5", ".csv", ".nc")[i % 4], folder, some_points(40, i), f"g{i}") for i in range(n)]


def find(hrefs: list[str], catalog: Path | None, signature: str = "one", source: Any = None) -> Footprints:
    return footprints_of(hrefs, source or Source(), GRID, catalog, signature)


# ---- scan -------------------------------------------------------------------------------------------------------


def test_ranges_are_the_smallest_that_hold_a_regions_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parquet, hdf5):
        monkeypatch.setattr(module, "BATCH_POINTS", 100)
    points = a_track(1000)
    points["lon"][500:520] = np.nan
    href = write_hdf5(tmp_path / "a.h5", {"one": points, "none": some_points(0), "two": some_points(300)})
    found = scan_granule(href, Source(groups=("one", "none", "two")), GRID)
    assert found.runs == (Run("one", 1000), Run("none", 0), Run("two", 300))
    assert (found.n_points, found.n_invalid) == (1300, 20)
    for run, data in ((0, points), (2, some_points(300))):
        cells = GRID.locate(data["lon"], data["lat"])
        regions = np.where(cells >= 0, GRID.regions_of(cells), -1)
        own = found.run == run
        assert found.region[own].tolist() == sorted(set(regions.tolist()) - {-1})
        for region, start, stop, count in zip(
            found.region[own], found.start[own], found.stop[own], found.count[own], strict=True
        ):
            at = np.flatnonzero(regions == region)
            assert (start, stop, count) == (at[0], at[-1] + 1, len(at))


@pytest.mark.parametrize("n_regions", [3, 2**16, 2**16 + 1, 2**40])
def test_order_by_region_is_a_stable_sort(n_regions: int) -> None:
    regions = np.random.default_rng(0).integers(0, n_regions, 5000)
    assert np.array_equal(order_by_region(regions, n_regions), np.argsort(regions, kind="stable"))
    assert order_by_region(np.sort(regions), n_regions) is None


def test_rows_of_a_region_are_in_the_order_of_granules_and_runs(tmp_path: Path) -> None:
    here = (1, 31, 2, 32)
    a = write_hdf5(tmp_path / "a.h5", {"b": some_points(5, 0, here), "a": some_points(6, 0, here)})
    b = write_parquet(tmp_path / "b.parquet", some_points(7, 0, here))
    source = Source(groups=("b", "a"))
    rows = rows_by_region([(b, scan_granule(b, source, GRID)), (a, scan_granule(a, source, GRID))])
    assert rows == {
        18: (
            GranuleRow(b, (Part("0", 0, 7, 7),)),
            GranuleRow(a, (Part("b", 0, 5, 5), Part("a", 0, 6, 6))),
        )
    }


# ---- the catalog file -------------------------------------------------------------------------------------------


def test_second_time_nothing_is_scanned(tmp_path: Path) -> None:
    hrefs, catalog = granules(tmp_path / "data"), tmp_path / "points.parquet"
    first = find(hrefs, catalog)
    assert (first.n_scanned, first.warnings) == (4, ())
    second = find(hrefs, catalog)
    assert second.n_scanned == 0
    assert {h: plain(f) for h, f in second.found.items()} == {h: plain(f) for h, f in first.found.items()}
    assert {h: plain(f) for h, f in first.found.items()} == {h: plain(scan_granule(h, Source(), GRID)) for h in hrefs}
    assert rows_by_region(second.found.items()) == rows_by_region(first.found.items())  # type: ignore[arg-type]


def test_only_what_is_new_or_changed_is_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hrefs, catalog = granules(tmp_path / "data"), tmp_path / "points.parquet"
    find(hrefs[:3], catalog)
    write_hdf5(Path(hrefs[1]), {"": some_points(70, 9)})
    scanned: list[str] = []
    monkeypatch.setattr(
        footprints_module, "scan_granule", lambda href, *of: scanned.append(href) or scan_granule(href, *of)
    )
    found = find(hrefs, catalog)
    assert sorted(scanned) == [hrefs[1], hrefs[3]]
    assert found.n_scanned == 2
    assert {h: plain(f) for h, f in found.found.items()} == {h: plain(scan_granule(h, Source(), GRID)) for h in hrefs}


def test_granule_of_which_nothing_was_asked_stays_in_the_catalog(tmp_path: Path) -> None:
    hrefs, catalog = granules(tmp_path / "data"), tmp_path / "points.parquet"
    find(hrefs[:2], catalog)
    assert list(find(hrefs[2:], catalog).found) == hrefs[2:]
    assert find(hrefs, catalog).n_scanned == 0


def test_granules_without_points_or_outside_are_remembered_too(tmp_path: Path) -> None:
    empty = write_hdf5(tmp_path / "empty.h5", {"a": some_points(0), "b": some_points(5)})
    none = write_csv(tmp_path / "none.csv", {n: v[:0] for n, v in some_points(1).items()})
    away = write_parquet(tmp_path / "away.parquet", some_points(9, 0, (170, -80, 175, -75)))
    source, grid = Source(groups=("a", "b")), Boxes(0, 30, 1, (30, 30), 10)
    pq.write_table(pa.table({n: v[:0] for n, v in some_points(1).items()}), tmp_path / "no-row-groups.parquet")
    hrefs = [empty, none, away, str(tmp_path / "no-row-groups.parquet")]
    first = footprints_of(hrefs, source, grid, tmp_path / "points.parquet", "one")
    second = footprints_of(hrefs, source, grid, tmp_path / "points.parquet", "one")
    assert (first.n_scanned, second.n_scanned) == (4, 0)
    assert [plain(f) for f in second.found.values()] == [plain(f) for f in first.found.values()]
    assert second.found[away].n_outside == 9  # type: ignore[union-attr]


def test_folder_may_be_moved_with_its_granules(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    outside = write_parquet(tmp_path / "outside.parquet", some_points(5))
    hrefs = granules(here / "data")
    find([*hrefs, outside], here / "points.parquet")
    shutil.move(here, tmp_path / "there")
    moved = [h.replace("/here/", "/there/") for h in hrefs]
    assert find([*moved, outside], tmp_path / "there" / "points.parquet").n_scanned == 0
    assert set(pq.read_table(tmp_path / "there" / "points.parquet")["href"].to_pylist()) == {
        *(f"data/{Path(h).name}" for h in hrefs), outside
    }  # fmt: skip


def test_hrefs_of_one_file_are_one_granule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (href,) = granules(tmp_path / "data", 1)
    monkeypatch.chdir(tmp_path)
    find([href], Path("points.parquet"))
    for other in (f"file://{href}", "data/g0.parquet", "data/../data/g0.parquet"):
        found = find([other], tmp_path / "points.parquet")
        assert (found.n_scanned, list(found.found)) == (0, [other])


def test_catalog_of_another_grid_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    hrefs, catalog = granules(tmp_path / "data", 1), tmp_path / "points.parquet"
    find(hrefs, catalog, json.dumps({"crs": "EPSG:4326", "x": "lon", "depth": 6}))
    with pytest.raises(
        CatalogError,
        match=r"points.parquet' is for another grid or source \(x was lon, is longitude, depth was 6, is 7\): move it away, and it is made anew, or name another",
    ):
        find(hrefs, catalog, json.dumps({"crs": "EPSG:4326", "x": "longitude", "depth": 7}))
    with pytest.raises(CatalogError, match=r"another grid or source \(it was \{.*, is two\)"):
        find(hrefs, catalog, "two")


@pytest.mark.parametrize("what", ["noise", "empty", "cut", "folder", "other", "version", "region", "range", "text"])
def test_catalog_that_is_damaged_or_something_else_is_refused(tmp_path: Path, what: str) -> None:
    hrefs, catalog = granules(tmp_path / "data", 2), tmp_path / "points.parquet"
    find(hrefs, catalog)
    whole, table = catalog.read_bytes(), pq.read_table(catalog)
    if what in ("noise", "empty", "cut"):
        catalog.write_bytes({"noise": bytes(range(256)) * 9, "empty": b"", "cut": whole[:-100]}[what])
    elif what == "folder":
        catalog.unlink()
        catalog.mkdir()
        (catalog / "a.txt").write_text("a")
    elif what == "other":
        write_parquet(catalog, some_points(3))
    elif what == "version":
        pq.write_table(table.replace_schema_metadata({"cubeingest_points": "99", "signature": "one"}), catalog)
    else:
        name, value = {"region": ("region", "y99_x0"), "range": ("start", -5), "text": ("region", "what")}[what]
        values = [value, *table[name].to_pylist()[1:]]
        pq.write_table(
            table.set_column(table.schema.get_field_index(name), table.schema.field(name), [values]), catalog
        )
    with pytest.raises(
        CatalogError, match=r"^catalog of points '.*points.parquet' .*: move it away, and it is made anew$"
    ):
        find(hrefs, catalog)


def test_catalog_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    hrefs = granules(tmp_path / "data", 2)
    found = find(hrefs, tmp_path / "no" / "such" / "points.parquet")
    assert [type(f) for f in found.found.values()] == [Footprint, Footprint]
    (warning,) = found.warnings
    assert (
        "cannot be written (No such file or directory): the 2 granules that were scanned will be scanned again"
        in warning
    )


def test_interrupted_scan_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hrefs, catalog = granules(tmp_path / "data", 4), tmp_path / "points.parquet"
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    done: list[str] = []

    def scan_two(href: str, source: Any, locator: Any) -> Footprint:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(href)
        return scan_granule(href, source, locator)

    with monkeypatch.context() as patch:
        patch.setattr(footprints_module, "scan_granule", scan_two)
        with pytest.raises(KeyboardInterrupt):
            find(hrefs, catalog)
    assert find(hrefs, catalog).n_scanned == 2


def test_bad_granules_get_a_message_and_are_looked_at_again(tmp_path: Path) -> None:
    good, bad = granules(tmp_path / "data", 2)
    Path(bad).write_bytes(b"\x89HDF\r\n\x1a\n and then nothing")
    swapped = write_parquet(tmp_path / "swapped.parquet", {"lon": np.array([5.0]), "lat": np.array([112.3])})
    hrefs = [bad, swapped, str(tmp_path / "none.csv"), str(tmp_path / "a.las"), "ftp://x/a.h5", good]
    for n in (5, 4):
        found = find(hrefs, tmp_path / "points.parquet")
        assert list(found.found) == hrefs
        messages = [f for f in found.found.values() if isinstance(f, str)]
        for message, part in zip(
            messages,
            (
                "g1.h5' cannot be opened",
                "are x and y swapped?",
                "none.csv' is not there",
                "a.las' is not there",
                "is not opened",
            ),
            strict=True,
        ):
            assert part in message
        assert isinstance(found.found[good], Footprint)
        assert found.n_scanned == n - 2
    assert find([str(tmp_path)], None).found[str(tmp_path)].startswith("granule ")  # type: ignore[union-attr]


def test_remote_granules_are_remembered_without_their_secrets(tmp_path: Path, site: Site) -> None:
    (path,) = granules(tmp_path / "data", 1)
    urls = [site.put(f"/{i}.parquet", Path(path).read_bytes()) + "?key=secret" for i in range(3)]
    catalog = tmp_path / "points.parquet"
    assert find(urls, catalog).n_scanned == 3
    n = site.count("GET")
    assert find(urls, catalog).n_scanned == 0
    assert site.count("GET") == n
    assert b"secret" not in catalog.read_bytes()
    assert find([*urls, urls[0] + "&file=2"], catalog).n_scanned == 2  # nothing tells these two apart in the catalog


def test_footprints_survive_the_file_exactly(tmp_path: Path) -> None:
    grid = Healpix(9, 3)
    hrefs = [*granules(tmp_path / "data", 3), write_hdf5(tmp_path / "t.h5", {"": a_track(5000)})]
    footprints = [scan_granule(h, Source(), grid) for h in hrefs]
    write_footprints(tmp_path / "points.parquet", footprints, "s", grid)
    got = read_footprints(tmp_path / "points.parquet", "s", grid)
    assert {h: plain(f) for h, f in got.items()} == {h: plain(f) for h, f in zip(hrefs, footprints, strict=True)}
    write_footprints(tmp_path / "none.parquet", [], "s", grid)
    assert read_footprints(tmp_path / "none.parquet", "s", grid) == {}
    assert read_footprints(tmp_path / "not-there.parquet", "s", grid) == {}


def test_file_that_was_there_stays_if_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hrefs, catalog = granules(tmp_path / "data"), tmp_path / "points.parquet"
    find(hrefs[:2], catalog)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(catalogfile, "write_file", full)
    assert "No space left" in find(hrefs, catalog).warnings[0]
    monkeypatch.undo()
    assert find(hrefs, catalog).n_scanned == 2


def test_scans_run_in_several_threads_and_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    hrefs = granules(tmp_path / "data", 24)
    found = find(hrefs, None)
    assert {h: plain(f) for h, f in found.found.items()} == {h: plain(scan_granule(h, Source(), GRID)) for h in hrefs}


# ---- stated by a table ------------------------------------------------------------------------------------------


class Areas(Boxes):
    """The same lattice, with the real grid's answers for boxes and polygons."""

    @property
    def _grid(self) -> TilingGrid:
        from fractions import Fraction

        step = Fraction(self.step)
        return TilingGrid(
            "EPSG:4326", Fraction(self.left), Fraction(self.top), step, -step, self.shape_yx, (self.size, self.size)
        )

    def get_chunks_for_bbox(self, bbox: Any, crs: str | None = None) -> list[tuple[int, int]]:
        return self._grid.get_chunks_for_bbox(bbox, crs)

    def get_chunks_for_shape(self, shape: Any, crs: str | None = None) -> list[tuple[int, int]]:
        return self._grid.get_chunks_for_shape(shape, crs)


BOXES = {"g0.parquet": (1, 1, 2, 2), "g1.h5": (-5, -5, 5, 5), "g2.csv": (170, 40, -170, 50)}
REGIONS = {"g0.parquet": [30], "g1.h5": [29, 30, 41, 42], "g2.csv": [12, 23]}


@pytest.mark.parametrize("kind", ["boxes.csv", "boxes.parquet", "wkb.parquet", "wkt.csv"])
def test_table_of_areas_gives_whole_granules(tmp_path: Path, kind: str) -> None:
    import pandas as pd

    granules(tmp_path / "data", 3)
    rows = []
    for name, (left, bottom, right, top) in BOXES.items():
        if kind.startswith("boxes"):
            rows.append({"href": f"data/{name}", "left": left, "bottom": bottom, "right": right, "top": top})
            continue
        for box in (
            [(left, bottom, right, top)] if left < right else [(left, bottom, 180, top), (-180, bottom, right, top)]
        ):
            shape = shapely.box(*box)
            rows.append({"href": f"data/{name}", "geometry": shape.wkb if kind.startswith("wkb") else shape.wkt})
    table = pd.DataFrame(rows)
    table.to_parquet(tmp_path / kind) if kind.endswith("parquet") else table.to_csv(tmp_path / kind, index=False)
    found = read_areas(str(tmp_path / kind), Source(), Areas(), lambda href: str(tmp_path / href))
    assert {Path(h).name: f.region.tolist() for h, f in found.found.items() if isinstance(f, Footprint)} == REGIONS
    whole = (Part(EVERY_RUN, 0, -1, -1),)
    assert rows_by_region(found.found.items())[12] == (GranuleRow(str(tmp_path / "data" / "g2.csv"), whole),)  # type: ignore[arg-type]


def test_table_of_areas_that_is_wrong_says_so(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("href,left,botom,right,top\na.h5,0,0,1,1\n")
    with pytest.raises(
        CatalogError, match=r"t.csv' has no column left, bottom, right, top or geometry .*\(columns: href, left, botom"
    ):
        read_areas(str(table), Source(), Areas())
    table.write_text("name,geometry\na.h5,POINT (1 1)\n")
    with pytest.raises(CatalogError, match=r"t.csv' has no column href"):
        read_areas(str(table), Source(), Areas())
    (href,) = granules(tmp_path / "data", 1)
    table.write_text(f'href,geometry\n{href},POINT (1 1)\n{href}x,"POLYGON ((0 0, 1 0, 1 1, 0 0))"\n')
    found = read_areas(str(table), Source(), Areas()).found
    assert isinstance(found[href], str)
    assert "is not there" in str(found[f"{href}x"])
    for bad in ("nonsense", ""):
        table.write_text(f"href,geometry\n{href},{bad}\n{href},{bad}\n")
        assert isinstance(read_areas(str(table), Source(), Areas()).found[href], str)
    table.write_text(f"href,left,bottom,right,top\n{href},1,1,x,1\n")
    assert "could not convert" in str(read_areas(str(table), Source(), Areas()).found[href])
    assert footprints_module.identity_of("ftp://x/a.h5", Source())
