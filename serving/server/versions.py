"""The versions of one model, and the policy by which one follows another.

Availability comes first: what is new is loaded before what is old is unloaded.

Source: tensorflow_serving/core/{aspired_versions_manager,availability_preserving_policy}.cc.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from serving.server.version import State, Version


class Versions:
    """The versions of a model that are aspired or still in memory, and those that were.

    One thread at a time may change it; any thread may read.
    """

    def __init__(self, name: str):
        self._name = name
        self._wanted: Mapping[int, pathlib.Path] = {}
        self._current: dict[int, Version] = {}
        self._past: dict[int, Version] = {}

    def aspire(self, folders: Mapping[int, pathlib.Path]) -> None:
        """Wants exactly these versions served."""
        self._wanted = dict(folders)
        for number, version in self._current.items():
            # What is already on its way out ends first, and then begins anew (see settle).
            if version.state not in (State.UNLOADING, State.END) or number not in folders:
                version.aspired = number in folders
        self.settle()

    def settle(self) -> None:
        """Lets go of what has ended and isn't wanted; takes up what is wanted and isn't there.

        A version that failed stays as it is for as long as its folder does.
        """
        for number, version in list(self._current.items()):
            if version.pending and not version.aspired:
                version.give_up()
            if version.state == State.END and not version.aspired:
                self._past[number] = version
                del self._current[number]
        for number in sorted(self._wanted.keys() - self._current.keys()):
            self._current[number] = Version(self._name, number, self._wanted[number])

    def to_load(self) -> list[Version]:
        """What an attempt has to be made at now, the newest first."""
        return [version for version in self._newest_first() if version.aspired and version.begin()]

    def to_unload(self) -> list[Version]:
        """What isn't aspired, the oldest first, but never the last one that answers.

        If nothing is aspired, nothing has to answer.
        """
        current = self._newest_first()
        surplus = [v for v in current if v.available and not v.aspired]
        aspired = [version for version in current if version.aspired]
        if aspired and not any(version.available for version in aspired):
            surplus = surplus[1:]
        return surplus[::-1]

    def unloading(self) -> list[Version]:
        """What is to be freed as soon as no request holds it."""
        return [v for v in list(self._current.values()) if v.state == State.UNLOADING]

    def find(self, number: int) -> Version | None:
        """The version of that number, if it is aspired or in memory."""
        return self._current.get(number)

    def latest(self) -> Version | None:
        """The newest version that is available."""
        latest = None
        for version in list(self._current.values()):
            if version.available and (latest is None or version.number > latest.number):
                latest = version
        return latest

    def outcome(self) -> Version | None:
        """A version that is served; or the newest one, if all have failed; or none as yet.

        TensorFlow Serving takes the newest one that is served or has failed by the time that every
        model has such a one, which depends on the order in which versions happen to be loaded.
        """
        aspired = [version for version in self._newest_first() if version.aspired]
        for version in aspired:
            if version.available:
                return version
        return aspired[0] if aspired and all(v.state == State.END for v in aspired) else None

    def history(self) -> list[Version]:
        """Every version that was ever met, the newest first."""
        return _sorted({**self._past, **self._current})

    def _newest_first(self) -> list[Version]:
        return _sorted(self._current)


def _sorted(versions: Mapping[int, Version]) -> list[Version]:
    return [versions[number] for number in sorted(versions, reverse=True)]
