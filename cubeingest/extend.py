"""Let a cube grow: more values on its axes, a larger area; nothing that is there is moved or written again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.create import changed_keys, commit_details, layout_of, list_expected, take_over, write_template
from cubeingest.errors import StoreError
from cubeingest.ledger import NOTHING, VIRTUAL, Slot, read_states, write_expected
from cubeingest.overviews import Pyramid, describe, drop_pyramid, find_pyramid, write_pyramid
from cubeingest.plan import slot_labels
from cubeingest.selection import Chosen, Selection, choose
from cubeingest.spec import CubeSpec, Growth, Variable, find_growth, grow_axes, leaves_step
from cubeingest.store import (
    LEDGER,
    MAIN,
    OWN_BRANCHES,
    VALID,
    Store,
    is_ancestor,
    is_split,
    made_known,
    open_store,
    read_internal,
    refuse_beside,
    save_splitting,
)
from cubeingest.valid import find_valid
from cubeingest.wording import counted

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt
    import zarr

TRIES = 5
"""How often the extension is worked out anew when somebody else has changed the spec meanwhile."""

VALUES_IN_METADATA = 8
"""New labels of an axis that are named in the commit's metadata, which is copied with every later commit."""


GROWING_ATTRS = ("spatial:shape", "spatial:bbox")
"""Attributes of a cube of pixels that speak of its size."""


@dataclass(frozen=True)
class Extended:
    """What ``extend`` did, or with ``dry_run`` would do: ``extended`` or ``unchanged``.

    ``growth`` has the dimensions that grow, ``changes`` what else of the spec was taken over, ``new_slots`` how many slots
    there are more. ``store`` is opened anew.
    """

    store: Store
    action: str
    dry_run: bool = False
    growth: tuple[Growth, ...] = ()
    new_slots: int = 0
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "store": self.store.uri, "action": self.action, "dry_run": self.dry_run, "snapshot": self.store.tip,
            "grown": {g.dim: g.to_json() for g in self.growth}, "new_slots": self.new_slots, "changes": list(self.changes),
            "warnings": list(self.warnings),
        }  # fmt: skip


class _SpecMovedError(StoreError):
    """Somebody else has changed the spec since it was read."""


def extend(store: Store, longer: CubeSpec | Mapping[str, tuple[str, ...]], dry_run: bool = False) -> Extended:
    """Let a cube grow to a spec whose axes or grid are longer, or by values of axes; see :func:`grow_axes`.

    All of it is one commit; values that the cube has already change nothing. Raises :class:`SpecError` if existing pixels
    would move, :class:`GridError` for what is no value of an axis, :class:`StoreError` if slots that are done would get more
    pixels, while others write, and while a branch holds what main does not.
    """
    if store.at is not None or store.branch != MAIN:
        raise StoreError("only main can be extended: open the cube without --branch and --at")
    for _ in range(TRIES):
        now = store.on(MAIN)  # with the spec as it is now: somebody may have extended it
        spec = _with_valid(now.spec, longer)
        growth = find_growth(now.spec, spec)
        changes = changed_keys(now.spec, spec)
        if not growth:
            return _unchanged(now, changes, dry_run)
        with now.asking():
            _refuse_unpublished(now)
        refuse_beside(now, "extend")
        _refuse_done(now.readonly(), now, spec)
        more = sum(int(np.prod(s.slot_shape(v))) * sign for s, sign in ((spec, 1), (now.spec, -1)) for v in s.variables)
        warnings = _warnings(now.spec, spec, growth)
        if (
            now.spec.grid.spatial_shape != spec.grid.spatial_shape
            and find_pyramid(now.readonly(), now.spec) is not None
        ):
            warnings.append(
                "overviews are not of the larger area, so they are taken away: make them anew with `cubeingest overviews`"
            )
        if dry_run:
            return Extended(now, "extended", True, growth, more, tuple(changes), tuple(warnings))
        try:
            warnings += _commit(now, spec, growth, changes)
        except _SpecMovedError:
            continue
        return Extended(open_store(store.uri), "extended", False, growth, more, tuple(changes), tuple(warnings))
    raise StoreError(f"others kept changing the spec of {store.uri!r}: nothing was extended; try again")


def _with_valid(now: CubeSpec, longer: CubeSpec | Mapping[str, tuple[str, ...]]) -> CubeSpec:
    """The longer spec, with the regions that are valid: looked up anew where the area may have grown."""
    if isinstance(longer, CubeSpec):
        return replace(longer, valid=find_valid(longer))
    return replace(grow_axes(now, longer), valid=now.valid)


def _unchanged(store: Store, changes: list[str], dry_run: bool) -> Extended:
    if changes:
        raise StoreError(
            f"nothing of the cube at {store.uri!r} is to grow, but the spec differs (cube -> spec): {'; '.join(changes)}. "
            "Nothing was changed; `cubeingest init --update` takes this over"
        )
    if not dry_run and not is_split(store):
        save_splitting(store)  # of an extension that was killed after its commit
    return Extended(store, "unchanged", dry_run)


# ---- what stands against it -----------------------------------------------------------------------------------


def _refuse_unpublished(store: Store) -> None:
    """A branch that is ahead of main could not be published once main has moved."""
    main = store.repo.lookup_branch(MAIN)
    for name in sorted(store.repo.list_branches()):
        if name == MAIN or name.startswith(OWN_BRANCHES):
            continue
        tip = store.repo.lookup_branch(name)
        if tip != main and is_ancestor(store, main, tip):
            raise StoreError(
                f"branch {name!r} holds what main does not, and could not be published any more: first publish it "
                f"(`cubeingest publish {name}`) or give it up (`--discard`); nothing was extended"
            )


def _refuse_done(session: icechunk.Session, store: Store, new: CubeSpec) -> None:
    """A slot that the old end cuts short would get more pixels, into chunks that are written already."""
    spec = store.spec
    states = read_states(session, spec)
    longer = [
        Slot(v.name, tuple(index[:-2]), index[-2], index[-1])
        for v in spec.variables
        for index in np.argwhere(_grows(spec, new, v) & (states[v.name] != NOTHING)).tolist()
    ]
    if not longer:
        return
    names = [" ".join([spec.grid.region_id(s.iy, s.ix), *slot_labels(spec, s).values(), s.variable]) for s in longer]
    raise StoreError(
        f"{counted(len(longer), 'slot that is', 'slots that are')} done would get more pixels, since the cube ends within a region or an axis block there: "
        f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}. What is done is never changed: make a new cube (another "
        "--store) of the longer spec"
    )


def _grows(old: CubeSpec, new: CubeSpec, v: Variable) -> npt.NDArray[np.bool_]:
    """Which slots of a variable the old end cuts short and the new one does not, or less."""
    shape = old.slot_shape(v)
    mask = np.zeros(shape, bool)
    ends = [grid.slices(*(n - 1 for n in shape[-2:])) for grid in (old.grid, new.grid)]
    last = shape[:-2]
    longer = [
        *(a.block_slice(n - 1) != b.block_slice(n - 1) for a, b, n in zip(old.axes_of(v), new.axes_of(v), last, strict=True)),
        *(a != b for a, b in zip(*ends, strict=True)),
    ]  # fmt: skip
    for dim, is_longer in enumerate(longer):
        if is_longer:
            mask[(slice(None),) * dim + (-1,)] = True
    return mask


def _warnings(old: CubeSpec, new: CubeSpec, growth: tuple[Growth, ...]) -> list[str]:
    out = []
    for g in (g for g in growth if g.values):
        if leaves_step(old, new, g.dim):
            out.append(
                f"{g.dim} does not go on from {old.grid.axis(g.dim).labels[-1]} in its step, but with {', '.join(g.values[:3])}: "
                "what lies between can never be added"
            )
        for v in new.variables:
            if v.source is None or v.source.href_axis != g.dim or v.source.tiles is not None:
                continue
            without = [label for label in g.values if label not in v.source.href]
            if without:
                out.append(
                    f"{v.name} has no href for {g.dim} {', '.join(without[:3])}: give it one with `cubeingest init "
                    "GRID.yaml --update`"
                )
    return out


# ---- the commit -----------------------------------------------------------------------------------------------


def _commit(store: Store, new: CubeSpec, growth: tuple[Growth, ...], changes: list[str]) -> list[str]:
    """Extend in one commit; warnings. Raises :class:`_SpecMovedError` if the cube's spec is not what it was, and then has done nothing."""
    import zarr

    old = store.spec
    fresh = zarr.storage.MemoryStore()
    write_template(fresh, new, store.cube_id)
    fresh_attrs = zarr.open_group(fresh, mode="r").attrs.asdict()
    expected, warning = list_expected(new, _to_list(old, new, growth, changes))

    def build(session: icechunk.Session) -> bool:
        if read_internal(session, store.uri)["spec"] != old.to_json():
            raise _SpecMovedError(f"the spec of {store.uri!r} was changed meanwhile")
        _refuse_done(session, store, new)
        _grow_arrays(session, fresh, new)
        _grow_overviews(session, old, new)
        root = zarr.open_group(session.store, mode="r+")
        take_over(root, old, new, store.cube_id)
        root.attrs.update({k: fresh_attrs[k] for k in GROWING_ATTRS if k in fresh_attrs})
        write_expected(session, new, expected)
        return True

    with made_known(store, uuid.uuid4().hex[:12], "extend"):
        store.commit(build, lambda: f"extend {'; '.join(map(str, growth))}", lambda: _details(growth))
        later = open_store(store.uri)
        warnings = [warning] if warning else []
        if not is_split(later):
            try:
                save_splitting(later)
            except StoreError as e:
                warnings.append(
                    f"the chunk index is not split as suits the larger cube ({e}): run the same command again"
                )
    return warnings


def _details(growth: tuple[Growth, ...]) -> dict[str, Any]:
    return {
        **commit_details("extend"),
        "axes": {g.dim: list(g.values[:VALUES_IN_METADATA]) for g in growth if g.values},
        "sizes": {g.dim: [g.before, g.after] for g in growth},
    }


def _to_list(old: CubeSpec, new: CubeSpec, growth: tuple[Growth, ...], changes: list[str]) -> Chosen:
    """Where the catalog is to be read: at the new end of the one axis that grows, else everywhere."""
    everything = choose(new, Selection())
    if len(growth) > 1 or not growth[0].values or changes:
        return everything
    (grown,) = growth
    axis = new.grid.axis(grown.dim)
    first = old.grid.axis(grown.dim).size // axis.block * axis.block
    positions = {**everything.positions, axis.name: tuple(range(first, axis.size))}
    return Chosen(positions, None, tuple(v for v in new.variables if axis.name in v.axes))


def _grow_arrays(session: icechunk.Session, fresh: zarr.storage.MemoryStore, new: CubeSpec) -> None:
    """Make every array as ``init`` would make it of the longer spec (``fresh`` holds that), without touching a chunk of a
    variable or of the records: those only get another shape, coordinates and the like are put in anew.
    """
    import zarr

    root, wanted = zarr.open_group(session.store, mode="r+"), zarr.open_group(fresh, mode="r")
    _refuse_others(root, wanted)
    _make_like(session, fresh, new)
    for v in new.variables:
        # A writer that nobody knows of gets a conflict also where a slot grows that only the ledger speaks of.
        root[f"{LEDGER}/{v.name}/record"].attrs["speaks_of"] = list(new.shape_of(v))


def _grow_overviews(session: icechunk.Session, old: CubeSpec, new: CubeSpec) -> None:
    """Lengthen overviews along axes as the cube was. Of a larger area they are others: then they are taken away."""
    import zarr

    there = find_pyramid(session, old)
    if there is None:
        return
    root = zarr.open_group(session.store, mode="r+")
    if old.grid.spatial_shape != new.grid.spatial_shape:
        drop_pyramid(root, old)
        return
    grown = Pyramid(new, there.n_levels, tuple(there.methods))
    fresh = zarr.storage.MemoryStore()
    zarr.create_group(fresh)
    write_pyramid(fresh, grown)
    _make_like(session, fresh, new)
    describe(root, grown)


def _make_like(session: icechunk.Session, fresh: zarr.storage.MemoryStore, new: CubeSpec) -> None:
    """Give every array that ``fresh`` holds, too, the shape that it has there, and coordinates their values."""
    import zarr

    root, wanted = zarr.open_group(session.store, mode="r+"), zarr.open_group(fresh, mode="r")
    for path, array in sorted(dict(wanted.members(max_depth=None)).items()):
        if not isinstance(array, zarr.Array) or path == VALID:
            continue
        own = root.get(path)
        if own is None and path.endswith(f"/{VIRTUAL}"):
            continue  # of an earlier version; made when it is first needed
        if not isinstance(own, zarr.Array):
            raise StoreError(f"the array {path!r} is missing in the cube: run `cubeingest check`")
        before, after = layout_of(own), layout_of(array)
        if {**before, "shape": ""} == {**after, "shape": ""}:
            if before != after:
                own.resize(array.shape)
        elif path.rpartition("/")[2] in new.grid.dims:
            _replace(session, fresh, path, own)
        elif path.startswith(LEDGER) and path.endswith("/expected"):
            kept = np.asarray(own[...])
            _replace(session, fresh, path, own)
            zarr.open_array(session.store, path=path, mode="r+")[tuple(slice(n) for n in kept.shape)] = kept
        else:
            raise StoreError(f"the array {path!r} is not what the cube's spec says: run `cubeingest check`")


def _refuse_others(root: zarr.Group, wanted: zarr.Group) -> None:
    """Arrays beside the cube's own would keep their length, and nobody could open the group any more."""
    sizes = {k: n for _, a in wanted.arrays() for k, n in zip(_dims(a), a.shape, strict=True)}
    for name, array in root.arrays():
        if name not in wanted and any(n != sizes.get(d, n) for d, n in zip(_dims(array), array.shape, strict=True)):
            raise StoreError(
                f"the cube holds an array {name!r} that its spec does not name, along a dimension that is to grow: "
                "nothing was extended; take it out first"
            )


def _dims(array: zarr.Array[Any]) -> tuple[str | None, ...]:
    metadata: Any = array.metadata
    return tuple(metadata.dimension_names or (None,) * array.ndim)


def _replace(session: icechunk.Session, fresh: zarr.storage.MemoryStore, path: str, own: zarr.Array[Any]) -> None:
    """Put an array in the place of another, with its chunks; attributes that the other had besides are kept."""
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    attrs = own.attrs.asdict()

    async def copy() -> None:
        await session.store.delete_dir(path)
        async for key in fresh.list_prefix(f"{path}/"):
            value = await fresh.get(key, default_buffer_prototype())
            assert value is not None
            await session.store.set(key, value)

    sync(copy())
    array = zarr.open_array(session.store, path=path, mode="r+")
    array.attrs.put({**attrs, **array.attrs.asdict()})
