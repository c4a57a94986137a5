package identity

import (
	"errors"
	"fmt"
)

// The errors that callers tell apart with errors.Is.
var (
	// ErrCredential means that a credential is not an X.509 credential, or
	// that its chain is too long, too large, or not parsable.
	ErrCredential = errors.New("identity: credential not usable")
	// ErrProfile means that a certificate breaks a rule of the profile that
	// the package comment describes.
	ErrProfile = errors.New("identity: certificate does not fit the profile")
	// ErrNames means that a certificate does not present the names that its
	// use needs.
	ErrNames = errors.New("identity: wrong names in certificate")
	// ErrExpired means that a certificate is not valid at this time: the
	// device must renew it, or a clock is wrong.
	ErrExpired = errors.New("identity: certificate outside of its validity")
	// ErrKeyMismatch means that a certificate is for another key than the MLS
	// signature key.
	ErrKeyMismatch = errors.New("identity: certificate is for another key")
	// ErrUntrusted means that a certificate does not chain to a CA of its
	// domain.
	ErrUntrusted = errors.New("identity: certificate is not from the CA of its domain")
	// ErrSuccessor means that a new credential names another user or device
	// than the one it replaces.
	ErrSuccessor = errors.New("identity: new credential names someone else")
	// ErrUnknownDomain means that no CA is known for a domain.
	ErrUnknownDomain = errors.New("identity: no CA known for the domain")
	// ErrAnchor means that a CA or an anchor statement is not acceptable.
	ErrAnchor = errors.New("identity: trust anchor refused")
	// ErrAnchorChanged means that a domain presents a CA that the pinned one
	// did not endorse: compare the fingerprint with the provider by other
	// means before accepting it.
	ErrAnchorChanged = errors.New("identity: the CA of the domain changed")
	// ErrCA means that a stored CA is damaged or cannot issue what was asked.
	ErrCA = errors.New("identity: CA")
)

// refuse returns an error that matches kind.
func refuse(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: %w", kind, fmt.Errorf(format, args...))
}
