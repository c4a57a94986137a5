//go:build !race

package mls

import (
	"bytes"
	"testing"
)

// What an application message derives takes one allocation each: the result.
// (The race detector makes pools forget, so this is not for it.)
func TestDerivingAllocatesTheResultOnly(t *testing.T) {
	s := mustSuite(t, suite1)
	secret := bytes.Repeat([]byte{7}, 32)
	if n := testing.AllocsPerRun(200, func() {
		_, _ = s.deriveTreeSecret(secret, "secret", 5, 32)
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
