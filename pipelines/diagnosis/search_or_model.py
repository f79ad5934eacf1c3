"""Is it the search or the model: error analysis where answers are searched for.

Where an answer differs from the human's, both are scored by the objective that the search maximises
(``pipelines.diagnosis.hypotheses``). Where the human's is the better one, the search has missed it,
and a wider beam may find it. Where it is not, the model itself prefers what was written, and no
search can help. The same texts are then written again with other beams and other length penalties.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.diagnosis.findings import Findings, Request, Section, save_picture, table
from pipelines.diagnosis.hypotheses import (
    HYPOTHESES,
    ROWS,
    Hypotheses,
    Pairs,
    preferred,
    references,
    writer,
)
from pipelines.engine.bootstrap import interval, mean, spelled
from pipelines.tasks.decoding import Search
from pipelines.tasks.task import Scores

CAUSES = {
    "search": "the human's answer scores higher: the search missed it",
    "model": "the answer given scores at least as high as the human's",
    "preprocessing": "the human's very tokens were written, but read differently as text",
    "unknown": "the human's answer is longer than the model reads, and has no score",
}
LISTED = 8  # examples of each cause


@dataclasses.dataclass(frozen=True)
class Trial:
    """One search of all texts.

    Attributes:
        beam_width: K.
        length_penalty: α.
        seconds: that decoding took.
        found: the best answers.
        texts: the same as text.
        scores: the task's, of the answers.
        missed: [examples] whether the human's answer has the larger objective.
        length_ratio: tokens of all answers over those of all references.
    """

    beam_width: int
    length_penalty: float
    seconds: float
    found: Hypotheses
    texts: list[str]
    scores: Scores
    missed: np.ndarray
    length_ratio: float

    @property
    def measure(self) -> str:
        """The task's most important figure, which decides."""
        return next(iter(self.scores.values))

    @property
    def figure(self) -> Any:
        return self.scores.summed[self.measure]


def search_or_model(opened: Any, request: Request) -> Findings:
    """Blames the search or the model for each difference, and looks for the best search.

    Args:
        opened: a run of a task that searches and has ``forced``.
        request: which examples, beams and length penalties.

    Raises:
        UserError: for data that cannot be read.
    """
    task, folder = opened.task, opened.run.path
    pairs = Pairs.read(opened.assembly.source, opened.preprocessor, request.split, request.examples)
    human = references(opened, pairs)
    print(f"{len(human.tokens):,} examples of {request.split}; searching again:")
    widths = sorted({*request.beam_widths, task.beam_width})
    by_width = [
        trial
        for width in widths
        for trial in _trials(opened, pairs, human, width, [task.length_penalty])
    ]
    own = by_width[widths.index(task.beam_width)]
    width = sufficient(by_width)
    others = sorted({*request.length_penalties} - {task.length_penalty})
    by_penalty = [width, *_trials(opened, pairs, human, width.beam_width, others)]
    by_penalty.sort(key=lambda trial: abs(trial.length_penalty - task.length_penalty))
    penalty = sufficient(by_penalty)

    causes = blame(own.found, human, own.scores.errors > 0, task, task.length_penalty)
    _draw_margins(own, human, causes, task, folder)
    by_penalty.sort(key=lambda trial: trial.length_penalty)
    _draw_trials(by_width, by_penalty, own, folder)
    return Findings(
        advice=[
            advice_on_cause(causes),
            _advice_on_search(own, by_width, width, "beam_width", "the narrowest"),
            _advice_on_search(own, by_penalty, penalty, "length_penalty", "nearest to the run's"),
        ],
        sections=[
            Section(
                "Search or model",
                f"On {len(causes):,} examples of the {request.split} split.\n\n"
                + _explained(causes, own, task),
            ),
            Section("Searches", "![Searches compared](searches.png)"),
            Section("Beam width", _compared(by_width, own)),
            Section("Length penalty", _compared(by_penalty, own)),
            Section("Examples to read", _listed(pairs, own, human, causes, task)),
        ],
    )


def blame(
    found: Hypotheses, human: Hypotheses, wrong: np.ndarray, search: Search, length_penalty: float
) -> np.ndarray:
    """[examples] a name of ``CAUSES`` for each wrong answer, "" for a right one.

    Where both score alike the model is at fault: it does not prefer the human's answer.
    """
    same = np.array([one == other for one, other in zip(found.tokens, human.tokens, strict=True)])
    missed = preferred(human, found, search, length_penalty)
    cases = [~np.asarray(wrong, bool), ~human.ended, same, missed]
    return np.select(cases, ["", "unknown", "preprocessing", "search"], "model")


def sufficient(trials: Sequence[Trial]) -> Trial:
    """The first of the trials that is within one standard error of the best of them.

    The rule of Breiman et al.: Classification and Regression Trees, 1984, section 3.4.3; the error
    is that of the difference, by the paired bootstrap.
    """
    best = best_of(trials)
    return next(
        trial
        for trial in trials
        if best.figure.value - trial.figure.value <= best.figure.gains_over(trial.figure).std()
    )


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the largest measure, the first of equals."""
    return max(trials, key=lambda trial: trial.figure.value)


def advice_on_cause(causes: np.ndarray) -> str:
    """What the causes say about what to work on."""
    wrong, judged = causes[causes != ""], causes[np.isin(causes, ["search", "model"])]
    if not len(judged):
        return f"None of {len(causes):,} answers is wrong for the search's or the model's sake."
    counts = ", ".join(f"{cause} {np.sum(wrong == cause):,}" for cause in CAUSES if cause in wrong)
    facts = f"of {len(causes):,} answers {len(wrong):,} differ from the human's ({counts})"
    low, high = mean(judged == "search").interval()
    share = f"the search is at fault for {_percent(np.mean(judged == 'search'), (low, high))}"
    if low > 0.5:
        advice = "Work on the search, with a wider beam or another objective"
    elif high < 0.5:
        advice = "Work on the model (more data, longer training, regularisation, architecture)"
    else:
        advice = "Neither search nor model is clearly the worse: try the cheaper remedy first"
    return f"{advice}: {facts}, and {share} of those that can be judged."


def _trials(
    opened: Any, pairs: Pairs, human: Hypotheses, beam_width: int, penalties: list[float]
) -> list[Trial]:
    """Searches with one beam and several length penalties; says what came out."""
    trials = []
    search = dataclasses.replace(
        opened.task, beam_width=beam_width, answers=1, coverage_penalty=0.0
    )
    write = writer(opened, pairs, search)
    for penalty in penalties:
        found, texts, seconds = write(penalty)
        trial = Trial(
            beam_width=beam_width,
            length_penalty=penalty,
            seconds=seconds,
            found=found,
            texts=texts,
            scores=opened.task.scores({"texts": [[text] for text in texts]}, pairs.raw),
            missed=preferred(human, found, opened.task, penalty) & human.ended,
            length_ratio=found.lengths.sum() / human.lengths.sum(),
        )
        trials.append(trial)
        print(
            f"  beam {beam_width}, length penalty {penalty:g}: "
            f"{trial.measure} {trial.figure.value:.4g}, {seconds:.1f} s"
        )
        sys.stdout.flush()
    return trials


def _advice_on_search(
    own: Trial, trials: list[Trial], chosen: Trial, option: str, preference: str
) -> str:
    value, best = getattr(chosen, option), best_of(trials)
    verb = "Keep" if value == getattr(own, option) else "Take"
    sentence = f"{verb} --task.{option} {value:g}: {chosen.measure} {chosen.figure.value:.4g}"
    if chosen.figure.value == best.figure.value:
        return f"{sentence}; none of those tried is better."
    gain = spelled(
        best.figure.value - chosen.figure.value, interval(best.figure.gains_over(chosen.figure))
    )
    return (
        f"{sentence}; of those within one standard error of the best, {preference} (the best is "
        f"{getattr(best, option):g}: {best.figure.value:.4g}, more by {gain})."
    )


def _explained(causes: np.ndarray, own: Trial, task: Search) -> str:
    wrong = causes != ""
    rows = [
        [
            cause,
            f"{np.sum(causes == cause):,}",
            _percent(np.mean(causes[wrong] == cause), mean(causes[wrong] == cause).interval()),
            meaning,
        ]
        for cause, meaning in CAUSES.items()
        if cause in causes
    ]
    form = {"power": "T^α", "gnmt": "((5 + T) / 6)^α"}[task.length_normalization]
    lines = [
        f"The run's own search, beam {own.beam_width} and α = {own.length_penalty:g}, judged by "
        f"log P / {form}, T tokens with the end token. An answer that was cut at the maximum "
        "length has the score of its tokens; where both score alike, the model is at fault. Shares "
        f"are of the {wrong.sum():,} answers (of {len(causes):,}) that differ from the human's, "
        "with 95 % bootstrap intervals.",
    ]
    if task.coverage_penalty:
        lines += ["", "The search's coverage penalty is left out here, on both sides."]
    if wrong.any():
        lines += ["", table(["at fault", "answers", "share", "meaning"], rows)]
        lines += ["", "![How much better the human's answer scores](margins.png)"]
    return "\n".join(lines)


def _compared(trials: list[Trial], own: Trial) -> str:
    measures = list(own.scores.values)
    rows = [
        [
            f"{trial.beam_width}{'*' if trial is own else ''}",
            f"{trial.length_penalty:g}",
            *(_cell(trial, name) for name in measures),
            f"{trial.missed.mean():.1%}",
            f"{trial.length_ratio:.3f}",
            f"{1000 * trial.seconds / len(trial.texts):.1f}",
        ]
        for trial in trials
    ]
    header = ["beam width", "length penalty", *measures, "missed", "length ratio", "ms an answer"]
    return "\n".join(
        [
            table(header, rows),
            "",
            "\\* the run's own. Missed: the human's answer scores higher than the one found. "
            "Length ratio: tokens written over tokens of the references. Time: with up to "
            f"{ROWS} sources and about {HYPOTHESES} hypotheses at a time. In brackets: 95 % "
            "bootstrap intervals.",
        ]
    )


def _cell(trial: Trial, name: str) -> str:
    if name not in trial.scores.summed:
        return f"{trial.scores.values[name]:.4g}"
    figure = trial.scores.summed[name]
    return spelled(figure.value, figure.interval())


def _listed(pairs: Pairs, own: Trial, human: Hypotheses, causes: np.ndarray, task: Search) -> str:
    """Of each cause, the examples where the scores lie farthest apart."""
    ours, theirs = (x.objectives(task, own.length_penalty) for x in (own.found, human))
    rows = []
    for cause in CAUSES:
        of_cause = np.flatnonzero(causes == cause)
        farthest = of_cause[np.argsort(-np.abs(theirs - ours)[of_cause], kind="stable")]
        rows += [
            [
                cause,
                pairs.raw["source"][i],
                pairs.raw["target"][i],
                own.texts[i],
                f"{theirs[i]:.3f}",
                f"{ours[i]:.3f}",
            ]
            for i in farthest[:LISTED]
        ]
    header = ["at fault", "source", "human", "found", "human's score", "found one's score"]
    return table(header, rows) if rows else "Every answer is the human's."


def _draw_margins(
    own: Trial, human: Hypotheses, causes: np.ndarray, task: Search, folder: pathlib.Path
) -> None:
    """Draws how much better the human's answers score than those found."""
    from matplotlib.figure import Figure as Canvas

    ours, theirs = (x.objectives(task, own.length_penalty) for x in (own.found, human))
    canvas = Canvas(figsize=(7, 3.2), layout="constrained")
    axes = canvas.subplots()
    groups = {cause: (theirs - ours)[causes == cause] for cause in ("model", "search")}
    axes.hist(list(groups.values()), bins=40, stacked=True, label=[f"{c} at fault" for c in groups])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel="score of the human's answer – score of the one found", ylabel="answers")
    axes.legend()
    save_picture(canvas, folder / "margins.png")


def _draw_trials(
    by_width: list[Trial], by_penalty: list[Trial], own: Trial, folder: pathlib.Path
) -> None:
    """Draws measure, time, length and misses against beam width and length penalty."""
    from matplotlib.figure import Figure as Canvas

    panels = {
        own.measure.replace("_", " "): lambda trial: trial.figure.value,
        "missed by the search": lambda trial: trial.missed.mean(),
        "length ratio": lambda trial: trial.length_ratio,
        "ms an answer": lambda trial: 1000 * trial.seconds / len(trial.texts),
    }
    canvas = Canvas(figsize=(4 * len(panels), 6.4), layout="constrained")
    lines = {"beam_width": by_width, "length_penalty": by_penalty}
    for row, (option, trials) in zip(canvas.subplots(2, len(panels)), lines.items(), strict=True):
        x = [getattr(trial, option) for trial in trials]
        for axes, (title, value) in zip(row, panels.items(), strict=True):
            axes.plot(x, [value(trial) for trial in trials], marker=".")
            axes.axvline(getattr(own, option), color="grey", linestyle=":")
            axes.set(xlabel=option.replace("_", " "), title=title)
            if option == "beam_width":
                axes.set_xscale("log")
                axes.set_xticks(x, x, minor=False)
                axes.set_xticks([], minor=True)
        low, high = zip(*(trial.figure.interval() for trial in trials), strict=True)
        row[0].fill_between(x, low, high, alpha=0.2)
        for axes in (row[1], row[3]):
            axes.set_ylim(bottom=0)
    save_picture(canvas, folder / "searches.png")


def _percent(share: float, bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"{share:.0%} [{low:.0%}, {high:.0%}]"
