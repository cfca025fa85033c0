"""Requests to web servers and object stores: what an object is, and part of its bytes, checked against what was asked."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from fnmatch import fnmatchcase
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from cubeingest.extras import import_client
from cubeingest.remote import addresses
from cubeingest.remote.addresses import DEFAULT_REGION, azure_account, check_href, path_of, readable_href
from cubeingest.remote.trouble import ChangedError, TroubleError, is_nothing, is_passing
from cubeingest.storage import Storage, kind_of

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

RETRIES = 4
"""How often a request is repeated that failed in a way that passes."""

RETRY_SECONDS = 0.2
"""About how long to wait before the first repetition; then twice as long, and so on."""

PLAIN = {"Accept-Encoding": "identity"}
"""Asks a web server not to compress what it sends, so that its bytes are the file's."""


class Client(Protocol):
    """Requests to one kind of storage.

    ``head`` gives size and stamp, as far as they are known. ``read`` gives bytes ``start`` to ``stop`` of a file of ``size``
    bytes, or all that there is where ``stop`` is None; and whether the answer said that it is the version with ``stamp``. It
    raises :class:`ChangedError` if the answer says that it is another.
    """

    async def head(self, href: str) -> tuple[int | None, str]: ...

    async def read(
        self, href: str, start: int, stop: int | None, size: int | None, stamp: str
    ) -> tuple[bytes, bool]: ...

    async def glob(self, href: str) -> list[str]: ...


def is_pattern(name: str) -> bool:
    return re.search("[*?[]", name) is not None


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on fsspec's event loop, from another thread."""
    from fsspec.asyn import get_loop

    return asyncio.run_coroutine_threadsafe(work, get_loop()).result()


async def patiently[T](attempt: Callable[[], Awaitable[T]]) -> T:
    """What ``attempt`` gives, which is made again a few times if it fails in a way that passes."""
    for n in range(RETRIES):
        try:
            return await attempt()
        except Exception as e:
            if not is_passing(e):
                raise
        await asyncio.sleep(RETRY_SECONDS * 2**n * random.uniform(0.5, 1))
    return await attempt()


_clients: dict[tuple[Any, ...], Client] = {}
_lock = Lock()


def client_of(href: str, storage: Storage) -> Client:
    """The client for an href; one for each store in a process, so that all threads share its connections.

    Raises :class:`ExtraError` if the library for it is not installed, ``TileError`` for an href that is not opened.
    """
    check_href(href)
    kind = kind_of(readable_href(href, storage))
    assert kind in MAKERS, f"{kind} is not remote"
    secrets = sorted((k, v) for k, v in os.environ.items() if k.startswith(("AWS_", "GOOGLE_", "AZURE_")))
    key = (kind, storage, addresses.CONNECT_SECONDS, addresses.SILENCE_SECONDS, *secrets)
    with _lock:
        if key not in _clients:
            import_client(kind)
            _clients[key] = MAKERS[kind](storage)
        return _clients[key]


class Web:
    """Web servers. fsspec's own requests for parts of a file do not look at what the answer says that it is."""

    def __init__(self, storage: Storage) -> None:
        from aiohttp import ClientTimeout
        from fsspec.implementations.http import HTTPFileSystem

        timeout = ClientTimeout(total=None, sock_connect=addresses.CONNECT_SECONDS, sock_read=addresses.SILENCE_SECONDS)
        # trust_env: proxies and .netrc, as GDAL takes them.
        options = {"timeout": timeout, "trust_env": True, "read_bufsize": 2**20}
        self._storage = storage
        self._fs = HTTPFileSystem(client_kwargs=options, use_listings_cache=False, skip_instance_cache=True)

    async def _at(self, href: str) -> tuple[aiohttp.ClientSession, URL]:
        from yarl import URL

        href = readable_href(href, self._storage)
        # One that is written as it must be is sent as it is, as GDAL does: a signature is of these very characters.
        return await self._fs.set_session(), URL(href, encoded=re.fullmatch("[!-~]+", href) is not None)

    async def head(self, href: str) -> tuple[int | None, str]:
        session, url = await self._at(href)
        async with session.head(url, allow_redirects=True, headers=PLAIN) as r:
            if r.status not in (403, 405, 501):  # as for an address that is signed for GET
                r.raise_for_status()
                size = _length(r.headers)
                if size is not None:
                    return size, _stamp(r.headers)
        async with session.get(url, headers={**PLAIN, "Range": "bytes=0-0"}) as r:
            r.raise_for_status()
            total = _content_range(r.headers)[2] if r.status == 206 else _length(r.headers)
            return total, _stamp(r.headers)

    async def read(self, href: str, start: int, stop: int | None, size: int | None, stamp: str) -> tuple[bytes, bool]:
        session, url = await self._at(href)
        whole = stop is None or (start, stop) == (0, size)
        headers = PLAIN if whole else {**PLAIN, "Range": f"bytes={start}-{(stop or 0) - 1}"}
        async with session.get(url, headers=headers) as r:
            r.raise_for_status()
            same = _same_version(stamp, r.headers.get("ETag"), r.headers.get("Last-Modified"))
            if stop is None:
                return await r.read(), same
            if r.headers.get("Content-Encoding", "identity") != "identity":
                raise TroubleError("its server sends it compressed")
            _check_part(_content_range(r.headers) if r.status == 206 else None, _length(r.headers), start, stop, size)
            return await _exactly(r.content.iter_any(), stop - start), same

    async def glob(self, href: str) -> list[str]:
        if kind_of(href) != "http":
            import_client("gs")  # which there are, their web addresses do not tell
        place, mark, query = href.partition("?")
        scheme, _, rest = place.partition("://")
        host, *names = rest.split("/")
        if "**" in names:
            raise TroubleError("web servers list one folder at a time: write /*/ for each, not /**/")
        found = [f"{scheme}://{host}"]
        for n, name in enumerate(names, 1):
            if not is_pattern(name):
                found = [f"{folder}/{name}" for folder in found]
                continue
            pages = await asyncio.gather(*(self._list(f"{folder}/") for folder in found))
            links = {link for page in pages for link in page if n == len(names) or link.endswith("/")}
            found = [link.rstrip("/") for link in links if fnmatchcase(link.rstrip("/").rpartition("/")[2], name)]
        there = (
            await asyncio.gather(*(self._is_there(f) for f in found)) if found and not is_pattern(names[-1]) else None
        )
        return [f"{f}{mark}{query}" for i, f in enumerate(found) if there is None or there[i]]

    async def _list(self, folder: str) -> list[str]:
        """Addresses that a folder's page links to in it; none if there is no such folder."""
        try:
            links: list[str] = await patiently(lambda: self._fs._ls(folder, detail=False))
        except FileNotFoundError:
            return []
        return links

    async def _is_there(self, href: str) -> bool:
        try:
            await patiently(lambda: self.head(href))
        except Exception as e:
            if is_nothing(e):
                return False
            raise
        return True


class S3:
    """Amazon's S3 and servers that speak like it."""

    def __init__(self, storage: Storage) -> None:
        from fsspec import get_filesystem_class

        full = storage.with_environment()
        region = full.region or (DEFAULT_REGION if full.endpoint else None)
        config: dict[str, Any] = {
            "connect_timeout": addresses.CONNECT_SECONDS,
            "read_timeout": addresses.SILENCE_SECONDS,
            "retries": {"total_max_attempts": 1},  # they are ours
            "max_pool_connections": 64,
        }
        if full.endpoint:
            config["s3"] = {"addressing_style": "path"}
        self._fs = get_filesystem_class("s3")(
            anon=bool(full.anonymous), endpoint_url=full.endpoint, client_kwargs={"region_name": region} if region else {},
            config_kwargs=config, use_listings_cache=False, skip_instance_cache=True,
        )  # fmt: skip
        self._fs.retries = 1

    async def head(self, href: str) -> tuple[int | None, str]:
        bucket, _, key = path_of(href).partition("/")
        if not key:
            raise TroubleError("it names a bucket, not an object")
        answer = await (await self._fs.set_session()).head_object(Bucket=bucket, Key=key)
        return answer["ContentLength"], answer.get("ETag") or str(answer.get("LastModified", ""))

    async def read(self, href: str, start: int, stop: int | None, size: int | None, stamp: str) -> tuple[bytes, bool]:
        bucket, _, key = path_of(href).partition("/")
        whole = stop is None or (start, stop) == (0, size)
        asked = {} if whole else {"Range": f"bytes={start}-{(stop or 0) - 1}"}
        answer = await (await self._fs.set_session()).get_object(Bucket=bucket, Key=key, **asked)
        async with answer["Body"] as body:
            same = _same_version(stamp, answer.get("ETag"), str(answer.get("LastModified", "")))
            if stop is None:
                return await body.read(), same
            part = _content_range({"Content-Range": answer["ContentRange"]}) if answer.get("ContentRange") else None
            _check_part(part, answer["ContentLength"], start, stop, size)
            return _check_length(await body.read(), stop - start), same

    async def glob(self, href: str) -> list[str]:
        found = [f"s3://{path}" for path in await self._fs._glob(path_of(href))]
        if not found:  # s3fs takes a bucket that is not there for an empty one
            bucket = path_of(href).partition("/")[0]
            await (await self._fs.set_session()).list_objects_v2(Bucket=bucket, MaxKeys=1)
        return found


class Cloud:
    """Google's and Azure's stores, by their fsspec libraries, which make few requests known and repeat them themselves."""

    def __init__(self, storage: Storage, scheme: str) -> None:
        from fsspec import get_filesystem_class

        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if scheme == "gs":
            timeout = addresses.SILENCE_SECONDS
            options |= {
                "token": "anon" if storage.anonymous else None,
                "timeout": timeout,
                "endpoint_url": storage.endpoint,
            }
        else:
            account, key = azure_account()
            limits = {"connection_timeout": addresses.CONNECT_SECONDS, "read_timeout": addresses.SILENCE_SECONDS}
            options |= {"anon": storage.anonymous, "account_name": account, "account_key": key, **limits}
        self._scheme = scheme
        self._fs = get_filesystem_class(scheme)(**options)

    async def head(self, href: str) -> tuple[int | None, str]:
        info = await self._fs._info(path_of(href))
        if info.get("type") == "directory":
            raise FileNotFoundError
        stamps = (info.get(k) for k in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime"))
        return info.get("size"), next((str(s) for s in stamps if s), "")

    async def read(self, href: str, start: int, stop: int | None, size: int | None, stamp: str) -> tuple[bytes, bool]:
        whole = stop is None or (start, stop) == (0, size)
        data: bytes = await self._fs._cat_file(path_of(href), **({} if whole else {"start": start, "end": stop}))
        return data if stop is None else _check_length(data, stop - start), False

    async def glob(self, href: str) -> list[str]:
        return [f"{self._scheme}://{path}" for path in await self._fs._glob(path_of(href))]


MAKERS: dict[str, Callable[[Storage], Client]] = {
    "http": Web, "s3": S3, "gs": lambda storage: Cloud(storage, "gs"), "az": lambda storage: Cloud(storage, "az"),
}  # fmt: skip


# ---- what an answer says --------------------------------------------------------------------------------------


def _length(headers: Mapping[str, str]) -> int | None:
    """Bytes of a whole file, unless it is compressed on its way."""
    text = headers.get("Content-Length", "")
    plain = headers.get("Content-Encoding", "identity") in ("identity", "")
    return int(text) if plain and text.isdecimal() else None


def _stamp(headers: Mapping[str, str]) -> str:
    return headers.get("ETag") or headers.get("Last-Modified") or ""


def _content_range(headers: Mapping[str, str]) -> tuple[int, int, int | None]:
    """First byte, the one after the last, and the file's size if it is said."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", headers.get("Content-Range", ""))
    if match is None:
        raise TroubleError("its server does not say which range it sends")
    return int(match[1]), int(match[2]) + 1, None if match[3] == "*" else int(match[3])


def _same_version(stamp: str, etag: str | None, modified: str | None) -> bool:
    """Whether an answer has the stamp asked for; False if it does not say. Raises :class:`ChangedError` for another."""
    if not stamp:
        return False
    if stamp in (etag, modified):
        return True
    told = etag if '"' in stamp else modified
    if told:
        raise ChangedError
    return False


def _check_part(
    part: tuple[int, int, int | None] | None, length: int | None, start: int, stop: int, size: int | None
) -> None:
    """Compare an answer's head with what was asked. ``part`` is None for a whole file."""
    if part is None:
        if (start, stop) != (0, size):
            raise TroubleError("its server ignores ranges: copy it to a disk or an object store")
        if length is not None and length != size:
            raise ChangedError
        return
    if part[2] is not None and part[2] != size:
        raise ChangedError
    if part[:2] != (start, stop):
        raise TroubleError(f"its server sends another range than was asked for, {part[0]}:{part[1]} not {start}:{stop}")


async def _exactly(chunks: Any, n: int) -> bytes:
    """``n`` bytes of a body, and no more held than that."""
    parts, got = [], 0
    async for chunk in chunks:
        got += len(chunk)
        if got > n:
            break
        parts.append(chunk)
    return _check_length(b"".join(parts) if got <= n else None, n)


def _check_length(data: bytes | None, n: int) -> bytes:
    if data is None or len(data) > n:
        raise TroubleError(f"its server sends more than the {n} bytes asked for")
    if len(data) < n:
        raise TroubleError(f"its server sends {len(data)} of the {n} bytes asked for", passing=True)
    return data
