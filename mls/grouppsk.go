package mls

import (
	"bytes"
	"crypto/rand"
	"fmt"
)

// resolvePSKs fetches the pre-shared keys that a commit mixes in.
func (g *Group) resolvePSKs(ids []PreSharedKeyID) ([]pskInput, error) {
	psks := make([]pskInput, 0, len(ids))
	for _, id := range ids {
		var psk []byte
		var err error
		if id.isLink() {
			// The checks let it pass in a founding commit only.
			psk, err = g.founding.psk(&id)
		} else if id.Type == PSKResumption && bytes.Equal(id.GroupID, g.state.GroupID()) {
			psk, err = g.resumptionPSK(id.Epoch)
		} else {
			psk, err = g.cfg.psk(&id)
		}
		if err != nil {
			wipePSKs(psks)
			return nil, err
		}
		psks = append(psks, pskInput{id, psk})
	}
	return psks, nil
}

// ResumptionPSK returns the resumption key of this group's epoch, which is the
// present one or one of the past that are kept (Limits.PastEpochs). It is for
// Config.PSK of another group, or of a client that joins this group anew, to
// be named by a PreSharedKeyID of usage ResumptionApplication (RFC 9420
// section 8.6). Within this group no Config.PSK is asked for it. The caller
// wipes it; the error matches ErrPSK if the epoch is not kept.
func (g *Group) ResumptionPSK(e Epoch) ([]byte, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	return g.resumptionPSK(e)
}

// resumptionPSK returns the resumption key of this group's epoch e.
func (g *Group) resumptionPSK(e Epoch) ([]byte, error) {
	if e == g.state.Epoch() {
		return bytes.Clone(g.epoch.resumption), nil
	}
	for _, p := range g.past {
		if p.epoch == e {
			return bytes.Clone(p.resumption), nil
		}
	}
	return nil, fmt.Errorf("%w: resumption key of epoch %d", ErrPSK, e)
}

func wipePSKs(psks []pskInput) {
	for i := range psks {
		wipe(psks[i].psk)
	}
}

// psk asks the application for a key and copies it.
func (c *Config) psk(id *PreSharedKeyID) ([]byte, error) {
	if c.PSK == nil {
		return nil, fmt.Errorf("%w: Config.PSK is nil", ErrPSK)
	}
	psk, err := c.PSK(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPSK, err)
	}
	return bytes.Clone(psk), nil
}

// NewPSKNonce returns a fresh nonce for a PreSharedKeyID of a group of suite
// s (RFC 9420 section 8.4).
func NewPSKNonce(s CipherSuite) ([]byte, error) {
	p, err := s.params()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, p.nh())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("mls: randomness for a PSK nonce: %w", err)
	}
	return nonce, nil
}
