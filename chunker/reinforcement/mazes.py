"""T-mazes: what is seen at the beginning of a corridor tells which way to turn at its end.

                                  north arm
    oracle - start - ... corridor ... - junction
                                  south arm

After Bakker (2002), with the reward and the limit of time of Ni et al. (2023): a step counts as late if the
agent is not as far as one that walks straight ahead, and costs 1 / corridor; entering the right arm gives 1,
and either arm ends the episode; it is cut after corridor + 1 steps, in the active maze corridor + 3, which is
just enough. So the best return is 1, and 1/2 on average for whoever has forgotten the sign.

    maze     starts       sees the sign
    passive  at the sign  at once
    active   a step away  if it goes there first, away from the goal

The sign is seen once, when the agent first stands there (Ni et al.). With `noise` a random bit is seen with
each step in the corridor (after Bakker, who adds two random numbers).
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from chunker.errors import UsageError

AHEAD, NORTH, BACK, SOUTH = range(4)  # actions
CORRIDOR, LIT_CORRIDOR, JUNCTION, NORTH_SIGN, SOUTH_SIGN, ARM = range(6)  # observations
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]


class _Mazes:
    """B mazes of one kind side by side: where each agent is, what it sees, what it gets.

    x: (B,) cells from the oracle. goal: (B,) the action that leads into the right arm.
    """

    def __init__(self, rows: int, corridor: int, noise: bool, active: bool) -> None:
        if isinstance(corridor, bool) or not isinstance(corridor, int) or corridor < 1:
            raise UsageError(f"a corridor of {corridor!r} cells makes no maze; give a whole number above 0")
        self.corridor, self.noise, self.start = corridor, noise, int(active)
        self.junction = corridor + self.start
        self.limit = corridor + 1 + 2 * self.start
        self.x, self.time = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        self.goal = np.full(rows, NORTH)
        self.unseen, self.turned = np.ones(rows, np.bool_), np.zeros(rows, np.bool_)

    def begin(self, rows: Booleans, random: np.random.Generator) -> None:
        """Put the agents of some rows (B,) at the start of a new maze."""
        drawn = np.where(random.integers(2, size=len(rows)) == 0, NORTH, SOUTH)
        self.x[rows], self.time[rows], self.goal[rows] = self.start, 0, drawn[rows]
        self.unseen[rows], self.turned[rows] = True, False

    def move(self, actions: Integers, rows: Booleans) -> tuple[Floats, Booleans, Booleans]:
        """What the actions (B,) give in some rows (B,): rewards, episodes that ended, and that were cut."""
        self.time[rows] += 1
        step = (actions == AHEAD).astype(np.int64) - (actions == BACK)
        turns = (self.x == self.junction) & ((actions == NORTH) | (actions == SOUTH)) & rows
        self.x = np.where(rows, (self.x + step).clip(0, self.junction), self.x)
        self.turned |= turns
        cut = rows & ~turns & (self.time >= self.limit)
        late = rows & ~turns & ~cut & (self.x < self.time - self.start)
        return np.where(turns, actions == self.goal, late / -self.corridor), turns, cut

    def look(self, random: np.random.Generator) -> Integers:
        """What is seen now, (B,)."""
        seen = np.full(len(self.x), CORRIDOR)
        if self.noise:
            seen += random.integers(2, size=len(seen))
        sign = (self.x == 0) & self.unseen
        seen[sign] = np.where(self.goal == NORTH, NORTH_SIGN, SOUTH_SIGN)[sign]
        self.unseen &= ~sign
        seen[self.x == self.junction] = JUNCTION
        seen[self.turned] = ARM
        return seen


def _spaces() -> tuple[gym.spaces.Discrete, gym.spaces.Discrete]:
    return gym.spaces.Discrete(6), gym.spaces.Discrete(4)


class TMaze(gym.Env):  # type: ignore[misc]  # gymnasium is optional, and Any here
    """One maze. corridor: its length in cells. noise: whether a random bit is seen in it. active: see above.

    Raises
    ------
    UsageError: a corridor without cells.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self, corridor: int = 50, noise: bool = False, active: bool = False, render_mode: str | None = None
    ) -> None:
        self._mazes, self.render_mode = _Mazes(1, corridor, noise, active), render_mode
        self.observation_space, self.action_space = _spaces()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        super().reset(seed=seed)
        self._mazes.begin(np.ones(1, np.bool_), self.np_random)
        return self._mazes.look(self.np_random)[0], {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        rewards, ended, cut = self._mazes.move(np.array([action]), np.ones(1, np.bool_))
        seen = self._mazes.look(self.np_random)[0]
        return seen, float(rewards[0]), bool(ended[0]), bool(cut[0]), {}


class TMazes(VectorEnv):  # type: ignore[misc]
    """Many such mazes in one, which is faster. The step after an episode's end begins the next one."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        corridor: int = 50,
        noise: bool = False,
        active: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.num_envs, self.render_mode = num_envs, render_mode
        self._mazes = _Mazes(num_envs, corridor, noise, active)
        self.single_observation_space, self.single_action_space = _spaces()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._over = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Integers, dict[str, Any]]:
        super().reset(seed=seed[0] if isinstance(seed, list) else seed)
        self._over[:] = False
        self._mazes.begin(~self._over, self.np_random)
        return self._mazes.look(self.np_random), {}

    def step(self, actions: Integers) -> tuple[Integers, Floats, Booleans, Booleans, dict[str, Any]]:
        rewards, ended, cut = self._mazes.move(np.asarray(actions), ~self._over)
        if self._over.any():
            self._mazes.begin(self._over, self.np_random)
        self._over = ended | cut
        return self._mazes.look(self.np_random), rewards, ended, cut, {}
