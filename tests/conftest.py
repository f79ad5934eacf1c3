"""What several test files share: real data on request, real commands, one smoke run a session."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest

from pipelines.engine import cli
from pipelines.engine.application import load_application

ROOT = pathlib.Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--data-dir", help="folder of real data for the tests marked data")


@pytest.fixture
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The cache folder of one test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder that the tests of one file share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> pathlib.Path:
    """The folder given with --data-dir."""
    folder = request.config.getoption("--data-dir")
    if folder is None:
        pytest.fail("tests marked data need --data-dir")
    return pathlib.Path(folder)


def run_python(
    *arguments: str | os.PathLike, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Runs this interpreter in the repository's root; output is captured as text."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a command ended: its exit status and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(capfd: pytest.CaptureFixture):
    """``command(main, *arguments)``: a command of the zoo in this process, as run by its name.

    A process of its own would spend most of its time on importing TensorFlow.
    """

    def run(main: Callable, *arguments: str | os.PathLike) -> Finished:
        capfd.readouterr()
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = exit_.code
        printed = capfd.readouterr()
        return Finished(status, printed.out, printed.err)

    return run


def train(application: str) -> Callable[[Sequence[str]], None]:
    """The main function of ``python -m pipelines.<application>``."""
    return functools.partial(cli.main, load_application(application))


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory):
    """``smoke_run(application)``: the folder of a finished run of two steps, made once."""
    made: dict[str, pathlib.Path] = {}
    folder = tmp_path_factory.mktemp("runs")

    def get(application: str) -> pathlib.Path:
        if application not in made:
            train(application)(["--smoke", "--run", "smoke", "--runs_dir", str(folder)])
            made[application] = folder / application / "smoke"
        return made[application]

    return get
