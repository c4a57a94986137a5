package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/internal/fleet"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// fill writes a file until its disk is full.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	ok(t, err)
	defer f.Close()
	for size := 1 << 20; size >= 1; {
		if _, err = f.Write(make([]byte, size)); err == nil {
			continue
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		size /= 16
	}
}

// TestBadInputFullDisk fills the disk of a provider that is the hub of one room
// and follows another. Nothing that was acknowledged is lost, nothing is
// acknowledged that is not stored, and when there is space everything goes on.
func TestBadInputFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real processes")
	}
	bin, dir := binary(t), shortDir(t)
	f, err := fleet.New(fleet.Config{Binary: bin, Dir: dir, Domains: []string{"a.example", "b.example"}, LogLevel: "info"})
	ok(t, err)
	w := &badWorld{t: t, fleet: f}
	a := w.provider("a.example")
	ok(t, os.MkdirAll(a.Config.DataDir, 0o700))
	if err := unix.Mount("tmpfs", a.Config.DataDir, "tmpfs", 0, "size=24m,mode=0700"); err != nil {
		t.Skipf("NOT TESTED: a full disk, since a small file system can't be mounted (it takes root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(a.Config.DataDir, 0); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { // before the disk goes away
		if err := f.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.start()

	root, dave := w.device("root", "a.example"), w.device("dave", "b.example")
	anna, bob := w.member("anna", "a.example"), w.member("bob", "b.example")
	hubA := root.create(t, "at-a", "group")
	root.add(t, hubA, anna.User(), bob.User())
	hubB := mimi.MustParseURI("mimi://b.example/r/at-b")
	ok(t, bob.CreateRoom(t.Context(), client.NewRoom{URI: hubB}))
	ok(t, bob.AddUsers(t.Context(), hubB, anna.User()))
	for _, uri := range []mimi.URI{hubA, hubB} {
		for _, c := range []*client.Client{anna, bob} {
			_, err := c.WaitRoom(t.Context(), uri, func(r client.Room) bool { return r.Status == client.RoomActive })
			ok(t, err)
		}
		badAlive(t, uri, anna, bob)
	}
	code, err := a.Admin().AddUser(t.Context(), "erin")
	ok(t, err)
	kp := badKP(t, root, badValid)
	never := mimi.MustParseURI("mimi://a.example/r/never")
	_, never1 := root.newGroup(t, never, "group")
	bodies := struct{ message, commit, peer []byte }{
		message: encode(t, root.message(t, hubA, "while it is full")),
		commit:  updateBody(t, root.commit(t, hubA, mls.CommitOptions{ForcePath: true})),
	}
	peer := w.peer("b.example", "a.example")
	claim := dave.claimBody(t, mimi.URI{}, anna.User())
	w.settle()
	before := w.base

	ballast := filepath.Join(a.Config.DataDir, "ballast")
	fill(t, ballast)
	full := badCase{status: http.StatusInsufficientStorage, code: local.CodeFull, says: "the provider's disk is full"}
	var cases []badCase
	add := func(name string, do func(t *testing.T) badAnswer) {
		c := full
		c.name, c.do = name, do
		cases = append(cases, c)
	}
	submit := func(t *testing.T) badAnswer {
		return root.tls(t, http.MethodPost, local.PathSubmitMessage+hubA.PathSegment(), bodies.message)
	}
	add("message", submit)
	add("commit", func(t *testing.T) badAnswer {
		return root.tls(t, http.MethodPost, local.PathUpdate+hubA.PathSegment(), bodies.commit)
	})
	add("room", func(t *testing.T) badAnswer { return root.tls(t, http.MethodPost, local.PathRooms, never1) })
	add("KeyPackage", func(t *testing.T) badAnswer { return root.publish(t, kp) })
	enrol := root.enrolment(t, code.Code, "phone")
	add("enrolment", func(t *testing.T) badAnswer { return root.json(t, local.PathEnrol, enrol) })
	unavailable := func(name string, do func(t *testing.T) badAnswer) {
		cases = append(cases, badCase{name: name, status: http.StatusServiceUnavailable, says: "the disk is full", log: "a.example",
			do: func(t *testing.T) badAnswer {
				got := do(t)
				if got.header.Get("Retry-After") == "" {
					t.Error("it does not say when to try again")
				}
				return got
			}})
	}
	post := func(e mimi.Endpoint, key mimi.URI, body []byte) func(*testing.T) badAnswer {
		return func(t *testing.T) badAnswer {
			return badDo(t, peer.http, badRequest{method: http.MethodPost, url: "https://a.example/v1/" + string(e) + "/" + key.PathSegment(), body: body,
				header: http.Header{"Content-Type": {mimi.MediaType}, "From": peer.from}})
		}
	}
	stranger := *dave.messageOf(t, bob.User(), root, hubA)
	unavailable("message, by a provider", post(mimi.EndpointSubmitMessage, hubA, encode(t, &stranger)))
	unavailable("claim, by a provider", post(mimi.EndpointKeyMaterial, anna.User(), claim))
	w.refuse(t, cases)

	// Members send all the same: their messages wait.
	ids := map[mimi.URI][]content.MessageID{}
	for _, c := range []*client.Client{anna, bob} {
		for i := range 3 {
			id, err := c.SendText(t.Context(), hubA, fmt.Sprintf("%v %d", c.User(), i))
			ok(t, err)
			ids[hubA] = append(ids[hubA], id)
		}
	}
	id, err := bob.SendText(t.Context(), hubB, "your disk is full")
	ok(t, err)
	ids[hubB] = append(ids[hubB], id)
	// At the hub b.example it is posted, at a.example it can't be.
	_, err = bob.Wait(t.Context(), hubB, id)
	ok(t, err)
	badUntil(t, "bob's messages are kept by his provider", func() bool {
		out, err := bob.Unposted(t.Context(), hubA)
		ok(t, err)
		return len(out) == 3 && !slices.ContainsFunc(out, func(o client.Outgoing) bool { return o.Status != client.OutgoingForwarding })
	})
	for _, c := range []*client.Client{anna, bob} {
		for _, id := range ids[hubA] {
			if _, err := anna.Message(t.Context(), hubA, id); !errors.Is(err, client.ErrUnknownMessage) {
				t.Errorf("%v sees a message that can't be stored: %v", c.User(), err)
			}
		}
	}
	w.healthy(t)

	ok(t, os.Remove(ballast))
	for uri, sent := range ids {
		for _, id := range sent {
			for _, c := range []*client.Client{anna, bob} {
				badUntil(t, fmt.Sprintf("%v has the messages from before there was space", c.User()), func() bool {
					_, err := c.Message(t.Context(), uri, id)
					return err == nil
				})
			}
		}
	}
	for name, want := range map[string]func(t *testing.T) badAnswer{
		"message": submit, "room": cases[2].do, "KeyPackage": cases[3].do, "enrolment": cases[4].do,
	} {
		if got := want(t); got.status >= 300 {
			t.Errorf("%s, with space again: %d %s", name, got.status, got.says)
		} else if name == "enrolment" {
			var resp local.EnrolResponse
			if err := json.Unmarshal(got.body, &resp); err != nil || resp.User != code.User {
				t.Errorf("enrolled %q: %v", resp.User, err)
			}
		}
	}
	badAlive(t, hubA, anna, bob)
	badAlive(t, hubB, anna, bob)
	once(t, hubA, anna, bob)
	once(t, hubB, anna, bob)
	w.settle()
	for _, line := range badLines(before) {
		if line[0] == ' ' && !slices.Contains(badLines(w.base), line) {
			t.Errorf("lost: %s", line)
		}
	}
	// A restart finds what was there.
	ok(t, a.Stop())
	ok(t, a.Start(t.Context()))
	w.pids["a.example"] = a.PID()
	w.unchanged(t)
	w.healthy(t)
	badAlive(t, hubA, anna, bob)
	badAlive(t, hubB, anna, bob)
}
