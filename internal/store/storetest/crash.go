package storetest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/comity-im/comity/internal/store"
)

// childEnv names, for a child process of Crash, the database to load.
const childEnv = "COMITY_STORETEST_CHILD"

const (
	crashRooms    = 5
	crashWriters  = 12
	crashUser     = "mimi://crash.example/u/u"
	crashDevice   = "mimi://crash.example/d/u/d"
	crashPackages = 2000
)

// Child is the first thing in the TestMain of an engine that calls Crash. In a
// child process it loads the database until it is killed, and does not return.
func Child(open func(dsn string) (store.Store, error)) {
	dsn := os.Getenv(childEnv)
	if dsn == "" {
		return
	}
	s, err := open(dsn)
	if err == nil {
		err = load(s, os.Stdout)
	}
	fmt.Fprintln(os.Stderr, "child:", err)
	os.Exit(1)
}

// load writes to the store, and to acks a line for each write that returned. It
// ends with an error only.
func load(s store.Store, acks io.Writer) error {
	ctx := context.Background()
	for r := range crashRooms {
		_, err := s.CreateRoom(ctx, store.CreateRoom{Room: fmt.Sprint("room", r), Hub: "h"})
		if err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	var mu sync.Mutex
	ack := func(format string, args ...any) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := fmt.Fprintf(acks, format+"\n", args...)
		return err
	}
	failed := make(chan error, crashWriters+2)
	for w := range crashWriters {
		go func() { failed <- loadLog(ctx, s, w, ack) }()
	}
	go func() { failed <- loadClaims(ctx, s, ack) }()
	go func() { failed <- loadMail(ctx, s, ack) }()
	return <-failed
}

func loadLog(ctx context.Context, s store.Store, w int, ack func(string, ...any) error) error {
	for i := 0; ; i++ {
		room := fmt.Sprint("room", (w+i)%crashRooms)
		body := make([]byte, 64+rand.IntN(3000))
		for j := range body {
			body[j] = byte(rand.Uint32())
		}
		hash := sha256.Sum256(body)
		// The record must be there if the event is: they are one.
		res, err := s.Append(ctx, store.Append{
			Room: room, Events: []store.NewEvent{{Hash: hash, Body: body}},
			State: store.Delta{Put: []store.KV{{Key: fmt.Sprint("last ", w), Value: hash[:]}}},
		})
		if err != nil {
			return err
		}
		if err := ack("event %s %d %x %d", room, res.Position, hash, w); err != nil {
			return err
		}
	}
}

func loadClaims(ctx context.Context, s store.Store, ack func(string, ...any) error) error {
	for {
		got, err := s.ClaimKeyPackages(ctx, store.ClaimRequest{User: crashUser, Suites: []uint16{1}, Now: start})
		if err != nil {
			return err
		}
		if got[0].Status != store.ClaimOK {
			select {} // all gone; the others go on
		}
		if err := ack("claim %x", got[0].Ref); err != nil {
			return err
		}
	}
}

func loadMail(ctx context.Context, s store.Store, ack func(string, ...any) error) error {
	for {
		hash := store.Hash{}
		for j := range hash {
			hash[j] = byte(rand.Uint32())
		}
		ids, err := s.PutMail(ctx, []store.NewMail{{Device: crashDevice, Hash: hash, Body: hash[:]}})
		if err != nil {
			return err
		}
		if err := ack("mail %d %x", ids[0], hash); err != nil {
			return err
		}
	}
}

// Crash kills a process that loads a database, rounds times, and checks after each
// that everything it was told is written is there. dsn names a new database.
//
// It shows that nothing acknowledged is in the memory of the process only, and that
// what was cut off leaves no trace. It can't show what a power cut does.
func Crash(t *testing.T, dsn string, rounds int, open func(dsn string) (store.Store, error)) {
	ctx := t.Context()
	prepare(t, dsn, open)
	events := map[string]string{} // "room position" → hash
	claims := map[string]bool{}
	mails := map[string]string{} // id → hash
	for round := range rounds {
		// The number of acks, not a time, says when: so it is in mid-load.
		for _, line := range loadAndKill(t, dsn, 50+rand.IntN(1500)) {
			f := strings.Fields(line)
			switch {
			case len(f) == 5 && f[0] == "event":
				events[f[1]+" "+f[2]] = f[3]
			case len(f) == 2 && f[0] == "claim":
				if claims[f[1]] {
					t.Errorf("KeyPackage %s was given out twice", f[1])
				}
				claims[f[1]] = true
			case len(f) == 3 && f[0] == "mail":
				mails[f[1]] = f[2]
			default:
				t.Fatalf("the child said %q", line)
			}
		}
		s, err := open(dsn)
		if err != nil {
			t.Fatalf("round %d: open after the crash: %v", round, err)
		}
		if err := s.Check(ctx); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		lost := 0
		for r := range crashRooms {
			lost += checkRoom(t, s, fmt.Sprint("room", r), events)
		}
		inbox, err := s.Mail(ctx, crashDevice, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]string{}
		for _, m := range inbox {
			there[fmt.Sprint(m.ID)] = hex.EncodeToString(m.Body)
		}
		for id, hash := range mails {
			if there[id] != hash {
				lost++
			}
		}
		for ref := range claims {
			b, err := hex.DecodeString(ref)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Claim(ctx, b); err != nil {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("round %d: %d of %d acknowledged writes are lost", round, lost, len(events)+len(mails)+len(claims))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(events) == 0 || len(claims) == 0 || len(mails) == 0 {
		t.Errorf("nothing was tested: %d events, %d claims, %d mails", len(events), len(claims), len(mails))
	}
	t.Logf("%d events, %d claims and %d mails were acknowledged and are there", len(events), len(claims), len(mails))
}

func prepare(t *testing.T, dsn string, open func(dsn string) (store.Store, error)) {
	t.Helper()
	s, err := open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	code := store.Hash{1}
	var kps []store.KeyPackage
	for i := range crashPackages {
		kps = append(kps, kp(fmt.Sprint(i), 1, start+10))
	}
	err = errors.Join(
		s.PutUser(ctx, store.User{URI: crashUser}),
		s.PutEnrolment(ctx, store.Enrolment{CodeHash: code, User: crashUser, Expires: start + 10}),
		s.UseEnrolment(ctx, code, store.Device{URI: crashDevice, User: crashUser}, start),
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PublishKeyPackages(ctx, crashDevice, kps); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// loadAndKill gives the acks of a child that was killed after n of them. An ack
// that was cut off in the pipe is left out.
func loadAndKill(t *testing.T, dsn string, n int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dsn)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acks []string
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break
		}
		acks = append(acks, strings.TrimSuffix(line, "\n"))
		if len(acks) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(acks) < n {
		t.Fatalf("the child ended by itself after %d acks: %v\n%s", len(acks), err, stderr.String())
	}
	return acks
}

// checkRoom compares a log with the acks and gives the number of those lost.
func checkRoom(t *testing.T, s store.Store, room string, events map[string]string) (lost int) {
	t.Helper()
	log, err := s.ReadLog(t.Context(), room, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	state, info, err := s.RoomState(t.Context(), room)
	if err != nil {
		t.Fatal(err)
	}
	if info.Head != uint64(len(log)) {
		t.Errorf("%s has head %d and %d events", room, info.Head, len(log))
	}
	there := map[string]string{}
	hashes := map[store.Hash]bool{}
	for i, ev := range log {
		if ev.Position != uint64(i+1) {
			t.Errorf("%s has position %d at place %d", room, ev.Position, i+1)
		}
		if sha256.Sum256(ev.Body) != ev.Hash {
			t.Errorf("%s: event %d is damaged", room, ev.Position)
		}
		there[fmt.Sprint(room, " ", ev.Position)] = hex.EncodeToString(ev.Hash[:])
		hashes[ev.Hash] = true
	}
	for at, hash := range events {
		if strings.HasPrefix(at, room+" ") && there[at] != hash {
			lost++
		}
	}
	// Each writer's last record is of an event that is there.
	for key, hash := range state {
		if !hashes[store.Hash(hash)] {
			t.Errorf("%s: record %q is of an event that is not there", room, key)
		}
	}
	return lost
}
