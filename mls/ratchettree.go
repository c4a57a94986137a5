package mls

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// NodeType tells the two kinds of ratchet tree node apart (RFC 9420
// section 7.8).
type NodeType uint8

const (
	NodeTypeLeaf   NodeType = 1
	NodeTypeParent NodeType = 2
)

// A ParentNode is the public content of a parent in the ratchet tree
// (RFC 9420 section 7.1). It is not changed once it is part of a tree.
//
//	struct {
//	    HPKEPublicKey encryption_key;
//	    opaque parent_hash<V>;
//	    uint32 unmerged_leaves<V>;
//	} ParentNode;
type ParentNode struct {
	EncryptionKey  []byte
	ParentHash     []byte
	UnmergedLeaves []LeafIndex // increasing
}

// MarshalTLS implements [tlspl.Marshaler].
func (p *ParentNode) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(p.EncryptionKey)
	w.Opaque(p.ParentHash)
	tlspl.WriteVector(w, p.UnmergedLeaves, func(w *tlspl.Writer, l *LeafIndex) { w.Uint32(uint32(*l)) })
}

// UnmarshalTLS implements [tlspl.Unmarshaler]. It refuses unmerged leaves
// that are not in increasing order (section 7.1).
func (p *ParentNode) UnmarshalTLS(r *tlspl.Reader) {
	p.EncryptionKey = r.OpaqueCopy(0)
	p.ParentHash = r.OpaqueCopy(0)
	p.UnmergedLeaves = tlspl.ReadVector(r, 0, func(r *tlspl.Reader, l *LeafIndex) { *l = LeafIndex(r.Uint32()) })
	if !increasing(p.UnmergedLeaves) {
		r.Failf("unmerged leaves are not in increasing order")
	}
}

func increasing(list []LeafIndex) bool {
	for i := 1; i < len(list); i++ {
		if list[i] <= list[i-1] {
			return false
		}
	}
	return true
}

// A Node is one entry of a [RatchetTree]: a leaf, a parent, or, with both nil,
// a blank node.
//
//	struct {
//	    NodeType node_type;
//	    select (Node.node_type) {
//	        case leaf:   LeafNode leaf_node;
//	        case parent: ParentNode parent_node;
//	    };
//	} Node;
type Node struct {
	Leaf   *LeafNode
	Parent *ParentNode
}

// Blank reports whether the node holds nothing.
func (n *Node) Blank() bool { return n.Leaf == nil && n.Parent == nil }

// MarshalTLS implements [tlspl.Marshaler]. A blank node has no encoding of
// its own.
func (n *Node) MarshalTLS(w *tlspl.Writer) {
	switch {
	case n.Leaf != nil && n.Parent == nil:
		w.Uint8(uint8(NodeTypeLeaf))
		w.Value(n.Leaf)
	case n.Parent != nil && n.Leaf == nil:
		w.Uint8(uint8(NodeTypeParent))
		w.Value(n.Parent)
	default:
		w.Fail(fmt.Errorf("mls: a tree node must be either a leaf or a parent to be encoded"))
	}
}

// UnmarshalTLS implements [tlspl.Unmarshaler].
func (n *Node) UnmarshalTLS(r *tlspl.Reader) {
	*n = Node{}
	switch t := NodeType(r.Uint8()); {
	case r.Err() != nil:
	case t == NodeTypeLeaf:
		n.Leaf = new(LeafNode)
		r.Value(n.Leaf)
	case t == NodeTypeParent:
		n.Parent = new(ParentNode)
		r.Value(n.Parent)
	default:
		r.Failf("node type %d in a ratchet tree", t)
	}
}

// A RatchetTree is the public content of a whole tree, as the ratchet_tree
// extension carries it (RFC 9420 section 12.4.3.3): leaves at even and parents
// at odd positions, without blank nodes at the end.
//
//	optional<Node> ratchet_tree<V>;
type RatchetTree []Node

// MarshalTLS implements [tlspl.Marshaler].
func (t RatchetTree) MarshalTLS(w *tlspl.Writer) {
	if err := t.checkShape(); err != nil {
		w.Fail(err)
		return
	}
	tlspl.WriteVector(w, t, func(w *tlspl.Writer, n *Node) {
		w.Optional(!n.Blank(), func(w *tlspl.Writer) { w.Value(n) })
	})
}

// UnmarshalTLS implements [tlspl.Unmarshaler]. It refuses an empty tree, a
// blank last node, and nodes at positions of the other type.
func (t *RatchetTree) UnmarshalTLS(r *tlspl.Reader) {
	*t = tlspl.ReadVector(r, maxTreeNodes, func(r *tlspl.Reader, n *Node) {
		if r.Optional() {
			r.Value(n)
		}
	})
	if r.Err() == nil {
		if err := t.checkShape(); err != nil {
			r.Fail(err)
		}
	}
}

// maxTreeNodes is the size of a tree of maxDepth.
const maxTreeNodes = 1<<(maxDepth+1) - 1

// checkShape checks what does not depend on the content of nodes.
func (t RatchetTree) checkShape() error {
	if len(t) == 0 {
		return fmt.Errorf("%w: ratchet tree without nodes", tlspl.ErrSyntax)
	}
	if len(t) > maxTreeNodes {
		return fmt.Errorf("%w: ratchet tree of %d nodes", ErrLimit, len(t))
	}
	if t[len(t)-1].Blank() {
		return fmt.Errorf("%w: ratchet tree ends with a blank node", tlspl.ErrSyntax)
	}
	for i := range t {
		if nodeIndex(i).isLeaf() && t[i].Parent != nil || !nodeIndex(i).isLeaf() && t[i].Leaf != nil {
			return fmt.Errorf("%w: node %d of the ratchet tree has the wrong type", tlspl.ErrSyntax, i)
		}
	}
	return nil
}

// buildTree makes an editable tree of the nodes. It checks what the tree's
// own consistency rests on: shape, unique keys, and unmerged leaves that are
// members below their node (section 12.4.3.1).
func (t RatchetTree) buildTree(s *suite) (*tree, error) {
	if err := t.checkShape(); err != nil {
		return nil, err
	}
	last := LeafIndex((len(t) - 1) / 2)
	if len(t)%2 == 0 {
		last++ // the last node is a parent; its right subtree is blank
	}
	out := blankTree(s, depthFor(last))
	nodes := 0
	for i := range t {
		if !t[i].Blank() {
			nodes++
		}
	}
	out.index.Store(newKeyIndex(nodes + (len(t)+1)/2)) // a leaf has two keys
	for i := range t {
		x := nodeIndex(i)
		switch n := &t[i]; {
		case n.Leaf != nil:
			if _, err := out.putLeaf(x.leaf(), n.Leaf); err != nil {
				return nil, err
			}
		case n.Parent != nil:
			if err := out.setParent(x.firstLeaf(), x, n.Parent); err != nil {
				return nil, err
			}
		}
	}
	// Once for all leaves: summaries of what they support can be as long as
	// there are leaves, and the tree is not authentic yet.
	out.root.refreshAll()
	for i := range t {
		if p := t[i].Parent; p != nil {
			if err := t.checkUnmerged(out, nodeIndex(i), p); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// checkUnmerged checks the unmerged leaves of the parent p at x: increasing,
// members below x, and listed by every non-blank node in between.
func (t RatchetTree) checkUnmerged(out *tree, x nodeIndex, p *ParentNode) error {
	if !increasing(p.UnmergedLeaves) {
		return fmt.Errorf("unmerged leaves of node %d are not in increasing order", x)
	}
	for _, l := range p.UnmergedLeaves {
		if !out.hasLeaf(l) || !x.covers(l) {
			return fmt.Errorf("unmerged leaf %d is not below node %d", l, x)
		}
		if out.entry(l) == nil {
			return fmt.Errorf("unmerged leaf %d of node %d is blank", l, x)
		}
		for level := 1; level < x.level(); level++ {
			a := ancestorOf(l, level)
			if int(a) >= len(t) || t[a].Parent == nil {
				continue
			}
			n := t[a].Parent
			if _, ok := slices.BinarySearch(n.UnmergedLeaves, l); !ok {
				return fmt.Errorf("unmerged leaf %d of node %d is merged in a node between them", l, x)
			}
		}
	}
	return nil
}

// detached returns a copy of l that shares no memory with the message that it
// came in, and has an encoding.
func (l *LeafNode) detached() (*LeafNode, error) {
	b, err := tlspl.Marshal(l)
	if err != nil {
		return nil, err
	}
	c := new(LeafNode)
	return c, tlspl.Unmarshal(b, c)
}

// ratchetTree returns the nodes of t without the blank ones at the end.
func (t *tree) ratchetTree() RatchetTree {
	out := make(RatchetTree, 2<<t.depth-1)
	for l, leaf := range t.members() {
		out[leafPosition(l)].Leaf = leaf
	}
	for x, raw := range t.parents() {
		out[x].Parent = decodeParent(raw)
	}
	for len(out) > 0 && out[len(out)-1].Blank() {
		out = out[:len(out)-1]
	}
	return out
}
