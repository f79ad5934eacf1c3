"""``python -m serving.client``: asks a model from the command line."""

from __future__ import annotations

import argparse
import json
import logging
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from serving.client.blocking import Client
from serving.client.channel import DEFAULT_TARGET, DEFAULT_TIMEOUT, Tls
from serving.client.conversation import DEFAULT_SIGNATURE
from serving.client.errors import BadRowError, InputError, ServingError, as_input_error
from serving.client.signature import Field, Signature, choose_signature

# Longer outputs are printed by their shape.
_MOST_NUMBERS = 50
# Floats between these are printed without fractions, as a price is, not as powers of ten.
_UNITS, _POWERS = 1e4, 1e15


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m serving.client",
        allow_abbrev=False,
        description="Asks a model over gRPC and prints its answer.",
        epilog="The features are the inputs of the signature: --<feature> VALUE|@file …; several "
        "values are a batch. @file stands for the bytes of a file, for a numeric feature for an "
        ".npy file; numbers and lists of them are written as JSON.",
    )
    parser.add_argument("model", help="the model's name on the server")
    parser.add_argument("--host", default=DEFAULT_TARGET, help="host:port (%(default)s)")
    parser.add_argument("--signature", default=DEFAULT_SIGNATURE, help="(%(default)s)")
    parser.add_argument("--version", type=int, help="a version's number (the newest)")
    parser.add_argument("--label", help="a version's label")
    parser.add_argument("--timeout", type=float, default=DEFAULT_TIMEOUT, help="seconds (30)")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    parser.add_argument(
        "--files",
        nargs="+",
        help="many values of the one feature that is not given, a file each, or in a .txt file a "
        "line each; with --json an object a line",
    )
    tls = parser.add_argument_group("encryption", "Without any of these it is in clear text.")
    tls.add_argument("--tls", action="store_true", help="trust the usual authorities")
    tls.add_argument("--tls_root", metavar="FILE", help="trust this certificate (PEM)")
    tls.add_argument("--tls_certificate", metavar="FILE", help="the client's certificate (PEM)")
    tls.add_argument("--tls_key", metavar="FILE", help="and its private key (PEM)")
    tls.add_argument(
        "--tls_server_name", metavar="NAME", help="the name in the server's certificate"
    )
    return parser.parse_known_args(arguments)


def _tls(options: argparse.Namespace) -> Tls | None:
    files = (options.tls_root, options.tls_certificate, options.tls_key)
    wanted = options.tls or options.tls_server_name or any(files)
    return Tls(*files, options.tls_server_name) if wanted else None


def _read_features(arguments: list[str], signature: Signature) -> dict[str, Any]:
    """``--<feature> VALUE|@file …`` for the inputs of a signature."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.client", allow_abbrev=False, add_help=False, exit_on_error=False
    )
    for name in signature.inputs:
        parser.add_argument(f"--{name}", dest=name, nargs="+", default=argparse.SUPPRESS)
    try:
        found, surplus = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from None
    if surplus:
        asked = ", ".join(f"--{name} ({field})" for name, field in signature.inputs.items())
        raise InputError(f"unknown argument {surplus[0]}; the model takes {asked}")
    features = {}
    for name, words in vars(found).items():
        values = [_read_word(name, word, signature.inputs[name]) for word in words]
        features[name] = values[0] if len(values) == 1 else values
    return features


def _read_word(name: str, word: str, field: Field) -> Any:
    return pathlib.Path(word[1:]) if word.startswith("@") else _read_value(name, word, field)


def _read_value(name: str, text: str, field: Field) -> Any:
    if field.dtype == "string":
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise InputError(f"{name} must be {field}, not {text!r}") from None


def _input_left(signature: Signature, features: dict[str, Any]) -> str:
    """The one input that is still to be filled."""
    left = [n for n, field in signature.inputs.items() if field.required and n not in features]
    if len(left) != 1:
        asked = ", ".join(f"--{name}" for name in left) or "none"
        raise InputError(f"--files fills the one feature that is not given; left is {asked}")
    return left[0]


def _read_files(files: Sequence[str], name: str, field: Field) -> tuple[list[str], list[Any]]:
    """What to call each value, and the values: lines of ``.txt`` files, other files whole."""
    names, values = [], []
    for file in files:
        if file.endswith(".txt"):
            with as_input_error(name, str(field)):
                lines = pathlib.Path(file).read_text().splitlines()
            names += [f"{file}:{number}" for number, _ in enumerate(lines, start=1)]
            values += [_read_value(name, line, field) for line in lines]
        else:
            names.append(file)
            values.append(pathlib.Path(file))
    return names, values


def _plain(value: Any) -> Any:
    """A value as JSON has it; bytes that are no text as their length."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value] if value.dtype == object else value.tolist()
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else value


def _readable(value: Any) -> str:
    """A value for people: rows on lines of their own, many numbers only by their shape."""
    if isinstance(value, np.ndarray):
        if value.dtype != object and value.size > _MOST_NUMBERS:
            return f"{value.dtype} {list(value.shape)} (--json prints the numbers)"
        if value.ndim == 1:
            return ", ".join(_readable(item) for item in value)
        return "".join(f"\n  {_readable(row)}" for row in value)
    value = value.item() if isinstance(value, np.generic) else _plain(value)
    if not isinstance(value, float):
        return str(value)
    # A price to the unit instead of as a power of ten.
    return f"{value:.0f}" if _UNITS <= abs(value) < _POWERS else f"{value:.4g}"


def _print_answer(answer: dict[str, Any], indent: str = "") -> None:
    for name, value in answer.items():
        print(f"{indent}{name}: {_readable(value)}")


def _print_json(answer: dict[str, Any], **more: str) -> None:
    """On one line; complex numbers as text."""
    plain = {name: _plain(value) for name, value in answer.items()}
    print(json.dumps(more | plain, default=str))


def _print_error(error: object) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def _print_answers(
    names: Iterable[str], answers: Iterable[dict[str, Any] | BadRowError], as_json: bool
) -> int:
    """Prints many answers as they come; returns how many examples were refused."""
    refused = 0
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, BadRowError):
            refused += 1
            _print_error(f"{name}: {answer.reason}")
        elif as_json:
            _print_json(answer, file=name)
        else:
            print(f"{name}:")
            _print_answer(answer, indent="  ")
    return refused


def _run(client: Client, options: argparse.Namespace, rest: list[str]) -> int:
    chosen = {"version": options.version, "label": options.label}
    known = client.signatures(options.model, **chosen)
    signature = choose_signature(options.model, known, options.signature)
    features = _read_features(rest, signature)
    question = {"signature": options.signature, **chosen}
    if options.files is None:
        answer = client.predict(options.model, features, **question)
        (_print_json if options.json else _print_answer)(answer)
        return 0
    name = _input_left(signature, features)
    names, values = _read_files(options.files, name, signature.inputs[name])
    answers = client.predict_many(
        options.model, {name: values, **features}, progress=sys.stderr.isatty(), **question
    )
    return 1 if _print_answers(names, answers, options.json) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options, rest = _parse(arguments)
    # While a server is waited for, the user is told so.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("serving.client").setLevel(logging.INFO)
    try:
        with Client(options.host, timeout=options.timeout, tls=_tls(options)) as client:
            return _run(client, options, rest)
    except (InputError, ServingError) as error:
        _print_error(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
