"""What several test files share: real data on request, real commands, one smoke run a session."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--data-dir", help="folder of real data for the tests marked data")


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


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory):
    """``smoke_run(application)``: the folder of a finished run of two steps, made once."""
    made: dict[str, pathlib.Path] = {}
    folder = tmp_path_factory.mktemp("runs")

    def get(application: str) -> pathlib.Path:
        if application not in made:
            result = run_python(
                *("-m", f"pipelines.{application}", "--smoke"),
                *("--run", "smoke", "--runs_dir", folder),
            )
            assert result.returncode == 0, result.stderr
            made[application] = folder / application / "smoke"
        return made[application]

    return get
