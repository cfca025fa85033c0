"""The pictures of docs/tutorial.md: ``python docs/make_tutorial_images.py`` works through the page, and keeps what it has drawn in docs/images.

The run that the page kills is stopped by regions instead of seconds, so that the picture of it is the same each time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PAGE = Path(__file__).parent / "tutorial.md"
IMAGES = Path(__file__).parent / "images"
KEPT = {"half.png": "tutorial-half.png", "europe.png": "tutorial-europe.png", "daylight.png": "tutorial-daylight.png"}
"""What the page draws, and what it is called beside it."""

WIDTH = 1100
"""Pixels; pictures that are wider are made smaller."""

KILLED = re.compile(r"timeout --signal KILL \d+ cubeingest ingest --mode independent.*")


def script_of(page: str) -> str:
    """The page's blocks as one script of bash."""
    lines = ["set -e"]
    for name, language, text in re.findall(
        r"(?:^<!-- file: (\S+) -->\n)?^```(sh|python|yaml)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE
    ):
        if name:
            lines.append(f"cat > {name} <<'END_OF_FILE'\n{text}END_OF_FILE")
        elif language == "sh":
            lines.append(KILLED.sub("cubeingest ingest --limit 90", text))
    *code, _ = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)  # the last looks at the tag
    tag = next(i for i, text in enumerate(lines) if text.startswith("cubeingest tag"))
    lines.insert(tag, f"cat > page.py <<'END_OF_FILE'\n{''.join(code)}END_OF_FILE\npython page.py")
    return "\n".join(lines)


def main() -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        script = script_of(PAGE.read_text(encoding="utf-8"))
        subprocess.run(["bash", "-c", script], cwd=folder, env={**os.environ, "PATH": path}, check=True)  # noqa: S603, S607
        for drawn, kept in KEPT.items():
            with Image.open(Path(folder) / drawn) as picture:
                small = picture.convert("RGB")
            if small.width > WIDTH:
                small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
            small.quantize(256).save(IMAGES / kept, optimize=True)


if __name__ == "__main__":
    main()
