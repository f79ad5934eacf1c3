"""The configuration of a run, and the command line that fills it in.

The schema is not written down anywhere: it is the fields of ``Recipe`` and the keyword arguments of
the chosen source, preprocessor, ``arrange``, task and builder. A hyperparameter's dotted name on
the command line is its name in ``config.json``, so that any saved configuration replays with
``--config``. Later wins: application, source variant, architecture variant, ``--config``, options.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jsonargparse

from pipelines.engine.application import Application, Recipe, UserError, Variant, choose
from pipelines.sources.partition import Partition

SECTIONS = ("source", "preprocess", "arrange", "task", "model")
# What a model must have in common with the run whose backbone it takes over.
INHERITED = ("preprocess", "model")
# What the engine itself hands over, which is therefore no option.
SOURCE_ARGUMENTS = {"data_dir", "download", "strict"}
ARRANGE_ARGUMENTS = {"dataset", "preprocessor", "training", "seed", "batch_size"}
ALIASES = {"--augment": "--arrange.augment", "--backbone": "--backbone.run"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """Everything that decides what a run computes.

    Args:
        application: the application's name.
        architecture: the builder's name in the application.
        dataset: the source's name in the application.
        data_dir: folder of the user's own files.
        download: whether the catalogue may fetch data.
        strict: whether a damaged file or row ends the run instead of being skipped.
        recipe: how the model is fitted.
        source: options of the source's constructor.
        preprocess: options of the preprocessor's constructor.
        arrange: options of ``arrange``.
        task: options of the task's constructor.
        model: options of the builder.
        transfer: the way to start from a backbone, by its name in the application, or None.
        backbone: options of that way.
        partition: which of the source's examples are for what.
    """

    application: str
    architecture: str
    dataset: str
    data_dir: str | None
    download: bool
    strict: bool
    recipe: Recipe
    source: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    arrange: Mapping[str, Any]
    task: Mapping[str, Any]
    model: Mapping[str, Any]
    transfer: str | None = None
    backbone: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    partition: Partition = dataclasses.field(default_factory=Partition)

    def to_json(self) -> str:
        """One flat JSON object: recipe and partition fields bare, the sections nested."""
        values = dataclasses.asdict(self)
        if self.transfer is None:  # as most runs, and all of most applications
            del values["transfer"], values["backbone"]
        asked = {name: value for name, value in values.pop("partition").items() if value}
        return json.dumps(values | values.pop("recipe") | asked, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """Reads what ``to_json`` wrote."""
        return cls.from_values(json.loads(text))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Configuration:
        """Gathers the bare fields of one flat mapping into a recipe and a partition.

        A field that is younger than the mapping has its default, with which the run was trained.
        """

        def among(kind: type) -> dict[str, Any]:
            fields = dataclasses.fields(kind)
            return {field.name: values[field.name] for field in fields if field.name in values}

        gathered = {"recipe": Recipe(**among(Recipe)), "partition": Partition(**among(Partition))}
        return cls(**among(cls), **gathered)

    def differences(self, other: Configuration) -> dict[str, tuple[Any, Any]]:
        """The dotted names whose values differ, with the value here and there."""
        here, there = (flatten(json.loads(c.to_json())) for c in (self, other))
        names = dict.fromkeys([*here, *there])
        return {
            name: (here.get(name), there.get(name))
            for name in names
            if here.get(name) != there.get(name)
        }


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


class Parser(jsonargparse.ArgumentParser):
    """A parser whose errors are one line that names what is allowed, the nearest first.

    Attributes:
        beside: the names of options that the command has taken out of the line before.
    """

    beside: Sequence[str] = ()

    def error(self, message: str, *_: Any) -> NoReturn:
        raise UserError(self._explain(str(message)))

    def _explain(self, message: str) -> str:
        message = " ".join(message.split())
        unknown = re.search(r"(?:unrecognized arguments: --|option ')([\w.]+)", message)
        if unknown:
            group = re.search(r"Group '(\w+)'", message)
            name = f"{group[1]}.{unknown[1]}" if group else unknown[1]
            known = [a.dest for a in self._actions if a.option_strings and a.dest not in SECTIONS]
            known = list(dict.fromkeys([*known, *self.beside]))
            near = difflib.get_close_matches(name, known, n=len(known), cutoff=0.0)
            return f"unknown option --{name}; there is: {', '.join('--' + n for n in near)}"
        literal = re.search(r'key "([\w.]+)": .*?Literal\[(.+?)\].*Got value: (\S+)', message)
        if literal:
            choices = re.findall(r"'([^']+)'", literal[2])
            near = difflib.get_close_matches(literal[3], choices, n=len(choices), cutoff=0.0)
            return f"--{literal[1]} {literal[3]} is no choice; there is: {', '.join(near)}"
        return re.sub(r'Parser key "([\w.]+)":', r"--\1:", message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """What one call of ``python -m pipelines.<application>`` is to do with its configuration.

    The options of the same names are explained in ``_add_command``.
    """

    run: str | None = None
    runs_dir: str = "runs"
    resume: bool = False
    smoke: bool = False
    prepare: str | None = None
    passes: int = 1
    prepared: str | None = None

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise UserError(f"--passes must be at least 1, not {self.passes}")


def parse(
    application: Application, arguments: Sequence[str], beside: Sequence[str] = ()
) -> tuple[Configuration, Command]:
    """Reads the command line of an application.

    Args:
        application: whose options they are.
        arguments: the options and their values.
        beside: names of the command's further options, which an error names too.

    Raises:
        UserError: for an unknown name, a bad type, a bad choice or options that exclude each other.
    """
    arguments = [_expand_alias(argument) for argument in arguments]
    first = _first_look(arguments)
    base_file = _base_file(application, first)
    base = _read_base(application, base_file) if base_file else {}
    transfer = first.transfer or base.get("transfer")
    if transfer and application.transfer:
        choose("transfer", transfer, application.transfer)
    backbone = _read_backbone(application, first, base)
    architecture = choose(
        "architecture",
        first.architecture
        or base.get("architecture")
        or backbone.get("architecture")
        or next(iter(application.architectures)),
        application.architectures,
    )
    dataset = choose(
        "dataset",
        first.dataset or base.get("dataset") or next(iter(application.sources)),
        application.sources,
    )
    parser = _parser(application, architecture, dataset, transfer)
    parser.beside = beside
    if backbone.get("architecture") == architecture:
        for section in INHERITED:
            parser.set_defaults({f"{section}.{k}": v for k, v in backbone[section].items()})
    # The file comes first, wherever it stood, so that every option wins over it.
    from_file = [f"--config={base_file}"] if base_file else []
    values = parser.parse_args([*from_file, *first.rest]).as_dict()
    configuration = Configuration.from_values(
        {section: {} for section in SECTIONS} | values | {"application": application.name}
    )
    _check_source_arguments(configuration, application)
    _check_dev_source(configuration, application)
    _check_transfer(configuration, application, backbone)
    if configuration.recipe.initializer and configuration.model.get("weights"):
        raise UserError("--initializer and --model.weights exclude each other")
    application.check(configuration)
    return configuration, Command(
        **{field.name: values[field.name] for field in dataclasses.fields(Command)}
    )


def construct(function: Any, available: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Calls ``function`` with its options and those of ``available`` that it has parameters for."""
    parameters = inspect.signature(function).parameters
    return function(**{k: v for k, v in available.items() if k in parameters}, **options)


def _expand_alias(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return ALIASES.get(name, name) + equals + value


def _first_look(arguments: Sequence[str]) -> argparse.Namespace:
    """Finds what the schema of the other options depends on; ``rest`` is all but ``--config``."""
    config = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    config.add_argument("--config")
    known, rest = config.parse_known_args(arguments)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("architecture", "dataset", "transfer", "run", "prepared"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--backbone.run", dest="backbone")
    parser.add_argument("--runs_dir", default=Command.runs_dir)
    parser.add_argument("--resume", action="store_true")
    parser.parse_known_args(rest, namespace=known)
    known.rest = rest
    return known


def _base_file(application: Application, first: argparse.Namespace) -> pathlib.Path | None:
    """The configuration that the options change: a file's, a run's or that of prepared arrays."""
    given = [name for name in ("config", "resume", "prepared") if getattr(first, name)]
    if len(given) > 1 and set(given) != {"resume", "prepared"}:
        raise UserError(f"--{given[0]} and --{given[1]} exclude each other")
    if first.resume and not first.run:
        raise UserError("--resume needs --run NAME, the run to continue")
    if first.resume:
        return pathlib.Path(first.runs_dir, application.name, first.run, "config.json")
    if first.prepared:
        return pathlib.Path(first.prepared, "config.json")
    return pathlib.Path(first.config) if first.config else None


def _read_base(application: Application, file: pathlib.Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text())
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}") from None
    if values.get("application", application.name) != application.name:
        raise UserError(
            f"{file} is a configuration of {values['application']}, not of {application.name}"
        )
    return values


def _read_backbone(
    application: Application, first: argparse.Namespace, base: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration of the run whose backbone is transferred, or nothing.

    Official weights that it started from have become its own.
    """
    run = first.backbone or base.get("backbone", {}).get("run")
    if not run or not application.transfer:
        return {}
    if not (first.transfer or base.get("transfer")):
        raise UserError(f"--backbone needs --transfer; there is: {', '.join(application.transfer)}")
    values = _read_base(application, pathlib.Path(run, "config.json"))
    model = {name: value for name, value in values["model"].items() if name != "weights"}
    return {**values, "model": model}


def _parser(
    application: Application, architecture: str, dataset: str, transfer: str | None
) -> Parser:
    """The schema for one architecture, one source and one way of transfer, with their defaults."""
    model, source = application.architectures[architecture], application.sources[dataset]
    variants = [source, model]
    parser = Parser(
        prog=f"python -m pipelines.{application.name}",
        description=application.summary,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="JSON file with any of these options")
    parser.add_argument("--application", default=application.name, help=argparse.SUPPRESS)
    parser.add_argument(
        "--architecture", default=architecture, choices=tuple(application.architectures)
    )
    parser.add_argument("--dataset", default=dataset, choices=tuple(application.sources))
    parser.add_argument("--data_dir", type=str | None, help="folder of your own files")
    parser.add_argument("--download", action="store_true", help="let the catalogue fetch data")
    parser.add_argument("--strict", action="store_true", help="refuse damaged files, don't skip")
    _add_command(parser.add_argument_group("What to do"))
    parser.add_class_arguments(Recipe, None, as_group=True)
    parser.add_class_arguments(Partition, None, as_group=True)
    parser.add_class_arguments(source.builder, "source", skip=SOURCE_ARGUMENTS)
    parser.add_class_arguments(application.preprocessor, "preprocess")
    parser.add_function_arguments(application.arrange, "arrange", skip=ARRANGE_ARGUMENTS)
    parser.add_class_arguments(application.task, "task")
    parser.add_function_arguments(
        model.builder, "model", skip=set(application.preprocessor.supplies)
    )
    if application.transfer:
        parser.add_argument(
            "--transfer",
            type=str | None,
            default=transfer,
            help="start from the backbone of a finished run or of --model.weights: "
            + "; ".join(f"{name}: {_summary(v)}" for name, v in application.transfer.items()),
        )
    if transfer and application.transfer:
        variants.append(application.transfer[transfer])
        parser.add_class_arguments(variants[-1].builder, "backbone")
    parser.set_defaults(dataclasses.asdict(application.recipe))
    known = {action.dest for action in parser._actions}
    for variant in variants:
        parser.set_defaults(dict(variant.recipe))
        for section in SECTIONS:
            for name, value in getattr(variant, section).items():
                # A source speaks of all builders, not all of which take the same arguments.
                if variant is not source or section != "model" or f"model.{name}" in known:
                    parser.set_defaults({f"{section}.{name}": value})
    return parser


def _summary(variant: Variant) -> str:
    """The first sentence that is said of what a variant builds."""
    return inspect.getdoc(variant.builder).partition(".")[0].lower()


def _add_command(group: Any) -> None:
    group.add_argument(
        "--run", type=str | None, help="name of the run folder (default: what runs, and the time)"
    )
    group.add_argument("--runs_dir", default=Command.runs_dir, help="folder of all runs")
    group.add_argument(
        "--resume", action="store_true", help="continue --run from its last finished epoch"
    )
    group.add_argument(
        "--smoke", action="store_true", help="two steps on a few examples: does it all fit?"
    )
    group.add_argument(
        "--prepare",
        type=str | None,
        help="write features and targets as arrays into this new folder instead of training",
    )
    group.add_argument(
        "--passes",
        type=int,
        default=Command.passes,
        help="arranged passes that --prepare writes; training takes them in turn, so that "
        "augmentation and random words still vary",
    )
    group.add_argument(
        "--prepared", type=str | None, help="train on the arrays in this folder, without TensorFlow"
    )


def _check_source_arguments(configuration: Configuration, application: Application) -> None:
    """Refuses a bare source option that the chosen source would silently ignore."""
    builder = application.sources[configuration.dataset].builder
    accepted = inspect.signature(builder).parameters
    for name in ("data_dir", "download", "strict"):
        if getattr(configuration, name) and name not in accepted:
            raise UserError(f"--dataset {configuration.dataset} takes no --{name}")


def _check_dev_source(configuration: Configuration, application: Application) -> None:
    """Refuses a source of dev examples that the application lacks, or that has no such folder."""
    if configuration.partition.development is None:
        return
    name, folder = configuration.partition.development
    builder = application.sources[choose("dev_source", name, application.sources)].builder
    if folder and "data_dir" not in inspect.signature(builder).parameters:
        raise UserError(f"--dev_source {name} reads no folder; leave out :{folder}")


def _check_transfer(
    configuration: Configuration, application: Application, backbone: Mapping[str, Any]
) -> None:
    """Refuses a transfer without a backbone, or onto a model that the backbone does not fit."""
    transfer, run = configuration.transfer, configuration.backbone.get("run")
    if transfer is None:
        return
    weights = configuration.model.get("weights")
    if not run and not weights:
        raise UserError(
            f"--transfer {transfer} needs a backbone: --backbone RUN (a finished run) or "
            "--model.weights (published ones, where the architecture has them)"
        )
    if run and weights:
        raise UserError("--backbone and --model.weights exclude each other: start from one of them")
    chosen = json.loads(configuration.to_json())
    for name in ("architecture", *INHERITED) if run else ():
        there, here = flatten({name: backbone[name]}), flatten({name: chosen[name]})
        for option, value in there.items():
            if here.get(option) != value:
                raise UserError(
                    f"{run} was trained with --{option} {value}, so its backbone does not fit "
                    f"--{option} {here.get(option)}; leave that option out"
                )
    for option, value in application.transfer[transfer].arrange.items():
        if configuration.arrange[option] != value:
            raise UserError(
                f"--transfer {transfer} needs --arrange.{option} {value}, not "
                f"{configuration.arrange[option]}: activations are computed once, so pictures "
                "cannot change from epoch to epoch; --transfer frozen lets them"
            )
