"""The trainer of woken stacks: `Trainer` over windows of what level 0 foretold, through the mixture.

Besides that, what `Trainer` does: budget, schedule, averages, validation, checkpoints. Bits are those of the
bytes at which level 1 wakes, beginning with the bit before which it wakes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from chunker.errors import UsageError
from chunker.learning.checkpoint import part
from chunker.learning.config import TrainConfig
from chunker.learning.corpus import Source
from chunker.learning.foretold import Foretold
from chunker.learning.observation import NATS_PER_BIT
from chunker.learning.stack import Stack
from chunker.learning.trainer import Trainer
from chunker.learning.woken import Windows, WokenOutput, WokenStack, WokenState

_VALIDATION_ROWS, _VALIDATION_WINDOW = 8, 256


class WokenStreams(Windows):
    """Windows of the sources' training text. sources: as `Streams` has them. gate: as `Windows` has it."""

    def __init__(
        self,
        sources: Sequence[Source],
        texts: Sequence[Foretold],
        stack: Stack,
        config: TrainConfig,
        gate: int,
    ) -> None:
        self.sources = list(sources)
        weights = [source.weight for source in sources]
        super().__init__(texts, weights, stack.config.ngrams, config.batch, config.window, config.seed, gate)


class WokenTrainer(Trainer):
    """Trains a joint stack as it runs in archives. held_out: texts to validate on, with their weights.

    Raises
    ------
    UsageError: the stack is faithful and of several levels: no archive can use it.
    """

    def __init__(
        self,
        stack: Stack,
        streams: WokenStreams,
        config: TrainConfig,
        held_out: Sequence[tuple[Foretold, float]] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        if stack.config.mode != "joint" and len(stack.config.levels) > 1:
            raise UsageError("woken stacks are joint; use --mode joint")
        self.woken = WokenStack(stack).to(device)
        self._held_out, self._gate = list(held_out), streams.gate
        super().__init__(stack, streams, config, None, device)

    def _more_parameters(self) -> list[torch.nn.Parameter]:
        return list(self.woken.mixture.parameters())

    def _start(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        if tensors is None:
            self.state = self.woken.start(self.streams.batch)
        else:
            self.state = WokenState.from_state_dict(
                {name: tensor.to(self.device) for name, tensor in tensors.items()}
            )

    def step(self) -> None:
        """Train on the next window."""
        window = self.streams.next().to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            output: WokenOutput = self.woken(window, self.state)
            loss = output.nats.sum() / window.counted.sum().clamp_min(1)
        self._descend(loss)
        self.stack.calibrate(output.surprises_bits, output.events)
        self.state = output.state
        self.bytes += int((window.times * window.counted).sum())
        with torch.no_grad():
            self._meter.add(output.nats / NATS_PER_BIT, output.events, int(window.counted.sum()))

    @torch.no_grad()
    def _score(self) -> tuple[dict[str, float], float] | None:
        """Of windows at places that are the same every time, about `validation_bytes` of steps in all."""
        if not self._held_out:
            return None
        self.woken.eval()
        total = sum(weight * len(text.steps) for text, weight in self._held_out)
        found, overall = {}, 0.0
        for text, weight in self._held_out:
            share = weight * len(text.steps) / total
            found[text.name] = self._score_text(text, share * self.config.validation_bytes)
            overall += share * found[text.name]
        self.woken.train()
        return found, overall

    def _score_text(self, text: Foretold, wanted: float) -> float:
        rows = min(_VALIDATION_ROWS, len(text.blocks))
        windows = Windows([text], [1.0], self.stack.config.ngrams, rows, _VALIDATION_WINDOW, gate=self._gate)
        state, nats, steps = self.woken.start(rows), 0.0, 0
        while steps == 0 or steps < min(wanted, len(text.steps)):
            window = windows.next().to(self.device)
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
                output: WokenOutput = self.woken(window, state)
            state = output.state
            nats, steps = nats + float(output.nats.sum()), steps + int(window.counted.sum())
        return nats / steps / NATS_PER_BIT

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As Trainer's, with the mixture."""
        tensors, facts = super().snapshot()
        mixture = {f"mixture/{name}": tensor for name, tensor in self.woken.mixture.state_dict().items()}
        return {**tensors, **mixture}, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """As Trainer's, with the mixture."""
        super().restore(tensors, facts)
        self.woken.mixture.load_state_dict(part(tensors, "mixture"))
