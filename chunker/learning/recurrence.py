"""The three recurrent cells over whole sequences, with their gradients written out.

`recur` runs a cell over pre-activations that already hold everything but the recurrent product. Only that
product is done in the autocast precision; states stay in float32, so that slow memories are not rounded
away. Gradients of the recurrent weights are one product over all time steps instead of one a step.

Letters: T steps, B rows, H hidden units, G blocks of pre-activation (1 rnn, 3 gru, 4 lstm).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def _product_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _Rnn(Function):
    """h' = tanh(a + h W)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, h: Tensor, W: Tensor, low: torch.dtype) -> Tensor:
        hs = a.new_empty(len(a) + 1, *h.shape)
        hs[0] = h
        weights = W.to(low)
        for t in range(len(a)):
            torch.add(a[t], torch.mm(hs[t].to(low), weights), out=hs[t + 1])
            hs[t + 1].tanh_()
        ctx.save_for_backward(hs, W)
        ctx.low = low
        return hs[1:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hs, W = ctx.saved_tensors
        dout, low = grads[0], ctx.low
        transposed = W.t().to(low).contiguous()
        da = torch.empty_like(dout)
        dh = torch.zeros_like(hs[0])
        for t in reversed(range(len(dout))):
            dh = dh + dout[t]
            d = torch.addcmul(dh, dh, hs[t + 1] * hs[t + 1], value=-1)
            da[t] = d
            dh = torch.mm(d.to(low), transposed).to(d.dtype)
        dW = _weight_gradient(hs[:-1], da.to(low), low)
        return da, dh, dW.to(W.dtype), None


class _Gru(Function):
    """r, z = sigmoid; n = tanh(a_n + r (h W_n + b)); h' = n + z (h - n). Cho et al. 2014, eqs. 5-8."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, h: Tensor, W: Tensor, b: Tensor, low: torch.dtype) -> Tensor:
        T, (B, H) = len(a), h.shape
        hs, rz = a.new_empty(T + 1, B, H), a.new_empty(T, B, 2 * H)
        n, m = a.new_empty(T, B, H), a.new_empty(T, B, H)
        hs[0] = h
        weights = W.to(low)
        for t in range(T):
            g = torch.mm(hs[t].to(low), weights)  # (B, H) @ (H, 3H) -> (B, 3H)
            torch.add(a[t, :, : 2 * H], g[:, : 2 * H], out=rz[t])
            rz[t].sigmoid_()
            torch.add(g[:, 2 * H :], b, out=m[t])
            torch.addcmul(a[t, :, 2 * H :], rz[t, :, :H], m[t], out=n[t])
            n[t].tanh_()
            torch.lerp(n[t], hs[t], rz[t, :, H:], out=hs[t + 1])
        ctx.save_for_backward(hs, rz, n, m, W)
        ctx.low = low
        return hs[1:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hs, rz, n, m, W = ctx.saved_tensors
        dout, low = grads[0], ctx.low
        T, B, H = n.shape
        transposed = W.t().to(low).contiguous()
        da = dout.new_empty(T, B, 3 * H)
        dg = dout.new_empty(T, B, 3 * H, dtype=low)
        dh = torch.zeros_like(hs[0])
        for t in reversed(range(T)):
            dh = dh + dout[t]
            r, z = rz[t, :, :H].contiguous(), rz[t, :, H:].contiguous()
            kept = dh * z
            passed = dh - kept
            dn = torch.addcmul(passed, passed, n[t] * n[t], value=-1)
            dz = (hs[t] - n[t]).mul_(kept)
            dz = torch.addcmul(dz, dz, z, value=-1)
            dm = dn * r
            dr = dm * m[t]
            dr = torch.addcmul(dr, dr, r, value=-1)
            torch.cat((dr, dz, dn), 1, out=da[t])
            dg[t, :, :H], dg[t, :, H : 2 * H], dg[t, :, 2 * H :] = dr, dz, dm
            dh = kept + torch.mm(dg[t], transposed)
        dW = _weight_gradient(hs[:-1], dg, low)
        db = dg[..., 2 * H :].sum((0, 1), dtype=da.dtype)
        return da, dh, dW.to(W.dtype), db, None


class _Lstm(Function):
    """i, f, o = sigmoid, u = tanh; c' = f c + i u; h' = o tanh(c'). Gers et al. 2000."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, h: Tensor, c: Tensor, W: Tensor, low: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        T, (B, H) = len(a), h.shape
        hs, cs = a.new_empty(T + 1, B, H), a.new_empty(T + 1, B, H)
        gates, squashed = a.new_empty(T, B, 4 * H), a.new_empty(T, B, H)
        hs[0], cs[0] = h, c
        weights = W.to(low)
        for t in range(T):
            g = gates[t]
            torch.add(a[t], torch.mm(hs[t].to(low), weights), out=g)
            g[:, : 3 * H].sigmoid_()
            g[:, 3 * H :].tanh_()
            torch.mul(g[:, H : 2 * H], cs[t], out=cs[t + 1])
            cs[t + 1].addcmul_(g[:, :H], g[:, 3 * H :])
            torch.tanh(cs[t + 1], out=squashed[t])
            torch.mul(g[:, 2 * H : 3 * H], squashed[t], out=hs[t + 1])
        ctx.save_for_backward(hs, cs, gates, squashed, W)
        ctx.low = low
        states = cs[1:]
        ctx.mark_non_differentiable(states)
        return hs[1:], states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hs, cs, gates, squashed, W = ctx.saved_tensors
        dout, low = grads[0], ctx.low
        T, B, H = squashed.shape
        transposed = W.t().to(low).contiguous()
        da = dout.new_empty(T, B, 4 * H)
        dh, dc = torch.zeros_like(hs[0]), torch.zeros_like(hs[0])
        for t in reversed(range(T)):
            dh = dh + dout[t]
            i, f, o, u = gates[t].split(H, 1)
            s = squashed[t]
            dc = dc + dh * o * (1 - s * s)
            d = da[t]
            d[:, :H] = dc * u * i * (1 - i)
            d[:, H : 2 * H] = dc * cs[t] * f * (1 - f)
            d[:, 2 * H : 3 * H] = dh * s * o * (1 - o)
            d[:, 3 * H :] = dc * i * (1 - u * u)
            dc = dc * f
            dh = torch.mm(d.to(low), transposed).to(d.dtype)
        dW = _weight_gradient(hs[:-1], da.to(low), low)
        return da, dh, dc, dW.to(W.dtype), None


def _weight_gradient(hs: Tensor, dg: Tensor, low: torch.dtype) -> Tensor:
    T, B, H = hs.shape
    return torch.mm(hs.to(low).reshape(T * B, H).t(), dg.reshape(T * B, -1))


def recur(
    cell: str, a: Tensor, h: Tensor, c: Tensor | None, W: Tensor, b: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """All states of a cell over a sequence.

    Parameters
    ----------
    cell: "rnn", "gru" or "lstm".
    a: (T, B, G*H) pre-activations without the recurrent product.
    h, c: (B, H) state before the first step; `c` is the LSTM's cell and None otherwise.
    W: (H, G*H) recurrent weights. b: (H,) the GRU's bias inside the reset product, else None.

    Returns
    -------
    (T, B, H) states after every step, and for the LSTM the (T, B, H) cells, which carry no gradient.
    """
    low = _product_dtype(a)
    if len(a) == 0:
        return a.new_empty(0, *h.shape), None if c is None else a.new_empty(0, *h.shape)
    if cell == "rnn":
        return _apply(_Rnn, a, h, W, low), None
    if cell == "gru":
        return _apply(_Gru, a, h, W, b, low), None
    hs, cs = _apply(_Lstm, a, h, c, W, low)
    return hs, cs


def _apply(function: type[Function], *arguments: Any) -> Any:
    return function.apply(*arguments)  # type: ignore[no-untyped-call]  # torch leaves it untyped
