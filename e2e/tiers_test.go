// Package e2e starts real providers and drives them from outside. It also
// holds the tests of the repository as a whole.
package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/comity-im/comity"

// tiers orders the packages: one may import packages of lower tiers, and of
// its own tier only leaves, which import nothing else of that tier. A longer
// path wins over a shorter one.
var tiers = map[string]int{
	"internal/tlspl": 0, "internal/vectors": 0,
	"mls": 0, "content": 0, "mimi": 0, "mimi/local": 0,
	"room": 1, "identity": 1, "discovery": 1, "internal/devcert": 1, "internal/irclog": 1,
	"internal/store": 2, "internal/federation": 2, "client": 2, "internal/owner": 2, "internal/journal": 2,
	"internal/hub": 3, "internal/replica": 3, "internal/keys": 3, "internal/delivery": 3,
	"internal/api": 4, "internal/admin": 4, "internal/fedtest": 4, "conform": 4,
	"internal/provider": 5,
	"internal/fleet":    6,
	"internal/replay":   7, "internal/bench": 7, "internal/sim": 7,
	"cmd": 8, "e2e": 8, "web": 8,
}

func tier(pkg string) (tier int, group string, ok bool) {
	for p := pkg; ; {
		if t, ok := tiers[p]; ok {
			return t, p, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			return 0, "", false
		}
		p = p[:i]
	}
}

func TestImportTiers(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	imports := map[string][]string{} // by group, without the module's path
	groups := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		_, group, ok := tier(name)
		if !ok {
			t.Errorf("%s has no tier: place it in the table of this test and in ARCHITECTURE.md", name)
			continue
		}
		groups[name] = group
		for _, i := range p.Imports {
			if dep, own := strings.CutPrefix(i, module+"/"); own {
				imports[name] = append(imports[name], dep)
			}
		}
	}
	if len(groups) < 10 {
		t.Fatalf("only %d packages found", len(groups))
	}
	// A leaf imports nothing of its own tier outside its group.
	leaf := func(name string) bool {
		own, group, _ := tier(name)
		for _, dep := range imports[name] {
			if t, g, _ := tier(dep); t == own && g != group && !foundation[g] {
				return false
			}
		}
		return true
	}
	for name, deps := range imports {
		own, group, _ := tier(name)
		for _, dep := range deps {
			t2, g2, _ := tier(dep)
			switch {
			case g2 == group, t2 < own:
			case t2 == own && (foundation[g2] || leaf(dep) || allowed[group+" → "+g2]):
			default:
				t.Errorf("%s (tier %d) imports %s (tier %d)", name, own, dep, t2)
			}
		}
		if name == "content" || strings.HasPrefix(name, "content/") {
			for _, dep := range deps {
				if dep == "mls" || strings.HasPrefix(dep, "mls/") {
					t.Errorf("%s imports %s: the content format is usable without MLS", name, dep)
				}
			}
		}
	}
}

// foundation packages are beneath their whole tier.
var foundation = map[string]bool{"internal/tlspl": true}

// allowed lists the exceptions to "only leaves of its own tier", each with
// its reason in ARCHITECTURE.md.
var allowed = map[string]bool{
	"mimi/local → mimi": true, // the client API carries MIMI bodies
}
