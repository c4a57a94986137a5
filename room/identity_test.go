package room_test

import (
	"errors"
	"testing"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

const suite = mls.X25519AES128SHA256Ed25519

// TestWithCertificates runs a room of two providers with real certificates:
// the names that the rules judge are those that identity has verified.
func TestWithCertificates(t *testing.T) {
	now := time.Now()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cas := make(map[string]*identity.CA)
	anchors := make(identity.StaticAnchors)
	for _, d := range []string{"a.example", "b.example"} {
		ca, err := identity.NewCA(d, now)
		ok(err)
		cas[d], anchors[d] = ca, ca.Anchor()
	}
	cfg := room.Config{ClientURIs: identity.ClientURIs, ProviderDomain: identity.ProviderDomain, Hub: true,
		MLS: mls.Config{Credentials: &identity.Verifier{Anchors: anchors}}}
	memberConfig := cfg.MLS
	memberConfig.Components = room.Components()
	leafX, err := room.LeafExtensions()
	ok(err)
	caps := room.Capabilities([]mls.CipherSuite{suite}, mls.CredentialX509)
	device := func(user, device string) (mls.Signer, mls.Credential) {
		u, d := mimi.MustParseURI(user), mimi.MustParseURI(device)
		signer, _, err := mls.GenerateSigner(suite, nil)
		ok(err)
		pub, err := identity.PublicKey(suite, signer.Public())
		ok(err)
		der, err := cas[u.Domain()].IssueDevice(u, d, pub, 30*24*time.Hour, now)
		ok(err)
		return signer, mls.X509Credential(der)
	}
	hubSigner, _, err := mls.GenerateSigner(suite, nil)
	ok(err)
	pub, err := identity.PublicKey(suite, hubSigner.Public())
	ok(err)
	der, err := cas["a.example"].IssueProvider(pub, now)
	ok(err)
	hub := mls.ExternalSender{SignatureKey: hubSigner.Public(), Credential: mls.X509Credential(der)}

	roomURI := mimi.MustParseURI("mimi://a.example/r/club")
	alice, bob := mimi.MustParseURI("mimi://a.example/u/alice"), mimi.MustParseURI("mimi://b.example/u/bob")
	tpl, err := room.NewTemplate(room.TemplateOpen)
	ok(err)
	x, err := room.NewRoomExtensions(room.NewRoom{Room: roomURI, Hub: hub, Creator: alice, Template: tpl, Name: "club"})
	ok(err)
	id, err := room.GroupID(roomURI)
	ok(err)
	signer, cred := device("mimi://a.example/u/alice", "mimi://a.example/d/alice/1")
	g, err := mls.CreateGroup(memberConfig, mls.GroupParams{CipherSuite: suite, GroupID: id, Signer: signer, Credential: cred,
		Capabilities: caps, LeafExtensions: leafX, Extensions: x})
	ok(err)
	gi, err := g.GroupInfo()
	ok(err)
	s, err := room.New(cfg, gi, g.State().RatchetTree())
	ok(err)
	ok(s.CheckNew(roomURI, hub, alice))

	join := func(signer mls.Signer, cred mls.Credential, who mimi.URI) (*room.State, *room.Effects, error) {
		u, err := s.Committed().Policy().Participants.Update(nil, nil, []room.Participant{{User: who, Role: room.RoleMember}})
		ok(err)
		b, err := mls.Marshal(u)
		ok(err)
		_, sc, err := mls.JoinExternal(memberConfig, s.GroupInfo(), s.Group().RatchetTree(), mls.JoinParams{Signer: signer,
			Credential: cred, Capabilities: caps, LeafExtensions: leafX,
			ByValue: []mls.Proposal{mls.AppDataUpdateProposal(mimi.ComponentParticipantList, b)}})
		ok(err)
		return s.Apply(room.Event{Source: room.Source{Provider: who.Domain()}, Message: *sc.Message,
			GroupInfo: mimi.GroupInfoOption{Full: sc.GroupInfo}})
	}
	signer, cred = device("mimi://b.example/u/bob", "mimi://b.example/d/bob/1")
	// Bob's provider cannot bring him in under another name.
	if _, _, err := join(signer, cred, mimi.MustParseURI("mimi://b.example/u/robert")); !errors.Is(err, room.ErrNotAllowed) {
		t.Fatalf("another name: %v", err)
	}
	next, fx, err := join(signer, cred, bob)
	ok(err)
	if !next.Committed().IsActive(bob) || len(fx.Notify) != 2 || fx.Change.Committer.Device.String() != "mimi://b.example/d/bob/1" {
		t.Fatalf("%+v", fx)
	}
}
