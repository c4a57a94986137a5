package mls

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
)

// A nistCurve is a group of points of a NIST curve.
type nistCurve struct{ ecdh.Curve }

var (
	nistP256 = nistCurve{ecdh.P256()}
	nistP384 = nistCurve{ecdh.P384()}
	nistP521 = nistCurve{ecdh.P521()}
)

func (c nistCurve) newPrivateKey(octets []byte) (private, public []byte, err error) {
	key, err := c.NewPrivateKey(octets)
	if err != nil {
		return nil, nil, fmt.Errorf("%w is not one of %v", errPrivateKey, c.Curve)
	}
	return octets, key.PublicKey().Bytes(), nil
}

// checkPublic checks that public is a point of the curve; its order is prime.
func (c nistCurve) checkPublic(public []byte) error {
	_, err := c.point(public)
	return err
}

func (c nistCurve) point(public []byte) (*ecdh.PublicKey, error) {
	p, err := c.NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("%w: not an uncompressed point of %v", ErrKey, c.Curve)
	}
	return p, nil
}

func (c nistCurve) ephemeral(to []byte) (public, dh []byte, err error) {
	p, err := c.point(to)
	if err != nil {
		return nil, nil, err
	}
	key, err := c.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: generate a key of %v: %v", ErrKey, c.Curve, err)
	}
	return diffieHellman(key, p)
}

func (c nistCurve) exchange(private, _, from []byte) (own, dh []byte, err error) {
	p, err := c.point(from)
	if err != nil {
		return nil, nil, err
	}
	key, err := c.NewPrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("%w is not one of %v", errPrivateKey, c.Curve)
	}
	return diffieHellman(key, p)
}

func diffieHellman(key *ecdh.PrivateKey, p *ecdh.PublicKey) (own, dh []byte, err error) {
	if dh, err = key.ECDH(p); err != nil {
		return nil, nil, fmt.Errorf("%w: %v", ErrKey, err)
	}
	return key.PublicKey().Bytes(), dh, nil
}
