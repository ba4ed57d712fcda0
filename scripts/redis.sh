#!/usr/bin/env bash
# Prints the path of Redis' server program, for the tests of shared rate limits; installs Debian's package when there is none and this may
# be done. REDIS_SERVER names another program.
set -euo pipefail

if [ -n "${REDIS_SERVER:-}" ]; then
    [ -x "$REDIS_SERVER" ] && echo "$REDIS_SERVER" && exit 0
    echo "error: REDIS_SERVER is $REDIS_SERVER, which cannot be run" >&2
    exit 1
fi

command -v redis-server && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing redis-server, which the tests of shared rate limits need …" >&2
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >&2
    command -v redis-server && exit 0
fi
echo "error: the tests of shared rate limits run a Redis server of their own. On Debian run: sudo apt-get install redis-server" \
    "(or name its program: REDIS_SERVER=/path/to/redis-server)" >&2
exit 1
