"""The tests of a module, to be asked again of the Ray application."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

SERVED = {"served", "client"}


def tests_of(*modules: ModuleType) -> dict[str, Any]:
    """Names, made different where modules have the same, to tests of the fixtures in SERVED; a test that starts a service is left out."""
    found = {}
    for module in modules:
        stem = module.__name__.rpartition(".")[2].removeprefix("test_")
        for name, value in vars(module).items():
            if name.startswith("test_") and inspect.isfunction(value) and SERVED & set(inspect.signature(value).parameters):
                found[f"test_{stem}_{name.removeprefix('test_')}"] = value
    return found
