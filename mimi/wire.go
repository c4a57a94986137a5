package mimi

import (
	"errors"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// Sentinel errors. Malformed encodings match tlspl.ErrSyntax as well as
// ErrMalformed where this package found the fault.
var (
	// ErrProtocol says that a message is of a protocol other than MLS 1.0.
	ErrProtocol = errors.New("mimi: unsupported protocol; only MLS 1.0 is")
	// ErrMalformed says that a message breaks a rule of the draft.
	ErrMalformed = errors.New("mimi: malformed message")
	// ErrSignature says that a signature does not verify.
	ErrSignature = errors.New("mimi: invalid signature")
)

// Protocol names the end-to-end protocol of a room.
//
//	enum { reserved(0), mls10(1), (255) } Protocol;     section 4.1
type Protocol uint8

// ProtocolMLS10 is MLS 1.0, RFC 9420.
const ProtocolMLS10 Protocol = 1

func (p Protocol) marshal(w *tlspl.Writer) {
	if p != ProtocolMLS10 {
		w.Fail(fmt.Errorf("%w: %d", ErrProtocol, p))
	}
	w.Uint8(uint8(p))
}

func (p *Protocol) unmarshal(r *tlspl.Reader) {
	*p = Protocol(r.Uint8())
	if r.Err() == nil && *p != ProtocolMLS10 {
		r.Fail(fmt.Errorf("%w: %d", ErrProtocol, *p))
	}
}

// malformed records a fault on r that matches ErrMalformed.
func malformed(r *tlspl.Reader, format string, args ...any) {
	r.Fail(fmt.Errorf("%w: %w: %s", ErrMalformed, tlspl.ErrSyntax, fmt.Sprintf(format, args...)))
}

// kindOf returns what select statements over a handshake or application
// message switch on: application for a PrivateMessage, proposal or commit for
// a PublicMessage. PrivateMessage handshakes and all other wire formats are
// refused; a hub could not check them against the room's policy.
func kindOf(m *mls.MLSMessage) (mls.ContentType, error) {
	switch m.WireFormat {
	case mls.WirePrivateMessage:
		if m.PrivateMessage == nil {
			break
		}
		if t := m.PrivateMessage.ContentType; t != mls.ContentApplication {
			return 0, fmt.Errorf("%w: a handshake message must be a PublicMessage", ErrMalformed)
		}
		return mls.ContentApplication, nil
	case mls.WirePublicMessage:
		if m.PublicMessage == nil {
			break
		}
		switch t := m.PublicMessage.Content.ContentType; t {
		case mls.ContentProposal, mls.ContentCommit:
			return t, nil
		}
		return 0, fmt.Errorf("%w: an application message must be a PrivateMessage", ErrMalformed)
	}
	return 0, fmt.Errorf("%w: wire format %v where a PublicMessage or PrivateMessage is expected", ErrMalformed, m.WireFormat)
}

// readProposals reads MLSMessage<V> whose items must be proposals in
// PublicMessages.
func readProposals(r *tlspl.Reader) []mls.MLSMessage {
	return tlspl.ReadVector(r, MaxMoreProposals, func(r *tlspl.Reader, m *mls.MLSMessage) {
		r.Value(m)
		if r.Err() != nil {
			return
		}
		if t, err := kindOf(m); err != nil || t != mls.ContentProposal {
			malformed(r, "a list of proposals holds something else")
		}
	})
}

func writeMessages(w *tlspl.Writer, messages []mls.MLSMessage) {
	tlspl.WriteVector(w, messages, func(w *tlspl.Writer, m *mls.MLSMessage) { w.Value(m) })
}

// required fails unless u is a URI of the given kind.
func required(r *tlspl.Reader, field string, u URI, kind Kind) {
	if r.Err() == nil && !u.Is(kind) {
		malformed(r, "%s is %q; a %v URI is expected", field, u, kind)
	}
}
