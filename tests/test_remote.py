"""Tiles in object stores and on web servers: named, read right, and nothing said that is secret."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cubeingest as ci
from cubeingest.catalog import read_catalog
from cubeingest.errors import CatalogError, CubeIngestError, TileError
from cubeingest.remote import SourceId, addresses, expand_glob, source_id
from cubeingest.spec import CubeSpec, Source, read_spec
from cubeingest.storage import Storage
from cubeingest.tile import read_header
from tests.conftest import CORNERS, Ran, World
from tests.objectstore import KEYS, Bucket
from tests.website import HERE, PATH, Asked, Handler, Site, plain_tile, plan_of, read, scratch_folder, site, spec

__all__ = ["scratch_folder", "site", "spec"]

# ---- object stores --------------------------------------------------------------------------------------------


def put_world(world: World, bucket: Bucket) -> None:
    """The world's tiles in a bucket, and a list, a table and a parquet of them."""
    rows = []
    for path in sorted((world.folder / "tiles").glob("*/*.tif")):
        href = bucket.put(f"tiles/{path.parent.name}/{path.name}", path)
        rows.append({"href": href, "year": int(path.parent.name), "region": path.stem})
    for year in (2000, 2005):
        bucket.put(f"tiles/{year}.txt", (world.folder / f"tiles/{year}.txt"))
    table = pd.DataFrame(rows)
    bucket.put("tiles.csv", table.to_csv(index=False).encode())
    bucket.put("tiles.csv.gz", table.to_csv(index=False, compression=None).encode())
    table.to_parquet(world.folder / "tiles.parquet")
    bucket.put("tiles.parquet", world.folder / "tiles.parquet")


KINDS = {"list": "tiles/{year}.txt", "glob": "tiles/{year}/*.tif", "table": "tiles.csv", "parquet": "tiles.parquet"}
LISTED = ('{list: "tiles/{year}.txt"}', "{{{}: '{}'}}")


def s3_spec(world: World, bucket: Bucket, kind: str, more: str = "") -> CubeSpec:
    """The spec with all that it names in the bucket; ``more`` goes into its source."""
    tiles = LISTED[1].format(kind.replace("parquet", "table"), bucket.uri(KINDS[kind]))
    href = f"href: {bucket.uri('tiles/{year}/{id}.tif')}"
    return read_spec(world.write_spec(("href: tiles/{year}/{id}.tif", href), (LISTED[0], tiles + more)))


@pytest.mark.parametrize("kind", KINDS)
def test_catalogs_in_s3_name_the_tiles_there(world: World, bucket: Bucket, kind: str) -> None:
    local = read_catalog(read_spec(world.spec_file)).rows["cover"]
    put_world(world, bucket)
    rows = read_catalog(s3_spec(world, bucket, kind)).rows["cover"]
    assert [(r.position, r.iy, r.ix) for r in rows] == [(r.position, r.iy, r.ix) for r in local]
    assert {r.href for r in rows} == {bucket.uri(k) for k in bucket.keys("tiles/") if k.endswith(".tif")}


def test_cube_is_filled_from_s3_by_the_environment(
    world: World, bucket: Bucket, invoke: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "NO")
    put_world(world, bucket)
    s3_spec(world, bucket, "list")
    assert invoke("init", "grid.yaml").code == 0
    assert invoke("plan", "--json").json["problems"] == []
    ran = invoke("ingest", "--json")
    assert (ran.code, ran.json["written"], ran.json["failed"]) == (0, 7, [])
    cover = ci.open(world.store).dataset()["cover"]
    for year in (2000, 2005):
        for path in (world.folder / "tiles" / str(year)).glob("*.tif"):
            left, top = CORNERS[path.stem]
            own = world.read_tile(year, path.stem)
            y, x = (20 - top) * 10, left * 10
            assert np.array_equal(cover.sel(year=year).values[y : y + own.shape[0], x : x + own.shape[1]], own)
    assert invoke("ingest", "--json").json["skipped"] == 7
    assert invoke("verify", "--json").json["equal"] == 7


@pytest.mark.parametrize("kind", KINDS)
def test_spec_says_how_the_store_is_reached(
    world: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Nothing in the environment but credentials; headers are read in place, pixels are fetched or read in place."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_REGION")
    put_world(world, bucket)
    spec = s3_spec(world, bucket, kind, f"\n      storage: {{endpoint: '{bucket.endpoint}', region: us-east-1}}")
    (cover,) = spec.variables
    assert isinstance(cover.source, Source)
    row = read_catalog(spec).rows["cover"][0]
    region = spec.grid.region_id(row.iy, row.ix)
    assert read_header(row.href, cover.source.storage).shape_yx == (100, 100)
    plan = plan_of(spec, row.href, region=region)
    own = world.read_tile(2000, region)
    assert np.array_equal(read(spec, plan, cover.source.storage), own)
    monkeypatch.setenv("CUBEINGEST_SCRATCH_BYTES", "0")
    assert np.array_equal(read(spec, plan, cover.source.storage), own)


def test_headers_in_s3_say_where_tiles_lie(world: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    put_world(world, bucket)
    tiles = LISTED[1].format("glob", bucket.uri(KINDS["glob"])) + f"\n      storage: {{endpoint: '{bucket.endpoint}'}}"
    spec = read_spec(world.write_spec(("href: tiles/{year}/{id}.tif\n      ", ""), (LISTED[0], tiles)))
    catalog = read_catalog(spec)
    assert catalog.misplaced == ()
    for row in catalog.rows["cover"]:
        assert row.href.endswith(f"/{spec.grid.region_id(row.iy, row.ix)}.tif")
    assert len(catalog.rows["cover"]) == 7


@pytest.mark.parametrize("bound", ["0", "1000000"])
@pytest.mark.parametrize("anonymous", [True, False])
def test_requests_are_signed_unless_they_are_anonymous(
    world: World, spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch, anonymous: bool, bound: str
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")  # boto3 would take it
    monkeypatch.setenv("CUBEINGEST_SCRATCH_BYTES", bound)
    site.put(f"/bucket/{HERE}.tif", plain_tile(world))
    storage = Storage(site.url, "eu-north-1", anonymous)
    pixels = read(spec, plan_of(spec, f"s3://bucket/{HERE}.tif"), storage)
    assert np.array_equal(pixels, world.read_tile(2000, HERE))
    assert {"/eu-north-1/" in a.headers.get("Authorization", "") for a in site.asked} == {not anonymous}
    assert {"Authorization" in a.headers for a in site.asked} == {not anonymous}
    assert any(a.is_gdal for a in site.asked) == (bound == "0")


def test_missing_credentials_are_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(TileError, match=r"no credentials: .* storage: \{anonymous: true\} for public data"):
        source_id("s3://bucket/a.tif", Storage(site.url))


def test_s3_without_the_object_or_its_bucket_is_a_missing_tile(bucket: Bucket, world: World) -> None:
    for href in (bucket.uri("a.tif"), "s3://no-such-bucket/a.tif"):
        with pytest.raises(FileNotFoundError):
            source_id(href)
    with pytest.raises(CatalogError, match=r"glob 's3://no-such-bucket/tiles/2000/.*' is not there"):
        read_catalog(s3_spec(world, replace(bucket, name="no-such-bucket"), "glob"), {"year": [0]})


def test_gdal_reads_s3_without_boto3(bucket: Bucket, world: World) -> None:
    """It comes with the tests' server, and rasterio takes credentials and region from it where it is installed."""
    href = bucket.put("a.tif", plain_tile(world))
    code = f"import sys; sys.modules['boto3'] = None\nfrom cubeingest.tile import read_header\nprint(read_header({href!r}).shape_yx)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(100, 100)\n"


@pytest.mark.parametrize("pattern", ["/t/2000/*.tif", "/t/*/20N_000E.tif", "/t/2000/20N_000E.tif"])
def test_http_folder_that_is_refused_is_no_empty_glob(world: World, site: Site, pattern: str) -> None:
    site.put("/t/", b'<a href="2000/">2000</a>')
    site.tricks |= dict.fromkeys(("/t/2000/", "/t/2000/20N_000E.tif"), TROUBLES["403"])
    world.write_spec((LISTED[0], LISTED[1].format("glob", site.url + pattern)))
    with pytest.raises(CatalogError, match=r"cannot read glob '.*/t/.*': HTTP status 403"):
        read_catalog(read_spec(world.spec_file), {"year": [0]})


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("/t/2000/*.tif", ["a.tif", "b.tif"]),
        ("/t/2*/[ab].tif", ["a.tif", "b.tif"]),
        ("/*/*/*.t[ix]*", ["a.tif", "b.tif", "tiles.txt"]),
        ("/t/*/a.tif?key=1", ["a.tif?key=1"]),
        ("/t/*/gone.tif", []),
        ("/t/1999/*.tif", []),
    ],
)
def test_http_folders_name_their_files(site: Site, pattern: str, names: list[str]) -> None:
    """Links to elsewhere and up are not followed; a folder that is not there is an empty one."""
    up = '<a href="../">..</a> <a href="/elsewhere/c.tif">another</a> <a href="/t/2000/">itself</a> '
    site.put("/", b'<a href="t/">t</a>')
    site.put("/t/", f'{up} <a href="2000/">2000</a> <a href="d.tif">not in a folder</a>'.encode())
    site.put("/t/2000/", (up + "".join(f'<a href="{n}">{n}</a>' for n in ("b.tif", "a.tif", "tiles.txt"))).encode())
    site.put("/t/2000/a.tif", b"a tile")
    assert expand_glob(site.url + pattern) == [f"{site.url}/t/2000/{n}" for n in names]


# ---- what is never said, and what is never opened -------------------------------------------------------------


def s3_answer(handler: Handler, asked: Asked) -> bool:
    """A server that tells everybody what it was told."""
    words = " ".join([*KEYS.values(), handler.headers.get("Authorization", "")])
    handler.refuse(403, f"<Error><Code>AccessDenied</Code><Message>you sent {words}</Message></Error>".encode())
    return True


def callers(spec: CubeSpec, href: str, storage: Storage) -> dict[str, Callable[[], object]]:
    """All that can be done with an href."""

    def catalog(kind: str) -> Callable[[], object]:
        (cover,) = spec.variables
        assert cover.source is not None
        kind, _, name = kind.partition(" ")
        tiles = kind, href.replace(HERE, name or HERE)
        source = replace(cover.source, tiles=tiles, storage=storage)  # type: ignore[arg-type]
        return lambda: read_catalog(replace(spec, variables=(replace(cover, source=source),)), {"year": [0]})

    known = (SourceId(href.partition("?")[0], 100_000, ""),)
    return {
        "ask": lambda: source_id(href, storage),
        "header": lambda: read_header(href, storage),
        "read": lambda: read(spec, plan_of(spec, href), storage),
        "fetch": lambda: read(spec, plan_of(spec, href), storage, sources=known),
        **{kind: catalog(kind) for kind in ("list", "table", "glob", "glob *")},
    }


TROUBLES: dict[str, Callable[[Handler, Asked], bool]] = {
    "401": lambda handler, _: not handler.refuse(401),
    "403": lambda handler, _: not handler.refuse(403),
    "500": lambda handler, _: not handler.refuse(500),
    "hangs": lambda handler, asked: handler.hang(),
    "cuts": lambda handler, asked: not handler.send(b"II*" * 40_000, asked.part, cut=100),
    "no raster": lambda handler, asked: not handler.send(b"x" * 100_000, asked.part),
}
SECRETS = ("hunter2", "deadbeef", *KEYS.values())


def check_silence(
    spec: CubeSpec, href: str, storage: Storage, told: Collection[str] = (), well: Collection[str] = ()
) -> None:
    """All but ``well`` fail, soon, in words; and neither they nor a traceback hold a secret that nobody was ``told``."""
    for name, call in callers(spec, href, storage).items():
        if name in well:
            continue
        started = time.monotonic()
        with pytest.raises(CubeIngestError) as caught:
            call()
        assert time.monotonic() - started < 8
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 1000
        text = "".join(traceback.format_exception(caught.value))
        assert not [s for s in SECRETS if s in text and s not in told], f"{name}: {text}"


@pytest.mark.parametrize("name", TROUBLES)
def test_messages_hold_no_secrets_of_web_addresses(
    spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(addresses, "SILENCE_SECONDS", 0.1)
    monkeypatch.setitem(addresses.REMOTE_OPTIONS, "GDAL_HTTP_TIMEOUT", 1)
    monkeypatch.setitem(addresses.REMOTE_OPTIONS, "GDAL_HTTP_MAX_RETRY", 0)
    site.tricks |= {PATH: TROUBLES[name], "/t/": TROUBLES[name]}
    host = site.url.removeprefix("http://")
    href = f"http://bob:hunter2@{host}{PATH}?X-Amz-Signature=deadbeef"
    well = {"cuts": ("ask", "glob"), "no raster": ("ask", "glob", "glob *")}.get(name, ())
    check_silence(spec, href, Storage(), well=well)
    assert not [s for s in SECRETS if s in caplog.text]


@pytest.mark.parametrize("ask", [source_id, read_header])
@pytest.mark.parametrize("host", ["127.0.0.1:{}", "nowhere.invalid"])
def test_messages_of_servers_that_are_not_there_hold_no_secrets(
    caplog: pytest.LogCaptureFixture, host: str, ask: Callable[[str], object]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = host.format(taken.getsockname()[1])
    href = f"http://bob:hunter2@{host}{PATH}?X-Amz-Signature=deadbeef"
    with pytest.raises(TileError, match=f"'http://{host}{PATH}'") as caught:
        ask(href)
    text = caplog.text + "".join(traceback.format_exception(caught.value))
    assert not [s for s in SECRETS if s in text]


def test_messages_hold_no_secrets_that_a_server_sends_back(
    spec: CubeSpec, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    site.tricks |= {f"/bucket{PATH}": s3_answer, "/bucket": s3_answer, "/bucket/": s3_answer}
    check_silence(spec, f"s3://bucket{PATH}", Storage(site.url), told=[KEYS["AWS_REGION"]])
    assert any("Authorization" in a.headers for a in site.asked if a.is_gdal)
    with pytest.raises(TileError, match=r"cannot reach 's3://bucket/t/.*': HTTP status 403"):
        source_id(f"s3://bucket{PATH}", Storage(site.url))


HOSTILE = [
    "simplecache::{url}/a.tif",
    "zip://a.tif::{url}/a.zip",
    "github://owner:repo@main/a.tif",
    "ftp://{host}/a.tif",
    "zip+{url}/a.zip!a.tif",
    "/vsicurl/{url}/a.tif",
    "/vsizip//vsicurl/{url}/a.zip/a.tif",
    "/vsizip/{folder}/a.zip/a.tif",
    "/./vsistdin/",
    "file:///vsicurl_streaming/{url}/a.tif",
    "vrt://{url}/a.tif?bands=1",
    "<VRTDataset><SourceFilename>{url}/a.tif</SourceFilename></VRTDataset>",
    "WMS:{url}/wms?bob:hunter2@",
    "/a/<VRTDataset><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>",
    "{url}/<VRTDataset>/etc/passwd</VRTDataset>",
    "javascript:alert(1)//://",
]


@pytest.mark.parametrize("column", ["region", "comment"])
def test_hrefs_that_are_no_files_and_no_objects_are_never_opened(
    world: World, site: Site, invoke: Callable[..., Ran], column: str
) -> None:
    """A table needs no pattern, so its hrefs are whatever somebody wrote. Without regions, headers say where tiles lie."""
    places = itertools.cycle(itertools.product((2000, 2005), CORNERS))
    rows = []
    for pattern in HOSTILE[: 12 if column == "region" else None]:
        year, region = next(places)
        href = pattern.format(url=site.url, host=site.url.removeprefix("http://"), folder=world.folder)
        rows.append({"href": href, "year": year, column: region})
    pd.DataFrame(rows).to_csv(world.folder / "t.csv", index=False)
    world.write_spec(("href: tiles/{year}/{id}.tif\n      ", ""), (LISTED[0], "{table: t.csv}"))
    assert invoke("init", "grid.yaml").code == 0
    problems = invoke("plan", "--json").json["problems"]
    failed = invoke("ingest", "--json").json["failed"]
    assert len(problems) == len(failed) == len(rows)
    for message in (*(p["message"] for p in problems), *(f["error"] for f in failed)):
        assert "is not opened: write a path or an href with a known scheme" in message
        assert "hunter2" not in message
    assert site.asked == []


@pytest.mark.parametrize("href", ["NETCDF:{}/a.nc:v", "GTIFF_DIR:1:{}/tiles/2000/20N_000E.tif", "a::b.tif"])
def test_what_gdal_takes_for_syntax_is_a_file_name_here(world: World, href: str) -> None:
    href = href.format(world.folder)
    with pytest.raises(FileNotFoundError):
        source_id(href)
    with pytest.raises(TileError, match="is not there"):
        read_header(href)


def test_python_in_a_raster_is_not_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    under = world.add_tile(2000, HERE)
    (world.folder / "a.tif").write_text(
        '<VRTDataset rasterXSize="100" rasterYSize="100"><SRS>EPSG:4326</SRS>'
        "<GeoTransform>0, 0.1, 0, 20, 0, -0.1</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTDerivedRasterBand">'
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode><![CDATA[\nopen('{world.folder}/was-run', 'w')\ndef f(*args, **kwargs):\n    pass\n]]></PixelFunctionCode>"
        f"<SimpleSource><SourceFilename>{under}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    spec = read_spec(world.spec_file)
    with pytest.raises(TileError, match="cannot be read"):
        read(spec, plan_of(spec, str(world.folder / "a.tif")))
    assert not (world.folder / "was-run").exists()
