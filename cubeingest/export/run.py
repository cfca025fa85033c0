"""An export: which files are lacking or old, make those, take away what the cube no longer has, and say what came of it."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cubeingest.engine import EachSlot, Options, Progress, SlotResult, interrupts, open_pool
from cubeingest.errors import GridError, StoreError
from cubeingest.export.bands import band_of
from cubeingest.export.files import FilePlan, FilesPlan, Held, Layout, TileFile, make_layout, plan_files, slots_below
from cubeingest.export.joined import check_mosaics, write_mosaics
from cubeingest.export.scratch import scratch_folder
from cubeingest.export.table import check_columns, export_table, read_table_tags
from cubeingest.export.write import TAG_CUBE, TAG_STAMP, TAG_TILE, ExportJob, Written, export_cogs, unlink_beside
from cubeingest.ledger import NOTHING, read_expected, read_records, read_states
from cubeingest.selection import Chosen, Selection, choose
from cubeingest.store import Store, is_local
from cubeingest.tile import check_crs, has_ghost, is_whole_cog, read_cog_tags
from cubeingest.wording import counted

READ_AT_ONCE = 8
"""Threads that look at files that are there already."""


@dataclass
class ExportReport:
    """What was done, in files: planned = written + current (as they should be already) + blank (all fill value, though their region is not) +
    those of ``failed`` + unfinished. ``empty``, ``pending`` and ``absent`` count files left out since the cube has nothing there, ``removed`` those
    taken away for that. ``bytes`` are of the files written.
    """

    store: str
    snapshot: str
    output: str
    planned: int = 0
    written: int = 0
    current: int = 0
    blank: int = 0
    empty: int = 0
    pending: int = 0
    absent: int = 0
    removed: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    mosaics: list[str] = field(default_factory=list)
    bytes: int = 0
    pixels: int = 0
    seconds: float = 0.0
    unfinished: int = 0
    signum: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}

    @property
    def exit_code(self) -> int:
        return 128 + self.signum if self.signum is not None else 1 if self.failed else 0


def export(
    store: Store,
    selection: Selection,
    options: Options,
    output: str | os.PathLike[str],
    *,
    tile: tuple[int, int] | None = None,
    name: str | None = None,
    format: str = "cog",  # noqa: A002
    gti: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ExportReport:
    """Write what is selected as files below the folder ``output``: what is there already from the same pixels stays.

    Raises :class:`GridError` for what cannot be asked for, or if the cube has nothing of it; :class:`StoreError` for a folder that cannot be
    written, or where files that are not this cube's would be overwritten.
    """
    started = time.monotonic()
    folder = _check_folder(output, store)
    store = store.on(store.branch, store.tip)  # everything of one snapshot
    spec, session = store.spec, store.readonly()
    layout = make_layout(spec, tile, format, name)
    chosen = choose(spec, selection)
    if format == "cog":
        check_crs(spec.tiling.crs)
    else:
        check_columns(spec, chosen.variables)
        if gti:
            raise GridError("gti is an index of rasters: leave it out with parquet")
    planned = _plan(session, layout, chosen, selection)
    report = ExportReport(
        store.uri, session.snapshot_id, str(folder), empty=planned.empty, pending=planned.pending, absent=planned.absent
    )
    report.planned = sum(len(p.files) for p in planned.plans)
    there = _look(folder, layout, planned, store.cube_id)
    if not planned.plans and not there:
        if selection.part is not None:  # other parts have all there is
            report.seconds = time.monotonic() - started
            return report
        raise GridError(
            f"there is nothing to export: of {counted(planned.empty + planned.pending + planned.absent, 'tile')} selected {planned.pending} are pending, "
            f"{planned.absent} absent, {planned.empty} empty (`cubeingest status` shows where)"
        )
    if format == "cog":
        check_mosaics(folder, layout, chosen, gti, store.cube_id)
    todo = _lacking(planned.plans, there, report)
    run = _Run(store, layout, folder, planned, there, report, on_progress)
    try:
        with scratch_folder(folder) as scratch:
            run.make(ExportJob(
                spec, pickle.dumps(session), str(folder), str(scratch), store.cube_id, session.snapshot_id,
                {v.name: band_of(v) for v in chosen.variables} if format == "cog" else {},
            ), todo, options)  # fmt: skip
            run.remove(planned.left_out)
        if format == "cog":
            has_changed = bool(report.written or report.removed)
            report.mosaics = write_mosaics(folder, layout, chosen, gti, store.cube_id, run.good, has_changed)
    except OSError as e:
        raise StoreError(f"cannot write into {str(folder)!r}: {e.strerror or e}") from e
    report.unfinished = (
        report.planned - report.written - report.current - report.blank - sum(len(f["files"]) for f in report.failed)
    )
    report.seconds = time.monotonic() - started
    return report


def _check_folder(output: str | os.PathLike[str], store: Store) -> Path:
    text = os.fspath(output)
    if "://" in text or not text.strip():
        raise StoreError(f"output {text!r} must be a folder of this machine: copy it elsewhere afterwards")
    folder = Path(text).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"output {text!r} is a file: name a folder")
    if "<" in str(folder):
        raise StoreError(
            f"output {text!r} has '<' in its path, which GDAL might take for a document: name another folder"
        )
    real = Path(os.path.realpath(folder))
    if is_local(store.uri) and real.is_relative_to(os.path.realpath(store.uri)):
        raise StoreError(f"output {text!r} lies in the cube's own store: name another folder")
    return folder


def _plan(session: Any, layout: Layout, chosen: Chosen, selection: Selection) -> FilesPlan:
    spec = layout.spec
    states = read_states(session, spec)
    slots = [s for s in slots_below(layout, chosen) if states[s.variable][s.index] != NOTHING]
    held = Held(states, read_expected(session, spec), read_records(session, slots))
    looks = {v.name: json.dumps([layout.format, v.dtype, asdict(band_of(v))], default=str) for v in chosen.variables}
    return plan_files(layout, chosen, held, selection, looks)


def _look(folder: Path, layout: Layout, planned: FilesPlan, cube: str) -> dict[str, str]:
    """Stamps of the files that are there, by name; "" of one that is not whole.

    Raises :class:`StoreError` for one that this cube did not make, or of something else.
    """
    files = [f for f in (*(f for p in planned.plans for f in p.files), *planned.left_out) if (folder / f.name).exists()]
    read = _read_cog if layout.format == "cog" else read_table_tags
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        found = pool.map(read, (folder / f.name for f in files))
        read_as = dict(zip(files, found, strict=True))
    tags = {file: own or {} for file, own in read_as.items()}
    foreign = [f for f in files if tags[f].get(TAG_CUBE) != cube]
    if foreign:
        more = f" and {len(foreign) - 1} others" if len(foreign) > 1 else ""
        broken = " (it cannot be read: if it is what was left of one of its tiles, delete it)"
        raise StoreError(
            f"{str(folder / foreign[0].name)!r}{more} would be overwritten, but this cube did not make it: name another output folder, or move it away"
            f"{broken if read_as[foreign[0]] is None and (folder / foreign[0].name).is_file() else ''}"
        )
    other = [f for f in files if tags[f].get(TAG_TILE) != f.what]
    if other:
        raise StoreError(
            f"{str(folder / other[0].name)!r} holds {tags[other[0]].get(TAG_TILE)!r}, which {other[0].what!r} would overwrite: name another "
            "output folder, or what tells them apart with --name"
        )
    return {f.name: tags[f].get(TAG_STAMP, "") for f in files}


def _read_cog(path: Path) -> dict[str, str] | None:
    """Its texts, with no stamp if it is short, and None if so short that they are lost."""
    tags = read_cog_tags(path)
    if tags is None or is_whole_cog(path):
        return tags
    return {**tags, TAG_STAMP: ""} if TAG_CUBE in tags or not has_ghost(path) else None


def _lacking(plans: Iterable[FilePlan], there: dict[str, str], report: ExportReport) -> list[FilePlan]:
    """What is to be made: files that are not there, or from other pixels."""
    todo = []
    for plan in plans:
        files = tuple(f for f in plan.files if there.get(f.name) != plan.stamp)
        report.current += len(plan.files) - len(files)
        if files:
            todo.append(replace(plan, files=files))
    return todo


class _Run:
    """One run: what it makes and takes away. ``good`` are names of files that are as they should be."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        folder: Path,
        planned: FilesPlan,
        there: dict[str, str],
        report: ExportReport,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.store, self.layout, self.folder, self.report, self.on_progress = store, layout, folder, report, on_progress
        self.there = there
        self.good = {f.name for p in planned.plans for f in p.files if there.get(f.name) == p.stamp}

    def make(self, job: ExportJob, todo: list[FilePlan], options: Options) -> None:
        """Write what is to be made. Raises :class:`StoreError` if the folder, or the cube, gives out."""
        from cubeingest.plan import Task

        if not todo:
            return
        spec = self.layout.spec
        sizes = [_size(self.layout, plan) for plan in todo]
        total = Progress(len(todo), sum(pixels for pixels, _ in sizes))
        self.on_progress(total)
        units = [(Task((), (), p.slot.iy, p.slot.ix, (p,)),) for p in todo]
        assert spec is job.spec
        function = EachSlot(export_cogs if self.layout.format == "cog" else export_table)  # type: ignore[arg-type]
        files = {p.slot: p.files for p in todo}
        broken = ""
        with (
            interrupts() as stop,
            open_pool(options.workers, options.scheduler, len(units), sum(n for _, n in sizes)) as pool,
        ):
            pool.prove(self.store, writes=False)
            for results in pool.run(function, job, units, stop):
                for result in results:
                    self.on_progress(Progress(total.n_slots, total.n_pixels, result))
                    broken = broken or self._take(result, files[result.slot])
                stop.halted = bool(broken)
            self.report.signum = stop.signum
        if broken:
            n = self.report.written
            raise StoreError(f"{broken} ({n} of {self.report.planned} files were written; the same command goes on)")

    def _take(self, result: SlotResult, files: tuple[TileFile, ...]) -> str:
        """Count one place; why nothing more can be written, if so."""
        if result.by_store:
            return result.error or "the store failed"
        names = [f.name for f in files]
        if result.error is not None:
            self.report.failed.append({"files": names, "error": result.error})
            return ""
        written: Written = result.detail
        lost = [n for n in written.names if not (self.folder / n).exists()]
        if lost:
            return f"a worker wrote {lost[0]!r} where this process does not see it: let all share the output folder"
        self.report.written += len(written.names)
        self.report.blank += len(written.empty)
        self.report.bytes += written.n_bytes
        self.report.pixels += result.n_pixels
        self.good.update(written.names)
        self.remove(f for f in files if f.name in written.empty)
        return ""

    def remove(self, files: Iterable[TileFile]) -> None:
        """Take away files of ours for which the cube has nothing."""
        for file in files:
            if file.name in self.there:
                path = self.folder / file.name
                path.unlink(missing_ok=True)
                unlink_beside(path)
                self.report.removed += 1


def _size(layout: Layout, plan: FilePlan) -> tuple[int, int]:
    """(pixels, bytes) to read for a plan."""
    spec = layout.spec
    pixels = (plan.window[0].stop - plan.window[0].start) * (plan.window[1].stop - plan.window[1].start)
    n = n_bytes = 0
    for variable in map(spec.variable, plan.variables):
        for block in plan.blocks:
            positions = 1
            for axis, b in zip(spec.axes_of(variable), block, strict=True):
                positions *= axis.block_slice(b).stop - axis.block_slice(b).start
            n += positions * pixels
            n_bytes += positions * pixels * variable.np_dtype.itemsize
    return n, n_bytes
