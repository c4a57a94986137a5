package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/memstore"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// puppet returns a copy of a peer's group and key, with which the test can do
// what the peer itself never would.
func (p *peer) puppet() (*mls.Group, mls.Signer) {
	p.t.Helper()
	value, err := p.store.Get(p.t.Context(), "device", "identity")
	p.must(err)
	var id struct {
		Private []byte `json:"private"`
	}
	p.must(json.Unmarshal(value, &id))
	signer, err := mls.NewSigner(suite, id.Private)
	p.must(err)
	rows, err := p.store.Bucket(p.t.Context(), "group "+club.String())
	p.must(err)
	g, err := mls.LoadGroup(mls.Config{Credentials: p.hub.verifier, Components: room.Components()}, rows, signer)
	p.must(err)
	return g, signer
}

func wantFrozen(p *peer, code client.ProblemCode) {
	p.t.Helper()
	r := p.status(client.RoomFrozen)
	if r.Frozen == nil || r.Frozen.Code != code {
		p.t.Errorf("%v is frozen by %+v, want %v", p.Device(), r.Frozen, code)
	}
	if got := p.problems(); len(got) == 0 || got[len(got)-1] != code {
		p.t.Errorf("%v has problems %v, want %v", p.Device(), got, code)
	}
	if _, err := p.SendText(p.ctx(), club, "x"); !errors.Is(err, client.ErrFrozen) {
		p.t.Errorf("sent to a frozen room: %v", err)
	}
}

func wantProblems(p *peer, want ...client.ProblemCode) {
	p.t.Helper()
	p.sync()
	if got := p.problems(); !slices.Equal(got, want) {
		p.t.Errorf("%v has problems %v, want %v", p.Device(), got, want)
	}
}

// The hub lets a commit through that the policy forbids: every member refuses
// it.
func TestUnauthorisedCommit(t *testing.T) {
	h, a, b := pair(t)
	c := h.peer(carol, "phone")
	a.must(a.AddUsers(a.ctx(), club, carol))
	c.active()
	b.sync()
	tests := map[string]func(g *mls.Group) []mls.Proposal{
		"a member removes another": func(g *mls.Group) []mls.Proposal {
			v, err := b.View(b.ctx(), club)
			b.must(err)
			update, err := v.Policy().Participants.Update(nil, []mimi.URI{carol}, nil)
			b.must(err)
			data, err := mls.Marshal(update)
			b.must(err)
			return []mls.Proposal{mls.RemoveProposal(v.ClientsOf(carol)[0].Leaf), mls.AppDataUpdateProposal(mimi.ComponentParticipantList, data)}
		},
		"a member becomes admin": func(g *mls.Group) []mls.Proposal {
			v, err := b.View(b.ctx(), club)
			b.must(err)
			update, err := v.Policy().Participants.Update([]room.Participant{{User: bob, Role: room.RoleAdmin}}, nil, nil)
			b.must(err)
			data, err := mls.Marshal(update)
			b.must(err)
			return []mls.Proposal{mls.AppDataUpdateProposal(mimi.ComponentParticipantList, data)}
		},
	}
	for name, proposals := range tests {
		g, _ := b.puppet()
		sc, err := g.Commit(mls.CommitOptions{Proposals: proposals(g), OmitTree: true})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// Only carol is lied to; the others go on.
		lie, err := mls.Marshal(&mimi.FanoutMessage{Timestamp: uint64(time.Now().UnixMilli()), Message: *sc.Message})
		b.must(err)
		before := h.position(club)
		h.hook(func() {
			h.forge = func(device, _ string, position uint64, body []byte) []byte {
				if device == c.tr.name && position == before+1 {
					return lie
				}
				return body
			}
		})
		a.say(name)
		wantFrozen(c, client.ProblemCommit)
		h.hook(func() { h.forge = nil })
		heard(t, a.texts(), a)
		// The device can come back, with a new leaf.
		c.must(c.JoinOwnDevice(c.ctx(), club))
		c.say("back")
		a.sync()
		b.sync()
	}
}

// A member and the hub bring in a device whose user nobody added: a ghost.
func TestGhost(t *testing.T) {
	h, a, b := pair(t)
	c, d := h.peer(carol, "phone"), h.peer(dora, "phone")
	g, _ := a.puppet()
	h.mu.Lock()
	ghost := h.devices[d.Device().String()].packages[0]
	friend := h.devices[c.Device().String()].packages[0]
	h.mu.Unlock()
	v, err := a.View(a.ctx(), club)
	a.must(err)
	update, err := v.Policy().Participants.Update(nil, nil, []room.Participant{{User: carol, Role: room.RoleMember}})
	a.must(err)
	data, err := mls.Marshal(update)
	a.must(err)
	sc, err := g.Commit(mls.CommitOptions{OmitTree: true, Proposals: []mls.Proposal{
		mls.AddProposal(friend), mls.AddProposal(ghost), mls.AppDataUpdateProposal(mimi.ComponentParticipantList, data)}})
	a.must(err)
	h.inject(club, &mimi.FanoutMessage{Message: *sc.Message})
	wantFrozen(b, client.ProblemCommit)

	// Carol is invited into the group with the ghost, and refuses.
	sub := c.Subscribe()
	defer sub.Close()
	tree, err := mimi.FullTree(sc.After.RatchetTree())
	a.must(err)
	body, err := mls.Marshal(&mimi.FanoutMessage{Timestamp: uint64(time.Now().UnixMilli()), Message: *mls.WelcomeMessage(sc.Welcome), RatchetTree: tree})
	a.must(err)
	h.hook(func() {
		h.mail(h.devices[c.tr.name], local.Frame{Type: local.FrameMail, Kind: local.MailWelcome, Room: club, Position: h.positionLocked(club), Body: body})
		h.pump()
	})
	for {
		e, err := sub.Next(c.ctx())
		c.must(err)
		if e.Kind == client.EventProblem {
			if !errors.Is(e.Err, client.ErrRefused) || !strings.Contains(e.Err.Error(), "dora") {
				t.Errorf("refused with %v", e.Err)
			}
			break
		}
	}
	if _, err := c.Room(club); !errors.Is(err, client.ErrNoRoom) {
		t.Errorf("carol is in the room with the ghost: %v", err)
	}
}

// The hub keeps a commit from a device: it notices at the next one.
func TestGap(t *testing.T) {
	h, a, b := pair(t)
	h.hook(func() {
		hidden := uint64(len(h.rooms[club.String()].log)) + 1
		h.forge = func(device, _ string, position uint64, body []byte) []byte {
			if device == b.tr.name && position == hidden {
				return nil
			}
			return body
		}
	})
	a.must(a.UpdateKeys(a.ctx(), club))
	a.say("can you read this?")
	b.until("bob notices", func() bool { return slices.Contains(b.problems(), client.ProblemDecrypt) })
	a.must(a.UpdateKeys(a.ctx(), club))
	wantFrozen(b, client.ProblemGap)
}

// The hub spoils and repeats what was said. Nothing of it is shown, and what
// follows is.
func TestSpoiltMessages(t *testing.T) {
	h, a, b := pair(t)
	a.say("one")
	said := h.message(club, h.position(club))
	h.inject(club, &mimi.FanoutMessage{Message: said.Message}) // again
	b.sync()
	wantProblems(b, client.ProblemDecrypt)
	// Alice does not have a key for it, but it is hers.
	wantProblems(a, client.ProblemDecrypt)

	spoilt := *said.Message.PrivateMessage
	spoilt.Ciphertext = append([]byte{}, spoilt.Ciphertext...)
	spoilt.Ciphertext[0] ^= 1
	h.inject(club, &mimi.FanoutMessage{Message: mls.MLSMessage{WireFormat: mls.WirePrivateMessage, PrivateMessage: &spoilt}})
	h.hook(func() { // not even a message
		r := h.rooms[club.String()]
		r.log = append(r.log, []byte{1, 2, 3})
		h.pump()
	})
	wantProblems(b, client.ProblemDecrypt, client.ProblemDecrypt, client.ProblemMalformed)
	commit := h.message(club, h.position(club)-4)
	if k, err := commit.Kind(); err != nil || k != mimi.FanoutCommit {
		t.Fatalf("position %d is %v, %v", h.position(club)-4, k, err)
	}
	h.inject(club, commit) // the commit that brought bob in, again
	a.say("two")
	b.sync()
	if got := b.texts(); !slices.Equal(got, []string{"alice: one", "alice: two"}) {
		t.Errorf("bob has %q", got)
	}
}

// A hub that bends time: a message from the future is not shown.
func TestFutureTimestamp(t *testing.T) {
	h, a, b := pair(t)
	h.hook(func() {
		h.forge = func(device, _ string, position uint64, body []byte) []byte {
			var fm mimi.FanoutMessage
			if device != b.tr.name || mls.Unmarshal(body, &fm) != nil {
				return body
			}
			fm.Timestamp += uint64(time.Hour / time.Millisecond)
			out, err := mls.Marshal(&fm)
			if err != nil {
				t.Error(err)
			}
			return out
		}
	})
	a.say("from the future")
	wantProblems(b, client.ProblemContent)
	h.hook(func() { h.forge = nil })
	a.say("from now")
	b.sync()
	if got := b.texts(); !slices.Equal(got, []string{"alice: from now"}) {
		t.Errorf("bob has %q", got)
	}
}

// What a member encrypts but must not say is discarded visibly.
func TestBadContent(t *testing.T) {
	h, a, b := pair(t)
	id := a.say("mine")
	b.sync()
	g, _ := b.puppet()
	c := content.Composer{SenderURI: bob.String(), RoomURI: club.String()}
	original, err := c.Text("mine")
	b.must(err)
	edit, err := c.Edit(id, original, content.PlainText("yours"))
	b.must(err)
	edited, err := edit.Encode()
	b.must(err)
	forged := content.Composer{SenderURI: alice.String(), RoomURI: club.String()}
	m, err := forged.Text("I am alice")
	b.must(err)
	impersonation, err := m.Encode()
	b.must(err)
	for _, tt := range []struct {
		name string
		data []byte
		want client.ProblemCode
	}{
		{"no framing", []byte{}, client.ProblemContent},
		{"not CBOR", frame(t, []byte("hello")), client.ProblemContent},
		{"somebody else's name", frame(t, impersonation), client.ProblemContent},
		{"an edit of somebody else's message", frame(t, edited), client.ProblemEdit},
	} {
		m, err := g.Encrypt(tt.data, nil)
		b.must(err)
		h.inject(club, &mimi.FanoutMessage{Message: *m})
		a.sync()
		got := a.problems()
		if len(got) == 0 || got[len(got)-1] != tt.want {
			t.Errorf("%s: problems %v, want %v", tt.name, got, tt.want)
		}
	}
	// Bob's own device sees that somebody speaks in its name.
	b.sync()
	if got := b.problems(); !slices.Contains(got, client.ProblemCloned) {
		t.Errorf("bob has problems %v", got)
	}
	if got := a.texts(); !slices.Equal(got, []string{"alice: mine"}) {
		t.Errorf("alice has %q", got)
	}
}

func frame(t *testing.T, data []byte) []byte {
	t.Helper()
	b, err := mls.Marshal(mls.ApplicationFraming{Content: data})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The hub gives out KeyPackages that are not those of the user (T-I1).
func TestSwappedKeyPackage(t *testing.T) {
	h := newTestHub(t)
	a, b, c := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(carol, "phone")
	a.create(room.TemplateGroup)
	rogue, err := identity.NewCA(otherDomain, time.Now())
	a.must(err)
	signer, _, err := mls.GenerateSigner(suite, nil)
	a.must(err)
	pub, err := identity.PublicKey(suite, signer.Public())
	a.must(err)
	der, err := rogue.IssueDevice(bob, b.Device(), pub, 24*time.Hour, time.Now())
	a.must(err)
	leaf, err := room.LeafExtensions()
	a.must(err)
	made, _, err := mls.NewKeyPackage(mls.KeyPackageParams{CipherSuite: suite, Signer: signer, Credential: mls.X509Credential(der), LeafExtensions: leaf})
	a.must(err)
	h.mu.Lock()
	other := h.devices[c.Device().String()].packages[0]
	h.mu.Unlock()
	for name, lie := range map[string]func(r *mimi.KeyMaterialResponse){
		"made up":             func(r *mimi.KeyMaterialResponse) { r.Clients[0].KeyPackage = made },
		"of another user":     func(r *mimi.KeyMaterialResponse) { r.Clients[0].KeyPackage = other },
		"of another device":   func(r *mimi.KeyMaterialResponse) { r.Clients[0].Client = c.Device() },
		"answer for another":  func(r *mimi.KeyMaterialResponse) { r.User = carol },
		"the same twice":      func(r *mimi.KeyMaterialResponse) { r.Clients = append(r.Clients, r.Clients[0]) },
		"no material at all":  func(r *mimi.KeyMaterialResponse) { r.Clients, r.UserStatus = nil, mimi.KeyMaterialNoConsent },
		"success for nothing": func(r *mimi.KeyMaterialResponse) { r.Clients = nil },
	} {
		h.hook(func() {
			h.after = func(_ string, req client.Request, resp client.Response) (client.Response, error) {
				if !strings.HasPrefix(req.Path, local.PathKeyMaterial) {
					return resp, nil
				}
				var r mimi.KeyMaterialResponse
				if err := mls.Unmarshal(resp.Body, &r); err != nil || len(r.Clients) != 1 {
					t.Errorf("%s: %v, %d clients", name, err, len(r.Clients))
					return resp, nil
				}
				lie(&r)
				_, resp.Body = answerTLS(&r)
				return resp, nil
			}
		})
		want := client.ErrRefused
		if strings.Contains(name, "no material") || strings.Contains(name, "nothing") {
			want = client.ErrNoKeyMaterial
		}
		if err := a.AddUsers(a.ctx(), club, bob); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		b.refill()
	}
	h.hook(func() { h.after = nil })
	if r, err := a.Room(club); err != nil || r.Epoch != 0 {
		t.Errorf("the room is in epoch %d, %v", r.Epoch, err)
	}
	a.must(a.AddUsers(a.ctx(), club, bob))
	b.active()
}

// refill gives the device's KeyPackages back to the hub.
func (p *peer) refill() {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	rows, err := p.store.Bucket(p.t.Context(), "keyPackages")
	p.must(err)
	d := p.hub.devices[p.tr.name]
	d.packages = nil
	for _, value := range rows {
		var rec struct {
			KeyPackage []byte `json:"key_package"`
		}
		p.must(json.Unmarshal(value, &rec))
		kp := new(mls.KeyPackage)
		p.must(mls.Unmarshal(rec.KeyPackage, kp))
		d.packages = append(d.packages, kp)
	}
}

// Two groups for one room: who was invited into one does not take the other's
// log for its own.
func TestOtherLog(t *testing.T) {
	h, a, b := pair(t)
	c := h.peer(carol, "phone")
	// Carol's invitation is real; the commit in her log is another one.
	g, _ := b.puppet()
	sc, err := g.Commit(mls.CommitOptions{ForcePath: true, OmitTree: true})
	b.must(err)
	lie, err := mls.Marshal(&mimi.FanoutMessage{Timestamp: uint64(time.Now().UnixMilli()), Message: *sc.Message})
	b.must(err)
	at := h.position(club) + 1
	h.hook(func() {
		h.forge = func(device, _ string, position uint64, body []byte) []byte {
			if device == c.tr.name && position == at {
				return lie
			}
			return body
		}
	})
	a.must(a.AddUsers(a.ctx(), club, carol))
	wantFrozen(c, client.ProblemCommit)
}

// The hub answers a GroupInfo request with somebody else's signature.
func TestForgedGroupInfo(t *testing.T) {
	h := newTestHub(t)
	a, b := h.peer(alice, "phone"), h.peer(bob, "phone")
	a.create(room.TemplateOpen)
	signer, _, err := mls.GenerateSigner(suite, nil)
	a.must(err)
	hub, sender := h.signer, h.sender
	h.hook(func() {
		h.signer = signer
		h.sender.SignatureKey = signer.Public()
	})
	if err := b.JoinOpen(b.ctx(), club); !errors.Is(err, client.ErrRefused) {
		t.Errorf("joined with a forged GroupInfo: %v", err)
	}
	h.hook(func() { h.signer, h.sender = hub, sender })
	b.must(b.JoinOpen(b.ctx(), club))
}

// A device that was taken out of the room, stolen perhaps, still has the keys
// of the epochs before. What it sends with them later is not shown, although
// its user is a participant.
func TestRemovedDeviceSpeaks(t *testing.T) {
	h := newTestHub(t)
	a, b1, b2 := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(bob, "laptop")
	a.create(room.TemplateGroup)
	a.must(a.AddUsers(a.ctx(), club, bob))
	b1.active()
	b2.active()
	b2.say("before")
	for _, p := range []*peer{a, b1, b2} {
		p.sync()
	}
	stolen, _ := b2.puppet()
	phone, _ := b1.puppet()
	sc, err := phone.Commit(mls.CommitOptions{Proposals: []mls.Proposal{mls.RemoveProposal(stolen.OwnLeaf())}, OmitTree: true})
	b1.must(err)
	h.inject(club, &mimi.FanoutMessage{Message: *sc.Message})
	a.sync()
	c := content.Composer{SenderURI: bob.String(), RoomURI: club.String()}
	m, err := c.Text("after")
	a.must(err)
	data, err := m.Encode()
	a.must(err)
	late, err := stolen.Encrypt(frame(t, data), nil)
	a.must(err)
	h.inject(club, &mimi.FanoutMessage{Message: *late})
	wantProblems(a, client.ProblemSender)
	if got := a.texts(); !slices.Equal(got, []string{"bob: before"}) {
		t.Errorf("alice has %q", got)
	}
}

// joiner is a Store in which a group is joined with every KeyPackage just when
// the provider has confirmed it.
type joiner struct {
	client.Store
	h *testHub
}

func (j *joiner) Apply(ctx context.Context, b client.Batch) error {
	published := false
	j.h.hook(func() {
		for _, d := range j.h.devices {
			published = published || len(d.known) > 0
		}
	})
	if published {
		rows, err := j.Bucket(ctx, "keyPackages")
		if err != nil {
			return err
		}
		var join client.Batch
		for ref := range rows {
			join.Remove("keyPackages", ref)
		}
		if err := j.Store.Apply(ctx, join); err != nil {
			return err
		}
	}
	return j.Store.Apply(ctx, b)
}

// A KeyPackage that was used is gone for good, also if the device is about to
// note that it was published.
func TestUsedKeyPackageStaysGone(t *testing.T) {
	h := newTestHub(t)
	store := &joiner{memstore.New(), h}
	c, err := client.Enrol(t.Context(), client.Config{Transport: &transport{h: h}, Store: store, Credentials: h.verifier, KeyPackages: 2},
		h.code(bob.String()), "phone")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 { // the second time everything is confirmed
		if err := c.PublishKeyPackages(t.Context()); err != nil {
			t.Fatal(err)
		}
		rows, err := store.Bucket(t.Context(), "keyPackages")
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 0 {
			t.Errorf("%d private keys are back", len(rows))
		}
	}
}
