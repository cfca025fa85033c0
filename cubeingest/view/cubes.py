"""The cube that is looked at: its branches, tags and commits as they are now, and snapshots of it that are open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Lock
from typing import Any

from cubeingest.errors import StoreError
from cubeingest.look.colours import Colours
from cubeingest.spec import Variable
from cubeingest.store import OWN_BRANCHES, Store, open_store, read_history, reason_of
from cubeingest.view.composite import TOGETHER, Index, join_colours, paint_composite
from cubeingest.view.kept import Kept
from cubeingest.view.lattice import Lattice
from cubeingest.view.overlays import coast_of, regions_of
from cubeingest.view.painting import colours_key, paint, read_map_colours
from cubeingest.view.png import encode_png
from cubeingest.view.snapshots import Snapshot
from cubeingest.view.tiles import read_tile

SNAPSHOTS = 4
"""That are open at a time."""

TILE_BYTES = 64 * 2**20
"""Of encoded tiles that are kept."""

OVERLAYS = 2000
"""Tiles of coastlines and outlines that are kept."""

COLOURS = 200

COMMITS = 40
"""Of a history that are listed."""


class NotThereError(StoreError):
    """A snapshot that the cube does not have, or does not have any more."""


class ViewedCube:
    """A cube in its store, for many threads at once. ``first`` is the ref that is shown if nobody asks for another."""

    def __init__(self, store: Store, first: str | None = None) -> None:
        self.uri, self.first = store.uri, first or store.at or store.branch
        self._store, self._lock = store.on(), Lock()
        self._snapshots: Kept[Snapshot] = Kept(SNAPSHOTS)
        self._colours: Kept[Colours] = Kept(COLOURS)
        self._tiles: Kept[tuple[bytes, str]] = Kept(TILE_BYTES, lambda tile: len(tile[0]) + 200)
        self._overlays: Kept[dict[str, Any]] = Kept(OVERLAYS)

    @property
    def is_local(self) -> bool:
        return self._store.is_local

    def refs(self, branch: str | None = None) -> dict[str, Any]:
        """Branches and tags by name with the snapshots that they point to now, and the last commits of one of them (the first shown by default).

        Raises :class:`StoreError` if the store does not answer; it is opened anew the next time.
        """
        import icechunk

        store = self._open()
        try:
            repo = store.repo
            branches = {
                b: repo.lookup_branch(b) for b in sorted(repo.list_branches()) if not b.startswith(OWN_BRANCHES)
            }
            tags = {t: repo.lookup_tag(t) for t in sorted(repo.list_tags())}
        except icechunk.IcechunkError as e:
            raise StoreError(f"cannot read store {self.uri!r}: {reason_of(e)}") from e
        wanted = branch or self.first
        tip = {**tags, **branches}.get(wanted, wanted)
        try:
            commits = read_history(store.on(at=tip))[:COMMITS]
        except StoreError:
            commits = []
        history = [{"snapshot": c.snapshot, "time": c.time, "message": c.message[:200]} for c in commits]
        first = next((t for t, tip in tags.items() if tip == self.first and t not in branches), self.first)
        return {"first": first, "branches": branches, "tags": tags, "history": history}

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """A snapshot by its id. Raises :class:`NotThereError` if there is none, :class:`StoreError` if it cannot be read."""
        return self._snapshots.get(snapshot_id, lambda: self._open_snapshot(snapshot_id))

    def colours(self, snapshot: Snapshot, variable: Variable, index: Index) -> Colours:
        key = colours_key(snapshot, variable, index)
        return self._colours.get((snapshot.id, variable.name, key), lambda: read_map_colours(snapshot, variable, key))

    def composite_colours(self, snapshot: Snapshot, variable: Variable, apart: Sequence[Index]) -> tuple[Colours, ...]:
        """Colours of red, green and blue, over the same range."""
        return join_colours([self.colours(snapshot, variable, index) for index in apart])

    def tile(
        self, snapshot: Snapshot, lattice: Lattice, variable: Variable, index: Index, at: tuple[int, int, int]
    ) -> tuple[bytes, str]:
        """A tile as a PNG, the topmost row first, and what is to be said of it."""

        def make() -> tuple[bytes, str]:
            composite = snapshot.composite(variable) if TOGETHER in index else None
            apart = [index] if composite is None else composite.apart(index)
            tiles = [read_tile(snapshot, lattice, variable, i, at) for i in apart]
            if composite is None:
                rgba = paint(self.colours(snapshot, variable, index), tiles[0].pixels)
            else:
                rgba = paint_composite(self.composite_colours(snapshot, variable, apart), [t.pixels for t in tiles])
            worst = max(tiles, key=lambda tile: tile.thin or math.inf)
            note = worst.note or ("" if rgba[..., 3].any() else "blank")
            return encode_png(rgba if lattice.north_up else rgba[::-1]), note

        return self._tiles.get((snapshot.id, lattice.name, variable.name, index, at), make)

    def overlay(self, kind: str, snapshot: Snapshot, lattice: Lattice, at: tuple[int, int, int]) -> dict[str, Any]:
        """Coastlines (``coast``) or outlines of ``regions`` of a tile."""

        def make() -> dict[str, Any]:
            return coast_of(lattice, *at) if kind == "coast" else regions_of(snapshot.spec.grid, lattice, *at)  # type: ignore[arg-type]

        return self._overlays.get((kind, snapshot.id, lattice.name, at), make)

    def forget(self) -> None:
        """Open the store anew the next time: what was there may have been replaced."""
        with self._lock:
            self._is_lost = True

    _is_lost = False

    def _open(self) -> Store:
        with self._lock:
            if self._is_lost:
                self._store = open_store(self.uri)
                self._snapshots.clear()
                self._is_lost = False
            return self._store

    def _open_snapshot(self, snapshot_id: str) -> Snapshot:
        import icechunk

        store = self._open()
        try:
            is_first = store.repo.lookup_snapshot(snapshot_id).parent_id is None
        except icechunk.IcechunkError as e:
            if e.kind in (icechunk.ErrorKind.INVALID_SNAPSHOT_ID, icechunk.ErrorKind.SNAPSHOT_NOT_FOUND):
                raise NotThereError(f"the cube has no snapshot {snapshot_id!r} (any more)") from None
            raise StoreError(f"cannot read store {self.uri!r}: {reason_of(e)}") from e
        if is_first:
            raise NotThereError(f"snapshot {snapshot_id!r} is the empty store, from before there was a cube")
        return Snapshot(store.on(at=snapshot_id))
