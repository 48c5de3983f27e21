"""A supervised head of 2-D convolutions over time and channels, for spectra, whose channels have an order.

vectors (T, B, D) --blocks of 3 x 3--> cells (B, 3 W, D / 8, T / 4)
    --mean and largest over events--> (B, P) --linear--> logits (B, C)

A voice of another pitch or vocal tract moves a spectrum along the channels; weights that are shared along
them, and the halving of their number, make the net care less (for speech: Abdel-Hamid et al. 2014). It
reads the inputs and no states of the stack, but pools where the stack has events, once for every level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chunker.classification.heads import Task, TrainedHead
from chunker.classification.inputs import Array
from chunker.classification.nets import CaseNet, Reading
from chunker.learning.config import check_count
from chunker.learning.history import History
from chunker.learning.observation import Observation

STRIDES = ((1, 1), (2, 2), (1, 1), (2, 2), (1, 1), (2, 1))  # (channels, time) of each block
WIDENING = (1, 1, 2, 2, 3, 3)  # times the width, maps of each block


@dataclass(eq=False, repr=False, kw_only=True)
class ConvolutionalHead(TrainedHead):
    """2-D convolutions over vectors whose channels have an order, such as spectra, pooled over the events.

    Parameters
    ----------
    maps: of the first block; the last has three times as many.
    members, steps, batch_size, learning_rate, weight_decay, dropout, noise, warp, label_smoothing: of
        training; see TrainedHead.
    """

    needs = "vectors"

    maps: int = 32

    def check(self) -> None:
        super().check()
        check_count("maps", self.maps, 1)

    def new_net(self, task: Task) -> ConvolutionalNet:
        return ConvolutionalNet(
            task.stack.observation,
            task.classes,
            self.maps,
            planes=2 if task.preparation.deltas else 1,
            features=task.features,
            levels=len(task.stack.levels),
            dropout=self.dropout,
            noise=self.noise,
        )


class ConvolutionalNet(CaseNet):
    """Reads whole sequences of vectors, gives (B, outputs) logits.

    maps: of the first block. planes: 2 where the second half of the channels are changes of the first.
    levels: of the stack. Of every level those cells are pooled that hold an input it received, of the
    lowest level all; with features="top" of the top level alone.
    """

    def __init__(
        self,
        observation: Observation,
        outputs: int,
        maps: int,
        *,
        planes: int = 1,
        features: str = "all",
        levels: int = 1,
        dropout: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        super().__init__(observation, noise)
        self.planes, self.features, self.levels = planes, features, levels
        pools = 1 if features == "top" else levels
        rows, before = observation.size // planes, planes
        self.blocks, self.norms = nn.ModuleList(), nn.ModuleList()
        for (down, across), times in zip(STRIDES, WIDENING, strict=True):
            after = maps * times
            self.blocks.append(nn.Conv2d(before, after, 3, padding=1, stride=(down, across), bias=False))
            self.norms.append(nn.BatchNorm2d(after))
            rows, before = -(-rows // down), after
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(2 * pools * before * rows, outputs)

    def readings(self, sequence: Array, history: History) -> list[Reading]:
        """The whole sequence, and what the levels received by whose events it is pooled."""
        top = self.features == "top"
        times = (history.levels[0], history.top) if top else history.levels[: self.levels]
        return [Reading(sequence[at], at) for at in times]

    def pooled(self, rows: list[list[Reading]]) -> Tensor:
        """(B, P): mean and largest of the maps over the cells of each pool; zeros where there are none."""
        inputs, given = self.padded([row[0].inputs for row in rows])
        T, B, _ = inputs.shape
        if T == 0:
            return inputs.new_zeros(B, self.out.in_features)
        counts = given.sum(0)
        # What stands behind a row's end stays zero in every block, as beyond the longest row's end, so that a
        # row's result does not depend on its neighbours.
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
        found = [] if self.features == "top" else [inside]
        for i in range(1, len(rows[0])):
            cells = torch.zeros_like(inside)
            for b, row in enumerate(rows):
                cells[b, torch.from_numpy(row[i].at // shrunk).clamp(max=inside.shape[1] - 1)] = True
            found.append(cells & inside)
        return found

    def forward(self, rows: list[list[Reading]]) -> Tensor:
        logits: Tensor = self.out(self.dropout(self.pooled(rows)))
        return logits
