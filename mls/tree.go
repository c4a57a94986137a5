package mls

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"

	"github.com/comity-im/comity/internal/tlspl"
)

// A tree is one version of a ratchet tree (RFC 9420 sections 4.1 and 7). Versions
// share pages: fork gives an editable version, whose edits copy only the
// pages they touch, and freeze ends the editing. A frozen tree is immutable
// and safe for concurrent use; its tree hashes are computed.
//
// Costs of one edit are O(depth), of a fork O(1).
type tree struct {
	suite *suite
	depth int // the tree has 1<<depth leaves
	root  *page

	// index finds the nodes that have a public key. Versions share it; one
	// that cleans it up replaces it for itself and its successors.
	index atomic.Pointer[keyIndex]

	edit *treeEdit // nil once frozen
}

// A treeEdit marks the pages that one editable version owns and may change in
// place.
type treeEdit struct {
	supports []*support // of some of the leaves that came in, for intern
}

var errDuplicateKey = errors.New("public key occurs twice in the tree")

// blankTree returns an editable tree of blank nodes.
func blankTree(s *suite, depth int) *tree {
	t := &tree{suite: s, depth: depth, edit: new(treeEdit)}
	t.root = &page{owner: t.edit}
	t.index.Store(newKeyIndex(0))
	return t
}

// fork returns an editable version of a frozen tree.
func (t *tree) fork() *tree {
	if t.index.Load().wasteful(t) {
		t.index.Store(t.buildIndex())
	}
	c := &tree{suite: t.suite, depth: t.depth, root: t.root, edit: new(treeEdit)}
	c.index.Store(t.index.Load())
	return c
}

// freeze computes the stale tree hashes and ends the editing.
func (t *tree) freeze() {
	t.treeHash()
	t.edit.supports = nil
	t.edit = nil
}

// size returns how many members there are.
func (t *tree) size() int { return int(t.root.members) }

// supported returns what the members support; nil if there is none.
func (t *tree) supported() *support { return t.root.support }

// hasLeaf reports whether the tree is wide enough for leaf l.
func (t *tree) hasLeaf(l LeafIndex) bool { return uint64(l) < 1<<t.depth }

// has reports whether the tree has a node at x.
func (t *tree) has(x nodeIndex) bool { return x <= 2*rootPosition(t.depth) }

// page returns the page of the given height that is above leaf l; nil if a
// higher one is blank.
func (t *tree) page(l LeafIndex, group int) *page {
	p := t.root
	for h := topGroup(t.depth); h > group; h-- {
		if p.kids == nil {
			return nil
		}
		p = p.kids[l>>(pageLevels*h)&(pageWidth-1)]
	}
	return p
}

// entry returns leaf l, nil if it is blank or out of range.
func (t *tree) entry(l LeafIndex) *leafEntry {
	if !t.hasLeaf(l) {
		return nil
	}
	if p := t.page(l, 0); p != nil && p.leaves != nil {
		return p.leaves[l&(pageWidth-1)]
	}
	return nil
}

// leaf returns the content of leaf l, nil if it is blank or out of range.
func (t *tree) leaf(l LeafIndex) *LeafNode {
	if e := t.entry(l); e != nil {
		return e.decode()
	}
	return nil
}

// rawParent returns the encoding of the parent x, "" if it is blank.
func (t *tree) rawParent(x nodeIndex) string {
	group, j := pageGroup(x)
	if p := t.page(x.firstLeaf(), group); p != nil {
		return p.parent(j)
	}
	return ""
}

// parent returns the content of the parent x, nil if it is blank.
func (t *tree) parent(x nodeIndex) *ParentNode {
	if raw := t.rawParent(x); raw != "" {
		return decodeParent(raw)
	}
	return nil
}

// encryptionKey returns the public key of the node x, "" if it is blank.
func (t *tree) encryptionKey(x nodeIndex) string {
	if x.isLeaf() {
		if e := t.entry(x.leaf()); e != nil {
			return e.encryptionKey()
		}
		return ""
	}
	raw := t.rawParent(x)
	if raw == "" {
		return ""
	}
	key, _ := cutOpaque(raw)
	return key
}

// below returns how many members are at or below x.
func (t *tree) below(x nodeIndex) int {
	if x.isLeaf() {
		if t.entry(x.leaf()) != nil {
			return 1
		}
		return 0
	}
	group, j := pageGroup(x)
	if p := t.page(x.firstLeaf(), group); p != nil {
		return p.below(j)
	}
	return 0
}

// ownPages returns the pages from the root to leaf l, for editing by t, and
// marks the hashes above the leaf as stale.
func (t *tree) ownPages(l LeafIndex) []*page {
	pages := make([]*page, 0, maxDepth/pageLevels+1)
	at := &t.root
	for h := topGroup(t.depth); ; h-- {
		*at = (*at).own(t.edit, h == 0)
		p := *at
		pages = append(pages, p)
		kid := int(l>>(pageLevels*h)) & (pageWidth - 1)
		p.fresh &^= above(kid)
		if h == 0 {
			return pages
		}
		at = &p.kids[kid]
	}
}

// refreshPages recomputes what pages cache, from the bottom to the root.
func refreshPages(pages []*page) {
	for _, p := range slices.Backward(pages) {
		p.refresh()
	}
}

// setRaw replaces a parent that is in one of the pages from the root to a
// leaf.
func setRaw(pages []*page, x nodeIndex, raw string) {
	group, j := pageGroup(x)
	pages[len(pages)-1-group].setParent(j, raw)
}

// blankLeaf empties leaf l and its direct path, as a Remove does before the
// tree is truncated (section 12.1.3).
func (t *tree) blankLeaf(l LeafIndex) {
	pages := t.ownPages(l)
	t.blankParents(pages, l)
	pages[len(pages)-1].leaves[l&(pageWidth-1)] = nil
	refreshPages(pages)
}

// setLeaf puts leaf into position l, in place of what is there, and leaves
// the direct path as it is. It fails if one of its keys is in the tree
// already; the tree is then of no more use.
func (t *tree) setLeaf(l LeafIndex, leaf *LeafNode) error {
	pages, err := t.putLeaf(l, leaf)
	if err != nil {
		return err
	}
	refreshPages(pages)
	return nil
}

// putLeaf is setLeaf without refreshing the pages, which it returns.
func (t *tree) putLeaf(l LeafIndex, leaf *LeafNode) ([]*page, error) {
	raw, err := tlspl.Marshal(leaf)
	if err != nil {
		return nil, err
	}
	pages := t.ownPages(l)
	support := t.intern(supportOf(leaf), pages)
	at := &pages[len(pages)-1].leaves[l&(pageWidth-1)]
	*at = nil
	if x, ok := t.findEncryptionKey(leaf.EncryptionKey); ok {
		return nil, fmt.Errorf("encryption key of leaf %d is that of node %d: %w", l, x, errDuplicateKey)
	}
	if other, ok := t.findSignatureKey(leaf.SignatureKey); ok {
		return nil, fmt.Errorf("signature key of leaf %d is that of leaf %d: %w", l, other, errDuplicateKey)
	}
	*at = &leafEntry{raw: string(raw), support: support}
	t.index.Load().addLeaf(l, *at)
	return pages, nil
}

// intern returns a support that is equal to s, the same one for equal ones
// as far as it is cheap to tell: what the pages above the leaf, their leaves
// and earlier leaves of the edit have.
func (t *tree) intern(s *support, pages []*page) *support {
	for _, p := range pages {
		if p.support != nil && p.support.equal(s) {
			return p.support
		}
	}
	for _, e := range pages[len(pages)-1].leaves {
		if e != nil && e.support.equal(s) {
			return e.support
		}
	}
	for _, o := range t.edit.supports {
		if o.equal(s) {
			return o
		}
	}
	if len(t.edit.supports) < 8 {
		t.edit.supports = append(t.edit.supports, s)
	}
	return s
}

// blankParents empties the parents above leaf l, whose pages are given.
func (t *tree) blankParents(pages []*page, l LeafIndex) {
	for level := 1; level <= t.depth; level++ {
		setRaw(pages, ancestorOf(l, level), "")
	}
}

// leftmostBlank returns the leaf that the next member gets (section 7.7); it
// is out of range if the tree is full.
func (t *tree) leftmostBlank() LeafIndex {
	if t.size() == 1<<t.depth {
		return 1 << t.depth
	}
	x := rootPosition(t.depth)
	for !x.isLeaf() {
		if t.below(x.left()) < 1<<(x.level()-1) {
			x = x.left()
		} else {
			x = x.right()
		}
	}
	return x.leaf()
}

// extend doubles the number of leaves (section 7.7).
func (t *tree) extend() {
	if topGroup(t.depth+1) > topGroup(t.depth) {
		root := (&page{owner: t.edit}).own(t.edit, false)
		root.kids[0] = t.root
		root.refresh()
		t.root = root
	}
	t.depth++
}

// truncate removes the right half while it has no member (section 7.7).
func (t *tree) truncate() {
	for t.depth > 0 && t.below(rootPosition(t.depth).right()) == 0 {
		pages := t.ownPages(0)
		setRaw(pages, rootPosition(t.depth), "")
		if topGroup(t.depth-1) < topGroup(t.depth) {
			t.root = pages[1]
		}
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
	pages := t.ownPages(l)
	for level := 1; level <= t.depth; level++ {
		x := ancestorOf(l, level)
		if n := t.parent(x); n != nil {
			setRaw(pages, x, string(mustMarshal(n.withUnmerged(l))))
		}
	}
	return l, t.setLeaf(l, leaf)
}

// setParent puts n into position x, which is above leaf l, in place of what
// is there.
func (t *tree) setParent(l LeafIndex, x nodeIndex, n *ParentNode) error {
	raw, err := tlspl.Marshal(n)
	if err != nil {
		return err
	}
	pages := t.ownPages(l)
	setRaw(pages, x, "")
	return t.setNew(pages, x, n.EncryptionKey, string(raw))
}

// setNew puts a parent with a key that must be new into position x, which is
// blank and in one of the pages.
func (t *tree) setNew(pages []*page, x nodeIndex, key []byte, raw string) error {
	if other, ok := t.findEncryptionKey(key); ok {
		return fmt.Errorf("encryption key of node %d is that of node %d: %w", x, other, errDuplicateKey)
	}
	setRaw(pages, x, raw)
	t.index.Load().addParent(x, string(key))
	return nil
}

// filteredPath returns the nodes above leaf l whose child on the copath has
// members below it, from the leaf upwards (section 4.1.2).
func (t *tree) filteredPath(l LeafIndex) []nodeIndex {
	filtered := make([]nodeIndex, 0, t.depth)
	for level := 1; level <= t.depth; level++ {
		if x := ancestorOf(l, level); t.below(copathChild(x, l)) > 0 {
			filtered = append(filtered, x)
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
func (t *tree) resolution(x nodeIndex) iter.Seq[nodeIndex] {
	return func(yield func(nodeIndex) bool) { t.resolve(x, yield) }
}

func (t *tree) resolve(x nodeIndex, yield func(nodeIndex) bool) bool {
	if x.isLeaf() {
		return t.entry(x.leaf()) == nil || yield(x)
	}
	group, j := pageGroup(x)
	if p := t.page(x.firstLeaf(), group); p != nil {
		return p.resolve(x.firstLeaf()&^(pageWidth<<(pageLevels*group)-1), group, j, yield)
	}
	return true
}

// resolve yields the resolution of parent j of a page of the given height,
// whose leftmost leaf is first.
func (p *page) resolve(first LeafIndex, group, j int, yield func(nodeIndex) bool) bool {
	if raw := p.parent(j); raw != "" {
		if !yield(nodeIndex(2*(first+LeafIndex(j)<<(pageLevels*group)) - 1)) {
			return false
		}
		for l := range unmergedOf(raw) {
			if !yield(leafPosition(l)) {
				return false
			}
		}
		return true
	}
	half := j & -j
	if half > 1 {
		return p.resolve(first, group, j-half/2, yield) && p.resolve(first, group, j+half/2, yield)
	}
	for kid := j - 1; kid <= j; kid++ {
		l := first + LeafIndex(kid)<<(pageLevels*group)
		switch {
		case p.leaves != nil:
			if p.leaves[kid] != nil && !yield(leafPosition(l)) {
				return false
			}
		case p.kids != nil && p.kids[kid].members > 0:
			if !p.kids[kid].resolve(l, group-1, pageTop, yield) {
				return false
			}
		}
	}
	return true
}

// resolutionSize returns how many nodes the resolution of the node x has.
func (t *tree) resolutionSize(x nodeIndex) int {
	if x.isLeaf() {
		return t.below(x)
	}
	group, j := pageGroup(x)
	if p := t.page(x.firstLeaf(), group); p != nil {
		return p.resolutionSize(j)
	}
	return 0
}

// resolutionSize is that of parent j. It does not walk what has no parents.
func (p *page) resolutionSize(j int) int {
	if raw := p.parent(j); raw != "" {
		n := 1
		for range unmergedOf(raw) {
			n++
		}
		return n
	}
	half := j & -j
	switch {
	case p.leaves != nil && p.parents == nil:
		return p.below(j)
	case half > 1:
		return p.resolutionSize(j-half/2) + p.resolutionSize(j+half/2)
	}
	n := 0
	for kid := j - 1; kid <= j; kid++ {
		switch {
		case p.leaves != nil && p.leaves[kid] != nil:
			n++
		case p.kids != nil && p.kids[kid].members > 0:
			n += p.kids[kid].resolutionSize(pageTop)
		}
	}
	return n
}

// entries yields the non-blank leaves from left to right.
func (t *tree) entries() iter.Seq2[LeafIndex, *leafEntry] {
	return func(yield func(LeafIndex, *leafEntry) bool) {
		t.root.eachEntry(0, topGroup(t.depth), yield)
	}
}

func (p *page) eachEntry(first LeafIndex, group int, yield func(LeafIndex, *leafEntry) bool) bool {
	if p.leaves != nil {
		for i, e := range p.leaves {
			if e != nil && !yield(first+LeafIndex(i), e) {
				return false
			}
		}
	}
	if p.kids != nil {
		for i, k := range p.kids {
			if k.members > 0 && !k.eachEntry(first+LeafIndex(i)<<(pageLevels*group), group-1, yield) {
				return false
			}
		}
	}
	return true
}

// parents yields the encodings of parents that are not blank, a page after
// the other.
func (t *tree) parents() iter.Seq2[nodeIndex, string] {
	return func(yield func(nodeIndex, string) bool) {
		t.root.eachParent(0, topGroup(t.depth), yield)
	}
}

func (p *page) eachParent(first LeafIndex, group int, yield func(nodeIndex, string) bool) bool {
	if p.parents != nil {
		for i, raw := range p.parents {
			boundary := first + LeafIndex(i+1)<<(pageLevels*group)
			if raw != "" && !yield(nodeIndex(2*boundary-1), raw) {
				return false
			}
		}
	}
	if p.kids != nil {
		for i, k := range p.kids {
			if !k.eachParent(first+LeafIndex(i)<<(pageLevels*group), group-1, yield) {
				return false
			}
		}
	}
	return true
}

// members yields the non-blank leaves, decoded, from left to right.
func (t *tree) members() iter.Seq2[LeafIndex, *LeafNode] {
	return func(yield func(LeafIndex, *LeafNode) bool) {
		for l, e := range t.entries() {
			if !yield(l, e.decode()) {
				return
			}
		}
	}
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
