// Package vectors finds the official test vectors for tests. [Dir] comes
// first. The vectors are not part of the module: they lie in the folder that
// COMITY_VECTORS names, or in ../shared/vectors beside the module's root.
package vectors

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Dir returns the folder of the vectors' set sub, for example "mls". Where
// it is absent the test is skipped with a message that starts with
// "MISSING VECTORS:".
func Dir(tb testing.TB, sub string) string {
	tb.Helper()
	root := os.Getenv("COMITY_VECTORS")
	if root == "" {
		root = filepath.Join(moduleRoot(tb), "..", "shared", "vectors")
	}
	dir := filepath.Join(root, filepath.FromSlash(sub))
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		tb.Skipf("MISSING VECTORS: no folder %s; set COMITY_VECTORS to the folder that holds %q", dir, sub)
	}
	return dir
}

// Load decodes the JSON file name of the set sub into v. A file that is
// absent from a set that is present fails the test: a lost file must not
// look like a pass.
func Load(tb testing.TB, sub, name string, v any) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(Dir(tb, sub), name))
	if err != nil {
		tb.Fatalf("read vectors: %v", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		tb.Fatalf("decode %s: %v", name, err)
	}
}

// Hex is a byte string that vectors write in hexadecimal. null decodes to
// nil, "" to an empty slice.
type Hex []byte

// UnmarshalJSON implements [json.Unmarshaler].
func (h *Hex) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*h = nil
	if s == nil {
		return nil
	}
	v, err := hex.DecodeString(*s)
	if err != nil {
		return err
	}
	*h = append(Hex{}, v...)
	return nil
}

func moduleRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			tb.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}
