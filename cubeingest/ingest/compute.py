"""The work on one task of a source function: call it once, and write what it returned into the slots."""

from __future__ import annotations

import itertools
import sys
import sysconfig
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePath
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import AxisValue
from cubeingest.engine import EachSlot, SlotResult, Unit, failed
from cubeingest.errors import CubeIngestError, FunctionError
from cubeingest.ingest.blocks import fill_blocks
from cubeingest.ingest.fill import IngestJob, fill_slot, write_slot
from cubeingest.ingest.function import FunctionSource, keyword
from cubeingest.ingest.materialize import MATERIALIZED, materialize_slot
from cubeingest.ingest.points import fill_task
from cubeingest.ingest.registered import called
from cubeingest.ingest.returned import take_pixels
from cubeingest.ingest.table import aggregate_table, is_table
from cubeingest.mosaic import SlotShape, slot_shape
from cubeingest.plan import SlotPlan, Task
from cubeingest.spec import CubeSpec, Variable
from cubeingest.windows import Lent

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from cubeingest.grid import HealpixRegion

PACKAGE = Path(__file__).parent.parent
"""Where our own code lies, whose lines say nothing to who wrote a function."""

MESSAGE_LENGTH = 400
"""Characters that are shown of what a function raised."""

Array = np.ndarray[Any, Any]

Computed = dict[str, Array | FunctionError | None]
"""By variable: pixels (axis positions..., y, x), what is wrong with them, or None where there are none."""


def fill_unit(job: IngestJob, unit: Unit) -> list[SlotResult]:
    """Fill the slots of a unit from their tiles or points, or from the job's function: one that fails costs no other."""
    out: list[SlotResult] = []
    for task in unit:
        if out and out[-1].by_store:  # nothing can be written any more
            out += [failed(plan, out[-1].error or "", by_store=True) for plan in task.slots]
            continue
        out += _fill_task(job, task)
    return out


def _fill_task(job: IngestJob, task: Task) -> list[SlotResult]:
    if job.source is not None:
        computed = compute_task(job.spec, job.source, task, called(job.functions))
        return EachSlot(partial(_write_computed, computed))(job, (task,))
    if job.spec.variable(task.slots[0].slot.variable).aggregate is not None:
        return fill_task(job, task)
    return EachSlot({"": fill_slot, MATERIALIZED: materialize_slot}.get(job.how, fill_blocks))(job, (task,))


def _write_computed(computed: Computed, job: IngestJob, plan: SlotPlan) -> SlotResult:
    assert job.source is not None
    pixels = computed.pop(plan.slot.variable)
    if isinstance(pixels, FunctionError):
        raise pixels
    variable = job.spec.variable(plan.slot.variable)
    shape = slot_shape(job.spec, variable, plan)
    return write_slot(job, plan, shape, _windows_of(pixels, shape, variable), (job.source.id,))


def _windows_of(pixels: Array | None, shape: SlotShape, variable: Variable) -> Generator[Lent]:
    for rows in shape.row_slices():
        if pixels is None:
            size = (*shape.block_shape, rows.stop - rows.start, *shape.across)
            yield rows, np.broadcast_to(variable.np_fill, size), _nothing
        else:
            within = (slice(None),) * len(shape.axes) + (slice(rows.start - shape.y.start, rows.stop - shape.y.start),)
            yield rows, pixels[within], _nothing


def _nothing() -> None:
    """What to do with pixels that are not needed any more: they are dropped."""


def compute_task(
    spec: CubeSpec, source: FunctionSource, task: Task, functions: Mapping[str, Callable[..., Any]]
) -> Computed:
    """Call the function for each position of a task's axis block, once for all of its variables.

    What it raises, and what does not fit, is in the result.
    """
    grid = spec.grid
    axes = [grid.axis(name) for name in task.axes]
    spans = [a.block_slice(b) for a, b in zip(axes, task.block, strict=True)]
    window = grid.slices(task.iy, task.ix)
    area = grid.area(grid.region_id(task.iy, task.ix))
    names = tuple(n for n in source.variables if spec.variable(n).axes == task.axes)
    variables = [spec.variable(plan.slot.variable) for plan in task.slots]
    out: Computed = dict.fromkeys((v.name for v in variables), None)
    several = any(s.stop - s.start > 1 for s in spans)
    for position in itertools.product(*(range(s.start, s.stop) for s in spans)):
        values = {keyword(a.name): a.values[i] for a, i in zip(axes, position, strict=True)}
        where = (
            ", ".join(f"{a.name} {a.labels[i]}" for a, i in zip(axes, position, strict=True)) + ": " if several else ""
        )
        wanted = [v for v in variables if not isinstance(out[v.name], FunctionError)]
        try:
            returned: Any = _call(source, area, values, [v.name for v in wanted]) if wanted else None
            if is_table(returned):
                returned = aggregate_table(returned, wanted, grid, (task.iy, task.ix), functions)
        except FunctionError as e:
            return dict.fromkeys(out, FunctionError(f"{where}{e}"))
        for v in wanted:
            try:
                if isinstance(returned, Mapping) and isinstance(problem := returned.get(v.name), FunctionError):
                    raise problem
                pixels = _guarded(take_pixels, returned, v, names, grid, window)
            except FunctionError as e:
                out[v.name] = FunctionError(f"{where}{e}")
                continue
            if not several:
                out[v.name] = None if pixels is None else pixels[(np.newaxis,) * len(axes)]
            elif pixels is not None:
                _put(out, v, pixels, spans, position)
    return out


def _put(out: Computed, variable: Variable, pixels: Array, spans: list[slice], position: tuple[int, ...]) -> None:
    """Put one position's pixels into those of the whole axis block; what no call has given is fill value."""
    whole = out[variable.name]
    if whole is None:
        shape = (*(s.stop - s.start for s in spans), *pixels.shape)
        whole = out[variable.name] = np.full(shape, variable.np_fill, variable.np_dtype)
    assert not isinstance(whole, FunctionError)
    whole[tuple(i - s.start for i, s in zip(position, spans, strict=True))] = pixels


def _call(source: FunctionSource, area: GeoBox | HealpixRegion, values: dict[str, AxisValue], wanted: list[str]) -> Any:
    """What the function returns; of what is lazy, the variables that are wanted are computed.

    Raises :class:`FunctionError` with what it raised.
    """
    from dask.base import compute

    with _dask_here():
        returned = _guarded(source.function, area, **values)
        if not isinstance(returned, Mapping):
            return _guarded(compute, returned)[0]
        (computed,) = _guarded(compute, {name: returned[name] for name in wanted if name in returned})
        return {**returned, **computed}


def _guarded(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call somebody else's code. Raises :class:`FunctionError` with type, message and line of whatever comes out of it."""
    try:
        return function(*args, **kwargs)
    except FunctionError:
        raise
    except BaseException as e:  # noqa: BLE001  (a panic of a library, or an exit, is no Exception, and must cost one region only)
        what = "" if isinstance(e, CubeIngestError) else f"{type(e).__name__}: "
        text = what + (" ".join(str(e).split()) or "no message")
        raise FunctionError(text[:MESSAGE_LENGTH] + _line_of(e)) from None


def _line_of(error: BaseException) -> str:
    """`` (risk.py, line 12)``: the innermost line that is of no library."""
    libraries = (*(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")), str(PACKAGE))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(libraries)]
    return f" ({PurePath(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


# ---- Dask within Dask -----------------------------------------------------------------------------------------

_lock = Lock()
_inside = ExitStack()
_depth = 0


@contextmanager
def _dask_here() -> Iterator[None]:
    """On a Dask worker, compute lazy objects in the thread that asks.

    A task that hands them to its own cluster makes room for another one meanwhile: then several regions are held at once, and
    their graphs and pixels are sent around. Dask's setting is the process's, so it is set by the first thread that needs it and reset by the last one.
    """
    global _depth  # noqa: PLW0603
    from dask import config

    if not _is_on_worker():
        yield
        return
    with _lock:
        _depth += 1
        if _depth == 1:
            _inside.enter_context(config.set(scheduler="synchronous"))
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _inside.close()


def _is_on_worker() -> bool:
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True
