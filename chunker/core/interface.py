"""What the codec asks of a core: the compiled library and the reference in Python both offer it.

Every backend makes the same payloads from the same content, settings and model; they differ in speed alone.
"""

from __future__ import annotations

import ctypes
import enum
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from chunker.errors import UsageError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping

    from chunker.config import StackConfig
    from chunker.core.layout import RawTensor
    from chunker.core.levels import IntegerStack

MISFIT = "the archive is damaged (a payload does not fit its block): fetch or restore it again"
SAMPLES = 46
GATE_ALWAYS = 4095  # wake at every byte: |ln(p / (1 - p))| is always below 4095/256


class Stopped(Exception):
    """Raised within a call because its `Stop` was set."""


class Stop:
    """Asks calls in other threads to end early; a flag that compiled code reads, too."""

    def __init__(self) -> None:
        self.flag = ctypes.c_int32(0)

    def set(self) -> None:
        """Ask; this cannot be undone."""
        self.flag.value = 1

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self.flag.value != 0

    def check(self) -> None:
        """Raise Stopped if somebody asked."""
        if self.is_set():
            raise Stopped


class Progress:
    """How many bytes of its content a call has finished; a number that compiled code writes, too."""

    def __init__(self) -> None:
        self.count = ctypes.c_int64(0)

    @property
    def value(self) -> int:
        """Bytes so far."""
        return self.count.value

    @value.setter
    def value(self, n_bytes: int) -> None:
        self.count.value = n_bytes


class Contexts(enum.IntEnum):
    """Which set of contexts level 0 uses."""

    FEW = 0
    MANY = 1
    ALL = 2


@dataclass(frozen=True)
class Settings:
    """How a block is coded.

    gate: in 1/256 nat. The recurrent levels wake, for the rest of a byte, at its first bit to which the
    contexts give a probability p with 256 |ln(p / (1 - p))| < gate. 0: never; GATE_ALWAYS: at every byte.
    sample: the number of a text that the block reads before its content (`chunker.codec.samples`), 0 for
    none; None: the one that suits the content is chosen. Cores look at the other two alone.

    Raises
    ------
    UsageError: the gate is not in 0 .. GATE_ALWAYS, or there is no such sample.
    """

    contexts: Contexts
    gate: int
    sample: int | None = None

    def __post_init__(self) -> None:
        if self.sample is not None and not 0 <= self.sample <= SAMPLES:
            raise UsageError(f"there is no sample {self.sample}: choose one from 0 to {SAMPLES}")
        if not 0 <= self.gate <= GATE_ALWAYS:
            raise UsageError(f"a gate of {self.gate} is out of range: choose one from 0 to {GATE_ALWAYS}")

    @property
    def needs_model(self) -> bool:
        """Whether recurrent levels may wake, so that a model has to be there."""
        return self.gate > 0


@dataclass(frozen=True)
class Trace:
    """What a session tells of the n bytes that it read.

    bits: array of type "f", (n,): what coding each byte would cost. levels: (n,) 0 where the contexts were
    alone, 1 where the first recurrent level woke, 2 where the second one took in the byte before, and so on.
    woke: (n,) the number, from 0, of the bit before which the first level woke, 8 where it slept.
    In detail only, else empty:
    guesses: array of type "H", (n,): the byte that level 0 held for the likeliest, 256 for none. confidences:
    (n,) how sure it was, 0 .. 15. probabilities: array of type "H", (n, 8): probability of a 1 before each
    bit, in 1/65536. level_bits: array of type "f", (n, levels): the cost of each byte in bits under levels
    1 .. l alone, for each l; NaN where they slept.
    Of bytes of which ranks were asked for only, else empty or 0:
    ranks: array of type "H", (n,): 1 and how many of the other 255 bytes would have cost less. best: (n, 5)
    the bytes that would have cost least, the lower one first of equals. best_bits: array of type "f", (n, 5):
    what they would have cost under the whole mixture. best_levels: (n, 5) where each came from: l of those
    levels 1 .. l that alone would have taken least for it, if this is less than the mixture takes; 0 where no
    recurrent level held it for likelier than the mixture did, so that it came from the contexts.
    """

    bits: array[float]
    levels: bytes
    woke: bytes
    guesses: array[int] = field(default_factory=lambda: array("H"))
    confidences: bytes = b""
    probabilities: array[int] = field(default_factory=lambda: array("H"))
    level_bits: array[float] = field(default_factory=lambda: array("f"))
    ranks: array[int] = field(default_factory=lambda: array("H"))
    best: bytes = b""
    best_bits: array[float] = field(default_factory=lambda: array("f"))
    best_levels: bytes = b""


PRIMED_BYTES = 1 << 17
"""A block that begins with something known has the tables of one of so many bytes at least, so that a core
may keep the state behind it for the next short content."""


def primed_capacity(known: bytes, n_bytes: int) -> int:
    """As of a block of how many bytes the tables are, for a content of `n_bytes` behind what is known."""
    return max(len(known) + n_bytes, PRIMED_BYTES) if known else n_bytes


LAST_KNOWN_BYTES = 1 << 12
"""Of what a block begins with, the recurrent levels read the last bytes alone: contexts learn some ten times
faster, and these are enough for the mixture to learn what to make of the levels."""


def asleep_bytes(known: bytes) -> int:
    """At how many of the first bytes of what is known the recurrent levels sleep."""
    return max(0, len(known) - LAST_KNOWN_BYTES)


BEST = 5
"""How many of the likeliest bytes a trace tells."""

RESERVED = 0xFE
"""A record's payload does not begin with this byte or the one above, which mark what is stored otherwise."""


class Session(Protocol):
    """A block that is read and predicted as in coding, in any number of calls, but not coded.

    From where it stands it codes records, each as if it came next, and none the wiser for the others. One
    call at a time.
    """

    def read(
        self, content: bytes, *, asleep: int = 0, detail: bool = False, rank_from: float | None = None
    ) -> Trace:
        """Read the next bytes.

        asleep: at so many of the first ones the recurrent levels do not wake, whatever the gate says.
        rank_from: tell rank and likeliest bytes wherever a byte costs so many bits or more. Exact, by trying
        what other bytes would cost: this takes some ten times as long as to read a byte.

        Raises
        ------
        Stopped: the session's `stop` was set. MemoryError. ValueError: it has no room left for so many.
        """

    def encode(self, record: bytes) -> bytes:
        """The payload of bytes coded as what comes next; afterwards the session is as it was.

        Raises
        ------
        Stopped, MemoryError. ValueError: the session has no room for so many.
        """

    def decode(self, payload: bytes, *, end: int | None, limit: int) -> bytes:
        """What `encode` was given by a session in the same state; afterwards the session is as it was.

        end: the byte with which the record ends, and that came nowhere before in it; None: it has exactly
        `limit` bytes. limit: it has so many at most.

        Raises
        ------
        CorruptArchive: the payload is none of such a record. Stopped, MemoryError.
        """

    def copy(self) -> Session:
        """Another session in the same state, for another thread. Raises MemoryError."""

    def save(self) -> bytearray:
        """The state, for `Backend.restore` of the same core on the same machine; empty where a core has none
        to give. Mostly zeros. Raises MemoryError.
        """


class Model(Protocol):
    """What a core needs of a model; `chunker.models.Model` has it."""

    @property
    def config(self) -> StackConfig:
        """The configuration of the stack."""

    @property
    def raw_tensors(self) -> Mapping[str, RawTensor]:
        """The integer tensors by name, as they lie in a file."""

    def integer_stack(self) -> IntegerStack:
        """The stack in numpy."""


class Backend(Protocol):
    """A core. `model` is needed exactly if `settings.needs_model`;
    calls may run in several threads at once."""

    @property
    def name(self) -> str:
        """One of "native avx512vnni", "native avx2", "native neon", "native portable" and "python"."""

    def encode(
        self,
        content: bytes,
        settings: Settings,
        model: Model | None,
        limit_bytes: int,
        stop: Stop,
        progress: Progress,
        known: bytes = b"",
    ) -> bytes | None:
        """The payload, or None as soon as it cannot become shorter than `limit_bytes`.

        known: what the block has read before the content, of which progress does not count.

        Raises
        ------
        Stopped: `stop` was set. MemoryError: there is no room for the tables.
        """

    def decode(
        self,
        payload: bytes,
        n_bytes: int,
        settings: Settings,
        model: Model | None,
        stop: Stop,
        progress: Progress,
        partial: bool = False,
        known: bytes = b"",
    ) -> bytes:
        """The content, of `n_bytes`.

        partial: if the payload ends too early, return what was decoded before; arbitrary bytes may follow.
        known: as for `encode`.

        Raises
        ------
        CorruptArchive: the payload ends too early or too late. Stopped, MemoryError: as above.
        """

    def session(
        self, settings: Settings, model: Model | None, capacity: int, stop: Stop, progress: Progress
    ) -> Session:
        """A session for `capacity` bytes at most, which reads them as those of a block of this size.

        Without a model the contexts are alone, and the session tells when recurrent levels would wake.
        progress: counts the bytes of each `read`.

        Raises
        ------
        MemoryError: there is no room for the tables.
        """

    def restore(
        self,
        settings: Settings,
        model: Model | None,
        capacity: int,
        state: mmap.mmap,
        stop: Stop,
        progress: Progress,
    ) -> Session | None:
        """A session in a state that `Session.save` gave, at once; None if it is not one of such a session.

        state: mapped with ACCESS_COPY from a file whose checksum was compared, for its content is trusted.
        The other arguments are as for the session that was saved.
        """


def check_stack(config: StackConfig) -> None:
    """Check that archives can be made with stacks of this configuration.

    Raises
    ------
    UsageError: they cannot.
    """
    if config.symbols != 256:
        raise UsageError(
            f"the model predicts {config.symbols} symbols, not bytes: compress with a model of 256"
        )
    if config.mode != "joint" and len(config.levels) > 1:
        raise UsageError("the codec runs joint stacks: compress with a model trained with --mode joint")
