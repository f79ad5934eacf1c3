"""Splits of any source: by size, shares, train-dev, folds, a dev set from elsewhere; no leaks."""

from __future__ import annotations

import collections
import json

import numpy as np
import pytest
import tensorflow as tf

from pipelines import cross_validate, diagnose
from pipelines.cross_validate import spread
from pipelines.engine.application import UserError, load_application
from pipelines.engine.assembly import assemble
from pipelines.engine.configuration import Configuration, parse
from pipelines.sources.digits import BlurredDigits, Digits
from pipelines.sources.measurements import Iris
from pipelines.sources.partition import Partition
from pipelines.sources.source import Source
from pipelines.sources.splits import SPLITS, shares_by_size
from pipelines.sources.string_rows import StringRows
from tests.conftest import train


class Sentences(StringRows):
    """Two hundred sentences of forty speakers, the last twenty official test examples."""

    place, licence, citation = "built in", "none", "none"
    columns = ("id", "text", "group")

    def __init__(self, *, noisy: bool = False, first_speaker: int = 0):
        self.noisy, self.first_speaker = noisy, first_speaker

    def rows(self, split):
        places = {"train": range(160), "validation": range(160, 180), "test": range(180, 200)}
        kind = "noisy" if self.noisy else "clear"
        return [
            (f"{kind}/{n}", f"sentence {n}", f"speaker {self.first_speaker + n // 5}")
            for n in places[split]
        ]


def rows(source: Source) -> dict[str, list[dict]]:
    """The examples of each split."""
    return {
        split: list((dataset.unbatch() if source.blocks else dataset).as_numpy_iterator())
        for split in source.splits
        for dataset in [source.load(split)]
    }


def sizes(source: Source) -> list[int]:
    return [len(examples) for examples in rows(source).values()]


def assert_no_leak(source: Source, field: str = "group") -> None:
    seen = {split: {row[field] for row in examples} for split, examples in rows(source).items()}
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("count", "training", "held_out"),
    [
        (100, 0.6, 0.2),
        (10_000, 0.6, 0.2),
        (100_000, 1 - 2 * 0.2 / 20**0.5, 0.2 / 20**0.5),
        (1_000_000, 0.98, 0.01),
        (5_000_000, 0.98, 0.01),
        (10_000_000, 0.995, 0.0025),
        (10**9, 0.995, 0.0025),
    ],
)
def test_shares_by_size(count, training, held_out) -> None:
    shares = shares_by_size(count)
    assert list(shares) == list(SPLITS)
    assert list(shares.values()) == pytest.approx([training, held_out, held_out])


def test_up_to_a_million_more_examples_never_mean_fewer_held_out() -> None:
    counts = np.unique(np.geomspace(10, 10**6, 500).astype(int))
    held_out = [count * shares_by_size(count)["test"] for count in counts]
    assert (np.diff(held_out) > 0).all()


def test_nothing_asked_for_is_the_source_itself() -> None:
    source = Sentences()
    assert Partition().of(source) is source


def test_shares_and_groups() -> None:
    source = Partition(split="0.5,0.3,0.2").of(Sentences())
    assert sizes(source) == [100, 60, 40]
    assert_no_leak(source)
    assert source.load("train").element_spec == source.fields
    assert rows(source) == rows(Partition(split="0.5,0.3,0.2").of(Sentences()))
    assert sizes(Partition(split="auto").of(Sentences())) == [120, 40, 40]


def test_a_train_dev_set_is_cut_off_the_training_set_alone() -> None:
    source = Partition(train_dev=0.25).of(Sentences())
    assert source.splits == ("train", "train_dev", "validation", "test")
    assert sizes(source) == [120, 40, 20, 20]
    assert_no_leak(source)
    whole, cut = rows(Sentences()), rows(source)
    assert cut["test"] == whole["test"]
    assert cut["validation"] == whole["validation"]


def test_every_example_but_the_test_set_is_in_one_fold() -> None:
    whole = rows(Sentences())
    held_out: collections.Counter = collections.Counter()
    for number in range(1, 5):
        source = Partition(fold=f"{number}/4").of(Sentences())
        assert_no_leak(source)
        examples = rows(source)
        assert examples["test"] == whole["test"]
        assert len(examples["train"]) + len(examples["validation"]) == 180
        held_out.update(row["id"] for row in examples["validation"])
    assert held_out == dict.fromkeys(
        (row["id"] for split in ("train", "validation") for row in whole[split]), 1
    )


def test_dev_and_test_come_from_the_second_source_and_no_group_is_in_both() -> None:
    # Its dev and test speakers are 28 to 35; those of the first source's training split 0 to 31.
    second = Sentences(noisy=True, first_speaker=-4)
    source = Partition(dev_source="noisy", train_dev=0.25).of(Sentences(), second)
    examples = rows(source)
    assert {row["id"].partition(b"/")[0] for row in examples["train"]} == {b"clear"}
    assert {row["id"].partition(b"/")[0] for row in examples["test"]} == {b"noisy"}
    assert [row["id"] for row in examples["test"]] == [
        f"noisy/{n}".encode() for n in range(180, 200)
    ]
    assert_no_leak(source)
    # Four of the 32 speakers of the training split are held out by the second source.
    assert len(examples["train"]) + len(examples["train_dev"]) == 5 * (32 - 4)


def test_pictures_of_the_dev_set_may_be_blurred() -> None:
    source = Partition(dev_source="digits_blurred").of(Digits(), BlurredDigits())
    clear, blurred = rows(Digits()), rows(source)
    for split in SPLITS:
        assert [row["id"] for row in blurred[split]] == [row["id"] for row in clear[split]]
    assert blurred["train"] == clear["train"]
    sharp, soft = (
        tf.io.decode_png(examples["validation"][0]["image"]).numpy().astype(float)
        for examples in (clear, blurred)
    )
    assert np.abs(np.diff(soft, axis=0)).mean() < 0.7 * np.abs(np.diff(sharp, axis=0)).mean()


def test_tables_are_cut_by_label_with_equal_rows_together() -> None:
    source = Partition(split="0.5,0.25,0.25").of(Iris())
    examples = rows(source)
    for split, share in zip(SPLITS, (0.5, 0.25, 0.25), strict=True):
        counts = collections.Counter(row["label"] for row in examples[split])
        assert list(counts.values()) == pytest.approx([50 * share] * 3, abs=1)
    # Two of Iris's flowers are alike in every measure.
    seen = collections.defaultdict(set)
    for split, table in examples.items():
        for row in table:
            seen[tuple(v.item() for name, v in row.items() if name not in ("id", "label"))].add(
                split
            )
    assert len(seen) == 149
    assert all(len(splits) == 1 for splits in seen.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "0.8,0.2"}, "write auto, or three shares that add up to 1"),
        ({"split": "0.8,0.1,0.2"}, "write auto, or three shares that add up to 1"),
        ({"split": "half"}, "write auto, or three shares that add up to 1"),
        ({"split": "1,0,0"}, "write auto, or three shares that add up to 1"),
        ({"train_dev": 1.0}, "--train_dev must lie between 0 and 1, not be 1"),
        ({"fold": "6/5"}, "write it as 2/5, the second of five"),
        ({"fold": "1/1"}, "write it as 2/5, the second of five"),
        ({"fold": "first"}, "write it as 2/5, the second of five"),
        ({"fold": "1/5", "dev_source": "x"}, "--fold and --dev_source exclude each other"),
    ],
)
def test_sets_that_there_cannot_be_are_refused(options, message) -> None:
    with pytest.raises(UserError, match=message):
        Partition(**options)


def test_other_fields_in_the_dev_source_are_refused() -> None:
    with pytest.raises(UserError, match="--dev_source iris has other fields"):
        Partition(dev_source="iris").of(Sentences(), Iris()).load("train")


def test_the_command_line(tmp_path) -> None:
    images = load_application("image_classification")

    def read(*arguments: str) -> Configuration:
        return parse(images, arguments)[0]

    plain = json.loads(read().to_json())
    assert "split" not in plain
    assert "train_dev" not in plain
    asked = read("--split=auto", "--train_dev=0.1", "--dev_source=folders:dir")
    assert asked.partition == Partition(split="auto", train_dev=0.1, dev_source="folders:dir")
    assert json.loads(asked.to_json())["dev_source"] == "folders:dir"
    assert Configuration.from_json(asked.to_json()) == asked
    assert read().differences(asked)["split"] == (None, "auto")
    file = tmp_path / "config.json"
    file.write_text(asked.to_json())
    assert read("--config", str(file)) == asked
    classes = ["--source.classes=1,2", "--dev_source=digits_blurred"]
    dev = rows(assemble(read(*classes)).source)["validation"]
    assert {row["label"] for row in dev} == {b"1", b"2"}
    for wrong, message in (
        ("nowhere", "unknown dev_source 'nowhere'; there is: "),
        ("digits_blurred:dir", "--dev_source digits_blurred reads no folder; leave out :dir"),
    ):
        with pytest.raises(UserError, match=message):
            read(f"--dev_source={wrong}")


# Cross-validation --------------------------------------------------------------------------------


def test_mean_and_spread_of_folds() -> None:
    folds = [{"error": 0.1, "bleu": 3}, {"error": 0.3, "bleu": 3}, {"error": 0.2}]
    assert spread(folds) == {"error": (pytest.approx(0.2), pytest.approx(0.1))}


def test_folds_are_trained_and_continued(command, tmp_path) -> None:
    arguments = ["tabular_classification", "--dataset=iris", "--smoke", "--folds=2"]
    arguments += ["--architecture=softmax_regression", f"--runs_dir={tmp_path}", "--run=iris"]
    result = command(cross_validate.main, *arguments)
    assert result.status == 0, result.err
    assert "mean ± standard deviation of 2 folds:\naccuracy: " in result.out
    folder = tmp_path / "tabular_classification"
    assert sorted(path.name for path in folder.iterdir()) == ["iris-fold-1", "iris-fold-2"]
    for number in (1, 2):
        run = folder / f"iris-fold-{number}"
        assert json.loads((run / "config.json").read_text())["fold"] == f"{number}/2"
        assert list(json.loads((run / "scores.json").read_text())) == ["validation"]
    again = command(cross_validate.main, *arguments, "--resume")
    assert again.status == 0, again.err
    assert again.out.splitlines()[-5:] == result.out.splitlines()[-5:]
    assert command(cross_validate.main, "iris", "--folds=2").status == 2


# The culprit -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mismatched", [False, True])
def test_a_mismatch_is_told_from_variance(mismatched, command, tmp_path) -> None:
    """A network that has seen sharp digits alone, asked about sharp and about blurred ones."""
    options = ["--train_dev=0.2", "--epochs=20", "--run=digits", f"--runs_dir={tmp_path}"]
    options += ["--dev_source=digits_blurred"] if mismatched else []
    trained = command(train("image_classification"), *options)
    assert trained.status == 0, trained.err
    run = tmp_path / "image_classification" / "digits"
    result = command(diagnose.main, run, "--human_error=0.01")
    assert result.status == 0, result.err
    assert result.out.startswith("Data mismatch adds 0.") is mismatched
    assert ("Data mismatch adds" in result.out) is mismatched
