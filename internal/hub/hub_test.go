package hub_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/fedtest"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A scene is a room of a.example with two members there, and b.example.
type scene struct {
	*fedtest.World
	a, b         *fedtest.Provider
	alice, anna  *fedtest.Device
	bob          *fedtest.Device
	uri          mimi.URI
	fromA, fromB room.Source
}

func newScene(t *testing.T, template string) *scene {
	t.Helper()
	return newSceneWith(t, template, fedtest.Options{})
}

func newSceneWith(t *testing.T, template string, opts fedtest.Options) *scene {
	t.Helper()
	w := fedtest.New(t, opts)
	s := &scene{World: w, a: w.Start("a.example"), b: w.Start("b.example")}
	s.alice, s.anna, s.bob = s.a.Enrol("alice", "1"), s.a.Enrol("anna", "1"), s.b.Enrol("bob", "1")
	s.uri = s.alice.Create("club", template)
	s.fromA, s.fromB = room.Source{Provider: "a.example"}, room.Source{Provider: "b.example"}
	w.OK(s.alice.Add(s.uri, s.anna.User, s.bob.User))
	w.Until("all join", func() bool { return s.anna.Rooms[s.uri] != nil && s.bob.Rooms[s.uri] != nil }, s.alice, s.anna, s.bob)
	return s
}

func (s *scene) head() store.RoomInfo {
	info, err := s.a.Store.Room(context.Background(), s.uri.String())
	s.OK(err)
	return info
}

func encode(t testing.TB, v interface{ MarshalTLS(*tlsWriter) }) []byte {
	t.Helper()
	b, err := mls.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// submit sends a message to the hub as source and returns the code.
func (s *scene) submit(source room.Source, req *mimi.SubmitMessageRequest) *mimi.SubmitMessageResponse {
	s.T.Helper()
	answer, err := s.a.Hub.Submit(context.Background(), source, s.uri, encode(s.T, req))
	s.OK(err)
	resp := new(mimi.SubmitMessageResponse)
	s.OK(mls.Unmarshal(answer, resp))
	return resp
}

func (s *scene) update(source room.Source, req *mimi.UpdateRequest) *mimi.UpdateRoomResponse {
	s.T.Helper()
	answer, err := s.a.Hub.Update(context.Background(), source, s.uri, encode(s.T, req))
	s.OK(err)
	resp := new(mimi.UpdateRoomResponse)
	s.OK(mls.Unmarshal(answer, resp))
	return resp
}

func TestMessagesAreIdempotent(t *testing.T) {
	s := newScene(t, room.TemplateGroup)
	req, err := s.bob.Encrypt(s.uri, "once")
	s.OK(err)
	first := s.submit(s.fromB, req)
	if first.Code != mimi.SubmitAccepted {
		t.Fatalf("%v", first.Code)
	}
	head := s.head().Head
	for range 3 {
		if again := s.submit(s.fromB, req); again.Code != mimi.SubmitAccepted || again.AcceptedTimestamp != first.AcceptedTimestamp {
			t.Errorf("again: %v at %d, first at %d", again.Code, again.AcceptedTimestamp, first.AcceptedTimestamp)
		}
	}
	// Even epochs later and after the hub has forgotten what was in memory.
	for range 4 {
		s.OK(s.alice.Commit(s.uri, mls.CommitOptions{ForcePath: true}))
		s.OK(s.alice.Sync())
	}
	s.a.Stop()
	s.Start("a.example")
	if again := s.submit(s.fromB, req); again.Code != mimi.SubmitAccepted || again.AcceptedTimestamp != first.AcceptedTimestamp {
		t.Errorf("after a restart: %v at %d, first at %d", again.Code, again.AcceptedTimestamp, first.AcceptedTimestamp)
	}
	if got := s.head().Head; got != head+4 {
		t.Errorf("head %d, want %d", got, head+4)
	}
}

func TestCommitsAreIdempotentAndOnePerEpoch(t *testing.T) {
	s := newScene(t, room.TemplateGroup)
	make := func(d *fedtest.Device) *mimi.UpdateRequest {
		sc, err := d.Rooms[s.uri].Group.Commit(mls.CommitOptions{ForcePath: true, OmitTree: true})
		s.OK(err)
		return fedtest.CommitRequest(sc)
	}
	byAlice, byBob := make(s.alice), make(s.bob)
	epoch := s.head().Epoch
	first := s.update(s.fromA, byAlice)
	if first.Code != mimi.UpdateSuccess {
		t.Fatalf("%v: %s", first.Code, first.ErrorDescription)
	}
	if again := s.update(s.fromA, byAlice); again.Code != mimi.UpdateSuccess || again.AcceptedTimestamp != first.AcceptedTimestamp {
		t.Errorf("again: %+v, first %+v", again, first)
	}
	if late := s.update(s.fromB, byBob); late.Code != mimi.UpdateWrongEpoch || late.CurrentEpoch != epoch+1 {
		t.Errorf("second commit of the epoch: %+v", late)
	}
	if got := s.head(); got.Epoch != epoch+1 {
		t.Errorf("epoch %d, want %d", got.Epoch, epoch+1)
	}
}

func TestConcurrentCommitsHaveOneWinner(t *testing.T) {
	s := newScene(t, room.TemplateGroup)
	devices := []*fedtest.Device{s.alice, s.anna, s.bob}
	for round := range 5 {
		codes := make([]mimi.UpdateResponseCode, len(devices))
		var wg sync.WaitGroup
		for i, d := range devices {
			wg.Go(func() {
				var refusal *fedtest.Refusal
				if err := d.Commit(s.uri, mls.CommitOptions{ForcePath: true}); errors.As(err, &refusal) {
					codes[i] = refusal.Response.Code
				} else if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		won := 0
		for _, c := range codes {
			switch c {
			case mimi.UpdateSuccess:
				won++
			case mimi.UpdateWrongEpoch:
			default:
				t.Errorf("round %d: %v", round, c)
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d commits of one epoch were accepted", round, won)
		}
		epoch := s.head().Epoch
		s.Until("the commit", func() bool {
			return !slices.ContainsFunc(devices, func(d *fedtest.Device) bool { return d.Rooms[s.uri].Group.State().Epoch() != epoch })
		}, devices...)
	}
}

func TestConcurrentMessagesHaveOneOrder(t *testing.T) {
	s := newScene(t, room.TemplateGroup)
	devices := []*fedtest.Device{s.alice, s.anna, s.bob}
	const each = 40
	var wg sync.WaitGroup
	for _, d := range devices {
		var reqs []*mimi.SubmitMessageRequest
		for i := range each {
			req, err := d.Encrypt(s.uri, fmt.Sprint(i))
			s.OK(err)
			reqs = append(reqs, req, req) // each of them twice
		}
		for _, req := range reqs {
			wg.Go(func() {
				if got := s.submit(room.Source{Provider: d.P.Domain}, req); got.Code != mimi.SubmitAccepted {
					t.Errorf("%v", got.Code)
				}
			})
		}
	}
	wg.Wait()
	s.Until("all messages", func() bool {
		return !slices.ContainsFunc(devices, func(d *fedtest.Device) bool { return len(d.Rooms[s.uri].Texts) < each*len(devices) })
	}, devices...)
	for _, d := range devices {
		if got := d.Rooms[s.uri].Texts; len(got) != each*len(devices) || !slices.Equal(got, s.alice.Rooms[s.uri].Texts) {
			t.Errorf("%s read %d messages in another order than %s", d.URI, len(got), s.alice.URI)
		}
	}
	events, err := s.a.Store.ReadLog(t.Context(), s.uri.String(), 0, 0, 0)
	s.OK(err)
	for i := 1; i < len(events); i++ {
		if events[i].Timestamp <= events[i-1].Timestamp {
			t.Fatalf("timestamps %d and %d", events[i-1].Timestamp, events[i].Timestamp)
		}
		var f mimi.FanoutMessage
		s.OK(mls.Unmarshal(events[i].Body, &f))
		if f.Timestamp != events[i].Timestamp {
			t.Fatalf("timestamp %d in the message, %d in the log", f.Timestamp, events[i].Timestamp)
		}
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	s := newScene(t, room.TemplateGroup)
	old, err := s.bob.Encrypt(s.uri, "old")
	s.OK(err)
	older, err := s.bob.Encrypt(s.uri, "older")
	s.OK(err)
	bySomebody, err := s.bob.Encrypt(s.uri, "x")
	s.OK(err)
	head := s.head().Head
	check := func(what string, source room.Source, req *mimi.SubmitMessageRequest, want mimi.SubmitResponseCode) {
		t.Helper()
		if got := s.submit(source, req); got.Code != want {
			t.Errorf("%s: %v, want %v", what, got.Code, want)
		}
	}
	check("from another provider", s.fromA, bySomebody, mimi.SubmitNotAllowed)
	lie := *bySomebody
	lie.SendingURI = s.alice.User
	check("as a user of another provider", s.fromB, &lie, mimi.SubmitNotAllowed)
	lie.SendingURI = mimi.MustParseURI("mimi://b.example/u/mallory")
	check("as somebody who is not in the room", s.fromB, &lie, mimi.SubmitNotAllowed)
	future := *bySomebody
	pm := *future.AppMessage.PrivateMessage
	pm.Epoch += 1
	future.AppMessage.PrivateMessage = &pm
	check("of a coming epoch", s.fromB, &future, mimi.SubmitNotAllowed)
	other := *bySomebody
	pm2 := *other.AppMessage.PrivateMessage
	pm2.GroupID = []byte("another group")
	other.AppMessage.PrivateMessage = &pm2
	check("of another group", s.fromB, &other, mimi.SubmitNotAllowed)
	local := room.Source{Provider: "b.example", User: mimi.MustParseURI("mimi://b.example/u/bert")}
	check("as another local user", local, bySomebody, mimi.SubmitNotAllowed)
	if got := s.head().Head; got != head {
		t.Fatalf("refused messages changed the log: head %d, was %d", got, head)
	}
	for range 2 {
		s.OK(s.alice.Commit(s.uri, mls.CommitOptions{ForcePath: true}))
		s.OK(s.alice.Sync())
	}
	check("two epochs old", s.fromB, old, mimi.SubmitAccepted)
	s.OK(s.alice.Commit(s.uri, mls.CommitOptions{ForcePath: true}))
	s.OK(s.alice.Sync())
	if got := s.submit(s.fromB, older); got.Code != mimi.SubmitEpochTooOld || got.CurrentEpoch != s.head().Epoch {
		t.Errorf("three epochs old: %+v", got)
	}
	// Bob is removed: his provider is no follower, he may not speak.
	s.Until("bob is up to date", func() bool { return s.bob.Rooms[s.uri].Group.State().Epoch() == s.head().Epoch }, s.bob)
	s.OK(s.alice.Remove(s.uri, s.bob.User))
	last, err := s.bob.Encrypt(s.uri, "last words")
	s.OK(err)
	check("after removal", s.fromB, last, mimi.SubmitNotAllowed)
	s.Until("bob learns of it", func() bool { return s.bob.Rooms[s.uri].Gone }, s.bob)
	if peers, err := s.a.Store.RoomPeers(t.Context(), s.uri.String()); err != nil || len(peers) != 0 {
		t.Errorf("followers %v, %v", peers, err)
	}
}

func TestCommitsThatAreRefused(t *testing.T) {
	s := newScene(t, room.TemplateGroup)
	stage := func(d *fedtest.Device, o mls.CommitOptions) *mls.StagedCommit {
		t.Helper()
		o.OmitTree = true
		sc, err := d.Rooms[s.uri].Group.Commit(o)
		s.OK(err)
		return sc
	}
	plain := func(d *fedtest.Device) *mimi.UpdateRequest {
		return fedtest.CommitRequest(stage(d, mls.CommitOptions{ForcePath: true}))
	}
	head := s.head().Head
	check := func(what string, source room.Source, req *mimi.UpdateRequest, want mimi.UpdateResponseCode) {
		t.Helper()
		got := s.update(source, req)
		if got.Code != want {
			t.Errorf("%s: %v %q, want %v", what, got.Code, got.ErrorDescription, want)
		}
		if now := s.head().Head; now != head {
			t.Fatalf("%s: the log has %d events, had %d", what, now, head)
		}
	}
	check("of another provider's client", s.fromB, plain(s.alice), mimi.UpdateNotAllowed)
	req := plain(s.bob)
	req.GroupInfo.Full = plain(s.bob).GroupInfo.Full
	check("GroupInfo of another commit", s.fromB, req, mimi.UpdateNotAllowed)
	req = plain(s.bob)
	info := req.GroupInfo.Full
	forged := &mls.GroupInfo{GroupContext: info.GroupContext, Extensions: info.Extensions, ConfirmationTag: info.ConfirmationTag, Signer: info.Signer,
		Signature: slices.Clone(info.Signature)}
	forged.Signature[0] ^= 1
	req.GroupInfo.Full = forged
	check("GroupInfo with a wrong signature", s.fromB, req, mimi.UpdateNotAllowed)
	req = plain(s.bob)
	req.RatchetTree, _ = mimi.FullTree(s.bob.Rooms[s.uri].Group.State().RatchetTree())
	check("tree of the epoch before", s.fromB, req, mimi.UpdateNotAllowed)
	req = plain(s.bob)
	damaged := *req.Message.PublicMessage
	damaged.Auth.Signature = slices.Clone(damaged.Auth.Signature)
	damaged.Auth.Signature[3] ^= 1
	req.Message.PublicMessage = &damaged
	check("wrong signature", s.fromB, req, mimi.UpdateNotAllowed)

	p, err := s.bob.Rooms[s.uri].Participants(nil, []mimi.URI{s.anna.User}, nil)
	s.OK(err)
	check("removal by one who may not", s.fromB, fedtest.CommitRequest(stage(s.bob, mls.CommitOptions{Proposals: []mls.Proposal{p}})), mimi.UpdateNotAllowed)

	// Adds without a Welcome, and with the Welcome of another commit.
	carl := s.a.Enrol("carl", "1")
	claim, err := s.alice.Claim(s.uri, carl.User)
	s.OK(err)
	p, err = s.alice.Rooms[s.uri].Participants(nil, nil, []room.Participant{{User: carl.User, Role: room.RoleMember}})
	s.OK(err)
	add := mls.CommitOptions{Proposals: []mls.Proposal{p, mls.AddProposal(claim.Clients[0].KeyPackage)}}
	req = fedtest.CommitRequest(stage(s.alice, add))
	req.Welcome = nil
	check("no Welcome", s.fromA, req, mimi.UpdateNotAllowed)
	req = fedtest.CommitRequest(stage(s.alice, mls.CommitOptions{ForcePath: true}))
	req.Welcome = stage(s.alice, add).Welcome
	check("a Welcome for nobody", s.fromA, req, mimi.UpdateNotAllowed)
	check("a client without its user", s.fromA, fedtest.CommitRequest(stage(s.alice, mls.CommitOptions{Proposals: add.Proposals[1:]})), mimi.UpdateNotAllowed)

	// A Welcome that fits into the request, but with the tree not into what
	// followers take: they would never get beyond it.
	berta := s.b.Enrol("berta", "1")
	claim, err = s.alice.Claim(s.uri, berta.User)
	s.OK(err)
	p, err = s.alice.Rooms[s.uri].Participants(nil, nil, []room.Participant{{User: berta.User, Role: room.RoleMember}})
	s.OK(err)
	req = fedtest.CommitRequest(stage(s.alice, mls.CommitOptions{Proposals: []mls.Proposal{p, mls.AddProposal(claim.Clients[0].KeyPackage)}}))
	req.Welcome.EncryptedGroupInfo = append(req.Welcome.EncryptedGroupInfo, make([]byte, mimi.MaxUpdateRequest-len(encode(t, req))-8)...)
	if n := len(encode(t, req)); n > mimi.MaxUpdateRequest {
		t.Fatalf("a request of %d octets", n)
	}
	check("a Welcome that nobody takes", s.fromA, req, mimi.UpdateNotAllowed)

	// All the same, the room goes on.
	s.OK(s.bob.Commit(s.uri, mls.CommitOptions{ForcePath: true}))
}

func TestMalformedRequests(t *testing.T) {
	s := newScene(t, room.TemplateGroup)
	good := encode(t, fedtest.CommitRequest(func() *mls.StagedCommit {
		sc, err := s.bob.Rooms[s.uri].Group.Commit(mls.CommitOptions{ForcePath: true, OmitTree: true})
		s.OK(err)
		return sc
	}()))
	message, err := s.bob.Encrypt(s.uri, "x")
	s.OK(err)
	submit := encode(t, message)
	ctx := t.Context()
	for _, body := range [][]byte{nil, {0}, good[:len(good)-1], append(slices.Clone(good), 0), submit} {
		if _, err := s.a.Hub.Update(ctx, s.fromB, s.uri, body); !errors.Is(err, federation.ErrMalformed) {
			t.Errorf("update of %d octets: %v", len(body), err)
		}
	}
	for _, body := range [][]byte{nil, {1}, submit[:len(submit)-1], append(slices.Clone(submit), 0), good} {
		if _, err := s.a.Hub.Submit(ctx, s.fromB, s.uri, body); !errors.Is(err, federation.ErrMalformed) {
			t.Errorf("submit of %d octets: %v", len(body), err)
		}
		if _, err := s.a.Hub.GroupInfo(ctx, "b.example", s.uri, body); !errors.Is(err, federation.ErrMalformed) {
			t.Errorf("groupInfo of %d octets: %v", len(body), err)
		}
		if _, err := s.a.Hub.KeyMaterial(ctx, "b.example", s.alice.User, body); !errors.Is(err, federation.ErrMalformed) {
			t.Errorf("keyMaterial of %d octets: %v", len(body), err)
		}
	}
	for _, uri := range []string{"mimi://a.example/r/none", "mimi://b.example/r/club", "mimi://a.example/u/alice"} {
		if _, err := s.a.Hub.Submit(ctx, s.fromB, mimi.MustParseURI(uri), submit); !errors.Is(err, federation.ErrNotFound) {
			t.Errorf("submit to %s: %v", uri, err)
		}
		if _, err := s.a.Hub.Update(ctx, s.fromB, mimi.MustParseURI(uri), good); !errors.Is(err, federation.ErrNotFound) {
			t.Errorf("update of %s: %v", uri, err)
		}
	}
}

func TestCreate(t *testing.T) {
	w := fedtest.New(t, fedtest.Options{})
	a := w.Start("a.example")
	alice, anna := a.Enrol("alice", "1"), a.Enrol("anna", "1")
	uri, _, body := alice.NewRoom("club", room.TemplateGroup)
	_, _, other := alice.NewRoom("club", room.TemplateGroup)
	ctx := t.Context()
	for range 2 { // the second time is a repetition
		if got, err := a.Hub.Create(ctx, alice.User, alice.URI, body); err != nil || got != uri {
			t.Fatalf("%s, %v", got, err)
		}
	}
	if _, err := a.Hub.Create(ctx, alice.User, alice.URI, other); !errors.Is(err, store.ErrExists) {
		t.Errorf("another room of that name: %v", err)
	}
	_, _, third := alice.NewRoom("third", room.TemplateGroup)
	if _, err := a.Hub.Create(ctx, anna.User, anna.URI, third); !errors.Is(err, federation.ErrMalformed) && !errors.Is(err, federation.ErrForbidden) {
		t.Errorf("a room of somebody else: %v", err)
	}
	if _, err := a.Hub.Create(ctx, alice.User, mimi.MustParseURI("mimi://a.example/d/alice/2"), third); !errors.Is(err, federation.ErrForbidden) {
		t.Errorf("a room of another device: %v", err)
	}
	b := w.Start("b.example")
	if _, err := b.Hub.Create(ctx, alice.User, alice.URI, third); !errors.Is(err, federation.ErrForbidden) && !errors.Is(err, federation.ErrMalformed) {
		t.Errorf("a room of another provider: %v", err)
	}
	for _, bad := range [][]byte{nil, body[:len(body)-1], append(slices.Clone(body), 0)} {
		if _, err := a.Hub.Create(ctx, alice.User, alice.URI, bad); !errors.Is(err, federation.ErrMalformed) {
			t.Errorf("%d octets: %v", len(bad), err)
		}
	}
}

func TestExternalJoins(t *testing.T) {
	s := newScene(t, room.TemplateOpen)
	// Bob's second device, a stranger of b, and one of c, which does not follow yet.
	bob2, bert := s.b.Enrol("bob", "2"), s.b.Enrol("bert", "1")
	cathy := s.Start("c.example").Enrol("cathy", "1")
	for _, d := range []*fedtest.Device{bob2, bert, cathy} {
		s.OK(d.Join(s.uri))
	}
	all := []*fedtest.Device{s.alice, s.anna, s.bob, bob2, bert, cathy}
	s.OK(cathy.Say(s.uri, "hello"))
	s.Until("everybody reads it", func() bool {
		return !slices.ContainsFunc(all, func(d *fedtest.Device) bool { return !slices.Contains(d.Rooms[s.uri].Texts, "cathy: hello") })
	}, all...)
}

func TestGroupInfoIsForThoseWhoMayHaveIt(t *testing.T) {
	s := newScene(t, room.TemplateGroup)
	bob2, bert := s.b.Enrol("bob", "2"), s.b.Enrol("bert", "1")
	if _, err := bob2.GroupInfo(s.uri); err != nil {
		t.Errorf("a participant's new device: %v", err)
	}
	if _, err := bert.GroupInfo(s.uri); err == nil || !strings.Contains(err.Error(), "notAuthorized") {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := bob2.GroupInfo(mimi.MustParseURI("mimi://a.example/r/none")); err == nil || !strings.Contains(err.Error(), "notAuthorized") {
		t.Errorf("a room that is not there: %v", err)
	}
	// A request that another provider passes off as its own.
	req := &mimi.GroupInfoRequest{Protocol: mimi.ProtocolMLS10, CipherSuite: fedtest.Suite, Credential: s.bob.Cred, PublicKey: make([]byte, 32)}
	s.OK(req.Sign(s.bob.Signer))
	for _, change := range []func() (string, *mimi.GroupInfoRequest){
		func() (string, *mimi.GroupInfoRequest) { return "c.example", req },
		func() (string, *mimi.GroupInfoRequest) {
			forged := *req
			forged.Signature = slices.Clone(req.Signature)
			forged.Signature[0] ^= 1
			return "b.example", &forged
		},
		func() (string, *mimi.GroupInfoRequest) { // the credential of Bob, the key of Bert
			stolen := &mimi.GroupInfoRequest{Protocol: mimi.ProtocolMLS10, CipherSuite: fedtest.Suite, Credential: s.bob.Cred, PublicKey: make([]byte, 32)}
			s.OK(stolen.Sign(bert.Signer))
			return "b.example", stolen
		},
	} {
		source, r := change()
		answer, err := s.a.Hub.GroupInfo(t.Context(), source, s.uri, encode(t, r))
		s.OK(err)
		resp := new(mimi.GroupInfoResponse)
		s.OK(mls.Unmarshal(answer, resp))
		if resp.Status != mimi.GroupInfoNotAuthorized {
			t.Errorf("%v", resp.Status)
		}
	}
}

func TestKeyMaterialIsForThoseWhoMayUseIt(t *testing.T) {
	s := newScene(t, room.TemplateGroup)
	bert, cathy := s.b.Enrol("bert", "1"), s.Start("c.example").Enrol("cathy", "1")
	status := func(d *fedtest.Device, target mimi.URI) mimi.KeyMaterialUserCode {
		t.Helper()
		resp, err := d.Claim(s.uri, target)
		s.OK(err)
		return resp.UserStatus
	}
	if got := status(s.alice, cathy.User); got != mimi.KeyMaterialSuccess {
		t.Errorf("an admin for a new user: %v", got)
	}
	if got := status(s.bob, cathy.User); got != mimi.KeyMaterialNoConsent {
		t.Errorf("a member for a new user: %v", got)
	}
	if got := status(s.bob, s.bob.User); got != mimi.KeyMaterialSuccess {
		t.Errorf("a member for its own devices: %v", got)
	}
	if got := status(bert, cathy.User); got != mimi.KeyMaterialNoConsent {
		t.Errorf("a stranger: %v", got)
	}
	if got := status(s.alice, mimi.MustParseURI("mimi://c.example/u/nobody")); got != mimi.KeyMaterialUserUnknown {
		t.Errorf("a user who is not there: %v", got)
	}
	// One request, one set of key packages; another request, another set.
	one, err := s.alice.Claim(s.uri, cathy.User)
	s.OK(err)
	two, err := s.alice.Claim(s.uri, bert.User)
	s.OK(err)
	if string(one.Clients[0].KeyPackage.InitKey) == string(two.Clients[0].KeyPackage.InitKey) {
		t.Error("a key package was given out twice")
	}
	// b asks in the name of a's user; c asks b, which is not the hub.
	req := &mimi.KeyMaterialRequest{Protocol: mimi.ProtocolMLS10, RequestingUser: s.alice.User, TargetUser: cathy.User, Room: s.uri,
		CipherSuites: []mls.CipherSuite{fedtest.Suite}, Credential: s.alice.Cred}
	s.OK(req.Sign(s.alice.Signer))
	body := encode(t, req)
	if _, err := s.a.Hub.KeyMaterial(t.Context(), "b.example", cathy.User, body); !errors.Is(err, federation.ErrForbidden) {
		t.Errorf("in the name of another provider's user: %v", err)
	}
	if _, err := cathy.P.Hub.KeyMaterial(t.Context(), "b.example", cathy.User, body); !errors.Is(err, federation.ErrForbidden) {
		t.Errorf("past the hub: %v", err)
	}
	if _, err := s.a.Hub.KeyMaterial(t.Context(), "a.example", bert.User, body); !errors.Is(err, federation.ErrMalformed) {
		t.Errorf("another user in the path: %v", err)
	}
}

// A bundle of which only the first proposal was accepted before is not the same
// request.
func TestBundleIsMoreThanItsFirstProposal(t *testing.T) {
	s := newScene(t, room.TemplateGroup)
	m := s.bob.Rooms[s.uri]
	p, err := m.Participants(nil, []mimi.URI{s.bob.User}, nil)
	s.OK(err)
	first, err := m.Group.Propose(mls.SelfRemoveProposal(), nil)
	s.OK(err)
	second, err := m.Group.Propose(p, nil)
	s.OK(err)
	part := &mimi.UpdateRequest{Message: *first}
	whole := &mimi.UpdateRequest{Message: *first, MoreProposals: []mls.MLSMessage{*second}}
	if got := s.update(s.fromB, part); got.Code != mimi.UpdateSuccess {
		t.Fatalf("%v: %s", got.Code, got.ErrorDescription)
	}
	if got := s.update(s.fromB, part); got.Code != mimi.UpdateSuccess {
		t.Errorf("again: %v: %s", got.Code, got.ErrorDescription)
	}
	if got := s.update(s.fromB, whole); got.Code != mimi.UpdateInvalidProposal {
		t.Errorf("the bundle: %v, though one half of it was never accepted", got.Code)
	}
}

// A request is not a way to have us ask a third provider for its CA.
func TestGroupInfoAsksNoThirdProvider(t *testing.T) {
	var asked atomic.Bool
	s := newSceneWith(t, room.TemplateGroup, fedtest.Options{Federation: func(cfg *federation.Config) {
		dial := cfg.Dial
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, _, _ := net.SplitHostPort(address); host == "third.example" {
				asked.Store(true)
			}
			return dial(ctx, network, address)
		}
	}})
	eve := s.Start("third.example").Enrol("eve", "1")
	req := &mimi.GroupInfoRequest{Protocol: mimi.ProtocolMLS10, CipherSuite: fedtest.Suite, Credential: eve.Cred, PublicKey: make([]byte, 32)}
	s.OK(req.Sign(eve.Signer))
	_, err := s.a.Hub.GroupInfo(t.Context(), "b.example", s.uri, encode(t, req))
	s.OK(err)
	if asked.Load() {
		t.Error("third.example was asked")
	}
}
