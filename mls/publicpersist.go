package mls

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/comity-im/comity/internal/tlspl"
)

// A Record is one entry of a group's stored form: a key that is unique within
// the group, and a value.
type Record struct {
	Key   string
	Value []byte
}

// Records is a change of stored records. Whoever keeps them applies all of it
// in one transaction.
type Records struct {
	Put    []Record
	Delete []string
}

// Empty reports whether there is nothing to store.
func (r *Records) Empty() bool { return len(r.Put) == 0 && len(r.Delete) == 0 }

// The keys of a PublicGroup's records. Tree nodes and proposals carry their
// position in hexadecimal.
const (
	keyState    = "state"
	keyNode     = "node/"
	keyProposal = "proposal/"
)

// stateRecordVersion is the version of the header record's format.
const stateRecordVersion = 1

func positionKey(prefix string, x uint32) string { return fmt.Sprintf("%s%08x", prefix, x) }

// Records returns what must be stored to go from the group since to g; nil
// stands for an empty store. It is a pure function of both. Apart from the
// header it holds only the tree nodes, proposals and GroupInfo that differ.
func (g *PublicGroup) Records(since *PublicGroup) Records {
	var r Records
	if since == nil {
		since = &PublicGroup{}
	}
	g.state.records(&r, since.state)
	g.state.extensionRecords(&r, since.state)
	g.pending.records(&r, &since.pending)
	infoRecords(&r, g.info, since.info)
	return r
}

// records appends what must be stored to go from the state since, which may
// be nil, to s.
func (s *State) records(r *Records, since *State) {
	if s == since {
		return
	}
	r.Put = append(r.Put, Record{keyState, mustMarshal(s.record())})
	old, oldGroup := (*page)(nil), 0
	if since != nil {
		old, oldGroup = since.tree.root, topGroup(since.tree.depth)
	}
	group := topGroup(s.tree.depth)
	top := max(group, oldGroup)
	diffPages(r, raise(old, oldGroup, top), raise(s.tree.root, group, top), 0, top)
}

// raise returns the root page of a tree as if it had the height top: it
// becomes the leftmost page below.
func raise(root *page, group, top int) *page {
	for ; root != nil && group < top; group++ {
		root = &page{kids: &[pageWidth]*page{root}}
	}
	return root
}

// diffPages appends the changes between two versions of the page of the given
// height whose leftmost leaf is first. nil stands for a blank page. Pages
// that both versions share are skipped.
func diffPages(r *Records, old, now *page, first LeafIndex, group int) {
	if old == now {
		return
	}
	if old == nil {
		old = new(page)
	}
	if now == nil {
		now = new(page)
	}
	for j := 1; j < pageWidth; j++ {
		if was, is := old.parent(j), now.parent(j); was != is {
			r.node(nodeIndex(2*(first+LeafIndex(j)<<(pageLevels*group))-1), NodeTypeParent, is)
		}
	}
	if old.leaves != nil || now.leaves != nil {
		var none [pageWidth]*leafEntry
		was, is := &none, &none
		if old.leaves != nil {
			was = old.leaves
		}
		if now.leaves != nil {
			is = now.leaves
		}
		for i := range is {
			switch {
			case was[i] == is[i]:
			case is[i] == nil:
				r.node(leafPosition(first+LeafIndex(i)), NodeTypeLeaf, "")
			default:
				r.node(leafPosition(first+LeafIndex(i)), NodeTypeLeaf, is[i].raw)
			}
		}
	}
	if old.kids != nil || now.kids != nil {
		var none [pageWidth]*page
		was, is := &none, &none
		if old.kids != nil {
			was = old.kids
		}
		if now.kids != nil {
			is = now.kids
		}
		for i := range is {
			diffPages(r, was[i], is[i], first+LeafIndex(i)<<(pageLevels*group), group-1)
		}
	}
}

// node appends the new content of a tree node, "" for a blank one.
func (r *Records) node(x nodeIndex, t NodeType, raw string) {
	key := positionKey(keyNode, uint32(x))
	if raw == "" {
		r.Delete = append(r.Delete, key)
	} else {
		r.Put = append(r.Put, Record{key, append([]byte{byte(t)}, raw...)})
	}
}

// records appends the changes between two lists of pending proposals.
func (c *proposalCache) records(r *Records, since *proposalCache) {
	for i := range c.list {
		if i >= len(since.list) || !bytes.Equal(c.list[i].Ref, since.list[i].Ref) {
			r.Put = append(r.Put, Record{positionKey(keyProposal, uint32(i)), mustMarshal((*proposalRecord)(&c.list[i]))})
		}
	}
	for i := len(c.list); i < len(since.list); i++ {
		r.Delete = append(r.Delete, positionKey(keyProposal, uint32(i)))
	}
}

// A stateRecord is the stored form of a State without its tree:
//
//	struct {
//	    uint8 version; /* of the ContextRecord */
//	    uint8 depth;
//	    ContextRecord context;
//	    MAC confirmation_tag;
//	    optional<ReInit> reinit;
//	} StateRecord;
type stateRecord struct {
	depth           int
	context         contextRecord
	confirmationTag []byte
	reInit          *ReInit
}

// record returns the stored form of s.
func (s *State) record() *stateRecord {
	c, _ := s.suite.splitContext(s.encoded)
	return &stateRecord{s.tree.depth, c, s.confirmationTag, s.reInit}
}

func (s *stateRecord) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(s.context.version())
	w.Uint8(uint8(s.depth))
	if s.context.hash == nil {
		w.Raw(s.context.context)
	} else {
		w.Opaque(s.context.context)
		w.Opaque(s.context.hash)
	}
	w.Opaque(s.confirmationTag)
	w.Optional(s.reInit != nil, func(w *tlspl.Writer) { w.Value(s.reInit) })
}

func (s *stateRecord) UnmarshalTLS(r *tlspl.Reader) {
	*s = stateRecord{}
	v := r.Uint8()
	if s.depth = int(r.Uint8()); s.depth > maxDepth {
		r.Failf("stored tree of depth %d", s.depth)
	}
	switch v {
	case stateRecordVersion:
		start := r.Offset()
		r.Value(new(GroupContext))
		s.context.context = r.Since(start)
	case contextVersion2:
		s.context = contextRecord{r.Opaque(0), r.Opaque(maxHashSize)}
		if r.Err() == nil && len(s.context.hash) == 0 {
			r.Failf("extensions without a hash")
		}
	default:
		r.Failf("stored state of version %d; this program reads versions 1 and 2", v)
	}
	s.confirmationTag = r.Opaque(maxHashSize)
	if r.Optional() {
		s.reInit = new(ReInit)
		r.Value(s.reInit)
	}
}

// LoadPublicGroup returns the group whose records were stored. Unknown keys
// are ignored. It verifies that the records fit together: the tree must be
// well-formed, with valid parent hashes, and have the hash that the
// GroupContext names. Signatures of leaves, which were verified when they
// came in, are not verified again; those of pending proposals and of the
// GroupInfo are.
func LoadPublicGroup(cfg Config, records map[string][]byte) (*PublicGroup, error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s, err := loadState(c, records)
	if err != nil {
		return nil, err
	}
	g := &PublicGroup{cfg: c, state: s}
	if g.info, err = loadInfo(s, records); err != nil {
		return nil, err
	}
	stored, err := loadProposals(records)
	if err != nil {
		return nil, err
	}
	for i, q := range stored {
		a, err := q.authenticate(s)
		if err != nil {
			return nil, fmt.Errorf("%w: pending proposal %d: %w", ErrState, i, err)
		}
		if err := g.pending.restore(s, q.Message, a); err != nil {
			return nil, fmt.Errorf("%w: pending proposal %d: %w", ErrState, i, err)
		}
		g.pending.list[len(g.pending.list)-1].content = q.content
	}
	return g, nil
}

// restore appends a proposal that was verified in epoch s before it was
// stored, and whose signature was verified again. What the application
// decided about it then is not asked again.
func (c *proposalCache) restore(s *State, m *MLSMessage, a *AuthenticatedContent) error {
	ref, err := a.proposalRef(s.suite)
	if err != nil {
		return err
	}
	q := &QueuedProposal{
		Proposal: *a.Content.Proposal, Sender: a.Content.Sender,
		Ref: ref, Message: m, AAD: a.Content.AuthenticatedData,
	}
	if err := checkProposalSender(q); err != nil {
		return err
	}
	q.checkedIn = s
	return c.add(q, len(c.list)+1)
}

// loadState restores a State from the records of one.
func loadState(cfg *Config, records map[string][]byte) (*State, error) {
	header, ok := records[keyState]
	if !ok {
		return nil, fmt.Errorf("%w: no record %q", ErrState, keyState)
	}
	var stored stateRecord
	if err := Unmarshal(header, &stored); err != nil {
		return nil, fmt.Errorf("%w: record %q: %w", ErrState, keyState, err)
	}
	// The suite stands in front, whether extensions follow or not.
	r := tlspl.NewReader(stored.context.context)
	r.Uint16()
	s, err := cfg.suite(CipherSuite(r.Uint16()))
	if err != nil {
		return nil, err
	}
	encoded, err := stored.context.join(s, records)
	if err != nil {
		return nil, err
	}
	var context GroupContext
	if err := tlspl.Unmarshal(encoded, &context); err != nil {
		return nil, fmt.Errorf("%w: record %q: %w", ErrState, keyState, err)
	}
	width := 1<<(stored.depth+1) - 1
	if width > 4*cfg.Limits.MaxMembers+1 {
		return nil, fmt.Errorf("%w: stored tree of %d nodes", ErrLimit, width)
	}
	nodes := make(RatchetTree, width)
	for key, value := range records {
		x, ok, err := position(key, keyNode)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if int64(x) >= int64(width) {
			return nil, fmt.Errorf("%w: record %q lies outside of the tree", ErrState, key)
		}
		if err := Unmarshal(value, &nodes[x]); err != nil {
			return nil, fmt.Errorf("%w: record %q: %w", ErrState, key, err)
		}
	}
	for len(nodes) > 0 && nodes[len(nodes)-1].Blank() {
		nodes = nodes[:len(nodes)-1]
	}
	t, err := nodes.buildTree(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	t.freeze()
	if t.depth != stored.depth || !bytes.Equal(t.treeHash(), context.TreeHash) {
		return nil, fmt.Errorf("%w: the tree is not the one of the GroupContext", ErrState)
	}
	if err := t.verifyStructure(cfg.Limits.MaxMembers); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if len(stored.confirmationTag) != s.nh() {
		return nil, fmt.Errorf("%w: confirmation tag of %d octets", ErrState, len(stored.confirmationTag))
	}
	st, err := newState(s, t, encoded, stored.confirmationTag)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if err := t.checkSupport(&st.params); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if err := cfg.checkReceivers(s, &st.params, true); err != nil {
		return nil, err
	}
	st.reInit = stored.reInit
	if c, _ := s.splitContext(encoded); c.hash != nil && stored.context.hash == nil {
		st.inline = true
	}
	return st, nil
}

// loadProposals returns the pending proposals in order.
func loadProposals(records map[string][]byte) ([]*proposalRecord, error) {
	type entry struct {
		at uint32
		q  *proposalRecord
	}
	var list []entry
	for key, value := range records {
		at, ok, err := position(key, keyProposal)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		q := new(proposalRecord)
		if err := Unmarshal(value, q); err != nil {
			return nil, fmt.Errorf("%w: record %q: %w", ErrState, key, err)
		}
		list = append(list, entry{at, q})
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.at, b.at) })
	stored := make([]*proposalRecord, len(list))
	for i, e := range list {
		if e.at != uint32(i) {
			return nil, fmt.Errorf("%w: pending proposal %d is missing", ErrState, i)
		}
		stored[i] = e.q
	}
	return stored, nil
}

// position returns the position in a key with the given prefix; ok is false
// for other keys.
func position(key, prefix string) (x uint32, ok bool, err error) {
	digits, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || len(digits) != 8 {
		return 0, false, fmt.Errorf("%w: record key %q", ErrState, key)
	}
	return uint32(n), true, nil
}
