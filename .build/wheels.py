"""Builds the wheels of five systems on one machine, with zig's compiler, and checks each.

    pip install setuptools ziglang && python .build/wheels.py [FOLDER [PLATFORM ...]]

FOLDER is dist unless given; PLATFORM one or more of those in TARGETS. The first run takes minutes, most of it
for the Windows runtime that zig compiles and keeps.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import backend
import library
from setuptools import build_meta


@dataclass(frozen=True)
class Target:
    """A system as zig names it, the system's sys.platform, and how its libraries begin: format and
    processor."""

    zig: str
    platform: str
    begins: re.Pattern[bytes]


def pattern(text: bytes) -> re.Pattern[bytes]:
    """Of bytes of any value."""
    return re.compile(text, re.DOTALL)


TARGETS = {
    "manylinux_2_17_x86_64": Target("x86_64-linux-gnu.2.17", "linux", pattern(rb"\x7fELF.{14}\x3e\0")),
    "manylinux_2_17_aarch64": Target("aarch64-linux-gnu.2.17", "linux", pattern(rb"\x7fELF.{14}\xb7\0")),
    "macosx_11_0_arm64": Target("aarch64-macos.11.0", "darwin", pattern(rb"\xcf\xfa\xed\xfe\x0c\0\0\x01")),
    "macosx_10_13_x86_64": Target("x86_64-macos.10.13", "darwin", pattern(rb"\xcf\xfa\xed\xfe\x07\0\0\x01")),
    "win_amd64": Target("x86_64-windows-gnu", "win32", pattern(rb"MZ.{62,510}PE\0\0\x64\x86")),
}
GLIBC = (2, 17)
EXPORTS = (b"chunker_abi", b"chunker_encode_block", b"chunker_decode_block")


def compile_for(target: Target, path: Path) -> None:
    """Compile the library with zig. Ends the program with one line if it cannot."""
    flags = ("-target", target.zig, *(() if target.platform == "darwin" else ("-s",)))
    problem = library.run(library.command(library.ZIG, path, target.platform, flags))
    if problem:
        raise SystemExit(f"{target.zig}: {problem}: pip install ziglang")


def check_library(content: bytes, target: Target) -> list[str]:
    """What is wrong with a library: format, processor, exports, and on Linux the glibc that it needs."""
    problems = [] if target.begins.match(content) else ["it is of another format or processor"]
    problems += [f"it lacks {export.decode()}" for export in EXPORTS if export + b"\0" not in content]
    if target.platform == "linux":
        # Names of versions stand in the table of strings that the loader reads.
        needs = {
            tuple(map(int, found.split(b"."))) for found in re.findall(rb"GLIBC_(\d+(?:\.\d+)+)", content)
        }
        problems += [f"it needs glibc {'.'.join(map(str, found))}" for found in needs if found > GLIBC]
        needed = set(re.findall(rb"\0(lib[a-z0-9_]+\.so\.[0-9]+)", content)) - {b"libc.so.6"}
        problems += [f"it needs {found.decode()}" for found in sorted(needed)]
    return problems


def check_wheel(path: Path, platform: str) -> list[str]:
    """What is wrong with a wheel: its tag, a file that does not belong, one that RECORD tells otherwise,
    its library."""
    target = TARGETS[platform]
    problems = []
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        info = next(name for name in names if name.endswith(".dist-info/WHEEL")).removesuffix("WHEEL")
        tags = re.findall(r"^Tag: (.*)$", wheel.read(info + "WHEEL").decode(), re.MULTILINE)
        if tags != [f"py3-none-{platform}"] or not path.name.endswith(f"-{tags[0]}.whl"):
            problems.append(f"its tag is {tags}")
        libraries = [name for name in names if name.endswith((".so", ".dylib", ".dll"))]
        if libraries != [f"chunker/core/{library.name(target.platform)}"]:
            problems.append(f"its libraries are {libraries}")
        foreign = [
            name for name in names if not name.startswith(("chunker/", info)) or name.endswith((".c", ".h"))
        ]
        problems += [f"{name} does not belong there" for name in foreign]
        recorded = {line.split(",")[0] for line in wheel.read(info + "RECORD").decode().splitlines()}
        problems += [f"RECORD and contents differ in {name}" for name in sorted(recorded ^ set(names))]
        problems += [problem for name in libraries for problem in check_library(wheel.read(name), target)]
    return problems


def pure_wheel(folder: str) -> Path:
    """The wheel without a library, from which all others are made."""
    os.chdir(library.ROOT)
    os.environ.setdefault("SOURCE_DATE_EPOCH", "946684800")  # the same sources give the same wheels
    quiet = io.StringIO()  # setuptools tells much
    with backend.clean_folders(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        return Path(folder, build_meta.build_wheel(folder))


def main(folder: str = "dist", *platforms: str) -> None:
    """Build wheels and check them; prints a line for each."""
    unknown = set(platforms) - set(TARGETS)
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    goal = Path(folder).absolute()
    goal.mkdir(parents=True, exist_ok=True)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="chunker-wheels-") as work:
        pure = pure_wheel(work)
        for platform in platforms or TARGETS:
            target = TARGETS[platform]
            built = Path(work, library.name(target.platform))
            compile_for(target, built)
            wheel = backend.add_library(pure, built, platform, goal)
            problems = check_wheel(wheel, platform)
            bad += bool(problems)
            size, digest = built.stat().st_size, hashlib.sha256(wheel.read_bytes()).hexdigest()[:16]
            said = "; ".join(problems) or f"library {size:,} bytes, wheel {wheel.stat().st_size:,}, {digest}"
            print(f"{wheel.name}: {said}", flush=True)
    if bad:
        raise SystemExit(f"{bad} of the wheels are wrong")


if __name__ == "__main__":
    main(*sys.argv[1:])
