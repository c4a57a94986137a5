package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if a, err := certificates(); err == nil {
		_ = os.RemoveAll(filepath.Dir(a.RootFile()))
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func quiet() { synctest.Wait() }

// seeds is how many seeds TestSim runs: 200, fewer with -short and with the
// race detector, or what COMITY_SIM_SEEDS says: a number, or "first:last".
func seeds(t *testing.T) (first, last uint64) {
	first, last = 1, 200
	switch {
	case testing.Short():
		last = 20
	case raceEnabled:
		last = 40
	}
	env := os.Getenv("COMITY_SIM_SEEDS")
	if env == "" {
		return first, last
	}
	from, to, both := strings.Cut(env, ":")
	if !both {
		from, to = "1", env
	}
	var err error
	if first, err = strconv.ParseUint(from, 10, 64); err == nil {
		last, err = strconv.ParseUint(to, 10, 64)
	}
	if err != nil || first > last {
		t.Fatalf("COMITY_SIM_SEEDS=%q: want a number, or first:last", env)
	}
	return first, last
}

// TestSim runs a federation for each seed. Run one with -run 'TestSim/seed=17$',
// outside of 1 … 200 with COMITY_SIM_SEEDS=17:17. COMITY_SIM_LOG=1 adds what the
// providers and devices log to the trace, COMITY_SIM_TRACE=1 prints it always.
func TestSim(t *testing.T) {
	first, last := seeds(t)
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			if _, err := simulate(t, seed, options{steps: steps}); err != nil {
				t.Error(err)
			}
		})
	}
}

// steps is the length of a run.
const steps = 40

// TestSimCatches checks that the checks can fail: it has the network, a store
// or a provider betray the others, in one point each, and wants to be told.
func TestSimCatches(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  lie
		says []string // any of these
	}{
		{"dropped and acknowledged", lieDrop, []string{"log of"}},
		{"two messages swapped", lieSwap, []string{"log of"}},
		{"taken a second time", lieForgetful, []string{"log of", "was decrypted before"}},
		{"another timestamp", lieTimestamps, []string{"log of"}},
		{"withheld from a device", lieFrame, []string{"is missing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 20; seed++ {
				lies, err := simulate(t, seed, options{steps: steps, lie: c.lie})
				if lies == 0 {
					if err != nil {
						t.Errorf("without a lie: %v", err)
					}
					continue
				}
				if err == nil || !slices.ContainsFunc(c.says, func(s string) bool { return strings.Contains(err.Error(), s) }) {
					t.Errorf("seed %d: nobody noticed: %v", seed, err)
				}
				return
			}
			t.Error("no opportunity in 20 seeds")
		})
	}
}

// simulate runs one seed in a bubble of its own, and says how often somebody
// lied. When it returns, nothing of it runs any more: synctest.Test sees to
// that.
func simulate(t *testing.T, seed uint64, opts options) (lies int, failure error) {
	if _, err := certificates(); err != nil {
		t.Fatal(err)
	}
	dir := scratch(t)
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(t, seed, opts, dir)
		if err == nil {
			err = w.play()
		}
		failure = err
		if w != nil {
			boxes := w.oracle.mailboxes()
			if err := w.close(); err != nil && failure == nil {
				failure = fmt.Errorf("closing: %w", err)
			}
			lies = w.net.lied
			if (failure != nil && opts.lie == honest) || os.Getenv("COMITY_SIM_TRACE") != "" {
				t.Logf("trace of seed %d:\n%s\nrooms:\n%s%s", seed, strings.Join(w.lines, "\n"), w.oracle.dump(), boxes)
			}
		}
	})
	if failure != nil {
		return lies, fmt.Errorf("seed %d: %w", seed, failure)
	}
	return lies, nil
}
