"""The user's files: where they are, what is in them, and what to say of those that are damaged."""

from __future__ import annotations

import gzip
import pathlib
import zlib
from collections.abc import Sequence

from pipelines.engine.application import UserError


def data_path(data_dir: str | None, holds: str) -> pathlib.Path:
    """``data_dir`` as a path to something that exists and is not empty.

    Args:
        data_dir: the option of that name.
        holds: what is expected there, for the message.

    Raises:
        UserError: for a path that is not given, does not exist or is an empty folder.
    """
    if data_dir is None:
        raise UserError(f"which files? give a folder of {holds} with --data_dir")
    path = pathlib.Path(data_dir).expanduser()
    if not path.exists():
        raise UserError(f"{path}: no such folder; --data_dir takes a folder of {holds}")
    if path.is_dir() and not any(path.iterdir()):
        raise UserError(f"{path}: the folder is empty; it should hold {holds}")
    return path


def read(path: pathlib.Path) -> bytes:
    """The bytes of a file, unpacked if its name ends with .gz; UserError if they are damaged."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def read_lines(path: pathlib.Path) -> list[bytes]:
    """The lines of a text file (.gz or not), without their ends and the byte order mark.

    Only a line feed ends a line: Unicode's other separators occur inside sentences.
    """
    lines = read(path).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines]


def decode(line: bytes) -> str | None:
    """The text of a line, or None if it is not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return None


def accept(skipped: Sequence[str], strict: bool) -> tuple[str, ...]:
    """What was skipped, as given; UserError naming it if nothing may be (``--strict``)."""
    if skipped and strict:
        first = "; ".join(skipped[:3]) + ("; …" if len(skipped) > 3 else "")
        raise UserError(f"{len(skipped)} damaged (without --strict they are skipped): {first}")
    return tuple(skipped)
