"""What keeps the cost the same at any size: rules that can be counted, none that is timed."""

from __future__ import annotations

from pathlib import Path

import icechunk
import numpy as np
import pytest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import cubeingest as ci
from cubeingest.engine import Options, memory
from cubeingest.ingest.run import TASKS_IN_UNIT, UNIT_BYTES, unit_size
from cubeingest.ledger import DONE, MANY, Record, Slot, read_records, read_states, write_record
from cubeingest.store import LEDGER, MAX_MANIFESTS, is_split, ledger_split, open_store, save_splitting
from cubeingest.tile import SourceId
from tests.conftest import World

SPEC = """\
name: many
crs: EPSG:4326
grid: {origin: {x: 0, y: 70}, resolution: {x: 1/10, y: -1/10}, shape: {y: 700, x: 700}, region: {y: 10, x: 10}}
variables:
  cover: {dtype: uint8, fill_value: 255, chunks: {y: 10, x: 10}}
"""
"""70 x 70 regions of one chunk each: more than a ledger keeps in one manifest."""


@pytest.fixture
def cube(tmp_path: Path) -> ci.Cube:
    file = tmp_path / "many.yaml"
    file.write_text(SPEC)
    return ci.init(file, tmp_path / "cube")


def record(href: str = "a.tif") -> Record:
    return Record("done", (SourceId(href, 1, "2"),), "0" * 16, "band 1; nodata file", "2000-01-01T00:00:00Z", "run")


def write_all(session: icechunk.Session) -> None:
    """Give every slot the record that the first one has, but for the last slot, which stays without."""
    key = f"{LEDGER}/cover/record/c"
    first = sync(session.store.get(f"{key}/0/0", default_buffer_prototype()))
    assert first is not None

    async def copy() -> None:
        for iy, ix in np.ndindex(70, 70):
            if (iy, ix) != (69, 69):
                await session.store.set(f"{key}/{iy}/{ix}", first)

    sync(copy())


def manifests(cube: ci.Cube) -> dict[str, int]:
    return {f.name: f.stat().st_size for f in (Path(cube.store.uri) / "manifests").iterdir()}


def test_one_slot_more_rewrites_little_of_a_large_ledger_also_in_a_cube_that_was_not_split(cube: ci.Cube) -> None:
    config = cube.store.repo.config
    config.manifest = icechunk.ManifestConfig(splitting=icechunk.ManifestSplittingConfig.from_dict({}))
    icechunk.Repository.open(icechunk.local_filesystem_storage(cube.store.uri), config=config).save_config()
    store = open_store(cube.store.uri)
    assert not is_split(store)
    session = store.writable()
    write_record(session, Slot("cover", (), 0, 0), record(), is_new=True)
    write_all(session)
    session.commit("all but one")
    whole = sum(manifests(cube).values())
    save_splitting(store)
    store = open_store(cube.store.uri)
    for ix, name in ((0, "b.tif"), (69, "c.tif")):
        before = manifests(cube)
        session = store.writable()
        write_record(session, Slot("cover", (), 69, ix), record(name), is_new=True)
        session.commit("one more")
    written = {name: size for name, size in manifests(cube).items() if name not in before}
    assert len(written) == 1
    assert sum(written.values()) < whole / 3
    session = store.readonly()
    assert (read_states(session, store.spec)["cover"] == DONE).all()
    slots = [Slot("cover", (), iy, ix) for iy, ix in np.ndindex(70, 70)]
    found = read_records(session, slots)
    assert [s for s in slots if found[s] != record()] == [Slot("cover", (), 69, 0), Slot("cover", (), 69, 69)]


@pytest.mark.parametrize("slots", [(14, 36), (5, 14, 36), (250, 400), (12, 700, 900), (366, 10, 10), (40, 100, 1, 1)])
def test_no_ledger_has_more_manifests_than_a_commit_can_bear(slots: tuple[int, ...]) -> None:
    split = ledger_split(slots)
    assert len(split) == len(slots)
    assert np.prod([-(-n // s) for n, s in zip(slots, split, strict=True)]) <= MAX_MANIFESTS


def test_records_are_found_among_many_whether_short_or_long_and_none_where_there_is_none(cube: ci.Cube) -> None:
    session = cube.store.writable()
    rng = np.random.default_rng(1)
    long = "".join(map(chr, rng.integers(97, 123, 2000)))  # does not fit into the manifest
    short, other, none = (Slot("cover", (), 3, ix) for ix in range(3))
    write_record(session, short, record(), is_new=True)
    write_record(session, other, record(long), is_new=True)
    session.commit("two")
    wanted = [short, other, none, *(Slot("cover", (), 9, ix) for ix in range(MANY))]
    assert read_records(cube.store.readonly(), wanted) == {short: record(), other: record(long)}


def test_what_waits_for_a_commit_is_bounded_by_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, kept in ((2**40, memory.MAX_KEPT_BYTES), (640 * 2**20, 10 * 2**20), (0, memory.MIN_KEPT_BYTES)):
        monkeypatch.setattr(memory, "free_bytes", lambda free=free: free)
        assert memory.kept_limit() == kept
    monkeypatch.setattr(memory, "free_bytes", lambda: 64 * 2**30)
    assert memory.kept_limit(whole=True) == 2**30


def test_a_container_leaves_what_its_limit_is_above_what_its_processes_hold(tmp_path: Path) -> None:
    for folder, limit in (("jobs/one", "1000"), ("jobs", "5000"), ("", "max")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "memory.max").write_text(f"{limit}\n")
        (tmp_path / folder / "memory.stat").write_text("anon 700\nfile 5000\n")
    assert list(memory.left_in_groups(tmp_path, "0::/jobs/one\n")) == [300, 4300]
    assert list(memory.left_in_groups(tmp_path / "none", "")) == []
    older = tmp_path / "memory" / "jobs"
    older.mkdir(parents=True)
    (older / "memory.limit_in_bytes").write_text("100\n")
    (older / "memory.stat").write_text("cache 80\nrss 1\ntotal_rss 120\n")
    assert list(memory.left_in_groups(tmp_path, "4:memory:/jobs\n0::/\n")) == [0]


def test_more_than_may_wait_is_committed_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_KEPT_BYTES", 1)
    monkeypatch.setattr(memory, "MIN_KEPT_BYTES", 1)
    cube = ci.init(world.spec_file)
    report = cube.ingest(workers=1)
    assert (report.written, report.failed) == (7, [])
    ingests = [c for c in cube.history() if c.details.get("action") == "ingest"]
    assert len(ingests) == 7
    assert sum(c.details["new"] for c in ingests) == cube.status().done == 7


def test_only_small_tasks_are_put_together_and_never_to_few_units() -> None:
    small, mean = 1000, UNIT_BYTES // 4
    assert unit_size(Options(), 100_000, 100_000 * small) == TASKS_IN_UNIT
    assert unit_size(Options(), 100_000, 100_000 * mean) == 4
    assert unit_size(Options(), 2520, 2520 * 1_600_000_000) == 1
    assert unit_size(Options(), 100, 100 * small) == unit_size(Options(), 0, 0) == 1
    assert unit_size(Options(), 100_000, 100_000 * small, remote=True) == 1
    assert unit_size(Options(commit_every=5), 100_000, 100_000 * small) == 1
    assert unit_size(Options(mode="independent", commit_every=5), 100_000, 100_000 * small) == 5
