package mls

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const suite1 = X25519AES128SHA256Ed25519

// forge signs a commit of g as it is, without any check, with a membership
// tag that is right and a confirmation tag that is not.
func forge(t testing.TB, g *Group, c *Commit, tag []byte) *MLSMessage {
	t.Helper()
	a := &AuthenticatedContent{
		WireFormat: WirePublicMessage,
		Content: FramedContent{
			GroupID: g.state.GroupID(), Epoch: g.state.Epoch(), Sender: MemberSender(g.own),
			ContentType: ContentCommit, Commit: c,
		},
	}
	noError(t, a.sign(g.signer, g.state.contextBytes()))
	if a.Auth.ConfirmationTag = tag; tag == nil {
		a.Auth.ConfirmationTag = make([]byte, g.suite.nh())
	}
	pm, err := a.public(g.suite, g.epoch.membership, g.state.contextBytes())
	noError(t, err)
	return &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: pm}
}

func byValue(props ...Proposal) *Commit {
	c := new(Commit)
	for i := range props {
		c.Proposals = append(c.Proposals, ProposalOrRef{Proposal: &props[i]})
	}
	return c
}

// refuses checks that a member refuses a commit with the wanted error and
// stays exactly as it was.
func (w *world) refuses(name string, m *MLSMessage, want error) {
	w.Helper()
	g := w.groups[name]
	before := groupImage(w, g)
	_, err := g.StageCommit(w.wire(m))
	if !errors.Is(err, want) {
		w.Errorf("%s: got error %v; want %v", name, err, want)
	}
	if !bytes.Equal(before, groupImage(w, g)) {
		w.Errorf("%s was changed by a commit that it refused", name)
	}
	noSecrets(w, err, g)
}

// noSecrets checks that an error's text holds none of a group's secrets.
func noSecrets(t testing.TB, err error, g *Group) {
	t.Helper()
	if err == nil {
		return
	}
	text := strings.ToLower(err.Error())
	for i, f := range g.epoch.fields() {
		if len(*f) > 0 && (strings.Contains(text, hex.EncodeToString(*f)) || strings.Contains(text, string(*f))) {
			t.Errorf("the error holds secret %d of the epoch", i)
		}
	}
	for x, k := range g.keys {
		if strings.Contains(text, hex.EncodeToString(k)) {
			t.Errorf("the error holds the private key of node %d", x)
		}
	}
}

// A commit whose confirmation tag is wrong neither bricks its receiver nor
// makes it tell secrets (holes A1 and A2).
func TestWrongConfirmationTag(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	sc, err := w.groups["m0"].Commit(CommitOptions{})
	noError(t, err)
	good := sc.Message.PublicMessage
	bad := &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: &PublicMessage{Content: good.Content, Auth: good.Auth}}
	bad.PublicMessage.Auth.ConfirmationTag = bytes.Repeat([]byte{1}, 32)
	g := w.groups["m0"]
	bad.PublicMessage.MembershipTag, err = bad.PublicMessage.authenticated().membershipTag(g.suite, g.epoch.membership, g.state.contextBytes())
	noError(t, err)
	w.refuses("m1", bad, ErrInvalidCommit)
	w.deliver("m0", sc)
}

// Whatever octet of a commit is changed, it is refused without a trace.
func TestTamperedCommit(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2", "m3")
	sc, err := w.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{RemoveProposal(2)}})
	noError(t, err)
	b, err := Marshal(sc.Message)
	noError(t, err)
	g := w.groups["m1"]
	before := groupImage(t, g)
	for i := 0; i < len(b); i += 3 {
		c := bytes.Clone(b)
		c[i] ^= 1 << (i % 8)
		var m MLSMessage
		if Unmarshal(c, &m) != nil {
			continue
		}
		if _, err := g.StageCommit(&m); err == nil {
			t.Fatalf("a commit with a changed octet %d is accepted", i)
		}
	}
	if !bytes.Equal(before, groupImage(t, g)) {
		t.Error("the member was changed by commits that it refused")
	}
	w.deliver("m0", sc)
}

// Commits that would need a path, or may not be, from a member who does not
// care (holes B, D and I).
func TestForgedCommitsAreRefused(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2", "m3")
	g := w.groups["m0"]
	stolen, _ := g.State().Member(w.groups["m2"].OwnLeaf())
	again := w.device("m9")
	expired, _, err := NewKeyPackage(KeyPackageParams{
		CipherSuite: suite1, Signer: again.signer, Credential: BasicCredential([]byte("m9")),
		NotBefore: time.Now().Add(-30 * 24 * time.Hour), Lifetime: time.Hour,
	})
	noError(t, err)
	other, err := NewPSKNonce(suite1)
	noError(t, err)
	psk := PreSharedKeyProposal(PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: other})
	for name, c := range map[string]struct {
		commit *Commit
		want   error
	}{
		"committer removes itself":      {byValue(RemoveProposal(g.own)), ErrInvalidProposal},
		"remove without path":           {byValue(RemoveProposal(1)), ErrInvalidCommit},
		"extensions without path":       {byValue(GroupContextExtensionsProposal(nil)), ErrInvalidCommit},
		"nothing without path":          {byValue(), ErrInvalidCommit},
		"remove of a blank leaf":        {byValue(RemoveProposal(77)), ErrInvalidProposal},
		"two removes of one leaf":       {byValue(RemoveProposal(1), RemoveProposal(1)), ErrInvalidProposal},
		"self-remove by value":          {byValue(SelfRemoveProposal()), ErrInvalidProposal},
		"update by value, old leaf":     {byValue(Proposal{Type: ProposalUpdate, Update: &Update{LeafNode: *stolen}}), ErrInvalidProposal},
		"external init from a member":   {byValue(Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{KEMOutput: make([]byte, 32)}}), ErrInvalidProposal},
		"reinit with others":            {byValue(Proposal{Type: ProposalReInit, ReInit: &ReInit{Version: MLS10, CipherSuite: suite1}}, psk), ErrInvalidProposal},
		"same PSK twice":                {byValue(psk, psk), ErrInvalidProposal},
		"same client twice":             {byValue(AddProposal(again.kp), AddProposal(again.kp)), ErrInvalidProposal},
		"expired key package":           {byValue(AddProposal(expired)), ErrExpired},
		"unknown component":             {byValue(AppDataUpdateProposal(0x8999, nil)), ErrInvalidProposal},
		"component refuses":             {byValue(AppDataUpdateProposal(testComponent, []byte("bad"))), ErrInvalidProposal},
		"component updated and removed": {byValue(AppDataUpdateProposal(testComponent, nil), AppDataRemoveProposal(testComponent)), ErrInvalidProposal},
		"remove of absent data":         {byValue(AppDataRemoveProposal(testComponent)), ErrInvalidProposal},
		"unknown reference":             {&Commit{Proposals: []ProposalOrRef{{Reference: make([]byte, 32)}}}, ErrMissingProposal},
	} {
		t.Run(name, func(t *testing.T) {
			w.TB = t
			w.refuses("m3", forge(t, g, c.commit, nil), c.want)
		})
	}
	w.TB = t
	w.commit("m0", CommitOptions{})
}

// A path whose secrets do not belong to its public keys is refused (hole K).
func TestPathSecretThatDoesNotFit(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2", "m3")
	g := w.groups["m0"]
	p, err := g.state.stageProposals(g.cfg, nil, MemberSender(g.own))
	noError(t, err)
	leaf, signer := g.template(nil)
	b := &commitBuilder{provisional: p, sender: MemberSender(g.own), framing: signer, signer: signer,
		format: WirePublicMessage, protect: g.protect,
		initSecret: g.epoch.init}
	b.path, err = p.createPath(leaf, signer)
	noError(t, err)
	b.path.secrets[len(b.path.secrets)-1].secret = bytes.Repeat([]byte{9}, 32)
	noError(t, p.encryptPath(b.path))
	sc, _, err := b.build()
	noError(t, err)
	w.refuses("m3", sc.Message, ErrInvalidCommit)
	w.commit("m1", CommitOptions{})
}

// Whoever holds a GroupInfo removes nobody but an earlier self (hole C).
func TestExternalCommitCannotRemoveOthers(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	gi, err := w.groups["m0"].GroupInfo()
	noError(t, err)
	eve := w.device("eve")
	lax := w.cfg
	lax.Credentials = anyone{}
	tree := w.groups["m0"].State().RatchetTree()
	for _, c := range []struct {
		name  string
		props []Proposal
		want  error
	}{
		{"remove", []Proposal{RemoveProposal(0)}, ErrCredential},
		{"add", []Proposal{AddProposal(w.device("m8").kp)}, ErrInvalidProposal},
		{"extensions", []Proposal{GroupContextExtensionsProposal(nil)}, ErrInvalidProposal},
		{"two removes", []Proposal{RemoveProposal(0), RemoveProposal(1)}, ErrInvalidProposal},
	} {
		params := JoinParams{Signer: eve.signer, Credential: BasicCredential([]byte("eve")), ByValue: c.props}
		if _, _, err := JoinExternal(w.cfg, gi, tree, params); !errors.Is(err, c.want) {
			t.Errorf("%s: JoinExternal: %v; want %v", c.name, err, c.want)
		}
	}
	_, sc, err := JoinExternal(lax, gi, tree, JoinParams{
		Signer: eve.signer, Credential: BasicCredential([]byte("eve")), ByValue: []Proposal{RemoveProposal(0)},
	})
	noError(t, err)
	w.refuses("m1", sc.Message, ErrCredential)
	w.refuses("m0", sc.Message, ErrCredential)
	_, sc, err = JoinExternal(lax, gi, tree, JoinParams{Signer: eve.signer, Credential: BasicCredential([]byte("evil"))})
	noError(t, err)
	w.refuses("m1", sc.Message, ErrCredential)
	w.commit("m0", CommitOptions{})
}

// Proposals of external senders hold for one group and one epoch (hole E).
func TestMemberExternalSenderProposals(t *testing.T) {
	hub, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	senders, err := Marshal(ExternalSenders{{SignatureKey: hub.Public(), Credential: BasicCredential([]byte("hub"))}})
	noError(t, err)
	x := Extensions{{ExtensionExternalSenders, senders}}
	cfg := worldConfig()
	cfg.ExternalProposals = func(_ *State, p *Proposal, _ uint32) error {
		if p.Type != ProposalRemove {
			return errors.New("only removes")
		}
		return nil
	}
	w := newWorldWith(t, suite1, cfg, x)
	w.add("m0", "m1", "m2")
	send := func(g *Group, p Proposal, index uint32) *MLSMessage {
		a := &AuthenticatedContent{
			WireFormat: WirePublicMessage,
			Content: FramedContent{
				GroupID: g.state.GroupID(), Epoch: g.state.Epoch(), Sender: Sender{Type: SenderExternal, Index: index},
				ContentType: ContentProposal, Proposal: &p,
			},
		}
		noError(t, a.sign(hub, nil))
		pm, err := a.public(g.suite, nil, nil)
		noError(t, err)
		return &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: pm}
	}
	refuse := func(g *Group, m *MLSMessage, want error) {
		t.Helper()
		if _, err := g.Proposal(m); !errors.Is(err, want) {
			t.Errorf("got %v; want %v", err, want)
		}
	}
	g := w.groups["m0"]
	old := send(g, RemoveProposal(2), 0)
	refuse(g, send(g, RemoveProposal(2), 1), ErrUnknownSender)
	refuse(g, send(g, AddProposal(w.device("m5").kp), 0), ErrInvalidProposal)
	elsewhere := *g
	elsewhere.state = initialGroupState(t, "elsewhere")
	other := send(&elsewhere, RemoveProposal(0), 0)
	refuse(g, other, ErrWrongGroup)
	w.commit("m1", CommitOptions{})
	refuse(g, old, ErrWrongEpoch)
	for _, n := range w.names {
		q, err := w.groups[n].Proposal(send(g, RemoveProposal(2), 0))
		noError(t, err)
		noError(t, w.groups[n].Enqueue(q))
	}
	w.commit("m0", CommitOptions{})
	if len(w.names) != 2 {
		t.Errorf("members are %v", w.names)
	}
	refusing := *g
	refusing.cfg = &Config{}
	*refusing.cfg = *g.cfg
	refusing.cfg.ExternalProposals = nil
	refuse(&refusing, send(g, RemoveProposal(1), 0), ErrInvalidProposal)
}

// initialGroupState returns the state of a new group of another ID.
func initialGroupState(t testing.TB, id string) *State {
	signer, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	g, err := CreateGroup(worldConfig(), GroupParams{
		CipherSuite: suite1, GroupID: []byte(id), Signer: signer, Credential: BasicCredential([]byte("x")),
	})
	noError(t, err)
	return g.State()
}

// A generation far ahead costs nothing (hole H), and senders that do not
// exist cause no panic.
func TestForgedSenderData(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	g := w.groups["m0"]
	m, err := g.Encrypt([]byte("text"), nil)
	noError(t, err)
	for _, c := range []struct {
		sd   senderData
		want error
	}{
		{senderData{leaf: 0, generation: 1_000_000}, ErrTooFarAhead},
		{senderData{leaf: 0, generation: 0xffffffff}, ErrTooFarAhead},
		{senderData{leaf: 3}, ErrUnknownSender},
		{senderData{leaf: 0xffffffff}, ErrUnknownSender},
		{senderData{leaf: 2, generation: 3}, ErrDecrypt},
		{senderData{leaf: 0, generation: 5}, ErrDecrypt},
	} {
		f := *m.PrivateMessage
		f.EncryptedSenderData, err = f.sealSenderData(g.suite, g.epoch.senderData, c.sd)
		noError(t, err)
		to := w.groups["m1"]
		before := groupImage(t, to)
		start := time.Now()
		_, err := to.Decrypt(&MLSMessage{WireFormat: WirePrivateMessage, PrivateMessage: &f})
		if !errors.Is(err, c.want) {
			t.Errorf("%+v: %v; want %v", c.sd, err, c.want)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("%+v took %v", c.sd, d)
		}
		noSecrets(t, err, to)
		if !bytes.Equal(before, groupImage(t, to)) {
			t.Errorf("%+v changed the group", c.sd)
		}
	}
	if got, err := w.groups["m1"].Decrypt(m); err != nil || string(got.Data) != "text" {
		t.Errorf("the genuine message: %v", err)
	}
	bad := forge(t, g, byValue(), nil)
	bad.PublicMessage.Content.raw = nil
	for _, l := range []LeafIndex{3, 1 << 21, 0xffffffff} {
		bad.PublicMessage.Content.Sender.Leaf = l
		w.refuses("m1", bad, ErrUnknownSender)
	}
}

// A message that decrypts but is not signed by its sender uses up no key, and
// padding is zero.
func TestForgedContent(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	g := w.groups["m0"]
	eve, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	make := func(signer Signer, pad byte) *MLSMessage {
		a := &AuthenticatedContent{
			WireFormat: WirePrivateMessage,
			Content: FramedContent{
				GroupID: g.state.GroupID(), Epoch: g.state.Epoch(), Sender: MemberSender(0),
				ContentType: ContentApplication, Application: []byte("text"),
			},
		}
		noError(t, a.sign(signer, g.state.contextBytes()))
		u, err := g.tree.open(0, applicationRatchet, 0, 8)
		if errors.Is(err, ErrReplay) {
			t.Fatal("the sender's key is used up")
		}
		noError(t, err)
		m, err := a.private(g.suite, u.messageKey, 0, g.epoch.senderData)
		noError(t, err)
		if pad != 0 {
			sd, err := m.openSenderData(g.suite, g.epoch.senderData)
			noError(t, err)
			aead, err := g.suite.newAEAD(u.key)
			noError(t, err)
			aad, err := m.contentAAD()
			noError(t, err)
			pt, err := aead.Open(nil, xorGuard(u.nonce, sd.guard), m.Ciphertext, aad)
			noError(t, err)
			pt[len(pt)-1] = pad
			m.Ciphertext = aead.Seal(nil, xorGuard(u.nonce, sd.guard), pt, aad)
			m.EncryptedSenderData, err = m.sealSenderData(g.suite, g.epoch.senderData, sd)
			noError(t, err)
		}
		return &MLSMessage{WireFormat: WirePrivateMessage, PrivateMessage: m}
	}
	w.groups["m0"] = g
	// The world's members have spoken already: begin a fresh epoch.
	sc, err := g.Commit(CommitOptions{})
	noError(t, err)
	for _, n := range []string{"m1", "m2"} {
		got, err := w.groups[n].StageCommit(w.wire(sc.Message))
		noError(t, err)
		noError(t, w.groups[n].Merge(got))
	}
	noError(t, g.Merge(sc))
	to := w.groups["m1"]
	before := groupImage(t, to)
	for _, c := range []struct {
		m    *MLSMessage
		want error
	}{
		{make(eve, 0), ErrInvalidSignature},
		{make(g.signer, 1), ErrInvalidMessage},
	} {
		if _, err := to.Decrypt(c.m); !errors.Is(err, c.want) {
			t.Errorf("got %v; want %v", err, c.want)
		}
		if !bytes.Equal(before, groupImage(t, to)) {
			t.Fatal("the group was changed")
		}
	}
	m, err := g.Encrypt([]byte("genuine"), nil)
	noError(t, err)
	got, err := to.Decrypt(m)
	noError(t, err)
	equal(t, "data", got.Data, []byte("genuine"))
}

// Late messages decrypt in any order, in past epochs too, once, with the leaf
// of their sender as it was then.
func TestLateMessages(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	say := func(name string, i int) *MLSMessage {
		m, err := w.groups[name].Encrypt(fmt.Appendf(nil, "%s %d", name, i), nil)
		noError(t, err)
		return w.wire(m)
	}
	var late []*MLSMessage
	for i := range 4 {
		late = append(late, say("m2", i))
	}
	w.commit("m0", CommitOptions{Proposals: []Proposal{RemoveProposal(w.groups["m2"].OwnLeaf())}})
	d := w.device("m3")
	w.commit("m1", CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}}, d)
	if w.groups["m3"].OwnLeaf() != 2 {
		t.Fatalf("m3 is at leaf %d", w.groups["m3"].OwnLeaf())
	}
	g := w.groups["m0"]
	records := map[string][]byte{}
	store(t, g, records)
	g, err := LoadGroup(w.cfg, records, g.signer)
	noError(t, err)
	for _, i := range []int{2, 0, 3, 1} {
		got, err := g.Decrypt(late[i])
		noError(t, err)
		equal(t, "data", got.Data, fmt.Appendf(nil, "m2 %d", i))
		equal(t, "sender", got.Leaf.Credential.Identity, []byte("m2"))
		if _, err := g.Decrypt(late[i]); !errors.Is(err, ErrReplay) {
			t.Errorf("message %d decrypts twice: %v", i, err)
		}
	}
	if _, err := w.groups["m3"].Decrypt(late[0]); !errors.Is(err, ErrWrongEpoch) {
		t.Errorf("m3 decrypts what was said before it joined: %v", err)
	}
	for range 3 {
		w.commit("m0", CommitOptions{})
	}
	if _, err := w.groups["m1"].Decrypt(late[0]); !errors.Is(err, ErrWrongEpoch) {
		t.Errorf("an epoch that should be gone is still there: %v", err)
	}
}

// What was used up is nowhere in the records (hole L).
func TestRecordsHoldNoConsumedKeys(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	w.commit("m2", CommitOptions{})
	from, to := w.groups["m0"], w.groups["m1"]
	records := map[string][]byte{}
	store(t, to, records)
	next := from.tree.senders[0][applicationRatchet].next
	u, err := from.tree.open(0, applicationRatchet, next, 0)
	noError(t, err)
	consumed := [][]byte{bytes.Clone(u.key), bytes.Clone(u.nonce), bytes.Clone(from.tree.senders[0][applicationRatchet].secret)}
	u.discard()
	init := bytes.Clone(to.epoch.init)
	holds := func(b []byte) bool {
		for _, v := range records {
			if bytes.Contains(v, b) {
				return true
			}
		}
		return false
	}
	if !holds(consumed[2]) || !holds(init) {
		t.Fatal("the test looks for the wrong secrets")
	}
	m, err := from.Encrypt([]byte("text"), nil)
	noError(t, err)
	_, err = to.Decrypt(m)
	noError(t, err)
	store(t, to, records)
	for i, b := range consumed {
		if holds(b) {
			t.Errorf("the records hold consumed secret %d", i)
		}
	}
	w.commit("m0", CommitOptions{})
	store(t, to, records)
	if holds(init) {
		t.Error("the records hold the init_secret of the epoch before")
	}
}

func TestWelcomeIsVerified(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	d := w.device("m2")
	sc, err := w.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}, OmitTree: true})
	noError(t, err)
	tree := sc.After.RatchetTree()
	join := func(wm *Welcome, tree RatchetTree, d *device) error {
		_, err := JoinWelcome(w.cfg, wm, tree, d.kp, d.priv, d.signer)
		return err
	}
	other := w.device("m2")
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"no tree", join(sc.Welcome, nil, d), ErrInvalidWelcome},
		{"tree of the old epoch", join(sc.Welcome, sc.Before.RatchetTree(), d), ErrInvalidTree},
		{"another key package", join(sc.Welcome, tree, other), ErrInvalidWelcome},
		{"keys of another", join(sc.Welcome, tree, &device{"m2", d.signer, d.kp, other.priv}), ErrKey},
		{"signer of another", join(sc.Welcome, tree, &device{"m2", other.signer, d.kp, d.priv}), ErrKey},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: got %v; want %v", c.name, c.err, c.want)
		}
	}
	b, err := Marshal(sc.Welcome)
	noError(t, err)
	for i := 0; i < len(b); i += 5 {
		c := bytes.Clone(b)
		c[i] ^= 0x10
		var wm Welcome
		if Unmarshal(c, &wm) == nil && join(&wm, tree, d) == nil {
			t.Fatalf("a Welcome with a changed octet %d is accepted", i)
		}
	}
	noError(t, join(sc.Welcome, tree, d))
}

// A commit waits for its proposals; the receiver stays as it was until then.
func TestCommitBeforeItsProposal(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	m, err := w.groups["m0"].Propose(RemoveProposal(2), nil)
	noError(t, err)
	sc, err := w.groups["m0"].Commit(CommitOptions{})
	noError(t, err)
	w.refuses("m1", sc.Message, ErrMissingProposal)
	w.deliverProposal("m0", m)
	w.deliver("m0", sc)
}

func TestMergeOnlyOnce(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	g := w.groups["m0"]
	mine, err := g.Commit(CommitOptions{})
	noError(t, err)
	sealed, err := g.SealStaged(mine)
	noError(t, err)
	if _, err := g.StageCommit(w.wire(mine.Message)); !errors.Is(err, ErrInvalidCommit) {
		t.Errorf("the own commit is processed: %v", err)
	}
	w.commit("m1", CommitOptions{})
	before := groupImage(t, g)
	if err := g.Merge(mine); !errors.Is(err, ErrWrongEpoch) {
		t.Errorf("a commit of the old epoch is merged: %v", err)
	}
	if _, err := g.LoadStaged(sealed); !errors.Is(err, ErrWrongEpoch) {
		t.Errorf("a commit of the old epoch is restored: %v", err)
	}
	if !bytes.Equal(before, groupImage(t, g)) {
		t.Error("the group was changed")
	}
	again, err := g.Commit(CommitOptions{})
	noError(t, err)
	w.deliver("m0", again)
	if err := g.Merge(again); err == nil {
		t.Error("a commit is merged twice")
	}
}

func TestRemovedMemberIsOut(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	gone := w.groups["m2"]
	w.commit("m0", CommitOptions{Proposals: []Proposal{RemoveProposal(gone.OwnLeaf())}})
	m, err := w.groups["m0"].Encrypt([]byte("without m2"), nil)
	noError(t, err)
	if _, err := gone.Decrypt(m); !errors.Is(err, ErrNotMember) {
		t.Errorf("decrypt: %v", err)
	}
	if _, err := gone.Encrypt(nil, nil); !errors.Is(err, ErrNotMember) {
		t.Errorf("encrypt: %v", err)
	}
	if _, err := gone.Commit(CommitOptions{}); !errors.Is(err, ErrNotMember) {
		t.Errorf("commit: %v", err)
	}
	if _, err := gone.Export("x", nil, 16); !errors.Is(err, ErrNotMember) {
		t.Errorf("export: %v", err)
	}
}

func TestSafeAADIsEnforced(t *testing.T) {
	list, err := Marshal(ComponentsList{})
	noError(t, err)
	dict, err := Marshal(AppDataDictionary{{ComponentSafeAAD, list}})
	noError(t, err)
	w := newWorldWith(t, suite1, worldConfig(), Extensions{{ExtensionAppDataDictionary, dict}})
	g := w.groups["m0"]
	if _, err := g.Encrypt(nil, []byte{1, 2, 3}); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("arbitrary authenticated data is sent: %v", err)
	}
	aad, err := Marshal(SafeAAD{{testComponent, []byte("x")}})
	noError(t, err)
	m, err := g.Encrypt(nil, aad)
	noError(t, err)
	equal(t, "authenticated data", m.PrivateMessage.AuthenticatedData, aad)
	m, err = g.Encrypt(nil, nil)
	noError(t, err)
	equal(t, "authenticated data", m.PrivateMessage.AuthenticatedData, []byte{0})
}

// The signature key changes with a commit, and later commits use it.
func TestNewSignatureKey(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	signer, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	g := w.groups["m1"]
	sc, err := g.Commit(CommitOptions{Leaf: &LeafParams{Signer: signer}})
	noError(t, err)
	b, err := g.SealStaged(sc)
	noError(t, err)
	if _, err := g.LoadStaged(b); !errors.Is(err, ErrKey) {
		t.Errorf("restored without the new signer: %v", err)
	}
	sc, err = g.LoadStaged(b, signer)
	noError(t, err)
	w.deliver("m1", sc)
	w.commit("m1", CommitOptions{})
	leaf, _ := w.groups["m0"].State().Member(g.OwnLeaf())
	equal(t, "signature key", leaf.SignatureKey, signer.Public())
}
