"""Where the two commands begin: before click and the rest are imported.

Python answers Ctrl-C with a traceback from wherever it is; until `chunker.cli.guard` is there to answer in
one line, the process ends as programs without a handler do, silently.
"""

from __future__ import annotations

import signal
from typing import NoReturn


def chunker() -> NoReturn:
    """The command `chunker`."""
    _end_silently()
    from chunker.cli.main import main

    main()


def nhc() -> NoReturn:
    """The command `nhc`."""
    _end_silently()
    from chunker.cli.nhc import main

    main()


def _end_silently() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
