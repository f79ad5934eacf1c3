"""The command line: precedence, names, and one clear line for every mistake."""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import re
import shutil

import pytest
from sacrebleu.metrics import BLEU

from pipelines import compare, evaluate, predict
from pipelines.engine.application import UserError, load_application
from pipelines.engine.assembly import assemble
from pipelines.engine.cli import parse_with_search, train_run
from pipelines.engine.configuration import Command, Configuration, parse
from pipelines.engine.run import Run
from tests.conftest import run_python, train

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


def test_a_source_s_model_options_reach_every_builder_that_takes_them() -> None:
    application = load_application("machine_translation")
    for name in ("rnn_encoder_decoder", "bahdanau_attention", "transformer_tiny"):
        model = parse(application, ["--architecture", name, "--dataset", "text"])[0].model
        assert model["dropout"] == 0.3
        assert model.get("units", 256) == 256
        assert ("shared_embeddings" in model) == name.startswith("transformer")


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
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--learning_rate", "-1"], "--learning_rate must be above 0, not -1"),
        (["--beta_2", "1"], "--beta_2 must be at least 0 and below 1, not 1.0"),
        (["--epsilon", "0"], "--epsilon must be above 0, not 0.0"),
        (["--passes", "0"], "--passes must be at least 1, not 0"),
        (["--data_dir", "somewhere"], "--dataset digits takes no --data_dir"),
        (["--resume"], "--resume needs --run NAME"),
        (["--config", "nowhere.json"], "cannot read nowhere.json: No such file or directory"),
        (["--run", "none", "--resume"], "cannot read runs/image_classification/none/config.json"),
    ],
)
def test_mistake_is_named_with_what_there_is(arguments: list[str], words: str) -> None:
    assert words in refusal(*arguments)
    assert "\n" not in refusal(*arguments)


@pytest.mark.parametrize(
    ("name", "scaling"), [("vgg16", "tf"), ("mobilenet", "bytes"), ("efficientnet_b0", "data")]
)
def test_published_weights_take_no_other_pixels_than_their_own(name: str, scaling: str) -> None:
    expected = load_application(IMAGES).architectures[name].preprocess["scaling"]
    asked = ("--architecture", name, "--model.weights", "imagenet")
    assert read(*asked).preprocess["scaling"] == expected
    assert refusal(*asked, f"--preprocess.scaling={scaling}") == (
        f"the published weights of {name} need --preprocess.scaling {expected}, not {scaling}"
    )
    assert read("--architecture", name, f"--preprocess.scaling={scaling}")


@pytest.mark.parametrize(
    ("name", "scaling", "warned"),
    [
        ("efficientnet_b0", "tf", True),
        ("mobilenet_v3_small", "data", True),
        ("mobilenet_v3_small", "bytes", False),
        ("resnet18", "tf", False),
    ],
)
def test_networks_that_scale_bytes_warn_of_other_pixels(name, scaling, warned, caplog) -> None:
    read("--architecture", name, f"--preprocess.scaling={scaling}")
    assert (f"{name} expects pixels from 0 to 255" in caplog.text) == warned


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


def test_list_of_applications() -> None:
    listed = run_python("-m", "pipelines")
    assert listed.returncode == 0
    assert "lenet5" in listed.stdout


def test_help_and_print_config(command) -> None:
    helped = command(train(IMAGES), "--help")
    assert helped.status == 0
    for option in ("--architecture", "--epochs", "--preprocess.size", "--arrange.augment"):
        assert option in helped.out
    printed = command(train(IMAGES), "--epochs", "3", "--print_config")
    assert printed.status == 0
    assert "epochs: 3" in printed.out


def test_run_of_another_application_is_refused(command, smoke_run, tmp_path) -> None:
    run = smoke_run(IMAGES)
    other = tmp_path / "machine_translation" / "digits"
    other.mkdir(parents=True)
    (other / "config.json").write_text((run / "config.json").read_text())
    result = command(
        train("machine_translation"), "--runs_dir", tmp_path, "--run", "digits", "--resume"
    )
    assert result.status == 2
    assert "is a configuration of image_classification, not of machine_translation" in result.err
    compared = command(compare.main, run, smoke_run("machine_translation"))
    assert compared.status == 2
    assert "runs of different applications" in compared.err


def smoke(folder: pathlib.Path, *arguments: str, **command) -> Run:
    configuration = read("--epochs=1", "--schedule=constant", *arguments)
    options = Command(run="a", runs_dir=str(folder), smoke=True, **command)
    return train_run(assemble(configuration), options)


def test_architecture_that_cannot_be_built_leaves_no_run(tmp_path) -> None:
    with pytest.raises(UserError, match="cannot be built so: LeNet-5 needs pictures of 32x32"):
        smoke(tmp_path, "--preprocess.size=20")
    assert not list(tmp_path.iterdir())


def test_run_is_never_overwritten_and_resumes_only_as_it_was_started(tmp_path) -> None:
    smoke(tmp_path)
    with pytest.raises(UserError, match="exists; continue that run with --resume"):
        smoke(tmp_path)
    with pytest.raises(UserError, match=r"not with --batch_size 32 \(was 64\)"):
        smoke(tmp_path, "--batch_size=32", resume=True)
    assert len(smoke(tmp_path, "--epochs=2", resume=True).history) == 2


def test_prepared_arrays_keep_their_preprocessing(command, tmp_path) -> None:
    arrays = tmp_path / "arrays"
    assert command(train(IMAGES), "--smoke", "--prepare", arrays).status == 0
    again = command(train(IMAGES), "--smoke", "--prepare", arrays)
    assert again.status == 2
    assert "exists; give --prepare a new folder" in again.err
    other = command(
        train(IMAGES), "--prepared", arrays, "--batch_size", "7", "--runs_dir", tmp_path
    )
    assert other.status == 2
    assert "was prepared with another --batch_size" in other.err
    empty = command(train(IMAGES), "--prepared", tmp_path / "nothing")
    assert empty.status == 2
    assert "cannot read" in empty.err


@pytest.mark.parametrize("main", [predict.main, evaluate.main, compare.main])
def test_folder_that_is_no_run_is_refused(main, command, tmp_path) -> None:
    result = command(main, tmp_path)
    assert result.status == 2
    assert "is no run folder" in result.err
    assert result.err.count("\n") == 1


def test_unfinished_run_names_the_command_that_finishes_it(command, smoke_run, tmp_path) -> None:
    finished = Run(smoke_run(IMAGES))
    unfinished = tmp_path / IMAGES / "half"
    unfinished.mkdir(parents=True)
    (unfinished / "config.json").write_text((finished.path / "config.json").read_text())
    result = command(predict.main, unfinished, "--image", "@x.png")
    assert result.status == 2
    assert "is not finished" in result.err
    assert "--run half --resume" in result.err


@pytest.mark.parametrize(
    ("file", "words"),
    [("model.keras", "is damaged"), ("config.json", "is no configuration of a run")],
)
def test_damaged_run_is_named(file: str, words: str, command, smoke_run, tmp_path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(smoke_run(IMAGES), damaged)
    (damaged / file).write_bytes((damaged / file).read_bytes()[:40])
    result = command(predict.main, damaged, "--image", "@x.png")
    assert result.status == 2
    assert f"{damaged / file} {words}" in result.err
    assert result.err.count("\n") == 1


def test_damaged_checkpoint_is_named(tmp_path) -> None:
    run = smoke(tmp_path)
    run.last_checkpoint.write_bytes(run.last_checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"last.npz is damaged"):
        smoke(tmp_path, "--epochs=2", resume=True)


def test_predict_answers_one_value_and_many_files(command, smoke_run, tmp_path) -> None:
    run = smoke_run("machine_translation")
    one = command(predict.main, run, "--source", "3 April 2005", "--json")
    assert one.status == 0, one.err
    answer = json.loads(one.out)
    (tmp_path / "dates.txt").write_text("3 April 2005\n4 mai 2011\n")
    many = command(predict.main, run, "--files", tmp_path / "dates.txt")
    assert many.status == 0, many.err
    header, first, second = many.out.splitlines()
    assert header.startswith("file,")
    assert first.startswith(f"{tmp_path / 'dates.txt'}:1,")
    assert json.dumps(answer["texts"]).replace('"', '""') in first
    assert second.startswith(f"{tmp_path / 'dates.txt'}:2,")
    missing = command(predict.main, run, "--source", "@nowhere.txt")
    assert missing.status == 2
    assert "cannot read nowhere.txt" in missing.err
    unnamed = command(predict.main, run)
    assert unnamed.status == 2
    assert "give --source VALUE|@file" in unnamed.err


def test_predict_refuses_what_is_no_picture(command, smoke_run, tmp_path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    result = command(predict.main, smoke_run(IMAGES), "--image", f"@{tmp_path / 'text.png'}")
    assert result.status == 2
    assert "error: refused: image[0] is no JPEG" in result.err


def test_compare_shows_runs_side_by_side(command, tmp_path, monkeypatch) -> None:
    for name, rate in (("one", "0.001"), ("two", "0.01")):
        options = ("--smoke", "--learning_rate", rate, "--runs_dir", tmp_path, "--run", name)
        assert command(train(IMAGES), *options).status == 0
    monkeypatch.setenv("COLUMNS", "120")
    result = command(compare.main, *(tmp_path / IMAGES / name for name in ("one", "two")))
    assert result.status == 0, result.err
    for words in ("accuracy", "mean error", "against the first", "--learning_rate", "one", "two"):
        assert words in result.out


def test_compared_translations_have_paired_intervals_of_bleu(command, smoke_run, tmp_path) -> None:
    first, second = smoke_run("machine_translation"), tmp_path / "better"
    shutil.copytree(first, second)
    file = second / "predictions" / "test.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows[::2]:
        row["texts"][0], row["error"] = row["target"], 0.0
    file.write_text("\n".join(json.dumps(row) for row in rows))
    result = command(compare.main, first, second)
    assert result.status == 0, result.err
    lines = [line.split() for line in result.out.splitlines()]
    (gain,) = [after for line, after in itertools.pairwise(lines) if "bleu" in line]
    written = BLEU().corpus_score([row["texts"][0] for row in rows], [[r["target"] for r in rows]])
    value, low, high = (float(re.sub(r"[\[\],]", "", cell)) for cell in gain[-4:-1])
    assert value == pytest.approx(written.score, rel=0.01), "of nothing before"
    assert low < value < high
    assert "perplexity" in result.out


SEARCH = ["--task.beam_width=3", "--task.length_penalty", "-0.5"]


def test_a_command_s_own_options_stand_beside_those_of_a_search() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("run")
    parser.add_argument("--force", action="store_true")
    options, search = parse_with_search(parser, ["run", *SEARCH, "--force"])
    assert (options.run, options.force, search) == ("run", True, SEARCH)


@pytest.mark.parametrize("surplus", [["--forse"], ["other"], [*SEARCH, "--forse"]])
def test_what_is_neither_is_refused(surplus, capsys) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("run")
    with pytest.raises(SystemExit, match="2"):
        parse_with_search(parser, ["run", *surplus])
    assert f"unrecognized arguments: {' '.join(surplus)}" in capsys.readouterr().err
