package mls

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// parentHash returns the parent hash of a parent with the given encoding,
// whose child off the path has the given original tree hash (RFC 9420
// section 7.9).
//
//	struct {
//	    HPKEPublicKey encryption_key;
//	    opaque parent_hash<V>;
//	    opaque original_sibling_tree_hash<V>;
//	} ParentHashInput;
func (t *tree) parentHash(raw string, sibling []byte) []byte {
	var space [256]byte
	w := tlspl.NewWriter(space[:0])
	w.RawString(parentHashFields(raw))
	w.Opaque(sibling)
	return t.digest(w)
}

// mergePath replaces the direct path of leaf l by one with the given public
// keys, in the order of the filtered direct path, and returns the parent hash
// that the leaf must carry (sections 7.5 and 7.9.2). No key may be in the tree
// already, the replaced nodes included (section 12.4.2).
func (t *tree) mergePath(l LeafIndex, keys [][]byte) ([]byte, error) {
	filtered := t.filteredPath(l)
	if len(keys) != len(filtered) {
		return nil, fmt.Errorf("path of %d nodes where the filtered direct path of leaf %d has %d", len(keys), l, len(filtered))
	}
	for i, key := range keys {
		if x, ok := t.findEncryptionKey(key); ok {
			return nil, fmt.Errorf("key %d of the path is that of node %d: %w", i, x, errDuplicateKey)
		}
	}
	pages := t.ownPages(l)
	t.blankParents(pages, l)
	hash := []byte{}
	for i, x := range slices.Backward(filtered) {
		raw, err := newPathNode(keys[i], hash)
		if err == nil {
			err = t.setNew(pages, x, keys[i], raw)
		}
		if err != nil {
			return nil, err
		}
		// Nothing is unmerged at a new node, so the sibling's original tree
		// hash is its present one.
		hash = t.parentHash(raw, t.hash(copathChild(x, l)))
	}
	return hash, nil
}

// verifyParentHashes checks that every non-blank parent is parent-hash valid:
// exactly one node below it carries its parent hash and was updated together
// with it (section 7.9.2).
func (t *tree) verifyParentHashes() error {
	for x, raw := range t.parents() {
		unmerged := slices.Collect(unmergedOf(raw))
		links := 0
		if t.linked(raw, unmerged, x.left(), x.right()) {
			links++
		}
		if t.linked(raw, unmerged, x.right(), x.left()) {
			links++
		}
		if links != 1 {
			return fmt.Errorf("node %d is linked by parent hash to %d nodes below it, where exactly one is right", x, links)
		}
	}
	return nil
}

// linked reports whether some node at or below the child c of a parent p has
// a parent hash that is valid with respect to p, whose encoding is raw and
// which lists the given leaves as unmerged; s is the other child.
//
// Such a node D is all of c's resolution but for the leaves that are unmerged
// at p. That leaves at most one candidate, and a resolution with more nodes
// than that is not walked to its end.
func (t *tree) linked(raw string, atP []LeafIndex, c, s nodeIndex) bool {
	unmerged := below(atP, c)
	var d nodeIndex
	count, others := 0, 0
	t.resolve(c, func(x nodeIndex) bool {
		count++
		if !x.isLeaf() || !containsLeaf(unmerged, x.leaf()) {
			d = x
			others++
		}
		return others <= 1 && count <= len(unmerged)+1
	})
	if others != 1 || count != len(unmerged)+1 {
		return false
	}
	var carried []byte
	if d.isLeaf() {
		leaf := t.leaf(d.leaf())
		if leaf.Source != LeafSourceCommit {
			return false
		}
		carried = leaf.ParentHash
	} else {
		carried = t.parent(d).ParentHash
	}
	return bytes.Equal(carried, t.parentHash(raw, t.hashWithout(s, atP)))
}

func containsLeaf(increasing []LeafIndex, l LeafIndex) bool {
	_, ok := slices.BinarySearch(increasing, l)
	return ok
}
