"""A policy gradient over whole episodes: proximal policy optimisation (Schulman et al. 2017), undiscounted.

All environments begin an episode together and run until each has ended one. A policy is any module with

    start(rows)                         its state at the beginning of an episode, or None
    forward(observations, state)        (T, B, D) -> action logits (T, B, A), values (T, B), state afterwards

With `on_events` a policy decides only when `info["event"]` says that something unpredicted came, and its
action is repeated until then. Advantages go from decision to decision, and only decisions are learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn


@dataclass(frozen=True)
class GradientConfig:
    """learning_rate: Adam's. trace: lambda of generalised advantage estimates (Schulman et al. 2016). clip:
    of the ratio of probabilities. epochs, minibatches: passes over each batch of episodes, and parts of it.
    entropy: weight of the bonus for it. on_events: see above."""

    learning_rate: float = 3e-3
    trace: float = 0.95
    clip: float = 0.2
    epochs: int = 4
    minibatches: int = 4
    entropy: float = 0.01
    on_events: bool = False


@dataclass(frozen=True)
class Episodes:
    """One episode of each of B environments, T steps at most. observations: (T, B, D); actions, rewards,
    log_probabilities, values: (T, B); decided: (T, B) bool, where the policy chose the action."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    log_probabilities: Tensor
    values: Tensor
    decided: Tensor

    @property
    def returns(self) -> Tensor:  # (B,)
        return self.rewards.sum(0)


class Policy(nn.Module):
    """Two layers of tanh for the actions' logits and two for the value; no memory of its own."""

    recurrent = False

    def __init__(self, inputs: int, actions: int, width: int = 64) -> None:
        super().__init__()

        def layers(outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))

        self.actor, self.critic = layers(actions), layers(1)

    def start(self, rows: int) -> None:
        return None

    def forward(self, observations: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        return self.actor(observations), self.critic(observations)[..., 0], state


@torch.no_grad()
def run_episodes(envs: VectorEnv, policy: Any, on_events: bool = False, greedy: bool = False) -> Episodes:
    """One episode in each environment. greedy: the most probable actions instead of drawn ones."""
    seen, info = envs.reset()
    state, running = policy.start(envs.num_envs), np.ones(envs.num_envs, np.bool_)
    action = torch.zeros(envs.num_envs, dtype=torch.int64)
    steps: list[tuple[Tensor, ...]] = []
    while running.any():
        observations = torch.from_numpy(seen).float()
        decided = torch.from_numpy(running & info["event"] if on_events else running)
        if policy.recurrent or bool(decided.any()):
            logits, value, state = policy(observations.unsqueeze(0), state)
            logs = torch.log_softmax(logits[0], -1)
            drawn = logs.argmax(-1) if greedy else torch.multinomial(logs.exp(), 1)[:, 0]
            action = torch.where(decided, drawn, action)
            chosen = logs.gather(1, action.unsqueeze(1))[:, 0]
        seen, reward, terminated, truncated, info = envs.step(action.numpy())
        gained = torch.from_numpy(np.where(running, reward, 0.0)).float()
        steps.append((observations, action, gained, chosen, value[0], decided))
        running = running & ~(terminated | truncated)
    return Episodes(*(torch.stack(part) for part in zip(*steps, strict=True)))


def advantages(episodes: Episodes, trace: float) -> Tensor:
    """(T, B) generalised advantage estimates, undiscounted; zero where nothing was decided."""
    found = torch.zeros_like(episodes.values)
    since, following, later = (torch.zeros_like(found[0]) for _ in range(3))
    for t in reversed(range(len(found))):
        decided, value = episodes.decided[t], episodes.values[t]
        since = since + episodes.rewards[t]
        here = since + following - value + trace * later
        found[t] = torch.where(decided, here, 0.0)
        later, following = torch.where(decided, here, later), torch.where(decided, value, following)
        since = torch.where(decided, 0.0, since)
    return found


def train_policy(
    envs: VectorEnv, policy: Any, config: GradientConfig, report: Callable[[Episodes], bool]
) -> None:
    """Train a policy until `report`, which gets every batch of episodes once it was learned from, is true."""
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    while True:
        episodes = run_episodes(envs, policy, config.on_events)
        gains = advantages(episodes, config.trace)
        parts: tuple[Tensor, ...] = (
            episodes.observations,
            episodes.actions,
            episodes.log_probabilities,
            gains + episodes.values,
            (gains - gains[episodes.decided].mean()) / (gains[episodes.decided].std() + 1e-8),
            episodes.decided,
        )
        if not policy.recurrent:  # steps are independent: those decided at, side by side
            parts = tuple(part[episodes.decided].unsqueeze(0) for part in parts)
        rows = parts[1].shape[1]
        for _ in range(config.epochs):
            for picked in torch.randperm(rows).chunk(config.minibatches):
                seen, actions, before, targets, gain, decided = (part[:, picked] for part in parts)
                logits, values, _ = policy(seen, policy.start(len(picked)))
                logs = torch.log_softmax(logits, -1)
                ratio = (logs.gather(-1, actions.unsqueeze(-1))[..., 0] - before).exp()
                clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
                loss = (
                    -torch.minimum(ratio * gain, clipped * gain)
                    + 0.5 * (values - targets) ** 2
                    + config.entropy * (logs.exp() * logs).sum(-1)
                )[decided].mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
                optimizer.step()
        if report(episodes):
            return
