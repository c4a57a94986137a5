package mimi

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// A SubmitMessageRequest asks the hub to accept an application message.
//
//	struct {                                            section 5.4
//	  Protocol protocol;
//	  select (protocol) { case mls10:
//	      MLSMessage appMessage;    /* a PrivateMessage with application data */
//	      IdentifierURI sendingUri;
//	  };
//	} SubmitMessageRequest;
type SubmitMessageRequest struct {
	Protocol   Protocol
	AppMessage mls.MLSMessage
	SendingURI URI // the sending user
}

// MarshalTLS writes m.
func (m *SubmitMessageRequest) MarshalTLS(w *tlspl.Writer) {
	m.Protocol.marshal(w)
	w.Value(&m.AppMessage)
	w.Value(m.SendingURI)
}

// UnmarshalTLS reads m.
func (m *SubmitMessageRequest) UnmarshalTLS(r *tlspl.Reader) {
	*m = SubmitMessageRequest{}
	m.Protocol.unmarshal(r)
	r.Value(&m.AppMessage)
	if r.Err() == nil {
		if t, err := kindOf(&m.AppMessage); err != nil || t != mls.ContentApplication {
			malformed(r, "appMessage is not a PrivateMessage with application data")
		}
	}
	r.Value(&m.SendingURI)
	required(r, "sendingUri", m.SendingURI, KindUser)
}

// SubmitResponseCode is the hub's verdict on an application message.
type SubmitResponseCode uint8

// The codes of section 5.4.
const (
	SubmitAccepted    SubmitResponseCode = 0
	SubmitNotAllowed  SubmitResponseCode = 1
	SubmitEpochTooOld SubmitResponseCode = 2
)

// String returns the draft's name of the code.
func (c SubmitResponseCode) String() string {
	names := [...]string{"accepted", "notAllowed", "epochTooOld"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("0x%02X", uint8(c))
}

// A SubmitMessageResponse answers a SubmitMessageRequest.
//
//	struct {                                            section 5.4
//	  Protocol protocol;
//	  select (protocol) { case mls10:
//	      SubmitResponseCode statusCode;
//	      select (statusCode) {
//	        case accepted:    uint64 accepted_timestamp; optional<Frank> frank;
//	        case epochTooOld: uint64 currentEpoch;
//	      };
//	  };
//	} SubmitMessageResponse;
type SubmitMessageResponse struct {
	Protocol          Protocol
	Code              SubmitResponseCode
	AcceptedTimestamp uint64 // milliseconds since the Unix epoch, with accepted
	Frank             *Frank // with accepted, may be nil
	CurrentEpoch      uint64 // with epochTooOld
}

// MarshalTLS writes m.
func (m *SubmitMessageResponse) MarshalTLS(w *tlspl.Writer) {
	m.Protocol.marshal(w)
	w.Uint8(uint8(m.Code))
	switch m.Code {
	case SubmitAccepted:
		w.Uint64(m.AcceptedTimestamp)
		w.Optional(m.Frank != nil, func(w *tlspl.Writer) { w.Value(m.Frank) })
	case SubmitEpochTooOld:
		w.Uint64(m.CurrentEpoch)
	}
}

// UnmarshalTLS reads m.
func (m *SubmitMessageResponse) UnmarshalTLS(r *tlspl.Reader) {
	*m = SubmitMessageResponse{}
	m.Protocol.unmarshal(r)
	m.Code = SubmitResponseCode(r.Uint8())
	switch m.Code {
	case SubmitAccepted:
		m.AcceptedTimestamp = r.Uint64()
		if r.Optional() {
			m.Frank = new(Frank)
			r.Value(m.Frank)
		}
	case SubmitEpochTooOld:
		m.CurrentEpoch = r.Uint64()
	}
}

// FrankSize is the length of a franking tag and of a server frank in octets.
const FrankSize = 32

// A Frank is the hub's proof that it accepted a message.
//
//	struct {                                            section 5.4
//	  uint8 server_frank[32];
//	  CipherSuite franking_signature_ciphersuite;
//	  opaque franking_integrity_signature<V>;
//	} Frank;
type Frank struct {
	ServerFrank [FrankSize]byte
	CipherSuite mls.CipherSuite
	Signature   []byte
}

// MarshalTLS writes m.
func (m *Frank) MarshalTLS(w *tlspl.Writer) {
	w.Raw(m.ServerFrank[:])
	w.Uint16(uint16(m.CipherSuite))
	w.Opaque(m.Signature)
}

// UnmarshalTLS reads m.
func (m *Frank) UnmarshalTLS(r *tlspl.Reader) {
	*m = Frank{}
	copy(m.ServerFrank[:], r.Raw(FrankSize))
	m.CipherSuite = mls.CipherSuite(r.Uint16())
	m.Signature = r.Opaque(0)
}
