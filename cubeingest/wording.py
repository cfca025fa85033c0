"""Numbers in sentences."""

from __future__ import annotations


def counted(n: int, one: str, many: str | None = None) -> str:
    """A count and its noun: ``1 slot``, ``1,400 slots``, and with ``many`` given ``1 slot is``, ``2 slots are``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
