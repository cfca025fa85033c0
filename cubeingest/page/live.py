"""The page of an ingest that goes on: written every few seconds, and once more, whole, when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cubeingest.engine import Options, Progress, SlotResult
from cubeingest.errors import CubeIngestError, StoreError
from cubeingest.ingest import Failure, IngestReport, SourceFunction, failure_of, ingest
from cubeingest.ledger import Slot
from cubeingest.page.data import CODES, FAILED, FRESH, HELD, PageData, Run, gather
from cubeingest.page.pictures import add_coast
from cubeingest.page.render import render, write_page
from cubeingest.page.report import gather_whole
from cubeingest.selection import Selection
from cubeingest.store import Store
from cubeingest.wording import counted

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

REFRESH_SECONDS = 3.0
"""Between two writings of the page."""

QUIET_SECONDS = 15.0
"""After so long without any news the page is written all the same: that is its sign of life."""

COST = 20
"""The page is written so rarely that it takes at most one part in so many of the run's time."""

LONGEST_WAIT = 45.0
"""Seconds until the page is written again, whatever it costs: half of the time after which it would say that the run shows no sign of life."""

LAST_SECONDS, PICTURES_SECONDS = 60.0, 20.0
"""How long a run that is over waits for its last page, and how long pictures are begun for it."""

STOP_SECONDS = 5.0
"""How long it waits for a page that is being written, or for one of what is known already."""


def ingest_with_page(
    store: Store,
    selection: Selection,
    options: Options,
    on_progress: Callable[[Progress], None],
    function: SourceFunction | None,
    path: Path,
    warn: Callable[[str], None],
    refresh: float = REFRESH_SECONDS,
) -> IngestReport:
    """As :func:`cubeingest.ingest.ingest`, with a page at ``path`` that is kept current; it tells of the whole cube.

    ``path`` is what :func:`check_place` has returned. A page that cannot be written is no reason to stop: ``warn`` is told when the run is
    over, once, if the last one could not; what it raises is dropped. ``refresh`` is the least time between two writings, in seconds.
    """
    with LivePage(store, options, path, warn, refresh) as page:

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
        self._look_from = 0.0
        self._pixels = 0
        self._turn = 0
        self._problem = ""
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
            self._write_last(self._data.failures, is_whole=False)
        if self._problem:
            with suppress(Exception):  # where warnings are errors, the run's report would be lost
                self.warn(f"the page {str(self.path)!r} could not be written ({self._problem}); the ingest went on")

    def take(self, progress: Progress) -> None:
        """Note what a run reports: its plan first, then each result. The page appears with the first."""
        if progress.result is None:
            self._try(lambda: self._start(progress))
        else:
            self._try(lambda: self._note(progress.result))
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
            f"{counted(report.unfinished, 'slot is', 'slots are')} left: the same command goes on from there."
            if report.unfinished
            else ""
        )
        self._write_last(report.failed, is_whole=True)

    # ---- what is known --------------------------------------------------------------------------------------

    def _start(self, progress: Progress) -> None:
        self._pixels, self.run.planned, self._begun = progress.n_pixels, progress.n_slots, time.monotonic()
        self._marks = dict.fromkeys(progress.planned, "pending")
        data = self._look()
        self._mark(data)
        self._data = data
        self._try(self._write)
        self._thread = threading.Thread(target=self._keep, name="cubeingest-page", daemon=True)
        self._thread.start()

    def _look(self) -> PageData:
        """What the cube tells, without records and pictures."""
        data = gather(self.store.on(self.store.branch), Selection(), records=False)
        data.run = self.run
        if self._data is None:
            add_coast(data)
        else:
            data.coast = self._data.coast
        return data

    def _mark(self, data: PageData) -> None:
        """Tell of this run's slots what the cube does not know yet; what it holds stays as it is."""
        arrays = {v.variable.name: v.codes for v in data.variables}
        for slot, state in self._marks.items():
            _put_state(arrays[slot.variable], slot.index, state)

    def _look_again(self) -> None:
        """Look at the cube once more if something was committed: rarely if workers commit alone, who say by themselves what they have."""
        before, started = self._data, time.monotonic()
        if before is None or (self._commits_alone and started < self._look_from):
            return
        if self.store.on(self.store.branch).tip == before.snapshot:
            return
        after = self._look()
        with self._lock:
            self._mark(after)
            after.failures = before.failures
            self._data = after
        now = time.monotonic()
        self._look_from = now + max(QUIET_SECONDS, COST * (now - started))

    def _note(self, result: SlotResult | None) -> None:
        if result is None or self._data is None:
            return
        with self._lock:
            data, run = self._data, self.run
            run.finished += 1
            is_committed = result.error is None and self._commits_alone and result.snapshot is not None
            if result.error is not None:
                run.failed += 1
                data.failures.append(failure_of(data.spec, result))
                state = FAILED
            elif self._commits_alone and not is_committed:
                run.skipped += 1
                state = "done"  # somebody else has finished it, as done or empty: what the cube says when it is looked at again
            else:
                run.written += result.state == "done"
                run.empty += result.state == "empty"
                state = result.state if is_committed else FRESH
            self._marks[result.slot] = state
            codes = next(v.codes for v in data.variables if v.variable.name == result.slot.variable)
            _put_state(codes, result.slot.index, state, anyway=is_committed)
            # A failed slot counts as passed, at the mean size, so that what is left is not too much at the end.
            run.pixels += result.n_pixels or self._pixels // max(1, run.planned)
            spent = time.monotonic() - self._begun
            run.rate = run.pixels / max(spent, 1e-3)
            run.left = (self._pixels - run.pixels) / run.rate if run.rate else None

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
            wait = self._pace(time.monotonic() - started)

    def _pace(self, spent: float) -> float:
        """Seconds until the next writing, after one that took so long; the next page says how often to look for another."""
        self.run.refresh = max(self.refresh, min(LONGEST_WAIT, COST * spent))
        return self.run.refresh

    def _write(self) -> None:
        """Write what is known."""
        self._put(self._known(), self._turn)

    def _put(self, data: PageData, turn: int) -> None:
        """Write a page, but not over one of a later turn: what hangs while the run ends comes too late."""
        write_page(render(data), self.path, lambda: turn == self._turn)

    def _known(self) -> PageData:
        if self._data is None:
            raise StoreError("nothing is known of the cube")
        with self._lock:
            data = self._data
            variables = [replace(v, codes=v.codes.copy()) for v in data.variables]
            return replace(
                data, variables=variables, failures=list(data.failures), run=replace(self.run), notes=list(data.notes)
            )

    def _stop(self) -> None:
        self._over.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            self._thread = None

    def _write_last(self, failures: list[Failure], is_whole: bool) -> None:
        """Write the page of a run that is over: whole, or else what the cube tells quickly, or else what is known already."""
        ways: list[tuple[Callable[[], PageData], float]] = [(self._look, STOP_SECONDS), (self._known, STOP_SECONDS)]
        if is_whole:
            ways.insert(0, (partial(self._gather_last, failures), LAST_SECONDS))
        self._problem = ""
        for make, seconds in ways:
            self._turn += 1
            self._problem = _within(seconds, partial(self._put_last, make, failures, self._problem, self._turn))
            if not self._problem:
                return

    def _put_last(self, make: Callable[[], PageData], failures: list[Failure], problem: str, turn: int) -> None:
        data = make()
        data.failures = list(failures)
        _mark_failed(data)
        if problem:
            data.notes.append(f"This page is not as complete as it could be: {problem}.")
        self._put(data, turn)

    def _gather_last(self, failures: list[Failure]) -> PageData:
        store = self.store.on(self.store.branch)
        is_hurried = self.run.outcome == "interrupted"  # somebody waits for the run to be gone
        return gather_whole(store, Selection(), 0.0 if is_hurried else PICTURES_SECONDS, self.run, failures)

    def _try(self, write: Callable[[], None]) -> None:
        """A failure of the page is none of the run, whatever it is: the run is what counts."""
        try:
            write()
        except Exception as e:  # noqa: BLE001
            self._problem = _reason_of(e)


def _within(seconds: float, write: Callable[[], None]) -> str:
    """Do that, and wait for it so long at most. Returns what went wrong; empty if nothing did."""
    said = [f"it took more than {seconds:.0f} s"]

    def work() -> None:
        try:
            write()
        except Exception as e:  # noqa: BLE001  (as in LivePage._try)
            said[0] = _reason_of(e)
        else:
            said[0] = ""

    thread = threading.Thread(target=work, name="cubeingest-last-page", daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0]


def _reason_of(error: Exception) -> str:
    system = error.strerror if isinstance(error, OSError) else None
    return system or " ".join(str(error).split())[:200] or type(error).__name__


def _put_state(codes: npt.NDArray[np.uint8], index: tuple[int, ...], state: str, anyway: bool = False) -> None:
    """Give a slot a state, but not one that the cube holds something of."""
    if anyway or codes[index] not in HELD:
        codes[index] = CODES.index(state)


def _mark_failed(data: PageData) -> None:
    """Slots that failed and that the cube has nothing of."""
    places = {a.name: {a.block_label(b): b for b in range(a.n_blocks)} for a in data.spec.grid.axes}
    variables = {v.variable.name: v for v in data.variables}
    for failure in data.failures:
        index = None if failure.region is None else data.spec.grid.find_region(failure.region)
        if index is None or failure.variable not in variables:
            continue
        v = variables[failure.variable]
        _put_state(v.codes, (*(places[name][failure.axes[name]] for name in v.variable.axes), *index), FAILED)


def _outcome_of(report: IngestReport) -> str:
    """As :attr:`Run.outcome`."""
    if report.signum is not None:
        return "interrupted"
    if report.aborted:
        return "aborted"
    return "failed" if report.failed else "done"
