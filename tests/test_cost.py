"""What a read would cost, against what the store really served when it was made."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import hypothesis.strategies as st
import icechunk
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings

import cubeingest as ci
from cubeingest.contents import Pieces
from cubeingest.cost import count_reads, parse_query, reads
from cubeingest.cost.advice import better_chunks
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


def variable(shape: tuple[int, ...], chunks: tuple[int, ...], shards: tuple[int, ...] | None, dtype: str = "uint8") -> Variable:
    axes = tuple("abc"[: len(shape) - 2])
    return Variable("v", dtype, FILL, axes, (*axes, "y", "x"), chunks, shards, {"name": "zstd", "level": 3}, {}, None)


def make_array(
    v: Variable, shape: tuple[int, ...], pixels: np.ndarray, inline_bytes: int = 512
) -> icechunk.Session:
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


def assert_as_served(session: icechunk.Session, v: Variable, shape: tuple[int, ...], positions: list[np.ndarray]) -> None:
    found = count_reads(session, v, Pieces(shape, v.write_shape), positions)
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
    return variable(shape, chunks, shards, dtype), shape, share, draw(st.sampled_from([0, 100, 512])), draw(st.integers(0, 99))


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
    shard_array: tuple[icechunk.Session, Variable, tuple[int, ...], np.ndarray], listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, v, shape, pixels = shard_array
    monkeypatch.setattr(reads, "ASKED_SINGLY", listed)
    whole = [np.array([1]), np.arange(128), np.arange(128)]
    at_end = [np.array([1]), np.arange(256, 320), np.arange(256, 300)]
    absent = [np.array([0]), np.arange(10), np.arange(130, 140)]
    for positions in (whole, at_end, absent, list(map(np.arange, shape)), [np.arange(2), np.array([5]), np.array([5])]):
        assert_as_served(session, v, shape, positions)
    found = count_reads(session, v, Pieces(shape, v.write_shape), whole)
    assert (found.gets, found.chunks, found.present, found.rounds) == (1, 16, 16, 1)
    found = count_reads(session, v, Pieces(shape, v.write_shape), at_end)
    assert found.gets == 2  # its index, and a range: a shard that reaches past the end is never read whole
    held = pixels[1, 256:320, 256:300].reshape(2, 32, -1)
    there = sum((held[i, :, j : j + 32] != FILL).any() for i in range(2) for j in (0, 32))
    assert (found.chunks, found.present, found.decoded) == (4, there, there * 1024)
    found = count_reads(session, v, Pieces(shape, v.write_shape), absent)
    assert (found.gets, found.requests, found.stored, found.shards, found.shards_present) == (1, 0, 0, 1, 0)


def test_of_very_many_shards_some_are_read_and_it_is_said(
    shard_array: tuple[icechunk.Session, Variable, tuple[int, ...], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, v, shape, _ = shard_array
    everything = list(map(np.arange, shape))
    exact = count_reads(session, v, Pieces(shape, v.write_shape), everything)
    monkeypatch.setattr(reads, "INDEXES_READ", 3)
    rough = count_reads(session, v, Pieces(shape, v.write_shape), everything)
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
    found = estimate_reads(session, v, pieces, positions, chunks)
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


def test_the_same_chunks_are_estimated_as_they_are() -> None:
    shape, v = (3, 60, 70), variable((3, 60, 70), (1, 20, 20), None)
    session = make_array(v, shape, sparse_pixels(np.random.default_rng(3), v, shape, 0.5), 0)
    positions = [np.arange(3), np.arange(5, 50), np.arange(33, 70)]
    real = count_reads(session, v, Pieces(shape, v.chunks), positions)
    found = estimate_reads(session, v, Pieces(shape, v.chunks), positions, v.chunks)
    assert (found.chunks, found.present, found.stored, found.decoded) == (real.chunks, real.present, real.stored, real.decoded)
