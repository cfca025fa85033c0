"""SIGINT and SIGTERM: the first ends the work at hand, so that what is finished can be committed.

The handler only takes note. An exception raised from it would land anywhere, inside a lock's release for one, and could be
swallowed there; so work runs in other threads or processes, and the main thread waits for it and looks here.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from types import FrameType

POLL_SECONDS = 0.1
"""How long a signal may go unnoticed while the main thread waits for work."""


class Interrupts:
    """``signum`` is the first signal that came, or None; ``again`` whether another came after it.

    With ``drains`` a first signal lets what is running come to its end, since it commits by itself; only a second one does
    not wait for it. ``halted`` says that the run itself wants no more to be begun.
    """

    def __init__(self, drains: bool) -> None:
        self.signum: int | None = None
        self.again = False
        self.halted = False
        self.drains = drains

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.signum is None:
            self.signum = signum
        else:
            self.again = True

    @property
    def over(self) -> bool:
        """Whether nothing more is to be begun."""
        return self.signum is not None or self.halted

    def check_again(self) -> None:
        """Raise :class:`KeyboardInterrupt` if a second signal came: nothing more is to be committed."""
        if self.again:
            raise KeyboardInterrupt

    def wait_for[T](self, queue: Queue[T], alive: Callable[[], bool] = lambda: True) -> T | None:
        """The next item of ``queue``; None if there is none and no more is waited for, or ``alive`` says that none will come."""
        while True:
            over = self.again or not alive() or (self.over and not self.drains)
            try:
                return queue.get(block=not over, timeout=POLL_SECONDS)
            except Empty:
                if over:
                    return None


@contextmanager
def interrupts(drains: bool = False) -> Iterator[Interrupts]:
    """Catch SIGINT and SIGTERM; outside the main thread, where Python cannot, nothing is caught."""
    state = Interrupts(drains)
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    before = {s: signal.signal(s, state.handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield state
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
