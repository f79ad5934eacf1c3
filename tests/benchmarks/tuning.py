"""Searches: what a trial costs beside its training, what a second worker is worth, and a claim.

The claim is the curriculum's: where only some of five hyperparameters matter, random search finds
what is as good as the best of a grid of two values each, 32 trials, in half as many (J. Bergstra
and Y. Bengio, "Random Search for Hyper-Parameter Optimization", 2012). Five searches of other seeds
look for it among networks that read digits, in half as many trials and no more.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from tests.benchmarks.comparison import Comparison
from tuning.folder import Folder
from tuning.trials import Trial

ROOT = pathlib.Path(__file__).parents[2]
ONE_THREAD = dict.fromkeys(
    ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1"
)

DIGITS = (
    *("image_classification", "--architecture", "convolutional_network", "--augment", "none"),
    *("--epochs", "4", "--priority", "1"),
)
# The grid has the midpoints of both halves of each scale.
VARIED = (
    "learning_rate=log(1e-4,1e-1)",
    "batch_size=choice(32,128)",
    "model.dropout=linear(0,0.5)",
    "weight_decay=log(1e-5,1e-2)",
    "epsilon=log(1e-8,1e-4)",
)


def measure(quick: bool) -> list[Comparison]:
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder)
        return [overhead(base, quick), two_workers(base, quick), random_and_grid(base, quick)]


def overhead(base: pathlib.Path, quick: bool) -> Comparison:
    """Seconds of a trial that are no epoch's; the first epoch's include tracing."""
    options = ("house_prices", "--priority", "2", "--epochs", "5")
    found = search(base / "overhead", *options, "--trials", "3" if quick else "13")
    return Comparison(
        name="a trial beyond its epochs, after the first",
        unit="s",
        ours=tuple(trial.seconds - training_seconds(found, trial) for trial in trials(found)[1:]),
        target=1.0,
    )


def training_seconds(found: Folder, trial: Trial) -> float:
    return sum(epoch["seconds"] for epoch in found.run(trial.number).history)


def two_workers(base: pathlib.Path, quick: bool) -> Comparison:
    """Trials an hour of two workers and of one, each of a single thread."""
    options = ("--trials", "2" if quick else "12")
    rates = []
    for pair in range(1 if quick else 3):
        found = [
            digits(base / f"workers-{pair}-{n}", VARIED, *options, "--workers", str(n))
            for n in (2, 1)
        ]
        rates.append([trials_an_hour(trials(one)) for one in found])
    two, one = zip(*rates, strict=True)
    return Comparison(
        name="two workers against one",
        unit="trials/h",
        ours=two,
        peer=one,
        better="higher",
        target=1.6,
    )


def trials_an_hour(ended: Sequence[Trial]) -> float:
    """From the beginning of the first trial to the end of the last."""
    began = min(trial.began for trial in ended)
    return 3600 * len(ended) / (max(trial.began + trial.seconds for trial in ended) - began)


def random_and_grid(base: pathlib.Path, quick: bool) -> Comparison:
    """How many trials random search takes to be as good as the best of the grid."""
    varied = VARIED[:2] if quick else VARIED
    cells = 2 ** len(varied)
    half = cells // 2
    by_two = ("--workers", "2", "--trials")
    grid = digits(base / "grid", varied, *by_two, str(cells), "--tuner", "grid")
    best = max(trial.score for trial in trials(grid))
    needed = []
    for seed in range(1 if quick else 5):
        found = digits(base / f"random-{seed}", varied, *by_two, str(half), "--seed", str(seed))
        scores = [trial.score for trial in trials(found)]
        good = [place for place, score in enumerate(scores, 1) if score >= best]
        needed.append(good[0] if good else half + 1)  # or more
    return Comparison(
        name=f"trials of random search, up to the best dev accuracy of {cells} cells ({best:.4f})",
        unit="trials",
        ours=tuple(map(float, needed)),
        target=half,
    )


def digits(path: pathlib.Path, varied: Sequence[str], *options: str) -> Folder:
    """A search among networks that read digits, each worker of a single thread."""
    scales = [f"--vary={scale}" for scale in varied]
    return search(path, *DIGITS, *scales, *options, **ONE_THREAD)


def search(path: pathlib.Path, *options: str, **environment: str) -> Folder:
    """Runs ``python -m tuning.search`` to its end; its folder is ``path/application/run``."""
    subprocess.run(
        [sys.executable, "-m", "tuning.search", *options, "--run", "s", "--runs_dir", str(path)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return Folder(path / options[0] / "s")


def trials(found: Folder) -> list[Trial]:
    """Those that were completed."""
    return [trial for trial in found.search().trials if trial.status == "completed"]
