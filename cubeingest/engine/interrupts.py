"""SIGINT and SIGTERM: the first ends the work at hand, so that what is finished can be committed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Stop(BaseException):
    """Raised by the first signal, inside work that may be dropped."""


class Interrupts:
    """The first SIGINT or SIGTERM ends the work at hand, the second one everything.

    ``signum`` is the first signal that came, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._working = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise KeyboardInterrupt
        self.signum = signum
        if self._working:
            raise _Stop

    def check(self) -> None:
        """Leave :meth:`working` at once if a signal came before it began."""
        if self.signum is not None:
            raise _Stop

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work that the first signal may cut off: an exception leaves it, and is swallowed here."""
        try:
            self._working = True
            yield
        except _Stop:
            pass
        finally:
            self._working = False


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Catch SIGINT and SIGTERM; outside the main thread, where Python cannot, nothing is caught."""
    state = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    before = {s: signal.signal(s, state.handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield state
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
