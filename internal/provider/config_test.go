package provider

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const good = `
domain = "A.example"
data_dir = "data"
listen = "127.0.0.1:8443"
client_listen = "127.0.0.1:8444"
[tls]
certificate = "tls.pem"
key = "tls.key"
[federation]
peers = ["b.example"]
resolve = { "B.example" = "127.0.0.1:9443" }
`

func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"tls.pem", "tls.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "comity.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadConfig(path)
}

func TestLoadConfig(t *testing.T) {
	c, err := load(t, good)
	if err != nil {
		t.Fatal(err)
	}
	if c.Domain != "a.example" || c.PublicURL != "https://a.example" || !filepath.IsAbs(c.DataDir) ||
		c.Federation.Policy != "list" || c.Federation.Resolve["b.example"] != "127.0.0.1:9443" || c.Log.Level != "info" {
		t.Errorf("got %+v", c)
	}
	path := filepath.Join(t.TempDir(), "again.toml")
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	again, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, again) {
		t.Errorf("written and read again: got %+v, want %+v", again, c)
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	for name, c := range map[string]struct{ from, to, says string }{
		"misspelt setting":   {"listen = \"127.0.0.1:8443\"", "lisen = \"127.0.0.1:8443\"", "lisen"},
		"no domain":          {"domain = \"A.example\"", "", "domain"},
		"domain with a port": {"A.example", "a.example:1", "domain"},
		"no data directory":  {"data_dir = \"data\"", "", "data_dir is missing"},
		"address, no port":   {"127.0.0.1:8444", "127.0.0.1", "client_listen"},
		"missing key file":   {"key = \"tls.key\"", "key = \"other.key\"", "there is no file"},
		"bad peer":           {"\"b.example\"]", "\"b/example\"]", "federation.peers"},
		"bad resolve":        {"127.0.0.1:9443", "127.0.0.1", "federation.resolve"},
		"bad policy":         {"[federation]", "[federation]\npolicy = \"all\"", "federation.policy"},
		"bad level":          {"[tls]", "[log]\nlevel = \"loud\"\n[tls]", "log.level"},
		"plain public URL":   {"[tls]", "public_url = \"http://a\"\n[tls]", "public_url"},
		"no TOML":            {"[tls]", "[tls", "comity.toml"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		if strings.HasPrefix(c.to, "public_url") {
			text = c.to[:strings.Index(c.to, "\n")+1] + good
		}
		if _, err := load(t, text); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v; want one that mentions %q", name, err, c.says)
		}
	}
	_, err := load(t, "log = { level = \"loud\" }")
	for _, want := range []string{"domain", "data_dir", "listen", "client_listen", "tls.key", "log.level"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("several faults: %v does not mention %s", err, want)
		}
	}
}
