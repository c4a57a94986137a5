package replica_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/comity-im/comity/internal/fedtest"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/room"
)

func texts(m *fedtest.Member) []string {
	if m == nil {
		return nil
	}
	return m.Texts
}

// said waits until the newest messages that every device has read are want.
func said(t *testing.T, w *fedtest.World, uri mimi.URI, want []string, devices ...*fedtest.Device) {
	t.Helper()
	w.Until(fmt.Sprint(want), func() bool {
		for _, d := range devices {
			got := texts(d.Rooms[uri])
			if len(got) < len(want) || !slices.Equal(got[len(got)-len(want):], want) {
				return false
			}
		}
		return true
	}, devices...)
}

func TestThreeProvidersTalk(t *testing.T) {
	w := fedtest.New(t, fedtest.Options{})
	a, b, c := w.Start("a.example"), w.Start("b.example"), w.Start("c.example")
	alice, bob1, bob2, cathy := a.Enrol("alice", "1"), b.Enrol("bob", "1"), b.Enrol("bob", "2"), c.Enrol("cathy", "1")
	uri := alice.Create("club", room.TemplateGroup)
	w.OK(alice.Say(uri, "alone"))
	w.OK(alice.Sync())
	w.OK(alice.Add(uri, bob1.User))
	w.Until("bob joins", func() bool { return bob1.Rooms[uri] != nil && bob2.Rooms[uri] != nil }, alice, bob1, bob2)
	w.OK(bob1.Say(uri, "hello"))
	said(t, w, uri, []string{"bob: hello"}, bob1, bob2, alice)
	w.OK(alice.Add(uri, cathy.User))
	w.Until("cathy joins", func() bool { return cathy.Rooms[uri] != nil }, alice, bob1, bob2, cathy)
	w.OK(cathy.Say(uri, "I am Cathy"))
	w.OK(bob2.Say(uri, "welcome"))
	said(t, w, uri, []string{"cathy: I am Cathy", "bob: welcome"}, alice, bob1, bob2, cathy)

	// Bob leaves; Alice commits it; his provider gets the commit and no more.
	w.OK(bob1.Leave(uri))
	w.Until("the proposals", func() bool { return len(alice.Rooms[uri].Group.Pending()) == 3 }, alice)
	w.OK(alice.Commit(uri, commitPending))
	w.Until("bob is gone", func() bool { return bob1.Rooms[uri].Gone && bob2.Rooms[uri].Gone }, alice, bob1, bob2, cathy)
	w.OK(alice.Say(uri, "bob has left"))
	said(t, w, uri, []string{"alice: bob has left"}, alice, cathy)
	w.OK(bob1.Sync())
	if got := texts(bob1.Rooms[uri]); got[len(got)-1] == "alice: bob has left" {
		t.Error("bob reads on")
	}
	for _, p := range []*fedtest.Provider{b, c} {
		if n := p.Heard.Refusals("a.example"); n != 0 {
			t.Errorf("%s could not verify %d notifications", p.Domain, n)
		}
	}

	// He comes back: the copy, which missed an epoch, is anchored anew.
	w.OK(alice.Add(uri, bob1.User))
	w.Until("bob is back", func() bool { return !bob1.Rooms[uri].Gone && !bob2.Rooms[uri].Gone }, alice, bob1, bob2, cathy)
	w.OK(bob2.Say(uri, "back"))
	said(t, w, uri, []string{"bob: back"}, alice, bob1, bob2, cathy)
}
