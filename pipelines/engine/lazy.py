"""Modules that are imported when they are first used, not when they are named.

Training from prepared arrays runs on machines without TensorFlow, and there the same application,
preprocessing and source files are imported for their names and options alone.
"""

import importlib
import types


class LazyModule(types.ModuleType):
    """Stands for the module ``name`` and imports it at the first attribute access."""

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self.__name__), attribute)


tensorflow = LazyModule("tensorflow")
tensorflow_text = LazyModule("tensorflow_text")
