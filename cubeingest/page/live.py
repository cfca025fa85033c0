"""The page of an ingest that goes on: written every few seconds, and once more, whole, when it ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cubeingest.engine import Options, Progress, SlotResult
from cubeingest.errors import CubeIngestError
from cubeingest.ingest import IngestReport, SourceFunction, failure_of, ingest
from cubeingest.ledger import Slot
from cubeingest.page.data import CODES, FAILED, FRESH, PageData, Run, gather
from cubeingest.page.pictures import add_coast
from cubeingest.page.render import check_place, render, write_page
from cubeingest.page.report import gather_whole
from cubeingest.plan import Selection
from cubeingest.store import Store

if TYPE_CHECKING:
    from types import TracebackType

REFRESH_SECONDS = 3.0
"""Between two writings of the page."""

QUIET_SECONDS = 15.0
"""After so long without any news the page is written all the same: that is its sign of life."""

COST = 20
"""The page is written so rarely that it takes at most one part in so many of the run's time."""


def ingest_with_page(
    store: Store,
    selection: Selection,
    options: Options,
    on_progress: Callable[[Progress], None],
    function: SourceFunction | None,
    path: str | os.PathLike[str],
    warn: Callable[[str], None],
    refresh: float = REFRESH_SECONDS,
) -> IngestReport:
    """As :func:`cubeingest.ingest.ingest`, with a page at ``path`` that is kept current; it tells of the whole cube.

    A page that cannot be written is no reason to stop: ``warn`` is told, once. Raises :class:`GridError`, before any work, for a path
    that cannot be. ``refresh`` is the least time between two writings, in seconds.
    """
    with LivePage(store, options, check_place(path), warn, refresh) as page:

        def tell(progress: Progress) -> None:
            page.take(progress)
            on_progress(progress)

        report = ingest(store, selection, options, tell, function)
        page.finish(report)
    return report


class LivePage:
    """A page, and the thread that writes it. What a run reports goes into arrays of states: the ledger is not read again until it ends."""

    def __init__(self, store: Store, options: Options, path: Path, warn: Callable[[str], None], refresh: float) -> None:
        self.store, self.path, self.warn, self.refresh = store, path, warn, refresh
        self.run = Run(time.time(), options.mode, refresh=refresh)
        self._commits_alone = options.mode == "independent"
        self._lock, self._news, self._over = threading.Lock(), threading.Event(), threading.Event()
        self._data: PageData | None = None
        self._marks: dict[Slot, str] = {}
        self._begun = time.monotonic()
        self._pixels = 0
        self._warned = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if error is not None and self._data is not None and not self.run.outcome:
            self.run.outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "broken"
            self.run.message = str(error) if isinstance(error, CubeIngestError) else type(error).__name__
            self._try(self._write)

    def take(self, progress: Progress) -> None:
        """Note what a run reports: its plan first, then each result. The page appears with the first."""
        with self._lock:
            if progress.result is None:
                self._pixels = progress.n_pixels
                self.run.planned = progress.n_slots
                self._begun = time.monotonic()
            elif self._data is not None:
                self._note(progress.result, self._data)
        if progress.result is None:
            self._try(lambda: self._start(progress.planned))
        self._news.set()

    def finish(self, report: IngestReport) -> None:
        """Write the page as it is when a run has ended: with records and pictures, and what the run has to say."""
        self._stop()
        run = self.run
        run.planned = report.planned - report.skipped
        run.finished = run.planned - report.unfinished
        run.written, run.empty, run.skipped = report.written, report.empty, report.skipped
        run.failed, run.left = len(report.failed), None
        run.outcome = _outcome_of(report)
        run.message = report.error or (
            f"{report.unfinished:,} slots are left: the same command goes on from there." if report.unfinished else ""
        )
        self._try(lambda: self._end(report))

    # ---- what is known --------------------------------------------------------------------------------------

    def _start(self, planned: tuple[Slot, ...]) -> None:
        self._marks = dict.fromkeys(planned, "pending")
        data = self._look()
        add_coast(data)
        self._mark(data)
        self._data = data
        self._try(self._write)
        self._thread = threading.Thread(target=self._keep, name="cubeingest-page", daemon=True)
        self._thread.start()

    def _look(self) -> PageData:
        data = gather(self.store.on(self.store.branch), Selection(), records=False)
        data.run = self.run
        return data

    def _mark(self, data: PageData) -> None:
        """Tell of this run's slots what the cube does not know yet."""
        arrays = {v.variable.name: v.codes for v in data.variables}
        held = {CODES.index("done"), CODES.index("empty")}
        for slot, state in self._marks.items():
            if state != FRESH or arrays[slot.variable][slot.index] not in held:
                arrays[slot.variable][slot.index] = CODES.index(state)

    def _look_again(self) -> None:
        """Look at the cube once more if something was committed. Workers that commit alone say by themselves what they have."""
        before = self._data
        if self._commits_alone or before is None or self.store.on(self.store.branch).tip == before.snapshot:
            return
        after = self._look()
        with self._lock:
            self._mark(after)
            after.coast, after.failures = before.coast, before.failures
            self._data = after

    def _note(self, result: SlotResult, data: PageData) -> None:
        run = self.run
        run.finished += 1
        state = ""
        if result.error is not None:
            run.failed += 1
            data.failures.append(failure_of(data.spec, result))
            state = FAILED
        elif self._commits_alone and result.snapshot is None:
            run.skipped += 1  # somebody else has finished it
        else:
            run.written += result.state == "done"
            run.empty += result.state == "empty"
            state = result.state if self._commits_alone else FRESH
        if state:
            self._marks[result.slot] = state
            codes = next(v.codes for v in data.variables if v.variable.name == result.slot.variable)
            codes[result.slot.index] = CODES.index(state)
        # A failed slot counts as passed, at the mean size, so that what is left is not too much at the end.
        run.pixels += result.n_pixels or self._pixels // max(1, run.planned)
        spent = time.monotonic() - self._begun
        run.rate = run.pixels / max(spent, 1e-3)
        run.left = (self._pixels - run.pixels) / run.rate if run.rate else None

    def _end(self, report: IngestReport) -> None:
        store = self.store.on(self.store.branch)
        hurry = report.signum is not None  # somebody waits for the run to be gone
        data = gather(store, Selection()) if hurry else gather_whole(store, Selection())
        if data.coast is None:
            add_coast(data)
        data.run, data.failures = self.run, list(report.failed)
        self._mark_failed(data)
        write_page(render(data), self.path)

    @staticmethod
    def _mark_failed(data: PageData) -> None:
        """Slots that failed and that the cube has nothing of."""
        places = {a.name: {a.block_label(b): b for b in range(a.n_blocks)} for a in data.spec.grid.axes}
        variables = {v.variable.name: v for v in data.variables}
        for failure in data.failures:
            index = None if failure.region is None else data.spec.grid.find_region(failure.region)
            if index is None or failure.variable not in variables:
                continue
            v = variables[failure.variable]
            at = (*(places[name][failure.axes[name]] for name in v.variable.axes), *index)
            if v.codes[at] == CODES.index("pending"):
                v.codes[at] = CODES.index(FAILED)

    # ---- writing --------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Write whenever there is news, and now and then without, until the run is over."""
        wait = self.refresh
        while not self._over.wait(wait):
            self._news.wait(max(0.0, QUIET_SECONDS - wait))
            if self._over.is_set():
                return
            self._news.clear()
            started = time.monotonic()
            self._try(self._look_again)
            self._try(self._write)
            wait = max(self.refresh, COST * (time.monotonic() - started))
            self.run.refresh = wait

    def _write(self) -> None:
        assert self._data is not None
        with self._lock:
            data = self._data
            variables = [replace(v, codes=v.codes.copy()) for v in data.variables]
            data = replace(data, variables=variables, failures=list(data.failures), run=replace(self.run))
        write_page(render(data), self.path)

    def _stop(self) -> None:
        self._over.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join()

    def _try(self, write: Callable[[], None]) -> None:
        """The one place where a failure of the page becomes a warning, whatever it is: the run is what counts."""
        try:
            write()
        except Exception as e:  # noqa: BLE001
            if not self._warned:
                reason = (
                    (e.strerror if isinstance(e, OSError) else None)
                    or " ".join(str(e).split())[:200]
                    or type(e).__name__
                )
                self.warn(f"the page {str(self.path)!r} cannot be written ({reason}); the ingest goes on")
            self._warned = True


def _outcome_of(report: IngestReport) -> str:
    """As :attr:`Run.outcome`."""
    if report.signum is not None:
        return "interrupted"
    if report.aborted:
        return "aborted"
    return "failed" if report.failed else "done"
