package room

import (
	"errors"
	"slices"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// roleActor is the role whose capabilities a test varies.
const roleActor uint32 = 4

// allCapabilities are those that this version knows a rule for, without
// canOpenJoin, which only role 0 may have.
var allCapabilities = []Capability{
	CanAddParticipant, CanRemoveParticipant, CanAddOwnClient, CanRemoveOwnClient, CanJoinIfPreauthorized, CanRemoveSelf,
	CanUseJoinCode, CanBan, CanUnban, CanKick, CanChangeUserRole, CanChangeOwnRole, CanSendMessage,
	CanChangeRoomName, CanChangeRoomDescription, CanChangeRoomAvatar, CanChangeRoomSubject, CanChangeRoomMood,
	CanDestroyRoom, CanChangeRoomMembershipStyle, CanChangeRoleDefinitions, CanChangePreauthorizedUserList,
	CanChangeOtherPolicyAttribute, CanChangeMLSOperationalPolicies, CanSendMLSReinitProposal,
}

func every(from []uint32) []RoleTargets {
	var t []RoleTargets
	for _, f := range from {
		t = append(t, RoleTargets{f, []uint32{RoleNone, RoleBanned, RoleMember, RoleAdmin, roleActor}})
	}
	return t
}

// actorTemplate has a role "actor" with the given capabilities, held by Bob.
func actorTemplate(t tb, caps []Capability, noneCaps []Capability, changes []RoleTargets) *Template {
	tpl := mustTemplate(t, TemplateGroup)
	tpl.Roles = append(slices.Clone(tpl.Roles), Role{Index: roleActor, Name: "actor", Capabilities: caps, Changes: changes})
	tpl.Roles[0].Capabilities = noneCaps
	tpl.Roles[0].Changes = []RoleTargets{{RoleNone, []uint32{RoleMember}}}
	tpl.Roles[3].MinParticipants = 0
	tpl.Roles[3].Changes = every([]uint32{RoleNone, RoleBanned, RoleMember, RoleAdmin, roleActor})
	return tpl
}

// stage sets up: alice (admin) with a client, bob (actor) with two, carol
// (member) with one, dave (member) without, eve (banned).
func stage(t tb, tpl *Template) *world {
	bob, carol, dave, eve := user("bob"), user("carol"), user("dave"), user("eve")
	w := newWorld(t, tpl)
	w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{w.participants(nil, nil, []Participant{
		{bob, roleActor}, {carol, RoleMember}, {dave, RoleMember}, {eve, RoleBanned}})}},
		w.keyPackage("bob/1"), w.keyPackage("bob/2"), w.keyPackage("carol/1")), "set the stage", nil)
	return w
}

func (w *world) metadata(change func(*RoomMetadata)) mls.Proposal {
	meta := w.hub.Committed().Policy().Meta
	change(&meta)
	b, err := mls.Marshal(&meta)
	w.ok(err)
	return mls.AppDataUpdateProposal(mimi.ComponentRoomMetadata, b)
}

func (w *world) component(id mls.ComponentID, v tlspl.Marshaler) mls.Proposal {
	b, err := mls.Marshal(v)
	w.ok(err)
	return mls.AppDataUpdateProposal(id, b)
}

func (w *world) by(name string, ps ...mls.Proposal) verdict {
	return w.commit(name, mls.CommitOptions{Proposals: ps, ForcePath: true})
}

// bundle sends proposals to the hub and lets alice commit them.
func (w *world) bundle(name string, ps ...mls.Proposal) verdict {
	if err := w.propose(name, ps...); err != nil {
		return verdict{err, err}
	}
	return w.commit("alice/1", mls.CommitOptions{})
}

type ruleTest struct {
	name string
	need []Capability // with these alone it is allowed
	or   []Capability // other ways, taken away for the denial too
	do   func(w *world) verdict
	none bool // the capability belongs to role 0
}

var ruleTests = []ruleTest{
	{"canAddParticipant", []Capability{CanAddParticipant}, nil, func(w *world) verdict {
		return w.commit("bob/1", mls.CommitOptions{Proposals: []mls.Proposal{
			w.participants(nil, nil, []Participant{{user("frank"), RoleMember}})}}, w.keyPackage("frank/1"))
	}, false},
	{"canAddParticipant, inactive", []Capability{CanAddParticipant}, nil, func(w *world) verdict {
		return w.by("bob/1", w.participants(nil, nil, []Participant{{user("frank"), RoleMember}}))
	}, false},
	{"canAddParticipant, clients of a participant", []Capability{CanAddParticipant}, nil, func(w *world) verdict {
		return w.commit("bob/1", mls.CommitOptions{}, w.keyPackage("dave/1"))
	}, false},
	{"canRemoveParticipant", []Capability{CanRemoveParticipant}, nil, func(w *world) verdict {
		return w.by("bob/1", w.participants(nil, []mimi.URI{user("carol")}, nil), w.remove("carol/1"))
	}, false},
	{"canRemoveParticipant, inactive", []Capability{CanRemoveParticipant}, nil, func(w *world) verdict {
		return w.by("bob/1", w.participants(nil, []mimi.URI{user("dave")}, nil))
	}, false},
	{"canRemoveParticipant, by proposals", []Capability{CanRemoveParticipant}, nil, func(w *world) verdict {
		return w.bundle("bob/1", w.participants(nil, []mimi.URI{user("carol")}, nil), w.remove("carol/1"))
	}, false},
	{"canAddOwnClient, Add", []Capability{CanAddOwnClient}, nil, func(w *world) verdict {
		return w.commit("bob/1", mls.CommitOptions{}, w.keyPackage("bob/3"))
	}, false},
	{"canAddOwnClient, external commit", []Capability{CanAddOwnClient}, nil, func(w *world) verdict {
		return w.join("bob/3", nil)
	}, false},
	{"canRemoveOwnClient, Remove", []Capability{CanRemoveOwnClient}, nil, func(w *world) verdict {
		return w.by("bob/1", w.remove("bob/2"))
	}, false},
	{"canRemoveOwnClient, SelfRemove", []Capability{CanRemoveOwnClient}, nil, func(w *world) verdict {
		return w.bundle("bob/2", mls.SelfRemoveProposal())
	}, false},
	{"canOpenJoin", []Capability{CanOpenJoin}, nil, func(w *world) verdict {
		return w.join("frank/1", nil, w.participants(nil, nil, []Participant{{user("frank"), RoleMember}}))
	}, true},
	{"canRemoveSelf", []Capability{CanRemoveSelf}, nil, func(w *world) verdict {
		return w.bundle("bob/1", mls.SelfRemoveProposal(), w.remove("bob/2"), w.participants(nil, []mimi.URI{user("bob")}, nil))
	}, false},
	{"canBan", []Capability{CanBan}, []Capability{CanChangeUserRole}, func(w *world) verdict {
		return w.by("bob/1", w.participants([]Participant{{user("carol"), RoleBanned}}, nil, nil), w.remove("carol/1"))
	}, false},
	{"canBan, not in the room", []Capability{CanBan}, nil, func(w *world) verdict {
		return w.by("bob/1", w.participants(nil, nil, []Participant{{user("frank"), RoleBanned}}))
	}, false},
	{"canChangeUserRole and canKick ban too", []Capability{CanChangeUserRole, CanKick}, []Capability{CanBan}, func(w *world) verdict {
		return w.by("bob/1", w.participants([]Participant{{user("carol"), RoleBanned}}, nil, nil), w.remove("carol/1"))
	}, false},
	{"canUnban", []Capability{CanUnban}, []Capability{CanChangeUserRole}, func(w *world) verdict {
		return w.by("bob/1", w.participants([]Participant{{user("eve"), RoleMember}}, nil, nil))
	}, false},
	{"canKick", []Capability{CanKick}, nil, func(w *world) verdict {
		return w.by("bob/1", w.remove("carol/1"))
	}, false},
	{"canKick, by proposal", []Capability{CanKick}, nil, func(w *world) verdict {
		return w.bundle("bob/1", w.remove("carol/1"))
	}, false},
	{"canChangeUserRole", []Capability{CanChangeUserRole}, nil, func(w *world) verdict {
		return w.by("bob/1", w.participants([]Participant{{user("carol"), RoleAdmin}}, nil, nil))
	}, false},
	{"canSendMessage", []Capability{CanSendMessage}, nil, func(w *world) verdict {
		m, err := w.members["bob/1"].group.Encrypt([]byte("hello"), nil)
		w.ok(err)
		_, _, err = w.hub.Apply(Event{Source: Source{Provider: "a.example", User: user("bob")}, Message: w.wire(m)})
		return verdict{err, w.members["alice/1"].view.AuthoriseSend(user("bob"))}
	}, false},
	{"canChangeRoomName", []Capability{CanChangeRoomName}, nil, func(w *world) verdict {
		return w.by("bob/1", w.metadata(func(m *RoomMetadata) { m.Name = "new" }))
	}, false},
	{"canChangeRoomDescription", []Capability{CanChangeRoomDescription}, nil, func(w *world) verdict {
		return w.by("bob/1", w.metadata(func(m *RoomMetadata) { m.Descriptions = []RichDescription{{"", "en", "x"}} }))
	}, false},
	{"canChangeRoomAvatar", []Capability{CanChangeRoomAvatar}, nil, func(w *world) verdict {
		return w.by("bob/1", w.metadata(func(m *RoomMetadata) { m.Avatar = "https://a.example/x.png" }))
	}, false},
	{"canChangeRoomSubject", []Capability{CanChangeRoomSubject}, nil, func(w *world) verdict {
		return w.by("bob/1", w.metadata(func(m *RoomMetadata) { m.Subject = "new" }))
	}, false},
	{"canChangeRoomMood", []Capability{CanChangeRoomMood}, nil, func(w *world) verdict {
		return w.bundle("bob/1", w.metadata(func(m *RoomMetadata) { m.Mood = "new" }))
	}, false},
	{"name and mood", []Capability{CanChangeRoomName, CanChangeRoomMood}, nil, func(w *world) verdict {
		return w.by("bob/1", w.metadata(func(m *RoomMetadata) { m.Mood, m.Name = "new", "new" }))
	}, false},
	{"canChangeRoleDefinitions", []Capability{CanChangeRoleDefinitions}, nil, func(w *world) verdict {
		roles := append(slices.Clone(w.hub.Committed().Policy().Roles), Role{Index: 9, Name: "x"})
		return w.by("bob/1", w.component(mimi.ComponentRolesList, roles))
	}, false},
	{"canChangeRoomMembershipStyle", []Capability{CanChangeRoomMembershipStyle}, nil, func(w *world) verdict {
		base := w.hub.Committed().Policy().Base
		base.Discoverable = true
		return w.by("bob/1", w.component(mimi.ComponentBaseRoomPolicy, &base))
	}, false},
}

// TestRules is the rule table: with its capability alone an action is
// allowed, with all others together it is not. Hub, replica and every member
// must say the same.
func TestRules(t *testing.T) {
	all := []uint32{RoleNone, RoleBanned, RoleMember, RoleAdmin, roleActor}
	for _, tt := range ruleTests {
		t.Run(tt.name, func(t *testing.T) {
			give := func(caps []Capability) *world {
				if tt.none {
					return stage(t, actorTemplate(t, nil, caps, every(all)))
				}
				return stage(t, actorTemplate(t, caps, nil, every(all)))
			}
			w := give(tt.need)
			w.want(tt.do(w), "with "+tt.name, nil)
			for _, missing := range tt.need {
				others := slices.DeleteFunc(slices.Clone(allCapabilities), func(c Capability) bool {
					return c == missing || slices.Contains(tt.or, c)
				})
				if tt.none {
					others = nil // role 0 cannot hold more
				}
				w = give(others)
				w.want(tt.do(w), "without "+tt.name, ErrNotAllowed)
			}
		})
	}
}

// TestRoleChangesAreConsulted denies what the capabilities allow but
// authorized_role_changes does not list.
func TestRoleChangesAreConsulted(t *testing.T) {
	for _, tt := range ruleTests {
		switch tt.name {
		case "canAddParticipant", "canAddParticipant, inactive", "canAddParticipant, clients of a participant",
			"canRemoveParticipant", "canRemoveSelf", "canBan", "canBan, not in the room", "canUnban", "canChangeUserRole":
			t.Run(tt.name, func(t *testing.T) {
				w := stage(t, actorTemplate(t, allCapabilities, nil, nil))
				w.want(tt.do(w), tt.name, ErrNotAllowed)
			})
		}
	}
}

// TestAlwaysDenied holds what no role can do, whatever its capabilities.
func TestAlwaysDenied(t *testing.T) {
	all := []uint32{RoleNone, RoleBanned, RoleMember, RoleAdmin, roleActor}
	bob, carol := user("bob"), user("carol")
	tests := []struct {
		name string
		do   func(w *world) verdict
		want error
	}{
		{"own role", func(w *world) verdict {
			return w.by("bob/1", w.participants([]Participant{{bob, RoleAdmin}}, nil, nil))
		}, ErrNotAllowed},
		{"undefined role", func(w *world) verdict {
			return w.by("bob/1", w.participants([]Participant{{carol, 77}}, nil, nil))
		}, ErrNotAllowed},
		{"same role", func(w *world) verdict {
			return w.by("bob/1", w.participants([]Participant{{carol, RoleMember}}, nil, nil))
		}, ErrNotAllowed},
		{"removed participant keeps a client", func(w *world) verdict {
			return w.by("bob/1", w.participants(nil, []mimi.URI{carol}, nil))
		}, ErrNotAllowed},
		{"banned participant keeps a client", func(w *world) verdict {
			return w.by("bob/1", w.participants([]Participant{{carol, RoleBanned}}, nil, nil))
		}, ErrNotAllowed},
		{"committer removes its own user", func(w *world) verdict {
			return w.by("bob/1", w.participants(nil, []mimi.URI{bob}, nil), w.remove("bob/2"))
		}, ErrNotAllowed},
		{"client of a stranger", func(w *world) verdict {
			return w.commit("bob/1", mls.CommitOptions{}, w.keyPackage("mallory/1"))
		}, ErrNotAllowed},
		{"client of a banned user", func(w *world) verdict {
			return w.commit("bob/1", mls.CommitOptions{}, w.keyPackage("eve/1"))
		}, ErrNotAllowed},
		{"client of a user who is banned by the commit", func(w *world) verdict {
			return w.commit("bob/1", mls.CommitOptions{Proposals: []mls.Proposal{
				w.participants([]Participant{{carol, RoleBanned}}, nil, nil), w.remove("carol/1")}}, w.keyPackage("carol/2"))
		}, ErrNotAllowed},
		{"the same client twice", func(w *world) verdict {
			return w.commit("bob/1", mls.CommitOptions{}, w.keyPackage("bob/2"))
		}, ErrNotAllowed},
		{"two leaves for one new client", func(w *world) verdict {
			return w.commit("bob/1", mls.CommitOptions{}, w.keyPackage("bob/3"), w.keyPackage("bob/3"))
		}, ErrNotAllowed},
		{"banned user joins", func(w *world) verdict { return w.join("eve/1", nil) }, ErrNotAllowed},
		{"stranger joins as a client", func(w *world) verdict { return w.join("mallory/1", nil) }, ErrNotAllowed},
		{"joiner with another user's device", func(w *world) verdict {
			return w.join("bob/3", nil, w.remove("bob/2"))
		}, ErrNotAllowed},
		{"joiner changes metadata", func(w *world) verdict {
			return w.join("bob/3", nil, w.metadata(func(m *RoomMetadata) { m.Name = "x" }))
		}, ErrNotAllowed},
		{"group context extensions", func(w *world) verdict {
			return w.by("bob/1", mls.GroupContextExtensionsProposal(w.hub.Group().Extensions().Without(mls.ExtensionExternalSenders)))
		}, ErrNotAllowed},
		{"committer becomes another user", func(w *world) verdict {
			c := credential("mallory/1")
			return w.commit("bob/1", mls.CommitOptions{Leaf: &mls.LeafParams{Credential: &c}})
		}, ErrNotAllowed},
		{"committer becomes another client", func(w *world) verdict {
			c := credential("bob/9")
			return w.commit("bob/1", mls.CommitOptions{Leaf: &mls.LeafParams{Credential: &c}})
		}, ErrNotAllowed},
		{"client without the room's components", func(w *world) verdict {
			return w.commit("bob/1", mls.CommitOptions{Leaf: &mls.LeafParams{Extensions: mls.Extensions{}}})
		}, mls.ErrCapabilities},
		{"metadata without a change", func(w *world) verdict {
			return w.by("bob/1", w.metadata(func(*RoomMetadata) {}))
		}, ErrInvalidUpdate},
		{"another room's metadata", func(w *world) verdict {
			return w.by("bob/1", w.metadata(func(m *RoomMetadata) { m.Room = mimi.MustParseURI("mimi://a.example/r/other") }))
		}, ErrNotAllowed},
		{"roles together with participants", func(w *world) verdict {
			roles := append(slices.Clone(w.hub.Committed().Policy().Roles), Role{Index: 9, Name: "x"})
			return w.by("bob/1", w.component(mimi.ComponentRolesList, roles), w.participants(nil, nil, []Participant{{user("frank"), RoleMember}}))
		}, ErrInvalidUpdate},
		{"role in use is dropped", func(w *world) verdict {
			return w.by("bob/1", w.component(mimi.ComponentRolesList, w.hub.Committed().Policy().Roles[:3]))
		}, ErrInvalidRoom},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := stage(t, actorTemplate(t, allCapabilities, nil, every(all)))
			v := tt.do(w)
			w.want(v, tt.name, tt.want)
		})
	}
}

// TestUnknownIsRefused: proposals that no rule speaks of are refused, even if
// MLS takes them.
func TestUnknownIsRefused(t *testing.T) {
	all := []uint32{RoleNone, RoleBanned, RoleMember, RoleAdmin, roleActor}
	w := stage(t, actorTemplate(t, allCapabilities, nil, every(all)))
	sender := mls.MemberSender(w.leaf("bob/1"))
	meta := w.metadata(func(m *RoomMetadata) { m.Name = "x" })
	v := w.hub.Committed()
	try := func(q ...mls.QueuedProposal) error { return v.AuthoriseProposals(nil, q) }
	if err := try(mls.QueuedProposal{Proposal: meta, Sender: sender, AAD: []byte{0}}); err != nil {
		t.Fatalf("the control: %v", err)
	}
	participants := w.participants(nil, nil, []Participant{{user("frank"), RoleMember}})
	for name, tt := range map[string]struct {
		p      mls.Proposal
		sender mls.Sender
		want   error
	}{
		"psk":                       {mls.PreSharedKeyProposal(mls.PreSharedKeyID{Type: mls.PSKExternal}), sender, ErrNotAllowed},
		"reinit":                    {mls.Proposal{Type: mls.ProposalReInit, ReInit: &mls.ReInit{}}, sender, ErrNotAllowed},
		"external_init":             {mls.Proposal{Type: mls.ProposalExternalInit, ExternalInit: &mls.ExternalInit{}}, sender, ErrNotAllowed},
		"group_context_extensions":  {mls.GroupContextExtensionsProposal(nil), sender, ErrNotAllowed},
		"app_ephemeral":             {mls.AppEphemeralProposal(rawComponent, nil), sender, ErrNotAllowed},
		"unknown type":              {mls.Proposal{Type: 0xF0F0}, sender, ErrNotAllowed},
		"unknown component":         {mls.AppDataUpdateProposal(rawComponent, []byte("x")), sender, ErrNotAllowed},
		"preauth_list":              {mls.AppDataUpdateProposal(mimi.ComponentPreauthList, []byte("x")), sender, ErrNotAllowed},
		"franking agent":            {mls.AppDataUpdateProposal(mimi.ComponentFrankingAgent, []byte("x")), sender, ErrNotAllowed},
		"removal of the list":       {mls.AppDataRemoveProposal(mimi.ComponentParticipantList), sender, ErrNotAllowed},
		"unknown operation":         {mls.Proposal{Type: mls.ProposalAppDataUpdate, AppDataUpdate: &mls.AppDataUpdate{ComponentID: mimi.ComponentRoomMetadata, Op: 9, Update: meta.AppDataUpdate.Update}}, sender, ErrNotAllowed},
		"external sender":           {meta, mls.Sender{Type: mls.SenderExternal}, ErrNotAllowed},
		"external sender's removal": {w.remove("carol/1"), mls.Sender{Type: mls.SenderExternal}, ErrNotAllowed},
		"new member":                {mls.AddProposal(w.keyPackage("bob/3").kp), mls.Sender{Type: mls.SenderNewMemberProposal}, ErrNotAllowed},
		"new member's commit":       {participants, mls.Sender{Type: mls.SenderNewMemberCommit}, ErrNotAllowed},
		"no member":                 {meta, mls.MemberSender(99), ErrNotAllowed},
		"malformed metadata":        {mls.AppDataUpdateProposal(mimi.ComponentRoomMetadata, []byte{1}), sender, ErrInvalidUpdate},
		"malformed list update":     {mls.AppDataUpdateProposal(mimi.ComponentParticipantList, []byte{0, 0}), sender, ErrInvalidUpdate},
		"empty list update":         {mls.AppDataUpdateProposal(mimi.ComponentParticipantList, []byte{0, 0, 0}), sender, ErrInvalidUpdate},
	} {
		if err := try(mls.QueuedProposal{Proposal: tt.p, Sender: tt.sender, AAD: []byte{0}}); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", name, err, tt.want)
		}
	}
	if err := try(mls.QueuedProposal{Proposal: meta, Sender: sender, AAD: []byte("x")}); !errors.Is(err, ErrInvalidUpdate) {
		t.Errorf("authenticated data that is no SafeAAD: %v", err)
	}
	// A member may get it past its own MLS, not past hub and members.
	for name, p := range map[string]mls.Proposal{
		"unknown component": mls.AppDataUpdateProposal(rawComponent, []byte("x")),
	} {
		if v := w.by("bob/1", p); v.hub == nil || !errors.Is(v.member, ErrNotAllowed) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
