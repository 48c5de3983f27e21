"""The float stack: gradients, forward against step, windows against one another, gates, growth."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from chunker.config import TIME_BOUNDS, GateRule, StackConfig, Wake
from chunker.core.layout import float_shapes
from chunker.errors import UsageError
from chunker.learning.convert import to_file
from chunker.learning.recurrence import recur
from chunker.learning.stack import Stack, StackState

CELLS = ("rnn", "gru", "lstm")


def reference(cell, a, h, c, W, b):
    """The cells' textbook formulas under autograd."""
    out = []
    H = h.shape[1]
    for t in range(len(a)):
        g = h @ W
        if cell == "rnn":
            h = torch.tanh(a[t] + g)
        elif cell == "gru":
            r, z = torch.sigmoid(a[t] + g)[:, : 2 * H].split(H, 1)
            n = torch.tanh(a[t][:, 2 * H :] + r * (g[:, 2 * H :] + b))
            h = (1 - z) * n + z * h
        else:
            i, f, o, u = (a[t] + g).split(H, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(u)
            h = torch.sigmoid(o) * torch.tanh(c)
        out.append(h)
    return torch.stack(out)


@pytest.mark.parametrize("cell", CELLS)
def test_written_out_gradients_are_those_of_autograd(cell):
    torch.manual_seed(0)
    T, B, H, G = 6, 3, 5, {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    leaves = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((T, B, G * H), (B, H), (B, H), (H, G * H), (H,))
    ]
    a, h, c, W, b = leaves
    weight = torch.randn(T, B, H, dtype=torch.float64)
    ours, cells = recur(cell, a, h, c if cell == "lstm" else None, W, b if cell == "gru" else None)
    theirs = reference(cell, a, h, c, W, b)
    torch.testing.assert_close(ours, theirs)
    assert (cells is not None) == (cell == "lstm")
    used = {"rnn": (a, h, W), "gru": (a, h, W, b), "lstm": (a, h, c, W)}[cell]
    for x, y in zip(
        torch.autograd.grad((ours * weight).sum(), used),
        torch.autograd.grad((theirs * weight).sum(), used),
        strict=True,
    ):
        torch.testing.assert_close(x, y)


def small(cell="gru", mode="joint", levels=(6, 5, 4), **gate):
    torch.manual_seed(1)
    rule = GateRule(**(gate or {"rule": "surprise", "value": 2.7}))
    stack = Stack(StackConfig(levels=levels, cell=cell, mode=mode, symbols=7, gate=rule)).double()
    with torch.no_grad():
        for name, p in stack.named_parameters():
            p.mul_(20.0 if name.endswith(".readout") else 2.0)
            if name.endswith("time_readout_bias"):
                p[:3] += torch.tensor([3.0, 2.5, 2.0])  # or hardly any time would be expected
    while mode == "faithful" and stack.growing + 1 < len(levels):
        stack.grow()
    return stack


def symbols(T, B, seed=0):
    return torch.randint(0, 7, (T, B), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", ["joint", "faithful"])
@pytest.mark.parametrize("cell", CELLS)
def test_forward_and_step_agree(cell, mode):
    stack, x = small(cell, mode), symbols(40, 4)
    output = stack(x, stack.start(4))
    state = stack.start(4)
    log_probs = stack.first(state)
    for t in range(len(x)):
        torch.testing.assert_close(stack.log_probs(output)[t], log_probs)
        log_probs, state = stack.step(x[t], state)
    for ours, theirs in zip(output.state.levels, state.levels, strict=True):
        torch.testing.assert_close(ours.h, theirs.h)
        assert torch.equal(ours.since, theirs.since)
        assert torch.equal(ours.fresh, theirs.fresh)
    rates = [float(e.double().mean()) for e in output.events]
    assert rates[0] == 1
    assert 1 > rates[1] > rates[2] > 0


@pytest.mark.parametrize("cell", CELLS)
def test_two_windows_are_one(cell):
    stack, x = small(cell), symbols(50, 3)
    whole = stack(x, stack.start(3))
    first = stack(x[:23], stack.start(3))
    second = stack(x[23:], StackState.from_state_dict(first.state.state_dict()))
    both = torch.cat([stack.log_probs(first), stack.log_probs(second)])
    torch.testing.assert_close(stack.log_probs(whole), both)
    assert torch.equal(whole.events[2], torch.cat([first.events[2], second.events[2]]))


def test_rows_do_not_leak_and_reset_is_cold():
    stack, x = small(), symbols(30, 4)
    together = stack.log_probs(stack(x, stack.start(4)))
    for row in range(4):
        alone = stack(x[:, row : row + 1], stack.start(1))
        torch.testing.assert_close(together[:, row], stack.log_probs(alone)[:, 0])
    warm = stack(x, stack.start(4)).state.reset(torch.tensor([True, False, True, False]))
    again = stack.log_probs(stack(x, warm))
    torch.testing.assert_close(again[:, 0], together[:, 0])
    assert not torch.allclose(again[:, 1], together[:, 1])


@pytest.mark.parametrize("mode", ["joint", "faithful"])
@pytest.mark.parametrize(
    "gate", [{"rule": "argmax"}, {"rule": "surprise", "value": 1.0}, {"rule": "surprise", "value": 3.0}]
)
def test_probabilities_sum_to_one(mode, gate):
    stack, x = small("gru", mode, **gate), symbols(25, 2)
    total = torch.logsumexp(stack.log_probs(stack(x, stack.start(2))), -1)
    torch.testing.assert_close(total, torch.zeros_like(total))


@pytest.mark.parametrize("cell", CELLS)
def test_with_the_rule_word_an_upper_level_gets_what_is_no_letter(cell):
    torch.manual_seed(2)
    stack = Stack(StackConfig((6, 5), cell, gate=GateRule("word"))).double()
    x = torch.tensor(list("It was 1991, à Munich.\n".encode())).unsqueeze(1)
    output, state = stack(x, stack.start(1)), stack.start(1)
    received = bytes(x[output.events[1]].tolist())
    assert received == b"I  1991,  .\n"  # the first input of an episode always goes up
    for t, symbol in enumerate(x):
        log_probs = stack.first(state)
        torch.testing.assert_close(stack.log_probs(output)[t], log_probs)
        _, state = stack.step(symbol, state)
    for ours, theirs in zip(output.state.levels, state.levels, strict=True):
        torch.testing.assert_close(ours.h, theirs.h)


def test_an_upper_level_gets_exactly_what_was_not_predicted():
    stack, x = small(mode="faithful", rule="argmax"), symbols(30, 2)
    output = stack(x, stack.start(2))
    missed = output.level_logits[0].argmax(-1) != x
    missed[0] = True  # the first input of an episode always goes up
    assert torch.equal(output.events[1], missed)
    again = missed & (output.level_logits[1].argmax(-1) != x)
    again[0] = True
    late = []
    for row in range(2):
        remembered: dict[int, int] = {}
        last = -1
        state, level = stack.start(2).levels[1], stack.levels[1]
        for t in range(len(x)):
            if not missed[t, row]:
                continue
            time = t - last
            bucket = bisect_left(TIME_BOUNDS, time)
            guess = int(level.time_logits(state.h)[row].argmax())
            if guess != bucket or remembered.get(bucket) != time:
                late.append((t, row))
            remembered[bucket], last = time, t
            h, c = level.step(x[t], state, torch.full((2,), time))
            state = replace(state, h=h, c=c)
    before = again.clone()
    for t, row in late:
        again[t, row] = True
    assert torch.equal(output.events[2], again)
    assert int(before.sum()) < int(again.sum()) < int(missed.sum())


def test_an_idle_upper_level_keeps_its_state():
    stack, x = small(rule="surprise", value=16.0), symbols(20, 2)
    output = stack(x, stack.start(2))
    assert int(output.events[1].sum()) == 2  # the first input of each row only
    assert output.state.levels[1].since.tolist() == [19, 19]


def test_levels_grow_one_by_one_and_freeze():
    config = StackConfig(levels=(6, 5), mode="faithful", symbols=7, gate=GateRule("argmax"))
    stack = Stack(config)
    assert [p.requires_grad for p in stack.levels[1].parameters()].count(True) == 0
    stack.grow()
    assert [p.requires_grad for p in stack.levels[0].parameters()].count(True) == 0
    x = symbols(20, 2)
    stack.loss_nats(stack(x, stack.start(2)), x).backward()
    assert all(p.grad is None for p in stack.levels[0].parameters())
    assert any(p.grad is not None for p in stack.levels[1].parameters())
    with pytest.raises(UsageError, match="configure more"):
        stack.grow()


def test_the_threshold_follows_the_target_rate():
    stack = small(rule="rate", value=0.3, levels=(6, 5)).float()
    x = symbols(200, 4)
    for _ in range(30):
        output = stack(x, stack.start(4))
        stack.calibrate(output.surprises_bits, output.events, momentum=0.5)
    assert abs(float(output.events[1].float().mean()) - 0.3) < 0.03


@pytest.mark.parametrize(
    "fields", [{"levels": ()}, {"levels": (0,)}, {"cell": "x"}, {"mode": "x"}, {"symbols": 1}]
)
def test_impossible_configurations_are_refused(fields):
    with pytest.raises(UsageError):
        StackConfig(**fields)


def test_configuration_survives_json():
    config = StackConfig(levels=(3, 4), cell="lstm", gate=GateRule("surprise", 1.5), symbols=9)
    assert StackConfig.from_json(config.to_json()) == config
    with pytest.raises(UsageError):
        StackConfig.from_json({"levels": [1]})


@pytest.mark.parametrize("cell", CELLS)
def test_a_level_that_may_sleep_never_does_here(cell):
    """It is told that one symbol has passed and that nothing was guessed: constants,
    which train like biases."""
    torch.manual_seed(0)
    stack = Stack(
        StackConfig((6, 5), cell, gate=GateRule("surprise", 8.0), wake=Wake(slept=True, guess=True))
    )
    bare = Stack(StackConfig((6, 5), cell, gate=GateRule("surprise", 8.0)))
    bare.load_state_dict(stack.state_dict(), strict=False)
    told = {"time_input": 0, "guess_input": 256, "confidence_input": 0}
    tensors = {name: stack.get_parameter(f"levels.0.{name}") for name in told}
    with torch.no_grad():
        for name, row in told.items():
            tensors[name].normal_()
            bare.get_parameter("levels.0.bias").add_(tensors[name][row])
    x = torch.randint(0, 256, (30, 3), generator=torch.Generator().manual_seed(1))
    output = stack(x, stack.start(3))
    expected = bare.log_probs(bare(x, bare.start(3)))
    torch.testing.assert_close(stack.log_probs(output), expected)
    state = stack.start(3)
    for t in range(len(x)):
        torch.testing.assert_close(stack.first(state), expected[t])
        _, state = stack.step(x[t], state)
    stack.loss_nats(output, x).backward()
    for name, row in told.items():
        gradient = tensors[name].grad
        assert gradient is not None
        assert gradient.abs().sum(1).nonzero().flatten().tolist() == [row]


def test_what_a_level_is_told_when_it_wakes_survives_its_file():
    config = StackConfig((6,), wake=Wake(slept=True, guess=True, catch_up=7))
    stack = Stack(config)
    arrays = to_file(stack.state_dict())
    assert {name: array.shape for name, array in arrays.items()} == float_shapes(config)
    assert stack.integer_stack().config == config == StackConfig.from_json(config.to_json())
    again = Stack.from_tensors(config, arrays)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in stack.state_dict().items())
