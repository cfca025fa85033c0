"""Tiles as one raster: a VRT for each variable and set of axis values, or an index of them for GDAL's GTI driver."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import struct
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from cubeingest.grid import TilingGrid

GDAL_TYPES = {
    "bool": "Byte", "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "uint64": "UInt64", "int64": "Int64", "float16": "Float16", "float32": "Float32", "float64": "Float64",
}  # fmt: skip

VRT, GTI = ".vrt", ".gti.gpkg"
"""What the names of mosaics end with; the second is what GDAL knows an index by."""

LAYER = "tiles"

MARK = "cubeingest export of "
"""By which our own mosaics are known, followed by the cube's id."""

_OWN_SRS = 100_000
"""Number that an index calls the grid's CRS by, if EPSG has none for it, whose own are lower."""


@dataclass(frozen=True)
class MosaicTile:
    """One tile of a mosaic: its file relative to the mosaic's folder, region id, (y, x) pixels in the grid, and bounds."""

    name: str
    region: str
    window: tuple[slice, slice]
    bounds: tuple[float, float, float, float]


@dataclass(frozen=True)
class Mosaic:
    """Tiles of one variable at one set of axis values (labels by axis), and what their band is. ``background`` is what pixels of no tile are where
    there is no nodata, if not 0.
    """

    variable: str
    labels: Mapping[str, str]
    dtype: str
    nodata: float | int | None
    block_shape_yx: tuple[int, int]
    colours: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    scale: float = 1.0
    offset: float = 0.0
    units: str = ""
    background: int | None = None
    tiles: tuple[MosaicTile, ...] = ()

    @property
    def name(self) -> str:
        """``cover_2000``: of its files, without suffix."""
        return re.sub(r"[^\w.+-]", "_", "_".join([self.variable, *self.labels.values()]))

    @property
    def what(self) -> str:
        """``cover year=2000``."""
        return " ".join([self.variable, *(f"{axis}={label}" for axis, label in self.labels.items())])

    def mark(self, cube: str) -> str:
        """What its files say of themselves."""
        return f"{MARK}{cube}:{hashlib.blake2b(self.what.encode(), digest_size=6).hexdigest()}"


def is_ours(content: bytes, cube: str) -> bool:
    """Whether a mosaic's or index' content is of this cube."""
    return f"{MARK}{cube}".encode() in content


def is_of(content: bytes, mosaic: Mosaic, cube: str) -> bool:
    """Whether content that is ours is of this mosaic. Earlier versions did not say of which it is."""
    return mosaic.mark(cube).encode() in content or f"{MARK}{cube}:".encode() not in content


def vrt_of(mosaic: Mosaic, grid: TilingGrid, wkt: str, cube: str) -> str:
    """A VRT of the whole grid: its pixel [0, 0] is the cube's."""
    ny, nx = grid.shape_yx
    a = grid.affine()
    kind = GDAL_TYPES[mosaic.dtype]
    band = [
        f'  <VRTRasterBand dataType="{kind}" band="1">',
        f"    <ColorInterp>{'Palette' if mosaic.colours else 'Gray'}</ColorInterp>",
    ]
    if mosaic.nodata is not None:
        band.append(f"    <NoDataValue>{mosaic.nodata!r}</NoDataValue>")
    elif mosaic.background is not None:
        band += [f"    <NoDataValue>{mosaic.background}</NoDataValue>", "    <HideNoDataValue>1</HideNoDataValue>"]
    if (mosaic.scale, mosaic.offset) != (1, 0):
        band += [f"    <Offset>{mosaic.offset!r}</Offset>", f"    <Scale>{mosaic.scale!r}</Scale>"]
    if mosaic.units:
        band.append(f"    <UnitType>{escape(mosaic.units)}</UnitType>")
    if mosaic.colours:
        entries = (mosaic.colours.get(i, (0, 0, 0)) for i in range(max(mosaic.colours) + 1))
        band += ["    <ColorTable>", *(f'      <Entry c1="{r}" c2="{g}" c3="{b}" c4="255"/>' for r, g, b in entries), "    </ColorTable>"]  # fmt: skip
    for tile in mosaic.tiles:
        (y, x), (by, bx) = tile.window, mosaic.block_shape_yx
        width, height = x.stop - x.start, y.stop - y.start
        band += [
            "    <SimpleSource>",
            f'      <SourceFilename relativeToVRT="1">{escape(tile.name)}</SourceFilename>',
            "      <SourceBand>1</SourceBand>",
            f'      <SourceProperties RasterXSize="{width}" RasterYSize="{height}" DataType="{kind}" BlockXSize="{bx}" BlockYSize="{by}"/>',
            f'      <SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>',
            f'      <DstRect xOff="{x.start}" yOff="{y.start}" xSize="{width}" ySize="{height}"/>',
            "    </SimpleSource>",
        ]
    transform = ", ".join(map(repr, (a.c, a.a, a.b, a.f, a.d, a.e)))
    return "\n".join([
        f'<VRTDataset rasterXSize="{nx}" rasterYSize="{ny}">',
        f'  <SRS dataAxisToSRSAxisMapping="{_axis_order(wkt)}">{escape(wkt)}</SRS>',
        f"  <GeoTransform>{transform}</GeoTransform>",
        f"  <Metadata><MDI key=\"CUBEINGEST\">{mosaic.mark(cube)}</MDI></Metadata>",
        *band, "  </VRTRasterBand>", "</VRTDataset>", "",
    ])  # fmt: skip


def _axis_order(wkt: str) -> str:
    """In which order the CRS has the axes that data has as x, y."""
    from pyproj import CRS

    directions = [axis.direction for axis in CRS.from_wkt(wkt).axis_info[:2]]
    return "2,1" if directions and directions[0] in ("north", "south") else "1,2"


# ---- the index: a GeoPackage, https://www.geopackage.org/spec131/ ----------------------------------------------

_TABLES = """
PRAGMA application_id = 1196444487;
PRAGMA user_version = 10300;
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE, description TEXT DEFAULT '',
  last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE,
  srs_id INTEGER);
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL,
  srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL, PRIMARY KEY (table_name, column_name));
CREATE TABLE gpkg_metadata (id INTEGER PRIMARY KEY NOT NULL, md_scope TEXT NOT NULL DEFAULT 'dataset', md_standard_uri TEXT NOT NULL,
  mime_type TEXT NOT NULL DEFAULT 'text/xml', metadata TEXT NOT NULL DEFAULT '');
CREATE TABLE gpkg_metadata_reference (reference_scope TEXT NOT NULL, table_name TEXT, column_name TEXT, row_id_value INTEGER,
  timestamp DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), md_file_id INTEGER NOT NULL, md_parent_id INTEGER);
CREATE TABLE gpkg_extensions (table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL, definition TEXT NOT NULL, scope TEXT NOT NULL);
CREATE TABLE tiles (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom POLYGON, location TEXT, region TEXT, variable TEXT, axes TEXT);
"""


def gti_of(mosaic: Mosaic, grid: TilingGrid, wkt: str, cube: str) -> bytes:
    """A GeoPackage of the tiles as polygons with ``location``, ``region``, ``variable`` and ``axes`` (``year=2000``), and what GDAL needs to know
    to open it as the raster of the whole grid. Its rows run from north to south, also where the grid's do not.
    """
    from pyproj import CRS

    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_TABLES)
        rows = [
            (-1, "Undefined Cartesian", "NONE", -1, "undefined"), (0, "Undefined geographic", "NONE", 0, "undefined"),
            (4326, "WGS 84", "EPSG", 4326, _wkt1("EPSG:4326")),
        ]  # fmt: skip
        authority = CRS.from_wkt(wkt).to_authority(min_confidence=100) or ("NONE", str(_OWN_SRS))
        own = int(authority[1]) if authority[0] == "EPSG" and authority[1].isdecimal() else _OWN_SRS
        if own != 4326:
            rows.append((own, "grid of the cube", "EPSG" if own != _OWN_SRS else "NONE", own, _wkt1(wkt)))
        db.executemany(
            "INSERT INTO gpkg_spatial_ref_sys (srs_id, srs_name, organization, organization_coordsys_id, definition) VALUES (?, ?, ?, ?, ?)",
            rows,
        )
        db.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, min_x, min_y, max_x, max_y, srs_id) "
            "VALUES (?, 'features', ?, ?, ?, ?, ?, ?, ?)",
            (LAYER, LAYER, mosaic.mark(cube), *grid.bounds(), own),
        )
        db.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'POLYGON', ?, 0, 0)", (LAYER, own))
        db.executemany("INSERT INTO gpkg_extensions VALUES (?, NULL, 'gpkg_metadata', 'http://www.geopackage.org/spec131/#extension_metadata', 'read-write')",
                       [("gpkg_metadata",), ("gpkg_metadata_reference",)])  # fmt: skip
        db.execute(
            "INSERT INTO gpkg_metadata VALUES (1, 'dataset', 'http://gdal.org', 'text/xml', ?)", (_items(mosaic, grid),)
        )
        db.execute(
            "INSERT INTO gpkg_metadata_reference (reference_scope, table_name, md_file_id) VALUES ('table', ?, 1)",
            (LAYER,),
        )
        axes = " ".join(f"{k}={v}" for k, v in mosaic.labels.items())
        db.executemany(
            "INSERT INTO tiles (geom, location, region, variable, axes) VALUES (?, ?, ?, ?, ?)",
            ((_polygon(t.bounds, own), t.name, t.region, mosaic.variable, axes) for t in mosaic.tiles),
        )
        db.commit()
        content: bytes = db.serialize()
        return content


def _items(mosaic: Mosaic, grid: TilingGrid) -> str:
    """The layer's metadata that GDAL's GTI driver reads."""
    (left, bottom, right, top), a = grid.bounds(), grid.affine()
    items: dict[str, object] = {
        "RESX": a.a, "RESY": abs(a.e), "MINX": left, "MINY": bottom, "MAXX": right, "MAXY": top, "BAND_COUNT": 1,
        "DATA_TYPE": GDAL_TYPES[mosaic.dtype], "COLOR_INTERPRETATION": "Palette" if mosaic.colours else "Gray",
    }  # fmt: skip
    if mosaic.nodata is not None:
        items["NODATA"] = mosaic.nodata
    if (mosaic.scale, mosaic.offset) != (1, 0):
        items |= {"BAND_1_SCALE": mosaic.scale, "BAND_1_OFFSET": mosaic.offset}
    if mosaic.units:
        items["BAND_1_UNITTYPE"] = mosaic.units
    texts = "".join(
        f'<MDI key="{key}">{escape(v if isinstance(v, str) else repr(v))}</MDI>' for key, v in items.items()
    )
    return f"<GDALMultiDomainMetadata><Metadata>{texts}</Metadata></GDALMultiDomainMetadata>"


def _polygon(bounds: tuple[float, float, float, float], srs: int) -> bytes:
    """A rectangle as GeoPackage's binary: its header with the envelope, and WKB."""
    left, bottom, right, top = bounds
    ring = (left, bottom, right, bottom, right, top, left, top, left, bottom)
    return struct.pack("<2sBBi4d", b"GP", 0, 3, srs, left, right, bottom, top) + struct.pack(
        "<BIII10d", 1, 3, 1, 5, *ring
    )


def _wkt1(crs: str) -> str:
    """As GeoPackages have it; WKT 2 where a CRS has no other."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(crs).to_wkt("WKT1_GDAL")
    except CRSError:
        return CRS.from_user_input(crs).to_wkt()
