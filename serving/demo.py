"""``make demo``: from built-in data to answers over gRPC, with the commands that a user would type.

Trains digits, dates and captions of scenes, exports and serves all three, asks about every picture
and date of the test splits, which nothing was trained on, and prints answers beside the truth. What
is there already is not made again; ``make clean`` starts afresh.
"""

from __future__ import annotations

import contextlib
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from pipelines.engine.assembly import assemble
from pipelines.engine.run import Run
from pipelines.sources.scenes import parse
from serving.client import Client, UnavailableError

EXPORTS = pathlib.Path("exports")
SHOWN = 6
BATCH = 128
START_SECONDS = 120


def main() -> None:
    started = time.monotonic()
    make_export("image_classification")
    make_export("machine_translation", "--epochs", "2")  # by default 3, which the demo can spare
    make_export("image_captioning", "--epochs", "8")  # by default 20
    with serve(["image_classification", "machine_translation", "image_captioning"]) as client:
        ask_about_digits(client)
        ask_about_dates(client)
        ask_about_scenes(client)
    print(f"\ndone in {time.monotonic() - started:.0f} s; runs/ and exports/ stay")


def command(module: str, *arguments: str | pathlib.Path) -> list[str]:
    """Prints the command as a user would type it, and returns it for this interpreter."""
    words = ["-m", module, *map(str, arguments)]
    print("\n$ python", *words, flush=True)
    return [sys.executable, *words]


def make_export(application: str, *options: str) -> None:
    """Trains (or goes on training) the run ``demo`` and exports it as version 1."""
    run = Run(pathlib.Path("runs", application, "demo"))
    if not run.finished:
        resume = ["--resume"] if run.path.exists() else []
        words = command(f"pipelines.{application}", *options, "--run", "demo", *resume)
        subprocess.run(words, check=True)
    if not (EXPORTS / application / "1").exists():
        subprocess.run(command("serving.export", run.path), check=True)


@contextlib.contextmanager
def serve(models: list[str]) -> Iterator[Client]:
    """A server of all models for as long as the block runs, and a client of it."""
    configuration = EXPORTS / "models.config"
    entries = "".join(
        f'  config {{ name: "{name}" base_path: "{(EXPORTS / name).resolve()}"'
        ' model_platform: "tensorflow" }\n'
        for name in models
    )
    configuration.write_text(f"model_config_list {{\n{entries}}}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        command("serving.server", f"--port={port}", f"--model_config_file={configuration}")
    )
    try:
        with Client(f"localhost:{port}", retry=False) as client:
            wait_until_served(client, models, server)
            yield client
    finally:
        server.terminate()
        server.wait()


def wait_until_served(client: Client, models: list[str], server: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit("error: the server did not start; its own words are above")
        try:
            for model in models:
                client.status(model)
            return
        except UnavailableError:
            time.sleep(0.2)


def unseen(application: str) -> dict[str, np.ndarray]:
    """The test split of the source that the run was trained on, by field."""
    source = assemble(Run(pathlib.Path("runs", application, "demo")).configuration).source
    rows = source.load("test")
    batches = list((rows.unbatch() if source.blocks else rows).batch(BATCH).as_numpy_iterator())
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def ask_about_digits(client: Client) -> None:
    """Prints the first answers and the accuracy over the whole test split."""
    examples = unseen("image_classification")
    answers = ask(client, "image_classification", "image", examples["image"])
    truth = [label.decode() for label in examples["label"]]
    for row in range(SHOWN):
        best = f"{answers['labels'][row, 0]} ({answers['probabilities'][row, 0]:.3f})"
        print(f"  {examples['id'][row].decode():24} answer {best:12} truth {truth[row]}")
    accuracy = np.mean(
        [best == true for best, true in zip(answers["labels"][:, 0], truth, strict=True)]
    )
    print(f"unseen digits: {accuracy:.2%} of {len(truth):,} right")


def ask_about_dates(client: Client) -> None:
    """Prints the first answers and the share of exact ones over the whole test split."""
    examples = unseen("machine_translation")
    answers = ask(client, "machine_translation", "source", examples["source"])
    truth = [target.decode() for target in examples["target"]]
    best = answers["texts"][:, 0]
    for row in range(SHOWN):
        print(f"  {examples['source'][row].decode():32} answer {best[row]:12} truth {truth[row]}")
    exact = np.mean([answer == true for answer, true in zip(best, truth, strict=True)])
    print(f"unseen dates: {exact:.2%} of {len(truth):,} exact")


def ask_about_scenes(client: Client) -> None:
    """Prints the first captions and the share of those that describe their very scene."""
    examples = unseen("image_captioning")
    answers = ask(client, "image_captioning", "image", examples["image"])
    truth = [scene.decode() for scene in examples["scene"]]
    best = answers["texts"][:, 0]
    for row in range(SHOWN):
        print(f"  {truth[row]}\n    answer: {best[row]}")
    exact = np.mean([str(parse(text)) == scene for text, scene in zip(best, truth, strict=True)])
    print(f"unseen scenes: {exact:.2%} of {len(truth):,} exact")


def ask(client: Client, model: str, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Asks in batches; the outputs have a row for each value (grids of varying size left out)."""
    print(f"\nasking {model} about {len(values):,} unseen examples over gRPC:")
    answers = [
        client.predict(model, {name: values[start : start + BATCH]})
        for start in range(0, len(values), BATCH)
    ]
    return {
        key: np.concatenate([answer[key] for answer in answers])
        for key in answers[0]
        if answers[0][key].ndim <= 2
    }


if __name__ == "__main__":
    main()
