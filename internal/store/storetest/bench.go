package storetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/store"
)

const benchRooms = 1000

// Bench measures an engine: durable appends of 1 KiB to random rooms at several
// numbers of writers, reading the end of a log, and claiming KeyPackages.
func Bench(b *testing.B, factory Factory) {
	for _, writers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("append/writers=%d", writers), func(b *testing.B) {
			s := benchStore(b, factory)
			b.SetBytes(1024)
			b.ResetTimer()
			fill(b, s, b.N, writers)
		})
	}
	b.Run("read 100", func(b *testing.B) {
		s := benchStore(b, factory)
		fill(b, s, 100*benchRooms, 256)
		b.ResetTimer()
		for b.Loop() {
			events, err := s.ReadLog(b.Context(), benchRoom(rand.IntN(benchRooms)), 0, 100, 0)
			if err != nil || len(events) == 0 {
				b.Fatal(len(events), err)
			}
		}
	})
	for _, claimers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("claim/claimers=%d", claimers), func(b *testing.B) { benchClaim(b, factory, claimers) })
	}
}

func benchStore(b *testing.B, factory Factory) store.Store {
	s := factory(b)(b, time.Now)
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	spread(b, benchRooms, 256, func(i int) error {
		_, err := s.CreateRoom(b.Context(), store.CreateRoom{Room: benchRoom(i), Hub: "hub.example", IsHub: true})
		return err
	})
	return s
}

func benchRoom(i int) string { return fmt.Sprint("mimi://hub.example/r/", i) }

// fill appends n events of 1 KiB that do not compress.
func fill(b *testing.B, s store.Store, n, writers int) {
	spread(b, n, writers, func(i int) error {
		body := make([]byte, 1024)
		for j := 0; j < len(body); j += 8 {
			binary.LittleEndian.PutUint64(body[j:], rand.Uint64())
		}
		_, err := s.Append(b.Context(), store.Append{
			Room: benchRoom(rand.IntN(benchRooms)), Events: []store.NewEvent{{Hash: store.Hash(body), Body: body}},
		})
		return err
	})
}

func benchClaim(b *testing.B, factory Factory, claimers int) {
	const users = 50
	s := benchStore(b, factory)
	each := b.N/users + 1
	spread(b, users, users, func(u int) error {
		user, device, code := fmt.Sprint("u", u), fmt.Sprint("d", u), store.Hash{1, byte(u)}
		if err := s.PutUser(b.Context(), store.User{URI: user}); err != nil {
			return err
		}
		if err := s.PutEnrolment(b.Context(), store.Enrolment{CodeHash: code, User: user, Expires: 10}); err != nil {
			return err
		}
		if err := s.UseEnrolment(b.Context(), code, store.Device{URI: device, User: user}, 1); err != nil {
			return err
		}
		kps := make([]store.KeyPackage, each)
		for i := range kps {
			kps[i] = store.KeyPackage{Ref: fmt.Append(nil, u, " ", i), Suite: 1, NotAfter: 10, Body: make([]byte, 1500)}
		}
		_, err := s.PublishKeyPackages(b.Context(), device, kps)
		return err
	})
	b.ResetTimer()
	spread(b, b.N, claimers, func(i int) error {
		got, err := s.ClaimKeyPackages(b.Context(), store.ClaimRequest{User: fmt.Sprint("u", i%users), Suites: []uint16{1}, Now: 1})
		if err == nil && got[0].Status != store.ClaimOK {
			err = fmt.Errorf("claim %d: status %d", i, got[0].Status)
		}
		return err
	})
}

// spread runs do(0) … do(n-1) in a number of goroutines.
func spread(b *testing.B, n, goroutines int, do func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, goroutines) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
