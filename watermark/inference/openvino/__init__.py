"""The frozen model on CPUs, through OpenVINO: converted once (`convert`), then read and continued (`lm`, `running`)."""

import sys

# From its first import on, OpenVINO tells its maker's analytics service what it is used for, unless the package that does so is missing.
# Nobody who marks texts has asked for that: it is missing. (A program that has imported it by itself keeps it.)
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
