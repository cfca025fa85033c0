"""Every page of the documentation, run from top to bottom as a reader would.

Fenced blocks of ``sh`` and ``python`` run in page order, in one temporary folder, terminal and namespace a page; ``sql`` is asked of
DuckDB there; ``yaml`` is read, and a whole spec must be one. Comments on the lines before a fence steer its block:

``<!-- file: grid.yaml -->``  it is also written to that file in the page's folder.
``<!-- with: grid.yaml -->``  a part of a spec: that file with these keys put over it must be a spec.
``<!-- replace: A => B -->``  A, which must occur, is B when it runs (``$NAME`` in B: of the terminal's environment). May be repeated.
``<!-- exit: 2 -->``          a block of sh ends with this exit code, in its last command.
``<!-- printed -->``          each line of a block of output is printed by the page, but for ids, seconds and lines with ``...``;
                             of a block of JSON the keys. ``<!-- printed but WORD -->``: lines with WORD differ.
``<!-- parse: REASON -->``    cannot run here. Then sh must parse, its ``cubeingest`` commands and options exist, and Python compile.

``<!-- setup: NAME -->`` anywhere on a page: :mod:`tests.doc_setups` has a function of that name, which makes what the page speaks of.
"""

from __future__ import annotations

import io
import json
import linecache
import os
import re
import shlex
import subprocess
import tempfile
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from cubeingest.cli import app
from cubeingest.errors import CubeIngestError
from cubeingest.spec import read_spec
from tests import doc_setups
from tests.terminal import CORES, Commands, Terminal

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    p
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "examples/*.md", "grids/*.md")
    for p in ROOT.glob(pattern)
)
SLOW = {
    "README.md",
    "docs/analyze.md",
    "docs/clusters.md",
    "docs/howto/dask-cluster.md",
    "docs/pictures.md",
    "docs/tutorial.md",
    "examples/README.md",
}
"""Pages that take more than eight seconds on a quiet machine; others may say so themselves, by ``<!-- slow -->``."""

FENCE = re.compile(r"^([ ]*)(`{3,})(\w*)([^\n`]*)\n(.*?)^\1\2[ ]*$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!-- *(file|with|replace|exit|printed|parse|setup):? *(.*?) *-->")
OUTPUT = {"", "text", "console"}
DATA = {"json", "toml", "ini", "dockerfile", "js", "html", "csv", "bibtex"}


@dataclass(frozen=True)
class Block:
    """A fenced block: ``line`` is that of its first line of text, ``steer`` what the comments before it say."""

    page: str
    line: int
    language: str
    text: str
    steer: dict[str, list[str]] = field(default_factory=dict)

    def fail(self, why: str, line: int = 1) -> None:
        pytest.fail(f"{self.page}:{self.line + line - 1}: {why}\n\n{textwrap.indent(self.text, '    ')}", pytrace=False)


def read_blocks(page: str, text: str) -> Iterator[Block]:
    """Blocks of a page in order. A comment belongs to the fence that follows it with nothing but comments and blanks between."""
    end = 0
    for found in FENCE.finditer(text):
        before = text[end : found.start()].rstrip()
        lines = before.splitlines()
        steer: dict[str, list[str]] = {}
        while lines and (not lines[-1].strip() or re.fullmatch(r"\s*<!--.*-->\s*", lines[-1])):
            for key, value in COMMENT.findall(lines.pop()):
                steer.setdefault(key, []).insert(0, value)
        end = found.end()
        line = text.count("\n", 0, found.start()) + 2
        yield Block(page, line, found[3], textwrap.dedent(found[5]), steer)


def setup_of(text: str) -> str | None:
    names = [value for key, value in COMMENT.findall(text) if key == "setup"]
    assert len(names) <= 1, f"one setup a page, not {names}"
    return names[0] if names else None


class Reader:
    """Someone who works through one page."""

    def __init__(self, terminal: Terminal, changes: list[tuple[str, str]]) -> None:
        self.terminal, self.folder, self.changes = terminal, terminal.folder, changes
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.printed: set[str] = set()
        self.objects: list[Any] = []
        self.shown: list[tuple[Block, str]] = []
        self.axes = {"year"}

    def read(self, page: str, text: str) -> None:
        """The whole page."""
        for block in read_blocks(page, text):
            self.take(block)
        self.close()

    def take(self, block: Block) -> None:
        """Do what the block says. Fails the test, naming the page and the line, if it does not work."""
        text = self._replace(block)
        if block.language == "yaml":
            self._read_yaml(block, text)
        for name in block.steer.get("file", []):
            path = self.terminal.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if block.language == "sh":
            check_commands(block, text, self.axes) if "parse" in block.steer else self._run_shell(block, text)
        elif block.language == "python":
            if "parse" in block.steer:
                compile(text, block.page, "exec")
            else:
                self._run_python(block, text)
        elif block.language == "sql" and "parse" not in block.steer:
            self._ask(block, text)
        elif block.language == "json":
            if "printed" in block.steer:
                self.shown.append((block, text))
            json.loads(text)
        elif block.language in OUTPUT and "printed" in block.steer:
            self.shown.append((block, text))
        elif block.language not in OUTPUT | DATA | {"yaml", "sql"}:
            block.fail(f"language {block.language!r}: write sh, python, yaml, sql, json, text or console")

    def close(self) -> None:
        """What the page shows must have been printed somewhere on it."""
        for block, text in self.shown:
            if block.language == "json":
                if not any(is_like(json.loads(text), printed) for printed in self.objects):
                    block.fail("nothing on the page printed JSON with these keys")
                continue
            excepted = block.steer["printed"][0].removeprefix("but ")
            lines = [line for line in self._comparable(text) if not excepted or excepted not in line]
            missing = [line for line in lines if line not in self.printed]
            if missing:
                printed = "\n".join(sorted(self.printed))
                block.fail("the page shows what nothing printed:\n" + "\n".join(missing) + f"\n\nof:\n{printed}")

    def _comparable(self, text: str) -> list[str]:
        """Lines without what differs from run to run: snapshots' ids, seconds, the folder, spaces at the end; none that are cut short."""
        text = text.replace(str(self.folder), "/home/ada")
        text = re.sub(r"\b[0-9A-HJKMNP-TV-Z]{20}\b", "ID", re.sub(r"\b[\d.]+ (s|ms)\b", "TIME", text))
        return [line.rstrip() for line in text.splitlines() if "..." not in line]

    def _replace(self, block: Block) -> str:
        text = block.text
        for old, new in self.changes:
            text = text.replace(old, new)
        for change in block.steer.get("replace", []):
            old, _, new = change.partition(" => ")
            if old not in text:
                block.fail(f"{old!r}, which is to be replaced, is not in it")
            text = text.replace(old, Template(new).safe_substitute(self.terminal.environment))
        return text

    def _read_yaml(self, block: Block, text: str) -> None:
        documents = list(YAML(typ="safe", pure=True).load_all(text))
        for document in documents:
            if not isinstance(document, dict):
                continue
            self.axes |= set(document["axes"]) if isinstance(document.get("axes"), dict) else set()
            spec = document
            for base in block.steer.get("with", []):
                spec = put_over(YAML(typ="safe", pure=True).load(self.terminal.folder / base), document)
            if "parse" not in block.steer and {"name", "grid", "store"} <= spec.keys():
                path = self.terminal.folder / ".read.yaml"
                with path.open("w") as file:
                    YAML().dump(spec, file)
                try:
                    read_spec(path)
                except CubeIngestError as e:
                    block.fail(f"not a spec: {e}")
                path.unlink()

    def _run_shell(self, block: Block, text: str) -> None:
        done = self.terminal.run(text)
        self.printed |= set(self._comparable(done.said))
        self.objects += [json.loads(line) for line in done.said.splitlines() if line.startswith('{"')]
        expected = int(block.steer.get("exit", ["0"])[0])
        if done.code != expected:
            block.fail(f"exit code {done.code}, not {expected}:\n{done.said}", max(1, done.line))
        if expected and 0 < done.line < last_command(text):
            block.fail(f"exit code {expected} before the last command:\n{done.said}", done.line)

    def _run_python(self, block: Block, text: str) -> None:
        said = io.StringIO()
        name = f"{block.page}#{block.line}"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        before, folder = dict(os.environ), Path.cwd()
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        os.environ.update(self.terminal.environment)
        os.chdir(self.terminal.folder)
        try:
            if cores:
                os.sched_setaffinity(0, sorted(cores)[:CORES])
            with redirect_stdout(said), redirect_stderr(said):
                exec(compile(text, name, "exec"), self.names)
        except BaseException as e:
            if isinstance(e, KeyboardInterrupt):
                raise
            lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == name and f.lineno]
            block.fail(f"{type(e).__name__}: {e}\n{traceback.format_exc()}{said.getvalue()}", lines[0] if lines else 1)
        finally:
            if cores:
                os.sched_setaffinity(0, cores)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(before)
        self.printed |= set(self._comparable(said.getvalue()))

    def _ask(self, block: Block, text: str) -> None:
        import duckdb

        folder = Path.cwd()
        os.chdir(self.terminal.folder)
        try:
            duckdb.sql(text).fetchall()
        except duckdb.Error as e:
            block.fail(str(e))
        finally:
            os.chdir(folder)


def is_like(shown: Any, printed: Any) -> bool:
    """Whether two JSON values have the same keys, and values of the same kind below them; of lists the first items, of labels any."""
    if isinstance(shown, dict) and isinstance(printed, dict):
        labels = [k for k in shown if re.fullmatch(r"\d{4}|v\d.*", k)]
        if labels:
            return all(is_like(shown[k], v) for k in labels for v in printed.values())
        return shown.keys() == printed.keys() and all(is_like(shown[k], printed[k]) for k in shown)
    if isinstance(shown, list) and isinstance(printed, list):
        return not shown or not printed or is_like(shown[0], printed[0])
    number = (int, float)
    return (
        None in (shown, printed)
        or type(shown) is type(printed)
        or (isinstance(shown, number) and isinstance(printed, number))
    )


def last_command(text: str) -> int:
    """Line (from 1) on which the last command of a block begins."""
    lines = [i for i, line in enumerate(text.splitlines(), 1) if line.strip() and not line.strip().startswith("#")]
    last = lines[-1]
    while last > 1 and text.splitlines()[last - 2].endswith("\\"):
        last -= 1
    return last


def put_over(base: Any, more: Any) -> Any:
    """A spec with what another says put over it; a grid of another kind takes the place of what was there."""
    if not isinstance(base, dict) or not isinstance(more, dict) or ("origin" in more) != ("origin" in base):
        return more
    return {**base, **{k: put_over(base.get(k), v) for k, v in more.items()}}


def check_commands(block: Block, text: str, axes: set[str]) -> None:
    """A block of sh parses, and each ``cubeingest`` in it is of a command and options that there are."""
    parsed = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True, check=False)
    if parsed.returncode:
        block.fail(parsed.stderr)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        try:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.wordchars += "$:{}@%,=+^!"
            words = list(lexer)
        except ValueError:  # a text of several lines, which bash has parsed
            words = line.split()
        for i, word in enumerate(words):
            if (
                word.rpartition("/")[2] == "cubeingest"
                and words[i + 1 :]
                and not words[i + 1].startswith(("=", "[", ":"))
            ):
                arguments = []
                for argument in words[i + 1 :]:
                    if set(argument) <= set("&|;<>()"):
                        break
                    arguments.append(argument)
                check_arguments(block, arguments, axes)


def check_arguments(block: Block, arguments: list[str], axes: set[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in command.commands:
            block.fail(f"there is no command {name!r} in `cubeingest {' '.join(arguments)}`")
        command = command.commands[name]
    options = {o for p in command.params for o in p.opts} | {"--help", "-h"}
    if command.context_settings.get("ignore_unknown_options"):
        options |= {f"--{axis}" for axis in axes}
    unknown = [w for w in rest if w.startswith("--") and w.partition("=")[0] not in options]
    if unknown:
        block.fail(f"no such option: {', '.join(unknown)} in `cubeingest {' '.join(arguments)}`")


# ---- pages ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def commands() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        process = Commands(Path(folder))
        yield process.folder
        process.close()


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def runs(text: str) -> bool:
    """Has the page anything to do?"""
    return any(block.language not in OUTPUT for block in read_blocks("", text))


def param_of(path: Path) -> Any:
    slow = name_of(path) in SLOW or "<!-- slow -->" in path.read_text(encoding="utf-8")
    return pytest.param(path, id=name_of(path), marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("path", [param_of(p) for p in PAGES if runs(p.read_text(encoding="utf-8"))])
def test_page_runs_from_top_to_bottom(path: Path, tmp_path: Path, commands: Path) -> None:
    text = path.read_text(encoding="utf-8")
    folder = tmp_path / "page"
    folder.mkdir()
    setup = setup_of(text)
    try:
        environment = getattr(doc_setups, setup)(folder) if setup else {}
        terminal = Terminal(folder, commands, tmp_path / "scratch", environment)
        doc_setups.OPENED.callback(terminal.close)
        reader = Reader(terminal, doc_setups.CHANGES.get(setup or "", []))
        reader.read(name_of(path), text)
        check = getattr(doc_setups, f"check_{setup}", None)
        if check:
            check(folder, reader.names)
    finally:
        doc_setups.OPENED.close()
        close_figures()


def close_figures() -> None:
    import matplotlib.pyplot as plt

    plt.close("all")


# ---- the reader itself ----------------------------------------------------------------------------------------

WRONG = {
    "sh": ("echo one\nfalse\necho two", "", r"page.md:6: exit code 1, not 0"),
    "early": ("false\necho two", "<!-- exit: 1 -->", r"page.md:5: exit code 1 before the last command"),
    "right code": ("true", "<!-- exit: 2 -->", r"exit code 0, not 2"),
    "python": ("x = 1\n1 / 0", "", r"page.md:6: ZeroDivisionError"),
    "yaml": ("name: a\ngrid: {}\nstore: ./a.icechunk", "", r"page.md:5: not a spec: .*variables"),
    "printed": ("never said", "<!-- printed -->", r"shows what nothing printed:\nnever said"),
    "json": ('{"a": 1}', "<!-- printed -->", r"nothing on the page printed JSON with these keys"),
    "replace": ("echo one", "<!-- replace: two => three -->", r"'two', which is to be replaced, is not in it"),
    "command": ("cubeingest ingset", "<!-- parse: no network -->", r"there is no command 'ingset'"),
    "option": ("exec cubeingest ingest --wrokers 3 | cat", "<!-- parse: no network -->", r"no such option: --wrokers"),
    "group": ("x && cubeingest compute mean --ovr year", "<!-- parse: no network -->", r"no such option: --ovr"),
    "bash": ("ls", "", r"language 'bash': write sh"),
}
LANGUAGE_OF = {"printed": "text", "yaml": "yaml", "python": "python", "json": "json", "bash": "bash"}


@pytest.mark.parametrize("kind", WRONG)
def test_page_that_is_wrong_is_named_with_its_line(kind: str, tmp_path: Path, commands: Path) -> None:
    code, comment, expected = WRONG[kind]
    page = f"# Page\n\n{comment}\n```{LANGUAGE_OF.get(kind, 'sh')}\n{code}\n```\n"
    (tmp_path / "page").mkdir()
    reader = Reader(Terminal(tmp_path / "page", commands, tmp_path / "scratch", {}), [])
    with pytest.raises(pytest.fail.Exception, match=re.compile(expected, re.DOTALL)):
        reader.read("page.md", page)


def test_what_a_block_leaves_is_there_for_the_next(tmp_path: Path, commands: Path) -> None:
    page = """\
<!-- file: sub/grid.yaml -->
```yaml
a: 1
```

```sh
export NAME=ada
cd sub
```

```sh
echo $NAME; ls
cubeingest --version
```

```python
import os

print(os.environ["NAME"], *os.listdir())
```

<!-- printed -->
```text
ada
grid.yaml
ada grid.yaml
```
"""
    (tmp_path / "page").mkdir()
    before = dict(os.environ), Path.cwd()
    reader = Reader(Terminal(tmp_path / "page", commands, tmp_path / "scratch", {}), [])
    reader.read("page.md", page)
    assert before == (dict(os.environ), Path.cwd())
