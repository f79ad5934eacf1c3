"""Depth against width: the parity of bits, and the teeth of a saw.

Circuits of AND and OR with two layers need 2^(n-1) gates for the parity of n bits, a tree of XORs
about n. Depth makes linear pieces at the same rate: M. Telgarsky, "Benefits of Depth in Neural
Networks", 2016, https://arxiv.org/abs/1602.04485.
"""

from __future__ import annotations

import numpy as np

from pipelines.experiments.laboratory.drawing import panels
from pipelines.experiments.laboratory.experiment import Claim, Experiment

TREE_BITS = (2, 4, 8, 16)
GATE_BITS = (2, 4, 8, 10)
FOLDS = (1, 2, 3, 4, 5, 6)


def relu(z: np.ndarray) -> np.ndarray:
    """max(z, 0)."""
    return np.maximum(z, 0)


def all_inputs(bits: int) -> np.ndarray:
    """[2^bits, bits], every row of zeros and ones."""
    return (np.arange(2**bits)[:, None] >> np.arange(bits)) & 1


def tree(x: np.ndarray) -> tuple[np.ndarray, int]:
    """Parity by XORs of pairs, a XOR b = ReLU(a - b) + ReLU(b - a): answers and hidden units."""
    units = 0
    while x.shape[1] > 1:
        a, b = x[:, ::2], x[:, 1::2]
        hidden = np.hstack([relu(a - b), relu(b - a)])
        units += hidden.shape[1]
        x = hidden[:, : a.shape[1]] + hidden[:, a.shape[1] :]
    return x[:, 0], units


def gates(x: np.ndarray) -> np.ndarray:
    """One hidden layer of ANDs, one for each odd input: [examples, units], 1 where it fires."""
    bits = x.shape[1]
    odd = all_inputs(bits)[all_inputs(bits).sum(axis=1) % 2 == 1]
    agreeing = x @ odd.T + (1 - x) @ (1 - odd).T
    return relu(agreeing - (bits - 1))


def counting(x: np.ndarray) -> tuple[np.ndarray, int]:
    """One hidden layer of n units that count: 1, -2, 2, -2 … times ReLU(sum - k)."""
    bits = x.shape[1]
    hidden = relu(x.sum(axis=1, keepdims=True) - np.arange(bits))
    outward = 2.0 * (-1) ** np.arange(bits)
    outward[0] = 1
    return hidden @ outward, bits


def saw(x: np.ndarray, folds: int) -> np.ndarray:
    """``folds`` layers of two units, each 2 ReLU(x) - 4 ReLU(x - 1/2): 2^(folds - 1) teeth."""
    for _ in range(folds):
        x = 2 * relu(x) - 4 * relu(x - 0.5)
    return x


def run(seed: int) -> Experiment:
    """Does the experiment; nothing is drawn, the networks are written down."""
    units = {"tree": [], "gates": [], "counting": []}
    right, needed = True, True
    for bits in TREE_BITS:
        x = all_inputs(bits)
        for name, network in (("tree", tree), ("counting", counting)):
            answers, size = network(x)
            units[name].append(size)
            right &= bool((answers == x.sum(axis=1) % 2).all())
    for bits in GATE_BITS:
        x = all_inputs(bits)
        fired = gates(x)
        units["gates"].append(fired.shape[1])
        right &= bool((fired.sum(axis=1) == x.sum(axis=1) % 2).all())
        needed &= bool((fired.sum(axis=0) == 1).all())  # each answers for one input alone
    grid = np.linspace(0, 1, 2**12 + 1)
    slopes = {folds: np.diff(saw(grid, folds)) for folds in FOLDS}
    pieces = {folds: int((np.diff(np.sign(each)) != 0).sum()) + 1 for folds, each in slopes.items()}

    picture, axes = panels(3)
    axes[0].plot(GATE_BITS, units["gates"], "o-", label="one layer of ANDs: $2^{n-1}$")
    axes[0].plot(TREE_BITS, units["tree"], "s-", label="tree of XORs: $2(n-1)$")
    axes[0].plot(TREE_BITS, units["counting"], "^--", label="one layer that counts: $n$")
    axes[0].set(xlabel="bits n", ylabel="hidden units", yscale="log", title="Parity of n bits")
    axes[0].set_ylim(1.5, 2e4)
    axes[0].legend(loc="upper left")
    axes[1].plot(grid, saw(grid, 4))
    axes[1].set(xlabel="x", ylabel="answer", title=f"4 layers of 2 units: {pieces[4]} pieces")
    axes[2].plot([2 * f for f in FOLDS], list(pieces.values()), "o-", label="layers of 2 units")
    axes[2].plot(
        [2 * f for f in FOLDS], [2 * f + 1 for f in FOLDS], "s--", label="one layer: at most"
    )
    axes[2].set(xlabel="hidden units", ylabel="linear pieces", title="Pieces that units can make")
    axes[2].legend()
    last = FOLDS[-1]
    return Experiment(
        setting="The networks are written down, not trained, and tried on every input.",
        claims=[
            Claim(
                "a tree of XORs and one layer of ANDs both compute parity",
                right,
                f"A tree of XORs is right on all {2 ** TREE_BITS[-1]:,} inputs of {TREE_BITS[-1]} "
                f"bits with {units['tree'][-1]} hidden units in "
                f"{int(np.log2(TREE_BITS[-1]))} layers; one layer of ANDs takes "
                f"{units['gates'][-1]} for {GATE_BITS[-1]} bits.",
            ),
            Claim(
                "no AND of the one layer can be spared",
                needed,
                "None of the ANDs can be spared, for each answers for one input alone: their "
                f"number doubles with each bit ({', '.join(map(str, units['gates']))} for "
                f"{', '.join(map(str, GATE_BITS))} bits).",
            ),
            Claim(
                "units that count need no depth for parity",
                units["counting"] == list(TREE_BITS),
                "This is so for gates; ReLUs that may count the bits get by with one layer of n "
                "units.",
            ),
            Claim(
                "linear pieces double with each layer",
                pieces == {folds: 2**folds for folds in FOLDS},
                f"What no layer of such units gets around is the number of bends: {last} layers of "
                f"2 units make {pieces[last]} linear pieces, one layer of {2 * last} units at most "
                f"{2 * last + 1}.",
            ),
        ],
        picture=picture,
    )
