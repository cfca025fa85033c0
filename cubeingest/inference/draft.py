"""From tiles to the text of a spec, step by step."""

from __future__ import annotations

import fnmatch
import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cubeingest.errors import CatalogError, TileError
from cubeingest.hrefs import HrefPattern
from cubeingest.inference.document import Sketch, render
from cubeingest.inference.fill import is_possible
from cubeingest.inference.idnames import IdFound, find_id, why_not
from cubeingest.inference.lattice import Lattice, find_lattice
from cubeingest.inference.layers import Reading, read_layers
from cubeingest.inference.layout import choose_layout
from cubeingest.inference.tiles import Misfit, Seen, expand, notes_of, read_tiles, reason_of
from cubeingest.inference.variables import draft_variables
from cubeingest.inference.words import shared_start
from cubeingest.spec import CubeSpec, resolve, spec_from_yaml
from cubeingest.storage import is_remote, public_href
from cubeingest.tile import place
from cubeingest.wording import counted

MOST_MATCHES = 200_000
"""Names that are tried against globs; of more only some are."""


@dataclass(frozen=True)
class Inferred:
    """A drafted spec: its text, the same as plain data, and what a person should know."""

    text: str
    document: Mapping[str, Any]
    notes: tuple[str, ...]


def infer(tiles: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], base: str | os.PathLike[str] = ".") -> str:
    """A commented ``grid.yaml`` for some tiles: paths, globs, folders, addresses, or ``@list.txt``.

    Hrefs are written relative to the folder ``base``, where the spec is to lie; absolute if they lie elsewhere.

    Raises :class:`CatalogError` if nothing is there, :class:`TileError` if no tile can be read or placed.
    """
    return infer_spec(tiles, base).text


def infer_spec(
    tiles: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], base: str | os.PathLike[str] = "."
) -> Inferred:
    """As :func:`infer`, with the spec as plain data and what did not fit as notes."""
    folder = os.path.abspath(base)
    hrefs = expand([tiles] if isinstance(tiles, str | os.PathLike) else tiles)
    seen, misfits = read_tiles(hrefs, folder)
    notes: list[str] = []
    sketch = _sketch(_possible(seen, misfits), misfits, notes, _common_folder(hrefs))
    spec = spec_from_yaml(render(sketch, [], 0), "the drafted spec", folder)
    _prove(spec, sketch, misfits)
    notes += _greedy_globs(spec, sketch, seen)
    all_notes = [*notes_of(misfits, len(hrefs)), *notes, *_notes(sketch)]
    return Inferred(render(sketch, all_notes, len(hrefs)), spec.document, (*all_notes, *_guesses(sketch)))


def _possible(seen: Sequence[Seen], misfits: list[Misfit]) -> list[Seen]:
    kind = "have a dtype that a cube cannot keep, or several"
    misfits += [
        Misfit(kind, t.name, ", ".join(sorted(set(t.header.dtypes)))) for t in seen if not is_possible(t.header.dtypes)
    ]
    possible = [t for t in seen if is_possible(t.header.dtypes)]
    if not possible:
        raise TileError(f"no tile has a dtype that a cube can keep: {misfits[-1].name!r} has {misfits[-1].detail}")
    return possible


def _common_folder(hrefs: Sequence[str]) -> str:
    """The folder that all hrefs lie in."""
    folders = [h.rpartition("/")[0].split("/") for h in hrefs]
    return "/".join(shared_start(folders))


def _sketch(seen: Sequence[Seen], misfits: list[Misfit], notes: list[str], folder: str) -> Sketch:
    lattice, off = find_lattice(seen)
    misfits += off
    found, reading = _read_names(lattice, notes)
    misfits += reading.misfits
    notes += reading.notes
    drafts, odd = draft_variables(reading.layers, folder)
    misfits += odd
    kept = {t.href for d in drafts.variables for t in d.layer.tiles}
    lattice, moved = lattice.only([t for t in lattice.tiles if t.href in kept])
    if found is not None:
        shift = found.shift_yx
        moved = moved if "{i" in found.template else (0, 0)
        ids = {h: i for h, i in found.ids.items() if h in kept}
        found = replace(found, shift_yx=(shift[0] + moved[0], shift[1] + moved[1]), ids=ids)
    itemsize = max(np.dtype(d.dtype).itemsize for d in drafts.variables)
    layout = choose_layout(lattice, found, itemsize, lattice.tiles[0].header.block_shape_yx)
    return Sketch(lattice, found, layout, drafts)


def _read_names(lattice: Lattice, notes: list[str]) -> tuple[IdFound | None, Reading]:
    """The id template and the layers; without a template if that leaves something in the names unsaid."""
    found, note = find_id(lattice)
    if note:
        notes.append(note)
    if found is not None:
        ids = found.ids
        reading = read_layers([t for t in lattice.tiles if t.href in ids], ids, lambda t: ids[t.href])
        if all(layer.is_whole for layer in reading.layers):
            kind = f"are not named or sized as most are ({found.template})"
            reading.misfits += [
                Misfit(kind, t.name, why_not(lattice, found, t)) for t in lattice.tiles if t.href not in ids
            ]
            return found, reading
        notes += reading.notes
    return None, read_layers(lattice.tiles, None, lambda t: str(lattice.windows[t.href]))


def _prove(spec: CubeSpec, sketch: Sketch, misfits: list[Misfit]) -> None:
    """Every tile, by the very checks of an ingest: its name comes from the pattern, and its header fits its place."""
    for draft in sketch.drafts.variables:
        variable = spec.variable(draft.name)
        grid, source = spec.tile_grid(variable), variable.source
        assert source is not None
        for i, tile in enumerate(draft.layer.tiles):
            position = {a: spec.grid.axis(a).values.index(v) for a, v in draft.layer.position(i)}
            region = None if sketch.found is None else sketch.found.ids[tile.href]
            pattern = source.pattern({a: spec.grid.axis(a).labels[n] for a, n in position.items()})
            if pattern is not None:
                written = HrefPattern(pattern, grid).fill(position, region)
                if written != resolve(tile.name, spec.base):
                    misfits.append(Misfit("have a name that the pattern does not give back", tile.name, written))
            try:
                expected = None if region is None else grid.slices(*grid.region_index(region))
                place(tile.header, spec.tiling, variable, 1 if source.bands_axis else source.band, expected)
            except (TileError, CatalogError) as e:
                misfits.append(Misfit("would be refused", tile.name, reason_of(e, tile.href)))


def _greedy_globs(spec: CubeSpec, sketch: Sketch, seen: Sequence[Seen]) -> list[str]:
    """Globs that match tiles of another axis value or variable, or some that were left out."""
    out = []
    for draft in sketch.drafts.variables:
        variable = spec.variable(draft.name)
        if variable.source is None or variable.source.tiles is None:
            continue
        own = {t.href: dict(draft.layer.position(i)) for i, t in enumerate(draft.layer.tiles)}
        pattern = HrefPattern(variable.source.tiles[1], spec.tiling)
        axes = [spec.grid.axis(a) for a in draft.layer.values]
        tried = seen[:: max(1, len(seen) * math.prod(a.size for a in axes) // MOST_MATCHES)]
        wrong: dict[str, str] = {}
        for position in itertools.product(*(range(a.size) for a in axes)):
            text = pattern.fill({a.name: n for a, n in zip(axes, position, strict=True)})
            values = {a.name: a.values[n] for a, n in zip(axes, position, strict=True)}
            parts = [re.compile(fnmatch.translate(part)) for part in text.split("/")]
            for tile in tried:
                if own.get(tile.href) != values and _matches(resolve(tile.name, spec.base), parts):
                    wrong[tile.name] = text
        if wrong:
            name, text = next(iter(wrong.items()))
            out.append(
                f"{draft.name}: a glob matches {counted(len(wrong), 'tile')} that it should not, such as {name!r} by {public_href(text)!r}: "
                "make it narrower, or move them"
            )
    return out


def _matches(href: str, parts: Sequence[re.Pattern[str]]) -> bool:
    segments = href.split("/")
    return len(segments) == len(parts) and all(p.match(s) for p, s in zip(parts, segments, strict=True))


def _notes(sketch: Sketch) -> list[str]:
    """What a person should know of a draft in which everything has found its place."""
    lattice, out = sketch.lattice, []
    y, x = lattice.overlap_yx
    if y or x:
        (h, w), (sy, sx) = lattice.tile_yx, lattice.step_yx or lattice.tile_yx
        out.append(
            f"tiles of {h} x {w} pixels lie {sy} x {sx} apart: neighbours share {counted(y, 'row')} and {counted(x, 'column')}, so their headers place them; "
            "where both have data, the first by name wins"
        )
    if lattice.step_yx is None and lattice.n_places > 1:
        out.append(
            "the tiles lie on one pixel lattice, but in no even steps: their headers place them, and regions are cut freely"
        )
    for draft in sketch.drafts.variables:
        if draft.fill.note:
            out.append(f"{draft.name}: {draft.fill.note}")
        taken = Counter(
            (str(lattice.windows[t.href]), draft.layer.position(i)) for i, t in enumerate(draft.layer.tiles)
        )
        twice = sum(n - 1 for n in taken.values())
        if twice:
            out.append(
                f"{draft.name}: {twice} tiles lie just where another one does, and nothing in the names tells them apart: the first by name wins"
            )
    if any("?" in t.href for t in lattice.tiles if is_remote(t.href)):
        out.append("queries of addresses (signatures) were left out: a spec is kept in the cube")
    return out


def _guesses(sketch: Sketch) -> list[str]:
    """What the text says where it stands."""
    guessed = [d for d in sketch.drafts.variables if d.fill.why.startswith("a guess")]
    out = [f"{d.name}: fill_value {d.fill.value} is {d.fill.why}" for d in guessed]
    if sketch.found is not None and sketch.found.guess:
        out.append(f"id {sketch.found.template!r} is {sketch.found.guess}")
    return out


def write_spec(text: str, file: str | os.PathLike[str]) -> None:
    """Write a drafted spec into a new file. Raises :class:`CatalogError` if there is one already, or it cannot be written."""
    try:
        with Path(file).open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise CatalogError(f"{os.fspath(file)!r} is there already: name another file, or remove it") from None
    except OSError as e:
        raise CatalogError(f"cannot write {os.fspath(file)!r}: {e.strerror or e}") from None
