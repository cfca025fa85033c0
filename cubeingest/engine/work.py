"""A unit of work and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from cubeingest.errors import CubeIngestError
from cubeingest.ledger import Slot
from cubeingest.plan import SlotPlan, Task
from cubeingest.store import first_line, quiet_icechunk


@dataclass(frozen=True)
class SlotResult:
    """What became of one slot: a pickled fork and the state it records, or an error."""

    slot: Slot
    href: str
    state: str = ""
    fork: bytes | None = None
    n_bytes: int = 0
    n_pixels: int = 0
    detail: Any = None
    error: str | None = None


SlotFunction = Callable[[Any, Task, SlotPlan], SlotResult]
"""(job, task, slot) → result. Top-level, and the job small and picklable."""


def attempt(function: SlotFunction, job: Any, task: Task) -> list[SlotResult]:
    """Run ``function`` for every slot of a task. The one place where a failure becomes a row of the report."""
    quiet_icechunk()
    out = []
    for plan in task.slots:
        try:
            out.append(function(job, task, plan))
        except Exception as e:  # noqa: BLE001
            out.append(failed(plan, explain(e)))
    return out


def failed(plan: SlotPlan, error: str) -> SlotResult:
    return SlotResult(plan.slot, plan.tiles[0].href if plan.tiles else "", error=error)


def explain(error: BaseException) -> str:
    """One line for the report; the type is named for what is none of our own errors."""
    if isinstance(error, CubeIngestError):
        return str(error)
    return f"{type(error).__name__}: {first_line(error)}"


@dataclass(frozen=True)
class Options:
    """How to run, and what to do with failures. ``workers`` None means one for every two cores; ``scheduler`` is a Dask address."""

    workers: int | None = None
    scheduler: str | None = None
    commit_every: int | None = None
    on_error: Literal["keep", "abort"] = "keep"
    redo: bool = False


@dataclass(frozen=True)
class Progress:
    """What a progress display is told: the plan's size first, then each result."""

    n_slots: int
    n_pixels: int
    result: SlotResult | None = None
