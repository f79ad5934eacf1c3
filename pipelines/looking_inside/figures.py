"""The pictures of a report that show what goes on inside a network.

Their number is fixed, whatever the network and the data: up to 4 units at each scale of the
network, 10 classes, 512 pictures of the split to choose from. That costs about as much as answering
some 4,000 pictures.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pipelines.looking_inside.class_maps import class_maps, map_to_show
from pipelines.looking_inside.excitation import Ideals, Unit, choose_units, ideals, patch
from pipelines.looking_inside.filters import filtered, first_filters, matches
from pipelines.looking_inside.receptive_field import LocalMap, last_of_each_scale, local_maps
from pipelines.tasks.examples import pictures, texts
from pipelines.tasks.task import Evaluation, Figure

PICTURES = 512  # of the split, evenly spread
CLASSES = 10
SHOWN = 6  # right and wrong answers
FILTERS = 64
SEEN_THROUGH = 4  # a detector, what it makes of a picture, a filter, what it makes of it
LETTERS = 18  # of a label that fit above a picture


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network with pictures to try it on.

    Attributes:
        model: one picture → logits.
        inputs: pixels from 0 to 255, of any type → the model's named input.
        labels: the classes by index.
        pixels: uint8 [n, height, width, channels].
        truth, given: [n] the true and the answered class, by name.
        confidence: [n] the probability of the answer.
    """

    model: keras.Model
    inputs: Callable[[Any], Any]
    labels: list[str]
    pixels: np.ndarray
    truth: np.ndarray
    given: np.ndarray
    confidence: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Up to ``SHOWN`` right answers, of different classes as far as there are."""
        rows = np.flatnonzero(self.truth == self.given)
        _, first = np.unique(self.truth[rows], return_index=True)
        return np.concatenate([rows[first], np.delete(rows, first)])[:SHOWN]

    @property
    def shown(self) -> np.ndarray:
        """All of these, the right ones first."""
        return np.concatenate([self.right, self.wrong])

    @property
    def wrong(self) -> np.ndarray:
        """Up to ``SHOWN`` wrong answers whose true class is known, the surest first."""
        rows = np.flatnonzero((self.truth != self.given) & np.isin(self.truth, self.labels))
        return rows[np.argsort(-self.confidence[rows], kind="stable")][:SHOWN]


def draw_inside(evaluation: Evaluation, folder: pathlib.Path) -> list[Figure]:
    """Draws first-layer filters, what excites units and classes, and class-activation maps.

    What a network lacks is left out: all but the ideal pictures of classes needs a convolution.
    """
    subject = _subject(evaluation)
    maps = local_maps(subject.model)
    scales = last_of_each_scale(maps)
    units = choose_units(subject.model, scales, subject.inputs, subject.pixels) if scales else []
    count = min(CLASSES, len(subject.labels))
    made = ideals(subject.model, units, count, subject.inputs, subject.pixels)
    figures = []
    found = first_filters(subject.model)
    if found:
        figures += [
            draw_filters(*found, folder),
            draw_detectors(*found, subject.pixels[subject.shown[0]], folder),
        ]
    if units:
        figures.append(draw_units(units, made.of_units, subject.pixels, folder))
    figures.append(draw_classes(subject, made, folder))
    if maps:
        figures.append(draw_class_maps(subject, map_to_show(maps), folder))
    return figures


def _subject(evaluation: Evaluation) -> Subject:
    """Pictures spread evenly over the split, and among them those of the surest mistakes."""
    answers = evaluation.answers
    truth, given = texts(evaluation.examples["label"]), texts(answers["labels"])[:, 0]
    confidence = np.array(answers["probabilities"])[:, 0]
    wrong = np.flatnonzero(evaluation.scores.errors)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN]
    evenly = np.linspace(0, len(truth) - 1, min(PICTURES, len(truth))).round().astype(int)
    rows = np.union1d(evenly, worst)

    def inputs(pixels):
        return evaluation.preprocessor.model_inputs({"image": pixels})

    return Subject(
        model=evaluation.model,
        inputs=inputs,
        labels=list(evaluation.preprocessor.labels),
        pixels=pictures(evaluation, rows),
        truth=truth[rows],
        given=given[rows],
        confidence=confidence[rows],
    )


def draw_filters(layer: str, filters: np.ndarray, folder: pathlib.Path) -> Figure:
    """Draws the filters [rows, columns, channels, filters] of the first layer."""
    count = min(FILTERS, filters.shape[-1])
    rows, columns, channels = filters.shape[:3]
    across = min(count, 8 if count <= 32 else 16)
    canvas, grid = _grid(-(-count // across), across, side=0.9, title=0.25)
    for number, axes in enumerate(grid.ravel()[:count]):
        kernel = filters[..., number]
        strongest = np.abs(kernel).max() or 1
        axes.imshow(np.squeeze(kernel / strongest / 2 + 0.5), cmap="gray", vmin=0, vmax=1)
        axes.set_title(str(number), fontsize=8)
    canvas.savefig(folder / "filters.png", dpi=110)
    colours = "colours of the picture where channels differ" if channels > 1 else "no colours"
    caption = (
        f"{count} of {filters.shape[-1]} filters of {layer}, {rows}x{columns} pixels: grey is 0, "
        f"bright adds, dark takes away; {colours}. Each has its own scale."
    )
    return Figure("filters.png", "Filters of the first layer", caption)


def draw_detectors(
    layer: str, filters: np.ndarray, picture: np.ndarray, folder: pathlib.Path
) -> Figure:
    """Draws edge detectors and the filters that resemble them, and what they do to a picture."""
    found = matches(filters)
    picture = picture / 255
    grey = picture.mean(axis=2, keepdims=True)
    canvas, grid = _grid(len(found) // 2, 2 * SEEN_THROUGH + 1, side=1.25, title=0.3)
    _show(grid[0][0], 255 * picture)
    grid[0][0].set_title("the picture", fontsize=8)
    for axes, match in zip(grid[:, 1:].reshape(-1, SEEN_THROUGH), found, strict=True):
        kernel = filters[..., match.filter]
        shown = (
            (match.kernel, match.detector, "gray"),
            (filtered(grey, match.kernel), "", "RdBu_r"),
            (kernel.sum(axis=2), f"{layer} {match.filter}: {match.cosine:+.2f}", "gray"),
            (filtered(picture, kernel), "", "RdBu_r"),
        )
        for one, (values, title, colours) in zip(axes, shown, strict=True):
            most = np.abs(values).max() or 1
            one.imshow(values, cmap=colours, vmin=-most, vmax=most)
            one.set_title(title, fontsize=8)
    canvas.savefig(folder / "edge_detectors.png", dpi=110)
    caption = (
        "Edge detectors made by hand and what each makes of a picture (red: above 0, blue: below); "
        f"to the right the filter of {layer} that resembles it most, with the cosine between the "
        "two (1: the same; below 0: dark and bright change places; near 0: nothing like it), and "
        "what that one makes of the picture. Filters are shown as they see grey; one that does not "
        "sum to 0 answers to flat areas as well."
    )
    return Figure("edge_detectors.png", "Learned filters beside edge detectors", caption)


def draw_units(
    units: list[Unit], ideal: list[np.ndarray], pixels: np.ndarray, folder: pathlib.Path
) -> Figure:
    """Draws the ideal of each unit and its most exciting patches, a row each."""
    columns = max(len(unit.pictures) for unit in units)
    canvas, grid = _grid(len(units), columns + 1, side=1.0, title=0.28)
    for row, unit, wished in zip(grid, units, ideal, strict=True):
        field = unit.maps.field
        _show(row[0], wished)
        for axes, picture, place in zip(row[1:], unit.pictures, unit.places, strict=False):
            _show(axes, patch(pixels[picture], field, place))
            if any(w.size > side for w, side in zip(field, pixels.shape[1:3], strict=True)):
                y, x = (w.at(int(p)) + w.size / 2 - 0.5 for w, p in zip(field, place, strict=True))
                axes.plot(x, y, "r+", markersize=8)
        size = "x".join(str(window.size) for window in field)
        title = f"{unit.maps.name}, unit {unit.number}, sees {size} pixels: ideal, then patches"
        row[0].set_title(title, fontsize=8, loc="left").set_in_layout(False)
        row[1].set_title(" ", fontsize=8)  # keeps the place above, which the long title does not
    canvas.savefig(folder / "units.png", dpi=110)
    caption = (
        "Units of the network's scales, the finest first: left the picture that was made to excite "
        f"the unit most, then the {columns} patches that do so most in the evaluated pictures, "
        "each cut out as the unit sees it (pale red: beyond the picture's edge; where it sees more "
        "than the picture, a cross marks the middle of what it sees). Shown are those units of a "
        "layer whose strongest values stand out most from the others."
    )
    return Figure("units.png", "What excites units", caption)


def draw_classes(subject: Subject, made: Ideals, folder: pathlib.Path) -> Figure:
    """Draws the picture that speaks most for each class, above the surest right answer."""
    count = len(made.of_classes)
    canvas, grid = _grid(2 * -(-count // 10), min(10, count), side=1.25, title=0.35)
    for number in range(count):
        label = subject.labels[number]
        ideal, real = grid[0][number], grid[1][number]
        _show(ideal, made.of_classes[number])
        ideal.set_title(f"{_short(label)}\n{made.probabilities[number]:.0%} sure", fontsize=8)
        rows = np.flatnonzero((subject.truth == label) & (subject.given == label))
        if len(rows):
            surest = rows[np.argmax(subject.confidence[rows])]
            _show(real, subject.pixels[surest])
            real.set_title(f"{subject.confidence[surest]:.0%} sure", fontsize=8)
    canvas.savefig(folder / "classes.png", dpi=110)
    caption = (
        "Above, the picture that was made to speak for each class as much as possible, with the "
        "probability that the network gives to it; below, the surest right answer of the class."
    )
    return Figure("classes.png", "What speaks for classes", caption)


def draw_class_maps(subject: Subject, maps: LocalMap, folder: pathlib.Path) -> Figure:
    """Draws where right and wrong answers come from."""
    index = {label: number for number, label in enumerate(subject.labels)}
    right, wrong = subject.right, subject.wrong
    rows = np.concatenate([right, wrong, wrong])
    asked = [subject.given[right], subject.given[wrong], subject.truth[wrong]]
    classes = np.array([index[label] for label in np.concatenate(asked)], int)
    heat = class_maps(subject.model, maps, subject.inputs, subject.pixels[rows], classes)
    heat = np.split(heat, [len(right), len(right) + len(wrong)])

    columns = max(len(right), len(wrong))
    canvas, grid = _grid(2 + 3 * bool(len(wrong)), columns, side=1.3, title=0.35)
    for column, row in enumerate(right):
        picture = subject.pixels[row]
        _show(grid[0][column], picture)
        grid[0][column].set_title(f"{_short(subject.truth[row])}: right", fontsize=8)
        _overlay(grid[1][column], picture, heat[0][column], maps)
        grid[1][column].set_title(f"for {_short(subject.given[row])}", fontsize=8)
    for column, row in enumerate(wrong):
        picture, given, truth = subject.pixels[row], subject.given[row], subject.truth[row]
        _show(grid[2][column], picture)
        grid[2][column].set_title(f"{_short(truth)}, not {_short(given)}", fontsize=8)
        for line, label, part in ((3, given, heat[1]), (4, truth, heat[2])):
            _overlay(grid[line][column], picture, part[column], maps)
            grid[line][column].set_title(f"for {_short(label)}", fontsize=8)
    canvas.savefig(folder / "class_maps.png", dpi=110)
    size = "x".join(map(str, maps.tensor.shape[1:3]))
    caption = (
        f"What speaks for a class, the brighter the more (Grad-CAM on the {size} places of "
        f"{maps.name}): right answers, and the surest wrong ones, for the class that was answered "
        "and for the true one."
    )
    return Figure("class_maps.png", "Class-activation maps", caption)


def _grid(rows: int, columns: int, *, side: float, title: float) -> tuple[Any, np.ndarray]:
    """A canvas and its axes [rows, columns], ``side`` inches each with ``title`` above, empty."""
    from matplotlib.figure import Figure as Canvas

    size = (side * columns + 0.2, (side + title) * rows + 0.2)
    canvas = Canvas(figsize=size, layout="constrained")
    grid = canvas.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    return canvas, grid


def _show(axes: Any, pixels: np.ndarray) -> None:
    """Draws pixels from 0 to 255; what is beyond the edges of a picture (nan) becomes pale red."""
    beyond = np.isnan(pixels).any(axis=-1, keepdims=True)
    colours = np.broadcast_to(np.nan_to_num(pixels) / 255, (*pixels.shape[:2], 3))
    axes.imshow(np.where(beyond, [1.0, 0.85, 0.85], colours))


def _overlay(axes: Any, picture: np.ndarray, heat: np.ndarray, maps: LocalMap) -> None:
    """Lays a map over a picture, each place over the middle of what it sees."""
    height, width = picture.shape[:2]
    _show(axes, np.broadcast_to(picture.mean(axis=2, keepdims=True), (height, width, 3)))
    extent = []
    for window, places in zip(maps.field, heat.shape, strict=True):
        first = window.start + window.size / 2 - window.stride / 2 - 0.5
        extent.append((first, first + window.stride * places))
    (top, bottom), (left, right) = extent
    axes.imshow(
        heat,
        cmap="autumn",
        alpha=0.75 * heat,
        vmin=0,
        vmax=1,
        interpolation="bilinear",
        extent=(left, right, bottom, top),
    )
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _short(label: str) -> str:
    return label if len(label) <= LETTERS else label[: LETTERS - 1] + "…"
