"""The reference, made anew for each build of the site from what it is of: the command line, the package's public names, the models of a spec."""

from __future__ import annotations

import ast
import dataclasses
import functools
import html
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.core import TyperArgument, TyperOption

import cubeingest as ci
from cubeingest.cli import app
from cubeingest.spec import document


@functools.cache
def pages() -> Mapping[str, str]:
    """Text by address."""
    return {**command_pages(), "reference/api.md": api_page(), "reference/spec.md": spec_page()}


# ---- commands -------------------------------------------------------------------------------------------------


def command_pages() -> dict[str, str]:
    root: Any = typer.main.get_command(app)
    names = subcommands(root)
    parts = ["# Commands", *said_of(root)]
    for title, group in (getattr(root, "sections", None) or {"": names}).items():
        rows = "\n".join(f"| [`{n}`]({n}.md) | {first_sentence(root.commands[n].help)} |" for n in group)
        parts += [f"## {title}" if title else "", f"| command | does |\n|---|---|\n{rows}"]
    index = "\n\n".join([*parts, "## For all of them" if len(parts) > 4 else "", options(root)])
    return {
        "reference/cli/index.md": index,
        **{f"reference/cli/{n}.md": command_page(f"cubeingest {n}", root.commands[n], 1) for n in names},
    }


def said_of(command: Any) -> list[str]:
    """What the help says before its list of options, and after it."""
    return [text for text in (paragraphs(command.help), paragraphs(command.epilog)) if text]


def subcommands(group: Any) -> list[str]:
    """In the order in which the help lists them."""
    return [n for n in group.list_commands(context_of("", group)) if not group.commands[n].hidden]


def context_of(path: str, command: Any) -> Any:
    return command.make_context(path, [], resilient_parsing=True)


def command_page(path: str, command: Any, level: int) -> str:
    title = path.removeprefix("cubeingest ") if level == 1 else f"`{path}`"
    parts = [f"{'#' * level} {title}", *said_of(command), f"```text\n{usage(path, command)}\n```"]
    if hasattr(command, "commands"):
        parts += [command_page(f"{path} {name}", command.commands[name], level + 1) for name in subcommands(command)]
        return "\n\n".join(parts)
    given = [p for p in command.params if isinstance(p, TyperArgument)]
    if given:
        rows = "\n".join(f"| {code(p.metavar or p.name.upper())} | {cell(p.help or '')} |" for p in given)
        parts.append(f"| argument | |\n|---|---|\n{rows}")
    parts.append(options(command))
    if command.context_settings.get("ignore_unknown_options"):
        parts.append(
            "`--<axis> VALUE` selects by any axis of the cube: `--year 2000`, `--year 2000,2005`, `--year 2000..2020`."
        )
    return "\n\n".join(parts) + "\n"


def usage(path: str, command: Any) -> str:
    return f"{path} {' '.join(command.collect_usage_pieces(context_of(path, command)))}"


def options(command: Any) -> str:
    context, rows = context_of("", command), []
    for p in command.params:
        record = p.get_help_record(context) if isinstance(p, TyperOption) else None
        if record:
            names, about = record
            rows.append(f"| {code(names)} | {cell(about)} |")
    return "| option | |\n|---|---|\n" + "\n".join(rows) if rows else ""


def paragraphs(text: str | None) -> str:
    """A help text as Markdown; its examples as blocks of their own."""
    plain = (text or "").strip().replace("\b\n", "").replace("\b", "")
    found = []
    for paragraph in plain.split("\n\n"):
        if any(line.startswith("  ") for line in paragraph.splitlines()):
            head, _, rest = paragraph.partition("\n") if not paragraph.startswith("  ") else ("", "", paragraph)
            language = "sh" if rest.strip().startswith("cubeingest") else "text"
            found += [escaped(head), f"```{language}\n{textwrap.dedent(rest).rstrip()}\n```"]
            continue
        before, example, after = paragraph.partition("Example: ")
        found.append(escaped(before.strip()))
        if example:
            found.append(f"```sh\n{' '.join(after.split())}\n```")
    return "\n\n".join(part for part in found if part)


def escaped(text: str) -> str:
    """Text as Markdown: pointed brackets are no tags, stars no emphasis; code as it is."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if i % 2 else p.replace("<", "&lt;").replace("*", "\\*") for i, p in enumerate(parts))


def code(text: str) -> str:
    """Code in a cell of a table."""
    return f"<code>{html.escape(' '.join(text.split())).replace('|', '&#124;')}</code>"


def first_sentence(text: str | None) -> str:
    plain = " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())
    return cell(re.split(r"(?<=[.:]) (?=[A-Z])", plain)[0].removesuffix("."))


def cell(text: str) -> str:
    return escaped(" ".join(text.split())).replace("|", "\\|")


# ---- Python ---------------------------------------------------------------------------------------------------

GROUPS = {
    "Cubes": ("init", "open", "Cube"),
    "Specs and grids": ("read_spec", "infer", "CubeSpec", "TilingGrid", "HealpixGrid", "Axis"),
    "Points, pictures": ("register_statistic", "show_grid"),
}
"""Public names in the order of the page; kinds of error, and names that are new, follow."""


def groups() -> dict[str, list[str]]:
    """All of the package's public names."""
    named = {name for names in GROUPS.values() for name in names} | {"__version__"}
    left = [name for name in ci.__all__ if name not in named]
    errors = [name for name in left if isinstance(getattr(ci, name), type) and issubclass(getattr(ci, name), Exception)]
    others = [name for name in left if name not in errors]
    errors.sort(key=lambda name: (name != "CubeIngestError", name))
    return {**{k: list(v) for k, v in GROUPS.items()}, **({"More": others} if others else {}), "Errors": errors}


def api_page() -> str:
    parts = ["# Python\n\n`import cubeingest as ci`. What is not on this page may change."]
    for group, names in groups().items():
        parts.append(f"## {group}\n")
        parts += [f"::: {home_of(name)}\n" for name in names]
    parts.append("## What methods of a cube return\n")
    parts += [
        f'::: {kind.__module__}.{kind.__name__}\n    options: {{filters: ["!^_", "!^add$"]}}\n' for kind in returned()
    ]
    return "\n".join(parts)


def home_of(name: str) -> str:
    thing = getattr(ci, name)
    return f"{thing.__module__}.{thing.__qualname__}"


def returned() -> list[type]:
    """Dataclasses of ours that methods of :class:`Cube` return, in the order of the methods."""
    found: list[type] = []
    for method in vars(ci.Cube).values():
        function = method.fget if isinstance(method, property) else method
        note = getattr(function, "__annotations__", {}).get("return", "")
        for name in re.findall(r"\w+", str(note)):
            thing = function.__globals__.get(name)
            if (
                dataclasses.is_dataclass(thing)
                and isinstance(thing, type)
                and thing.__module__.startswith("cubeingest")
            ):
                found.append(thing)
    public = {getattr(ci, name) for name in ci.__all__}
    return [kind for kind in dict.fromkeys(found) if kind not in public]


# ---- spec -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a spec: its whole name, what it takes, its default (None: it must be given), and what it is."""

    name: str
    takes: str
    default: str | None
    about: str


SECTIONS = (
    ("The cube", document.CubeDoc, ""),
    ("Grid of pixels", document.GridDoc, "grid."),
    ("Grid of HEALPix cells", document.HealpixDoc, "grid."),
    ("An axis", document.AxisDoc, "axes.NAME."),
    ("A variable", document.VariableDoc, "variables.NAME."),
    ("Tiles of a variable", document.SourceDoc, "variables.NAME.source."),
    ("Points", document.PointsDoc, "points."),
    ("Which regions there are", document.ValidDoc, "valid."),
    ("An object store", document.StorageDoc, "storage."),
)


def spec_page() -> str:
    parts = [
        "# Spec\n\nEvery key of a `grid.yaml`. Keys that are not known are refused, with the nearest name. `NAME` is a name of your own. Relative paths start from the spec's folder."
    ]
    for title, model, prefix in SECTIONS:
        keys = list(keys_of(model, prefix))
        rows = "\n".join(
            f"| `{k.name}` | {k.takes} | {'**required**' if k.default is None else k.default} | {cell(k.about)} |"
            for k in keys
        )
        parts.append(f"## {title}\n\n| key | takes | default | |\n|---|---|---|---|\n{rows}")
    return "\n\n".join(parts) + "\n"


def keys_of(model: type[BaseModel], prefix: str) -> Iterator[Key]:
    """A model's keys, and below each that is a small mapping the keys of that."""
    about = docstrings()
    large = {section[1] for section in SECTIONS}
    for name, field in model.model_fields.items():
        inner = model_within(field.annotation)
        home = next(kind.__name__ for kind in model.__mro__ if (kind.__name__, name) in about)
        yield Key(prefix + name, takes(field.annotation, name), default_of(field), about[home, name])
        if inner is not None and inner not in large:
            yield from keys_of(inner, f"{prefix}{name}.")


def model_within(annotation: Any) -> type[BaseModel] | None:
    kinds = [annotation, *getattr(annotation, "__args__", ())]
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)


WORDS = {"str": "text", "int": "number", "float": "number", "Fraction": "number", "bool": "true, false", "Any": ""}
SPECIAL = {
    "href": "pattern, or patterns by axis value", "compressor": "text, or mapping", "fill_value": "number", "nodata": "number, `none`",
    "aggregate": "`count`, or [mapping](../points.md#statistics)", "filter": "[expression](../points.md#expressions)", "grid": "mapping",
}  # fmt: skip


def takes(annotation: Any, name: str) -> str:
    if name in SPECIAL:
        return SPECIAL[name]
    text = (
        getattr(annotation, "__name__", "")
        if isinstance(annotation, type) and not hasattr(annotation, "__args__")
        else str(annotation)
    )
    if "Literal" in text:
        return ", ".join(f"`{word}`" for word in re.findall(r"'([^']+)'", text))
    if model_within(annotation) is not None or "dict[" in text:
        return "mapping"
    if "list[" in text:
        return "list"
    found = dict.fromkeys(WORDS[word] for word in re.findall(r"\w+", text) if word in WORDS)
    return " or ".join(word for word in found if word) or "value"


def default_of(field: Any) -> str | None:
    """As it is written; an empty text where nothing is meant by leaving it out."""
    if field.is_required():
        return None
    value = field.default
    if value is PydanticUndefined or value is None or value in ({}, []) or isinstance(value, BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@functools.cache
def docstrings() -> dict[tuple[str, str], str]:
    """What stands below each field of the models, by the names of class and field."""
    found = {}
    for node in ast.parse(inspect.getsource(document)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[node.name, field.target.id] = str(text.value.value)
    return found
