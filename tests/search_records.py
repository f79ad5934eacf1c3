"""Records of searches that never ran, with scores that follow a known law."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tuning.scales import value_at
from tuning.trials import Dimension, Search, Trial

RATE = Dimension(name="learning_rate", scale="log", low=1e-4, high=1.0)
MOMENTUM = Dimension(name="beta_1", scale="one_minus", low=0.9, high=0.999, priority=2)
UNITS = Dimension(name="model.units", scale="integer", low=16, high=256, priority=2)
DROPOUT = Dimension(name="model.dropout", scale="linear", low=0.0, high=0.5, priority=3)
OPTIMIZER = Dimension(
    name="optimizer", scale="choice", choices=("sgd", "momentum", "adam"), priority=3
)
SPACE = (RATE, MOMENTUM, UNITS, DROPOUT, OPTIMIZER)


def setting(space: Sequence[Dimension], places: Sequence[float]) -> dict[str, Any]:
    """Values at some places of their dimensions, from 0 (to below 1), each in its own scale."""
    return {
        dimension.name: dimension.choices[int(place * len(dimension.choices))]
        if dimension.scale == "choice"
        else value_at(dimension, place)
        for dimension, place in zip(space, places, strict=True)
    }


def loss(options: dict[str, Any]) -> float:
    """Almost all depends on the learning rate, of which 0.01 is best; a little on the units."""
    rate = math.log10(options["learning_rate"]) + 2
    return 0.2 + 0.3 * rate**2 + 0.1 * (1 - options.get("model.units", 128) / 256)


def random_search(
    count: int = 30, seed: int = 0, space: Sequence[Dimension] = SPACE, **changes: Any
) -> Search:
    """Trials of which learning rates above 0.3 diverge, and more than 220 units break a limit."""
    random = np.random.default_rng(seed)
    trials = []
    for number in range(1, count + 1):
        options = setting(space, random.uniform(size=len(space)))
        common = {
            "number": number,
            "hyperparameters": options,
            "began": 32.0 * (number - 1),
            "seconds": random.uniform(20, 40),
        }
        if options["learning_rate"] > 0.3:
            reason = "the loss became nan in epoch 4"
            trials.append(Trial(**common, status="failed", reason=reason, curve=(2.0, 2.1, 9.0)))
            continue
        score = loss(options) + 0.02 * random.standard_normal()
        parameters = 1000.0 * options.get("model.units", 100)
        start = random.uniform(2, 3)
        trials.append(
            Trial(
                **common,
                score=score,
                spread=0.01,
                measures={"parameters": parameters, "latency_ms": 1.5},
                broken=("parameters<=2.2e5",) if parameters > 2.2e5 else (),
                curve=tuple(score + (start - score) * math.exp(-epoch / 3) for epoch in range(10)),
            )
        )
    search = Search(
        application="house_prices",
        tuner="random",
        objective="val_loss",
        direction="min",
        space=space,
        trials=trials,
        default=0.31,
    )
    return dataclasses.replace(search, **changes)


def grid_search(levels: int = 2, space: Sequence[Dimension] = SPACE) -> Search:
    """All combinations of some values a dimension."""
    places = itertools.product(np.linspace(0.1, 0.9, levels), repeat=len(space))
    settings = [setting(space, place) for place in places]
    trials = [
        Trial(
            number=number,
            hyperparameters=options,
            score=loss(options),
            began=30.0 * (number - 1),
            seconds=30.0,
        )
        for number, options in enumerate(settings, 1)
    ]
    return random_search(0, space=space, tuner="grid", trials=trials, default=None)
