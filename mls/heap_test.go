package mls

import (
	"runtime"
	"testing"
)

// heapInUse returns the octets of live objects.
func heapInUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// heapOfJoined returns what a joined group of n takes in memory, and what a
// commit that is staged takes besides.
func heapOfJoined(b testing.TB, w *benchGroup, n int) (group, staged int) {
	d := newcomers(b, 1)[0]
	from := w.member(LeafIndex(n / 2))
	sc, err := from.Commit(CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}})
	noError(b, err)
	welcome := mustMarshal(sc.Welcome)
	noError(b, from.Merge(sc))
	next, err := from.Commit(CommitOptions{})
	noError(b, err)
	commit := mustMarshal(next.Message)

	before := heapInUse()
	in := new(Welcome)
	noError(b, Unmarshal(welcome, in))
	g, err := JoinWelcome(w.cfg, in, nil, d.kp, d.priv, d.signer)
	noError(b, err)
	in = nil
	group = heapInUse() - before

	m := new(MLSMessage)
	noError(b, Unmarshal(commit, m))
	first, err := g.StageCommit(m) // may make room in the index of keys, for many
	noError(b, err)
	before = heapInUse()
	second, err := g.StageCommit(m)
	noError(b, err)
	staged = heapInUse() - before
	for _, v := range []any{w, from, next, welcome, commit, d, m, g, first, second} {
		runtime.KeepAlive(v)
	}
	return group, staged
}

func BenchmarkHeap(b *testing.B) {
	eachSize(b, func(b *testing.B, n int, warm bool) {
		group, staged := heapOfJoined(b, newBenchGroup(b, n-1, warm), n)
		for b.Loop() {
		}
		b.ReportMetric(float64(group)/float64(n), "B/member")
		b.ReportMetric(float64(staged), "B/staged")
		b.ReportMetric(0, "ns/op")
	})
}

// TestHeapOfAMember holds the heap of a joined group to 450 octets a member,
// and 4 KiB for what a group of one has (secrets, indexes, Config), in the
// dearest of all trees: every node has a key, and the tree is nearly half
// empty. What a staged commit adds must not grow with the group.
func TestHeapOfAMember(t *testing.T) {
	stagedAt := map[int]int{}
	for _, n := range []int{260, 1030} {
		group, staged := heapOfJoined(t, newBenchGroup(t, n-1, true), n)
		stagedAt[n] = staged
		if each := (group - 4<<10) / n; each > 450 {
			t.Errorf("a joined group of %d takes %d octets a member", n, each)
		}
	}
	if stagedAt[1030] > stagedAt[260]*2 {
		t.Errorf("staged commits take %v octets for so many members", stagedAt)
	}
}
