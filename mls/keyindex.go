package mls

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"slices"
)

// A keyIndex maps public keys to positions in one tree. It is a hash trie
// whose versions share structure: an edit copies the few trie nodes it
// touches, and a tree that was frozen keeps its version. The hash is seeded
// per process, so nobody can choose keys that collide.
type keyIndex struct {
	seed maphash.Seed
	root *keyTrie
}

// A keyTrie has one slot for each bit set in bitmap. Below the last hash bits
// bitmap is zero and the slots are a plain list.
type keyTrie struct {
	owner  *treeEdit
	bitmap uint32
	slots  []keySlot
}

// A keySlot holds a subtrie, or a key and its position.
type keySlot struct {
	sub   *keyTrie
	key   []byte
	value uint32
}

const (
	keyTrieBits = 5
	keyTrieEnd  = 64
)

func newKeyIndex(seed maphash.Seed) keyIndex { return keyIndex{seed: seed, root: &keyTrie{}} }

// get returns the position of key.
func (x *keyIndex) get(key []byte) (uint32, bool) {
	h := maphash.Bytes(x.seed, key)
	n := x.root
	for shift := 0; ; shift += keyTrieBits {
		i, ok := n.find(h, shift, key)
		if !ok {
			return 0, false
		}
		if s := &n.slots[i]; s.sub == nil {
			return s.value, bytes.Equal(s.key, key)
		} else {
			n = s.sub
		}
	}
}

// insert records the position of key and reports whether it was new. A key
// that is present keeps its position.
func (x *keyIndex) insert(e *treeEdit, key []byte, value uint32) bool {
	if _, ok := x.get(key); ok {
		return false
	}
	x.root = x.add(x.root, e, maphash.Bytes(x.seed, key), 0, keySlot{key: key, value: value})
	return true
}

// remove forgets key.
func (x *keyIndex) remove(e *treeEdit, key []byte) {
	if _, ok := x.get(key); ok {
		x.root = x.root.drop(e, maphash.Bytes(x.seed, key), 0, key)
	}
}

// find returns the slot where key is, or must be looked for.
func (n *keyTrie) find(h uint64, shift int, key []byte) (int, bool) {
	if shift >= keyTrieEnd {
		i := slices.IndexFunc(n.slots, func(s keySlot) bool { return bytes.Equal(s.key, key) })
		return i, i >= 0
	}
	bit := uint32(1) << (h >> shift & (1<<keyTrieBits - 1))
	return bits.OnesCount32(n.bitmap & (bit - 1)), n.bitmap&bit != 0
}

func (n *keyTrie) own(e *treeEdit) *keyTrie {
	if n.owner == e {
		return n
	}
	return &keyTrie{owner: e, bitmap: n.bitmap, slots: slices.Clone(n.slots)}
}

// add inserts a key that is not in the trie.
func (x *keyIndex) add(n *keyTrie, e *treeEdit, h uint64, shift int, s keySlot) *keyTrie {
	n = n.own(e)
	if shift >= keyTrieEnd {
		n.slots = append(n.slots, s)
		return n
	}
	i, taken := n.find(h, shift, s.key)
	if !taken {
		n.bitmap |= 1 << (h >> shift & (1<<keyTrieBits - 1))
		n.slots = slices.Insert(n.slots, i, s)
		return n
	}
	sub := n.slots[i].sub
	if sub == nil {
		sub = x.add(&keyTrie{owner: e}, e, maphash.Bytes(x.seed, n.slots[i].key), shift+keyTrieBits, n.slots[i])
	}
	n.slots[i] = keySlot{sub: x.add(sub, e, h, shift+keyTrieBits, s)}
	return n
}

// drop removes a key that is in the trie.
func (n *keyTrie) drop(e *treeEdit, h uint64, shift int, key []byte) *keyTrie {
	n = n.own(e)
	i, _ := n.find(h, shift, key)
	if sub := n.slots[i].sub; sub != nil {
		if sub = sub.drop(e, h, shift+keyTrieBits, key); len(sub.slots) > 0 {
			n.slots[i].sub = sub
			return n
		}
	}
	n.slots = slices.Delete(n.slots, i, i+1)
	if shift < keyTrieEnd {
		n.bitmap &^= 1 << (h >> shift & (1<<keyTrieBits - 1))
	}
	return n
}
