"""Why a request failed, in words that hold no secrets, and whether another try may help.

Libraries put addresses into their messages, with passwords and signatures, and servers may answer anything. So a reason is
made of statuses, error codes and the operating system's own words; never of another's text.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cubeingest.errors import ExtraError
from cubeingest.remote import addresses
from cubeingest.storage import public_href

NOTHING_THERE = (404, 410)
"""Statuses that say that there is nothing. 403 does not, though some stores answer so for a missing object: a server that
refuses must never look like an empty sea."""

BUSY = (408, 425, 429)
"""Statuses below 500 that pass by themselves."""

SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_CLIENT_SECRET", "GS_ACCESS_KEY_ID",
    "GS_SECRET_ACCESS_KEY",
)  # fmt: skip
"""Variables of the environment whose values are never printed, even if a server sends them back."""


class TroubleError(Exception):
    """What we find wrong with an answer ourselves; ``passing`` if another try may help."""

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.passing = reason, passing


class ChangedError(TroubleError):
    """An answer from another version of the source than the one that was asked for."""

    def __init__(self) -> None:
        super().__init__("it changed while it was read")


def why_unreachable(error: BaseException) -> str | None:
    """Why a source cannot be reached, without its address, which may hold secrets; None if there is just nothing there."""
    chain = list(_chain(error))
    for e in chain:
        if isinstance(e, TroubleError):
            return e.reason
        if status := _status(e):
            return None if status in NOTHING_THERE else f"HTTP status {status}{_code(e)}"
    for e in chain:
        if isinstance(e, ImportError | ExtraError):
            return " ".join(str(e).split())
        if "Credentials" in type(e).__name__:
            return "no credentials: put them into the environment, or say storage: {anonymous: true} for public data"
    if any(_is_timeout(e) for e in chain):
        return f"no answer for {addresses.SILENCE_SECONDS:g} s"
    if isinstance(chain[-1], FileNotFoundError):
        return None
    words = next((e.strerror for e in reversed(chain) if isinstance(e, OSError) and e.strerror), None)
    return words or type(chain[-1]).__name__


def is_nothing(error: BaseException) -> bool:
    """Whether a failed request says that there is nothing."""
    return why_unreachable(error) is None


def is_passing(error: BaseException) -> bool:
    """Whether a failed request is worth another try at once. One that was not answered is not: the wait was long already."""
    import aiohttp

    chain = list(_chain(error))
    for e in chain:
        if isinstance(e, TroubleError):
            return e.passing
        if status := _status(e):
            return status in BUSY or (status >= 500 and status not in (501, 505))
    if any(_is_timeout(e) or isinstance(e, ValueError | aiohttp.ClientSSLError) for e in chain):
        return False
    names = {c.__name__ for e in chain for c in type(e).__mro__}
    lost = isinstance(chain[0], aiohttp.ClientError) or any(isinstance(e, ConnectionError | EOFError) for e in chain)
    return lost or bool(names & {"HTTPClientError", "EndpointConnectionError", "IncompleteReadError"})  # botocore's


def is_changed(error: BaseException) -> bool:
    """Whether a failed request says that the file is another one by now: its condition, or its range, does not hold."""
    return any(isinstance(e, ChangedError) or _status(e) in (412, 416) for e in _chain(error))


def scrub(text: str, href: str = "") -> str:
    """A library's message about a remote href on one line, without what may be secret in it."""
    if href:
        text = text.replace(href, public_href(href))
    text = re.sub(r"://[^\s/'\"]*@", "://", text)
    text = re.sub(r"(://[^\s'\"?]*)\?[^\s'\"]*", r"\1", text)
    user, _, query = href.partition("://")[2].partition("?")
    given = [*re.split("[:@]", user.partition("/")[0].rpartition("@")[0]), *re.split("[&=]", query)[1::2]]
    for secret in (*given, *(os.environ.get(name) or "" for name in SECRETS)):
        if len(secret) > 2:
            text = text.replace(secret, "...")
    return " ".join(text.split())


class Discreet(logging.Filter):
    """Takes secrets out of what a library logs: GDAL's warnings name addresses as they are."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = scrub(record.getMessage()), ()
        return True


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came from: by its cause, or by what botocore keeps in it."""
    seen: set[int] = set()
    e: BaseException | None = error
    while e is not None and id(e) not in seen:
        seen.add(id(e))
        yield e
        kept = getattr(e, "kwargs", None)
        inner = kept.get("error") if isinstance(kept, Mapping) else None
        e = e.__cause__ or (inner if isinstance(inner, BaseException) else None)


def _status(error: BaseException) -> int | None:
    """The HTTP status in an error of aiohttp, botocore, gcsfs or Azure."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        return _number(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    # A ``code`` of aiohttp's own is no answer of the server's.
    names = ("status", "status_code", *(() if type(error).__module__.startswith("aiohttp") else ("code",)))
    return next((n for n in (_number(getattr(error, k, None)) for k in names) if n), None)


def _number(value: Any) -> int | None:
    """``value`` if it can be an HTTP status: aiohttp says 0 for a connection that was lost."""
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() and 100 <= int(value) < 600 else None


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    code = str(response.get("Error", {}).get("Code", "")) if isinstance(response, Mapping) else ""
    return f" ({code})" if re.fullmatch("[A-Za-z]{3,40}", code) else ""


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or any("Timeout" in c.__name__ for c in type(error).__mro__)
