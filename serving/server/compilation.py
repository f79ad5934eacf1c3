"""Whether models may have XLA compile parts of them.

Compilation takes seconds, at each new shape of the inputs, so that a server has to permit it.
Models that were exported without it run either way.

Source: tensorflow_serving/model_servers/main.cc; tensorflow/compiler/jit/flags.h.
"""

from __future__ import annotations

import ctypes
import logging
import pathlib

import tensorflow as tf

_log = logging.getLogger(__name__)
# tensorflow::DisableXlaCompilation(), which has no name in Python.
_DISABLE = "_ZN10tensorflow21DisableXlaCompilationEv"


def refuse_compilation() -> None:
    """From now on what is to be compiled fails in this process: "XLA compilation disabled".

    It is what tensorflow_model_server calls without its two flags. The error's code is INTERNAL.
    """
    for library in pathlib.Path(tf.sysconfig.get_lib()).glob("libtensorflow_cc.*"):
        function = getattr(ctypes.CDLL(str(library)), _DISABLE, None)
        if function is not None:
            function.restype = None
            function()
            return
    _log.warning("compiled models are served here without --xla_cpu_compilation_enabled")
