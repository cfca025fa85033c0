"""A source as Icechunk's references name it: a URL, and what tells that it has changed since."""

from __future__ import annotations

import os
import re

from cubeingest.errors import TileError
from cubeingest.remote.addresses import check_href, local_path, path_of
from cubeingest.remote.clients import client_of, patiently, run
from cubeingest.remote.sources import SourceId
from cubeingest.remote.trouble import why_unreachable
from cubeingest.storage import Storage, public_href


def url_of(href: str) -> str:
    """The URL of a source. Raises :class:`TileError` for one that no reference can name."""
    kind = check_href(href)
    if kind not in ("file", "s3"):
        raise TileError(
            f"tile {public_href(href)!r} cannot be referred to: references reach files of this machine and s3:// only; use --copy-blocks"
        )
    path = "/" + local_path(href).lstrip("/") if kind == "file" else path_of(href)
    parts = path.strip("/").split("/")
    if re.search(r"[\x00-\x1f\x7f\\\ud800-\udfff]", path) or not all(parts) or {".", ".."} & set(parts):
        raise TileError(
            f"tile {public_href(href)!r} cannot be referred to: no URL stands for its name; use --copy-blocks"
        )
    return f"{kind}://{re.sub('[%?#]', lambda m: f'%{ord(m[0]):02X}', path)}"


def version_of(href: str, source: SourceId) -> str:
    """What Icechunk compares with a source's ETag before it reads there, for the version that ``source`` says.

    Files have none: theirs is made, as by the library that Icechunk reads files with, of what a change cannot leave as it is (the
    time of modification alone would miss an older file put in the place of a newer). Raises :class:`TileError`.
    """
    if check_href(href) == "file":
        stat = os.stat(local_path(href))
        if (stat.st_size, str(stat.st_mtime_ns)) != (source.size, source.stamp):
            raise TileError(f"tile {public_href(href)!r} changed while it was read: run the command again")
        tag = f"{stat.st_ino:x}-{stat.st_mtime_ns // 1000:x}-{stat.st_size:x}"
        return f'{tag},"{tag}"'  # that library has written it without and with quotes
    if not source.stamp.startswith('"'):
        raise TileError(
            f"tile {public_href(href)!r} has no ETag, by which a reader could tell that it has changed; use --copy-blocks"
        )
    return source.stamp


def read_part(href: str, storage: Storage, start: int, n: int) -> bytes:
    """``n`` bytes of a source from ``start`` on, or as many as it has. Raises :class:`TileError`."""
    try:
        if check_href(href) == "file":
            with open(local_path(href), "rb") as file:
                file.seek(start)
                return file.read(n)
        client = client_of(href, storage)
        size, stamp = run(patiently(lambda: client.head(href)))
        stop = start + n if size is None else min(start + n, size)
        if stop <= start:
            return b""
        data, _ = run(patiently(lambda: client.read(href, start, stop, size, stamp)))
    except OSError as e:
        raise TileError(f"tile {public_href(href)!r} cannot be read: {e.strerror or e}") from None
    except TileError:
        raise
    except Exception as e:  # noqa: BLE001  (each cloud's library has errors of its own)
        raise TileError(f"cannot reach {public_href(href)!r}: {why_unreachable(e) or 'it is not there'}") from None
    return data[:n]
