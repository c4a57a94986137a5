package client_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

const (
	hubDomain   = "a.example"
	otherDomain = "b.example"
	suite       = mls.X25519AES128SHA256Ed25519
)

var errCut = fmt.Errorf("%w: cut by the test", client.ErrUnreachable)

// A testHub orders the messages of rooms, by the rules of package room, and
// speaks the client API to the devices of two domains. It is a correct peer
// that can be told to fail and to lie.
type testHub struct {
	t        testing.TB
	verifier *identity.Verifier
	cas      map[string]*identity.CA
	signer   mls.Signer
	sender   mls.ExternalSender

	mu      sync.Mutex
	codes   map[string]string // enrolment code → user
	devices map[string]*testDevice
	rooms   map[string]*testRoom
	streams map[*testStream]bool
	last    uint64 // timestamp
	claimed map[string]string

	// before is called with every request and may fail it; after is called
	// with the answer, which it may replace or drop. Both without mu.
	before func(device string, req client.Request) error
	after  func(device string, req client.Request, resp client.Response) (client.Response, error)
	// instead, called with mu, may answer a request in place of the hub.
	instead func(device string, req client.Request) *client.Response
	// forge replaces what a device is given of a room's log.
	forge func(device string, room string, position uint64, body []byte) []byte
	// forgeMail replaces a Welcome.
	forgeMail func(device string, body []byte) []byte
}

type testDevice struct {
	user, device mimi.URI
	key          []byte
	packages     []*mls.KeyPackage
	known        map[string]bool
	mail         []local.Frame
	lastMail     uint64
}

type testRoom struct {
	state   *room.State
	log     [][]byte
	answers map[[32]byte][]byte
	windows map[string][]window
}

type window struct{ from, to uint64 }

func newTestHub(t testing.TB) *testHub {
	h := &testHub{t: t, cas: map[string]*identity.CA{}, codes: map[string]string{}, devices: map[string]*testDevice{},
		rooms: map[string]*testRoom{}, streams: map[*testStream]bool{}, claimed: map[string]string{}}
	anchors := identity.StaticAnchors{}
	for _, d := range []string{hubDomain, otherDomain} {
		ca, err := identity.NewCA(d, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		h.cas[d], anchors[d] = ca, ca.Anchor()
	}
	h.verifier = &identity.Verifier{Anchors: anchors}
	signer, _, err := mls.GenerateSigner(suite, nil)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := identity.PublicKey(suite, signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	der, err := h.cas[hubDomain].IssueProvider(pub, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h.signer, h.sender = signer, mls.ExternalSender{SignatureKey: signer.Public(), Credential: mls.X509Credential(der)}
	return h
}

func (h *testHub) config() room.Config {
	return room.Config{ClientURIs: identity.ClientURIs, ProviderDomain: identity.ProviderDomain, Hub: true,
		MLS: mls.Config{Credentials: h.verifier}}
}

func (h *testHub) code(user string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	code := "code-" + rand.Text()
	h.codes[code] = user
	return code
}

// transport is a client.Transport to the hub.
type transport struct {
	h *testHub
	// down makes every request fail and cuts streams.
	mu   sync.Mutex
	down bool
	name string // set after enrolment
}

func (tr *transport) isDown() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.down
}

func (tr *transport) setDown(down bool) {
	tr.mu.Lock()
	tr.down = down
	tr.mu.Unlock()
	if !down {
		return
	}
	tr.h.mu.Lock()
	defer tr.h.mu.Unlock()
	for s := range tr.h.streams {
		if s.tr == tr {
			s.close()
		}
	}
}

func (tr *transport) Do(ctx context.Context, req client.Request) (client.Response, error) {
	if err := ctx.Err(); err != nil {
		return client.Response{}, fmt.Errorf("%w: %w", client.ErrUnreachable, err)
	}
	if tr.isDown() {
		return client.Response{}, errCut
	}
	device, _ := strings.CutPrefix(req.Token, "token ")
	tr.h.mu.Lock()
	before, after := tr.h.before, tr.h.after
	tr.h.mu.Unlock()
	if before != nil {
		if err := before(device, req); err != nil {
			return client.Response{}, err
		}
	}
	tr.h.mu.Lock()
	var resp client.Response
	if tr.h.instead != nil {
		if r := tr.h.instead(device, req); r != nil {
			tr.h.mu.Unlock()
			return *r, nil
		}
	}
	resp.Status, resp.Body = tr.h.serve(device, req)
	tr.h.mu.Unlock()
	if after != nil {
		return after(device, req, resp)
	}
	return resp, nil
}

func problem(status int, code, text string) (int, []byte) {
	b, _ := json.Marshal(local.Problem{Code: code, Message: text})
	return status, b
}

func answer(v any) (int, []byte) {
	b, err := json.Marshal(v)
	if err != nil {
		return problem(500, local.CodeInternal, err.Error())
	}
	return 200, b
}

func answerTLS(v tlspl.Marshaler) (int, []byte) {
	b, err := mls.Marshal(v)
	if err != nil {
		return problem(500, local.CodeInternal, err.Error())
	}
	return 200, b
}

func (h *testHub) serve(token string, req client.Request) (int, []byte) {
	switch req.Path {
	case local.PathEnrol:
		return h.enrol(req.Body)
	case local.PathChallenge:
		return answer(local.ChallengeResponse{Challenge: []byte("challenge")})
	case local.PathToken:
		var r local.TokenRequest
		if json.Unmarshal(req.Body, &r) != nil || h.devices[r.Device] == nil ||
			mls.VerifyWithLabel(suite, h.devices[r.Device].key, local.LabelToken, []byte("challenge"), r.Signature) != nil {
			return problem(401, local.CodeUnauthenticated, "bad token request")
		}
		return answer(local.TokenResponse{Token: "token " + r.Device, Expires: time.Now().Add(time.Hour).Unix()})
	}
	d := h.devices[token]
	if d == nil {
		return problem(401, local.CodeUnauthenticated, "no token")
	}
	switch {
	case req.Path == local.PathKeyPackages && req.Method == http.MethodGet:
		return answer(local.KeyPackageCount{Count: len(d.packages)})
	case req.Path == local.PathKeyPackages:
		r := tlspl.NewReader(bytes.Clone(req.Body))
		kps := tlspl.ReadVector(r, local.MaxKeyPackages, func(r *tlspl.Reader, kp *mls.KeyPackage) { r.Value(kp) })
		if r.Finish() != nil {
			return problem(400, local.CodeMalformed, "KeyPackages")
		}
		for i := range kps {
			ref, _ := kps[i].Ref()
			if !d.known[string(ref)] {
				d.known[string(ref)] = true
				d.packages = append(d.packages, &kps[i])
			}
		}
		return 204, nil
	case req.Path == local.PathRooms:
		return h.create(d, req.Body)
	case strings.HasPrefix(req.Path, local.PathKeyMaterial):
		return h.keyMaterial(d, req.Body)
	}
	for prefix, f := range map[string]func(*testDevice, *testRoom, mimi.URI, []byte) (int, []byte){
		local.PathUpdate: h.update, local.PathSubmitMessage: h.submit, local.PathGroupInfo: h.groupInfo,
	} {
		rest, ok := strings.CutPrefix(req.Path, prefix)
		if !ok {
			continue
		}
		uri, err := mimi.ParsePathSegment(rest)
		if err != nil || h.rooms[uri.String()] == nil {
			return problem(404, local.CodeNotFound, "no such room")
		}
		return f(d, h.rooms[uri.String()], uri, bytes.Clone(req.Body))
	}
	return problem(404, local.CodeNotFound, "no such path")
}

func (h *testHub) enrol(body []byte) (int, []byte) {
	var r local.EnrolRequest
	if json.Unmarshal(body, &r) != nil || h.codes[r.Code] == "" {
		return problem(403, local.CodeForbidden, "no such code")
	}
	tbs, _ := r.TBS()
	if mls.VerifyWithLabel(suite, r.PublicKey, local.LabelEnrol, tbs, r.Signature) != nil {
		return problem(403, local.CodeForbidden, "signature")
	}
	user := mimi.MustParseURI(h.codes[r.Code])
	device := mimi.MustParseURI("mimi://" + user.Domain() + "/d/" + user.Name() + "-" + r.DeviceName)
	der, err := h.certificate(user, device, r.PublicKey)
	if err != nil {
		return problem(500, local.CodeInternal, err.Error())
	}
	h.devices[device.String()] = &testDevice{user: user, device: device, key: r.PublicKey, known: map[string]bool{}}
	sender, _ := mls.Marshal(&h.sender)
	return answer(local.EnrolResponse{User: user.String(), Device: device.String(), Certificate: der, ExternalSender: sender})
}

func (h *testHub) certificate(user, device mimi.URI, key []byte) ([]byte, error) {
	pub, err := identity.PublicKey(suite, key)
	if err != nil {
		return nil, err
	}
	return h.cas[user.Domain()].IssueDevice(user, device, pub, 30*24*time.Hour, time.Now())
}

func (h *testHub) create(d *testDevice, body []byte) (int, []byte) {
	var r local.CreateRoomRequest
	if mls.Unmarshal(bytes.Clone(body), &r) != nil {
		return problem(400, local.CodeMalformed, "create")
	}
	tree, err := r.RatchetTree.Nodes()
	if err != nil {
		return problem(400, local.CodeMalformed, err.Error())
	}
	state, err := room.New(h.config(), &r.GroupInfo, tree)
	if err == nil {
		err = state.CheckNew(state.Room(), h.sender, d.user)
	}
	if err != nil {
		return problem(403, local.CodeForbidden, err.Error())
	}
	hash := sha256.Sum256(body)
	if old := h.rooms[state.Room().String()]; old != nil {
		if old.answers[hash] == nil {
			return problem(409, local.CodeConflict, "room exists")
		}
		return 201, nil
	}
	h.rooms[state.Room().String()] = &testRoom{state: state, answers: map[[32]byte][]byte{hash: {1}},
		windows: map[string][]window{d.device.String(): {{from: 1}}}}
	h.pump()
	return 201, nil
}

func (h *testHub) keyMaterial(d *testDevice, body []byte) (int, []byte) {
	var r mimi.KeyMaterialRequest
	if mls.Unmarshal(bytes.Clone(body), &r) != nil || r.Verify() != nil || r.RequestingUser != d.user || r.Room.IsZero() {
		return problem(400, local.CodeMalformed, "key material")
	}
	resp := mimi.KeyMaterialResponse{Protocol: mimi.ProtocolMLS10, User: r.TargetUser, UserStatus: mimi.KeyMaterialUserUnknown}
	for _, t := range h.devices {
		if t.user != r.TargetUser {
			continue
		}
		c := mimi.ClientKeyMaterial{Client: t.device, Status: mimi.ClientKeyMaterialExhausted}
		if len(t.packages) > 0 {
			c.Status, c.KeyPackage = mimi.ClientSuccess, t.packages[0]
			t.packages = t.packages[1:]
			ref, _ := c.KeyPackage.Ref()
			h.claimed[hex.EncodeToString(ref)] = t.device.String()
			resp.UserStatus = mimi.KeyMaterialSuccess
		}
		resp.Clients = append(resp.Clients, c)
	}
	if resp.UserStatus == mimi.KeyMaterialUserUnknown && len(resp.Clients) > 0 {
		resp.UserStatus = mimi.KeyMaterialNoCompatibleMaterial
	}
	return answerTLS(&resp)
}

func (h *testHub) stamp() uint64 {
	h.last = max(h.last+1, uint64(time.Now().UnixMilli()))
	return h.last
}

// append puts an event into the log.
func (h *testHub) append(r *testRoom, fm *mimi.FanoutMessage) uint64 {
	b, err := mls.Marshal(fm)
	if err != nil {
		h.t.Errorf("append: %v", err)
	}
	r.log = append(r.log, b)
	return uint64(len(r.log))
}

func (h *testHub) update(d *testDevice, r *testRoom, uri mimi.URI, body []byte) (int, []byte) {
	var req mimi.UpdateRequest
	if err := mls.Unmarshal(body, &req); err != nil {
		return problem(400, local.CodeMalformed, err.Error())
	}
	raw, _ := mls.Marshal(&req.Message)
	hash := sha256.Sum256(raw)
	if old := r.answers[hash]; old != nil {
		return 200, old
	}
	next, effects, err := r.state.Apply(room.UpdateEvent(room.Source{User: d.user}, &req))
	if err != nil {
		resp := mimi.UpdateRoomResponse{ErrorDescription: err.Error()}
		var re *room.Error
		errors.As(err, &re)
		switch room.CodeOf(err) {
		case room.CodeWrongEpoch:
			resp.Code, resp.CurrentEpoch = mimi.UpdateWrongEpoch, re.Epoch
		case room.CodeInvalidProposal:
			resp.Code = mimi.UpdateInvalidProposal
		default:
			resp.Code = mimi.UpdateNotAllowed
		}
		return answerTLS(&resp)
	}
	r.state = next
	at := h.stamp()
	position := h.append(r, &mimi.FanoutMessage{Timestamp: at, Message: req.Message, MoreProposals: req.MoreProposals})
	if c := effects.Change; c != nil {
		for _, gone := range c.RemovedClients {
			w := r.windows[gone.Device.String()]
			w[len(w)-1].to = position
		}
		for _, new := range c.AddedClients {
			r.windows[new.Device.String()] = append(r.windows[new.Device.String()], window{from: position})
		}
	}
	if req.Welcome != nil {
		tree, err := mimi.FullTree(next.Group().RatchetTree())
		if err != nil {
			h.t.Error(err)
		}
		b, err := mls.Marshal(&mimi.FanoutMessage{Timestamp: at, Message: *mls.WelcomeMessage(req.Welcome), RatchetTree: tree})
		if err != nil {
			h.t.Error(err)
		}
		for _, ref := range effects.Welcome {
			device := h.claimed[hex.EncodeToString(ref)]
			if t := h.devices[device]; t != nil {
				h.mail(t, local.Frame{Type: local.FrameMail, Kind: local.MailWelcome, Room: uri, Position: position, Body: b})
			}
		}
	}
	_, resp := answerTLS(&mimi.UpdateRoomResponse{Code: mimi.UpdateSuccess, AcceptedTimestamp: at})
	r.answers[hash] = resp
	h.pump()
	return 200, resp
}

func (h *testHub) mail(t *testDevice, f local.Frame) {
	t.lastMail++
	f.Mail = t.lastMail
	t.mail = append(t.mail, f)
}

func (h *testHub) submit(d *testDevice, r *testRoom, _ mimi.URI, body []byte) (int, []byte) {
	var req mimi.SubmitMessageRequest
	if err := mls.Unmarshal(body, &req); err != nil {
		return problem(400, local.CodeMalformed, err.Error())
	}
	raw, _ := mls.Marshal(&req.AppMessage)
	hash := sha256.Sum256(raw)
	if old := r.answers[hash]; old != nil {
		return 200, old
	}
	resp := mimi.SubmitMessageResponse{Protocol: mimi.ProtocolMLS10}
	_, _, err := r.state.Apply(room.Event{Source: room.Source{User: d.user}, Message: req.AppMessage})
	if err != nil {
		var re *room.Error
		errors.As(err, &re)
		resp.Code = mimi.SubmitNotAllowed
		if room.CodeOf(err) == room.CodeEpochTooOld {
			resp.Code, resp.CurrentEpoch = mimi.SubmitEpochTooOld, re.Epoch
		}
		return answerTLS(&resp)
	}
	resp.AcceptedTimestamp = h.stamp()
	h.append(r, &mimi.FanoutMessage{Timestamp: resp.AcceptedTimestamp, Message: req.AppMessage})
	_, b := answerTLS(&resp)
	r.answers[hash] = b
	h.pump()
	return 200, b
}

func (h *testHub) groupInfo(d *testDevice, r *testRoom, uri mimi.URI, body []byte) (int, []byte) {
	var req mimi.GroupInfoRequest
	if mls.Unmarshal(body, &req) != nil || req.Verify() != nil {
		return problem(400, local.CodeMalformed, "groupInfo")
	}
	tree, err := mimi.FullTree(r.state.Group().RatchetTree())
	if err != nil {
		return problem(500, local.CodeInternal, err.Error())
	}
	info := mimi.GroupInfoRatchetTree{GroupInfo: *r.state.GroupInfo(), RatchetTree: tree}
	for _, q := range r.state.Pending() {
		info.PendingProposals = append(info.PendingProposals, mimi.PendingProposal{Proposal: *q.Message})
	}
	resp, err := mimi.SealGroupInfo(&req, uri, &info, h.sender, h.signer)
	if err != nil {
		return problem(500, local.CodeInternal, err.Error())
	}
	return answerTLS(resp)
}

// inject appends an event without asking anybody: the hub lies to all.
func (h *testHub) inject(uri mimi.URI, fm *mimi.FanoutMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if fm.Timestamp == 0 {
		fm.Timestamp = h.stamp()
	}
	h.append(h.rooms[uri.String()], fm)
	h.pump()
}

// position returns the length of a room's log.
func (h *testHub) position(uri mimi.URI) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return uint64(len(h.rooms[uri.String()].log))
}

// message returns the event at a position.
func (h *testHub) message(uri mimi.URI, position uint64) *mimi.FanoutMessage {
	h.mu.Lock()
	defer h.mu.Unlock()
	fm := new(mimi.FanoutMessage)
	if err := mls.Unmarshal(bytes.Clone(h.rooms[uri.String()].log[position-1]), fm); err != nil {
		h.t.Fatal(err)
	}
	return fm
}

func (h *testHub) hook(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// A testStream delivers to one device.
type testStream struct {
	h      *testHub
	tr     *transport
	device *testDevice

	// Guarded by h.mu.
	subs     map[string]uint64
	caughtUp map[string]bool
	mailed   uint64
	queue    [][]byte
	closed   bool
	wake     chan struct{}
}

func (tr *transport) Stream(ctx context.Context, token string) (client.Stream, error) {
	if tr.isDown() {
		return nil, errCut
	}
	device, _ := strings.CutPrefix(token, "token ")
	h := tr.h
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.devices[device]
	if d == nil {
		return nil, &client.StatusError{Status: 401}
	}
	s := &testStream{h: h, tr: tr, device: d, subs: map[string]uint64{}, caughtUp: map[string]bool{}, wake: make(chan struct{}, 1)}
	h.streams[s] = true
	h.pump()
	return s, nil
}

func (s *testStream) push(f *local.Frame) {
	b, err := mls.Marshal(f)
	if err != nil {
		s.h.t.Error(err)
	}
	s.queue = append(s.queue, b)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// pump gives every stream what it lacks. The caller holds mu.
func (h *testHub) pump() {
	for s := range h.streams {
		for _, m := range s.device.mail {
			if m.Mail > s.mailed {
				s.mailed = m.Mail
				if h.forgeMail != nil && m.Kind == local.MailWelcome {
					m.Body = h.forgeMail(s.device.device.String(), m.Body)
				}
				s.push(&m)
			}
		}
		for name, at := range s.subs {
			r := h.rooms[name]
			if r == nil {
				continue
			}
			uri := mimi.MustParseURI(name)
			for position := at + 1; position <= uint64(len(r.log)); position++ {
				for _, w := range r.windows[s.device.device.String()] {
					if position < w.from || w.to != 0 && position > w.to {
						continue
					}
					body := r.log[position-1]
					if h.forge != nil {
						body = h.forge(s.device.device.String(), name, position, body)
					}
					if body != nil {
						s.push(&local.Frame{Type: local.FrameEvent, Room: uri, Position: position, Body: body})
					}
					s.caughtUp[name] = false
				}
				s.subs[name] = position
			}
			if !s.caughtUp[name] {
				s.caughtUp[name] = true
				s.push(&local.Frame{Type: local.FrameCaughtUp, Room: uri, Position: s.subs[name]})
			}
		}
	}
}

func (s *testStream) close() {
	s.closed = true
	delete(s.h.streams, s)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *testStream) Read(ctx context.Context) ([]byte, error) {
	for {
		s.h.mu.Lock()
		if s.closed {
			s.h.mu.Unlock()
			return nil, errCut
		}
		if len(s.queue) > 0 {
			b := s.queue[0]
			s.queue = s.queue[1:]
			s.h.mu.Unlock()
			return b, nil
		}
		s.h.mu.Unlock()
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *testStream) Write(_ context.Context, b []byte) error {
	var f local.Frame
	if err := mls.Unmarshal(b, &f); err != nil {
		return err
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.closed {
		return errCut
	}
	switch f.Type {
	case local.FrameSubscribe:
		s.subs[f.Room.String()] = f.Position
		s.caughtUp[f.Room.String()] = false
	case local.FrameUnsubscribe:
		delete(s.subs, f.Room.String())
	case local.FrameAckMail:
		for len(s.device.mail) > 0 && s.device.mail[0].Mail <= f.Mail {
			s.device.mail = s.device.mail[1:]
		}
	default:
		return fmt.Errorf("frame %v from a client", f.Type)
	}
	s.h.pump()
	return nil
}

func (s *testStream) Close() error {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.close()
	return nil
}

func (h *testHub) positionLocked(uri mimi.URI) uint64 { return uint64(len(h.rooms[uri.String()].log)) }
