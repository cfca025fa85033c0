"""What must be so before any slot is filled with blocks as they are: variables that can have them, and places that may be referred to."""

from __future__ import annotations

from cubeingest.errors import SpecError
from cubeingest.ledger import VIRTUAL, create_flag, has_references
from cubeingest.plan import Plan
from cubeingest.remote import url_of
from cubeingest.spec import Variable
from cubeingest.storage import Storage, is_remote
from cubeingest.store import Place, Store, as_prefix, declare, declared, find_places, open_store
from cubeingest.tile import storage_of, why_no_variable


def prepare_blocks(store: Store, plan: Plan, how: str) -> Store:
    """Refuse what can have no blocks; for references, declare the places that they lie in. The store, which may read them.

    Raises :class:`SpecError` for a variable whose chunks no tile's blocks can be, :class:`TileError` for a tile that cannot be referred to.
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
    storages = {v.name: _storage(v) for v in variables}
    urls = {url_of(t.href): storages[p.slot.variable] for task in plan.tasks for p in task.slots for t in p.tiles}
    roots = [root for v in variables for root in _roots(v)]
    _make_ledger(store, variables)
    known = declared(store.repo)
    needed = find_places(urls, roots, known)
    used = {p: next((s for url, s in urls.items() if url.startswith(p)), None) for p in known}
    declare(store, [*needed, *(Place(prefix, storage) for prefix, storage in used.items() if storage is not None)])
    return open_store(store.uri, store.branch)


def _storage(variable: Variable) -> Storage:
    storage = storage_of(variable)
    source = variable.source
    remote = source is not None and any(map(is_remote, [*source.href.values(), *(source.tiles or ())[1:]]))
    return storage.with_environment() if remote else Storage()


def _roots(variable: Variable) -> list[str]:
    """The folders that a variable's patterns name before their first field."""
    out = []
    for pattern in variable.source.href.values() if variable.source else ():
        folder = pattern.partition("{")[0].rpartition("/")[0]
        prefix = as_prefix(
            folder.partition("://")[2] if is_remote(folder) else folder, folder if is_remote(folder) else "file://"
        )
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
