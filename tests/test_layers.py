"""The layers of DESIGN.md: a module knows the ones to its right, never to its left."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cubeingest

PACKAGE = Path(cubeingest.__file__).parent

LAYERS: list[set[str]] = [
    {"__main__"},
    {"cli"},
    {"demo"},
    {"cube"},
    {"branches", "check", "page", "view"},
    {
        "analyze",
        "contents",
        "cost",
        "create",
        "export",
        "extend",
        "preflight",
        "rechunk",
        "verify",
        "status",
        "look",
        "changes",
        "garbage",
        "inference",
    },
    {"overviews"},
    {"ingest"},
    {"engine"},
    {"mosaic"},
    {"pieces"},
    {"writer", "checksum", "windows"},
    {"plan"},
    {"ledger", "selection"},
    {"catalog", "valid"},
    {"hrefs"},
    {"points"},
    {"listing", "tile"},
    {"remote"},
    {"template"},
    {"store"},
    {"spec"},
    {"aggregate", "coarser", "grid"},
    {"axes", "boxes", "coast", "expressions", "extras", "files"}
    | {"healpix", "ids", "outlines", "shapes", "sketch", "statistic", "steps", "storage", "sums", "wording"},
    {"errors"},
]
"""From left to right. Modules of one layer may import one another as long as there is no cycle."""

LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}

HOMES = {
    "typer": {"cli"},
    "rich": {"cli"},
    "pydantic": {"spec"},
    "yaml": {"spec"},
    "ruamel": {"spec"},
    "rasterio": {"tile", "demo"},
    "imagecodecs": {"tile"},
    "starlette": {"view"},
    "uvicorn": {"view"},
}
"""Libraries that only some modules may import."""

HEAVY = ("numpy", "xarray", "zarr", "rasterio", "icechunk", "dask", "distributed", "pandas", "pydantic", "pyproj")

FILES = {
    path.stem if path.is_file() else path.name: [path] if path.is_file() else sorted(path.glob("*.py"))
    for path in PACKAGE.iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
}
del FILES["__init__"]
MODULES = sorted(FILES)
"""Modules, and packages as one module each."""


def imports_of(module: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a module imports, inside functions and for type checking too."""
    for node in (n for file in FILES[module] for n in ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            if node.module == "cubeingest":
                yield from ((node.lineno, f"cubeingest.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, str(node.module)


def own_imports(module: str) -> Iterator[tuple[int, str]]:
    """As :func:`imports_of`, but only this package's modules, by their short names."""
    for line, name in imports_of(module):
        package, _, own = name.partition(".")
        if package == "cubeingest" and own.partition(".")[0] in MODULES:
            yield line, own.partition(".")[0]


def test_every_module_has_a_layer_and_every_layer_a_module() -> None:
    assert set(MODULES) == set(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_none_to_its_left(module: str) -> None:
    wrong = [f"{module}:{n} imports {own}" for n, own in own_imports(module) if LEVEL[own] < LEVEL[module]]
    assert wrong == []


def test_imports_have_no_cycle() -> None:
    left = {module: {own for _, own in own_imports(module)} - {module} for module in MODULES}
    while free := [module for module, needs in left.items() if not needs & set(left)]:
        for module in free:
            del left[module]
    assert left == {}


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_no_library_that_has_another_home(module: str) -> None:
    wrong = [
        f"{module}:{line} imports {name}, whose home is {', '.join(sorted(HOMES[name.partition('.')[0]]))}"
        for line, name in imports_of(module)
        if module not in HOMES.get(name.partition(".")[0], {module})
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["cubeingest", "cubeingest.cli"])
def test_nothing_heavy_is_imported_before_a_command_runs(name: str) -> None:
    loaded = "import sys; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}; {loaded}"], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) & set(HEAVY) == set()


def test_many_threads_may_open_the_first_raster_of_a_process(tmp_path: Path) -> None:
    """Threads that import rasterio at once find half of it; a process whose first act is to read many headers does that."""
    code = f"""
import numpy as np, rasterio, sys
with rasterio.open({str(tmp_path / "a.tif")!r}, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8", crs="EPSG:4326",
                   transform=rasterio.transform.from_origin(0, 1, 1/8, 1/8)) as tile:
    tile.write(np.ones((1, 8, 8), "uint8"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in ("read_header", "read_survey"):
        many = f"from concurrent.futures import ThreadPoolExecutor; from cubeingest.tile import {name}"
        read = f"[*ThreadPoolExecutor(32).map({name}, [{str(tmp_path / 'a.tif')!r}] * 64)]"
        done = subprocess.run([sys.executable, "-c", f"{many}; {read}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_drawing_in_the_documents_is_of_these_layers() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = text.split("A module knows the ones to its right")[1].split("```")[1]
    layers = [set(part.strip(" {}\n").replace("\n", " ").split(", ")) for part in drawn.split("→")]
    assert layers == LAYERS[1:]
    table = set(
        re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `")))
    )
    assert table == set(MODULES) - {"__main__"}
