"""Search or model at fault: planted errors of both kinds, the rules, the command on real runs."""

import json
import re
import shutil

import keras
import numpy as np
import pytest

from models.layers.reserved_tokens import END
from pipelines import diagnose
from pipelines.diagnosis.findings import Request, table
from pipelines.diagnosis.hypotheses import (
    Hypotheses,
    Pairs,
    preferred,
    references,
    writer,
)
from pipelines.diagnosis.search_or_model import Trial, advice_on_cause, blame, sufficient
from pipelines.engine.answers import open_run
from pipelines.engine.application import UserError
from pipelines.engine.bootstrap import mean
from pipelines.tasks.decoding import Search
from pipelines.tasks.task import Scores
from pipelines.tasks.translation import Translation
from tests.language_models import all_answers, random_table
from tests.test_decoding import GARDEN_PATH, kinds
from tests.test_decoding import table as hand_made

LENGTH = 5


def found_by(model, task, count=1):
    response = task.respond(model, kinds(count))
    tokens, scores = (keras.ops.convert_to_numpy(response[n])[:, 0] for n in ("tokens", "scores"))
    return Hypotheses.of(tokens, scores)


def written_by_humans(model, task, *targets):
    """Hypotheses of given tokens, scored by teacher forcing."""
    width = max(map(len, targets))
    ids = np.array([[*target, *[0] * (width - len(target))] for target in targets], "int32")
    forced = task.forced(model, kinds(len(targets)) | {"target": ids})
    return Hypotheses.of(ids, keras.ops.convert_to_numpy(forced["scores"]))


def causes(model, task, *targets):
    found, human = found_by(model, task, len(targets)), written_by_humans(model, task, *targets)
    wrong = [one != other for one, other in zip(found.tokens, human.tokens, strict=True)]
    return blame(found, human, wrong, task, task.length_penalty).tolist()


def translation(**options):
    options = {"maximum_length": LENGTH, "beam_width": 1, "answers": 1} | options
    return Translation(**{"length_penalty": 0.0} | options)


def test_a_garden_path_is_the_search_s_fault():
    """Greedy search is led into [4, END] (0.15), where [5, END] has 0.36; a beam of 2 is not."""
    model = hand_made(**GARDEN_PATH)
    assert causes(model, translation(), [5, END]) == ["search"]
    assert causes(model, translation(beam_width=2), [5, END]) == [""]


def test_a_model_that_prefers_a_wrong_sentence_is_at_fault():
    """[4, 5, END] is wanted (0.1·0.9·0.9), [5, END] is more probable (0.8·0.9) at any width."""
    model = hand_made(
        begin=[0, 0, 0.1, 0, 0.1, 0.8], four=[0, 0, 0.1, 0, 0, 0.9], five=[0, 0, 0.9, 0, 0.1, 0]
    )
    for width in (1, 2, 4):
        assert causes(model, translation(beam_width=width), [4, 5, END]) == ["model"]


def test_the_objective_that_judges_is_that_of_the_search():
    """[END] has 0.3 and [4, 5, END] 0.252: which of them is better is for the penalty to say."""
    model = hand_made(
        begin=[0, 0, 0.3, 0.1, 0.6, 0], four=[0, 0, 0.1, 0.2, 0, 0.7], five=[0, 0, 0.6, 0.4, 0, 0]
    )
    end, long = (written_by_humans(model, translation(), x) for x in ([END], [4, 5, END]))
    for alpha, better in ((0.0, "model"), (0.1, "model"), (0.2, "search"), (1.0, "search")):
        search = Search(length_penalty=alpha)
        assert blame(end, long, [True], search, alpha).tolist() == [better]
    np.testing.assert_allclose(long.objectives(Search(), 1.0), [np.log(0.252) / 3], rtol=1e-5)
    gnmt = Search(length_normalization="gnmt")
    np.testing.assert_allclose(
        long.objectives(gnmt, 0.6), [np.log(0.252) / (8 / 6) ** 0.6], rtol=1e-5
    )


@pytest.mark.parametrize("form", ["power", "gnmt"])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("width", [1, 2, 64])
def test_blame_is_what_the_complete_list_of_answers_says(width, alpha, form):
    """Against every answer there is; a search that misses nothing is never at fault."""
    blamed = set()
    for seed in range(3):
        model = random_table(seed)
        task = translation(
            maximum_length=3, beam_width=width, length_penalty=alpha, length_normalization=form
        )
        found = found_by(model, task, 4)
        normalizer = {"power": lambda n: n**alpha, "gnmt": lambda n: ((5 + n) / 6) ** alpha}[form]
        for kind in range(4):
            answers = all_answers(model, kind, 3, normalizer)
            one = Hypotheses(found.tokens[kind : kind + 1], found.scores[kind : kind + 1])
            (reached,) = [o for _, o, tokens in answers if tuple(tokens) == one.tokens[0]]
            for ended, objective, tokens in answers[::5]:
                human = Hypotheses([tuple(tokens)], np.array([model.score(kind, tokens)]))
                expected = "search" if objective > reached else "model"
                if not ended:
                    expected = "unknown"
                if tuple(tokens) != one.tokens[0]:
                    assert blame(one, human, [True], task, alpha).tolist() == [expected]
                    blamed.add(expected)
    if width == 1:
        assert blamed == {"search", "model", "unknown"}
    if width == 64:
        assert "search" not in blamed


def test_objectives_are_those_of_the_search():
    model = random_table(5, steps=6)
    task = translation(beam_width=3, length_penalty=0.7, maximum_length=6)
    response = task.respond(model, kinds(4))
    found = found_by(model, task, 4)
    expected = keras.ops.convert_to_numpy(response["objectives"])[:, 0]
    np.testing.assert_allclose(found.objectives(task, 0.7), expected, rtol=1e-5)
    forced = written_by_humans(model, task, *found.tokens)
    np.testing.assert_allclose(forced.scores, found.scores, rtol=1e-5)


def test_rules_for_ties_cuts_and_lost_text():
    search = Search()
    found = Hypotheses([(4, END), (4, END), (4, 4), (4, END)], np.array([-1.0, -1.0, -1.0, -1.0]))
    human = Hypotheses([(5, END), (4, END), (5, END), (4, 5)], np.array([-1.0, -1.0, -9.0, -0.1]))
    wrong = np.ones(4, bool)
    # Equal scores; the same tokens; an answer that does not end and is still more probable; a
    # reference that is cut, whose score is not that of all of it.
    expected = ["model", "preprocessing", "model", "unknown"]
    assert blame(found, human, wrong, search, 0.0).tolist() == expected
    assert blame(found, human, ~wrong, search, 0.0).tolist() == [""] * 4
    close = Hypotheses(human.tokens, human.scores + 1e-6)
    assert not preferred(close, human, search, 0.0).any(), "less than rounding"


def trial(values, beam_width=1):
    scores = Scores({"good": float(np.mean(values))}, "", np.zeros(1), {"good": mean(values)})
    return Trial(beam_width, 0.0, 1.0, None, [], scores, np.zeros(1), 1.0)


def test_the_narrowest_beam_within_one_standard_error_is_taken():
    draw = np.random.default_rng(0)
    good = draw.random(500) < 0.5
    slightly_worse, much_worse = good.copy(), good.copy()
    slightly_worse[np.flatnonzero(good)[:2]] = False
    slightly_worse[np.flatnonzero(~good)[0]] = True
    much_worse[np.flatnonzero(good)[:20]] = False
    measured = [much_worse, slightly_worse, good]
    trials = [trial(values, width) for width, values in enumerate(measured)]
    assert sufficient(trials).beam_width == 1
    assert sufficient([trials[0], trials[2]]).beam_width == 2
    assert sufficient(trials[:1]).beam_width == 0


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"": 50, "search": 40, "model": 5}, "Work on the search"),
        ({"": 50, "search": 5, "model": 40}, "Work on the model"),
        ({"": 50, "search": 5, "model": 5}, "Neither search nor model"),
        ({"": 50, "preprocessing": 3}, "None of 53 answers"),
        ({"": 50}, "None of 50 answers"),
    ],
)
def test_advice(counts, words):
    assert advice_on_cause(np.repeat(list(counts), list(counts.values()))).startswith(words)


def test_text_stays_in_its_cell():
    assert table(["a", "b"], [["1|2", "3\n4"]]).splitlines()[2] == r"| 1\|2 | 3 4 |"


def test_the_command_on_a_real_run(command, smoke_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(smoke_run("machine_translation"), folder)
    before = set(folder.iterdir())
    result = command(
        diagnose.main,
        *(folder, "--ladder_examples", 5, "--examples", 7),
        *("--beam_widths", 1, 3, "--length_penalties", 0, 1),
    )
    assert result.status == 0, result.err
    assert f"diagnosis: {folder}/diagnosis.md" in result.out
    assert {file.name for file in set(folder.iterdir()) - before} == {
        "diagnosis.md",
        "error_ladder.png",
        "margins.png",
        "searches.png",
    }
    text = (folder / "diagnosis.md").read_text()
    for picture in re.findall(r"\]\((.+?)\)", text):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections[0] == "What to work on"
    assert sections[1] == "Bias or variance"
    assert {"Search or model", "Beam width", "Length penalty", "Examples to read"} <= set(sections)
    widths = re.findall(r"^\| (\d+)\*? \| ([\d.]+) \|", text, re.MULTILINE)
    assert [width for width, penalty in widths[:3]] == ["1", "3", "4"], "the run's own is 4"
    assert [penalty for _, penalty in widths[3:]] == ["0", "0.6", "1"]
    # Nothing is learned in two steps, so every answer is wrong.
    judged = dict(re.findall(r"^\| (search|model) \| (\d+) \|", text, re.MULTILINE))
    assert sum(map(int, judged.values())) == 7


def test_answers_are_those_of_the_evaluation(smoke_run):
    """The run's own search, again, in batches by length: the very answers of the predictions."""
    folder = smoke_run("machine_translation")
    rows = [json.loads(x) for x in (folder / "predictions/test.jsonl").read_text().splitlines()]
    opened = open_run(folder)
    pairs = Pairs.read(opened.assembly.source, opened.preprocessor, "test", len(rows))
    found, texts, _ = writer(opened, pairs, opened.task)(opened.task.length_penalty)
    assert texts == [row["texts"][0] for row in rows]
    np.testing.assert_allclose(found.scores, [row["scores"][0] for row in rows], rtol=1e-4)
    human = references(opened, pairs)
    assert pairs.raw["target"] == [row["target"] for row in rows]
    np.testing.assert_allclose(human.scores, [row["reference_scores"] for row in rows], rtol=1e-4)
    assert human.lengths.tolist() == [row["reference_tokens"] for row in rows]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--split", "dev"], "unknown split 'dev'; there is: "),
        (["--examples", "0"], "--examples must be at least 1, not 0"),
        (["--ladder_examples", "0"], "--ladder_examples must be at least 1, not 0"),
        (["--human_error", "-1"], "--human_error is an error of 0 or more, not -1"),
        (["--tolerance", "nan"], "--tolerance is an error of 0 or more, not nan"),
        (["--beam_widths", "4", "0"], "--beam_widths must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(options, words, command, smoke_run):
    result = command(diagnose.main, smoke_run("machine_translation"), *options)
    assert result.status == 2
    assert words in result.err
    assert result.err.count("\n") == 1


def test_runs_without_a_model_are_refused(command, smoke_run, tmp_path):
    unfinished = tmp_path / "machine_translation" / "half"
    unfinished.mkdir(parents=True)
    shutil.copy(smoke_run("machine_translation") / "config.json", unfinished)
    half = command(diagnose.main, unfinished)
    assert half.status == 2
    assert "is not finished" in half.err
    nothing = command(diagnose.main, tmp_path)
    assert nothing.status == 2
    assert "is no run folder" in nothing.err


def test_requests_are_checked():
    with pytest.raises(UserError, match="--examples must be at least 1"):
        Request(examples=-1)
