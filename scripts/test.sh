#!/usr/bin/env bash
# Runs every test, in two halves beside each other: those of Ray and of training in several processes mostly wait for processes to start,
# and the others use the time; the rest is there so that both end at about the same time. What the first half says comes after the
# second's.
set -uo pipefail
cd "$(dirname "$0")/.."

apart=(tests/bulk tests/service/cluster tests/training/test_processes.py tests/inference tests/models tests/statistics tests/test_compiled.py)
said=$(mktemp)
.venv/bin/python -m pytest "${apart[@]}" >"$said" 2>&1 &
beside=$!
trap 'kill "$beside" 2>/dev/null; rm -f "$said"' EXIT

.venv/bin/python -m pytest "${apart[@]/#/--ignore=}"
status=$?
wait "$beside" || status=$?
cat "$said"
exit "$status"
