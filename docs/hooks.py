"""What MkDocs is to know of this project: pages from outside of docs/, the generated reference, links that work here and on a code host.

Links are written as they must be on a code host, relative to the file that they stand in. Here a file outside of docs/ that a page
links to becomes a page, too: `MOUNTED` says under which address, all others as listings below ``source/``.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

import reference

ROOT = Path(__file__).parent.parent

MOUNTED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples/index.md",
    "grids/README.md": "grids/index.md",
    "cubeingest/data/LICENSE.md": "source/land-licence.md",
}
"""Pages by their path in the repository."""

ALONE = {
    "index.md",
    "tutorial.md",
    "grids/index.md",
    "reliability.md",
    "performance.md",
    "changes.md",
    "contributing.md",
    "security.md",
}
"""Pages that have a part of the site for themselves."""

FOLDERS = {"docs/decisions": "decisions/index.md", "examples": "examples/index.md", "grids": "grids/index.md"}
"""Folders that pages link to, and what stands for them."""

LINK = re.compile(r"(\]\()([^)\s]+)((?:\s+\"[^\"]*\")?\))|^(\[[^\]]+\]:\s+)(\S+)()$", re.MULTILINE)
TAG = re.compile(r"((?:src|srcset|href)=)\"([^\"#]+)\"")
CODE = re.compile(r"^ *(`{3,}).*?^ *\1 *$|`+[^`\n]+`+", re.DOTALL | re.MULTILINE)
STEERING = re.compile(r"^ *<!-- *(file|with|replace|exit|printed|parse|setup|slow)\b.*?--> *\n", re.MULTILINE)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "sh", ".json": "json"}


# ---- links ----------------------------------------------------------------------------------------------------


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """``text``, changed where it is not code."""
    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [change(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(text[end:])])


def targets(text: str) -> Iterator[str]:
    """Relative links of a page, without anchors."""
    found: list[str] = []

    def collect(part: str) -> str:
        found.extend(m[2] or m[5] for m in LINK.finditer(part))
        return part

    outside_code(text, collect)
    return (path for link in found if (path := link.partition("#")[0]) and "://" not in link and ":" not in path)


def address_of(path: str) -> str | None:
    """Where a file or folder of the repository is on the site; None if it is not there."""
    if path in MOUNTED:
        return MOUNTED[path]
    if path.rstrip("/") in FOLDERS:
        return FOLDERS[path.rstrip("/")]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if not (ROOT / path).is_file():
        return None
    return f"source/{path}.md" if is_text(ROOT / path) else f"source/{path}"


def is_text(path: Path) -> bool:
    return path.suffix in LANGUAGES or path.suffix in ("", ".txt", ".md", ".cfg")


def rewrite(text: str, origin: str, address: str) -> str:
    """A page's text with links that hold on the site. ``origin`` is its path in the repository."""

    def change(match: re.Match[str]) -> str:
        before, link, after = (match[1], match[2], match[3]) if match[1] else (match[4], match[5], match[6])
        path, mark, anchor = link.partition("#")
        if not path or ":" in path:
            return match[0]
        there = address_of(posixpath.normpath(posixpath.join(posixpath.dirname(origin), path)))
        if there is None:
            return match[0]  # MkDocs will say that it is nowhere
        relative = posixpath.relpath(there, posixpath.dirname(address) or ".")
        return f"{before}{relative}{mark}{anchor}{after}"

    def change_tag(match: re.Match[str]) -> str:
        """What stands in HTML is not for MkDocs, so it must be an address of the finished site."""
        there = (
            None
            if ":" in match[2]
            else address_of(posixpath.normpath(posixpath.join(posixpath.dirname(origin), match[2])))
        )
        return match[0] if there is None else f'{match[1]}"{posixpath.relpath(url_of(there), url_of(address))}"'

    return outside_code(STEERING.sub("", text), lambda part: TAG.sub(change_tag, LINK.sub(change, part)))


def url_of(address: str) -> str:
    """The folder that a page becomes; another file stays where it is."""
    return (
        posixpath.dirname(address)
        if address.endswith("/index.md") or address == "index.md"
        else address.removesuffix(".md")
    ) or "."


# ---- pages ----------------------------------------------------------------------------------------------------


def listing(path: str) -> str:
    """A page that shows a file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    return f"# {path}\n\n{fence}{LANGUAGES.get(Path(path).suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def outside_pages() -> dict[str, str]:
    """Path in the repository of every file outside of docs/ that is on the site: those that are mounted, and what pages link to."""
    found = {path: there for path, there in MOUNTED.items() if (ROOT / path).is_file()}
    pages = [p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md")] + list(found)
    for page in pages:
        for link in targets((ROOT / page).read_text(encoding="utf-8")):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
            there = address_of(path)
            if there is not None and not path.startswith("docs/") and (ROOT / path).is_file():
                found[path] = there
    return found


def decisions() -> dict[str, str]:
    """Address and title of each decision, and of their index."""
    return {
        f"decisions/{p.name}": p.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        for p in sorted((ROOT / "docs" / "decisions").glob("*.md"))
        if p.name != "index.md"
    }


def index_of_decisions() -> str:
    rows = "\n".join(f"- [{title}]({posixpath.basename(address)})" for address, title in decisions().items())
    return f"# Decisions\n\nWhat was chosen, and why, with the measurement.\n\n{rows}\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation, without pages that are not there, with those of folders."""
    generated = {*reference.pages(), "decisions/index.md", *outside_pages().values()}
    folders = {
        "decisions": ["decisions/index.md", *decisions()],
        "reference/cli": [a for a in reference.pages() if a.startswith("reference/cli/")],
    }

    def keep(entry: Any) -> Any:
        ((title, what),) = entry.items()
        if isinstance(what, list):
            kept = [k for e in what if (k := keep(e)) is not None]
            return {title: kept} if kept else None
        if what in folders:
            return {title: folders[what]}
        return entry if what in generated or (ROOT / "docs" / what).is_file() else None

    config.nav = [k for e in config.nav or [] if (k := keep(e)) is not None]
    config.watch = [
        *config.watch,
        *(str(ROOT / path) for path in ("README.md", "CHANGELOG.md", "examples", "grids", "cubeingest")),
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, address in outside_pages().items():
        if is_text(ROOT / path):
            content = rewrite(listing(path), path, address) if path.endswith(".md") else listing(path)
            files.append(File.generated(config, address, content=content))
        else:
            files.append(File.generated(config, address, abs_src_path=str(ROOT / path)))
    for address, content in {**reference.pages(), "decisions/index.md": index_of_decisions()}.items():
        files.append(File.generated(config, address, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if page.file.src_uri in ALONE:
        page.meta["hide"] = ["navigation"]  # it would be a column with this page alone
    if page.file.generated_by is not None:
        return markdown
    return rewrite(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings name things as Sphinx does, ``:class:`Cube```: without the role they are code."""
    return re.sub(r":(?:class|func|meth|mod|attr|data):<code>~?([^<]+)</code>", r"<code>\1</code>", html)
