"""What a run did, slot by slot."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cubeingest.engine import SlotResult
from cubeingest.ledger import Slot
from cubeingest.plan import slot_labels
from cubeingest.spec import CubeSpec
from cubeingest.storage import public_href
from cubeingest.store import MAIN
from cubeingest.wording import counted

REGIONS_IN_METADATA = 8
"""Region ids named in a commit's metadata, which is copied with every later commit; the ledger has them all."""


@dataclass(frozen=True)
class Failure:
    """A slot, or a tile that belongs to no slot (region None), that could not be ingested."""

    region: str | None
    axes: Mapping[str, str]
    variable: str
    href: str
    error: str

    def to_json(self) -> dict[str, Any]:
        return {
            "region": self.region,
            "axes": dict(self.axes),
            "variable": self.variable,
            "href": self.href,
            "error": self.error,
        }


@dataclass
class IngestReport:
    """What a run did, in slots: planned = written + empty + skipped + len(failed) + unfinished.

    ``how`` is as :attr:`Options.how`; ``warnings`` are those of the catalog.
    """

    store: str
    mode: str
    branch: str = MAIN
    how: str = ""
    snapshot: str | None = None
    planned: int = 0
    written: int = 0
    empty: int = 0
    skipped: int = 0
    failed: list[Failure] = field(default_factory=list)
    bytes: int = 0
    seconds: float = 0.0
    signum: int | None = None
    aborted: bool = False
    error: str | None = None
    unfinished: int = 0
    warnings: tuple[str, ...] = ()
    counted: set[Slot] = field(default_factory=set, repr=False)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "store": self.store, "mode": self.mode, "snapshot": self.snapshot, "planned": self.planned, "written": self.written,
            "empty": self.empty, "skipped": self.skipped, "failed": [f.to_json() for f in self.failed], "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
        }  # fmt: skip
        if self.how:
            out["how"] = self.how
        if self.branch != MAIN:
            out["branch"] = self.branch
        if self.error:
            out["error"] = self.error
        if self.warnings:
            out["warnings"] = list(self.warnings)
        if self.unfinished:
            out |= {
                "unfinished": self.unfinished,
                "interrupted": signal.Signals(self.signum).name if self.signum else None,
            }
        return out

    def add(self, result: SlotResult) -> None:
        """Count a slot that is committed."""
        self.written += result.state == "done"
        self.empty += result.state == "empty"
        self.bytes += result.n_bytes
        self.counted.add(result.slot)

    @property
    def exit_code(self) -> int:
        """The command line's: 0 done, 1 some failed, 2 aborted with nothing written, 130 or 143 interrupted."""
        if self.signum is not None:
            return 128 + self.signum
        if self.aborted and self.snapshot is None:
            return 2
        return 1 if self.failed or self.aborted else 0


MESSAGES = {
    "": "ingest {}", "virtual": "refer to {}", "copied": "copy blocks of {}", "materialized": "materialize {}",
}  # fmt: skip
"""Of commits, by :attr:`Options.how`."""


def commit_message(results: list[SlotResult], how: str) -> str:
    return MESSAGES[how].format(counted(len(results), "slot")) if results else "read the catalog"


def commit_metadata(spec: CubeSpec, results: list[SlotResult], run: str, n_new: int, how: str) -> dict[str, Any]:
    """Short: it is rewritten with every later commit. Which slot came from which run, the ledger says.

    ``new`` counts the slots that were neither done nor empty before, so that over a history they add up to what the ledger has.
    """
    from cubeingest import __version__

    regions = sorted({(r.slot.iy, r.slot.ix) for r in results})
    axes: dict[str, set[str]] = {}
    for result in results:
        for name, label in slot_labels(spec, result.slot).items():
            axes.setdefault(name, set()).add(label)
    return {
        "cubeingest": __version__,
        "action": "ingest" if results else "catalog",
        "run": run,
        **({"how": how} if how else {}),
        "written": sum(r.state == "done" for r in results),
        "empty": sum(r.state == "empty" for r in results),
        "new": n_new,
        "variables": sorted({r.slot.variable for r in results}),
        "axes": {name: sorted(labels)[:REGIONS_IN_METADATA] for name, labels in axes.items()},
        "n_regions": len(regions),
        "regions": [spec.grid.region_id(*p) for p in regions[:REGIONS_IN_METADATA]],
    }


def failure_of(spec: CubeSpec, result: SlotResult) -> Failure:
    slot = result.slot
    assert result.error is not None
    return Failure(
        spec.grid.region_id(slot.iy, slot.ix),
        slot_labels(spec, slot),
        slot.variable,
        public_href(result.href),
        result.error,
    )
