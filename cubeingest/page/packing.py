"""What makes a page's data small: runs of equal states, hrefs as patterns, tables of texts that share beginnings.

``decode.js`` undoes each of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

MARKS = "\x01\x02\x03\x04\x05\x06\x07\x08"
"""In a pattern the first stands for the region's id, the others for labels of axes, by the axis's number. No href holds them."""

SHORTEST_LABEL = 3
"""Characters of an axis label that is looked for in hrefs: shorter ones are found everywhere, and save nothing."""


def run_lengths(codes: npt.NDArray[np.uint8], letters: str) -> str:
    """Codes in C order as letters, each with the length of its run if that is more than 1.

    >>> run_lengths(np.array([[0, 0, 1], [1, 1, 2]], np.uint8), "abc")
    'a2b3c'
    """
    flat = codes.ravel()
    if not flat.size:
        return ""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    pairs = zip(flat[starts].tolist(), lengths.tolist(), strict=True)
    return "".join(letters[code] + (str(n) if n > 1 else "") for code, n in pairs)


def href_pattern(href: str, region_id: str, labels: Mapping[int, str]) -> str:
    r"""An href with the region's id and the labels of axes (by number) taken out.

    >>> href_pattern("tiles/2000/70N_180W.tif", "70N_180W", {0: "2000"})
    'tiles/\x02/\x01.tif'
    """
    pattern = href.translate(_NO_MARKS).replace(region_id, MARKS[0])
    for number, label in labels.items():
        if len(label) >= SHORTEST_LABEL and number + 1 < len(MARKS):
            pattern = pattern.replace(label, MARKS[number + 1])
    return pattern


_NO_MARKS = str.maketrans(dict.fromkeys(MARKS, "\ufffd"))


class Texts:
    """A table of texts, each once; ``number`` gives a text's place in it."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def __len__(self) -> int:
        return len(self._numbers)

    def pack(self) -> list[Any]:
        """The texts in order, each without the beginning that it shares with the one before, whose length stands before it if not 0.

        That beginning ends before the first character beyond U+FFFF, which scripts count as two.

        >>> texts = Texts()
        >>> [texts.number(t) for t in ("tiles/a.tif", "tiles/b.tif", "c")]
        [0, 1, 2]
        >>> texts.pack()
        ['tiles/a.tif', 6, 'b.tif', 'c']
        """
        out: list[Any] = []
        before = ""
        for text in self._numbers:
            shared = next(
                (i for i, (a, b) in enumerate(zip(before, text, strict=False)) if a != b or a > "\uffff"),
                min(len(before), len(text)),
            )
            out += [shared, text[shared:]] if shared else [text]
            before = text
        return out


def pack_lines(
    lines: list[npt.NDArray[np.float64]], bounds: tuple[float, float, float, float], steps: int
) -> list[list[int]]:
    """Lines of (x, y) as whole steps, the longer side of ``bounds`` having so many: the first point, then differences.

    Lines that shrink to a point are left out.
    """
    left, bottom, right, top = bounds
    scale = steps / max(right - left, top - bottom)
    out = []
    for line in lines:
        places = np.rint((np.asarray(line) - (left, bottom)) * scale).astype(int).tolist()
        points = [p for p, _ in groupby(map(tuple, places))]
        if len(points) < 2:
            continue
        flat = [*points[0]]
        for (x0, y0), (x1, y1) in pairwise(points):
            flat += [x1 - x0, y1 - y0]
        out.append(flat)
    return out
