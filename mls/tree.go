package mls

import (
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
)

// A tree is one version of a ratchet tree (RFC 9420 sections 4.1 and 7). Versions
// share structure: fork gives an editable version, whose edits copy only the
// nodes they touch, and freeze ends the editing. A frozen tree is immutable
// and safe for concurrent use; its nodes hold their tree hashes.
//
// Costs of one edit are O(depth), of a fork O(1).
type tree struct {
	suite *suite
	depth int // the tree has 1<<depth leaves
	root  *treeNode

	// encryption maps the public key of every leaf and parent to its
	// nodeIndex, signature that of every leaf to its LeafIndex.
	encryption, signature keyIndex

	edit *treeEdit // nil once frozen
}

// A treeEdit marks the nodes that one editable version owns and may change in
// place.
type treeEdit struct{ _ byte }

// A treeNode is a leaf (left and right are nil) or a parent (neither is nil)
// of one or more versions of a tree.
type treeNode struct {
	left, right *treeNode
	leaf        *LeafNode   // nil in a parent or a blank leaf
	parent      *ParentNode // nil in a leaf or a blank parent

	members int      // non-blank leaves from here down
	support *support // what they support
	hash    []byte   // tree hash (section 7.8); nil while an edit makes it stale

	owner *treeEdit
}

var errDuplicateKey = errors.New("public key occurs twice in the tree")

// blankTree returns an editable tree of blank nodes.
func blankTree(s *suite, depth int) *tree {
	seed := maphash.MakeSeed()
	t := &tree{
		suite: s, depth: depth, edit: new(treeEdit),
		encryption: newKeyIndex(seed), signature: newKeyIndex(seed),
	}
	t.root = t.blankSubtree(depth)
	return t
}

// fork returns an editable version of a frozen tree.
func (t *tree) fork() *tree {
	c := *t
	c.edit = new(treeEdit)
	return &c
}

// freeze computes the stale tree hashes and ends the editing.
func (t *tree) freeze() {
	t.treeHash()
	t.edit = nil
}

func (t *tree) blankSubtree(depth int) *treeNode {
	n := &treeNode{owner: t.edit}
	if depth > 0 {
		n.left, n.right = t.blankSubtree(depth-1), t.blankSubtree(depth-1)
	}
	return n
}

func (n *treeNode) isLeaf() bool { return n.left == nil }

// own returns n itself or a copy of it, for editing by t.
func (t *tree) own(n *treeNode) *treeNode {
	if n.owner != t.edit {
		c := *n
		n = &c
		n.owner = t.edit
	}
	n.hash = nil
	return n
}

// hasLeaf reports whether the tree is wide enough for leaf l.
func (t *tree) hasLeaf(l LeafIndex) bool { return uint64(l) < 1<<t.depth }

// leaf returns the content of leaf l, nil if it is blank or out of range.
func (t *tree) leaf(l LeafIndex) *LeafNode {
	if !t.hasLeaf(l) {
		return nil
	}
	return t.node(leafPosition(l)).leaf
}

// node returns the node at x, which must be in the tree.
func (t *tree) node(x nodeIndex) *treeNode {
	n := t.root
	for at := rootPosition(t.depth); at != x; {
		if x < at {
			n, at = n.left, at.left()
		} else {
			n, at = n.right, at.right()
		}
	}
	return n
}

// path returns the nodes from the root to leaf l: item i has level depth-i.
func (t *tree) path(l LeafIndex) []*treeNode {
	path := make([]*treeNode, 0, t.depth+1)
	n := t.root
	for level := t.depth; ; level-- {
		path = append(path, n)
		if level == 0 {
			return path
		}
		if l>>(level-1)&1 == 0 {
			n = n.left
		} else {
			n = n.right
		}
	}
}

// ownPath is path with nodes that t may edit.
func (t *tree) ownPath(l LeafIndex) []*treeNode {
	path := make([]*treeNode, 0, t.depth+1)
	at := &t.root
	for level := t.depth; ; level-- {
		*at = t.own(*at)
		n := *at
		path = append(path, n)
		if level == 0 {
			return path
		}
		if l>>(level-1)&1 == 0 {
			at = &n.left
		} else {
			at = &n.right
		}
	}
}

// refresh recomputes what parents cache, from the leaf at the end of an owned
// path to the root.
func refresh(path []*treeNode) {
	for i := len(path) - 2; i >= 0; i-- {
		path[i].refresh()
	}
}

func (n *treeNode) refresh() {
	n.members = n.left.members + n.right.members
	n.support = n.left.support.and(n.right.support)
}

func (n *treeNode) fillLeaf(leaf *LeafNode) {
	n.leaf = leaf
	if leaf == nil {
		n.members, n.support = 0, nil
	} else {
		n.members, n.support = 1, supportOf(leaf)
	}
}

// blankLeaf empties leaf l and its direct path, as a Remove does before the
// tree is truncated (section 12.1.3).
func (t *tree) blankLeaf(l LeafIndex) {
	path := t.ownPath(l)
	t.blankParents(path)
	t.forgetLeaf(path)
	refresh(path)
}

// setLeaf puts leaf into position l, in place of what is there, and leaves
// the direct path as it is. It fails if one of its keys is in the tree
// already; the tree is then of no more use.
func (t *tree) setLeaf(l LeafIndex, leaf *LeafNode) error {
	path := t.ownPath(l)
	t.forgetLeaf(path)
	path[t.depth].fillLeaf(leaf)
	refresh(path)
	if !t.encryption.insert(t.edit, leaf.EncryptionKey, uint32(leafPosition(l))) {
		return fmt.Errorf("encryption key of leaf %d: %w", l, errDuplicateKey)
	}
	if !t.signature.insert(t.edit, leaf.SignatureKey, uint32(l)) {
		return fmt.Errorf("signature key of leaf %d: %w", l, errDuplicateKey)
	}
	return nil
}

func (t *tree) forgetLeaf(path []*treeNode) {
	n := path[t.depth]
	if n.leaf != nil {
		t.encryption.remove(t.edit, n.leaf.EncryptionKey)
		t.signature.remove(t.edit, n.leaf.SignatureKey)
	}
	n.fillLeaf(nil)
}

// blankDirectPath empties the parents above leaf l.
func (t *tree) blankDirectPath(l LeafIndex) { t.blankParents(t.ownPath(l)) }

func (t *tree) blankParents(path []*treeNode) {
	for _, n := range path[:t.depth] {
		if n.parent != nil {
			t.encryption.remove(t.edit, n.parent.EncryptionKey)
			n.parent = nil
		}
	}
}

// leftmostBlank returns the leaf that the next member gets (section 7.7); it
// is out of range if the tree is full.
func (t *tree) leftmostBlank() LeafIndex {
	if t.root.members == 1<<t.depth {
		return 1 << t.depth
	}
	var l LeafIndex
	n := t.root
	for level := t.depth; level > 0; level-- {
		if n.left.members < 1<<(level-1) {
			n = n.left
		} else {
			n = n.right
			l |= 1 << (level - 1)
		}
	}
	return l
}

// extend doubles the number of leaves (section 7.7).
func (t *tree) extend() {
	root := &treeNode{owner: t.edit, left: t.root, right: t.blankSubtree(t.depth)}
	root.refresh()
	t.root = root
	t.depth++
}

// truncate removes the right half while it has no member (section 7.7).
func (t *tree) truncate() {
	for t.depth > 0 && t.root.right.members == 0 {
		if p := t.root.parent; p != nil {
			t.encryption.remove(t.edit, p.EncryptionKey)
		}
		t.root = t.root.left
		t.depth--
	}
}

// addLeaf gives a new member the leftmost blank leaf and lists it as unmerged
// in the parents above (section 12.1.1).
func (t *tree) addLeaf(leaf *LeafNode) (LeafIndex, error) {
	l := t.leftmostBlank()
	if !t.hasLeaf(l) {
		if t.depth == maxDepth {
			return 0, fmt.Errorf("%w: the tree cannot grow", ErrLimit)
		}
		t.extend()
	}
	for _, n := range t.ownPath(l)[:t.depth] {
		if n.parent != nil {
			n.parent = n.parent.withUnmerged(l)
		}
	}
	return l, t.setLeaf(l, leaf)
}

// setParent puts p into position x, in place of what is there.
func (t *tree) setParent(x nodeIndex, p *ParentNode) error {
	path := t.ownPath(x.firstLeaf())
	n := path[t.depth-x.level()]
	if n.parent != nil {
		t.encryption.remove(t.edit, n.parent.EncryptionKey)
	}
	n.parent = p
	if !t.encryption.insert(t.edit, p.EncryptionKey, uint32(x)) {
		return fmt.Errorf("encryption key of node %d: %w", x, errDuplicateKey)
	}
	return nil
}

// filteredPath returns the nodes above leaf l whose child on the copath has
// members below it, from the leaf upwards (section 4.1.2).
func (t *tree) filteredPath(l LeafIndex) []nodeIndex {
	path := t.path(l)
	var filtered []nodeIndex
	for level := 1; level <= t.depth; level++ {
		p, c := path[t.depth-level], path[t.depth-level+1]
		if p.members > c.members {
			filtered = append(filtered, ancestorOf(l, level))
		}
	}
	return filtered
}

// copathChild returns the child of x that is not above (or at) leaf l.
func copathChild(x nodeIndex, l LeafIndex) nodeIndex {
	if c := x.left(); !c.covers(l) {
		return c
	}
	return x.right()
}

// resolution yields the resolution of the node at x (section 4.1.1).
func (t *tree) resolution(x nodeIndex) iter.Seq2[nodeIndex, *treeNode] {
	return func(yield func(nodeIndex, *treeNode) bool) { t.resolve(t.node(x), x, yield) }
}

func (t *tree) resolve(n *treeNode, x nodeIndex, yield func(nodeIndex, *treeNode) bool) bool {
	switch {
	case n.parent != nil:
		if !yield(x, n) {
			return false
		}
		for _, l := range n.parent.UnmergedLeaves {
			if !yield(leafPosition(l), t.node(leafPosition(l))) {
				return false
			}
		}
		return true
	case n.members == 0:
		return true
	case n.isLeaf():
		return yield(x, n)
	}
	return t.resolve(n.left, x.left(), yield) && t.resolve(n.right, x.right(), yield)
}

// members yields the non-blank leaves from left to right.
func (t *tree) members() iter.Seq2[LeafIndex, *LeafNode] {
	return func(yield func(LeafIndex, *LeafNode) bool) {
		t.root.eachMember(rootPosition(t.depth), yield)
	}
}

func (n *treeNode) eachMember(x nodeIndex, yield func(LeafIndex, *LeafNode) bool) bool {
	switch {
	case n.members == 0:
		return true
	case n.isLeaf():
		return yield(x.leaf(), n.leaf)
	}
	return n.left.eachMember(x.left(), yield) && n.right.eachMember(x.right(), yield)
}

// withUnmerged returns a copy of p that lists leaf l as unmerged, too.
func (p *ParentNode) withUnmerged(l LeafIndex) *ParentNode {
	i, found := slices.BinarySearch(p.UnmergedLeaves, l)
	if found {
		return p
	}
	list := make([]LeafIndex, 0, len(p.UnmergedLeaves)+1)
	list = append(append(append(list, p.UnmergedLeaves[:i]...), l), p.UnmergedLeaves[i:]...)
	return &ParentNode{EncryptionKey: p.EncryptionKey, ParentHash: p.ParentHash, UnmergedLeaves: list}
}
