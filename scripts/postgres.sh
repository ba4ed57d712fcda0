#!/usr/bin/env bash
# Prints the folder of PostgreSQL's server programs, for the tests that must hold on both databases; installs Debian's package when there
# is none and this may be done. POSTGRES_BIN names another folder.
set -euo pipefail

if [ -n "${POSTGRES_BIN:-}" ]; then
    [ -x "$POSTGRES_BIN/initdb" ] && echo "$POSTGRES_BIN" && exit 0
    echo "error: POSTGRES_BIN is $POSTGRES_BIN, where there is no initdb that can be run" >&2
    exit 1
fi

find_postgres() {
    local folder
    for folder in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -rV); do
        [ -x "$folder/initdb" ] && echo "$folder" && return
    done
    command -v initdb >/dev/null && dirname "$(command -v initdb)"
}

find_postgres && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing postgresql, which the tests of the storage need …" >&2
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >&2
    find_postgres && exit 0
fi
echo "error: the tests of the storage run a PostgreSQL server of their own. On Debian run: sudo apt-get install postgresql" \
    "(or name its programs: POSTGRES_BIN=/path/to/bin)" >&2
exit 1
