package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/delivery"
	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/store/sqlite"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// server is an API over a real store; what lies behind it answers as told.
type server struct {
	*testing.T
	api   *API
	store *sqlite.Store
	now   time.Time
	rooms answers
	keys  []mls.KeyPackage
}

// answers are what the parts behind the API say.
type answers struct {
	body    []byte
	pending string
	err     error
	device  store.Device
	uri     mimi.URI
}

func (a *answers) note(d store.Device, uri mimi.URI) ([]byte, error) {
	a.device, a.uri = d, uri
	return a.body, a.err
}

func (a *answers) Create(_ context.Context, d store.Device, _ []byte) error {
	_, err := a.note(d, mimi.URI{})
	return err
}

func (a *answers) Update(_ context.Context, d store.Device, u mimi.URI, _ []byte) ([]byte, error) {
	return a.note(d, u)
}

func (a *answers) Submit(_ context.Context, d store.Device, u mimi.URI, _ []byte) ([]byte, string, error) {
	b, err := a.note(d, u)
	return b, a.pending, err
}

func (a *answers) GroupInfo(_ context.Context, d store.Device, u mimi.URI, _ []byte) ([]byte, error) {
	return a.note(d, u)
}

func (a *answers) KeyMaterial(_ context.Context, d store.Device, u mimi.URI, _ []byte) ([]byte, error) {
	return a.note(d, u)
}

type pool struct{ *server }

func (p pool) Publish(_ context.Context, _ mimi.URI, kps []mls.KeyPackage) error {
	p.keys = append(p.keys, kps...)
	return nil
}

func (p pool) Count(context.Context, mimi.URI) (int, error) { return 7, nil }

const alice = "mimi://a.example/u/alice"

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{T: t, now: time.Unix(1_800_000_000, 0)}
	clock := func() time.Time { return s.now }
	var err error
	if s.store, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "db"), Now: clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	serial := byte(0)
	s.api = New(Config{
		Domain: "a.example", Directory: s.store, Tokens: NewTokens([32]byte{1}, clock),
		Keys: pool{s}, Rooms: &s.rooms, Delivery: delivery.New(s.store, nil),
		Issue: func(_, device mimi.URI, _ mls.CipherSuite, _ []byte) ([]byte, error) {
			serial++
			return append([]byte(device.String()), serial), nil
		},
		Anchor:         func(_ context.Context, domain string) ([]byte, error) { return []byte("anchor of " + domain), nil },
		ExternalSender: []byte("sender"), Now: clock,
	})
	if err := s.store.PutUser(t.Context(), store.User{URI: alice}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) code(code string) {
	s.Helper()
	err := s.store.PutEnrolment(s.Context(), store.Enrolment{
		CodeHash: sha256.Sum256([]byte(code)), User: alice, Expires: uint64(s.now.Add(time.Hour).UnixMilli()),
	})
	if err != nil {
		s.Fatal(err)
	}
}

// call makes a request; a nil or JSON body is sent as such, bytes as TLS.
func (s *server) call(method, path, token string, body any) *httptest.ResponseRecorder {
	s.Helper()
	var raw []byte
	media := ""
	switch b := body.(type) {
	case nil:
	case []byte:
		raw, media = b, local.MediaTypeTLS
	default:
		var err error
		if raw, err = json.Marshal(b); err != nil {
			s.Fatal(err)
		}
		media = local.MediaTypeJSON
	}
	r := httptest.NewRequest(method, path, bytes.NewReader(raw))
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	return w
}

func (s *server) expect(w *httptest.ResponseRecorder, status int, code string) {
	s.Helper()
	var p local.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != status || p.Code != code || p.Message == "" {
		s.Errorf("got %d %s; want %d with code %q and a message", w.Code, w.Body, status, code)
	}
}

func request(t *testing.T, signer mls.Signer, code, name string) local.EnrolRequest {
	t.Helper()
	req := local.EnrolRequest{Code: code, DeviceName: name, CipherSuite: 1, PublicKey: signer.Public()}
	tbs, err := req.TBS()
	if err != nil {
		t.Fatal(err)
	}
	if req.Signature, err = mls.SignWithLabel(signer, local.LabelEnrol, tbs); err != nil {
		t.Fatal(err)
	}
	return req
}

func key(t *testing.T) mls.Signer {
	t.Helper()
	signer, _, err := mls.GenerateSigner(1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// login enrols a device and gets it a token.
func (s *server) login(signer mls.Signer, name string) (device, token string) {
	s.Helper()
	s.code(name)
	w := s.call(http.MethodPost, local.PathEnrol, "", request(s.T, signer, name, name))
	var enrolled local.EnrolResponse
	if err := json.Unmarshal(w.Body.Bytes(), &enrolled); err != nil || w.Code != http.StatusOK {
		s.Fatalf("enrol: %d %s", w.Code, w.Body)
	}
	w = s.call(http.MethodPost, local.PathToken, "", s.tokenRequest(signer, enrolled.Device))
	var answer local.TokenResponse
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK {
		s.Fatalf("token: %d %s", w.Code, w.Body)
	}
	return enrolled.Device, answer.Token
}

func (s *server) tokenRequest(signer mls.Signer, device string) local.TokenRequest {
	s.Helper()
	var c local.ChallengeResponse
	if err := json.Unmarshal(s.call(http.MethodPost, local.PathChallenge, "", nil).Body.Bytes(), &c); err != nil {
		s.Fatal(err)
	}
	sig, err := mls.SignWithLabel(signer, local.LabelToken, c.Challenge)
	if err != nil {
		s.Fatal(err)
	}
	return local.TokenRequest{Device: device, Challenge: c.Challenge, Signature: sig}
}

func TestEnrol(t *testing.T) {
	s := serve(t)
	s.code("code-1")
	signer := key(t)
	req := request(t, signer, "code-1", "phone")

	forged := req
	forged.DeviceName = "laptop"
	s.expect(s.call(http.MethodPost, local.PathEnrol, "", forged), http.StatusForbidden, local.CodeForbidden)
	s.expect(s.call(http.MethodPost, local.PathEnrol, "", request(t, signer, "other", "phone")), http.StatusForbidden, local.CodeForbidden)
	s.expect(s.call(http.MethodPost, local.PathEnrol, "", request(t, signer, "code-1", "my phone/../x")), http.StatusBadRequest, local.CodeMalformed)
	s.expect(s.call(http.MethodPost, local.PathEnrol, "", request(t, signer, "code-1", "")), http.StatusBadRequest, local.CodeMalformed)

	first := s.call(http.MethodPost, local.PathEnrol, "", req)
	var got local.EnrolResponse
	if err := json.Unmarshal(first.Body.Bytes(), &got); err != nil || first.Code != http.StatusOK {
		t.Fatalf("%d %s", first.Code, first.Body)
	}
	if got.User != alice || got.Device != "mimi://a.example/d/alice/phone" ||
		string(got.Anchor) != "anchor of a.example" || string(got.ExternalSender) != "sender" {
		t.Errorf("got %+v", got)
	}
	again := s.call(http.MethodPost, local.PathEnrol, "", req)
	if again.Code != http.StatusOK || again.Body.String() != first.Body.String() {
		t.Errorf("the same request again: %d %s; want the first answer", again.Code, again.Body)
	}
	s.expect(s.call(http.MethodPost, local.PathEnrol, "", request(t, key(t), "code-1", "phone")), http.StatusForbidden, local.CodeForbidden)
	s.code("code-2")
	s.expect(s.call(http.MethodPost, local.PathEnrol, "", request(t, key(t), "code-2", "phone")), http.StatusForbidden, local.CodeForbidden)
	s.now = s.now.Add(time.Hour)
	s.expect(s.call(http.MethodPost, local.PathEnrol, "", request(t, key(t), "code-2", "tablet")), http.StatusForbidden, local.CodeForbidden)
}

// Whoever is no device of ours must not fill the memory of used challenges:
// nobody else could log in.
func TestStrangersUseUpNoChallenges(t *testing.T) {
	s := serve(t)
	signer := key(t)
	device, _ := s.login(signer, "phone")
	used := len(s.api.cfg.Tokens.used)
	for range 3 {
		s.expect(s.call(http.MethodPost, local.PathToken, "", s.tokenRequest(key(t), device)), http.StatusUnauthorized, local.CodeUnauthenticated)
	}
	if now := len(s.api.cfg.Tokens.used); now != used {
		t.Errorf("%d challenges are remembered, %d before", now, used)
	}
}

func TestLogin(t *testing.T) {
	s := serve(t)
	signer := key(t)
	device, token := s.login(signer, "phone")
	if w := s.call(http.MethodGet, local.PathKeyPackages, token, nil); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "7") {
		t.Errorf("with a token: %d %s", w.Code, w.Body)
	}
	refused := func(req local.TokenRequest) {
		t.Helper()
		s.expect(s.call(http.MethodPost, local.PathToken, "", req), http.StatusUnauthorized, local.CodeUnauthenticated)
	}
	refused(s.tokenRequest(key(t), device))                           // another key
	refused(s.tokenRequest(signer, "mimi://a.example/d/alice/watch")) // unknown
	req := s.tokenRequest(signer, device)
	if w := s.call(http.MethodPost, local.PathToken, "", req); w.Code != http.StatusOK {
		t.Errorf("login: %d %s", w.Code, w.Body)
	}
	refused(req) // the challenge is used

	d, err := s.store.Device(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	d.Revoked = 1
	if err := s.store.PutDevice(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	s.expect(s.call(http.MethodGet, local.PathKeyPackages, token, nil), http.StatusUnauthorized, local.CodeUnauthenticated)
	refused(s.tokenRequest(signer, device))
}

func TestEveryOperationNeedsAToken(t *testing.T) {
	s := serve(t)
	room := "mimi%3A%2F%2Fa.example%2Fr%2Fx"
	for _, c := range []struct{ method, path string }{
		{http.MethodPut, local.PathKeyPackages}, {http.MethodGet, local.PathKeyPackages},
		{http.MethodPost, local.PathRooms}, {http.MethodPost, local.PathUpdate + room},
		{http.MethodPost, local.PathSubmitMessage + room}, {http.MethodPost, local.PathGroupInfo + room},
		{http.MethodPost, local.PathKeyMaterial + "mimi%3A%2F%2Fa.example%2Fu%2Fx"},
		{http.MethodGet, local.PathAnchors + "b.example"}, {http.MethodGet, local.PathStream},
	} {
		s.expect(s.call(c.method, c.path, "", nil), http.StatusUnauthorized, local.CodeUnauthenticated)
		s.expect(s.call(c.method, c.path, "bm8", nil), http.StatusUnauthorized, local.CodeUnauthenticated)
	}
	if s.rooms.device.URI != "" {
		t.Error("something was done without a token")
	}
}

func TestRooms(t *testing.T) {
	s := serve(t)
	device, token := s.login(key(t), "phone")
	path := local.PathSubmitMessage + "mimi%3A%2F%2Fb.example%2Fr%2Fx"
	s.rooms.body = []byte("answer")
	if w := s.call(http.MethodPost, path, token, []byte("body")); w.Code != http.StatusOK || w.Body.String() != "answer" ||
		w.Header().Get("Content-Type") != local.MediaTypeTLS {
		t.Errorf("submit: %d %s", w.Code, w.Body)
	}
	if s.rooms.device.URI != device || s.rooms.uri.String() != "mimi://b.example/r/x" {
		t.Errorf("behind the API: device %q, room %v", s.rooms.device.URI, s.rooms.uri)
	}
	s.rooms.pending = "b.example"
	if w := s.call(http.MethodPost, path, token, []byte("body")); w.Code != http.StatusAccepted || !strings.Contains(w.Body.String(), "b.example") {
		t.Errorf("pending: %d %s", w.Code, w.Body)
	}
	s.rooms.pending = ""
	if w := s.call(http.MethodPost, local.PathRooms, token, []byte("body")); w.Code != http.StatusCreated {
		t.Errorf("create: %d %s", w.Code, w.Body)
	}

	s.expect(s.call(http.MethodPost, local.PathUpdate+"mimi%3A%2F%2Fb.example%2Fu%2Fx", token, []byte("b")), http.StatusBadRequest, local.CodeMalformed)
	s.expect(s.call(http.MethodPost, local.PathUpdate+"nonsense", token, []byte("b")), http.StatusBadRequest, local.CodeMalformed)
	s.expect(s.call(http.MethodPost, path, token, map[string]int{}), http.StatusUnsupportedMediaType, local.CodeMediaType)
	s.expect(s.call(http.MethodPost, path, token, make([]byte, mimi.MaxSubmitRequest+1)), http.StatusRequestEntityTooLarge, local.CodeTooLarge)
	s.expect(s.call(http.MethodPut, local.PathKeyPackages, token, []byte{5, 1}), http.StatusBadRequest, local.CodeMalformed)
	for err, want := range map[error]struct {
		status int
		code   string
	}{
		store.ErrFull:               {http.StatusInsufficientStorage, local.CodeFull},
		store.ErrNoRoom:             {http.StatusNotFound, local.CodeNotFound},
		federation.ErrUnreachable:   {http.StatusBadGateway, local.CodePeer},
		federation.ErrUnavailable:   {http.StatusServiceUnavailable, local.CodeUnavailable},
		federation.ErrForbidden:     {http.StatusForbidden, local.CodeForbidden},
		errors.New("secret detail"): {http.StatusInternalServerError, local.CodeInternal},
	} {
		s.rooms.err = err
		w := s.call(http.MethodPost, path, token, []byte("body"))
		s.expect(w, want.status, want.code)
		if strings.Contains(w.Body.String(), "secret detail") {
			t.Error("an internal error's text reached the client")
		}
		if retry := w.Header().Get("Retry-After"); (retry != "") != (want.status == 502 || want.status == 503) {
			t.Errorf("status %d with Retry-After %q", want.status, retry)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	s := serve(t)
	b, err := s.api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string           `json:"operationId"`
			Security    []map[string]any `json:"security"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	public := map[string]bool{"enrol": true, "challenge": true, "token": true}
	found := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			found++
			if (len(op.Security) == 0) != public[op.OperationID] {
				t.Errorf("%s %s (%s): security %v", method, path, op.OperationID, op.Security)
			}
		}
	}
	if found != 12 {
		t.Errorf("%d operations described, want 12", found)
	}
}
