package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/comity-im/comity/internal/fleet"
)

// enrolled gives a user a device, by the commands that people use, and returns
// its home.
func enrolled(t *testing.T, binary, dir string, p *fleet.Provider, rootsFile, user, device string) string {
	t.Helper()
	code := strings.Fields(must(t, "", binary, "user", "add", user, "--config", p.ConfigFile).out)
	if len(code) != 2 {
		t.Fatalf("user add printed %q", code)
	}
	home := filepath.Join(dir, user+"-"+device)
	r := must(t, "", binary, "enrol", "--provider", "https://"+p.Config.Domain, "--address", p.Config.ClientListen,
		"--roots", rootsFile, "--code", code[1], "--device", device, "--home", home)
	want := fmt.Sprintf("mimi://%s/u/%s\nmimi://%s/d/%s/%s\n", p.Config.Domain, user, p.Config.Domain, user, device)
	if r.out != want {
		t.Fatalf("enrol printed %q, want %q", r.out, want)
	}
	// The code works once, and a home holds one device.
	other := home + "-again"
	if r := run(t, "", binary, "enrol", "--provider", "https://"+p.Config.Domain, "--address", p.Config.ClientListen,
		"--roots", rootsFile, "--code", code[1], "--device", "other", "--home", other); r.code != 1 || r.out != "" {
		t.Errorf("the code was good twice: %+v", r)
	}
	if r := run(t, "", binary, "enrol", "--provider", "https://"+p.Config.Domain, "--address", p.Config.ClientListen,
		"--roots", rootsFile, "--code", "X", "--device", "other", "--home", home); r.code != 1 || !strings.Contains(r.errout, "already") {
		t.Errorf("enrolling twice: %+v", r)
	}
	return home
}

// said returns the messages of an output, without their numbers and times.
func said(out string) []string {
	var lines []string
	re := regexp.MustCompile(`^ *\d+ \d\d:\d\d ((?:\* )?\S+@.*)$`)
	reply := regexp.MustCompile(`\(to \d+\)`)
	for l := range strings.SplitSeq(out, "\n") {
		if m := re.FindStringSubmatch(l); m != nil {
			lines = append(lines, reply.ReplaceAllString(m[1], "(to N)"))
		}
	}
	return lines
}

// Two people at two providers talk through pipes, while providers come and go.
func TestChatThroughPipes(t *testing.T) {
	comity := binary(t)
	dir := shortDir(t)
	f := startFleet(t, comity, dir, "a.example", "b.example")
	a, b := f.Providers[0], f.Providers[1]
	aliceHome := enrolled(t, comity, dir, a, f.RootsFile, "alice", "phone")
	bobHome := enrolled(t, comity, dir, b, f.RootsFile, "bob", "laptop")

	alice := start(t, "alice", comity, "chat", "--home", aliceHome)
	alice.write(t, "/create Clubhouse")
	room := alice.stderr(t, `^-- The room is (mimi://a\.example/r/clubhouse-\S+)$`)[1]
	alice.write(t, "/add bob@b.example")
	// Bob was never online with this device, and does not know the room.
	bob := start(t, "bob", comity, "chat", "--home", bobHome)
	bob.stdout(t, `-- alice@a\.example added bob@b\.example`)
	bob.stderr(t, `^-- You are now in "Clubhouse", mimi://a\.example/r/clubhouse-`)
	alice.write(t, "hello, bob")
	n := bob.stdout(t, `^ *(\d+) \d\d:\d\d alice@a\.example: hello, bob$`)[1]
	bob.write(t, "/reply "+n+" hello, alice", "/me waves", "//not a command", "  spaces stay ")
	alice.stdout(t, `bob@b\.example \(to \d+\): hello, alice$`)
	alice.stdout(t, `\* bob@b\.example waves$`)
	alice.stdout(t, `bob@b\.example: /not a command$`)
	alice.stdout(t, `bob@b\.example:   spaces stay`)

	// A second comity may not use the same device.
	if r := run(t, "", comity, "chat", "--home", bobHome); r.code != 1 || !strings.Contains(r.errout, "in use by another comity") {
		t.Errorf("a second chat on the same device: %+v", r)
	}
	// A command that fails is reported, and makes the exit code.
	bob.write(t, "/remove alice@a.example")
	bob.stderr(t, `^-- .*not allowed`)

	// The hub is away: bob's provider keeps what he says.
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	bob.write(t, "are you there?")
	bob.stderr(t, `^-- The room's hub, a\.example, can't be reached\. Your provider keeps the message`)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	alice.stdout(t, `bob@b\.example: are you there\?$`)
	alice.write(t, "back again")
	bob.stdout(t, `alice@a\.example: back again$`)

	endA, endB := alice.end(t), bob.end(t)
	if endA.code != 0 {
		t.Errorf("alice ended with %d:\n%s", endA.code, endA.errout)
	}
	if endB.code != 1 || !strings.Contains(endB.errout, "not everything was done") {
		t.Errorf("bob ended with %d:\n%s", endB.code, endB.errout)
	}
	want := []string{
		"alice@a.example: hello, bob", "bob@b.example (to N): hello, alice", "* bob@b.example waves", "bob@b.example: /not a command",
		"bob@b.example:   spaces stay ", "bob@b.example: are you there?", "alice@a.example: back again",
	}
	for name, r := range map[string]result{"alice": endA, "bob": endB} {
		if got := said(r.out); !slices.Equal(got, want) {
			t.Errorf("%s saw\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if strings.Contains(r.out+r.errout, "\x1b") {
			t.Errorf("%s: escape sequences in a pipe", name)
		}
	}
	t.Run("passphrase", func(t *testing.T) { testPassphrase(t, comity, dir, b, f.RootsFile) })
	t.Run("offline", func(t *testing.T) { testOffline(t, comity, a, aliceHome, bobHome, room) })
	t.Run("json", func(t *testing.T) { testJSON(t, comity, bobHome, room) })
}

// What is said while the own provider is away is kept on the device.
func testOffline(t *testing.T, comity string, a *fleet.Provider, aliceHome, bobHome, room string) {
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	r := run(t, "kept for later\n", comity, "chat", "--home", aliceHome, "--timeout", "100ms", room)
	if r.code != 1 || !strings.Contains(r.errout, "the provider was not reached within 100ms") {
		t.Errorf("without its provider: %+v", r)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := must(t, "", comity, "chat", "--home", aliceHome, room); !strings.Contains(r.out, "alice@a.example: kept for later\n") {
		t.Errorf("the next chat shows\n%s", r.out)
	}
	bob := start(t, "bob", comity, "chat", "--home", bobHome, "--follow", room)
	bob.stdout(t, `alice@a\.example: kept for later$`)
	if err := bob.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, "one more\n", comity, "chat", "--home", aliceHome, room)
	bob.stdout(t, `alice@a\.example: one more$`) // after the end of the input
	if r := bob.interrupt(t); r.code != 0 {
		t.Errorf("Ctrl-C ended bob's chat with %d:\n%s", r.code, r.errout)
	}
}

// With a passphrase there is no key file, and no way in without it.
func testPassphrase(t *testing.T, comity, dir string, b *fleet.Provider, rootsFile string) {
	t.Setenv("COMITY_PASSPHRASE", "correct horse")
	home := enrolled(t, comity, dir, b, rootsFile, "carol", "laptop")
	if _, err := os.Stat(filepath.Join(home, "device.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key file beside a store with a passphrase: %v", err)
	}
	if r := must(t, "/rooms\n", comity, "chat", "--home", home); !strings.Contains(r.errout, "You are in no room.") {
		t.Errorf("with the passphrase: %+v", r)
	}
	for _, wrong := range []string{"incorrect horse", ""} {
		t.Setenv("COMITY_PASSPHRASE", wrong)
		if r := run(t, "/rooms\n", comity, "chat", "--home", home); r.code != 1 || strings.Contains(r.errout, "no room") {
			t.Errorf("with the passphrase %q: %+v", wrong, r)
		}
	}
}

func testJSON(t *testing.T, comity, home, room string) {
	r := must(t, "", comity, "chat", "--home", home, "--json", "--history", "1000", room)
	var texts []string
	var last float64
	for l := range strings.SplitSeq(strings.TrimSuffix(r.out, "\n"), "\n") {
		var e struct {
			Room, Kind, Text, User string
			Seq                    float64
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatalf("%v in %q", err, l)
		}
		if e.Room != room || e.Seq != last+1 {
			t.Errorf("entry %v of %s follows entry %v of %s", e.Seq, e.Room, last, room)
		}
		last = e.Seq
		if e.Kind == "message" {
			texts = append(texts, e.Text)
		}
	}
	want := []string{"hello, bob", "hello, alice", "/me waves", "/not a command", "  spaces stay ", "are you there?", "back again", "kept for later", "one more"}
	if !slices.Equal(texts, want) {
		t.Errorf("got %q\nwant %q", texts, want)
	}
	if r := must(t, "", comity, "chat", "--home", home, "--history", "0", room); r.out != "" {
		t.Errorf("with no history and nothing new it printed\n%s", r.out)
	}
}
