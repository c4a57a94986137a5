package mls

import (
	"hash/maphash"
	"sync"
)

// A keyIndex finds the node that has a public key. All versions of a tree
// share one: an entry says only that some version has the key at a position,
// and a look-up asks the version at hand whether it does. Adding is therefore
// all that an edit does, nothing is copied for it, and an entry takes 8
// octets.
//
// It is safe for concurrent use. The hash is seeded per process, so nobody
// can choose keys that collide.
type keyIndex struct {
	seed maphash.Seed

	mu    sync.RWMutex
	slots []uint64 // tag<<32 | position<<2 | kind; 0: free
	used  int
}

// The kinds of keys.
const (
	encryptionKind = 1 // position is a nodeIndex
	signatureKind  = 2 // position is a LeafIndex
)

// newKeyIndex returns an index with room for n keys and some more.
func newKeyIndex(n int) *keyIndex {
	return &keyIndex{seed: maphash.MakeSeed(), slots: make([]uint64, n+n/2+16)}
}

// tag returns the hash of a key: where to look for it, and by what.
func (x *keyIndex) tag(kind uint32, key string) uint32 {
	h := maphash.String(x.seed, key)
	return uint32(h>>32) ^ uint32(h)*kind
}

// slot returns where entries with a tag begin.
func (x *keyIndex) slot(tag uint32) int { return int(uint64(tag) * uint64(len(x.slots)) >> 32) }

// find returns the first position for which has returns true, among those
// that the key may have.
func (x *keyIndex) find(kind uint32, key string, has func(position uint32) bool) (uint32, bool) {
	tag := x.tag(kind, key)
	x.mu.RLock()
	defer x.mu.RUnlock()
	for i := x.slot(tag); x.slots[i] != 0; i = (i + 1) % len(x.slots) {
		s := x.slots[i]
		if uint32(s>>32) == tag && uint32(s)&3 == kind && has(uint32(s)>>2) {
			return uint32(s) >> 2, true
		}
	}
	return 0, false
}

// add notes that a version has a key at a position.
func (x *keyIndex) add(kind uint32, key string, position uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.used+x.used/4 >= len(x.slots)-1 {
		old := x.slots
		x.slots = make([]uint64, len(old)+len(old)/2)
		x.used = 0
		for _, s := range old {
			if s != 0 {
				x.put(s)
			}
		}
	}
	x.put(uint64(x.tag(kind, key))<<32 | uint64(position)<<2 | uint64(kind))
}

func (x *keyIndex) put(s uint64) {
	i := x.slot(uint32(s >> 32))
	for ; x.slots[i] != 0; i = (i + 1) % len(x.slots) {
		if x.slots[i] == s {
			return
		}
	}
	x.slots[i] = s
	x.used++
}

func (x *keyIndex) addLeaf(l LeafIndex, e *leafEntry) {
	x.add(encryptionKind, e.encryptionKey(), uint32(leafPosition(l)))
	x.add(signatureKind, e.signatureKey(), uint32(l))
}

func (x *keyIndex) addParent(at nodeIndex, key string) { x.add(encryptionKind, key, uint32(at)) }

// wasteful reports whether much more is in the index than t needs: the keys
// of versions that are gone.
func (x *keyIndex) wasteful(t *tree) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.used > 4*t.size()+64 // t has at most three keys for a member
}

// buildIndex returns an index of what is in t.
func (t *tree) buildIndex() *keyIndex {
	n := 2 * t.size()
	for range t.parents() {
		n++
	}
	x := newKeyIndex(n)
	for l, e := range t.entries() {
		x.addLeaf(l, e)
	}
	for at, raw := range t.parents() {
		key, _ := cutOpaque(raw)
		x.addParent(at, key)
	}
	return x
}

// findEncryptionKey returns the node that has an encryption key.
func (t *tree) findEncryptionKey(key []byte) (nodeIndex, bool) {
	k := string(key)
	x, ok := t.index.Load().find(encryptionKind, k, func(x uint32) bool {
		return t.has(nodeIndex(x)) && t.encryptionKey(nodeIndex(x)) == k
	})
	return nodeIndex(x), ok
}

// findSignatureKey returns the leaf that has a signature key.
func (t *tree) findSignatureKey(key []byte) (LeafIndex, bool) {
	k := string(key)
	l, ok := t.index.Load().find(signatureKind, k, func(l uint32) bool {
		e := t.entry(LeafIndex(l))
		return e != nil && e.signatureKey() == k
	})
	return LeafIndex(l), ok
}
