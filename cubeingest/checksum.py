"""The checksum of a slot's pixels, the same whether they come from its tiles or from the cube."""

from __future__ import annotations

from typing import Any

import numpy as np

from cubeingest.spec import Variable

AT_ONCE = 2**16
"""Floats that are made plain at a time: as many as stay in the processor's cache."""


class SlotChecksum:
    """xxh3-64 of a slot's pixels in C order, fed window by window; of several axis positions, the hash of their hashes.

    Of floats, values count, not bits: Zarr leaves out chunks of fill value, and a negative zero or another NaN read back
    from one of those is what it was filled with.
    """

    def __init__(self, variable: Variable, block_shape: tuple[int, ...]) -> None:
        import xxhash

        self._is_float = variable.np_dtype.kind == "f"
        self._shape = block_shape
        self._hashes = [xxhash.xxh3_64() for _ in range(int(np.prod(block_shape)))]

    def update(self, pixels: np.ndarray[Any, Any]) -> None:
        """Take the next window: (axis positions..., rows, columns)."""
        for position, digest in zip(np.ndindex(self._shape), self._hashes, strict=True):
            part = np.ascontiguousarray(pixels[position]).reshape(-1)
            if not self._is_float:
                digest.update(part.data)
                continue
            for start in range(0, part.size, AT_ONCE):
                digest.update(_plain(part[start : start + AT_ONCE]).data)

    def hexdigest(self) -> str:
        import xxhash

        if len(self._hashes) == 1:
            return str(self._hashes[0].hexdigest())
        return str(xxhash.xxh3_64_hexdigest(b"".join(h.digest() for h in self._hashes)))


def _plain(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Floats with one zero and one NaN only."""
    out: np.ndarray[Any, Any] = values + values.dtype.type(0)
    missing = np.isnan(out)
    if missing.any():
        out[missing] = np.nan
    return out


class BlocksChecksum:
    """xxh3-64 of a slot's chunks as they are stored, in C order of their place in the array; those that are absent are left out."""

    def __init__(self) -> None:
        import xxhash

        self._hash = xxhash.xxh3_64()

    def update(self, place: tuple[int, ...], content: bytes) -> None:
        """Take the next chunk that there is."""
        self._hash.update(np.array([*place, len(content)], "<i8").tobytes())
        self._hash.update(content)

    def hexdigest(self) -> str:
        return str(self._hash.hexdigest())
