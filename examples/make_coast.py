"""How `coast.npz` was made: Natural Earth's land at 1:50 million, as rings of whole steps, cut at the antimeridian.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python make_coast.py package/land-50m.json coast.npz

The file holds `scale` and `offset` (longitude and latitude = steps x scale + offset), `sizes` (points of each ring), `holes` (whether
a ring is a hole in the one before), `firsts` (its first point) and `moves` (from each point to the next, int16), all in steps.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import shapely


def read_rings(topology: dict[str, Any]) -> list[tuple[np.ndarray, bool]]:
    """Every ring, as points in steps, and whether it is a hole."""
    arcs = [np.cumsum(np.array(arc), axis=0) for arc in topology["arcs"]]
    shapes = topology["objects"]["land"]
    rings = []
    for shape in shapes.get("geometries", [shapes]):
        for polygon in shape["arcs"] if shape["type"] == "MultiPolygon" else [shape["arcs"]]:
            for n, ring in enumerate(polygon):
                parts = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in ring]
                points = np.concatenate([parts[0], *(p[1:] for p in parts[1:])])
                rings.append((points, n > 0))
    return rings


def cut(points: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> list[np.ndarray]:
    """A ring that may cross the antimeridian, as rings that do not; one round the south pole is led to it."""
    turn = round(360 / scale[0])
    jumps = np.diff(points[:, 0])
    if abs(jumps).max() <= turn / 2:
        return [points]
    x = np.concatenate([points[:1, 0], points[0, 0] + np.cumsum(jumps - np.round(jumps / turn).astype(int) * turn)])
    if x[-1] != x[0]:  # round the pole: from one side of the antimeridian to the other, and back below
        at = int(np.argmax(abs(jumps))) + 1
        ring = np.concatenate([points[at:-1], points[:at]])
        ring = ring if ring[0, 0] < ring[-1, 0] else ring[::-1]
        pole = round((-90 - offset[1]) / scale[1])
        ends = [(turn, ring[-1, 1]), (turn, pole), (0, pole), (0, ring[0, 1])]
        return [np.concatenate([[(0, ring[0, 1])], ring, ends])]
    whole = shapely.make_valid(shapely.Polygon(np.stack([x, points[:, 1]], axis=1)))
    parts = []
    for shift in (-turn, 0, turn):
        piece = shapely.intersection(whole, shapely.box(shift, -1e9, shift + turn, 1e9))
        polygons = [p for p in shapely.get_parts(piece) if p.geom_type == "Polygon" and p.area > 0]
        parts += [np.round(np.asarray(p.exterior.coords)).astype(np.int64) - (shift, 0) for p in polygons]
    return parts


def short_moves(points: np.ndarray) -> np.ndarray:
    """The same ring with points between those that are too far apart for int16."""
    out = [points[:1]]
    for a, b in itertools.pairwise(points):
        n = int(np.abs(b - a).max()) // 30000 + 1
        out.append(np.round(a + (b - a) * np.linspace(0, 1, n + 1)[1:, np.newaxis]).astype(np.int64))
    return np.concatenate(out)


def main(source: Path, target: Path) -> None:
    topology = json.loads(source.read_text(encoding="utf-8"))
    scale, offset = (np.array(topology["transform"][key]) for key in ("scale", "translate"))
    kept = [(short_moves(part), hole) for ring, hole in read_rings(topology) for part in cut(ring, scale, offset)]
    np.savez_compressed(
        target,
        scale=scale,
        offset=offset,
        sizes=np.array([len(p) for p, _ in kept], np.int32),
        holes=np.array([hole for _, hole in kept]),
        firsts=np.array([p[0] for p, _ in kept], np.int32),
        moves=np.concatenate([np.diff(p, axis=0) for p, _ in kept]).astype(np.int16),
    )
    print(f"{len(kept)} rings, {sum(len(p) for p, _ in kept)} points, {target.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: python {sys.argv[0]} land-50m.json coast.npz")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
