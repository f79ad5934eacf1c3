"""Model cards.

python -m models                          every architecture: parameters, cost, published weights
python -m models resnet50 [--plot FILE]   one with its layers, and a drawing of them
"""

from __future__ import annotations

import argparse
import difflib
import os
import pathlib
import sys
from collections.abc import Sequence

if __name__ == "__main__" and os.environ.setdefault("KERAS_BACKEND", "numpy") == "numpy":
    # Nothing is computed here. Keras would load TensorFlow only to ask whether it is there.
    sys.modules.setdefault("tensorflow", None)

from models.cards.catalogue import Card, Family, card, families
from models.cards.drawing import draw
from models.layers.shapes_alone import shapes_alone


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the cards, or one with its layers, and writes its drawing."""
    parser = argparse.ArgumentParser(prog="python -m models", description="Model cards.")
    parser.add_argument("name", nargs="?", help="an architecture; without one: all of them")
    parser.add_argument("--plot", help="SVG file to draw the layers to (default: NAME.svg)")
    options = parser.parse_args(arguments)
    found = families()
    known = {name: family for family in found for name in family.builders}
    if options.name is None:
        for family in found:
            print_family(family)
    elif options.name in known:
        print_one(known[options.name], options.name, options.plot or f"{options.name}.svg")
    else:
        near = difflib.get_close_matches(options.name, known, n=len(known), cutoff=0.0)
        parser.exit(
            2, f"error: unknown architecture {options.name!r}; there is: {', '.join(near)}\n"
        )


def print_family(family: Family) -> None:
    """The title, the papers and a line for each architecture."""
    print(f"{family.name}: {family.title}")
    for paper in family.papers:
        print(f"  {paper}")
    for name in family.builders:
        entry = card(family, name)
        weights = "imagenet" if entry.weights else "-"
        print(
            f"  {name:24}{inputs(entry):>26}{entry.parameters:>13,} parameters "
            f"{flops(entry):>9} FLOPs  weights: {weights:9} pixels: {entry.pixels or 'any'}"
        )
    print()


def print_one(family: Family, name: str, plot: str) -> None:
    """Everything about one architecture."""
    entry = card(family, name)
    print(f"{name}: {family.title}")
    print("\n".join(f"paper: {paper}" for paper in family.papers))
    print(f"input: {inputs(entry)}")
    print(f"parameters: {entry.parameters:,}")
    print(f"FLOPs: {flops(entry)} an example (two for each multiply-add)")
    print(f"weights: {entry.weights or 'none are published'}")
    print(f"pixels: {entry.pixels or 'of any range'}")
    with shapes_alone():
        model = family.builders[name]()
        if not hasattr(model, "operations"):
            print("layers: it is no graph of layers, so there is nothing to draw")
            return
        model.summary()
        pathlib.Path(plot).write_text(draw(model), encoding="utf-8")
    print(f"drawing: {plot}")


def inputs(entry: Card) -> str:
    """The shapes of the inputs, "?" for what is open."""

    def shape(sides: tuple) -> str:
        return "x".join("?" if side is None else str(side) for side in sides) or "1"

    return ", ".join(f"{name} {shape(sides)}" for name, sides in entry.inputs.items()) or "-"


def flops(entry: Card) -> str:
    """Two for each multiply-add, with three digits, "-" where they are not known."""
    if entry.multiply_adds is None:
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if 2 * entry.multiply_adds >= size:
            return f"{2 * entry.multiply_adds / size:.3g} {unit}"
    return str(2 * entry.multiply_adds)


if __name__ == "__main__":
    main()
