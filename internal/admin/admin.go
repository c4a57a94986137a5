// Package admin lets the operator of a running provider manage it from the
// same machine: JSON over HTTP on a Unix socket in the data directory, which
// only the provider's own account can open. [Server] answers, [Client] asks;
// the `comity user` and `comity room` commands and the demonstration use it.
package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
)

// CodeLife is how long an enrolment code can be used.
const CodeLife = 7 * 24 * time.Hour

// Limits of one listing.
const (
	maxBody   = 1 << 20
	maxListed = 1000
)

// SocketPath returns where the socket of a data directory is.
func SocketPath(dataDir string) string { return filepath.Join(dataDir, "admin.sock") }

// A NewUser asks for a user, if there is none of that name, and a code.
type NewUser struct {
	Name string `json:"name"` // any text; it becomes the last part of the user's URI
}

// A Code lets a user enrol one device.
type Code struct {
	User    string    `json:"user"`
	Code    string    `json:"code"`
	Expires time.Time `json:"expires"`
}

// A User is an account.
type User struct {
	User    string   `json:"user"`
	Name    string   `json:"name"`
	Devices []string `json:"devices"`
}

// A Room is a room that this provider holds, as its hub or as a replica.
type Room struct {
	Room  string `json:"room"`
	Hub   string `json:"hub"`
	IsHub bool   `json:"is_hub"`
	Epoch uint64 `json:"epoch"`
	Head  uint64 `json:"head"` // position of the last event
}

// An Event is what the provider stores of an event: no plaintext.
type Event struct {
	Position  uint64 `json:"position"`
	Timestamp uint64 `json:"timestamp"` // ms since the Unix epoch
	Hash      []byte `json:"hash"`      // SHA-256 of the MLSMessage
	Body      []byte `json:"body"`      // FanoutMessage
}

// Store is what the Server needs of the store.
type Store interface {
	PutUser(ctx context.Context, u store.User) error
	User(ctx context.Context, uri string) (store.User, error)
	Users(ctx context.Context, after string, limit int) ([]store.User, error)
	Devices(ctx context.Context, user string) ([]store.Device, error)
	PutEnrolment(ctx context.Context, e store.Enrolment) error
	Rooms(ctx context.Context, after string, limit int) ([]store.RoomInfo, error)
	ReadLog(ctx context.Context, room string, after uint64, maxEvents, maxBytes int) ([]store.Event, error)
}

// Server answers the operator. It is an http.Handler.
type Server struct {
	domain string
	store  Store
	now    func() time.Time
	mux    *http.ServeMux
}

// NewServer returns the Server of a provider.
func NewServer(domain string, s Store, now func() time.Time) *Server {
	srv := &Server{domain: domain, store: s, now: now, mux: http.NewServeMux()}
	handle(srv.mux, "POST /users", srv.addUser)
	handle(srv.mux, "GET /users", srv.users)
	handle(srv.mux, "GET /rooms", srv.rooms)
	handle(srv.mux, "GET /events", srv.events)
	return srv
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// errInput marks errors that the operator can mend.
var errInput = errors.New("admin")

func handle[T any](mux *http.ServeMux, pattern string, f func(r *http.Request) (T, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		out, err := f(r)
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			status := http.StatusInternalServerError
			switch {
			case errors.Is(err, errInput):
				status = http.StatusBadRequest
			case errors.Is(err, store.ErrNotFound):
				status = http.StatusNotFound
			}
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(failure{err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})
}

type failure struct {
	Error string `json:"error"`
}

func (s *Server) addUser(r *http.Request) (Code, error) {
	var in NewUser
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return Code{}, fmt.Errorf("%w: %w", errInput, err)
	}
	if strings.TrimSpace(in.Name) == "" {
		return Code{}, fmt.Errorf("%w: a user needs a name", errInput)
	}
	uri, err := mimi.NewURI(mimi.KindUser, s.domain, mimi.EscapeName(in.Name))
	if err != nil {
		return Code{}, fmt.Errorf("%w: %w", errInput, err)
	}
	now := s.now()
	if _, err := s.store.User(r.Context(), uri.String()); errors.Is(err, store.ErrNotFound) {
		err := s.store.PutUser(r.Context(), store.User{URI: uri.String(), Name: in.Name, Created: uint64(now.UnixMilli())})
		if err != nil {
			return Code{}, err
		}
	} else if err != nil {
		return Code{}, err
	}
	code := newCode()
	expires := now.Add(CodeLife)
	err = s.store.PutEnrolment(r.Context(), store.Enrolment{
		CodeHash: sha256.Sum256([]byte(code)), User: uri.String(), Expires: uint64(expires.UnixMilli()),
	})
	return Code{User: uri.String(), Code: code, Expires: expires}, err
}

// newCode returns 125 random bits in groups that can be read aloud.
func newCode() string {
	var b [16]byte
	rand.Read(b[:])
	s := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])[:25]
	return strings.Join([]string{s[:5], s[5:10], s[10:15], s[15:20], s[20:]}, "-")
}

func (s *Server) users(r *http.Request) ([]User, error) {
	rows, err := s.store.Users(r.Context(), r.FormValue("after"), maxListed)
	out := make([]User, 0, len(rows))
	for _, u := range rows {
		devices, err := s.store.Devices(r.Context(), u.URI)
		if err != nil {
			return nil, err
		}
		user := User{User: u.URI, Name: u.Name, Devices: []string{}}
		for _, d := range devices {
			user.Devices = append(user.Devices, d.URI)
		}
		out = append(out, user)
	}
	return out, err
}

func (s *Server) rooms(r *http.Request) ([]Room, error) {
	rows, err := s.store.Rooms(r.Context(), r.FormValue("after"), maxListed)
	out := make([]Room, 0, len(rows))
	for _, i := range rows {
		out = append(out, Room{Room: i.Room, Hub: i.Hub, IsHub: i.IsHub, Epoch: i.Epoch, Head: i.Head})
	}
	return out, err
}

func (s *Server) events(r *http.Request) ([]Event, error) {
	after := uint64(0)
	if v := r.FormValue("after"); v != "" {
		var err error
		if after, err = strconv.ParseUint(v, 10, 64); err != nil {
			return nil, fmt.Errorf("%w: after: %w", errInput, err)
		}
	}
	rows, err := s.store.ReadLog(r.Context(), r.FormValue("room"), after, maxListed, 8<<20)
	out := make([]Event, 0, len(rows))
	for _, e := range rows {
		out = append(out, Event{Position: e.Position, Timestamp: e.Timestamp, Hash: e.Hash[:], Body: e.Body})
	}
	return out, err
}

// Listen opens the socket of a data directory. A socket that a killed process
// left behind is replaced; the caller holds the store's lock, so no other
// process serves it.
func Listen(dataDir string) (net.Listener, error) {
	path := SocketPath(dataDir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("admin: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin: %w (a socket's path has a limit of about 100 octets; choose a shorter data_dir)", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("admin: %w", err)
	}
	return l, nil
}

// Client asks the provider that runs on a data directory.
type Client struct{ http *http.Client }

// NewClient returns a Client; it connects when first used.
func NewClient(dataDir string) *Client {
	path := SocketPath(dataDir)
	return &Client{&http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}},
	}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// AddUser creates a user, unless there is one of that name, and returns a code
// with which the user enrols a device.
func (c *Client) AddUser(ctx context.Context, name string) (Code, error) {
	var code Code
	body, err := json.Marshal(NewUser{Name: name})
	if err == nil {
		err = c.do(ctx, http.MethodPost, "/users", body, &code)
	}
	return code, err
}

// Users lists the users whose URI is greater than after, at most 1,000.
func (c *Client) Users(ctx context.Context, after string) (out []User, err error) {
	err = c.do(ctx, http.MethodGet, "/users?after="+url.QueryEscape(after), nil, &out)
	return out, err
}

// Rooms lists the rooms whose URI is greater than after, at most 1,000.
func (c *Client) Rooms(ctx context.Context, after string) (out []Room, err error) {
	err = c.do(ctx, http.MethodGet, "/rooms?after="+url.QueryEscape(after), nil, &out)
	return out, err
}

// Events returns what is stored of a room after a position, at most 1,000
// events.
func (c *Client) Events(ctx context.Context, room string, after uint64) (out []Event, err error) {
	err = c.do(ctx, http.MethodGet, fmt.Sprintf("/events?room=%s&after=%d", url.QueryEscape(room), after), nil, &out)
	return out, err
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("admin: the provider does not answer; is it running, and are you its user? %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var f failure
		if json.Unmarshal(b, &f) != nil || f.Error == "" {
			f.Error = resp.Status
		}
		return fmt.Errorf("admin: %s", f.Error)
	}
	return json.Unmarshal(b, out)
}
