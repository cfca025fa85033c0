"""Make a cube from a spec, or change in an existing one what may change: sources, attributes, tiles."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.catalog import Catalog, read_catalog
from cubeingest.engine import PROBE, PROBE_LENGTH
from cubeingest.errors import CatalogError, ExtraError, SpecError, StoreError
from cubeingest.ingest import expected_slots
from cubeingest.ledger import create_ledger, write_expected
from cubeingest.overviews import level_arrays, settle_pyramid
from cubeingest.selection import Chosen, Selection, choose
from cubeingest.spec import INTERNAL_GROUP, CubeSpec, differences
from cubeingest.storage import public_href
from cubeingest.store import (
    FORMAT,
    VALID,
    Store,
    create_store,
    is_local,
    is_split,
    is_unused,
    normalize_uri,
    open_store,
    read_internal,
    reopen_unused,
    save_splitting,
    store_exists,
)
from cubeingest.template import write_arrays
from cubeingest.valid import find_valid

if TYPE_CHECKING:
    import icechunk
    import zarr

KEPT_ATTRS = ("grid_mapping", "_FillValue", "coordinates")
"""Attributes of a variable that the template wrote, not the spec."""


@dataclass(frozen=True)
class Created:
    """What ``init`` did: ``created``, ``updated`` or ``unchanged``; ``warning`` if the catalog could not be read yet."""

    store: Store
    action: str
    changes: tuple[str, ...] = ()
    warning: str = ""


def init_cube(spec: CubeSpec, uri: str | None = None, update: bool = False) -> Created:
    """Create the cube of ``spec`` at ``uri`` (else the spec's own store), in one commit.

    On a cube that exists: the same spec changes nothing; another one is refused, unless ``update`` is set and only
    sources, attributes or tiles differ.

    Raises :class:`SpecError` if no store is named, :class:`StoreError` if the place is taken or the specs differ.
    """
    spec = replace(spec, valid=find_valid(spec))
    where = uri or spec.store
    if where is None:
        raise SpecError("the spec names no store: add `store:` to it, or give --store")
    where = normalize_uri(where)
    store = reopen_unused(where, spec) if store_exists(where) else None
    if store is None and store_exists(where):
        return _again(open_store(where), spec, update)
    if store is None:
        _check_free(where)
    expected, warning = list_expected(spec)
    store = store or create_store(where, spec)

    cube_id = uuid.uuid4().hex

    def build(session: icechunk.Session) -> bool:
        if not is_unused(session):
            if read_internal(session, where).get("id") == cube_id:
                return False  # it was made, though the store's answer was lost
            raise StoreError(
                f"someone else is creating a cube at {where!r}: run `cubeingest init` again to compare the specs"
            )
        write_template(session.store, spec, cube_id)
        write_expected(session, spec, expected)
        return True

    store.commit(build, lambda: f"init {spec.name}", lambda: commit_details("init"))
    return Created(open_store(where), "created", warning=warning)


def _check_free(uri: str) -> None:
    if is_local(uri) and os.path.isdir(uri) and os.listdir(uri):
        raise StoreError(f"folder {uri!r} is not empty and not a cube: name another place for the store")


def list_expected(
    spec: CubeSpec, chosen: Chosen | None = None
) -> tuple[Mapping[str, Mapping[tuple[int, ...], Any]], str]:
    """What the catalog has, everywhere or where it is chosen, as :func:`write_expected` takes it; and a warning, or "".

    A cube may be made where its tiles cannot be listed yet, which is then said.
    """
    chosen = chosen or choose(spec, Selection())
    try:
        catalog = read_catalog(spec, chosen.positions, [v.name for v in chosen.variables])
        return expected_slots(spec, chosen, catalog), "; ".join(
            w for w in (_none_yet(chosen, catalog), *catalog.warnings) if w
        )
    except (CatalogError, ExtraError) as e:
        return expected_slots(spec, chosen, None), f"the catalog could not be read, ingest will try again: {e}"


def _none_yet(chosen: Chosen, catalog: Catalog) -> str:
    """What to say of variables whose lists or globs name no tile at all: right for a start, but often a wrong path."""
    none = [v for v in chosen.variables if v.source is not None and v.source.tiles and not catalog.rows.get(v.name)]
    where = ", ".join(
        f"{v.source.tiles[0]} {public_href(v.source.tiles[1])!r}" for v in none if v.source and v.source.tiles
    )
    return f"no tiles yet in {where}" if none else ""


def write_template(store: Any, spec: CubeSpec, cube_id: str) -> None:
    """Write what ``init`` commits into an empty Zarr store: coordinates, empty variables, spec, and an empty ledger."""
    import zarr

    write_arrays(store, spec)
    root = zarr.open_group(store, mode="r+")
    root.create_group(INTERNAL_GROUP, attributes=_internal_attrs(spec, cube_id))
    root.create_array(PROBE, shape=(PROBE_LENGTH,), chunks=(PROBE_LENGTH,), dtype="int64", fill_value=0)
    create_ledger(root, spec)
    write_valid(root, spec)


def write_valid(root: zarr.Group, spec: CubeSpec) -> None:
    """Keep the regions that the grid is restricted to, as an array over the lattice; or take an earlier one away."""
    if VALID in root:
        del root[VALID]
    if spec.valid is not None:
        lattice = np.zeros(spec.grid.lattice_shape_yx, np.uint8)
        lattice[tuple(np.array(sorted(spec.valid)).T)] = 1
        root.create_array(VALID, data=lattice, chunks=lattice.shape, dimension_names=("region_y", "region_x"))


def layout_of(array: zarr.Array[Any]) -> dict[str, str]:
    """What the layout of an array is, without its attributes: equal for two that can hold the same chunks."""
    kept: dict[str, Any] = array.metadata.to_dict()
    return {
        k: repr(kept.get(k)) for k in ("shape", "data_type", "chunk_grid", "fill_value", "codecs", "dimension_names")
    }


def _internal_attrs(spec: CubeSpec, cube_id: str) -> dict[str, Any]:
    from cubeingest import __version__

    return {"format": FORMAT, "version": __version__, "id": cube_id, "spec": spec.to_json()}


def commit_details(action: str) -> dict[str, Any]:
    """The metadata of a commit that no run made."""
    from cubeingest import __version__

    return {"cubeingest": __version__, "action": action}


# ---- init on a cube that exists -------------------------------------------------------------------------------


def _again(store: Store, spec: CubeSpec, update: bool) -> Created:
    layout = differences(store.spec.layout, spec.layout)
    if layout:
        raise StoreError(
            f"the cube at {store.uri!r} was made from another spec, whose layout differs (cube -> spec): {'; '.join(layout)}. "
            "A layout cannot change: use another --store; or, where it only grows at its ends, `cubeingest extend GRID.yaml`"
        )
    changes = changed_keys(store.spec, spec)
    if not changes and update and not is_split(store):
        save_splitting(store)
        return Created(store, "updated", ("how the chunk index is split",))
    if not changes:
        return Created(store, "unchanged")
    if not update:
        raise StoreError(
            f"the cube at {store.uri!r} was made from another spec (cube -> spec): {'; '.join(changes)}. "
            "Nothing was changed; `init --update` takes this over"
        )
    expected, warning = list_expected(spec)

    def build(session: icechunk.Session) -> bool:
        import zarr

        if read_internal(session, store.uri)["spec"] != store.spec.to_json():
            raise StoreError(
                f"somebody else has just changed the spec of {store.uri!r}: nothing was changed; try again"
            )
        take_over(zarr.open_group(session.store, mode="r+"), store.spec, spec, store.cube_id)
        write_expected(session, spec, expected)
        return True

    store.commit(build, lambda: f"update {spec.name}", lambda: commit_details("update"))
    if any(".aggregate: " in change or change.startswith("points") for change in changes):
        again = "statistics that are done as the spec said before stay until they are ingested again (`cubeingest plan` counts them)"
        warning = "; ".join(filter(None, (warning, again)))
    return Created(open_store(store.uri), "updated", tuple(changes), warning)


def take_over(root: zarr.Group, old: CubeSpec, new: CubeSpec, cube_id: str) -> None:
    """Put what may change of a spec into a cube's root group: the spec itself, attributes of the group and its variables, and
    which regions are valid.
    """
    root[INTERNAL_GROUP].attrs.put(_internal_attrs(new, cube_id))
    kept = {k: v for k, v in root.attrs.asdict().items() if k not in old.attrs}
    root.attrs.put({**kept, "title": new.name, **new.attrs})
    for v in new.variables:
        for array in (root[v.name], *level_arrays(root, v.name)):
            kept = {k: w for k, w in array.attrs.asdict().items() if k in KEPT_ATTRS}
            array.attrs.put({**kept, **v.attrs})
    settle_pyramid(root, new)
    write_valid(root, new)


def changed_keys(old: CubeSpec, new: CubeSpec) -> list[str]:
    """``key.path: old -> new`` for all in which two specs of one layout differ."""
    return differences(_changeable(old), _changeable(new))


def _changeable(spec: CubeSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "attrs": dict(spec.attrs),
        "valid": spec.valid_source,
        "valid regions": None if spec.valid is None else _digest(spec.valid),
        "variables": {
            v.name: {
                "attrs": dict(v.attrs),
                "source": None if v.source is None else asdict(v.source),
                "aggregate": None if v.aggregate is None else v.aggregate.text,
                "overviews": v.overviews,
            }
            for v in spec.variables
        },
        "points": None if spec.points is None else spec.points.plain,
    }


def _digest(regions: frozenset[tuple[int, int]]) -> str:
    """How many regions, and what tells them from others."""
    code = hashlib.blake2b(repr(sorted(regions)).encode(), digest_size=4).hexdigest()
    return f"{len(regions)} ({code})"
