"""The application that commands are added to: how they are grouped, explained, and what is said to a misspelt one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from itertools import chain
from typing import Annotated, Any, NoReturn, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from cubeingest.cli.output import say
from cubeingest.errors import nearest

GROUPS = {
    "Make": ("demo", "infer", "init", "extend"),
    "Fill": ("plan", "ingest", "status", "verify", "overviews", "materialize"),
    "Look": ("show", "view", "regions", "history", "chunks", "cost"),
    "Use": ("compute", "export", "rechunk"),
    "Keep": ("publish", "tag", "diff", "check", "gc"),
}
"""Commands by what one wants, as the help lists them."""

ORDER = tuple(chain.from_iterable(GROUPS.values()))
"""In which the help lists commands: as one comes to need them."""

OTHER_WORDS = {
    "help": "--help", "version": "--version", "create": "init", "new": "init", "run": "ingest", "load": "ingest", "write": "ingest", "info": "status",
    "ls": "regions", "list": "regions", "log": "history", "plot": "show map", "draw": "show map", "picture": "show map", "validate": "verify",
}  # fmt: skip
"""What people call commands elsewhere."""

WAY = """\
cubeingest turns a pile of raster tiles, or of points, into one analysis-ready,
versioned datacube. See the whole way on small real tiles:

  cubeingest demo

Your own tiles, in four steps (the spec is drafted by `cubeingest infer TILES`):

  cubeingest init grid.yaml   create the cube that the spec declares
  cubeingest plan             what would be done, and which tiles do not fit
  cubeingest ingest           read the tiles into the cube, and commit
  cubeingest status           what is done, and what is not yet

All commands: cubeingest --help
One of them, with examples: cubeingest ingest --help
"""

USAGE_ERROR: Any = typer.BadParameter.__base__
"""What typer raises for all wrong arguments; it has no public name for it."""

SELECTING = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Commands that take ``--<axis> VALUE``: what typer does not know is checked against the cube's axes."""


AXES_HELP = "Of any axis one value (--year 2000), several (2000,2005) or a range (2000..2020); repeatable."


def refuse_usage(ctx: typer.Context, message: str) -> NoReturn:
    """Say what is wrong with a command's arguments, and end with exit code 2."""
    _refuse(ctx.command_path, message)


def _refuse(path: str, message: str) -> NoReturn:
    say(f"error: {message}", "red")
    say(f"Try `{path} --help`.")
    raise typer.Exit(2)


@contextmanager
def _plainly(command: Any, name: str | None, parent: Any) -> Iterator[None]:
    """What typer says of wrong arguments, as our own errors are said."""
    try:
        yield
    except USAGE_ERROR as e:
        path = f"{parent.command_path} {name}" if parent is not None else str(name)
        text = e.format_message().rstrip(".")
        if hasattr(e, "possibilities"):
            known = [o for p in command.params for o in p.opts] + ["--help"]
            text = f"no such option: {e.option_name}{nearest(e.option_name, known).replace(chr(39), '')}"
        elif getattr(e, "param", None) is not None and not e.message and command.epilog:
            text += f", such as: {_first_example(command.epilog)}"
        elif text.startswith("Got unexpected"):
            text = f"unexpected argument {text.rpartition('(')[2].rstrip(')')!r}"
        text = text.replace("Value error, ", "")
        _refuse(path, text[:1].lower() + text[1:])


def _first_example(epilog: str) -> str:
    return epilog.splitlines()[1].partition("  # ")[0].strip()


def _without_value(option: Any) -> Any:
    """``--help``, not given, is no: to make a value of None typer imports pydantic, which takes longer than all the rest of a help."""
    if option is not None and option.default is None:
        option.default = False
    return option


def _write_end(epilog: str | None, formatter: Any) -> None:
    """The end of a help as it is: commands are not broken into lines, so that they can be copied."""
    if epilog:
        formatter.write_paragraph()
        formatter.write(epilog + "\n")


class Command(TyperCommand):
    """A command whose wrong arguments are said in our own way, and whose values are completed by the cube."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with _plainly(self, info_name, parent):
            return super().make_context(info_name, args, parent, **extra)

    def get_help_option(self, ctx: Any) -> Any:
        return _without_value(super().get_help_option(ctx))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_end(self.epilog, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            left: list[str] = super().parse_args(ctx, args)
            return left
        # To complete a word the others are only looked at: to make values of them takes three times as long.
        values, left, _ = self.make_parser(ctx).parse_args(args=list(args))
        for param in self.get_params(ctx):
            ctx.params[param.name], source = param.consume_value(ctx, values)
            ctx.set_parameter_source(param.name, source)
        ctx._opt_prefixes.update(("-", "--"))
        ctx.args = list(left)
        return list(left)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        super().format_options(ctx, formatter)
        if ctx.ignore_unknown_options and any(p.name in ("bbox", "variable") for p in self.params):
            with formatter.section("Axes of the cube"):
                formatter.write_dl([("--<axis> VALUE", AXES_HELP)])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Options, with those for the axes of the cube; and the values of an axis."""
        found = super().shell_complete(ctx, incomplete)
        if not ctx.ignore_unknown_options:
            return found
        from cubeingest.cli.complete import complete_axes

        return [*found, *complete_axes(ctx, incomplete)]


class Group(TyperGroup):
    """A command that has others; without one of them it shows which there are."""

    way: str | None = None
    sections: dict[str, tuple[str, ...]] | None = None

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with _plainly(self, info_name, parent):
            return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            if self.way is None:
                sys.stderr.write(ctx.get_help() + "\n")
                raise typer.Exit(2)
            from cubeingest.cli.options import find_store

            where, _ = find_store()
            sys.stdout.write(self.way + (f"The cube of this folder: {where}\n" if where else ""))
            raise typer.Exit(0)
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Any) -> Any:
        return _without_value(super().get_help_option(ctx))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_end(self.epilog, formatter)

    def list_commands(self, ctx: Any) -> list[str]:
        names: list[str] = super().list_commands(ctx)
        if self.sections is None:
            return names
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if self.get_command(ctx, word) is None and not ctx.resilient_parsing and not word.startswith("-"):
            refuse_usage(ctx, f"no such command: {word}{self._hint(ctx, word)}")
        return super().resolve_command(ctx, args)

    def _hint(self, ctx: Any, word: str) -> str:
        """Which command is meant: one of another group, or one by the name that it has elsewhere, or a misspelt one."""
        root = ctx.find_root()
        below = [f"{name} {word}" for name, c in root.command.commands.items() if word in getattr(c, "commands", {})]
        if word in root.command.commands:
            meant = word
        elif below or (self is root.command and word in OTHER_WORDS):
            meant = (below or [OTHER_WORDS[word]])[0]
        else:
            from difflib import get_close_matches

            hits = get_close_matches(word, self.list_commands(ctx), n=1, cutoff=0.5)
            if not hits:
                return f" (there are: {', '.join(self.list_commands(ctx))})" if self is not root.command else ""
            return f"; did you mean `{ctx.command_path} {hits[0]}`?"
        return f"; did you mean `{root.command_path} {meant}`?"

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Commands by section, each with its whole first sentence."""
        names = self.list_commands(ctx)
        sections = self.sections or {"Commands": tuple(names)}
        rest = {"Others": tuple(n for n in names if n not in chain.from_iterable(sections.values()))}
        widest = max(map(len, names))
        for title, group in (sections | rest).items():
            rows = [(n.ljust(widest), self.commands[n].get_short_help_str(200)) for n in group if n in self.commands]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Root(Group):
    """The command ``cubeingest`` itself."""

    way = WAY
    sections = GROUPS


class App(typer.Typer):
    """A typer application whose commands have examples, and may take their options as dataclasses."""

    def command(  # type: ignore[override]
        self, name: str | None = None, *, examples: Sequence[str] = (), selecting: bool = False, **settings: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Add a function as a command. ``examples`` end its help; ``selecting``: it takes ``--<axis> VALUE``.

        A parameter that is a dataclass stands for its fields: each is an option.
        """
        if examples:
            settings["epilog"] = write_examples(examples)
        if selecting:
            settings["context_settings"] = SELECTING
        register = super().command(name, cls=settings.pop("cls", Command), **settings)

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            register(spread(function))
            return function

        return add


def write_examples(lines: Sequence[str]) -> str:
    """The end of a command's help. A line is a command, with or without a remark after ``  # ``."""
    plural = "s" * (len(lines) > 1)
    return f"Example{plural}:\n" + "\n".join(f"  {line}" for line in lines)


def spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes the fields of its dataclass parameters one by one, as typer wants them."""
    hints = get_type_hints(function, include_extras=True)
    flat: list[Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in signature(function).parameters.items():
        kind = hints[name]
        if not is_dataclass(kind):
            flat.append(parameter.replace(annotation=kind, kind=Parameter.KEYWORD_ONLY))
            continue
        groups[name] = kind
        own = get_type_hints(kind, include_extras=True)
        flat += [
            Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=own[f.name]) for f in fields(kind)
        ]
    if not groups:
        return function

    @wraps(function)
    def call(**given: Any) -> Any:
        made = {name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        return function(**given, **made)

    del call.__wrapped__
    call.__annotations__ = {p.name: p.annotation for p in flat}
    call.__signature__ = Signature(flat)  # type: ignore[attr-defined]
    return call


def make_group(name: str, text: str, examples: Sequence[str]) -> App:
    """A command of the application that has commands of its own."""
    group = App(
        name=name, cls=Group, help=text, epilog=write_examples(examples), rich_markup_mode=None, pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip
    app.add_typer(group)
    return group


app = App(
    name="cubeingest",
    cls=Root,
    help="Turn a pile of raster tiles, or of points, into one analysis-ready, versioned datacube.",
    epilog=write_examples(
        (
            "cubeingest demo                # the whole way on small real tiles",
            "cubeingest init grid.yaml      # your own: then plan, ingest, status",
            "cubeingest ingest --help       # what a command does, with examples",
        )
    ),
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from cubeingest import __version__

        sys.stdout.write(f"cubeingest {__version__}\n")
        raise typer.Exit


def _install_completion(ctx: typer.Context, param: typer.CallbackParam, value: bool) -> None:
    if value:
        from typer.completion import install_callback

        install_callback(ctx, param, value)


def _show_completion(ctx: typer.Context, param: typer.CallbackParam, value: bool) -> None:
    if value:
        from typer.completion import show_callback

        show_callback(ctx, param, value)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    install_completion: Annotated[
        bool,
        typer.Option("--install-completion", callback=_install_completion, help="Install completion for this shell."),
    ] = False,
    show_completion: Annotated[
        bool, typer.Option("--show-completion", callback=_show_completion, help="Print what completion needs instead.")
    ] = False,
) -> None:
    """Turn a pile of raster tiles, or of points, into one analysis-ready, versioned datacube."""
