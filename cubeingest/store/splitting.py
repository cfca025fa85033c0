"""How a cube's chunk index is split into manifests, so that a commit rewrites little of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from cubeingest.spec import INTERNAL_GROUP, OVERVIEWS, CubeSpec, Variable

if TYPE_CHECKING:
    import icechunk

MAX_MANIFESTS = 200
"""An array's manifests. Measured: beyond 200 to 300 every second commit is slow; without splitting, a commit
rewrites the references of the whole cube."""

LEDGER_SIDE = 32
"""Slots along the side of one manifest of the ledger, whose chunks lie in the manifest itself: some 60 kB, and 4 ms to rewrite."""

LEDGER_WHOLE = 4096
"""A ledger of so many slots is left in one manifest, which is read at once."""

LEDGER = f"{INTERNAL_GROUP}/ledger"


def splitting(spec: CubeSpec) -> icechunk.ManifestSplittingConfig:
    """The splitting of all variables and their ledgers, as kept in the repository's configuration."""
    from icechunk import ManifestSplitCondition as Condition
    from icechunk import ManifestSplitDimCondition as Dim
    from icechunk import ManifestSplittingConfig

    sizes = {}
    for v in spec.variables:
        slots = spec.slot_shape(v)
        if prod(slots) > LEDGER_WHOLE:
            where = Condition.path_matches(
                f"^/{LEDGER}/{re.escape(v.name)}/({OVERVIEWS}/[0-9]+/)?(record|empty|virtual)$"
            )
            sizes[where] = zip(ledger_dims(v), ledger_split(slots), strict=True)
    for v in spec.variables:
        sizes[Condition.name_matches(f"^{v.name}$")] = zip(v.dims, manifest_split(spec, v), strict=True)
    return ManifestSplittingConfig.from_dict(
        {where: {Dim.DimensionName(dim): size for dim, size in along} for where, along in sizes.items()}
    )


def ledger_dims(variable: Variable) -> tuple[str, ...]:
    """Names of the dimensions of a variable's ledger: slots, not pixels."""
    return (*variable.axes, "region_y", "region_x")


def manifest_split(spec: CubeSpec, variable: Variable) -> tuple[int, ...]:
    """Chunks (shards, where there are shards) that one manifest spans along each dimension.

    Whole regions at one axis block if that makes at most ``MAX_MANIFESTS``; otherwise spatial neighbours share a
    manifest first, then neighbours along the axes.
    """
    shape, written = spec.shape_of(variable), variable.write_shape
    counts = [-(-n // w) for n, w in zip(shape, written, strict=True)]
    region = [max(1, r // w) for r, w in zip(spec.grid.region_shape, written[len(variable.axes) :], strict=True)]
    return _grow(counts, region)


def ledger_split(slots: Sequence[int]) -> tuple[int, ...]:
    """Slots that one manifest of a ledger spans along each dimension, likewise."""
    return _grow(slots, [LEDGER_SIDE, LEDGER_SIDE])


def _grow(counts: Sequence[int], unit: Sequence[int]) -> tuple[int, ...]:
    """One along each axis and ``unit`` along the spatial dimensions, times what is needed for an array of ``counts`` to have no more than ``MAX_MANIFESTS``."""
    n_axes = len(counts) - len(unit)
    sizes = [1] * n_axes + list(unit)
    step = 0
    while prod(-(-count // size) for count, size in zip(counts, sizes, strict=True)) > MAX_MANIFESTS:
        spatial = [i for i in range(n_axes, len(counts)) if sizes[i] < counts[i]]
        axes = [i for i in range(n_axes - 1, -1, -1) if sizes[i] < counts[i]]
        grows = spatial or axes[:1]
        i = grows[step % len(grows)]
        sizes[i] += unit[i - n_axes] if i >= n_axes else 1
        step += 1
    return tuple(min(s, c) for s, c in zip(sizes, counts, strict=True))
