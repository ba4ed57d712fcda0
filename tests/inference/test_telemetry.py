"""OpenVINO would tell its maker what it is used for; here it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONVERTED = """
import socket, sys, threading

def refuse(*args):
    raise AssertionError(f"connects to {args[1:]}")

socket.socket.connect = socket.getaddrinfo = refuse
threads = threading.active_count()

import torch
import watermark.inference.openvino.lm
from watermark.inference.openvino.graph import compile_network
import openvino

compile_network(openvino.Core(), torch.nn.Linear(3, 2), torch.zeros(2, 3), 1)
assert sys.modules["openvino_telemetry"] is None
assert threading.active_count() == threads, threading.enumerate()
"""


def test_using_openvino_is_told_to_nobody(tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    environment = {**os.environ, "HOME": str(home), "COUNTERSIGN_CACHE": str(tmp_path / "cache")}
    ran = subprocess.run([sys.executable, "-c", CONVERTED], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert not list(home.rglob("*")), "it keeps an identity of the user there"
