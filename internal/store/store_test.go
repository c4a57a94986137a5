package store

import (
	"errors"
	"fmt"
	"testing"
)

func TestCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("other"), ""},
		{ErrFull, "STORE-FULL"},
		{fmt.Errorf("open: %w", ErrCorrupt), "STORE-CORRUPT"},
		// What broke the store does not hide that it is broken, but a full disk does not break it.
		{fmt.Errorf("%w (cause: %w)", ErrBroken, errors.New("input/output error")), "STORE-BROKEN"},
		{&WrongEpochError{Current: 4}, "STORE-WRONG-EPOCH"},
		{&WrongHeadError{Current: 4}, "STORE-WRONG-HEAD"},
		{ErrNoRoom, "STORE-NOT-FOUND"},
	} {
		if got := Code(c.err); got != c.want {
			t.Errorf("Code(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}

func TestWrongEpochError(t *testing.T) {
	err := fmt.Errorf("append: %w", &WrongEpochError{Current: 7})
	if !errors.Is(err, ErrWrongEpoch) || errors.Is(err, ErrWrongHead) {
		t.Error("not matched as it should be")
	}
	var wrong *WrongEpochError
	if !errors.As(err, &wrong) || wrong.Current != 7 {
		t.Errorf("got %v", wrong)
	}
}
