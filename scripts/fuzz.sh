#!/bin/sh
# Fuzzes every target of every package for FUZZTIME. A package is compiled
# once. A target that fails leaves its input under testdata/fuzz of its
# package.
set -eu
mkdir -p .bin/fuzz
work=$(cd .bin/fuzz && pwd)
count=0

# fuzz runs one target of $package. Inputs that merely reach new code need not
# be made small.
fuzz() {
	(cd "$dir" && "$work/test" -test.run '^$' -test.fuzz "^$1\$" -test.fuzztime "$FUZZTIME" \
		-test.fuzzminimizetime 1x -test.fuzzcachedir "$work/cache/$package") >"$work/log" 2>&1
}

for package in $($GO list ./...); do
	dir=$($GO list -f '{{.Dir}}' "$package")
	grep -qs '^func Fuzz' "$dir"/*_test.go || continue
	$GO test -c -fuzz . -o "$work/test" "$package"
	for target in $(cd "$dir" && "$work/test" -test.list '^Fuzz'); do
		fuzz "$target" || {
			# On a busy machine Go may take the end of the time for a failure.
			# A failure of the target names its input.
			grep -q 'context deadline exceeded' "$work/log" && ! grep -q 'Failing input' "$work/log" && fuzz "$target"
		} || {
			cat "$work/log"
			echo "fuzz: $package $target failed"
			exit 1
		}
		echo "fuzz: $package $target: $(grep -o 'execs: [0-9]*' "$work/log" | tail -1)"
		count=$((count + 1))
	done
done
test "$count" -gt 0 || { echo "fuzz: no target found"; exit 1; }
echo "fuzz: $count targets passed"
