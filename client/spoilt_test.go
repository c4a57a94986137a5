package client_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// spoilLeave lets a peer leave with proposals of which the given ones have a
// membership tag that no hub can verify. The hub accepts them.
func (p *peer) spoilLeave(spoil ...int) {
	p.t.Helper()
	v, err := p.View(p.ctx(), club)
	p.must(err)
	update, err := v.Policy().Participants.Update(nil, []mimi.URI{p.User()}, nil)
	p.must(err)
	data, err := mls.Marshal(update)
	p.must(err)
	g, _ := p.puppet()
	var req mimi.UpdateRequest
	for i, proposal := range []mls.Proposal{mls.SelfRemoveProposal(), mls.AppDataUpdateProposal(mimi.ComponentParticipantList, data)} {
		m, err := g.Propose(proposal, nil)
		p.must(err)
		if slices.Contains(spoil, i) {
			m.PublicMessage.MembershipTag[0] ^= 1
		}
		if i == 0 {
			req.Message = *m
		} else {
			req.MoreProposals = append(req.MoreProposals, *m)
		}
	}
	body, err := mls.Marshal(&req)
	p.must(err)
	p.hub.hook(func() {
		r := p.hub.rooms[club.String()]
		status, answer := p.hub.update(p.hub.devices[p.Device().String()], r, club, body)
		var resp mimi.UpdateRoomResponse
		if err := mls.Unmarshal(bytes.Clone(answer), &resp); err != nil || resp.Code != mimi.UpdateSuccess {
			p.t.Fatalf("the hub answers %d, %+v, %v", status, resp, err)
		}
	})
}

var spoiltLeaves = map[string][]int{"SelfRemove": {0}, "list": {1}, "all": {0, 1}}

// A leave with a wrong membership tag does not freeze the room for those who
// stay: who joins must name the SelfRemove, and members follow.
func TestSpoiltLeaveBeforeJoin(t *testing.T) {
	for name, spoil := range spoiltLeaves {
		t.Run(name, func(t *testing.T) {
			h := newTestHub(t)
			a, b, c, d := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(carol, "phone"), h.peer(dora, "phone")
			a.create(room.TemplateOpen)
			for _, p := range []*peer{b, c} {
				p.must(p.JoinOpen(p.ctx(), club))
			}
			for _, p := range []*peer{a, b, c} {
				p.sync()
			}
			b.spoilLeave(spoil...)
			a.sync()
			a.crash(0) // the mark is not forgotten
			a.active()
			d.must(d.JoinOpen(d.ctx(), club))
			b.status(client.RoomLeft)
			d.say("hi")
			a.sync()
			a.say("you too")
			c.sync()
			for _, p := range []*peer{a, c, d} {
				p.sync()
				if got := p.texts(); !slices.Equal(got, []string{"dora: hi", "alice: you too"}) {
					t.Errorf("%v has %q", p.Device(), got)
				}
			}
			wantProblems(c, client.ProblemProposal)
			v, err := a.View(a.ctx(), club)
			a.must(err)
			if v.Policy().IsParticipant(bob) {
				t.Error("bob is still in the list")
			}
		})
	}
}

// Members without any rights go on, too: their commits remove the client that
// asked for it, without naming its proposal.
func TestSpoiltLeaveBeforeCommit(t *testing.T) {
	for name, spoil := range spoiltLeaves {
		t.Run(name, func(t *testing.T) {
			h := newTestHub(t)
			a, b, c := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(carol, "phone")
			a.create(room.TemplateGroup)
			a.must(a.AddUsers(a.ctx(), club, bob, carol))
			for _, p := range []*peer{a, b, c} {
				p.active()
				p.sync()
			}
			b.spoilLeave(spoil...)
			a.say("before") // what is spoilt does not keep anyone from talking
			c.sync()
			c.must(c.UpdateKeys(c.ctx(), club))
			b.status(client.RoomLeft)
			c.say("after")
			a.sync()
			if got := a.texts(); !slices.Equal(got, []string{"alice: before", "carol: after"}) {
				t.Errorf("alice has %q", got)
			}
			wantProblems(a, client.ProblemProposal)
		})
	}
}

// They do so by themselves, and another leave is not held up.
func TestSpoiltLeaveAutoCommit(t *testing.T) {
	h := newTestHub(t)
	soon := func(c *client.Config) { c.AutoCommit = 2 * time.Millisecond }
	a, b, c := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(carol, "phone", soon)
	a.create(room.TemplateOpen)
	b.must(b.JoinOpen(b.ctx(), club))
	c.must(c.JoinOpen(c.ctx(), club))
	b.sync()
	b.spoilLeave(0)
	b.status(client.RoomLeft)
	c.sync()
	a.sync()
	a.say("still here")
	wantProblems(a, client.ProblemProposal)
}
