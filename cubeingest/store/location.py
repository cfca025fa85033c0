"""Where a store is, how Icechunk reaches it, and which of its failures pass by themselves."""

from __future__ import annotations

import os
import re
from datetime import datetime
from typing import TYPE_CHECKING

from cubeingest.errors import StoreError
from cubeingest.storage import Storage, kind_of, split_uri

if TYPE_CHECKING:
    import icechunk

PERMANENT = (
    "AccessDenied", "Forbidden", "403", "401", "Unauthorized", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
    "InvalidToken", "NoSuchBucket", "loading credentials", "PermissionDenied", "dns error", "No space left", "Read-only",
)  # fmt: skip
"""What is in the message of a failure that no waiting mends."""

LONGEST_CLOCK_WAIT_SECONDS = 120
"""By how much this machine's clock may be behind that of another writer, whose changes Icechunk must not precede."""

PLAIN_WORDS = {
    "authorize the virtual chunk container": "this user has not let the cube read the tiles that it refers to: name their folder in $CUBEINGEST_VIRTUAL",
    "owning the virtual chunk has changed": "a tile that the cube refers to has changed",
    "loading credentials": "no credentials were found; set those of the store in the environment (AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or a profile), or add ?anonymous=true to its URI if it is public",
    "NoSuchBucket": "the bucket does not exist",
    "status code: 404 Not Found": "the bucket or container does not exist",
    "No space left on device": "no space is left on the disk",
}
"""What to say for messages that are known, by a word in them."""

PASSING = (
    "dispatch failure", "timeout", "timed out", "SlowDown", "ServiceUnavailable", "InternalError", "InternalServerError",
    "RequestTimeout", "503", "500", "502", "504", "connection", "Connection", "error sending request",
)  # fmt: skip
"""What is in the message of one that may pass: a server that is busy, restarting or cut off."""


def is_passing(error: icechunk.IcechunkError) -> bool:
    """Whether a failed request to a store is worth another try; only what is known to pass is."""
    return may_pass(error.kind, (str(error).strip().splitlines() or [""])[0])


def clock_wait(error: icechunk.IcechunkError) -> float | None:
    """Seconds after which a change will be taken that was refused since this machine's clock is a little behind another's.

    None if that is not why, or if it would be longer than ``LONGEST_CLOCK_WAIT_SECONDS``.
    """
    import icechunk

    if error.kind != icechunk.ErrorKind.SNAPSHOT_TIMESTAMP:
        return None
    times = re.findall(r"`(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d+)? UTC`", str(error))
    if len(times) != 2:
        return None
    one, other = (datetime.fromisoformat(t) for t in times)
    behind = abs((one - other).total_seconds())
    return behind + 1 if behind <= LONGEST_CLOCK_WAIT_SECONDS else None


def is_contention(error: icechunk.IcechunkError) -> bool:
    """Whether others changed the repository at the same time, in another way than by a commit to the same branch."""
    import icechunk

    return error.kind in (icechunk.ErrorKind.REPO_INFO_UPDATED, icechunk.ErrorKind.UPDATE_ATTEMPTS_EXHAUSTED)


def may_pass(kind: str, text: str) -> bool:
    """As :func:`is_passing`, for an error's kind and message."""
    import icechunk

    if kind == icechunk.ErrorKind.THROTTLED:
        return True
    return (
        kind in (icechunk.ErrorKind.OBJECT_STORE, icechunk.ErrorKind.STORAGE_OTHER)
        and not any(word in text for word in PERMANENT)
        and any(word in text for word in PASSING)
    )


def reason_of(error: BaseException) -> str:
    """What an error says, on one line: Icechunk's without its context, and in plain words where they are known."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    text = re.sub(r"^object store error (dispatch failure: (other|io error): |service error: )?", "", text)
    if "drifted" in text or "timestamp ordering" in text:
        return f"the clock of this machine does not agree with the store's, or with that of another writer: {text}"
    for word, plain in PLAIN_WORDS.items():
        if word in text:
            return plain
    return text


def quiet_icechunk() -> None:
    """Silence Icechunk's log, unless its own environment variable asks for it.

    It warns on every opening of a local store that concurrent commits are unsafe there, though ours are made under a lock;
    and its errors are raised as well.
    """
    if "ICECHUNK_LOG" not in os.environ:
        import icechunk

        icechunk.set_logs_filter("off")


def is_local(uri: str) -> bool:
    return "://" not in uri


def normalize_uri(uri: str | os.PathLike[str]) -> str:
    """An absolute path for a local store; a URI, with the options of its object store as the query, as it is.

    Raises :class:`StoreError` for an option that is unknown, and for a password.
    """
    text = os.fspath(uri).removeprefix("file://")
    if is_local(text):
        return os.path.abspath(os.path.expanduser(text))
    place, options = _split(text)
    return place.rstrip("/") + options.query


def _split(uri: str) -> tuple[str, Storage]:
    if "@" in uri.partition("://")[2].partition("/")[0]:
        raise StoreError("the store's URI holds a user or password: leave them out, and use the environment")
    try:
        return split_uri(uri)
    except ValueError as e:
        raise StoreError(f"store {uri.partition('?')[0]!r}: {e}") from None


def icechunk_storage(uri: str) -> icechunk.Storage:
    """Icechunk's storage for a path or URI. Credentials come from the environment, and are not kept in it.

    Raises :class:`StoreError` for a URI that is none.
    """
    import icechunk

    quiet_icechunk()
    if is_local(uri):
        return icechunk.local_filesystem_storage(uri)
    place, options = _split(uri)
    options = options.with_environment()
    scheme, _, rest = place.partition("://")
    kind = kind_of(place)
    if kind not in ("s3", "gs", "az"):
        raise StoreError(f"store {place!r}: scheme {scheme!r} is not known; use a path, s3://, gs:// or az://")
    bucket, _, prefix = rest.strip("/").partition("/")
    if not bucket or not prefix:
        raise StoreError(f"store {place!r} needs a bucket and a prefix: {scheme}://bucket/name")
    anonymous = bool(options.anonymous)
    if kind == "s3":
        return icechunk.s3_storage(
            bucket=bucket, prefix=prefix, from_env=not anonymous, anonymous=anonymous, endpoint_url=options.endpoint,
            region=options.region or ("us-east-1" if options.endpoint else None),
            allow_http=bool(options.endpoint and options.endpoint.startswith("http://")),
            force_path_style=bool(options.endpoint),
        )  # fmt: skip
    if kind == "gs":
        return icechunk.gcs_storage(bucket=bucket, prefix=prefix, from_env=not anonymous, anonymous=anonymous)
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or os.environ.get("AZURE_STORAGE_ACCOUNT")
    if not account:
        raise StoreError(f"store {place!r}: set AZURE_STORAGE_ACCOUNT_NAME to the storage account's name")
    return icechunk.azure_storage(
        account=account, container=bucket, prefix=prefix, from_env=not anonymous, anonymous=anonymous
    )


def request_settings(storage: icechunk.Storage, patient: bool) -> icechunk.StorageSettings:
    """How requests are repeated and given up: ``patient`` for work, else for the first one, whose answer a person awaits.

    They are the storage's own settings, changed: what they say of conditional updates, which alone keep two commits apart,
    must stay as it is.
    """
    import icechunk

    settings = storage.default_settings()
    settings.retries = icechunk.StorageRetriesSettings(
        max_tries=10 if patient else 3, initial_backoff_ms=100, max_backoff_ms=20_000 if patient else 1_000
    )
    settings.timeouts = icechunk.StorageTimeoutSettings(
        connect_timeout_ms=10_000 if patient else 3_000, read_timeout_ms=60_000 if patient else 10_000
    )
    return settings
