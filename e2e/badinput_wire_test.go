package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
)

// testWire: what is not even a request.
func (s *badScene) testWire(t *testing.T) {
	w := s.w
	w.settle()
	c := w.provider("a.example").Config
	noise := make([]byte, 4096)
	rand.Read(noise)
	for name, at := range map[string]struct {
		addr string
		tls  bool
	}{"federation": {c.Listen, true}, "clients": {c.ClientListen, true}, "operations": {c.OpsListen, false}} {
		// exchange sends octets and returns what comes back until the other side
		// closes, which it must.
		exchange := func(t *testing.T, secure bool, send []byte) string {
			t.Helper()
			conn, err := net.DialTimeout("tcp", at.addr, badPatience)
			ok(t, err)
			defer conn.Close()
			ok(t, conn.SetDeadline(time.Now().Add(badPatience)))
			if secure {
				conn = tls.Client(conn, &tls.Config{RootCAs: w.fleet.Roots, ServerName: "a.example", MinVersion: tls.VersionTLS13})
			}
			_, _ = conn.Write(send) // it may be closed before all is sent
			b, err := io.ReadAll(io.LimitReader(conn, 1<<20))
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection is still open after %v", badPatience)
			}
			return string(b)
		}
		answers := func(what string, want string, secure bool, send []byte) {
			t.Run(name+"/"+what, func(t *testing.T) {
				if got := exchange(t, secure, send); !strings.HasPrefix(got, want) {
					t.Errorf("the answer is %.100q, want %q", got, want)
				}
				w.unchanged(t)
				w.healthy(t)
			})
		}
		answers("no HTTP", "HTTP/1.1 400", at.tls, append(slices.DeleteFunc(bytes.Clone(noise), func(b byte) bool { return b == '\n' || b == 0 }), "\r\n\r\n"...))
		answers("header without end", "HTTP/1.1 431", at.tls, []byte("GET / HTTP/1.1\r\nHost: a.example\r\nX: "+strings.Repeat("x", 200<<10)))
		answers("two lengths", "HTTP/1.1 400", at.tls, []byte("POST /v1/enrol HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"))
		answers("negative length", "HTTP/1.1 400", at.tls, []byte("POST /v1/enrol HTTP/1.1\r\nHost: a.example\r\nContent-Length: -3\r\n\r\nabc"))
		answers("no Host", "HTTP/1.1 400", at.tls, []byte("GET / HTTP/1.1\r\n\r\n"))
		answers("unknown HTTP version", "HTTP/1.1 505", at.tls, []byte("GET / HTTP/9.9\r\nHost: a.example\r\n\r\n"))
		if at.tls {
			answers("plain HTTP", "HTTP/1.0 400", false, []byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"))
			answers("noise in place of TLS", "", false, noise)
			t.Run(name+"/old TLS", func(t *testing.T) {
				conn, err := tls.Dial("tcp", at.addr, &tls.Config{RootCAs: w.fleet.Roots, ServerName: "a.example", MaxVersion: tls.VersionTLS12})
				if err == nil {
					conn.Close()
					t.Error("TLS 1.2 is accepted")
				}
				w.healthy(t)
			})
		}
	}
}

// testRemovedSpeaks: a provider lends the name of a participant to somebody
// who was removed. The hub can't see through it; every member does.
func (s *badScene) testRemovedSpeaks(t *testing.T) {
	w := s.w
	oscar := w.device("oscar", "b.example")
	kp, private := oscar.keyPackage(t, badValid)
	if a := oscar.publish(t, kp); a.status >= 300 {
		t.Fatalf("publishing: %d %s", a.status, a.says)
	}
	oscar.join(t, s.room, s.root, s.root.add(t, s.room, oscar.user), kp, private)
	said := oscar.message(t, s.room, "while a member")
	ghost := oscar.message(t, s.room, "from beyond")
	if c := oscar.tls(t, http.MethodPost, "/v1/submitMessage/"+s.room.PathSegment(), encode(t, said)).submitted(t).code; c != mimi.SubmitAccepted.String() {
		t.Fatalf("a member's message: %s", c)
	}
	s.root.remove(t, s.room, oscar.user)
	ghost.SendingURI = s.bob.User()
	got := w.peer("b.example", "a.example").post(t, mimi.EndpointSubmitMessage, s.room.PathSegment(), encode(t, ghost)).submitted(t)
	if got.code != mimi.SubmitAccepted.String() {
		t.Fatalf("the hub answers %d %s: this test is about what it can't see", got.status, got.code)
	}
	badAlive(t, s.room, s.anna, s.bob)
	for _, c := range []*client.Client{s.anna, s.bob} {
		entries, err := c.History(t.Context(), s.room, 0, 1000)
		ok(t, err)
		texts, problems := 0, 0
		for _, e := range entries {
			switch {
			case e.Kind == client.EntryMessage && e.Text() == "while a member" && e.User == oscar.user:
				texts++
			case e.Kind == client.EntryMessage && strings.Contains(e.Text(), "beyond"):
				t.Errorf("%v shows what a removed user says, as of %v", c.User(), e.User)
			case e.Kind == client.EntryProblem && e.Problem.Code == client.ProblemSender && strings.Contains(e.Problem.Text, oscar.user.String()):
				problems++
			}
		}
		if texts != 1 || problems != 1 {
			t.Errorf("%v has the earlier message %d times, and noticed the other %d times", c.User(), texts, problems)
		}
	}
	w.healthy(t)
}

// testRestart: after all that, everybody finds what was there.
func (s *badScene) testRestart(t *testing.T) {
	w := s.w
	w.settle()
	before := w.base
	for _, p := range w.fleet.Providers {
		ok(t, p.Kill())
	}
	w.t = t
	w.start()
	s.erin.login(t) // its count is part of the state
	if now := w.state(); now != before {
		t.Error("the state is another one after a crash")
	}
	w.healthy(t)
	badAlive(t, s.room, s.anna, s.bob)
	s.nextEpoch(t)
	for _, c := range []*client.Client{s.anna, s.bob} {
		ctx, cancel := context.WithTimeout(t.Context(), badPatience)
		_, err := c.WaitRoom(ctx, s.room, func(r client.Room) bool { return r.Epoch == s.root.groups[s.room].State().Epoch() })
		cancel()
		ok(t, err)
	}
}
