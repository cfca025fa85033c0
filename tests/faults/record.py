"""What a run with a fault did to the cube, and the table of docs/reliability.md that is made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.catalogue import FAULTS
from tests.faults.site import Key, Site, Watch

BEGIN, END = "<!-- faults:begin -->", "<!-- faults:end -->"

HEADER = "| what is injected | where | observed | promised |\n|---|---|---|---|\n"


@dataclass(frozen=True)
class Row:
    """One run with one fault."""

    fault: str
    mode: str
    storage: str
    observed: str
    promised: str
    lost: int
    doubled: int
    half_written: int


@dataclass
class Case:
    """A fault as a test injects it. A test must :meth:`settle` it; what it found before that is checked there."""

    fault: str
    mode: str
    storage: str
    rows: list[Row]
    lost: int = 0
    doubled: int = 0
    half_written: int = 0
    problems: list[str] = field(default_factory=list)
    is_settled: bool = False

    def assess(
        self,
        site: Site,
        done: int | range | None = None,
        findings: Iterable[str] = (),
        watch: Watch | None = None,
        history: bool = True,
        broken: Iterable[Key] = (),
        deep: bool = True,
    ) -> None:
        """Take stock of the cube as a stranger finds it.

        ``done`` is how many slots must be whole, or the numbers that they may be, ``findings`` the kinds of what ``check --deep`` must say, no more and no
        less. ``history``: the commits' counts of new slots add up. ``broken`` are slots that the test itself has damaged.
        """
        account, cube = site.account(), site.cube()
        lost, half = account.lost - set(broken), account.half_written - set(broken)
        status = cube.status()
        counted = status.done + status.empty
        self.lost += len(lost) + max(0, site.claimed - len(account.recorded))
        self.half_written += len(half) + (len(watch.wrong) if watch else 0)
        self._must(not lost, f"lost: {sorted(lost)}")
        self._must(not half, f"half written: {sorted(half)}")
        self._must(
            site.claimed <= len(account.recorded), f"{site.claimed} slots reported, {len(account.recorded)} there"
        )
        self._must(counted == len(account.recorded), f"status counts {counted}, {len(account.recorded)} are recorded")
        if history:
            new = sum(c.details.get("new", 0) for c in cube.history())
            self.doubled += max(0, new - counted)
            self._must(new == counted, f"commits say {new} new slots, status {counted}")
        if done is not None:
            allowed = [done] if isinstance(done, int) else done
            self._must(len(account.whole) in allowed, f"{len(account.whole)} slots are whole, expected {done}")
        if watch is not None:
            self._must(watch.looks > 0, "the reader never looked")
            self._must(not watch.wrong, f"a reader saw: {watch.wrong[:3]}")
        found = sorted({f.kind for f in cube.check(deep=deep).findings})
        self._must(found == sorted(set(findings)), f"check found {found}, expected {sorted(set(findings))}")

    def complete(
        self, site: Site, *command: object, findings: Iterable[str] = (), history: bool = True, code: int = 0
    ) -> None:
        """Run the same command again: all is there then."""
        ran = site.run(*command)
        self._must(ran.code == code, f"the same command again: exit {ran.code}: {ran.err}")
        status = site.cube().status()
        self._must(status.pending == 0, f"{status.pending} slots are pending after the same command again")
        self.assess(site, done=len(site.truth), findings=findings, history=history)

    def settle(self, observed: str, where: str | None = None) -> None:
        """The end of a test: record it, and fail if anything was not as promised."""
        storage = self.storage if where is None else where
        promised = FAULTS[self.fault].promised
        self.rows.append(
            Row(self.fault, self.mode, storage, observed, promised, self.lost, self.doubled, self.half_written)
        )
        self.is_settled = True
        assert not self.problems, "\n".join(self.problems)

    def _must(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)


# ---- the table ------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def build_table(rows: list[Row]) -> str:
    """Markdown: one line a fault of the catalogue, in its order, and a sum."""
    lines = []
    for name, fault in FAULTS.items():
        own = [r for r in rows if r.fault == name]
        if not own:
            continue
        modes = sorted({r.mode for r in own if r.mode})
        storages = sorted({r.storage for r in own if r.storage})
        where = (
            "; ".join(", ".join(part) for part in (modes, storages) if part) + f"; {len(own)} run{'s' * (len(own) > 1)}"
        )
        observed = "; ".join(dict.fromkeys(r.observed for r in own))
        lines.append(f"| {escape(fault.injected)} | {where} | {escape(observed)} | {escape(fault.promised)} |\n")
    return HEADER + "".join(lines) + "\n" + summary(rows) + "\n"


def summary(rows: list[Row]) -> str:
    n_faults = len({r.fault for r in rows})
    lost, doubled, half = (sum(getattr(r, name) for r in rows) for name in ("lost", "doubled", "half_written"))
    return (
        f"{n_faults} distinct faults in {len(rows)} runs: {lost} regions lost, {doubled} doubled, {half} half-written."
    )


def write_table(path: Path, rows: list[Row]) -> None:
    """Put the table between the markers of a page."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{build_table(rows)}{END}{after}", encoding="utf-8")
