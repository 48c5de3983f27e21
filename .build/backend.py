"""The build backend: setuptools, and the native core compiled beside it.

setuptools makes a wheel of Python files alone. Here the library joins it, and the wheel's tag becomes
py3-none-PLATFORM: the library is loaded with ctypes, so that one wheel serves every Python. The library also
stays in the checkout, where git ignores it, for tests that run from there and for editable installs.

CHUNKER_BUILD=none leaves the library out.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import library
from setuptools import build_meta

Settings = Mapping[str, Any] | None

get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable


def wants_library() -> bool:
    """What CHUNKER_BUILD says."""
    chosen = os.environ.get("CHUNKER_BUILD", "")
    if chosen not in ("", "none"):
        raise SystemExit(f"chunker: CHUNKER_BUILD={chosen} is unknown: set it to none, or not at all")
    return not chosen


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """ziglang where the system has no compiler that works, and only then."""
    extra = ["ziglang"] if wants_library() and library.needs_zig() else []
    requires: list[str] = build_meta.get_requires_for_build_wheel(config_settings)
    return requires + extra


get_requires_for_build_editable = get_requires_for_build_wheel


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """The archive of the sources."""
    with clean_folders():
        made: str = build_meta.build_sdist(sdist_directory, config_settings)
    return made


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """A wheel with the library for this machine, or without any."""
    built = prepare_library()
    with clean_folders():
        pure: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    if built is None:
        return pure
    path = Path(wheel_directory, pure)
    joined = add_library(path, built, platform_tag(), Path(wheel_directory))
    path.unlink()
    return joined.name


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """A wheel that points to this checkout, which gets the library."""
    prepare_library()
    with clean_folders():
        made: str = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    return made


def prepare_library() -> Path | None:
    """Compile the library into the checkout; or remove it from there if none is wanted."""
    if wants_library():
        return library.build()
    (library.CORE / library.name()).unlink(missing_ok=True)
    return None


@contextmanager
def clean_folders() -> Iterator[None]:
    """setuptools works in an empty folder: from build/ in the checkout it would pack what has been deleted
    since."""
    before = os.environ.get("DIST_EXTRA_CONFIG")
    with tempfile.TemporaryDirectory(prefix="chunker-build-") as folder:
        settings = Path(folder, "settings.cfg")
        settings.write_text(f"[build]\nbuild_base = {Path(folder, 'build')}\n", encoding="utf-8")
        os.environ["DIST_EXTRA_CONFIG"] = str(settings)
        try:
            yield
        finally:
            del os.environ["DIST_EXTRA_CONFIG"]
            if before is not None:
                os.environ["DIST_EXTRA_CONFIG"] = before


def platform_tag() -> str:
    """This machine in a wheel's name."""
    if sys.platform == "darwin":
        machine = os.uname().machine  # the compiler's default, also under a Python that is universal
        return f"macosx_{library.MACOS.get(machine, '11.0')}_{machine}".replace(".", "_")
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def add_library(pure: Path, built: Path, platform: str, folder: Path) -> Path:
    """Copy a wheel of Python files, with a library in chunker/core and the tag py3-none-PLATFORM;
    returns its path."""
    tag = f"py3-none-{platform}"
    made = folder / f"{pure.name.removesuffix('-py3-none-any.whl')}-{tag}.whl"
    rows: list[list[str]] = []
    with zipfile.ZipFile(pure) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:

        def put(info: zipfile.ZipInfo, content: bytes) -> None:
            target.writestr(info, content, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append([info.filename, f"sha256={digest}", str(len(content))])

        record = next(info for info in source.infolist() if info.filename.endswith(".dist-info/RECORD"))
        entry = zipfile.ZipInfo(f"chunker/core/{built.name}", record.date_time)
        entry.external_attr = 0o100755 << 16
        put(entry, built.read_bytes())
        for info in source.infolist():
            if info.filename == record.filename:
                continue
            content = source.read(info)
            if info.filename.endswith(".dist-info/WHEEL"):
                content = content.replace(b"Root-Is-Purelib: true", b"Root-Is-Purelib: false")
                content = content.replace(b"Tag: py3-none-any", f"Tag: {tag}".encode())
            put(info, content)
        rows.append([record.filename, "", ""])
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows(rows)
        target.writestr(record, lines.getvalue(), zipfile.ZIP_DEFLATED)
    return made
