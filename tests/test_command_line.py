"""The command line: precedence, names, and one clear line for every mistake."""

from __future__ import annotations

import json
import pathlib

import pytest

from pipelines.engine.application import UserError, load_application
from pipelines.engine.assembly import assemble
from pipelines.engine.cli import train_run
from pipelines.engine.configuration import Command, Configuration, parse
from pipelines.engine.run import Run
from tests.conftest import run_python

IMAGES = "image_classification"


def read(*arguments: str) -> Configuration:
    return parse(load_application(IMAGES), arguments)[0]


def refusal(*arguments: str) -> str:
    with pytest.raises(UserError) as refused:
        read(*arguments)
    return str(refused.value)


def test_defaults_come_from_application_source_and_architecture() -> None:
    plain = read()
    assert (plain.architecture, plain.dataset) == ("lenet5", "digits")
    application = load_application(IMAGES)
    resnet = application.architectures["resnet20"]
    chosen = read("--architecture", "resnet20")
    assert chosen.recipe.optimizer == resnet.recipe["optimizer"]
    assert chosen.arrange["augment"] == resnet.arrange["augment"]
    assert read("--architecture=resnet20", "--optimizer=adam").recipe.optimizer == "adam"


def test_options_win_over_the_file_wherever_it_stands(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "best.json"
    file.write_text(json.dumps({"epochs": 3, "seed": 5, "architecture": "lenet5_dense"}))
    for arguments in (["--config", str(file), "--epochs=9"], ["--epochs=9", "--config", str(file)]):
        configuration = read(*arguments)
        assert configuration.recipe.epochs == 9
        assert configuration.recipe.seed == 5
        assert configuration.architecture == "lenet5_dense"


def test_augment_is_short_for_the_arrangement_option() -> None:
    assert read("--augment", "none").arrange == read("--arrange.augment=none").arrange
    assert read("--augment=none").arrange["augment"] == "none"


def test_configuration_survives_json() -> None:
    configuration = read("--seed", "3", "--preprocess.channels", "3")
    assert Configuration.from_json(configuration.to_json()) == configuration


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--architecture", "lenet"], "unknown architecture 'lenet'; there is: lenet5, "),
        (["--dataset", "mnits"], "unknown dataset 'mnits'; there is: mnist, "),
        (["--epoch", "3"], "unknown option --epoch; there is: --epochs, "),
        (["--arrange.augmnet", "none"], "unknown option --arrange.augmnet; there is: --arrange.au"),
        (["--optimizer", "adm"], "--optimizer adm is no choice; there is: adam, "),
        (["--epochs", "many"], "--epochs: "),
        (["--data_dir", "somewhere"], "--dataset digits takes no --data_dir"),
        (["--resume"], "--resume needs --run NAME"),
        (["--config", "nowhere.json"], "cannot read nowhere.json: No such file or directory"),
        (["--run", "none", "--resume"], "cannot read runs/image_classification/none/config.json"),
    ],
)
def test_mistake_is_named_with_what_there_is(arguments: list[str], words: str) -> None:
    assert words in refusal(*arguments)
    assert "\n" not in refusal(*arguments)


def test_file_with_an_unknown_name_or_of_another_application_is_refused(tmp_path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"arrange": {"augmnet": "none"}}')
    assert "unknown option --arrange.augmnet; there is: --arrange.augment" in refusal(
        "--config", str(file)
    )
    file.write_text('{"application": "word_embeddings"}')
    assert "is a configuration of word_embeddings" in refusal("--config", str(file))
    file.write_text("{")
    assert "is no JSON" in refusal("--config", str(file))


def test_mistake_on_the_command_line_is_one_line_and_status_2() -> None:
    result = run_python("-m", f"pipelines.{IMAGES}", "--architecture", "lenet")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: unknown architecture 'lenet'")
    assert result.stderr.count("\n") == 1


def test_list_of_applications_and_help() -> None:
    listed = run_python("-m", "pipelines")
    assert listed.returncode == 0
    assert "lenet5" in listed.stdout
    helped = run_python("-m", f"pipelines.{IMAGES}", "--help")
    assert helped.returncode == 0
    for option in ("--architecture", "--epochs", "--preprocess.size", "--arrange.augment"):
        assert option in helped.stdout
    printed = run_python("-m", f"pipelines.{IMAGES}", "--epochs", "3", "--print_config")
    assert printed.returncode == 0
    assert "epochs: 3" in printed.stdout


def smoke(folder: pathlib.Path, *arguments: str, **command) -> Run:
    configuration = read("--epochs=1", "--schedule=constant", *arguments)
    options = Command(run="a", runs_dir=str(folder), smoke=True, **command)
    return train_run(assemble(configuration), options)


def test_run_is_never_overwritten_and_resumes_only_as_it_was_started(tmp_path) -> None:
    smoke(tmp_path)
    with pytest.raises(UserError, match="exists; continue that run with --resume"):
        smoke(tmp_path)
    with pytest.raises(UserError, match=r"not with --batch_size 32 \(was 64\)"):
        smoke(tmp_path, "--batch_size=32", resume=True)
    assert len(smoke(tmp_path, "--epochs=2", resume=True).history) == 2


def test_prepared_arrays_keep_their_preprocessing(tmp_path) -> None:
    arrays = tmp_path / "arrays"
    base = ("-m", f"pipelines.{IMAGES}")
    assert run_python(*base, "--smoke", "--prepare", arrays).returncode == 0
    again = run_python(*base, "--smoke", "--prepare", arrays)
    assert again.returncode == 2
    assert "exists; give --prepare a new folder" in again.stderr
    other = run_python(*base, "--prepared", arrays, "--batch_size", "7", "--runs_dir", tmp_path)
    assert other.returncode == 2
    assert "was prepared with another --batch_size" in other.stderr
    empty = run_python(*base, "--prepared", tmp_path / "nothing")
    assert empty.returncode == 2
    assert "cannot read" in empty.stderr


@pytest.mark.parametrize("command", ["predict", "evaluate", "compare"])
def test_folder_that_is_no_run_is_refused(command: str, tmp_path) -> None:
    result = run_python("-m", f"pipelines.{command}", tmp_path)
    assert result.returncode == 2
    assert "is no run folder" in result.stderr
    assert result.stderr.count("\n") == 1


def test_unfinished_run_names_the_command_that_finishes_it(smoke_run, tmp_path) -> None:
    finished = Run(smoke_run(IMAGES))
    unfinished = tmp_path / IMAGES / "half"
    unfinished.mkdir(parents=True)
    (unfinished / "config.json").write_text((finished.path / "config.json").read_text())
    result = run_python("-m", "pipelines.predict", unfinished, "--image", "@x.png")
    assert result.returncode == 2
    assert "is not finished" in result.stderr
    assert "--run half --resume" in result.stderr


def test_predict_answers_one_value_and_many_files(smoke_run, tmp_path) -> None:
    run = smoke_run("machine_translation")
    one = run_python("-m", "pipelines.predict", run, "--source", "3 April 2005", "--json")
    assert one.returncode == 0, one.stderr
    answer = json.loads(one.stdout)
    (tmp_path / "dates.txt").write_text("3 April 2005\n4 mai 2011\n")
    many = run_python("-m", "pipelines.predict", run, "--files", tmp_path / "dates.txt")
    assert many.returncode == 0, many.stderr
    header, first, second = many.stdout.splitlines()
    assert header.startswith("file,")
    assert first.startswith(f"{tmp_path / 'dates.txt'}:1,")
    assert json.dumps(answer["texts"]).replace('"', '""') in first
    assert second.startswith(f"{tmp_path / 'dates.txt'}:2,")
    missing = run_python("-m", "pipelines.predict", run, "--source", "@nowhere.txt")
    assert missing.returncode == 2
    assert "cannot read nowhere.txt" in missing.stderr
    unnamed = run_python("-m", "pipelines.predict", run)
    assert unnamed.returncode == 2
    assert "give --source VALUE|@file" in unnamed.stderr


def test_predict_refuses_what_is_no_picture(smoke_run, tmp_path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    result = run_python(
        "-m", "pipelines.predict", smoke_run(IMAGES), "--image", f"@{tmp_path / 'text.png'}"
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: refused: ")
    assert result.stderr.count("\n") == 1


def test_compare_shows_runs_side_by_side(tmp_path) -> None:
    for name, options in (("one", []), ("two", ["--learning_rate", "0.01"])):
        result = run_python(
            *("-m", f"pipelines.{IMAGES}", "--smoke", *options, "--runs_dir", tmp_path),
            *("--run", name),
        )
        assert result.returncode == 0, result.stderr
    runs = [tmp_path / IMAGES / name for name in ("one", "two")]
    result = run_python("-m", "pipelines.compare", *runs, environment={"COLUMNS": "120"})
    assert result.returncode == 0, result.stderr
    for words in ("accuracy", "mean error", "against the first", "--learning_rate", "one", "two"):
        assert words in result.stdout
