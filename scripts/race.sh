#!/bin/sh
# Runs the unit tests under the race detector, or without it where there is no
# C compiler to link it with. The end-to-end tests have a target of their own.
#
# Package mls is run whole without it, and then once more with it for what
# uses several goroutines: its vectors, forgeries and random histories use
# one, and the detector makes their curves six times slower.
set -eu
packages=$($GO list ./... | grep -v '/e2e')
if ! command -v "$($GO env CC)" >/dev/null 2>&1; then
	echo "race: SKIPPED, no C compiler ($($GO env CC)); running without the race detector"
	exec $GO test -timeout 30m $packages
fi
$GO test -timeout 30m ./mls
CGO_ENABLED=1 $GO test -race -short -timeout 30m \
	-skip 'Vectors|Validation|Mutat|Hole|Heap|Histories|Random|Logarithmic|AgreesWith|InvalidCommits|Algorithms|SignatureSchemes' ./mls
CGO_ENABLED=1 exec $GO test -race -timeout 30m $(echo "$packages" | grep -v '/mls$')
