"""One optimiser loop and one rule for stopping early, for everything that is trained on a sequence of losses.

`chunker.learning.trainer` has a loop of its own: budgets, validation, checkpoints, bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from chunker.errors import TrainingError


def descend(
    losses: Iterable[Tensor],
    parameters: Iterable[nn.Parameter],
    learning_rate: float | Callable[[int], float],
    weight_decay: float = 0.0,
    clip: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.99),
) -> Iterator[int]:
    """A step of AdamW for each loss, which is computed when the step before is done; yields the steps so far.

    learning_rate: or a function of the number of steps before. weight_decay: decoupled; 0 makes it Adam.
    clip: largest norm of the gradient. betas: of AdamW.

    Raises
    ------
    TrainingError: a loss is not finite.
    """
    trained = list(parameters)
    optimizer = torch.optim.AdamW(trained, lr=1.0, betas=betas, weight_decay=weight_decay)
    for step, loss in enumerate(losses):
        if not bool(torch.isfinite(loss)):
            raise TrainingError("the loss is no longer finite; start again with a lower learning rate")
        rate = learning_rate(step) if callable(learning_rate) else learning_rate
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, clip)
        optimizer.step()
        yield step + 1


class EarlyStopping:
    """Keeps the best weights of a module, and decides when it has stopped improving.

    patience: looks in a row without a gain, the first of all included; a gain is a fall of the bits by more
    than the share `gain` of the best so far, and by more than `least` bits.
    """

    def __init__(self, module: nn.Module, patience: int, gain: float, least: float = 0.0) -> None:
        self._module, self._patience, self._gain, self._least = module, patience, gain, least
        self._stale = 0
        self.best_bits, self.best_step = math.inf, 0
        self.keep()

    def keep(self) -> None:
        """Count the weights as they are for the best."""
        self._best = {name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()}

    def look(self, bits: float, step: int) -> bool:
        """Note what the weights came to after so many steps; whether to stop.

        Raises
        ------
        TrainingError: the bits are not finite.
        """
        if not math.isfinite(bits):
            raise TrainingError("the loss is no longer finite; start again with a lower learning rate")
        needed = max(self._gain * abs(self.best_bits), self._least)
        gained = math.isfinite(self.best_bits) and bits < self.best_bits - needed
        self._stale = 0 if gained else self._stale + 1
        if bits < self.best_bits:
            self.best_bits, self.best_step = bits, step
            self.keep()
        return self._stale >= self._patience

    def restore(self) -> None:
        """Give the module its best weights."""
        self._module.load_state_dict(self._best)
