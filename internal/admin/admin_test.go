package admin

import (
	"context"
	"crypto/sha256"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/store"
)

// memory is the part of a store that the operator sees.
type memory struct {
	users map[string]store.User
	codes map[store.Hash]store.Enrolment
}

func (m *memory) PutUser(_ context.Context, u store.User) error {
	m.users[u.URI] = u
	return nil
}

func (m *memory) User(_ context.Context, uri string) (store.User, error) {
	u, ok := m.users[uri]
	if !ok {
		return u, store.ErrNotFound
	}
	return u, nil
}

func (m *memory) Users(context.Context, string, int) (out []store.User, err error) {
	for _, u := range m.users {
		out = append(out, u)
	}
	return out, nil
}

func (m *memory) Devices(_ context.Context, user string) ([]store.Device, error) {
	return []store.Device{{URI: strings.Replace(user, "/u/", "/d/", 1) + "/phone"}}, nil
}

func (m *memory) PutEnrolment(_ context.Context, e store.Enrolment) error {
	m.codes[e.CodeHash] = e
	return nil
}

func (m *memory) Rooms(context.Context, string, int) ([]store.RoomInfo, error) {
	return []store.RoomInfo{{Room: "mimi://a.example/r/x", Hub: "a.example", IsHub: true, Epoch: 3, Head: 9}}, nil
}

func (m *memory) ReadLog(_ context.Context, room string, after uint64, _, _ int) ([]store.Event, error) {
	if room != "mimi://a.example/r/x" {
		return nil, store.ErrNoRoom
	}
	return []store.Event{{Position: after + 1, Body: []byte{1, 2}}}, nil
}

func TestOverTheSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "admin") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(SocketPath(dir), nil, 0o600); err != nil { // left behind
		t.Fatal(err)
	}
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	m := &memory{users: map[string]store.User{}, codes: map[store.Hash]store.Enrolment{}}
	srv := &http.Server{Handler: NewServer("a.example", m, func() time.Time { return now })}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	if info, err := os.Stat(SocketPath(dir)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v; want 0600", info.Mode(), err)
	}
	c := NewClient(dir)
	defer c.Close()
	ctx := t.Context()

	code, err := c.AddUser(ctx, "Zoë A/B")
	if err != nil {
		t.Fatal(err)
	}
	if code.User != "mimi://a.example/u/Zo%C3%AB%20A%2FB" {
		t.Errorf("user %q", code.User)
	}
	if e, ok := m.codes[sha256.Sum256([]byte(code.Code))]; !ok || e.User != code.User || e.Expires != uint64(now.Add(CodeLife).UnixMilli()) {
		t.Errorf("enrolment %+v", e)
	}
	again, err := c.AddUser(ctx, "Zoë A/B")
	if err != nil || again.User != code.User || again.Code == code.Code || len(m.users) != 1 {
		t.Errorf("a second code: %+v, %v, %d users", again, err, len(m.users))
	}
	if _, err := c.AddUser(ctx, " "); err == nil || !strings.Contains(err.Error(), "needs a name") {
		t.Errorf("no name: %v", err)
	}
	if users, err := c.Users(ctx, ""); err != nil || len(users) != 1 || len(users[0].Devices) != 1 {
		t.Errorf("users: %+v, %v", users, err)
	}
	if rooms, err := c.Rooms(ctx, ""); err != nil || len(rooms) != 1 || rooms[0].Head != 9 {
		t.Errorf("rooms: %+v, %v", rooms, err)
	}
	if events, err := c.Events(ctx, "mimi://a.example/r/x", 4); err != nil || len(events) != 1 || events[0].Position != 5 || len(events[0].Body) != 2 {
		t.Errorf("events: %+v, %v", events, err)
	}
	if _, err := c.Events(ctx, "mimi://a.example/r/y", 0); err == nil || !strings.Contains(err.Error(), "no such room") {
		t.Errorf("unknown room: %v", err)
	}
	if _, err := NewClient(dir+"x").Rooms(ctx, ""); err == nil || !strings.Contains(err.Error(), "is it running") {
		t.Errorf("nobody there: %v", err)
	}
}
