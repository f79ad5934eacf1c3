"""Bias or variance: the error ladder of a run, and which options act on its largest gaps."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.diagnosis.annotators import best_annotator, read_annotations
from pipelines.diagnosis.error_ladder import Gap, Rung, focus, gaps
from pipelines.diagnosis.findings import Findings, Request, Section, save_picture, table
from pipelines.engine.bootstrap import interval, spelled
from pipelines.engine.evaluate import answer_split

# The splits of a source by their place on the ladder; sources may lack the second.
SPLITS = {"training": "train", "training-dev": "train_dev", "dev": "validation", "test": "test"}
SHARE_TOLERANCE = 0.01  # where an error is a share of examples: one more in a hundred
RELATIVE_TOLERANCE = 0.05  # of the dev error, where it counts something else

# What acts on a gap, in the order of trying; with the options that do it, where a run has them.
REMEDIES: Mapping[str, Sequence[tuple[str, tuple[str, ...]]]] = {
    "avoidable bias": (
        ("a larger or another network", ("--architecture", "--model.*")),
        ("longer training", ("--epochs",)),
        ("another learning rate or update rule", ("--learning_rate", "--schedule", "--optimizer")),
        (
            "less regularization",
            ("--l2", "--model.dropout", "--weight_decay", "--task.label_smoothing"),
        ),
        ("less augmentation", ("--arrange.augment",)),
    ),
    "variance": (
        ("more training examples", ()),
        ("augmentation", ("--arrange.augment",)),
        (
            "more regularization",
            ("--l2", "--model.dropout", "--weight_decay", "--task.label_smoothing"),
        ),
        ("stopping earlier", ("--patience",)),
        ("what another network has learned", ("--transfer",)),
        ("a smaller or another network", ("--architecture", "--model.*")),
    ),
    "data mismatch": (
        ("reading dev errors for what training examples lack", ()),
        ("training examples like those of the dev set, collected or synthesized", ()),
        ("augmentation that imitates the dev set", ("--arrange.augment",)),
    ),
    "overfitting to the dev set": (
        ("a larger dev set, or a new one", ("--split",)),
        ("fewer choices made on the dev set", ("--patience", "--averaged_epochs")),
    ),
    "variance or data mismatch": (
        ("a training-dev set, which tells the two apart", ("--train_dev",)),
        ("more training examples like those of the dev set", ()),
    ),
}


def bias_variance(opened: Any, request: Request) -> Findings:
    """Measures the error of each split and names the gaps between them.

    Args:
        opened: a run.
        request: ``ladder_examples`` of each split, ``human_error`` and ``tolerance``.

    Raises:
        UserError: for data that cannot be read.
    """
    ladder, unit = [], ""
    if isinstance(request.human_error, pathlib.Path):
        ladder.append(best_annotator(read_annotations(request.human_error)))
    elif request.human_error is not None:
        ladder.append(Rung.known("human", request.human_error))
    for name, split in SPLITS.items():
        if split in opened.assembly.source.splits:
            scores = answer_split(opened, split, request.ladder_examples).scores
            ladder.append(Rung.measured(name, np.asarray(scores.errors, float)))
            unit = scores.unit
    tolerance = request.tolerance
    if tolerance is None:
        tolerance = default_tolerance(ladder)
    configuration = opened.assembly.configuration
    same = configuration.partition.dev_source is None
    found = gaps(ladder, tolerance, one_distribution=same)
    _draw(ladder, found, unit, opened.run.path)
    return Findings(
        advice=advice(ladder, found, options(configuration)),
        sections=[Section("Bias or variance", _text(ladder, found, unit, tolerance))],
    )


def default_tolerance(ladder: Sequence[Rung]) -> float:
    """A point of per cent where all errors are shares; else a part of the dev error."""
    if all(rung.error <= 1 for rung in ladder):
        return SHARE_TOLERANCE
    return RELATIVE_TOLERANCE * next(rung.error for rung in ladder if rung.name == "dev")


def advice(ladder: Sequence[Rung], found: Sequence[Gap], existing: set[str]) -> list[str]:
    """What to work on next, one sentence each, the most important first.

    Args:
        ladder: the rungs.
        found: the gaps between them.
        existing: options of the run, as ``--model.dropout``; others are not recommended.
    """
    sentences = [
        f"{gap.name.capitalize()} adds {spelled(gap.size, gap.bounds)} to the error: try "
        f"{_remedies(gap.name, existing)}."
        for gap in focus(found)
    ]
    errors = {rung.name: rung.error for rung in ladder}
    if "human" not in errors:
        sentences.append(
            "How much of the training error is avoidable bias is unknown: state what a human, or "
            "the best system known, gets wrong with --human_error, or give it what several people "
            "answered."
        )
    elif errors["training"] < errors["human"]:
        sentences.append(
            "The training error is below the human's, which therefore is not the lowest possible; "
            "what bias can still be avoided is unknown."
        )
    for gap in found:
        if gap.verdict == "inconclusive":
            sentences.append(
                f"Whether there is {gap.name} ({spelled(gap.size, gap.bounds)}) cannot be told "
                "from so few examples."
            )
        if gap.verdict == "negative" and gap.name != "avoidable bias":
            sentences.append(
                f"The error falls by {spelled(-gap.size, (-gap.bounds[1], -gap.bounds[0]))} where "
                f"{gap.name} would add to it: those examples are the easier ones."
            )
    if not sentences:
        sentences.append("No gap is larger than what is tolerated.")
    return sentences


def options(configuration: Any) -> set[str]:
    """The names of all options of a run on the command line."""
    bare = [*vars(configuration.recipe), *vars(configuration.partition), "architecture"]
    names = {f"--{name}" for name in bare}
    for section in ("model", "arrange", "task", "preprocess"):
        given = getattr(configuration, section)
        names |= {f"--{section}.{name}" for name in given} | (
            {f"--{section}.*"} if given else set()
        )
    return names | ({"--transfer"} if "--arrange.augment" in names else set())


def _remedies(gap: str, existing: set[str]) -> str:
    """The gap's remedies in one sentence; those whose every option the run lacks are left out."""
    found = []
    for what, wanted in REMEDIES[gap]:
        having = [option for option in wanted if option in existing]
        if having or not wanted:
            found.append(f"{what} ({', '.join(having)})" if having else what)
    return "; ".join(found)


def _text(ladder: Sequence[Rung], found: Sequence[Gap], unit: str, tolerance: float) -> str:
    rungs = [
        [
            rung.name,
            spelled(rung.error, interval(rung.resampled)) if rung.examples else f"{rung.error:.4g}",
            f"{rung.examples:,}" if rung.examples else "as stated",
        ]
        for rung in ladder
    ]
    names = [[gap.name, spelled(gap.size, gap.bounds), gap.verdict] for gap in found]
    return "\n".join(
        [
            f"Mean error ({unit}) with its 95 % interval.",
            "",
            table(["set", "error", "examples"], rungs),
            "",
            f"A gap is large or small if all of its interval is above or below {tolerance:.4g}.",
            "",
            table(["gap", "size", "verdict"], names),
            "",
            "![The error ladder](error_ladder.png)",
        ]
    )


def _draw(ladder: Sequence[Rung], found: Sequence[Gap], unit: str, folder: pathlib.Path) -> None:
    """Draws the errors with their intervals, the gaps named between them."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7, 0.8 + 0.75 * len(ladder)), layout="constrained")
    axes = canvas.subplots()
    heights = np.arange(len(ladder))[::-1]
    errors = np.array([rung.error for rung in ladder])
    bounds = np.array([interval(rung.resampled) for rung in ladder])
    axes.barh(heights, errors, height=0.5, color="#9dbcd4")
    axes.errorbar(
        errors, heights, xerr=abs(bounds.T - errors), fmt="none", color="black", capsize=3
    )
    axes.set_yticks(heights, [rung.name for rung in ladder])
    for height, gap in zip(heights[:-1], found, strict=True):
        weight = "bold" if gap in focus(found) else "normal"
        label = f"{gap.size:+.3g} {gap.name}: {gap.verdict}"
        axes.text(0, height - 0.5, f" {label}", va="center", fontsize=9, fontweight=weight)
    axes.set(xlabel=f"mean error: {unit}", xlim=(0, None), ylim=(-0.5, len(ladder) - 0.5))
    save_picture(canvas, folder / "error_ladder.png")
