"""Where objects are: schemes, and the few options of an object store that are no secret.

Options stand in a spec, in the query of a store's URI (``s3://bucket/cube?endpoint=http://localhost:9000``) or in the
environment. Credentials stand in the environment only, under the names that each cloud's own tools use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl, quote

SCHEMES = {
    "s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azure": "az", "abfs": "az", "http": "http", "https": "http", "file": "file",
}  # fmt: skip
"""Schemes of hrefs and stores, by the kind of storage they stand for. No other is opened: many of those that fsspec and
GDAL know read archives, other hosts or programs' output."""


@dataclass(frozen=True)
class Storage:
    """How an object store is reached: ``endpoint`` is a URL, of an S3 server that is not Amazon's."""

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool | None = None

    def __post_init__(self) -> None:
        if self.endpoint is not None and not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", self.endpoint):
            raise ValueError(
                f"endpoint {public_href(self.endpoint)!r} must look like https://host:port, without user and password"
            )

    def with_environment(self) -> Storage:
        """These options, and for those not given what the environment says (``AWS_ENDPOINT_URL``, ``AWS_REGION``, ...)."""
        env = os.environ
        unsigned = env.get("AWS_NO_SIGN_REQUEST", "").upper() in ("YES", "TRUE", "1")
        return replace(
            self,
            endpoint=self.endpoint or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL"),
            region=self.region or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION"),
            anonymous=unsigned if self.anonymous is None else self.anonymous,
        )

    @property
    def query(self) -> str:
        """As the query of a URI, ``?endpoint=...&anonymous=true``; empty if nothing is given."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        texts = {k: str(v).lower() if isinstance(v, bool) else v for k, v in given.items() if v is not None}
        return "?" + "&".join(f"{k}={quote(v, safe=':/')}" for k, v in texts.items()) if texts else ""


def split_uri(uri: str) -> tuple[str, Storage]:
    """A store's URI without its query, and the options in that. Raises :class:`ValueError` for one that is unknown."""
    plain, mark, query = uri.partition("?")
    if not mark:
        return uri, Storage()
    given: Mapping[str, str] = dict(parse_qsl(query, keep_blank_values=True))
    known = [f.name for f in fields(Storage)]
    for name in given:
        if name not in known:
            raise ValueError(f"option {name!r} is not known (known: {', '.join(known)})")
    anonymous = given.get("anonymous")
    if anonymous not in (None, "true", "false"):
        raise ValueError("anonymous must be true or false")
    return plain, Storage(
        given.get("endpoint"), given.get("region"), None if anonymous is None else anonymous == "true"
    )


def is_remote(href: str) -> bool:
    """Whether an href is not a file's path here."""
    return kind_of(href) != "file"


def kind_of(href: str) -> str | None:
    """Kind of storage of an href (``"file"`` for a path), or None for a scheme that is not opened."""
    scheme, mark, _ = href.partition("://")
    return SCHEMES.get(scheme.lower()) if mark else "file"


def public_href(href: str) -> str:
    """``href`` without user, password, query and fragment: what may be printed and kept."""
    scheme, separator, rest = href.partition("://")
    if not separator:
        return href
    host, slash, path = re.split("[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
