"""One BLAS thread while blocks are coded: the cores are shared out block by block.

Results do not depend on it (exact.py), only time does: products of this size are slower on two threads than
on one, and a pool of block workers over a pool of BLAS threads is slower still.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

WORTH_BYTES = 1 << 15

_lock = threading.Lock()
_users = 0
_limit = ExitStack()


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def single_threaded(n_bytes: int) -> Iterator[None]:
    """Limit BLAS to one thread for as long as anybody is inside; then as it was. Safe from many threads.

    Not for short inputs: to stop and start BLAS's threads takes longer than they cost there.
    """
    global _users
    if n_bytes < WORTH_BYTES:
        yield
        return
    with _lock:
        if _users == 0:
            _limit.enter_context(_controller().limit(limits=1, user_api="blas"))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limit.close()
