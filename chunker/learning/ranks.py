"""Several processes that train one stack together, as torchrun starts them: data-parallel training.

Every rank has the whole stack and draws the same windows of all streams; of each it computes its own rows.
Gradients are summed over the ranks (all-reduce), so all of them take the same step:

    streams -> window (T, B) -> rows of rank r -> loss_r -> gradient_r --sum over r--> the same AdamW step

So the text that each stream reads, and what a checkpoint holds, do not depend on the number of ranks. The
first rank alone writes files. Torch is loaded where there are several.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from chunker.errors import ChunkerError, TrainingError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Of waiting for another rank, which may read a corpus with the contexts meanwhile; one that ends is noticed
# at once.
_PATIENCE = timedelta(days=7)
_STARTED_BY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # variables of torchrun


class LostRank(TrainingError):
    """Another rank has ended, so that this one cannot go on."""


class FailedElsewhere(TrainingError):
    """Another rank has failed, and tells why."""


class Ranks:
    """This process among those that train together; `Ranks()` is one that trains alone.

    lost: whether another rank has ended; nothing is exchanged any more then.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self.lost = False

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and tells what happens."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """This rank's part of so many rows. Raises UsageError if there are fewer rows than ranks."""
        if batch < self.count:
            raise UsageError(f"a batch of {batch} is too small for {self.count} processes; raise --batch")
        return slice(batch * self.rank // self.count, batch * (self.rank + 1) // self.count)

    def device(self, device: torch.device) -> torch.device:
        """The device of this rank: of several GPUs the one of its number."""
        import torch

        if self.count > 1 and device == torch.device("cuda"):
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(device)
        return device

    # ---- what is exchanged -------------------------------------------------------------------------------

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place. Raises LostRank."""
        if self.count > 1 and not self.lost:
            import torch.distributed

            with self._noticed():
                torch.distributed.all_reduce(tensor)
        return tensor

    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Make tensors those of the first rank. Raises LostRank."""
        if self.count > 1 and not self.lost:
            import torch.distributed

            with self._noticed():
                for tensor in tensors:
                    torch.distributed.broadcast(tensor, 0)

    def agreed(self, value: float) -> float:
        """The first rank's value. Raises LostRank."""
        if self.count == 1:
            return value
        import torch

        told = torch.tensor(value, dtype=torch.float64)
        self.follow_first([told])
        return float(told)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is set on any rank. Raises LostRank."""
        if self.count == 1:
            return list(flags)
        import torch

        return [bool(n) for n in self.sum_(torch.tensor(flags, dtype=torch.int64)).tolist()]

    def whole(self, part: Tensor, batch: int, dim: int, cold: Tensor) -> Tensor:
        """The rows of all ranks, from this rank's part; of ranks that are lost, those of `cold`.

        Raises
        ------
        LostRank: just now.
        """
        if self.count == 1:
            return part
        import torch

        rows = self.rows(batch)
        where = (slice(None),) * dim + (rows,)
        if self.lost:
            found = cold.clone()
            found[where] = part.to(cold)
            return found
        # Sums with zeros: parts may differ in size, which gathering does not allow everywhere.
        kind = torch.uint8 if part.dtype == torch.bool else part.dtype
        found = torch.zeros(cold.shape, dtype=kind, device=part.device)
        found[where] = part.to(kind)
        return self.sum_(found).to(part.dtype)

    def descend_together(self, parameters: Sequence[nn.Parameter], share: float) -> None:
        """Sum the gradients over the ranks. share: of this rank's loss in that of all. Raises LostRank."""
        if self.count == 1:
            return
        import torch

        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.sum_(torch.cat([grad.reshape(-1) for grad in grads]) * share)
        parts = torch.split(flat, [p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # of torch.distributed: the connection was closed
            self.lost = True
            raise LostRank("another process of this training has ended") from error

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What fails on one rank within the context fails on all: there as it is, elsewhere silently.

        Raises
        ------
        FailedElsewhere: on the other ranks.
        """
        failure: Exception | None = None
        try:
            yield
        except (LostRank, FailedElsewhere):
            raise
        except (ChunkerError, OSError, MemoryError, ImportError) as error:
            failure = error
        if self.count == 1 or self.lost:
            if failure is not None:
                raise failure
            return
        import torch

        failed = torch.zeros(self.count, dtype=torch.int64)
        failed[self.rank] = failure is not None
        places = self.sum_(failed).nonzero().flatten().tolist()
        if not places:
            return
        self.lost = True  # it ends now
        if places[0] == self.rank and failure is not None:
            raise failure
        raise FailedElsewhere(f"process {places[0]} of this training has failed") from failure


ALONE = Ranks()


def here() -> Ranks:
    """This process among the ranks of torch.distributed, if it was made one."""
    import torch.distributed as found

    if not found.is_available() or not found.is_initialized():
        return ALONE
    return Ranks(found.get_rank(), found.get_world_size())


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that torchrun started, for as long as the context lasts; else this process alone."""
    if not all(name in os.environ for name in _STARTED_BY) or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    import torch

    gpus = torch.cuda.is_available() and torch.distributed.is_nccl_available()
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_PATIENCE)
    ranks = here()
    yield ranks
    if not ranks.lost:
        torch.distributed.destroy_process_group()
