"""Find and read a spec: a YAML file, a URL, one that comes with the package, or the one that a cube holds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cubeingest.errors import SpecError, nearest
from cubeingest.extras import import_client
from cubeingest.spec.build import spec_from_document
from cubeingest.spec.document import CubeDoc
from cubeingest.spec.model import CubeSpec, plain
from cubeingest.storage import kind_of

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def read_spec(path: str | os.PathLike[str]) -> CubeSpec:
    """Read a spec from a YAML file, a URL, or by the name of one that comes with the package (``glad-lclu``).

    Raises :class:`SpecError` naming the file, the key and what to do.
    """
    where = os.fspath(path)
    if "://" in where:
        import fsspec

        import_client(kind_of(where) or "")
        try:
            with fsspec.open(where, "rt", encoding="utf-8") as f:
                text = f.read()
        except (OSError, ValueError, ImportError) as e:
            raise SpecError(f"cannot read spec {where!r}: {e}") from e
        return spec_from_yaml(text, where, where.rsplit("/", 1)[0])
    file = Path(where)
    if file.is_file():
        return spec_from_yaml(_read_text(file), where, str(file.resolve().parent))
    builtin = builtin_specs()
    if where in builtin:
        return spec_from_yaml(builtin[where].read_text(encoding="utf-8"), where, str(Path.cwd()))
    if file.is_dir():
        raise SpecError(f"{where!r} is a folder: name the YAML file in it")
    raise SpecError(
        f"no spec file {where!r}{nearest(where, list(builtin))} (specs that come with cubeingest: {', '.join(sorted(builtin))})"
    )


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError(f"{str(file)!r} is no text: a spec is a YAML file (UTF-8)") from None
    except OSError as e:
        raise SpecError(f"cannot read spec {str(file)!r}: {e}") from e


def builtin_specs() -> dict[str, Traversable]:
    """The specs that come with the package, by name."""
    from importlib.resources import files

    package = files("cubeingest")
    for folder in (package / "grids", Path(str(package)).parent / "grids"):
        if folder.is_dir():
            return {f.name.removesuffix(".yaml"): f for f in folder.iterdir() if f.name.endswith(".yaml")}
    return {}


def spec_from_json(text: str) -> CubeSpec:
    """The spec that a cube holds. Raises :class:`SpecError` if this version cannot read it."""
    try:
        kept = json.loads(text)
        document, base = kept["document"], kept["base"]
    except (ValueError, KeyError, TypeError) as e:
        raise SpecError(
            f"the spec in the cube is damaged ({type(e).__name__}): `cubeingest init --update` cannot mend it"
        ) from None
    return spec_from_document(document, base, "the spec in the cube")


def spec_from_yaml(text: str, where: str, base: str) -> CubeSpec:
    """The spec that YAML text declares. ``where`` is what messages call it, ``base`` what relative paths start from.

    Raises :class:`SpecError` naming the place, the key and what to do.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = plain(YAML(typ="safe", pure=True).load(text))
    except RecursionError:
        raise SpecError(f"{where}: nested too deeply, or a part refers to itself") from None
    except MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(e.problem or e.context).split())
        if "constructor" in problem:
            problem = f"{problem}: only plain YAML is read, tags are refused"
        if "'\\t'" in problem:
            problem = f"{problem}: YAML is indented by spaces, not by tabs"
        raise SpecError(f"{where}{place}: {problem}") from None
    except (YAMLError, ValueError) as e:
        raise SpecError(f"{where}: not valid YAML: {' '.join(str(e).split())}") from None
    if not isinstance(document, dict):
        raise SpecError(
            f"{where}: a spec is a mapping with keys {', '.join(CubeDoc.model_fields)}; got {type(document).__name__}"
        )
    return spec_from_document(document, base, where)
