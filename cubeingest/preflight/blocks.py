"""Whether blocks of a plan's tiles are chunks as they lie, so that they could be referred to, or copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cubeingest.catalog import REQUESTS_AT_ONCE, TileRow
from cubeingest.errors import CubeIngestError
from cubeingest.ingest import refuse_large, slot_blocks
from cubeingest.mosaic import slot_shape, source_ids
from cubeingest.plan import SlotPlan, hrefs_of
from cubeingest.preflight.headers import Headers
from cubeingest.remote import url_of, version_of
from cubeingest.spec import CubeSpec
from cubeingest.tile import ADVICE, Header, SourceId, not_as_is, place, storage_of, why_no_variable, why_not


@dataclass(frozen=True)
class BlocksReport:
    """How many of ``slots`` could be filled with ``--copy-blocks`` or ``--virtual``; the first reasons why another could not.

    ``reason`` is the first of those against ``--copy-blocks``.
    """

    slots: int
    copyable: int
    virtual: int
    reason: str | None
    why_not_virtual: str | None

    def to_json(self) -> dict[str, Any]:
        return {
            "slots": self.slots, "copyable": self.copyable, "virtual": self.virtual, "reason": self.reason,
            "why_not_virtual": self.why_not_virtual,
        }  # fmt: skip


def find_blocks(spec: CubeSpec, plans: Sequence[SlotPlan], headers: Headers) -> BlocksReport:
    """Look at the headers of a plan's tiles, and where these do not rule it out, where their blocks lie. No pixel is read."""
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        reasons = list(pool.map(lambda plan: _reasons(spec, plan, headers), plans))
    copied, virtual = ([r for r, _ in reasons if r], [r for _, r in reasons if r])
    return BlocksReport(
        len(plans),
        len(plans) - len(copied),
        len(plans) - len(virtual),
        next(iter(copied), None),
        next(iter(virtual), None),
    )


def _reasons(spec: CubeSpec, plan: SlotPlan, headers: Headers) -> tuple[str | None, str | None]:
    """Why a slot's tiles' blocks cannot be copied, and why they cannot be referred to; the same if they must be decoded."""
    variable = spec.variable(plan.slot.variable)
    reason = why_no_variable(variable)
    if reason is not None:
        whole = f"variable {variable.name!r}: {reason}"
        return whole, whole
    shape = slot_shape(spec, variable, plan)
    try:
        for tile in plan.tiles:
            _look(spec, plan, tile, headers)
        slot_blocks(spec, variable, plan, shape, proof=False)
        sources = dict(zip(hrefs_of(plan.tiles), source_ids(plan, storage_of(variable)), strict=True))
    except CubeIngestError as e:
        reason = str(e).removesuffix(ADVICE)
        return reason, reason
    return _why(lambda: refuse_large(variable, sources, shape)), _why(lambda: _refuse_unnamed(sources))


def _why(check: Callable[[], None]) -> str | None:
    try:
        check()
    except CubeIngestError as e:
        return str(e).removesuffix(ADVICE)
    return None


def _refuse_unnamed(sources: Mapping[str, SourceId]) -> None:
    """Raise what keeps references from naming a source, and its version."""
    for href, source in sources.items():
        url_of(href)
        version_of(href, source)


def _look(spec: CubeSpec, plan: SlotPlan, tile: TileRow, headers: Headers) -> None:
    """Raise what a tile's header says against it, without opening it again. What does not fit at all is told elsewhere."""
    header, variable = headers[plan.slot.variable, tile.href], spec.variable(plan.slot.variable)
    try:
        placement = (
            place(header, spec.tiling, variable, tile.band, tile.expected) if isinstance(header, Header) else None
        )
    except CubeIngestError:
        placement = None
    if placement is None or not isinstance(header, Header):
        raise not_as_is(tile.href, "it does not fit, or cannot be read")
    reason = why_not(header, placement, variable)
    if reason is not None:
        raise not_as_is(tile.href, reason)
