"""Fixtures of the fault suite. ``CUBEINGEST_RELIABILITY=docs/reliability.md pytest -m slow tests/faults`` writes that page's table."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World
from tests.faults.catalogue import FAULTS
from tests.faults.proxy import Proxy, serve_proxy
from tests.faults.record import Case, Row, summary, write_table
from tests.faults.site import Site
from tests.faults.starter import Starter
from tests.objectstore import Bucket

ROWS = pytest.StashKey[list[Row]]()
FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of several that share the tests sends its rows to the one that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = [asdict(row) for row in session.config.stash[ROWS]]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[ROWS] += [Row(**row) for row in getattr(node, "workeroutput", {}).get("faults", [])]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.write_line(summary(rows))
    page = os.environ.get("CUBEINGEST_RELIABILITY")
    if not page:
        return
    missing = set(FAULTS) - {r.fault for r in rows}
    failed = terminalreporter.stats.get("failed", []) + terminalreporter.stats.get("error", [])
    if missing or failed:
        why = f"{len(failed)} tests failed; without a row: {', '.join(sorted(missing)) or 'none'}"
        terminalreporter.write_line(f"{page} is left as it is: {why}", red=True)
        return
    write_table(Path(page), rows)


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    made = Starter(tmp_path_factory.mktemp("commands"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def s3_proxy(s3_server: str) -> Iterator[Proxy]:
    with serve_proxy(s3_server) as made:
        yield made


@pytest.fixture
def storage() -> str:
    """Parametrized by tests that run on more than one."""
    return "local"


@pytest.fixture
def mode() -> str:
    """Parametrized likewise."""
    return "cooperative"


@pytest.fixture
def site(world: World, storage: str, starter: Starter, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The small world's cube, made, on ``storage``."""
    if storage == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        proxy: Proxy = request.getfixturevalue("s3_proxy")
        proxy.troubles.clear()
        made = Site(world, storage, bucket.uri("small"), starter, proxy=proxy, bucket=bucket)
    else:
        made = Site(world, storage, str(world.store), starter)
    made.init()
    yield made
    starter.kill_all()
    if made.proxy is not None:
        made.proxy.troubles.clear()


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Case]:
    """The fault that the test's mark names, in the mode and on the storage of its parameters."""
    mark = request.node.get_closest_marker("fault")
    assert mark is not None, "a test of a fault names it: @pytest.mark.fault(name)"
    name = mark.args[0]
    assert name in FAULTS, f"{name!r} is not in the catalogue"
    # A mode or storage is named where the test is given one; the others say so themselves, in `settle`.
    given = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    case = Case(name, given.get("mode", ""), given.get("storage", "local"), request.config.stash[ROWS])
    yield case
    assert case.is_settled or request.node.stash.get(FAILED, False), "the test did not settle its fault"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Take note of a failure, which is told once."""
    if call.excinfo is not None:
        item.stash[FAILED] = True
    return (yield)
