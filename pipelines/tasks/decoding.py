"""Decoding: what an autoregressive model writes, token by token, until it says that it has ended.

Beam search keeps the K most probable beginnings (hypotheses) of each source. In every step each of
them is continued with every token, and the 2K most probable continuations are candidates: at most K
of them end, so that K remain to go on. A candidate that ends counts as an answer where it is among
the first K; the n best answers are pooled. K = 1 is greedy decoding. A row where a temperature is
given draws K independent samples instead.

A row is done when K of its hypotheses have ended and the most probable of the others is no better
than one of them, when it has reached its maximum length, or when none that goes on can still come
before the n-th of the pool. The loop ends when all rows are done.

Answers are ordered by log P / N(T), with T the number of tokens, the end token counted:
N = T^α (as in fairseq, Marian and CTranslate2), or N = ((5 + T) / 6)^α, plus a coverage penalty
(Wu et al.: Google's Neural Machine Translation System, 2016, https://arxiv.org/abs/1609.08144,
section 7). α = 0 orders by probability; the larger, the longer the answers.

A model is known by three methods alone:

- ``encode(features) -> memory``: a dict of what it has read, batch first; its ``mask`` [B, S] is
  true at the S positions that attention may look at.
- ``start(memory, rows, length) -> state``: before the first of at most ``length`` tokens, with
  ``rows`` hypotheses of each source. ``state["memory"]`` is common to these, neither repeated nor
  moved; all other tensors are [B, rows, ...] and move with their hypotheses.
- ``step(tokens, position, state) -> logits, state, attention``: reads the previous tokens
  [B, rows] and gives the logits [B, rows, V] of the next, and [B, rows, S] attention.

All buffers have their final size from the start. Hypotheses are not stored but linked: each knows
its last token and its parent, and the answers are read off backwards at the end.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import keras
from keras import ops

from models.layers.reserved_tokens import BEGIN, END, PADDING
from pipelines.engine.application import UserError
from pipelines.tasks.sampling import draw

IMPOSSIBLE = -float("inf")
# A position that was never looked at would cost log 0.
LEAST_COVERAGE = 1e-6
MOST_ROWS = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """How answers are searched for.

    Args:
        maximum_length: tokens after which an answer is cut, the end token counted.
        beam_width: hypotheses that are followed at a time; 1: greedy decoding.
        answers: how many of the best are given; at most the beam's width.
        length_penalty: α, the exponent of the length by which log-probabilities are divided.
        length_normalization: the form of that divisor: "power", T^α, or "gnmt", ((5 + T) / 6)^α.
        coverage_penalty: β, the weight of what the attention of an ended answer left unread.
        top_k: samples are drawn from so many most probable tokens; 0: from all.
        top_p: samples are drawn from the most probable tokens that have this probability together.
    """

    maximum_length: int = 64
    beam_width: int = 1
    answers: int = 1
    length_penalty: float = 0.0
    length_normalization: Literal["power", "gnmt"] = "power"
    coverage_penalty: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Raises UserError for numbers that no search can have."""
        for name, bound in {"maximum_length": 1, "beam_width": 1, "answers": 1, "top_k": 0}.items():
            if getattr(self, name) < bound:
                value = getattr(self, name)
                raise UserError(f"--task.{name} must be at least {bound}, not {value}")
        if self.answers > self.beam_width:
            raise UserError(
                f"a beam of width {self.beam_width} has no {self.answers} answers; give a larger "
                "--task.beam_width, or fewer --task.answers"
            )
        if not 0 < self.top_p <= 1:
            raise UserError(f"--task.top_p must be above 0 and at most 1, not {self.top_p}")

    def normalizer(self, length, exponent):
        """N(T) of float32 lengths T; both arguments broadcast."""
        if self.length_normalization == "gnmt":
            length = (5.0 + length) / 6.0
        return ops.power(length, exponent)


class Wishes(NamedTuple):
    """What each row of a batch asks for, [B]; where nothing is asked, the search's own value."""

    length_penalty: Any = None
    beam_width: Any = None
    maximum_length: Any = None
    temperature: Any = None
    seed: Any = None


class Alive(NamedTuple):
    """Hypotheses that go on, [B, K], the most probable first; -inf: there is none."""

    tokens: Any
    scores: Any
    coverage: Any  # [B, K, S], or () where it costs nothing


class Answers(NamedTuple):
    """The best ended hypotheses, [B, n], best first; an objective of -inf: there is none."""

    objectives: Any
    scores: Any
    ends: Any  # the step that wrote the end token, or the maximum length of a cut answer
    slots: Any  # which hypothesis it was before that step


class History(NamedTuple):
    """Each step's hypotheses: last token and parent [T, B, K]; attention [T, B, K, S] of parents.

    Steps come first, so that each step replaces one contiguous slice.
    """

    tokens: Any
    parents: Any
    attention: Any


def decode(model: keras.Model, features: dict, search: Search, wishes: Wishes | None = None):
    """Writes the best answers of each row.

    Padding and begin tokens are never written. Scores are natural logarithms of the model's own
    probabilities, so that a score is what teacher forcing gives the same tokens; they are what is
    ordered by only where α and β are 0. Answers that have ended come before those that were cut.

    Args:
        model: has ``encode``, ``start`` and ``step``.
        features: the model's inputs.
        search: what is the same for all rows.
        wishes: ``length_penalty``, ``beam_width`` and ``maximum_length`` [B] replace those of the
            search, which remains the upper limit of the last two. Where ``temperature`` [B] is
            above 0, samples are drawn, by ``seed`` [B].

    Returns:
        The n best of each row, best first, T = ``search.maximum_length``: ``tokens`` [B, n, T]
        int32, padded after the end token; ``scores`` [B, n] float32, the total log-probability, the
        end token's included; ``objectives`` [B, n] float32, what they are ordered by; ``lengths``
        [B, n] int32, tokens without the end token; ``alignment`` [B, n, T, S] float32, the
        attention of each step, zeros after the end token. A row that found fewer than n answers
        ends with empty ones, of score -inf.
    """
    memory = model.encode(features)
    return _Decoder(model, memory, search, wishes or Wishes()).run()


class _Decoder:
    """One batch: what stays the same from step to step."""

    def __init__(self, model: keras.Model, memory: dict, search: Search, wishes: Wishes):
        self.model, self.search, self.mask = model, search, memory["mask"]
        self.batch, self.source_length = ops.shape(self.mask)
        self.state = model.start(memory, search.beam_width, search.maximum_length)
        self.exponent = self._column(wishes.length_penalty, search.length_penalty, "float32")
        self.width = self._limited(wishes.beam_width, search.beam_width)
        self.limit = self._limited(wishes.maximum_length, search.maximum_length)
        self.seed = self._column(wishes.seed, 0, "int32")[:, 0]
        self.temperature = wishes.temperature
        if self.temperature is not None:
            self.temperature = ops.cast(self.temperature, "float32")
            self.sampled = self.temperature[:, None] > 0

    def _column(self, wish, default, dtype: str):
        """[B] wishes → [B, 1]."""
        if wish is None:
            return ops.full((self.batch, 1), default, dtype)
        return ops.cast(wish, dtype)[:, None]

    def _limited(self, wish, limit: int):
        return ops.clip(self._column(wish, limit, "int32"), 1, limit)

    def run(self) -> dict:
        position = ops.convert_to_tensor(0, "int32")
        ended = ops.zeros((self.batch, 1), "int32")
        done = ops.zeros((self.batch, 1), "bool")
        steps, _, _, alive, pool, history, _ = ops.while_loop(
            lambda position, done, *_: ops.logical_not(ops.all(done)),
            self._step,
            (position, done, ended, self._begun(), *self._nothing(), self.state),
        )
        return self._read_off(steps, self._with_cut(alive, pool), history)

    def _begun(self) -> Alive:
        """One empty hypothesis of each row; where samples are drawn, as many as are asked for."""
        slots = self.search.beam_width
        rank = ops.arange(slots, dtype="int32")[None]
        first = rank < 1
        if self.temperature is not None:
            first = ops.logical_or(first, ops.logical_and(self.sampled, rank < self.width))
        return Alive(
            tokens=ops.full((self.batch, slots), BEGIN, "int32"),
            scores=ops.where(first, ops.zeros((self.batch, slots)), IMPOSSIBLE),
            coverage=ops.zeros((self.batch, slots, self.source_length))
            if self.search.coverage_penalty
            else (),
        )

    def _nothing(self) -> tuple[Answers, History]:
        """No answers, and the history of no step."""
        places = (self.batch, self.search.answers)
        steps = (self.search.maximum_length, self.batch, self.search.beam_width)
        pool = Answers(
            objectives=ops.full(places, IMPOSSIBLE, "float32"),
            scores=ops.full(places, IMPOSSIBLE, "float32"),
            ends=ops.full(places, -1, "int32"),
            slots=ops.zeros(places, "int32"),
        )
        history = History(
            tokens=ops.zeros(steps, "int32"),
            parents=ops.zeros(steps, "int32"),
            attention=ops.zeros((*steps, self.source_length)),
        )
        return pool, history

    def _step(self, position, done, ended, alive: Alive, pool: Answers, history: History, state):
        """Writes one token of every hypothesis."""
        logits, state, attention = self.model.step(alive.tokens, position, state)
        attention = ops.cast(attention, "float32")
        coverage = alive.coverage + attention if self.search.coverage_penalty else ()
        scores, parents, tokens = self._candidates(logits, alive.scores, position)

        rank = ops.arange(scores.shape[1], dtype="int32")[None]
        at_end = ops.equal(tokens, END)
        new = ops.logical_and(at_end, ops.logical_and(scores > IMPOSSIBLE, rank < self.width))
        new = ops.logical_and(new, ops.logical_not(done))
        pool = self._pooled(pool, new, scores, parents, position, coverage)
        ended = ended + ops.sum(ops.cast(new, "int32"), axis=1, keepdims=True)

        best, chosen = ops.top_k(ops.where(at_end, IMPOSSIBLE, scores), self.search.beam_width)
        best = ops.where(rank[:, : self.search.beam_width] < self.width, best, IMPOSSIBLE)
        tokens, parents = _picked(tokens, chosen), _picked(parents, chosen)
        history = History(
            tokens=_replaced(history.tokens, position, tokens),
            parents=_replaced(history.parents, position, parents),
            attention=_replaced(history.attention, position, attention),
        )
        moving, coverage = self._follow((_without_memory(state), coverage), parents)
        state = {"memory": state["memory"], **moving}

        # A row that is done at its maximum length keeps its hypotheses, to be cut.
        enough = ops.logical_and(ended >= self.width, self._behind(best, pool, position))
        enough = ops.logical_or(enough, self._hopeless(best, pool, position))
        best = ops.where(done, alive.scores, ops.where(enough, IMPOSSIBLE, best))
        if self.search.coverage_penalty:
            coverage = ops.where(done[..., None], alive.coverage, coverage)
        done = ops.logical_or(done, ops.logical_or(enough, position + 1 >= self.limit))
        return position + 1, done, ended, Alive(tokens, best, coverage), pool, history, state

    def _candidates(self, logits, scores, position):
        """The 2K best continuations of each row, best first: scores, parents and tokens [B, 2K]."""
        slots, vocabulary = logits.shape[1:]
        token = ops.arange(vocabulary)
        reserved = ops.logical_or(ops.equal(token, PADDING), ops.equal(token, BEGIN))
        logits = ops.cast(logits, "float32")
        # The reserved count in the probabilities of the others.
        total = log_total(logits)[..., None]
        logits = ops.where(reserved, IMPOSSIBLE, logits)
        totals = logits + (scores[..., None] - total)
        best, flat = largest(ops.reshape(totals, (-1, slots * vocabulary)), 2 * slots)
        flat = ops.cast(flat, "int32")
        searched = best, flat // vocabulary, flat % vocabulary
        if self.temperature is None:
            return searched

        def drawn():
            temperature = ops.where(self.temperature > 0, self.temperature, 1.0)
            options = {"top_k": self.search.top_k, "top_p": self.search.top_p}
            tokens = draw(logits, temperature, self.seed, position, **options)
            totalled = ops.take_along_axis(totals, tokens[..., None], axis=-1)[..., 0]
            parents = ops.arange(slots, dtype="int32")[None] + ops.zeros_like(tokens)
            filler = ops.full_like(totalled, IMPOSSIBLE), tokens, parents
            pairs = zip((totalled, parents, tokens), filler, searched, strict=True)
            return tuple(
                ops.where(self.sampled, ops.concatenate([mine, rest], axis=1), other)
                for mine, rest, other in pairs
            )

        return ops.cond(ops.any(self.sampled), drawn, lambda: searched)

    def _pooled(self, pool: Answers, new, scores, parents, position, coverage) -> Answers:
        """The best of the pool and of those candidates that ``new`` [B, 2K] says have ended."""
        length = ops.cast(position + 1, "float32")
        objectives = scores / self.search.normalizer(length, self.exponent)
        if self.search.coverage_penalty:
            objectives = objectives + _picked(self._coverage(coverage), parents)
        objectives = ops.where(new, objectives, IMPOSSIBLE)
        ends = ops.zeros_like(parents) + position
        return _best(_joined(pool, Answers(objectives, scores, ends, parents)), self.search.answers)

    def _coverage(self, coverage):
        """[B, K, S] summed attention → [B, K], 0 where every token was read once or more."""
        read = ops.log(ops.clip(coverage, LEAST_COVERAGE, 1.0))
        return self.search.coverage_penalty * ops.sum(
            ops.where(self.mask[:, None], read, 0.0), axis=-1
        )

    def _behind(self, alive, pool: Answers, position):
        """Whether the most probable hypothesis is now no better than an answer, [B, 1].

        Without this, what a confident model all but excludes, as it ends at every step, fills the
        pool before the one probable answer has ended.
        """
        length = ops.cast(ops.maximum(pool.ends + 1, 1), "float32")
        answers = pool.scores / self.search.normalizer(length, self.exponent)
        here = self.search.normalizer(ops.cast(position + 1, "float32"), self.exponent)
        return alive[:, :1] / here <= ops.max(answers, axis=1, keepdims=True)

    def _hopeless(self, alive, pool: Answers, position):
        """Whether no hypothesis can still come before the last answer of the pool, [B, 1].

        Log-probabilities only fall, and N(T) is monotonic: the best that a hypothesis can hope for
        is to keep its own, at the next or at the maximum length.
        """
        bounds = [
            alive[:, :1] / self.search.normalizer(ops.cast(length, "float32"), self.exponent)
            for length in (position + 2, self.limit)
        ]
        return pool.objectives[:, -1:] >= ops.maximum(*bounds)

    def _follow(self, state, parents):
        """Each hypothesis takes over the state of its parent."""
        if self.search.beam_width == 1:
            return state
        slots = self.search.beam_width
        rows = parents + slots * ops.arange(self.batch, dtype="int32")[:, None]

        def follow(value):
            return ops.take(ops.reshape(value, (-1, *value.shape[2:])), rows, axis=0)

        return keras.tree.map_structure(follow, state)

    def _with_cut(self, alive: Alive, pool: Answers) -> Answers:
        """Fills up the pool with hypotheses that have reached the maximum length."""
        objectives = alive.scores / self.search.normalizer(
            ops.cast(self.limit, "float32"), self.exponent
        )
        if self.search.coverage_penalty:
            objectives = objectives + self._coverage(alive.coverage)
        slots = ops.arange(self.search.beam_width, dtype="int32")[None] + ops.zeros_like(self.limit)
        ends = ops.zeros_like(slots) + self.limit
        cut = _best(Answers(objectives, alive.scores, ends, slots), self.search.answers)
        both = _joined(pool, cut)
        places = 2 * self.search.answers
        order = ops.arange(places, dtype="int32")
        order = ops.where(both.objectives > IMPOSSIBLE, order, order + places)
        _, chosen = ops.top_k(-order, self.search.answers)
        return Answers(*(_picked(values, chosen) for values in both))

    def _read_off(self, steps, answers: Answers, history: History) -> dict:
        """Follows each answer back from its end."""
        place = ops.arange(self.search.answers, dtype="int32")[None]
        found = ops.logical_and(answers.objectives > IMPOSSIBLE, place < self.width)
        ends = ops.where(found, answers.ends, -1)
        shape = (self.search.maximum_length, self.batch, self.search.answers)
        tokens = ops.full(shape, PADDING, "int32")
        alignment = ops.zeros((*shape, self.source_length))

        def back(position, slots, tokens, alignment):
            before_end = position < ends
            at_end = ops.logical_and(ops.equal(position, ends), position < self.limit)
            written = _picked(ops.take(history.tokens, position, axis=0), slots)
            last = ops.where(at_end, END, PADDING)
            parents = _picked(ops.take(history.parents, position, axis=0), slots)
            slots = ops.where(before_end, parents, slots)
            attention = ops.take(history.attention, position, axis=0)
            seen = ops.take_along_axis(attention, slots[..., None], axis=1)
            seen = ops.where(ops.logical_or(before_end, at_end)[..., None], seen, 0.0)
            tokens = _replaced(tokens, position, ops.where(before_end, written, last))
            alignment = _replaced(alignment, position, seen)
            return position - 1, slots, tokens, alignment

        _, _, tokens, alignment = ops.while_loop(
            lambda position, *_: position >= 0, back, (steps - 1, answers.slots, tokens, alignment)
        )
        return {
            "tokens": ops.transpose(tokens, (1, 2, 0)),
            "scores": ops.where(found, answers.scores, IMPOSSIBLE),
            "objectives": ops.where(found, answers.objectives, IMPOSSIBLE),
            "lengths": ops.maximum(ends, 0),
            "alignment": ops.transpose(alignment, (1, 2, 0, 3)),
        }


def _without_memory(state: dict) -> dict:
    return {name: value for name, value in state.items() if name != "memory"}


def largest(values, count: int):
    """``top_k`` of few among many, [B, N] → the values and where they are [B, count].

    Laid out in rows, the largest are all in the ``count`` columns of the largest maxima, so that
    most values are looked at once, by a maximum.
    """
    folded = _folded(values)
    rows, columns = folded.shape[1:]
    if columns < 4 * count:
        return ops.top_k(values, count)
    _, column = ops.top_k(ops.max(folded, axis=1), count)
    places = columns * ops.arange(rows, dtype="int32")[:, None] + ops.cast(column, "int32")[:, None]
    places = ops.reshape(places, (-1, rows * count))
    best, chosen = ops.top_k(_picked(values, places), count)
    return best, _picked(places, chosen)


def log_total(values):
    """``logsumexp`` of many, [..., N] → [...]: XLA adds up columns faster than one long row."""
    folded = _folded(values)
    most = ops.max(ops.max(folded, axis=-2), axis=-1)
    sums = ops.sum(ops.exp(folded - most[..., None, None]), axis=-2)
    return most + ops.log(ops.sum(sums, axis=-1))


def _folded(values):
    """[..., N] → [..., rows, N / rows], the most rows that are possible up to a bound."""
    size = values.shape[-1]
    rows = max(divisor for divisor in range(1, MOST_ROWS + 1) if size % divisor == 0)
    return ops.reshape(values, (*ops.shape(values)[:-1], rows, size // rows))


def _replaced(buffer, position, values):
    """[T, ...] with ``values`` [...] at one position."""
    return ops.scatter_update(buffer, ops.reshape(position, (1, 1)), values[None])


def _picked(values, indices):
    """[B, X] values at [B, Y] indices → [B, Y]."""
    return ops.take_along_axis(values, indices, axis=1)


def _joined(one: Answers, other: Answers) -> Answers:
    return Answers(*(ops.concatenate(pair, axis=1) for pair in zip(one, other, strict=True)))


def _best(answers: Answers, count: int) -> Answers:
    """The ``count`` answers of the highest objective, best first."""
    _, chosen = ops.top_k(answers.objectives, count)
    return Answers(*(_picked(values, chosen) for values in answers))
