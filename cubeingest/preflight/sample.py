"""How fast this machine reads and encodes a plan's tiles, measured on a few windows of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cubeingest.checksum import SlotChecksum
from cubeingest.errors import CubeIngestError
from cubeingest.mosaic import read_ahead, slot_shape
from cubeingest.plan import SlotPlan
from cubeingest.spec import CubeSpec
from cubeingest.store import Store
from cubeingest.writer import open_encoder

SAMPLE_SLOTS = 3
"""Slots of which windows are read: the first, one in the middle and the last."""

SAMPLE_WINDOWS = 2
"""Windows of each. The first pays for opening the tiles."""

COLD_PIXELS = 2**22
"""Of a first slot with fewer, what a process does only once (imports, tables of codecs: 0.1 s) would be most of the time: it is read again."""


def measure_rate(store: Store, plans: Sequence[SlotPlan]) -> float | None:
    """Pixels a second that one worker reads, maps and encodes here, or None if none can be read. Writes nothing.

    What the store takes to write is not in it.
    """
    spec = store.spec
    chosen = [plans[i] for i in sorted({0, len(plans) // 2, len(plans) - 1})] if plans else []
    pixels, seconds, is_warm = 0, 0.0, False
    for plan in chosen[:SAMPLE_SLOTS]:
        try:
            started = time.perf_counter()
            count = _encode_some(store, spec, plan)
            if not is_warm and count < COLD_PIXELS:
                started = time.perf_counter()
                count = _encode_some(store, spec, plan)
        except CubeIngestError:
            continue
        seconds += time.perf_counter() - started
        pixels, is_warm = pixels + count, True
    return pixels / seconds if pixels else None


def _encode_some(store: Store, spec: CubeSpec, plan: SlotPlan) -> int:
    variable = spec.variable(plan.slot.variable)
    shape = slot_shape(spec, variable, plan)
    rows = list(shape.row_slices())[:SAMPLE_WINDOWS]
    checksum = SlotChecksum(variable, shape.block_shape)
    count = 0
    with (
        open_encoder(store.readonly(), variable, store.layout_key) as encoder,
        read_ahead(spec, variable, plan, shape, rows) as windows,
    ):
        for part, window, done in windows.lent():
            checksum.update(window)
            encoder.encode(shape.index(part), window, done)
            count += window.size
    return count
