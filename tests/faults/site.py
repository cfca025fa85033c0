"""A small cube on one kind of storage, commands run on it, and an account of what is really in it.

The account is taken with Icechunk, Zarr and rasterio alone: chunks are counted, pixels compared with the tiles by pasting.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import zarr
from zarr.core.sync import sync

import cubeingest as ci
from tests.conftest import CORNERS, Ran, World
from tests.faults.proxy import Proxy
from tests.faults.starter import PATIENCE, Command, Starter, wait_until
from tests.objectstore import KEYS, Bucket

YEARS = (2000, 2005)
Key = tuple[int, str]
"""Year and region of a slot."""


@dataclass(frozen=True)
class Account:
    """What is in a cube at one snapshot. ``whole`` slots have exactly their tile's pixels and all its chunks; ``partial``
    ones have something else.
    """

    recorded: frozenset[Key]
    whole: frozenset[Key]
    partial: frozenset[Key]

    @property
    def lost(self) -> set[Key]:
        """Recorded, but nothing of it is there."""
        return set(self.recorded - self.whole - self.partial)

    @property
    def half_written(self) -> set[Key]:
        """Something is there that is not the whole, or the whole without its record."""
        return set(self.partial | (self.whole - self.recorded))


@dataclass
class Watch:
    """What a reader saw, that looked again and again."""

    looks: int = 0
    wrong: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)


@dataclass
class Site:
    """``uri`` is the store's; ``env`` is what commands get beside this process's environment."""

    world: World
    storage: str
    uri: str
    starter: Starter
    env: dict[str, str] = field(default_factory=dict)
    proxy: Proxy | None = None
    bucket: Bucket | None = None
    truth: dict[Key, np.ndarray] = field(default_factory=dict)
    claimed: int = 0

    @property
    def folder(self) -> Path:
        return self.world.folder

    # ---- commands ---------------------------------------------------------------------------------------------

    def init(self) -> ci.Cube:
        """Make the cube, in this process, and take note of what its tiles hold."""
        self.note_tiles()
        return ci.init(self.world.spec_file, store=self.uri)

    def note_tiles(self) -> None:
        """Read all tiles with rasterio, as they are now."""
        for path in (self.folder / "tiles").glob("*/*.tif"):
            year = int(path.parent.name)
            self.truth[year, path.stem] = self.world.read_tile(year, path.stem)

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k != "CUBEINGEST_STORE" and not k.startswith("AWS_")}
        if self.storage == "s3":
            assert self.proxy is not None
            kept |= {**KEYS, "AWS_ENDPOINT_URL": self.proxy.url}
        return kept | self.env

    def start(self, *args: object, inject: list[dict[str, Any]] | None = None, **env: str) -> Command:
        """Start ``cubeingest ARGS... --store``, with faults in it."""
        more = () if "--store" in args else ("--store", self.uri)
        return self.starter.start(*args, *more, cwd=self.folder, env=self.environment | env, inject=inject)

    def finish(self, command: Command) -> Ran:
        """Wait for a command's end. What an ingest says that it has newly written is what the cube must hold."""
        code = command.wait()
        ran = Ran(code, command.out.read_text(), command.err.read_text())
        if ran.out.startswith('{"store"') and '"planned"' in ran.out:
            self.claimed += ran.json["written"] + ran.json["empty"]
        return ran

    def run(self, *args: object, inject: list[dict[str, Any]] | None = None, **env: str) -> Ran:
        return self.finish(self.start(*args, inject=inject, **env))

    def ingest(self, mode: str, *args: object, inject: list[dict[str, Any]] | None = None, **env: str) -> Ran:
        return self.run(*self.command(mode, *args), inject=inject, **env)

    def command(self, mode: str, *args: object) -> tuple[object, ...]:
        return ("ingest", "--mode", mode, "--workers", 1, "--json", *args)

    @contextmanager
    def paused(self, pause: Path, *args: object, inject: list[dict[str, Any]], **env: str) -> Iterator[Command]:
        """A command that waits at a fault of the kind ``pause`` while the block runs, and goes on after it."""
        command = self.start(*args, inject=inject, **env)
        wait_until(lambda: pause.exists() or command.ended.is_set(), "the command is where it waits")
        assert pause.exists(), f"the command ended before it was there: {command.err.read_text()}"
        try:
            yield command
        finally:
            pause.with_name(pause.name + ".go").touch()

    def replace_tile(self, year: int, region: str, pixels: np.ndarray | None = None) -> None:
        """Another tile in a place of the grid; the cube does not count as holding it before it is ingested."""
        self.world.add_tile(year, region, pixels)
        self.truth[year, region] = self.world.read_tile(year, region)

    # ---- what is there ----------------------------------------------------------------------------------------

    def cube(self) -> ci.Cube:
        return ci.open(self.uri)

    def repository(self) -> icechunk.Repository:
        """Opened without our code."""
        if self.bucket is None:
            return icechunk.Repository.open(icechunk.local_filesystem_storage(self.uri))
        prefix = self.uri.split("/", 3)[3].partition("?")[0]
        storage = icechunk.s3_storage(
            bucket=self.bucket.name, prefix=prefix, region=KEYS["AWS_REGION"], endpoint_url=self.bucket.endpoint, allow_http=True,
            force_path_style=True, access_key_id=KEYS["AWS_ACCESS_KEY_ID"], secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip
        return icechunk.Repository.open(storage)

    def objects(self, prefix: str = "") -> list[str]:
        """Names of what is stored below a prefix of the store."""
        if self.bucket is None:
            root = Path(self.uri)
            return sorted(str(p.relative_to(root)) for p in (root / prefix).rglob("*") if p.is_file())
        key = self.uri.split("/", 3)[3]
        return sorted(k.removeprefix(f"{key}/") for k in self.bucket.keys(f"{key}/{prefix}"))

    def delete_object(self, name: str) -> None:
        if self.bucket is None:
            (Path(self.uri) / name).unlink()
        else:
            self.bucket.client.delete_object(Bucket=self.bucket.name, Key=f"{self.uri.split('/', 3)[3]}/{name}")

    def account(self, snapshot: str | None = None, branch: str = "main") -> Account:
        """Take stock of a snapshot, or of a branch's tip."""
        repo = self.repository()
        session = repo.readonly_session(snapshot_id=snapshot) if snapshot else repo.readonly_session(branch)
        pixels = np.asarray(zarr.open_array(session.store, path="cover", mode="r")[...])
        chunks = _count_chunks(session, "/cover", 2)
        records = _count_chunks(session, "/cubeingest/ledger/cover/record", 1)
        recorded, whole, partial = set(), set(), set()
        for t, year in enumerate(YEARS):
            for region, (left, top) in CORNERS.items():
                key, place = (year, region), (t, (20 - top) // 10, left // 10)
                y, x = (20 - top) * 10, left * 10
                own = pixels[t, y : y + 100, x : x + 100]
                truth = self.truth.get(key)
                if records.get(place):
                    recorded.add(key)
                if truth is not None and np.array_equal(own, truth) and chunks.get(place, 0) == _n_chunks(truth):
                    whole.add(key)
                elif chunks.get(place) or (own != 255).any():
                    partial.add(key)
        return Account(frozenset(recorded), frozenset(whole), frozenset(partial))

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """A reader looks at main again and again while the block runs: every region must be whole, or all fill value."""
        watch, over = Watch(), threading.Event()

        def look() -> None:
            while True:
                seen = self.account()
                watch.looks += 1
                watch.steps.append(len(seen.whole))
                if seen.half_written or seen.lost:
                    watch.wrong.append(f"{sorted(seen.half_written)} half written, {sorted(seen.lost)} lost")
                if over.wait(0.05):
                    return

        failed: list[BaseException] = []

        def run() -> None:
            try:
                look()
            except BaseException as e:  # noqa: BLE001  (raised again below, in the test's own thread)
                failed.append(e)

        thread = threading.Thread(target=run, name="reader")
        thread.start()
        try:
            yield watch
        finally:
            over.set()
            thread.join(PATIENCE)
        assert not thread.is_alive()
        if failed:
            raise failed[0]


def _count_chunks(session: icechunk.Session, path: str, per_region: int) -> dict[tuple[int, ...], int]:
    """Chunks by (year, region row, region column); a region has ``per_region`` of them along y and x."""

    async def collect() -> list[tuple[int, ...]]:
        return [tuple(c) async for c in session.chunk_coordinates(path)]

    counts: dict[tuple[int, ...], int] = {}
    for t, y, x in sync(collect()):
        place = (t, y // per_region, x // per_region)
        counts[place] = counts.get(place, 0) + 1
    return counts


def _n_chunks(pixels: np.ndarray) -> int:
    """Chunks of 50 x 50 pixels in which there is anything."""
    rows, columns = pixels.shape
    return sum(
        bool((pixels[y : y + 50, x : x + 50] != 255).any()) for y in range(0, rows, 50) for x in range(0, columns, 50)
    )


def slots_of(ran: Ran) -> dict[str, Any]:
    """The numbers of an ingest's report, for one comparison."""
    report = json.loads(ran.out)
    return {k: report[k] for k in ("written", "empty", "skipped")} | {"failed": len(report["failed"])}
