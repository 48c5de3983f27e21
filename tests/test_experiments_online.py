"""Two nets that learn on line: what the upper one is given, what flows between them, and that they learn."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from chunker.data import Lag20
from chunker.experiments.online import Continuous, Plan, TwoNets, continuous, strength, two_nets

SMALL = Plan(lower=8, upper=6, rows=4)


def symbols(steps: int = 5, rows: int = 4):
    torch.manual_seed(0)
    return torch.randint(Lag20().symbols, (steps, rows))


@pytest.fixture(params=[TwoNets, Continuous])
def pair(request):
    torch.manual_seed(1)
    return request.param(Lag20().symbols, SMALL)


def test_the_chunker_ticks_only_where_the_automatizer_missed():
    pair = TwoNets(Lag20().symbols, SMALL)
    state = pair(symbols(), pair.start(4)).state
    bits = torch.tensor([0.0, 0.19, 0.21, 9.0])
    after, moved, loss = pair.move(symbols()[0], bits, state)
    assert state.past is not None
    assert after.past is not None
    assert moved.tolist() == [0, 0, 1, 1]
    assert torch.equal(after.upper[:2], state.upper[:2])
    assert (after.upper[2:] != state.upper[2:]).any(1).all()
    for name in ("before", "symbols", "times"):
        old, new = getattr(state.past, name), getattr(after.past, name)
        rows = slice(0, 2) if name == "before" else (slice(None), slice(0, 2))
        assert torch.equal(new[rows], old[rows])
    assert state.past is not None
    assert after.past is not None
    assert after.past.symbols[-1, 2:].tolist() == symbols()[0, 2:].tolist()
    assert after.past.since.tolist() == [*(state.past.since[:2] + 1), 0, 0]
    assert loss.item() > 0
    _, moved, loss = pair.move(symbols()[0], torch.zeros(4), state)
    assert not moved.any()
    assert loss.item() == 0


def test_no_gradient_goes_from_one_net_to_the_other(pair):
    reading = pair(symbols(), pair.start(4))
    pair.loss(
        reading._replace(loss=torch.zeros(())), symbols()
    ).backward()  # the next symbol and the regression
    assert all(p.grad is None for p in pair.upper.parameters())
    assert all(p.grad is not None and p.grad.any() for p in pair.regressor.parameters())
    pair.zero_grad(set_to_none=True)
    pair(symbols(), pair.start(4)).loss.backward()
    assert all(p.grad is None for p in pair.lower.parameters())
    assert pair.upper.recurrent.grad.any()
    for state in (reading.state.lower, reading.state.upper):
        assert not state.requires_grad


def test_the_continuous_net_moves_by_what_an_input_tells():
    alphas = strength(torch.tensor([0.0, 0.1, 1.0, 20.0]), power=2.0)
    assert alphas[0] == 0
    assert (alphas.diff() > 0).all()
    assert alphas.tolist()[2:] == pytest.approx([0.75, 1.0])
    pair = Continuous(Lag20().symbols, SMALL)
    state = pair(symbols(), pair.start(4)).state
    same = symbols()[0, :1].expand(4)
    state = type(state)(state.lower, state.upper[:1].expand(4, -1))
    after, _, _ = pair.move(same, torch.tensor([0.0, 0.1, 1.0, 20.0]), state)
    distances = (after.upper - state.upper).norm(dim=1)
    assert distances[0] == 0
    assert (distances.diff() > 0).all()


@pytest.mark.parametrize("net", [two_nets, continuous])
def test_a_tiny_budget_is_reported_as_unsolved(net):
    row = net(0, max_sequences=32)
    assert (row.solved, row.sequences, row.more["alone_at"]) == (False, 32, None)
    assert net(0, max_seconds=1e-6).sequences == 16


def test_the_lower_net_learns_what_the_upper_one_knew():
    row = two_nets(1, max_sequences=8000, max_seconds=1e9, plan=Plan(test_every=400))
    assert row.solved
    assert row.more["alone_at"] is not None
    assert row.more["passed_up_first"] > 5 * row.more["passed_up_last"]
