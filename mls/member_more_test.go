package mls

import (
	"bytes"
	"errors"
	"testing"
)

// Every message has its own generation and its own reuse guard.
func TestGenerationsAndGuards(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	from, to := w.groups["m0"], w.groups["m1"]
	guards := map[[4]byte]bool{}
	first := from.tree.senders[0][applicationRatchet].next
	for i := range uint32(20) {
		m, err := from.Encrypt([]byte("same"), nil)
		noError(t, err)
		sd, err := m.PrivateMessage.openSenderData(from.suite, from.epoch.senderData)
		noError(t, err)
		guards[sd.guard] = true
		got, err := to.Decrypt(m)
		noError(t, err)
		if got.Generation != first+i || sd.generation != first+i {
			t.Fatalf("message %d has generation %d", i, got.Generation)
		}
	}
	if len(guards) < 19 {
		t.Errorf("only %d reuse guards in 20 messages", len(guards))
	}
}

// A prefix of a MAC is not the MAC (OpenMLS GHSA-8x3w-qj7j-gqhf).
func TestShortMACs(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	sc, err := w.groups["m0"].Commit(CommitOptions{})
	noError(t, err)
	full := sc.Message.PublicMessage.MembershipTag
	for _, n := range []int{0, 1, 31} {
		m := *sc.Message.PublicMessage
		m.MembershipTag = full[:n]
		w.refuses("m1", &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: &m}, ErrInvalidMessage)
	}
	g := w.groups["m0"]
	tag := sc.Message.PublicMessage.Auth.ConfirmationTag
	for _, n := range []int{0, 1, 31} {
		m := *sc.Message.PublicMessage
		m.Auth.ConfirmationTag = tag[:n]
		m.MembershipTag, err = m.authenticated().membershipTag(g.suite, g.epoch.membership, g.state.contextBytes())
		noError(t, err)
		w.refuses("m1", &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: &m}, ErrInvalidCommit)
	}
	w.deliver("m0", sc)
}

// Groups may have extensions that this package does not know, if all members
// say that they do (hole G).
func TestForeignExtension(t *testing.T) {
	const foreign ExtensionType = 0xf123
	caps := DefaultCapabilities()
	caps.Extensions = append(caps.Extensions, foreign)
	signer, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	params := GroupParams{
		CipherSuite: suite1, Signer: signer, Credential: BasicCredential([]byte("m0")),
		Extensions: Extensions{{foreign, []byte("content")}},
	}
	if _, err := CreateGroup(worldConfig(), params); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a group is created with an extension that its creator does not support: %v", err)
	}
	params.Capabilities = caps
	g, err := CreateGroup(worldConfig(), params)
	noError(t, err)
	w := &world{TB: t, suite: suite1, cfg: worldConfig(), groups: map[string]*Group{}}
	w.join("m0", g)
	plain := w.device("m1")
	if _, err := g.Commit(CommitOptions{Proposals: []Proposal{AddProposal(plain.kp)}}); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a client is added that does not support the group's extension: %v", err)
	}
	w.refuses("m0", forge(t, g, byValue(AddProposal(plain.kp)), nil), ErrInvalidCommit)
	able := &device{name: "m1", signer: plain.signer}
	able.kp, able.priv, err = NewKeyPackage(KeyPackageParams{
		CipherSuite: suite1, Signer: plain.signer, Credential: BasicCredential([]byte("m1")), Capabilities: caps,
	})
	noError(t, err)
	w.commit("m0", CommitOptions{Proposals: []Proposal{AddProposal(able.kp)}}, able)
	data, ok := w.groups["m1"].State().Extensions().Find(foreign)
	if !ok || !bytes.Equal(data, []byte("content")) {
		t.Error("the extension got lost")
	}
}

// Exports agree among members, and differ by label, context and epoch.
func TestExport(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	seen := map[string]bool{}
	for range 2 {
		for _, label := range []string{"a", "b"} {
			for _, context := range []string{"", "x"} {
				a, err := w.groups["m0"].Export(label, []byte(context), 40)
				noError(t, err)
				b, err := w.groups["m1"].Export(label, []byte(context), 40)
				noError(t, err)
				equal(t, "export", a, b)
				if len(a) != 40 || seen[string(a)] {
					t.Errorf("export of %q %q is not its own", label, context)
				}
				seen[string(a)] = true
			}
		}
		w.commit("m1", CommitOptions{})
	}
	if _, err := w.groups["m0"].Export("a", nil, 1<<20); !errors.Is(err, ErrLimit) {
		t.Errorf("a mebioctet is exported: %v", err)
	}
}

// Pre-shared keys must be known to all, and the resumption keys of this group
// are.
func TestPreSharedKeys(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	w.commit("m1", CommitOptions{})
	nonce, err := NewPSKNonce(suite1)
	noError(t, err)
	g := w.groups["m0"]
	resume := PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: g.State().GroupID(), Epoch: g.State().Epoch() - 1, Nonce: nonce}
	w.commit("m0", CommitOptions{Proposals: []Proposal{PreSharedKeyProposal(resume)}})
	app := PreSharedKeyID{Type: PSKApplication, ComponentID: testComponent, ID: []byte("shared"), Nonce: nonce}
	w.commit("m0", CommitOptions{Proposals: []Proposal{PreSharedKeyProposal(app)}})
	unknown := PreSharedKeyID{Type: PSKExternal, ID: []byte("unknown"), Nonce: nonce}
	if _, err := g.Commit(CommitOptions{Proposals: []Proposal{PreSharedKeyProposal(unknown)}}); !errors.Is(err, ErrPSK) {
		t.Errorf("commits with an unknown key: %v", err)
	}
	w.refuses("m1", forge(t, w.groups["m0"], byValue(PreSharedKeyProposal(unknown)), nil), ErrPSK)
	short := PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: nonce[1:]}
	w.refuses("m1", forge(t, w.groups["m0"], byValue(PreSharedKeyProposal(short)), nil), ErrInvalidProposal)
	branch := PreSharedKeyID{Type: PSKResumption, Usage: ResumptionBranch, GroupID: []byte("x"), Nonce: nonce}
	w.refuses("m1", forge(t, w.groups["m0"], byValue(PreSharedKeyProposal(branch)), nil), ErrInvalidProposal)
}

// What is pending is committed as far as it may be, and conflicts are solved.
func TestCommittable(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2", "m3", "m4")
	for _, n := range []string{"m0", "m1", "m2"} {
		m, err := w.groups[n].ProposeUpdate(LeafParams{}, nil)
		noError(t, err)
		w.deliverProposal(n, m)
	}
	w.propose("m3", RemoveProposal(w.groups["m1"].OwnLeaf())) // supersedes the Update
	w.propose("m3", RemoveProposal(w.groups["m4"].OwnLeaf()))
	w.propose("m4", SelfRemoveProposal()) // supersedes the Remove
	twice, err := w.groups["m4"].Propose(SelfRemoveProposal(), nil)
	noError(t, err)
	if len(w.groups["m4"].Pending()) != 6 || twice == nil {
		t.Fatalf("%d proposals are pending", len(w.groups["m4"].Pending()))
	}
	w.propose("m2", RemoveProposal(w.groups["m0"].OwnLeaf())) // nobody removes the committer
	m2 := w.groups["m2"].keys[leafPosition(w.groups["m2"].OwnLeaf())]
	sc := w.commit("m0", CommitOptions{Proposals: []Proposal{RemoveProposal(w.groups["m1"].OwnLeaf())}})
	if len(sc.Removed) != 2 || len(sc.Updated) != 1 || sc.Updated[0] != 2 {
		t.Errorf("removed %v, updated %v", sc.Removed, sc.Updated)
	}
	if bytes.Equal(m2, w.groups["m2"].keys[leafPosition(2)]) {
		t.Error("m2 keeps its old key")
	}
	for _, q := range sc.Proposals {
		if q.Proposal.Type == ProposalRemove && q.Proposal.Remove.Removed == 4 {
			t.Error("the Remove of m4 is committed beside its SelfRemove")
		}
	}
}
