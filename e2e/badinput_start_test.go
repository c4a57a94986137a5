package e2e

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/devcert"
	"github.com/comity-im/comity/internal/fleet"
	"github.com/comity-im/comity/internal/provider"
)

// runServe runs `comity serve`, which must end by itself, and returns its exit
// code and what it wrote to standard error and output.
func runServe(t *testing.T, bin, config string, flags ...string) (code int, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), badPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, append([]string{"serve", "--config", config}, flags...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("it did not end within %v:\n%s", badPatience, &out)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), out.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, out.String()
}

// refusesStart fails unless the process ends with a code and says all of says,
// in one message of its own: no panic, no trace.
func refusesStart(t *testing.T, bin, config string, code int, says []string, flags ...string) {
	t.Helper()
	got, text := runServe(t, bin, config, flags...)
	if got != code {
		t.Errorf("serve %v: exit code %d, want %d:\n%s", flags, got, code, text)
	}
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("serve %v: %q is not in what it says:\n%s", flags, s, text)
		}
	}
	if strings.Contains(text, "goroutine ") || strings.Contains(text, "panic") || !strings.Contains(text, "comity: ") {
		t.Errorf("serve %v: that is no message for people:\n%s", flags, text)
	}
}

// newConfig writes a good configuration of a provider that is not started.
func newConfig(t *testing.T, bin, domain string) *fleet.Provider {
	t.Helper()
	f, err := fleet.New(fleet.Config{Binary: bin, Dir: shortDir(t), Domains: []string{domain}})
	ok(t, err)
	return f.Providers[0]
}

// testConfig: a configuration that is wrong ends the command with code 2 and
// names every fault; --check-config says the same.
func testConfig(t *testing.T, bin string) {
	good, err := os.ReadFile(newConfig(t, bin, "a.example").ConfigFile)
	ok(t, err)
	file := func(t *testing.T, text string) string {
		path := filepath.Join(t.TempDir(), "comity.toml")
		ok(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	set := func(key, value string) string {
		re := regexp.MustCompile(`(?m)^\s*` + key + ` = .*$`)
		if !re.Match(good) {
			t.Fatalf("the configuration has no %s:\n%s", key, good)
		}
		return re.ReplaceAllString(string(good), key+" = "+value)
	}
	notPEM := file(t, "this is no PEM")
	other, err := devcert.New(t.TempDir(), time.Now())
	ok(t, err)
	_, otherKey, err := other.Issue("a.example")
	ok(t, err)
	for name, c := range map[string]struct {
		text string
		says []string
	}{
		"empty": {"", []string{"domain:", "data_dir is missing", "listen is missing", "client_listen is missing", "tls.certificate is missing", "tls.key is missing"}},
		"everything wrong": {`domain = "no domain"
listen = "nowhere"
client_listen = "here:there:everywhere"
ops_listen = "x"
public_url = "ftp://a.example"
[tls]
certificate = "/none/cert.pem"
key = "/none/key.pem"
roots = "/none/roots.pem"
[federation]
policy = "maybe"
peers = ["a b"]
resolve = { "b.example" = "nowhere" }
[log]
level = "loud"
format = "poem"`, []string{"domain:", "data_dir is missing", "listen:", "client_listen:", "ops_listen:", "public_url:", "no file /none/cert.pem", "no file /none/key.pem",
			"no file /none/roots.pem", `"maybe" is neither`, "federation.peers:", "federation.resolve: b.example:", `"loud" is not one of`, `"poem" is neither`}},
		"unknown settings":       {"colour = \"red\"\n[tlz]\ncert = \"x\"\n" + string(good), []string{"unknown settings:", "colour", "tlz"}},
		"no TOML":                {"domain = \"a.example", []string{"comity.toml"}},
		"binary":                 {string(make([]byte, 1000)), []string{"comity.toml"}},
		"wrong type":             {set("domain", "7"), []string{"domain"}},
		"too large":              {string(good) + strings.Repeat("# comment\n", provider.MaxConfig/10), []string{"the limit is"}},
		"roots without any":      {set("roots", `"`+notPEM+`"`), []string{"holds no certificate"}},
		"certificate that isn't": {set("certificate", `"`+notPEM+`"`), []string{"TLS certificate"}},
		"key of another":         {set("key", `"`+otherKey+`"`), []string{"TLS certificate", "private key does not match public key"}},
		"log level":              {set("level", `"shout"`), []string{`log.level: "shout"`, "debug, info, warn, error"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, c.text)
			refusesStart(t, bin, path, 2, c.says)
			refusesStart(t, bin, path, 2, c.says, "--check-config")
		})
	}
	t.Run("no file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "none.toml")
		refusesStart(t, bin, path, 2, []string{"none.toml", "no such file"})
		refusesStart(t, bin, path, 2, []string{"none.toml", "no such file"}, "--check-config")
	})
}

// testOccupied: what is in use by another process.
func testOccupied(t *testing.T, bin string) {
	w := newBadWorld(t, bin, shortDir(t), "a.example")
	p := w.provider("a.example")
	w.settle()
	t.Run("data directory", func(t *testing.T) {
		second := *p.Config
		ports := newConfig(t, bin, "a.example").Config
		second.Listen, second.ClientListen, second.OpsListen = ports.Listen, ports.ClientListen, ports.OpsListen
		path := filepath.Join(t.TempDir(), "second.toml")
		ok(t, second.Write(path))
		refusesStart(t, bin, path, 1, []string{"STORE-LOCKED", "in use by another process"})
		w.unchanged(t)
		w.healthy(t)
	})
	for _, port := range []string{"listen", "client_listen", "ops_listen"} {
		t.Run(port, func(t *testing.T) {
			c := newConfig(t, bin, "a.example")
			l, err := net.Listen("tcp", "127.0.0.1:0")
			ok(t, err)
			defer l.Close()
			switch port {
			case "listen":
				c.Config.Listen = l.Addr().String()
			case "client_listen":
				c.Config.ClientListen = l.Addr().String()
			default:
				c.Config.OpsListen = l.Addr().String()
			}
			ok(t, c.Config.Write(c.ConfigFile))
			refusesStart(t, bin, c.ConfigFile, 1, []string{"address already in use", l.Addr().String()})
			// The data directory is not spoilt by it.
			l.Close()
			ok(t, c.Start(t.Context()))
			ok(t, c.Stop())
		})
	}
	t.Run("data directory that is a file", func(t *testing.T) {
		c := newConfig(t, bin, "a.example")
		ok(t, os.WriteFile(c.Config.DataDir, []byte("x"), 0o600))
		refusesStart(t, bin, c.ConfigFile, 1, []string{"data_dir", c.Config.DataDir})
	})
	t.Run("data directory of another domain", func(t *testing.T) {
		c := newConfig(t, bin, "a.example")
		ok(t, c.Start(t.Context()))
		ok(t, c.Stop())
		other := newConfig(t, bin, "b.example")
		other.Config.DataDir = c.Config.DataDir
		ok(t, other.Config.Write(other.ConfigFile))
		refusesStart(t, bin, other.ConfigFile, 1, []string{"is the CA of a.example, not of b.example"})
	})
}

// testDamage: a database that is damaged is not served.
func testDamage(t *testing.T, bin string) {
	w := newBadWorld(t, bin, shortDir(t), "a.example")
	p := w.provider("a.example")
	root := w.device("root", "a.example")
	anna := w.device("anna", "a.example")
	for range 20 {
		kp := badKP(t, anna, badValid)
		if a := anna.publish(t, kp); a.status >= 300 {
			t.Fatalf("publishing: %d %s", a.status, a.says)
		}
	}
	uri := root.create(t, "club", "group")
	for range 40 {
		if c := root.tls(t, "POST", "/v1/submitMessage/"+uri.PathSegment(), encode(t, root.message(t, uri, strings.Repeat("text ", 500)))).submitted(t).code; c != "accepted" {
			t.Fatal(c)
		}
	}
	w.settle()
	ok(t, w.fleet.Stop())
	db := filepath.Join(p.Config.DataDir, "comity.db")
	good, err := os.ReadFile(db)
	ok(t, err)
	if len(good) < 100_000 {
		t.Fatalf("the database has %d octets only", len(good))
	}
	says := []string{"STORE-CORRUPT", "restore it from a backup", db}
	for _, c := range []struct {
		name   string
		damage func() []byte
	}{
		{"garbage", func() []byte { return bytes.Repeat([]byte("garbage "), 4096) }},
		{"text", func() []byte { return []byte("hello") }},
		{"first page overwritten", func() []byte { return append(bytes.Repeat([]byte{0xff}, 8192), good[8192:]...) }},
		{"pages in the middle overwritten", func() []byte {
			b := bytes.Clone(good)
			for i := len(b) / 3; i < 2*len(b)/3; i++ {
				b[i] ^= 0x5a
			}
			return b
		}},
		{"cut in the middle", func() []byte { return good[:len(good)/2/8192*8192] }},
		{"cut within a page", func() []byte { return good[:len(good)/2/8192*8192+77] }},
		{"another program's database", func() []byte {
			b := bytes.Clone(good)
			copy(b[68:], "ABCD") // the application ID
			return b
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			damaged := c.damage()
			ok(t, os.WriteFile(db, damaged, 0o600))
			for _, side := range []string{"-wal", "-shm"} {
				_ = os.Remove(db + side)
			}
			refusesStart(t, bin, p.ConfigFile, 1, says)
			refusesStart(t, bin, p.ConfigFile, 1, says, "--check-config")
			after, err := os.ReadFile(db)
			ok(t, err)
			if !bytes.Equal(after, damaged) {
				t.Error("the damaged file was changed; who wants to rescue what is in it finds less")
			}
		})
	}
	t.Run("restored", func(t *testing.T) {
		ok(t, os.WriteFile(db, good, 0o600))
		if code, text := runServe(t, bin, p.ConfigFile, "--check-config"); code != 0 || !strings.Contains(text, "good") {
			t.Errorf("exit code %d: %s", code, text)
		}
		w.start()
		w.unchanged(t)
		w.healthy(t)
	})
}
