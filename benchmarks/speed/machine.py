"""What the figures depend on, as far as it may be told: the number of cores and the vector instructions, not whose machine it is."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16")
"""Those that matrix products of a language model use, by the names that Linux has for them."""


def instruction_sets(cpuinfo: str) -> list[str]:
    """Of the first processor in the text of /proc/cpuinfo."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = next((value.split() for name, _, value in lines if name.strip().lower() in ("flags", "features")), [])
    return [name for name in INSTRUCTIONS if name in flags]


def machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    return {
        "cores": os.cpu_count(),
        "instruction_sets": instruction_sets(cpuinfo.read_text()) if cpuinfo.is_file() else [],
        "system": platform.system(),
        "python": platform.python_version(),
    }
