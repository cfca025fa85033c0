"""What a read would cost, against what the store really served when it was made."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import icechunk
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings

import cubeingest as ci
from cubeingest.contents import Pieces
from cubeingest.cost import EXAMPLES, count_reads, parse_query, reads
from cubeingest.cost.advice import better_chunks
from cubeingest.cost.positions import Positions
from cubeingest.cost.report import Link
from cubeingest.cost.reshape import estimate_reads
from cubeingest.errors import GridError
from cubeingest.ledger import present_chunks
from cubeingest.spec import Variable
from tests.conftest import Ran, World

FILL = 255


class CountingStore(icechunk.IcechunkStore):
    """Icechunk's own store, which notes what it is asked for and what it gives. ``get_ranges`` is the library's: it comes down to ``get``."""

    def __init__(self, session: icechunk.Session) -> None:
        super().__init__(session._session.store)
        self.served: list[tuple[str, int | None]] = []

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        found = await super().get(key, prototype, byte_range)
        if "/c/" in key:
            self.served.append((key, None if found is None else len(found)))
        return found

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        raise AssertionError("Zarr is expected to read by get and get_ranges")


@dataclass
class Served:
    """What a store served."""

    gets: int = 0
    bytes: int = 0
    keys: set[str] = field(default_factory=set)
    keys_there: set[str] = field(default_factory=set)
    requests: int = 0
    inline: int = 0


def serve(session: icechunk.Session, name: str, positions: list[np.ndarray]) -> Served:
    """Read ``positions`` of an array with Zarr, as a slice if they are one."""
    store = CountingStore(session)
    array = zarr.open_array(store, path=name, mode="r")
    if all(len(p) == p[-1] - p[0] + 1 for p in positions):
        array[tuple(slice(int(p[0]), int(p[-1]) + 1) for p in positions)]
    else:
        array.oindex[tuple(positions)]
    out = Served(len(store.served))
    for key, size in store.served:
        out.keys.add(key)
        if size is None:
            continue
        out.keys_there.add(key)
        out.bytes += size
        place = [int(i) for i in key.partition("/c/")[2].split("/")]
        if int(session.chunk_type(f"/{name}", place)) == 3:
            out.inline += size
        else:
            out.requests += 1
    return out


def runs(positions: list[np.ndarray]) -> list[Positions]:
    return [Positions.each(p.tolist()) for p in positions]


def variable(
    shape: tuple[int, ...], chunks: tuple[int, ...], shards: tuple[int, ...] | None, dtype: str = "uint8"
) -> Variable:
    axes = tuple("abc"[: len(shape) - 2])
    return Variable("v", dtype, FILL, axes, (*axes, "y", "x"), chunks, shards, {"name": "zstd", "level": 3}, {}, None)


def make_array(v: Variable, shape: tuple[int, ...], pixels: np.ndarray, inline_bytes: int = 512) -> icechunk.Session:
    """A read-only session on an array in memory."""
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=inline_bytes)
    repo = icechunk.Repository.create(icechunk.in_memory_storage(), config=config)
    session = repo.writable_session("main")
    array = zarr.create_array(
        session.store, name=v.name, shape=shape, chunks=v.chunks, shards=v.shards, dtype=v.dtype, fill_value=FILL,
        compressors=zarr.codecs.ZstdCodec(level=3),
    )  # fmt: skip
    array[...] = pixels
    session.commit("made")
    return repo.readonly_session("main")


def sparse_pixels(rng: np.random.Generator, v: Variable, shape: tuple[int, ...], share: float) -> np.ndarray:
    """Noise in a ``share`` of the chunks, of several kinds; fill value in the others."""
    pixels = np.full(shape, FILL, v.dtype)
    for place in itertools.product(*(range(-(-n // c)) for n, c in zip(shape, v.chunks, strict=True))):
        if rng.random() < share:
            part = tuple(slice(i * c, (i + 1) * c) for i, c in zip(place, v.chunks, strict=True))
            pixels[part] = rng.integers(0, int(rng.choice([1, 3, 200])), pixels[part].shape) + 1
    return pixels


def assert_as_served(
    session: icechunk.Session, v: Variable, shape: tuple[int, ...], positions: list[np.ndarray]
) -> None:
    found = count_reads(session, v, Pieces(shape, v.write_shape), runs(positions))
    served = serve(session, v.name, positions)
    objects, there = (found.shards, found.shards_present) if v.shards else (found.chunks, found.present)
    assert found.is_exact
    assert (objects, there) == (len(served.keys), len(served.keys_there))
    assert (found.gets, found.stored) == (served.gets, served.bytes)
    assert (found.requests, found.inline) == (served.requests, served.inline)


# ---- against the store ----------------------------------------------------------------------------------------


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Variable, tuple[int, ...], float, int, int]:
    n_axes = draw(st.integers(0, 2))
    shape = (*(draw(st.integers(1, 4)) for _ in range(n_axes)), draw(st.integers(1, 70)), draw(st.integers(1, 70)))
    chunks = tuple(draw(st.integers(1 if n < 10 else 7, min(n, 30))) for n in shape)
    shards = tuple(c * draw(st.integers(1, 3)) for c in chunks) if draw(st.booleans()) else None
    dtype = draw(st.sampled_from(["uint8", "float32"]))
    share = draw(st.sampled_from([0.0, 0.4, 1.0]))
    return (
        variable(shape, chunks, shards, dtype),
        shape,
        share,
        draw(st.sampled_from([0, 100, 512])),
        draw(st.integers(0, 99)),
    )


@given(made=arrays(), data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_chunks_requests_and_bytes_are_those_that_the_store_serves(made: Any, data: st.DataObject) -> None:
    v, shape, share, inline_bytes, seed = made
    rng = np.random.default_rng(seed)
    session = make_array(v, shape, sparse_pixels(rng, v, shape, share), inline_bytes)
    gap, most = data.draw(st.sampled_from([(1 << 20, 16 << 20), (0, 500), (100, 1000)]))
    with zarr.config.set({"array.sharding_coalesce_max_gap_bytes": gap, "array.sharding_coalesce_max_bytes": most}):
        for _ in range(3):
            positions = []
            for n in shape:
                start = data.draw(st.integers(0, n - 1))
                positions.append(np.arange(start, data.draw(st.integers(start + 1, n))))
            assert_as_served(session, v, shape, positions)
        several = [np.array(sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))) for n in shape]
        assert_as_served(session, v, shape, several)


@pytest.fixture
def shard_array() -> tuple[icechunk.Session, Variable, tuple[int, ...], np.ndarray]:
    """Four shards of 4 x 4 chunks of 32 x 32 in each of 2 years, and shards that reach past the end; a third of the chunks is absent, and one shard."""
    shape, v = (2, 320, 300), variable((2, 320, 300), (1, 32, 32), (1, 128, 128))
    pixels = sparse_pixels(np.random.default_rng(1), v, shape, 0.7)
    pixels[0, :128, 128:256] = FILL
    pixels[1, :128, :128] = np.random.default_rng(2).integers(0, 200, (128, 128))
    return make_array(v, shape, pixels), v, shape, pixels


@pytest.mark.parametrize("listed", [0, 10_000], ids=["listed", "asked singly"])
def test_shards_are_read_whole_in_parts_or_not_at_all(
    shard_array: tuple[icechunk.Session, Variable, tuple[int, ...], np.ndarray],
    listed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, v, shape, pixels = shard_array
    monkeypatch.setattr(reads, "ASKED_SINGLY", listed)
    whole = [np.array([1]), np.arange(128), np.arange(128)]
    at_end = [np.array([1]), np.arange(256, 320), np.arange(256, 300)]
    absent = [np.array([0]), np.arange(10), np.arange(130, 140)]
    for positions in (whole, at_end, absent, list(map(np.arange, shape)), [np.arange(2), np.array([5]), np.array([5])]):
        assert_as_served(session, v, shape, positions)
    found = count_reads(session, v, Pieces(shape, v.write_shape), runs(whole))
    assert (found.gets, found.chunks, found.present, found.rounds) == (1, 16, 16, 1)
    found = count_reads(session, v, Pieces(shape, v.write_shape), runs(at_end))
    assert found.gets == 2  # its index, and a range: a shard that reaches past the end is never read whole
    held = pixels[1, 256:320, 256:300].reshape(2, 32, -1)
    there = sum((held[i, :, j : j + 32] != FILL).any() for i in range(2) for j in (0, 32))
    assert (found.chunks, found.present, found.decoded) == (4, there, there * 1024)
    found = count_reads(session, v, Pieces(shape, v.write_shape), runs(absent))
    assert (found.gets, found.requests, found.stored, found.shards, found.shards_present) == (1, 0, 0, 1, 0)


def test_of_very_many_shards_some_are_read_and_it_is_said(
    shard_array: tuple[icechunk.Session, Variable, tuple[int, ...], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, v, shape, _ = shard_array
    everything = list(map(np.arange, shape))
    exact = count_reads(session, v, Pieces(shape, v.write_shape), runs(everything))
    monkeypatch.setattr(reads, "INDEXES_READ", 3)
    rough = count_reads(session, v, Pieces(shape, v.write_shape), runs(everything))
    assert exact.is_exact
    assert not rough.is_exact
    assert (rough.chunks, rough.shards, rough.shards_present) == (exact.chunks, exact.shards, exact.shards_present)
    for name in ("present", "requests", "stored"):
        assert 0.5 < getattr(rough, name) / getattr(exact, name) < 2


def test_rows_of_ranges_merge_as_zarr_merges_them() -> None:
    from zarr.abc.store import RangeByteRequest
    from zarr.core._coalesce import coalesce_ranges

    rng = np.random.default_rng(0)
    for gap, most in ((0, 50), (5, 100), (1000, 10_000)):
        starts = rng.permutation(np.cumsum(rng.integers(1, 40, 60)))
        stops = starts + rng.integers(1, 20, 60)
        with zarr.config.set({"array.sharding_coalesce_max_gap_bytes": gap, "array.sharding_coalesce_max_bytes": most}):
            merged = reads.merge_ranges(starts, stops)
        asked = [RangeByteRequest(a, b) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
        groups, _ = coalesce_ranges(asked, max_gap_bytes=gap, max_coalesced_bytes=most)
        assert merged == [(g[0][1].start, max(r.end for _, r in g)) for g in groups]


# ---- chunks of another shape ----------------------------------------------------------------------------------


@given(made=arrays(), data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_other_chunks_are_estimated_from_the_bytes_of_those_that_are_there(made: Any, data: st.DataObject) -> None:
    v, shape, share, _, seed = made
    v = variable(shape, v.chunks, None)
    session = make_array(v, shape, sparse_pixels(np.random.default_rng(seed), v, shape, share), 0)
    pieces = Pieces(shape, v.chunks)
    positions = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        positions.append(np.arange(start, data.draw(st.integers(start + 1, n))))
    chunks = tuple(data.draw(st.integers(1 if n < 10 else 5, n)) for n in shape)
    found = estimate_reads(session, v, pieces, runs(positions), chunks)
    lengths = each_length(session)
    touched = present = 0
    stored = 0.0
    for place in itertools.product(*(range(p[0] // c, p[-1] // c + 1) for p, c in zip(positions, chunks, strict=True))):
        touched += 1
        part = [(i * c, min((i + 1) * c, n)) for i, c, n in zip(place, chunks, shape, strict=True)]
        shares = []
        for old, size in lengths.items():
            own = [(i * c, min((i + 1) * c, n)) for i, c, n in zip(old, v.chunks, shape, strict=True)]
            common = [max(0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in zip(part, own, strict=True)]
            shares.append(size * prod(common) / prod(b - a for a, b in own))
        present += any(shares)
        stored += sum(shares)
    assert (found.chunks, found.present, found.requests) == (touched, present, present)
    assert found.stored == pytest.approx(stored, abs=1)
    assert not found.is_exact


def each_length(session: icechunk.Session) -> dict[tuple[int, ...], int]:
    from zarr.core.sync import sync

    return {p: sync(session.store.getsize(f"v/c/{'/'.join(map(str, p))}")) for p in present_chunks(session, "/v")}


@pytest.mark.parametrize("inline_bytes", [0, 512])
def test_the_same_chunks_are_estimated_as_they_are(inline_bytes: int) -> None:
    shape, v = (3, 60, 70), variable((3, 60, 70), (1, 20, 20), None)
    session = make_array(v, shape, sparse_pixels(np.random.default_rng(3), v, shape, 0.5), inline_bytes)
    positions = [np.arange(3), np.arange(5, 50), np.arange(33, 70)]
    real = count_reads(session, v, Pieces(shape, v.chunks), runs(positions))
    found = estimate_reads(session, v, Pieces(shape, v.chunks), runs(positions), v.chunks)
    assert (found.chunks, found.present, found.requests, found.stored, found.decoded) == (
        real.chunks,
        real.present,
        real.requests,
        real.stored,
        real.decoded,
    )


@given(sets=st.sets(st.integers(0, 60), min_size=1), size=st.integers(1, 20))
def test_positions_are_kept_as_runs(sets: set[int], size: int) -> None:
    found = Positions.each(sets)
    assert [*found] == sorted(sets)
    assert len(found) == len(sets)
    assert found.span == max(sets) - min(sets) + 1
    assert all(a[1] < b[0] for a, b in itertools.pairwise(found.runs))
    assert found.pieces(size).tolist() == sorted({p // size for p in sets})


# ---- queries --------------------------------------------------------------------------------------------------


@pytest.fixture
def cube(world: World) -> ci.Cube:
    """The world's cube, filled: 2 years, 4 x 5 chunks of 50 x 50, some of them absent."""
    made = ci.init(world.spec_file)
    made.ingest()
    return made


QUERIES: dict[str, dict[str, list[int]]] = {
    "pixel 0.05 19.95": {"year": [0, 1], "y": [0], "x": [0]},
    "pixel 12.3 10.0 year=2005": {"year": [1], "y": [100], "x": [123]},
    "pixel 372.3,10.0,year=2005": {"year": [1], "y": [100], "x": [123]},
    "map year=2000": {"year": [0], "y": [*range(200)], "x": [*range(250)]},
    "scan": {"year": [0, 1], "y": [*range(200)], "x": [*range(250)]},
    "region 1 18 3.05 19": {"year": [0, 1], "y": [*range(10, 20)], "x": [*range(10, 31)]},
    "region 24 5 -150 6 year=2000": {"year": [0], "y": [*range(140, 150)], "x": [*range(240, 250)]},
    "region 10N_020E": {"year": [0, 1], "y": [*range(100, 200)], "x": [*range(200, 250)]},
    "year=2000..2005,y=0:4,x=100:250": {"year": [0, 1], "y": [0, 1, 2, 3], "x": [*range(100, 250)]},
    "year=2000,2005 y=7 x=:2": {"year": [0, 1], "y": [7], "x": [0, 1]},
    "x=248:": {"year": [0, 1], "y": [*range(200)], "x": [248, 249]},
}


@pytest.mark.parametrize("text", QUERIES)
def test_a_query_means_these_positions(world: World, text: str) -> None:
    found = parse_query(ci.read_spec(world.spec_file), text)
    assert {dim: [*p] for dim, p in found.positions.items()} == QUERIES[text]


def test_what_queries_of_a_cube_take_is_what_xarray_takes(cube: ci.Cube) -> None:
    import xarray as xr

    store = CountingStore(cube.store.readonly())
    cover = xr.open_zarr(store, consolidated=False, chunks=None, mask_and_scale=False)["cover"]
    for text, positions in QUERIES.items():
        (found,) = cube.cost(text).variables
        assert found.asked == prod(len(p) for p in positions.values())
        before = len(store.served)
        cover.isel({d: slice(p[0], p[-1] + 1) for d, p in positions.items()}).copy().load()
        served = [(key, size) for key, size in store.served[before:] if key.startswith("cover/")]
        assert found.reads.chunks == len(served)
        assert found.reads.present == sum(size is not None for _, size in served)
        assert found.reads.stored == sum(size or 0 for _, size in served)
        assert found.reads.decoded == found.reads.present * 2500
        assert found.seconds == pytest.approx(0.05 * -(-found.reads.requests // 10) + found.reads.stored / 100e6)


def test_a_point_in_another_crs_is_where_the_grid_has_it(world: World) -> None:
    world.write_spec(
        ("crs: EPSG:4326", "crs: EPSG:32633"), ("origin: {x: 0, y: 20}", "origin: {x: 500000, y: 5600000}"), ("resolution: {x: 1/10, y: -1/10}", "resolution: {x: 30, y: -30}"),
        ('"{top:02H}_{left:03H}"', "y{iy}_x{ix}"),
    )  # fmt: skip
    spec = ci.read_spec(world.spec_file)
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(500000 + 30 * 77.5, 5600000 - 30 * 150.5)
    found = parse_query(spec, f"pixel {lon} {lat}").positions
    assert ([*found["y"]], [*found["x"]]) == ([150], [77])
    box = parse_query(spec, f"region {lon} {lat - 0.0005} {lon + 0.0005} {lat}").positions
    assert (box["y"].runs[0][0], box["x"].runs[0][0]) == (150, 77)
    assert len(box["y"]) in (2, 3)


REFUSED: dict[str, str] = {
    "": "the query is empty",
    "pixle 1 2": "no query 'pixle'; did you mean 'pixel'?",
    "5 6": "no query '5' (queries: pixel, map, region, scan",
    "pixel 1": "pixel 1: write pixel LON LAT, such as",
    "pixel a b": "pixel a b: write pixel LON LAT",
    "pixel 10 50": "the point 10 50 is outside the grid, whose bounds are (0.0, 0.0, 25.0, 20.0)",
    "pixel 30 10": "the point 30 10 is outside the grid",
    "pixel nan 10": "not finite",
    "pixel 1 2 y=5": "pixel says itself where: leave y= out",
    "pixel 1 2 year=1999": "axis 'year' has no value '1999'",
    "map": "a map is at one value of each axis, and year has no value: write year=2000",
    "map year=2000,2005": "year has several values",
    "map year=2000 5": "map takes no '5': write map AXIS=VALUE",
    "region 1 2 3": "region 1 2 3: write region W S E N",
    "region 1 5 3 4": "has no area",
    "region 100 5 103 6": "overlaps nothing of the grid",
    "region 99N_000E": "no region '99N_000E'",
    "y=5:2": "y=5:2 is empty",
    "y=5:5": "y=5:5 is empty",
    "y=0:201": "y=0:201 is outside the grid: along y it has 200 (0 to 199)",
    "y=-1:5": "outside the grid",
    "y=200": "outside the grid",
    "y=0:10:2": "write from and to, such as y=0:200",
    "y=a:b": "write from and to",
    "y=1,2": "write one run",
    "year=": "'year=' is not DIMENSION=VALUES",
    "year=2000 year=2005": "year is given twice",
    "year=2005..2000": "the range is empty",
    "yaer=2000": "the cube has no dimension 'yaer'; did you mean 'year'? (dimensions: year, y, x)",
    "year=2000 2005": "'2005' is not DIMENSION=VALUES",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_query_that_means_nothing_is_refused(world: World, text: str) -> None:
    with pytest.raises(GridError) as refused:
        parse_query(ci.read_spec(world.spec_file), text)
    assert REFUSED[text] in str(refused.value)
    assert "\n" not in str(refused.value)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"latency": -1}, "latency is -1: it must be 0 or more"),
    ({"latency": float("nan")}, "latency is nan"),
    ({"bandwidth": 0}, "bandwidth is 0: it must be more than 0"),
    ({"concurrency": 0}, "concurrency is 0: it must be 1 or more"),
    ({"variable": "cver"}, "no variable 'cver'; did you mean 'cover'"),
    ({"compare": "yy=5"}, "compare yy=5: no dimension 'yy'; did you mean 'y'?"),
    ({"compare": "y=0"}, "'y=0' is not a chunk's length, such as y=1000"),
    ({"compare": "y=5,y=6"}, "y is given twice"),
    ({"compare": " "}, "compare is empty"),
]


def test_options_that_mean_nothing_are_refused(world: World) -> None:
    cube = ci.init(world.spec_file)
    for options, message in OPTIONS:
        with pytest.raises(GridError) as refused:
            cube.cost("scan", **options)
        assert message in str(refused.value)


def test_dimensions_have_their_own_names_and_y_and_x() -> None:
    spec = ci.read_spec("ocr-conus-30m")
    for text in ("y=5:9 x=:3", "latitude=5:9,longitude=:3"):
        found = parse_query(spec, text).positions
        assert (found["latitude"].runs, found["longitude"].runs) == (((5, 9),), ((0, 3),))


@pytest.mark.parametrize("name", ["ocr-conus-30m", "glad-lclu"])
def test_a_box_is_the_pixels_that_it_overlaps_whichever_way_rows_run(name: str) -> None:
    spec = ci.read_spec(name)
    grid = spec.tiling
    west, south, east, north = -109.0001, 37.2, -108.95, 37.22503
    found = parse_query(spec, f"region {west} {south} {east} {north}").positions
    for dim, low, high, step in zip(
        grid.dims_yx, (south, west), (north, east), (grid.resolution_y, grid.resolution_x), strict=True
    ):
        centre, half = grid.coordinate(dim), abs(float(step)) / 2 * (1 - 1e-6)
        assert [*found[dim]] == np.flatnonzero((centre + half > low) & (centre - half < high)).tolist()


HEALPIX = """\
name: cells
grid: {type: healpix, order: 6, region_order: 2}
axes: {cycle: {values: [22, 23, 24]}}
variables:
  h: {dtype: float32, fill_value: .nan, chunks: {cycle: 1, cells: 64}}
store: ./cells.icechunk
"""


def test_cells_of_healpix_are_asked_for_by_the_same_words(world: World) -> None:
    """192 regions of 256 cells, each of 4 chunks; those of the regions of a box are there."""
    world.spec_file.write_text(HEALPIX)
    cube = ci.init(world.spec_file)
    grid = cube.grid
    there = grid.regions((10, 20, 60, 70), "EPSG:4326")
    session = cube.store.writable()
    array = zarr.open_array(session.store, path="h", mode="r+")
    rng = np.random.default_rng(0)
    for region in there:
        array[1:, grid.region(region)["cells"]] = rng.random((2, 256), np.float32)
    session.commit("cells")
    session = cube.store.readonly()
    (cell,) = grid.locate(np.array([40.2]), np.array([45.1])).tolist()
    for text, cycles, cells in [
        ("pixel 40.2 45.1", [0, 1, 2], [cell]),
        ("map cycle=23", [1], [*range(49152)]),
        (f"region {there[0]}", [0, 1, 2], [*range(int(there[0]) * 256, int(there[0]) * 256 + 256)]),
        ("region 10 20 60 70 cycle=22,24", [0, 2], [int(r) * 256 + i for r in there for i in range(256)]),
        ("cells=100:300 cycle=24", [2], [*range(100, 300)]),
    ]:
        found = cube.cost(text).variables[0].reads
        positions = [np.array(cycles), np.array(cells)]
        assert [[*p] for p in parse_query(cube.spec, text).along(cube.spec.variables[0])] == [cycles, cells]
        served = serve(session, "h", positions)
        assert (found.gets, found.stored, found.requests) == (served.gets, served.bytes, served.requests)
        assert found.present == len(served.keys_there)
    assert cube.cost("scan", compare="cycle=3,cells=256").variables[0].compared[0].reads.present == len(there)
    (v,) = cube.chunks(region=there[:3], cycle=23).variables
    assert (v.amount.present, v.amount.total, v.piece) == (12, 12, (1, 64))
    (v,) = cube.chunks().variables
    assert (v.amount.present, v.amount.total) == (2 * 4 * len(there), 3 * 768)
    with pytest.raises(GridError, match="cells=50000 is outside the grid: along cells it has 49152"):
        cube.cost("cells=50000")


# ---- time and advice ------------------------------------------------------------------------------------------


def test_time_is_waits_one_after_another_and_bytes() -> None:
    link = Link(latency_ms=20, bandwidth=50, concurrency=4)
    assert link.seconds(0, 0, 0) == 0
    assert link.seconds(4, 0, 1) == pytest.approx(0.02)
    assert link.seconds(5, 10**8, 1) == pytest.approx(0.04 + 2)
    assert link.seconds(2, 0, 2) == pytest.approx(0.04)  # an index, then what it tells


def test_advice_is_longer_chunks_where_many_are_touched_and_shorter_ones_where_little_is_wanted() -> None:
    glad = ci.read_spec("glad-lclu")
    v = glad.variables[0]
    series = [np.arange(5), np.array([332800]), np.array([478000])]
    assert better_chunks(glad, v, runs(series)) == (5, 400, 400)
    small = [np.array([2]), np.arange(100, 110), np.arange(100, 110)]
    year, y, x = better_chunks(glad, v, runs(small))
    assert (year, y) == (1, x)
    assert 40000 % y == 0
    assert 200 <= y <= 320  # about 64 kB
    whole = [np.arange(1), np.arange(4000), np.arange(4000)]
    assert better_chunks(glad, v, runs(whole)) == v.chunks
    long = replace(v, chunks=(5, 400, 400))
    assert better_chunks(glad, long, runs([np.array([2]), np.arange(40000), np.arange(40000)])) == (1, 800, 800)
    assert better_chunks(glad, long, runs(series)) == (5, 125, 125)  # smaller chunks, then


# ---- as a person runs it --------------------------------------------------------------------------------------


def test_command_says_what_a_read_takes(cube: ci.Cube, world: World, invoke: Callable[..., Ran]) -> None:
    done = invoke("cost", "pixel", 12.3, 10.0, "--compare", "year=2,y=25,x=25", "--store", world.store)
    assert done.code == 0, done.err
    for text in (
        "cover  year=2 y=1 x=1: 2 B of pixels",
        "chunks touched",
        "year=2 y=25 x=25",
        "50 ms a request, 100 MB/s",
        "1 manifest of",
    ):
        assert text in done.out
    args = ("--latency", 10, "--bandwidth", 20, "--concurrency", 3, "--json", "--store", world.store)
    found = invoke("cost", "region 8 11 12 18", *args).json
    (v,) = found["variables"]
    assert (found["query"], found["snapshot"]) == ("region 8 11 12 18", cube.store.tip)
    assert found["link"] == {"latency_ms": 10, "bandwidth_mb_s": 20, "concurrency": 3}
    assert v["chunks"] == {"touched": 8, "present": 6, "absent": 2}
    assert (v["requests"], v["asked_bytes"], v["raw_bytes"]) == (6, 2 * 70 * 40, 6 * 2500)
    assert v["amplification"] == round(15000 / 5600, 3)
    assert v["seconds"] == pytest.approx(0.02 + v["bytes"] / 20e6, abs=1e-4)
    assert v["exact"] is True


def test_negative_numbers_are_part_of_a_query_and_unknown_options_are_not(
    cube: ci.Cube, world: World, invoke: Callable[..., Ran]
) -> None:
    where = ("--store", world.store)
    assert "the point -60.5 -3.2 is outside" in invoke("cost", "pixel", "-60.5", "-3.2", *where).err
    assert "the point -0.5 -3.2 is outside" in invoke("cost", "pixel", "-.5", "-3.2", *where).err
    for args, message in [
        (("--latancy", 5), "no such option: --latancy; did you mean --latency?"),
        (("--year", 2000), "values of an axis are part of the query: year=VALUE"),
        (("-q",), "no such option: -q"),
    ]:
        done = invoke("cost", "scan", *args, *where)
        assert (done.code, done.out) == (2, "")
        assert message in done.err


def test_of_an_empty_cube_no_command_tells_the_cost(world: World, invoke: Callable[..., Ran]) -> None:
    cube = ci.init(world.spec_file)
    v = cube.cost("scan", compare="y=20").to_json()["variables"][0]
    assert (v["chunks"], v["requests"], v["bytes"], v["seconds"]) == (
        {"touched": 40, "present": 0, "absent": 40}, 0, 0, 0,
    )  # fmt: skip
    assert v["compared"][0]["chunks"] == {"touched": 100, "present": 0, "absent": 100}
    done = invoke("cost", "scan", "--store", world.store)
    assert (done.code, done.out) == (2, "")
    assert "the cube holds no chunks yet" in done.err


def test_what_is_not_there_costs_no_request(cube: ci.Cube, world: World, invoke: Callable[..., Ran]) -> None:
    found = invoke("cost", "region 20N_020E year=2000", "--json", "--store", world.store).json
    assert (found["requests"], found["bytes"], found["seconds"]) == (0, 0, 0)
    assert invoke("cost", "region 20N_020E year=2000", "--store", world.store).code == 0


def test_variables_without_an_axis_are_asked_without_it(make_cube: Callable[[str], ci.Cube]) -> None:
    cube = make_cube(
        "axes: {year: {values: [1, 2]}}\nvariables:\n  a: {dtype: uint8, fill_value: 0, chunks: {y: 50, x: 50}}\n"
        "  b: {dtype: int16, fill_value: 0, axes: [], chunks: {y: 100, x: 100}, shards: {y: 100, x: 100}}\n"
    )
    found = cube.cost("map year=2")
    assert [v.shape for v in found.variables] == [(1, 200, 250), (200, 250)]
    assert [v.reads.chunks for v in found.variables] == [20, 6]
    assert found.variables[1].to_json()["shards"] == {"touched": 6, "present": 0}
    (only,) = cube.cost("scan", variable="b", compare=["y=10", "x=10"]).variables
    assert [c.chunks for c in only.compared] == [(10, 100), (100, 10)]


def test_the_page_and_the_help_name_every_kind_of_query(invoke: Callable[..., Ran]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "chunks.md").read_text(encoding="utf-8")
    said = invoke("cost", "--help").out
    for kind in EXAMPLES:
        assert f"`{kind}" in page
        assert f"  {kind}" in said
