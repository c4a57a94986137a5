#!/bin/sh
# Runs the unit tests under the race detector, or without it where there is no
# C compiler to link it with. The end-to-end tests have a target of their own.
set -eu
packages=$($GO list ./... | grep -v '/e2e')
if command -v "$($GO env CC)" >/dev/null 2>&1; then
	CGO_ENABLED=1 exec $GO test -race -timeout 30m $packages
fi
echo "race: SKIPPED, no C compiler ($($GO env CC)); running without the race detector"
exec $GO test -timeout 30m $packages
