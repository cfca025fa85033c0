"""The site of the documentation builds without a warning, leads nowhere that is not, and needs nothing from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import cubeingest as ci
from cubeingest.spec import builtin_specs, document

ROOT = Path(__file__).parent.parent

LOADED = {
    "img": "src",
    "script": "src",
    "link": "href",
    "source": "srcset",
    "video": "src",
    "iframe": "src",
    "object": "data",
}
"""By tag: what a browser fetches by itself."""


@dataclass
class Read(HTMLParser):
    """What a page links to and loads, and the anchors that it has."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {k: v for k, v in attrs if v is not None}
        self.anchors |= {given[k] for k in ("id", "name") if k in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in LOADED and LOADED[tag] in given and given.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(given[LOADED[tag]])

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(path: Path) -> Read:
    read = Read()
    read.feed(path.read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_every_link_and_picture_is_there_and_nothing_comes_from_elsewhere(site: Path) -> None:
    pages = {path: read_page(path) for path in site.rglob("*.html")}
    assert len(pages) > 60
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are absolute, since it stands for any address
        for link in page.loaded:
            assert not link.startswith(("http:", "https:", "//")), f"{path.relative_to(site)} loads {link}"
        for link in [*page.links, *page.loaded]:
            address, anchor = urldefrag(link)
            if ":" in address.split("/")[0] or address.startswith("//"):
                continue
            there = (path.parent / unquote(address)).resolve() if address else path
            there = there / "index.html" if there.is_dir() else there
            if not there.is_file() or (
                anchor and there.suffix == ".html" and unquote(anchor) not in pages[there].anchors
            ):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


@pytest.mark.slow
def test_no_style_or_script_is_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.css"):
        assert "url(http" not in path.read_text(encoding="utf-8").replace('"', "").replace("'", ""), path.name


@pytest.mark.slow
def test_every_command_name_and_key_is_in_the_reference(site: Path) -> None:
    from cubeingest.cli.app import ORDER

    for command in ORDER:
        assert f"cubeingest {command}" in read_page(site / "reference" / "cli" / command / "index.html").text
    api = read_page(site / "reference" / "api" / "index.html")
    for name in set(ci.__all__) - {"__version__"}:
        thing = getattr(ci, name)
        assert f"{thing.__module__}.{thing.__qualname__}" in api.anchors
    spec = read_page(site / "reference" / "spec" / "index.html").text
    for model in vars(document).values():
        for key in getattr(model, "model_fields", ()):
            assert f".{key}\n" in spec or f"\n{key}\n" in spec, f"{model.__name__}.{key}"


def test_every_key_of_a_spec_says_what_it_is() -> None:
    import runpy

    found = runpy.run_path(str(ROOT / "docs" / "reference.py"))["docstrings"]()
    models = [m for m in vars(document).values() if isinstance(m, type) and issubclass(m, document.CubeDoc.__mro__[1])]
    own = {(m.__name__, k) for m in models for k in m.__annotations__ if k in m.model_fields}
    assert own - set(found) <= {("TilingCubeDoc", "grid"), ("HealpixCubeDoc", "crs"), ("HealpixCubeDoc", "grid")}


def test_every_picture_is_made_by_a_script_committed_and_shown() -> None:
    import runpy

    scripts = {
        name: runpy.run_path(str(ROOT / "docs" / f"make_{name}.py"))
        for name in ("images", "cube_images", "tutorial_images")
    }
    made = {f"{name}.svg" for name in scripts["images"]["DRAWINGS"]} | {f"grid-{name}.png" for name in builtin_specs()}
    made |= (
        {f"{name}.png" for name in scripts["cube_images"]["PICTURES"]}
        | set(scripts["tutorial_images"]["KEPT"].values())
        | {"view.png"}
    )
    images = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert {name for name in images if not name.startswith("performance-")} == made  # those are by the benchmarks
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("grids/*.md")]
    shown = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert [name for name in sorted(images) if f"images/{name}" not in shown] == []


@pytest.mark.slow
def test_drawings_can_be_drawn_again(tmp_path: Path) -> None:
    import runpy

    script = runpy.run_path(str(ROOT / "docs" / "make_images.py"))
    for name, draw in script["DRAWINGS"].items():
        draw().savefig(tmp_path / f"{name}.svg")
    script["save_small"](script["draw_spec"]("glad-lclu"), tmp_path / "grid.png")
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())
