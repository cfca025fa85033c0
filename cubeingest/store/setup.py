"""A repository is made for a cube, and its chunk index split as suits the spec; again when the spec has grown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cubeingest.errors import StoreError
from cubeingest.spec import CubeSpec
from cubeingest.store.internal import is_unused
from cubeingest.store.location import icechunk_storage, is_local, reason_of
from cubeingest.store.repository import MAIN, Store, open_repository
from cubeingest.store.splitting import splitting

if TYPE_CHECKING:
    import icechunk


def create_store(uri: str, spec: CubeSpec) -> Store:
    """Make an empty repository with manifests split to suit the spec. Raises :class:`StoreError` if the place is taken."""
    import icechunk

    made = is_local(uri) and not os.path.isdir(uri)
    try:
        if is_local(uri):
            os.makedirs(uri, exist_ok=True)
        # The folder was checked to be free; our lock file may lie in it by now.
        icechunk.Repository.create(icechunk_storage(uri), config=_config(spec), check_clean_root=not is_local(uri))
        return Store(uri, open_repository(uri))
    except (icechunk.IcechunkError, OSError) as e:
        if made and os.path.isdir(uri) and not os.listdir(uri):
            os.rmdir(uri)
        raise StoreError(f"cannot create a cube at {uri!r}: {reason_of(e)}") from e


def reopen_unused(uri: str, spec: CubeSpec) -> Store | None:
    """The repository at ``uri`` if nothing was ever written into it, so that ``init`` may go on with it; else None."""
    import icechunk

    try:
        if not is_unused(open_repository(uri).readonly_session(MAIN)):
            return None
        _save_config(uri, spec)
        return Store(uri, open_repository(uri))
    except icechunk.IcechunkError as e:
        raise StoreError(f"cannot open store {uri!r}: {reason_of(e)}") from e


def is_split(store: Store) -> bool:
    """Whether the repository's own configuration splits the chunk index as suits the cube's spec."""
    kept = store.repo.config.manifest
    return kept is not None and kept.splitting == splitting(store.spec)


def save_splitting(store: Store) -> None:
    """Keep the splitting that suits the cube's spec; later commits follow it. Raises :class:`StoreError`."""
    import icechunk

    try:
        with store.exclusive():
            _save_config(store.uri, store.spec)
    except icechunk.IcechunkError as e:
        raise StoreError(f"cannot write to store {store.uri!r}: {reason_of(e)}") from e


def _save_config(uri: str, spec: CubeSpec) -> None:
    import icechunk

    icechunk.Repository.open(icechunk_storage(uri), config=_config(spec)).save_config()


def _config(spec: CubeSpec) -> icechunk.RepositoryConfig:
    import icechunk

    config = icechunk.RepositoryConfig.default()
    config.manifest = icechunk.ManifestConfig(splitting=splitting(spec))
    return config
