// Package batch is the group commit front that every storage engine stands
// behind: it gathers the writes of many callers into one transaction, so that
// they share one flush to disk, and answers each caller when it is done.
//
// Start with New and Front.Do.
//
// What it promises:
//
//   - An operation whose Do returned nil was in a transaction whose commit
//     returned without error.
//   - An operation that fails does not fail its neighbours and leaves nothing.
//   - No caller is answered before the commit, not even with a refusal: a refusal
//     may rest on what a neighbour has just written.
//   - After a write or flush that failed in a way that leaves the disk unknown, all
//     that wait and all that come later fail with store.ErrBroken. A flush is never
//     tried again: the kernel may have dropped the pages and would say yes.
//
// It knows nothing of SQL.
package batch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/comity-im/comity/internal/store"
)

// Engine runs transactions of type T, one at a time. All its methods are called
// from one goroutine.
type Engine[T Tx] interface {
	// Begin starts a transaction.
	Begin() (T, error)
	// Commit makes all of it durable.
	Commit(T) error
	// Rollback undoes all of it. It is also called after an error that may have
	// undone the transaction already, and must not mind.
	Rollback(T) error
	// Classify says what an error from Begin, Commit, Rollback, Tidy or an
	// operation means.
	Classify(error) Class
	// Tidy is called after callers were answered: the place for a checkpoint.
	Tidy() error
}

// Tx is a transaction.
type Tx interface {
	// Writes counts the statements so far that may have changed something. It tells
	// the front whether an operation that failed left something behind.
	Writes() int
	// Savepoint marks a place to return to.
	Savepoint() error
	// Release drops the mark and keeps what was done since.
	Release() error
	// Return undoes what was done since the mark, and drops it.
	Return() error
}

// Class is what an error means for the transaction it came from.
type Class uint8

// Classes of errors.
const (
	// Refused: the operation's own. The transaction can go on.
	Refused Class = iota
	// Aborted: nothing of the transaction was written; the next may succeed.
	Aborted
	// Fatal: what is on disk is unknown.
	Fatal
)

// Config sets the sizes of a Front. Zero values mean the defaults.
type Config struct {
	MaxOps   int // operations in one transaction; 512
	MaxBytes int // sum of sizes in one transaction; 4 MiB. One larger operation goes alone.
	Queue    int // operations that may wait before Do blocks; 1024
	// Broken is told once, from the front's goroutine, when the store breaks.
	Broken func(error)
}

// Front is the group commit front of one engine.
type Front[T Tx] struct {
	engine Engine[T]
	cfg    Config
	queue  chan *waiter[T]
	broken atomic.Pointer[error]
	done   chan struct{}

	// mu guards closed. It is held for reading while an operation is put into the
	// queue, so that the queue is closed only when no one puts.
	mu     sync.RWMutex
	closed bool
}

type waiter[T Tx] struct {
	ctx    context.Context
	op     func(T) error
	size   int
	err    error
	answer chan error // buffered: the front never waits for a caller
}

// New starts a front. Close ends it.
func New[T Tx](engine Engine[T], cfg Config) *Front[T] {
	if cfg.MaxOps <= 0 {
		cfg.MaxOps = 512
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 4 << 20
	}
	if cfg.Queue <= 0 {
		cfg.Queue = 1024
	}
	f := &Front[T]{
		engine: engine,
		cfg:    cfg,
		queue:  make(chan *waiter[T], cfg.Queue),
		done:   make(chan struct{}),
	}
	go f.run()
	return f
}

// Do runs an operation in a transaction, with others, and returns when that is
// committed. The error is the operation's own, or says that nothing was written,
// or is store.ErrBroken, or store.ErrClosed. When ctx ends first, Do returns its
// error: if the operation had begun, it may still be committed.
//
// The operation may be run more than once, each time on the state the earlier
// run has left no trace in; so it must set its results anew each time. It must not
// call Do. size is about the number of bytes it writes.
func (f *Front[T]) Do(ctx context.Context, size int, op func(T) error) error {
	if err := f.Err(); err != nil {
		return err
	}
	w := &waiter[T]{ctx: ctx, op: op, size: size, answer: make(chan error, 1)}
	if err := f.put(w); err != nil {
		return err
	}
	select {
	case err := <-w.answer:
		return err
	case <-ctx.Done():
		// The answer may have come at the same moment; it says more.
		select {
		case err := <-w.answer:
			return err
		default:
			return ctx.Err()
		}
	}
}

func (f *Front[T]) put(w *waiter[T]) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return store.ErrClosed
	}
	select {
	case f.queue <- w:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// Err gives the error that broke the store, or nil.
func (f *Front[T]) Err() error {
	if p := f.broken.Load(); p != nil {
		return *p
	}
	return nil
}

// Fail breaks the store, as a failed write does: for faults found elsewhere.
func (f *Front[T]) Fail(cause error) { f.fail(cause) }

// Close lets the operations in the queue finish and ends the front.
func (f *Front[T]) Close() {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.queue)
	}
	f.mu.Unlock()
	<-f.done
}

func (f *Front[T]) run() {
	defer close(f.done)
	var held *waiter[T] // taken from the queue but too large for the last batch
	for {
		w := held
		held = nil
		if w == nil {
			var ok bool
			if w, ok = <-f.queue; !ok {
				return
			}
		}
		// Callers answered by the last batch are runnable now: let them queue their
		// next operation, so that it shares this flush.
		runtime.Gosched()
		batch := []*waiter[T]{w}
		size := w.size
	gather:
		for len(batch) < f.cfg.MaxOps {
			select {
			case next, ok := <-f.queue:
				if !ok {
					break gather
				}
				if size+next.size > f.cfg.MaxBytes {
					held = next
					break gather
				}
				size += next.size
				batch = append(batch, next)
			default:
				break gather
			}
		}
		f.commit(batch)
		if f.Err() == nil {
			if err := f.engine.Tidy(); err != nil && f.engine.Classify(err) == Fatal {
				f.fail(err)
			}
		}
	}
}

// commit runs a batch and answers all its callers.
func (f *Front[T]) commit(batch []*waiter[T]) {
	err := f.Err()
	if err == nil {
		err = f.attempt(batch, false)
	}
	if errors.Is(err, errRetry) {
		err = f.attempt(batch, true)
	}
	for _, w := range batch {
		if err != nil {
			w.err = err
		}
		w.answer <- w.err
	}
}

// errRetry: an operation failed after it had written; the batch has to be run
// again with a savepoint for each.
var errRetry = errors.New("batch: run again with savepoints")

// attempt runs a batch as one transaction. An error fails all of it.
//
// Savepoints cost a third of the throughput, and operations check before they
// write, so the first attempt goes without.
func (f *Front[T]) attempt(batch []*waiter[T], savepoints bool) error {
	tx, err := f.engine.Begin()
	if err != nil {
		return f.aborted(err)
	}
	start := tx.Writes()
	for _, w := range batch {
		if w.err = w.ctx.Err(); w.err != nil {
			continue // its caller is gone and nothing was begun
		}
		if savepoints {
			if err := tx.Savepoint(); err != nil {
				return f.undo(tx, err)
			}
		}
		before := tx.Writes()
		w.err = w.op(tx)
		switch {
		case w.err == nil:
		case f.engine.Classify(w.err) != Refused:
			return f.undo(tx, w.err)
		case savepoints:
			if err := tx.Return(); err != nil {
				return f.undo(tx, err)
			}
			continue
		case tx.Writes() != before:
			if err := f.engine.Rollback(tx); err != nil {
				return f.fail(err)
			}
			return errRetry
		}
		if savepoints {
			if err := tx.Release(); err != nil {
				return f.undo(tx, err)
			}
		}
	}
	if tx.Writes() == start {
		// Refusals only: there is nothing to flush.
		if err := f.engine.Rollback(tx); err != nil {
			return f.fail(err)
		}
		return nil
	}
	if err := f.engine.Commit(tx); err != nil {
		return f.undo(tx, err)
	}
	return nil
}

// undo rolls back after err, which came from the engine.
func (f *Front[T]) undo(tx T, err error) error {
	if rerr := f.engine.Rollback(tx); rerr != nil {
		return f.fail(errors.Join(err, rerr))
	}
	return f.aborted(err)
}

// aborted gives the error for the callers of a transaction that was not written.
func (f *Front[T]) aborted(err error) error {
	if f.engine.Classify(err) == Fatal {
		return f.fail(err)
	}
	return err
}

// fail marks the store broken. The first cause stays.
func (f *Front[T]) fail(cause error) error {
	err := fmt.Errorf("%w (cause: %w)", store.ErrBroken, cause)
	if f.broken.CompareAndSwap(nil, &err) && f.cfg.Broken != nil {
		f.cfg.Broken(err)
	}
	return *f.broken.Load()
}
