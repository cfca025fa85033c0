"""The Icechunk repository that holds a cube: create, open, read, and commit without losing anyone's work."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cubeingest.errors import StoreError
from cubeingest.spec import INTERNAL_GROUP, CubeSpec, Variable

if TYPE_CHECKING:
    import icechunk

BRANCH = "main"
FORMAT = 1
"""Version of what cubeingest itself keeps in a cube. Raised when an older version could no longer read it."""

MAX_MANIFESTS = 200
"""An array's manifests. Measured: beyond 200 to 300 every second commit is slow; without splitting, a commit
rewrites the references of the whole cube."""

COMMIT_TRIES = 20
"""How often a commit is rebuilt on what others committed meanwhile, before it gives up and says so."""

LOCK_POLL_SECONDS = 0.5
"""How often a wait for the lock looks whether it is to be given up."""

LOCK_NAME = ".cubeingest.lock"


@dataclass(frozen=True)
class Store:
    """An open repository and where it is. ``uri`` is an absolute path or a URI."""

    uri: str
    repo: icechunk.Repository

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    def readonly(self, snapshot: str | None = None) -> icechunk.Session:
        """A session on a snapshot, or on the tip of main."""
        return self.repo.readonly_session(snapshot_id=snapshot) if snapshot else self.repo.readonly_session(BRANCH)

    @property
    def tip(self) -> str:
        """Snapshot id that main points to now."""
        return self.repo.lookup_branch(BRANCH)

    def writable(self) -> icechunk.Session:
        """A writable session on the tip of main. Raises :class:`StoreError` if the store does not answer."""
        import icechunk

        try:
            return self.repo.writable_session(BRANCH)
        except icechunk.IcechunkError as e:
            raise StoreError(f"cannot open store {self.uri!r}: {first_line(e)}") from e

    @contextmanager
    def exclusive(self, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold off other commits on a local filesystem, which Icechunk alone does not; no lock elsewhere.

        ``check`` is called while waiting, and may raise to end the wait.
        """
        if not self.is_local:
            yield
            return
        from filelock import FileLock, Timeout

        lock = FileLock(os.path.join(self.uri, LOCK_NAME))
        while True:
            check()
            try:
                lock.acquire(timeout=LOCK_POLL_SECONDS)
                break
            except Timeout:
                continue
            except OSError as e:
                raise StoreError(f"cannot lock store {self.uri!r}: {e.strerror or e}") from e
        try:
            yield
        finally:
            lock.release()

    def commit(
        self,
        build: Callable[[icechunk.Session], bool],
        message: Callable[[], str],
        metadata: Callable[[], Mapping[str, Any]],
        check: Callable[[], None] = lambda: None,
    ) -> str | None:
        """Commit what ``build`` writes into a fresh session on the tip of main; the snapshot id, or None if nothing.

        ``build`` is called again, on a newer tip, whenever someone else committed in between: it must look at the cube
        as it then is. It returns whether there is anything to commit. Message and metadata are asked for after it;
        ``check`` is called before, and may raise to give up.

        Raises :class:`StoreError` if the store fails, or if others kept committing for ``COMMIT_TRIES`` tries.
        """
        import icechunk

        for attempt in range(COMMIT_TRIES):
            with self.exclusive(check):
                session = self.writable()
                try:
                    if not build(session):
                        return None
                    check()
                    return session.commit(message(), dict(metadata()))
                except icechunk.ConflictError:
                    pass
                except icechunk.IcechunkError as e:
                    if e.kind == icechunk.ErrorKind.NO_CHANGES_TO_COMMIT:
                        return None
                    raise StoreError(f"the commit to {self.uri!r} failed: {first_line(e)}") from e
            time.sleep(random.uniform(0, min(10.0, 0.05 * 2**attempt)))
        raise StoreError(
            f"others kept committing to {self.uri!r}: gave up after {COMMIT_TRIES} tries; run the command again"
        )

    @cached_property
    def spec(self) -> CubeSpec:
        """The spec that the cube holds, as it was when this store was opened."""
        return read_spec_of(self.readonly(), self.uri)


def first_line(error: BaseException) -> str:
    """An Icechunk error without its context lines."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def quiet_icechunk() -> None:
    """Silence Icechunk's log, unless its own environment variable asks for it.

    It warns on every opening of a local store that concurrent commits are unsafe there, though ours are made under a lock;
    and its errors are raised as well.
    """
    if "ICECHUNK_LOG" not in os.environ:
        import icechunk

        icechunk.set_logs_filter("off")


def normalize_uri(uri: str | os.PathLike[str]) -> str:
    """An absolute path for a local store; a URI as it is."""
    text = os.fspath(uri).removeprefix("file://")
    return text.rstrip("/") if "://" in text else os.path.abspath(os.path.expanduser(text))


def _storage(uri: str) -> icechunk.Storage:
    import icechunk

    quiet_icechunk()
    if "://" not in uri:
        return icechunk.local_filesystem_storage(uri)
    parts = urlsplit(uri)
    bucket, prefix = parts.netloc, parts.path.strip("/")
    if not bucket or not prefix:
        raise StoreError(f"store {uri!r} needs a bucket and a prefix: {parts.scheme}://bucket/name")
    if parts.scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return icechunk.s3_storage(
            bucket=bucket, prefix=prefix, from_env=True, endpoint_url=endpoint,
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            allow_http=bool(endpoint and endpoint.startswith("http://")), force_path_style=bool(endpoint),
        )  # fmt: skip
    if parts.scheme in ("gs", "gcs"):
        return icechunk.gcs_storage(bucket=bucket, prefix=prefix, from_env=True)
    if parts.scheme in ("az", "azure", "abfs"):
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or os.environ.get("AZURE_STORAGE_ACCOUNT")
        if not account:
            raise StoreError(f"store {uri!r}: set AZURE_STORAGE_ACCOUNT_NAME to the storage account's name")
        return icechunk.azure_storage(account=account, container=bucket, prefix=prefix, from_env=True)
    raise StoreError(f"store {uri!r}: scheme {parts.scheme!r} is not known; use a path, s3://, gs:// or az://")


def store_exists(uri: str) -> bool:
    """Whether an Icechunk repository is at ``uri``. Raises :class:`StoreError` if it cannot be asked."""
    import icechunk

    if "://" not in uri and not os.path.isdir(uri):
        if os.path.exists(uri):
            raise StoreError(f"store {uri!r} is a file: name a folder that does not exist yet, or a cube")
        return False
    try:
        return icechunk.Repository.exists(_storage(uri))
    except icechunk.IcechunkError as e:
        raise StoreError(f"cannot reach store {uri!r}: {first_line(e)}") from e


def open_store(uri: str) -> Store:
    """Open the cube at ``uri``.

    Raises :class:`StoreError` if nothing is there, it is no cube of ours, or a newer version wrote it.
    """
    import icechunk

    if not store_exists(uri):
        what = (
            "the folder is not an Icechunk repository"
            if "://" not in uri and os.path.isdir(uri)
            else "nothing is there"
        )
        raise StoreError(f"no cube at {uri!r} ({what}): create one with `cubeingest init GRID.yaml`, or give --store")
    try:
        store = Store(uri, icechunk.Repository.open(_storage(uri)))
        store.spec  # noqa: B018  (refused here rather than later, if it is not a cube)
    except icechunk.IcechunkError as e:
        raise StoreError(f"cannot open store {uri!r}: {first_line(e)}") from e
    return store


def read_spec_of(session: icechunk.Session, uri: str) -> CubeSpec:
    """The spec kept in a cube. Raises :class:`StoreError` if there is none that this version can read."""
    import zarr
    from zarr.errors import GroupNotFoundError

    from cubeingest.spec import spec_from_json

    try:
        attrs = zarr.open_group(session.store, path=INTERNAL_GROUP, mode="r").attrs.asdict()
    except (GroupNotFoundError, FileNotFoundError):
        attrs = {}
    if "format" not in attrs or "spec" not in attrs:
        raise StoreError(f"{uri!r} is an Icechunk repository, but not a cube that cubeingest made")
    if not isinstance(attrs["format"], int) or attrs["format"] > FORMAT:
        raise StoreError(
            f"the cube at {uri!r} has format {attrs['format']!r}, written by cubeingest {attrs.get('version', '?')}; this version "
            f"reads up to format {FORMAT}: upgrade cubeingest"
        )
    return spec_from_json(str(attrs["spec"]))


def create_store(uri: str, spec: CubeSpec) -> Store:
    """Make an empty repository with manifests split to suit the spec. Raises :class:`StoreError` if the place is taken."""
    import icechunk

    made = "://" not in uri and not os.path.isdir(uri)
    try:
        if "://" not in uri:
            os.makedirs(uri, exist_ok=True)
        # The folder was checked to be free; our lock file may lie in it by now.
        repo = icechunk.Repository.create(_storage(uri), config=_config(spec), check_clean_root="://" in uri)
    except (icechunk.IcechunkError, OSError) as e:
        if made and os.path.isdir(uri) and not os.listdir(uri):
            os.rmdir(uri)
        raise StoreError(f"cannot create a cube at {uri!r}: {first_line(e)}") from e
    return Store(uri, repo)


def is_unused(session: icechunk.Session) -> bool:
    """Whether a session's snapshot holds nothing at all: a repository whose ``init`` did not come to its commit."""
    import zarr
    from zarr.errors import GroupNotFoundError

    try:
        return not list(zarr.open_group(session.store, mode="r").keys())
    except (GroupNotFoundError, FileNotFoundError):
        return True


def _config(spec: CubeSpec) -> icechunk.RepositoryConfig:
    import icechunk

    config = icechunk.RepositoryConfig.default()
    config.manifest = icechunk.ManifestConfig(splitting=_splitting(spec))
    return config


def reopen_unused(uri: str, spec: CubeSpec) -> Store | None:
    """The repository at ``uri`` if nothing was ever written into it, so that ``init`` may go on with it; else None."""
    import icechunk

    try:
        if not is_unused(icechunk.Repository.open(_storage(uri)).readonly_session(BRANCH)):
            return None
        store = Store(uri, icechunk.Repository.open(_storage(uri), config=_config(spec)))
        store.repo.save_config()
        return store
    except icechunk.IcechunkError as e:
        raise StoreError(f"cannot open store {uri!r}: {first_line(e)}") from e


@dataclass(frozen=True)
class Commit:
    """One commit of a cube's history; ``details`` is what cubeingest wrote into its metadata."""

    snapshot: str
    time: str
    message: str
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"snapshot": self.snapshot, "time": self.time, "message": self.message, **self.details}


def read_history(store: Store) -> list[Commit]:
    """Commits on main, newest first, without Icechunk's own first snapshot."""
    return [
        Commit(s.id, s.written_at.isoformat(timespec="seconds"), s.message, dict(s.metadata))
        for s in store.repo.ancestry(branch=BRANCH)
        if s.parent_id is not None
    ]


def _splitting(spec: CubeSpec) -> icechunk.ManifestSplittingConfig:
    from icechunk import ManifestSplitCondition as Condition
    from icechunk import ManifestSplitDimCondition as Dim
    from icechunk import ManifestSplittingConfig

    return ManifestSplittingConfig.from_dict(
        {
            Condition.name_matches(f"^{v.name}$"): {
                Dim.DimensionName(dim): size for dim, size in zip(v.dims, manifest_split(spec, v), strict=True)
            }
            for v in spec.variables
        }
    )


def manifest_split(spec: CubeSpec, variable: Variable) -> tuple[int, ...]:
    """Chunks (shards, where there are shards) that one manifest spans along each dimension.

    Whole regions at one axis block if that makes at most ``MAX_MANIFESTS``; otherwise spatial neighbours share a
    manifest first, then neighbours along the axes.
    """
    shape, written = spec.shape_of(variable), variable.write_shape
    counts = [-(-n // w) for n, w in zip(shape, written, strict=True)]
    n_axes = len(variable.axes)
    region = [max(1, r // w) for r, w in zip(spec.grid.region_shape_yx, written[n_axes:], strict=True)]
    sizes = [1] * n_axes + region

    def manifests() -> int:
        total = 1
        for count, size in zip(counts, sizes, strict=True):
            total *= -(-count // size)
        return total

    step = 0
    while manifests() > MAX_MANIFESTS:
        spatial = [i for i in (n_axes, n_axes + 1) if sizes[i] < counts[i]]
        axes = [i for i in range(n_axes - 1, -1, -1) if sizes[i] < counts[i]]
        grows = spatial or axes[:1]
        i = grows[step % len(grows)]
        sizes[i] += region[i - n_axes] if i >= n_axes else 1
        step += 1
    return tuple(min(s, c) for s, c in zip(sizes, counts, strict=True))
