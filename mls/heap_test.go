package mls

import (
	"fmt"
	"runtime"
	"testing"
)

func heapNow() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkHeap(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("cold/%d", n), func(b *testing.B) {
			g, sc, ds := cold(b, n)
			cfg := *g.cfg
			welcome, _ := Marshal(sc.Welcome)
			d := *ds[n/2-1]
			sc, ds, g = nil, nil, nil
			before := heapNow()
			var in Welcome
			noError(b, Unmarshal(welcome, &in))
			j, err := JoinWelcome(cfg, &in, nil, d.kp, d.priv, d.signer)
			noError(b, err)
			in = Welcome{}
			after := heapNow()
			for b.Loop() {
			}
			b.ReportMetric(float64(after-before)/float64(n), "B/member")
			runtime.KeepAlive(welcome)
			runtime.KeepAlive(j)
		})
	}
}
