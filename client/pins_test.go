package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mls"
)

// failingStore is a Store whose medium gives nothing and takes nothing.
type failingStore struct{ Store }

var errMedium = errors.New("input/output error")

func (failingStore) Get(context.Context, string, string) ([]byte, error) { return nil, errMedium }
func (failingStore) Apply(context.Context, Batch) error                  { return errMedium }

// A store that fails is no verdict on a certificate: an invitation or a commit
// that needs one waits, and is not refused for good.
func TestPinsOutOfReach(t *testing.T) {
	pins := storePins{failingStore{}}
	if _, err := pins.Pins("b.example"); !errors.Is(err, ErrUnreachable) || !errors.Is(err, errMedium) {
		t.Errorf("reading: %v; want one that matches ErrUnreachable", err)
	}
	if err := pins.SetPins("b.example", nil); !errors.Is(err, ErrUnreachable) || !errors.Is(err, errMedium) {
		t.Errorf("writing: %v; want one that matches ErrUnreachable", err)
	}
	// It gets through everything that is between.
	fetch := func(context.Context, string) ([]byte, error) { return nil, identity.ErrUnknownDomain }
	ca, err := identity.NewCA("b.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signer, _, err := mls.GenerateSigner(mls.X25519AES128SHA256Ed25519, nil)
	if err != nil {
		t.Fatal(err)
	}
	public, err := identity.PublicKey(mls.X25519AES128SHA256Ed25519, signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.IssueProvider(public, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cred := mls.X509Credential(der)
	v := NewVerifier(fetch, nil, pins, time.Now)
	if err := v.VerifyCredential(&cred, signer.Public(), time.Now()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("verifying: %v; want one that matches ErrUnreachable", err)
	}
}
