package owner_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comity-im/comity/internal/owner"
)

type job struct {
	n    int
	done chan error
}

type rooms struct {
	mu     sync.Mutex
	loads  map[string]int
	active map[string]bool
	seen   map[string][]int
	keep   bool
	err    error
	work   time.Duration
}

func (r *rooms) config() owner.Config[int, job] {
	r.loads, r.active, r.seen = make(map[string]int), make(map[string]bool), make(map[string][]int)
	return owner.Config[int, job]{
		Load: func(_ context.Context, room string) (int, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.loads[room]++
			return 100, r.err
		},
		Handle: func(ctx context.Context, room string, s *int, jobs []job) bool {
			r.mu.Lock()
			if r.active[room] {
				panic("two goroutines work on one room")
			}
			r.active[room] = true
			r.mu.Unlock()
			time.Sleep(r.work)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.active[room] = false
			for _, j := range jobs {
				*s++
				r.seen[room] = append(r.seen[room], j.n)
				j.done <- nil
			}
			return r.keep
		},
		Fail: func(j job, err error) { j.done <- err },
	}
}

func TestJobsAreDoneInOrderByOneOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rooms{keep: true, work: time.Millisecond}
		p := owner.New(r.config())
		defer p.Close()
		var all []job
		for i := range 200 {
			j := job{i, make(chan error, 1)}
			all = append(all, j)
			if err := p.Do(fmt.Sprint(i%3), j); err != nil {
				t.Fatal(err)
			}
		}
		for _, j := range all {
			if err := <-j.done; err != nil {
				t.Fatal(err)
			}
		}
		for room, seen := range r.seen {
			for i := 1; i < len(seen); i++ {
				if seen[i] != seen[i-1]+3 {
					t.Fatalf("room %s saw %v", room, seen)
				}
			}
			if r.loads[room] != 1 {
				t.Errorf("room %s was loaded %d times", room, r.loads[room])
			}
		}
		if len(r.seen) != 3 || p.Loaded() != 3 {
			t.Errorf("%d rooms seen, %d loaded", len(r.seen), p.Loaded())
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if p.Loaded() != 0 {
			t.Errorf("%d rooms loaded after a while without jobs", p.Loaded())
		}
	})
}

func TestStateThatIsNotKeptIsLoadedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rooms{}
		p := owner.New(r.config())
		defer p.Close()
		for i := range 3 {
			j := job{i, make(chan error, 1)}
			if err := p.Do("x", j); err != nil {
				t.Fatal(err)
			}
			<-j.done
			synctest.Wait()
			if p.Loaded() != 0 {
				t.Error("a room without state is kept")
			}
		}
		if r.loads["x"] != 3 {
			t.Errorf("loaded %d times, want 3", r.loads["x"])
		}
	})
}

func TestRoomThatDoesNotLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rooms{err: errors.New("no such room")}
		p := owner.New(r.config())
		defer p.Close()
		j := job{1, make(chan error, 1)}
		if err := p.Do("x", j); err != nil {
			t.Fatal(err)
		}
		if err := <-j.done; err == nil || err.Error() != "no such room" {
			t.Errorf("job failed with %v", err)
		}
		synctest.Wait()
		if p.Loaded() != 0 {
			t.Error("a room that does not load is kept")
		}
	})
}

func TestBusyRoomAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rooms{keep: true, work: time.Second}
		cfg := r.config()
		cfg.Waiting, cfg.Batch = 2, 1
		p := owner.New(cfg)
		var js []job
		do := func() error {
			j := job{len(js), make(chan error, 1)}
			js = append(js, j)
			return p.Do("x", j)
		}
		if err := do(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // under way
		if err := errors.Join(do(), do()); err != nil {
			t.Fatal(err)
		}
		if err := do(); !errors.Is(err, owner.ErrBusy) {
			t.Errorf("one too many: %v", err)
		}
		p.Close()
		if err := <-js[0].done; err != nil {
			t.Errorf("the job under way: %v", err)
		}
		for _, j := range js[1:3] {
			if err := <-j.done; !errors.Is(err, owner.ErrClosed) {
				t.Errorf("a waiting job: %v", err)
			}
		}
		if err := do(); !errors.Is(err, owner.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
