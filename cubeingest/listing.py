"""Lists, globs and tables of tiles, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeingest.errors import CatalogError, ExtraError, TileError
from cubeingest.extras import import_extra
from cubeingest.remote import expand_glob, read_bytes, source_id, why_unreachable
from cubeingest.storage import Storage, is_remote, public_href

if TYPE_CHECKING:
    import pandas as pd

REQUESTS_AT_ONCE = 32
"""Threads that ask for headers or existence. The wait is for the network, not for a core."""

MAX_LINE = 8192
"""Characters in one line of a list; a longer one is no href and no id."""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zip": "zip", ".xz": "xz", ".zst": "zstd"}
"""How a table of comma-separated values is packed, by the end of its name."""


def in_threads[T, R](function: Callable[[T], R], items: list[T]) -> list[R]:
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(REQUESTS_AT_ONCE, len(items))) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [f.result() for f in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def exists(href: str, storage: Storage) -> bool:
    try:
        source_id(href, storage)
    except FileNotFoundError:
        return False
    except TileError as e:
        raise CatalogError(str(e)) from e
    return True


def read_lines(uri: str, storage: Storage) -> list[str]:
    content = _content("list", uri, storage)
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as e:
        raise _unreadable("list", uri, str(e)) from None
    for line in lines:
        if len(line) > MAX_LINE:
            raise CatalogError(
                f"list {public_href(uri)!r} has a line of {len(line)} characters: that is no href and no id"
            )
    return [line for line in lines if line and not line.startswith("#")]


def expand_pattern(pattern: str, storage: Storage) -> list[str]:
    if not is_remote(pattern):
        return sorted(glob(pattern.removeprefix("file://"), recursive=True))
    try:
        return expand_glob(pattern, storage)
    except Exception as e:  # noqa: BLE001  (each cloud's library has errors of its own)
        raise _unreadable("glob", pattern, why_unreachable(e)) from None


def read_table(uri: str, storage: Storage) -> pd.DataFrame:
    import pandas as pd

    name = public_href(uri)
    try:
        where = BytesIO(_content("table", uri, storage)) if is_remote(uri) else Path(name.removeprefix("file://"))
        if name.endswith((".parquet", ".pq")):
            import_extra("pyarrow.parquet", "parquet", f"table {name!r}")
            table = pd.read_parquet(where, engine="pyarrow")
        else:
            packing: Any = COMPRESSIONS.get(Path(name).suffix)
            table = pd.read_csv(where, compression=packing)
    except (CatalogError, ExtraError):
        raise
    except Exception as e:
        reason = why_unreachable(e)
        raise _unreadable("table", uri, reason if reason is None or not isinstance(e, ValueError) else str(e)) from e
    # GDAL's tile indexes call it location.
    return table if "href" in table.columns else table.rename(columns={"location": "href"})


def _content(kind: str, uri: str, storage: Storage) -> bytes:
    """All of a file here or elsewhere. Raises :class:`CatalogError`, with nothing of the libraries' own messages."""
    try:
        # Not by fsspec where it is a path, to which a folder's name may hold syntax ("::").
        return read_bytes(uri, storage) if is_remote(uri) else Path(uri.removeprefix("file://")).read_bytes()
    except Exception as e:  # noqa: BLE001  (each cloud's library has errors of its own)
        raise _unreadable(kind, uri, why_unreachable(e)) from None


def _unreadable(kind: str, uri: str, reason: str | None) -> CatalogError:
    """``reason`` is None if there is nothing."""
    if reason is None:
        return CatalogError(f"{kind} {public_href(uri)!r} is not there: check source.tiles.{kind}")
    return CatalogError(f"cannot read {kind} {public_href(uri)!r}: {' '.join(reason.split())[:200]}")
