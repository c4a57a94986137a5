package tsmls

import (
	"math/bits"
	"slices"

	"github.com/comity-im/comity/mls"
)

// blank reports whether a leaf of the tree is blank or lies outside of it.
func blank(tree mls.RatchetTree, leaf uint32) bool {
	return int(2*leaf) >= len(tree) || tree[2*leaf].Blank()
}

// leafOf returns the leaf with that identity.
func leafOf(tree mls.RatchetTree, identity string) uint32 {
	return uint32(slices.IndexFunc(tree, func(n mls.Node) bool {
		return n.Leaf != nil && string(n.Leaf.Credential.Identity) == identity
	}) / 2)
}

// above returns the parent of node x (RFC 9420 appendix C).
func above(x int) int {
	k := bits.TrailingZeros(^uint(x)) // the level of x
	return (x | 1<<k) &^ (1 << (k + 1))
}

// unmergedDiffer reports whether two nodes above the same unmerged leaf list
// different unmerged leaves. Such a tree is valid: RFC 9420 section 12.4.3.1
// wants the leaf to be listed by every node between it and one that lists it,
// which may list others, too. ts-mls 1.6.4 wants all lists above the leaf to
// be the same, and so refuses to join some groups.
func unmergedDiffer(tree mls.RatchetTree) bool {
	for _, n := range tree {
		if n.Parent == nil {
			continue
		}
		for _, leaf := range n.Parent.UnmergedLeaves {
			for x := above(int(2 * leaf)); x < 2*len(tree); x = above(x) {
				if x < len(tree) && tree[x].Parent != nil && !slices.Equal(tree[x].Parent.UnmergedLeaves, n.Parent.UnmergedLeaves) {
					return true
				}
			}
		}
	}
	return false
}

// leavesLeftBlank reports whether the pending removals and those in more
// leave members in the right half of the tree only. Then the root stays blank
// when a path is merged, and commit_secret follows from the last path secret,
// that of a node below the root (RFC 9420 section 12.4.1, with section 7.4).
// ts-mls 1.6.4 derives one more secret, as if the root had one, and so comes
// to another epoch than others. See TestBlankLeftHalf.
func (w *world) leavesLeftBlank(more []proposal) bool {
	gone := map[uint32]bool{}
	more = slices.Clone(more)
	for _, p := range w.pending {
		more = append(more, p.proposal)
	}
	for _, p := range more {
		if p.Kind == remove {
			gone[p.Leaf] = true
		}
	}
	var first, last uint32
	none := true
	for _, m := range w.members {
		if gone[m.leaf] {
			continue
		}
		if none {
			first, last, none = m.leaf, m.leaf, false
		}
		first, last = min(first, m.leaf), max(last, m.leaf)
	}
	// The left half of a tree whose last leaf is last.
	return last > 0 && first >= 1<<(bits.Len32(last)-1)
}
