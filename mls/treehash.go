package mls

import (
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// treeHash returns the tree hash of the root (RFC 9420 section 7.8). It
// computes only hashes that edits made stale.
func (t *tree) treeHash() []byte { return t.hash(t.root, rootPosition(t.depth)) }

// hash returns the tree hash of the node n at x.
//
//	struct {
//	    NodeType node_type;
//	    select (TreeHashInput.node_type) {
//	        case leaf:   uint32 leaf_index; optional<LeafNode> leaf_node;
//	        case parent: optional<ParentNode> parent_node; opaque left_hash<V>; opaque right_hash<V>;
//	    };
//	} TreeHashInput;
func (t *tree) hash(n *treeNode, x nodeIndex) []byte {
	if n.hash == nil {
		if n.isLeaf() {
			n.hash = t.leafTreeHash(n.leaf, x.leaf())
		} else {
			n.hash = t.parentTreeHash(n.parent, t.hash(n.left, x.left()), t.hash(n.right, x.right()))
		}
	}
	return n.hash
}

func (t *tree) leafTreeHash(leaf *LeafNode, l LeafIndex) []byte {
	var space [512]byte
	w := tlspl.NewWriter(space[:0])
	w.Uint8(uint8(NodeTypeLeaf))
	w.Uint32(uint32(l))
	w.Optional(leaf != nil, func(w *tlspl.Writer) { w.Value(leaf) })
	return t.digest(w)
}

func (t *tree) parentTreeHash(p *ParentNode, left, right []byte) []byte {
	var space [256]byte
	w := tlspl.NewWriter(space[:0])
	w.Uint8(uint8(NodeTypeParent))
	w.Optional(p != nil, func(w *tlspl.Writer) { w.Value(p) })
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

// hashWithout returns the tree hash that the node n at x would have with the
// given leaves blank and listed nowhere as unmerged: the
// original_sibling_tree_hash of section 7.9. Leaves outside the subtree are
// ignored; a part of it that holds none of them has its cached hash.
func (t *tree) hashWithout(n *treeNode, x nodeIndex, leaves []LeafIndex) []byte {
	leaves = below(leaves, x)
	if len(leaves) == 0 {
		return t.hash(n, x)
	}
	if n.isLeaf() {
		return t.leafTreeHash(nil, x.leaf())
	}
	p := n.parent
	if p != nil {
		p = &ParentNode{EncryptionKey: p.EncryptionKey, ParentHash: p.ParentHash, UnmergedLeaves: without(p.UnmergedLeaves, leaves)}
	}
	return t.parentTreeHash(p, t.hashWithout(n.left, x.left(), leaves), t.hashWithout(n.right, x.right(), leaves))
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
