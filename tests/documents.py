"""The documents of the repository, and what stands in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache

from cli_support import ROOT

README = ROOT / "README.md"
_SOURCES = ("chunker", "cli", "data", "tests")


@cache
def tracked() -> tuple[str, ...] | None:
    """The paths of all files that git tracks, or would add; links are files.
    None if this is no checkout of git."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return None
    done = subprocess.run([git, "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        return None
    names = {name for name in done.stdout.decode().split("\0") if name}
    return tuple(sorted(name for name in names if os.path.lexists(ROOT / name)))


def documents() -> dict[str, str]:
    """Path -> text of each .md file that is tracked; of those in the folders of sources where there is no
    git."""
    names = tracked()
    if names is None:
        found = [
            README,
            ROOT / "SECURITY.md",
            *(path for folder in _SOURCES for path in sorted((ROOT / folder).rglob("*.md"))),
        ]
        names = tuple(path.relative_to(ROOT).as_posix() for path in found)
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names if name.endswith(".md")}


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks in that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def section(text: str, title: str) -> str:
    """What stands under a heading of the second rank.

    Raises
    ------
    ValueError: there is none of that title.
    """
    for part in text.split("\n## ")[1:]:
        head, _, body = part.partition("\n")
        if head == title:
            return body
    raise ValueError(f"no section {title!r}")
