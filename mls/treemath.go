package mls

import "math/bits"

// A nodeIndex is the position of a node in the array form of a ratchet tree
// (RFC 9420 appendix C): leaf L stands at 2L, and parents stand at odd
// positions between their subtrees. A tree of depth d has 2^d leaves and
// 2^(d+1)-1 nodes.
type nodeIndex uint32

// maxDepth bounds the depth of any tree: a million leaves.
const maxDepth = 20

// leafPosition returns where leaf l stands.
func leafPosition(l LeafIndex) nodeIndex { return nodeIndex(l) << 1 }

// rootPosition returns where the root of a tree of the given depth stands.
func rootPosition(depth int) nodeIndex { return 1<<depth - 1 }

// ancestorOf returns the node of the given level whose subtree holds leaf l.
func ancestorOf(l LeafIndex, level int) nodeIndex {
	return nodeIndex(l)>>level<<(level+1) + 1<<level - 1
}

// level is 0 for leaves and one more than its children's for a parent.
func (x nodeIndex) level() int { return bits.TrailingZeros32(^uint32(x)) }

func (x nodeIndex) isLeaf() bool { return x&1 == 0 }

// leaf returns the leaf at x, which must be a leaf's position.
func (x nodeIndex) leaf() LeafIndex { return LeafIndex(x >> 1) }

// left returns the left child of x, which must be a parent.
func (x nodeIndex) left() nodeIndex { return x ^ 1<<(x.level()-1) }

// right returns the right child of x, which must be a parent.
func (x nodeIndex) right() nodeIndex { return x ^ 3<<(x.level()-1) }

// parent returns the node above x. The caller sees to it that x is below the
// root.
func (x nodeIndex) parent() nodeIndex {
	k := x.level()
	return (x | 1<<k) &^ (1 << (k + 1))
}

// sibling returns the other child of x's parent.
func (x nodeIndex) sibling() nodeIndex {
	if p := x.parent(); x < p {
		return p.right()
	} else {
		return p.left()
	}
}

// firstLeaf returns the leftmost leaf below x.
func (x nodeIndex) firstLeaf() LeafIndex {
	k := x.level()
	return LeafIndex(x >> (k + 1) << k)
}

// covers reports whether leaf l is x or below it.
func (x nodeIndex) covers(l LeafIndex) bool {
	k := x.level()
	return uint32(l)>>k == uint32(x)>>(k+1)
}

// depthFor returns the depth of the smallest tree that holds leaf l.
func depthFor(l LeafIndex) int { return bits.Len32(uint32(l)) }
