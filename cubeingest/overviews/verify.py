"""Are the overviews what was written? Each cell's levels, read back, against the checksum of its record."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cubeingest.engine import SlotResult
from cubeingest.overviews.build import CellChecksum, CellJob, array_of, cell_index, row_parts
from cubeingest.overviews.cells import base_name, read_cells
from cubeingest.overviews.levels import Stage
from cubeingest.plan import SlotPlan, Task
from cubeingest.store import open_array

if TYPE_CHECKING:
    import icechunk


def check_tasks(session: icechunk.Session, stage: Stage) -> Iterator[Task]:
    """Every cell of a stage that has been made, to be checked."""
    for cell, record in sorted(read_cells(session, stage).items()):
        yield Task((), cell.block, cell.iy, cell.ix, (SlotPlan(cell, (), before=record),))


def check_cell(job: CellJob, plan: SlotPlan) -> SlotResult:
    """Whether a cell's levels have the checksum of its record: ``equal`` or ``different``."""
    stage = job.pyramid.stages[job.stage - 1]
    session, name = pickle.loads(job.session), base_name(plan.slot.variable)
    checksum, n_pixels = CellChecksum(), 0
    for level in job.pyramid.levels[stage.first - 1 : stage.last]:
        variable = array_of(level, name)
        array = open_array(session, variable.name)
        for part in row_parts(variable, cell_index(level, stage, plan.slot)):
            pixels = np.asarray(array[part])
            checksum.update(variable, pixels)
            n_pixels += pixels.size
    same = plan.before is not None and checksum.hexdigest() == plan.before.checksum
    return SlotResult(plan.slot, "", "equal" if same else "different", n_pixels=n_pixels)
