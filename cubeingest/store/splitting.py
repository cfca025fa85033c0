"""How a cube's chunk index is split into manifests, so that a commit rewrites little of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cubeingest.spec import CubeSpec, Variable

if TYPE_CHECKING:
    import icechunk

MAX_MANIFESTS = 200
"""An array's manifests. Measured: beyond 200 to 300 every second commit is slow; without splitting, a commit
rewrites the references of the whole cube."""


def splitting(spec: CubeSpec) -> icechunk.ManifestSplittingConfig:
    """The splitting of all variables, as kept in the repository's configuration."""
    from icechunk import ManifestSplitCondition as Condition
    from icechunk import ManifestSplitDimCondition as Dim
    from icechunk import ManifestSplittingConfig

    return ManifestSplittingConfig.from_dict(
        {
            Condition.name_matches(f"^{v.name}$"): {
                Dim.DimensionName(dim): size for dim, size in zip(v.dims, manifest_split(spec, v), strict=True)
            }
            for v in spec.variables
        }
    )


def manifest_split(spec: CubeSpec, variable: Variable) -> tuple[int, ...]:
    """Chunks (shards, where there are shards) that one manifest spans along each dimension.

    Whole regions at one axis block if that makes at most ``MAX_MANIFESTS``; otherwise spatial neighbours share a
    manifest first, then neighbours along the axes.
    """
    shape, written = spec.shape_of(variable), variable.write_shape
    counts = [-(-n // w) for n, w in zip(shape, written, strict=True)]
    n_axes = len(variable.axes)
    region = [max(1, r // w) for r, w in zip(spec.grid.region_shape_yx, written[n_axes:], strict=True)]
    sizes = [1] * n_axes + region

    def manifests() -> int:
        total = 1
        for count, size in zip(counts, sizes, strict=True):
            total *= -(-count // size)
        return total

    step = 0
    while manifests() > MAX_MANIFESTS:
        spatial = [i for i in (n_axes, n_axes + 1) if sizes[i] < counts[i]]
        axes = [i for i in range(n_axes - 1, -1, -1) if sizes[i] < counts[i]]
        grows = spatial or axes[:1]
        i = grows[step % len(grows)]
        sizes[i] += region[i - n_axes] if i >= n_axes else 1
        step += 1
    return tuple(min(s, c) for s, c in zip(sizes, counts, strict=True))
