"""What is stored, against a count of every chunk's bytes and pixels one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import icechunk
import numpy as np
import pytest
import zarr
from hypothesis import given, settings

import cubeingest as ci
from cubeingest.contents import Pieces, Sizes, ask_objects, constant, list_objects, manifests_of
from cubeingest.contents import index as index_module
from cubeingest.ledger import present_chunks
from cubeingest.spec import Variable, build_codec
from tests.conftest import Ran, World, write_tile

Invoke = Callable[..., Ran]

MANY = """\
axes:
  year: {values: [2000, 2005, 2010]}
  band: {values: [red, nir]}
variables:
  a:
    dtype: uint8
    fill_value: 0
    chunks: {year: 1, band: 1, y: 50, x: 50}
  b:
    dtype: float32
    fill_value: .nan
    axes: [year]
    chunks: {year: 2, y: 20, x: 25}
    shards: {year: 2, y: 100, x: 100}
"""


def each_object(cube: ci.Cube, name: str) -> dict[tuple[int, ...], int]:
    """Bytes of each object of a variable, asked one by one."""
    from zarr.core.sync import sync

    session = cube.store.readonly()
    return {
        p: sync(session.store.getsize(f"{name}/c/{'/'.join(map(str, p))}")) for p in present_chunks(session, f"/{name}")
    }


@pytest.fixture
def many(make_cube: Callable[[str], ci.Cube]) -> ci.Cube:
    """Two variables, of chunks and of shards, with noise, chunks of one value, chunks that are not there, and two axes."""
    cube = make_cube(MANY)
    rng = np.random.default_rng(0)
    session = cube.store.writable()
    a, b = (zarr.open_array(session.store, path=name, mode="r+") for name in "ab")
    a[0, 0] = rng.integers(1, 200, (200, 250))
    a[0, 1] = 7
    a[0, 1, 10, 10] = 8
    a[1, 0, :100] = rng.integers(1, 3, (100, 250))
    a[1, 1, 100:, 200:] = 3
    b[:2, :100, :100] = rng.random((2, 100, 100), np.float32)
    b[2, 150, 240] = 1
    session.commit("pixels")
    return cube


def test_counts_and_bytes_are_those_of_every_object(many: ci.Cube) -> None:
    found = many.chunks()
    assert found.snapshot == many.store.tip
    for v, spec in zip(found.variables, many.spec.variables, strict=True):
        objects = each_object(many, v.name)
        shape = many.spec.shape_of(spec)
        lengths = sorted(objects.values())
        raw = sum(
            prod(min(p, n - i * p) for i, p, n in zip(place, spec.write_shape, shape, strict=True)) for place in objects
        )
        assert (v.amount.present, v.amount.stored) == (len(lengths), sum(lengths))
        assert v.amount.raw == raw * spec.np_dtype.itemsize
        assert v.amount.total == prod(-(-n // p) for n, p in zip(shape, spec.write_shape, strict=True))
        assert v.amount.ratio == v.amount.raw / v.amount.stored
        assert (v.smallest, v.median, v.largest) == (lengths[0], lengths[(len(lengths) - 1) // 2], lengths[-1])
        assert v.histogram == {
            2**k: n
            for k in range(lengths[0].bit_length() - 1, lengths[-1].bit_length())
            if (n := sum(2**k <= length < 2 ** (k + 1) for length in lengths)) or True
        }
        inline = sum(length <= 512 for length in lengths)
        assert v.kinds == {"native": len(lengths) - inline, "virtual": 0, "inline": inline}
        for axis, labels in v.by.items():
            d = spec.dims.index(axis)
            for block, (label, amount) in enumerate(labels.items()):
                size = many.grid.axis(axis).block
                of = [length for place, length in objects.items() if place[d] * spec.write_shape[d] // size == block]
                assert label == many.grid.axis(axis).block_label(block)
                assert (amount.present, amount.stored) == (len(of), sum(of))
            assert sum(amount.total for amount in labels.values()) == v.amount.total
            assert sum(amount.raw for amount in labels.values()) == v.amount.raw
    assert [v.kind for v in found.variables] == ["chunk", "shard"]


SELECTIONS: list[dict[str, Any]] = [
    {"year": "2000..2005"},
    {"region": "y1_x2"},
    {"region": ["y0_x0", "y1_x2"], "year": "2000..2005"},
    {"bbox": (3, 11, 12, 19)},
]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
def test_of_a_selection_only_its_chunks_are_counted(many: ci.Cube, selection: dict[str, Any]) -> None:
    for v in many.chunks(**selection).variables:
        spec = many.spec.variable(v.name)
        counts = [-(-n // p) for n, p in zip(many.spec.shape_of(spec), spec.write_shape, strict=True)]
        regions = selection.get("region") or many.grid.regions(selection.get("bbox"), crs="EPSG:4326")
        slices = [many.grid.region(r) for r in ([regions] if isinstance(regions, str) else regions)]

        def is_in(place: tuple[int, ...], spec: Any = spec, slices: Any = slices) -> bool:
            starts = {dim: i * p for dim, i, p in zip(spec.dims, place, spec.write_shape, strict=True)}
            in_region = any(all(s[d].start <= starts[d] < s[d].stop for d in ("y", "x")) for s in slices)
            return in_region and ("year" not in selection or starts["year"] < 2)

        wanted = [place for place in itertools.product(*map(range, counts)) if is_in(place)]
        objects = each_object(many, v.name)
        assert v.amount.total == len(wanted)
        assert v.amount.present == len(set(wanted) & set(objects))
        assert v.amount.stored == sum(length for place, length in objects.items() if place in wanted)
        assert all(sum(a.total for a in rows.values()) == v.amount.total for rows in v.by.values())


def test_chunks_of_one_value_are_those_that_are_read_as_such(many: ci.Cube) -> None:
    a, b = many.chunks().variables
    pixels = np.asarray(zarr.open_array(many.store.readonly().store, path="a", mode="r")[...])
    constant_chunks = 0
    for place in each_object(many, "a"):
        part = pixels[tuple(slice(i * c, (i + 1) * c) for i, c in zip(place, (1, 1, 50, 50), strict=True))]
        constant_chunks += part.min() == part.max()
    assert constant_chunks == 21
    assert (a.constant.count, a.constant.is_exact) == (21, True)
    assert a.constant.candidates >= 22  # the one with a single other pixel is as small
    assert (b.constant.count, b.constant.why_not) == (None, "what lies in a shard is not in the chunk index")


CODECS: list[tuple[str, dict[str, Any]]] = [
    ("uint8", {"name": "zstd", "level": 3}),
    ("int16", {"name": "zstd", "level": 9}),
    ("float64", {"name": "blosc"}),
    ("float32", {"name": "gzip", "level": 1}),
    ("bool", {"name": "zstd", "level": 3}),
]


@pytest.mark.parametrize(("dtype", "compressor"), CODECS, ids=[f"{d} {c['name']}" for d, c in CODECS])
def test_a_chunk_of_one_value_is_a_candidate_whatever_the_codec_and_the_end_of_the_array(
    dtype: str, compressor: dict[str, Any]
) -> None:
    """Chunks of 64 x 90, of which the last row and column reach past the end."""
    rng = np.random.default_rng(1)
    values = [True] if dtype == "bool" else [*rng.integers(1, 100, 20), *(rng.random(20) if dtype[0] == "f" else ())]
    for shape, chunks in (((200, 250), (64, 90)), ((64, 90), (64, 90)), ((5, 5), (5, 5))):
        v = Variable("v", dtype, 0, (), ("y", "x"), chunks, None, compressor, {}, None)
        repo = icechunk.Repository.create(icechunk.in_memory_storage())
        session = repo.writable_session("main")
        array = zarr.create_array(
            session.store, name="v", shape=shape, chunks=chunks, dtype=dtype, fill_value=0, compressors=build_codec(compressor),
        )  # fmt: skip
        pieces = Pieces(shape, chunks)
        at_most = constant.bytes_of_constant(array, v, pieces)
        for value in values:
            array[...] = value
            found = [batch.lengths for batch in list_objects(session, "v", pieces)]
            assert max(map(max, found)) <= at_most
            candidates = constant.Candidates(at_most)
            for batch in list_objects(session, "v", pieces):
                candidates.add(batch.index, batch.lengths)
            told = constant.count_constant(session, array, v, pieces, candidates)
            assert (told.count, told.is_exact) == (pieces.total, True)
        array[...] = rng.random(shape) < 0.5
        candidates = constant.Candidates(10**9)
        for batch in list_objects(session, "v", pieces):
            candidates.add(batch.index, batch.lengths)
        assert constant.count_constant(session, array, v, pieces, candidates).count == 0


def test_of_very_many_candidates_some_are_read_evenly(many: ci.Cube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constant, "READ", 10)
    told = many.chunks().variables[0].constant
    assert (told.read, told.is_exact) == (10, False)
    assert told.count is not None
    assert abs(told.count - 21) <= 0.3 * told.candidates


@given(counts=st.lists(st.integers(0, 3000), min_size=1, max_size=8))
@settings(deadline=None, max_examples=50)
def test_candidates_are_kept_evenly_and_all_are_counted(counts: list[int]) -> None:
    kept, n = constant.Candidates(5), 0
    for count in counts:
        index = np.arange(n, n + count)[:, np.newaxis]
        kept.add(index, np.full(count, 5))
        n += count
    chosen = kept.chosen().reshape(-1)
    assert kept.count == n
    assert len(chosen) == min(n, len(chosen)) <= constant.READ
    assert (np.diff(chosen) > 0).all()
    if n <= constant.READ:
        assert chosen.tolist() == list(range(n))
    else:
        assert np.diff(chosen).max() <= 2 * max(2, n // (constant.READ // 2))


def test_chunks_without_compression_are_not_read_to_tell(make_cube: Callable[[str], ci.Cube]) -> None:
    cube = make_cube("variables: {v: {dtype: uint16, fill_value: 0, chunks: {y: 100, x: 100}, compressor: none}}\n")
    session = cube.store.writable()
    zarr.open_array(session.store, path="v", mode="r+")[...] = 4
    session.commit("pixels")
    (v,) = cube.chunks().variables
    assert v.constant.count is None
    assert "very many would have to be read" in v.constant.why_not
    assert v.amount.ratio == pytest.approx(250 / 300, abs=1e-3)  # the last column of chunks is stored whole


@given(batches=st.lists(st.lists(st.integers(0, 5000), max_size=50), max_size=6), held=st.integers(1, 60))
@settings(deadline=None)
def test_sizes_are_exact_however_they_come(batches: list[list[int]], held: int) -> None:
    from cubeingest.contents import sizes as module

    before, module.HELD = module.HELD, held
    try:
        sizes = Sizes()
        for batch in batches:
            sizes.add(np.array(batch, np.int64))
        every = sorted(itertools.chain(*batches))
        assert (sizes.smallest, sizes.largest) == ((every[0], every[-1]) if every else (None, None))
        assert sizes.median == (every[(len(every) - 1) // 2] if every else None)
        assert sum(sizes.histogram().values()) == len(every)
        assert all(sum(s <= max(e, 1) < 2 * s for e in every) == n for s, n in sizes.histogram().items())
    finally:
        module.HELD = before


def test_objects_asked_for_singly_are_those_of_the_list(many: ci.Cube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "BATCH", 3)
    session = many.store.readonly()
    for v in many.spec.variables:
        pieces = Pieces(many.spec.shape_of(v), v.write_shape)
        listed = {
            tuple(i): (k, n)
            for batch in list_objects(session, v.name, pieces)
            for i, k, n in zip(batch.index.tolist(), batch.kinds.tolist(), batch.lengths.tolist(), strict=True)
        }
        index = np.array(list(np.ndindex(*pieces.counts)))
        keys = [f"{v.name}/c/{'/'.join(map(str, i))}" for i in index.tolist()]
        found = ask_objects(session, v.name, index, keys)
        rows = zip(found.index.tolist(), found.kinds.tolist(), found.lengths.tolist(), strict=True)
        assert {tuple(i): (k, n) for i, k, n in rows} == listed


def test_manifests_are_those_files_that_the_index_lies_in(many: ci.Cube) -> None:
    """One a region and block of the axes, as the cube's splitting has it; a part of the cube needs those that speak of it."""
    files = {p.name: p.stat().st_size for p in (Path(many.store.uri) / "manifests").iterdir()}
    found = manifests_of(many.store.repo, many.store.tip, "a")
    assert found.count == 6 + 6 + 3 + 1
    assert found.largest in files.values()
    assert found.bytes < sum(files.values())
    along = [np.array([0, 2]), np.array([0, 1]), np.array([0]), np.array([0, 4])]
    assert manifests_of(many.store.repo, many.store.tip, "a", along).count == 2 * 2
    assert manifests_of(many.store.repo, many.store.tip, "a", [np.array([2]), np.array([0])]).count == 0


def test_references_are_told_from_chunks_and_may_be_closed_to_the_reader(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One region of references whose blocks are of one value, one of chunks."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    world.write_spec(("chunks: {year: 1, y: 50, x: 50}", "chunks: {year: 1, y: 16, x: 16}"), ("region: {y: 100, x: 100}", "region: {y: 80, x: 80}"),
                     ("shape: {y: 200, x: 250}", "shape: {y: 160, x: 240}"), ("origin: {x: 0, y: 20}", "origin: {x: 0, y: 16}"))  # fmt: skip
    world.spec_file.write_text(world.spec_file.read_text().replace('"{top:02H}_{left:03H}"', "y{iy}_x{ix}"))
    folder = world.folder / "tiles" / "2000"
    for ix in (0, 1):
        pixels = world.rng.integers(0, 200, (80, 80), dtype=np.uint8)
        pixels[:32] = 9
        write_tile(
            folder / f"y0_x{ix}.tif",
            pixels,
            8 * ix,
            16,
            tiled=True,
            blockxsize=16,
            blockysize=16,
            compress="zstd",
            nodata=255,
        )
    (world.folder / "tiles" / "2000.txt").write_text("y0_x0.tif\ny0_x1.tif\n")
    cube = ci.init(world.spec_file)
    assert cube.ingest(year=2000, region="y0_x0", virtual=True).written == 1
    cube.ingest(year=2000, region="y0_x1")
    (v,) = cube.chunks().variables
    assert (v.kinds["virtual"], v.kinds["native"] + v.kinds["inline"], v.amount.present) == (25, 25, 50)
    assert (v.constant.count, v.constant.is_exact) == (20, True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    (v,) = ci.open(cube.store.uri).chunks().variables
    assert v.kinds["virtual"] == 25
    assert v.constant.count is None
    assert v.constant.why_not.startswith("a chunk cannot be read (")


# ---- as a person runs it --------------------------------------------------------------------------------------


def test_command_says_what_is_stored(world: World, invoke: Invoke) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest()
    done = invoke("chunks", "--store", world.store)
    assert done.code == 0, done.err
    for text in (
        "cover  uint8, chunks year=1 y=50 x=50",
        "24 of 40 chunks (60 %)",
        "24 files of their own",
        "2 KiB to 4 KiB",
        "██",
        "2005",
    ):
        assert text in done.out
    found = invoke("chunks", "--year", "2005", "--json", "--store", world.store).json
    objects = {k: n for k, n in each_object(cube, "cover").items() if k[0] == 1}
    (v,) = found["variables"]
    assert found["snapshot"] == cube.store.tip
    assert (v["present"], v["total"], v["bytes"]) == (len(objects), 20, sum(objects.values()))
    assert v["by"]["year"] == {"2005": {k: v[k] for k in ("present", "total", "bytes", "raw_bytes", "ratio")}}
    assert v["constant"] == {"count": 0, "exact": True, "candidates": 0, "read": 0, "at_most_bytes": v["constant"]["at_most_bytes"], "why_not": None}  # fmt: skip
    assert v["sizes"]["histogram"][0]["from"] <= v["sizes"]["smallest"] < v["sizes"]["histogram"][0]["below"]


def test_of_a_cube_without_chunks_there_is_nothing_to_tell(world: World, invoke: Invoke) -> None:
    cube = ci.init(world.spec_file)
    (v,) = cube.chunks().to_json()["variables"]
    assert (v["present"], v["total"], v["bytes"], v["ratio"], v["constant"]["count"]) == (0, 40, 0, None, 0)
    assert v["sizes"] == {"smallest": None, "median": None, "largest": None, "histogram": []}
    for args in ((), ("--json",)):
        done = invoke("chunks", *args, "--store", world.store)
        assert (done.code, done.out) == (2, "")
        assert done.err == "error: the cube holds no chunks yet: `cubeingest ingest` fills it\n"


def test_of_a_part_without_chunks_none_are_there(world: World, invoke: Invoke) -> None:
    ci.init(world.spec_file).ingest(year=2000)
    done = invoke("chunks", "--year", "2005", "--store", world.store)
    assert (done.code, done.err) == (0, "")
    assert "0 of 20 chunks (0 %)" in done.out


REFUSED: list[tuple[list[Any], str]] = [
    (["--year", "1999"], "axis 'year' has no value '1999'"),
    (["--variable", "cver"], "no variable 'cver'; did you mean 'cover'"),
    (["--region", "nowhere"], "no region 'nowhere'"),
    (["--yaer", "2000"], "no such option: --yaer; did you mean --year?"),
    (["--bbox", 100, 50, 110, 60], "overlaps no region"),
]


@pytest.mark.parametrize(("args", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_what_the_cube_does_not_have_is_refused(world: World, invoke: Invoke, args: list[Any], message: str) -> None:
    ci.init(world.spec_file)
    done = invoke("chunks", *args, "--store", world.store)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
