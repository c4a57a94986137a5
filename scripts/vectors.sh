#!/bin/sh
# Says which official test vectors were used, and which were missing. A test
# whose vectors are missing skips itself with a message that says so; this
# makes sure that nobody takes that for a pass.
set -eu
log=$($GO test -v -run 'Vector|TestExamples|TestStatusExample|TestDerivedValuesExample' ./mls ./content 2>&1) || { echo "$log" | tail -40; exit 1; }
passed=$(echo "$log" | grep -c '^--- PASS' || true)
missing=$(echo "$log" | grep -c 'MISSING VECTORS' || true)
echo "vectors: $passed tests with official vectors passed, $missing without theirs"
if [ "$missing" -gt 0 ]; then
	echo "vectors: MISSING, so nothing is known about these:"
	echo "$log" | grep 'MISSING VECTORS' | sort -u
	echo "vectors: put the official vectors into ../shared/vectors, or name their folder in COMITY_VECTORS"
elif [ "$passed" -eq 0 ]; then
	echo "vectors: no vector test was run"
	exit 1
fi
