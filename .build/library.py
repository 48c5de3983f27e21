"""Compiles the native core, chunker/core/c, into one shared library.

All sources go through one command with the same flags: files for an instruction set mark their functions with
`target` attributes, and the library asks the processor when it is loaded. So any C11 compiler that knows
GCC's attributes will do: gcc, clang, or zig's, which comes as the Python package ziglang.

    python .build/library.py        compile into the checkout, after a change of the C sources
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "chunker" / "core"
FLAGS = ("-std=c11", "-O3", "-fvisibility=hidden", "-shared")
SYSTEM_FLAGS: dict[str, tuple[str, ...]] = {
    "win32": (),  # all code is position independent there, and clang rejects the flag
    "darwin": (
        "-fPIC",
        "-Wl,-install_name,@rpath/libchunker.dylib",
    ),  # instead of the path where it was built
}
NAMES = {"win32": "chunker.dll", "darwin": "libchunker.dylib"}
ZIG = (sys.executable, "-m", "ziglang", "cc")
# The oldest macOS that runs: the first one on that processor, or the first that today's linkers still know
# well.
MACOS = {"arm64": "11.0", "x86_64": "10.13"}
REMEDY = (
    "install gcc or clang, or set CHUNKER_BUILD=none to do without (the codec in Python is 1000 times slower)"
)

Command = tuple[str, ...]


def name(platform: str = sys.platform) -> str:
    """What the library is called on a system, given as sys.platform."""
    return NAMES.get(platform, "libchunker.so")


def sources() -> list[str]:
    """All C files, in a fixed order, so that the same compiler gives the same library."""
    return sorted(str(path) for path in (CORE / "c").glob("*.c"))


def command(compiler: Command, target: Path, platform: str = sys.platform, flags: Command = ()) -> list[str]:
    """The one command line."""
    return [*compiler, *FLAGS, *SYSTEM_FLAGS.get(platform, ("-fPIC",)), *flags, "-o", str(target), *sources()]


def run(line: list[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a compiler; returns "" or, in one line, why it failed."""
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, errors="replace", env=environment, check=False
        )
    except OSError as error:
        return f"{line[0]}: {error.strerror}"
    if done.returncode == 0:
        return ""
    said = (done.stderr + done.stdout).splitlines() or [f"exit code {done.returncode}"]
    return next((text for text in said if "error" in text), said[-1]).strip()


@contextmanager
def zig_folders() -> Iterator[dict[str, str]]:
    """An environment in which zig keeps what it caches, some 50 MB, no longer than this lasts."""
    with tempfile.TemporaryDirectory(prefix="chunker-zig-") as folder:
        yield {**os.environ, "ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}


def system_compilers() -> list[Command]:
    """$CC if it is set, then those of cc, gcc and clang that are there."""
    chosen = os.environ.get("CC", "").strip()
    found = [tuple(shlex.split(chosen, posix=os.name == "posix"))] if chosen else []
    return found + [(path,) for path in map(shutil.which, ("cc", "gcc", "clang")) if path]


def compile_here(target: Path, compilers: list[Command]) -> str:
    """Compile for this machine with the first of the compilers whose library loads.

    Returns "" or why the last one failed.
    """
    problem = "no compiler was found"
    flags: Command = ()
    if sys.platform == "darwin":
        flags = (f"-mmacosx-version-min={MACOS.get(os.uname().machine, '11.0')}",)
    for compiler in compilers:
        if compiler == ZIG:  # by default zig compiles for this processor alone
            with zig_folders() as environment:
                problem = run(command(compiler, target, flags=(*flags, "-s", "-mcpu=baseline")), environment)
        else:
            problem = run(command(compiler, target, flags=flags))
        problem = problem or loading_problem(target)
        if not problem:
            return ""
    return problem


def loading_problem(library: Path) -> str:
    """Why this Python cannot load a library; "" if it can. In a process of its own: Windows locks what is
    loaded."""
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).chunker_abi()"
    return run([sys.executable, "-c", code, str(library)])


def needs_zig() -> bool:
    """Whether no compiler of the system gives a library that loads."""
    with tempfile.TemporaryDirectory(prefix="chunker-") as folder:
        return bool(compile_here(Path(folder, name()), system_compilers()))


def build() -> Path:
    """Compile the library into the checkout, whole or not at all; returns its path.

    Ends the program with one line if no compiler can.
    """
    if not sources():
        raise SystemExit(
            f"chunker: the C sources are missing from {CORE / 'c'}: get the whole source distribution"
        )
    compilers = system_compilers() + ([ZIG] if importlib.util.find_spec("ziglang") else [])
    target = CORE / name()
    with tempfile.TemporaryDirectory(prefix=".chunker-", dir=CORE) as folder:
        made = Path(folder, name())
        problem = compile_here(made, compilers)
        if problem:
            raise SystemExit(f"chunker: the native core cannot be compiled ({problem}): {REMEDY}")
        made.replace(target)
    return target


if __name__ == "__main__":
    print(build())
