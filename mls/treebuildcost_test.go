package mls

import (
	"encoding/binary"
	"runtime"
	"testing"
)

// TestBuildTreeCostIsLinear builds trees of leaves that each use another type
// of credential, as a hostile ratchet_tree may have them: whoever joins builds
// it before anything in it is verified. The memory that it takes, in all, must
// grow like the tree, not like its square.
func TestBuildTreeCostIsLinear(t *testing.T) {
	s := &suites[0]
	cost := func(n int) uint64 {
		nodes := make(RatchetTree, 2*n-1)
		for i := range n {
			key := make([]byte, 32)
			binary.BigEndian.PutUint32(key, uint32(i))
			nodes[2*i].Leaf = &LeafNode{
				EncryptionKey: key, SignatureKey: key, Source: LeafSourceUpdate,
				Credential: Credential{Type: CredentialType(0x1000 + i)},
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		built, err := nodes.buildTree(s)
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if got := len(built.supported().inUse); got != n {
			t.Fatalf("%d types of credentials in use; want %d", got, n)
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	small, large := cost(256), cost(4096)
	if large > 40*small {
		t.Errorf("%d octets for 256 leaves, %d for 4096", small, large)
	}
}
