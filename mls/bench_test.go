package mls

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
)

// Each benchmark stands beside its floor: the signatures, HPKE operations,
// AEADs and hashes that the operation cannot do without, in the right
// number, made with Go's standard library and no protocol around them. Both
// run in turn, and what counts is the ratio of their fastest runs:
//
//	ns/op     the operation
//	floor-ns  its floor
//	x-floor   the ratio
//
// Parsing what came from the network belongs to the operation.

// benchVerifier costs nothing.
type benchVerifier = anyone

var sizes = []int{10, 100, 1000, 5000, 10000}

// compare times op and floor in turn. prepare comes before each op.
func compare(b *testing.B, prepare, op, floor func()) {
	b.Helper()
	b.ReportAllocs()
	var ops, floors []time.Duration
	runtime.GC()
	for b.Loop() {
		if prepare != nil {
			prepare()
		}
		start := time.Now()
		op()
		middle := time.Now()
		floor()
		ops, floors = append(ops, middle.Sub(start)), append(floors, time.Since(middle))
	}
	o, f := slices.Min(ops), slices.Min(floors)
	b.ReportMetric(float64(o), "ns/op")
	b.ReportMetric(float64(f), "floor-ns")
	b.ReportMetric(float64(o)/float64(f), "x-floor")
}

// eachSize runs a benchmark for groups of all sizes, warm and cold.
func eachSize(b *testing.B, run func(b *testing.B, n int, warm bool)) {
	for _, n := range sizes {
		for _, warm := range []bool{true, false} {
			name := "cold"
			if warm {
				name = "warm"
			}
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { run(b, n, warm) })
		}
	}
}

func BenchmarkEncrypt1K(b *testing.B) {
	eachSize(b, func(b *testing.B, n int, warm bool) {
		g := newBenchGroup(b, n, warm).member(LeafIndex(n / 2))
		data, f := make([]byte, 1024), newFloor(b)
		compare(b, nil, func() {
			m, err := g.Encrypt(data, nil)
			noError(b, err)
			_ = mustMarshal(m)
		}, func() {
			f.sign(1100)
			f.aead(1130) // the content
			f.aead(12)   // the sender data
			f.derive(5)  // key, nonce and next secret; sender data key and nonce
		})
	})
}

func BenchmarkDecrypt1K(b *testing.B) {
	eachSize(b, func(b *testing.B, n int, warm bool) {
		w := newBenchGroup(b, n, warm)
		compareDecrypt(b, w.member(LeafIndex(n/2)), w.member(0))
	})
}

// BenchmarkDecryptGeneration is the same when the sender has sent 100 000
// messages in the epoch.
func BenchmarkDecryptGeneration(b *testing.B) {
	w := newBenchGroup(b, 10, true)
	from, to := w.member(5), w.member(0)
	for g := range uint32(100_000) {
		k, _, err := from.tree.take(from.own, applicationRatchet)
		noError(b, err)
		k.wipe()
		if g%1000 == 999 { // the receiver follows
			use, err := to.tree.open(from.own, applicationRatchet, g, 1000)
			noError(b, err)
			use.consume(1)
		}
	}
	compareDecrypt(b, from, to)
}

// compareDecrypt opens messages of 1 KiB in order.
func compareDecrypt(b *testing.B, from, to *Group) {
	data, f := make([]byte, 1024), newFloor(b)
	var message []byte
	compare(b, func() {
		m, err := from.Encrypt(data, nil)
		noError(b, err)
		message = mustMarshal(m)
	}, func() {
		m := new(MLSMessage)
		noError(b, Unmarshal(message, m))
		_, err := to.Decrypt(m)
		noError(b, err)
	}, func() {
		f.verify(1100)
		f.aead(1130)
		f.aead(12)
		f.derive(5)
	})
}

// BenchmarkCommitCreate makes an empty commit with a path: a seal for each
// receiver, keys for each node, the leaf and external_pub, and signatures of
// leaf, commit and GroupInfo.
func BenchmarkCommitCreate(b *testing.B) {
	eachSize(b, func(b *testing.B, n int, warm bool) {
		w := newBenchGroup(b, n, warm)
		g, f := w.member(LeafIndex(n/2)), newFloor(b)
		filtered := w.state.tree.filteredPath(g.own)
		seals := 0
		for _, x := range filtered {
			for range w.state.tree.resolution(copathChild(x, g.own)) {
				seals++
			}
		}
		size := 0
		compare(b, nil, func() {
			sc, err := g.Commit(CommitOptions{})
			noError(b, err)
			size = len(mustMarshal(sc.Message))
		}, func() {
			noError(b, parallel(seals, func(int) error { f.seal(32); return nil }))
			for range len(filtered) + 2 {
				f.keyPair()
			}
			f.sign(300)
			f.sign(size)
			f.sign(400)
			f.hash(size) // transcript
			f.mac(size)  // membership
			f.derive(2*len(filtered) + 20)
			f.hashes(2*w.state.tree.depth, 150)
		})
	})
}

// BenchmarkCommitProcess parses, verifies, decrypts and merges an empty commit
// with a path of the member in the middle, seen by one with whom it shares
// the two topmost nodes: half of all members.
func BenchmarkCommitProcess(b *testing.B) {
	eachSize(b, func(b *testing.B, n int, warm bool) {
		w := newBenchGroup(b, n, warm)
		committer := LeafIndex(n / 2)
		from, to, f := w.member(committer), w.member(receiverOf(w.state.tree, committer)), newFloor(b)
		from.cfg.Limits.PastEpochs, to.cfg.Limits.PastEpochs = 0, 3
		var message []byte
		compare(b, func() {
			if !warm { // keep it cold
				from, to = w.member(committer), w.member(receiverOf(w.state.tree, committer))
			}
			sc, err := from.Commit(CommitOptions{})
			noError(b, err)
			noError(b, from.Merge(sc))
			message = mustMarshal(sc.Message)
		}, func() {
			m := new(MLSMessage)
			noError(b, Unmarshal(message, m))
			sc, err := to.StageCommit(m)
			noError(b, err)
			noError(b, to.Merge(sc))
		}, func() {
			f.verify(300)
			f.verify(len(message))
			f.mac(len(message))
			f.hash(len(message))
			f.open()
			f.keyPair()
			f.keyPair()
			f.derive(2*2 + 20)
			f.hashes(2*w.state.tree.depth, 150)
		})
	})
}

// receiverOf returns a member in the committer's half of the tree, but not in
// its quarter.
func receiverOf(t *tree, committer LeafIndex) LeafIndex {
	quarter := LeafIndex(1) << max(t.depth-2, 0)
	if l := committer ^ quarter; t.entry(l) != nil {
		return l
	}
	return 0
}

// BenchmarkHubProcess is the same for a hub, which has no secrets.
func BenchmarkHubProcess(b *testing.B) {
	eachSize(b, func(b *testing.B, n int, warm bool) {
		w := newBenchGroup(b, n, warm)
		c, err := w.cfg.withDefaults()
		noError(b, err)
		committer, f := LeafIndex(n/2), newFloor(b)
		from, hub := w.member(committer), &PublicGroup{cfg: c, state: w.state}
		var message []byte
		compare(b, func() {
			if !warm {
				from, hub = w.member(committer), &PublicGroup{cfg: c, state: w.state}
			}
			sc, err := from.Commit(CommitOptions{})
			noError(b, err)
			noError(b, from.Merge(sc))
			message = mustMarshal(sc.Message)
		}, func() {
			m := new(MLSMessage)
			noError(b, Unmarshal(message, m))
			sc, err := hub.StageCommit(m)
			noError(b, err)
			noError(b, hub.Merge(sc))
		}, func() {
			f.verify(300)
			f.verify(len(message))
			f.hash(len(message))
			f.hashes(2*w.state.tree.depth, 150)
		})
	})
}

// BenchmarkCreate makes a group of n in one commit with a Welcome that carries
// the tree.
func BenchmarkCreate(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var o CommitOptions
			for _, d := range newcomers(b, n-1) {
				o.Proposals = append(o.Proposals, AddProposal(d.kp))
			}
			signer, _, err := GenerateSigner(suite1, nil)
			noError(b, err)
			f := newFloor(b)
			commit, welcome := 0, 0
			compare(b, nil, func() {
				g, err := CreateGroup(Config{Credentials: benchVerifier{}, Limits: Limits{MaxProposals: n}}, GroupParams{
					CipherSuite: suite1, GroupID: []byte("bench"), Signer: signer, Credential: BasicCredential([]byte("creator")),
				})
				noError(b, err)
				sc, err := g.Commit(o)
				noError(b, err)
				commit, welcome = len(mustMarshal(sc.Message)), len(mustMarshal(sc.Welcome))
			}, func() {
				noError(b, parallel(n-1, func(int) error {
					f.verify(300) // the leaf
					f.verify(400) // the key package
					f.seal(100)
					f.hash(500) // its reference
					return nil
				}))
				f.sign(300) // the creator's leaf
				f.sign(commit)
				f.sign(welcome) // the GroupInfo with the tree …
				f.aead(welcome) // … encrypted
				f.hash(commit)
				f.mac(commit)
				f.hashes(2*n, 150)
				f.derive(20)
			})
		})
	}
}

// BenchmarkJoin parses a Welcome with the tree, and joins.
func BenchmarkJoin(b *testing.B) {
	eachSize(b, func(b *testing.B, n int, warm bool) {
		w := newBenchGroup(b, n-1, warm)
		d := newcomers(b, 1)[0]
		sc, err := w.member(LeafIndex(n / 2)).Commit(CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}})
		noError(b, err)
		welcome, f := mustMarshal(sc.Welcome), newFloor(b)
		compare(b, nil, func() {
			in := new(Welcome)
			noError(b, Unmarshal(welcome, in))
			_, err := JoinWelcome(w.cfg, in, nil, d.kp, d.priv, d.signer)
			noError(b, err)
		}, func() {
			noError(b, parallel(n, func(int) error { f.verify(300); return nil }))
			f.verify(len(welcome))
			f.aead(len(welcome))
			f.open()
			f.hashes(2*n, 200)
			f.keyPair()
			f.keyPair()
			f.derive(30)
		})
	})
}

// BenchmarkRecords is what a member and a hub store for one commit.
func BenchmarkRecords(b *testing.B) {
	octets := func(r Records) (n int) {
		for _, p := range r.Put {
			n += len(p.Key) + len(p.Value)
		}
		return n
	}
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newBenchGroup(b, n, true)
			from, to := w.member(LeafIndex(n/2)), w.member(0)
			from.cfg.Limits.PastEpochs = 0
			hub := &PublicGroup{cfg: from.cfg, state: w.state}
			to.Records()
			member, public := 0, 0
			for b.Loop() {
				sc, err := from.Commit(CommitOptions{})
				noError(b, err)
				noError(b, from.Merge(sc))
				got, err := to.StageCommit(sc.Message)
				noError(b, err)
				noError(b, to.Merge(got))
				member = octets(to.Records())
				before := hub.Clone()
				got, err = hub.StageCommit(sc.Message)
				noError(b, err)
				noError(b, hub.Merge(got))
				public = octets(hub.Records(before))
			}
			b.ReportMetric(float64(member), "member-octets")
			b.ReportMetric(float64(public), "hub-octets")
		})
	}
}
