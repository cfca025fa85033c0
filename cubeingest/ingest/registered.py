"""Python functions that statistics of points may name: ``aggregate: {function: spread, of: h}``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cubeingest.errors import FunctionError, nearest
from cubeingest.ingest.function import FunctionSource, function_stamp
from cubeingest.spec import Variable

_registered: dict[str, FunctionSource] = {}


def register_statistic(name: str, function: Callable[[Any], float]) -> None:
    """Let specs name ``function`` as a statistic: it is called once for each cell, with the cell's values in ascending order (1-D, float64
    or int64), and returns one number, or NaN for none.

    It must be registered again in each Python that ingests or verifies; it reaches workers as a source function does. Slots that
    were done stay so if its code changes (``redo=True``). Raises :class:`FunctionError` for what is no function.
    """
    if not callable(function):
        raise FunctionError(f"statistic {name!r} is {function!r}, expected a function of the values of one cell")
    href, stamp = function_stamp(function)
    _registered[name] = FunctionSource(function, href, stamp, ())


def functions_of(variables: Iterable[Variable]) -> dict[str, FunctionSource]:
    """The functions that the statistics of some variables name. Raises :class:`FunctionError` for one that is not registered here."""
    names = {v.aggregate.function: v.name for v in variables if v.aggregate is not None and v.aggregate.function}
    for name, variable in names.items():
        if name not in _registered:
            raise FunctionError(
                f"variable {variable!r} is a statistic by function {name!r}, which is not registered{nearest(name, list(_registered))}: "
                f"call cubeingest.register_statistic({name!r}, function) first, in Python"
            )
    return {name: _registered[name] for name in names}


def called(functions: Mapping[str, FunctionSource]) -> dict[str, Callable[..., Any]]:
    """The functions themselves."""
    return {name: source.function for name, source in functions.items()}
