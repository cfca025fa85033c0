"""Faults at a chosen moment of a command: SIGKILL, a pause, a delay, when a certain function is called the n-th time.

The functions are Icechunk's: every chunk, every merge and every commit goes through one of them, however ours are written. (But
reading is ours: a window.)
What happens there is real: the process is killed, not an exception raised.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import itertools
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

MOMENTS = {
    "window": ("cubeingest.windows", "Windows", "take"),
    "chunk": ("icechunk.store", "IcechunkStore", "set"),
    "merge": ("icechunk.session", "Session", "merge"),
    "rebase": ("icechunk.session", "Session", "rebase"),
    "commit": ("icechunk.session", "Session", "commit"),
    "gc": ("icechunk.repository", "Repository", "garbage_collect"),
    "expire": ("icechunk.repository", "Repository", "expire_snapshots"),
    "reset branch": ("icechunk.repository", "Repository", "reset_branch"),
}
"""Where a fault can be put: a chunk (or record) is written, forks are merged, and so on."""


def at(moment: str, do: str, nth: int = 1, when: str = "before", **more: Any) -> dict[str, Any]:
    """A fault for :func:`install`, as plain data: ``do`` is ``kill``, ``pause`` (until ``file``.go appears; ``file`` then
    exists), ``kill later`` (after ``seconds``) or ``sleep`` (``seconds``, each time from the n-th on).

    ``nth`` counts calls; with ``when="after"``, those that succeeded: of two commits at once one may be refused, and tried again.
    With ``once`` (a path), only the first process of all that come there meets it; with ``tickets``, as many as it holds.
    """
    assert moment in MOMENTS
    return {"moment": moment, "do": do, "nth": nth, "when": when, **{k: str(v) for k, v in more.items()}}


def patience(module: str, name: str, seconds: float) -> dict[str, Any]:
    """No fault, but a constant that says for how long to wait, so that a test need not wait that long."""
    return {"module": module, "name": name, "seconds": seconds}


def install(faults: list[dict[str, Any]]) -> None:
    """In the process that is to fail: put the faults in their places.

    While one tile waits another one would go on, and commit beside it, so tiles are then taken one by one.
    """
    if any(fault.get("do") == "pause" or fault.get("when") == "after" for fault in faults):
        importlib.import_module("cubeingest.engine.pools").UNITS_AT_ONCE = 1  # type: ignore[attr-defined]
    for fault in faults:
        if "moment" not in fault:
            module = importlib.import_module(fault["module"])
            assert hasattr(module, fault["name"])
            setattr(module, fault["name"], fault["seconds"])
            continue
        place, owner, name = MOMENTS[fault["moment"]]
        where = getattr(importlib.import_module(place), owner)
        setattr(where, name, _wrapped(getattr(where, name), fault))


def _wrapped(function: Any, fault: dict[str, Any]) -> Any:
    calls, successes = itertools.count(1), itertools.count(1)

    def meet(moment: str, call: int) -> None:
        if moment == fault["when"] and (call == fault["nth"] or (fault["do"] == "sleep" and call > fault["nth"])):
            _happen(fault)

    if asyncio.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            if len(args) > 1 and str(args[1]).endswith("zarr.json"):  # neither a chunk nor a record
                return await function(*args, **kwargs)
            call = next(calls)
            if fault["do"] == "pause":  # other work on the same event loop goes on
                if call == fault["nth"]:
                    Path(fault["file"]).touch()
                    while not _may_go(fault):
                        await asyncio.sleep(0.005)
                return await function(*args, **kwargs)
            meet("before", call)
            result = await function(*args, **kwargs)
            meet("after", next(successes))
            return result

        return waiting

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        meet("before", next(calls))
        result = function(*args, **kwargs)
        meet("after", next(successes))
        return result

    return plain


def _happen(fault: dict[str, Any]) -> None:
    if "once" in fault and not _is_first(fault["once"], int(fault.get("tickets", 1))):
        return
    if fault["do"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault["do"] == "kill later":
        threading.Timer(float(fault["seconds"]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    elif fault["do"] == "sleep":
        time.sleep(float(fault["seconds"]))
    else:
        Path(fault["file"]).touch()
        while not _may_go(fault):
            time.sleep(0.005)


def _may_go(fault: dict[str, Any]) -> bool:
    return Path(fault["file"] + ".go").exists()


def _is_first(path: str, tickets: int) -> bool:
    for ticket in range(tickets):
        try:
            os.close(os.open(f"{path}.{ticket}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return True
    return False
