"""The trials of a search for TensorBoard's HPARAMS page: ``tensorboard --logdir FOLDER``."""

from __future__ import annotations

import pathlib
from typing import Any

from pipelines.engine.lazy import tensorflow as tf
from pipelines.engine.run import replacing
from tuning.report.progress import scored
from tuning.trials import Dimension, Search, Trial


def write_hparams(search: Search, folder: pathlib.Path, began: float) -> None:
    """Replaces ``folder`` by the summaries of all trials, each in a folder of its number.

    Args:
        search: all its trials.
        folder: of nothing else, e.g. ``hparams`` in the folder of the search.
        began: when the search did, in seconds since 1970.

    Raises:
        UserError: if the disk refuses.
    """
    from tensorboard.plugins.hparams import api

    options = [_hyperparameter(dimension) for dimension in search.space]
    names = dict.fromkeys([search.objective, *(n for t in search.trials for n in t.measures)])
    with replacing(folder) as beside:
        with tf.summary.create_file_writer(str(beside)).as_default():
            api.hparams_config(hparams=options, metrics=[api.Metric(name) for name in names])
        for trial in search.trials:
            with tf.summary.create_file_writer(str(beside / f"{trial.number:04d}")).as_default():
                _write(trial, search, began)


def _hyperparameter(dimension: Dimension) -> Any:
    from tensorboard.plugins.hparams import api

    if dimension.scale == "choice":
        domain = api.Discrete([_told(dimension, value) for value in dimension.choices])
    elif dimension.scale == "integer":
        domain = api.IntInterval(int(dimension.low), int(dimension.high))
    else:
        domain = api.RealInterval(float(dimension.low), float(dimension.high))
    return api.HParam(dimension.name, domain)


def _told(dimension: Dimension, value: Any) -> Any:
    """A value as the page takes it: choices of several types, or of others, become text."""
    kinds = {type(choice) for choice in dimension.choices}
    return value if len(kinds) < 2 and kinds <= {bool, int, float, str} else str(value)


def _write(trial: Trial, search: Search, began: float) -> None:
    """The session of one trial: its settings, its curve, its measures and how it ended."""
    from tensorboard.plugins.hparams import api, api_pb2, summary

    settings = {
        dimension.name: _told(dimension, trial.hyperparameters[dimension.name])
        for dimension in search.space
        if dimension.name in trial.hyperparameters
    }
    started = began + trial.began
    api.hparams(settings, trial_id=f"trial {trial.number}", start_time_secs=started)
    for epoch, value in enumerate(trial.curve, 1):
        tf.summary.scalar(f"epoch_{search.objective}", value, step=epoch)
    score = {search.objective: trial.score} if scored(trial) else {}
    for name, value in {**trial.measures, **score}.items():
        tf.summary.scalar(name, value, step=0)
    if trial.status != "running":
        status = api_pb2.STATUS_SUCCESS if scored(trial) else api_pb2.STATUS_FAILURE
        end = summary.session_end_pb(status, started + trial.seconds)
        tf.summary.experimental.write_raw_pb(end.SerializeToString(), step=0)
