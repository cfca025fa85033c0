"""Windows of pixels that a thread reads ahead, into memory that is lent and given back.

There are two windows' worth of it: one is read while the other is worked on. Slots that are read in turn share it, so that the next
one's first window is read while the last one's are worked on, and no more is held than of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from threading import Condition, Lock, Thread
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

Lent = tuple[slice, Array, Callable[[], None]]
"""(grid rows, pixels, what to call when the pixels are not needed any more). Pixels have shape (axis positions..., rows,
columns)."""


class Memory:
    """Memory of two windows, for those who read one after another: each waits for its turn."""

    def __init__(self) -> None:
        self._free: list[Array | None] = [None, None]
        self._changed = Condition()
        self._is_reading = False
        self._users = 0

    def enter(self) -> None:
        """Another slot is going to read."""
        with self._changed:
            self._users += 1

    def leave(self) -> None:
        """A slot has read all that it will; the last one leaves nothing behind."""
        with self._changed:
            self._users -= 1
            if not self._users:
                self._free = [None] * len(self._free)

    def begin(self, is_over: Callable[[], bool]) -> bool:
        """Wait for one's turn to read; False if that ``is_over`` before it comes."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_reading or is_over())
            if is_over():
                return False
            self._is_reading = True
            return True

    def end(self) -> None:
        """Let another one read."""
        with self._changed:
            self._is_reading = False
            self._changed.notify_all()

    def take(self, n_bytes: int, is_over: Callable[[], bool]) -> Array | None:
        """Wait for ``n_bytes`` or more; None if that ``is_over`` before."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._free) or is_over())
            if is_over():
                return None
            memory = self._free.pop()
        if memory is not None and memory.size >= n_bytes:
            return memory
        try:
            return np.empty(n_bytes, np.uint8)
        except MemoryError:
            self.give_back(None)
            raise

    def give_back(self, memory: Array | None) -> None:
        """Memory that is not needed any more; None for what was never had."""
        with self._changed:
            self._free.append(memory if self._users else None)
            self._changed.notify_all()

    def wake(self) -> None:
        """Let those who wait see whether that is over."""
        with self._changed:
            self._changed.notify_all()


class Windows:
    """One slot's windows, from top index to bottom, which ``read`` yields in a thread of their own as long as it is given memory.

    GDAL's options are bound to a thread, so opening, reading and closing all happen in this one. It does not keep the
    process from ending.
    """

    def __init__(self, read: Callable[[Windows], Generator[Lent]], memory: Memory) -> None:
        self._read, self._memory = read, memory
        self._ready: SimpleQueue[Lent | BaseException | None] = SimpleQueue()
        self._lent: dict[int, Array] = {}
        self._lock = Lock()
        self._is_over = self._is_exhausted = False
        self._thread = Thread(target=self._run, name="cubeingest-read", daemon=True)
        memory.enter()
        try:
            self._thread.start()
        except RuntimeError:  # the system has no more threads
            memory.leave()
            raise

    def _run(self) -> None:
        try:
            if self._memory.begin(lambda: self._is_over):
                try:
                    for lent in self._read(self):
                        self._ready.put(lent)
                finally:
                    self._memory.end()
            self._ready.put(None)
        except BaseException as e:  # noqa: BLE001  (raised again where the windows are used)
            self._ready.put(e)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Callable[[], None]] | None:
        """An array to read into, and what gives it back; None if no more is wanted. For ``read``."""
        n_bytes = math.prod(shape) * dtype.itemsize
        memory = self._memory.take(n_bytes, lambda: self._is_over)
        if memory is None:
            return None
        self._lent[id(memory)] = memory
        return memory[:n_bytes].view(dtype).reshape(shape), lambda: self._give_back(id(memory))

    def _give_back(self, key: int) -> None:
        with self._lock:
            memory = self._lent.pop(key, None)
        if memory is not None:
            self._memory.give_back(memory)

    def lent(self) -> Iterator[Lent]:
        """The windows, each with what gives its pixels back, which any thread may call; two at most are out at a time.

        Raises what reading raises.
        """
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
        self._is_exhausted = True

    def __iter__(self) -> Iterator[tuple[slice, Array]]:
        """(grid rows, pixels); the pixels hold until the next are asked for. Raises what reading raises."""
        for part, pixels, give_back in self.lent():
            yield part, pixels
            give_back()

    def close(self) -> None:
        """Wait until what is being read is read, and the tiles are closed. What is still worked on then is given back by who
        does so, unless not all windows were taken: then nobody can be relied on to do it.
        """
        self._is_over = True
        self._memory.wake()
        self._thread.join()
        if not self._is_exhausted:
            for key in list(self._lent):
                self._give_back(key)
        self._memory.leave()
