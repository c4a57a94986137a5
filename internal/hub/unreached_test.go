package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/keys"
	"github.com/comity-im/comity/mimi"
)

// failing is a Keys that fails with its error.
type failing struct{ err error }

func (f failing) Claim(context.Context, string, *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	return nil, f.err
}

// Only a requester that was found to be wrong is refused for good. One that
// could not be judged in time may ask again.
func TestClaimOutOfReach(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("bad signature"), http.StatusForbidden},
		{federation.ErrUnreachable, http.StatusServiceUnavailable},
		{context.DeadlineExceeded, http.StatusServiceUnavailable},
		{&federation.StatusError{Status: http.StatusServiceUnavailable}, http.StatusServiceUnavailable},
	} {
		h := New(Config{Domain: "a.example", Keys: failing{fmt.Errorf("%w: %w", keys.ErrRequester, c.err)}})
		_, err := h.claim(t.Context(), "b.example", &mimi.KeyMaterialRequest{})
		if status, _ := federation.Status(err); status != c.want {
			t.Errorf("%v: status %d (%v); want %d", c.err, status, err, c.want)
		}
		h.Close()
	}
}
