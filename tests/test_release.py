"""What is released: wheel and sdist as they are built, installed with nothing else into an empty environment, and used outside the checkout."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email.parser import BytesParser
from importlib.metadata import distributions, packages_distributions, version
from pathlib import Path
from typing import Any

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from ruamel.yaml import YAML

import cubeingest as ci

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
PINNED = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["tool"]["uv"]["constraint-dependencies"])}

BY_OTHERS = {"aiohttp", "yarl", "anyio"}
"""What ``fsspec[http]`` (the first two) and starlette cannot be without."""

SAID_ELSEWHERE = {"cubeingest", "pip", "setuptools", "uv", "wheel"}
"""Distributions of an environment that no pin is for."""


# ---- what pyproject.toml says ---------------------------------------------------------------------------------


def test_version_is_that_of_the_project() -> None:
    assert ci.__version__ == version("cubeingest") == PROJECT["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", ci.__version__)
    assert str(Version(ci.__version__)) == ci.__version__


def test_citation_is_of_this_version_and_has_what_the_format_asks_for() -> None:
    said = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(said)
    assert said["cff-version"] == "1.2.0"
    assert (said["version"], said["license"]) == (ci.__version__, PROJECT["project"]["license"])
    assert said["keywords"] == PROJECT["project"]["keywords"]


def test_each_library_that_is_imported_is_asked_for_and_none_besides() -> None:
    core = {canonicalize_name(r.name) for r in map(Requirement, PROJECT["project"]["dependencies"])}
    extra = {canonicalize_name(r.name) for wanted in EXTRAS.values() for r in map(Requirement, wanted)}
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in (ROOT / "cubeingest").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"cubeingest", "odc"}
    of = packages_distributions()
    used = {canonicalize_name(distribution) for top in tops for distribution in of[top]} | {"odc-geo"}
    assert used - core - extra == BY_OTHERS
    assert core - used == set()


def test_all_is_every_extra_that_a_user_has_a_use_for() -> None:
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.name == "cubeingest"
    assert everything.extras == set(EXTRAS) - {"all", "docs"}


def test_developers_have_what_extras_bring() -> None:
    """Without the clients that no server here can answer."""
    dev = {r.name: r for r in map(Requirement, PROJECT["dependency-groups"]["dev"])}
    core = {r.name for r in map(Requirement, PROJECT["project"]["dependencies"])}
    for extra in set(EXTRAS) - {"all", "azure", "gcs"}:
        for wanted in map(Requirement, EXTRAS[extra]):
            assert dev[wanted.name] == wanted, extra
    assert not core & set(dev)


def test_each_package_that_is_installed_is_pinned_to_its_version() -> None:
    found = {canonicalize_name(d.metadata["Name"]): d.version for d in distributions()}
    if found["zarr"] != str(PINNED["zarr"].specifier).removeprefix("=="):
        pytest.skip("this environment has other versions than the pinned ones, on purpose")
    free = sorted(set(found) - set(PINNED) - SAID_ELSEWHERE)
    assert free == [], f"no pin in constraint-dependencies for {free}"
    other = {n: v for n, v in found.items() if n in PINNED and not PINNED[n].specifier.contains(v, prereleases=True)}
    assert other == {}


def test_each_minimum_is_a_version_that_the_oldest_run_tests() -> None:
    lines = (ROOT / ".ci" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    exact = [Requirement(line) for line in lines if not line.startswith("#")]
    tested = {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in exact}
    of_extras = [wanted for extra in EXTRAS if extra not in ("all", "docs") for wanted in EXTRAS[extra]]
    for wanted in map(Requirement, [*PROJECT["project"]["dependencies"], *of_extras]):
        least = [s.version for s in wanted.specifier if s.operator == ">="]
        assert len(least) == 1, f"{wanted} has no minimum"
        had = Version(tested[canonicalize_name(wanted.name)])
        # the first release that is not below the minimum
        assert had >= Version(least[0]), wanted
        assert had.release[:2] == (*Version(least[0]).release, 0, 0)[:2], f"{wanted}, but {had} is tested"


# ---- what is built --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    wheel: Path
    sdist: Path


def uv(*words: object, cwd: Path) -> str:
    """Run uv, which ``uv run`` names in the environment."""
    found = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=ROOT / ".venv-uv" / "bin")
    assert found is not None, "no uv: run the tests as README says"
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    done = subprocess.run(
        [found, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--out-dir", folder, ROOT, cwd=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_they_should_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(n for n in names if n.endswith(".dist-info/METADATA")))
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    package = {name for name in tracked if name.startswith("cubeingest/") and (ROOT / name).is_file()}
    grids = {f"cubeingest/{name}" for name in tracked if name.startswith("grids/")}
    assert {n for n in names if ".dist-info/" not in n} == package | grids
    assert "cubeingest/py.typed" in names
    assert "cubeingest/grids/glad-lclu.yaml" in names
    assert "cubeingest/data/land.tif" in names
    licences = [n for n in names if ".dist-info/licenses/" in n]
    assert {n.rpartition("licenses/")[2] for n in licences} == {"LICENSE", "cubeingest/data/LICENSE.md"}
    with tarfile.open(built.sdist) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert {n for n in tracked if not n.startswith(".") and (ROOT / n).is_file()} <= held
    hidden = {part for name in held for part in name.split("/") if part.startswith(".")}
    assert hidden <= {".gitignore", ".python-version"}
    said = Metadata.from_email(metadata, validate=True)
    assert said.version == Version(ci.__version__)
    assert said.description_content_type == "text/markdown"
    assert BytesParser().parsebytes(metadata)["License-Expression"] == "Apache-2.0"


def run_in(folder: Path, *words: object) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CUBEINGEST", "PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([*map(str, words)], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_core_alone_goes_the_whole_way_in_an_empty_environment(kind: str, built: Built, tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("\n".join(map(str, PINNED.values())), encoding="utf-8")
    python, run = tmp_path / "venv" / "bin" / "python", tmp_path / "run"
    run.mkdir()
    uv("venv", "--quiet", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path)
    file = built.wheel if kind == "wheel" else built.sdist
    uv("pip", "install", "--quiet", "--no-config", "--python", python, "--constraint", pins, file, cwd=tmp_path)
    installed = {line.partition("==")[0] for line in uv("pip", "freeze", "--python", python, cwd=tmp_path).splitlines()}
    only_extras = {r.name for extra in EXTRAS.values() for r in map(Requirement, extra)} - {"cubeingest"}
    assert not installed & only_extras

    command = python.with_name("cubeingest")
    assert run_in(run, command, "--version") == f"cubeingest {ci.__version__}\n"
    demo = json.loads(run_in(run, command, "demo", "--json"))
    assert (demo["ingest"]["written"], demo["picture"]) == (353, None)
    verified = json.loads(run_in(run, command, "verify", "--json", "--store", demo["store"]))
    assert (verified["equal"], verified["different"], verified["missing"]) == (353, [], [])
    code = "import cubeingest as ci; print(ci.read_spec('glad-lclu').grid.region_id(0, 0))"
    assert run_in(run, python, "-c", code) == "80N_180W\n"
