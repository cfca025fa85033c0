"""Large remote tiles are fetched whole: how often is asked, what is noticed, and what becomes of the disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cubeingest import mosaic
from cubeingest.errors import TileError
from cubeingest.mosaic import read_ahead, slot_shape, source_ids
from cubeingest.remote import Stopped, addresses, fetch, scratch
from cubeingest.spec import CubeSpec, read_spec
from cubeingest.storage import Storage
from tests.conftest import SPEC, World, write_tile
from tests.website import (
    HERE,
    N_RANGES,
    PATH,
    Asked,
    Handler,
    Site,
    held_in,
    plain_tile,
    plan_of,
    read,
    scratch_folder,
    site,
    spec,
    wait_until,
)

__all__ = ["scratch_folder", "site", "spec"]

# ---- fetched whole --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("range_bytes", "gets"), [(20_000, 1), (1000, N_RANGES)])
def test_whole_tile_is_one_question_and_its_ranges(
    world: World, spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch, range_bytes: int, gets: int
) -> None:
    monkeypatch.setattr(fetch, "RANGE_BYTES", range_bytes)
    plan = plan_of(spec, site.put(PATH, plain_tile(world)))
    assert np.array_equal(read(spec, plan), world.read_tile(2000, HERE))
    assert (site.count("HEAD"), site.count("GET")) == (1, gets)
    assert [a.part for a in site.asked if a.method == "GET" and a.part is None] == [None] * (gets == 1)
    assert site.sent == len(site.files[PATH])
    known = source_ids(plan)
    site.asked.clear()
    read(spec, plan, sources=known)
    assert (site.count("HEAD"), site.count("GET")) == (0, gets)


@pytest.mark.parametrize("profile", [{}, {"tiled": True, "blockxsize": 32, "blockysize": 48}, {"compress": "lzw"}])
@pytest.mark.parametrize("named", [True, False], ids=["by name", "by header"])
def test_large_tile_of_which_all_is_read_is_fetched(
    world: World, spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch, named: bool, profile: dict[str, Any]
) -> None:
    monkeypatch.setattr(mosaic, "WHOLE_BYTES", 0)
    plan = plan_of(spec, site.put(PATH, plain_tile(world, **profile)), named=named)
    assert np.array_equal(read(spec, plan), world.read_tile(2000, HERE))
    assert site.count("GET", gdal=False) == -(-len(site.files[PATH]) // 1000)
    assert (site.count("GET", gdal=True) == 0) == named


def test_raster_of_which_a_region_needs_little_is_read_where_it_is(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic, "WHOLE_BYTES", 1_000_000)
    text = (
        SPEC.replace("1/10", "1/100")
        .replace("y: 200, x: 250", "y: 2000, x: 2500")
        .replace("100, x: 100", "1000, x: 1000")
    )
    (tmp_path / "grid.yaml").write_text(text)
    spec = read_spec(tmp_path / "grid.yaml")
    pixels = np.random.default_rng(5).integers(0, 200, (2000, 2500), dtype=np.uint8)
    tiled = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": None, "resolution": 0.01}
    site.put("/big.tif", write_tile(tmp_path / "big.tif", pixels, 0, 20, **tiled).read_bytes())
    plan = plan_of(spec, site.url + "/big.tif", region="20N_020E", named=False)
    assert np.array_equal(read(spec, plan), pixels[:1000, 2000:])
    assert site.count("GET", gdal=False) == 0
    assert site.sent < len(site.files["/big.tif"]) / 3


def test_sample_of_a_large_tile_is_read_where_it_is(
    world: World, spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic, "WHOLE_BYTES", 0)
    (cover,) = spec.variables
    fine = replace(spec, variables=(replace(cover, chunks=(1, 25, 50)),))
    monkeypatch.setattr(mosaic, "WINDOW_BYTES", 1)
    plan = plan_of(fine, site.put(PATH, plain_tile(world)))
    assert np.array_equal(read(fine, plan, n_windows=1), world.read_tile(2000, HERE)[:25])
    assert site.count("GET", gdal=False) == 0
    assert np.array_equal(read(fine, plan, n_windows=2), world.read_tile(2000, HERE)[:50])
    assert site.count("GET", gdal=False) == N_RANGES


@pytest.mark.parametrize("under", ["under.tif", "{file}"])
def test_raster_from_elsewhere_that_names_other_files_is_refused(
    world: World, spec: CubeSpec, site: Site, under: str
) -> None:
    """A VRT on a server might name a file of this machine."""
    site.put("/t/under.tif", plain_tile(world))
    name = under.format(file=world.folder / "tiles" / "2000" / f"{HERE}.tif")
    vrt = (
        '<VRTDataset rasterXSize="100" rasterYSize="100"><SRS>EPSG:4326</SRS>'
        "<GeoTransform>0, 0.1, 0, 20, 0, -0.1</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{int(under == "under.tif")}">{name}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    with pytest.raises(TileError, match="driver VRT, which may lead to files that the spec does not name"):
        read(spec, plan_of(spec, site.put("/t/a.vrt", vrt.encode())))


def test_address_signed_for_get_alone_is_read(world: World, spec: CubeSpec, site: Site) -> None:
    def signed(handler: Handler, asked: Asked) -> bool:
        if asked.method == "HEAD" or "Signature=a%2Fb%3D" not in handler.path:
            handler.refuse(403)
        return asked.method == "HEAD" or "Signature=a%2Fb%3D" not in handler.path

    href = site.put(PATH, plain_tile(world), signed) + "?X-Amz-Signature=a%2Fb%3D"
    assert np.array_equal(read(spec, plan_of(spec, href)), world.read_tile(2000, HERE))


# ---- servers that misbehave -----------------------------------------------------------------------------------


def ignores_ranges(handler: Handler, asked: Asked) -> bool:
    handler.send(handler.site.files[asked.path], None)
    return True


def cuts_short(handler: Handler, asked: Asked) -> bool:
    handler.send(handler.site.files[asked.path], asked.part, cut=500 if asked.part and asked.part[0] == 3000 else None)
    return True


def sends_less(handler: Handler, asked: Asked) -> bool:
    part = asked.part and (asked.part[0], asked.part[1] - (asked.part[0] == 3000))
    handler.send(handler.site.files[asked.path], part)
    return True


def sends_until_it_ends(n: int) -> Callable[[Handler, Asked], bool]:
    """Without saying how much it will be."""

    def trick(handler: Handler, asked: Asked) -> bool:
        if asked.part is None or asked.part[0] != 3000:
            return False
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 3000-3999/{len(handler.site.files[asked.path])}")
        handler.end_headers()
        handler.wfile.write(bytes(n))
        handler.close_connection = True
        return True

    return trick


def compresses(handler: Handler, asked: Asked) -> bool:
    handler.send(handler.site.files[asked.path], asked.part, **({"Content_Encoding": "gzip"} if asked.part else {}))
    return True


def changes(handler: Handler, asked: Asked) -> bool:
    """The same size, and a new version after two ranges."""
    version = sum(a.method == "GET" for a in handler.site.asked) > 2
    handler.send(handler.site.files[asked.path], asked.part, etag=f'"{version}"')
    return True


def changes_without_a_stamp(handler: Handler, asked: Asked) -> bool:
    grown = asked.part is not None and asked.part[0] >= 3000
    handler.send(handler.site.files[asked.path] + b"more" * grown, asked.part, etag=None)
    return True


def changes_by_date(handler: Handler, asked: Asked) -> bool:
    version = int(asked.part is not None and asked.part[0] >= 3000)
    handler.send(
        handler.site.files[asked.path], asked.part, etag=None, Last_Modified=f"Thu, 01 Jan 2026 00:00:0{version} GMT"
    )
    return True


def changes_in_silence(handler: Handler, asked: Asked) -> bool:
    """Only HEAD tells versions apart."""
    n_heads = sum(a.method == "HEAD" for a in handler.site.asked)
    handler.send(handler.site.files[asked.path], asked.part, etag=f'"{n_heads}"' if asked.method == "HEAD" else None)
    return True


def shrinks(handler: Handler, asked: Asked) -> bool:
    if asked.part and asked.part[0] >= 3000:
        handler.refuse(416)
        return True
    return False


def answers(status: int) -> Callable[[Handler, Asked], bool]:
    def trick(handler: Handler, asked: Asked) -> bool:
        if asked.method == "GET" and asked.part and asked.part[0] == 3000:
            handler.refuse(status)
            return True
        return False

    return trick


CHANGED = "changed while it was read: run the command again"
FAULTS: dict[str, tuple[Callable[[Handler, Asked], bool], str]] = {
    "ranges ignored": (ignores_ranges, "cannot be fetched: its server ignores ranges"),
    "cut short": (cuts_short, "cannot be fetched: "),
    "less than asked": (
        sends_less,
        "cannot be fetched: its server sends another range than was asked for, 3000:3999 not 3000:4000",
    ),
    "ended early": (sends_until_it_ends(999), "cannot be fetched: its server sends 999 of the 1000 bytes asked for"),
    "not ended": (sends_until_it_ends(1001), "cannot be fetched: its server sends more than the 1000 bytes asked for"),
    "compressed": (compresses, "cannot be fetched: its server sends it compressed"),
    "changed": (changes, CHANGED),
    "grown": (changes_without_a_stamp, CHANGED),
    "of another day": (changes_by_date, CHANGED),
    "changed in silence": (changes_in_silence, CHANGED),
    "shrunk": (shrinks, CHANGED),
    "403": (answers(403), "cannot be fetched: HTTP status 403"),
    "404": (answers(404), "is not there any more"),
    "500": (answers(500), "cannot be fetched: HTTP status 500"),
}


@pytest.mark.parametrize(("trick", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_not_the_whole_tile_is_noticed(
    world: World, spec: CubeSpec, site: Site, trick: Callable[[Handler, Asked], bool], message: str
) -> None:
    href = site.put(PATH, plain_tile(world), trick)
    with pytest.raises(TileError, match=f"tile '{href}' {message}"):
        read(spec, plan_of(spec, href))


@pytest.mark.parametrize("trick", [changes, ignores_ranges, cuts_short])
def test_s3_that_sends_something_else_is_noticed(
    world: World, spec: CubeSpec, site: Site, trick: Callable[[Handler, Asked], bool]
) -> None:
    site.put("/b/a.tif", plain_tile(world), trick)
    message = CHANGED if trick is changes else "cannot be fetched: "
    with pytest.raises(TileError, match=f"tile 's3://b/a.tif' {message}"):
        read(spec, plan_of(spec, "s3://b/a.tif"), Storage(site.url, anonymous=True))


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_busy_server_is_asked_again(world: World, spec: CubeSpec, site: Site, scheme: str) -> None:
    refused: list[Asked] = []

    def busy(handler: Handler, asked: Asked) -> bool:
        key = asked.method, asked.part
        if [(a.method, a.part) for a in refused].count(key) < 2:
            refused.append(asked)
            handler.refuse(500 if len(refused) % 2 else 503)
            return True
        return False

    site.put(f"/t/{HERE}.tif", plain_tile(world), busy)
    href = f"s3{'://t'}/{HERE}.tif" if scheme == "s3" else site.url + PATH
    assert np.array_equal(
        read(spec, plan_of(spec, href), Storage(site.url, anonymous=True)), world.read_tile(2000, HERE)
    )
    assert len(refused) == 2 * (1 + N_RANGES)
    assert (site.count("HEAD"), site.count("GET")) == (3, 3 * N_RANGES)


@pytest.mark.parametrize("when", ["HEAD", "GET"])
@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_server_that_hangs_is_given_up_once(
    world: World, spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch, when: str, scheme: str
) -> None:
    monkeypatch.setattr(addresses, "SILENCE_SECONDS", 0.3)
    site.put(PATH, plain_tile(world), lambda handler, asked: asked.method == when and handler.hang())
    href = f"s3://t/{HERE}.tif" if scheme == "s3" else site.url + PATH
    started = time.monotonic()
    with pytest.raises(TileError, match=r"no answer for 0\.3 s"):
        read(spec, plan_of(spec, href), Storage(site.url, anonymous=True))
    assert time.monotonic() - started < 3
    assert site.count("HEAD") == 1
    assert site.count("GET") == (fetch.RANGES_AT_ONCE if when == "GET" else 0)


def test_reading_ends_soon_when_it_is_left_while_a_tile_is_fetched(world: World, spec: CubeSpec, site: Site) -> None:
    plan = plan_of(spec, site.put(PATH, plain_tile(world), lambda h, asked: asked.method == "GET" and h.hang()))
    (cover,) = spec.variables

    def take(windows: Iterator[Any]) -> None:
        with suppress(Stopped):
            next(windows)

    with read_ahead(spec, cover, plan, slot_shape(spec, cover, plan)) as windows:
        thread = threading.Thread(target=take, args=(iter(windows),))
        thread.start()
        wait_until(lambda: site.count("GET") > 0)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    thread.join()


# ---- the disk -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tiles_in_bound", "at_once"), [(1.5, 1), (2.5, 2)])
def test_copies_of_all_threads_stay_within_the_bound(
    world: World, spec: CubeSpec, site: Site, scratch_folder: Path, monkeypatch: pytest.MonkeyPatch,
    tiles_in_bound: float, at_once: int,
) -> None:  # fmt: skip
    size = len(plain_tile(world))
    monkeypatch.setenv("CUBEINGEST_SCRATCH_BYTES", str(int(tiles_in_bound * size)))
    held: list[int] = []
    site.latency = 0.02

    def watch(_: Handler, asked: Asked) -> bool:
        held.append(sum(held_in(scratch_folder).values()))
        return False

    plans = [
        plan_of(spec, site.put(f"/t/{region}.tif", plain_tile(world, region), watch), region=region)
        for region in (HERE, "20N_010E", "10N_000E", "10N_010E")
    ]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda plan: read(spec, plan), plans))
    for plan, pixels in zip(plans, found, strict=True):
        assert np.array_equal(pixels, world.read_tile(2000, spec.grid.region_id(plan.slot.iy, plan.slot.ix)))
    assert max(held) == at_once * size
    assert site.count("GET", gdal=True) == 0


@pytest.mark.parametrize(("bound", "fetched"), [(-1, 0), (0, 1)], ids=["smaller", "equal"])
def test_tile_larger_than_the_bound_is_read_where_it_is(
    world: World, spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch, bound: int, fetched: int
) -> None:
    href = site.put(PATH, plain_tile(world))
    monkeypatch.setenv("CUBEINGEST_SCRATCH_BYTES", str(len(site.files[PATH]) + bound))
    assert np.array_equal(read(spec, plan_of(spec, href)), world.read_tile(2000, HERE))
    assert (site.count("GET", gdal=False) > 0, site.count("GET", gdal=True) > 0) == (fetched, not fetched)


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_makes_tiles_be_read_where_they_are(
    world: World, spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, full)
    assert np.array_equal(read(spec, plan_of(spec, site.put(PATH, plain_tile(world)))), world.read_tile(2000, HERE))
    assert site.count("GET", gdal=True) > 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CUBEINGEST_SCRATCH", "/nowhere", "scratch folder '/nowhere' is not there"),
        ("CUBEINGEST_SCRATCH_BYTES", "4 GB", "CUBEINGEST_SCRATCH_BYTES is '4 GB': write a number of bytes"),
    ],
)
def test_unusable_scratch_is_said(
    world: World, spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(TileError, match=message):
        read(spec, plan_of(spec, site.put(PATH, plain_tile(world))))


def test_scratch_that_may_not_be_written_is_said(
    world: World, spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(
        TileError, match=r"scratch folder '.*' cannot be written \(CUBEINGEST_SCRATCH\): Permission denied"
    ):
        read(spec, plan_of(spec, site.put(PATH, plain_tile(world))))


KILLED = """
import sys, threading
from cubeingest.remote import NOWHERE, fetched, scratch, source_id
scratch.OPEN_FILES = sys.argv[2]
with fetched({sys.argv[1]: source_id(sys.argv[1])}, NOWHERE, threading.Event()):
    pass
"""


@pytest.mark.parametrize("named", [False, True])
def test_killed_process_leaves_no_copy_that_lasts(
    world: World, spec: CubeSpec, site: Site, scratch_folder: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """Where open files have no names of their own, the next process removes what a killed one left."""
    if named:
        monkeypatch.setattr(scratch, "OPEN_FILES", "/nowhere")
    href = site.put(PATH, plain_tile(world))
    site.tricks[PATH] = lambda handler, asked: asked.method == "GET" and handler.hang()
    process = subprocess.Popen([sys.executable, "-c", KILLED, href, scratch.OPEN_FILES])
    try:
        wait_until(lambda: site.count("GET") > 0)
        theirs = list(scratch_folder.iterdir())
        assert len(theirs) == named
        site.tricks.clear()
        read(spec, plan_of(spec, href))
        assert list(scratch_folder.iterdir()) == theirs
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert np.array_equal(read(spec, plan_of(spec, href)), world.read_tile(2000, HERE))


def test_slot_of_many_tiles_fetches_what_fits_and_never_waits_for_itself(
    world: World, spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that each held one copy and waited for room for the next would wait for ever."""
    content = plain_tile(world)
    monkeypatch.setenv("CUBEINGEST_SCRATCH_BYTES", str(3 * len(content)))
    site.latency = 0.005
    hrefs = [site.put(f"/t/{n}.tif", content) for n in range(4)]
    with ThreadPoolExecutor(3) as pool:
        for pixels in pool.map(lambda _: read(spec, plan_of(spec, *hrefs)), range(3)):
            assert np.array_equal(pixels, world.read_tile(2000, HERE))
    assert site.count("GET", "/t/0.tif", gdal=False) == 3 * N_RANGES
    assert site.count("GET", "/t/3.tif", gdal=False) == 0
