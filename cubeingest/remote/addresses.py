"""What an href stands for, and how GDAL is told to open it. No other scheme than those of :mod:`cubeingest.storage` is."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from cubeingest.errors import TileError
from cubeingest.storage import SCHEMES, Storage, kind_of, public_href

CONNECT_SECONDS = 30
"""How long a server may take to take a connection."""

SILENCE_SECONDS = 60
"""How long a server may say nothing before it is given up."""

REMOTE_OPTIONS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": CONNECT_SECONDS,
    "GDAL_HTTP_LOW_SPEED_TIME": SILENCE_SECONDS,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    # What GDAL keeps of a remote file outlives the file's closing: a tile that changed there would be read as it was.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/",
}
"""How GDAL reads tiles that are not on a disk: no listing of the folder, an end to waiting, a few retries, no
memory of earlier readings."""

DEFAULT_REGION = "us-east-1"
"""What requests to an S3 server that is not Amazon's are signed for where nothing is said."""


def check_href(href: str) -> str:
    """The kind of storage of an href. Raises :class:`TileError` for one that is never opened.

    Chains (``simplecache::s3://...``), archives, GDAL's own file systems, connection strings and inline documents, which
    GDAL finds anywhere in a name, would read what nobody meant.
    """
    kind = kind_of(href)
    if kind is None or "<" in href or (kind == "file" and local_path(href).startswith("/vsi")):
        shown = " ".join(public_href(href).split())
        raise TileError(
            f"tile {shown if len(shown) <= 120 else shown[:117] + '...'!r} is not opened: "
            f"write a path or an href with a known scheme ({', '.join(SCHEMES)})"
        )
    return kind


def local_path(href: str) -> str:
    """The absolute path that a path or ``file://`` href stands for: GDAL takes nothing else in it for syntax."""
    scheme, mark, rest = href.partition("://")
    return os.path.abspath(rest if mark else scheme)


def path_of(href: str) -> str:
    """``bucket/key`` of an object's href."""
    return href.partition("://")[2]


def readable_href(href: str, storage: Storage) -> str:
    """``href`` as fsspec can open it here: a public ``gs://`` object by its web address where gcsfs is not installed."""
    if kind_of(href) == "gs" and find_spec("gcsfs") is None:
        return f"{storage.endpoint or 'https://storage.googleapis.com'}/{path_of(href)}"
    return href


def gdal_path(href: str) -> str:
    """What GDAL opens for an href that :func:`check_href` lets pass.

    Given to rasterio in this form, it leaves credentials to GDAL, which reads them from the environment.
    """
    kind = check_href(href)
    if kind == "file":
        return local_path(href)
    return f"/vsicurl/{href}" if kind == "http" else f"/vsi{kind}/{path_of(href)}"


def gdal_options(href: str, storage: Storage) -> dict[str, Any]:
    """GDAL's options for a remote href: time limits, and how its object store is reached. No credentials of S3 or Google."""
    options, kind = dict(REMOTE_OPTIONS), check_href(href)
    if kind == "s3":
        full = storage.with_environment()
        options["AWS_NO_SIGN_REQUEST"] = "YES" if full.anonymous else "NO"
        if full.region or full.endpoint:
            # The second one, which the environment may hold, would win over the first.
            options["AWS_REGION"] = options["AWS_DEFAULT_REGION"] = full.region or DEFAULT_REGION
        if full.endpoint:
            scheme, _, host = full.endpoint.rstrip("/").partition("://")
            options["AWS_S3_ENDPOINT"] = host
            options["AWS_HTTPS"] = "YES" if scheme == "https" else "NO"
            options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    elif kind == "gs":
        known = any(k.startswith(("GOOGLE_", "GS_")) for k in os.environ)
        options["GS_NO_SIGN_REQUEST"] = (
            "YES" if (not known if storage.anonymous is None else storage.anonymous) else "NO"
        )
        if storage.endpoint:
            options["CPL_GS_ENDPOINT"] = storage.endpoint.rstrip("/") + "/"
    elif kind == "az":
        account, key = azure_account()
        given = {"AZURE_STORAGE_ACCOUNT": account, "AZURE_STORAGE_ACCESS_KEY": key}
        options |= {name: value for name, value in given.items() if value}
        if storage.anonymous is not None:
            options["AZURE_NO_SIGN_REQUEST"] = "YES" if storage.anonymous else "NO"
    return options


def azure_account() -> tuple[str | None, str | None]:
    """Account and key from the environment, under the names of Azure's own tools or of GDAL."""
    env = os.environ
    return (
        env.get("AZURE_STORAGE_ACCOUNT_NAME") or env.get("AZURE_STORAGE_ACCOUNT"),
        env.get("AZURE_STORAGE_ACCOUNT_KEY") or env.get("AZURE_STORAGE_ACCESS_KEY"),
    )
