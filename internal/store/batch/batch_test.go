package batch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/comity-im/comity/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errRefused = errors.New("refused")
	errAborted = errors.New("aborted")
	errFatal   = errors.New("fatal")
)

// memory is an engine that keeps a list of words.
type memory struct {
	durable []string
	open    *memTx

	begins, commits, savepoints int
	commitErr, tidyErr          error
	beginErr, rollbackErr       error
}

type memTx struct {
	m     *memory
	words []string
	mark  int
	n     int
}

func (m *memory) Begin() (*memTx, error) {
	m.begins++
	if m.beginErr != nil {
		return nil, m.beginErr
	}
	if m.open != nil {
		panic("a transaction within a transaction")
	}
	m.open = &memTx{m: m, words: slices.Clone(m.durable)}
	return m.open, nil
}

func (m *memory) Commit(t *memTx) error {
	m.commits++
	if m.commitErr != nil {
		return m.commitErr
	}
	m.durable, m.open = t.words, nil
	return nil
}

func (m *memory) Rollback(*memTx) error { m.open = nil; return m.rollbackErr }
func (m *memory) Tidy() error           { return m.tidyErr }

func (m *memory) Classify(err error) Class {
	switch {
	case errors.Is(err, errAborted):
		return Aborted
	case errors.Is(err, errFatal):
		return Fatal
	}
	return Refused
}

func (t *memTx) add(word string) { t.n++; t.words = append(t.words, word) }

func (t *memTx) Writes() int      { return t.n }
func (t *memTx) Savepoint() error { t.m.savepoints++; t.mark = len(t.words); return nil }
func (t *memTx) Release() error   { return nil }
func (t *memTx) Return() error    { t.words = t.words[:t.mark]; return nil }

// together runs operations in one batch: the first holds the front until all
// others are in the queue. It gives their errors.
func together(t *testing.T, f *Front[*memTx], ops ...func(*memTx) error) []error {
	t.Helper()
	held, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		once := sync.OnceFunc(func() { close(held); <-release })
		if err := f.Do(context.Background(), 0, func(*memTx) error { once(); return errRefused }); !errors.Is(err, errRefused) {
			t.Errorf("the first operation: %v", err)
		}
	})
	<-held
	errs := make([]error, len(ops))
	for i, op := range ops {
		w := &waiter[*memTx]{ctx: context.Background(), op: op, answer: make(chan error, 1)}
		if err := f.put(w); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { errs[i] = <-w.answer })
	}
	close(release)
	wg.Wait()
	return errs
}

func word(w string) func(*memTx) error {
	return func(t *memTx) error { t.add(w); return nil }
}

func TestOneCommitForMany(t *testing.T) {
	m := &memory{}
	f := New(m, Config{})
	ops := make([]func(*memTx) error, 100)
	for i := range ops {
		ops[i] = word(fmt.Sprint(i))
	}
	for i, err := range together(t, f, ops...) {
		if err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	f.Close()
	if m.commits != 1 || len(m.durable) != 100 {
		t.Errorf("%d commits, %d words; want 1 and 100", m.commits, len(m.durable))
	}
}

func TestLimits(t *testing.T) {
	m := &memory{}
	f := New(m, Config{MaxOps: 10})
	ops := make([]func(*memTx) error, 95)
	for i := range ops {
		ops[i] = word("x")
	}
	together(t, f, ops...)
	f.Close()
	if m.commits != 10 {
		t.Errorf("95 operations, 10 at a time: %d commits", m.commits)
	}

	m = &memory{}
	f = New(m, Config{MaxBytes: 100})
	held, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	do := func(size int, op func(*memTx) error) {
		w := &waiter[*memTx]{ctx: context.Background(), op: op, size: size, answer: make(chan error, 1)}
		if err := f.put(w); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := <-w.answer; err != nil {
				t.Error(err)
			}
		})
	}
	do(0, func(*memTx) error { close(held); <-release; return nil })
	<-held
	for _, size := range []int{40, 40, 40, 500, 10, 10} {
		do(size, word(fmt.Sprint(size)))
	}
	close(release)
	wg.Wait()
	f.Close()
	if m.commits != 4 { // 40+40, 40, 500, 10+10
		t.Errorf("%d commits, want 4", m.commits)
	}
	if want := []string{"40", "40", "40", "500", "10", "10"}; !slices.Equal(m.durable, want) {
		t.Errorf("got %v, want %v", m.durable, want)
	}
}

func TestRefusalBeforeWriting(t *testing.T) {
	m := &memory{}
	f := New(m, Config{})
	errs := together(t, f, word("a"), func(*memTx) error { return errRefused }, word("b"))
	f.Close()
	if errs[0] != nil || !errors.Is(errs[1], errRefused) || errs[2] != nil {
		t.Errorf("got %v", errs)
	}
	if m.commits != 1 || m.savepoints != 0 || !slices.Equal(m.durable, []string{"a", "b"}) {
		t.Errorf("%d commits, %d savepoints, %v", m.commits, m.savepoints, m.durable)
	}
}

func TestFailureAfterWriting(t *testing.T) {
	m := &memory{}
	f := New(m, Config{})
	errs := together(t, f, word("a"),
		func(t *memTx) error { t.add("half"); return errRefused },
		// Sees what goes before it, and not what was undone.
		func(t *memTx) error { t.add(fmt.Sprint(t.words)); return nil })
	f.Close()
	if errs[0] != nil || !errors.Is(errs[1], errRefused) || errs[2] != nil {
		t.Errorf("got %v", errs)
	}
	if want := []string{"a", "[a]"}; !slices.Equal(m.durable, want) || m.commits != 1 {
		t.Errorf("got %v in %d commits, want %v in one", m.durable, m.commits, want)
	}
	if m.open != nil {
		t.Error("a transaction was left open")
	}
}

func TestAborted(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*memory, error)
	}{
		{"begin", func(m *memory, err error) { m.beginErr = err }},
		{"commit", func(m *memory, err error) { m.commitErr = err }},
	} {
		m := &memory{}
		f := New(m, Config{})
		c.set(m, errAborted)
		if err := f.Do(t.Context(), 0, word("a")); !errors.Is(err, errAborted) {
			t.Errorf("%s: got %v", c.name, err)
		}
		// The front is idle, so the engine is ours; the channel orders the accesses.
		c.set(m, nil)
		if err := f.Do(t.Context(), 0, word("b")); err != nil {
			t.Errorf("%s: afterwards: %v", c.name, err)
		}
		f.Close()
		if !slices.Equal(m.durable, []string{"b"}) {
			t.Errorf("%s: got %v", c.name, m.durable)
		}
	}
	// An operation that aborts takes its neighbours with it: all are told.
	m := &memory{}
	f := New(m, Config{})
	errs := together(t, f, word("a"), func(t *memTx) error { t.add("x"); return errAborted }, func(*memTx) error { return errRefused })
	f.Close()
	for i, err := range errs {
		if !errors.Is(err, errAborted) {
			t.Errorf("operation %d: got %v", i, err)
		}
	}
	if len(m.durable) != 0 {
		t.Errorf("got %v", m.durable)
	}
}

func TestBroken(t *testing.T) {
	fail := func(t *memTx) error { t.add("x"); return errFatal }
	for _, c := range []struct {
		name string
		set  func(*memory)
		op   func(*memTx) error
	}{
		{"begin", func(m *memory) { m.beginErr = errFatal }, word("a")},
		{"commit", func(m *memory) { m.commitErr = errFatal }, word("a")},
		{"operation", func(*memory) {}, fail},
		{"rollback", func(m *memory) { m.rollbackErr = errors.New("any") }, fail},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &memory{}
			var told []error
			f := New(m, Config{Broken: func(err error) { told = append(told, err) }})
			// The refusal too may rest on what was lost.
			held, release := make(chan struct{}), make(chan struct{})
			refused := make(chan error, 1)
			go func() {
				refused <- f.Do(context.Background(), 0, func(*memTx) error { close(held); <-release; return nil })
			}()
			<-held
			c.set(m)
			var answers []chan error
			for _, op := range []func(*memTx) error{word("n"), c.op, func(*memTx) error { return errRefused }} {
				w := &waiter[*memTx]{ctx: context.Background(), op: op, answer: make(chan error, 1)}
				if err := f.put(w); err != nil {
					t.Fatal(err)
				}
				answers = append(answers, w.answer)
			}
			close(release)
			<-refused
			for i, a := range answers {
				if err := <-a; !errors.Is(err, store.ErrBroken) {
					t.Errorf("operation %d: got %v, want ErrBroken", i, err)
				}
			}
			begins := m.begins
			if err := f.Do(t.Context(), 0, word("late")); !errors.Is(err, store.ErrBroken) || store.Code(err) != "STORE-BROKEN" {
				t.Errorf("afterwards: got %v", err)
			}
			f.Close()
			if m.begins != begins {
				t.Error("the engine was used after it broke")
			}
			if len(m.durable) != 0 || len(told) != 1 || !errors.Is(f.Err(), store.ErrBroken) {
				t.Errorf("durable %v, told %v, err %v", m.durable, told, f.Err())
			}
		})
	}
}

func TestTidyBreaks(t *testing.T) {
	broke := make(chan error, 1)
	m := &memory{tidyErr: errFatal}
	f := New(m, Config{Broken: func(err error) { broke <- err }})
	if err := f.Do(t.Context(), 0, word("a")); err != nil {
		t.Errorf("the commit was good: %v", err)
	}
	if err := <-broke; !errors.Is(err, errFatal) {
		t.Errorf("got %v", err)
	}
	if err := f.Do(t.Context(), 0, word("b")); !errors.Is(err, store.ErrBroken) {
		t.Errorf("got %v", err)
	}
	f.Close()
}

func TestContext(t *testing.T) {
	m := &memory{}
	f := New(m, Config{})
	held, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- f.Do(context.Background(), 0, func(t *memTx) error { close(held); <-release; t.add("a"); return nil })
	}()
	<-held
	// Its caller gives up while it waits: it is not begun.
	ctx, cancel := context.WithCancel(context.Background())
	w := &waiter[*memTx]{ctx: ctx, op: word("b"), answer: make(chan error, 1)}
	if err := f.put(w); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := f.Do(ctx, 0, word("c")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-w.answer; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.Close()
	if !slices.Equal(m.durable, []string{"a"}) {
		t.Errorf("got %v", m.durable)
	}
}

func TestClose(t *testing.T) {
	m := &memory{}
	f := New(m, Config{Queue: 1})
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range 50 {
		wg.Go(func() {
			switch err := f.Do(context.Background(), 0, word("x")); {
			case err == nil:
				mu.Lock()
				done++
				mu.Unlock()
			case !errors.Is(err, store.ErrClosed):
				t.Error(err)
			}
		})
	}
	f.Close()
	f.Close()
	wg.Wait()
	if len(m.durable) != done {
		t.Errorf("%d were told that they are written, %d are", done, len(m.durable))
	}
	if err := f.Do(t.Context(), 0, word("late")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
