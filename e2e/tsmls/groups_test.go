package tsmls

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/comity-im/comity/mls"
)

var (
	oneSeed   = flag.Int64("tsmls.seed", -1, "play only the random group with this seed")
	sequences = flag.Int("tsmls.sequences", 0, "how many random groups to play; 0: 210, or 14 with -short")
)

// suites is how often each cipher suite is played. In ts-mls those with
// other curves than Curve25519 are slower by an order of magnitude.
var suites = []mls.CipherSuite{1, 3, 1, 3, 2, 1, 3, 4, 7, 3, 1, 6, 1, 5}

// suiteOf returns the suite that follows from the seed.
func suiteOf(seed uint64) mls.CipherSuite {
	s := suites[seed%uint64(len(suites))]
	if !s.Usable() { // Curve448
		return mls.X25519AES128SHA256Ed25519
	}
	return s
}

// TestRandomGroups plays random groups with members of both kinds: they are
// created, joined, changed and left in all ways that both implementations
// have, and talk. After each change all agree about the epoch, and so does a hub
// that is not a member. Which steps are taken follows from the seed; the keys
// do not, nor the GREASE that ts-mls adds.
func TestRandomGroups(t *testing.T) {
	needNode(t)
	n := *sequences
	switch {
	case n > 0:
	case testing.Short():
		n = len(suites)
	default:
		n = 15 * len(suites)
	}
	seeds := make([]uint64, 0, n)
	for seed := range uint64(n) {
		seeds = append(seeds, seed)
	}
	if *oneSeed >= 0 {
		seeds = []uint64{uint64(*oneSeed)}
	}
	nodes := make(chan *node, 2)
	for range min(cap(nodes), len(seeds)) {
		nodes <- startNode(t)
	}
	var mu sync.Mutex
	total := map[string]int{}
	bySuite := map[mls.CipherSuite]int{}
	t.Run("seed", func(t *testing.T) {
		for _, seed := range seeds {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				n := <-nodes
				defer func() { nodes <- n }()
				suite := suiteOf(seed)
				w := randomWorld(t, n, seed, suite)
				if suite == mls.X25519AES128SHA256Ed25519 || suite == mls.X25519ChaCha20SHA256Ed25519 {
					w.play(25)
				} else {
					w.maxMembers = 5
					w.play(10)
				}
				mu.Lock()
				defer mu.Unlock()
				bySuite[suite]++
				for what, count := range w.made {
					total[what] += count
				}
			})
		}
	})
	for _, what := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%6d %s", total[what], what)
	}
	for _, s := range slices.Sorted(maps.Keys(bySuite)) {
		t.Logf("%6d sequences with %v", bySuite[s], s)
	}
	if *oneSeed < 0 && *sequences == 0 && !testing.Short() && !t.Failed() {
		wantAll(t, total)
	}
}

// wantAll makes sure that the sequences contained all that they are about.
func wantAll(t *testing.T, total map[string]int) {
	var missing []string
	for _, what := range []string{
		"create", "say", "read", "read late", "read too late", "replay refused", "race", "resync", "propose itself",
		"propose add", "propose update", "propose remove", "propose psk", "propose resumption",
		"commit add", "commit remove", "commit psk", "commit resumption", "commit extensions",
		"public commit by go", "public commit by ts", "private commit by go", "private commit by ts",
		"join by Welcome", "tree out of band", "join externally", "join externally with a key",
		"agreement", "agreement with the hub", "hub follows a commit",
	} {
		if total[what] < 10 {
			missing = append(missing, fmt.Sprintf("%s (%d)", what, total[what]))
		}
	}
	if missing != nil {
		t.Errorf("hardly played: %s", strings.Join(missing, ", "))
	}
}
