"""What docs/points.md claims that no other test shows. (That it runs is for :mod:`tests.test_docs`.)"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

import cubeingest as ci
from cubeingest.expressions import FUNCTIONS
from cubeingest.statistic import KINDS
from tests.doc_setups import write_granules

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "points.md").read_text(encoding="utf-8")
BLOCKS = [(m[1], m[2]) for m in re.finditer(r"```(yaml|sh|python)\n(.*?)```", PAGE, re.DOTALL)]
BEAMS = ["gt1l", "gt1r", "gt2l", "gt2r", "gt3l", "gt3r"]


def load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def merged(base: Any, more: Any) -> Any:
    """A spec with what another says: what is a grid of another kind, or a variable, takes the place of what was there."""
    if not isinstance(base, dict) or not isinstance(more, dict):
        return more
    return {**base, **{k: merged(base.get(k), v) for k, v in more.items()}}


def write_spec(folder: Path, document: Any) -> Path:
    path = folder / "other.yaml"
    with path.open("w") as file:
        YAML().dump(document, file)
    return path


def specs() -> tuple[dict[str, Any], list[Any]]:
    """Those that have a name, and what is said beside grid.yaml."""
    texts = [text for kind, text in BLOCKS if kind == "yaml"]
    named = {m[1]: load(text) for text in texts if (m := re.match(r"# (\w+\.yaml)\n", text))}
    return named, [load(text) for text in texts if text.startswith("# beside grid.yaml")]


@pytest.mark.slow
def test_what_is_said_beside_the_spec_makes_cubes_too(tmp_path: Path) -> None:
    write_granules(tmp_path)
    named, beside = specs()
    whole = named["grid.yaml"]
    assert len(beside) == 3
    found = []
    for i, more in enumerate(beside):
        document = {**whole, **{k: v for k, v in more.items() if k not in ("points", "variables", "grid")}}
        document["grid"] = merged(whole["grid"], more["grid"]) if "grid" in more and "origin" not in more["grid"] else more.get("grid", whole["grid"])  # fmt: skip
        for key in ("points", "variables"):
            document[key] = merged(whole[key], more.get(key, {}))
        document = {**document, "name": f"beside{i}", "store": f"./beside{i}.icechunk"}
        cube = ci.init(write_spec(tmp_path, document))
        report = cube.ingest(workers=1, cycle=22)
        assert report.exit_code == 0
        assert report.written
        found.append(cube.dataset().sel(cycle=22).load())
    assert found[0]["n"].sum() == found[1]["n"].sum() == found[2]["n"].sum() > 0
    assert {"cell_ids"} <= set(found[1].coords)
    assert int(found[0]["bad"].where(found[0]["n"] > 0, 0).max()) == 0  # what quality == 0 has left


def test_spec_of_points_in_the_readme_makes_a_cube(tmp_path: Path) -> None:
    write_granules(tmp_path)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (text,) = (t for t in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "points:" in t)
    (tmp_path / "grid.yaml").write_text(text)
    cube = ci.init(tmp_path / "grid.yaml")
    assert cube.ingest(workers=1, cycle=22).exit_code == 0
    assert int(cube.dataset()["n"].sum()) > 0


def test_page_names_every_statistic_and_function() -> None:
    statistics = PAGE[PAGE.index("## Statistics") : PAGE.index("## Expressions")]
    assert [kind for kind in KINDS if not re.search(rf"`\{{?{kind}\b", statistics)] == []
    expressions = PAGE[PAGE.index("## Expressions") : PAGE.index("## Two layouts")]
    assert [name for name in FUNCTIONS if not re.search(rf"\b{name}\b", expressions)] == []


SMALL = """\
name: small
grid: {type: healpix, order: 4, region_order: 1, ellipsoid: WGS84}
points:
  tiles: {glob: "granules/*.csv"}
  coordinates: {x: lon, y: lat}
  columns: {h: height, w: weight}
variables:
  n: {dtype: uint32, fill_value: 0, aggregate: {count: h}}
  mean: {dtype: float64, fill_value: .nan, aggregate: {mean: h}}
store: ./small.icechunk
"""


def write_small(folder: Path, name: str, rows: str) -> Path:
    path = folder / "granules" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("lon,lat,height,weight\n" + rows)
    return path


def make_small(folder: Path, text: str = SMALL) -> ci.Cube:
    (folder / "grid.yaml").write_text(text)
    return ci.init(folder / "grid.yaml")


def test_empty_fields_do_not_count_and_infinite_values_do(tmp_path: Path) -> None:
    write_small(tmp_path, "a", "10,10,1,1\n10,10,,1\n10,10,4,1\n100,10,inf,1\n100,10,1,1\n")
    cube = make_small(tmp_path)
    assert cube.ingest(workers=1).exit_code == 0
    ds = cube.dataset()
    there = ds["n"].values > 0
    assert sorted(zip(ds["n"].values[there].tolist(), ds["mean"].values[there].tolist(), strict=True)) == [
        (2, 2.5),
        (2, np.inf),
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_times_are_seconds_since_1970(tmp_path: Path, suffix: str) -> None:
    times = pd.to_datetime(
        ["2024-01-01 00:00:00", "2024-01-03 00:00:00.25", None, "2024-01-02 00:00:00"], format="ISO8601"
    )
    table = pd.DataFrame({"lon": 10.0, "lat": 10.0, "height": [1.0, 2.0, 3.0, 4.0], "weight": times})
    (tmp_path / "granules").mkdir()
    if suffix == "csv":
        table.to_csv(tmp_path / "granules" / "a.csv", index=False)
    else:
        table.to_parquet(tmp_path / "granules" / "a.parquet")
    text = SMALL.replace("*.csv", f"*.{suffix}").replace("{mean: h}", "{last: h, by: w}")
    text = text.replace("store:", "  latest: {dtype: float64, fill_value: .nan, aggregate: {max: w}}\nstore:")
    cube = make_small(tmp_path, text.replace("variables:", "  filter: isnan(w) or w > 1704067199\nvariables:"))
    assert cube.ingest(workers=1).exit_code == 0
    ds = cube.dataset()
    assert (int(ds["n"].max()), float(ds["mean"].max())) == (4, 2)
    assert float(ds["latest"].max()) == pd.Timestamp("2024-01-03 00:00:00.25").timestamp()


def test_regions_of_a_granule_that_has_gone_are_done_again_without_it(tmp_path: Path) -> None:
    write_small(tmp_path, "a", "10,10,1,1\n")
    gone = write_small(tmp_path, "b", "10,10,3,1\n")
    cube = make_small(tmp_path)
    cube.ingest(workers=1)
    assert float(cube.dataset()["mean"].max()) == 2
    gone.unlink()
    assert cube.ingest(workers=1).written == 2
    assert float(cube.dataset()["mean"].max()) == 1


def test_other_filter_does_its_statistics_again_and_scans_nothing(tmp_path: Path) -> None:
    write_small(tmp_path, "a", "10,10,1,1\n10,10,3,2\n")
    cube = make_small(tmp_path)
    cube.ingest(workers=1)
    catalog = tmp_path / "small.catalog.parquet"
    before = catalog.stat().st_mtime_ns
    (tmp_path / "grid.yaml").write_text(SMALL.replace("variables:", "  filter: w > 1\nvariables:"))
    with pytest.raises(ci.StoreError, match=r'points\.filter: absent -> "w > 1"'):
        ci.init(tmp_path / "grid.yaml")
    cube = ci.init(tmp_path / "grid.yaml", update=True)
    assert cube.ingest(workers=1).written == 2
    assert float(cube.dataset()["mean"].max()) == 3
    (tmp_path / "grid.yaml").write_text(SMALL.replace("{mean: h}", "{max: h}"))
    cube = ci.init(tmp_path / "grid.yaml", update=True)
    assert cube.ingest(workers=1, variable="mean").written == 1
    assert catalog.stat().st_mtime_ns == before


def test_only_new_granules_are_scanned_and_the_cube_does_without_the_file(tmp_path: Path) -> None:
    one = write_small(tmp_path, "a", "10,10,1,1\n")
    cube = make_small(tmp_path)
    cube.ingest(workers=1)
    catalog = tmp_path / "small.catalog.parquet"
    assert pd.read_parquet(catalog).href.tolist() == ["granules/a.csv"]
    write_small(tmp_path, "b", "100,10,5,1\n")
    assert cube.ingest(workers=1).skipped == 2
    assert sorted(pd.read_parquet(catalog).href) == ["granules/a.csv", "granules/b.csv"]
    catalog.unlink()
    again = cube.ingest(workers=1)
    assert (again.written, again.skipped) == (0, 4)
    one.unlink()
    none = make_small(
        tmp_path, SMALL.replace("small.icechunk", "none.icechunk").replace("  columns", "  catalog: none\n  columns")
    )
    catalog.unlink()
    assert none.ingest(workers=1).written == 2
    assert not catalog.exists()


def test_table_of_boxes_says_where_granules_lie(tmp_path: Path) -> None:
    write_small(tmp_path, "a", "10,10,1,1\n")
    (tmp_path / "table.csv").write_text("href,left,bottom,right,top\ngranules/a.csv,9,9,11,11\n")
    cube = make_small(tmp_path, SMALL.replace('{glob: "granules/*.csv"}', "{table: table.csv}"))
    assert cube.ingest(workers=1).exit_code == 0
    assert int(cube.dataset()["n"].sum()) == 1
    assert not (tmp_path / "small.catalog.parquet").exists()


def test_granule_without_a_column_costs_the_slots_of_its_regions_alone(tmp_path: Path) -> None:
    write_small(tmp_path, "a", "10,10,1,1\n100,10,1,1\n")
    (tmp_path / "granules" / "b.csv").write_text("lon,lat,hight,weight\n100,10,1,1\n")
    cube = make_small(tmp_path)
    report = cube.ingest(workers=1)
    assert (report.written, len(report.failed)) == (2, 2)
    assert "no column 'height'; did you mean 'hight'?" in report.failed[0].error
