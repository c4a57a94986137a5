package replica_test

import (
	"slices"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/fedtest"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// A provider whose clients came in and were gone again while it was away
// cannot begin to follow any more: the hub does not show it the room. It still
// takes what it missed, so that its devices learn of both and the hub is done
// with it; and it begins anew when somebody is added later.
func TestGoneBeforeTheAnchor(t *testing.T) {
	w := fedtest.New(t, quick)
	a, b := w.Start("a.example"), w.Start("b.example")
	alice, bert, bob := a.Enrol("alice", "1"), b.Enrol("bert", "1"), b.Enrol("bob", "1")
	uri := alice.Create("club", room.TemplateGroup)
	resp, err := alice.Claim(uri, bert.User)
	w.OK(err)
	// The CA of b is known before b goes.
	w.OK(a.Verifier.VerifyCredential(&bert.Cred, bert.Signer.Public(), time.Now()))
	b.Stop()
	add, err := alice.Rooms[uri].Participants(nil, nil, []room.Participant{{User: bert.User, Role: room.RoleMember}})
	w.OK(err)
	w.OK(alice.Commit(uri, mls.CommitOptions{Proposals: []mls.Proposal{add, mls.AddProposal(resp.Clients[0].KeyPackage)}}))
	w.OK(alice.Sync())
	w.OK(alice.Say(uri, "hello bert"))
	w.OK(alice.Remove(uri, bert.User))
	w.OK(alice.Sync())
	w.OK(alice.Say(uri, "he is gone"))
	w.Start("b.example")

	w.Until("bert is gone", func() bool { return bert.Rooms[uri] != nil && bert.Rooms[uri].Gone }, bert)
	if got := texts(bert.Rooms[uri]); !slices.Equal(got, []string{"alice: hello bert"}) {
		t.Errorf("bert read %q", got)
	}
	w.Until("the hub has nothing more for b", func() bool {
		cursors, err := a.Store.PeerCursors(t.Context(), "b.example", "", 10)
		w.OK(err)
		return len(cursors) == 0
	})
	at, bt := logOf(t, a, uri), logOf(t, b, uri)
	if len(bt) != len(at)-1 {
		t.Errorf("the copy holds %d events, the hub %d", len(bt), len(at))
	}
	for i := range bt {
		if string(bt[i].Body) != string(at[i].Body) {
			t.Errorf("event %d of the copy is not that of the hub", i+1)
		}
	}

	w.OK(alice.Add(uri, bob.User))
	w.OK(alice.Sync())
	w.OK(alice.Say(uri, "hello bob"))
	said(t, w, uri, []string{"alice: hello bob"}, bob, alice)
	w.OK(bob.Say(uri, "hello alice"))
	said(t, w, uri, []string{"bob: hello alice"}, alice, bob)
	windows, err := b.Store.Members(t.Context(), uri.String())
	w.OK(err)
	if len(windows) != 1 || windows[0].Device != bob.URI.String() {
		t.Errorf("after the anchor %v may read on; want bob", windows)
	}
	if n := b.Heard.Refusals("a.example"); n != 0 {
		t.Errorf("%d notifications could not be verified", n)
	}
}

// A provider whose last client was removed, and whose next one comes in by a
// commit of that very epoch, has missed the proposals that were made between.
func TestBackInTheSameEpoch(t *testing.T) {
	w := fedtest.New(t, quick)
	a, b := w.Start("a.example"), w.Start("b.example")
	alice, ann, bob, bert := a.Enrol("alice", "1"), a.Enrol("ann", "1"), b.Enrol("bob", "1"), b.Enrol("bert", "1")
	uri := alice.Create("club", room.TemplateOpen)
	w.OK(alice.Add(uri, ann.User, bob.User))
	w.Until("ann and bob are in", func() bool { return ann.Rooms[uri] != nil && bob.Rooms[uri] != nil }, alice, ann, bob)
	w.OK(alice.Remove(uri, bob.User))
	w.Until("bob is gone", func() bool { return bob.Rooms[uri].Gone }, alice, ann, bob)
	w.OK(ann.Leave(uri))
	w.OK(alice.Sync())
	w.OK(alice.Add(uri, bert.User)) // in one commit with what ann proposed
	w.Until("ann is gone", func() bool { return ann.Rooms[uri].Gone }, alice, ann, bert)
	w.OK(alice.Say(uri, "hello bert"))
	said(t, w, uri, []string{"alice: hello bert"}, alice, bert)
	if n := b.Heard.Refusals("a.example"); n != 0 {
		t.Errorf("%d notifications could not be verified", n)
	}
}
