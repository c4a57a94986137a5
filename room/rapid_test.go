package room

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A model is the room as a few maps: who is in with which role, and whose
// clients are in the group.
type model struct {
	roles   map[string]uint32          // by user name
	clients map[string]map[string]bool // by user name: client names
}

func (m *model) admins() int {
	n := 0
	for _, r := range m.roles {
		if r == RoleAdmin {
			n++
		}
	}
	return n
}

func (m *model) in(u string) bool { return m.roles[u] == RoleMember || m.roles[u] == RoleAdmin }

func (m *model) drop(u string) { delete(m.clients, u) }

func (m *model) add(u, c string) {
	if m.clients[u] == nil {
		m.clients[u] = make(map[string]bool)
	}
	m.clients[u][c] = true
}

// TestRoomAgainstModel plays random events, allowed and not, on an open room
// with one admin at least, and compares hub, replica and members with the
// model after each.
func TestRoomAgainstModel(t *testing.T) {
	names := []string{"alice", "bob@b.example", "carol@c.example", "dave", "erin@b.example"}
	rapid.Check(t, func(t *rapid.T) {
		tpl := mustTemplate(t, TemplateOpen)
		tpl.Roles[3].MinParticipants = 1
		w := newWorld(t, tpl)
		m := &model{map[string]uint32{"alice": RoleAdmin}, map[string]map[string]bool{"alice": {"alice/1": true}}}
		serial := 1
		fresh := func(u string) string { serial++; return fmt.Sprintf("%s/%d", u, serial) }
		anyUser := rapid.SampledFrom(names)
		// A committer is any client in the room.
		committer := func(t *rapid.T) (name, who string) {
			name = rapid.SampledFrom(w.names()).Draw(t, "committer")
			for u, cs := range m.clients {
				if cs[name] {
					return name, u
				}
			}
			t.Fatalf("%s is in the room, not in the model", name)
			return
		}
		settle := func(t *rapid.T, v verdict, allowed bool, what string, apply func()) {
			if (v.hub == nil) != allowed || (v.member == nil) != allowed {
				t.Fatalf("%s: allowed is %v, the verdict %+v\n%+v", what, allowed, v, m)
			}
			if allowed {
				apply()
			}
		}
		removals := func(u string) []mls.Proposal {
			var ps []mls.Proposal
			for _, c := range slices.Sorted(maps.Keys(m.clients[u])) {
				ps = append(ps, w.remove(c))
			}
			return ps
		}
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				u := anyUser.Draw(t, "user")
				role := rapid.SampledFrom([]uint32{RoleMember, RoleAdmin, RoleBanned}).Draw(t, "role")
				c := fresh(u)
				if m.roles[u] != RoleNone {
					v := w.join(c, nil)
					settle(t, v, m.in(u), "own client", func() { m.add(u, c) })
					return
				}
				v := w.join(c, nil, w.participants(nil, nil, []Participant{{user(u), role}}))
				settle(t, v, role == RoleMember, "open join", func() { m.roles[u] = role; m.add(u, c) })
			},
			"add": func(t *rapid.T) {
				by, who := committer(t)
				u := anyUser.Draw(t, "user")
				c := fresh(u)
				if m.roles[u] == RoleNone {
					role := rapid.SampledFrom([]uint32{RoleMember, RoleAdmin, RoleBanned}).Draw(t, "role")
					v := w.commit(by, mls.CommitOptions{Proposals: []mls.Proposal{
						w.participants(nil, nil, []Participant{{user(u), role}})}}, w.keyPackage(c))
					settle(t, v, m.roles[who] == RoleAdmin && role != RoleBanned, "add "+u, func() { m.roles[u] = role; m.add(u, c) })
					return
				}
				v := w.commit(by, mls.CommitOptions{}, w.keyPackage(c))
				settle(t, v, m.in(u) && (u == who || m.roles[who] == RoleAdmin), "add client of "+u, func() { m.add(u, c) })
			},
			"remove": func(t *rapid.T) {
				by, who := committer(t)
				u := anyUser.Draw(t, "user")
				if m.roles[u] == RoleNone {
					t.Skip("not there")
				}
				ps := []mls.Proposal{w.participants(nil, []mimi.URI{user(u)}, nil)}
				complete := rapid.Bool().Draw(t, "complete") || len(m.clients[u]) == 0
				if complete && u != who {
					ps = append(ps, removals(u)...)
				}
				allowed := m.roles[who] == RoleAdmin && u != who && complete && (m.roles[u] != RoleAdmin || m.admins() > 1)
				settle(t, w.by(by, ps...), allowed, "remove "+u, func() { delete(m.roles, u); m.drop(u) })
			},
			"role": func(t *rapid.T) {
				by, who := committer(t)
				u := anyUser.Draw(t, "user")
				if m.roles[u] == RoleNone {
					t.Skip("not there")
				}
				role := rapid.SampledFrom([]uint32{RoleMember, RoleAdmin, RoleBanned}).Draw(t, "role")
				ps := []mls.Proposal{w.participants([]Participant{{user(u), role}}, nil, nil)}
				if role == RoleBanned && u != who {
					ps = append(ps, removals(u)...)
				}
				allowed := m.roles[who] == RoleAdmin && u != who && role != m.roles[u] && (m.roles[u] != RoleAdmin || m.admins() > 1)
				settle(t, w.by(by, ps...), allowed, "role of "+u, func() {
					m.roles[u] = role
					if role == RoleBanned {
						m.drop(u)
					}
				})
			},
			"kick": func(t *rapid.T) {
				by, who := committer(t)
				u := anyUser.Draw(t, "user")
				ps := removals(u)
				if u == who || len(ps) == 0 {
					t.Skip("nobody to kick")
				}
				settle(t, w.by(by, ps...), m.roles[who] == RoleAdmin, "kick "+u, func() { m.drop(u) })
			},
			"leave": func(t *rapid.T) {
				if len(w.names()) < 2 {
					t.Skip("alone")
				}
				by, who := committer(t)
				ps := []mls.Proposal{mls.SelfRemoveProposal()}
				for _, c := range slices.Sorted(maps.Keys(m.clients[who])) {
					if c != by {
						ps = append(ps, w.remove(c))
					}
				}
				var committers []string
				for _, n := range w.names() {
					if !m.clients[who][n] {
						committers = append(committers, n)
					}
				}
				if len(committers) == 0 || m.roles[who] == RoleAdmin && m.admins() == 1 {
					t.Skip("nobody would be left to commit, or no admin")
				}
				ps = append(ps, w.participants(nil, []mimi.URI{user(who)}, nil))
				if err := w.propose(by, ps...); err != nil {
					t.Fatalf("leave of %s: %v", who, err)
				}
				if w.hub.Effective().Policy().IsParticipant(user(who)) {
					t.Fatalf("%s is still there in the effective state", who)
				}
				v := w.commit(rapid.SampledFrom(committers).Draw(t, "who commits"), mls.CommitOptions{})
				settle(t, v, true, "commit the leave", func() { delete(m.roles, who); m.drop(who) })
			},
			"name": func(t *rapid.T) {
				by, who := committer(t)
				name := rapid.StringMatching("[a-z]{1,8}").Draw(t, "name")
				if name == w.hub.Committed().Policy().Meta.Name {
					t.Skip("no change")
				}
				v := w.by(by, w.metadata(func(meta *RoomMetadata) { meta.Name = name }))
				settle(t, v, m.roles[who] == RoleAdmin, "rename", func() {})
			},
			"": func(t *rapid.T) {
				v := w.hub.Committed()
				if len(v.Policy().Participants) != len(m.roles) {
					t.Fatalf("%v, the model has %v", v.Policy().Participants, m.roles)
				}
				clients := 0
				for u, r := range m.roles {
					if v.Policy().RoleIndex(user(u)) != r {
						t.Fatalf("%s has role %d, the model says %d", u, v.Policy().RoleIndex(user(u)), r)
					}
					if len(v.ClientsOf(user(u))) != len(m.clients[u]) {
						t.Fatalf("%s has %v, the model says %v", u, v.ClientsOf(user(u)), m.clients[u])
					}
					clients += len(m.clients[u])
					if may := v.AuthoriseSend(user(u)) == nil; may != (m.in(u) && len(m.clients[u]) > 0) {
						t.Fatalf("%s may send: %v", u, may)
					}
				}
				if clients != v.NumClients() || v.NumClients() != len(w.members) {
					t.Fatalf("%d clients, the model has %d", v.NumClients(), clients)
				}
				if !w.hub.Committed().Policy().IsParticipant(user("alice")) && m.in("alice") {
					t.Fatalf("alice")
				}
			},
		})
	})
}
