"""Wrappers that give a policy a history stack for its memory.

HistoryMemory(env)          observation, top level's state and time since its last event, side by side
VectorHistoryMemory(envs)   the same for a vector environment, with one stack for all
ActOnEvents(memory)         repeats an action until something unpredicted comes
VectorReturnSoFar(envs)     observation, and what the episode has earned so far
"""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.spaces.utils import flatten, flatten_space
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from chunker.errors import UsageError
from chunker.learning.history import HistoryStack
from chunker.reinforcement.memory import Memory, MemoryConfig

Floats = NDArray[np.float32]


class _Reader:
    """The flattened observations of B environments with what the memory tells of them, (B, D + F)."""

    def __init__(
        self, space: gym.Space, rows: int, config: MemoryConfig | None, stack: HistoryStack | None
    ) -> None:
        self.memory = Memory(space, rows, config, stack)
        flat = flatten_space(space)
        if not isinstance(flat, gym.spaces.Box):
            raise UsageError("observations of this space have no fixed length; make them a small Box before")
        low, high = self.memory.bounds
        self.space = gym.spaces.Box(
            np.concatenate([flat.low.astype(np.float32), low]),
            np.concatenate([flat.high.astype(np.float32), high]),
            dtype=np.float32,
        )
        self._inner = space
        self._one_hot = (
            np.eye(int(space.n), dtype=np.float32) if isinstance(space, gym.spaces.Discrete) else None
        )

    def read(self, observations: Any, rows: list[Any] | None, begin: NDArray[np.bool_]) -> Floats:
        """rows: the observations one by one; None: they are numbers in an array."""
        told = self.memory.read(observations, begin)
        if self._one_hot is not None:
            shown = self._one_hot[np.asarray(observations) - self._inner.start]
        else:
            shown = np.stack([flatten(self._inner, row) for row in rows or []]).astype(np.float32)
        return np.concatenate([shown, told], 1)


class HistoryMemory(gym.Wrapper):  # type: ignore[misc]  # gymnasium is optional, and Any here
    """An environment whose observations also tell what was not predicted of its episode so far.

    A stack learns to predict the observations of the environment's own episodes, at first after
    `observations` of them, and is then frozen or, with `again`, goes on learning. Each observation becomes a
    row of float32: the flattened observation (D,), the top level's state (H,) and the time since the top
    level's last event, as log2(1 + time) / 16. `info["event"]` tells whether this observation was one. See
    `chunker.reinforcement.symbols` for the spaces that fit.

    settings: fields of MemoryConfig. stack: one that is trained already, for example another wrapper's
    `memory.stack`.

    Raises
    ------
    UsageError: the space does not fit, or a setting makes no sense.
    """

    def __init__(self, env: gym.Env, *, stack: HistoryStack | None = None, **settings: Any) -> None:
        super().__init__(env)
        self._reader = _Reader(env.observation_space, 1, _config(settings), stack)
        self.observation_space = self._reader.space

    @property
    def memory(self) -> Memory:
        return self._reader.memory

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._read(observation, True, info)

    def step(self, action: Any) -> tuple[Floats, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        told, info = self._read(observation, False, info)
        return told, reward, terminated, truncated, info

    def _read(self, observation: Any, begin: bool, info: dict[str, Any]) -> tuple[Floats, dict[str, Any]]:
        found = self._reader.read(np.asarray(observation)[None], [observation], np.array([begin]))[0]
        return found, {**info, "event": bool(self.memory.event[0])}


class VectorHistoryMemory(VectorWrapper):  # type: ignore[misc]
    """A vector environment with observations (B, D + H + 1) as HistoryMemory makes them, one stack for all.

    `info["event"]` is (B,). The step after an episode's end has to begin the next one, which is gymnasium's
    default.

    Raises
    ------
    UsageError: the space does not fit, episodes are begun otherwise, or a setting makes no sense.
    """

    def __init__(self, env: VectorEnv, *, stack: HistoryStack | None = None, **settings: Any) -> None:
        super().__init__(env)
        _require_next_step(env)
        self._reader = _Reader(env.single_observation_space, env.num_envs, _config(settings), stack)
        self.single_observation_space = self._reader.space
        self.observation_space = batch_space(self._reader.space, env.num_envs)
        self._over = np.zeros(env.num_envs, np.bool_)

    @property
    def memory(self) -> Memory:
        return self._reader.memory

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        observations, info = self.env.reset(seed=seed, options=options)
        self._over = np.zeros(self.num_envs, np.bool_)
        return self._read(observations, np.ones(self.num_envs, np.bool_), info)

    def step(
        self, actions: Any
    ) -> tuple[Floats, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        told, info = self._read(observations, self._over, info)
        self._over = terminated | truncated
        return told, rewards, terminated, truncated, info

    def _read(
        self, observations: Any, begin: NDArray[np.bool_], info: dict[str, Any]
    ) -> tuple[Floats, dict[str, Any]]:
        space = self.env.observation_space
        rows = (
            None
            if isinstance(self.env.single_observation_space, gym.spaces.Discrete)
            else list(iterate(space, observations))
        )
        found = self._reader.read(observations, rows, begin)
        return found, {**info, "event": self.memory.event}


class VectorReturnSoFar(VectorWrapper):  # type: ignore[misc]
    """A vector environment with observations (B, D + 1): flat ones, and the sum of the episode's rewards.

    Where a mistake is paid for and not seen, a policy that decides at each step cannot tell the episodes that
    it has spoilt from the others, and what comes of them drowns what it could learn. Agents of Duan et al.
    (2016) and Ni et al. (2022) are told the last reward for such reasons.

    Raises
    ------
    UsageError: observations are no Box of one dimension, or episodes are begun otherwise than in the step
    after one's end.
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        _require_next_step(env)
        space = env.single_observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise UsageError("rewards go beside flat observations; flatten these before")
        low, high = (
            np.append(*ends).astype(np.float32) for ends in ((space.low, -np.inf), (space.high, np.inf))
        )
        self.single_observation_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._earned = np.zeros(env.num_envs, np.float32)
        self._over = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        observations, info = self.env.reset(seed=seed, options=options)
        self._earned[:], self._over[:] = 0, False
        return self._beside(observations), info

    def step(
        self, actions: Any
    ) -> tuple[Floats, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        self._earned = np.where(self._over, 0, self._earned + rewards).astype(np.float32)
        self._over = terminated | truncated
        return self._beside(observations), rewards, terminated, truncated, info

    def _beside(self, observations: Floats) -> Floats:
        return np.concatenate([observations, self._earned[:, None]], 1, dtype=np.float32)


class ActOnEvents(gym.Wrapper):  # type: ignore[misc]
    """Repeats each action until an observation was not predicted, or the episode ends.

    A policy then decides only where it can have learned something new, and its episodes are as short as what
    the top level reads of them. This is an option in the sense of Sutton, Precup and Singh (1999): go on
    until something unpredicted happens. It presumes that going on is right meanwhile. Rewards are summed,
    undiscounted; `info["steps"]` tells how many there were.

    env: a HistoryMemory, or something around it that keeps `info["event"]`.
    """

    def step(self, action: Any) -> tuple[Floats, SupportsFloat, bool, bool, dict[str, Any]]:
        total, steps = 0.0, 0
        while True:
            observation, reward, terminated, truncated, info = self.env.step(action)
            total, steps = total + float(reward), steps + 1
            if "event" not in info:
                raise UsageError("ActOnEvents needs to be told of events; put it around a HistoryMemory")
            if terminated or truncated or info["event"]:
                return observation, total, terminated, truncated, {**info, "steps": steps}


def _require_next_step(env: VectorEnv) -> None:
    if env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP) != AutoresetMode.NEXT_STEP:
        raise UsageError("the vector environment must begin episodes with AutoresetMode.NEXT_STEP; set it so")


def _config(settings: dict[str, Any]) -> MemoryConfig:
    try:
        return MemoryConfig(**settings)
    except TypeError as error:
        raise UsageError(f"a setting is not of a memory ({error}); see MemoryConfig") from error
