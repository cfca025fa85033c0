"""Write a cloud-optimised GeoTIFF from rows of pixels as they come: tiled, deflated, with overviews, in one pass and little memory.

GDAL writes such files too, but it needs a second copy on disk first, and of a disk that is full it says nothing, or crashes. Here
every byte is written by Python, which raises. GDAL still says what the tags of a CRS are: those of a raster of one pixel are taken over.

Format: TIFF 6.0 (BigTIFF from 4 GB on); https://docs.ogc.org/is/21-026/21-026.html for the order: directories first, then
pixels, those of the coarsest level first.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from cubeingest.remote import NOWHERE
from cubeingest.tile.geotags import crs_tags, place_tags
from cubeingest.tile.header import gdal_env, load_rasterio
from cubeingest.tile.tiff import ASCII, LONG, LONG8, SHORT, SIZES, Tag, directory_size, end_of_blocks, write_directory

if TYPE_CHECKING:
    from affine import Affine

BLOCK_PIXELS = 512
"""Sides of a block, as GDAL's own COG driver has them; of a smaller raster, what encloses it in whole 16s, as TIFF wants."""

DEFLATE_LEVEL = 6
"""Deflate's own default, which libdeflate reaches at 100 MB/s and more."""

CLASSIC_BYTES = 2**32 - 2**20
"""Size from which on offsets of 32 bits might not do."""

GHOST = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\nBLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
    b"KNOWN_INCOMPATIBLE_EDITION=NO\n "
)
"""By which GDAL knows a COG without reading on, and can read a block without having asked for its size; see its COG driver, "header ghost
area"."""

LEADER = TRAILER = 4
"""Bytes of a block's size before it, and of its last bytes, once more, after it."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Cog:
    """What a file is to be: one band. ``nodata`` None: none; ``colours`` are (red, green, blue) by value, for uint8; ``tags`` are texts that go
    with the file, ``band_tags`` with its band. ``predictor`` is TIFF's: 1 none, 2 differences, 3 those of floats.
    """

    shape_yx: tuple[int, int]
    dtype: np.dtype[Any]
    crs: str
    transform: Affine
    nodata: float | int | None = None
    colours: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    scale: float = 1.0
    offset: float = 0.0
    units: str = ""
    title: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    band_tags: Mapping[str, str] = field(default_factory=dict)
    predictor: int = 1

    @property
    def block_shape_yx(self) -> tuple[int, int]:
        ny, nx = (BLOCK_PIXELS if max(self.shape_yx) > BLOCK_PIXELS else -(-n // 16) * 16 for n in self.shape_yx)
        return ny, nx

    def level_shapes(self) -> list[tuple[int, int]]:
        """Shapes (y, x) of the raster and its overviews, each half of the one before, until one block holds all."""
        shapes = [self.shape_yx]
        while max(shapes[-1]) > BLOCK_PIXELS:
            y, x = shapes[-1]
            shapes.append((-(-y // 2), -(-x // 2)))
        return shapes

    @property
    def row_bytes(self) -> int:
        """Memory that a writer of it takes, about: a row of blocks of every level."""
        return 2 * self.block_shape_yx[0] * self.shape_yx[1] * self.dtype.itemsize


class CogWriter:
    """Writes a :class:`Cog` into ``path``, which is whole when :meth:`finish` has returned. ``halve`` makes of (rows, columns) those of the next
    coarser level; ``encoders`` compress blocks. Compressed blocks wait in a file beside ``path``.

    Raises :class:`OSError` as soon as something cannot be written.
    """

    def __init__(self, path: Path, cog: Cog, halve: Callable[[Array], Array], encoders: Executor) -> None:
        self.path, self._cog = path, cog
        self._stack = ExitStack()
        level: _Level | None = None
        self._levels: list[_Level] = []
        self._is_whole = False
        for n, shape in reversed(list(enumerate(cog.level_shapes()))):
            beside = path.with_name(f"{path.name}.{n}")
            level = _Level(cog, shape, beside, self._stack.enter_context(beside.open("w+b")), halve, encoders, level)
            self._levels.insert(0, level)

    def write(self, rows: Array) -> None:
        """The next (rows, columns), from top index on."""
        self._levels[0].take(rows)

    def finish(self) -> None:
        """Put the file together. All rows must have been written."""
        for level in self._levels:
            level.finish()
        data_bytes = sum(level.n_bytes for level in self._levels)
        directories = _directories(self._cog, self._levels, data_bytes)
        with self.path.open("wb") as out:
            out.write(directories)
            for level in reversed(self._levels):
                level.file.seek(0)
                shutil.copyfileobj(level.file, out, 2**20)
        self._is_whole = True

    def close(self) -> None:
        """Take away what waited, and a file that is not whole."""
        try:
            self._stack.close()
        finally:
            unfinished = [self.path] if not self._is_whole else []
            for path in (*unfinished, *(level.path for level in self._levels)):
                path.unlink(missing_ok=True)

    def __enter__(self) -> CogWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Level:
    """The raster or one of its overviews: rows are gathered to a row of blocks, encoded, and handed on halved."""

    def __init__(
        self,
        cog: Cog,
        shape_yx: tuple[int, int],
        path: Path,
        file: IO[bytes],
        halve: Callable[[Array], Array],
        encoders: Executor,
        coarser: _Level | None,
    ) -> None:
        self.shape_yx, self.path, self.file = shape_yx, path, file
        self.sizes: list[int] = []
        self._cog, self._halve, self._encoders, self._coarser = cog, halve, encoders, coarser
        height, width = cog.block_shape_yx
        fill = 0 if cog.nodata is None else cog.nodata
        self._rows = np.full((height, -(-shape_yx[1] // width) * width), fill, cog.dtype)
        self._fill, self._held, self._left = fill, 0, shape_yx[0]

    @property
    def n_bytes(self) -> int:
        """What lies in ``file``."""
        return sum(self.sizes) + len(self.sizes) * (LEADER + TRAILER)

    def take(self, rows: Array) -> None:
        while rows.shape[0]:
            n = min(rows.shape[0], self._rows.shape[0] - self._held)
            self._rows[self._held : self._held + n, : self.shape_yx[1]] = rows[:n]
            self._held += n
            rows = rows[n:]
            if self._held in (self._rows.shape[0], self._left):
                self._write()

    def _write(self) -> None:
        width = self._cog.block_shape_yx[1]
        self._rows[self._held :] = self._fill
        blocks = [self._rows[:, x : x + width] for x in range(0, self._rows.shape[1], width)]
        for content in self._encoders.map(_encode, blocks, [self._cog.predictor] * len(blocks)):
            self.file.write(struct.pack("<I", len(content)) + content + content[-TRAILER:])
            self.sizes.append(len(content))
        if self._coarser is not None:
            self._coarser.take(self._halve(self._rows[: self._held, : self.shape_yx[1]]))
        self._left -= self._held
        self._held = 0

    def finish(self) -> None:
        assert not self._left, f"{self._left} rows of {self.shape_yx} were not written"
        self.file.flush()


def _encode(block: Array, predictor: int) -> bytes:
    import imagecodecs

    content = np.ascontiguousarray(block)
    if predictor == 2:
        content = np.concatenate([content[:, :1], np.diff(content, axis=1)], axis=1)
    elif predictor == 3:  # bytes of one significance side by side, the highest first, and their differences
        plain = content.astype(content.dtype.newbyteorder(">")).view(np.uint8)
        planes = plain.reshape(*content.shape, -1).transpose(0, 2, 1).reshape(content.shape[0], -1)
        content = np.concatenate([planes[:, :1], np.diff(planes, axis=1)], axis=1)
    little = content.astype(content.dtype.newbyteorder("<"), copy=False)
    return bytes(imagecodecs.deflate_encode(little.tobytes(), DEFLATE_LEVEL, raw=False))


def read_cog_tags(path: Path) -> dict[str, str] | None:
    """The texts that a raster on this disk carries; None for what is no raster."""
    load_rasterio()
    import rasterio
    from rasterio.errors import RasterioError

    with gdal_env(str(path), NOWHERE):
        try:
            with rasterio.open(path) as raster:
                tags: dict[str, str] = raster.tags()
                return tags
        except (RasterioError, OSError, ValueError):
            return None


def is_whole_cog(path: Path) -> bool:
    """Whether a file that :class:`CogWriter` wrote reaches to the end of its last block, which is one of the first directory's."""
    end = end_of_blocks(path)
    return end is not None and path.stat().st_size >= end + TRAILER


def has_ghost(path: Path) -> bool:
    """Whether a file starts as those do that :class:`CogWriter` writes, and some of GDAL's."""
    with path.open("rb") as file:
        return GHOST in file.read(len(GHOST) + 100)


# ---- directories ----------------------------------------------------------------------------------------------


def _directories(cog: Cog, levels: list[_Level], data_bytes: int) -> bytes:
    """All that comes before the pixels: header, a directory for each level, and what these refer to."""
    own = [_tags_of(cog, level, n) for n, level in enumerate(levels)]
    big = data_bytes + sum(len(content) for tags in own for _, _, content in tags.values()) > CLASSIC_BYTES
    header, ghost = (16 if big else 8), f"GDAL_STRUCTURAL_METADATA_SIZE={len(GHOST):06} bytes\n".encode() + GHOST
    offset_type = LONG8 if big else LONG
    for tags, level in zip(own, levels, strict=True):
        n = len(level.sizes)
        tags[324] = (offset_type, n, bytes(n * SIZES[offset_type]))  # known when all directories are laid out
    starts = [header + len(ghost)]
    for tags in own:
        starts.append(starts[-1] + directory_size(tags, big))
    place = starts[-1]
    offsets: dict[int, list[int]] = {}
    for n, level in reversed(list(enumerate(levels))):
        ends = place + np.cumsum([0, *(size + LEADER + TRAILER for size in level.sizes)])
        offsets[n] = (ends[:-1] + LEADER).tolist()
        place = int(ends[-1])
    first = struct.pack("<2sHHHQ", b"II", 43, 8, 0, starts[0]) if big else struct.pack("<2sHI", b"II", 42, starts[0])
    out = [first, ghost]
    for n, (tags, (start, stop)) in enumerate(zip(own, pairwise(starts), strict=True)):
        tags[324] = (offset_type, len(offsets[n]), np.array(offsets[n], "<u8" if big else "<u4").tobytes())
        out.append(write_directory(tags, start, stop if n + 1 < len(own) else 0, big))
    return b"".join(out)


def _tags_of(cog: Cog, level: _Level, n: int) -> dict[int, Tag]:
    """Tags of one level, but for where its blocks lie."""
    height, width = cog.block_shape_yx
    kind = {"u": 1, "b": 1, "i": 2, "f": 3}[cog.dtype.kind]
    numbers = {
        254: (LONG, int(n > 0)), 256: (LONG, level.shape_yx[1]), 257: (LONG, level.shape_yx[0]),
        258: (SHORT, 8 * cog.dtype.itemsize), 259: (SHORT, 8), 262: (SHORT, 3 if cog.colours else 1), 277: (SHORT, 1),
        284: (SHORT, 1), 317: (SHORT, cog.predictor), 322: (LONG, width), 323: (LONG, height), 339: (SHORT, kind),
    }  # fmt: skip
    tags = {tag: (type_, 1, struct.pack("<H" if type_ == SHORT else "<I", v)) for tag, (type_, v) in numbers.items()}
    tags[325] = (LONG, len(level.sizes), np.array(level.sizes, "<u4").tobytes())
    if cog.colours:
        table = np.zeros((3, 256), "<u2")
        for value, rgb in cog.colours.items():
            table[:, value] = np.array(rgb) * 257
        tags[320] = (SHORT, table.size, table.tobytes())
    if n == 0:
        tags |= place_tags(cog.transform) | crs_tags(cog.crs)
        metadata = _metadata(cog).encode() + b"\0"
        tags[42112] = (ASCII, len(metadata), metadata)
    if cog.nodata is not None:
        text = ("nan" if np.isnan(cog.nodata) else repr(cog.nodata)).encode() + b"\0"
        tags[42113] = (ASCII, len(text), text)
    return tags


def _metadata(cog: Cog) -> str:
    """Texts, and what is said of the band, as GDAL keeps them: it escapes a text twice."""
    items = [f"<Item name={quoteattr(name)}>{escape(escape(text))}</Item>" for name, text in cog.tags.items()]
    items += [
        f'<Item name={quoteattr(name)} sample="0">{escape(escape(text))}</Item>' for name, text in cog.band_tags.items()
    ]
    own = {
        "OFFSET": cog.offset or "",
        "SCALE": cog.scale if cog.scale != 1 else "",
        "UNITTYPE": cog.units,
        "DESCRIPTION": cog.title,
    }
    items += [
        f'<Item name="{k}" sample="0" role="{k.lower()}">{escape(escape(str(v)))}</Item>'
        for k, v in own.items()
        if v != ""
    ]
    return "\n  ".join(["<GDALMetadata>", *items]) + "\n</GDALMetadata>\n"
