package main

import (
	"fmt"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

// decode parses an MLSMessage of the given wire formats.
func decode(what string, b []byte, formats ...mls.WireFormat) (*mls.MLSMessage, error) {
	m := new(mls.MLSMessage)
	if err := mls.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	for _, f := range formats {
		if m.WireFormat == f {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%w: %s is an MLSMessage of wire format %v; want one of %v", mls.ErrInvalidMessage, what, m.WireFormat, formats)
}

// decodeTree parses a ratchet tree; an empty one is none.
func decodeTree(b []byte) (mls.RatchetTree, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var t mls.RatchetTree
	if err := mls.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("ratchet tree: %w", err)
	}
	return t, nil
}

// decodeSuite returns the cipher suite of a code point.
func decodeSuite(v uint32) (mls.CipherSuite, error) {
	s := mls.CipherSuite(v)
	if v > 0xffff || !s.Usable() {
		return 0, fmt.Errorf("%w: 0x%04X is not supported; SupportedCiphersuites lists those that are", mls.ErrCipherSuite, v)
	}
	return s, nil
}

// decodeExtensions returns the extensions of a request.
func decodeExtensions(list []*mlsclientpb.Extension) (mls.Extensions, error) {
	x := make(mls.Extensions, 0, len(list))
	for _, e := range list {
		if e.GetExtensionType() > 0xffff {
			return nil, fmt.Errorf("%w: extension type 0x%X has more than 16 bits", mls.ErrInvalidMessage, e.GetExtensionType())
		}
		x = append(x, mls.Extension{Type: mls.ExtensionType(e.GetExtensionType()), Data: e.GetExtensionData()})
	}
	return x, x.Validate()
}

// encodeWelcome returns the message of a Welcome, or nothing where a commit
// adds nobody.
func encodeWelcome(w *mls.Welcome) ([]byte, error) {
	if w == nil {
		return nil, nil
	}
	return mls.Marshal(mls.WelcomeMessage(w))
}

// encodeTree returns the ratchet tree of a state if it is wanted.
func encodeTree(s *mls.State, wanted bool) ([]byte, error) {
	if !wanted {
		return nil, nil
	}
	return mls.Marshal(s.RatchetTree())
}
