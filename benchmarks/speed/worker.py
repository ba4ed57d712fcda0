"""A contestant's own process: loads the engine of one module, then answers calls, a line of JSON each.

    python -m benchmarks.speed.worker MODULE OPTIONS

Started by `benchmarks.speed.contest`, for textseal perhaps with the Python of another environment: nothing but that module may be
imported here.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from importlib.metadata import version
from typing import Any


def main() -> None:
    # What libraries print goes to the log, not between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        module = importlib.import_module(sys.argv[1])
    except ModuleNotFoundError as error:
        answer({"missing": error.name})
        return
    engine = module.Engine(**json.loads(sys.argv[2]))
    answer({"versions": {package: version(package) for package in module.PACKAGES}})
    for line in sys.stdin:
        call = json.loads(line)
        answer(getattr(engine, call.pop("call"))(**call))


if __name__ == "__main__":
    main()
