"""The stack: level 0 reads every symbol, level l+1 only what level l did not predict.

Schmidhuber 1992, section 3 ("the principle of history compression", multi-level predictor hierarchies).

    paper                               here
    predictor P_s                       Level s
    x_p(t), o_p(t)                      symbol, logits
    "unexpected input"                  event (gate.py)
    unique representation of the time   time since the level's last input, log-scaled code

Both modes gate level l+1 by the realised surprise of level l, so the events are known as soon as level l
has run, and a training window is one call a level (`forward`) without a loop over time in between.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from chunker.config import StackConfig
from chunker.errors import CorpusError, NotAModel, UsageError
from chunker.learning.convert import from_file, to_file
from chunker.learning.evaluate import lanes_of, score_floats
from chunker.learning.gate import expected_set, follow_rate, unexpected
from chunker.learning.level import Level, LevelState
from chunker.learning.ngrams import follow, follow_word
from chunker.learning.observation import NATS_PER_BIT, Categorical, surprise_bits
from chunker.learning.packing import count_before, pack, pick

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from chunker.core.history import History, Reduced, Symbols
    from chunker.core.levels import IntegerStack
    from chunker.models import Model

_FIELDS = tuple(field.name for field in fields(LevelState))
_WINDOW = 1024  # symbols of each row per forward call where nothing is trained
_WINDOW_SYMBOLS = 1 << 16  # symbols of all rows; bounds the memory for logits


@dataclass(frozen=True)
class StackState:
    """The states of all levels, lowest first; B rows."""

    levels: tuple[LevelState, ...]

    def detach(self) -> StackState:
        return StackState(tuple(level.detach() for level in self.levels))

    def reset(self, rows: Tensor) -> StackState:
        """The state with the rows (B,) bool made cold."""
        return StackState(tuple(level.reset(rows) for level in self.levels))

    def to(self, device: torch.device | str) -> StackState:
        return StackState(tuple(level.to(device) for level in self.levels))

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors by name, for a checkpoint."""
        pairs = {
            f"{i}.{name}": getattr(level, name) for i, level in enumerate(self.levels) for name in _FIELDS
        }
        return {name: tensor for name, tensor in pairs.items() if tensor is not None}

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Tensor]) -> StackState:
        count = 1 + max(int(name.split(".")[0]) for name in tensors)
        return cls(
            tuple(
                LevelState(**{name: tensors[key] for name in _FIELDS if (key := f"{i}.{name}") in tensors})
                for i in range(count)
            )
        )


@dataclass(frozen=True)
class StackOutput:
    """What a stack made of a window of T symbols in B rows.

    level_logits: per level (T, B, V): the level's own prediction (joint: levels 0..l together), held
        between its ticks.
    events: per level (T, B) bool, which symbols the level received; events[0] is all true.
    surprises_bits: per gate (T, B): the realised surprise of each symbol under the level below the gate.
    time_nats: what the growing level paid for the times of its inputs, their sum; None if it predicts none.
    states: per level (T, B, H) its hidden state after each symbol, held between its inputs.
    state: after the window, detached.
    """

    level_logits: tuple[Tensor, ...]
    events: tuple[Tensor, ...]
    surprises_bits: tuple[Tensor, ...]
    states: tuple[Tensor, ...]
    state: StackState
    time_nats: Tensor | None = None


@dataclass(frozen=True)
class Surprise:
    """-log2 of the probabilities that T symbols had before they came, in bits. A notebook shows it.

    bits: (T,) under the whole stack. levels: (L, T) under each level's own prediction, held between its
    inputs (joint: under levels 0 .. l together). received: (L, T) bool, which symbols each level received.
    symbols: (T,) they themselves. text: whether they are bytes.
    """

    bits: NDArray[np.float32]
    levels: NDArray[np.float32]
    received: NDArray[np.bool_]
    symbols: NDArray[np.int64]
    text: bool = True

    def _repr_html_(self) -> str:
        """The symbols coloured by their bits; below each line what the upper levels received."""
        from chunker.views.bins import bin_of
        from chunker.views.fragment import fragment, glyphs_of

        symbols = self.symbols.tolist()
        glyphs = glyphs_of(bytes(symbols)) if self.text else [f"{symbol} " for symbol in symbols]
        reach = (self.received.sum(0) - 1).tolist()
        mean = float(self.bits.mean()) if len(symbols) else 0.0
        return fragment(
            glyphs,
            [bin_of(bits) for bits in self.bits.tolist()],
            reach,
            title=f"{len(symbols):,} symbols, {mean:.3f} bits each",
            breaks=[self.text and symbol == ord("\n") for symbol in symbols],
        )


class Stack(nn.Module):
    """A neural history compressor over symbols.

    `forward` runs a window, `step` one symbol; both give the same probabilities up to float rounding (the
    bit-exact path is chunker.core.levels). In joint mode all levels are trained together; in faithful mode
    one after the other, and levels above `growing` take no part yet.

    summary: how it was trained, JSON values that its model file keeps.
    """

    thresholds_bits: Tensor
    summary: dict[str, Any]

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config, self.summary = config, {}
        joint = config.mode == "joint"
        self.levels = nn.ModuleList(Level.of(config, i) for i in range(len(config.levels)))
        start = config.gate.value if config.gate.rule == "surprise" else 2.0
        self.register_buffer("thresholds_bits", torch.full((len(config.levels) - 1,), start))
        self.growing = len(config.levels) - 1 if joint else 0
        self._freeze()

    # ---- growing (faithful mode) -------------------------------------------------------------------

    def grow(self) -> None:
        """Freeze the level that was trained and start on the next (Schmidhuber 1992, section 3)."""
        if self.growing + 1 >= len(self.config.levels):
            raise UsageError(
                f"all {len(self.config.levels)} levels are there; configure more to grow further"
            )
        self.growing += 1
        self._freeze()

    def _freeze(self) -> None:
        for i, level in enumerate(self.levels):
            level.requires_grad_(self.config.mode == "joint" or i == self.growing)
            level.zero_grad()  # or a frozen level's last gradient would be clipped with the rest

    # ---- whole windows -----------------------------------------------------------------------------

    def start(self, batch: int) -> StackState:
        """A cold state for `batch` rows."""
        return StackState(tuple(self.level(i).start(batch) for i in range(len(self.levels))))

    def forward(self, symbols: Tensor, state: StackState) -> StackOutput:
        """A window of symbols (T, B) int64; see StackOutput."""
        joint = self.config.mode == "joint"
        level_logits: list[Tensor] = []
        events = [torch.ones_like(symbols, dtype=torch.bool)]
        surprises: list[Tensor] = []
        states: list[LevelState] = []
        hidden: list[Tensor] = []
        below: Tensor | None = None  # (T, B, H) states of the level below, held between its ticks
        mistimed: Tensor | None = None  # (T, B) bool, whether the level below did not expect the time
        time_nats: Tensor | None = None
        for i in range(self.growing + 1):
            if i:
                fresh = state.levels[i].fresh & (count_before(events[i - 1]) == 0)
                with torch.no_grad():
                    surprises.append(surprise_bits(level_logits[-1], symbols))
                    missed = self.unexpected(i - 1, level_logits[-1], symbols)
                    if mistimed is not None:
                        missed = missed | mistimed
                events.append(events[-1] & (missed | fresh))
            values, before, after, level_state = self.run_level(
                i, symbols, events[-1], state.levels[i], below
            )
            level = self.level(i)
            if level.clocks:
                times, waited = _times(events, state.levels[i].waited)
                level_state = replace(level_state, waited=waited)
                logits = level.time_logits(values[:-1])
                counted = torch.arange(len(times), device=times.device).unsqueeze(1) < events[-1].sum(0)
                if i < self.growing:
                    wrong, remembered = self.mistimed(i, logits, times, counted, state.levels[i].remembered)
                    mistimed = events[-1] & pick(wrong.unsqueeze(-1), before).squeeze(-1)
                    level_state = replace(level_state, remembered=remembered)
                else:
                    paid = surprise_bits(logits, level.buckets(times)) * NATS_PER_BIT
                    time_nats = (paid * counted.unsqueeze(-1)).sum()
            if joint and i:
                level_logits.append(level_logits[-1] + pick(level.logits(values, bias=False), before))
            else:
                level_logits.append(pick(level.logits(values), before))
            below = after
            hidden.append(after)
            states.append(level_state)
        states.extend(state.levels[len(states) :])
        return StackOutput(
            level_logits=tuple(level_logits),
            events=tuple(events),
            surprises_bits=tuple(surprises),
            states=tuple(hidden),
            state=StackState(tuple(states)).detach(),
            time_nats=time_nats,
        )

    def unexpected(self, index: int, logits: Tensor, symbols: Tensor) -> Tensor:
        """Which symbols (...) the gate above a level lets pass; logits (..., V), of times too."""
        categorical = Categorical(logits.shape[-1])
        return unexpected(categorical, logits, symbols, self.config.gate, self.thresholds_bits[index])

    @torch.no_grad()
    def mistimed(
        self, index: int, logits: Tensor, times: Tensor, counted: Tensor, remembered: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Which of a level's inputs came at a time that it did not expect.

        logits: (E, B, l, buckets), made before each of the E inputs; times: (E, B, l) since the input
        before; counted: (E, B) bool, inputs that are any; remembered: (B, l, buckets), see LevelState.

        Returns (E + 1, B) bool, the last row false, and what is remembered afterwards.
        """
        if remembered is None:
            raise TypeError(f"level {index} remembers no times")
        buckets = self.level(index).buckets(times)
        wrong = torch.zeros(len(times) + 1, times.shape[1], dtype=torch.bool, device=times.device)
        wrong[:-1] = self.unexpected(index, logits, buckets).any(-1)
        for e in range(len(times)):
            slot, time = buckets[e].unsqueeze(-1), times[e].unsqueeze(-1)
            before = remembered.gather(2, slot)
            wrong[e] |= (before != time).any(1).squeeze(-1)
            remembered = remembered.scatter(2, slot, torch.where(counted[e, :, None, None], time, before))
        return wrong, remembered

    def run_level(
        self, index: int, symbols: Tensor, events: Tensor, state: LevelState, below: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, LevelState]:
        """Run one level over its inputs only, those of the symbols (T, B) that are events (T, B).

        below: (T, B, H') states of the level below after each symbol.

        Returns
        -------
        values (1 + E, B, H), the state before the window and after each input; which of them holds before
        each symbol (T, B), and those that hold after each (T, B, H); the state after the window.
        """
        level = self.level(index)
        T, B = symbols.shape
        clock = torch.arange(T, device=symbols.device).unsqueeze(1).expand(T, B)
        if index == 0:
            values, new = level.run(symbols, state)
            before, after = clock, values[1:]
            since = torch.zeros_like(state.since)
        else:
            count = events.sum(0)
            at, came = pack(events, clock, symbols)
            times = torch.diff(at, dim=0, prepend=-1 - state.since.unsqueeze(0)).clamp_min(1)
            lower = None if below is None or level.below is None else pick(below, at)
            values, new = level.run(came, state, times, lower, count)
            before = count_before(events)
            after = pick(values, before + events)
            last = torch.where(events, clock, -1).amax(0)
            since = torch.where(count > 0, T - 1 - last, state.since + T)
        fresh = state.fresh & ~events.any(0)
        recent = None if state.recent is None else follow(symbols, state.recent)
        word = None if state.word is None else follow_word(symbols, state.word)[-1]
        return values, before, after, replace(new, since=since, fresh=fresh, recent=recent, word=word)

    # ---- one symbol at a time ------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, symbols: Tensor, state: StackState) -> tuple[Tensor, StackState]:
        """Read symbols (B,); log-probabilities (B, V) of the next symbol, and the new state."""
        event = torch.ones_like(symbols, dtype=torch.bool)
        logits = self._held_logits(state)
        states: list[LevelState] = []
        below: Tensor | None = None
        mistimed = torch.zeros_like(event)
        ticked: list[Tensor] = []
        for i in range(self.growing + 1):
            old, level = state.levels[i], self.level(i)
            if i:
                missed = self.unexpected(i - 1, logits[i - 1], symbols)
                event = event & (missed | mistimed | old.fresh)
            h, c = level.step(symbols, old, old.since + 1, below if level.below is not None else None)
            keep = event.unsqueeze(1)
            h = torch.where(keep, h, old.h)
            c = None if c is None or old.c is None else torch.where(keep, c, old.c)
            since = torch.where(event, 0, old.since + 1)
            waited, remembered = old.waited, old.remembered
            if waited is not None:
                waited = waited + torch.stack(ticked, 1)
                if i < self.growing:
                    guess = level.time_logits(old.h).unsqueeze(0)
                    wrong, remembered = self.mistimed(
                        i, guess, waited.unsqueeze(0), event.unsqueeze(0), remembered
                    )
                    mistimed = wrong[0]
                waited = waited * ~keep
            ticked.append(event)
            recent = None if old.recent is None else follow(symbols.unsqueeze(0), old.recent)
            word = None if old.word is None else follow_word(symbols.unsqueeze(0), old.word)[-1]
            states.append(LevelState(h, since, old.fresh & ~event, c, waited, remembered, recent, word))
            below = h
        states.extend(state.levels[len(states) :])
        new = StackState(tuple(states))
        return self.combine(self._held_logits(new)), new

    def first(self, state: StackState) -> Tensor:
        """Log-probabilities (B, V) of the symbol after `state`."""
        return self.combine(self._held_logits(state))

    def _held_logits(self, state: StackState) -> list[Tensor]:
        logits: list[Tensor] = []
        for i in range(self.growing + 1):
            add = self.config.mode == "joint" and i > 0
            own = self.level(i).logits(state.levels[i].h, bias=not add)
            logits.append(logits[-1] + own if add else own)
        return logits

    # ---- histories -----------------------------------------------------------------------------------

    def integer_stack(self) -> IntegerStack:
        """The integer model of the trained levels: the same bits on every machine, without gradients."""
        return self.to_model().integer_stack()

    def compress_history(self, sequence: Symbols) -> History:
        """The inputs that each level receives of a sequence (see chunker.core.history).

        sequence: bytes, or whole numbers (T,). Computed by the integer model of the stack as it is now.

        Raises
        ------
        UsageError: a symbol is not of the stack's alphabet.
        """
        from chunker.core.history import compress_history

        return compress_history(self.integer_stack(), [sequence])[0]

    def expand(self, history: History | Reduced) -> NDArray[np.int64]:
        """The sequence (T,) of a history, or of its `top` alone.

        Raises
        ------
        UsageError: the gates leave out more than can be put back, or the history is not this stack's.
        """
        from chunker.core.history import expand

        return expand(self.integer_stack(), [history])[0]

    # ---- figures -------------------------------------------------------------------------------------

    def bits_per_byte(self, text: bytes | str, lanes: int | None = None) -> float:
        """The mean cost of a byte of the text, in bits, in float32 and without contexts.

        text: bytes, or a string, which stands for its UTF-8. lanes: how many parts it is cut into, each read
        from a cold start; None: parts of 16 KiB. `chunker evaluate` measures the same, and what the integers
        cost.

        Raises
        ------
        CorpusError: the text is empty. UsageError: the alphabet is not that of bytes.
        """
        if self.config.symbols != 256:
            raise UsageError(f"a stack of {self.config.symbols} symbols reads no bytes; use surprise")
        scores = [score_floats(self, *part) for part in lanes_of(_bytes(text), lanes)]
        if not scores:
            raise CorpusError("the text is empty; give some with something in it")
        return sum(score.bits for score in scores) / sum(score.bytes for score in scores)

    def score_lanes(
        self, symbols: NDArray[np.uint8], lengths: NDArray[np.int64], bfloat16: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Bits of each lane (N,), and the inputs that each level received (levels,), from cold starts.

        Only the first lengths[n] symbols of lane n of `symbols` (T, N) count.
        """
        device = self.thresholds_bits.device
        steps, lanes = symbols.shape
        window = max(1, min(_WINDOW, _WINDOW_SYMBOLS // lanes))
        bits = torch.zeros(lanes, dtype=torch.float64, device=device)
        ticks = torch.zeros(len(self.config.levels), dtype=torch.int64, device=device)
        ends = torch.from_numpy(lengths).to(device)
        training = self.training
        self.eval()
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            state = self.start(lanes)
            for start in range(0, steps, window):
                part = torch.from_numpy(symbols[start : start + window]).to(device).long()
                counted = torch.arange(start, start + len(part), device=device).unsqueeze(1) < ends
                output = self(part, state)
                state = output.state
                bits += (self.bits(output, part) * counted).sum(0, dtype=torch.float64)
                for level, events in enumerate(output.events):
                    ticks[level] += (events & counted).sum()
        self.train(training)
        return bits.cpu().numpy(), ticks.cpu().numpy()

    @torch.no_grad()
    def surprise(self, sequence: Symbols | str) -> Surprise:
        """How surprised the stack and each of its levels is by every symbol, from a cold start.

        sequence: bytes, a string, which stands for its UTF-8, or whole numbers (T,).

        Raises
        ------
        UsageError: a symbol is not of the stack's alphabet.
        """
        came = _symbols(sequence, self.config.symbols)
        symbols = torch.from_numpy(came).unsqueeze(1).to(self.thresholds_bits.device)
        training, state = self.training, self.start(1)
        self.eval()
        whole, levels, received = [], [], []
        for window in torch.split(symbols, _WINDOW) if len(symbols) else ():
            output = self(window, state)
            state = output.state
            whole.append(self.bits(output, window))
            levels.append(torch.stack([surprise_bits(logits, window) for logits in output.level_logits]))
            received.append(torch.stack(output.events))
        self.train(training)
        if not whole:
            none = np.zeros((self.growing + 1, 0), dtype=np.float32)
            return Surprise(none[0], none, none.astype(np.bool_), came, self.config.symbols == 256)
        return Surprise(
            torch.cat(whole)[:, 0].cpu().numpy(),
            torch.cat(levels, 1)[..., 0].cpu().numpy(),
            torch.cat(received, 1)[..., 0].cpu().numpy(),
            came,
            self.config.symbols == 256,
        )

    # ---- files ---------------------------------------------------------------------------------------

    @classmethod
    def complete(cls, config: StackConfig, tensors: Mapping[str, Tensor]) -> Stack:
        """A stack with all its levels and these weights, named as in a state dict."""
        stack = cls(config)
        while stack.growing + 1 < len(config.levels):
            stack.grow()
        stack.load_state_dict(dict(tensors))
        return stack

    @classmethod
    def from_tensors(cls, config: StackConfig, arrays: Mapping[str, NDArray[Any]]) -> Stack:
        """A complete stack in evaluation mode from float tensors named as in a model file.

        Raises
        ------
        NotAModel: tensors are missing or have other shapes than the configuration says.
        """
        try:
            return cls.complete(config, from_file(arrays)).eval()
        except RuntimeError as error:
            raise NotAModel(
                "the model's float tensors do not fit its configuration; train it again"
            ) from error

    @classmethod
    def from_model(cls, model: Model) -> Stack:
        """The float stack of a model; of one that holds only integers the nearest floats."""
        stack = cls.from_tensors(model.config, model.float_tensors)
        stack.summary = dict(model.summary)
        return stack

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str] | None = None) -> Stack:
        """The float stack of a model file or a built-in model, in evaluation mode on the CPU.

        Raises
        ------
        ModelNotFound, NotAModel, ModelVersionError: as `chunker.load_model`.
        """
        from chunker.models import load_model

        return cls.from_model(load_model(name_or_path))

    def to_model(self, name: str = "stack") -> Model:
        """A copy of the levels that are trained, as a model that `chunker.compress` takes."""
        from chunker.models import Model, raw

        config, arrays = self._trained()
        return Model(name, Path(name), config, dict(self.summary), raw(arrays))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a model file: weights in float32, configuration and summary; whole or not at all.

        Raises
        ------
        OSError: the folder cannot be written to. NotAModel: a weight is not finite.
        """
        from chunker.models import save_model

        config, arrays = self._trained()
        save_model(path, arrays, config, self.summary)

    def _trained(self) -> tuple[StackConfig, dict[str, NDArray[Any]]]:
        there = self.growing + 1
        config = replace(self.config, levels=self.config.levels[:there])
        return config, to_file(lower_levels(self.state_dict(), there))

    # ---- probabilities and losses --------------------------------------------------------------------

    def combine(self, level_logits: list[Tensor]) -> Tensor:
        """The whole stack's log P(symbol), (..., V).

        joint: the sum of all levels' logits. faithful: what level 0 expects has level 0's probability; the
        rest of the mass is shared out as level 1 predicts, among the symbols that level 0 did not expect;
        and so on upwards. This is the code "hit or miss, then the missed symbol", as one distribution.
        """
        if self.config.mode == "joint":
            return torch.log_softmax(level_logits[-1], -1)
        result = torch.log_softmax(level_logits[0], -1)
        settled = torch.zeros_like(result, dtype=torch.bool)
        for i in range(1, len(level_logits)):
            settled = settled | expected_set(
                level_logits[i - 1], self.config.gate, self.thresholds_bits[i - 1]
            )
            open_ = ~settled
            rest = torch.logsumexp(result.masked_fill(settled, -torch.inf), -1, keepdim=True)
            upper = torch.log_softmax(level_logits[i].masked_fill(settled, -torch.inf), -1)
            mixed = torch.where(open_, rest + upper, result)
            result = torch.where(open_.any(-1, keepdim=True), mixed, result)
        return result

    def loss_nats(self, output: StackOutput, symbols: Tensor, auxiliary: float = 0.2) -> Tensor:
        """What training minimises, a scalar.

        joint: mean nats per symbol of the whole stack, plus `auxiliary` times that of each partial stack
        (level 0 must predict well alone, or the gate has nothing to go by). faithful: mean nats of the
        growing level's prediction of its own next input, its time included.
        """
        flat = symbols.reshape(-1)
        if self.config.mode == "joint":
            losses = [
                nn.functional.cross_entropy(z.reshape(len(flat), -1), flat) for z in output.level_logits
            ]
            return losses[-1] + auxiliary * sum(losses[:-1], losses[-1].new_zeros(()))
        picked = output.events[self.growing].reshape(-1)
        z = output.level_logits[self.growing].reshape(len(flat), -1)
        if not bool(picked.any()):
            return z.sum() * 0
        loss = nn.functional.cross_entropy(z[picked], flat[picked])
        return loss if output.time_nats is None else loss + output.time_nats / picked.sum()

    def bits(self, output: StackOutput, symbols: Tensor) -> Tensor:
        """(T, B) bits that each symbol costs under the whole stack."""
        picked = self.log_probs(output).gather(-1, symbols.unsqueeze(-1)).squeeze(-1)
        return -picked.detach() / NATS_PER_BIT

    def log_probs(self, output: StackOutput) -> Tensor:
        """(T, B, V) natural logarithms of the whole stack's P(symbol | everything before)."""
        return self.combine(list(output.level_logits))

    @torch.no_grad()
    def calibrate(
        self, surprises_bits: Sequence[Tensor], events: Sequence[Tensor], momentum: float = 0.98
    ) -> None:
        """With the rule "rate": move the thresholds towards the target rate, as seen in a window; see
        StackOutput.
        """
        if self.config.gate.rule != "rate":
            return
        for i, surprises in enumerate(surprises_bits):
            if self.config.mode == "joint" or i == self.growing - 1:
                given = surprises[events[i]]
                self.thresholds_bits[i] = follow_rate(
                    self.thresholds_bits[i], given, self.config.gate.value, momentum
                )

    def level(self, index: int) -> Level:
        level = self.levels[index]
        if not isinstance(level, Level):
            raise TypeError(f"level {index} is a {type(level).__name__}")
        return level


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _symbols(sequence: Symbols | str, alphabet: int) -> NDArray[np.int64]:
    """(T,). Raises UsageError."""
    if isinstance(sequence, bytes | str):
        sequence = np.frombuffer(_bytes(sequence), dtype=np.uint8)
    came = np.asarray(sequence)
    whole = came.ndim == 1 and (not came.size or np.issubdtype(came.dtype, np.integer))
    if not whole or (came.size and not 0 <= int(came.min()) <= int(came.max()) < alphabet):
        raise UsageError(f"a sequence is bytes, or whole numbers from 0 to {alphabet - 1} in one row")
    return came.astype(np.int64)


def lower_levels(tensors: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Of a stack's tensors by name those of its first `count` levels."""
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith("levels.") or int(name.split(".")[1]) < count
    }
    kept["thresholds_bits"] = tensors["thresholds_bits"][: count - 1]
    return kept


def _times(events: list[Tensor], waited: Tensor | None) -> tuple[Tensor, Tensor]:
    """When the inputs of the last of l + 1 levels came, on the clocks of the l levels below.

    events: per level (T, B) bool. waited: (B, l), see LevelState, before the window.

    Returns (E, B, l) inputs of each level below since the input before (1 where there is no e-th input), and
    `waited` after the window.
    """
    if waited is None:
        raise TypeError("this level measures no times")
    own = events[-1]
    times, after = [], []
    for clock, before in zip(events[:-1], waited.unbind(1), strict=True):
        ticks = clock.cumsum(0)  # inputs of the level below up to and with each symbol
        (packed,) = pack(own, ticks)
        times.append(torch.diff(packed, dim=0, prepend=-before.unsqueeze(0)).clamp_min(1))
        last = torch.where(own, ticks, 0).amax(0)
        after.append(ticks[-1] - last + before * ~own.any(0))
    return torch.stack(times, -1), torch.stack(after, 1)
