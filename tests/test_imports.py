"""The one direction of imports: models ← pipelines ← tuning and export; servers stand alone."""

from __future__ import annotations

import ast
import pathlib
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]
OWN = {"models", "pipelines", "serving", "tuning", "tests"}


def imported_modules(path: pathlib.Path) -> set[str]:
    """The dotted names of all modules that a file imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def files_of(*places: str) -> list[pathlib.Path]:
    files = []
    for place in places:
        path = REPOSITORY / place
        files += [path] if path.suffix else sorted(path.rglob("*.py"))
    return files


def packages(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def identify(path: pathlib.Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", files_of("models"), ids=identify)
def test_models_import_only_keras_what_it_needs_and_the_standard_library(path):
    allowed = {"models", "keras", "numpy", "h5py"} | sys.stdlib_module_names
    assert packages(imported_modules(path)) <= allowed


@pytest.mark.parametrize("path", files_of("pipelines"), ids=identify)
def test_pipelines_know_neither_serving_nor_tuning(path):
    assert packages(imported_modules(path)).isdisjoint({"serving", "tuning", "tests"})


@pytest.mark.parametrize("path", files_of("serving/server"), ids=identify)
def test_the_server_knows_only_saved_models(path):
    own = {name for name in imported_modules(path) if name.partition(".")[0] in OWN}
    assert all(name.startswith("serving.server") for name in own)


@pytest.mark.parametrize("path", files_of("serving/client", "serving/wire.py"), ids=identify)
def test_the_client_knows_neither_tensorflow_nor_the_zoo(path):
    names = imported_modules(path)
    own = {name for name in names if name.partition(".")[0] in OWN}
    assert all(
        name == "serving" or name.startswith(("serving.wire", "serving.client")) for name in own
    )
    others = {"grpc", "google", "numpy", "rich"}
    assert packages(names) <= {"serving"} | others | sys.stdlib_module_names


@pytest.mark.parametrize("path", files_of("serving/verify"), ids=identify)
def test_the_contract_checks_know_no_server_but_by_its_address(path):
    own = {name for name in imported_modules(path) if name.partition(".")[0] in OWN}
    assert all(name.startswith(("serving.verify", "serving.server.quiet")) for name in own)
