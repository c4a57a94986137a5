package mls

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

func testTree(t testing.TB, leaves uint32) *secretTree {
	s := mustSuite(t, X25519AES128SHA256Ed25519)
	return newSecretTree(s, leaves, bytes.Repeat([]byte{7}, s.nh()))
}

func TestSecretTreeOutOfOrder(t *testing.T) {
	const window = 16
	tree, keys := testTree(t, 5), map[uint32][]byte{}
	for g := range uint32(window) {
		u, err := testTree(t, 5).open(3, applicationRatchet, g, window)
		noError(t, err)
		keys[g] = u.key
	}
	for _, g := range []uint32{4, 1, 9, 0, 15, 8} {
		u, err := tree.open(3, applicationRatchet, g, window)
		noError(t, err)
		equal(t, "key", u.key, keys[g])
		u.consume(window)
		if _, err := tree.open(3, applicationRatchet, g, window); !errors.Is(err, ErrReplay) {
			t.Fatalf("generation %d opens twice: %v", g, err)
		}
	}
}

// A key that is opened but not consumed leaves no trace.
func TestSecretTreeOpenChangesNothing(t *testing.T) {
	tree := testTree(t, 8)
	u, err := tree.open(2, handshakeRatchet, 3, 8)
	noError(t, err)
	want := bytes.Clone(u.key)
	u.discard()
	if len(tree.nodes) != 1 || len(tree.senders) != 0 {
		t.Fatalf("%d nodes and %d senders after a discarded use", len(tree.nodes), len(tree.senders))
	}
	u, err = tree.open(2, handshakeRatchet, 3, 8)
	noError(t, err)
	equal(t, "key", u.key, want)
}

func TestSecretTreeBoundsSkips(t *testing.T) {
	tree := testTree(t, 8)
	for _, g := range []uint32{17, 1_000_000, math.MaxUint32} {
		if _, err := tree.open(1, applicationRatchet, g, 16); !errors.Is(err, ErrTooFarAhead) {
			t.Errorf("generation %d: %v", g, err)
		}
	}
	// Repeated jumps do not pile up keys either.
	for g := uint32(16); g < 16*40; g += 16 {
		u, err := tree.open(1, applicationRatchet, g, 16)
		noError(t, err)
		u.consume(16)
		if n := len(tree.senders[1][applicationRatchet].skipped); n > 16 {
			t.Fatalf("%d skipped keys are kept", n)
		}
	}
	if _, err := tree.open(1, applicationRatchet, 1, 16); !errors.Is(err, ErrReplay) {
		t.Errorf("a key that was dropped opens: %v", err)
	}
	tree.senders[1][applicationRatchet].next = math.MaxUint32
	if _, err := tree.open(1, applicationRatchet, math.MaxUint32, 16); !errors.Is(err, ErrTooFarAhead) {
		t.Errorf("the last generation would wrap around: %v", err)
	}
}

// A use that was opened before other keys were consumed must not bring
// consumed ones back.
func TestSecretTreeLateConsumption(t *testing.T) {
	tree := testTree(t, 4)
	late, err := tree.open(1, handshakeRatchet, 0, 8)
	noError(t, err)
	for g := range uint32(3) {
		u, err := tree.open(1, applicationRatchet, g, 8)
		noError(t, err)
		u.consume(8)
	}
	late.consume(8)
	for g := range uint32(3) {
		if _, err := tree.open(1, applicationRatchet, g, 8); !errors.Is(err, ErrReplay) {
			t.Errorf("generation %d opens again: %v", g, err)
		}
	}
	if _, err := tree.open(1, handshakeRatchet, 0, 8); !errors.Is(err, ErrReplay) {
		t.Errorf("the late key opens again: %v", err)
	}
}

func TestSecretTreeRefusesLeavesOutside(t *testing.T) {
	for _, leaves := range []uint32{1, 2, 5} {
		tree := testTree(t, leaves)
		for _, l := range []LeafIndex{8, 1 << 31, math.MaxUint32} {
			if _, err := tree.open(l, applicationRatchet, 0, 8); !errors.Is(err, ErrUnknownSender) {
				t.Errorf("leaf %d of %d: %v", l, leaves, err)
			}
		}
	}
}

func TestPaddedSize(t *testing.T) {
	for n := range 5000 {
		p := paddedSize(n)
		if p < n || p < 64 || (n > 64 && float64(p) > 1.13*float64(n)) {
			t.Fatalf("%d is padded to %d", n, p)
		}
		if p != paddedSize(p) {
			t.Fatalf("%d is padded to %d, which is padded to %d", n, p, paddedSize(p))
		}
	}
}
