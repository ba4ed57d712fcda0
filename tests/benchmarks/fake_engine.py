"""A contestant of the speed benchmark that multiplies, and prints where libraries do."""

from __future__ import annotations

import os

PACKAGES = ("numpy",)


class Engine:
    def __init__(self, factor: int, threads: int) -> None:
        self.factor = factor

    def times(self, number: int) -> int:
        print("a library talks")
        os.write(1, b"one written in C too\n")
        return self.factor * number

    def pid(self) -> int:
        return os.getpid()
