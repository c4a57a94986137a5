package room

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// The roles of the templates. RoleNone and RoleBanned are defined by the
// draft.
const (
	RoleMember uint32 = 2
	RoleAdmin  uint32 = 3
)

// The names of the templates.
const (
	TemplateGroup  = "group"  // admins decide who is in; members talk and leave
	TemplateOpen   = "open"   // anyone may join, as in a public channel
	TemplateDirect = "direct" // a fixed set of users, as in a conversation of two
)

// A Template is the initial policy of a room.
type Template struct {
	Name    string
	Roles   RoleData
	Base    BaseRoomPolicy
	Creator uint32 // role of the creator
	Member  uint32 // role of everyone else
}

// NewTemplate returns a template by its name.
func NewTemplate(name string) (*Template, error) {
	one, zero := uint32(1), uint32(0)
	none := Role{Index: RoleNone, Name: "no_role", MaxActive: &zero}
	banned := Role{Index: RoleBanned, Name: bannedRoleName, MaxActive: &zero}
	member := Role{Index: RoleMember, Name: "member", Capabilities: memberCapabilities(),
		Changes: []RoleTargets{{RoleMember, []uint32{RoleNone}}}}
	admin := Role{Index: RoleAdmin, Name: "admin", Capabilities: slices.Concat(memberCapabilities(), adminCapabilities()),
		MinParticipants: one,
		Changes: []RoleTargets{
			{RoleNone, []uint32{RoleBanned, RoleMember, RoleAdmin}},
			{RoleBanned, []uint32{RoleNone, RoleMember, RoleAdmin}},
			{RoleMember, []uint32{RoleNone, RoleBanned, RoleAdmin}},
			{RoleAdmin, []uint32{RoleNone, RoleBanned, RoleMember}},
		}}
	t := &Template{Name: name, Creator: RoleAdmin, Member: RoleMember, Base: BaseRoomPolicy{
		MultiDevice: true, PersistentRoom: true,
		PolicyComponents: []mls.ComponentID{mimi.ComponentRolesList},
	}}
	switch name {
	case TemplateGroup:
	case TemplateOpen:
		none.Capabilities = []Capability{CanOpenJoin}
		none.Changes = []RoleTargets{{RoleNone, []uint32{RoleMember}}}
		admin.MinParticipants = 0 // the room stays usable without one
		t.Base.Discoverable = true
	case TemplateDirect:
		member.Changes = nil
		member.Capabilities = append(member.Capabilities, CanChangeRoomName, CanChangeRoomAvatar, CanChangeRoomSubject)
		t.Base.FixedMembership = true
		t.Creator = RoleMember
		t.Roles = RoleData{none, banned, member}
		return t, nil
	default:
		return nil, fmt.Errorf("room: unknown template %q; there are %q, %q and %q", name, TemplateGroup, TemplateOpen, TemplateDirect)
	}
	t.Roles = RoleData{none, banned, member, admin}
	return t, nil
}

func memberCapabilities() []Capability {
	return []Capability{
		CanAddOwnClient, CanRemoveOwnClient, CanRemoveSelf,
		CanSendMessage, CanReceiveMessage, CanCopyMessage, CanReportAbuse, CanReplyToMessage, CanReactToMessage,
		CanEditReaction, CanDeleteOwnReaction, CanEditOwnMessage, CanDeleteOwnMessage,
		CanStartTopic, CanReplyInTopic, CanEditOwnTopic,
		CanUploadImage, CanUploadAudio, CanUploadVideo, CanUploadAttachment,
		CanDownloadImage, CanDownloadAudio, CanDownloadVideo, CanDownloadAttachment,
		CanSendLink, CanSendLinkPreview, CanFollowLink, CanCopyLink,
	}
}

func adminCapabilities() []Capability {
	return []Capability{
		CanAddParticipant, CanRemoveParticipant, CanBan, CanUnban, CanKick, CanChangeUserRole,
		CanDeleteOtherReaction, CanDeleteOtherMessage, CanEditOtherTopic,
		CanChangeRoomName, CanChangeRoomDescription, CanChangeRoomAvatar, CanChangeRoomSubject, CanChangeRoomMood,
	}
}

// MediaTypes lists the media types that a room requires its clients to
// receive; the first is that of application data without a type
// (mls-extensions section 6.2).
func MediaTypes() mls.MediaTypeList {
	return mls.MediaTypeList{{Type: "application/mimi-content"}, {Type: "application/mimi-message-status"}}
}

// requiredComponents are the components that a client must know to follow a
// room of ours.
func requiredComponents() mls.ComponentsList {
	return mls.ComponentsList{
		mls.ComponentSafeAAD, mls.ComponentContentMediaTypes,
		mimi.ComponentParticipantList, mimi.ComponentRoomMetadata,
		mimi.ComponentRolesList, mimi.ComponentBaseRoomPolicy,
	}
}

// GroupID returns the group id of a new room: the room's URI with /g/ for
// /r/.
func GroupID(room mimi.URI) ([]byte, error) {
	if !room.Is(mimi.KindRoom) {
		return nil, fmt.Errorf("room: %q is not a room", room)
	}
	u, err := mimi.NewURI(mimi.KindGroup, room.Domain(), room.Name())
	return []byte(u.String()), err
}

// NewRoom says what a new room is to be.
type NewRoom struct {
	Room     mimi.URI
	Hub      mls.ExternalSender // of the room's provider
	Creator  mimi.URI
	Others   []mimi.URI // further users from the start, without clients yet
	Template *Template
	Name     string
	Subject  string
	// Credentials that every client must support; nil means x509.
	Credentials []mls.CredentialType
}

// NewRoomExtensions returns the GroupContext extensions with which the
// creator begins the room's group.
func NewRoomExtensions(n NewRoom) (mls.Extensions, error) {
	if n.Template == nil {
		return nil, fmt.Errorf("room: a new room needs a template")
	}
	list := ParticipantList{{n.Creator, n.Template.Creator}}
	for _, u := range n.Others {
		list = append(list, Participant{u, n.Template.Member})
	}
	meta := &RoomMetadata{Room: n.Room, Name: n.Name, Subject: n.Subject}
	var d mls.AppDataDictionary
	for _, c := range []struct {
		id   mls.ComponentID
		data tlspl.Marshaler
	}{
		{mls.ComponentAppComponents, requiredComponents()},
		{mls.ComponentSafeAAD, mls.ComponentsList{}},
		{mls.ComponentContentMediaTypes, MediaTypes()},
		{mimi.ComponentParticipantList, list},
		{mimi.ComponentRoomMetadata, meta},
		{mimi.ComponentRolesList, n.Template.Roles},
		{mimi.ComponentBaseRoomPolicy, &n.Template.Base},
	} {
		b, err := tlspl.Marshal(c.data)
		if err != nil {
			return nil, fmt.Errorf("room: component %v: %w", c.id, err)
		}
		d = d.Set(c.id, b)
	}
	if _, err := PolicyOf(d); err != nil {
		return nil, err
	}
	credentials := n.Credentials
	if credentials == nil {
		credentials = []mls.CredentialType{mls.CredentialX509}
	}
	var x mls.Extensions
	for _, e := range []struct {
		t    mls.ExtensionType
		data tlspl.Marshaler
	}{
		{mls.ExtensionRequiredCapabilities, mls.RequiredCapabilities{
			Extensions:  []mls.ExtensionType{mls.ExtensionAppDataDictionary},
			Proposals:   []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalSelfRemove},
			Credentials: credentials,
		}},
		{mls.ExtensionExternalSenders, mls.ExternalSenders{n.Hub}},
		{mls.ExtensionAppDataDictionary, d},
	} {
		b, err := tlspl.Marshal(e.data)
		if err != nil {
			return nil, fmt.Errorf("room: extension %v: %w", e.t, err)
		}
		x = x.Set(e.t, b)
	}
	return x, nil
}

// Capabilities returns the capabilities of a client's leaf node with which it
// can be in any room of ours.
func Capabilities(suites []mls.CipherSuite, credentials ...mls.CredentialType) mls.Capabilities {
	return mls.Capabilities{
		Versions:     []mls.ProtocolVersion{mls.MLS10},
		CipherSuites: slices.Clone(suites),
		Extensions:   []mls.ExtensionType{mls.ExtensionAppDataDictionary},
		Proposals:    []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalSelfRemove},
		Credentials:  slices.Clone(credentials),
	}
}

// LeafExtensions returns the extensions of a client's leaf node: the
// components it knows and the media types it receives. More media types can
// be given.
func LeafExtensions(media ...mls.MediaType) (mls.Extensions, error) {
	var d mls.AppDataDictionary
	components, err := tlspl.Marshal(requiredComponents())
	if err != nil {
		return nil, err
	}
	types, err := tlspl.Marshal(append(MediaTypes(), media...))
	if err != nil {
		return nil, fmt.Errorf("room: media types: %w", err)
	}
	d = d.Set(mls.ComponentAppComponents, components)
	safeAAD, err := tlspl.Marshal(mls.ComponentsList{})
	if err != nil {
		return nil, err
	}
	d = d.Set(mls.ComponentSafeAAD, safeAAD)
	d = d.Set(mls.ComponentContentMediaTypes, types)
	b, err := tlspl.Marshal(d)
	if err != nil {
		return nil, err
	}
	return mls.Extensions{{Type: mls.ExtensionAppDataDictionary, Data: b}}, nil
}
