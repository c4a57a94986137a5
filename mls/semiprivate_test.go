package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
)

// A semiWorld is a group whose handshakes two external receivers read.
type semiWorld struct {
	*world
	receivers ExternalReceivers
	keys      [][]byte // private keys of the receivers
}

func semiConfig() Config {
	cfg := worldConfig()
	cfg.HandshakeFormat = WireSemiPrivateMessage
	cfg.ExternalReceivers = func(r *ExternalReceiver) error {
		if !bytes.HasPrefix(r.Credential.Identity, []byte("hub")) {
			return errors.New("no hub of this test")
		}
		return nil
	}
	return cfg
}

func newSemiWorld(t testing.TB, suite CipherSuite) *semiWorld {
	t.Helper()
	s := &semiWorld{world: &world{TB: t, suite: suite, cfg: semiConfig(), groups: map[string]*Group{}}}
	for i := range 2 {
		private, public, err := GenerateHPKEKey(suite)
		noError(t, err)
		s.keys = append(s.keys, private)
		s.receivers = append(s.receivers, ExternalReceiver{public, BasicCredential(fmt.Appendf(nil, "hub%d", i))})
	}
	x, err := Extensions{}.WithSemiPrivate(s.receivers...)
	noError(t, err)
	s.caps, s.leaf, err = AdvertiseSemiPrivate(DefaultCapabilities(CredentialBasic), nil)
	noError(t, err)
	signer, _, err := GenerateSigner(suite, nil)
	noError(t, err)
	g, err := CreateGroup(s.cfg, GroupParams{
		CipherSuite: suite, GroupID: []byte("room"), Signer: signer, Credential: BasicCredential([]byte("m0")),
		Capabilities: s.caps, LeafExtensions: s.leaf, Extensions: x,
	})
	noError(t, err)
	s.join("m0", g)
	return s
}

// hub returns the external receiver i, in the present epoch.
func (s *semiWorld) hub(i int) *PublicGroup {
	cfg := s.cfg
	cfg.ReceiverKey = s.keys[i]
	return s.newFollower(cfg)
}

// A group lives with semi-private handshakes: members are stored and loaded at
// every step, as are the two receivers, who follow from the first commit on.
func TestSemiPrivateHandshakes(t *testing.T) {
	for _, suite := range []CipherSuite{X25519AES128SHA256Ed25519, P256AES128SHA256P256} {
		w := newSemiWorld(t, suite)
		w.stores = map[string]map[string][]byte{"m0": {}}
		w.reload("m0")
		hubs := []*PublicGroup{w.hub(0), w.hub(1)}
		follow := func(sc *StagedCommit) {
			t.Helper()
			p, err := sc.PartialGroupInfo(false)
			noError(t, err)
			for i, hub := range hubs {
				staged, err := hub.StageCommit(w.wire(sc.Message))
				noError(t, err)
				gi, err := hub.CompleteGroupInfo(staged, p)
				noError(t, err)
				equal(t, "GroupInfo", mustMarshal(gi), mustMarshal(sc.GroupInfo))
				noError(t, hub.Merge(staged))
				equal(t, "GroupContext", hub.State().contextBytes(), sc.After.contextBytes())
				hubs[i], err = LoadPublicGroup(hub.cfg2(), storeRecords(nil, hub.Records(nil)))
				noError(t, err)
			}
		}
		propose := func(name string, p Proposal) *MLSMessage {
			t.Helper()
			m := w.propose(name, p)
			for i, hub := range hubs {
				q, err := hub.Proposal(w.wire(m))
				noError(t, err)
				noError(t, hub.Enqueue(q))
				// What is pending was opened: it does not need the key again.
				cfg := hub.cfg2()
				key := cfg.ReceiverKey
				cfg.ReceiverKey = nil
				hubs[i], err = LoadPublicGroup(cfg, storeRecords(nil, hub.Records(nil)))
				noError(t, err)
				hubs[i].cfg.ReceiverKey = key
				if snapshot(t, hubs[i]) != snapshot(t, hub) {
					t.Fatal("the hub is not what it was before it was stored")
				}
			}
			return m
		}
		for i := 1; i < 5; i++ {
			d := w.device(fmt.Sprintf("m%d", i))
			sc := w.commit("m0", CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}}, d)
			if sc.Message.SemiPrivateMessage == nil || sc.Message.ContentType() != ContentCommit {
				t.Fatalf("a commit of wire format %v", sc.Message.WireFormat)
			}
			follow(sc)
		}
		if m := propose("m1", AppDataUpdateProposal(testComponent, []byte("data"))); m.SemiPrivateMessage == nil {
			t.Fatalf("a proposal of wire format %v", m.WireFormat)
		}
		if m := propose("m2", SelfRemoveProposal()); m.PublicMessage == nil {
			t.Fatal("a SelfRemove is not public, as external joiners need it")
		}
		m, err := w.groups["m3"].ProposeUpdate(LeafParams{}, nil)
		noError(t, err)
		w.reload("m3")
		w.deliverProposal("m3", m)
		for _, hub := range hubs {
			q, err := hub.Proposal(w.wire(m))
			noError(t, err)
			noError(t, hub.Enqueue(q))
		}
		sc := w.commit("m4", CommitOptions{})
		if len(sc.Proposals) != 3 || len(w.names) != 4 {
			t.Fatalf("%d proposals, %d members left", len(sc.Proposals), len(w.names))
		}
		follow(sc)

		// An external commit is public.
		gi, ok := hubs[0].GroupInfo()
		if !ok {
			t.Fatal("no GroupInfo")
		}
		d := w.device("m9")
		g, sc, err := JoinExternal(w.cfg, gi, hubs[0].State().RatchetTree(), JoinParams{
			Signer: d.signer, Credential: BasicCredential([]byte("m9")), Capabilities: w.caps, LeafExtensions: w.leaf,
		})
		noError(t, err)
		if sc.Message.PublicMessage == nil {
			t.Fatal("an external commit is not public")
		}
		for _, name := range slices.Clone(w.names) {
			got, err := w.groups[name].StageCommit(w.wire(sc.Message))
			noError(t, err)
			noError(t, w.groups[name].Merge(got))
			w.reload(name)
		}
		follow(sc)
		w.join("m9", g)
		w.check()

		// Without receivers the members refuse to send rather than to tell all.
		follow(w.commit("m0", CommitOptions{Proposals: []Proposal{GroupContextExtensionsProposal(Extensions{})}}))
		before := groupImage(t, w.groups["m0"])
		if _, err := w.groups["m0"].Commit(CommitOptions{}); !errors.Is(err, ErrCapabilities) {
			t.Errorf("a commit without receivers: %v", err)
		}
		if _, err := w.groups["m0"].Propose(RemoveProposal(1), nil); !errors.Is(err, ErrCapabilities) {
			t.Errorf("a proposal without receivers: %v", err)
		}
		if !bytes.Equal(before, groupImage(t, w.groups["m0"])) {
			t.Error("what could not be sent changed the group")
		}
	}
}

// cfg2 returns the group's configuration.
func (g *PublicGroup) cfg2() Config { return *g.cfg }

// Nothing of it is accepted unless the application turned it on.
func TestSemiPrivateIsOffByDefault(t *testing.T) {
	w := newSemiWorld(t, suite1)
	d := w.device("m1")
	sc := w.commit("m0", CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}}, d)
	off := worldConfig()
	x, err := Extensions{}.WithSemiPrivate(w.receivers...)
	noError(t, err)
	if _, err := CreateGroup(off, GroupParams{
		CipherSuite: suite1, Signer: d.signer, Credential: BasicCredential([]byte("m")),
		Capabilities: w.caps, LeafExtensions: w.leaf, Extensions: x,
	}); !errors.Is(err, ErrCapabilities) {
		t.Errorf("created: %v", err)
	}
	if _, err := JoinWelcome(off, sc.Welcome, nil, d.kp, d.priv, d.signer); !errors.Is(err, ErrCapabilities) {
		t.Errorf("joined: %v", err)
	}
	if _, _, err := JoinExternal(off, sc.GroupInfo, sc.After.RatchetTree(), JoinParams{
		Signer: d.signer, Credential: BasicCredential([]byte("m")), Capabilities: w.caps, LeafExtensions: w.leaf,
	}); !errors.Is(err, ErrCapabilities) {
		t.Errorf("joined from outside: %v", err)
	}
	if _, err := NewPublicGroup(off, sc.GroupInfo, sc.After.RatchetTree()); !errors.Is(err, ErrCapabilities) {
		t.Errorf("followed: %v", err)
	}
	records := map[string][]byte{}
	store(t, w.groups["m0"], records)
	if _, err := LoadGroup(off, records, w.groups["m0"].signer); !errors.Is(err, ErrCapabilities) {
		t.Errorf("loaded: %v", err)
	}
	if _, err := LoadPublicGroup(off, storeRecords(nil, w.hub(0).Records(nil))); !errors.Is(err, ErrCapabilities) {
		t.Errorf("loaded by a hub: %v", err)
	}
	off.HandshakeFormat = WireSemiPrivateMessage
	if _, err := CreateGroup(off, GroupParams{CipherSuite: suite1, Signer: d.signer, Credential: BasicCredential([]byte("m"))}); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("created with semi-private handshakes: %v", err)
	}

	// A group in which all could, but which was not made so.
	plain := &world{TB: t, suite: suite1, cfg: worldConfig(), groups: map[string]*Group{}, caps: w.caps, leaf: w.leaf}
	signer, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	g, err := CreateGroup(plain.cfg, GroupParams{
		CipherSuite: suite1, GroupID: []byte("room"), Signer: signer, Credential: BasicCredential([]byte("m0")),
		Capabilities: w.caps, LeafExtensions: w.leaf,
	})
	noError(t, err)
	plain.join("m0", g)
	plain.add("m0", "m1")
	if _, err := g.Propose(GroupContextExtensionsProposal(x), nil); !errors.Is(err, ErrCapabilities) {
		t.Errorf("proposed: %v", err)
	}
	hub := plain.newFollower(plain.cfg)
	bad := forge(t, g, byValue(GroupContextExtensionsProposal(x)), nil)
	if _, err := hub.StageCommit(bad); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a hub follows: %v", err)
	}
	if _, err := plain.groups["m1"].StageCommit(bad); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a member follows: %v", err)
	}
	m := w.wire(sc.Message)
	m.SemiPrivateMessage.Epoch = g.state.Epoch()
	if _, err := plain.groups["m1"].StageCommit(m); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a member takes a SemiPrivateMessage: %v", err)
	}
	if _, err := hub.StageCommit(m); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a hub takes a SemiPrivateMessage: %v", err)
	}
}

// Receivers that the application refuses, or that are malformed, do not come
// in; nor does the extension where a member does not support it.
func TestExternalReceiversRefused(t *testing.T) {
	w := newSemiWorld(t, suite1)
	g := w.groups["m0"]
	_, key, err := GenerateHPKEKey(suite1)
	noError(t, err)
	with := func(r ...ExternalReceiver) Extensions {
		x, err := Extensions{}.WithSemiPrivate(r...)
		noError(t, err)
		return x
	}
	hub := BasicCredential([]byte("hub"))
	many := make([]ExternalReceiver, maxReceivers+1)
	for i := range many {
		_, k, err := GenerateHPKEKey(suite1)
		noError(t, err)
		many[i] = ExternalReceiver{k, hub}
	}
	for name, c := range map[string]struct {
		want error
		x    Extensions
	}{
		"refused":       {ErrCredential, with(ExternalReceiver{key, BasicCredential([]byte("spy"))})},
		"malformed key": {ErrKey, with(ExternalReceiver{key[1:], hub})},
		"none":          {ErrInvalidMessage, with()},
		"twice":         {ErrInvalidMessage, with(ExternalReceiver{key, hub}, ExternalReceiver{key, BasicCredential([]byte("hub again"))})},
		"too many":      {nil, with(many...)},
		"malformed":     {nil, Extensions{{ExtensionExternalReceivers, []byte{1}}}},
	} {
		if _, err := g.Propose(GroupContextExtensionsProposal(c.x), nil); !errors.Is(err, ErrInvalidProposal) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := CreateGroup(w.cfg, GroupParams{
			CipherSuite: suite1, Signer: g.signer, Credential: BasicCredential([]byte("m")), Capabilities: w.caps, LeafExtensions: w.leaf, Extensions: c.x,
		}); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: created: %v", name, err)
		}
	}
	w.caps, w.leaf = Capabilities{}, nil
	d := w.device("m1") // knows nothing of it
	if _, err := g.Commit(CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}}); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a member that does not support it is added: %v", err)
	}
}

// A semiForgery is how a member may misuse its place: it changes what the
// sender does at each step.
type semiForgery struct {
	content func(c *FramedContent)
	proof   func(a *AuthenticatedContent)
	hashes  func(m *SemiPrivateMessage)
	key     func(k *perMessageKey) // as receivers are told
	keys    func(m *SemiPrivateMessage)
	body    func(pt []byte) []byte
}

// send makes a proposal to remove leaf 2 in this way.
func (f semiForgery) send(t testing.TB, g *Group) *MLSMessage {
	t.Helper()
	p := RemoveProposal(2)
	a := &AuthenticatedContent{WireFormat: WireSemiPrivateMessage, Content: FramedContent{
		GroupID: g.state.GroupID(), Epoch: g.state.Epoch(), Sender: MemberSender(g.own), ContentType: ContentProposal, Proposal: &p,
	}}
	call(f.content, &a.Content)
	noError(t, a.sign(g.signer, g.state.contextBytes()))
	tbs, err := a.tbs(g.state.contextBytes())
	noError(t, err)
	call(f.proof, a)
	k, generation, err := g.tree.take(g.own, handshakeRatchet)
	noError(t, err)
	pk := perMessageKey{messageKey: messageKey{bytes.Clone(k.key), bytes.Clone(k.nonce)}, guard: [4]byte{1, 2, 3, 4}, leaf: g.own}
	m := &SemiPrivateMessage{
		GroupID: a.Content.GroupID, Epoch: a.Content.Epoch, ContentType: a.Content.ContentType,
		PartialContextHash: g.suite.partialContextHash(g.own, k.nonce), FramedContentTBSHash: g.suite.sum(tbs),
	}
	call(f.hashes, m)
	call(f.key, &pk)
	m.Keys, err = m.sealKeys(g.state, &pk)
	noError(t, err)
	call(f.keys, m)
	aad, err := m.contentAAD()
	noError(t, err)
	var w tlspl.Writer
	a.Content.marshalBody(&w)
	a.Auth.marshal(&w, a.Content.ContentType)
	pt, err := w.Bytes()
	noError(t, err)
	if f.body != nil {
		pt = f.body(pt)
	}
	aead, err := g.suite.newAEAD(k.key)
	noError(t, err)
	m.Ciphertext = aead.Seal(nil, xorGuard(k.nonce, [4]byte{1, 2, 3, 4}), pt, aad)
	sd := senderData{leaf: g.own, generation: generation, guard: [4]byte{1, 2, 3, 4}}
	m.EncryptedSenderData, err = m.senderPart().sealSenderData(g.suite, g.epoch.senderData, sd)
	noError(t, err)
	return &MLSMessage{WireFormat: WireSemiPrivateMessage, SemiPrivateMessage: m}
}

func call[T any](f func(*T), v *T) {
	if f != nil {
		f(v)
	}
}

// Whatever a member forges is refused by members and receivers, each with
// what it can see, and leaves no trace.
func TestSemiPrivateForgeries(t *testing.T) {
	w := newSemiWorld(t, suite1)
	w.add("m0", "m1", "m2", "m3")
	from, member, hub := w.groups["m1"], w.groups["m3"], w.hub(1)
	accepted := errors.New("accepted")
	remove := RemoveProposal(3)
	for name, c := range map[string]struct {
		member, hub error // accepted: the party cannot see it
		f           semiForgery
	}{
		"none":                   {accepted, accepted, semiForgery{}},
		"signature":              {ErrInvalidSignature, ErrInvalidSignature, semiForgery{proof: func(a *AuthenticatedContent) { a.Auth.Signature = flipped(a.Auth.Signature) }}},
		"signed as public":       {ErrInvalidSignature, ErrInvalidSignature, semiForgery{proof: resignAs(t, from, WirePublicMessage)}},
		"other content":          {ErrInvalidMessage, ErrInvalidMessage, semiForgery{proof: func(a *AuthenticatedContent) { a.Content.Proposal = &remove }}},
		"content hash":           {ErrInvalidMessage, ErrInvalidMessage, semiForgery{hashes: func(m *SemiPrivateMessage) { m.FramedContentTBSHash = flipped(m.FramedContentTBSHash) }}},
		"no content hash":        {ErrInvalidMessage, ErrInvalidMessage, semiForgery{hashes: func(m *SemiPrivateMessage) { m.FramedContentTBSHash = nil }}},
		"context hash":           {ErrInvalidMessage, ErrInvalidMessage, semiForgery{hashes: func(m *SemiPrivateMessage) { m.PartialContextHash = flipped(m.PartialContextHash) }}},
		"context hash of a leaf": {ErrInvalidMessage, ErrInvalidMessage, semiForgery{hashes: func(m *SemiPrivateMessage) { m.PartialContextHash = from.suite.partialContextHash(0, nil) }}},
		"sender for receivers":   {accepted, ErrInvalidMessage, semiForgery{key: func(k *perMessageKey) { k.leaf = 0 }}},
		"no member as sender":    {accepted, ErrUnknownSender, semiForgery{key: func(k *perMessageKey) { k.leaf = 77 }}},
		"nonce for receivers":    {accepted, ErrInvalidMessage, semiForgery{key: func(k *perMessageKey) { k.nonce = flipped(k.nonce) }}},
		"key for receivers":      {accepted, ErrDecrypt, semiForgery{key: func(k *perMessageKey) { k.key = flipped(k.key) }}},
		"guard for receivers":    {accepted, ErrDecrypt, semiForgery{key: func(k *perMessageKey) { k.guard[0] ^= 1 }}},
		"short key":              {accepted, ErrInvalidMessage, semiForgery{key: func(k *perMessageKey) { k.key = k.key[1:] }}},
		"receiver left out":      {ErrInvalidMessage, ErrInvalidMessage, semiForgery{keys: func(m *SemiPrivateMessage) { m.Keys = m.Keys[:1] }}},
		"no receiver":            {ErrInvalidMessage, ErrInvalidMessage, semiForgery{keys: func(m *SemiPrivateMessage) { m.Keys = nil }}},
		"receiver twice":         {ErrInvalidMessage, ErrInvalidMessage, semiForgery{keys: func(m *SemiPrivateMessage) { m.Keys[1] = m.Keys[0] }}},
		"receiver added":         {ErrInvalidMessage, ErrInvalidMessage, semiForgery{keys: func(m *SemiPrivateMessage) { m.Keys = append(m.Keys, m.Keys[0]) }}},
		"receiver not listed":    {ErrInvalidMessage, ErrInvalidMessage, semiForgery{keys: func(m *SemiPrivateMessage) { m.Keys[0].Receiver = flipped(m.Keys[0].Receiver) }}},
		"another's key":          {accepted, ErrDecrypt, semiForgery{keys: func(m *SemiPrivateMessage) { m.Keys[1].EncryptedKeys = m.Keys[0].EncryptedKeys }}},
		"padding":                {ErrInvalidMessage, ErrInvalidMessage, semiForgery{body: func(pt []byte) []byte { return append(pt, 0, 0, 1) }}},
		"cut body":               {tlspl.ErrSyntax, tlspl.ErrSyntax, semiForgery{body: func(pt []byte) []byte { return pt[:len(pt)-1] }}},
		"self_remove":            {ErrInvalidProposal, ErrInvalidProposal, semiForgery{content: func(c *FramedContent) { c.Proposal = &Proposal{Type: ProposalSelfRemove} }}},
		"other epoch":            {ErrWrongEpoch, ErrWrongEpoch, semiForgery{content: func(c *FramedContent) { c.Epoch++ }}},
		"other group":            {ErrWrongGroup, ErrWrongGroup, semiForgery{content: func(c *FramedContent) { c.GroupID = []byte("other") }}},
	} {
		t.Run(name, func(t *testing.T) {
			m := w.wire(c.f.send(t, from))
			image, public := groupImage(t, member), snapshot(t, hub)
			_, err := hub.Proposal(m)
			if c.hub == accepted && err != nil || c.hub != accepted && !errors.Is(err, c.hub) {
				t.Errorf("receiver: %v, want %v", err, c.hub)
			}
			if snapshot(t, hub) != public {
				t.Error("the receiver changed")
			}
			_, err = member.Proposal(m)
			if c.member == accepted && err != nil || c.member != accepted && !errors.Is(err, c.member) {
				t.Errorf("member: %v, want %v", err, c.member)
			}
			if c.member != accepted && !bytes.Equal(image, groupImage(t, member)) {
				t.Error("the member changed")
			}
			if c.member == accepted {
				if _, err := member.Proposal(m); !errors.Is(err, ErrReplay) {
					t.Errorf("opens twice: %v", err)
				}
			}
		})
	}
	m := semiForgery{}.send(t, from)
	m.SemiPrivateMessage.ContentType = ContentApplication
	if err := Unmarshal(mustMarshal(m), new(MLSMessage)); err == nil {
		t.Error("application data in a SemiPrivateMessage")
	}
	for _, empty := range []*MLSMessage{nil, {}, {WireFormat: WireSemiPrivateMessage}} {
		if _, err := hub.Proposal(empty); err == nil {
			t.Error("a receiver takes nothing for a proposal")
		}
		if _, err := hub.StageCommit(empty); err == nil {
			t.Error("a receiver takes nothing for a commit")
		}
	}
}

// resignAs replaces the signature by one for another wire format.
func resignAs(t testing.TB, g *Group, f WireFormat) func(a *AuthenticatedContent) {
	return func(a *AuthenticatedContent) {
		c := *a
		c.WireFormat = f
		noError(t, c.sign(g.signer, g.state.contextBytes()))
		a.Auth = c.Auth
	}
}

// No octet of a message can be changed on its way, but for the sender data,
// which a receiver does not read.
func TestSemiPrivateTampered(t *testing.T) {
	w := newSemiWorld(t, suite1)
	w.add("m0", "m1", "m2")
	member, hub := w.groups["m2"], w.hub(0)
	sc, err := w.groups["m1"].Commit(CommitOptions{AAD: []byte("aad")})
	noError(t, err)
	good := mustMarshal(sc.Message)
	image, public := groupImage(t, member), snapshot(t, hub)
	for i := range good {
		m := new(MLSMessage)
		if Unmarshal(flippedAt(good, i), m) != nil || m.SemiPrivateMessage == nil {
			continue
		}
		if staged, err := member.StageCommit(m); err == nil {
			staged.private.use.discard()
			t.Fatalf("a member takes a commit whose octet %d was changed", i)
		}
		if _, err := hub.StageCommit(m); err == nil && bytes.Equal(m.SemiPrivateMessage.EncryptedSenderData, sc.Message.SemiPrivateMessage.EncryptedSenderData) {
			t.Fatalf("a receiver takes a commit whose octet %d was changed", i)
		}
	}
	if !bytes.Equal(image, groupImage(t, member)) || snapshot(t, hub) != public {
		t.Fatal("what was refused left a trace")
	}
	_, err = member.StageCommit(w.wire(sc.Message))
	noError(t, err)
	_, err = hub.StageCommit(w.wire(sc.Message))
	noError(t, err)
	if _, err := hub.Proposal(w.wire(sc.Message)); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("a commit is a proposal: %v", err)
	}
	if _, err := member.Decrypt(w.wire(sc.Message)); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("a commit is an application message: %v", err)
	}

	// Others cannot open it.
	strange, _, err := GenerateHPKEKey(suite1)
	noError(t, err)
	for name, key := range map[string][]byte{"none": nil, "strange": strange, "malformed": {1}} {
		cfg := w.cfg
		cfg.ReceiverKey = key
		if _, err := w.newFollower(cfg).StageCommit(w.wire(sc.Message)); !errors.Is(err, ErrKey) {
			t.Errorf("%s key: %v", name, err)
		}
	}
	// The same name, epoch and receiver, but another group.
	foreign := newSemiWorld(t, suite1)
	foreign.add("m0", "m1", "m2")
	other, err := foreign.groups["m1"].Commit(CommitOptions{})
	noError(t, err)
	if _, err := hub.StageCommit(w.wire(other.Message)); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("a commit for other receivers: %v", err)
	}
	m := w.wire(other.Message)
	for i := range m.SemiPrivateMessage.Keys {
		m.SemiPrivateMessage.Keys[i].Receiver = sc.Message.SemiPrivateMessage.Keys[i].Receiver
	}
	if _, err := hub.StageCommit(m); !errors.Is(err, ErrDecrypt) {
		t.Errorf("receiver, a commit of another group: %v", err)
	}
	if _, err := member.StageCommit(m); !errors.Is(err, ErrDecrypt) {
		t.Errorf("member, a commit of another group: %v", err)
	}
}

// flippedAt returns a copy of b with bits of octet i changed.
func flippedAt(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 0x10
	return c
}

// FuzzSemiPrivate hands spoilt messages to a member and to a receiver: nothing
// panics, and what is refused leaves no trace.
func FuzzSemiPrivate(f *testing.F) {
	w := newSemiWorld(f, suite1)
	w.add("m0", "m1", "m2")
	from, member, hub := w.groups["m0"], w.groups["m1"], w.hub(0)
	p, err := from.Propose(AppDataUpdateProposal(testComponent, []byte("x")), nil)
	noError(f, err)
	sc, err := from.Commit(CommitOptions{SkipPending: true})
	noError(f, err)
	f.Add(mustMarshal(p))
	f.Add(mustMarshal(sc.Message))
	f.Add(mustMarshal(semiForgery{keys: func(m *SemiPrivateMessage) { m.Keys = nil }}.send(f, from)))
	image, public := groupImage(f, member), snapshot(f, hub)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(MLSMessage)
		if Unmarshal(b, m) != nil {
			return
		}
		_, _ = hub.Proposal(m)
		_, _ = hub.StageCommit(m)
		if snapshot(t, hub) != public {
			t.Fatal("a receiver changed")
		}
		_, _ = member.StageCommit(m)
		if _, err := member.Proposal(m); err == nil {
			image = groupImage(t, member)
		} else if !bytes.Equal(image, groupImage(t, member)) {
			t.Fatal("a member changed")
		}
	})
}
