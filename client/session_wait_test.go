package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// deaf is a Transport that answers nothing until the context of a request
// ends.
type deaf struct{}

func (deaf) Do(ctx context.Context, _ Request) (Response, error) {
	<-ctx.Done()
	return Response{}, ctx.Err()
}

func (deaf) Stream(ctx context.Context, _ string) (Stream, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestTokenWait checks that who waits for another's token request waits no
// longer than its own context permits.
func TestTokenWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession(deaf{}, "mimi://a.example/d/x", nil, time.Now)
		start := time.Now()
		long, cancel := context.WithTimeout(t.Context(), time.Hour)
		done := make(chan error, 1)
		go func() {
			_, err := s.bearer(long, "")
			done <- err
		}()
		synctest.Wait()
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, err := s.bearer(short, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting caller: %v; want a deadline exceeded", err)
		}
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("waited %v; want 1s", waited)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("first caller: %v; want canceled", err)
		}
	})
}
