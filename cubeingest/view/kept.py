"""What was made, kept for as long as there is room, and made once however many threads ask for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock


class Kept[V]:
    """The values used last, up to ``most`` in sum of their ``size``. What fails is not kept."""

    def __init__(self, most: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._most, self._size, self._held = most, size, 0
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._making: dict[Hashable, tuple[Lock, int]] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made if it is not there; others who ask for it meanwhile wait for that."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            lock, n = self._making.get(key, (Lock(), 0))
            self._making[key] = lock, n + 1
        try:
            with lock:
                with self._lock:
                    if key in self._values:
                        return self._values[key]
                value = make()
                self._put(key, value)
                return value
        finally:
            with self._lock:
                _, n = self._making[key]
                if n == 1:
                    del self._making[key]
                else:
                    self._making[key] = lock, n - 1

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self._held = 0

    def _put(self, key: Hashable, value: V) -> None:
        with self._lock:
            self._values[key] = value
            self._held += self._size(value)
            while self._held > self._most and len(self._values) > 1:
                _, gone = self._values.popitem(last=False)
                self._held -= self._size(gone)
