package mls

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/comity-im/comity/internal/tlspl"
)

// The keys of a Group's own records, beside those of its State. Epochs and
// positions are hexadecimal.
const (
	keyMember  = "member"   // own leaf, private keys, secrets of the epoch
	keyPending = "pending/" // + position: a pending proposal
	keyPast    = "past/"    // + epoch: what a past epoch needs besides its tree
	keySecret  = "secret/"  // + epoch + "/node/" or "/leaf/" + position
)

// memberRecordVersion is the version of the records' format.
const memberRecordVersion = 1

func pastKey(e Epoch) string { return fmt.Sprintf("%s%016x", keyPast, e) }

func secretNodeKey(e Epoch, node uint32) string {
	return fmt.Sprintf("%s%016x/node/%08x", keySecret, e, node)
}

func secretLeafKey(e Epoch, leaf LeafIndex) string {
	return fmt.Sprintf("%s%016x/leaf/%08x", keySecret, e, uint32(leaf))
}

// savedGroup is what Records has handed out, for the next difference.
type savedGroup struct {
	state      *State
	pending    int    // how many proposals of the epoch are stored
	spoilt     []int  // which of them as spoilt
	epoch      Epoch  // to which they belong
	member     []byte // digest of the member record; its content is secret
	past       map[Epoch]bool
	extensions map[string]bool // keys of records of large extensions
	garbage    []string        // keys of epochs that were dropped
}

// Records returns what must be stored since the last call, or since the
// group was created, joined or loaded. Apply it in one transaction before
// anything that depends on it leaves the client. Values hold secrets: store
// them encrypted. A key that was used up is in no record, and the record
// that held it before is replaced or deleted. If storing fails, drop the
// group and load it again.
func (g *Group) Records() Records {
	var r Records
	if g.saved.past == nil {
		g.saved.past = make(map[Epoch]bool)
	}
	g.state.records(&r, g.saved.state)
	g.saved.state = g.state
	g.pendingRecords(&r)
	member := mustMarshal((*memberRecord)(g))
	if d := g.suite.sum(member); !bytes.Equal(d, g.saved.member) {
		r.Put = append(r.Put, Record{keyMember, member})
		g.saved.member = d
	}
	for _, p := range g.past {
		if !g.saved.past[p.epoch] {
			r.Put = append(r.Put, Record{pastKey(p.epoch), mustMarshal(p.record(g.suite))})
			g.saved.past[p.epoch] = true
		}
		p.tree.records(&r, p.epoch)
	}
	if g.tree != nil {
		g.tree.records(&r, g.state.Epoch())
	}
	g.extensionRecords(&r)
	r.Delete = append(r.Delete, g.saved.garbage...)
	g.saved.garbage = nil
	return r
}

// forget notes that the records of an epoch are to be deleted.
func (g *Group) forget(e Epoch, t *secretTree) {
	for i := range t.storedNodes {
		g.saved.garbage = append(g.saved.garbage, secretNodeKey(e, i))
	}
	for l := range t.storedSenders {
		g.saved.garbage = append(g.saved.garbage, secretLeafKey(e, l))
	}
	if g.saved.past[e] {
		g.saved.garbage = append(g.saved.garbage, pastKey(e))
		delete(g.saved.past, e)
	}
}

// records appends the changes of a secret tree.
func (t *secretTree) records(r *Records, e Epoch) {
	for _, i := range slices.Sorted(maps.Keys(t.dirtyNodes)) {
		if secret, ok := t.nodes[i]; ok {
			r.Put = append(r.Put, Record{secretNodeKey(e, i), bytes.Clone(secret)})
			t.storedNodes[i] = true
		} else if t.storedNodes[i] {
			r.Delete = append(r.Delete, secretNodeKey(e, i))
			delete(t.storedNodes, i)
		}
	}
	for _, l := range slices.Sorted(maps.Keys(t.dirtySenders)) {
		r.Put = append(r.Put, Record{secretLeafKey(e, l), mustMarshal((*ratchetPair)(t.senders[l]))})
		t.storedSenders[l] = true
	}
	clear(t.dirtyNodes)
	clear(t.dirtySenders)
}

// pendingRecords appends the changes of the pending proposals, which only
// grow within an epoch, but for one that takes the place of a spoilt one. That
// a proposal is spoilt is not stored: its tag tells.
func (g *Group) pendingRecords(r *Records) {
	stored := g.saved.pending
	if g.saved.epoch != g.state.Epoch() {
		stored, g.saved.spoilt = 0, nil
	}
	var spoilt []int
	for _, i := range g.saved.spoilt {
		if g.pending.list[i].Spoilt {
			spoilt = append(spoilt, i)
			continue
		}
		r.Put = append(r.Put, Record{positionKey(keyPending, uint32(i)), mustMarshal((*pendingRecord)(&g.pending.list[i]))})
	}
	for i := stored; i < len(g.pending.list); i++ {
		if g.pending.list[i].Spoilt {
			spoilt = append(spoilt, i)
		}
		r.Put = append(r.Put, Record{positionKey(keyPending, uint32(i)), mustMarshal((*pendingRecord)(&g.pending.list[i]))})
	}
	for i := len(g.pending.list); i < g.saved.pending; i++ {
		r.Delete = append(r.Delete, positionKey(keyPending, uint32(i)))
	}
	g.saved.pending, g.saved.epoch, g.saved.spoilt = len(g.pending.list), g.state.Epoch(), spoilt
}

// ratchetPair is the stored form of a sender's ratchets:
//
//	struct {
//	    uint32 generation;
//	    opaque key<V>;
//	    opaque nonce<V>;
//	} SkippedKey;
//
//	struct {
//	    opaque secret<V>;
//	    uint32 next;
//	    SkippedKey skipped<V>;
//	} Ratchet;
//
//	struct {
//	    optional<Ratchet> handshake;
//	    optional<Ratchet> application;
//	} RatchetPair;
type ratchetPair [2]*ratchet

func (p *ratchetPair) MarshalTLS(w *tlspl.Writer) {
	for _, r := range p {
		w.Optional(r != nil, func(w *tlspl.Writer) {
			w.Opaque(r.secret)
			w.Uint32(r.next)
			w.Vector(func(w *tlspl.Writer) {
				for _, g := range slices.Sorted(maps.Keys(r.skipped)) {
					w.Uint32(g)
					w.Opaque(r.skipped[g].key)
					w.Opaque(r.skipped[g].nonce)
				}
			})
		})
	}
}

func (p *ratchetPair) UnmarshalTLS(r *tlspl.Reader) {
	for i := range p {
		if !r.Optional() {
			continue
		}
		x := &ratchet{secret: r.OpaqueCopy(maxHashSize), next: r.Uint32()}
		r.Vector(func(r *tlspl.Reader) {
			for !r.Empty() {
				g := r.Uint32()
				k := messageKey{r.OpaqueCopy(maxHashSize), r.OpaqueCopy(maxHashSize)}
				if r.Err() == nil && g >= x.next {
					r.Failf("skipped generation %d of a ratchet at %d", g, x.next)
				}
				if x.skipped == nil {
					x.skipped = make(map[uint32]messageKey)
				}
				x.skipped[g] = k
			}
		})
		p[i] = x
	}
}

// fits reports whether the keys have the lengths of the suite.
func (p *ratchetPair) fits(s *suite) bool {
	for _, x := range p {
		if x == nil {
			continue
		}
		if len(x.secret) != s.nh() {
			return false
		}
		for _, k := range x.skipped {
			if len(k.key) != s.keySize || len(k.nonce) != nonceSize {
				return false
			}
		}
	}
	return true
}

// pendingRecord is the stored form of a pending proposal:
//
//	struct {
//	    MLSMessage message;
//	    optional<AuthenticatedContent> content; /* of a PrivateMessage */
//	} PendingRecord;
type pendingRecord QueuedProposal

func (q *pendingRecord) MarshalTLS(w *tlspl.Writer) {
	q.Message.MarshalTLS(w)
	w.Optional(q.content != nil, func(w *tlspl.Writer) { q.content.MarshalTLS(w) })
}

func (q *pendingRecord) UnmarshalTLS(r *tlspl.Reader) {
	q.Message = new(MLSMessage)
	q.Message.UnmarshalTLS(r)
	if r.Optional() {
		q.content = new(AuthenticatedContent)
		q.content.UnmarshalTLS(r)
	}
}

// pastRecord is the stored form of a past epoch without its secret tree:
//
//	struct {
//	    uint32 leaf_index;
//	    optional<LeafNode> leaf;
//	} ChangedLeaf;
//
//	struct {
//	    uint8 version;
//	    uint64 epoch;
//	    select (PastRecord.version) {
//	        case 1: opaque group_context<V>;
//	        case 2: opaque context_without_extensions<V>;
//	                opaque extensions_hash<V>;
//	    };
//	    uint8 safe_aad;
//	    opaque sender_data_secret<V>;
//	    opaque resumption_psk<V>;
//	    uint8 depth;
//	    ChangedLeaf changed<V>;
//	} PastRecord;
type pastRecord struct {
	pastEpoch // without its context
	stored    contextRecord
}

// record returns the stored form of p.
func (p *pastEpoch) record(s *suite) *pastRecord {
	c, _ := s.splitContext(p.context)
	return &pastRecord{*p, c}
}

func (p *pastRecord) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(p.stored.version())
	w.Uint64(p.epoch)
	w.Opaque(p.stored.context)
	if p.stored.hash != nil {
		w.Opaque(p.stored.hash)
	}
	w.Bool(p.safeAAD)
	w.Opaque(p.senderData)
	w.Opaque(p.resumption)
	w.Uint8(uint8(p.tree.depth))
	w.Vector(func(w *tlspl.Writer) {
		for _, l := range slices.Sorted(maps.Keys(p.changed)) {
			w.Uint32(uint32(l))
			leaf := p.changed[l]
			w.Optional(leaf != nil, func(w *tlspl.Writer) { leaf.MarshalTLS(w) })
		}
	})
}

func (p *pastRecord) UnmarshalTLS(r *tlspl.Reader) {
	*p = pastRecord{}
	v := r.Uint8()
	p.epoch = r.Uint64()
	p.stored.context = r.OpaqueCopy(0)
	switch v {
	case memberRecordVersion:
	case contextVersion2:
		if p.stored.hash = r.OpaqueCopy(maxHashSize); r.Err() == nil && len(p.stored.hash) == 0 {
			r.Failf("extensions without a hash")
		}
	default:
		r.Failf("stored epoch of version %d; this program reads versions 1 and 2", v)
	}
	p.safeAAD = r.Bool()
	p.senderData = r.OpaqueCopy(maxHashSize)
	p.resumption = r.OpaqueCopy(maxHashSize)
	p.tree = &secretTree{depth: int(r.Uint8())}
	p.changed = make(map[LeafIndex]*LeafNode)
	if p.tree.depth > maxDepth {
		r.Failf("secret tree of depth %d", p.tree.depth)
	}
	r.Vector(func(r *tlspl.Reader) {
		for !r.Empty() {
			l := LeafIndex(r.Uint32())
			var leaf *LeafNode
			if r.Optional() {
				leaf = new(LeafNode)
				leaf.UnmarshalTLS(r)
			}
			p.changed[l] = leaf
		}
	})
}

func readVersion(r *tlspl.Reader) {
	if v := r.Uint8(); r.Err() == nil && v != memberRecordVersion {
		r.Failf("stored record of version %d; this program reads version %d", v, memberRecordVersion)
	}
}

// memberRecord is the stored form of a member's own part:
//
//	struct {
//	    uint32 node_index;
//	    opaque private_key<V>;
//	} NodeKey;
//
//	struct {
//	    opaque public_key<V>;
//	    opaque private_key<V>;
//	} UpdateKey;
//
//	struct {
//	    uint8 version = 1;
//	    uint8 closed;
//	    uint32 own_leaf;
//	    select (MemberRecord.closed) {
//	        case 0:
//	            EpochSecrets secrets;
//	            NodeKey exports<V>; /* of the Exporter Tree */
//	            NodeKey keys<V>;
//	            UpdateKey updates<V>;
//	        case 1: struct{};
//	    };
//	} MemberRecord;
type memberRecord Group

func (g *memberRecord) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(memberRecordVersion)
	w.Bool(g.closed)
	w.Uint32(uint32(g.own))
	if g.closed {
		return
	}
	g.epoch.MarshalTLS(w)
	g.exports.MarshalTLS(w)
	g.keys.MarshalTLS(w)
	w.Vector(func(w *tlspl.Writer) {
		for _, public := range slices.Sorted(maps.Keys(g.updates)) {
			w.Opaque([]byte(public))
			w.Opaque(g.updates[public])
		}
	})
}

func (g *memberRecord) UnmarshalTLS(r *tlspl.Reader) {
	readVersion(r)
	g.closed = r.Bool()
	g.own = LeafIndex(r.Uint32())
	if g.closed {
		return
	}
	g.epoch = new(epochSecrets)
	g.epoch.UnmarshalTLS(r)
	g.exports.UnmarshalTLS(r)
	g.keys.UnmarshalTLS(r)
	r.Vector(func(r *tlspl.Reader) {
		for !r.Empty() {
			public := string(r.Opaque(0))
			if g.updates == nil {
				g.updates = make(map[string][]byte)
			}
			private := r.OpaqueCopy(0)
			if len(private) == 0 {
				r.Failf("empty private key of an Update")
			}
			g.updates[public] = private
		}
	})
}

// fields lists the secrets in the order of their stored form:
//
//	struct { opaque secret<V>[10]; /* empty: used up */ } EpochSecrets;
func (e *epochSecrets) fields() []*[]byte {
	return []*[]byte{
		&e.senderData, &e.encryption, &e.exporter, &e.external, &e.confirmation,
		&e.membership, &e.resumption, &e.authenticator, &e.init, &e.appExport,
	}
}

// MarshalTLS implements tlspl.Marshaler.
func (e *epochSecrets) MarshalTLS(w *tlspl.Writer) {
	for _, f := range e.fields() {
		w.Opaque(*f)
	}
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (e *epochSecrets) UnmarshalTLS(r *tlspl.Reader) {
	for _, f := range e.fields() {
		if *f = r.OpaqueCopy(maxHashSize); len(*f) == 0 {
			*f = nil
		}
	}
}

// MarshalTLS implements tlspl.Marshaler.
func (k treeKeys) MarshalTLS(w *tlspl.Writer) {
	w.Vector(func(w *tlspl.Writer) {
		for _, x := range slices.Sorted(maps.Keys(k)) {
			w.Uint32(uint32(x))
			w.Opaque(k[x])
		}
	})
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (k *treeKeys) UnmarshalTLS(r *tlspl.Reader) {
	*k = treeKeys{}
	r.Vector(func(r *tlspl.Reader) {
		for !r.Empty() {
			x := nodeIndex(r.Uint32())
			(*k)[x] = r.OpaqueCopy(0)
		}
	})
}

// LoadGroup returns the group whose records were stored. signer holds the
// key of the own leaf. It verifies that the records fit together; unknown
// keys are ignored.
func LoadGroup(cfg Config, records map[string][]byte, signer Signer) (*Group, error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	st, err := loadState(c, records)
	if err != nil {
		return nil, err
	}
	g := &Group{cfg: c, suite: st.suite, signer: signer, state: st}
	if err := loadRecord(records, keyMember, (*memberRecord)(g)); err != nil {
		return nil, err
	}
	g.saved = savedGroup{
		state: st, epoch: st.Epoch(), past: make(map[Epoch]bool),
		member: st.suite.sum(records[keyMember]),
	}
	for key := range records {
		if strings.HasPrefix(key, keyExtensions) {
			if g.saved.extensions == nil {
				g.saved.extensions = make(map[string]bool)
			}
			g.saved.extensions[key] = true
		}
	}
	if g.closed {
		return g, nil
	}
	leaf, ok := st.Member(g.own)
	if !ok {
		return nil, fmt.Errorf("%w: the own leaf %d is blank", ErrState, g.own)
	}
	if !bytes.Equal(leaf.SignatureKey, signer.Public()) {
		return nil, fmt.Errorf("%w: the signer is not that of the own leaf", ErrKey)
	}
	if _, ok := g.keys[leafPosition(g.own)]; !ok {
		return nil, fmt.Errorf("%w: no private key of the own leaf", ErrState)
	}
	if err := g.keys.check(st.tree); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if err := g.loadTrees(records); err != nil {
		return nil, err
	}
	return g, g.loadPending(records)
}

func loadRecord(records map[string][]byte, key string, v tlspl.Unmarshaler) error {
	b, ok := records[key]
	if !ok {
		return fmt.Errorf("%w: no record %q", ErrState, key)
	}
	if err := Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: record %q: %w", ErrState, key, err)
	}
	return nil
}

// loadTrees restores the past epochs and all secret trees.
func (g *Group) loadTrees(records map[string][]byte) error {
	g.tree = emptySecretTree(g.suite, g.state.tree.depth)
	trees := map[Epoch]*secretTree{g.state.Epoch(): g.tree}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if !strings.HasPrefix(key, keyPast) {
			continue
		}
		stored := new(pastRecord)
		if err := loadRecord(records, key, stored); err != nil {
			return err
		}
		p := &stored.pastEpoch
		var err error
		if p.context, err = stored.stored.join(g.suite, records); err != nil {
			return err
		}
		if err := tlspl.Unmarshal(p.context, new(GroupContext)); err != nil {
			return fmt.Errorf("%w: record %q: %w", ErrState, key, err)
		}
		if c, _ := g.suite.splitContext(p.context); c.hash != nil && stored.stored.hash == nil {
			p.inline = true
		}
		if key != pastKey(p.epoch) || p.epoch >= g.state.Epoch() {
			return fmt.Errorf("%w: record %q is of epoch %d", ErrState, key, p.epoch)
		}
		p.tree = emptySecretTree(g.suite, p.tree.depth)
		p.tree.applicationOnly = true
		trees[p.epoch] = p.tree
		g.past = append(g.past, p) // keys sort like epochs
		g.saved.past[p.epoch] = true
	}
	for key, value := range records {
		rest, ok := strings.CutPrefix(key, keySecret)
		if !ok {
			continue
		}
		parts := strings.Split(rest, "/")
		bad := fmt.Errorf("%w: record key %q", ErrState, key)
		if len(parts) != 3 {
			return bad
		}
		e, errE := strconv.ParseUint(parts[0], 16, 64)
		at, errAt := strconv.ParseUint(parts[2], 16, 32)
		t := trees[e]
		if errE != nil || errAt != nil || t == nil {
			return bad
		}
		switch {
		case key == secretNodeKey(e, uint32(at)):
			if len(value) != g.suite.nh() {
				return fmt.Errorf("%w: record %q", ErrState, key)
			}
			t.nodes[uint32(at)] = bytes.Clone(value)
			t.storedNodes[uint32(at)] = true
		case key == secretLeafKey(e, LeafIndex(at)):
			pair := new(ratchetPair)
			if err := loadRecord(records, key, pair); err != nil {
				return err
			}
			if pair[applicationRatchet] == nil || (pair[handshakeRatchet] == nil) != t.applicationOnly {
				return fmt.Errorf("%w: record %q lacks a ratchet", ErrState, key)
			}
			if !pair.fits(g.suite) {
				return fmt.Errorf("%w: record %q holds keys of another length", ErrState, key)
			}
			t.senders[LeafIndex(at)] = (*[2]*ratchet)(pair)
			t.storedSenders[LeafIndex(at)] = true
		default:
			return bad
		}
	}
	return nil
}

// loadPending restores the pending proposals.
func (g *Group) loadPending(records map[string][]byte) error {
	for i := 0; ; i++ {
		key := positionKey(keyPending, uint32(i))
		if _, ok := records[key]; !ok {
			g.saved.pending = i
			return nil
		}
		var q pendingRecord
		if err := loadRecord(records, key, &q); err != nil {
			return err
		}
		a := q.content
		var err error
		if a == nil {
			a, err = g.state.openPublic(q.Message, ContentProposal)
		} else if err = g.state.verifyContent(a); err == nil && a.Content.Proposal == nil {
			err = ErrInvalidMessage
		}
		if err == nil {
			err = g.pending.restore(g.state, q.Message, a)
		}
		if err != nil {
			return fmt.Errorf("%w: record %q: %w", ErrState, key, err)
		}
		p := &g.pending.list[i]
		p.content = q.content
		if q.content == nil &&
			q.Message.PublicMessage.verifyMembership(g.suite, g.epoch.membership, g.state.contextBytes()) != nil {
			p.Spoilt = true
			g.saved.spoilt = append(g.saved.spoilt, i)
		}
	}
}
