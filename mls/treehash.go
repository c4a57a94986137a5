package mls

import (
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// treeHash returns the tree hash of the root (RFC 9420 section 7.8). It
// computes only hashes that edits made stale.
func (t *tree) treeHash() []byte { return t.hash(rootPosition(t.depth)) }

// hash returns the tree hash of the node x. Those of parents are cached.
//
//	struct {
//	    NodeType node_type;
//	    select (TreeHashInput.node_type) {
//	        case leaf:   uint32 leaf_index; optional<LeafNode> leaf_node;
//	        case parent: optional<ParentNode> parent_node; opaque left_hash<V>; opaque right_hash<V>;
//	    };
//	} TreeHashInput;
func (t *tree) hash(x nodeIndex) []byte {
	if x.isLeaf() {
		raw := ""
		if e := t.entry(x.leaf()); e != nil {
			raw = e.raw
		}
		return t.leafTreeHash(raw, x.leaf())
	}
	group, j := pageGroup(x)
	p := t.page(x.firstLeaf(), group)
	raw := ""
	if p != nil {
		if h := p.cachedHash(j, t.suite.nh()); h != nil {
			return h
		}
		raw = p.parent(j)
	}
	h := t.parentTreeHash(raw, t.hash(x.left()), t.hash(x.right()))
	if p != nil && t.edit != nil && p.owner == t.edit {
		p.cacheHash(j, h)
	}
	return h
}

// leafTreeHash returns the tree hash of leaf l with the given encoding, ""
// for a blank one.
func (t *tree) leafTreeHash(raw string, l LeafIndex) []byte {
	var space [512]byte
	w := tlspl.NewWriter(space[:0])
	w.Uint8(uint8(NodeTypeLeaf))
	w.Uint32(uint32(l))
	w.Optional(raw != "", func(w *tlspl.Writer) { w.RawString(raw) })
	return t.digest(w)
}

// parentTreeHash returns the tree hash of a parent with the given encoding,
// "" for a blank one.
func (t *tree) parentTreeHash(raw string, left, right []byte) []byte {
	var space [256]byte
	w := tlspl.NewWriter(space[:0])
	w.Uint8(uint8(NodeTypeParent))
	w.Optional(raw != "", func(w *tlspl.Writer) { w.RawString(raw) })
	w.Opaque(left)
	w.Opaque(right)
	return t.digest(w)
}

// digest hashes what w holds. The values in a tree were decoded or checked
// before, so that encoding them cannot fail.
func (t *tree) digest(w *tlspl.Writer) []byte {
	b, err := w.Bytes()
	if err != nil {
		panic("mls: tree holds a node that has no encoding: " + err.Error())
	}
	return t.suite.sum(b)
}

// hashWithout returns the tree hash that the node x would have with the
// given leaves blank and listed nowhere as unmerged: the
// original_sibling_tree_hash of section 7.9. Leaves outside the subtree are
// ignored; a part of it that holds none of them has its cached hash.
func (t *tree) hashWithout(x nodeIndex, leaves []LeafIndex) []byte {
	leaves = below(leaves, x)
	if len(leaves) == 0 {
		return t.hash(x)
	}
	if x.isLeaf() {
		return t.leafTreeHash("", x.leaf())
	}
	raw := ""
	if p := t.parent(x); p != nil {
		p.UnmergedLeaves = without(p.UnmergedLeaves, leaves)
		raw = string(mustMarshal(p))
	}
	return t.parentTreeHash(raw, t.hashWithout(x.left(), leaves), t.hashWithout(x.right(), leaves))
}

// below returns the part of the increasing list that is at or below x.
func below(list []LeafIndex, x nodeIndex) []LeafIndex {
	first := x.firstLeaf()
	from, _ := slices.BinarySearch(list, first)
	to, _ := slices.BinarySearch(list, first+1<<x.level())
	return list[from:to]
}

// without returns the items of list that are not in remove; both increase.
func without(list, remove []LeafIndex) []LeafIndex {
	var rest []LeafIndex
	for _, l := range list {
		if _, ok := slices.BinarySearch(remove, l); !ok {
			rest = append(rest, l)
		}
	}
	return rest
}
