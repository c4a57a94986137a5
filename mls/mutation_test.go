package mls

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// choices are decisions that a fuzzer makes.
type choices struct{ b []byte }

// next returns a number below n.
func (c *choices) next(n int) int {
	if len(c.b) == 0 || n <= 1 {
		return 0
	}
	x := int(c.b[0])
	c.b = c.b[1:]
	return x % n
}

func pickOne[T any](c *choices, list ...T) T { return list[c.next(len(list))] }

// spoilBytes flips, shortens or lengthens octets.
func (c *choices) spoilBytes(b []byte) []byte {
	b = bytes.Clone(b)
	switch c.next(5) {
	case 0:
		return nil
	case 1:
		return b[:c.next(len(b)+1)]
	case 2:
		return append(b, byte(c.next(256)))
	case 3:
		return make([]byte, len(b))
	}
	if len(b) > 0 {
		b[c.next(len(b))] ^= 1 << c.next(8)
	}
	return b
}

// A stage is an arena whose members have proposals pending, for forgeries
// that change nothing: what all of them stage is never merged.
type stage struct {
	*arena
	before  map[string]string
	joiners []*device
	new     []*KeyPackage // to add; the last one has expired
	updates []Proposal    // for m2 and m7
}

var (
	stageOnce  sync.Once
	stageFirst *stage
)

// newStage returns the stage, which all tests share, for t.
func newStage(t *testing.T) *stage {
	t.Helper()
	stageOnce.Do(func() {
		a := newArena(t)
		a.propose(a.say("m2", proposalContent(a.updateOf("m2", nil)), nil))
		a.propose(a.say("m6", proposalContent(SelfRemoveProposal()), nil))
		a.propose(a.external(RemoveProposal(a.leaf("m4"))))
		a.propose(a.say("m7", proposalContent(AppDataUpdateProposal(testComponent, []byte("x"))), nil))
		s := &stage{arena: a, before: a.images()}
		for _, n := range []string{"new", "m2"} {
			s.joiners = append(s.joiners, a.device(n, nil))
		}
		s.new = []*KeyPackage{a.device("k1", nil).kp, a.device("k2", nil).kp, a.expiredKeyPackage()}
		s.updates = []Proposal{a.updateOf("m2", nil), a.updateOf("m7", nil), updateProposal(a.leafNode("m0"))}
		stageFirst = s
	})
	s, a := *stageFirst, *stageFirst.arena
	a.T, a.texts, s.arena = t, map[string]bool{}, &a
	t.Cleanup(a.noSecrets)
	return &s
}

// base returns a valid commit.
func (s *stage) base(c *choices) draft {
	again := s.joiners[1]
	return pickOne(c,
		draft{path: true},
		draft{values: []Proposal{sharedPSK()}},
		draft{path: true, values: []Proposal{AddProposal(s.new[0]), sharedPSK()}},
		draft{values: []Proposal{AddProposal(s.new[0]), AddProposal(s.new[1])}},
		draft{values: []Proposal{RemoveProposal(s.leaf("m7")), AddProposal(s.new[0])}},
		draft{values: []Proposal{s.contextExtensions(func(x Extensions) Extensions { return x })}},
		draft{pending: true},
		draft{by: "m0", pending: true, values: []Proposal{AddProposal(s.new[1])}},
		draft{by: "m7", path: true},
		draft{joiner: s.joiners[0]},
		draft{joiner: s.joiners[0], values: []Proposal{sharedPSK(), AppDataUpdateProposal(testComponent, []byte("y"))}},
		draft{joiner: again, values: []Proposal{RemoveProposal(s.leaf("m2"))}},
	)
}

// anyProposal returns a proposal that may be valid or not.
func (s *stage) anyProposal(c *choices) Proposal {
	leaf := pickOne(c, 0, 1, 2, 3, 4, 5, 6, 7, 8, LeafIndex(1<<32-1))
	nonce := arenaNonce(byte(1 + c.next(2)))
	if c.next(8) == 0 {
		nonce = c.spoilBytes(nonce)
	}
	id := PreSharedKeyID{Type: pickOne(c, PSKExternal, PSKResumption, PSKApplication), ID: []byte(pickOne(c, "shared", "other")), Nonce: nonce}
	if id.Type == PSKResumption {
		id.ID, id.Usage, id.GroupID, id.Epoch = nil, ResumptionPSKUsage(c.next(5)), []byte("arena"), s.hub.State().Epoch()-uint64(c.next(6))
	}
	component := pickOne(c, testComponent, 1, 2, 0x8fff)
	return pickOne(c,
		RemoveProposal(leaf), AddProposal(pickOne(c, s.new...)), PreSharedKeyProposal(id), pickOne(c, s.updates...),
		reInitProposal(ProtocolVersion(c.next(3))), SelfRemoveProposal(),
		Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{pickOne(c, rootKey(s.hub.State()), nil, []byte("x"))}},
		AppDataUpdateProposal(component, []byte(pickOne(c, "x", "bad", "keep"))), AppDataRemoveProposal(component),
		AppEphemeralProposal(component, []byte(pickOne(c, "x", "bad"))),
		s.contextExtensions(func(x Extensions) Extensions {
			switch c.next(4) {
			case 0:
				return nil
			case 1:
				return append(slices.Clone(x), Extension{pickOne(c, ExtensionType(1), 2, 3, 4, 5, 6, 0xf00e, 0xf00f), []byte{0}})
			case 2:
				return x.Set(ExtensionRequiredCapabilities, c.spoilBytes(x[2].Data))
			}
			return x[c.next(len(x)):]
		}),
	)
}

// someKey returns a public key that is used elsewhere, or none.
func (s *stage) someKey(c *choices) []byte {
	key := pickOne(c, rootKey(s.hub.State()), s.leafNode("m0").EncryptionKey, s.leafNode("m1").EncryptionKey, s.leafNode("m7").EncryptionKey,
		s.new[0].InitKey, s.new[0].LeafNode.EncryptionKey)
	if c.next(4) == 0 {
		return c.spoilBytes(key)
	}
	return key
}

// spoil changes one field of a draft; whatever covers it is made again.
func (s *stage) spoil(c *choices, d *draft) string {
	op := c.next(34)
	list := func(f func(list []ProposalOrRef) []ProposalOrRef) {
		d.list = func(l []ProposalOrRef) []ProposalOrRef { return f(slices.Clone(l)) }
	}
	node := func(f func(p *UpdatePath, n *UpdatePathNode)) {
		i := c.next(4)
		d.nodes = func(p *UpdatePath) {
			if len(p.Nodes) > 0 {
				f(p, &p.Nodes[i%len(p.Nodes)])
			}
		}
	}
	at := c.next(8)
	switch op {
	case 0, 1:
		p := s.anyProposal(c)
		list(func(l []ProposalOrRef) []ProposalOrRef { return append(l, ProposalOrRef{Proposal: &p}) })
	case 2:
		p := s.anyProposal(c)
		list(func(l []ProposalOrRef) []ProposalOrRef { return append([]ProposalOrRef{{Proposal: &p}}, l...) })
	case 3:
		list(func(l []ProposalOrRef) []ProposalOrRef {
			if len(l) > 0 {
				l = slices.Delete(l, at%len(l), at%len(l)+1)
			}
			return l
		})
	case 4:
		list(func(l []ProposalOrRef) []ProposalOrRef {
			if len(l) > 0 {
				l = append(l, l[at%len(l)])
			}
			return l
		})
	case 5:
		pending := s.hub.Pending()
		ref := pending[at%len(pending)].Ref
		if c.next(4) == 0 {
			if ref = c.spoilBytes(ref); ref == nil {
				ref = []byte{1}
			}
		}
		list(func(l []ProposalOrRef) []ProposalOrRef { return append(l, ProposalOrRef{Reference: ref}) })
	case 6:
		list(func(l []ProposalOrRef) []ProposalOrRef { slices.Reverse(l); return l })
	case 7:
		d.pathless = true
	case 8:
		source := pickOne(c, LeafSourceKeyPackage, LeafSourceUpdate)
		d.leaf = func(l *LeafNode) { l.Source, l.Lifetime = source, Lifetime{1, 1 << 40} }
	case 9:
		key := s.someKey(c)
		d.leaf = func(l *LeafNode) { l.EncryptionKey = key }
	case 10:
		other := pickOne(c, s.groups["m2"].signer, s.joiners[0].signer)
		d.leafKey, d.signer = other, other
		d.leaf = func(l *LeafNode) { l.SignatureKey = other.Public() }
	case 11:
		what := c.next(5)
		d.leaf = func(l *LeafNode) {
			switch k := &l.Capabilities; what {
			case 0:
				k.Versions = nil
			case 1:
				k.CipherSuites = nil
			case 2:
				k.Extensions = nil
			case 3:
				k.Proposals = nil
			case 4:
				k.Credentials = k.Credentials[:1]
			}
		}
	case 12:
		x := Extension{pickOne(c, ExtensionType(1), 2, 3, 6, 0xf00e, 0xf00f), []byte{0}}
		d.leaf = func(l *LeafNode) { l.Extensions = append(slices.Clone(l.Extensions), x) }
	case 13:
		d.leaf = func(l *LeafNode) { l.ParentHash = (&choices{[]byte{byte(at), 3, 5}}).spoilBytes(l.ParentHash) }
	case 14:
		who := BasicCredential([]byte(pickOne(c, "m0", "m2", "evil", "")))
		d.leaf = func(l *LeafNode) { l.Credential = who }
	case 15:
		d.leafKey = s.groups["m2"].signer
	case 16:
		l := LeafIndex(at)
		d.at = &l
	case 17:
		node(func(p *UpdatePath, _ *UpdatePathNode) { p.Nodes = p.Nodes[1:] })
	case 18:
		node(func(p *UpdatePath, n *UpdatePathNode) { p.Nodes = append(p.Nodes, *n) })
	case 19:
		node(func(p *UpdatePath, _ *UpdatePathNode) { slices.Reverse(p.Nodes) })
	case 20:
		key := s.someKey(c)
		node(func(_ *UpdatePath, n *UpdatePathNode) { n.EncryptionKey = key })
	case 21:
		node(func(_ *UpdatePath, n *UpdatePathNode) {
			n.EncryptedPathSecret = n.EncryptedPathSecret[:at%(len(n.EncryptedPathSecret)+1)]
		})
	case 22:
		node(func(_ *UpdatePath, n *UpdatePathNode) {
			n.EncryptedPathSecret = append(n.EncryptedPathSecret, n.EncryptedPathSecret...)
		})
	case 23:
		spoil := choices{slices.Clone(c.b)}
		node(func(_ *UpdatePath, n *UpdatePathNode) {
			for i := range n.EncryptedPathSecret {
				ct := &n.EncryptedPathSecret[i]
				if at%2 == 0 {
					ct.Ciphertext = spoil.spoilBytes(ct.Ciphertext)
				} else {
					ct.KEMOutput = spoil.spoilBytes(ct.KEMOutput)
				}
			}
		})
	case 24:
		d.secrets = func(p *createdPath) {
			if len(p.secrets) > 0 {
				n := &p.secrets[at%len(p.secrets)]
				n.secret = (&choices{[]byte{byte(at), 1, 2}}).spoilBytes(n.secret)
			}
		}
	case 25:
		d.frame = func(f *FramedContent) { f.GroupID = []byte("arena2") }
	case 26:
		by := pickOne(c, uint64(1), 1<<64-1, 1<<63)
		d.frame = func(f *FramedContent) { f.Epoch += by }
	case 27:
		who := pickOne(c, MemberSender(0), MemberSender(2), MemberSender(5), MemberSender(9), MemberSender(1<<32-1),
			Sender{Type: SenderExternal}, Sender{Type: SenderNewMemberCommit}, Sender{Type: SenderNewMemberProposal})
		d.frame = func(f *FramedContent) { f.Sender = who }
	case 28:
		d.frame = func(f *FramedContent) { f.AuthenticatedData = []byte("aad") } // valid
	case 29:
		d.signer = pickOne(c, s.groups["m2"].signer, s.joiners[1].signer, s.sender)
	case 30:
		spoil := choices{slices.Clone(c.b)}
		d.message = func(m *PublicMessage) {
			switch at % 3 {
			case 0:
				m.Auth.Signature = spoil.spoilBytes(m.Auth.Signature)
			case 1:
				m.MembershipTag = spoil.spoilBytes(m.MembershipTag)
			case 2:
				m.Auth.ConfirmationTag = spoil.spoilBytes(m.Auth.ConfirmationTag)
			}
		}
	case 31:
		spoil := choices{slices.Clone(c.b)}
		d.tag = func(tag []byte) []byte { return spoil.spoilBytes(tag) }
	default: // an octet of the commit, wherever it is
		x, bit := c.next(256)<<8|c.next(256), c.next(8)
		d.frame = func(f *FramedContent) {
			b := mustMarshal(f.Commit)
			b[x%len(b)] ^= 1 << bit
			spoilt := new(Commit)
			if Unmarshal(b, spoilt) == nil {
				f.Commit = spoilt
			}
		}
	}
	return fmt.Sprint("field ", op)
}

// judge lets all judge a commit. Nobody may change; members accept nothing
// that the hub refuses; whoever accepts it comes to the same epoch, whose
// tree the naive oracle finds valid. It reports who accepted.
func (s *stage) judge(m *MLSMessage, by, what string) (members int, hub bool) {
	s.Helper()
	b, err := Marshal(m)
	if err != nil {
		return 0, false // there is no such message
	}
	parse := func() *MLSMessage {
		out := new(MLSMessage)
		if Unmarshal(b, out) != nil {
			return nil
		}
		return out
	}
	if parse() == nil {
		return 0, false
	}
	note := func(err error) {
		if err != nil {
			s.texts[err.Error()] = true
		}
	}
	public, errHub := s.hub.StageCommit(parse())
	note(errHub)
	for _, n := range s.names {
		if n == by {
			continue
		}
		sc, err := s.groups[n].StageCommit(parse())
		note(err)
		if err != nil {
			continue
		}
		members++
		if errHub != nil {
			s.Fatalf("%s accepts what the hub refuses (%s): %v", n, what, errHub)
		}
		if !bytes.Equal(sc.After.encoded, public.After.encoded) || !bytes.Equal(sc.After.interim, public.After.interim) {
			s.Fatalf("%s and the hub come to different epochs (%s)", n, what)
		}
		if !sc.SelfRemoved {
			noError(s, sc.private.keys.check(sc.After.tree))
		}
	}
	if errHub == nil {
		nodes := public.After.RatchetTree()
		o := &oracleTree{nodes: make([]Node, 2<<depthFor(LeafIndex(len(nodes)-1)/2)-1)}
		copy(o.nodes, nodes)
		if !bytes.Equal(o.treeHash(o.root()), public.After.context.TreeHash) || !o.parentHashesValid() {
			s.Fatalf("the hub accepts a tree that the oracle refuses (%s)", what)
		}
		noError(s, public.After.tree.verifyStructure(1000))
	}
	s.unchanged(s.before)
	return members, errHub == nil
}

// commit forges one commit as the choices say and lets all judge it.
func (s *stage) commit(b []byte) (members int, hub bool) {
	s.Helper()
	c := &choices{b}
	d := s.base(c)
	what := ""
	for range 1 + c.next(2) {
		what += s.spoil(c, &d) + " "
	}
	by := d.by
	if by == "" {
		by = "m1"
	}
	if d.joiner != nil {
		by = ""
	}
	return s.judge(s.forge(d, true).message, by, what)
}

// FuzzCommitMutation takes a valid commit of an insider, changes one field or
// two, and signs, encrypts and tags it again with the right keys.
func FuzzCommitMutation(f *testing.F) {
	for op := range 36 {
		for base := range 3 {
			f.Add([]byte{byte(op + 5*base), 0, byte(op), byte(base + op), 7, 1, 4, 2, 9})
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64 {
			return
		}
		newStage(t).commit(b)
	})
}

// TestMutatedCommits plays many of the same forgeries with seeded choices,
// and sees that some of them are valid.
func TestMutatedCommits(t *testing.T) {
	n := 1500
	if testing.Short() {
		n = 400
	}
	s := newStage(t)
	accepted, hubOnly := 0, 0
	for seed := range n {
		members, hub := s.commit(randomChoices(uint64(seed)))
		switch {
		case members > 0:
			accepted++
		case hub:
			hubOnly++
		}
	}
	t.Logf("of %d commits, members accepted %d, the hub %d more", n, accepted, hubOnly)
	if accepted == 0 || hubOnly == 0 || accepted+hubOnly > n/2 {
		t.Error("the choices do not test all outcomes")
	}
}

func randomChoices(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, 0, 24)
	for range 3 {
		b = binary.BigEndian.AppendUint64(b, r.Uint64())
	}
	return b
}

// proposal forges a proposal and lets all judge it: members and hub must agree
// about everything but the membership tag.
func (s *stage) proposal(b []byte) bool {
	s.Helper()
	c := &choices{b}
	p := s.anyProposal(c)
	if c.next(3) == 0 { // an octet of it, wherever it is
		b := mustMarshal(&p)
		b[(c.next(256)<<8|c.next(256))%len(b)] ^= 1 << c.next(8)
		spoilt := new(Proposal)
		if Unmarshal(b, spoilt) != nil {
			return false
		}
		p = *spoilt
	}
	who := c.next(5)
	signer, sender := s.groups["m2"].signer, MemberSender(s.leaf("m2"))
	switch who {
	case 2:
		signer, sender = s.sender, Sender{Type: SenderExternal, Index: uint32(c.next(8) / 7)}
	case 3:
		signer, sender = s.joiners[0].signer, Sender{Type: SenderNewMemberProposal}
	case 4:
		sender = pickOne(c, MemberSender(5), MemberSender(8), MemberSender(0), Sender{Type: SenderNewMemberCommit})
	}
	m := s.sayAs(signer, sender, proposalContent(p), func(f *FramedContent) {
		switch c.next(12) {
		case 0:
			f.Epoch += uint64(c.next(256)) << (c.next(8) * 8)
		case 1:
			f.GroupID = c.spoilBytes(f.GroupID)
		case 2:
			f.AuthenticatedData = []byte("aad")
		}
	})
	if c.next(6) == 0 {
		m.PublicMessage.Auth.Signature = c.spoilBytes(m.PublicMessage.Auth.Signature)
	}
	out, err := Marshal(m)
	if err != nil {
		return false
	}
	parsed := func() *MLSMessage {
		m := new(MLSMessage)
		noError(s, Unmarshal(out, m))
		return m
	}
	if Unmarshal(out, new(MLSMessage)) != nil {
		return false
	}
	q, errHub := s.hub.Proposal(parsed())
	for _, n := range s.names {
		got, err := s.groups[n].Proposal(parsed())
		if err != nil {
			s.texts[err.Error()] = true
		}
		if (err == nil) != (errHub == nil) && !s.tagSpoilt(parsed()) {
			s.Fatalf("%s: %v; the hub: %v", n, err, errHub)
		}
		if err == nil && (!bytes.Equal(got.Ref, q.Ref) || got.Sender != q.Sender) {
			s.Fatalf("%s and the hub name a proposal differently", n)
		}
	}
	s.unchanged(s.before)
	return errHub == nil
}

// tagSpoilt reports whether the membership tag of a message does not verify.
func (s *stage) tagSpoilt(m *MLSMessage) bool {
	g := s.groups["m0"]
	return m.PublicMessage.verifyMembership(g.suite, g.epoch.membership, g.state.contextBytes()) != nil
}

// FuzzProposalMutation is FuzzCommitMutation for proposals of members, of the
// external sender and of new members.
func FuzzProposalMutation(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(randomChoices(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64 {
			return
		}
		newStage(t).proposal(b)
	})
}

func TestMutatedProposals(t *testing.T) {
	n := 1500
	if testing.Short() {
		n = 400
	}
	s := newStage(t)
	accepted := 0
	for seed := range n {
		if s.proposal(randomChoices(uint64(seed))) {
			accepted++
		}
	}
	t.Logf("%d of %d proposals are accepted", accepted, n)
	if accepted < n/20 || accepted > n*9/10 {
		t.Error("the choices do not test both outcomes")
	}
}
