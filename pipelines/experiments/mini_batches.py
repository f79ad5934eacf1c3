"""Mini-batch sizes and the cost curve: all examples a step, some, or one."""

from __future__ import annotations

import time

import numpy as np

from pipelines.experiments.laboratory.digits import digits
from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment
from pipelines.experiments.laboratory.network import (
    GradientDescent,
    Network,
    cross_entropy,
    descent,
    xavier,
)

EPOCHS = 10
RATE = 0.1


def run(seed: int) -> Experiment:
    """Does the experiment."""
    x, y = digits("train")
    sizes = {f"batch: all {len(x):,}": len(x), "mini-batch: 64": 64, "stochastic: 1": 1}
    steps, epochs, seconds = {}, {}, {}
    for name, size in sizes.items():
        network = Network((64, 32, 10), seed, activation="tanh", deviation=xavier)
        epochs[name] = [cross_entropy(network(x), y)[0]]
        steps[name], started = [], time.perf_counter()
        for cost in descent(
            network, x, y, GradientDescent(RATE), epochs=EPOCHS, batch_size=size, seed=seed
        ):
            steps[name].append(cost)
            if len(steps[name]) % -(-len(x) // size) == 0:
                epochs[name].append(cross_entropy(network(x), y)[0])
        seconds[name] = time.perf_counter() - started
    batch, mini, single = sizes
    rises = {name: float((np.diff(each) > 0).mean()) for name, each in steps.items()}
    ends = {name: each[-1] for name, each in epochs.items()}

    picture, axes = panels(3)
    for name in (mini, batch):
        axes[0].plot(np.linspace(0, EPOCHS, len(steps[name])), steps[name], label=name, linewidth=1)
    axes[0].set(
        xlabel="epoch", ylabel="cost of the step's examples", title="The cost that a step sees"
    )
    axes[0].legend()
    axes[1].plot(steps[single][-300:], linewidth=0.7, color="tab:green", label=single)
    axes[1].set(
        xlabel="step", ylabel="cost of the step's example", title="The last 300 single steps"
    )
    axes[1].legend()
    for name, colour in ((batch, "tab:orange"), (mini, "tab:blue"), (single, "tab:green")):
        axes[2].semilogy(
            epochs[name], "o-", color=colour, label=f"{name} ({len(steps[name]):,} steps)"
        )
    axes[2].set(xlabel="epoch", ylabel="cost of all examples", title="The cost after each epoch")
    axes[2].legend(fontsize="small")
    return Experiment(
        setting=f"One hidden layer learns {len(x):,} digits for {EPOCHS} epochs with a learning "
        f"rate of {RATE}, by gradients of all examples, of 64 and of one; this took "
        f"{seconds[batch]:.1f}, {seconds[mini]:.1f} and {seconds[single]:.1f} seconds.",
        claims=[
            Claim(
                "the cost of batch gradient descent falls at every step",
                rises[batch] == 0,
                f"With all examples a step the cost falls at each of the {len(steps[batch])} "
                f"steps, to {ends[batch]:.2f}.",
            ),
            Claim(
                "the cost of mini-batches falls with noise, and further",
                0.2 < rises[mini] < 0.6 and ends[mini] < ends[batch],
                f"With 64 it rises at {rises[mini]:.0%} of the steps, but there are "
                f"{len(steps[mini])} of them, and the cost of all examples ends at "
                f"{ends[mini]:.2f}.",
            ),
            Claim(
                "single examples are the noisiest",
                np.std(steps[single][-300:]) > np.std(steps[mini][-30:]),
                f"With one, {len(steps[single]):,} steps end at {ends[single]:.4f}; the cost that "
                f"a step sees then varies by {np.std(steps[single][-300:]):.3f} (standard "
                f"deviation), with 64 by {np.std(steps[mini][-30:]):.3f}.",
            ),
        ],
        picture=picture,
    )
