"""A unit of work and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from cubeingest.errors import CubeIngestError, GridError, StoreError
from cubeingest.ledger import Slot
from cubeingest.plan import SlotPlan, Task
from cubeingest.store import reason_of


@dataclass(frozen=True, slots=True)
class SlotResult:
    """What became of one slot: a pickled fork and the state it records, or an error.

    ``by_store`` says that the store (or the worker) failed, not a tile: no other slot will fare better. ``snapshot`` is the
    commit that a worker made of it.
    """

    slot: Slot
    href: str
    state: str = ""
    fork: bytes | None = None
    n_bytes: int = 0
    n_pixels: int = 0
    detail: Any = None
    error: str | None = None
    by_store: bool = False
    snapshot: str | None = None


Unit = tuple[Task, ...]
"""Tasks that a worker is given at once."""

SlotFunction = Callable[[Any, SlotPlan], SlotResult]
"""(job, slot) → result. Top-level, and the job picklable."""

UnitFunction = Callable[[Any, Unit], list[SlotResult]]
"""(job, tasks) → a result for each slot. Picklable, as the job is."""


@dataclass(frozen=True)
class EachSlot:
    """The :data:`UnitFunction` that runs a function for every slot by itself: one that fails costs no other."""

    function: SlotFunction

    def __call__(self, job: Any, unit: Unit) -> list[SlotResult]:
        out: list[SlotResult] = []
        for plan in slots_in(unit):
            if out and out[-1].by_store:
                out.append(failed(plan, out[-1].error or "", by_store=True))
                continue
            out.append(attempt(self.function, job, plan))
        return out


def attempt(function: SlotFunction, job: Any, plan: SlotPlan) -> SlotResult:
    """Run ``function`` for one slot. The one place where a failure becomes a row of the report."""
    import icechunk

    try:
        return function(job, plan)
    except (icechunk.IcechunkError, StoreError) as e:
        return failed(plan, explain(e), by_store=True)
    except Exception as e:  # noqa: BLE001
        return failed(plan, explain(e))


def slots_in(unit: Unit) -> list[SlotPlan]:
    return [plan for task in unit for plan in task.slots]


def failed(plan: SlotPlan, error: str, by_store: bool = False) -> SlotResult:
    return SlotResult(plan.slot, plan.tiles[0].href if plan.tiles else "", error=error, by_store=by_store)


def explain(error: BaseException) -> str:
    """One line for the report; the type is named for what is none of our own errors."""
    import icechunk

    if isinstance(error, CubeIngestError):
        return str(error)
    if isinstance(error, icechunk.IcechunkError):
        return f"the store failed: {reason_of(error)}"
    return f"{type(error).__name__}: {reason_of(error)}"


@dataclass(frozen=True)
class Options:
    """How to run, and what to do with failures. ``workers`` None means one for every two cores; ``scheduler`` is a Dask address.

    ``how`` is empty where pixels are decoded and encoded, ``"virtual"`` or ``"copied"`` where tiles' blocks are taken as they are, and
    ``"materialized"`` where references become chunks.
    """

    workers: int | None = None
    scheduler: str | None = None
    commit_every: int | None = None
    on_error: Literal["keep", "abort"] = "keep"
    redo: bool = False
    mode: Literal["cooperative", "independent"] = "cooperative"
    how: Literal["", "virtual", "copied", "materialized"] = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be. Raises :class:`GridError`, as for a selection."""
        for name, value, known in (
            ("mode", self.mode, ("cooperative", "independent")), ("on_error", self.on_error, ("keep", "abort")),
        ):  # fmt: skip
            if value not in known:
                raise GridError(f"{name} is {value!r}: it must be {' or '.join(known)}")
        for name, count in (("workers", self.workers), ("commit_every", self.commit_every)):
            if count is not None and count < 1:
                raise GridError(f"{name} is {count}: it must be 1 or more")


def how_of(virtual: bool, copy_blocks: bool) -> Literal["", "virtual", "copied"]:
    """As :attr:`Options.how`. Raises :class:`GridError` for both at once."""
    if virtual and copy_blocks:
        raise GridError("virtual refers to blocks, copy-blocks copies them: say one of the two")
    return "virtual" if virtual else "copied" if copy_blocks else ""


@dataclass(frozen=True)
class Progress:
    """What a progress display is told: the plan's size and its slots first, then each result."""

    n_slots: int
    n_pixels: int
    result: SlotResult | None = None
    planned: tuple[Slot, ...] = ()
