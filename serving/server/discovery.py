"""The look at the file system: which version folders are there.

Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc.
"""

from __future__ import annotations

import logging
import pathlib
import re
from collections.abc import Iterable

from serving.server.configuration import ServedModel

_log = logging.getLogger(__name__)

# What absl::SimpleAtoi takes for an integer of 64 bits.
_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*")
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class Discovery:
    """Looks at base paths; what is amiss is logged when it begins, not at every look."""

    def __init__(self) -> None:
        self._amiss: set[str] = set()

    def look(self, models: Iterable[ServedModel]) -> dict[str, dict[int, pathlib.Path]] | None:
        """The version folders that are to be served, by model and number.

        None if a base path can't be read: an outage of the file system must not unload anything,
        so that one missing base path leaves every model as it is.
        """
        amiss: set[str] = set()
        found: dict[str, dict[int, pathlib.Path]] | None = {}
        for model in models:
            try:
                folders = version_folders(model.base_path, amiss)
            except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
                amiss.add(
                    "FileSystemStoragePathSource encountered a filesystem access error: Could not "
                    f"find base path {model.base_path} for servable {model.name} with error {error}"
                )
                found = None
                break
            _note_absences(model, folders, amiss)
            found[model.name] = {number: folders[number] for number in model.choose(folders)}
        for message in sorted(amiss - self._amiss):
            _log.warning(message)
        self._amiss = amiss
        return found


def version_folders(base_path: pathlib.Path, amiss: set[str]) -> dict[int, pathlib.Path]:
    """What is named by an integer; of "1" and "01", the last in alphabetical order."""
    folders: dict[int, pathlib.Path] = {}
    for path in sorted(base_path.iterdir()):
        number = _version_number(path.name)
        if number is None:
            continue
        if number in folders:
            amiss.add(
                f"Duplicate version directories detected. Version {number} will be loaded from "
                f"{path}, {folders[number]} will be ignored."
            )
        folders[number] = path
    return folders


def _version_number(name: str) -> int | None:
    match = _INTEGER.fullmatch(name)
    # Python refuses to convert thousands of digits; twenty are already too many for 64 bits,
    # but for leading zeros.
    if match is None or len(match[1].lstrip("+-0")) > len(str(_LARGEST)):
        return None
    number = int(match[1])
    return number if _SMALLEST <= number <= _LARGEST else None


def _note_absences(model: ServedModel, folders: Iterable[int], amiss: set[str]) -> None:
    if not model.choose(folders):
        amiss.add(
            f"No versions of servable {model.name} found under base path {model.base_path}. Did "
            "you forget to name your leaf directory as a number (eg. '/1/')?"
        )
    for number in model.specific - set(folders) if model.policy == "specific" else ():
        amiss.add(
            f"Version {number} of servable {model.name}, which was requested to be served as a "
            "'specific' version in the servable's version policy, was not found in the file system"
        )
