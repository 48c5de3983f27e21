"""The trainers of woken stacks: `Trainer` over windows of what level 0 foretold, through the mixture; and the
same with a teacher.

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
from chunker.learning.config import DistillConfig, TrainConfig
from chunker.learning.corpus import Source
from chunker.learning.foretold import Foretold
from chunker.learning.observation import NATS_PER_BIT
from chunker.learning.ranks import ALONE, Ranks
from chunker.learning.stack import Stack
from chunker.learning.trainer import Trainer
from chunker.learning.woken import Window, Windows, WokenOutput, WokenStack, WokenState, code_nats

_VALIDATION_ROWS, _VALIDATION_WINDOW = 8, 256


class WokenStreams(Windows):
    """Windows of the sources' training text. sources: as `Streams` has them. stacks: all that read the
    windows. gate: as `Windows` has it.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        texts: Sequence[Foretold],
        stacks: Sequence[Stack],
        config: TrainConfig,
        gate: int,
    ) -> None:
        self.sources = list(sources)
        weights = [source.weight for source in sources]
        self.longest = max(stack.config.ngrams.longest if stack.config.ngrams else 1 for stack in stacks)
        self.words = any(stack.config.ngrams and stack.config.ngrams.word for stack in stacks)
        super().__init__(
            texts, weights, self.longest, config.batch, config.window, config.seed, gate, self.words
        )


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
        ranks: Ranks = ALONE,
    ) -> None:
        if stack.config.mode != "joint" and len(stack.config.levels) > 1:
            raise UsageError("woken stacks are joint; use --mode joint")
        self.woken = WokenStack(stack).to(device)
        self._held_out = list(held_out)
        self._windows = (streams.longest, streams.gate, streams.words)
        super().__init__(stack, streams, config, None, device, ranks)

    def _more_parameters(self) -> list[torch.nn.Parameter]:
        return list(self.woken.mixture.parameters())

    def _start(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        if tensors is None:
            self.state = self._cold()
        else:
            self.state = WokenState.from_state_dict(
                {name: tensor.to(self.device) for name, tensor in self._own(tensors).items()}
            )

    def _cold(self, batch: int | None = None) -> WokenState:
        return self.woken.start(self.rows.stop - self.rows.start if batch is None else batch)

    def step(self) -> None:
        """Train on the next window."""
        window = self.streams.next()
        counted, n_bytes = int(window.counted.sum()), int((window.times * window.counted).sum())
        window = window.of(self.rows).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            output: WokenOutput = self.woken(window, self.state)
            loss = self._woken_loss(output, window)
        self._descend(loss, int(window.counted.sum()) / max(counted, 1))
        self._calibrate(output.surprises_bits, output.events)
        self.state = output.state
        self.bytes += n_bytes
        with torch.no_grad():
            self._meter.add(output.nats / NATS_PER_BIT, output.events, counted)

    def _woken_loss(self, output: WokenOutput, window: Window) -> Tensor:
        """What a step minimises, a scalar."""
        return mean_over_steps(output.nats, window)

    @torch.no_grad()
    def _score(self) -> tuple[dict[str, float], float] | None:
        """Of windows at places that are the same every time, about `validation_bytes` of steps in all."""
        if not self._held_out:
            return None
        self.woken.eval()
        total = sum(weight * len(text.steps) for text, weight in self._held_out)
        shares = [weight * len(text.steps) / total for text, weight in self._held_out]
        bits = torch.zeros(len(shares), dtype=torch.float64)
        for index in range(self.ranks.rank, len(shares), self.ranks.count):
            wanted = shares[index] * self.config.validation_bytes
            bits[index] = self._score_text(self._held_out[index][0], wanted)
        self.woken.train()
        scored = self.ranks.sum_(bits).tolist()
        found = {text.name: each for (text, _), each in zip(self._held_out, scored, strict=True)}
        return found, sum(share * each for share, each in zip(shares, scored, strict=True))

    def _score_text(self, text: Foretold, wanted: float) -> float:
        rows = min(_VALIDATION_ROWS, len(text.blocks))
        longest, gate, words = self._windows
        windows = Windows([text], [1.0], longest, rows, _VALIDATION_WINDOW, gate=gate, words=words)
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


class WokenDistiller(WokenTrainer):
    """Trains a woken stack on the bits, and on the probability that they have with a teacher in its place.

    The teacher is what an archive made with it would predict: with t_j its mixture's probability of a 1
    before bit j, and s_j the student's, a step minimises

        own_weight * -log s(bits) + output_weight * sum over j of KL(t_j || s_j)

    over the bits from the one on before which they wake (Hinton, Vinyals and Dean 2015, on bits). The
    teacher's two weights for each degree of certainty are learnt meanwhile; all else of it is fixed.

    Raises
    ------
    UsageError: the student's states are to be learnt, or outputs at another temperature than 1.
    """

    def __init__(
        self,
        stack: Stack,
        streams: WokenStreams,
        config: TrainConfig,
        objective: DistillConfig,
        teacher: Stack,
        held_out: Sequence[tuple[Foretold, float]] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        if objective.state_weight:
            raise UsageError("a woken student learns no states; use --state-weight 0")
        if objective.temperature != 1:
            raise UsageError("a woken student learns probabilities as they are; use --temperature 1")
        self.objective = objective
        self.teacher = WokenStack(teacher).to(device).eval()
        self.teacher.stack.requires_grad_(False)
        self.teacher_state = self.teacher.start(streams.batch)
        super().__init__(stack, streams, config, held_out, device)

    def _more_parameters(self) -> list[torch.nn.Parameter]:
        return [*super()._more_parameters(), *self.teacher.mixture.parameters()]

    def _woken_loss(self, output: WokenOutput, window: Window) -> Tensor:
        objective = self.objective
        ramp = min(self.level_share / objective.ramp, 1.0) if objective.ramp else 1.0
        taught: WokenOutput = self.teacher(window, self.teacher_state)
        self.teacher_state = taught.state
        wanted = torch.sigmoid(taught.odds.detach())
        divergence = code_nats(output.odds, window, wanted) - code_nats(taught.odds.detach(), window, wanted)
        nats = objective.own_weight * output.nats + ramp * objective.output_weight * divergence
        return mean_over_steps(nats + taught.nats, window)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As WokenTrainer's, with the teacher's state and mixture."""
        tensors, facts = super().snapshot()
        tensors |= {f"taught/{name}": t for name, t in self.teacher_state.state_dict().items()}
        return tensors | {f"teaching/{n}": t for n, t in self.teacher.mixture.state_dict().items()}, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """As WokenTrainer's, with the teacher's state and mixture."""
        super().restore(tensors, facts)
        state = {name: tensor.to(self.device) for name, tensor in part(tensors, "taught").items()}
        self.teacher_state = WokenState.from_state_dict(state)
        self.teacher.mixture.load_state_dict(part(tensors, "teaching"))


def mean_over_steps(nats: Tensor, window: Window) -> Tensor:
    """The mean of (T, B) over the steps that are any."""
    return nats.sum() / window.counted.sum().clamp_min(1)
