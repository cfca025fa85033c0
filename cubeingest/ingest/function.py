"""A Python function as a source: its name, what tells one version of it from another, and its way to the workers."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache, partial
from numbers import Number
from pathlib import PurePath
from typing import Any

import numpy as np

from cubeingest.errors import FunctionError, WorkerError
from cubeingest.plan import PYTHON
from cubeingest.spec import Variable
from cubeingest.store import reason_of
from cubeingest.tile import SourceId

SourceFunction = Callable[..., Any]
"""``f(geobox, **axes)``: an array, DataArray, Dataset or dict of arrays for one region; None if it has nothing there."""

MAX_PACKED_BYTES = 64 * 2**20
"""What a function may weigh with all that it captures: it is sent with every task."""

PLAIN = (str, bytes, Number, date, PurePath)
"""Values that never change, and whose text says all."""


@dataclass(frozen=True)
class FunctionSource:
    """A function, and what the ledger says of it: ``href`` and a ``stamp`` of its code and of what it captures.

    ``variables`` are the names that it is to fill. Pickled, the function goes by value where workers could not import it
    (from a script, a notebook, another function), else by reference.
    """

    function: SourceFunction
    href: str
    stamp: str
    variables: tuple[str, ...]

    @property
    def id(self) -> SourceId:
        return SourceId(self.href, None, self.stamp)

    @cached_property
    def packed(self) -> bytes:
        """The function, pickled. Raises :class:`FunctionError` if it cannot be, or weighs too much to be sent around."""
        import cloudpickle

        try:
            packed: bytes = cloudpickle.dumps(self.function)
        except Exception as e:
            raise FunctionError(
                f"source function {self.href!r} cannot be sent to workers: {type(e).__name__}: {reason_of(e)}. Open inside "
                "it what it needs, or use workers=1"
            ) from e
        if len(packed) > MAX_PACKED_BYTES:
            raise FunctionError(
                f"source function {self.href!r} captures {len(packed) / 2**20:.0f} MB, which would be sent with every task "
                f"(allowed {MAX_PACKED_BYTES / 2**20:.0f}): read inside it what it needs, or use workers=1"
            )
        return packed

    def __reduce__(self) -> tuple[Callable[..., FunctionSource], tuple[Any, ...]]:
        return _unpack, (self.packed, self.href, self.stamp, self.variables)


def _unpack(packed: bytes, href: str, stamp: str, variables: tuple[str, ...]) -> FunctionSource:
    return FunctionSource(_load(packed, href), href, stamp, variables)


@lru_cache(maxsize=2)
def _load(packed: bytes, href: str) -> SourceFunction:
    """On a worker: the function, made once a process, so that what it caches is kept from task to task."""
    import cloudpickle

    try:
        function: SourceFunction = cloudpickle.loads(packed)
        return function
    except Exception as e:
        raise WorkerError(
            f"a worker cannot load source function {href!r}: {type(e).__name__}: {reason_of(e)}. Put its module where "
            "workers import from, or call cloudpickle.register_pickle_by_value(module) first"
        ) from e


def function_source(function: object, variables: tuple[Variable, ...]) -> FunctionSource:
    """``function`` as the source of some variables.

    Raises :class:`FunctionError` for what is no function, or cannot be called with the axes of each variable.
    """
    if not callable(function):
        raise FunctionError(
            f"source is {function!r}, expected a function f(geobox, **axes) that returns the pixels of one region (tiles "
            "are named in the spec)"
        )
    href, stamp = function_stamp(function)
    for axes, names in _by_axes(variables).items():
        _check_call(function, href.removeprefix(PYTHON), axes, names)
    return FunctionSource(function, href, stamp, tuple(v.name for v in variables))


def function_stamp(function: Callable[..., Any]) -> tuple[str, str]:
    """Href of a function, and a stamp of its code and of what it captures."""
    inner, captured = _take_apart(function)
    name = ".".join(filter(None, (inner.__module__, inner.__qualname__)))
    try:
        code = inspect.getsource(inner)
    except (OSError, TypeError):
        code = ""
    text = "\n".join([code, *captured])
    return PYTHON + name, hashlib.blake2b(text.encode(), digest_size=16).hexdigest() if text else ""


def keyword(axis: str) -> str:
    """The name by which a function is given an axis."""
    return axis.replace("-", "_")


def _by_axes(variables: tuple[Variable, ...]) -> Mapping[tuple[str, ...], list[str]]:
    out: dict[tuple[str, ...], list[str]] = {}
    for v in variables:
        out.setdefault(v.axes, []).append(v.name)
    return out


def _check_call(function: Callable[..., Any], name: str, axes: tuple[str, ...], variables: list[str]) -> None:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # some that are written in C do not say
    keywords = [keyword(a) for a in axes]
    try:
        signature.bind(None, **dict.fromkeys(keywords))
    except TypeError as e:
        raise FunctionError(
            f"source function {name}{signature} cannot be called as f({', '.join(['geobox', *(f'{k}=' for k in keywords)])}), "
            f"which is how {', '.join(variables)} must be asked for: {e}"
        ) from None


def _take_apart(function: Any) -> tuple[Any, list[str]]:
    """The function, or the class of an instance, that holds the code; and what it captures, as text."""
    captured: list[Any] = []
    while isinstance(function, partial):
        captured += [function.args, function.keywords]
        function = function.func
    if inspect.ismethod(function):
        captured.append(function.__self__)
        function = function.__func__
    function = inspect.unwrap(function)
    if not inspect.isroutine(function) and not inspect.isclass(function):
        captured.append(function)
        function = type(function)
    captured += [v for v in (getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)) if v]
    captured += _closed_over(function)
    return function, [_text_of(value) for value in captured]


def _closed_over(function: Any) -> Iterator[Any]:
    """Values that a function takes from around it; of globals, those that nothing changes behind its back."""
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    if inspect.isfunction(function):
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, PLAIN):
                yield (name, value)


def _text_of(value: Any) -> str:
    """A value as text that is the same in every process, as far as that can be: no addresses, no order of a set."""
    if value is None or isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text_of(k)}: {_text_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text_of, value)) + "]"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(_text_of, value))) + "}"
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        digest = hashlib.blake2b(np.ascontiguousarray(value).view(np.uint8).data, digest_size=16).hexdigest()
        return f"{value.dtype} {value.shape} {digest}"
    if inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
        return str(getattr(value, "__qualname__", value.__name__))
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
