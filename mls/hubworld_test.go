package mls

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"
)

// A party is a client in tests: its keys, and its leaf once it is a member.
type party struct {
	name   string
	signer Signer
	leaf   LeafIndex
	keys   treeKeys // as a member
	next   treeKeys // once its commit is merged

	keyPackage *KeyPackage
	private    []byte // of keyPackage's leaf
}

// A hubWorld is a group in tests with all of its members, seen by a PublicGroup.
// Tags are random, since nobody here has the group's secrets.
type hubWorld struct {
	t     testing.TB
	cfg   Config
	suite *suite
	group *PublicGroup
	who   map[LeafIndex]*party

	capabilities Capabilities         // of new parties
	updates      map[LeafIndex][]byte // private keys of leaves that updateLeaf made
	passive      bool                 // members do not follow
	created      *createdPath         // of the last commit
}

const hubComponent ComponentID = 0x8001

var hubNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// hubComponentLogic keeps the last update and refuses "bad".
type hubComponentLogic struct{}

func (hubComponentLogic) Update(old []byte, _ bool, updates [][]byte) ([]byte, error) {
	for _, u := range updates {
		if string(u) == "bad" {
			return nil, fmt.Errorf("bad update")
		}
		old = append(bytes.Clone(old), u...)
	}
	return old, nil
}

func (hubComponentLogic) Remove(old []byte) error {
	if string(old) == "keep" {
		return fmt.Errorf("must be kept")
	}
	return nil
}

func (hubComponentLogic) Ephemeral(data []byte) error {
	if string(data) == "bad" {
		return fmt.Errorf("bad data")
	}
	return nil
}

func hubCapabilities(s *suite) Capabilities {
	return Capabilities{
		Versions: []ProtocolVersion{MLS10}, CipherSuites: []CipherSuite{s.id},
		Extensions:  []ExtensionType{ExtensionAppDataDictionary},
		Proposals:   []ProposalType{ProposalAppDataUpdate, ProposalAppEphemeral, ProposalSelfRemove},
		Credentials: []CredentialType{CredentialBasic},
	}
}

// newHubWorld makes a group of one member, "0".
func newHubWorld(t testing.TB, x ...Extension) *hubWorld {
	t.Helper()
	w := &hubWorld{t: t, suite: mustSuite(t, 1), who: make(map[LeafIndex]*party), updates: make(map[LeafIndex][]byte)}
	w.capabilities = hubCapabilities(w.suite)
	w.cfg = Config{
		Credentials: testVerifier{},
		Components:  Components{hubComponent: hubComponentLogic{}},
		Now:         func() time.Time { return hubNow },
	}
	p := w.newParty("0")
	p.keys = treeKeys{0: p.private}
	cfg, err := w.cfg.withDefaults()
	noError(t, err)
	leaf, err := p.keyPackage.LeafNode.detached()
	noError(t, err)
	s, err := initialState(cfg, w.suite, []byte("group"), x, leaf)
	noError(t, err)
	w.who[0] = p
	w.group, err = NewPublicGroup(w.cfg, w.groupInfoOf(s.withTag(w.random()), p), s.RatchetTree())
	noError(t, err)
	return w
}

// grownHubWorld has n members, each of which was added by a commit with a path
// and has then made one itself.
func grownHubWorld(t testing.TB, n int, x ...Extension) *hubWorld {
	t.Helper()
	w := newHubWorld(t, x...)
	for i := 1; i < n; i++ {
		p := w.newParty(fmt.Sprint(i))
		w.merge(w.stage(w.commit(w.who[0], w.value(AddProposal(p.keyPackage))...)), p)
		w.merge(w.stage(w.commit(p)))
	}
	return w
}

func (w *hubWorld) random() []byte {
	b := make([]byte, w.suite.nh())
	_, err := rand.Read(b)
	noError(w.t, err)
	return b
}

func (w *hubWorld) newParty(name string) *party {
	w.t.Helper()
	signer, _, err := GenerateSigner(w.suite.id, nil)
	noError(w.t, err)
	p := &party{name: name, signer: signer}
	w.newKeyPackage(p, nil)
	return p
}

// newKeyPackage gives p a fresh KeyPackage; change may spoil it before it is
// signed.
func (w *hubWorld) newKeyPackage(p *party, change func(kp *KeyPackage)) {
	w.t.Helper()
	private, public, err := GenerateHPKEKey(w.suite.id)
	noError(w.t, err)
	_, init, err := GenerateHPKEKey(w.suite.id)
	noError(w.t, err)
	kp := &KeyPackage{
		Version: MLS10, CipherSuite: w.suite.id, InitKey: init,
		LeafNode: LeafNode{
			EncryptionKey: public, SignatureKey: p.signer.Public(), Credential: BasicCredential([]byte(p.name)),
			Capabilities: w.capabilities, Source: LeafSourceKeyPackage,
			Lifetime: Lifetime{uint64(hubNow.Unix()) - 60, uint64(hubNow.Unix()) + 86400},
		},
	}
	if change != nil {
		change(kp)
	}
	noError(w.t, kp.LeafNode.sign(p.signer, nil, 0))
	noError(w.t, kp.sign(p.signer))
	p.keyPackage, p.private = kp, private
}

func (w *hubWorld) groupInfoOf(s *State, signer *party) *GroupInfo {
	w.t.Helper()
	gi := &GroupInfo{GroupContext: *s.GroupContext(), ConfirmationTag: s.ConfirmationTag(), Signer: signer.leaf}
	noError(w.t, gi.sign(signer.signer))
	return gi
}

// updateLeaf returns a valid leaf for an Update by p; change may spoil it.
func (w *hubWorld) updateLeaf(p *party, change func(l *LeafNode)) *LeafNode {
	w.t.Helper()
	private, public, err := GenerateHPKEKey(w.suite.id)
	noError(w.t, err)
	w.updates[p.leaf] = private
	leaf := &LeafNode{
		EncryptionKey: public, SignatureKey: p.signer.Public(), Credential: BasicCredential([]byte(p.name)),
		Capabilities: w.capabilities, Source: LeafSourceUpdate,
	}
	if change != nil {
		change(leaf)
	}
	noError(w.t, leaf.sign(p.signer, w.group.state.GroupID(), p.leaf))
	return leaf
}

func updateProposal(leaf *LeafNode) Proposal {
	return Proposal{Type: ProposalUpdate, Update: &Update{LeafNode: *leaf}}
}

// message signs content of this epoch; change may spoil it before that.
func (w *hubWorld) message(signer Signer, c FramedContent, change func(c *FramedContent)) *MLSMessage {
	w.t.Helper()
	s := w.group.state
	c.GroupID, c.Epoch = s.GroupID(), s.Epoch()
	if change != nil {
		change(&c)
	}
	a := &AuthenticatedContent{WireFormat: WirePublicMessage, Content: c}
	noError(w.t, a.sign(signer, s.contextBytes()))
	if c.ContentType == ContentCommit {
		a.Auth.ConfirmationTag = w.random()
	}
	m, err := a.public(w.suite, w.random(), s.contextBytes())
	noError(w.t, err)
	return w.reparse(&MLSMessage{WireFormat: WirePublicMessage, PublicMessage: m})
}

// reparse sends a message over the wire.
func (w *hubWorld) reparse(m *MLSMessage) *MLSMessage {
	w.t.Helper()
	b, err := Marshal(m)
	noError(w.t, err)
	out := new(MLSMessage)
	noError(w.t, Unmarshal(b, out))
	return out
}

func (w *hubWorld) proposal(p *party, pr Proposal) *MLSMessage {
	w.t.Helper()
	return w.message(p.signer, FramedContent{Sender: MemberSender(p.leaf), ContentType: ContentProposal, Proposal: &pr}, nil)
}

// propose sends a proposal, enqueues it and returns its reference.
func (w *hubWorld) propose(p *party, pr Proposal) ProposalOrRef {
	w.t.Helper()
	q, err := w.group.Proposal(w.proposal(p, pr))
	noError(w.t, err)
	noError(w.t, w.group.Enqueue(q))
	return ProposalOrRef{Reference: q.Ref}
}

func (w *hubWorld) value(props ...Proposal) []ProposalOrRef {
	var list []ProposalOrRef
	for i := range props {
		list = append(list, ProposalOrRef{Proposal: &props[i]})
	}
	return list
}

// rawCommit signs a commit as a member without looking at it.
func (w *hubWorld) rawCommit(p *party, c *Commit) *MLSMessage {
	w.t.Helper()
	return w.message(p.signer, FramedContent{Sender: MemberSender(p.leaf), ContentType: ContentCommit, Commit: c}, nil)
}

// path makes a path for a valid list of proposals, as p.
func (w *hubWorld) path(p *party, sender Sender, list []ProposalOrRef) (*provisional, *createdPath) {
	w.t.Helper()
	props, err := resolveProposals(&Commit{Proposals: list}, sender, &w.group.pending)
	noError(w.t, err)
	pr, err := w.group.state.stageProposals(w.group.cfg, props, sender)
	noError(w.t, err)
	created, err := pr.createPath(&LeafNode{
		SignatureKey: p.signer.Public(), Credential: BasicCredential([]byte(p.name)), Capabilities: w.capabilities,
	}, p.signer)
	noError(w.t, err)
	return pr, created
}

// commit makes a valid commit with a path.
func (w *hubWorld) commit(p *party, list ...ProposalOrRef) *MLSMessage {
	w.t.Helper()
	_, created := w.path(p, MemberSender(p.leaf), list)
	p.next, w.created = created.keys, created
	return w.rawCommit(p, &Commit{Proposals: list, Path: created.path})
}

// externalCommit makes a valid external commit; list holds everything but
// the ExternalInit.
func (w *hubWorld) externalCommit(p *party, list ...ProposalOrRef) *MLSMessage {
	w.t.Helper()
	sender := Sender{Type: SenderNewMemberCommit}
	list = append(w.value(externalInitProposal()), list...)
	pr, created := w.path(p, sender, list)
	p.next, p.leaf = created.keys, pr.committer
	return w.rawExternalCommit(p, &Commit{Proposals: list, Path: created.path})
}

func externalInitProposal() Proposal {
	return Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{KEMOutput: bytes.Repeat([]byte{9}, 32)}}
}

func (w *hubWorld) rawExternalCommit(p *party, c *Commit) *MLSMessage {
	w.t.Helper()
	return w.message(p.signer, FramedContent{Sender: Sender{Type: SenderNewMemberCommit}, ContentType: ContentCommit, Commit: c}, nil)
}

func (w *hubWorld) stage(m *MLSMessage) *StagedCommit {
	w.t.Helper()
	sc, err := w.group.StageCommit(m)
	noError(w.t, err)
	if !w.passive {
		w.follow(m, sc)
	}
	return sc
}

// follow lets all members read the path of a commit, and gives them the keys
// of the new epoch. The commit must be merged then.
func (w *hubWorld) follow(m *MLSMessage, sc *StagedCommit) {
	w.t.Helper()
	p, err := w.group.state.stageProposals(w.group.cfg, sc.Proposals, sc.Sender)
	noError(w.t, err)
	commit := m.PublicMessage.Content.Commit
	noError(w.t, p.applyPath(commit.Path))
	equal(w.t, "tree hash", p.tree.treeHash(), sc.After.tree.treeHash())
	for l, member := range w.who {
		_, isMember := sc.After.Member(l)
		removed := slices.ContainsFunc(sc.Removed, func(r RemovedLeaf) bool { return r.Index == l })
		switch {
		case !isMember || removed || !sc.External && l == sc.Committer:
		case commit.Path == nil:
			member.keys = member.keys.prune(p.tree)
		default:
			if private, ok := w.updates[l]; ok && slices.Contains(sc.Updated, l) {
				member.keys = treeKeys{leafPosition(l): private}
			}
			_, member.keys, err = p.decryptPath(commit.Path, l, member.keys)
			noError(w.t, err)
		}
	}
}

// merge lets the hub merge a commit. joiners
// are the parties that the commit adds, in order.
func (w *hubWorld) merge(sc *StagedCommit, joiners ...*party) {
	w.t.Helper()
	for _, r := range sc.Removed {
		delete(w.who, r.Index)
	}
	for i, l := range sc.Added {
		if i < len(joiners) {
			joiners[i].leaf = l
			w.who[l] = joiners[i]
			if !sc.External {
				joiners[i].keys = treeKeys{leafPosition(l): joiners[i].private}
				if sc.HasPath && !w.passive { // as a Welcome would
					secret, ok := w.created.secretFor(l)
					if !ok {
						w.t.Fatalf("no path secret for leaf %d", l)
					}
					noError(w.t, sc.After.tree.implant(joiners[i].keys, l, sc.Committer, secret))
				}
			}
		}
	}
	if committer := w.who[sc.Committer]; sc.HasPath {
		committer.keys, committer.next = committer.next, nil
	}
	clear(w.updates)
	noError(w.t, w.group.Merge(sc))
	for _, p := range w.who {
		if !w.passive {
			noError(w.t, p.keys.check(w.group.state.tree))
		}
	}
}

// snapshot is everything that a PublicGroup would store.
func snapshot(t testing.TB, g *PublicGroup) string {
	t.Helper()
	var b bytes.Buffer
	for _, r := range g.Records(nil).Put {
		fmt.Fprintf(&b, "%s=%x\n", r.Key, r.Value)
	}
	fmt.Fprintf(&b, "interim=%x\n", g.state.interim)
	return b.String()
}
