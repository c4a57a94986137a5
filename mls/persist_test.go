package mls

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// protect encrypts content of g as a PrivateMessage.
func protect(t testing.TB, g *Group, c FramedContent, tag func(a *AuthenticatedContent)) *MLSMessage {
	t.Helper()
	c.GroupID, c.Epoch, c.Sender = g.state.GroupID(), g.state.Epoch(), MemberSender(g.own)
	a := &AuthenticatedContent{WireFormat: WirePrivateMessage, Content: c}
	noError(t, a.sign(g.signer, g.state.contextBytes()))
	if tag != nil {
		tag(a)
	}
	k, generation, err := g.tree.take(g.own, handshakeRatchet)
	noError(t, err)
	m, err := a.private(g.suite, k, generation, g.epoch.senderData)
	noError(t, err)
	return &MLSMessage{WireFormat: WirePrivateMessage, PrivateMessage: m}
}

// Handshake messages of others may come as PrivateMessages: a proposal opens
// once and survives storage, the key of a commit is used up by Merge only.
func TestPrivateHandshake(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	w.stores = map[string]map[string][]byte{"m1": {}}
	w.reload("m1")
	from := w.groups["m0"]
	p := RemoveProposal(2)
	m := protect(t, from, FramedContent{ContentType: ContentProposal, Proposal: &p}, nil)
	q, err := w.groups["m1"].Proposal(w.wire(m))
	noError(t, err)
	noError(t, w.groups["m1"].Enqueue(q))
	w.reload("m1")
	if _, err := w.groups["m1"].Proposal(w.wire(m)); !errors.Is(err, ErrReplay) {
		t.Errorf("the proposal opens twice: %v", err)
	}
	if n := len(w.groups["m1"].Pending()); n != 1 {
		t.Fatalf("%d proposals are pending", n)
	}

	// A commit of m0 that refers to it.
	pending := w.groups["m1"].Pending()
	st, err := from.state.stageProposals(from.cfg, pending, MemberSender(0))
	noError(t, err)
	leaf, signer := from.template(nil)
	path, err := st.createPath(leaf, signer)
	noError(t, err)
	commit := &Commit{Proposals: []ProposalOrRef{{Reference: q.Ref}}, Path: path.path}
	m = protect(t, from, FramedContent{ContentType: ContentCommit, Commit: commit}, func(a *AuthenticatedContent) {
		_, _, secrets, err := st.derive(a, from.epoch.init, path.commitSecret, nil)
		noError(t, err)
		a.Auth.ConfirmationTag = from.suite.confirmationTag(secrets.confirmation, st.context.ConfirmedTranscriptHash)
	})
	g := w.groups["m1"]
	before := groupImage(t, g)
	for range 2 { // staging changes nothing, so it can be repeated
		sc, err := g.StageCommit(w.wire(m))
		noError(t, err)
		if len(sc.Removed) != 1 || sc.Removed[0].Index != 2 {
			t.Fatalf("removed: %v", sc.Removed)
		}
		if !bytes.Equal(before, groupImage(t, g)) {
			t.Fatal("staging changed the group")
		}
	}
	// Messages that come between staging and merging stay consumed.
	sc, err := g.StageCommit(w.wire(m))
	noError(t, err)
	say, err := from.Encrypt([]byte("in between"), nil)
	noError(t, err)
	_, err = g.Decrypt(w.wire(say))
	noError(t, err)
	noError(t, g.Merge(sc))
	w.reload("m1")
	if _, err := w.groups["m1"].Decrypt(w.wire(say)); !errors.Is(err, ErrReplay) {
		t.Errorf("the message opens again: %v", err)
	}
}

// Damaged records are found, or at least do no harm.
func TestDamagedRecords(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	w.commit("m1", CommitOptions{})
	w.propose("m2", SelfRemoveProposal())
	g := w.groups["m0"]
	records := map[string][]byte{}
	store(t, g, records)
	for key, value := range records {
		essential := key == keyState || key == keyMember || strings.HasPrefix(key, keyNode)
		delete(records, key)
		if _, err := LoadGroup(w.cfg, records, g.signer); err == nil && essential {
			t.Errorf("record %q is missing, and nobody notices", key)
		}
		for i := 0; i < len(value); i += 1 + len(value)/37 {
			bad := bytes.Clone(value)
			bad[i] ^= 0x41
			records[key] = bad
			again, err := LoadGroup(w.cfg, records, g.signer)
			if err != nil {
				noSecrets(t, err, g)
				continue
			}
			// A changed secret cannot be found, but must not cause a panic.
			_, _ = again.Encrypt([]byte("x"), nil)
			_, _ = again.Commit(CommitOptions{})
		}
		for _, cut := range [][]byte{nil, value[:len(value)/2], append(bytes.Clone(value), 0)} {
			records[key] = cut
			if _, err := LoadGroup(w.cfg, records, g.signer); err == nil {
				t.Errorf("record %q of %d octets instead of %d is accepted", key, len(cut), len(value))
			}
		}
		records[key] = value
	}
	other, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	if _, err := LoadGroup(w.cfg, records, other); !errors.Is(err, ErrKey) {
		t.Errorf("a group is loaded with another's signer: %v", err)
	}
	_, err = LoadGroup(w.cfg, records, g.signer)
	noError(t, err)
}
