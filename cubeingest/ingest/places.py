"""What must be so before any slot is filled with blocks as they are: variables that can have them, and places that may be referred to."""

from __future__ import annotations

import re

from cubeingest.errors import SpecError, StoreError
from cubeingest.ledger import VIRTUAL, create_flag, has_references
from cubeingest.plan import Plan
from cubeingest.remote import url_of
from cubeingest.spec import Variable
from cubeingest.storage import Storage, is_remote
from cubeingest.store import (
    Place,
    Store,
    as_prefix,
    declare,
    declared,
    find_places,
    named_by_this_user,
    open_store,
    opened_by_this_user,
)
from cubeingest.tile import storage_of, why_no_variable


def prepare_blocks(store: Store, plan: Plan, how: str) -> Store:
    """Refuse what can have no blocks; for references, declare the places that they lie in. The store, which may read them.

    Raises :class:`SpecError` for a variable whose chunks no tile's blocks can be, :class:`TileError` for a tile that cannot be referred
    to, :class:`StoreError` if the cube's spec is not the plan's any more.
    """
    names = dict.fromkeys(p.slot.variable for task in plan.tasks for p in task.slots)
    variables = [store.spec.variable(name) for name in names]
    for variable in variables:
        reason = why_no_variable(variable)
        if reason is not None:
            raise SpecError(
                f"blocks cannot be chunks of variable {variable.name!r} as they are: {reason}. Ingest it without --virtual and "
                "--copy-blocks, or select others with --variable"
            )
    if how != VIRTUAL or not plan.tasks:
        return store
    urls: dict[str, Storage] = {}
    for slot in (p for task in plan.tasks for p in task.slots):
        storage = storage_of(store.spec.variable(slot.slot.variable))
        urls |= {url: _reached(url, storage) for url in (url_of(t.href) for t in slot.tiles)}
    named = [p for p in named_by_this_user() if as_prefix(p.partition("://")[2], p) == p]
    roots = [*named, *(root for v in variables for root in _roots(v))]
    opened = opened_by_this_user(store.repo)
    needed = find_places(urls, roots, opened)
    # Icechunk goes by the longest prefix: of what is declared, that within what this user opens counts, and no other.
    covering = (*opened, *(p.prefix for p in needed))
    used = {p: next((s for url, s in urls.items() if url.startswith(p)), None) for p in declared(store.repo)}
    within = {p: Place(p, s) for p, s in used.items() if s is not None and p.startswith(covering)}
    _make_ledger(store, variables)
    declare(store, list(({p.prefix: p for p in needed} | within).values()))
    again = open_store(store.uri, store.branch)
    if again.spec.to_json() != store.spec.to_json():  # what is handed on says what the plan was made for
        raise StoreError(f"the spec of the cube at {store.uri!r} was changed during this run: run the command again")
    return again


def _reached(url: str, storage: Storage) -> Storage:
    """How what is at a URL is reached: an endpoint or a region says nothing of files."""
    return Storage() if url.startswith("file://") else storage.with_environment()


def _roots(variable: Variable) -> list[str]:
    """The folders that a variable's patterns name before their first field or wildcard."""
    source = variable.source
    if source is None:
        return []
    globs = [source.tiles[1]] if source.tiles is not None and source.tiles[0] == "glob" else []
    out = []
    for pattern in (*source.href.values(), *globs):
        folder = re.split(r"[{*?[]", pattern, maxsplit=1)[0].rpartition("/")[0]
        prefix = as_prefix(folder.partition("://")[2] or folder, folder if is_remote(folder) else "file://")
        if prefix is not None:
            out.append(prefix)
    return out


def _make_ledger(store: Store, variables: list[Variable]) -> None:
    """Give a cube of an earlier version what it records references in."""
    import icechunk
    import zarr

    spec = store.spec

    def build(session: icechunk.Session) -> bool:
        missing = [v for v in variables if not has_references(session, v.name)]
        for v in missing:
            create_flag(zarr.open_group(session.store, mode="r+"), spec, v, VIRTUAL)
        return bool(missing)

    if not all(has_references(store.readonly(), v.name) for v in variables):
        store.commit(build, lambda: "make room to record references", lambda: {"action": "references"})
