"""Error analysis: the textbook's dogs and wrong labels, slices, annotators, weighted errors."""

from __future__ import annotations

import csv
import shutil
import sys

import numpy as np
import pytest

from pipelines import diagnose, evaluate
from pipelines.diagnosis.annotators import annotators_errors, best_annotator, read_annotations
from pipelines.diagnosis.error_analysis import (
    MISLABELLED,
    advice_on_tags,
    assess_tags,
    is_marked,
    table_of_tags,
)
from pipelines.diagnosis.label_errors import by_class
from pipelines.diagnosis.slices import RARE, judgment, slices, table_of_slices
from pipelines.engine.application import UserError
from pipelines.tasks.classification import Classification

# Kinds of errors ---------------------------------------------------------------------------------


def marked(**counts: int) -> dict[str, np.ndarray]:
    """The first so many of a hundred errors are of each kind."""
    return {name.replace("_", " "): np.arange(100) < count for name, count in counts.items()}


@pytest.mark.parametrize(("dogs", "left"), [(8, 0.092), (5, 0.095), (50, 0.05)])
def test_all_dogs_put_right(dogs, left) -> None:
    """Of an error of 10 %, when so many of a hundred wrong answers are about dogs."""
    (tag,) = assess_tags(marked(dog=dogs), np.ones(100), error=0.1)
    assert tag.share == pytest.approx(dogs / 100)
    assert tag.gain == pytest.approx(dogs / 1000)
    assert tag.ceiling == pytest.approx(left)
    reach = 1.96 * np.sqrt(tag.share * (1 - tag.share) / 100)
    np.testing.assert_allclose(tag.bounds, [tag.share - reach, tag.share + reach], atol=0.02)


@pytest.mark.parametrize(
    ("error", "mislabelled", "labels", "others", "verdict"),
    [
        (0.10, 6, 0.006, 0.094, "other causes come first"),
        (0.02, 30, 0.006, 0.014, "correct labels first"),
    ],
)
def test_wrong_labels_in_the_dev_error(error, mislabelled, labels, others, verdict) -> None:
    marks = marked(dog=8, great_cat=43, blurry=61, **{MISLABELLED.replace(" ", "_"): mislabelled})
    tags = assess_tags(marks, np.ones(100), error)
    assert [tag.name for tag in tags[:2]] == ["blurry", "great cat"]
    (wrong,) = [tag for tag in tags if tag.name == MISLABELLED]
    assert (wrong.gain, wrong.ceiling) == pytest.approx((labels, others))
    kinds, advice = advice_on_tags(tags, error)
    assert kinds.startswith("Of the kinds of errors blurry is the largest")
    assert f"{labels:.4g} is due to wrong labels and {others:.4g} to other causes" in advice
    assert verdict in advice
    assert len(table_of_tags(tags).splitlines()) == 2 + 4


def test_where_errors_are_amounts_a_share_is_of_their_sum() -> None:
    (tag,) = assess_tags({"villa": np.array([True, False, False])}, np.array([6.0, 1, 3]), 5.0)
    assert (tag.share, tag.gain, tag.examples) == (0.6, 3.0, 1)


def test_what_nobody_marked_is_no_kind() -> None:
    assert assess_tags(marked(dog=0), np.ones(100), 0.1) == []
    assert advice_on_tags([], 0.1)[0].startswith("No example is marked")
    assert [is_marked(cell) for cell in ("x", "Y", " 1 ", "", " ", "No", "0", "-")] == (
        [True] * 3 + [False] * 5
    )


@pytest.fixture
def run(smoke_run, tmp_path):
    """After two steps a network is mostly wrong."""
    shutil.copytree(smoke_run("image_classification"), tmp_path / "run")
    return tmp_path / "run"


def test_a_sheet_is_written_marked_and_read(run, command, tmp_path) -> None:
    sheet = tmp_path / "errors.csv"
    result = command(diagnose.main, run, "--errors", sheet, "--error_count", 20)
    assert result.status == 0, result.err
    with sheet.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 20
    for row in rows:
        assert row["label"] != row["answer"]
        assert 0 < float(row["probability"]) < 1
        assert (tmp_path / row["picture"]).read_bytes().startswith(b"\x89PNG")
        assert row[MISLABELLED] == row["comments"] == ""
    again = command(diagnose.main, run, "--errors", sheet)
    assert again.status == 2
    assert "is there already" in again.err

    for number, row in enumerate(rows):
        row["smeared"] = "x" if number < 5 else ""
        row[MISLABELLED] = "y" if number < 2 else "n"
        row["comments"] = "hard to read"
    with sheet.open("w") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    result = command(diagnose.main, run, "--tags", sheet)
    assert result.status == 0, result.err
    assert "| smeared | 5 | 0.25 [" in result.out
    assert f"| {MISLABELLED} | 2 | 0.1 [" in result.out
    assert "comments" not in result.out
    assert "smeared" in (run / "error_analysis.md").read_text()

    strange = command(diagnose.main, run, "--tags", sheet, "--split", "test")
    assert strange.status == 2
    assert "is no example of this split" in strange.err


# Labels ------------------------------------------------------------------------------------------


def test_probabilities_are_put_in_the_order_of_the_classes() -> None:
    answers = {"labels": [[b"dog", b"cat"], [b"cat", b"dog"]], "probabilities": [[0.9, 0.1]] * 2}
    given, probabilities = by_class(["cat", "dog"], [b"dog", b"dog"], answers)
    np.testing.assert_array_equal(given, [1, 1])
    np.testing.assert_allclose(probabilities, [[0.1, 0.9], [0.9, 0.1]])


def test_without_cleanlab_it_is_said_how_to_install_it(run, command, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    result = command(diagnose.main, run, "--label_errors", tmp_path / "labels.csv")
    assert result.status == 2
    assert "python -m pip install 'cleanlab>=2.9,<3'" in result.err


def test_an_error_may_weigh_more_than_others() -> None:
    """The cat filter: a picture that must not be shown counts ten times."""
    labels = [["no", "yes"], ["no", "yes"], ["yes", "no"], ["no", "yes"]]
    answers = {"labels": labels, "probabilities": [[0.9, 0.1]] * 4}
    truth = {"label": [b"no", b"yes", b"no", b"yes"]}
    scores = Classification(error_weights="yes=10").scores(answers, truth)
    assert scores.values["error"] == 0.75
    assert scores.values["weighted_error"] == pytest.approx((10 + 1 + 10) / (1 + 10 + 1 + 10))
    np.testing.assert_array_equal(scores.errors, [0, 1, 1, 1])
    assert "weighted_error" not in Classification().scores(answers, truth).values
    for wrong in ("yes", "=3", "yes=0", "yes=many"):
        with pytest.raises(UserError, match=f"--task.error_weights {wrong}: write it as"):
            Classification(error_weights=wrong)


# Slices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "average", "worst"), [((3, 7, 5, 9), 0.06, 0.09), ((5, 6, 5, 10), 0.065, 0.1)]
)
def test_the_mean_over_markets_and_the_worst_market(percent, average, worst) -> None:
    markets = {"US": 1000, "China": 500, "India": 300, "other": 100}
    values = np.repeat([name.encode() for name in markets], list(markets.values()))
    shares = zip(markets.values(), percent, strict=True)
    errors = np.concatenate([np.arange(size) < size * share / 100 for size, share in shares])
    found = slices(list(values), errors)
    assert found[0].value == "other"
    assert found[0].error == pytest.approx(worst)
    assert np.mean([one.error for one in found]) == pytest.approx(average)
    assert f"of the slices {average:.4g}; worst: market other, {worst:.4g} [" in judgment(
        "market", found
    )
    assert len(table_of_slices("market", found).splitlines()) == 2 + 4


def test_a_worst_slice_may_be_chance() -> None:
    values = [b"a"] * 1000 + [b"b"] * 20
    assert "may be chance" in judgment("x", slices(values, np.arange(1020) % 10 == 0))
    surely = np.concatenate([np.arange(1000) % 10 == 0, np.arange(20) % 2 == 0])
    assert "may be chance" not in judgment("x", slices(values, surely))


def test_numbers_are_cut_into_quarters_and_rare_values_are_one_slice() -> None:
    ages = np.append(np.arange(100.0), [np.nan] * 10)
    errors = np.append(np.arange(100) >= 75, [0.0] * 10)
    found = slices(list(ages), errors)
    assert {one.value: one.examples for one in found} == {
        "below 24.75": 25,
        "24.75 to 49.5": 25,
        "49.5 to 74.25": 25,
        "from 74.25": 25,
        "missing": 10,
    }
    assert (found[0].value, found[0].error) == ("from 74.25", 1.0)
    rare = slices([b"often"] * 30 + [b"once", b"twice", b"twice"], np.zeros(33))
    assert {one.value: one.examples for one in rare} == {"often": 30, RARE: 3}


def test_evaluate_by_slices(smoke_run, command, tmp_path) -> None:
    shutil.copytree(smoke_run("tabular_classification"), tmp_path / "run")
    result = command(evaluate.main, tmp_path / "run", "--slice", "label")
    assert result.status == 0, result.err
    assert "| label | examples | mean error |" in result.out
    assert "worst: label" in result.out
    unknown = command(evaluate.main, tmp_path / "run", "--slice", "colour")
    assert unknown.status == 2
    assert "unknown field 'colour'; there is: " in unknown.err


# Annotators --------------------------------------------------------------------------------------


def birds(wrong: dict[str, int]) -> dict[str, list[str]]:
    """Answers to a thousand pictures, so many of which are wrong, the first of them."""
    people = {name: ["no"] * n + ["bird"] * (1000 - n) for name, n in wrong.items()}
    return {"label": ["bird"] * 1000, **people}


def test_the_best_annotator_stands_for_the_human() -> None:
    answers = birds({"expert 1": 3, "expert 2": 5, "person 1": 10, "person 2": 12})
    errors = {name: wrong.mean() for name, wrong in annotators_errors(answers).items()}
    # Three of four are wrong about the first five; about the next five they are divided.
    assert errors.pop("the majority") == pytest.approx(5 / 995)
    assert errors == pytest.approx(
        {"expert 1": 0.003, "expert 2": 0.005, "person 1": 0.01, "person 2": 0.012}
    )
    rung = best_annotator(answers)
    assert (rung.name, rung.error, rung.examples) == ("human", pytest.approx(0.003), 1000)


def test_together_they_may_be_better_than_the_best() -> None:
    given = {name: ["a"] * 30 for name in "xyz"} | {"label": ["a"] * 30}
    for number, name in enumerate("xyz"):
        given[name][number] = "b"
    assert best_annotator(given).error == 0


def test_without_truth_the_others_are_it() -> None:
    given = {name: ["a"] * 20 for name in "wxyz"}
    given["w"][0] = given["x"][1] = given["x"][2] = "b"
    given["z"][:] = [""] * 15 + ["b"] * 5  # answered few
    errors = annotators_errors(given)
    assert "z" not in errors
    assert {name: wrong.sum() for name, wrong in errors.items()} == {"w": 1, "x": 2, "y": 0}


def test_a_file_of_annotators(tmp_path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("id,label,Ada,Ben\n1,cat,cat,dog\n2,dog,dog,\n")
    answers = read_annotations(file)
    assert answers == {"label": ["cat", "dog"], "Ada": ["cat", "dog"], "Ben": ["dog", ""]}
    file.write_text("id,Ada,Ben\n1,cat,dog\n")
    with pytest.raises(UserError, match="three or more without"):
        read_annotations(file)
    with pytest.raises(UserError, match="cannot read"):
        read_annotations(tmp_path / "nobody.csv")
