#!/bin/sh
# Fuzzes every target of every package for a short while. A target that fails
# leaves its input under testdata/fuzz of its package.
set -eu
count=0
for package in $($GO list ./...); do
	dir=$($GO list -f '{{.Dir}}' "$package")
	grep -qs '^func Fuzz' "$dir"/*_test.go || continue
	for target in $($GO test -list '^Fuzz' "$package" | grep '^Fuzz'); do
		echo "fuzz: $package $target"
		$GO test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$package" >.bin/fuzz.log 2>&1 || {
			cat .bin/fuzz.log
			exit 1
		}
		count=$((count + 1))
	done
done
test "$count" -gt 0 || { echo "fuzz: no target found"; exit 1; }
echo "fuzz: $count targets passed"
