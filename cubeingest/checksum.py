"""The checksum of a slot's pixels, the same whether they come from its tiles or from the cube."""

from __future__ import annotations

from typing import Any

import numpy as np

from cubeingest.spec import Variable


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
            part = np.ascontiguousarray(pixels[position])
            if self._is_float:
                part = part + part.dtype.type(0)
                part[np.isnan(part)] = np.nan
            digest.update(part.data)

    def hexdigest(self) -> str:
        import xxhash

        if len(self._hashes) == 1:
            return str(self._hashes[0].hexdigest())
        return str(xxhash.xxh3_64_hexdigest(b"".join(h.digest() for h in self._hashes)))


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
