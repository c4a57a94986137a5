package mls

import (
	"bytes"
	"crypto/rand"
	"fmt"

	"github.com/cloudflare/circl/dh/x448"
)

// curve448 is the group of X448 (RFC 7748 section 5).
type curve448 struct{}

func (curve448) newPrivateKey(octets []byte) (private, public []byte, err error) {
	octets[0] &= 252
	octets[55] |= 128
	return octets, public448(octets), nil
}

func (curve448) checkPublic(public []byte) error { return checkU(public, lowOrder448, 0xff) }

func (c curve448) ephemeral(to []byte) (public, dh []byte, err error) {
	private := make([]byte, x448.Size)
	defer wipe(private)
	rand.Read(private)
	return c.exchange(private, nil, to)
}

func (curve448) exchange(private, public, from []byte) (own, dh []byte, err error) {
	if len(from) != x448.Size {
		return nil, nil, fmt.Errorf("%w: X448 public key of %d octets; want %d", ErrKey, len(from), x448.Size)
	}
	k, u, out := x448.Key(private), x448.Key(from), x448.Key{}
	defer wipe(k[:], out[:])
	if !x448.Shared(&out, &k, &u) || isZero(out[:]) {
		return nil, nil, errLowOrder
	}
	if public == nil {
		public = public448(private)
	}
	return public, bytes.Clone(out[:]), nil
}

// public448 is X448(private, 5).
func public448(private []byte) []byte {
	k, public := x448.Key(private), x448.Key{}
	defer wipe(k[:])
	x448.KeyGen(&public, &k)
	return public[:]
}

// lowOrder448 are the u-coordinates of the points of low order on the curve
// and its twist, in all encodings.
var lowOrder448 = uCoordinates(
	"0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
	"fefffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"fffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"00000000000000000000000000000000000000000000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
)
