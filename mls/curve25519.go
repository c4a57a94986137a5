package mls

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// curve25519 is the group of X25519 (RFC 7748 section 5). crypto/ecdh
// multiplies the base point in the ladder, even where only a Diffie-Hellman
// value is wanted; here a public key comes from the table of the birationally
// equivalent Edwards curve, in less than half of the time. Both are constant
// time.
type curve25519 struct{}

const size25519 = 32

func (curve25519) newPrivateKey(octets []byte) (private, public []byte, err error) {
	clamp25519(octets)
	return octets, public25519(octets), nil
}

func (curve25519) checkPublic(public []byte) error { return checkU(public, lowOrder25519, 0x7f) }

func (c curve25519) ephemeral(to []byte) (public, dh []byte, err error) {
	private := make([]byte, size25519)
	defer wipe(private)
	rand.Read(private)
	return c.exchange(private, nil, to)
}

func (curve25519) exchange(private, public, from []byte) (own, dh []byte, err error) {
	if len(from) != size25519 {
		return nil, nil, fmt.Errorf("%w: X25519 public key of %d octets; want %d", ErrKey, len(from), size25519)
	}
	dh = x25519(private, from)
	if isZero(dh) {
		return nil, nil, errLowOrder
	}
	if public == nil {
		public = public25519(private)
	}
	return public, dh, nil
}

// errLowOrder says that the Diffie-Hellman value would not be secret.
var errLowOrder = fmt.Errorf("%w: public key of low order", ErrKey)

func clamp25519(private []byte) {
	private[0] &= 248
	private[31] = private[31]&127 | 64
}

// public25519 is X25519(private, 9). A clamped scalar is no multiple of the
// order of the base point, so that the result is never zero.
func public25519(private []byte) []byte {
	k, err := new(edwards25519.Scalar).SetBytesWithClamping(private)
	if err != nil {
		panic("mls: X25519 private key of the wrong length") // callers check
	}
	return new(edwards25519.Point).ScalarBaseMult(k).BytesMontgomery()
}

// x25519 is X25519(private, u), by the ladder of RFC 7748 section 5. Both are
// of 32 octets; the result is zero for a u of low order.
func x25519(private, u []byte) []byte {
	var k [size25519]byte
	copy(k[:], private)
	clamp25519(k[:])
	defer wipe(k[:])

	var x1, x2, z2, x3, z3, a, b, c, d, e field.Element
	if _, err := x1.SetBytes(u); err != nil {
		panic("mls: X25519 public key of the wrong length") // callers check
	}
	x2.One()
	x3.Set(&x1)
	z3.One()
	swap := 0
	for t := 254; t >= 0; t-- {
		bit := int(k[t/8]>>(t%8)) & 1
		x2.Swap(&x3, swap^bit)
		z2.Swap(&z3, swap^bit)
		swap = bit

		a.Add(&x2, &z2)
		b.Subtract(&x2, &z2)
		c.Add(&x3, &z3)
		d.Subtract(&x3, &z3)
		d.Multiply(&d, &a) // DA
		c.Multiply(&c, &b) // CB
		a.Square(&a)       // AA
		b.Square(&b)       // BB
		e.Subtract(&a, &b)

		x3.Add(&d, &c)
		x3.Square(&x3)
		z3.Subtract(&d, &c)
		z3.Square(&z3)
		z3.Multiply(&z3, &x1)
		x2.Multiply(&a, &b)
		z2.Mult32(&e, 121665)
		z2.Add(&z2, &a)
		z2.Multiply(&z2, &e)
	}
	x2.Swap(&x3, swap)
	z2.Swap(&z3, swap)
	return x2.Multiply(&x2, z2.Invert(&z2)).Bytes()
}

// isZero reports in constant time whether b is all zero.
func isZero(b []byte) bool {
	var acc byte
	for _, v := range b {
		acc |= v
	}
	return subtle.ConstantTimeByteEq(acc, 0) == 1
}

// lowOrder25519 are the u-coordinates of the points of low order on the curve
// and its twist, in all encodings but for the bit that X25519 ignores.
var lowOrder25519 = uCoordinates(
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)

func uCoordinates(hexes ...string) [][]byte {
	us := make([][]byte, len(hexes))
	for i, h := range hexes {
		u, err := hex.DecodeString(h)
		if err != nil {
			panic(err)
		}
		us[i] = u
	}
	return us
}

// checkU checks the u-coordinate that is a public key of X25519 or X448: its
// length, and that it is none of those with which every Diffie-Hellman value
// is zero. Nobody can encrypt to a key of these: it must not get into a tree,
// where it would keep all others from committing. top is the part of the last
// octet that counts.
func checkU(public []byte, lowOrder [][]byte, top byte) error {
	last := len(lowOrder[0]) - 1
	if len(public) != last+1 {
		return fmt.Errorf("%w: HPKE public key of %d octets; want %d", ErrKey, len(public), last+1)
	}
	for _, u := range lowOrder {
		if u[last] == public[last]&top && bytes.Equal(u[:last], public[:last]) {
			return errLowOrder
		}
	}
	return nil
}
