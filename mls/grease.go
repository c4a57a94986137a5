package mls

import (
	"crypto/rand"
	"fmt"
	"slices"
)

// isGREASE reports whether x is one of the values that are reserved so that
// peers prove that they ignore what they do not know (RFC 9420 section 13.5):
// 0x0A0A, 0x1A1A … 0xEAEA.
func isGREASE[T ~uint16](x T) bool {
	return x>>8 == x&0xff && x&0x0f == 0x0a && x != 0xfafa
}

// randomGREASE returns one of the reserved values, and random octets.
func randomGREASE() (x uint16, filling []byte, err error) {
	b := make([]byte, 17)
	if _, err := rand.Read(b); err != nil {
		return 0, nil, fmt.Errorf("mls: randomness for GREASE: %w", err)
	}
	return uint16(b[0]%15)<<4*0x0101 + 0x0a0a, b[2 : 2+b[1]%16], nil
}

// WithGREASE returns c with a random reserved value in its suites, extensions,
// proposals and credentials, so that members which do not ignore unknown
// values are found out early (RFC 9420 section 13.5). It is the same in every
// list, since a group keeps them for each of its members, and does not count
// where capabilities are compared. A leaf that is made with capabilities of
// zero has it; one that is made with DefaultCapabilities does not.
func (c Capabilities) WithGREASE() (Capabilities, error) {
	x, _, err := randomGREASE()
	if err != nil {
		return Capabilities{}, err
	}
	c.CipherSuites = withGREASE(c.CipherSuites, x)
	c.Extensions = withGREASE(c.Extensions, x)
	c.Proposals = withGREASE(c.Proposals, x)
	c.Credentials = withGREASE(c.Credentials, x)
	return c, nil
}

// withGREASE returns list with x, unless it has such a value already.
func withGREASE[T ~uint16](list []T, x uint16) []T {
	if slices.ContainsFunc(list, isGREASE[T]) {
		return list
	}
	return append(slices.Clip(list), T(x))
}

// withoutGREASE returns list without reserved values: nobody supports them,
// whatever they say.
func withoutGREASE[T ~uint16](list []T) []T {
	if !slices.ContainsFunc(list, isGREASE[T]) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), isGREASE[T])
}

// withGREASE returns x with an extension of a random reserved type and random
// content, for a KeyPackage or GroupInfo, whose receivers ignore it.
func (x Extensions) withGREASE() (Extensions, error) {
	t, filling, err := randomGREASE()
	if err != nil {
		return nil, err
	}
	if _, ok := x.Find(ExtensionType(t)); ok {
		return x, nil
	}
	return append(slices.Clip(x), Extension{ExtensionType(t), filling}), nil
}

// orDefault returns c, or, if that is zero, what this package supports in a
// group of suite s, with a member's credential type and GREASE.
func (c Capabilities) orDefault(s *suite, cred *Credential, x Extensions) (Capabilities, error) {
	if !c.isZero() {
		return c, nil
	}
	return s.defaultCapabilities(cred.Type, x).WithGREASE()
}
