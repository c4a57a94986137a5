package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// A caseList collects cases.
type caseList struct {
	s     *badScene
	cases []badCase
}

// both adds a case for a request that a device sends through its own provider,
// and, if that is not the hub, the same for what its provider sends itself.
func (l *caseList) both(name string, d *badDevice, path string, e mimi.Endpoint, key mimi.URI, body []byte,
	read func(badAnswer, *testing.T) badAnswer, c badCase) {
	c.name, c.do = name, func(t *testing.T) badAnswer {
		return read(d.tls(t, http.MethodPost, path+key.PathSegment(), body), t)
	}
	l.cases = append(l.cases, c)
	if d.domain == key.Domain() {
		return
	}
	peer := l.s.w.peer(d.domain, key.Domain())
	c.name, c.do = name+", by the provider", func(t *testing.T) badAnswer {
		return read(peer.post(t, e, key.PathSegment(), body), t)
	}
	l.cases = append(l.cases, c)
}

func (l *caseList) update(name string, d *badDevice, body []byte, code mimi.UpdateResponseCode, says string) {
	l.both(name, d, local.PathUpdate, mimi.EndpointUpdate, l.s.room, body, badAnswer.verdict,
		badCase{status: http.StatusOK, code: code.String(), says: says})
}

func (l *caseList) submit(name string, d *badDevice, req *mimi.SubmitMessageRequest, code mimi.SubmitResponseCode, says string) {
	l.both(name, d, local.PathSubmitMessage, mimi.EndpointSubmitMessage, l.s.room, encode(l.s.w.t, req), badAnswer.submitted,
		badCase{status: http.StatusOK, code: code.String(), says: says, log: "a.example"})
}

func (l *caseList) one(name string, status int, code, says string, do func(t *testing.T) badAnswer) {
	l.cases = append(l.cases, badCase{name: name, status: status, code: code, says: says, do: do})
}

// logged is a case whose reason is in the log of a provider.
func (l *caseList) logged(name, domain string, status int, code, says string, do func(t *testing.T) badAnswer) {
	l.cases = append(l.cases, badCase{name: name, status: status, code: code, says: says, log: domain, do: do})
}

// external makes the commit by which a device comes in by itself, from a
// GroupInfo that a member gave away.
func (d *badDevice) external(t *testing.T, uri mimi.URI, by *badDevice) []byte {
	t.Helper()
	gi, err := by.groups[uri].GroupInfo()
	ok(t, err)
	leaf, err := room.LeafExtensions()
	ok(t, err)
	_, sc, err := mls.JoinExternal(d.config(), gi, by.groups[uri].State().RatchetTree(), mls.JoinParams{
		Signer: d.signer, Credential: d.cred, Capabilities: badCapabilities(), LeafExtensions: leaf,
		ByValue: []mls.Proposal{by.participants(t, uri, nil, d.user)},
	})
	ok(t, err)
	return updateBody(t, sc)
}

// leafOf finds a device of a user.
func (d *badDevice) leafOf(t *testing.T, uri, user mimi.URI) mls.LeafIndex {
	t.Helper()
	for i, leaf := range d.groups[uri].State().Members() {
		if u, _, err := identity.ClientURIs(&leaf.Credential); err == nil && u == user {
			return i
		}
	}
	t.Fatalf("%s has no device in %s", user, uri)
	return 0
}

// testUpdates: commits and proposals that the hub must refuse.
func (s *badScene) testUpdates(t *testing.T) {
	l := &caseList{s: s}
	wrongEpoch, notAllowed, invalid := mimi.UpdateWrongEpoch, mimi.UpdateNotAllowed, mimi.UpdateInvalidProposal
	uri, root, dave := s.room, s.root, s.dave
	commit := func(d *badDevice, ps ...mls.Proposal) *mls.StagedCommit {
		return d.commit(t, uri, mls.CommitOptions{Proposals: ps, ForcePath: true})
	}
	l.update("commit of an epoch that is over", s.mallory, s.stale, wrongEpoch, "epoch")
	l.update("commit of somebody who never was in the room", s.carol, s.carol.external(t, uri, root), notAllowed, "")
	l.update("commit of a removed user", s.mallory, s.mallory.external(t, uri, root), notAllowed, "")
	l.update("a member removes another", dave, updateBody(t, commit(dave, dave.participants(t, uri, []mimi.URI{s.anna.User()}),
		mls.RemoveProposal(dave.leafOf(t, uri, s.anna.User())))), notAllowed, "")
	good, _ := s.erin.keyPackage(t, badValid)
	added := func(kp *mls.KeyPackage) []mls.Proposal {
		return []mls.Proposal{root.participants(t, uri, nil, s.erin.user), mls.AddProposal(kp)}
	}
	l.update("a member adds somebody", dave, updateBody(t, commit(dave, added(good)...)), notAllowed, "")
	l.update("a participant without an entry in the list", root, updateBody(t, commit(root, mls.AddProposal(good))), notAllowed, "")

	plain := commit(root)
	forged := *plain
	forged.Message = badSigned(plain.Message, flip)
	l.update("commit with a changed signature", root, updateBody(t, &forged), notAllowed, "signature")
	another := commit(root)
	mixed := *plain
	mixed.GroupInfo = another.GroupInfo
	l.update("commit with the GroupInfo of another", root, updateBody(t, &mixed), notAllowed, "GroupInfo")
	withAdd, withAdd2 := commit(root, added(good)...), commit(root, added(good)...)
	mixed = *withAdd
	mixed.Welcome = nil
	l.update("commit without the Welcome", root, updateBody(t, &mixed), notAllowed, "Welcome")
	fresh, _ := s.erin.keyPackage(t, badValid)
	mixed = *withAdd2
	mixed.Welcome = commit(root, added(fresh)...).Welcome
	l.update("commit with the Welcome of another", root, updateBody(t, &mixed), notAllowed, "Welcome")
	tree, err := mimi.FullTree(root.groups[uri].State().RatchetTree())
	ok(t, err)
	l.update("commit with the tree of another epoch", root, encode(t, &mimi.UpdateRequest{Message: wire(t, plain.Message),
		GroupInfo: mimi.GroupInfoOption{Full: plain.GroupInfo}, RatchetTree: tree}), notAllowed, "ratchet tree")

	for name, c := range map[string]struct {
		kp    *mls.KeyPackage
		clock time.Duration // of root, who finds it good
		says  string
	}{
		"that has expired":           {badKP(t, s.erin, validity{-48 * time.Hour, -3 * time.Hour}), -24 * time.Hour, "lifetime"},
		"that is not valid yet":      {badKP(t, s.erin, validity{48 * time.Hour, 96 * time.Hour}), 72 * time.Hour, "lifetime"},
		"that is valid for too long": {badKP(t, s.erin, validity{-time.Hour, 10 * 365 * 24 * time.Hour}), 0, "lifetime"},
		"of somebody else's name":    {badKP(t, &badDevice{signer: s.mallory.signer, cred: s.erin.cred}, badValid), 0, "credential"},
	} {
		root.clock = c.clock
		l.update("commit adds a KeyPackage "+name, root, updateBody(t, commit(root, added(c.kp)...)), notAllowed, c.says)
	}
	root.clock = 0
	l.update("commit of one provider's user, sent by another", dave, updateBody(t, plain), notAllowed, "cannot speak for")
	other := root.create(t, fmt.Sprintf("other%d", len(l.cases)), "group")
	l.update("commit of another room", root, updateBody(t, root.commit(t, other, mls.CommitOptions{ForcePath: true})), notAllowed, "group")
	p, err := dave.groups[uri].Propose(mls.RemoveProposal(dave.leafOf(t, uri, root.user)), nil)
	ok(t, err)
	l.update("a member proposes to remove the founder", dave, encode(t, &mimi.UpdateRequest{Message: wire(t, p)}), notAllowed, "may not remove")
	l.update("proposal with a changed signature", dave, encode(t, &mimi.UpdateRequest{Message: wire(t, badSigned(p, flip))}), invalid, "signature")
	stale, err := s.mallory.groups[uri].Propose(mls.SelfRemoveProposal(), nil)
	ok(t, err)
	l.update("proposal of an epoch that is over", s.mallory, encode(t, &mimi.UpdateRequest{Message: wire(t, stale)}), wrongEpoch, "epoch")

	unknown := mimi.MustParseURI("mimi://a.example/r/unheard-of")
	l.both("commit for an unknown room", dave, local.PathUpdate, mimi.EndpointUpdate, unknown, updateBody(t, commit(dave)), badAnswer.verdict,
		badCase{status: http.StatusNotFound})
	message := dave.message(t, uri, "not an update")
	l.both("message instead of an update", dave, local.PathUpdate, mimi.EndpointUpdate, uri, encode(t, &message.AppMessage), badAnswer.verdict,
		badCase{status: http.StatusBadRequest})
	l.one("room of a provider that is no peer", http.StatusForbidden, local.CodeForbidden, "allowlist", func(t *testing.T) badAnswer {
		return dave.tls(t, http.MethodPost, local.PathUpdate+mimi.MustParseURI("mimi://e.example/r/x").PathSegment(), updateBody(t, plain))
	})
	s.w.refuse(t, l.cases)
	s.nextEpoch(t) // in which dave has no proposals of his own
}

// nextEpoch has root commit, and waits for dave.
func (s *badScene) nextEpoch(t *testing.T) {
	t.Helper()
	s.root.must(t, s.room, s.root.commit(t, s.room, mls.CommitOptions{ForcePath: true}))
	badUntil(t, "dave follows", func() bool {
		s.dave.follow(t, s.room)
		return s.dave.groups[s.room].State().Epoch() == s.root.groups[s.room].State().Epoch()
	})
}

func badKP(t *testing.T, d *badDevice, v validity) *mls.KeyPackage {
	t.Helper()
	kp, _ := d.keyPackage(t, v)
	return kp
}

// badSigned returns a handshake message whose signature f has changed.
func badSigned(m *mls.MLSMessage, f func([]byte, int) []byte) *mls.MLSMessage {
	public := *m.PublicMessage
	public.Auth.Signature = f(public.Auth.Signature, 7)
	return &mls.MLSMessage{WireFormat: m.WireFormat, PublicMessage: &public}
}

// testMessages: messages that the hub must refuse.
func (s *badScene) testMessages(t *testing.T) {
	l := &caseList{s: s}
	notAllowed := mimi.SubmitNotAllowed
	with := func(d *badDevice, change func(*mimi.SubmitMessageRequest, *mls.PrivateMessage)) *mimi.SubmitMessageRequest {
		req := d.message(t, s.room, "x")
		p := *req.AppMessage.PrivateMessage
		req.AppMessage = mls.MLSMessage{WireFormat: req.AppMessage.WireFormat, PrivateMessage: &p}
		change(req, &p)
		return req
	}
	l.submit("message of a removed user", s.mallory, s.removed, notAllowed, "not a participant")
	l.submit("message of many epochs ago", s.dave, s.farOld, mimi.SubmitEpochTooOld, "the room is at")
	l.submit("message of a coming epoch", s.dave, with(s.dave, func(_ *mimi.SubmitMessageRequest, p *mls.PrivateMessage) { p.Epoch++ }), notAllowed, "the room is at")
	l.submit("message of the last epoch of all", s.dave, with(s.dave, func(_ *mimi.SubmitMessageRequest, p *mls.PrivateMessage) { p.Epoch = 1<<64 - 1 }), notAllowed, "the room is at")
	l.submit("message of another group", s.dave, with(s.dave, func(_ *mimi.SubmitMessageRequest, p *mls.PrivateMessage) { p.GroupID = flip(p.GroupID, 3) }), notAllowed, "group")
	l.submit("message of somebody who never was in the room", s.carol,
		with(s.dave, func(r *mimi.SubmitMessageRequest, _ *mls.PrivateMessage) { r.SendingURI = s.carol.user }), notAllowed, "not a participant")
	l.submit("message in another's name at the hub", s.root,
		with(s.root, func(r *mimi.SubmitMessageRequest, _ *mls.PrivateMessage) { r.SendingURI = s.anna.User() }), notAllowed, "cannot send")
	inName := with(s.dave, func(r *mimi.SubmitMessageRequest, _ *mls.PrivateMessage) { r.SendingURI = s.bob.User() })
	l.one("message in another's name at the own provider", http.StatusForbidden, local.CodeForbidden, "sends as", func(t *testing.T) badAnswer {
		return s.dave.tls(t, http.MethodPost, local.PathSubmitMessage+s.room.PathSegment(), encode(t, inName))
	})
	c := s.w.peer("c.example", "a.example")
	l.logged("message of another provider's user", "a.example", http.StatusOK, notAllowed.String(), "cannot speak for", func(t *testing.T) badAnswer {
		return c.post(t, mimi.EndpointSubmitMessage, s.room.PathSegment(), encode(t, inName)).submitted(t)
	})
	unknown := mimi.MustParseURI("mimi://a.example/r/unheard-of")
	l.both("message for an unknown room", s.dave, local.PathSubmitMessage, mimi.EndpointSubmitMessage, unknown,
		encode(t, s.dave.message(t, s.room, "where")), badAnswer.submitted, badCase{status: http.StatusNotFound})
	l.one("message for a room that another provider should have", http.StatusNotFound, local.CodeNotFound, "no such thing", func(t *testing.T) badAnswer {
		return s.dave.tls(t, http.MethodPost, local.PathSubmitMessage+mimi.MustParseURI("mimi://b.example/r/none").PathSegment(), encode(t, s.dave.message(t, s.room, "x")))
	})
	sc := s.dave.commit(t, s.room, mls.CommitOptions{ForcePath: true})
	l.both("commit instead of a message", s.dave, local.PathSubmitMessage, mimi.EndpointSubmitMessage, s.room,
		encode(t, &mimi.SubmitMessageRequest{Protocol: mimi.ProtocolMLS10, AppMessage: wire(t, sc.Message), SendingURI: s.dave.user}),
		badAnswer.submitted, badCase{status: http.StatusBadRequest})
	s.w.refuse(t, l.cases)
}
