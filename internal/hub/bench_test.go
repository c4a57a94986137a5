package hub_test

import (
	"sync"
	"testing"

	"github.com/comity-im/comity/internal/fedtest"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// BenchmarkSubmit is the whole way of a message through the hub: parse, judge,
// append durably, answer. 64 requests are under way at a time.
func BenchmarkSubmit(b *testing.B) {
	for _, followers := range []int{0, 1} {
		name := "alone"
		if followers > 0 {
			name = "follower"
		}
		b.Run(name, func(b *testing.B) {
			w := fedtest.New(b, fedtest.Options{})
			a := w.Start("a.example")
			alice := a.Enrol("alice", "1")
			uri := alice.Create("club", room.TemplateGroup)
			if followers > 0 {
				bob := w.Start("b.example").Enrol("bob", "1")
				w.OK(alice.Add(uri, bob.User))
				w.OK(alice.Sync())
			}
			bodies := make([][]byte, b.N)
			for i := range bodies {
				req, err := alice.Encrypt(uri, "a message of some length, as people write them to each other")
				w.OK(err)
				if bodies[i], err = mls.Marshal(req); err != nil {
					b.Fatal(err)
				}
			}
			work := make(chan []byte)
			var wg sync.WaitGroup
			source := room.Source{Provider: "a.example"}
			for range 64 {
				wg.Go(func() {
					for body := range work {
						answer, err := a.Hub.Submit(b.Context(), source, uri, body)
						resp := new(mimi.SubmitMessageResponse)
						if err == nil {
							err = mls.Unmarshal(answer, resp)
						}
						if err != nil || resp.Code != mimi.SubmitAccepted {
							b.Error(resp.Code, err)
						}
					}
				})
			}
			b.ResetTimer()
			for _, body := range bodies {
				work <- body
			}
			close(work)
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
