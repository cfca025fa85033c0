"""Outlines of boxes in another plane: densified, and whole across the antimeridian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, Any]


def trace(boxes: Array, n: int) -> tuple[Array, Array]:
    """Points along the edges of ``boxes`` (k rows of left, bottom, right, top) as x and y of shape (k, 4, n + 1).

    Edges follow one another, each from corner to corner, so that corners are there twice.
    """
    left, bottom, right, top = (boxes[:, i, np.newaxis] for i in range(4))
    t = np.linspace(0, 1, n + 1)
    along_x, along_y = left + (right - left) * t, bottom + (top - bottom) * t
    along_x[:, -1], along_y[:, -1] = right[:, 0], top[:, 0]
    still = np.ones(n + 1)
    x = np.stack([along_x, right * still, along_x[:, ::-1], left * still], axis=1)
    y = np.stack([bottom * still, along_y, top * still, along_y[:, ::-1]], axis=1)
    return x, y


def unwrap(longitudes: Array) -> Array:
    """Outlines (k, 4, n + 1) of longitudes without jumps of a whole turn; what is not finite stays."""
    flat = longitudes.reshape(len(longitudes), -1)
    with np.errstate(invalid="ignore"):
        steps = np.diff(flat, axis=1)
        turns = np.where(np.isfinite(steps), np.round(steps / 360), 0)
    out: Array = flat.copy()
    out[:, 1:] -= 360 * np.cumsum(turns, axis=1)
    return out.reshape(longitudes.shape)


def sagitta(x: Array, y: Array) -> npt.NDArray[np.float64]:
    """How far an edge of an outline (k, 4, n + 1) may lie from its curve, at most: four times what it is for a smooth one."""
    if x.shape[2] < 3:
        return np.zeros(len(x))
    off = [v[:, :, 1:-1:2] - (v[:, :, :-2:2] + v[:, :, 2::2]) / 2 for v in (x, y)]
    found: npt.NDArray[np.float64] = np.hypot(*off).max(axis=(1, 2))
    return found


def polygons(x: Array, y: Array) -> Any:
    """Outlines (k, 4, n + 1) as shapely polygons."""
    import shapely

    return shapely.polygons(np.stack([x, y], axis=-1).reshape(len(x), 4 * x.shape[2], 2))
