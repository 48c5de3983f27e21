"""A supervised head of 2-D convolutions over time and channels, for spectra, whose channels have an order.

vectors (T, B, D) --blocks of 3 x 3--> cells (B, 3 W, D / 8, T / 4) --mean and largest over events--> (B, P) --linear--> logits

A voice of another pitch or vocal tract moves a spectrum along the channels; weights that are shared along them, and
the halving of their number, make the net care less (for speech: Abdel-Hamid et al. 2014). It is no part of the
method and takes no states of the stack, but is read where the stack has events, once for every level.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chunker.classification.heads import CaseHead, HeadPlan, Reading
from chunker.classification.inputs import Array
from chunker.errors import UsageError
from chunker.learning.config import check_count
from chunker.learning.history import History
from chunker.learning.observation import Observation

STRIDES = ((1, 1), (2, 2), (1, 1), (2, 2), (1, 1), (2, 1))  # (channels, time) of each block
WIDENING = (1, 1, 2, 2, 3, 3)  # times the width, maps of each block


class ConvolutionalHead(CaseHead):
    """Reads whole sequences of vectors, gives (B, outputs) logits.

    width: maps of the first block. planes: 2 where the second half of the channels are changes of the first. levels:
    of the stack. Of every level those cells are pooled that hold an input it received, of the lowest level all; with
    the plan's features "top" of the top level alone.

    Raises
    ------
    UsageError: as `check` does.
    """

    def __init__(
        self,
        observation: Observation,
        plan: HeadPlan,
        outputs: int,
        width: int,
        planes: int = 1,
        levels: int = 1,
    ) -> None:
        self.check(observation, width)
        super().__init__(plan, observation)
        self.planes, self.levels = planes, levels
        pools = 1 if plan.features == "top" else levels
        rows, maps = observation.size // planes, planes
        self.blocks, self.norms = nn.ModuleList(), nn.ModuleList()
        for (down, across), times in zip(STRIDES, WIDENING, strict=True):
            stride = (down, across)
            self.blocks.append(nn.Conv2d(maps, width * times, 3, padding=1, stride=stride, bias=False))
            self.norms.append(nn.BatchNorm2d(width * times))
            rows, maps = -(-rows // down), width * times
        self.dropout = nn.Dropout(plan.dropout)
        self.out = nn.Linear(2 * pools * maps * rows, outputs)

    @staticmethod
    def check(observation: Observation, width: int) -> None:
        """Whether there can be such a head.

        Raises
        ------
        UsageError: the sequences are symbols, whose order means nothing; the width is not positive.
        """
        if observation.is_symbols:
            raise UsageError("convolutions need vectors, and these are symbols; leave convolutions out")
        check_count("convolutions", width, 1)

    def readings(self, sequence: Array, history: History) -> list[Reading]:
        """The whole sequence, and what the levels received by whose events it is pooled."""
        top = self.plan.features == "top"
        times = (history.levels[0], history.top) if top else history.levels[: self.levels]
        return [Reading(sequence[at], at) for at in times]

    def pooled(self, rows: list[list[Reading]]) -> Tensor:
        """(B, P): mean and largest of the maps over the cells of each pool; zeros where there are none."""
        inputs, given = self.padded([row[0].inputs for row in rows])
        T, B, _ = inputs.shape
        if T == 0:
            return inputs.new_zeros(B, self.out.in_features)
        counts = given.sum(0)
        # What stands behind a row's end stays zero in every block, as beyond the longest row's end, so that a row's
        # result does not depend on its neighbours.
        x = (inputs * given.unsqueeze(-1)).reshape(T, B, self.planes, -1).permute(1, 2, 3, 0)
        shrunk = 1
        for (_, across), block, norm in zip(STRIDES, self.blocks, self.norms, strict=True):
            x = torch.relu(norm(block(x)))
            shrunk *= across
            inside = torch.arange(x.shape[-1]) < (-(-counts // shrunk)).unsqueeze(1)  # (B, cells)
            x = x * inside[:, None, None]
        found = []
        for cells in self._cells(rows, inside, shrunk):
            counted = cells[:, None, None]
            maps = x * counted
            # The largest of what is at least zero.
            found += [maps.sum(-1) / counted.sum(-1).clamp_min(1), maps.amax(-1)]
        return torch.cat(found, 1).flatten(1)

    def _cells(self, rows: list[list[Reading]], inside: Tensor, shrunk: int) -> list[Tensor]:
        """(B, cells) for each pool: which are in it."""
        found = [] if self.plan.features == "top" else [inside]
        for i in range(1, len(rows[0])):
            cells = torch.zeros_like(inside)
            for b, row in enumerate(rows):
                cells[b, torch.from_numpy(row[i].at // shrunk).clamp(max=inside.shape[1] - 1)] = True
            found.append(cells & inside)
        return found

    def forward(self, rows: list[list[Reading]]) -> Tensor:
        logits: Tensor = self.out(self.dropout(self.pooled(rows)))
        return logits
