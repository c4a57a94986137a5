package mls

import (
	"iter"
	"math/bits"

	"github.com/comity-im/comity/internal/tlspl"
)

// A page holds three levels of parents of a ratchet tree, and what is below
// them: eight leaves, or eight pages. Pages are what versions of a tree
// share: a change of one leaf copies the pages above it, one for every three
// levels, and nothing else.
//
// Nothing in a page is decoded: a leaf is the octets that were signed, a
// parent those of its encoding. That is what hashes are taken of, and it
// keeps a member at about 300 octets.
//
// A page without kids and leaves is blank from here down. It stands for a
// blank subtree of any size, of which it caches the hash.
type page struct {
	owner *treeEdit // the edit that may change the page in place

	kids   *[pageWidth]*page      // nil at the bottom, and in a blank page
	leaves *[pageWidth]*leafEntry // nil elsewhere; a nil leaf is blank

	// parents holds the encoding of parent j at j-1, "" for a blank one; nil
	// if all are blank. Parent j stands between the kids j-1 and j.
	parents *[pageWidth - 1]string

	// hashes holds the tree hash of parent j at j-1, valid if bit j of fresh
	// is set; in a blank page only that of the topmost.
	hashes []byte
	fresh  uint8

	members uint32   // non-blank leaves from here down
	support *support // what they support
}

const (
	pageLevels = 3
	pageWidth  = 1 << pageLevels
	pageTop    = pageWidth / 2 // the topmost parent of a page
)

// A leafEntry is a member's leaf in a tree. It is immutable.
type leafEntry struct {
	raw     string // encoded LeafNode
	support *support
}

// decode returns the leaf. It shares no memory with the tree.
func (e *leafEntry) decode() *LeafNode {
	leaf := new(LeafNode)
	mustDecode(e.raw, leaf)
	return leaf
}

// encryptionKey returns the leaf's encryption_key, its first field.
func (e *leafEntry) encryptionKey() string {
	key, _ := cutOpaque(e.raw)
	return key
}

// signatureKey returns the leaf's signature_key, its second field.
func (e *leafEntry) signatureKey() string {
	_, rest := cutOpaque(e.raw)
	key, _ := cutOpaque(rest)
	return key
}

// newPathNode returns the encoding of a parent that nothing is unmerged at.
func newPathNode(key, parentHash []byte) (string, error) {
	w := tlspl.NewWriter(make([]byte, 0, len(key)+len(parentHash)+8))
	w.Opaque(key)
	w.Opaque(parentHash)
	w.Varint(0)
	b, err := w.Bytes()
	return string(b), err
}

// parentHashFields returns what the encoding of a parent begins with: its
// encryption_key and parent_hash, encoded.
func parentHashFields(raw string) string {
	_, rest := cutOpaque(raw)
	_, rest = cutOpaque(rest)
	return raw[:len(raw)-len(rest)]
}

// unmergedOf yields the unmerged leaves in the encoding of a parent.
func unmergedOf(raw string) iter.Seq[LeafIndex] {
	return func(yield func(LeafIndex) bool) {
		list, _ := cutOpaque(raw[len(parentHashFields(raw)):])
		for ; len(list) > 0; list = list[4:] {
			l := LeafIndex(list[0])<<24 | LeafIndex(list[1])<<16 | LeafIndex(list[2])<<8 | LeafIndex(list[3])
			if !yield(l) {
				return
			}
		}
	}
}

// decodeParent returns a parent of a tree.
func decodeParent(raw string) *ParentNode {
	p := new(ParentNode)
	mustDecode(raw, p)
	return p
}

// mustDecode decodes what this package encoded.
func mustDecode(raw string, v tlspl.Unmarshaler) {
	if err := tlspl.Unmarshal([]byte(raw), v); err != nil {
		panic("mls: tree holds a node that cannot be decoded: " + err.Error())
	}
}

// cutOpaque splits an encoding that was checked before after its first
// field, which is an opaque<V>.
func cutOpaque(s string) (value, rest string) {
	size := 1 << (s[0] >> 6)
	n := int(s[0] & 0x3f)
	for i := 1; i < size; i++ {
		n = n<<8 | int(s[i])
	}
	return s[size : size+n], s[size+n:]
}

// pageGroup returns the height of the page that holds the parent x, 0 at the
// bottom, and which of its parents x is.
func pageGroup(x nodeIndex) (group, j int) {
	boundary := (uint32(x) + 1) >> 1 // the first leaf of the right subtree
	group = bits.TrailingZeros32(boundary) / pageLevels
	return group, int(boundary>>(pageLevels*group)) & (pageWidth - 1)
}

// topGroup returns the height of the root page of a tree.
func topGroup(depth int) int { return max(depth-1, 0) / pageLevels }

// span returns the kids or leaves that are below parent j: first to last-1.
func span(j int) (first, last int) {
	half := j & -j
	return j - half, j + half
}

// above returns the parents of a page that are above a kid, as bits: those
// whose span holds it.
func above(kid int) (mask uint8) {
	for half := 1; half < pageWidth; half <<= 1 {
		mask |= 1 << (kid&^(2*half-1) + half)
	}
	return mask
}

// blank reports whether the page stands for a blank subtree.
func (p *page) blank() bool { return p.kids == nil && p.leaves == nil }

// parent returns the encoding of parent j, "" for a blank one.
func (p *page) parent(j int) string {
	if p.parents == nil {
		return ""
	}
	return p.parents[j-1]
}

// setParent replaces parent j of an owned page.
func (p *page) setParent(j int, raw string) {
	if p.parents == nil {
		if raw == "" {
			return
		}
		p.parents = new([pageWidth - 1]string)
	}
	p.parents[j-1] = raw
}

// below returns how many members are below parent j.
func (p *page) below(j int) int {
	first, last := span(j)
	n := 0
	switch {
	case p.kids != nil:
		for _, k := range p.kids[first:last] {
			n += int(k.members)
		}
	case p.leaves != nil:
		for _, e := range p.leaves[first:last] {
			if e != nil {
				n++
			}
		}
	}
	return n
}

// cachedHash returns the tree hash of parent j, nil if it is not known.
func (p *page) cachedHash(j, size int) []byte {
	switch {
	case p.fresh>>j&1 == 0:
		return nil
	case len(p.hashes) == size:
		return p.hashes
	}
	return p.hashes[(j-1)*size : j*size : j*size]
}

// cacheHash notes the tree hash of parent j in an owned page.
func (p *page) cacheHash(j int, hash []byte) {
	switch {
	case !p.blank() || p.parents != nil:
		if p.hashes == nil {
			p.hashes = make([]byte, (pageWidth-1)*len(hash))
		}
		copy(p.hashes[(j-1)*len(hash):], hash)
	case j == pageTop:
		p.hashes = hash
	default:
		return
	}
	p.fresh |= 1 << j
}

// refresh recomputes what an owned page caches of the pages or leaves below.
func (p *page) refresh() {
	p.members, p.support = 0, nil
	switch {
	case p.kids != nil:
		for _, k := range p.kids {
			p.members += k.members
			p.support = p.support.and(k.support)
		}
	case p.leaves != nil:
		for _, e := range p.leaves {
			if e != nil {
				p.members++
				p.support = p.support.and(e.support)
			}
		}
	}
}

// refreshAll is refresh for an owned page and all below it.
func (p *page) refreshAll() {
	if p.kids != nil {
		for _, k := range p.kids {
			k.refreshAll()
		}
	}
	p.refresh()
}

// own returns p itself or a copy of it for the edit e. A blank page gets
// room: for leaves at the bottom, for pages above.
func (p *page) own(e *treeEdit, bottom bool) *page {
	if p.owner != e {
		c := *p
		p = &c
		p.owner = e
		if p.kids != nil {
			kids := *p.kids
			p.kids = &kids
		}
		if p.leaves != nil {
			leaves := *p.leaves
			p.leaves = &leaves
		}
		if p.parents != nil {
			parents := *p.parents
			p.parents = &parents
		}
		p.hashes = append([]byte(nil), p.hashes...)
	}
	if p.blank() {
		p.hashes, p.fresh = nil, 0
		if bottom {
			p.leaves = new([pageWidth]*leafEntry)
		} else {
			p.kids = new([pageWidth]*page)
			for i := range p.kids {
				p.kids[i] = &page{owner: e}
			}
		}
	}
	return p
}
