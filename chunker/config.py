"""What a stack is made of, as plain data that travels in the model file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from chunker.errors import UsageError

CELLS = ("rnn", "gru", "lstm")
MODES = ("joint", "faithful")
RULES = ("rate", "surprise", "argmax", "word")  # of gates over symbols
GATE_RULES = (*RULES, "tolerance")
MAX_THRESHOLD_BITS = 16
GATES_PER_CELL = {"rnn": 1, "gru": 3, "lstm": 4}
MAX_LEVELS = 16
MAX_WIDTH = 16384
MAX_SYMBOLS = 65536
MAX_ORDER = 8
MAX_NGRAM_ROWS = 1 << 20
MAX_CATCH_UP = 255
GUESSES = 257  # values of `Wake.guess`: one of 256 bytes, or none
NO_GUESS = 256
CONFIDENCES = 16  # how sure of it the contexts are, 0 to 15


@dataclass(frozen=True)
class GateRule:
    """When an input counts as unexpected and goes up to the next level. The first of a sequence always does.

    rule       value                 an input x goes up iff
    argmax     unused                symbols: x is not the most probable symbol (Schmidhuber 1992)
    surprise   bits                  -log2 p(x) > value; up to 1 bit left-out symbols can be reconstructed
    tolerance  standard deviations   vectors: a channel is further than value from its predicted mean
    rate       share                 symbols: as `surprise`, vectors: as `tolerance`, the threshold calibrated
                                     so that this share of the inputs goes up
    word       unused                bytes: x is no letter, so that upper levels read where words end
    """

    rule: str = "rate"
    value: float = 0.25

    def __post_init__(self) -> None:
        if self.rule not in GATE_RULES:
            raise UsageError(f"gate rule {self.rule!r} is not known; choose one of {', '.join(GATE_RULES)}")
        if not -math.inf < self.value < math.inf:  # whole numbers of any size, too, but not NaN
            raise UsageError(f"a gate's value of {self.value} makes no sense; choose a finite number")
        if self.rule == "rate" and not 0 < self.value < 1:
            raise UsageError(f"a gate rate of {self.value} makes no sense; choose one between 0 and 1")
        if self.rule in ("surprise", "tolerance") and not 0 < self.value < math.inf:
            raise UsageError(f"a gate threshold of {self.value} makes no sense; choose one above 0")


@dataclass(frozen=True)
class NGrams:
    """Further input of the lowest level: its last n symbols for each n in `orders`, and its word so far, as
    learnt vectors, summed.

    Attributes
    ----------
    orders: lengths n, rising, 1 to 8. word: whether it also reads the letters of this word so far together
    with the last byte; for bytes alone.
    rows: vectors for each of these, a power of two; a hash of the symbols finds the row. width: of a vector.
    """

    orders: tuple[int, ...] = (2, 3, 4, 5)
    rows: int = 1 << 14
    width: int = 48
    word: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "orders", tuple(self.orders))
        if not all(_whole(n, 1, MAX_ORDER) for n in self.orders) or not self.orders:
            raise UsageError(f"n-grams have orders from 1 to {MAX_ORDER}, like 2,3,4,5")
        if list(self.orders) != sorted(set(self.orders)):
            raise UsageError("the orders of n-grams must rise, like 2,3,4,5")
        if not _whole(self.rows, 1, MAX_NGRAM_ROWS) or self.rows & (self.rows - 1):
            raise UsageError(f"the rows of n-grams are a power of two, at most {MAX_NGRAM_ROWS}")
        if not _whole(self.width, 1, MAX_WIDTH):
            raise UsageError(f"the width of n-grams is a whole number from 1 to {MAX_WIDTH}")
        if not isinstance(self.word, bool):
            raise UsageError("word is true or false")

    @property
    def longest(self) -> int:
        return self.orders[-1]

    @property
    def tables(self) -> int:
        """How many vectors are summed."""
        return len(self.orders) + self.word

    def to_json(self) -> dict[str, Any]:
        """A dictionary of the fields, ready for canonical JSON."""
        fields = {**asdict(self), "orders": list(self.orders)}
        if not self.word:
            del fields["word"]
        return fields


@dataclass(frozen=True)
class Wake:
    """Further input of the first recurrent level in an archive, where it skips the bytes that contexts
    predict.

    Attributes
    ----------
    slept: how many bytes have passed since its last step, as a bucket of `TIME_BOUNDS`.
    guess: the byte that the contexts hold for the likeliest, and how sure of it they are (`GUESSES`,
    `CONFIDENCES`).
    catch_up: how many of the bytes that it skipped, the last ones, it reads before it predicts again.
    """

    slept: bool = False
    guess: bool = False
    catch_up: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.slept, bool) or not isinstance(self.guess, bool):
            raise UsageError("slept and guess are true or false")
        if not _whole(self.catch_up, 0, MAX_CATCH_UP):
            raise UsageError(f"bytes to catch up on are a whole number from 0 to {MAX_CATCH_UP}")


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


@dataclass(frozen=True)
class StackConfig:
    """A stack of recurrent predictors.

    Attributes
    ----------
    levels: hidden width of each level, lowest first.
    cell: "rnn" (tanh), "gru" or "lstm" (with forget gate).
    mode: "faithful" (1991: no top-down input, each level predicts its own next input) or "joint" (each
        symbol's probability comes from the states of all levels).
    symbols: size of the alphabet; 256 for bytes.
    gate: the rule by which inputs go up, the same for all levels.
    time_code: upper levels read the time since their last input; only experiments turn it off.
    ngrams: the last few symbols as one input of level 0; None: the last symbol alone.
    wake: what level 0 reads besides where it skips bytes of an archive; None: nothing.
    """

    levels: tuple[int, ...] = (256, 512)
    cell: str = "gru"
    mode: str = "joint"
    symbols: int = 256
    gate: GateRule = field(default_factory=GateRule)
    time_code: bool = True
    ngrams: NGrams | None = None
    wake: Wake | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        if not 1 <= len(self.levels) <= MAX_LEVELS:
            raise UsageError(f"a stack has 1 to {MAX_LEVELS} levels, not {len(self.levels)}")
        for width in self.levels:
            if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= MAX_WIDTH:
                raise UsageError(f"level width {width!r} is not a whole number from 1 to {MAX_WIDTH}")
        if self.cell not in CELLS:
            raise UsageError(f"cell {self.cell!r} is not known; choose one of {', '.join(CELLS)}")
        if self.mode not in MODES:
            raise UsageError(f"mode {self.mode!r} is not known; choose one of {', '.join(MODES)}")
        if isinstance(self.symbols, bool) or not isinstance(self.symbols, int):
            raise UsageError("the number of symbols must be a whole number")
        if not 2 <= self.symbols <= MAX_SYMBOLS:
            raise UsageError(f"an alphabet has 2 to {MAX_SYMBOLS} symbols, not {self.symbols}")
        if not isinstance(self.time_code, bool):
            raise UsageError("time_code is true or false")
        if self.gate.rule not in RULES:
            raise UsageError(
                f"the gate rule {self.gate.rule} is for vectors; choose one of {', '.join(RULES)}"
            )
        if self.gate.rule == "surprise" and self.gate.value > MAX_THRESHOLD_BITS:
            raise UsageError(
                f"a gate threshold of {self.gate.value} bits is above {MAX_THRESHOLD_BITS}; lower it"
            )
        if self.gate.rule == "word" and self.mode != "joint":
            raise UsageError("the gate rule word is for joint stacks: faithful levels read what was missed")
        of_bytes = {
            "guesses": self.wake is not None and self.wake.guess,
            "words": self.gate.rule == "word" or (self.ngrams is not None and self.ngrams.word),
        }
        for name, wanted in of_bytes.items():
            if wanted and self.symbols != NO_GUESS:
                raise UsageError(f"{name} are of bytes; use an alphabet of 256 symbols, or leave them out")

    def below(self, level: int) -> int:
        """The width of what a level reads besides its symbol: 0 if nothing.

        Level 0: the vector of its n-grams; upper levels of a joint stack: the state of the level below.
        """
        if level == 0:
            return 0 if self.ngrams is None else self.ngrams.width
        return self.levels[level - 1] if self.mode == "joint" else 0

    def told_time(self, level: int) -> bool:
        """Whether a level reads the time since its last input."""
        return self.time_code if level else self.wake is not None and self.wake.slept

    @property
    def told_guess(self) -> bool:
        """Whether level 0 reads which byte the contexts expect."""
        return self.wake is not None and self.wake.guess

    @property
    def gates_per_cell(self) -> int:
        """How many hidden-width blocks a cell's pre-activation has (3 for a GRU)."""
        return GATES_PER_CELL[self.cell]

    def predicts_time(self, level: int) -> bool:
        """Whether a level also predicts when its next input comes: the upper ones of a faithful stack.

        Level l predicts it in inputs of each level 0, 1, .. l-1 below. With these times the inputs that were
        left out can be reconstructed from those that the level above received.
        """
        return level > 0 and self.mode == "faithful" and self.time_code

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `from_json` reads back, ready for canonical JSON."""
        fields = {**asdict(self), "levels": list(self.levels)}
        if self.ngrams is None:
            del fields["ngrams"]
        else:
            fields["ngrams"] = self.ngrams.to_json()
        if self.wake is None:
            del fields["wake"]
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> StackConfig:
        """The inverse of `to_json`.

        Raises
        ------
        UsageError: a field is missing, unknown or out of range.
        """
        try:
            gate = GateRule(**fields["gate"])
            ngrams = NGrams(**fields["ngrams"]) if "ngrams" in fields else None
            wake = Wake(**fields["wake"]) if "wake" in fields else None
            parts = {"levels": tuple(fields["levels"]), "gate": gate, "ngrams": ngrams, "wake": wake}
            return cls(**{**fields, **parts})
        except (KeyError, TypeError) as error:
            raise UsageError(f"the stack's configuration cannot be read: {error}") from error


def canonical_json(value: Any) -> str:
    """JSON with one spelling only: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def parse_json(text: str | bytes) -> Any:
    """The value of JSON from a file that anybody may have written.

    Raises
    ------
    ValueError: it is none, holds a number that is not finite, or is nested absurdly deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def time_bounds() -> tuple[int, ...]:
    """The log-scaled time code: bucket b holds the times t with bounds[b-1] < t <= bounds[b].

    Exact up to 8, then four buckets an octave up to 2**14; everything later shares the last bucket.
    `bisect_left(time_bounds(), t)` is the bucket of a time t >= 1 (in symbols).
    """
    exact = list(range(1, 9))
    octaves = [2**k + 2**k * quarter // 4 for k in range(3, 14) for quarter in (1, 2, 3, 4)]
    return tuple(exact + octaves)


TIME_BOUNDS = time_bounds()
TIME_BUCKETS = len(TIME_BOUNDS) + 1
