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

import lzma
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from chunker.coding import frames
from chunker.coding.archive import Block
from chunker.coding.entropy import Decoder, Encoder, Rows
from chunker.coding.frames import Kind, damaged
from chunker.errors import UsageError

# To be tuned: none of these is part of the format.
BLOCK_BYTES = 1 << 19
SMALL_BYTES = 1 << 16  # an input below is one block, in the compact form; from here on at least two
LANE_BYTES = 1 << 13
FEW_LANES = 8  # up to here a lane is that long; what comes on top is cut into lanes of a third
LOOK_EVERY = 64  # steps between two looks at whether to go on

# The net is not tried where even the byte counts look like noise, and is stopped where, after this part of the
# steps, it is on the way to more than this share of the best size so far (its first steps are its worst).
NOISE_BYTES = 1 << 14
TRIAL_PART = 16
TRIAL_SHARE = 1.3
LEARNING_TRIAL_SHARE = 2.5  # a net that learns has its worst steps behind it by then

_LZMA_READ = [{"id": lzma.FILTER_LZMA2, "dict_size": frames.MAX_BLOCK_BYTES}]

PRESETS = {"fast": Kind.NET, "default": Kind.LEARNING_NET}
DEFAULT_PRESET = "default"

Stop = Callable[[], bool]


class Session(Protocol):
    """What coding needs of the net: one state per lane, the same integers on every machine."""

    def frequencies(self) -> Rows:
        """(lanes, 256): the frequencies of the next symbol, minus one."""

    def update(self, symbols: npt.NDArray[np.integer]) -> None:
        """Take in (lanes,) symbols that came."""

    def keep(self, lanes: int) -> None:
        """Go on with the first `lanes` lanes only."""


class Stack(Protocol):
    """A frozen net; `chunker.coding.twin.IntegerStack` is one."""

    def session(self, lanes: int, learn: bool = False) -> Session:
        """A new session without history; `learn`: its readout learns from what it codes."""


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


class Stopped(Exception):
    """Raised within a block because `stop()` became true."""


def never() -> bool:
    """The `stop` of a caller that never stops."""
    return False


def lane_plan(n_bytes: int) -> int:
    """How many lanes a block of that length gets: 1 .. MAX_LANES."""
    few = min(n_bytes, FEW_LANES * LANE_BYTES)
    return max(1, min(round(few / LANE_BYTES + 3 * (n_bytes - few) / LANE_BYTES), frames.MAX_LANES))


def block_plan(n_bytes: int) -> list[int]:
    """The lengths of the blocks of an input of that length, however it arrives: whole blocks while at least two
    are left, then `last_blocks`. So two cores share all but a small input, and no machine cuts differently."""
    plan = []
    while n_bytes >= 2 * BLOCK_BYTES:
        plan.append(BLOCK_BYTES)
        n_bytes -= BLOCK_BYTES
    return plan + last_blocks(n_bytes)


def last_blocks(n_bytes: int) -> list[int]:
    """How what is left below two blocks is cut: in halves unless it is small."""
    if n_bytes < SMALL_BYTES:
        return [n_bytes] if n_bytes else []
    return [n_bytes - n_bytes // 2, n_bytes // 2]


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


def encode_net(
    stack: Stack, data: bytes, lanes: int, best_bytes: int, stop: Stop = never, learn: bool = False
) -> bytes | None:
    """The payload of a block under the net, or None as soon as it cannot become smaller than `best_bytes`.

    Raises Stopped.
    """
    steps, last_lanes = to_steps(data, lanes)
    session = stack.session(lanes, learn)
    encoder = Encoder()
    share = LEARNING_TRIAL_SHARE if learn else TRIAL_SHARE
    trial_at = len(steps) // TRIAL_PART // LOOK_EVERY * LOOK_EVERY
    last = len(steps) - 1
    for t, symbols in enumerate(steps):
        if t % LOOK_EVERY == 0:
            if stop():
                raise Stopped
            if encoder.size_bytes >= best_bytes + 8:  # `finish` takes back up to 8 bytes
                return None
            if t and t == trial_at and encoder.size_bytes * len(steps) > share * best_bytes * t:
                return None
        if t == last and last_lanes < lanes:
            session.keep(last_lanes)
            symbols = symbols[:last_lanes]
        encoder.encode(symbols, session.frequencies())
        if t < last:
            session.update(symbols)
    payload = encoder.finish()
    return payload if len(payload) < best_bytes else None


def decode_net(
    stack: Stack, payload: bytes, n_bytes: int, lanes: int, stop: Stop = never, learn: bool = False
) -> bytes:
    """The content of a block that `encode_net` coded. Raises CorruptArchive, Stopped."""
    n_steps = -(-n_bytes // lanes)
    last_lanes = n_bytes - (n_steps - 1) * lanes
    steps = np.zeros((n_steps, lanes), dtype=np.uint8)
    session = stack.session(lanes, learn)
    decoder = Decoder(payload)
    for t in range(n_steps):
        if t % LOOK_EVERY == 0 and stop():
            raise Stopped
        if t == n_steps - 1 and last_lanes < lanes:
            session.keep(last_lanes)
            steps[t, :last_lanes] = decoder.decode(session.frequencies())
            break
        symbols = decoder.decode(session.frequencies())
        steps[t] = symbols
        if t < n_steps - 1:
            session.update(symbols)
    return from_steps(steps, n_bytes)


def encode_lzma(data: bytes, preset: int = 6) -> bytes:
    """Raw LZMA2: without container, so that it also serves short blocks."""
    return lzma.compress(
        data,
        format=lzma.FORMAT_RAW,
        filters=[
            {
                "id": lzma.FILTER_LZMA2,
                "preset": preset,
                "dict_size": max(4096, 1 << (len(data) - 1).bit_length() if data else 0),
                # Text has no alignment to exploit; a zero byte says that this is none. A chunk stores the choice.
                "pb": 2 if 0 in data else 0,
            }
        ],
    )


def decode_lzma(payload: bytes, n_bytes: int) -> bytes:
    """The content of a raw LZMA2 payload. Raises CorruptArchive unless it is exactly `n_bytes` long."""
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_LZMA_READ)
    try:
        content = decoder.decompress(payload, max_length=n_bytes + 1)
    except lzma.LZMAError as exc:
        raise damaged("an lzma block does not decode") from exc
    if len(content) != n_bytes or not decoder.eof or decoder.unused_data:
        raise damaged("an lzma block has another length than it claims")
    return content


def looks_like_noise(data: bytes) -> bool:
    """Whether the counts of byte values are as even as noise's (collision entropy above 7.91 bits).

    In integers, so that every machine decides alike.
    """
    if len(data) < NOISE_BYTES:
        return False
    counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256).astype(np.int64)
    return bool(256 * 16 * int(counts @ counts) < 17 * len(data) ** 2)


def repeats_itself(data: bytes) -> bool:
    """Whether one of a sample of its words of 8 bytes, at any position, occurs twice.

    The words to look at are chosen by their value, so that both ends of a repetition choose alike: one of 251,
    which misses one repetition of 1000 bytes in 50.
    """
    at_offsets = (np.frombuffer(data, "<u8", (len(data) - offset) // 8, offset) for offset in range(8))
    sample = np.concatenate([words[words % np.uint64(251) == 0] for words in at_offsets])
    return len(np.unique(sample)) < len(sample)


def only_noise(data: bytes) -> bool:
    """Whether no method has prospects: even counts, no repetition, and lzma gains nothing on a piece."""
    if not looks_like_noise(data) or repeats_itself(data):
        return False
    piece = data[:NOISE_BYTES]
    return len(encode_lzma(piece, preset=0)) >= len(piece)


@dataclass(frozen=True)
class Coded:
    """A block after compression."""

    kind: Kind
    lanes: int
    payload: bytes


def kind_of(preset: str) -> Kind:
    """The kind of block under the net that a preset makes. Raises UsageError."""
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is not known: choose one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def encode_block(
    model: Model,
    data: bytes,
    kind: Kind = PRESETS[DEFAULT_PRESET],
    net_extra_bytes: int = 0,
    stop: Stop = never,
) -> Coded:
    """The smallest of raw, lzma and net for one block of at most BLOCK_BYTES; `data` may be empty.

    kind: how the net is to be used. net_extra_bytes: what the archive adds to a block under the net only. Raises Stopped.
    """
    best = Coded(Kind.RAW, 0, data)
    if only_noise(data):
        return best
    packed = encode_lzma(data)
    if len(packed) < len(data):
        best = Coded(Kind.LZMA, 0, packed)
    best_bytes = len(best.payload) - net_extra_bytes
    if best_bytes <= 0 or looks_like_noise(data):
        return best
    lanes = lane_plan(len(data))
    payload = encode_net(stack_of(model), data, lanes, best_bytes, stop, kind is Kind.LEARNING_NET)
    return best if payload is None else Coded(kind, lanes, payload)


def encode_frame(model: Model, data: bytes, kind: Kind, stop: Stop = never) -> tuple[bytes, bytes]:
    """(head, whole block) as a full archive holds them. Raises Stopped."""
    coded = encode_block(model, data, kind, stop=stop)
    head = frames.make_head(coded.kind, len(data), coded.lanes, len(coded.payload))
    return head.raw, frames.block_frame(head, coded.payload, data)


def encode_compact(
    model: Model, data: bytes, kind: Kind = PRESETS[DEFAULT_PRESET], stop: Stop = never
) -> bytes:
    """A whole compact archive. Raises Stopped."""
    coded = encode_block(model, data, kind, frames.COMPACT_FINGERPRINT_BYTES + 1, stop)
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
        content = decode_net(
            stack_of(model), block.payload, head.size, head.lanes, stop, head.kind is Kind.LEARNING_NET
        )
    block.check(content)
    return content
