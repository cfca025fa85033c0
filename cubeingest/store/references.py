"""Places outside a cube whose bytes its references may name (Icechunk's virtual chunks), and which of them this user lets it read.

A cube keeps in its repository's configuration the places that its references lie in. That alone opens nothing: whoever made
a cube could name any file of the person who reads it. So a place is read only if this user has said so: by having ingested with
``--virtual`` into that very cube, or in ``$CUBEINGEST_VIRTUAL``.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeingest.errors import StoreError
from cubeingest.storage import Storage
from cubeingest.store.location import icechunk_storage, reason_of

if TYPE_CHECKING:
    import icechunk

    from cubeingest.store.repository import Store

ALLOWED_VARIABLE = "CUBEINGEST_VIRTUAL"
"""Environment variable with places that references of any cube may be read from, separated by blanks:
``file:///data/tiles/ s3://bucket/tiles/``."""

PLAIN = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]*")
"""Names that are written in a URL as they are: Icechunk compares prefixes with both spellings of one."""

MOST_PLACES = 32
"""Folders that one run declares, at most: each reader has to name them, or the one that holds them all."""

TRIES = 5
"""How often the configuration is written again that others are changing at the same time."""


@dataclass(frozen=True)
class Place:
    """What references may name: URLs that begin with ``prefix``, which ends in ``/``; and how its object store is reached."""

    prefix: str
    storage: Storage = field(default_factory=Storage)

    def container(self) -> icechunk.VirtualChunkContainer:
        """The place as Icechunk keeps it. No credentials are in it."""
        import icechunk

        if self.prefix.startswith("file://"):
            store: Any = icechunk.local_filesystem_store(self.prefix.removeprefix("file://"))
        else:
            endpoint = self.storage.endpoint
            store = icechunk.s3_store(
                region=self.storage.region or ("us-east-1" if endpoint else None), endpoint_url=endpoint,
                allow_http=bool(endpoint and endpoint.startswith("http://")), anonymous=bool(self.storage.anonymous),
                s3_compatible=bool(endpoint), force_path_style=bool(endpoint),
            )  # fmt: skip
        return icechunk.VirtualChunkContainer(self.prefix, store)


def find_places(urls: Mapping[str, Storage], roots: Iterable[str], opened: Iterable[str]) -> list[Place]:
    """The places that are needed, besides the prefixes that are ``opened`` already, for references to ``urls``.

    Each is the folder of a spec's pattern, or one that this user has named (``roots``), if it holds any; else a tile's own folder.
    Never a whole filesystem. What else the repository declares does not matter: somebody else may have put it there.
    Raises :class:`StoreError` for a file in a folder at the top whose name no prefix can have, and for tiles in too many folders.
    """
    out: dict[str, Place] = {}
    prefixes = [*opened]
    for root in roots:
        mine = next((url for url in urls if url.startswith(root)), None)
        if mine is not None and not root.endswith(":///") and not any(root.startswith(p) for p in prefixes):
            out[root] = Place(root, urls[mine])
            prefixes.append(root)
    for url, storage in urls.items():
        if any(url.startswith(p) for p in prefixes):
            continue
        folder = posixpath.dirname(url)
        prefix = as_prefix(folder.partition("://")[2], url)
        if prefix is None:
            raise StoreError(
                f"files in {folder!r} cannot be referred to: move them into a folder whose name has "
                "plain letters and digits only, or use --copy-blocks"
            )
        if len(out) == MOST_PLACES:
            raise StoreError(
                f"the tiles lie in more than {MOST_PLACES} folders ({', '.join(map(repr, list(out)[:3]))}, ...): name one that holds them "
                f"all in ${ALLOWED_VARIABLE}, and the cube may read what is in it; or use --copy-blocks"
            )
        out[prefix] = Place(prefix, storage)
        prefixes.append(prefix)
    return [p for p in out.values() if not any(p.prefix.startswith(other) for other in out if other != p.prefix)]


def as_prefix(folder: str, url: str) -> str | None:
    """The prefix, of ``url``'s scheme, for a folder without one; cut before a name that is written otherwise in a URL. None if nothing is left."""
    scheme = url.partition("://")[0]
    plain = []
    for part in folder.split("/"):
        if not PLAIN.fullmatch(part):
            break
        plain.append(part)
    joined = "/".join(plain).strip("/")
    return f"{scheme}://{'/' if scheme == 'file' else ''}{joined}/" if joined else None


def declare(store: Store, places: Sequence[Place]) -> None:
    """Keep places in the repository's configuration, and note that this user lets the cube read them.

    Raises :class:`StoreError` if the configuration has one of them reached in another way, or nothing can be noted.
    """
    import icechunk

    storage = icechunk_storage(store.uri)
    for left in reversed(range(TRIES)):
        try:
            with store.exclusive():
                config = icechunk.Repository.fetch_config(storage) or icechunk.RepositoryConfig.default()
                kept = config.virtual_chunk_containers or {}
                _refuse_others(kept, places)
                new = [p for p in places if p.prefix not in kept]
                for place in new:
                    config.set_virtual_chunk_container(place.container())
                if new:
                    icechunk.Repository.open(storage, config=config).save_config()
            break
        except icechunk.IcechunkError as e:
            if e.kind not in (icechunk.ErrorKind.CONFIG_UPDATED, icechunk.ErrorKind.REPO_INFO_UPDATED) or not left:
                raise StoreError(f"cannot write to store {store.uri!r}: {reason_of(e)}") from e
    _allow(store.cube_id, places)


def _refuse_others(kept: Mapping[str, Any], places: Iterable[Place]) -> None:
    for place in places:
        other = kept.get(place.prefix)
        if other is not None and _endpoint_of(other) != place.storage.endpoint:
            raise StoreError(
                f"the cube has references into {place.prefix!r} by the endpoint {_endpoint_of(other)!r}, not {place.storage.endpoint!r}: "
                "set the same one, or use --copy-blocks"
            )


def declared(repo: icechunk.Repository) -> list[str]:
    """Prefixes of the places that a repository's references may lie in."""
    return sorted(repo.config.virtual_chunk_containers or {})


def opened_by_this_user(repo: icechunk.Repository) -> list[str]:
    """Prefixes of the places that a repository declares and was opened to read."""
    return sorted(repo.authorized_virtual_container_prefixes)


def closed_to_this_user(repo: icechunk.Repository) -> list[str]:
    """Prefixes of the places that a repository declares and was not opened to read."""
    return sorted(set(declared(repo)) - set(opened_by_this_user(repo)))


def access_to(repo: icechunk.Repository, cube_id: str) -> dict[str, Any]:
    """What Icechunk is told to open of the places that a repository declares: those that this user allows, by prefix."""
    import icechunk

    containers = repo.config.virtual_chunk_containers or {}
    allowed = _allowed(cube_id) if containers else set()
    out: dict[str, Any] = {}
    for prefix, container in containers.items():
        if not prefix.startswith(("file://", "s3://")) or (prefix, _endpoint_of(container)) not in allowed:
            continue
        if prefix.startswith("file://"):
            out[prefix] = icechunk.credentials.LocalFileSystemAccess
        else:
            anonymous = bool(_s3_options(container).anonymous)
            out[prefix] = icechunk.s3_credentials(anonymous=anonymous or None, from_env=not anonymous or None)
    return icechunk.containers_credentials(out) if out else {}


def _endpoint_of(container: icechunk.VirtualChunkContainer) -> str | None:
    """Where requests go: a cube that someone else has changed must not send this user's credentials elsewhere."""
    options = _s3_options(container)
    endpoint: str | None = None if options is None else options.endpoint_url
    return endpoint


def _s3_options(container: icechunk.VirtualChunkContainer) -> Any:
    """How a container's S3 server is reached; None for files."""
    store: Any = container.store
    return None if container.url_prefix.startswith("file://") else store[0]


# ---- what this user allows ------------------------------------------------------------------------------------


def _file() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "cubeingest" / "virtual"


def _allow(cube_id: str, places: Iterable[Place]) -> None:
    """Note, in a file of this user, that a cube may read what lies in ``places``."""
    allowed = _allowed(cube_id)
    lines = [
        json.dumps([cube_id, p.prefix, p.storage.endpoint]) + "\n"
        for p in places
        if (p.prefix, p.storage.endpoint) not in allowed
    ]
    if not lines:
        return
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as out:
            out.write("".join(lines))
    except OSError as e:
        raise StoreError(
            f"cannot note in {str(file)!r} that this cube may read {', '.join(p.prefix for p in places)} ({e.strerror}): say it in "
            f"${ALLOWED_VARIABLE} instead"
        ) from None


def named_by_this_user() -> list[str]:
    """Prefixes of the places that the environment lets any cube read."""
    return [word.rstrip("/") + "/" for word in os.environ.get(ALLOWED_VARIABLE, "").split()]


def _allowed(cube_id: str) -> set[tuple[str, str | None]]:
    """(prefix, endpoint) of each place that this user lets a cube read."""
    out: set[tuple[str, str | None]] = set()
    endpoint = Storage().with_environment().endpoint
    for prefix in named_by_this_user():
        out.add((prefix, None))
        if prefix.startswith("s3://"):
            out.add((prefix, endpoint))
    try:
        lines = _file().read_text(encoding="utf-8").splitlines()
    except OSError:
        return out
    for line in lines:
        try:
            cube, prefix, where = json.loads(line)
        except ValueError:
            continue
        if cube == cube_id:
            out.add((prefix, where))
    return out
