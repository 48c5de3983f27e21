"""One block: bytes -> lanes -> symbols -> payload, and back; the joint of the net and the entropy coder.

A block of n bytes is cut into L contiguous pieces, its lanes, the first n % L of them one byte longer. At
step t all lanes that still have a byte code their t-th one, in lane order, in one call:

    lane 0   a b c d        step 0: a e h
    lane 1   e f g          step 1: b f i
    lane 2   h i j          step 2: c g j        step 3: d

Each lane starts with an empty history, which costs it some hundred bits; the net's arithmetic pays only when
many lanes share it. Where the cuts are is a function of the input's length alone, never of the machine.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from chunker.codec import frames, processes
from chunker.codec.archive import Block
from chunker.codec.entropy import Decoder, Encoder, Rows
from chunker.codec.frames import Kind
from chunker.codec.lempelziv import decode_lzma, encode_lzma, looks_like_noise, only_noise, smallest_lzma
from chunker.codec.mixture import HALF, Mixture
from chunker.codec.pool import Stop, Stopped, never
from chunker.errors import UsageError

# To be tuned: none of these is part of the format.
SMALL_BYTES = 1 << 16  # an input below is one block, in the compact form
LOOK_EVERY = 64  # steps between two looks at whether to go on


@dataclass(frozen=True)
class Cut:
    """How a block is cut into lanes: up to `few` of `few_bytes` each, and no more of them before the block has
    `longer_bytes`; of what comes on top one for each `more_bytes`."""

    few: int
    few_bytes: int
    more_bytes: int
    longer_bytes: int = 0

    def lanes(self, n_bytes: int) -> int:
        """How many lanes a block of that length gets, at least 1."""
        few = min(n_bytes, self.few * self.few_bytes)
        more = max(n_bytes - max(self.longer_bytes, self.few * self.few_bytes), 0)
        return max(1, round(few / self.few_bytes + more / self.more_bytes))


@dataclass(frozen=True)
class Preset:
    """How much work goes into a block.

    kind: how the net is used; cut: into how many lanes. block_bytes: of a block; what is left below twice that
    is halved, unless it is below `whole_bytes`. Blocks below `small_bytes` have `small_kind` and `small_cut`
    instead. stretch_bytes: one lzma block may stand in place of all blocks of a stretch, which is shorter; 0: never.
    """

    kind: Kind
    cut: Cut
    block_bytes: int
    whole_bytes: int
    small_bytes: int = 0
    small_kind: Kind = Kind.MIXED
    small_cut: Cut = Cut(1, 1, 1)
    stretch_bytes: int = 0

    def kind_of(self, n_bytes: int) -> Kind:
        """How the net is used in a block of that length."""
        return self.small_kind if n_bytes < self.small_bytes else self.kind

    def lanes(self, n_bytes: int) -> int:
        """How many lanes a block of that length gets: 1 .. the kind's most."""
        cut = self.small_cut if n_bytes < self.small_bytes else self.cut
        return min(cut.lanes(n_bytes), self.kind_of(n_bytes).max_lanes)

    def plan(self, n_bytes: int) -> list[int]:
        """The lengths of the blocks of an input of that length, however it arrives: whole blocks while at least
        two are left, then `last`. No machine cuts differently."""
        plan = []
        while n_bytes >= 2 * self.block_bytes:
            plan.append(self.block_bytes)
            n_bytes -= self.block_bytes
        return plan + self.last(n_bytes)

    def last(self, n_bytes: int) -> list[int]:
        """How what is left below two blocks is cut: in halves, which two cores share, unless it is small."""
        if n_bytes < self.whole_bytes:
            return [n_bytes] if n_bytes else []
        return [n_bytes - n_bytes // 2, n_bytes // 2]


_KB, _MB = 1 << 10, 1 << 20
PRESETS = {
    "fast": Preset(
        Kind.NET,
        Cut(8, 2 * _KB, 8 * _KB // 3, longer_bytes=64 * _KB),
        block_bytes=_MB // 2,
        whole_bytes=64 * _KB,
    ),
    # lanes for 15 KB/s on two cores, and for 5 KB in 1.5 s also on a slow core; fewer would learn better
    "default": Preset(
        Kind.LEARNING,
        Cut(56, 3 * _KB // 2, 64 * _KB),
        block_bytes=_MB,
        whole_bytes=_MB,
        small_bytes=64 * _KB,
        small_cut=Cut(16, 5 * _KB // 16, 13 * _KB // 4, longer_bytes=95 * _KB // 2),
        stretch_bytes=frames.MAX_LZMA_BYTES,
    ),
    "best": Preset(
        Kind.LEARNING,
        Cut(8, 16 * _KB, _MB),
        block_bytes=2 * _MB,
        whole_bytes=2 * _MB,
        stretch_bytes=frames.MAX_LZMA_BYTES,
    ),
}
DEFAULT_PRESET = "default"

# The net is not tried where even the byte counts look like noise, and is stopped where, after this part of the
# steps, it is on the way to more than this share of the best size so far (its first steps are its worst).
TRIAL_PART = 16
TRIAL_SHARE = 1.1
# A static net is compared with lzma's quickest preset; where it is below this share of that, lzma at its best,
# which takes a tenth of the net's time, would not catch up.
QUICKEST = 0
CLEAR_SHARE = 0.7
MONOTONY = 64  # where lzma makes a block so many times smaller, a net that learns is not worth its time
NOISE_SHARE = 0.98  # of the bytes so far: what a net that learns has not got below by then is noise to it

Learn = Literal["nothing", "readout", "all"]
_LEARNS: dict[Kind, Learn] = {Kind.NET: "nothing", Kind.MIXED: "readout", Kind.LEARNING: "all"}


class Session(Protocol):
    """What coding needs of the net: one state per lane, the same integers on every machine."""

    def frequencies(self) -> Rows:
        """(lanes, 256): the frequencies of the next symbol, minus one."""

    def update(self, symbols: npt.NDArray[np.integer]) -> None:
        """Take in (lanes,) symbols that came."""

    def keep(self, lanes: int) -> None:
        """Go on with the first `lanes` lanes only."""

    def close(self) -> None:
        """End what works in the background."""


class Stack(Protocol):
    """A frozen net; `chunker.core.levels.IntegerStack` is one."""

    def session(self, lanes: int, learn: Learn = "nothing") -> Session:
        """A new session without history; `learn`: what of it learns from what it codes."""


class Model(Protocol):
    """What makes a stack; `chunker.modelfile.Model` is one. `fingerprint` is at least 8 bytes."""

    @property
    def fingerprint(self) -> bytes:
        """Says which model it is, in every archive."""

    def integer_stack(self) -> Stack:
        """The stack; built on the first call."""


_building = threading.Lock()


def stack_of(model: Model) -> Stack:
    """The model's stack, built by one thread while the others wait."""
    with _building:
        return model.integer_stack()


def to_steps(data: bytes, lanes: int) -> tuple[npt.NDArray[np.uint8], int]:
    """(steps, lanes) array of a block's bytes, and how many lanes the last step has; the rest of it is zero."""
    symbols = np.frombuffer(data, dtype=np.uint8)
    short, longer = divmod(len(symbols), lanes)
    if not longer:
        return np.ascontiguousarray(symbols.reshape(lanes, short).T), lanes
    steps = np.zeros((short + 1, lanes), dtype=np.uint8)
    cut = longer * (short + 1)
    steps[:, :longer] = symbols[:cut].reshape(longer, short + 1).T
    steps[:short, longer:] = symbols[cut:].reshape(lanes - longer, short).T
    return steps, longer


def from_steps(steps: npt.NDArray[np.uint8], n_bytes: int) -> bytes:
    """The bytes of a block of that length from its (steps, lanes) array: undoes `to_steps`."""
    lanes = steps.shape[1]
    short, longer = divmod(n_bytes, lanes)
    return b"".join((steps[:, :longer].T.tobytes(), steps[:short, longer:].T.tobytes()))


_few_at_a_time = threading.BoundedSemaphore(3)


class NetCoder:
    """The lanes of one block under the net, step by step; encoder and decoder drive it alike.

    At most three blocks with contexts are at work at a time, for the sake of memory.
    """

    def __init__(self, stack: Stack, kind: Kind, lanes: int, steps: int) -> None:
        self._mixture: Mixture | None = None
        if kind is not Kind.NET:
            _few_at_a_time.acquire()
        try:
            if kind is not Kind.NET:
                self._mixture = Mixture(lanes, steps)
            self._session = stack.session(lanes, _LEARNS[kind])
        except BaseException:
            if kind is not Kind.NET:
                _few_at_a_time.release()
            raise

    def close(self) -> None:
        """End what works in the background, and let another block begin; to be called once."""
        try:
            self._session.close()
        finally:
            if self._mixture is not None:
                self._mixture = None
                _few_at_a_time.release()

    def encode(self, encoder: Encoder, symbols: npt.NDArray[np.uint8]) -> None:
        """Append the step's bytes (lanes,)."""
        rows = self._session.frequencies()
        if self._mixture is None:
            encoder.encode(symbols, rows)
            return
        high = symbols // HALF
        encoder.encode(high, self._mixture.high(rows))
        encoder.encode(symbols % HALF, self._mixture.low(high))

    def decode(self, decoder: Decoder) -> npt.NDArray[np.uint8]:
        """The step's bytes (lanes,). Raises CorruptArchive."""
        rows = self._session.frequencies()
        if self._mixture is None:
            return decoder.decode(rows).astype(np.uint8)
        high = decoder.decode(self._mixture.high(rows))
        return (high * HALF + decoder.decode(self._mixture.low(high))).astype(np.uint8)

    def update(self, symbols: npt.NDArray[np.uint8]) -> None:
        """Read the bytes that came."""
        if self._mixture is not None:
            self._mixture.update(symbols)
        self._session.update(symbols)

    def keep(self, lanes: int) -> None:
        """Code the last step, in the first `lanes` lanes only."""
        self._session.keep(lanes)
        if self._mixture is not None:
            self._mixture.keep(lanes)


def hopeless(size_bytes: int, part: float, n_bytes: int, best_bytes: int, kind: Kind) -> bool:
    """Whether the net, at so many bytes after that part of a block, will not get below `best_bytes`."""
    if kind is Kind.NET:
        return size_bytes > TRIAL_SHARE * best_bytes * part
    return size_bytes > NOISE_SHARE * n_bytes * part  # one that learns may yet catch up


def encode_net(
    stack: Stack, data: bytes, lanes: int, best_bytes: int, stop: Stop = never, kind: Kind = Kind.NET
) -> bytes | None:
    """The payload of a block under the net, or None as soon as it cannot become smaller than `best_bytes`.

    Raises Stopped.
    """
    steps, last_lanes = to_steps(data, lanes)
    encoder = Encoder()
    trial_at = len(steps) // TRIAL_PART // LOOK_EVERY * LOOK_EVERY
    last = len(steps) - 1
    with contextlib.closing(NetCoder(stack, kind, lanes, len(steps))) as coder:
        for t, symbols in enumerate(steps):
            if t % LOOK_EVERY == 0:
                if stop():
                    raise Stopped
                if encoder.size_bytes >= best_bytes + 8:  # `finish` takes back up to 8 bytes
                    return None
                if (
                    t
                    and t == trial_at
                    and hopeless(encoder.size_bytes, t / len(steps), len(data), best_bytes, kind)
                ):
                    return None
            if t == last and last_lanes < lanes:
                coder.keep(last_lanes)
                symbols = symbols[:last_lanes]
            coder.encode(encoder, symbols)
            if t < last:
                coder.update(symbols)
    payload = encoder.finish()
    return payload if len(payload) < best_bytes else None


def decode_net(
    stack: Stack, payload: bytes, n_bytes: int, lanes: int, stop: Stop = never, kind: Kind = Kind.NET
) -> bytes:
    """The content of a block that `encode_net` coded. Raises CorruptArchive, Stopped."""
    n_steps = -(-n_bytes // lanes)
    last_lanes = n_bytes - (n_steps - 1) * lanes
    steps = np.zeros((n_steps, lanes), dtype=np.uint8)
    decoder = Decoder(payload)
    with contextlib.closing(NetCoder(stack, kind, lanes, n_steps)) as coder:
        for t in range(n_steps):
            if t % LOOK_EVERY == 0 and stop():
                raise Stopped
            if t == n_steps - 1 and last_lanes < lanes:
                coder.keep(last_lanes)
                steps[t, :last_lanes] = coder.decode(decoder)
                break
            steps[t] = coder.decode(decoder)
            if t < n_steps - 1:
                coder.update(steps[t])
    return from_steps(steps, n_bytes)


@dataclass(frozen=True)
class Coded:
    """A block after compression."""

    kind: Kind
    lanes: int
    payload: bytes


def preset_of(name: str) -> Preset:
    """The preset of that name. Raises UsageError."""
    if name not in PRESETS:
        raise UsageError(f"preset {name!r} is not known: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def encode_block(
    model: Model,
    data: bytes,
    preset: Preset = PRESETS[DEFAULT_PRESET],
    net_extra_bytes: int = 0,
    stop: Stop = never,
) -> Coded:
    """The smallest of raw, lzma and net for one block; `data` may be empty.

    net_extra_bytes: what the archive adds to a block under the net only. Raises Stopped.
    """
    raw = Coded(Kind.RAW, 0, data)
    if only_noise(data):
        return raw
    kind, lanes = preset.kind_of(len(data)), preset.lanes(len(data))
    static = kind is Kind.NET
    packed = encode_lzma(data, stop, QUICKEST) if static else smallest_lzma(data, stop)
    least = min(len(packed), len(data))
    best_bytes = least - net_extra_bytes
    payload: bytes | None = None
    monotonous = not static and best_bytes * MONOTONY < len(data)
    if best_bytes > 0 and not looks_like_noise(data) and not monotonous:
        payload = processes.coded(
            _job("encode", model, kind, lanes, len(data), best_bytes, data),
            lambda: encode_net(stack_of(model), data, lanes, best_bytes, stop, kind),
            stop,
        )
    if static and (payload is None or len(payload) > CLEAR_SHARE * least):
        packed = encode_lzma(data, stop)
    best = raw if len(packed) >= len(data) else Coded(Kind.LZMA, 0, packed)
    if payload is None or len(payload) + net_extra_bytes >= len(best.payload):
        return best
    if not frames.believable(len(data), lanes, len(payload)):
        return best
    return Coded(kind, lanes, payload)


def encode_frame(model: Model, data: bytes, preset: Preset, stop: Stop = never) -> tuple[bytes, bytes]:
    """(head, whole block) as a full archive holds them. Raises Stopped."""
    coded = encode_block(model, data, preset, stop=stop)
    head = frames.make_head(coded.kind, len(data), coded.lanes, len(coded.payload))
    return head.raw, frames.block_frame(head, coded.payload, data)


def encode_compact(
    model: Model, data: bytes, preset: Preset = PRESETS[DEFAULT_PRESET], stop: Stop = never
) -> bytes:
    """A whole compact archive. Raises Stopped."""
    coded = encode_block(model, data, preset, frames.COMPACT_FINGERPRINT_BYTES + 1, stop)
    return frames.compact_archive(coded.kind, coded.lanes, coded.payload, data, model.fingerprint)


def decode_block(model: Model | None, block: Block, stop: Stop = never) -> bytes:
    """The content of a block, checked; only the net needs the model. Raises CorruptArchive, Stopped."""
    head = block.head
    if head.kind is Kind.RAW:
        content = block.payload
    elif head.kind is Kind.LZMA:
        content = decode_lzma(block.payload, head.size)
    elif model is None:
        raise ValueError("a block under the net needs a model")
    else:
        decoded = processes.coded(
            _job("decode", model, head.kind, head.lanes, head.size, 0, block.payload),
            lambda: decode_net(stack_of(model), block.payload, head.size, head.lanes, stop, head.kind),
            stop,
        )
        content = b"" if decoded is None else decoded
    block.check(content)
    return content


def _job(
    action: str, model: Model, kind: Kind, lanes: int, n_bytes: int, limit_bytes: int, data: bytes
) -> processes.Job | None:
    """What a process needs to know; None of a net that learns, or whose model is in no file."""
    path = getattr(model, "path", None)
    if kind is not Kind.NET or path is None:
        return None
    return processes.Job(action, str(path), model.fingerprint, lanes, n_bytes, limit_bytes, data)
