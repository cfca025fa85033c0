"""The page of a cube as it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cubeingest.errors import StoreError
from cubeingest.ingest import Failure
from cubeingest.page.data import PageData, Run, gather
from cubeingest.page.pictures import MAX_SECONDS, add_coast, add_pictures
from cubeingest.page.render import check_place, render, write_page
from cubeingest.selection import Selection
from cubeingest.store import Store


def write_report(store: Store, selection: Selection, path: str | os.PathLike[str]) -> Path:
    """Write the page of a selection; where it is, absolute. What was at ``path`` is replaced at once, when all is ready.

    Raises :class:`GridError` for a path that cannot be, :class:`StoreError` if the cube cannot be read, or the file not written.
    """
    place = check_place(path)
    data = gather_whole(store, selection)
    try:
        write_page(render(data), place)
    except OSError as e:
        raise StoreError(
            f"cannot write the page to {str(place)!r}: {e.strerror or e}; what was there before stays"
        ) from e
    return place.absolute()


def gather_whole(
    store: Store,
    selection: Selection,
    seconds: float = MAX_SECONDS,
    run: Run | None = None,
    failures: Sequence[Failure] = (),
) -> PageData:
    """All that a page tells: what the cube knows, coasts, and pictures as far as they fit and are begun within ``seconds`` (0: none)."""
    data = gather(store, selection)
    data.run, data.failures = run, list(failures)
    add_coast(data)
    if seconds:
        add_pictures(store, data, seconds)
    return data
