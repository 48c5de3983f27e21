"""T-mazes: a policy gradient with a history stack for its memory, with an LSTM, and with none.

    net                         the policy reads                        it decides
    history-memory              what is seen, the state of the top      when something unpredicted came; until
                                level, the time since its last event    then its action is repeated
    history-memory, each step   the same, and the return so far         at every step
    lstm, on events             what is seen, with an LSTM trained      as history-memory does, whose stack
                                end to end through whole episodes       tells it when, and nothing else
    lstm-chrono, on events      the same, see below                     the same
    lstm                        the same, and the return so far         at every step
    no-memory, on events        what is seen                            as history-memory does
    no-memory                   the same, and the return so far         at every step
    history-memory, ppo         as history-memory                       as history-memory does

Whoever decides at every step is told the return so far because a maze shows nobody that he is late: see
`chunker.reinforcement.wrappers.VectorReturnSoFar`.

All have the same budget of seconds of processor time. `chunker.reinforcement.policy_gradient` trains them on
64 mazes side by side; only the last is trained by stable-baselines3's PPO, in one maze. The stack learns from
the first 4,096 observations of the policy's own episodes, which count and whose time counts, and is then
frozen. The chrono LSTM (Tallec and Ollivier 2018) is told the length of an episode by its biases. Rewards and
the limit of time are those of Ni et al. (2023): an agent that is ever late does not arrive. In the active
maze the bonus for entropy is 0.15, for with 0.01 all walk straight ahead before the sign has helped anybody;
PPO of stable-baselines3 has none.

Solved: 64 of 64 fresh episodes end in the right arm with the policy's most probable actions, looked at after
every fifth batch of 64 episodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from gymnasium.wrappers.vector import TransformObservation
from torch import Tensor, nn

from chunker.config import GateRule
from chunker.experiments.baselines import Net, State
from chunker.experiments.results import Row
from chunker.reinforcement.mazes import TMaze, TMazes
from chunker.reinforcement.policy_gradient import Episodes, GradientConfig, Policy, run_episodes, train_policy
from chunker.reinforcement.wrappers import (
    ActOnEvents,
    HistoryMemory,
    VectorHistoryMemory,
    VectorReturnSoFar,
)

SECONDS = 120.0  # of processor time, for each net and seed
PPO = "history-memory, ppo"
WIDE_GATE = "history-memory, gate 2 bits"
_ROWS = 64
_LOOK = 5  # batches of episodes between two tests
_EXPLORING = 0.15  # weight of entropy
_WIDTH = 64  # hidden units of the LSTM


@dataclass(frozen=True)
class Maze:
    """Which of the mazes, see `chunker.reinforcement.mazes`."""

    corridor: int
    noise: bool = False
    active: bool = False


def run(
    maze: Maze, seeds: int, seconds: float | None, report: Callable[[Row], None], nets: tuple[str, ...]
) -> list[Row]:
    """Those nets with seeds 0 .. seeds - 1; `report` gets every row as soon as it is there.

    sequences: episodes that were trained on. seconds: of processor time. more: success, the share of the last
    64 test episodes that ended in the right arm, and decisions, the mean number of them in such an episode.

    Raises
    ------
    UsageError: a corridor without cells.
    """
    rows = []
    for seed in range(seeds):
        for net in nets:
            learn = _train_ppo if net == PPO else _train
            rows.append(learn(net, maze, seed, SECONDS if seconds is None else seconds))
            report(rows[-1])
    return rows


class _Recurrent(nn.Module):
    """An LSTM whose state gives the actions' logits and the value."""

    recurrent = True

    def __init__(self, inputs: int, actions: int, chrono: int | None) -> None:
        super().__init__()
        self.net = Net("lstm", inputs, actions + 1, _WIDTH, chrono)

    def start(self, rows: int) -> State:
        return self.net.start(rows)

    def forward(self, observations: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        hs, state = self.net(observations, state)
        found = self.net.read(hs)
        return found[..., :-1], found[..., -1], state


def _train(net: str, maze: Maze, seed: int, seconds: float) -> Row:
    torch.manual_seed(seed)
    on_events = _on_events(net)
    # long episodes take an LSTM as long for one row as for all: all of a batch are learned from together
    config = GradientConfig(
        on_events=on_events,
        minibatches=1 if net.startswith("lstm") else 4,
        entropy=_EXPLORING if maze.active else GradientConfig.entropy,
    )
    envs, policy = _agent(net, maze, seed)
    watch = _Watch(seconds, lambda: run_episodes(envs, policy, on_events, greedy=True))
    train_policy(envs, policy, config, lambda _: watch.over(_ROWS))
    return watch.row(net, seed)


def _on_events(net: str) -> bool:
    return net in ("history-memory", WIDE_GATE) or net.endswith("on events")


class _Watch:
    """Counts episodes and seconds, and looks now and then whether the task is solved."""

    def __init__(self, seconds: float, test: Callable[[], Episodes]) -> None:
        self._seconds, self._test = seconds, test
        self._begun, self._testing = time.process_time(), 0.0
        self._episodes, self._next = 0, _LOOK * _ROWS
        self._success, self._decisions = 0.0, 0.0

    @property
    def taken(self) -> float:
        """Seconds of processor time, without those of the tests."""
        return time.process_time() - self._begun - self._testing

    def over(self, episodes: int) -> bool:
        """Count so many more episodes; whether the task is solved or the time is up."""
        self._episodes += episodes
        late = self.taken >= self._seconds
        if self._episodes < self._next and not late:
            return False
        looked, self._next = time.process_time(), self._episodes + _LOOK * _ROWS
        test = self._test()
        self._success = float((test.returns > 1 - 1e-3).float().mean())
        self._decisions = float(test.decided.float().sum(0).mean())
        self._testing += time.process_time() - looked
        return late or self._success == 1

    def row(self, net: str, seed: int) -> Row:
        more = {"success": round(self._success, 4), "decisions": round(self._decisions, 1)}
        return Row(net, seed, self._success == 1, self._episodes, self.taken, more)


class _Borrowed:
    """The policy of a stable-baselines3 model, as `run_episodes` wants it."""

    recurrent = False

    def __init__(self, model: Any) -> None:
        self._policy = model.policy

    def start(self, rows: int) -> None:
        return None

    def __call__(self, observations: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        logits = self._policy.get_distribution(observations[0]).distribution.logits
        return logits.unsqueeze(0), torch.zeros(observations.shape[:2]), state


def _train_ppo(net: str, maze: Maze, seed: int, seconds: float) -> Row:
    if find_spec("stable_baselines3") is None:
        return Row(net, seed, False, 0, 0.0, {"note": "needs: pip install stable-baselines3"}, asked=False)
    import stable_baselines3

    memory = HistoryMemory(TMaze(maze.corridor, maze.noise, maze.active), seed=seed)
    model = stable_baselines3.PPO(
        "MlpPolicy", ActOnEvents(memory), n_steps=128, batch_size=32, learning_rate=3e-3, gamma=1.0, seed=seed
    )

    def test() -> Episodes:
        mazes = TMazes(_ROWS, maze.corridor, maze.noise, maze.active)
        mazes.reset(seed=seed)
        envs = VectorHistoryMemory(mazes, stack=memory.memory.stack)
        return run_episodes(envs, _Borrowed(model), on_events=True, greedy=True)

    watch = _Watch(seconds, test)
    # called after every decision; False ends the training
    model.learn(2**40, callback=lambda found, _: not watch.over(int(found["dones"].sum())))
    return watch.row(net, seed)


def _agent(net: str, maze: Maze, seed: int) -> tuple[VectorEnv, nn.Module]:
    """64 mazes as the net sees them, and its policy."""
    mazes = TMazes(_ROWS, maze.corridor, maze.noise, maze.active)
    mazes.reset(seed=seed)
    seen, actions = int(mazes.single_observation_space.n), int(mazes.single_action_space.n)
    gate = GateRule("surprise", 2.0 if net == WIDE_GATE else 0.5)
    memory = VectorHistoryMemory(mazes, gate=gate, seed=seed)
    if net.startswith("history-memory"):
        envs = memory
    elif _on_events(net):
        envs = _shown(memory, lambda observations: observations[:, :seen], seen)
    else:
        one_hot = np.eye(seen, dtype=np.float32)
        envs = _shown(mazes, lambda observations: one_hot[observations], seen)
    if not _on_events(net):
        envs = VectorReturnSoFar(envs)
    inputs = envs.single_observation_space.shape[0]
    if not net.startswith("lstm"):
        return envs, Policy(inputs, actions)
    return envs, _Recurrent(inputs, actions, maze.corridor + 1 if net.startswith("lstm-chrono") else None)


def _shown(envs: VectorEnv, change: Callable[[Any], Any], width: int) -> VectorEnv:
    one = gym.spaces.Box(-1, 1, (width,), np.float32)
    every = gym.spaces.Box(-1, 1, (envs.num_envs, width), np.float32)
    return TransformObservation(envs, change, observation_space=every, single_observation_space=one)
