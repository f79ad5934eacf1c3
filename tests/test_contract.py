"""Every check of ``serving.verify``, against the embedded server and any other that is named.

Each test is called after the row of the contract that it holds. With TFS_ADDRESS (host:port) set,
and TFS_REST_ADDRESS, the same checks are run against that server too; it serves the models that
``python -m serving.verify --write_models`` writes.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil

import pytest

from serving.verify import __main__ as command
from serving.verify import table
from serving.verify.probe_models import MATRIX, server_flags, write_models
from serving.verify.server import DifferenceError, Server, equal
from tests.served_models import free_port, running_server

OTHER, OTHER_REST = os.environ.get("TFS_ADDRESS"), os.environ.get("TFS_REST_ADDRESS")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture(scope="module")
def addresses(models):
    """Of the embedded server: gRPC and REST."""
    rest_port = free_port()
    with running_server(f"--rest_api_port={rest_port}", *server_flags(models)) as (_, port):
        yield f"localhost:{port}", f"localhost:{rest_port}"


@pytest.fixture(scope="module")
def embedded(addresses, models):
    server = Server(*addresses, str(models))
    yield server
    server.close()


@pytest.fixture(scope="module")
def other():
    server = Server(OTHER, OTHER_REST)
    yield server
    server.close()


def cases() -> list:
    """A server's fixture and the name of a check that it is to pass."""
    servers = {"embedded": table.choose(rest=True, models=True)}
    if OTHER:
        servers["other"] = table.choose(rest=bool(OTHER_REST), models=False)
    return [
        pytest.param(server, name, id=f"{server} {name}")
        for server, checks in servers.items()
        for name in checks
    ]


@pytest.mark.parametrize(("fixture", "name"), cases())
def test_the_server_keeps_the_contract(fixture, name, request):
    table.choose(rest=True, models=True)[name](request.getfixturevalue(fixture))


def test_the_command_tells_that_all_is_the_same(addresses, models, capsys):
    address, rest_address = addresses
    options = [address, "--rest_api", rest_address, "--models", str(models)]
    assert command.main(options) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    names = table.choose(rest=True, models=True)
    assert lines == [f"ok       {name}" for name in names]
    assert last == f"{len(names)} of {len(names)} checks are as TensorFlow Serving answers"


def test_the_command_tells_what_differs(models, tmp_path, capsys):
    shutil.copytree(models / MATRIX / "1", tmp_path / "3")
    with running_server("--model_name=matrix", f"--model_base_path={tmp_path}") as (_, port):
        assert command.main([f"localhost:{port}"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "ok       Predict: no model_spec" in lines
    expected = "differs  Predict: a version answers: NOT_FOUND: Servable not found for request: "
    assert f"{expected}Specific(half_plus_version, 1)" in lines
    assert (
        "differs  GetModelStatus: unknown version: message: expected 'Could not find version 9 of "
        "model half_plus_version', got 'Could not find any versions of model half_plus_version'"
    ) in lines
    assert not any(line.partition(" ")[2].lstrip().startswith("REST") for line in lines)


def test_nothing_at_the_address(monkeypatch, capsys):
    monkeypatch.setattr(command, "SECONDS_TO_CONNECT", 0.1)
    address = f"localhost:{free_port()}"
    assert command.main([address]) == 2
    assert capsys.readouterr().err == f"error: nothing answers at {address}\n"


def test_the_models_are_written_once(tmp_path, capsys):
    assert command.main(["--write_models", str(tmp_path / "models")]) == 0
    shown = capsys.readouterr().out
    for flag in server_flags(tmp_path / "models"):
        assert shown.count(flag) == 2  # for either server
    assert command.main(["--write_models", str(tmp_path / "models")]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(("expected", "got"), [("a", "b"), (re.compile("a+"), "aab")])
def test_a_difference_names_both(expected, got):
    with pytest.raises(DifferenceError, match=r"text: expected 'a\+?', got 'a?a?b'"):
        equal("text", expected, got)
