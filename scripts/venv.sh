#!/usr/bin/env bash
# Makes .venv with Countersign and its tools in it, and does nothing when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp="$venv/countersign.stamp"
export PIP_DISABLE_PIP_VERSION_CHECK=1

# The state that an installation belongs to: what decides its content, and where it is (an editable install points here).
state() {
    "$venv/bin/python" - <<'PYTHON' 2>/dev/null
import hashlib, os, pathlib, sys
files = b"".join(pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
print(hashlib.sha256(files + f"{sys.version}{os.getcwd()}".encode()).hexdigest())
PYTHON
}

works() { "$1" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; }
can_make_venv() { "$1" -c "import ensurepip, venv" 2>/dev/null; }

find_python() {
    local name without_venv=""
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3 python; do
        command -v "$name" >/dev/null && works "$name" || continue
        if can_make_venv "$name"; then
            echo "$name"
            return
        fi
        without_venv=${without_venv:-$name}
    done
    if [ -z "$without_venv" ]; then
        echo "error: Python 3.11 or newer is needed and was not found. Install it, or name it: make PYTHON=/path/to/python" >&2
        return 1
    fi
    local package="python$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing $package, which $without_venv lacks …" >&2
        apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >&2
        can_make_venv "$without_venv" && echo "$without_venv" && return
    fi
    echo "error: $without_venv cannot make virtual environments. On Debian or Ubuntu run: sudo apt-get install $package" >&2
    return 1
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(state)" ]; then
    exit 0
fi
if ! { [ -x "$venv/bin/python" ] && works "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }; then
    python=$(find_python)
    echo "Making $venv with $("$python" --version) …"
    "$python" -m venv --clear "$venv"
fi
rm -f "$stamp"
echo "Installing Countersign into $venv (once; the language model and torch are large) …"
# shellcheck disable=SC2086  # PIP_ARGS is a list of arguments
"$venv/bin/python" -m pip install --quiet --no-input --constraint constraints.txt ${PIP_ARGS:-} --editable ".[dev]"
state >"$stamp"
