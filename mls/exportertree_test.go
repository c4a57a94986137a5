package mls

import (
	"bytes"
	"errors"
	"testing"
)

// naiveExport derives a component's secret from the root, bit by bit.
func naiveExport(t testing.TB, s *suite, secret []byte, id ComponentID) []byte {
	for bit := 15; bit >= 0; bit-- {
		side := "left"
		if id>>bit&1 == 1 {
			side = "right"
		}
		next, err := s.expandWithLabel(secret, "tree", []byte(side), s.nh())
		noError(t, err)
		secret = next
	}
	return secret
}

func TestSafeExport(t *testing.T) {
	w := newWorld(t, suite1)
	w.stores = map[string]map[string][]byte{"m0": {}}
	w.add("m0", "m1")
	root := bytes.Clone(w.groups["m0"].exports[uint32(rootPosition(exporterDepth))])
	for _, id := range []ComponentID{0, 1, 0x8001, 0xffff, 0x8000} {
		want := naiveExport(t, w.groups["m0"].suite, root, id)
		for _, n := range w.names {
			got, err := w.groups[n].SafeExport(id)
			noError(t, err)
			equal(t, "exported secret", got, want)
			w.reload(n)
			if _, err := w.groups[n].SafeExport(id); !errors.Is(err, ErrReplay) {
				t.Errorf("%s exports to %v twice: %v", n, id, err)
			}
			for k, v := range w.stores[n] {
				if bytes.Contains(v, want) || bytes.Contains(v, root) {
					t.Errorf("record %s of %s holds a secret that was handed out", k, n)
				}
			}
		}
	}
	w.commit("m0", CommitOptions{})
	if _, err := w.groups["m1"].SafeExport(1); err != nil {
		t.Errorf("in the next epoch: %v", err)
	}
}
