"""A reduction computed into a file: a GeoTIFF, or a picture of it; of cells of HEALPix a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cubeingest.analyze.computing import Computing, ReduceReport, count_values, plan_reduction, results_of
from cubeingest.analyze.reduction import Reduction, result_variable
from cubeingest.analyze.tables import check_output
from cubeingest.analyze.to_table import reduce_to_table
from cubeingest.engine import Options, Progress
from cubeingest.errors import GridError, StoreError
from cubeingest.look import MapView, Picture, check_file, picture_map, read_colours, save_picture
from cubeingest.selection import Selection
from cubeingest.store import Store
from cubeingest.tile import BLOCK, RasterForm, write_raster

PICTURE_PIXELS = 1600
"""Along the longer side of a picture of a result."""


def reduce_to_file(
    store: Store,
    selection: Selection,
    reduction: Reduction,
    path: Path,
    options: Options,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ReduceReport:
    """Compute a reduction into a GeoTIFF, or a picture of it (``.png``, ``.svg``), part by part; of cells of HEALPix into a table of those that
    have a value (``.csv``, ``.json``, or ``.parquet`` with their centres as GeoParquet).

    Raises :class:`GridError` for a selection that the cube does not have or several bands in one picture, :class:`StoreError` for a
    file that cannot be written.
    """
    if store.spec.healpix is not None:
        return reduce_to_table(store, selection, reduction, path, options, on_progress)
    suffix = path.suffix.lower()
    if suffix not in (".tif", ".tiff", ".png", ".svg"):
        raise StoreError(f"output {str(path)!r} has suffix {path.suffix!r}: write .tif, or .png or .svg for a picture")
    is_picture = suffix in (".png", ".svg")
    if is_picture:
        check_file(path)
    else:
        check_output(path, (".tif", ".tiff"), "raster")
    computing = plan_reduction(store, selection, reduction)
    report = ReduceReport(
        reduction, computing.store.tip, computing.where.window, computing.gaps, output=str(path), bands=computing.bands.labels
    )  # fmt: skip
    report.pixels = report.missing = computing.unfilled * len(computing.bands.labels)
    if is_picture:
        _picture(computing, report, path, options, on_progress)
    else:
        _raster(computing, report, path, options, on_progress)
    return report


def _raster(
    computing: Computing,
    report: ReduceReport,
    path: Path,
    options: Options,
    on_progress: Callable[[Progress], None],
) -> None:
    spec, reduction, (y, x) = computing.store.spec, computing.reduction, computing.where.window
    labels = computing.bands.labels
    form = RasterForm(
        shape_yx=computing.where.shape_yx, n_bands=len(labels), dtype=reduction.dtype, crs=spec.tiling.crs,
        affine=spec.tiling.affine(y.start, x.start), nodata=reduction.fill,
        descriptions=tuple(" ".join([reduction.method, *(f"{a} {v}" for a, v in label.items())]) for label in labels),
        tags={"TITLE": reduction.title, "SOURCE": f"{spec.name}, snapshot {computing.store.tip}", **({"DDOF": "0"} if reduction.method == "std" else {})},
        step_yx=_step(computing),
    )  # fmt: skip
    with write_raster(path, form) as raster:
        for bands, plan, found in results_of(computing, options, on_progress):
            count_values(report, reduction, found)
            raster.write(bands, found, plan.y.start - y.start, plan.x.start - x.start)


def _step(computing: Computing) -> tuple[int, int]:
    """The largest number of rows, and of columns, of which all parts' first rows and columns are multiples; of one part its own."""
    y, x = computing.where.window
    firsts = [[p.y.start - y.start for p in computing.parts], [p.x.start - x.start for p in computing.parts]]
    rows, columns = (math.gcd(*found) or BLOCK for found in firsts)
    return rows, columns


def _picture(
    computing: Computing,
    report: ReduceReport,
    path: Path,
    options: Options,
    on_progress: Callable[[Progress], None],
) -> None:
    spec, reduction, (y, x) = computing.store.spec, computing.reduction, computing.where.window
    if len(computing.bands.labels) > 1:
        names = ", ".join(f"--{a} {spec.tiling.axis(a).labels[0]}" for a in reduction.rest)
        raise GridError(f"a picture shows one result, not {len(computing.bands.labels)}: say which ({names})")
    step = max(1, -(-max(computing.where.shape_yx) // PICTURE_PIXELS))
    shape = tuple(-(-n // step) for n in computing.where.shape_yx)
    pixels = np.full(shape, reduction.fill, reduction.dtype)
    for _, plan, found in results_of(computing, options, on_progress):
        count_values(report, reduction, found)
        tops, lefts = (-(s.start - w.start) % step for s, w in zip((plan.y, plan.x), (y, x), strict=True))
        thin = found[0, tops::step, lefts::step]
        top, left = ((s.start - w.start + step - 1) // step for s, w in zip((plan.y, plan.x), (y, x), strict=True))
        pixels[top : top + thin.shape[0], left : left + thin.shape[1]] = thin
    variable = result_variable(spec, reduction)
    note = f"every {step}th pixel along each side" if step > 1 else ""
    colours = read_colours(variable, pixels)
    notes = tuple(t for t in (str(computing.gaps), note) if t)
    picture = Picture(
        pixels, (slice(y.start, y.start + shape[0] * step), slice(x.start, x.start + shape[1] * step)), step, note
    )
    view = MapView(
        spec, computing.store.tip, variable, computing.bands.labels[0], computing.where.window, picture, colours, notes=notes
    )  # fmt: skip
    report.warnings += colours.warnings
    save_picture(picture_map(view), path)
