#!/bin/sh
# Installs what the tests need beyond Go, where that is possible without
# asking: as root, or with sudo that wants no password, through apt; and the
# packages of the npm registry that e2e/tsmls pins, into its own folder.
# Elsewhere the tests say which parts they skip and why.
set -eu
need=
command -v gcc >/dev/null 2>&1 || need="$need gcc libc6-dev" # the race detector links with it
command -v node >/dev/null 2>&1 || need="$need nodejs"        # e2e/tsmls runs ts-mls with it
command -v npm >/dev/null 2>&1 || need="$need npm"

# install installs $need, or says why not.
install() {
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "prepare: not installed (no apt):$need"
	elif [ "$(id -u)" = 0 ]; then
		{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $need; } ||
			echo "prepare: apt did not install:$need"
	elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
		{ sudo apt-get update -q && sudo DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $need; } ||
			echo "prepare: apt did not install:$need"
	else
		echo "prepare: not installed (neither root nor sudo):$need"
	fi
}
[ -z "$need" ] || install

cd e2e/tsmls
# npm writes the first file when it has installed all that the second lists.
[ node_modules/.package-lock.json -nt package-lock.json ] && exit 0
if ! command -v npm >/dev/null 2>&1; then
	echo "prepare: no npm, so e2e/tsmls has no ts-mls and skips its tests"
elif ! npm ci --ignore-scripts --no-audit --no-fund; then
	rm -rf node_modules
	echo "prepare: npm could not install the packages of e2e/tsmls, perhaps for want of a registry; its tests are skipped"
fi
