#!/usr/bin/env bash
# Prints the path of a Chromium for the tests of the page; installs Debian's when there is none and this may be done.
# BROWSER_PATH names another one.
set -euo pipefail

if [ -n "${BROWSER_PATH:-}" ]; then
    [ -x "$BROWSER_PATH" ] && echo "$BROWSER_PATH" && exit 0
    echo "error: BROWSER_PATH is $BROWSER_PATH, which is not there or cannot be run" >&2
    exit 1
fi

find_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" && return
    done
    return 1
}

find_browser && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing chromium, which the tests of the page need …" >&2
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >&2
    find_browser && exit 0
fi
echo "error: the tests of the page need Chromium or Chrome. On Debian run: sudo apt-get install chromium" \
    "(or name one: BROWSER_PATH=/path/to/chrome)" >&2
exit 1
