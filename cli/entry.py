"""Where the two commands begin: before click and the rest are imported.

Python answers Ctrl-C with a traceback from wherever it is; until `chunker.cli.guard` is there to answer in
one line, the process ends as programs without a handler do, silently.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn


def chunker() -> NoReturn:
    """The command `chunker`."""
    _run("main", "chunker")


def nhc() -> NoReturn:
    """The command `nhc`."""
    _run("nhc", "nhc")


def _run(module: str, program: str) -> NoReturn:
    _end_silently()
    try:
        main: Callable[[], NoReturn] = import_module(f"chunker.cli.{module}").main
    except MemoryError:
        _fail(program, "out of memory; raise the limit (ulimit -v)")
    except (
        ImportError,
        OSError,
    ) as error:  # a library that cannot be mapped into memory looks like that, too
        _fail(
            program, f"cannot be loaded ({error}); raise the memory's limit (ulimit -v), or install it again"
        )
    main()


def _fail(program: str, text: str) -> NoReturn:
    os.write(2, f"{program}: {' '.join(text.split())}\n".encode(errors="backslashreplace"))
    os._exit(1)


def _end_silently() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
