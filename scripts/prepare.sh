#!/bin/sh
# Installs what the tests need beyond Go, where that is possible without
# asking: as root, or with sudo that wants no password, through apt. Elsewhere
# the tests say which parts they skip and why.
set -eu
need=
command -v gcc >/dev/null 2>&1 || need="$need gcc libc6-dev" # the race detector links with it
[ -n "$need" ] || exit 0
if command -v apt-get >/dev/null 2>&1; then
	if [ "$(id -u)" = 0 ]; then
		apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $need
		exit 0
	elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
		sudo apt-get update -q && sudo DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $need
		exit 0
	fi
fi
echo "prepare: not installed (neither root nor sudo, or no apt):$need"
