"""The Python API: a cube, and what can be done with it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cubeingest.analyze import (
    DEFAULT_STATISTICS,
    Features,
    IntoReport,
    ReduceReport,
    Series,
    TransitionReport,
    ZonalReport,
    count_transitions,
    find_reduction,
    read_points,
    read_series,
    read_zones,
    reduce_into,
    reduce_to_file,
    zonal,
)
from cubeingest.axes import AxisValue, axis_label
from cubeingest.branches import Published, discard_branch, make_tag, publish, start_branch
from cubeingest.changes import SlotChange, read_changes
from cubeingest.check import CheckReport, check
from cubeingest.contents import Contents, read_contents
from cubeingest.cost import Cost, Link, read_cost
from cubeingest.create import Created, init_cube
from cubeingest.engine import Options, Progress, how_of
from cubeingest.errors import GridError
from cubeingest.export import ExportReport, export
from cubeingest.extend import Extended, extend
from cubeingest.garbage import GcReport, collect_garbage
from cubeingest.grid import Grid
from cubeingest.ingest import MATERIALIZED, IngestReport, SourceFunction, ingest
from cubeingest.look import describe_cube, show_cube_grid, show_diff, show_map, show_status
from cubeingest.overviews import OverviewReport, levels_of, make_overviews
from cubeingest.page import check_place, ingest_with_page, write_report
from cubeingest.preflight import PlanReport, preflight
from cubeingest.rechunk import RechunkReport, rechunk
from cubeingest.selection import Selection, list_regions, read_labels, read_shape, several
from cubeingest.spec import CubeSpec, read_spec
from cubeingest.status import Status, read_status
from cubeingest.store import MAIN, Commit, Store, normalize_uri, open_store, read_history, resolve_ref
from cubeingest.verify import VerifyReport, verify
from cubeingest.view import Viewer, start_viewer

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

OnProgress = Callable[[Progress], None]


def _silent(progress: Progress) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Cube:
    """A cube in its store.

    A selection is given by keyword, the same in every method: ``bbox=(west, south, east, north)`` in longitude and
    latitude, ``polygon`` (a shapely geometry, GeoJSON, or the path of a GeoJSON file, likewise), ``region`` (an id or several),
    ``variable`` (a name or several), ``limit``, ``part=(k, n)``, and any axis by its name: one value, several, or a range as text
    (``year=2000``, ``year=[2000, 2005]``, ``year="2000..2020"``).

    Every method raises :class:`GridError` for a selection that the cube does not have, and :class:`StoreError` if its store fails.
    Those that take ``workers`` run in so many processes here (by default one for every two cores), or on the running Dask cluster at
    the address ``scheduler``; ``on_progress`` is called with each result.
    """

    store: Store

    def __repr__(self) -> str:
        spec, store = self.spec, self.store
        sizes = dict(zip(spec.grid.spatial_dims, spec.grid.spatial_shape, strict=True)) | {
            a.name: a.size for a in spec.grid.axes
        }
        variables = ", ".join(f"{v.name} ({', '.join(f'{d}: {sizes[d]}' for d in v.dims)})" for v in spec.variables)
        ref = store.at or f"branch {store.branch!r}"
        return f"<Cube {spec.name!r} at {store.uri!r}, {ref}: {variables}>"

    @property
    def spec(self) -> CubeSpec:
        """What was declared, as the cube holds it."""
        return self.store.spec

    @property
    def grid(self) -> Grid:
        """Where pixels (or cells), chunks and regions lie: a :class:`TilingGrid` or a :class:`HealpixGrid`."""
        return self.store.spec.grid

    def on(self, branch: str) -> Cube:
        """The same cube on a branch that exists. Raises :class:`StoreError` if it does not."""
        return Cube(open_store(self.store.uri, branch))

    def at(self, ref: str) -> Cube:
        """The same cube as it was: at a tag, a snapshot's id, or a branch's tip. It can only be read.

        Raises :class:`StoreError` for what is none of them.
        """
        return Cube(self.store.on(self.store.branch, resolve_ref(self.store, ref)))

    def plan(
        self, *, redo: bool = False, headers: bool = True, workers: int | None = None, **selection: Any
    ) -> PlanReport:
        """What :meth:`ingest` would do, how long it would take, and what would go wrong, from headers. Writes nothing.

        Without ``headers`` no tile is opened.
        """
        return preflight(self.store, self.select(**selection), redo, headers, Options(workers))

    def ingest(
        self,
        *,
        source: SourceFunction | None = None,
        workers: int | None = None,
        scheduler: str | None = None,
        commit_every: int | None = None,
        on_error: Literal["keep", "abort"] = "keep",
        redo: bool = False,
        mode: Literal["cooperative", "independent"] = "cooperative",
        branch: str | None = None,
        virtual: bool = False,
        copy_blocks: bool = False,
        html: str | os.PathLike[str] | None = None,
        on_progress: OnProgress = _silent,
        **selection: Any,
    ) -> IngestReport:
        """Fill what is selected and not done yet.

        ``mode="cooperative"`` commits it all at once, or after every ``commit_every`` tasks; ``"independent"`` lets each
        worker commit whenever it has done so many (by default one). On another ``branch`` readers of main see nothing of
        it until it is published; the branch is made if there is none.

        A tile that fails is in the report's ``failed``; with ``on_error="abort"`` the first one ends the run and nothing
        more is committed. What is wrong before any work raises a :class:`CubeIngestError`.

        Where the blocks of the tiles are chunks as they lie (:meth:`plan` says), ``virtual`` writes references to them, and
        ``copy_blocks`` copies their bytes; a tile whose blocks are not is a failure, with the reason. See :meth:`materialize`.

        With ``html`` a page of the cube (:meth:`report`) is kept current in that file during the run: what is done, what failed, how long it will
        take. If it cannot be written in the end, a warning says so; the ingest goes on all the same.

        With a ``source``, a function ``f(geobox, **axes)``, regions are filled by what it returns instead of from tiles:
        the variables that are named, else those that have no source in the spec, else all. It is called once for each
        region and set of axis values (``geobox`` is :meth:`TilingGrid.geobox`; values are int, float, str or datetime), and returns
        a numpy array or DataArray of shape (y, x), for several variables a Dataset or a dict of them by name, or None
        where there is nothing. What does not fit, or what it raises, fails that region only. A region's arrays are held
        whole. Slots that the same code filled are skipped: its text and what it captures count, not what it calls or reads
        (``redo=True``). Say ``workers=`` if it takes long: by default that is decided by the bytes to write. It reaches
        workers by value from a script or notebook, else by import; what it prints there is not shown.
        """
        options = Options(workers, scheduler, commit_every, on_error, redo, mode, how_of(virtual, copy_blocks))
        page = None if html is None else check_place(html)
        store = self.store if branch is None else start_branch(self.store, branch)
        selected = self.select(**selection)
        if page is None:
            report = ingest(store, selected, options, on_progress, source)
        else:
            report = ingest_with_page(store, selected, options, on_progress, source, page, warnings.warn)
        if virtual:  # opened anew, it may read what it refers to now
            object.__setattr__(self, "store", open_store(self.store.uri, self.store.branch))
        return report

    def materialize(
        self,
        *,
        workers: int | None = None,
        scheduler: str | None = None,
        commit_every: int | None = None,
        on_error: Literal["keep", "abort"] = "keep",
        mode: Literal["cooperative", "independent"] = "cooperative",
        on_progress: OnProgress = _silent,
        **selection: Any,
    ) -> IngestReport:
        """Make chunks of the cube's own of what is selected and refers to tiles (:meth:`ingest` with ``virtual``): the same bytes.

        A slot whose tiles are gone, or others by now, is in the report's ``failed``, and stays as it was.
        """
        options = Options(workers, scheduler, commit_every, on_error, mode=mode, how=MATERIALIZED)
        return ingest(self.store, self.select(**selection), options, on_progress)

    def extend(
        self,
        spec: str | os.PathLike[str] | CubeSpec | None = None,
        /,
        *,
        dry_run: bool = False,
        **axes: AxisValue | Iterable[AxisValue],
    ) -> Extended:
        """Let the cube grow: by values of axes (``year=2025``, ``year=[2025, 2030]``, ``year="2021..2025"``), or to a spec whose
        axes go on further or whose grid is larger. What is there is neither moved nor written again.

        This object is the longer cube afterwards; one that somebody else has opened before goes on as it was.
        Raises a :class:`CubeIngestError` if existing pixels would move or change, and while others write.
        """
        if (spec is None) == (not axes):
            raise GridError("say by what the cube is to grow: a longer spec, or values of axes, such as year=2025")
        longer = (
            read_labels(self.grid, axes) if spec is None else spec if isinstance(spec, CubeSpec) else read_spec(spec)
        )
        done = extend(self.store, longer, dry_run)
        object.__setattr__(self, "store", done.store)
        return done

    def overviews(
        self,
        *,
        levels: int | None = None,
        workers: int | None = None,
        scheduler: str | None = None,
        redo: bool = False,
        on_progress: OnProgress = _silent,
        **selection: Any,
    ) -> OverviewReport:
        """Make coarser levels of the cube, each of half the resolution of the one before, or what of them is missing or stale.

        ``levels`` is how many there are to be; by default as many as there are already, else until the longer side has no more than 1,024
        pixels, or a region is one HEALPix cell. They are made of what is selected, region by region, and what lies above that.
        """
        options = Options(workers, scheduler, redo=redo)
        return make_overviews(self.store, self.select(**selection), options, levels, on_progress)

    def export(
        self,
        output: str | os.PathLike[str],
        *,
        tile: tuple[int, int] | None = None,
        name: str | None = None,
        format: Literal["cog", "parquet"] = "cog",  # noqa: A002
        gti: bool = False,
        workers: int | None = None,
        scheduler: str | None = None,
        on_progress: OnProgress = _silent,
        **selection: Any,
    ) -> ExportReport:
        """Write what is selected as GeoTIFFs (COGs) below the folder ``output``, one a region, or of ``tile`` (y, x) pixels, with a VRT of them all;
        with ``gti`` also an index for GDAL's GTI driver. ``name`` is their pattern, by default ``{variable}/{year}/{id}.tif`` with the axes there are.

        ``format="parquet"`` writes a GeoParquet table a region instead: a row for each pixel (or HEALPix cell) that is not fill value in all variables.

        Regions that are empty, pending or absent have no file. Files that are there from the same pixels stay, as do those of others: where
        one of these has the name of a tile, nothing is written and :class:`StoreError` raised. See ``docs/export.md``.
        """
        options = Options(workers, scheduler)
        return export(
            self.store, self.select(**selection), options, output, tile=tile, name=name, format=format, gti=gti, on_progress=on_progress
        )  # fmt: skip

    def rechunk(
        self,
        variable: str,
        chunks: Mapping[str, int],
        to: str | os.PathLike[str],
        *,
        mode: Literal["cooperative", "independent"] = "cooperative",
        workers: int | None = None,
        scheduler: str | None = None,
        commit_every: int | None = None,
        redo: bool = False,
        on_progress: OnProgress = _silent,
        **selection: Any,
    ) -> RechunkReport:
        """Copy a variable, with ``chunks`` by dimension (``{"year": -1, "y": 250, "x": 250}``; -1: all of it; those not named stay), into a cube of its
        own at ``to``, which ``ci.open`` opens: for reading along an axis, for one. What is there from the same pixels stays; see ``docs/export.md``.

        Axis blocks grow with chunks, and a selection may cut none of them. Regions become smaller where one would weigh more than 128 MB.
        Slots of the copy are made when the cube holds all that they are made of.
        """
        options = Options(workers, scheduler, commit_every, redo=redo, mode=mode)
        return rechunk(self.store, variable, chunks, to, self.select(**selection), options, on_progress)

    def compute(
        self,
        method: str,
        /,
        over: str | Sequence[str],
        *,
        expr: str | None = None,
        output: str | os.PathLike[str] | None = None,
        into: str | None = None,
        workers: int | None = None,
        scheduler: str | None = None,
        redo: bool = False,
        on_progress: OnProgress = _silent,
        **selection: Any,
    ) -> ReduceReport | IntoReport:
        """``"mean"``, ``"median"``, ``"min"``, ``"max"``, ``"std"`` (ddof 0), ``"mode"`` or ``"count"`` over axes: of the selected variable, or of an
        expression over variables, or over labels of an axis such as ``band`` (``"(nir - red) / (nir + red)"``).

        The fill value and NaN are missing and take no part; all is float64 inside. The result goes to ``output``, a GeoTIFF or a picture (of HEALPix
        cells a table: ``.parquet``, ``.csv``, ``.json``), or ``into`` a variable of the cube, which is added to its spec and filled as :meth:`ingest` with a ``source`` does: it is resumed by
        the same call, from the snapshot that the first one read; with ``redo`` anew from now. See ``docs/analyze.md``.
        """
        if (output is None) == (into is None):
            raise GridError("say where the result goes: output= a file, or into= a variable of the cube")
        chosen = self.select(**selection)
        reduction = find_reduction(self.spec, chosen, method, (over,) if isinstance(over, str) else tuple(over), expr)
        options = Options(workers, scheduler, redo=redo)
        if output is not None:
            return reduce_to_file(self.store, chosen, reduction, Path(output), options, on_progress)
        assert into is not None
        report = reduce_into(self.store, chosen, reduction, into, options, on_progress)
        object.__setattr__(self, "store", open_store(self.store.uri, self.store.branch))  # with the variable
        return report

    def series(
        self,
        lon: float | Sequence[float] | str | os.PathLike[str],
        lat: float | Sequence[float] | None = None,
        /,
        *,
        expr: str | None = None,
        **selection: Any,
    ) -> Series:
        """Values over all axes at longitudes and latitudes, or at the points of a file (CSV, GeoJSON, GeoParquet, GeoPackage).

        Each chunk is read once. Points outside the cube have NaN, and ``warnings`` say so. ``rows()`` of the result is a table by columns.
        """
        chosen = self.select(**selection)
        if isinstance(lon, str | os.PathLike):
            return read_series(self.store, chosen, *read_points(Path(lon)), expression=expr)
        if lat is None:
            raise GridError("give longitudes and latitudes, or a file of points")
        x, y = ([v] if isinstance(v, int | float) else list(v) for v in (lon, lat))
        return read_series(self.store, chosen, x, y, expression=expr)

    def zonal(
        self,
        zones: str | os.PathLike[str] | Features,
        /,
        statistics: Sequence[str] = DEFAULT_STATISTICS,
        *,
        expr: str | None = None,
        by_class: bool = False,
        make_valid: bool = False,
        workers: int | None = None,
        scheduler: str | None = None,
        on_progress: OnProgress = _silent,
        **selection: Any,
    ) -> ZonalReport:
        """Statistics of zones at each set of axis values: polygons of a file (or :class:`~cubeingest.analyze.Features`), each pixel counting as far
        as it is covered; or the values of a variable of the cube, by its name, or of a raster on the cube's lattice.
        """
        which: str | Path | Features
        if isinstance(zones, Features) or zones in {v.name for v in self.spec.variables}:
            which = zones if isinstance(zones, Features) else str(zones)
        else:
            which = read_zones(Path(zones))
        options = Options(workers, scheduler)
        return zonal(
            self.store, self.select(**selection), which, statistics, expr, by_class, make_valid, options, on_progress
        )

    def transitions(
        self,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        /,
        *,
        workers: int | None = None,
        scheduler: str | None = None,
        on_progress: OnProgress = _silent,
        **selection: Any,
    ) -> TransitionReport:
        """Which class became which between two values of axes (``{"year": 2000}, {"year": 2020}``): pixels, and true areas in km²."""
        ends = [{a: axis_label(v) for a, v in end.items()} for end in (before, after)]
        return count_transitions(
            self.store, self.select(**selection), ends[0], ends[1], Options(workers, scheduler), on_progress
        )

    def status(self, **selection: Any) -> Status:
        """Slots done, empty, pending and absent; read from the cube alone."""
        return read_status(self.store, self.select(**selection))

    def chunks(self, **selection: Any) -> Contents:
        """What is stored: chunks there are of how many, bytes, sizes; from the chunk index. See ``docs/chunks.md``."""
        return read_contents(self.store, self.select(**selection))

    def cost(
        self,
        query: str,
        *,
        variable: str | Iterable[str] | None = None,
        latency: float = 50.0,
        bandwidth: float = 100.0,
        concurrency: int = 10,
        compare: str | Iterable[str] = (),
    ) -> Cost:
        """What a read would take: chunks, requests, bytes, and seconds by milliseconds a request, MB/s and requests at a time.

        A ``query`` is ``"pixel LON LAT"``, ``"map year=2000"``, ``"region W S E N"``, ``"region ID"``, ``"scan"`` or a slice such as
        ``"year=2000..2010 y=0:4000 x=100:300"``; see :mod:`cubeingest.cost.query`. ``compare`` are other shapes of chunks (``"year=5,y=400,x=400"``), of
        which estimates are made. Raises :class:`GridError` for what the cube does not have.
        """
        shapes = [compare] if isinstance(compare, str) else list(compare)
        return read_cost(
            self.store, query, Link(latency, bandwidth, concurrency), shapes, several("variable", variable)
        )

    def report(self, path: str | os.PathLike[str], /, **selection: Any) -> Path:
        """Write a page of what is selected: one HTML file that needs no network; where it is, absolute. See ``docs/report.md``.

        It has a map of the regions by state, their sources, checksums and commits, small pictures of the pixels where these are quick to
        read, and the history. Raises :class:`GridError` for a path that cannot be, :class:`StoreError` if the file cannot be written.
        """
        return write_report(self.store, self.select(**selection), path)

    def verify(
        self,
        *,
        sample: float = 1.0,
        workers: int | None = None,
        scheduler: str | None = None,
        on_progress: OnProgress = _silent,
        **selection: Any,
    ) -> VerifyReport:
        """Compare the cube with its sources, pixel for pixel, or a fraction ``sample`` (above 0, at most 1) of the windows."""
        return verify(self.store, self.select(**selection), Options(workers, scheduler), sample, on_progress)

    def history(self) -> list[Commit]:
        """Commits, newest first, as far back as they have not expired."""
        return read_history(self.store)

    def publish(
        self,
        branch: str,
        *,
        sample: float = 1.0,
        workers: int | None = None,
        scheduler: str | None = None,
        on_progress: OnProgress = _silent,
    ) -> Published:
        """Move main to ``branch``, once what differs there is verified and if main has not moved since it was made.

        Raises :class:`StoreError` if main has moved, or there is no such branch.
        """
        return publish(self.store, branch, Options(workers, scheduler), sample, on_progress)

    def discard(self, branch: str) -> str:
        """Give a branch up; the snapshot that it pointed to. Raises :class:`StoreError` if there is none, or it is main."""
        return discard_branch(self.store, branch)

    def tag(self, name: str, at: str | None = None) -> str:
        """Name a snapshot (by default the newest) for good; its id. Raises :class:`StoreError` if the name is taken."""
        return make_tag(self.store, name, at)

    def diff(self, older: str, newer: str = MAIN) -> list[SlotChange]:
        """Slots that differ between two tags, branches or snapshots. Raises :class:`StoreError` for what is none of them."""
        return read_changes(self.store, resolve_ref(self.store, older), resolve_ref(self.store, newer))

    def show_grid(self, **selection: Any) -> Axes:
        """Draw the regions on coastlines, with those that are selected highlighted. Returns matplotlib axes, in CRS units."""
        return show_cube_grid(self.store, self.select(**selection))

    def show_status(self, **selection: Any) -> Any:
        """Draw what is done, empty, pending and absent, a small map for each variable and axis value. Returns an object array (rows, columns) of
        matplotlib axes, None where there is none; ``axes[0, 0].figure`` is the picture.
        """
        return show_status(self.store, self.select(**selection))

    def show_map(self, variable: str | None = None, **selection: Any) -> Axes:
        """Draw pixels of a variable (the first by default) at one value of each axis (the first by default), within a ``bbox`` or regions;
        from overviews, if there are any. Colours and legend are by the variable's attributes. Returns matplotlib axes, in CRS units.
        """
        return show_map(self.store, self.select(variable=variable, **selection))[0]

    def show_diff(self, older: str, newer: str = MAIN) -> Any:
        """Draw in which slots two tags, branches or snapshots differ. Returns axes as :meth:`show_status` does."""
        return show_diff(self.store, older, newer)

    def view(self, *, host: str = "127.0.0.1", port: int = 0, browser: bool = False) -> Viewer:
        """Show the cube on a map in the browser, from a server in a thread of this process: its ``url`` is where, ``close()`` ends it. On a port that is
        free unless one is given. In a notebook it shows itself. See ``docs/view.md``.
        """
        return start_viewer(self.store, host, port, browser)

    def _repr_html_(self) -> str:
        """What the cube holds, how far it is, and a small map, for notebooks."""
        return describe_cube(self.store)

    def check(
        self,
        *,
        deep: bool = False,
        workers: int | None = None,
        scheduler: str | None = None,
        on_progress: OnProgress = _silent,
    ) -> CheckReport:
        """Whether the cube is sound: ledger, chunks, coordinates, spec, branches; ``deep`` reads all pixels."""
        return check(self.store, deep, Options(workers, scheduler), on_progress)

    def gc(
        self,
        *,
        older_than: timedelta = timedelta(days=1),
        expire: timedelta | None = None,
        keep: int | None = None,
        dry_run: bool = False,
    ) -> GcReport:
        """Remove what failed and killed runs left, if it is ``older_than`` that, and by request old snapshots; with ``dry_run`` only say so.

        ``expire`` lets the history forget snapshots older than that, ``keep`` all but the newest so many; what is tagged, and branches' tips,
        stay. Raises :class:`StoreError` while a run goes on, :class:`GridError` for a negative age or a ``keep`` below 1.
        """
        return collect_garbage(self.store, older_than, expire, keep, dry_run)

    def regions(self, **selection: Any) -> list[dict[str, Any]]:
        """``{"id", "bounds", "slices"}`` of each region selected: (left, bottom, right, top) in CRS units, [start, stop] by dimension."""
        return list_regions(self.spec, self.select(**selection))

    def dataset(self, snapshot: str | None = None, chunks: Any = None, level: int = 0) -> xr.Dataset:
        """The cube as an xarray Dataset, lazy; with ``chunks={}`` on Dask. At a snapshot or tag, or as it is now. ``level`` 1, 2, ... is one of
        its overviews. Raises :class:`GridError` if it does not have that.
        """
        import xarray as xr

        session = self.store.readonly(None if snapshot is None else resolve_ref(self.store, snapshot))
        group = None
        if level:
            there = {lv.number: lv for lv in levels_of(session, self.spec)}
            if level not in there:
                known = (
                    f"levels: {', '.join(map(str, there))}"
                    if there
                    else "it has none: `cubeingest overviews` makes them"
                )
                raise GridError(f"the cube has no level {level} ({known})")
            group = there[level].group
        ds: xr.Dataset = xr.open_zarr(
            session.store, group=group, consolidated=False, chunks=chunks, decode_coords="all", mask_and_scale=self.spec.cf_fill
        )  # fmt: skip
        return ds

    def select(
        self,
        *,
        bbox: tuple[float, float, float, float] | None = None,
        region: str | Iterable[str] | None = None,
        variable: str | Iterable[str] | None = None,
        limit: int | None = None,
        part: tuple[int, int] | None = None,
        polygon: Any = None,
        **axes: AxisValue | Iterable[AxisValue],
    ) -> Selection:
        """The :class:`Selection` of these keywords. Raises :class:`GridError` for an axis that the cube does not have."""
        texts = read_labels(self.grid, axes, "bbox", "polygon", "region", "variable", "limit", "part")
        shape = None if polygon is None else read_shape(polygon)
        return Selection(texts, bbox, several("region", region), several("variable", variable), limit, part, shape)


def init(
    spec: str | os.PathLike[str] | CubeSpec, store: str | os.PathLike[str] | None = None, update: bool = False
) -> Cube:
    """Create the cube that a spec (a YAML file, the name of one that comes with the package, or a value) declares.

    On a cube that exists already: the same spec changes nothing, another is refused; with ``update`` its sources,
    attributes and tiles are taken over.

    Raises :class:`SpecError` or :class:`StoreError`.
    """
    return Cube(created(spec, store, update).store)


def created(spec: str | os.PathLike[str] | CubeSpec, store: str | os.PathLike[str] | None, update: bool) -> Created:
    """As :func:`init`, and what it did."""
    value = spec if isinstance(spec, CubeSpec) else read_spec(spec)
    return init_cube(value, None if store is None else normalize_uri(store), update)


def open(  # noqa: A001
    store: str | os.PathLike[str], branch: str = MAIN, at: str | None = None
) -> Cube:
    """Open the cube at a path or URI, on a branch, or as it was at a tag or snapshot. Raises :class:`StoreError` if there is none."""
    return Cube(open_store(normalize_uri(store), branch, at))
