package mls

import (
	"bytes"
	"errors"
	"testing"
)

// outsideWorld is a group that takes proposals from a hub and from new
// members, with the hub's signer and its view.
func outsideWorld(t testing.TB, id string, hub Signer) (*world, *PublicGroup) {
	senders, err := Marshal(ExternalSenders{
		{SignatureKey: someSigner(t).Public(), Credential: BasicCredential([]byte("other"))},
		{SignatureKey: hub.Public(), Credential: BasicCredential([]byte("hub"))},
	})
	noError(t, err)
	cfg := worldConfig()
	cfg.ExternalProposals = func(*State, *Proposal, uint32) error { return nil }
	cfg.NewMemberProposals = func(*State, *KeyPackage) error { return nil }
	signer := someSigner(t)
	g, err := CreateGroup(cfg, GroupParams{
		CipherSuite: suite1, GroupID: []byte(id), Signer: signer, Credential: BasicCredential([]byte("m0")),
		Extensions: Extensions{{ExtensionExternalSenders, senders}},
	})
	noError(t, err)
	w := &world{TB: t, suite: suite1, cfg: cfg, groups: map[string]*Group{}}
	w.join("m0", g)
	w.add("m0", "m1", "m2")
	return w, w.public()
}

// public returns the view of one who is not a member.
func (w *world) public() *PublicGroup {
	w.Helper()
	g := w.groups[w.names[0]]
	gi, err := g.GroupInfo()
	noError(w, err)
	hub, err := NewPublicGroup(w.cfg, gi, g.State().RatchetTree())
	noError(w, err)
	return hub
}

func someSigner(t testing.TB) Signer {
	t.Helper()
	signer, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	return signer
}

func TestProposalsFromOutside(t *testing.T) {
	signer := someSigner(t)
	w, hub := outsideWorld(t, "room", signer)
	d := w.device("m3")
	nonce, err := NewPSKNonce(suite1)
	noError(t, err)
	psk := PreSharedKeyProposal(PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: nonce})
	// Every type that an external sender may propose is made and taken.
	for _, p := range []Proposal{
		AddProposal(w.device("m4").kp), RemoveProposal(1), psk,
		{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("next"), Version: MLS10, CipherSuite: suite1}},
		GroupContextExtensionsProposal(hub.State().Extensions()),
		AppDataUpdateProposal(testComponent, []byte("x")),
	} {
		m, err := hub.State().NewExternalProposal(signer, p, nil)
		noError(t, err)
		if m.PublicMessage.Content.Sender.Index != 1 {
			t.Fatalf("sender %+v", m.PublicMessage.Content.Sender)
		}
		if _, err := hub.Proposal(w.wire(m)); err != nil {
			t.Errorf("%v: %v", p.Type, err)
		}
		if _, err := w.groups["m1"].Proposal(w.wire(m)); err != nil {
			t.Errorf("%v: %v", p.Type, err)
		}
	}
	for _, p := range []Proposal{
		updateProposal(&d.kp.LeafNode), SelfRemoveProposal(),
		{Type: ProposalExternalInit, ExternalInit: &ExternalInit{KEMOutput: d.kp.InitKey}}, {Type: ProposalAdd},
	} {
		if _, err := hub.State().NewExternalProposal(signer, p, nil); !errors.Is(err, ErrInvalidProposal) {
			t.Errorf("external %v: %v", p.Type, err)
		}
	}
	if _, err := hub.State().NewExternalProposal(someSigner(t), psk, nil); !errors.Is(err, ErrUnknownSender) {
		t.Errorf("proposal of a stranger: %v", err)
	}
	if _, err := hub.State().NewMemberProposal(someSigner(t), d.kp, nil); !errors.Is(err, ErrKey) {
		t.Errorf("proposal with another's key: %v", err)
	}

	// A removal by the hub and a new member's own Add take effect.
	remove, err := hub.State().NewExternalProposal(signer, RemoveProposal(2), nil)
	noError(t, err)
	join, err := hub.State().NewMemberProposal(d.signer, d.kp, nil)
	noError(t, err)
	for _, m := range []*MLSMessage{remove, join} {
		w.deliverProposal("", m)
		q, err := hub.Proposal(w.wire(m))
		noError(t, err)
		noError(t, hub.Enqueue(q))
	}
	sc, err := w.groups["m1"].Commit(CommitOptions{})
	noError(t, err)
	got, err := hub.StageCommit(w.wire(sc.Message))
	noError(t, err)
	noError(t, hub.Merge(got))
	w.deliver("m1", sc, d)
	if len(w.names) != 3 || w.groups["m3"] == nil {
		t.Errorf("members are %v", w.names)
	}
}

// A proposal from outside is not bound to the GroupContext by its signature,
// but to the group and the epoch: it cannot be played back into another.
func TestProposalsFromOutsideAreNotReplayed(t *testing.T) {
	signer := someSigner(t)
	w, hub := outsideWorld(t, "room", signer)
	other, otherHub := outsideWorld(t, "other", signer)
	d := w.device("m3")
	refuse := func(m *MLSMessage, want error) {
		t.Helper()
		for _, x := range []*world{w, other} {
			before := groupImage(t, x.groups["m0"])
			if _, err := x.groups["m0"].Proposal(x.wire(m)); !errors.Is(err, want) {
				t.Errorf("member: got %v; want %v", err, want)
			}
			if !bytes.Equal(before, groupImage(t, x.groups["m0"])) {
				t.Error("a refused proposal changed the group")
			}
		}
		for _, h := range []*PublicGroup{hub, otherHub} {
			if _, err := h.Proposal(w.wire(m)); !errors.Is(err, want) {
				t.Errorf("hub: got %v; want %v", err, want)
			}
		}
	}
	for _, make := range []func(s *State, id []byte, e Epoch) *MLSMessage{
		func(_ *State, id []byte, e Epoch) *MLSMessage {
			m, err := NewExternalProposal(id, e, 1, signer, RemoveProposal(2), nil)
			noError(t, err)
			return m
		},
		func(_ *State, id []byte, e Epoch) *MLSMessage {
			m, err := NewMemberProposal(id, e, d.signer, d.kp, nil)
			noError(t, err)
			return m
		},
	} {
		s := hub.State()
		good := make(s, s.GroupID(), s.Epoch())
		if _, err := hub.Proposal(w.wire(good)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.groups["m0"].Proposal(w.wire(good)); err != nil {
			t.Fatal(err)
		}
		if _, err := other.groups["m0"].Proposal(w.wire(good)); !errors.Is(err, ErrWrongGroup) {
			t.Errorf("a proposal for another group: %v", err)
		}
		if _, err := otherHub.Proposal(w.wire(good)); !errors.Is(err, ErrWrongGroup) {
			t.Errorf("a proposal for another group: %v", err)
		}
		refuse(make(s, []byte("third"), s.Epoch()), ErrWrongGroup)
		for _, e := range []Epoch{s.Epoch() - 1, s.Epoch() + 1} {
			m := make(s, s.GroupID(), e)
			if _, err := w.groups["m0"].Proposal(w.wire(m)); !errors.Is(err, ErrWrongEpoch) {
				t.Errorf("a proposal of epoch %d: %v", e, err)
			}
			if _, err := hub.Proposal(w.wire(m)); !errors.Is(err, ErrWrongEpoch) {
				t.Errorf("a proposal of epoch %d: %v", e, err)
			}
			// Whoever changes the epoch or the group breaks the signature.
			m.PublicMessage.Content.raw = nil
			m.PublicMessage.Content.Epoch = s.Epoch()
			if _, err := hub.Proposal(w.wire(m)); !errors.Is(err, ErrInvalidSignature) {
				t.Errorf("a proposal whose epoch was changed: %v", err)
			}
			if _, err := w.groups["m0"].Proposal(w.wire(m)); !errors.Is(err, ErrInvalidSignature) {
				t.Errorf("a proposal whose epoch was changed: %v", err)
			}
		}
	}
}

func TestProposalsFromOutsideUseSafeAAD(t *testing.T) {
	signer := someSigner(t)
	senders := mustMarshal(ExternalSenders{{SignatureKey: signer.Public(), Credential: BasicCredential([]byte("hub"))}})
	dictionary := mustMarshal(AppDataDictionary{{ComponentSafeAAD, []byte{0}}})
	cfg := worldConfig()
	cfg.ExternalProposals = func(*State, *Proposal, uint32) error { return nil }
	w := newWorldWith(t, suite1, cfg, Extensions{{ExtensionExternalSenders, senders}, {ExtensionAppDataDictionary, dictionary}})
	hub := w.public()
	m, err := hub.State().NewExternalProposal(signer, GroupContextExtensionsProposal(nil), nil)
	noError(t, err)
	_, err = hub.Proposal(w.wire(m))
	noError(t, err)
	if _, err := hub.State().NewExternalProposal(signer, RemoveProposal(0), []byte("x")); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("authenticated data that is not a SafeAAD: %v", err)
	}
}
