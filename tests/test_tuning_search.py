"""Searches as a user meets them: what they leave behind, resumed, replayed and killed."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import keras_tuner as kt
import numpy as np
import pytest

from pipelines.engine.application import load_application
from pipelines.engine.assembly import assemble
from pipelines.engine.bootstrap import digits
from pipelines.engine.cli import train_run
from pipelines.engine.configuration import Command, parse
from pipelines.engine.data import Examples, raw_batches
from pipelines.engine.run import Run
from pipelines.engine.train import prepare_backend
from pipelines.sources.partition import Partition
from tests.conftest import ROOT, run_python
from tests.served_models import free_port
from tuning import search
from tuning.folder import DEATHS, DEFAULT, Folder
from tuning.hypermodel import LastExamples, TunedApplication
from tuning.trials import Trial

APPLICATION = "house_prices"
LONG = ("--epochs=12", "--architecture=linear_regression")
TINY = ("--epochs=2", "--batch_size=512", "--schedule=constant", "--preprocess.pieces=4")


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Folder:
    """A search from coarse to fine, one of whose trials is too large."""
    path = tmp_path_factory.mktemp("searches")
    search.main(
        [
            *(APPLICATION, "--trials=3", "--refine=1", "--run=small", f"--runs_dir={path}"),
            *("--vary=model.units=choice(8,9,600)", "--limit=parameters<=21000", "--priority=1"),
            *("--seed=1", "--default", *TINY),
        ]
    )
    return Folder(path / APPLICATION / "small")


def test_every_trial_is_recorded(searched) -> None:
    found = searched.search()
    assert [trial.number for trial in found.trials] == [1, 2, 3]
    assert [trial.round for trial in found.trials] == [0, 0, 1]
    for trial in found.trials:
        assert trial.status == "completed"
        assert trial.score == min(trial.curve)
        assert len(trial.curve) == 2
        assert trial.measures.keys() == {"val_loss", "parameters"}
        assert bool(trial.broken) == (trial.measures["parameters"] > 21000)
        run = searched.run(trial.number)
        assert run.finished
        assert run.configuration.recipe.learning_rate == trial.hyperparameters["learning_rate"]
        assert run.configuration.model["units"] == trial.hyperparameters["model.units"]
    assert {bool(trial.broken) for trial in found.trials} == {False, True}
    began = [trial.began for trial in found.trials]
    assert began == sorted(began)
    assert (searched.path / "report.md").exists()


def test_the_recipe_is_one_of_those_that_the_box_shrinks_around(searched) -> None:
    ranked = searched.ranked_with_default()
    (own,) = (trial for trial in ranked if trial.number == DEFAULT)
    assert own.score == searched.search().default
    rate = searched.run(DEFAULT).configuration.recipe.learning_rate
    assert own.hyperparameters["learning_rate"] == rate
    assert [trial for trial in ranked if trial is not own] == searched.search().ranked()


def test_the_best_trial_replays_with_the_same_figures(searched, tmp_path) -> None:
    best = searched.search().ranked()[0]
    assert not best.broken
    configuration, _ = parse(load_application(APPLICATION), [f"--config={searched.best_file}"])
    assert configuration == searched.run(best.number).configuration
    prepare_backend(configuration.recipe)
    run = train_run(assemble(configuration), Command(run="replay", runs_dir=str(tmp_path)))
    objective = searched.definition.objective
    assert tuple(metrics[objective] for metrics in run.history) == best.curve


def test_a_finished_search_goes_on_where_it_ended(searched, command) -> None:
    arguments = (APPLICATION, "--run=small", f"--runs_dir={searched.runs_dir}", "--resume")
    before = searched.search()
    resumed = command(search.main, *arguments)
    assert resumed.status == 0, resumed.err
    assert f"best: trial {before.ranked()[0].number}, {before.objective} " in resumed.out
    assert f"--config {searched.best_file}" in resumed.out
    assert searched.search() == before
    refused = command(search.main, *arguments, "--vary=model.units=integer(8,9)", "--seed=4")
    assert refused.status == 2
    assert "not with seed: 1 → 4; model.units: scale choice → integer, " in refused.err
    assert searched.search() == before


def test_examples_are_read_anew_only_for_other_data() -> None:
    assembly = assemble(parse(load_application(APPLICATION), ["--preprocess.pieces=4"])[0])
    assembly.preprocessor.fit(raw_batches(assembly.source, "train"))
    last = LastExamples()

    def read(options: str) -> Examples:
        return last.read(options, assembly.source, assembly.preprocessor, "validation")

    first = read("some")
    assert read("some") is first
    other = read("others")
    assert other is not first
    assert other.count == first.count
    assert read("some") is not first  # which was dropped


@pytest.fixture(scope="module")
def folded(tmp_path_factory) -> Folder:
    """A trial that is trained in every execution of every fold."""
    path = tmp_path_factory.mktemp("folds")
    options = ("--trials=1", "--folds=2", "--executions=2", "--priority=1", *TINY, "--epochs=1")
    search.main([APPLICATION, "--run=folded", f"--runs_dir={path}", *options])
    return Folder(path / APPLICATION / "folded")


def test_a_trial_scores_the_mean_over_its_folds_and_executions(folded) -> None:
    (trial,) = folded.search().trials
    runs = folded.runs(1)
    parts = [run.configuration.partition.fold for run in runs]
    assert parts == ["1/2", "2/2", "1/2", "2/2"]
    assert [run.configuration.recipe.seed for run in runs] == [0, 0, 1, 1]
    objective = folded.definition.objective
    scores = [min(metrics[objective] for metrics in run.history) for run in runs]
    assert len(set(scores)) == 4
    assert trial.score == pytest.approx(np.mean(scores))
    assert trial.spread == pytest.approx(np.std(scores, ddof=1))
    assert f" ± {digits(trial.spread)}**" in (folded.path / "report.md").read_text()


def test_the_best_of_folds_replays_on_the_whole_training_split(folded) -> None:
    configuration, _ = parse(load_application(APPLICATION), [f"--config={folded.best_file}"])
    run = folded.run(1).configuration
    assert run.partition.fold == "1/2"
    assert configuration == dataclasses.replace(run, partition=Partition())


def test_folds_are_not_changed_on_the_way(folded, command) -> None:
    arguments = (APPLICATION, "--run=folded", f"--runs_dir={folded.runs_dir}", "--resume")
    refused = command(search.main, *arguments, "--folds=3")
    assert refused.status == 2
    assert refused.err.endswith("as it was begun; not with folds: 2 → 3\n")


def test_too_few_examples_for_the_folds_end_a_search_with_the_reason(tmp_path, command) -> None:
    file = tmp_path / "few.csv"
    file.write_text("size,price\n" + "".join(f"{row},{2 * row}\n" for row in range(1, 9)))
    options = ("--dataset=csv", f"--data_dir={file}", "--source.target=price", "--epochs=1")
    failed = command(search.main, APPLICATION, *options, "--folds=90", f"--runs_dir={tmp_path}")
    assert failed.status == 2
    assert failed.err.startswith("error: 3 trials failed in a row, the last one so: too few exampl")
    assert failed.err.count("\n") == 1


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Folder:
    """Three trials that learn, and one with a learning rate so small that it does not."""
    path = tmp_path_factory.mktemp("stopping")
    rates = "--vary=learning_rate=choice(0.01,0.011,0.012,1e-9)"
    options = ("--tuner=grid", "--priority=1", "--trials=4", "--stop_hopeless", *TINY)
    search.main([APPLICATION, "--run=rule", f"--runs_dir={path}", *options, "--epochs=4", rates])
    return Folder(path / APPLICATION / "rule")


def test_a_hopeless_trial_is_ended_early_and_recorded_so(stopped) -> None:
    *others, hopeless = stopped.search().trials
    assert [trial.status for trial in others] == ["completed"] * 3
    assert [len(trial.curve) for trial in others] == [4] * 3
    assert hopeless.status == "stopped"
    assert len(hopeless.curve) == len(stopped.run(4).history) < 4
    assert hopeless not in stopped.search().ranked()
    text = (stopped.path / "report.md").read_text()
    assert "4 trials of 1 hyperparameters, 1 stopped early;" in text
    assert "## Stopped early" in text


def test_a_trial_that_was_stopped_stays_so_when_it_is_taken_up_again(stopped) -> None:
    recorded = stopped.trial(4)
    lost = dataclasses.replace(recorded, status="running", score=None, measures={}, curve=())
    configuration = stopped.definition.configuration(recorded.hyperparameters)
    again = TunedApplication(stopped).fit(kt.HyperParameters(), configuration, lost)
    assert again == recorded


def test_a_folder_is_not_searched_twice(searched, command) -> None:
    where = ("--run=small", f"--runs_dir={searched.runs_dir}")
    refused = command(search.main, APPLICATION, *where)
    assert refused.status == 2
    assert refused.err.startswith(f"error: {searched.path} exists; continue that search with --res")


def test_there_is_nothing_to_resume(tmp_path, command) -> None:
    refused = command(search.main, APPLICATION, "--run=no", f"--runs_dir={tmp_path}", "--resume")
    assert refused.status == 2
    assert "is no folder of a search" in refused.err
    assert "--resume needs --run" in command(search.main, APPLICATION, "--resume").err


def test_three_failures_in_a_row_end_a_search_with_the_reason(tmp_path, command) -> None:
    where = ("--run=bad", f"--runs_dir={tmp_path}")
    varied = "--vary=preprocess.pieces=choice(-1,-2,-3,-4,-5)"
    failed = command(search.main, APPLICATION, *where, varied, "--trials=5", "--epochs=1")
    assert failed.status == 2
    reason = "--preprocess.pieces must be at least 0, minimum_count and maximum_categories 1"
    assert f"3 trials failed in a row, the last one so: {reason}" in failed.err
    trials = Folder(tmp_path / APPLICATION / "bad").search().trials
    assert [(trial.status, trial.reason) for trial in trials] == [("failed", reason)] * 3


def test_a_trial_that_kills_its_process_again_and_again_fails(tmp_path) -> None:
    folder = Folder(tmp_path / "search")
    folder.create(search.define({"application": APPLICATION}))
    with folder.attempt(1):
        pass  # nothing was killed here
    dying = [folder.attempt(1) for _ in range(DEATHS)]
    for attempt in dying:
        attempt.__enter__()  # and the process is gone
    with pytest.raises(search.UserError, match=f"was killed {DEATHS} times after epoch 0"):
        folder.attempt(1).__enter__()


def test_a_record_comes_back_as_it_was(tmp_path) -> None:
    folder = Folder(tmp_path / "search")
    (folder.path / "records").mkdir(parents=True)
    trial = Trial(
        number=7,
        status="failed",
        hyperparameters={"optimizer": None, "learning_rate": 0.1},
        broken=("parameters<=1",),
        curve=(1.0, 0.5),
        reason="no",
    )
    folder.write(trial)
    assert folder.trial(7) == trial
    assert folder.trial(8) is None


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tuning.search", APPLICATION, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(process: subprocess.Popen, what) -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ending(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def seconds(run: Run) -> list[float]:
    """How long each epoch took: what no second training would repeat."""
    return [metrics["seconds"] for metrics in run.history]


@pytest.mark.slow
def test_a_killed_search_goes_on_from_the_last_epoch(tmp_path) -> None:
    arguments = ("--trials=3", "--run=killed", f"--runs_dir={tmp_path}", *LONG)
    folder = Folder(tmp_path / APPLICATION / "killed")
    process = start(*arguments)
    wait_for(process, lambda: folder.run(2).path.exists() and len(folder.run(2).history) > 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first, begun = folder.trial(1), seconds(folder.run(2))
    assert first.status == "completed"
    assert folder.trial(2).status == "running"
    output = ending(start(*arguments, "--resume"))
    trials = folder.search().trials
    assert [trial.status for trial in trials] == ["completed"] * 3
    assert trials[0] == first
    assert len(seconds(folder.run(2))) == 12
    assert seconds(folder.run(2))[: len(begun)] == begun
    assert f"--config {folder.best_file}" in output


@pytest.mark.slow
def test_a_killed_fold_goes_on_from_its_last_epoch(tmp_path) -> None:
    arguments = ("--trials=1", "--folds=2", "--run=killed", f"--runs_dir={tmp_path}", *LONG)
    folder = Folder(tmp_path / APPLICATION / "killed")
    process = start(*arguments)
    first, second = folder.run(1, 0), folder.run(1, 1)
    wait_for(process, lambda: len(second.history) > 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before, begun = seconds(first), seconds(second)
    ending(start(*arguments, "--resume"))
    assert folder.trial(1).status == "completed"
    assert seconds(first) == before
    assert seconds(second)[: len(begun)] == begun
    assert len(seconds(second)) == 12


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_search_says_how_to_go_on(workers, tmp_path) -> None:
    arguments = ("--trials=2", "--run=stopped", f"--runs_dir={tmp_path}", *LONG, "--epochs=30")
    arguments += (f"--workers={workers}",)
    folder = Folder(tmp_path / APPLICATION / "stopped")
    process = start(*arguments)
    begun = [folder.run(number) for number in range(1, workers + 1)]
    wait_for(process, lambda: all(len(run.history) > 2 for run in begun))
    team = children(process.pid)
    assert len(team) == (workers if workers > 1 else 0)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in output
    message = "stopped; continue with the same command and --run stopped --resume"
    assert output.splitlines()[-1] == message
    assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in team)
    before = [seconds(run) for run in begun]
    ending(start(*arguments, "--resume"))
    assert [trial.status for trial in folder.search().trials] == ["completed"] * 2
    assert [seconds(run)[: len(done)] for run, done in zip(begun, before, strict=True)] == before


@pytest.mark.slow
def test_a_full_disk_keeps_what_is_finished(tmp_path) -> None:
    units = "--vary=model.units=choice(8,600)"
    fixed = ("--tuner=grid", "--trials=2", "--priority=1", "--learning_rate=0.01", *TINY)
    arguments = (APPLICATION, "--run=full", f"--runs_dir={tmp_path}", units, *fixed)
    # A limit on the size of files makes the kernel refuse to write, as a full disk does.
    program = (
        "import resource, sys; from tuning import search; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)); search.main(sys.argv[1:])"
    )
    full = run_python("-c", program, *arguments)
    assert full.returncode == 2, full.stderr
    assert "Traceback" not in full.stderr
    message = full.stderr.splitlines()[-1]
    assert re.fullmatch(r"error: cannot write .*best.npz: .*; what was there .* is kept", message)
    folder = Folder(tmp_path / APPLICATION / "full")
    first = folder.trial(1)
    assert (first.status, folder.trial(2).status) == ("completed", "running")
    resumed = run_python("-m", "tuning.search", *arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert folder.trial(1) == first
    assert folder.trial(2).status == "completed"


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_all_trials_complete(tmp_path) -> None:
    arguments = ("--trials=3", "--run=team", f"--runs_dir={tmp_path}", *LONG)
    folder = Folder(tmp_path / APPLICATION / "team")
    process = start(*arguments, "--workers=2")

    def half_trained() -> tuple[int, str] | None:
        """A trial in the middle of its training, and its worker."""
        file = folder.path / "oracle" / "oracle.json"
        ongoing = json.loads(file.read_text())["ongoing_trials"] if file.exists() else {}
        for worker, name in ongoing.items():
            if 2 < len(folder.run(int(name) + 1).history) < 10:
                return int(name) + 1, worker
        return None

    wait_for(process, half_trained)
    number, worker = half_trained()
    begun = seconds(folder.run(number))
    os.kill(process_of(worker, process.pid), signal.SIGKILL)
    ending(process)
    assert [trial.status for trial in folder.search().trials] == ["completed"] * 3
    assert len(seconds(folder.run(number))) == 12
    assert seconds(folder.run(number))[: len(begun)] == begun
    assert folder.best_file.exists()


def process_of(worker: str, chief: int) -> int:
    """The process id of a worker by its name, among the children of the chief."""
    for pid in children(chief):
        environment = pathlib.Path(f"/proc/{pid}/environ").read_text()
        if f"KERASTUNER_TUNER_ID={worker}\0" in environment:
            return pid
    raise AssertionError(f"no {worker} among the children of {chief}")


def children(parent: int) -> list[int]:
    """The process ids of all children of a process."""
    listed = subprocess.run(
        ["ps", "--no-headers", "-o", "pid", "--ppid", str(parent)],
        capture_output=True,
        text=True,
        check=False,  # it fails where there is none
    )
    return [int(pid) for pid in listed.stdout.split()]


@pytest.mark.slow
def test_hyperband_trains_the_best_on_and_executions_have_a_spread(tmp_path, command) -> None:
    where = ("--run=band", f"--runs_dir={tmp_path}")
    options = ("--tuner=hyperband", "--executions=2", "--epochs=3", "--batch_size=512")
    done = command(search.main, APPLICATION, *where, *options, "--default")
    assert done.status == 0, done.err
    folder = Folder(tmp_path / APPLICATION / "band")
    found = folder.search()
    assert f"the recipe as it is: {found.objective} " in done.out
    assert all(trial.spread > 0 for trial in found.trials)
    lengths = [len(trial.curve) for trial in found.trials]
    assert set(lengths) == {1, 3}
    trained_on = [
        (one, other)
        for one in found.trials
        for other in found.trials
        if one.hyperparameters == other.hyperparameters and len(one.curve) < len(other.curve)
    ]
    assert trained_on
    for one, other in trained_on:
        assert other.curve[: len(one.curve)] == one.curve
        assert seconds(folder.run(other.number))[:1] == seconds(folder.run(one.number))
    assert folder.run(1, training=1).configuration.recipe.seed == 1


@pytest.mark.slow
def test_a_chief_elsewhere_gives_the_trial_of_a_lost_worker_to_another(tmp_path) -> None:
    folder = Folder(tmp_path / APPLICATION / "elsewhere")
    folder.create(search.define({"application": APPLICATION, "trials": 3, "options": LONG}))
    port = free_port()
    program = (
        "import sys; from tuning.chief import direct_elsewhere; from tuning.folder import Folder; "
        "from tuning.tuner import begun_oracle; folder = Folder(sys.argv[1]); "
        "direct_elsewhere(folder, begun_oracle(folder), look=lambda: None, silence=15)"
    )

    def begin(name: str, *arguments: str) -> subprocess.Popen:
        address = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
        return subprocess.Popen(
            [sys.executable, *arguments, str(folder.path)],
            cwd=ROOT,
            env=os.environ | address | {"KERASTUNER_TUNER_ID": name},
        )

    chief = begin("chief", "-c", program)
    lost = begin("lost", "-m", "tuning.worker")
    wait_for(lost, lambda: len(folder.run(1).history) > 2)
    lost.kill()
    lost.wait()
    other = begin("other", "-m", "tuning.worker")
    assert chief.wait(timeout=300) == 0
    assert other.wait(timeout=60) == 0
    assert [trial.status for trial in folder.search().trials] == ["completed"] * 3
