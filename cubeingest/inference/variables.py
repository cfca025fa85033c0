"""Layers become a cube's variables and axes, with names that a spec takes. Pure but for the sample of pixels that a fill value needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cubeingest.axes import AxisValue
from cubeingest.inference.fill import Fill, choose_fill, common_kind
from cubeingest.inference.layers import BAND, Field, Layer, Part
from cubeingest.inference.tiles import Misfit
from cubeingest.inference.words import ID, split_name
from cubeingest.spec import INTERNAL_GROUP

TAKEN = {"x", "y", "id", "spatial_ref", INTERNAL_GROUP}
"""Names that no variable can have."""

TIMES = ("year", "time")
"""Axes whose values join where several variables have them; they come first."""

GENERIC = {
    "data",
    "tile",
    "tiles",
    "raster",
    "rasters",
    "tif",
    "tiff",
    "tifs",
    "cog",
    "cogs",
    "image",
    "images",
    "output",
    "tmp",
    "map",
    "maps",
}
"""Folders' names that say nothing."""

MOST_WORDS = 4
"""Words of a name."""


@dataclass(frozen=True)
class Draft:
    """One variable to be declared. ``bands_axis`` is the axis that the bands of its files fill, if they have several."""

    name: str
    dtype: str
    fill: Fill
    layer: Layer
    bands_axis: str | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        return (*self.layer.values, *((self.bands_axis,) if self.bands_axis else ()))


@dataclass(frozen=True)
class Drafts:
    """All variables, the values of their axes in order, and a name for the cube."""

    title: str
    variables: tuple[Draft, ...]
    axes: Mapping[str, tuple[AxisValue, ...]]


def draft_variables(layers: Sequence[Layer], folder: str) -> tuple[Drafts, list[Misfit]]:
    """Variables for the layers, and the tiles that are unlike the others of theirs. ``folder`` is where the tiles lie."""
    misfits: list[Misfit] = []
    kept: list[Layer] = []
    for layer in layers:
        dtype, n = common_kind(layer.tiles)
        fits = [(t.header.dtypes[0], len(t.header.dtypes)) == (dtype, n) for t in layer.tiles]
        kind = f"have another dtype or number of bands than {dtype}, {n}"
        misfits += [
            Misfit(kind, t.name, f"{t.header.dtypes[0]}, {len(t.header.dtypes)}")
            for t, f in zip(layer.tiles, fits, strict=True)
            if not f
        ]
        kept.append(_some(layer, fits))
    axes: dict[str, tuple[AxisValue, ...]] = {}
    joined = [(layer, _join_bands(layer, axes)) for layer in [_join(layer, axes) for layer in kept]]
    title = _title(kept, folder)
    drafts: list[Draft] = []
    for layer, bands in joined:
        name = _variable_name(layer.label or title, {*TAKEN, *axes, *(d.name for d in drafts)})
        dtype, _ = common_kind(layer.tiles)
        drafts.append(Draft(name, dtype, choose_fill(layer.tiles, dtype), layer, bands))
    return Drafts(title, tuple(drafts), {a: axes[a] for a in sorted(axes, key=lambda a: a not in TIMES)}), misfits


def _some(layer: Layer, keep: Sequence[bool]) -> Layer:
    if all(keep):
        return layer
    chosen = [i for i, k in enumerate(keep) if k]
    values = {a: tuple(v[i] for i in chosen) for a, v in layer.values.items()}
    parts = {v: p for v, p in layer.parts.items() if layer.split_by is None or v in values[layer.split_by]}
    return replace(layer, tiles=tuple(layer.tiles[i] for i in chosen), values=values, parts=parts)


def _join(layer: Layer, axes: dict[str, tuple[AxisValue, ...]]) -> Layer:
    """Add the layer's axes to ``axes``; labels that differ from those of another variable's axis make an axis of another name."""
    for axis, values in layer.values.items():
        own = sorted(set(values), key=_in_order)
        name = axis
        if axis in TIMES:
            own = sorted({*own, *axes.get(axis, ())}, key=_in_order)
        else:
            name = _free_name(axis, tuple(own), axes, layer)
        axes[name] = tuple(own)
        if name != axis:
            layer = _rename(layer, axis, name)
    return layer


def _in_order(value: AxisValue) -> Any:
    return value


def _free_name(
    axis: str, values: tuple[AxisValue, ...], axes: Mapping[str, tuple[AxisValue, ...]], layer: Layer
) -> str:
    """A name that no axis has, or only one with the same values that is not the layer's own."""
    names = [axis, *(f"{axis}_{n}" for n in range(2, 100))]
    return next(n for n in names if axes.get(n, values) == values and (n == axis or n not in layer.values))


def _rename(layer: Layer, old: str, new: str) -> Layer:
    def renamed(part: Part) -> Part:
        return replace(part, axis=new) if isinstance(part, Field) and part.axis == old else part

    return replace(
        layer, values={new if a == old else a: v for a, v in layer.values.items()},
        parts={k: tuple(renamed(p) for p in parts) for k, parts in layer.parts.items()}, split_by=new if layer.split_by == old else layer.split_by,
    )  # fmt: skip


def _join_bands(layer: Layer, axes: dict[str, tuple[AxisValue, ...]]) -> str | None:
    """The axis that several bands a file fill: their descriptions where all files have the same good ones, else numbers."""
    n = len(layer.tiles[0].header.dtypes)
    if n == 1:
        return None
    names = {t.band_names for t in layer.tiles}
    labels = [] if len(names) > 1 else [_label(name) for name in next(iter(names)) if name]
    good = len(set(labels)) == n and all(labels)
    values: tuple[AxisValue, ...] = tuple(labels) if good else tuple(range(1, n + 1))
    axis = _free_name("layer" if BAND in layer.values else BAND, values, axes, layer)
    axes[axis] = values
    return axis


def _label(text: str) -> str:
    """A band's description as an axis label: no spaces, commas or slashes."""
    return re.sub(r"[,/\\\s]+|\.\.", "_", text.strip()).lstrip("-")


def _variable_name(text: str, taken: Iterable[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "data"
    name = name if name[0].isalpha() else f"v_{name}"
    return next(n for n in [name, *(f"{name}_{i}" for i in range(2, 1000))] if n not in taken)


def _title(layers: Sequence[Layer], folder: str) -> str:
    """A name from the words that all patterns share, in the files' names or else the folders'."""
    patterns = [
        "".join(p if isinstance(p, str) else GAP for p in parts) for layer in layers for parts in layer.parts.values()
    ]
    levels = [[_words(s) for s in reversed((p.partition("://")[2] or p).split("/"))] for p in patterns]
    shared = [[w for w in names[0] if all(w in other for other in names)] for names in zip(*levels, strict=False)]
    for least, common in (
        *zip((2, *[3] * len(shared)), shared, strict=False),
        *((3, _words(s)) for s in reversed(folder.split("/"))),
    ):
        if sum(map(len, common)) >= least and not set(common) <= GENERIC:
            return "-".join(common[:MOST_WORDS])
    return "cube"


GAP = "\1"
"""Stands for a part of a name that is not always the same."""


def _words(segment: str) -> list[str]:
    """Words of a part of a path that may make a name, in small letters."""
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", segment)
    tokens = split_name(stem)
    out = []
    for i, token in enumerate(tokens):
        torn = {ID, GAP} & {*tokens[max(0, i - 1) : i + 2]} and not (token.isalpha() and len(token) > 2)
        if token.isascii() and token[0].isalpha() and len(token) > 1 and not torn:
            out.append(token.lower())
    return list(dict.fromkeys(out))
