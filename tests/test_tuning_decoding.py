"""Searches for how a trained model decodes: what a trial is, resumed, refused, used."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pipelines.engine.answers import open_run, searching
from pipelines.engine.application import UserError
from pipelines.engine.evaluate import answer_split, changed_name, evaluate
from pipelines.engine.run import Run
from serving.export import export_run
from tests.conftest import ROOT
from tuning import decoding
from tuning.definition import as_options
from tuning.folder import DEFAULT, Folder
from tuning.tuned_decoding import DecodingDefinition

TRANSLATION, CAPTIONING = "machine_translation", "image_captioning"
EXAMPLES = 24
NARROW = "--vary=task.beam_width=integer(1,2)"


def folder_of(path, application: str = TRANSLATION) -> Folder:
    return Folder(path / application / "small", DecodingDefinition)


def written(folder: Folder, number: int) -> list[str]:
    return json.loads((folder.path / "trials" / f"{number:04d}.json").read_text())


def assert_as_evaluated(folder: Folder, number: int) -> None:
    """A trial's texts and figures are those of an evaluation that is given its options."""
    trial, definition = folder.trial(number), folder.definition
    trained = Run(definition.trained)
    changes = trained.configuration.differences(definition.configuration(trial.hyperparameters))
    opened = open_run(trained.path, as_options({name: new for name, (_, new) in changes.items()}))
    for name, value in trial.hyperparameters.items():
        assert getattr(opened.task, name.removeprefix("task.")) == value
    evaluation = answer_split(opened, "validation", definition.examples)
    texts = [texts[0].decode() for texts in evaluation.answers["texts"]]
    assert written(folder, number) == texts
    for name, value in (trial.measures | {definition.objective: trial.score}).items():
        if name.startswith("val_"):
            assert evaluation.scores.values[name.removeprefix("val_")] == pytest.approx(value)


@pytest.fixture(scope="module")
def searched(tmp_path_factory, smoke_run) -> Folder:
    """Three trials of two widths, with a model that has hardly learned."""
    path = tmp_path_factory.mktemp("searches")
    where = ("--run=small", f"--runs_dir={path}")
    options = (NARROW, f"--examples={EXAMPLES}", "--trials=3", "--seed=1")
    decoding.main([str(smoke_run(TRANSLATION)), *where, *options])
    return folder_of(path)


def test_every_trial_is_within_the_bounds_and_recorded(searched) -> None:
    found = searched.search()
    assert [trial.number for trial in found.trials] == [1, 2, 3]
    assert found.objective == "val_exact_match"
    assert found.default is not None
    for trial in found.trials:
        assert trial.status == "completed"
        assert trial.hyperparameters.keys() == {"task.beam_width", "task.length_penalty"}
        assert trial.hyperparameters["task.beam_width"] in (1, 2)
        assert 0 <= trial.hyperparameters["task.length_penalty"] <= 2
        assert trial.measures.keys() == {"val_bleu", "val_chrf", "ms_per_text"}
        assert trial.measures["ms_per_text"] > 0
        assert len(written(searched, trial.number)) == EXAMPLES
    assert len({tuple(written(searched, number)) for number in range(4)}) > 1
    assert (searched.path / "report.md").exists()


@pytest.mark.parametrize("number", [DEFAULT, 1])
def test_a_trial_is_what_evaluation_finds(searched, number) -> None:
    assert_as_evaluated(searched, number)


def test_a_search_goes_on_where_it_ended(searched, smoke_run, tmp_path, command) -> None:
    shutil.copytree(searched.path, folder_of(tmp_path).path)
    where = (smoke_run(TRANSLATION), "--run=small", f"--runs_dir={tmp_path}", "--resume")
    resumed = command(decoding.main, *where, "--trials=4")
    assert resumed.status == 0, resumed.err
    before, after = searched.search().trials, folder_of(tmp_path).search().trials
    assert after[:3] == before
    assert [trial.number for trial in after] == [1, 2, 3, 4]
    refused = command(decoding.main, *where, "--examples=7", "--vary=task.beam_width=integer(1,3)")
    assert refused.status == 2
    assert f"not with examples: {EXAMPLES} → 7; task.beam_width: high 2 → 3" in refused.err


def test_the_best_is_held_against_the_run_s_own_and_named(searched, smoke_run, command) -> None:
    run = smoke_run(TRANSLATION)
    where = ("--run=small", f"--runs_dir={searched.path.parents[1]}", "--resume")
    done = command(decoding.main, run, *where)
    assert done.status == 0, done.err
    # Nothing is learned in two steps, so every answer is wrong, however it is searched for.
    assert "the run's own search: val_exact_match 0\n" in done.out
    best = searched.search().ranked()[0]
    assert f"best: trial {best.number}, val_exact_match 0, a gain of 0 [0, 0]\n" in done.out
    assert f"that is no better than the run's own, on the {EXAMPLES} examples of va" in done.out
    *_, evaluating, exporting = done.out.splitlines()
    assert evaluating.startswith(f"  python -m pipelines.evaluate {run} --task.")
    assert exporting.startswith(f"  python -m serving.export {run} --task.")
    options = evaluating.split()[4:]
    assert exporting.split()[4:] == options
    configuration = searching(Run(run).configuration, options)
    assert configuration.to_json() == searched.best_file.read_text()
    assert configuration.task["beam_width"] == best.hyperparameters["task.beam_width"]
    assert configuration.task["answers"] == configuration.task["beam_width"]


def test_another_search_is_evaluated_under_a_name_of_its_own(smoke_run, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(smoke_run(TRANSLATION), folder)
    report, scores = (folder / "report.md").read_text(), Run(folder).scores
    opened = open_run(folder, ["--task.beam_width=2", "--task.answers", "1"])
    assert changed_name(opened, "validation") == "validation-beam_width-2-answers-1"
    evaluation = evaluate(opened, "validation", limit=3, look_inside=False)
    assert all(len(texts) == 1 for texts in evaluation.answers["texts"])
    run = Run(folder)
    assert run.scores == scores | {"validation-beam_width-2-answers-1": run.scores.popitem()[1]}
    assert len(run.predictions("validation-beam_width-2-answers-1")) == 3
    assert (folder / "report.md").read_text() == report
    beside = (folder / "validation-beam_width-2-answers-1" / "report.md").read_text()
    assert "With --task.beam_width 2, --task.answers 1." in beside


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--task.beam_width=0"], "--task.beam_width must be at least 1, not 0"),
        (["--task.beam_width=2"], "a beam of width 2 has no 4 answers; give a larger --task.beam_"),
        (["--task.beam_wdith=8"], "unknown option --task.beam_wdith; there is: --task.beam_width"),
        (["--task.beam_width=wide"], "--task.beam_width"),
        (["--task.length_normalization=gmnt"], "gmnt is no choice; there is: gnmt, power"),
        (["--task.label_smoothing=0.1"], "unknown option --task.label_smoothing; there is: "),
        (["--epochs=3"], "unknown option --epochs; there is: "),
    ],
)
def test_what_no_search_can_be_is_refused(options, words, smoke_run) -> None:
    with pytest.raises(UserError) as refused:
        searching(Run(smoke_run(TRANSLATION)).configuration, options)
    assert words in str(refused.value)


def test_a_run_that_does_not_search_is_refused(smoke_run, command) -> None:
    run = smoke_run("house_prices")
    with pytest.raises(UserError, match=r"searches for no texts, and so has no option --task\.be"):
        open_run(run, ["--task.beam_width=2"])
    refused = command(decoding.main, run)
    assert (refused.status, refused.err) == (
        2,
        f"error: {run} is a run of house_prices, which searches for no texts\n",
    )


def test_runs_without_a_model_are_refused(smoke_run, tmp_path, command) -> None:
    unfinished = tmp_path / TRANSLATION / "half"
    unfinished.mkdir(parents=True)
    shutil.copy(smoke_run(TRANSLATION) / "config.json", unfinished)
    for run, words in ((unfinished, "is not finished"), (tmp_path / "no", "is no run folder")):
        refused = command(decoding.main, run)
        assert refused.status == 2
        assert words in refused.err
        assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--objective=val_blue"], "unknown --objective 'val_blue'; there is: val_bleu, "),
        (["--objective=val_chrf"], "unknown --objective 'val_chrf'; there is: "),
        (["--limit=latency<=3"], "unknown measure in --limit 'latency'; there is: "),
        (["--limit=fast"], "'fast' is no limit"),
        (["--vary=task.beam_width=integer(4,2)"], "--task.beam_width are reversed or the same"),
        (["--vary=task.beam_width=linear(1,8)"], "--task.beam_width"),
        (["--vary=task.beam_width=integer(0,8)"], "--task.beam_width must be at least 1, not 0"),
        (["--vary=learning_rate=log(1e-4,1)"], "unknown option to vary 'learning_rate'; there is"),
        (["--vary=task.length_normalization=choice(a)"], "a is no choice; there is: "),
        (["--examples=0"], "--examples must be at least 1, not 0"),
        (["--trials=0"], "--trials must be at least 1, not 0"),
        (["--resume"], "--resume needs --run NAME"),
        (["--resume", "--run=none"], "is no folder of a search"),
    ],
)
def test_what_cannot_be_searched_is_refused(options, words, smoke_run, tmp_path, command) -> None:
    refused = command(decoding.main, smoke_run(TRANSLATION), f"--runs_dir={tmp_path}", *options)
    assert refused.status == 2
    assert words in refused.err
    assert refused.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_captions_are_searched_for_alike(smoke_run, tmp_path, command) -> None:
    options = ("--vary=task.beam_width=choice(3)", "--trials=1", "--examples=6")
    where = ("--run=small", f"--runs_dir={tmp_path}")
    done = command(decoding.main, smoke_run(CAPTIONING), *options, *where)
    assert done.status == 0, done.err
    folder = folder_of(tmp_path, CAPTIONING)
    assert folder.search().objective == "val_exact_scene"
    assert "val_cider_d" in folder.trial(1).measures
    assert_as_evaluated(folder, 1)


@pytest.mark.slow
def test_a_killed_search_keeps_its_trials_and_limits_decide(smoke_run, tmp_path) -> None:
    run, folder = smoke_run(TRANSLATION), folder_of(tmp_path)
    where = ("--run=small", f"--runs_dir={tmp_path}")
    options = ("--trials=5", "--examples=200", "--tuner=bayesian", "--limit=ms_per_text<=1e-9")

    def start(*more: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "tuning.decoding", str(run), *where, *options, *more],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    process, deadline = start(), time.monotonic() + 300
    while folder.trial(2) is None:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = folder.trial(1)
    assert first.status == "completed"
    process = start("--resume")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 2
    assert output.splitlines()[-1] == "error: no trial keeps the limits: see the report"
    trials = folder.search().trials
    assert trials[0] == first
    assert [trial.broken for trial in trials] == [("ms_per_text<=1e-9",)] * 5


@pytest.mark.slow
def test_an_export_searches_as_it_is_told(smoke_run, tmp_path) -> None:
    import tensorflow as tf

    search = ["--task.beam_width=2", "--task.answers=2", "--task.length_penalty=1.5"]
    version = export_run(smoke_run(TRANSLATION), search=search, model_base_path=tmp_path / "m")
    opened = open_run(smoke_run(TRANSLATION), search)
    inputs = opened.sample_inputs()["serving_default"]
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    answers = served(**{name: tf.constant(values) for name, values in inputs.items()})
    expected = opened.functions()["serving_default"](**inputs)
    assert answers["texts"].numpy().tolist() == expected["texts"].numpy().tolist()
    assert answers["texts"].shape == (4, 2)
