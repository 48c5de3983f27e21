"""A history stack as a policy's memory: mazes, observations as symbols, wrappers, the policy gradient."""

from __future__ import annotations

import json
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import call, one_line

torch = pytest.importorskip("torch")
gym = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env

from chunker.cli.main import chunker
from chunker.config import GateRule
from chunker.errors import UsageError
from chunker.reinforcement import (
    ActOnEvents,
    GradientConfig,
    HistoryMemory,
    MemoryConfig,
    Policy,
    VectorHistoryMemory,
    VectorReturnSoFar,
    train_policy,
)
from chunker.reinforcement.mazes import AHEAD, BACK, NORTH, NORTH_SIGN, SOUTH, SOUTH_SIGN, TMazes
from chunker.reinforcement.memory import Memory
from chunker.reinforcement.policy_gradient import Episodes, advantages, run_episodes
from chunker.reinforcement.symbols import Alphabet

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK: dict[str, Any] = {"levels": (8, 8), "steps": 30, "window": 16, "observations": 64}
PASSIVE, ACTIVE = "chunker/PassiveTMaze-v0", "chunker/ActiveTMaze-v0"


# ---- mazes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [PASSIVE, ACTIVE])
@pytest.mark.parametrize("noise", [False, True])
def test_gymnasium_finds_nothing_wrong(name, noise):
    check_env(gym.make(name, corridor=4, noise=noise).unwrapped)


def walk(name, actions, corridor=3):
    """Observations after each action and rewards of a maze whose goal is north; whether it ended, was cut."""
    env = gym.make(name, corridor=corridor).unwrapped
    for seed in range(20):
        seen, _ = env.reset(seed=seed)
        steps = [env.step(action) for action in actions]
        if NORTH_SIGN in [seen, *(step[0] for step in steps)]:
            return [int(seen), *(int(step[0]) for step in steps)], [step[1] for step in steps], steps[-1][2:4]
    raise LookupError("no maze to the north")


def test_the_passive_maze_shows_the_sign_at_once_and_pays_for_the_right_arm():
    assert walk(PASSIVE, [AHEAD] * 3 + [NORTH]) == ([NORTH_SIGN, 0, 0, 2, 5], [0, 0, 0, 1], (True, False))
    assert walk(PASSIVE, [AHEAD] * 3 + [SOUTH])[1:] == ([0, 0, 0, 0], (True, False))


def test_who_is_late_pays_and_does_not_arrive():
    seen, rewards, ends = walk(PASSIVE, [BACK, AHEAD, AHEAD, AHEAD])
    assert seen == [NORTH_SIGN, 0, 0, 0, 2]  # the sign is seen once
    assert rewards == pytest.approx([-1 / 3, -1 / 3, -1 / 3, 0])
    assert ends == (False, True)


def test_the_active_maze_shows_the_sign_to_whoever_goes_back():
    seen, rewards, ends = walk(ACTIVE, [BACK] + [AHEAD] * 4 + [NORTH])
    assert seen == [0, NORTH_SIGN, 0, 0, 0, 2, 5]
    assert rewards == [0, 0, 0, 0, 0, 1]
    assert ends == (True, False)


def test_noise_is_seen_in_the_corridor_alone():
    mazes = TMazes(16, corridor=20, noise=True)
    seen = [mazes.reset(seed=0)[0]] + [mazes.step(np.full(16, AHEAD))[0] for _ in range(20)]
    assert set(np.unique(seen[0])) == {NORTH_SIGN, SOUTH_SIGN}
    assert set(np.unique(seen[1:-1])) == {0, 1}
    assert set(np.unique(seen[-1])) == {2}


def test_many_mazes_are_as_one():
    one = gym.make(ACTIVE, corridor=3, noise=True).unwrapped
    many = gym.make_vec(ACTIVE, num_envs=1, vectorization_mode="vector_entry_point", corridor=3, noise=True)
    assert one.reset(seed=3)[0] == many.reset(seed=3)[0][0]
    for action in [BACK, AHEAD, AHEAD, NORTH, AHEAD]:
        alone, together = one.step(action), many.step(np.array([action]))
        assert [alone[0], alone[1], alone[2], alone[3]] == [part[0] for part in together[:4]]
    assert together[3][0] is np.False_ or not together[3][0]


def test_a_maze_without_corridor_is_refused():
    with pytest.raises(UsageError, match="above 0"):
        TMazes(2, corridor=0)


# ---- observations as symbols -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "observations", "size", "numbers"),
    [
        (gym.spaces.Discrete(3, start=5), [5, 7], 3, [0, 2]),
        (gym.spaces.Discrete(1), [0, 0], 2, [0, 0]),
        (gym.spaces.MultiBinary(3), [[1, 0, 1], [0, 1, 0]], 8, [5, 2]),
        (gym.spaces.MultiDiscrete([2, 3]), [[1, 2], [0, 1]], 6, [5, 1]),
        (gym.spaces.Box(-1, 1, (2,), np.int8), [[-1, -1], [1, 0]], 9, [0, 7]),
        (gym.spaces.Box(0.0, 1.0, (2,)), [[0.0, 0.2], [1.0, 0.6]], 16, [0, 14]),
    ],
)
def test_small_spaces_are_alphabets(space, observations, size, numbers):
    alphabet = Alphabet.of(space, bins=4)
    assert alphabet.size == size
    assert alphabet.number(np.array(observations), 2).tolist() == numbers


@pytest.mark.parametrize(
    ("space", "remedy"),
    [
        (gym.spaces.Dict({"a": gym.spaces.Discrete(2)}), "TransformObservation"),
        (gym.spaces.Box(-np.inf, np.inf, (1,)), "bound it"),
        (gym.spaces.Box(0, 255, (8, 8), np.uint8), "leave parts of them out"),
    ],
)
def test_other_spaces_are_refused(space, remedy):
    with pytest.raises(UsageError, match=remedy) as refused:
        Memory(space, 1)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [({"levels": (8,)}, "two levels"), ({"again": 0}, "again"), ({"nothing": 1}, "see MemoryConfig")],
)
def test_settings_that_make_no_sense_are_refused(settings, remedy):
    with pytest.raises(UsageError, match=remedy):
        HistoryMemory(gym.make(PASSIVE), **settings)


# ---- the memory ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack():
    """What a memory makes of the first steps of random episodes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    envs = VectorHistoryMemory(TMazes(16, corridor=5), **QUICK, seed=1)
    envs.reset(seed=0)
    random = np.random.default_rng(0)
    for _ in range(5):
        envs.step(random.integers(4, size=16))
    torch.set_num_threads(threads)
    assert [report.width for report in envs.memory.reports] == [8, 8]
    return envs.memory.stack


def states_of(stack, symbols):
    """(T, B) whether each reached the top level, and its states (T, B, H), by reading all of it at once."""
    T, B = symbols.shape
    traces, after = stack.run(torch.from_numpy(symbols), torch.ones(T, B, dtype=torch.bool), stack.start(B))
    top = traces[-1]
    events = np.zeros((T, B), bool)
    for b in range(B):
        events[top.at[:, b][top.given[:, b]], b] = True
    return events, after


def test_a_step_is_a_window_of_one(stack):
    symbols = np.random.default_rng(0).integers(6, size=(30, 4))
    events, after = states_of(stack, symbols)
    states, received = stack.start(4), []
    for row in symbols:
        levels, states = stack.step(torch.from_numpy(row), states)
        received.append(levels[-1].numpy())
    assert (np.array(received) == events).all()
    assert 0 < events.sum() < events.size
    for one, other in zip(states, after, strict=True):
        assert torch.allclose(one.h, other.h)
        assert (one.fresh == other.fresh).all()
    assert (states[1].since == after[1].since).all()


def test_the_sign_is_remembered_through_a_corridor_of_any_length(stack):
    memory = Memory(gym.spaces.Discrete(6), 2, MemoryConfig(), stack)
    corridor = np.zeros((2000, 2), np.int64)
    symbols = np.concatenate([[[NORTH_SIGN, SOUTH_SIGN]], corridor, [[2, 2]]])
    told = [memory.read(row, np.full(2, i == 0)) for i, row in enumerate(symbols)]
    assert np.abs(told[-1][0] - told[-1][1]).max() > 0.05
    events, after = states_of(stack, symbols)
    assert events[[0, -1]].all()
    assert events.sum() < 20  # few, although the stack was trained on five steps
    assert np.allclose(told[-1][:, :-1], after[1].h.numpy())  # what is skipped changes nothing
    last = int(np.flatnonzero(events[:-1, 0])[-1])
    waited = len(symbols) - 2 - last
    assert told[-2][0, -1] == pytest.approx(min(np.log2(1 + waited) / 16, 1))
    assert told[-1][0, -1] == 0


def test_a_memory_is_frozen_or_goes_on_learning():
    for again, changes in ((None, 1), (40, 3)):
        memory = Memory(gym.spaces.Discrete(6), 4, MemoryConfig(**QUICK, again=again))
        stacks = [memory.stack]
        for step in range(40):
            memory.read(np.full(4, step % 5), np.full(4, step % 10 == 0))
            stacks.append(memory.stack)
        assert sum(one is not other for one, other in pairwise(stacks)) == changes


def test_learning_leaves_the_draws_of_its_user_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    Memory(gym.spaces.Discrete(6), 4, MemoryConfig(**QUICK))
    assert torch.rand(1) == expected


def test_one_environment_is_read_as_many_are(stack):
    single = HistoryMemory(gym.make(PASSIVE, corridor=4), stack=stack)
    many = VectorHistoryMemory(TMazes(3, corridor=4), stack=stack)
    assert single.observation_space == many.single_observation_space
    seen, info = many.reset(seed=5)
    assert seen in many.observation_space
    assert info["event"].all()
    told = [seen] + [many.step(np.full(3, action))[0] for action in [AHEAD] * 4 + [NORTH, 0, AHEAD]]
    for b in range(3):  # each of these goals comes to one maze, sooner or later
        for seed in range(20):
            alone = [single.reset(seed=seed)[0]]
            if (alone[0] == told[0][b]).all():
                break
        alone += [single.step(action)[0] for action in [AHEAD] * 4 + [NORTH]]
        assert alone[0] in single.observation_space
        assert np.allclose(alone, [row[b] for row in told[: len(alone)]])
    assert told[6][:, 3:5].sum() == 3  # the step after the end shows a new sign
    assert (told[6][:, -1] == 0).all()


def test_a_box_is_shown_beside_what_is_remembered():
    env = gym.wrappers.TransformObservation(
        gym.make(PASSIVE, corridor=4),
        lambda seen: np.array([seen / 5, 1], np.float32),
        gym.spaces.Box(0, 1, (2,)),
    )
    seen, _ = HistoryMemory(env, **QUICK, bins=6).reset(seed=0)
    assert seen.shape == (2 + 8 + 1,)
    assert seen[:2].tolist() in ([pytest.approx(0.6), 1], [pytest.approx(0.8), 1])


def test_a_stack_of_other_observations_is_refused(stack):
    with pytest.raises(UsageError, match="same space"):
        Memory(gym.spaces.Discrete(7), 1, None, stack)


def test_a_wider_gate_keeps_noise_out():
    random = np.random.default_rng(0)
    shares = []
    for bits in (0.5, 2.0):
        config = MemoryConfig(**{**QUICK, "observations": 1024, "steps": 60}, gate=GateRule("surprise", bits))
        memory = Memory(gym.spaces.Discrete(6), 16, config)
        events = []
        for step in range(100):
            memory.read(random.integers(2, size=16), np.full(16, step == 0))
            events.append(memory.event)
        shares.append(np.mean(events[80:]))
    assert shares[0] > 0.9
    assert shares[1] < 0.1


def test_what_the_episode_has_earned_so_far_is_told(stack):
    envs = VectorReturnSoFar(VectorHistoryMemory(TMazes(2, corridor=4), stack=stack))
    seen, _ = envs.reset(seed=0)
    assert seen in envs.observation_space
    assert seen.shape == (2, 6 + 8 + 1 + 1)
    earned = [seen[:, -1]]
    for actions in [AHEAD] * 2, [AHEAD, BACK], [AHEAD] * 2, [AHEAD] * 2, [NORTH] * 2, [AHEAD] * 2:
        earned.append(envs.step(np.array(actions))[0][:, -1])
    on_time, late = np.array(earned).T
    assert on_time[:5].tolist() == [0] * 5
    assert on_time[5] in (0, 1)
    assert late.tolist() == [0, 0, -0.25, -0.5, -0.75, -0.75, 0]  # the last step begins new episodes
    seen, *_ = envs.reset()
    assert (seen[:, -1] == 0).all()
    with pytest.raises(UsageError, match="flatten"):
        VectorReturnSoFar(TMazes(2))


# ---- acting ----------------------------------------------------------------------------------------


def test_actions_are_repeated_until_something_unpredicted_comes(stack):
    env = ActOnEvents(HistoryMemory(gym.make(PASSIVE, corridor=40), stack=stack))
    env.reset(seed=0)
    steps, total, over = 0, 0.0, False
    decisions = 0
    while not over:
        _, reward, terminated, truncated, info = env.step(BACK)
        steps, total, over = steps + info["steps"], total + float(reward), terminated or truncated
        decisions += 1
    assert steps == 41
    assert total == pytest.approx(-1)
    assert decisions < 10


def test_events_come_from_a_memory():
    env = ActOnEvents(gym.make(PASSIVE))
    env.reset()
    with pytest.raises(UsageError, match="HistoryMemory"):
        env.step(AHEAD)


def test_advantages_go_from_decision_to_decision():
    column = lambda *values: torch.tensor(values, dtype=torch.float32).unsqueeze(1)
    none = torch.zeros(4, 1)
    episodes = Episodes(
        none.unsqueeze(-1), none, column(1, 2, 3, 4), none, column(10, 20, 30, 40), column(1, 0, 1, 0) > 0
    )
    later = 3 + 4 - 30
    first = 1 + 2 + 30 - 10
    assert advantages(episodes, trace=0.5)[:, 0].tolist() == [first + 0.5 * later, 0, later, 0]


def test_a_policy_with_memory_learns_what_one_without_cannot():
    torch.manual_seed(0)
    mazes = TMazes(32, corridor=10)
    mazes.reset(seed=0)
    envs = VectorHistoryMemory(mazes, **{**QUICK, "observations": 320}, seed=0)
    policy = Policy(envs.single_observation_space.shape[0], 4)
    config, found = GradientConfig(on_events=True), []

    def report(episodes):
        found.append(float(episodes.returns.mean()))
        return found[-1] > 0.9 or len(found) == 60

    train_policy(envs, policy, config, report)
    assert found[-1] > 0.9
    test = run_episodes(envs, policy, on_events=True, greedy=True)
    assert (test.returns == 1).all()
    assert test.decided.sum(0).float().mean() < 6
    with torch.no_grad():
        next(policy.actor.parameters())[:, 6:] = 0  # what the memory tells
    blind = run_episodes(envs, policy, on_events=True, greedy=True)
    assert (blind.returns == 1).float().mean() < 0.9


def test_the_policy_gradient_is_short():
    source = import_module("chunker.reinforcement.policy_gradient").__file__
    assert source is not None
    assert len(Path(source).read_text(encoding="utf-8").splitlines()) <= 150


def test_stable_baselines_trains_on_it(stack):
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO

    env = ActOnEvents(HistoryMemory(gym.make(PASSIVE, corridor=5), stack=stack))
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu").learn(32)
    action, _ = model.predict(env.reset(seed=0)[0])
    assert action in env.action_space


# ---- the experiment --------------------------------------------------------------------------------


def test_the_experiment_has_a_row_for_each_net():
    nets = ["history-memory", "lstm-chrono, on events", "no-memory", "no-memory, on events"]
    words = [word for net in nets for word in ("--net", net)]
    out = call(
        chunker, "experiment", "t-maze", "--corridor", "3", "--seconds", "0.2", "--json", *words
    ).stdout
    rows = json.loads(out)
    assert [row["net"] for row in rows] == nets
    for row in rows:
        assert 0 <= row["success"] <= 1
        assert row["sequences"] % 64 == 0


@pytest.mark.parametrize(
    ("words", "remedy"),
    [(("2a", "--corridor", "5"), "no --corridor"), (("t-maze", "--corridor", "0"), "above 0")],
)
def test_mistakes_are_one_line(words, remedy):
    result = call(chunker, "experiment", *words, code=1)
    assert remedy in one_line(result.stderr.encode())


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("chunker.extras.find_spec", lambda name: None if name == "gymnasium" else name)
    result = call(chunker, "experiment", "t-maze", code=1)
    assert "[rl]" in one_line(result.stderr.encode())
