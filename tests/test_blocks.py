"""Blocks as they are: references and copies against the ordinary path, what is refused, and what becomes of references."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import cubeingest as ci
from cubeingest.catalog import TileRow
from cubeingest.cli.tables import describe_blocks
from cubeingest.errors import CubeIngestError, SpecError, StoreError
from cubeingest.ingest.places import prepare_blocks
from cubeingest.ledger import Record, Slot, write_record
from cubeingest.plan import Plan, SlotPlan, Task
from cubeingest.storage import Storage
from cubeingest.store import Place, Store, declare, find_places, opened_by_this_user
from tests.conftest import Ran, write_tile
from tests.objectstore import Bucket
from tests.website import open_site

Invoke = Callable[..., Ran]

SPEC = """\
name: blocks
crs: EPSG:4326
grid: {{origin: {{x: 0, y: 20}}, resolution: {{x: 1/10, y: -1/10}}, shape: {{y: 96, x: 120}}, region: {{y: 64, x: 64}}}}
axes: {{year: {{values: [2000, 2001]}}}}
variables:
  v: {{dtype: {dtype}, fill_value: {fill}, chunks: {{year: 1, y: 32, x: 32}}, compressor: {codec},
       source: {{href: "{href}", missing: absent{more}}}}}
"""
"""2 x 2 regions of 64 x 64 pixels; the last row is half as high, the last column ends within a chunk."""


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("CUBEINGEST_VIRTUAL", raising=False)


def write_spec(
    folder: Path, dtype: str = "int16", fill: str = "-1", codec: str = "{name: zstd}", href: str = "tiles/{year}/{id}.tif",
    more: str = "", changes: tuple[tuple[str, str], ...] = (),
) -> Path:  # fmt: skip
    text = SPEC.format(dtype=dtype, fill=fill, codec=codec, href=href, more=more)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "grid.yaml").write_text(text)
    return folder / "grid.yaml"


def tile(folder: Path, name: str, pixels: np.ndarray, row: int = 0, column: int = 0, **profile: Any) -> Path:
    """A tile whose first pixel is at (row, column) of the grid, of blocks of 32 x 32."""
    options = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "zstd", "nodata": -1, **profile}
    return write_tile(folder / "tiles" / name, pixels, column / 10, 20 - row / 10, **options)


def pixels_of(shape: tuple[int, ...], dtype: str = "int16", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def write_tiles(folder: Path, dtype: str = "int16", **profile: Any) -> None:
    """Three tiles of 2000, one of 2001, with blocks that are left out and one of fill value that is there."""
    fill = np.dtype(dtype).type(profile.get("nodata", -1))
    first = pixels_of((64, 64), dtype)
    first[:32, 32:] = fill
    tile(folder, "2000/y0_x0.tif", first, SPARSE_OK=True, **profile)
    tile(folder, "2000/y0_x1.tif", pixels_of((64, 56), dtype, 1), 0, 64, **profile)
    tile(folder, "2000/y1_x0.tif", pixels_of((32, 64), dtype, 2), 64, 0, **profile)
    tile(folder, "2001/y1_x1.tif", pixels_of((32, 56), dtype, 3), 64, 64, **profile)


def values(store: Path | str) -> np.ndarray:
    return ci.open(store).dataset()["v"].values


def bits(a: np.ndarray) -> bytes:
    return np.ascontiguousarray(a).tobytes()


MATRIX = [
    ("int16", "-1", "{name: zstd}", {}),
    pytest.param("uint8", "255", "none", {"nodata": 255}, marks=pytest.mark.slow),
    pytest.param("float32", ".nan", "{name: zstd}", {"nodata": float("nan")}, marks=pytest.mark.slow),
    pytest.param("float32", "-1", "none", {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("dtype", "fill", "codec", "profile"), MATRIX)
def test_references_and_copies_are_what_the_ordinary_path_writes(
    tmp_path: Path, dtype: str, fill: str, codec: str, profile: dict[str, Any]
) -> None:
    compress = {"compress": "zstd" if "zstd" in codec else None}
    write_tiles(tmp_path, dtype, **{**profile, **compress})
    spec = write_spec(tmp_path, dtype, fill, codec)
    plan = ci.init(spec, tmp_path / "plain").plan()
    assert plan.blocks is not None
    assert (plan.blocks.slots, plan.blocks.copyable, plan.blocks.virtual) == (4, 4, 4)
    for how in ("plain", "virtual", "copied"):
        cube = ci.init(spec, tmp_path / how)
        report = cube.ingest(virtual=how == "virtual", copy_blocks=how == "copied")
        assert (report.written, report.failed) == (4, []), how
        assert cube.verify().equal == 4
        assert cube.check(deep=True).findings == []
        assert cube.status().virtual == (4 if how == "virtual" else 0)
        assert cube.ingest(virtual=True).skipped == 4
    plain = values(tmp_path / "plain")
    assert bits(values(tmp_path / "virtual")) == bits(plain)
    assert bits(values(tmp_path / "copied")) == bits(plain)
    again = ci.open(tmp_path / "virtual").materialize()
    assert (again.written, again.failed) == (4, [])
    shutil.rmtree(tmp_path / "tiles")
    assert bits(values(tmp_path / "virtual")) == bits(plain)
    assert ci.open(tmp_path / "virtual").check(deep=True).findings == []


def small_tiles(folder: Path) -> None:
    """Tiles of one block and of two, several a region, of which one reaches into the next region."""
    tile(folder, "2000/a.tif", pixels_of((32, 96)), 0, 0)
    tile(folder, "2000/b.tif", pixels_of((32, 32), seed=1), 32, 32)
    tile(folder, "2000/c.tif", pixels_of((32, 24), seed=2), 32, 96)


def planar_bands(folder: Path) -> None:
    tile(folder, "all.tif", pixels_of((2, 64, 64)), interleave="band")


def one_raster(folder: Path) -> None:
    """Of all regions and beyond the grid's end, one block left out."""
    pixels = pixels_of((128, 160))
    pixels[64:96, :32] = -1
    tile(folder, "all.tif", pixels, SPARSE_OK=True)


ARCHIVES = [
    (small_tiles, 'tiles: {glob: "tiles/{year}/*.tif"}', 2),
    pytest.param(planar_bands, 'file: "tiles/all.tif", bands: {axis: year}', 2, marks=pytest.mark.slow),
    (one_raster, 'file: "tiles/all.tif"', 4),
]


@pytest.mark.parametrize(("write", "source", "slots"), ARCHIVES)
def test_tiles_that_are_not_one_a_region(
    tmp_path: Path, write: Callable[[Path], None], source: str, slots: int
) -> None:
    write(tmp_path)
    changes = [('href: "tiles/{year}/{id}.tif", missing: absent', source)]
    if write is one_raster:
        changes.append(("values: [2000, 2001]", "values: [2000]"))
    spec = write_spec(tmp_path, changes=tuple(changes))
    found = {}
    for how in ("plain", "virtual", "copied"):
        cube = ci.init(spec, tmp_path / how)
        report = cube.ingest(virtual=how == "virtual", copy_blocks=how == "copied")
        assert (report.written, report.failed) == (slots, []), how
        assert cube.check(deep=True).findings == []
        found[how] = bits(values(tmp_path / how))
    assert found["virtual"] == found["plain"] == found["copied"]


# ---- what is refused ------------------------------------------------------------------------------------------


def one(folder: Path, **profile: Any) -> np.ndarray:
    """The tile of the first region and year, and its pixels."""
    pixels = pixels_of((64, 64), profile.pop("dtype", "int16"))
    tile(folder, "2000/y0_x0.tif", pixels, **profile)
    return pixels


def strips(folder: Path) -> None:
    """Strips of 32 rows, the last of 16; as wide as a chunk."""
    write_tile(
        folder / "tiles/2000/y0_x0.tif",
        pixels_of((48, 32)),
        0,
        20,
        compress="zstd",
        nodata=-1,
        tiled=False,
        blockysize=32,
    )


def two_bands(folder: Path) -> None:
    tile(folder, "2000/y0_x0.tif", pixels_of((2, 64, 64)), interleave="pixel")


def sparse(folder: Path) -> None:
    """Blocks that are left out read as the file's own nodata."""
    pixels = np.full((64, 64), 7, "int16")
    pixels[32:, 32:] = 3
    tile(folder, "2000/y0_x0.tif", pixels, SPARSE_OK=True, nodata=7)


def other_bits(folder: Path, tell: str = "<", **profile: Any) -> None:
    """Blocks that are not compressed, with the tag of FillOrder 2 in the place of one that TIFF does not require; the first and last are nodata."""
    pixels = np.full((64, 64), -1, "int8").astype("uint8")
    pixels[:32, 32:] = pixels_of((32, 32), "uint8")
    tile(folder, "2000/y0_x0.tif", pixels, compress=None, nodata=255, **profile)
    path = folder / "tiles/2000/y0_x0.tif"
    content = bytearray(path.read_bytes())
    number, size, start = ("Q", 20, 16) if "BIGTIFF" in profile else ("H", 12, 8)
    (n,) = struct.unpack_from(tell + number, content, start)
    first = start + struct.calcsize(number)
    entries = [bytes(content[at : at + size]) for at in range(first, first + n * size, size)]
    kept = [e for e in entries if struct.unpack_from(tell + "H", e)[0] != 284]  # PlanarConfiguration
    value = struct.pack(tell + ("HHQHHHH" if size == 20 else "HHIHH"), 266, 3, 1, 2, *([0] * (3 if size == 20 else 1)))
    kept = sorted([*kept, value], key=lambda e: struct.unpack_from(tell + "H", e)[0])
    content[first : first + n * size] = b"".join(kept)
    path.write_bytes(content)
    with rasterio.open(path) as src:
        assert (src.read(1) != pixels).any()


BYTES = {"dtype": "uint8", "fill": "255", "codec": "none"}

SMALL = (("shape: {y: 96, x: 120}, region: {y: 64, x: 64}", "shape: {y: 48, x: 32}, region: {y: 48, x: 32}"),)

REFUSED: list[tuple[str, Callable[[Path], Any], dict[str, Any]]] = [
    ("its blocks are LZW, the variable's chunks zstd", lambda f: one(f, compress="lzw"), {}),
    ("its blocks are ZSTD, the variable's chunks not compressed", one, {"codec": "none"}),
    ("its blocks are not compressed, the variable's chunks zstd", lambda f: one(f, compress=None), {}),
    ("its blocks are written with predictor 2", lambda f: one(f, predictor=2), {}),
    ("its pixels are big-endian", lambda f: one(f, ENDIANNESS="BIG"), {}),
    ("it is uint8, the variable is int16", lambda f: one(f, dtype="uint8", nodata=None), {}),
    ("its blocks are 16 x 16 pixels", lambda f: one(f, blockxsize=16, blockysize=16), {}),
    ("its nodata 3 is not the fill value -1", lambda f: one(f, nodata=3), {}),
    ("it has no nodata, so valid pixels may equal the fill value", lambda f: one(f, nodata=None), {}),
    ("it leaves out blocks, which read as 7", sparse, {"more": ", nodata: -1"}),
    ("the bits of its bytes run the other way", other_bits, BYTES),
    ("bits of its bytes run the other way", lambda f: other_bits(f, BIGTIFF="YES"), BYTES),
    ("of its bytes run the other way", lambda f: other_bits(f, ">", ENDIANNESS="BIG"), BYTES),
    ("mix bands", two_bands, {"more": ", band: 1"}),
    ("is the last strip short", strips, {"changes": SMALL}),
    ("its rows run the other way", one, {"changes": (("origin: {x: 0, y: 20}", "origin: {x: 0, y: 13.6}"), ("y: -1/10", "y: 1/10"))}),
    ("which are no whole chunks of 32", one, {"more": ", overlap: {y: 8, x: 8}, tile: {y: 56, x: 56}", "changes": (
        ("shape: {y: 96, x: 120}", "shape: {y: 120, x: 120}"),)}),
]  # fmt: skip


QUICK = (
    "its blocks are LZW",
    "it has no nodata",
    "the bits of its bytes",
    "is the last strip short",
    "which are no whole chunks",
)
"""Of those, what is tried each time; one of each kind of test that finds it."""


@pytest.mark.parametrize(
    ("reason", "write", "spec"),
    [pytest.param(*r, id=r[0], marks=() if r[0].startswith(QUICK) else pytest.mark.slow) for r in REFUSED],
)
def test_a_tile_that_must_be_decoded_is_refused_with_the_reason(
    tmp_path: Path, reason: str, write: Callable[[Path], Any], spec: dict[str, Any]
) -> None:
    write(tmp_path)
    cube = ci.init(write_spec(tmp_path, **spec), tmp_path / "cube")
    said = cube.plan(region="y0_x0", year=2000).blocks
    assert said is not None
    for virtual in (True, False):
        report = cube.ingest(virtual=virtual, copy_blocks=not virtual, region="y0_x0", year=2000)
        assert report.written == 0
        assert [reason in f.error for f in report.failed] == [True], report.failed
    if "strip" not in reason:
        assert (said.copyable, said.virtual) == (0, 0)
        assert reason in str(said.reason)
    assert cube.ingest(region="y0_x0", year=2000).written == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("compressor: {name: zstd}", "compressor: {name: gzip}"), "compressed with gzip"),
        (("compressor:", "shards: {year: 1, y: 64, x: 64}, compressor:"), "it has shards"),
        (("chunks: {year: 1", "chunks: {year: 2"), "its chunks span several values of year"),
    ],
)
def test_a_variable_whose_chunks_no_blocks_can_be_is_refused_at_once(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    write_tiles(tmp_path)
    cube = ci.init(write_spec(tmp_path, changes=(change,)), tmp_path / "cube")
    with pytest.raises(SpecError, match=reason):
        cube.ingest(copy_blocks=True)
    said = cube.plan().blocks
    assert said is not None
    assert said.copyable == 0
    assert reason in str(said.reason)


def test_two_tiles_that_share_a_chunk_are_refused(tmp_path: Path) -> None:
    write_tiles(tmp_path)
    tile(tmp_path, "2000/again.tif", pixels_of((32, 32), seed=9))
    spec = write_spec(
        tmp_path, changes=(('href: "tiles/{year}/{id}.tif", missing: absent', 'tiles: {glob: "tiles/{year}/*.tif"}'),)
    )
    report = ci.init(spec, tmp_path / "cube").ingest(copy_blocks=True)
    assert report.written == 3
    assert ["shares pixels with" in f.error for f in report.failed] == [True]


def test_a_plan_says_that_a_large_remote_tile_is_not_fetched_for_a_small_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cubeingest.ingest.blocks.COPY_BYTES", 0)
    path = tile(tmp_path, "all.tif", pixels_of((96, 192)), compress=None)
    with open_site() as site:
        href = site.put("/all.tif", path.read_bytes())
        changes = (('href: "tiles/{year}/{id}.tif", missing: absent', f'file: "{href}"'), ("[2000, 2001]", "[2000]"))
        cube = ci.init(write_spec(tmp_path, codec="none", changes=changes), tmp_path / "cube")
        said = cube.plan(region="y0_x0").blocks
        (failure,) = cube.ingest(region="y0_x0", copy_blocks=True).failed
    assert said is not None
    assert (said.copyable, said.virtual) == (0, 0)
    assert "only a small part" in str(said.reason)
    assert failure.error.startswith(str(said.reason))
    assert "files of this machine" in str(said.why_not_virtual)
    assert f"; not copied: {said.reason}; not referred to: {said.why_not_virtual}" in describe_blocks(said)


# ---- references -----------------------------------------------------------------------------------------------


def virtual_cube(folder: Path, **options: Any) -> ci.Cube:
    write_tiles(folder)
    cube = ci.init(write_spec(folder), folder / "cube")
    report = cube.ingest(virtual=True, **options)
    assert (report.written, report.failed, report.to_json()["how"]) == (4, [], "virtual")
    return cube


def put_back_older(path: Path, pixels: np.ndarray) -> None:
    """Another tile in the place of one, and older, as a backup that is restored."""
    then = path.stat().st_mtime_ns - 10**12
    tile(path.parents[2], f"2000/{path.name}", pixels)
    os.utime(path, ns=(then, then))


def test_a_tile_that_changed_is_an_error_for_every_reader_and_never_wrong_pixels(tmp_path: Path) -> None:
    import icechunk

    cube = virtual_cube(tmp_path)
    changed, gone = tmp_path / "tiles/2000/y0_x0.tif", tmp_path / "tiles/2000/y1_x0.tif"
    put_back_older(changed, pixels_of((64, 64), seed=8))
    gone.unlink()
    ds = cube.dataset()["v"]
    for part in (ds[0, 40, 40], ds[0, 70, 3]):
        with pytest.raises(icechunk.IcechunkError):
            part.load()
    assert int(ds[0, 0, 70]) == int(pixels_of((64, 56), seed=1)[0, 6])
    for deep in (False, True):
        found = {f.slot: f for f in cube.check(deep=deep).findings if f.kind == "reference"}
        assert [(s.iy, s.ix) for s in found if s] == [(0, 0), (1, 0)]
        assert all("--redo --region" in f.remedy for f in found.values())
    report = cube.materialize()
    assert report.written == 2
    assert sorted("another than" in f.error for f in report.failed) == [False, True]
    assert cube.status().virtual == 2
    assert cube.ingest(region="y0_x0").written == 1
    assert cube.status().virtual == 1


def test_materialize_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    cube = virtual_cube(tmp_path)
    before = bits(values(tmp_path / "cube"))
    first = cube.store.tip
    assert cube.materialize(limit=1).written == 1
    assert cube.status().virtual == 3
    assert [c.change for c in cube.diff(first)] == ["reread"]
    assert cube.materialize(mode="independent", year=2000).written == 2
    assert (cube.materialize().written, cube.materialize().planned) == (1, 0)
    shutil.rmtree(tmp_path / "tiles")
    assert bits(values(tmp_path / "cube")) == before
    assert cube.check(deep=True).findings == []


@pytest.mark.slow
def test_references_and_pixels_take_the_place_of_each_other(tmp_path: Path) -> None:
    cube = virtual_cube(tmp_path, mode="independent")
    before = bits(values(tmp_path / "cube"))
    for options, virtual in (({}, 0), ({"virtual": True}, 4), ({"copy_blocks": True}, 0)):
        older = cube.store.tip
        assert cube.ingest(redo=True, **options).written == 4
        assert cube.status().virtual == virtual
        assert {c.change for c in cube.diff(older)} == {"reread"}
        assert bits(values(tmp_path / "cube")) == before
        assert cube.check(deep=True).findings == []


def test_readers_without_cubeingest_name_the_place_and_others_must_allow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import icechunk
    import xarray as xr

    cube = virtual_cube(tmp_path)
    expected = bits(values(tmp_path / "cube"))
    prefix = f"file://{tmp_path}/tiles/"
    storage = icechunk.local_filesystem_storage(str(tmp_path / "cube"))
    repo = icechunk.Repository.open(
        storage, authorize_virtual_chunk_access={prefix: icechunk.credentials.LocalFileSystemAccess}
    )
    ds = xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None)
    assert bits(ds["v"].values) == expected
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another person"))
    other = ci.open(tmp_path / "cube")
    with pytest.raises(icechunk.IcechunkError, match="authorize"):
        values(tmp_path / "cube")
    assert "CUBEINGEST_VIRTUAL" in other.materialize().failed[0].error
    assert "CUBEINGEST_VIRTUAL" in other.verify().missing[0]["error"]
    assert [f.kind for f in other.check(deep=True).findings] == ["access"]
    monkeypatch.setenv("CUBEINGEST_VIRTUAL", prefix)
    assert bits(values(tmp_path / "cube")) == expected
    assert cube.store.repo.config.virtual_chunk_containers is not None


def test_a_cube_with_references_grows_and_is_published(tmp_path: Path) -> None:
    cube = virtual_cube(tmp_path, branch="beside")
    assert cube.status().done == 0
    assert cube.publish("beside").action == "published"
    before = bits(values(tmp_path / "cube"))
    cube.extend(year=2002)
    assert bits(values(tmp_path / "cube")[:2]) == before
    assert ci.open(tmp_path / "cube").check(deep=True).findings == []
    tile(tmp_path, "2002/y0_x0.tif", pixels_of((64, 64), seed=5))
    again = ci.open(tmp_path / "cube")
    assert again.ingest(virtual=True, year=2002).written == 1
    assert again.status().virtual == 5


@pytest.mark.slow
def test_worker_processes_and_commands_do_the_same(tmp_path: Path, run: Callable[..., Ran]) -> None:
    write_tiles(tmp_path)
    write_spec(tmp_path)
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    call = lambda *args: run(*args, cwd=tmp_path, env=env)  # noqa: E731
    assert call("init", "grid.yaml", "--store", "cube").code == 0
    assert "--virtual and --copy-blocks can fill every slot" in call("plan").out
    assert call("ingest", "--virtual", "--copy-blocks").code == 2
    done = call("ingest", "--virtual", "--workers", 2, "--json")
    assert (done.code, done.json["written"], done.json["how"]) == (0, 4, "virtual"), done.err
    assert "4 of the slots done refer to tiles" in call("status").out
    assert call("status", "--json").json["virtual"] == 4
    assert call("materialize", "--workers", 2, "--mode", "independent", "--year", 2000, "--json").json["written"] == 3
    last = call("materialize")
    assert (last.code, last.out.startswith("1 written")) == (0, True)
    assert json.loads(call("check", "--deep", "--json").out)["sound"] is True


def test_names_that_a_url_writes_otherwise_are_referred_to(tmp_path: Path) -> None:
    odd = tmp_path / "a b" / "50% done#1"
    write_tiles(odd)
    shutil.move(odd / "tiles" / "2000", odd / "tiles" / "2000é?")
    spec = write_spec(tmp_path, changes=(
        ('href: "tiles/{year}/{id}.tif", missing: absent', f'tiles: {{glob: "{tmp_path}/a b/50% done#1/tiles/{{year}}*/*.tif"}}'),
    ))  # fmt: skip
    cube = ci.init(spec, tmp_path / "cube")
    report = cube.ingest(virtual=True)
    assert (report.written, report.failed) == (4, [])
    assert cube.verify().equal == 4
    (folder,) = cube.on("main").store.repo.config.virtual_chunk_containers or {}
    assert folder == f"file://{tmp_path}/"


@pytest.mark.slow
def test_tiles_and_cube_in_an_object_store(tmp_path: Path, bucket: Bucket) -> None:
    import icechunk

    write_tiles(tmp_path)
    for path in (tmp_path / "tiles").rglob("*.tif"):
        bucket.put(str(path.relative_to(tmp_path)), path)
    spec = write_spec(tmp_path, href=bucket.uri("tiles/{year}/{id}.tif"))
    plain = ci.init(spec, tmp_path / "plain")
    assert plain.ingest().written == 4
    said = plain.plan(redo=True).blocks
    assert said is not None
    assert (said.copyable, said.virtual) == (4, 4), said
    for how, mode in (("virtual", "cooperative"), ("copied", "independent")):
        cube = ci.init(spec, bucket.uri(how))
        report = cube.ingest(virtual=how == "virtual", copy_blocks=how == "copied", mode=mode)
        assert (report.written, report.failed) == (4, [])
        assert bits(values(bucket.uri(how))) == bits(values(tmp_path / "plain"))
        assert cube.check(deep=True).findings == []
    cube = ci.open(bucket.uri("virtual"))
    (container,) = (cube.store.repo.config.virtual_chunk_containers or {}).values()
    assert "SECRET" not in repr(container).upper()
    tile(tmp_path, "2000/y0_x0.tif", pixels_of((64, 64), seed=8))
    bucket.put("tiles/2000/y0_x0.tif", tmp_path / "tiles/2000/y0_x0.tif")
    with pytest.raises(icechunk.IcechunkError):
        cube.dataset()["v"][0, 40, 40].load()
    assert [f.kind for f in cube.check().findings] == ["reference"]
    report = cube.materialize()
    assert (report.written, len(report.failed)) == (3, 1)


def test_a_changed_cube_sends_nobodys_credentials_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place counts with its endpoint: one that was allowed is not allowed by another server."""
    import icechunk

    from cubeingest.store.references import access_to

    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    write_tiles(tmp_path)
    cube = ci.init(write_spec(tmp_path), tmp_path / "cube")
    declare(cube.store, [Place("s3://bucket/tiles/", Storage("http://127.0.0.1:1")), Place("s3://other/")])
    repo = ci.open(tmp_path / "cube").store.repo
    assert sorted(access_to(repo, cube.store.cube_id)) == ["s3://bucket/tiles/", "s3://other/"]
    assert access_to(repo, "another cube") == {}
    config = repo.config
    config.set_virtual_chunk_container(Place("s3://bucket/tiles/", Storage("http://127.0.0.1:2")).container())
    icechunk.Repository.open(repo.storage, config=config).save_config()
    assert sorted(access_to(ci.open(tmp_path / "cube").store.repo, cube.store.cube_id)) == ["s3://other/"]
    monkeypatch.setenv("CUBEINGEST_VIRTUAL", "s3://bucket/tiles file:///data")
    assert sorted(access_to(ci.open(tmp_path / "cube").store.repo, "another cube")) == []


def test_a_cube_that_is_extended_after_the_plan_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiles(tmp_path)
    cube = ci.init(write_spec(tmp_path), tmp_path / "cube")

    def extend_and_declare(store: Store, places: list[Place]) -> None:
        ci.open(tmp_path / "cube").extend(year=2002)
        declare(store, places)

    monkeypatch.setattr("cubeingest.ingest.places.declare", extend_and_declare)
    with pytest.raises(StoreError, match="was changed during this run"):
        cube.ingest(virtual=True)
    monkeypatch.undo()
    assert ci.open(tmp_path / "cube").status().done == 0


def test_a_cube_of_an_earlier_version_gets_room_for_references(tmp_path: Path) -> None:
    import zarr

    write_tiles(tmp_path)
    cube = ci.init(write_spec(tmp_path), tmp_path / "cube")
    session = cube.store.writable()
    del zarr.open_group(session.store, mode="r+")["cubeingest/ledger/v/virtual"]
    session.commit("as it was")
    assert cube.check().findings == []
    reference = Record("done", (), "", "", "2026-01-01T00:00:00Z", "run", "virtual")
    with pytest.raises(FileNotFoundError):  # never a record without its flag
        write_record(cube.store.writable(), Slot("v", (0,), 0, 0), reference, is_new=True)
    assert cube.ingest(region="y0_x0").written == 1
    assert cube.ingest(region="y0_x0", redo=True).written == 1
    cube.extend(year=2002)
    assert cube.status().virtual == 0
    assert cube.ingest(virtual=True).written == 3
    assert cube.status().virtual == 3
    assert cube.check(deep=True).findings == []


@pytest.mark.parametrize(
    ("urls", "roots", "places"),
    [
        (["file:///a/t/2000/x.tif", "file:///a/t/2001/x.tif"], ["file:///a/t/"], ["file:///a/t/"]),
        (["file:///a/t/2000/x.tif", "file:///b/x.tif"], ["file:///"], ["file:///a/t/2000/", "file:///b/"]),
        (["file:///home/me/a/x.tif", "file:///home/me/b/y.tif"], [], ["file:///home/me/a/", "file:///home/me/b/"]),
        (["file:///a/x%23/x.tif", "file:///a/y/x.tif"], [], ["file:///a/"]),
        (["file:///a/y/x.tif", "file:///a/x.tif"], [], ["file:///a/"]),
        (["s3://b/x.tif", "s3://c/t/x.tif"], ["s3://b/"], ["s3://b/", "s3://c/t/"]),
        (["file:///k/t/x.tif"], ["file:///k/t/"], []),
    ],
)
def test_places_are_folders_of_the_spec_or_of_tiles_and_never_what_several_share(
    urls: list[str], roots: list[str], places: list[str]
) -> None:
    found = find_places(dict.fromkeys(urls, Storage()), roots, ["file:///k/"])
    assert sorted(p.prefix for p in found) == places


def test_places_that_cannot_be_or_are_too_many_are_refused() -> None:
    with pytest.raises(CubeIngestError, match="plain letters"):
        find_places({"file:///a%23/x.tif": Storage()}, [], [])
    many = {f"file:///a/{n}/x.tif": Storage() for n in range(33)}
    with pytest.raises(CubeIngestError, match=r"more than 32 folders .*CUBEINGEST_VIRTUAL"):
        find_places(many, [], [])
    assert [p.prefix for p in find_places(many, ["file:///a/"], [])] == ["file:///a/"]


def test_a_place_that_the_cubes_maker_declared_is_not_opened_by_an_ingest_within_it(tmp_path: Path) -> None:
    import icechunk

    (tmp_path / "secret").write_bytes(b"S" * 2048)
    tile(tmp_path, "2000/y0_x0.tif", pixels_of((64, 64)), compress=None)
    cube = ci.init(write_spec(tmp_path, codec="none"), tmp_path / "cube")
    config = cube.store.repo.config
    config.set_virtual_chunk_container(Place(f"file://{tmp_path}/").container())
    icechunk.Repository.open(cube.store.repo.storage, config=config).save_config()
    session = ci.open(tmp_path / "cube").store.writable()
    session.store.set_virtual_ref("v/c/0/2/0", f"file://{tmp_path}/secret", offset=0, length=2048)
    session.commit("a trap")
    for redo in (False, True):
        report = ci.open(tmp_path / "cube").ingest(virtual=True, region="y0_x0", year=2000, redo=redo)
        assert (report.written, report.failed) == (1, [])
        repo = ci.open(tmp_path / "cube").store.repo
        assert opened_by_this_user(repo) == [f"file://{tmp_path}/tiles/"]
        ds = ci.open(tmp_path / "cube").dataset()["v"]
        assert bits(ds[0, :64, :64].values) == bits(pixels_of((64, 64)))
        with pytest.raises(icechunk.IcechunkError, match="authorize"):
            ds[0, 70, 3].load()


def test_each_place_is_reached_as_its_own_kind_whatever_the_spec_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spec whose patterns are all local, with a table that names an object store too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    cube = ci.init(write_spec(tmp_path), tmp_path / "cube")
    hrefs = ("s3://bucket/tiles/a.tif", f"{tmp_path}/tiles/b.tif")
    slot = SlotPlan(Slot("v", (0,), 0, 0), tuple(TileRow(h, (0,), 0, 0) for h in hrefs), is_new=True)
    plan = Plan((Task(("year",), (0,), 0, 0, (slot,)),), ())
    for _ in range(2):
        store = prepare_blocks(cube.store, plan, "virtual")
        containers = store.repo.config.virtual_chunk_containers or {}
        assert opened_by_this_user(store.repo) == [f"file://{tmp_path}/tiles/", "s3://bucket/tiles/"]
        assert containers["s3://bucket/tiles/"].store[0].endpoint_url == "http://127.0.0.1:1"
