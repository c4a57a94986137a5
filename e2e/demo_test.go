package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inTemp has the processes that the test starts use a folder of their own for
// temporary files, and returns a check that it is empty.
func inTemp(t *testing.T) (check func()) {
	t.Helper()
	dir := shortDir(t)
	t.Setenv("TMPDIR", dir)
	return func() {
		t.Helper()
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v (%v)", left, err)
		}
	}
}

// gone checks that the processes which the demo named have ended.
func gone(t *testing.T, out string) {
	t.Helper()
	pids := regexp.MustCompile(`process (\d+)`).FindAllStringSubmatch(out, -1)
	if len(pids) != 3 {
		t.Errorf("%d processes named, want 3", len(pids))
	}
	for _, m := range pids {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("process %d still runs (%v)", pid, err)
		}
	}
}

func TestDemo(t *testing.T) {
	comity := binary(t)
	empty := inTemp(t)
	began := time.Now()
	r := must(t, "", comity, "demo")
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the demo took %v; the limit is 30 s", took)
	}
	if r.errout != "" {
		t.Errorf("standard error:\n%s", r.errout)
	}
	if strings.Contains(r.out, "\x1b") {
		t.Error("colours in a pipe")
	}
	rest := r.out
	for _, pattern := range []string{
		`(?m)^Three providers start$`,
		`(?m)^  a\.example +process \d+ `,
		`(?m)^  c\.example +process \d+ `,
		`(?m)^  bob +mimi://b\.example/d/bob/phone$`,
		`(?m)^  alice +created mimi://a\.example/r/clubhouse-\S+$`,
		`(?m)^  alice +added bob@b\.example and carol@c\.example; they are in after \d+ ms$`,
		`(?m)^  bob +↳ I can, at b\.example; .*seen by all 3 after \d+ ms$`,
		`(?m)^All talk at once`,
		`(?m)^  9 messages, seen by all 3 after \d+ ms$`,
		`(?m)^  bob's tablet +bob's tablet here; .*seen by all 4 `,
		`(?m)^carol leaves`,
		`(?m)^  bob +Now we are two users, .*seen by all 3 `,
		`(?m)^  dave +joined`,
		`(?m)^  carol +↳ It is\. .*seen by all 2 `,
		`(?m)^ +1  commit +\d+  [0-9a-f]{36} +1 +1 +1$`,
		`(?m)^ +\d+  message +\d+  [0-9a-f]{36} +\d+ +\d+ +-$`,
		`(?m)^  providers +\d+ pieces of 17 messages searched in \d+ files, \d+ octets: none there$`,
		`(?m)^  devices +\d+ pieces of 17 messages searched in \d+ files, \d+ octets: none there$`,
		`(?m)^  alice +Clubhouse +15 of 15 messages, in order  epoch \d+$`,
		`(?m)^  bob +Clubhouse +15 of 15 messages, in order  epoch \d+$`,
		`(?m)^  carol +Clubhouse +14 of 14 messages, in order  left$`,
		`(?m)^  bob's tablet +Clubhouse +3 of +3 messages, in order  epoch \d+$`,
		`(?m)^  dave +Lobby +2 of +2 messages, in order  epoch \d+$`,
		`(?m)^Done in \d+\.\d s: three providers, 5 devices, 17 messages`,
	} {
		at := regexp.MustCompile(pattern).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("no %s in what follows; the whole output:\n%s", pattern, r.out)
		}
		rest = rest[at[1]:]
	}
	gone(t, r.out)
	empty()
}

func TestDemoKeep(t *testing.T) {
	comity := binary(t)
	empty := inTemp(t)
	demo := start(t, "demo", comity, "demo", "--keep")
	demo.stdout(t, `^  Ctrl-C here ends it all`)
	talk := regexp.MustCompile(`^  \S+ (chat --home \S+/(alice-phone|bob-phone) mimi://\S+)$`)
	commands := map[string][]string{}
	demo.mu.Lock()
	for _, l := range demo.out {
		if m := talk.FindStringSubmatch(l); m != nil {
			commands[m[2]] = strings.Fields(m[1])
		}
	}
	demo.mu.Unlock()
	if len(commands) != 2 {
		t.Fatalf("found the commands %v in\n%s", commands, demo.dump())
	}
	must(t, "by hand\n", comity, commands["alice-phone"]...)
	bob := start(t, "bob", comity, commands["bob-phone"]...)
	bob.stdout(t, `alice@a\.example: by hand$`)
	if r := bob.end(t); r.code != 0 {
		t.Errorf("bob ended with %d:\n%s", r.code, r.errout)
	}
	r := demo.interrupt(t)
	if r.code != 0 || r.errout != "" {
		t.Errorf("Ctrl-C ended the demo with %d:\n%s", r.code, r.errout)
	}
	gone(t, r.out)
	empty()
}

func TestDemoInterrupted(t *testing.T) {
	comity := binary(t)
	empty := inTemp(t)
	demo := start(t, "demo", comity, "demo")
	demo.stdout(t, `^  c\.example +process`)
	r := demo.interrupt(t)
	// It may have come to its end before the signal did.
	if r.code != 1 || !strings.Contains(r.errout, "interrupted") {
		if r.code != 0 || !strings.Contains(r.out, "\nDone in") {
			t.Errorf("Ctrl-C ended the demo with %d:\n%s", r.code, r.errout)
		}
	}
	gone(t, r.out)
	empty()
}

// A demo whose output nobody reads any more still clears away what it made.
func TestDemoUnread(t *testing.T) {
	comity := binary(t)
	empty := inTemp(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(comity, "demo")
	cmd.Stdout = w
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := r.Read(first); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	empty()
}

// A demo that can't start its providers says so and fails.
func TestDemoFails(t *testing.T) {
	comity := binary(t)
	t.Setenv("TMPDIR", filepath.Join(shortDir(t), strings.Repeat("long", 30)))
	if err := os.MkdirAll(os.Getenv("TMPDIR"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(comity, "demo")
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "socket's path has a limit") {
		t.Errorf("with a path too long for sockets it ended with %v:\n%s", err, out)
	}
	if strings.Contains(string(out), "Done in") {
		t.Error("it claims to be done")
	}
}
