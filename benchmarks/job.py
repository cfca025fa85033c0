"""One piece of work that every way of doing it is given: tiles in a row, and where the cube is to be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.tiles import DEGREES, Input, tile_name

ARRAY = "cover"
LEVEL = 3
"""Of zstd, the codec of all cubes."""
SPEC = """\
name: benchmark
crs: EPSG:4326
grid:
  origin: {{x: 0, y: {degrees}}}
  resolution: {{x: {degrees}/{side}, y: -{degrees}/{side}}}
  shape: {{y: {side}, x: {width}}}
  region: {{y: {side}, x: {side}}}
  id: "{{top:02H}}_{{left:03H}}"
variables:
  {array}:
    dtype: {dtype}
    fill_value: {fill}
    chunks: {{y: {chunk}, x: {chunk}}}
    compressor: {{name: zstd, level: {level}}}
    source: {{href: "{source}/{{id}}.tif"}}
store: ./unused.icechunk
"""


@dataclass(frozen=True)
class Job:
    """``source`` is the folder or address that the tiles are in; ``store`` is what a way makes, and nothing is there before."""

    input: str
    source: str
    side: int
    count: int
    store: str
    chunk: int = 1000
    local: str = ""
    """The folder that the tiles are in, if ``source`` is an address."""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Input:
        return Input(self.input)

    @property
    def shape(self) -> tuple[int, int]:
        return self.side, self.side * self.count

    @property
    def chunks(self) -> tuple[int, int]:
        return self.chunk, self.chunk

    @property
    def pixels(self) -> int:
        return self.side * self.side * self.count

    @property
    def n_bytes(self) -> int:
        """Of all pixels, in memory."""
        return self.pixels * {"uint8": 1, "int16": 2, "float32": 4}[self.kind.dtype]

    @property
    def hrefs(self) -> list[str]:
        return [f"{self.source}/{tile_name(i)}" for i in range(self.count)]

    @property
    def files(self) -> list[str]:
        """The tiles on this disk, for those who check."""
        return [f"{self.local or self.source}/{tile_name(i)}" for i in range(self.count)]

    def region(self, i: int) -> dict[str, slice]:
        """Where the tile in column ``i`` lies in the cube."""
        return {"y": slice(0, self.side), "x": slice(i * self.side, (i + 1) * self.side)}

    def tile_geotransform(self, i: int) -> list[float]:
        """In GDAL's order."""
        return [DEGREES * i, DEGREES / self.side, 0, DEGREES, 0, -DEGREES / self.side]

    def rows_of_chunks(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.side, self.chunk):
            yield start, min(start + self.chunk, self.side)

    def spec(self) -> str:
        """As cubeingest takes it."""
        return SPEC.format(
            degrees=DEGREES, side=self.side, width=self.shape[1], array=ARRAY, dtype=self.kind.dtype, fill=self.kind.fill,
            chunk=self.chunk, level=LEVEL, source=self.source,
        )  # fmt: skip

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path


def read_job(path: str) -> Job:
    return Job(**json.loads(Path(path).read_text()))
