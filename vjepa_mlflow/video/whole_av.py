"""Imports all of PyAV, for processes that may open no file later on: it imports some modules when they are needed."""

import importlib
import pkgutil

import av

for _module in pkgutil.walk_packages(av.__path__, f"{av.__name__}."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)
