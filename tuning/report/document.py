"""``report.md`` of a search: what was best, what mattered, and how it came about."""

from __future__ import annotations

import collections
import math
import pathlib
from collections.abc import Iterable, Sequence

from pipelines.diagnosis.findings import Section, document, save_picture, table
from pipelines.engine.bootstrap import digits
from pipelines.engine.run import write_text
from tuning.report import pictures
from tuning.report.axes import Axis, spelled
from tuning.report.importance import Importance, UntoldError, importance
from tuning.report.progress import finished, reason, scored, spelled_score
from tuning.trials import Search, Trial

LISTED = 10  # trials of a table
EDGE = 0.05  # of a range


def write(search: Search, folder: pathlib.Path) -> None:
    """Writes ``report.md`` and its pictures; a search that still runs may be reported again.

    Args:
        search: all its trials.
        folder: where to; it is made if it is not there.

    Raises:
        UserError: if the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections = [Section("Result", "\n\n".join(result(search)))]
    ranked = search.ranked()
    if ranked:
        sections.append(Section("Best trials", trials_table(search, ranked[:LISTED])))
    if any(map(scored, search.trials)):
        sections += _pictures(search, folder)
    if any(math.isfinite(value) for trial in search.trials for value in trial.curve):
        save_picture(pictures.learning_curves(search), folder / "learning_curves.png")
        sections.append(
            _pictured("Learning curves", "learning_curves.png", _curves_caption(search))
        )
    kinds = pictures.kinds(search)
    if kinds["broken"]:
        sections.append(Section("Limits broken", _limits(search, kinds["broken"])))
    if kinds["stopped"]:
        sections.append(Section("Stopped early", _stopped(search, kinds["stopped"])))
    if kinds["failed"]:
        sections.append(Section("Failures", failures(search, kinds["failed"])))
    title = f"{search.application}: {search.tuner} search"
    write_text(folder / "report.md", document(title, sections))


def result(search: Search) -> list[str]:
    """What came of the search, a paragraph each."""
    return [text for text in (_counted(search), _best(search), _against_default(search)) if text]


def _counted(search: Search) -> str:
    ended, kinds = finished(search), pictures.kinds(search)
    counts = {
        "failed": len(kinds["failed"]),
        "broke a limit": len(kinds["broken"]),
        "stopped early": len(kinds["stopped"]),
        "still run": len(search.trials) - len(ended),
    }
    told = "".join(f", {count} {what}" for what, count in counts.items() if count)
    better = "lower" if search.direction == "min" else "higher"
    rounds = 1 + max((trial.round for trial in search.trials), default=0)
    in_rounds = f" in {rounds} rounds, from coarse to fine," if rounds > 1 else ""
    seconds = max((trial.began + trial.seconds for trial in ended), default=0)
    size, unit = pictures.time_unit(seconds)
    return (
        f"{len(search.trials)} trials{in_rounds} of {len(search.space)} hyperparameters"
        f"{told}; {seconds / size:.3g} {unit}. Objective: {search.objective}, the {better} the "
        "better."
    )


def _best(search: Search) -> str:
    ranked = search.ranked()
    if not ranked:
        return "No trial has a score that counts, so there is no best one."
    best = ranked[0]
    options = " ".join(f"--{name} {spelled(v)}" for name, v in best.hyperparameters.items())
    edges = _edges(search, best)
    wider = (
        f" Its {' and '.join(edges)} lie{'s' * (len(edges) == 1)} at the edge of what was searched:"
        " a wider range, if there is one, may hold a better value."
        if edges
        else ""
    )
    told = f"**Best: trial {best.number}, {search.objective} {spelled_score(best)}**"
    return f"{told}, `{options}`.{wider}"


def _edges(search: Search, best: Trial) -> list[str]:
    """The numbers of a trial that are the smallest or largest of their range, or almost."""
    found = []
    for dimension in search.space:
        value = best.hyperparameters.get(dimension.name)
        if dimension.scale != "choice" and value is not None and dimension.low < dimension.high:
            position = Axis(dimension).position(value)
            if not EDGE < position < 1 - EDGE:
                found.append(f"{dimension.name} ({spelled(value)})")
    return found


def _against_default(search: Search) -> str:
    ranked = search.ranked()
    if search.default is None or not ranked:
        return ""
    sign = 1 if search.direction == "min" else -1
    gains = [sign * (search.default - trial.score) for trial in ranked]
    told = f"The default recipe has {digits(search.default)}; "
    if gains[0] <= 0:
        return told + "no trial is better."
    return (
        f"{told}{sum(gain > 0 for gain in gains)} of {len(ranked)} trials are better, the best by "
        f"{digits(gains[0])}. The best of many is flattered by the choice: only a split that the "
        "search has not seen tells what it is worth."
    )


def trials_table(search: Search, trials: Sequence[Trial]) -> str:
    """A row a trial: score, hyperparameters and all that was measured."""
    options = [dimension.name for dimension in search.space]
    measures = dict.fromkeys(name for trial in trials for name in trial.measures)
    measures.pop(search.objective, None)
    rounds = any(trial.round for trial in search.trials)
    broken = any(trial.broken for trial in trials)
    header = ["trial", *["round"] * rounds, search.objective, *["breaks"] * broken]
    header += [*options, *measures, "seconds"]
    rows = [
        [
            str(trial.number),
            *[str(trial.round + 1)] * rounds,
            spelled_score(trial),
            *[", ".join(trial.broken)] * broken,
            *(_option(trial, name) for name in options),
            *(_measure(trial, name) for name in measures),
            f"{trial.seconds:.3g}",
        ]
        for trial in trials
    ]
    return table(header, rows)


def _limits(search: Search, broken: Sequence[Trial]) -> str:
    """Which limits how many trials break, and the trials that would else be the best."""
    counts = collections.Counter(limit for trial in broken for limit in trial.broken)
    told = ", ".join(f"{limit} ({count})" for limit, count in counts.most_common())
    return (
        f"Trials that break a limit are kept, and never best: {told}. The best of them:\n\n"
        + _best_of(search, broken)
    )


def _stopped(search: Search, stopped: Sequence[Trial]) -> str:
    """After how many epochs the median rule ended how many trials, and the best of them."""
    counts = collections.Counter(len(trial.curve) for trial in stopped)
    told = ", ".join(f"{epochs} ({count})" for epochs, count in sorted(counts.items()))
    return (
        "Their best score was worse than the median of what the completed trials had reached on "
        "average up to the same epoch, so they were ended there, and are never best. Epochs "
        f"(trials): {told}. The best of them:\n\n" + _best_of(search, stopped)
    )


def _best_of(search: Search, trials: Sequence[Trial]) -> str:
    """A table of trials that have a score, whether or not it counts."""
    best = sorted(trials, key=lambda trial: trial.score, reverse=search.direction == "max")
    return trials_table(search, best[:LISTED])


def failures(search: Search, trials: Sequence[Trial]) -> str:
    """A row a reason, the most frequent first, and the settings that had it."""
    by_reason: dict[str, list[Trial]] = {}
    for trial in trials:
        by_reason.setdefault(reason(search, trial), []).append(trial)
    rows = []
    for why, members in sorted(by_reason.items(), key=lambda entry: -len(entry[1])):
        numbers = ", ".join(str(trial.number) for trial in members)
        rows.append([str(len(members)), why, numbers, _common(search, members)])
    return table(["failures", "reason", "trials", "their settings"], rows)


def _common(search: Search, trials: Sequence[Trial]) -> str:
    """What of each hyperparameter some trials have tried."""
    told = []
    for dimension in search.space:
        values = [trial.hyperparameters.get(dimension.name) for trial in trials]
        values = [value for value in values if value is not None]
        if values and dimension.scale == "choice":
            told.append(f"{dimension.name} {'/'.join(sorted({spelled(v) for v in values}))}")
        elif values:
            ends = sorted({spelled(min(values)), spelled(max(values))}, key=float)
            told.append(f"{dimension.name} {' to '.join(ends)}")
    return ", ".join(told)


def _pictures(search: Search, folder: pathlib.Path) -> Iterable[Section]:
    """What is drawn as soon as one trial has a score."""
    save_picture(pictures.progress(search), folder / "progress.png")
    yield _pictured(
        "Progress",
        "progress.png",
        "The best score so far (line) and every trial, in the order in which they ended."
        f"{_clipped(search)}",
    )
    names = [dimension.name for dimension in search.space]
    try:
        found = importance(search)
    except UntoldError as untold:
        yield Section("What matters", f"It cannot be told: {untold}.")
    else:
        save_picture(pictures.importance_bars(found), folder / "importance.png")
        yield _pictured("What matters", "importance.png", _importance_caption(found))
        names = [*found.names, *(name for name in names if name not in found.names)]
    if names:
        save_picture(pictures.slices(search, names), folder / "slices.png")
        yield _pictured(
            "Score against each hyperparameter",
            "slices.png",
            f"Every trial that has a score, each axis even in its own scale.{_clipped(search)}",
        )
        save_picture(pictures.parallel_coordinates(search), folder / "parallel_coordinates.png")
        yield _pictured(
            "All trials",
            "parallel_coordinates.png",
            "A line a trial, from its hyperparameters to its score, the best on top; the numbers "
            f"are those of the best trials.{_clipped(search)}",
        )


def _importance_caption(found: Importance) -> str:
    return (
        f"A random forest learned to rank {found.trials} trials by their hyperparameters; what it "
        "predicts for a trial that it has not seen explains "
        f"{found.explained:.0%} of the variance of the ranks (R², out of bag). Shown is what share "
        "of the variance of its predictions, over the whole space, each hyperparameter decides "
        "alone, and besides in concert with others (Sobol's indices, functional analysis of "
        "variance); the less the forest explains, the less that means."
    )


def _curves_caption(search: Search) -> str:
    several = any(trial.spread is not None for trial in search.trials)
    stopped = any(trial.status == "stopped" for trial in search.trials)
    return (
        f"{search.objective} after each epoch{' of the first training' * several}; a cross is "
        f"where a trial failed{', a triangle where one was stopped' * stopped}."
    )


def _clipped(search: Search) -> str:
    """How many trials are worse than a picture shows."""
    beyond = pictures.beyond_axis(search)
    return f" Worse than the axis shows, and put at its edge: {beyond}." if beyond else ""


def _pictured(title: str, file: str, caption: str) -> Section:
    return Section(title, f"{caption}\n\n![{title}]({file})")


def _option(trial: Trial, name: str) -> str:
    return spelled(trial.hyperparameters[name]) if name in trial.hyperparameters else ""


def _measure(trial: Trial, name: str) -> str:
    return digits(trial.measures[name]) if name in trial.measures else ""
