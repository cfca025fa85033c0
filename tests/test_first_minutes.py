"""What a person meets in the first minutes: help, mistakes, what comes next, completion, the demo's last words."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import cubeingest as ci
from cubeingest.cli import app
from cubeingest.cli.app import GROUPS, OTHER_WORDS
from tests.conftest import Ran, World

Invoke = Callable[..., Ran]

ROOT: Any = typer.main.get_command(app)

AXES = {"--year", "--band", "--month", "--cycle"}
"""Axes that examples speak of."""

NEEDS = ("numpy", "icechunk", "zarr", "pydantic", "rich", "rasterio", "xarray")
"""Libraries that neither help nor the completion of names waits for."""


def commands(command: Any = ROOT, path: tuple[str, ...] = ("cubeingest",)) -> Iterator[tuple[str, Any]]:
    """All commands, and groups of them, by what is typed."""
    yield " ".join(path), command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands())


def said(text: str) -> str:
    return " ".join(text.split())


# ---- help -----------------------------------------------------------------------------------------------------


def examples_of(path: str) -> list[str]:
    """Examples at the end of a command's help."""
    command = COMMANDS[path]
    with typer.Context(command, info_name=path) as ctx:
        text = command.get_help(ctx)
    end = re.search(r"^Examples?:\n((?:  .+(?:\n|$))+)", text, re.M)
    inside = re.search(r"Example: (cubeingest .+?)$", said(text.partition("Options:")[0]))
    return [line.strip() for line in end[1].splitlines()] if end else [inside[1]] if inside else []


@pytest.mark.parametrize("path", COMMANDS)
def test_every_help_ends_in_examples_that_are_right(path: str) -> None:
    examples = examples_of(path)
    assert examples
    for example in examples:
        words = shlex.split(example, comments=True)
        words = words[: words.index(">")] if ">" in words else words
        assert " ".join(words).startswith(path) or path == "cubeingest"
        command = ROOT
        parent = typer.Context(ROOT, info_name="cubeingest")
        words.pop(0)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        if words == ["--help"]:
            continue
        with command.make_context(command.name, words, parent) as ctx:
            left = [word for word in ctx.args if path != "cubeingest cost"]
            if path.endswith("series") or path == "cubeingest compute":  # --at LON LAT, which typer does not know
                left = re.sub(r"--at [\d.]+ [\d.]+", "", " ".join(left)).split()
            axes = {word for word in left if word.startswith("--")}
            assert axes <= AXES
            assert len(left) == 2 * len(axes)


def test_help_lists_all_commands_in_groups_with_whole_sentences(invoke: Invoke) -> None:
    out = invoke("--help").out
    for title, names in GROUPS.items():
        section = re.split(r"\n\n", out.partition(f"\n{title}:\n")[2])[0]
        assert tuple(re.findall(r"^  (\w+) ", section, re.M)) == names
    assert "..." not in out.partition("Options:")[2]
    assert "Others:" not in out


def test_without_arguments_the_way_is_shown(invoke: Invoke) -> None:
    done = invoke()
    assert done.code == 0
    steps = re.findall(r"^  cubeingest (\w+)", done.out, re.M)
    assert steps == ["demo", "init", "plan", "ingest", "status"]
    assert "cubeingest --help" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    group = invoke("show")
    assert group.code == 2
    assert "cubeingest show map" in group.err


def test_axes_are_part_of_the_help(invoke: Invoke) -> None:
    assert "--<axis> VALUE" in invoke("ingest", "--help").out
    assert "--<axis> VALUE" not in invoke("history", "--help").out


@pytest.mark.parametrize("words", [["--help"], ["ingest", "--help"], ["compute", "zonal", "--help"], []])
def test_help_waits_for_no_library(words: list[str]) -> None:
    code = (
        f"import sys, os; sys.argv = ['cubeingest', *{words!r}]; sys.stdout = open(os.devnull, 'w')\n"
        "from cubeingest.cli import app\ntry: app()\nexcept SystemExit: pass\n"
        f"sys.exit(str(sorted({NEEDS!r} & {{m.partition('.')[0] for m in sys.modules}})))"
    ).replace(f"{NEEDS!r}", f"set({NEEDS!r})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "[]\n"


# ---- mistakes -------------------------------------------------------------------------------------------------

TYPED_WRONG: list[tuple[str, str]] = [
    ("stats", "no such command: stats; did you mean `cubeingest status`?"),
    ("map", "no such command: map; did you mean `cubeingest show map`?"),
    ("show maps", "no such command: maps; did you mean `cubeingest show map`?"),
    ("show ingest", "no such command: ingest; did you mean `cubeingest ingest`?"),
    ("compute avg", "no such command: avg (there are: mean, median,"),
    ("help", "did you mean `cubeingest --help`?"),
    ("xyzzy", "no such command: xyzzy Try `cubeingest --help`."),
    ("--verison", "no such option: --verison; did you mean --version?"),
    ("demo --hlep", "no such option: --hlep; did you mean --help?"),
    ("demo folder", "unexpected argument 'folder' Try `cubeingest demo --help`"),
    ("init", "missing argument 'GRID.yaml', such as: cubeingest init grid.yaml"),
    ("export", "missing option '--output', such as: cubeingest export --year 2000 --output tiles"),
    ("plan --bbox 1 2", "option '--bbox' requires 4 arguments"),
    ("ingest --limit x", "invalid value for '--limit'"),
    ("ingest --mode fast", "invalid value for '--mode': 'fast' is not one of 'cooperative', 'independent'"),
    ("init grid.yml", "no spec file 'grid.yml'; did you mean 'grid.yaml'? (YAML files there: grid.yaml;"),
    ("init tiles/grid.yaml", "no YAML file is in"),
    ("init glad", "did you mean 'glad-lclu'?"),
    ("plan", "create a cube with `cubeingest init GRID.yaml`"),
    ("plan --year 2000 --store nowhere", "create one with `cubeingest init GRID.yaml`"),
]


@pytest.mark.parametrize(("typed", "answer"), TYPED_WRONG)
def test_a_mistake_is_answered_in_one_line_that_says_what_to_type(typed: str, answer: str, invoke: Invoke) -> None:
    done = invoke(*typed.split())
    assert done.code == 2
    assert answer in said(done.err)
    assert done.err.startswith("error: ")
    assert done.err.count("error: ") == 1
    assert (done.out, "Usage:" in done.err, "Traceback" in done.err) == ("", False, False)


def test_other_words_for_commands_lead_to_commands() -> None:
    for meant in OTHER_WORDS.values():
        assert meant.startswith("--") or f"cubeingest {meant}" in COMMANDS


def test_a_cube_near_by_is_named(world: World, invoke: Invoke) -> None:
    ci.init(world.spec_file)
    assert "name one: --store small.icechunk" in said(invoke("status").err)
    assert invoke("init", "grid.yaml").code == 0
    assert "go to one: cd .." in said(invoke("status", cwd=world.folder / "tiles").err)
    above = world.folder / "above"
    (above / "a cube").mkdir(parents=True)
    shutil.copy(world.folder / ".cubeingest", above / "a cube")
    assert "go to one: cd 'a cube'" in said(invoke("status", cwd=above).err)
    (world.folder / ".cubeingest").write_bytes(b"\n")
    assert "which cube?" in said(invoke("status").err)


# ---- what comes next ------------------------------------------------------------------------------------------


def next_of(done: Ran) -> list[str]:
    return re.findall(r"^next: (.*)$", done.err, re.M)


def test_each_step_says_the_next_and_it_works(world: World, invoke: Invoke) -> None:
    done = invoke("init", "grid.yaml")
    seen = []
    while followed := next_of(done):
        assert len(followed) == 1
        words = shlex.split(followed[0], comments=True)
        seen.append(" ".join(words[1:]))
        if len(seen) == 3:
            break
        done = invoke(*words[1:])
        assert done.code == 0, done.err
    assert seen == ["plan", "ingest", "status"]
    assert next_of(invoke("status")) == []
    assert next_of(invoke("ingest")) == []  # nothing was left to do


def test_which_cube_is_meant_is_never_a_riddle(world: World, invoke: Invoke) -> None:
    from typer.testing import CliRunner

    invoke("init", "grid.yaml")
    assert f"The cube of this folder: {world.store}" in invoke().out
    other = world.folder / "other"
    assert f"from now on; before: {world.store}" in said(invoke("init", "grid.yaml", "--store", "other").err)
    shutil.rmtree(other)
    assert "named by the file .cubeingest" in said(invoke("status").err)
    env = {"CUBEINGEST_STORE": str(other)}
    done = CliRunner().invoke(app, ["init", "grid.yaml"], env=env)
    assert "$CUBEINGEST_STORE names another cube" in said(done.stderr)
    assert f"next: cubeingest plan --store {world.store}" not in done.stderr  # it was there already
    assert "named by $CUBEINGEST_STORE" in said(CliRunner().invoke(app, ["status"], env=env).stderr)


def test_the_next_command_keeps_cube_and_selection(world: World, invoke: Invoke) -> None:
    store = ["--store", "a b.icechunk"]
    invoke("init", "grid.yaml", *store)
    chosen = ["--bbox", "1", "11.5", "3", "13", "--year", "2000,2005", "--variable", "cover"]
    (line,) = next_of(invoke("status", *store, *chosen))
    words = shlex.split(line)
    assert words[:2] == ["cubeingest", "ingest"]
    assert set(words[2:]) == {*store, *chosen}
    done = invoke(*words[1:])
    assert (done.code, "2 written" in done.out) == (0, True)
    assert next_of(done) == ["cubeingest status --store 'a b.icechunk'"]
    chosen = ["--region", "10N_000E", "--region", "20N_010E", "--year", "2000"]
    (line,) = next_of(invoke("verify", *store, *chosen))
    assert sorted(shlex.split(line)) == sorted(["cubeingest", "ingest", *store, *chosen])


def test_after_failures_the_same_command_is_next(world: World, invoke: Invoke) -> None:
    world.add_tile(2000, "20N_000E").write_bytes(b"junk")
    invoke("init", "grid.yaml")
    done = invoke("ingest", "--year", "2000")
    assert done.code == 1
    assert next_of(done) == ["cubeingest ingest --year 2000  # once these tiles are mended; what is done is skipped"]
    world.add_tile(2000, "20N_000E")
    assert invoke(*shlex.split(next_of(done)[0], comments=True)[1:]).code == 0


def test_nothing_comes_next_in_json(world: World, invoke: Invoke) -> None:
    for command in ("init grid.yaml", "plan", "status", "show map --year 2000", "verify", "ingest"):
        done = invoke(*command.split(), "--json")
        assert done.code == 0
        assert next_of(done) == []
    (world.folder / "small-map-2000.png").unlink()


def test_a_cube_without_sources_is_filled_from_python_next(world: World, invoke: Invoke) -> None:
    text = world.spec_file.read_text()
    world.spec_file.write_text(re.sub(r"    source:\n(      .*\n)+", "", text))
    invoke("init", "grid.yaml")
    (line,) = next_of(invoke("status"))
    assert "from Python" in line
    assert str(world.store) in line


def test_where_there_is_no_tile_the_plan_is_next(world: World, invoke: Invoke) -> None:
    for year in (2000, 2005):
        (world.folder / "tiles" / f"{year}.txt").write_text("")
    assert next_of(invoke("init", "grid.yaml"))[0].startswith("cubeingest plan")
    assert next_of(invoke("status"))[0].startswith("cubeingest plan")


# ---- terminals and pipes --------------------------------------------------------------------------------------


def test_streams_that_are_closed_cut_or_not_unicode_hurt_nobody(world: World) -> None:
    """As processes of their own: each is one way in which people run commands."""
    ci.init(world.spec_file).ingest(year=2000, limit=1)

    def shell(command: str, **env: str) -> Ran:
        line = command.replace("cubeingest", f"{shlex.quote(sys.executable)} -m cubeingest")
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"], cwd=world.folder, capture_output=True, text=True, check=False,
            env=os.environ | {"CUBEINGEST_STORE": str(world.store)} | env,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    assert shell("cubeingest --help >&-") == Ran(0, "", "")
    assert shell("cubeingest --help | head -1").err == ""
    assert shell("cubeingest status --json >&-") == Ran(0, "", "")
    done = shell("cubeingest chunks", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")  # it draws with blocks
    assert (done.code, done.err, done.out.isascii()) == (0, "", True)


def test_what_is_no_terminal_gets_whole_lines(world: World, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke("init", "grid.yaml")
    for name, value in {"COLUMNS": "20", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    assert re.search(r"year 2000 +0 +0 +5 +1 +6", invoke("status").out)
    assert invoke("regions").out.count("\n") == 7
    assert "--commit-every N" in invoke("ingest", "--help").out


def test_a_narrow_terminal_breaks_lines_and_cuts_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console
    from rich.table import Table

    from cubeingest.cli import charts, output

    narrow = Console(file=io.StringIO(), force_terminal=True, width=10, soft_wrap=True)
    monkeypatch.setattr(output, "out_console", lambda: narrow)
    table = Table("year", "pending", "absent", box=None)
    table.add_row("2000", "1", "2")
    output.print_table(table)
    assert "pending" in narrow.file.getvalue()  # type: ignore[attr-defined]
    assert charts._has_blocks("utf-8")
    assert not charts._has_blocks("ascii")


# ---- completion -----------------------------------------------------------------------------------------------


@pytest.fixture
def complete(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """What bash is offered after a line, through the real protocol but in this process."""
    from typer.completion import completion_init
    from typer.testing import CliRunner

    completion_init()
    monkeypatch.chdir(world.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(world.folder / "cache"))
    monkeypatch.delenv("CUBEINGEST_STORE", raising=False)

    def call(line: str) -> list[str]:
        n = len(line.split()) - (not line.endswith(" "))
        env = {"COMP_WORDS": line, "COMP_CWORD": str(n), "_CUBEINGEST_COMPLETE": "complete_bash"}
        result = CliRunner().invoke(app, [], prog_name="cubeingest", env=env, catch_exceptions=False)
        assert (result.exit_code, result.stderr) == (0, "")
        return str(result.stdout).split()

    return call


def test_names_are_completed(complete: Callable[[str], list[str]]) -> None:
    assert set(complete("cubeingest ")) == set(ROOT.commands)
    assert complete("cubeingest in") == ["infer", "init", "ingest"]
    assert complete("cubeingest show ") == ["grid", "status", "map", "diff"]
    assert "--commit-every" in complete("cubeingest ingest --year 2000 --")
    assert complete("cubeingest ingest --on") == ["--on-error"]
    assert complete("cubeingest ingest --on-error ") == ["keep", "abort"]
    assert complete("cubeingest init glad-") == ["glad-lclu"]
    assert complete("cubeingest init g") == ["glad-lclu", "grid.yaml"]
    assert complete("cubeingest init tiles/") == ["tiles/2000/", "tiles/2005/"]
    assert complete("cubeingest plan --year ") == []  # there is no cube


def test_values_are_of_the_cube_in_the_folder(
    complete: Callable[[str], list[str]], world: World, invoke: Invoke
) -> None:
    invoke("init", "grid.yaml")
    assert not (world.folder / "cache").exists()  # until somebody asks
    assert complete("cubeingest plan --y") == ["--year"]
    assert complete("cubeingest plan --year 20") == ["2000", "2005"]
    assert complete("cubeingest plan --year 2000,2") == ["2000,2000", "2000,2005"]
    assert complete("cubeingest plan --year = 2005") == ["2005"]
    assert complete("cubeingest plan --region 20N_0") == ["20N_000E", "20N_010E", "20N_020E"]
    assert complete("cubeingest ingest --variable ") == ["cover"]
    assert complete("cubeingest compute mean --over ") == ["year"]
    assert complete("cubeingest compute transitions --from year=20") == ["year=2000", "year=2005"]
    assert complete("cubeingest rechunk ") == ["cover"]
    assert complete("cubeingest status --branch ") == ["main"]
    assert complete("cubeingest status --at ") == []
    assert complete("cubeingest extend --") == ["--store", "--dry-run", "--json", "--debug", "--help", "--year"]


def test_what_was_added_since_is_offered(complete: Callable[[str], list[str]], world: World, invoke: Invoke) -> None:
    invoke("init", "grid.yaml")
    assert complete("cubeingest diff ") == ["main"]
    ci.open(world.store).tag("v1.0")
    assert complete("cubeingest diff ") == ["v1.0", "main"]
    ci.open(world.store).extend(year=2010)
    invoke("status")
    assert complete("cubeingest plan --year ") == ["2000", "2005", "2010"]
    other = f"cubeingest plan --store {world.folder / 'none'} --year "
    assert complete(other) == []
    shutil.rmtree(world.store)
    assert complete("cubeingest plan --year ") == []


def test_the_shells_get_what_they_want(world: World) -> None:
    """A process of its own for each shell; in bash by the very script that is installed."""
    ci.init(world.spec_file)
    env = os.environ | {"XDG_CACHE_HOME": str(world.folder / "cache"), "CUBEINGEST_STORE": str(world.store)}
    binary = Path(sys.executable).parent / "cubeingest"

    def ask(**more: str) -> tuple[str, str]:
        done = subprocess.run(
            [str(binary)], cwd=world.folder, env=env | more, capture_output=True, text=True, check=False
        )
        return done.stdout, done.stderr

    line = "cubeingest plan --year 200"
    zsh = ask(_CUBEINGEST_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line)
    assert zsh == ('_arguments \'*: :(("2000"\n"2005"))\'\n', "")
    fish = {"_CUBEINGEST_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": line}
    assert ask(**fish, _TYPER_COMPLETE_FISH_ACTION="get-args") == ("2000\n2005\n", "")
    script = ask(_CUBEINGEST_COMPLETE="source_bash")[0]
    asked = f"PATH={binary.parent}:$PATH; {script}\nCOMP_WORDS=(cubeingest plan --year 200); COMP_CWORD=3; _cubeingest_completion cubeingest; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", asked], env=env, cwd=world.folder, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2000 2005\n", "")
    assert ask(_CUBEINGEST_COMPLETE="complete_bash", COMP_WORDS="cubeingest plan 'x", COMP_CWORD="junk")[1] == ""


def test_completing_names_waits_for_no_library(world: World) -> None:
    ci.init(world.spec_file)
    env = os.environ | {"COMP_WORDS": "cubeingest plan --y", "COMP_CWORD": "2", "_CUBEINGEST_COMPLETE": "complete_bash"}
    code = (
        "import sys; from cubeingest.cli import app; from typer.completion import completion_init; completion_init()\n"
    )
    code += f"try: app(prog_name='cubeingest')\nexcept SystemExit: sys.exit(str(sorted(set({NEEDS!r}) & {{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=world.folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.stderr == "[]\n"


# ---- the demo -------------------------------------------------------------------------------------------------


def printed_commands(text: str) -> list[str]:
    """Lines that the demo says to type."""
    return re.findall(r"^  ((?:\S+ -m )?\S*cubeingest .*)$", text, re.M)


@pytest.mark.slow
def test_what_the_demo_says_to_try_works_and_again_it_does_nothing(tmp_path: Path, invoke: Invoke) -> None:
    done = invoke("demo", "--keep", "play ground", cwd=tmp_path)
    assert done.code == 0, done.err
    folder = tmp_path / "play ground"
    assert {p.name for p in folder.iterdir()} >= {"land.icechunk", "land.yaml", "land.png", "tiles", ".cubeingest"}
    assert ci.open(folder / "land.icechunk").dataset(level=2)["land"].shape == (840, 2160)
    lines = printed_commands(done.out)
    assert len(lines) == 8
    for line in lines:
        if " view " in line:  # it would serve until it is stopped: tests of the viewer do that
            continue
        assert invoke(*shlex.split(line.partition("cubeingest ")[2]), cwd=tmp_path).code == 0, line
    assert invoke("status", cwd=folder).code == 0
    assert (folder / "africa.png").exists()
    (python,) = re.findall(r"^  (ds = .*)$", done.out, re.M)
    names: dict[str, Any] = {"ci": ci}
    exec(python.replace("'play ground", f"'{tmp_path}/play ground"), names)
    assert names["ds"]["land"].shape == (3360, 8640)
    again = invoke("demo", "--keep", "play ground", "--json", cwd=tmp_path)
    assert "all was there already" in again.err
    assert again.json["ingest"]["skipped"] == 353
    assert "verify" not in again.json


@pytest.mark.slow
def test_a_demo_that_was_cut_short_goes_on(tmp_path: Path, invoke: Invoke) -> None:
    folder = tmp_path / "cubeingest-demo"
    assert invoke("demo", cwd=tmp_path).code == 0
    (folder / "land.png").unlink()
    again = invoke("demo", "--json", cwd=tmp_path).json
    assert (again["ingest"]["skipped"], again["verify"]["equal"]) == (353, 353)
    assert (folder / "land.png").exists()


def test_a_folder_that_the_demo_cannot_have_is_refused(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "cubeingest-demo").write_text("mine")
    done = invoke("demo", cwd=tmp_path)
    assert done.code == 2
    assert "--keep DIR" in done.err
    assert (tmp_path / "cubeingest-demo").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["by uv", "as a module"])
def test_the_demo_is_printed_as_it_can_be_typed(tmp_path: Path, how: str) -> None:
    folder = Path(sys.executable).parent
    env = os.environ | {"PATH": f"{folder}:/usr/bin:/bin"}
    shell = env | {"PATH": "/usr/bin:/bin"}
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(folder)
    typed = [sys.executable, "-m", "cubeingest"] if how == "as a module" else [str(tmp_path / ".venv/bin/cubeingest")]
    run_env = shell if how == "as a module" else env | {"UV_RUN_RECURSION_DEPTH": "1"}
    done = subprocess.run([*typed, "demo"], cwd=tmp_path, env=run_env, capture_output=True, text=True, check=True)
    lines = printed_commands(done.stdout)
    assert len(lines) == 8
    begins = ".venv/bin/cubeingest " if how == "by uv" else f"{sys.executable} -m cubeingest "
    for line in lines:
        assert line.startswith(begins)
        if " view " in line:
            continue
        subprocess.run(["bash", "-c", line], cwd=tmp_path, env=shell, capture_output=True, check=True)
