package mls

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// An arena is a group in which members betray each other: six members and a
// hub that follows them. One member forges a message with all the keys that
// it has, so that nothing but the rule under test can refuse it.
//
// The tree has all that trees may have: leaf 3 is unmerged, leaf 5 is blank,
// and so are the parents above them.
//
//	leaf   0    1    2    3    4    5    6
//	       m0   m1   m2   m6   m4   -    m7
//
// All of them know the credential types basic, 0xf000 and 0xf001 (m7 knows
// the first two only), and m4 uses 0xf000. m7 does not know AppEphemeral.
type arena struct {
	*testing.T
	cfg      Config
	groups   map[string]*Group
	names    []string
	hub      *PublicGroup
	sender   Signer          // of the external sender
	refusals int             // how often somebody refused a message
	texts    map[string]bool // of all errors
	before   [][]byte        // all secrets at the start
}

const (
	arenaCredential CredentialType = 0xf000
	arenaForeign    CredentialType = 0xf001
	arenaExtension  ExtensionType  = 0xf00e
)

// arenaVerifier accepts all credentials but those of "evil".
type arenaVerifier struct{}

func arenaIdentity(c *Credential) string { return string(c.Identity) + string(c.Opaque) }

func (arenaVerifier) VerifyCredential(c *Credential, _ []byte, _ time.Time) error {
	if strings.HasPrefix(arenaIdentity(c), "evil") {
		return errors.New("not a credential of this test")
	}
	return nil
}

func (arenaVerifier) VerifySuccessor(old, new *LeafNode) error {
	if arenaIdentity(&old.Credential) != arenaIdentity(&new.Credential) {
		return errors.New("another identity")
	}
	return nil
}

// arenaPSK is the pre-shared key that all members know.
var arenaPSK = []byte("the shared secret of the arena, which nobody prints")

func arenaConfig() Config {
	return Config{
		Credentials: arenaVerifier{},
		Components:  Components{testComponent: hubComponentLogic{}},
		PSK: func(id *PreSharedKeyID) ([]byte, error) {
			if string(id.ID) != "shared" {
				return nil, errors.New("no such key")
			}
			return arenaPSK, nil
		},
		ExternalProposals: func(_ *State, p *Proposal, _ uint32) error {
			if p.Type == ProposalRemove && p.Remove.Removed == 0 {
				return errors.New("may not remove the owner")
			}
			return nil
		},
		NewMemberProposals: func(*State, *KeyPackage) error { return nil },
	}
}

// arenaImage is an arena to copy.
type arenaImage struct {
	cfg     Config
	names   []string
	records map[string]map[string][]byte
	signers map[string]Signer
	hub     *PublicGroup
	sender  Signer
}

var (
	arenaOnce  sync.Once
	arenaFirst arenaImage
)

func arenaCapabilities(name string) Capabilities {
	caps := DefaultCapabilities(CredentialBasic, arenaCredential)
	if name[0] == 'm' {
		caps.Extensions = append(caps.Extensions, arenaExtension)
	}
	if name == "m7" {
		caps.Proposals = []ProposalType{ProposalAppDataUpdate, ProposalSelfRemove}
	} else {
		caps.Credentials = append(caps.Credentials, arenaForeign)
	}
	return caps
}

func arenaName(name string) Credential {
	if name == "m4" {
		return Credential{Type: arenaCredential, Opaque: []byte(name)}
	}
	return BasicCredential([]byte(name))
}

// newDevice makes a client of the arena's suite; change may spoil its
// KeyPackage before it is signed.
func newDevice(t testing.TB, name string, change func(kp *KeyPackage)) *device {
	t.Helper()
	signer, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	return deviceOf(t, name, signer, change)
}

func deviceOf(t testing.TB, name string, signer Signer, change func(kp *KeyPackage)) *device {
	t.Helper()
	kp, priv, err := NewKeyPackage(KeyPackageParams{
		CipherSuite: suite1, Signer: signer, Credential: arenaName(name), Capabilities: arenaCapabilities(name),
	})
	noError(t, err)
	if change != nil {
		change(kp)
		noError(t, kp.LeafNode.sign(signer, nil, 0))
		noError(t, kp.sign(signer))
	}
	return &device{name, signer, kp, priv}
}

func buildArena(t testing.TB) {
	sender, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	senders, err := Marshal(ExternalSenders{{SignatureKey: sender.Public(), Credential: BasicCredential([]byte("hub"))}})
	noError(t, err)
	dictionary, err := Marshal(AppDataDictionary{{testComponent, []byte("data")}})
	noError(t, err)
	required, err := Marshal(RequiredCapabilities{Proposals: []ProposalType{ProposalSelfRemove}})
	noError(t, err)
	w := &world{TB: t, suite: suite1, cfg: arenaConfig(), groups: map[string]*Group{}}
	signer, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	g, err := CreateGroup(w.cfg, GroupParams{
		CipherSuite: suite1, GroupID: []byte("arena"), Signer: signer, Credential: arenaName("m0"), Capabilities: arenaCapabilities("m0"),
		Extensions: Extensions{
			{ExtensionExternalSenders, senders}, {ExtensionAppDataDictionary, dictionary}, {ExtensionRequiredCapabilities, required},
		},
	})
	noError(t, err)
	names := []string{"m0"}
	follow := func(by string, sc *StagedCommit, ds ...*device) {
		for _, n := range slices.Clone(names) {
			g := w.groups[n]
			if n == by {
				continue
			}
			got, err := g.StageCommit(w.wire(sc.Message))
			noError(t, err)
			noError(t, g.Merge(got))
			if got.SelfRemoved {
				delete(w.groups, n)
				names = slices.DeleteFunc(names, func(o string) bool { return o == n })
			}
		}
		noError(t, w.groups[by].Merge(sc))
		for _, d := range ds {
			joined, err := JoinWelcome(w.cfg, sc.Welcome, nil, d.kp, d.priv, d.signer)
			noError(t, err)
			w.groups[d.name] = joined
			names = append(names, d.name)
		}
	}
	commit := func(by string, o CommitOptions, ds ...*device) {
		for _, d := range ds {
			o.Proposals = append(o.Proposals, AddProposal(d.kp))
		}
		sc, err := w.groups[by].Commit(o)
		noError(t, err)
		follow(by, sc, ds...)
	}
	w.groups["m0"] = g
	for _, n := range []string{"m1", "m2", "m3", "m4", "m5", "m7"} {
		commit("m0", CommitOptions{}, newDevice(t, n, nil))
		commit(n, CommitOptions{})
	}
	commit("m1", CommitOptions{Proposals: []Proposal{RemoveProposal(3)}})
	commit("m0", CommitOptions{})
	commit("m0", CommitOptions{Proposals: []Proposal{RemoveProposal(5)}})
	commit("m2", CommitOptions{}, newDevice(t, "m6", nil)) // without a path: unmerged
	gi, err := g.GroupInfo()
	noError(t, err)
	hub, err := NewPublicGroup(w.cfg, gi, g.State().RatchetTree())
	noError(t, err)
	arenaFirst = arenaImage{
		cfg: w.cfg, names: names, hub: hub, sender: sender,
		records: map[string]map[string][]byte{}, signers: map[string]Signer{},
	}
	for _, n := range names {
		arenaFirst.records[n] = map[string][]byte{}
		store(t, w.groups[n], arenaFirst.records[n])
		arenaFirst.signers[n] = w.groups[n].signer
	}
}

// newArena returns an arena for one test. All start from the same epoch.
func newArena(t *testing.T) *arena {
	t.Helper()
	arenaOnce.Do(func() { buildArena(t) })
	first := &arenaFirst
	a := &arena{
		T: t, cfg: first.cfg, names: slices.Clone(first.names), sender: first.sender,
		groups: map[string]*Group{}, hub: first.hub.Clone(), texts: map[string]bool{},
	}
	for _, n := range a.names {
		g, err := LoadGroup(a.cfg, first.records[n], first.signers[n])
		noError(t, err)
		a.groups[n] = g
	}
	a.before = a.secrets()
	t.Cleanup(a.noSecrets)
	return a
}

// secrets returns copies of what nobody may learn from an error.
func (a *arena) secrets() [][]byte {
	out := [][]byte{arenaPSK}
	for _, n := range a.names {
		for _, s := range liveSecrets(a.groups[n]) {
			out = append(out, bytes.Clone(s))
		}
	}
	return out
}

// noSecrets checks that no error told a secret of anybody.
func (a *arena) noSecrets() {
	secrets := append(a.before, a.secrets()...)
	for text := range a.texts {
		if form := tells(text, secrets...); form != "" {
			a.Errorf("the error %q holds a secret in the form %s", text, form)
		}
	}
}

// configure changes the configuration of all.
func (a *arena) configure(change func(c *Config)) {
	change(&a.cfg)
	for _, g := range a.groups {
		c := *g.cfg
		change(&c)
		g.cfg = &c
	}
	c := *a.hub.cfg
	change(&c)
	a.hub.cfg = &c
}

// leaf returns the leaf index of a member.
func (a *arena) leaf(name string) LeafIndex { return a.groups[name].own }

// device makes a client that is not a member yet.
func (a *arena) device(name string, change func(kp *KeyPackage)) *device {
	a.Helper()
	return newDevice(a, name, change)
}

// A draft is a valid commit by a member, or by a client that joins, and what
// an attacker changes of it. Each change happens before whatever covers it is
// signed, hashed or encrypted.
type draft struct {
	by       string  // "": m1
	joiner   *device // the commit is external, in the epoch of by
	values   []Proposal
	pending  bool // with what is pending at by
	path     bool // even if none is needed
	pathless bool // spoilt: without a path, though one is needed

	list    func(list []ProposalOrRef) []ProposalOrRef // after the path was made for the valid list
	leaf    func(l *LeafNode)                          // of the path
	leafKey Signer                                     // signs it
	at      *LeafIndex                                 // for which it is signed
	nodes   func(p *UpdatePath)
	secrets func(c *createdPath) // path secrets, before they are encrypted
	frame   func(c *FramedContent)
	signer  Signer // of the message
	tag     func(tag []byte) []byte
	message func(m *PublicMessage) // after all
}

// A forged commit, with everything that its maker knows.
type forged struct {
	*provisional
	content *AuthenticatedContent
	message *MLSMessage
	after   *State
	joiner  []byte
	psk     []byte
	inputs  []pskInput
	secrets *epochSecrets
	path    *createdPath
	signer  Signer
}

// forge makes the commit of a draft; spoilt says whether with the attacker's
// changes.
func (a *arena) forge(d draft, spoilt bool) *forged {
	a.Helper()
	if d.by == "" {
		d.by = "m1"
	}
	g := a.groups[d.by]
	s := g.suite
	sender, signer, initSecret := MemberSender(g.own), g.signer, g.epoch.init
	template, _ := g.template(nil)
	var queued []QueuedProposal
	if d.pending {
		queued = g.pending.all()
	}
	if x := d.joiner; x != nil {
		_, public, err := s.deriveKeyPair(g.epoch.external)
		noError(a, err)
		kem, secret, err := s.externalInitSend(public)
		noError(a, err)
		sender, signer, initSecret = Sender{Type: SenderNewMemberCommit}, x.signer, secret
		queued = append([]QueuedProposal{{Proposal: Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{kem}}, Sender: sender}}, queued...)
		l := &x.kp.LeafNode
		template = &LeafNode{SignatureKey: l.SignatureKey, Credential: l.Credential, Capabilities: l.Capabilities, Extensions: l.Extensions}
	}
	for _, p := range d.values {
		queued = append(queued, QueuedProposal{Proposal: p, Sender: sender})
	}
	p, err := g.state.stageProposals(g.cfg, queued, sender)
	noError(a, err)
	f := &forged{provisional: p, signer: signer}
	f.inputs, err = g.resolvePSKs(p.psks)
	noError(a, err)
	commit, commitSecret := &Commit{}, make([]byte, s.nh())
	for i := range queued {
		if q := &queued[i]; q.Ref != nil {
			commit.Proposals = append(commit.Proposals, ProposalOrRef{Reference: q.Ref})
		} else {
			commit.Proposals = append(commit.Proposals, ProposalOrRef{Proposal: &q.Proposal})
		}
	}
	withPath := p.needsPath || d.path || d.joiner != nil
	if spoilt && d.list != nil {
		commit.Proposals = d.list(commit.Proposals)
		if q := unchecked(g, commit.Proposals, sender); q != nil {
			p, f.provisional = q, q
		}
	}
	switch {
	case spoilt && d.pathless, !withPath:
		p.sealUnchecked()
	default:
		f.path = p.createUnchecked(a, template, signer)
		commit.Path, commitSecret = f.path.path, f.path.commitSecret
		if spoilt {
			f.spoilPath(a, d)
		}
	}
	f.content = &AuthenticatedContent{
		WireFormat: WirePublicMessage,
		Content: FramedContent{
			GroupID: g.state.GroupID(), Epoch: g.state.Epoch(), Sender: sender, ContentType: ContentCommit, Commit: commit,
		},
	}
	framing := signer
	if spoilt && d.frame != nil {
		d.frame(&f.content.Content)
	}
	if spoilt && d.signer != nil {
		framing = d.signer
	}
	noError(a, f.content.sign(framing, g.state.contextBytes()))
	f.joiner, f.psk, f.secrets, err = p.derive(f.content, initSecret, commitSecret, f.inputs)
	noError(a, err)
	tag := s.confirmationTag(f.secrets.confirmation, p.context.ConfirmedTranscriptHash)
	f.after, err = p.finish(tag)
	noError(a, err)
	f.content.Auth.ConfirmationTag = tag
	if spoilt && d.tag != nil {
		f.content.Auth.ConfirmationTag = d.tag(bytes.Clone(tag))
	}
	m := &PublicMessage{Content: f.content.Content, Auth: f.content.Auth}
	if m.Content.Sender.Type == SenderMember {
		m.MembershipTag, err = f.content.membershipTag(s, g.epoch.membership, g.state.contextBytes())
		noError(a, err)
	}
	if spoilt && d.message != nil {
		d.message(m)
	}
	f.message = &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: m}
	return f
}

// unchecked applies a list of proposals without judging it; nil if it cannot
// be applied at all.
func unchecked(g *Group, list []ProposalOrRef, sender Sender) *provisional {
	props, err := resolveProposals(&Commit{Proposals: list}, sender, &g.pending)
	if err != nil {
		return nil
	}
	p := &provisional{
		cfg: g.cfg, before: g.state, sender: sender, external: sender.Type == SenderNewMemberCommit,
		proposals: props, context: g.state.context, params: g.state.params,
	}
	p.context.Epoch++
	if !p.external {
		p.committer = sender.Leaf
	}
	for _, q := range props {
		gone := p.committer + 1
		switch q.Proposal.Type {
		case ProposalRemove:
			gone = q.Proposal.Remove.Removed
		case ProposalSelfRemove:
			gone = q.Sender.Leaf
		}
		if _, ok := g.state.Member(gone); gone != p.committer+1 && !ok || !p.external && gone == p.committer {
			return nil
		}
	}
	_ = p.checkUnique()
	if p.apply() != nil {
		return nil
	}
	return p
}

// sealUnchecked is seal without its checks.
func (p *provisional) sealUnchecked() {
	p.tree.freeze()
	p.context.TreeHash = p.tree.treeHash()
}

// createUnchecked is createPath without its checks.
func (p *provisional) createUnchecked(t testing.TB, template *LeafNode, signer Signer) *createdPath {
	t.Helper()
	s := p.tree.suite
	noError(t, p.placeCommitter())
	filtered := p.tree.filteredPath(p.committer)
	nodes, commitSecret, err := s.derivePath(randomOctets(t, s.nh()), len(filtered))
	noError(t, err)
	private, public, err := GenerateHPKEKey(s.id)
	noError(t, err)
	c := &createdPath{
		path: new(UpdatePath), commitSecret: commitSecret, secrets: nodes, filtered: filtered,
		keys: treeKeys{leafPosition(p.committer): private},
	}
	var keys [][]byte
	for i, x := range filtered {
		c.keys[x] = nodes[i].private
		keys = append(keys, nodes[i].public)
		c.path.Nodes = append(c.path.Nodes, UpdatePathNode{EncryptionKey: nodes[i].public})
	}
	hash, err := p.tree.mergePath(p.committer, keys)
	noError(t, err)
	c.path.LeafNode = LeafNode{
		EncryptionKey: public, SignatureKey: template.SignatureKey, Credential: template.Credential,
		Capabilities: template.Capabilities, Source: LeafSourceCommit, ParentHash: hash, Extensions: template.Extensions,
	}
	noError(t, c.path.LeafNode.sign(signer, p.context.GroupID, p.committer))
	leaf, err := c.path.LeafNode.detached()
	noError(t, err)
	noError(t, p.tree.setLeaf(p.committer, leaf))
	p.hasPath = true
	p.sealUnchecked()
	noError(t, p.encryptPath(c))
	return c
}

// spoilPath changes the path as the draft says. Ciphertexts and tags are made
// again for what it has become, as far as there is such a tree.
func (f *forged) spoilPath(a *arena, d draft) {
	a.Helper()
	if d.leaf != nil || d.leafKey != nil || d.at != nil {
		signer, at := f.signer, f.committer
		if d.leafKey != nil {
			signer = d.leafKey
		}
		if d.at != nil {
			at = *d.at
		}
		l := &f.path.path.LeafNode
		if d.leaf != nil {
			d.leaf(l)
		}
		noError(a, l.sign(signer, f.context.GroupID, at))
		leaf, err := l.detached()
		noError(a, err)
		next := f.tree.fork()
		if next.setLeaf(f.committer, leaf) == nil {
			next.freeze()
			f.tree = next
			f.provisional.context.TreeHash = next.treeHash()
			noError(a, f.encryptPath(f.path))
		}
	}
	if d.secrets != nil {
		d.secrets(f.path)
		noError(a, f.encryptPath(f.path))
	}
	if d.nodes != nil {
		d.nodes(f.path.path)
	}
}

func randomOctets(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	noError(t, err)
	return b
}

// wire sends a message over the wire.
func (a *arena) wire(m *MLSMessage) *MLSMessage {
	a.Helper()
	b, err := Marshal(m)
	noError(a, err)
	out := new(MLSMessage)
	noError(a, Unmarshal(b, out))
	return out
}

// memberImage encodes everything that a Group consists of, with what it
// remembers about its records.
func memberImage(t testing.TB, g *Group) string {
	t.Helper()
	var b strings.Builder
	b.Write(groupImage(t, g))
	fmt.Fprintf(&b, "state %p signer %x closed %v\n", g.state, g.signer.Public(), g.closed)
	tree := func(name string, s *secretTree) {
		if s == nil {
			return
		}
		fmt.Fprintf(&b, "%s %d %v %v %v %v %v\n", name, s.version, s.applicationOnly, slices.Sorted(maps.Keys(s.dirtyNodes)),
			slices.Sorted(maps.Keys(s.dirtySenders)), slices.Sorted(maps.Keys(s.storedNodes)), slices.Sorted(maps.Keys(s.storedSenders)))
	}
	tree("tree", g.tree)
	for _, p := range g.past {
		tree(fmt.Sprintf("past %d", p.epoch), p.tree)
	}
	v := g.saved
	fmt.Fprintf(&b, "saved %p %d %d %x %v %q\n", v.state, v.pending, v.epoch, v.member, v.past, v.garbage)
	for i := range g.pending.list {
		fmt.Fprintf(&b, "pending %x %p\n", g.pending.list[i].Ref, g.pending.list[i].checkedIn)
	}
	fmt.Fprintf(&b, "refs %d\n", len(g.pending.byRef))
	return b.String()
}

// hubImage encodes everything that a PublicGroup consists of.
func hubImage(t testing.TB, g *PublicGroup) string {
	t.Helper()
	return fmt.Sprintf("%sstate %p refs %d", snapshot(t, g), g.state, len(g.pending.byRef))
}

// images encodes everything that the arena consists of.
func (a *arena) images() map[string]string {
	a.Helper()
	out := map[string]string{"hub": hubImage(a, a.hub)}
	for _, n := range a.names {
		out[n] = memberImage(a, a.groups[n])
	}
	return out
}

// unchanged reports an error unless the arena still is what it was.
func (a *arena) unchanged(before map[string]string) {
	a.Helper()
	for n, now := range a.images() {
		if now != before[n] {
			a.Errorf("%s was changed by a message that it refused", n)
		}
	}
}

// refused checks the error with which somebody refused something: it must
// match want, hold text, and tell no secret.
func (a *arena) refused(who string, err, want error, text string) {
	a.Helper()
	a.refusals++
	switch {
	case err == nil:
		a.Errorf("%s accepts an invalid message", who)
	case !errors.Is(err, want):
		a.Errorf("%s refuses with %q; want %q", who, err, want)
	case !strings.Contains(err.Error(), text):
		a.Errorf("%s refuses with %q; want a text with %q", who, err, text)
	}
	if err != nil {
		a.texts[err.Error()] = true
	}
}

// audience says who can see that a message breaks a rule.
type audience int

const (
	everyone audience = iota
	members           // it takes the group's secrets
	hubOnly           // it is about the hub's own rules
)

// eachReceiver calls f for the members but one, and for the hub.
func (a *arena) eachReceiver(by string, to audience, f func(name string, stage func(*MLSMessage) error, propose func(*MLSMessage) error)) {
	for _, n := range a.names {
		if n == by || to == hubOnly {
			continue
		}
		g := a.groups[n]
		f(n, func(m *MLSMessage) error { _, err := g.StageCommit(m); return err },
			func(m *MLSMessage) error { _, err := g.Proposal(m); return err })
	}
	if to != members {
		f("the hub", func(m *MLSMessage) error { _, err := a.hub.StageCommit(m); return err },
			func(m *MLSMessage) error { _, err := a.hub.Proposal(m); return err })
	}
}

// refuse checks that all refuse a commit and stay as they were.
func (a *arena) refuse(m *MLSMessage, by string, to audience, want error, text string) {
	a.Helper()
	before := a.images()
	a.eachReceiver(by, to, func(name string, stage, _ func(*MLSMessage) error) {
		a.Helper()
		a.refused(name, stage(a.wire(m)), want, text)
	})
	a.unchanged(before)
}

// refuseProposal is refuse for a proposal.
func (a *arena) refuseProposal(m *MLSMessage, by string, to audience, want error, text string) {
	a.Helper()
	before := a.images()
	a.eachReceiver(by, to, func(name string, _, propose func(*MLSMessage) error) {
		a.Helper()
		a.refused(name, propose(a.wire(m)), want, text)
	})
	a.unchanged(before)
}

// accept checks that all accept a commit; nothing is merged.
func (a *arena) accept(m *MLSMessage, by string) {
	a.Helper()
	before := a.images()
	a.eachReceiver(by, everyone, func(name string, stage, _ func(*MLSMessage) error) {
		a.Helper()
		if err := stage(a.wire(m)); err != nil {
			a.Errorf("%s refuses a valid commit: %v", name, err)
		}
	})
	a.unchanged(before)
}

// attack checks that a draft is accepted as it is and refused with its
// changes.
func (a *arena) attack(d draft, want error, text string) {
	a.Helper()
	a.attackOn(everyone, d, want, text)
}

func (a *arena) attackOn(to audience, d draft, want error, text string) {
	a.Helper()
	by := d.by
	if by == "" {
		by = "m1"
	}
	if d.joiner != nil {
		by = ""
	}
	a.accept(a.forge(d, false).message, by)
	a.refuse(a.forge(d, true).message, by, to, want, text)
}

// instead is a list hook: the commit has these proposals in place of its own.
func instead(props ...Proposal) func([]ProposalOrRef) []ProposalOrRef {
	return func([]ProposalOrRef) []ProposalOrRef { return byValue(props...).Proposals }
}

// plus is a list hook: the commit has these proposals, too.
func plus(props ...Proposal) func([]ProposalOrRef) []ProposalOrRef {
	return func(list []ProposalOrRef) []ProposalOrRef { return append(list, byValue(props...).Proposals...) }
}

// attackList checks that a commit, which would be valid without proposals, is
// refused with these.
func (a *arena) attackList(want error, text string, props ...Proposal) {
	a.Helper()
	a.attack(draft{path: true, list: instead(props...)}, want, text)
}

// say signs content of the present epoch as a member with all tags.
func (a *arena) say(by string, c FramedContent, change func(c *FramedContent)) *MLSMessage {
	a.Helper()
	g := a.groups[by]
	return a.sayAs(g.signer, MemberSender(g.own), c, change)
}

func (a *arena) sayAs(signer Signer, sender Sender, c FramedContent, change func(c *FramedContent)) *MLSMessage {
	a.Helper()
	g := a.groups[a.names[0]]
	c.GroupID, c.Epoch, c.Sender = g.state.GroupID(), g.state.Epoch(), sender
	if change != nil {
		change(&c)
	}
	x := &AuthenticatedContent{WireFormat: WirePublicMessage, Content: c}
	noError(a, x.sign(signer, g.state.contextBytes()))
	if c.ContentType == ContentCommit {
		x.Auth.ConfirmationTag = make([]byte, g.suite.nh())
	}
	m := &PublicMessage{Content: x.Content, Auth: x.Auth}
	if c.Sender.Type == SenderMember {
		var err error
		m.MembershipTag, err = x.membershipTag(g.suite, g.epoch.membership, g.state.contextBytes())
		noError(a, err)
	}
	return &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: m}
}

func proposalContent(p Proposal) FramedContent {
	return FramedContent{ContentType: ContentProposal, Proposal: &p}
}

// external signs a proposal as the external sender.
func (a *arena) external(p Proposal) *MLSMessage {
	a.Helper()
	return a.sayAs(a.sender, Sender{Type: SenderExternal}, proposalContent(p), nil)
}

// updateOf makes the leaf for an Update of a member; change may spoil it.
func (a *arena) updateOf(name string, change func(l *LeafNode)) Proposal {
	a.Helper()
	g := a.groups[name]
	_, public, err := GenerateHPKEKey(g.suite.id)
	noError(a, err)
	leaf, signer := g.template(nil)
	leaf.EncryptionKey, leaf.Source = public, LeafSourceUpdate
	if change != nil {
		change(leaf)
	}
	noError(a, leaf.sign(signer, g.state.GroupID(), g.own))
	return updateProposal(leaf)
}

// propose lets all queue a proposal.
func (a *arena) propose(m *MLSMessage) {
	a.Helper()
	for _, n := range a.names {
		q, err := a.groups[n].Proposal(a.wire(m))
		noError(a, err)
		noError(a, a.groups[n].Enqueue(q))
	}
	q, err := a.hub.Proposal(a.wire(m))
	noError(a, err)
	noError(a, a.hub.Enqueue(q))
}

// alive checks that the group goes on: somebody commits, all follow and agree.
func (a *arena) alive() {
	a.Helper()
	by := a.groups["m2"]
	sc, err := by.Commit(CommitOptions{SkipPending: true, ForcePath: true})
	noError(a, err)
	a.follow("m2", sc)
}

// follow lets all merge a commit and checks that they agree.
func (a *arena) follow(by string, sc *StagedCommit) {
	a.Helper()
	got, err := a.hub.StageCommit(a.wire(sc.Message))
	noError(a, err)
	noError(a, a.hub.Merge(got))
	for _, n := range a.names {
		if n == by {
			continue
		}
		got, err := a.groups[n].StageCommit(a.wire(sc.Message))
		if err != nil {
			a.Fatalf("%s cannot follow a valid commit: %v", n, err)
		}
		noError(a, a.groups[n].Merge(got))
	}
	if g := a.groups[by]; g != nil {
		noError(a, g.Merge(sc))
	}
	var want []byte
	for _, n := range a.names {
		g := a.groups[n]
		if g.closed {
			continue
		}
		got, err := g.EpochAuthenticator()
		noError(a, err)
		if want == nil {
			want = got
		}
		equal(a, "epoch authenticator of "+n, got, want)
		equal(a, "GroupContext at the hub", a.hub.state.encoded, g.state.encoded)
		noError(a, g.keys.check(g.state.tree))
	}
}

// liveSecrets returns everything that a group must not tell.
func liveSecrets(g *Group) [][]byte {
	var out [][]byte
	put := func(bs ...[]byte) {
		for _, b := range bs {
			if len(b) >= 12 {
				out = append(out, b)
			}
		}
	}
	if g.epoch != nil {
		for _, f := range g.epoch.fields() {
			if f != &g.epoch.authenticator { // is compared by people
				put(*f)
			}
		}
	}
	for _, k := range g.keys {
		put(k)
	}
	for _, k := range g.updates {
		put(k)
	}
	for _, k := range g.exports {
		put(k)
	}
	tree := func(s *secretTree) {
		if s == nil {
			return
		}
		for _, k := range s.nodes {
			put(k)
		}
		for _, pair := range s.senders {
			for _, r := range pair {
				if r == nil {
					continue
				}
				put(r.secret)
				for _, k := range r.skipped {
					put(k.key, k.nonce)
				}
			}
		}
	}
	tree(g.tree)
	for _, p := range g.past {
		put(p.senderData, p.resumption)
		tree(p.tree)
	}
	if s, ok := g.signer.(ed25519Signer); ok {
		put(s[:32])
	}
	return out
}

// tells reports in which form a text holds one of the secrets, or the first
// half of one; "" if it does not.
func tells(text string, secrets ...[]byte) string {
	lower := strings.ToLower(text)
	for _, s := range secrets {
		half := s[:len(s)/2]
		decimal := func(verb string) string { return strings.Trim(fmt.Sprintf(verb, half), "[]{}") }
		switch {
		case strings.Contains(text, string(half)):
			return "raw"
		case strings.Contains(lower, hex.EncodeToString(half)):
			return "hex"
		case strings.Contains(lower, strings.ReplaceAll(decimal("% x"), " ", ":")), strings.Contains(lower, decimal("% x")):
			return "spaced hex"
		case strings.Contains(text, decimal("%v")):
			return "decimal"
		case strings.Contains(lower, strings.TrimPrefix(decimal("%#v"), "[]byte{")):
			return "Go syntax"
		}
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if strings.Contains(text, e.EncodeToString(half[:len(half)/3*3])) {
				return "base64"
			}
		}
	}
	return ""
}
