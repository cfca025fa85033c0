"""A file on disk that is written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, content: bytes, is_wanted: Callable[[], bool] = lambda: True) -> None:
    """Put a file into its place whole, or not at all, as :func:`open_whole`. Raises :class:`OSError`."""
    with open_whole(path, is_wanted) as file:
        file.write(content)


@contextmanager
def open_whole(path: Path, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[BinaryIO]:
    """A file to write, which is put into its place in the end, or not at all if anything is raised: what was there before stays until then, and passes
    its permissions on. A link is followed.

    Nothing is put there if the file is not wanted any more when it has been written, which may have taken long. Raises :class:`OSError`.
    """
    place = Path(os.path.realpath(path))
    temporary = place.with_name(f".{place.name[:50]}.{uuid.uuid4().hex[:12]}.part")
    try:
        with temporary.open("xb") as file:
            yield file
        if place.exists():
            shutil.copymode(place, temporary)
        if is_wanted():
            temporary.replace(place)
        else:
            temporary.unlink()
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
