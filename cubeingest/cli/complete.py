"""What the shell offers after TAB: values of axes, names of variables, regions, branches, tags and specs.

To open a cube takes longer than anybody waits after TAB. So what is offered is kept in the user's cache folder, once a
cube was asked for; from then on each command that opens that cube brings it up to date. Nothing is written where completion
was never used, and nobody is asked over the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cubeingest.cube import Cube

KEPT_REGIONS = 20_000
"""Ids of regions that are kept of one cube."""

KEPT_CUBES = 50
"""Cubes that are kept; those used longest ago go first."""


@dataclass(frozen=True)
class Offer:
    """One word that may be meant, as typer's own completion has it."""

    value: str
    help: str | None = None
    type: str = "plain"


def complete_spec(incomplete: str) -> list[str]:
    """Names of specs that come with cubeingest, and YAML files and folders."""
    return [*_starting(_spec_names(), incomplete), *complete_file(incomplete, (".yaml", ".yml"))]


def complete_file(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Files of these kinds, and folders, that begin so."""
    folder, _, start = incomplete.rpartition("/")
    base = Path(folder + "/" if "/" in incomplete else ".")
    prefix = folder + "/" if "/" in incomplete else ""
    with contextlib.suppress(OSError):
        found = sorted(p for p in base.iterdir() if p.name.startswith(start) and (start or not p.name.startswith(".")))
        return [prefix + p.name + "/" * p.is_dir() for p in found if p.is_dir() or p.suffix in suffixes]
    return []


def complete_region(ctx: typer.Context, incomplete: str) -> list[str]:
    return _starting(_known(ctx).get("regions", ()), incomplete)


def complete_variable(ctx: typer.Context, incomplete: str) -> list[str]:
    return _starting(_known(ctx).get("variables", ()), incomplete)


def complete_axis(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of axes, of which a list may be given."""
    done, comma, last = incomplete.rpartition(",")
    return [done + comma + name for name in _starting(_known(ctx).get("axes", ()), last)]


def complete_axis_value(ctx: typer.Context, incomplete: str) -> list[str]:
    """``AXIS=VALUE``."""
    axes = _known(ctx).get("axes", {})
    return _starting((f"{axis}={label}" for axis, labels in axes.items() for label in labels), incomplete)


def complete_branch(ctx: typer.Context, incomplete: str) -> list[str]:
    return _starting(_known(ctx, fresh=True).get("branches", ()), incomplete)


def complete_tag(ctx: typer.Context, incomplete: str) -> list[str]:
    return _starting(_known(ctx, fresh=True).get("tags", ()), incomplete)


def complete_ref(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tags and branches."""
    return [*complete_tag(ctx, incomplete), *complete_branch(ctx, incomplete)]


def complete_axes(ctx: Any, incomplete: str) -> list[Offer]:
    """``--<axis>`` for the axes of the cube, or values of the axis that the last word names."""
    axes = _known(ctx).get("axes", {})
    if incomplete.startswith("-"):
        return [Offer(f"--{a}", "An axis of the cube.") for a in axes if f"--{a}".startswith(incomplete)]
    words = [w for w in ctx.args if w != "="]
    labels = axes.get(words[-1].removeprefix("--")) if words and words[-1].startswith("--") else None
    done, comma, last = incomplete.rpartition(",")
    return [Offer(done + comma + label) for label in _starting(labels or (), last)]


def remember(cube: Cube) -> None:
    """Keep what completion offers of a cube that a command has opened, if completion is used here at all."""
    folder = _folder()
    if not folder.is_dir():
        return
    with contextlib.suppress(Exception):  # of no concern to the command
        file = folder / _name(cube.store.uri)
        held = _read(file)
        stamp = _stamp(cube.store.uri)
        if not held or held["version"] != _version(cube) or held["stamp"] != stamp:
            _keep(file, _describe(cube, held, stamp))


def _describe(cube: Cube, held: dict[str, Any], stamp: int | None) -> dict[str, Any]:
    grid, repo = cube.grid, cube.store.repo
    version = _version(cube)
    ids = (
        held["regions"]
        if held and held["version"] == version
        else list(grid.region_ids())
        if grid.n_regions <= KEPT_REGIONS
        else []
    )
    local = cube.store.is_local
    return {
        "version": version, "stamp": stamp, "axes": {a.name: list(a.labels) for a in grid.axes},
        "variables": [v.name for v in cube.spec.variables], "regions": ids,
        "branches": sorted(repo.list_branches()) if local else [], "tags": sorted(repo.list_tags()) if local else [],
    }  # fmt: skip


def _version(cube: Cube) -> str:
    return hashlib.sha256(json.dumps(cube.spec.document, default=str).encode()).hexdigest()


def _keep(file: Path, value: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(value, default=str), encoding="utf-8")
    part.replace(file)
    for old in sorted(file.parent.glob("*.json"), key=lambda p: p.stat().st_mtime)[:-KEPT_CUBES]:
        old.unlink(missing_ok=True)


def _known(ctx: Any, fresh: bool = False) -> dict[str, Any]:
    """What is known of the cube that the words so far are about; with ``fresh``, as it is since the last commit."""
    from cubeingest.cli.options import find_store

    where = ctx.params.get("store") or find_store()[0]
    if not where:
        return {}
    if "://" in where and not where.startswith("file://"):
        with contextlib.suppress(OSError):
            _folder().mkdir(parents=True, exist_ok=True)  # so that the next command that opens it keeps what is offered
        return _read(_folder() / _name(where.rstrip("/")))
    place = os.path.abspath(os.path.expanduser(where.removeprefix("file://")))
    stamp = _stamp(place)
    held = _read(_folder() / _name(place))
    if stamp is None or (held and (held["stamp"] == stamp or not fresh)):
        return {} if stamp is None else held
    from cubeingest.cube import open as open_at

    cube = open_at(place)
    found = _describe(cube, held, stamp)
    with contextlib.suppress(OSError):
        _keep(_folder() / _name(place), found)
    return found


def _stamp(uri: str) -> int | None:
    """What changes with every commit, tag and branch of a cube on this machine; None where there is none."""
    try:
        return os.stat(os.path.join(uri, "repo")).st_mtime_ns
    except OSError:
        return None


def _read(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) and {"version", "stamp", "axes", "regions"} <= set(held) else {}


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cubeingest" / "completion"


def _name(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()[:24] + ".json"


def _spec_names() -> list[str]:
    """As :func:`cubeingest.spec.builtin_specs`, which takes long to import."""
    package = Path(__file__).parent.parent
    folders = (folder for folder in (package / "grids", package.parent / "grids") if folder.is_dir())
    return sorted(p.stem for p in next(folders, package).glob("*.yaml"))


def _starting(words: Iterable[str], start: str) -> list[str]:
    return [word for word in words if word.startswith(start)]
