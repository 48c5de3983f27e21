"""Clusters of dask.distributed: reaching one, and making sure that its workers code as this process does.

Everything else about them is any executor's: see `pool`. The engine keeps a block's task until its result was
fetched, and gives it to another worker if one is lost.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from chunker import extras
from chunker.codec.executor import calls_at_a_time
from chunker.core.backend import backend
from chunker.errors import ExecutorError
from chunker.version import __version__

if TYPE_CHECKING:
    from chunker.codec.finder import Sent

WAIT_SECONDS = 30


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """A distributed.Client of the scheduler at an address like tcp://scheduler:8786.

    Raises
    ------
    MissingExtra. ExecutorError: nothing answers there.
    """
    extras.require("cluster", "--cluster")
    import logging

    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters of it becomes our one line
    try:
        client = Client(address, timeout=WAIT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ExecutorError(
            f"no scheduler of dask.distributed answers at {address} ({reason}): check the address"
        ) from error
    with client:
        yield client


class Shared:
    """A cluster on which several files are coded side by side: an executor that leaves to each of them its
    share of the blocks under way, which grows as the others end.
    """

    def __init__(self, client: Any, workers: int | None = None) -> None:
        """workers: how many blocks the cluster shall code at a time; None: as many as it has threads."""
        self._client, self._workers = client, workers
        self._lock = threading.Lock()
        self._files = 0

    @contextlib.contextmanager
    def file(self) -> Iterator[None]:
        """One more file, for as long as the context lasts."""
        with self._lock:
            self._files += 1
        try:
            yield
        finally:
            with self._lock:
                self._files -= 1

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """As of a client."""
        return self._client.submit(function, *arguments)

    def nthreads(self) -> dict[str, int]:
        """As of a client: a file's share."""
        total = self._workers or calls_at_a_time(self._client)
        return {"share": -(-total // max(self._files, 1))}


def require_same(executor: Any, model: Sent | None) -> None:
    """Raise ExecutorError unless every worker of a cluster has this version of chunker, a compiled core if
    there is one here, and the model; of other executors nothing is asked.

    Workers that come later are asked with each block (`pool.call`, `finder.Sent`).
    """
    if not hasattr(executor, "run") or not hasattr(executor, "nthreads"):
        return
    if not executor.nthreads():
        try:
            executor.wait_for_workers(1, timeout=WAIT_SECONDS)
        except Exception as error:
            raise ExecutorError("the cluster has no workers: start some (dask worker ADDRESS)") from error
    compiled = backend().name != "python"
    told = executor.run(_report(), on_error="return")
    for worker, found in told.items():
        if isinstance(found, Exception):
            found = " ".join(f"{type(found).__name__}: {found}".split())
            raise ExecutorError(f"worker {worker} cannot code ({found}): install chunker {__version__} there")
        version, core = found
        if version != __version__:
            raise ExecutorError(
                f"worker {worker} has chunker {version}, not {__version__}: install the same everywhere"
            )
        if compiled and core == "python":
            raise ExecutorError(
                f"worker {worker} has no compiled core: install chunker there with a compiler"
            )
    if model is not None:
        for worker, found in executor.run(_fingerprint, model, on_error="return").items():
            if found != model.model.fingerprint:
                raise ExecutorError(f"worker {worker}: {found}")


def _fingerprint(model: Sent) -> bytes:
    return model.model.fingerprint


def _report() -> Callable[[], tuple[str, str]]:
    """A function that needs nothing of this version where it is called: nested, it goes there by value."""

    def report() -> tuple[str, str]:
        from chunker.core.backend import backend
        from chunker.version import __version__

        return __version__, backend().name

    return report
