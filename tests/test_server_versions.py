"""Which versions are found, aspired, loaded and unloaded: the rules, without any model."""

from __future__ import annotations

import logging
import pathlib

import pytest

from serving.server.configuration import ServedModel
from serving.server.discovery import Discovery, version_folders
from serving.server.version import Loading, State
from serving.server.versions import Versions

NEW, LOADING, READY = State.START, State.LOADING, State.AVAILABLE
FAILED, LEAVING = State.END, State.UNLOADING


def folders(*numbers: int) -> dict[int, pathlib.Path]:
    return {number: pathlib.Path(f"/m/{number}") for number in numbers}


def arrange(aspired: dict[int, int], others: dict[int, int]) -> Versions:
    """Versions by number and state."""
    versions = Versions("m")
    versions.aspire(folders(*aspired, *others))
    for number, state in (aspired | others).items():
        versions.find(number).state = state
        if state == LOADING:  # an attempt is under way
            versions.find(number)._next_attempt = None
    versions.aspire(folders(*aspired))
    return versions


@pytest.mark.parametrize(
    ("aspired", "others", "loads", "unloads"),
    [
        ({1: NEW, 2: NEW}, {}, [2, 1], []),  # the newest first
        ({2: NEW}, {1: READY}, [2], []),  # loads before it unloads
        ({2: LOADING}, {1: READY}, [], []),
        ({2: FAILED}, {1: READY}, [], []),  # what failed is no replacement
        ({2: READY}, {1: READY}, [], [1]),
        ({1: READY}, {2: READY}, [], [2]),  # back to a smaller number
        ({4: NEW}, {1: READY, 2: READY, 3: READY}, [4], [1, 2]),  # one is enough to answer
        ({2: READY, 3: NEW}, {1: READY}, [3], [1]),
        ({2: READY, 3: FAILED}, {1: READY}, [], [1]),
        ({}, {1: READY, 2: READY}, [], [1, 2]),  # nothing has to answer
        ({}, {1: LOADING, 2: READY}, [], [2]),
        ({2: READY}, {1: LEAVING}, [], []),
        ({2: READY}, {}, [], []),
    ],
)
def test_availability_is_preserved(aspired, others, loads, unloads):
    versions = arrange(aspired, others)
    assert [version.number for version in versions.to_load()] == loads
    assert [version.number for version in versions.to_unload()] == unloads


def test_a_load_is_not_begun_twice():
    versions = arrange({1: NEW}, {})
    assert [version.number for version in versions.to_load()] == [1]
    assert not versions.to_load()
    assert versions.find(1).state == LOADING


def test_a_new_version_that_is_no_longer_aspired_is_not_loaded():
    versions = arrange({}, {1: NEW})
    assert not versions.to_load()
    (version,) = versions.history()
    assert (version.state, version.error) == (State.END, None)


def test_a_failed_version_is_taken_up_again_when_it_was_away():
    versions = arrange({1: FAILED}, {})
    versions.aspire(folders(1))
    assert not versions.to_load()
    versions.aspire({})
    assert not versions.to_load()
    versions.aspire(folders(1))
    assert [version.number for version in versions.to_load()] == [1]


def test_a_version_that_is_aspired_again_while_it_is_unloaded_begins_anew():
    versions = arrange({}, {1: LEAVING})
    versions.aspire(folders(1))
    assert not versions.to_load()
    (old,) = versions.unloading()
    old.state = State.END
    versions.settle()
    (new,) = versions.to_load()
    assert (new.number, versions.history()) == (1, [new])


def test_a_version_that_is_aspired_again_before_it_is_unloaded_stays():
    versions = arrange({}, {1: READY})
    versions.aspire(folders(1))
    assert versions.find(1).aspired
    assert not versions.to_unload()


def test_status_remembers_unloaded_versions_the_newest_first():
    versions = arrange({10: READY}, {9: FAILED, 2: READY})
    assert [version.number for version in versions.history()] == [10, 9, 2]
    assert versions.find(9) is None
    assert versions.latest().number == 10


@pytest.mark.parametrize(
    ("aspired", "others", "number"),
    [
        ({2: FAILED, 1: READY}, {}, 1),
        ({2: READY, 1: READY}, {}, 2),
        ({2: FAILED, 1: LOADING}, {}, None),
        ({2: FAILED, 1: FAILED}, {}, 2),
        ({1: NEW}, {2: READY}, None),
        ({}, {}, None),
    ],
)
def test_the_outcome_that_a_start_or_a_reload_waits_for(aspired, others, number):
    outcome = arrange(aspired, others).outcome()
    assert (outcome and outcome.number) == number


def test_a_failing_version_ends_after_its_retries(tmp_path):
    versions = Versions("m")
    versions.aspire({1: tmp_path})
    states = []
    for _ in range(4):
        for version in versions.to_load():
            version.attempt(Loading(retries=2, retry_seconds=0))
            states.append((version.state, version.error is None))
    assert states == [(LOADING, True), (LOADING, True), (State.END, False)]


def test_a_retry_waits_for_its_time_and_ends_with_the_folder(tmp_path):
    versions = Versions("m")
    versions.aspire({1: tmp_path})
    (version,) = versions.to_load()
    version.attempt(Loading(retry_seconds=3600))
    assert not versions.to_load()
    versions.aspire({})
    assert version.state == State.END
    assert "does not appear to contain a SavedModel" in version.error.message


def found_numbers(tmp_path: pathlib.Path, *names: str) -> dict[int, str]:
    for name in names:
        (tmp_path / name).mkdir()
    return {number: path.name for number, path in version_folders(tmp_path, set()).items()}


def test_names_that_are_integers_of_64_bits(tmp_path):
    timestamp, largest = "20170111173521", "9223372036854775807"
    names = ["7", "0", "-3", "+4", " 5 ", timestamp, largest, "0" * 60 + "8"]
    others = ["9223372036854775808", "9" * 250, "1_0", "1.0", "0x1", "v2", "٣", "1 2", "-", "tmp"]
    expected = {int(name): name for name in names}
    assert found_numbers(tmp_path, *names, *others) == expected


def test_of_one_number_written_twice_the_last_in_alphabetical_order_counts(tmp_path, caplog):
    assert found_numbers(tmp_path, "1", "01", "001") == {1: "1"}
    Discovery().look([ServedModel("m", tmp_path)])
    assert "Duplicate version directories detected. Version 1 will be loaded from" in caplog.text


def look(discovery: Discovery, *models: ServedModel) -> dict[str, list[int]] | None:
    found = discovery.look(models)
    return found and {name: sorted(numbers) for name, numbers in found.items()}


@pytest.mark.parametrize(
    ("policy", "numbers"),
    [
        ({}, [12]),
        ({"latest": 2}, [3, 12]),
        ({"latest": 9}, [1, 2, 3, 12]),
        ({"policy": "all"}, [1, 2, 3, 12]),
        ({"policy": "specific", "specific": frozenset({2, 3, 7})}, [2, 3]),
    ],
)
def test_policies_choose_of_what_is_there(tmp_path, policy, numbers):
    for number in (1, 2, 3, 12):
        (tmp_path / str(number)).mkdir()
    assert look(Discovery(), ServedModel("m", tmp_path, **policy)) == {"m": numbers}


def test_a_specific_version_that_is_missing_is_told_of(tmp_path, caplog):
    (tmp_path / "1").mkdir()
    model = ServedModel("m", tmp_path, policy="specific", specific=frozenset({1, 7}))
    Discovery().look([model])
    assert "Version 7 of servable m, which was requested to be served" in caplog.text


def test_a_missing_base_path_stops_the_look_for_all_models_and_is_told_of_once(tmp_path, caplog):
    (tmp_path / "m" / "1").mkdir(parents=True)
    there, missing = ServedModel("m", tmp_path / "m"), ServedModel("n", tmp_path / "n")
    discovery = Discovery()
    for _ in range(3):
        assert look(discovery, there, missing) is None
    (record,) = caplog.records
    assert record.levelno >= logging.WARNING
    assert f"Could not find base path {tmp_path}/n for servable n" in record.getMessage()
    (tmp_path / "n" / "2").mkdir(parents=True)
    assert look(discovery, there, missing) == {"m": [1], "n": [2]}
    (tmp_path / "n" / "2").rmdir()
    (tmp_path / "n").rmdir()
    assert look(discovery, there, missing) is None
    assert len(caplog.records) == 2


@pytest.mark.parametrize("name", ["file", "zero\0byte"])
def test_a_base_path_that_can_not_be_a_folder(tmp_path, name):
    (tmp_path / "file").touch()
    assert look(Discovery(), ServedModel("m", tmp_path / name)) is None


def test_an_empty_base_path_aspires_nothing_and_is_told_of_once(tmp_path, caplog):
    discovery = Discovery()
    for _ in range(3):
        assert look(discovery, ServedModel("m", tmp_path)) == {"m": []}
    (record,) = caplog.records
    assert record.getMessage() == (
        f"No versions of servable m found under base path {tmp_path}. Did you forget to name your "
        "leaf directory as a number (eg. '/1/')?"
    )
