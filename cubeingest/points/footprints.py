"""The footprints of granules: from the catalog file where they are up to date, else scanned."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event

from cubeingest.errors import CubeIngestError, TileError
from cubeingest.listing import in_threads
from cubeingest.points.catalogfile import read_footprints, write_footprints
from cubeingest.points.model import Locator, PointSource
from cubeingest.points.scan import Footprint, scan_granule
from cubeingest.remote import SourceId, local_path, source_id
from cubeingest.storage import is_remote, public_href

FETCHERS = 8
"""Granules of elsewhere that are scanned at a time: each waits for the network."""


@dataclass(frozen=True)
class Footprints:
    """What was found: a footprint for each granule, or why there is none; how many were scanned, and what went wrong beside.

    ``former`` are footprints of granules that cannot be read, as they were when they could.
    """

    found: dict[str, Footprint | str]
    n_scanned: int
    warnings: tuple[str, ...] = ()
    former: Mapping[str, Footprint] = field(default_factory=dict)


def footprints_of(
    hrefs: Iterable[str],
    source: PointSource,
    locator: Locator,
    catalog: Path | None,
    signature: str,
) -> Footprints:
    """The footprints of granules, by href. Those that are new or have changed are scanned, and ``catalog`` is written again.

    What other granules it holds stays in it. If it is interrupted, what has been scanned is written. Raises :class:`CatalogError`
    for a catalog that cannot be used.
    """
    hrefs = list(dict.fromkeys(hrefs))
    known = {} if catalog is None else read_footprints(catalog, signature, locator)
    names = {href: _name(href) for href in hrefs}
    identities = dict(zip(hrefs, in_threads(partial(identity_of, source=source), hrefs), strict=True))
    shared = {name for name, n in Counter(names.values()).items() if n > 1}  # they differ in what is not kept of them
    found: dict[str, Footprint | str] = {}
    todo: list[str] = []
    for href, identity in identities.items():
        kept = known.get(names[href])
        if isinstance(identity, str):
            found[href] = identity
        elif kept is not None and names[href] not in shared and _is_same(kept.source, identity):
            found[href] = replace(kept, source=identity)
        else:
            todo.append(href)
    warnings: list[str] = []
    try:
        _scan_all(todo, source, locator, found)
    finally:
        new = [(href, f) for href in todo if isinstance(f := found.get(href), Footprint) and names[href] not in shared]
        if catalog is not None and new:
            known |= {names[href]: replace(f, source=replace(f.source, href=names[href])) for href, f in new}
            try:
                write_footprints(catalog, known.values(), signature, locator)
            except OSError as e:
                warnings.append(
                    f"catalog of points {str(catalog)!r} cannot be written ({e.strerror or e}): "
                    f"the {len(new)} granules that were scanned will be scanned again"
                )
    former = {href: known[names[href]] for href in hrefs if isinstance(found[href], str) and names[href] in known}
    return Footprints({href: found[href] for href in hrefs}, len(todo), tuple(warnings), former)


def _scan_all(hrefs: Sequence[str], source: PointSource, locator: Locator, found: dict[str, Footprint | str]) -> None:
    """Scan granules in threads, and put into ``found`` what comes of it, as it comes."""
    stop = Event()

    def scan(href: str) -> None:
        if stop.is_set():
            return
        try:
            found[href] = scan_granule(href, source, locator)
        except TileError as e:
            found[href] = str(e)

    n = FETCHERS if any(is_remote(href) for href in hrefs) else os.cpu_count() or 1
    with ThreadPoolExecutor(min(n, len(hrefs)) or 1, thread_name_prefix="cubeingest-scan") as pool:
        futures = [pool.submit(scan, href) for href in hrefs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def identity_of(href: str, source: PointSource) -> SourceId | str:
    """A granule's identity, or why it has none."""
    try:
        return source_id(href, source.storage)
    except FileNotFoundError:
        return f"granule {public_href(href)!r} is not there"
    except (CubeIngestError, OSError) as e:
        return str(e)


def _is_same(kept: SourceId, now: SourceId) -> bool:
    """Whether a granule is the one that was scanned. One that says nothing of itself may be another."""
    return (kept.size, kept.stamp) == (now.size, now.stamp) and bool(now.stamp)


def _name(href: str) -> str:
    """What a granule is called in a catalog: its path in full, or its address without what may be secret."""
    return public_href(href) if is_remote(href) else local_path(href)
