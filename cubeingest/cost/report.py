"""What a read would cost: chunks, requests, bytes, an estimate of the time, and what another shape of chunks would change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

from cubeingest.contents import Manifests, manifests_of, objects_of
from cubeingest.cost.advice import advise
from cubeingest.cost.query import Query, parse_query
from cubeingest.cost.reads import Reads, count_reads, pieces_along
from cubeingest.cost.reshape import estimate_reads, parse_chunks
from cubeingest.errors import GridError
from cubeingest.selection import Selection, choose
from cubeingest.spec import Variable
from cubeingest.store import Store


@dataclass(frozen=True)
class Link:
    """How the store is reached: milliseconds until a request is answered, MB that come in a second, requests at a time (10 is Zarr's own setting)."""

    latency_ms: float = 50.0
    bandwidth: float = 100.0
    concurrency: int = 10

    def __post_init__(self) -> None:
        for name, value, least in (
            ("latency", self.latency_ms, 0),
            ("bandwidth", self.bandwidth, 0),
            ("concurrency", self.concurrency, 1),
        ):
            if not (value >= least and value < float("inf")) or (name == "bandwidth" and value == 0):
                raise GridError(
                    f"{name} is {value}: it must be {'more than 0' if name == 'bandwidth' else f'{least} or more'}"
                )

    def seconds(self, requests: int, n_bytes: int, rounds: int) -> float:
        """Until all is here: as many waits as there are requests one after another, and the time that the bytes take. Decoding is not in it."""
        return max(rounds, ceil(requests / self.concurrency)) * self.latency_ms / 1000 + n_bytes / (
            self.bandwidth * 1e6
        )


@dataclass(frozen=True)
class VariableCost:
    """What a read of one variable takes: ``asked`` bytes of pixels, in chunks as they are or, for ``compared``, of another shape."""

    variable: str
    dims: tuple[str, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    shape: tuple[int, ...]
    asked: int
    reads: Reads
    seconds: float
    manifests: Manifests = field(default_factory=Manifests)
    first_seconds: float = 0.0
    advice: str = ""
    compared: tuple[VariableCost, ...] = ()

    @property
    def amplification(self) -> float:
        """How many times more bytes are decoded than were asked for."""
        return self.reads.decoded / self.asked

    def to_json(self) -> dict[str, Any]:
        r = self.reads
        out: dict[str, Any] = {
            "chunk_shape": dict(zip(self.dims, self.chunks, strict=True)),
            "chunks": {"touched": r.chunks, "present": r.present, "absent": r.chunks - r.present},
            "requests": r.requests, "bytes": r.stored, "inline_bytes": r.inline, "raw_bytes": r.decoded,
            "amplification": round(self.amplification, 3), "seconds": round(self.seconds, 4), "exact": r.is_exact,
        }  # fmt: skip
        if self.shards:
            out["shard_shape"] = dict(zip(self.dims, self.shards, strict=True))
            out["shards"] = {"touched": r.shards, "present": r.shards_present}
        return out


@dataclass(frozen=True)
class Cost:
    """What a query takes, by variable, at a snapshot. The time is for a ``link``."""

    store: str
    snapshot: str
    query: str
    link: Link
    variables: tuple[VariableCost, ...]

    @property
    def reads(self) -> Reads:
        """Of all variables, one after another."""
        return sum((v.reads for v in self.variables), Reads())

    @property
    def seconds(self) -> float:
        return sum(v.seconds for v in self.variables)

    def to_json(self) -> dict[str, Any]:
        link = {
            "latency_ms": self.link.latency_ms,
            "bandwidth_mb_s": self.link.bandwidth,
            "concurrency": self.link.concurrency,
        }
        return {
            "store": self.store, "snapshot": self.snapshot, "query": self.query, "link": link,
            "requests": self.reads.requests, "bytes": self.reads.stored, "raw_bytes": self.reads.decoded, "seconds": round(self.seconds, 4),
            "variables": [
                {"variable": v.variable, "shape": dict(zip(v.dims, v.shape, strict=True)), "asked_bytes": v.asked, **v.to_json(),
                 "manifests": v.manifests.to_json(), "first_seconds": round(v.first_seconds, 4), "advice": v.advice or None,
                 "compared": [c.to_json() for c in v.compared]}
                for v in self.variables
            ],
        }  # fmt: skip


def read_cost(
    store: Store, query: str, link: Link | None = None, compare: Sequence[str] = (), variables: Sequence[str] = ()
) -> Cost:
    """What a query (see :mod:`cubeingest.cost.query`) would take, now. ``compare`` are shapes of chunks, as text.

    Raises :class:`GridError` for a query that is none, or that asks for what the cube does not have.
    """
    store = store.on(store.branch, store.tip)
    spec, link = store.spec, link or Link()
    chosen = choose(spec, Selection(variables=tuple(variables))).variables
    asked = parse_query(spec, query)
    shapes = [parse_chunks(spec, text) for text in compare]
    found = tuple(_cost_of(store, v, asked, link, shapes) for v in chosen)
    return Cost(store.uri, store.tip, query, link, found)


def _cost_of(
    store: Store, variable: Variable, query: Query, link: Link, shapes: Sequence[Mapping[str, int]]
) -> VariableCost:
    session, pieces, positions = store.readonly(), objects_of(store.spec, variable), query.along(variable)
    shape = tuple(map(len, positions))
    asked = prod(shape) * variable.np_dtype.itemsize

    def of(reads: Reads, chunks: tuple[int, ...], shards: tuple[int, ...] | None, **more: Any) -> VariableCost:
        seconds = link.seconds(reads.requests, reads.stored - reads.inline, reads.rounds)
        return VariableCost(variable.name, variable.dims, chunks, shards, shape, asked, reads, seconds, **more)

    compared = []
    for given in shapes:
        chunks = tuple(given.get(dim, c) for dim, c in zip(variable.dims, variable.chunks, strict=True))
        compared.append(of(estimate_reads(session, variable, pieces, positions, chunks), chunks, None))
    reads = count_reads(session, variable, pieces, positions)
    with store.asking():
        manifests = manifests_of(store.repo, store.tip, variable.name, pieces_along(positions, pieces.piece))
    first = link.seconds(manifests.count, manifests.bytes, min(1, manifests.count))
    return of(
        reads, variable.chunks, variable.shards, manifests=manifests, first_seconds=first,
        advice=advise(store.spec, variable, positions, reads, asked), compared=tuple(compared),
    )  # fmt: skip
