package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// MLSMessage is any message of MLS; exactly the field that WireFormat names
// is set (RFC 9420 section 6):
//
//	struct {
//	    ProtocolVersion version = mls10;
//	    WireFormat wire_format;
//	    select (MLSMessage.wire_format) {
//	        case mls_public_message:  PublicMessage public_message;
//	        case mls_private_message: PrivateMessage private_message;
//	        case mls_welcome:         Welcome welcome;
//	        case mls_group_info:      GroupInfo group_info;
//	        case mls_key_package:     KeyPackage key_package;
//	        case mls_semiprivate_message: SemiPrivateMessage semiprivate_message;
//	    };
//	} MLSMessage;
type MLSMessage struct {
	WireFormat     WireFormat
	PublicMessage  *PublicMessage
	PrivateMessage *PrivateMessage
	Welcome        *Welcome
	GroupInfo      *GroupInfo
	KeyPackage     *KeyPackage

	SemiPrivateMessage *SemiPrivateMessage
}

// WelcomeMessage wraps a Welcome.
func WelcomeMessage(m *Welcome) *MLSMessage { return &MLSMessage{WireFormat: WireWelcome, Welcome: m} }

// GroupInfoMessage wraps a GroupInfo.
func GroupInfoMessage(m *GroupInfo) *MLSMessage {
	return &MLSMessage{WireFormat: WireGroupInfo, GroupInfo: m}
}

// KeyPackageMessage wraps a KeyPackage.
func KeyPackageMessage(m *KeyPackage) *MLSMessage {
	return &MLSMessage{WireFormat: WireKeyPackage, KeyPackage: m}
}

// MarshalTLS implements tlspl.Marshaler.
func (m *MLSMessage) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(MLS10))
	w.Uint16(uint16(m.WireFormat))
	switch {
	case m.WireFormat == WirePublicMessage && m.PublicMessage != nil:
		m.PublicMessage.MarshalTLS(w)
	case m.WireFormat == WirePrivateMessage && m.PrivateMessage != nil:
		m.PrivateMessage.MarshalTLS(w)
	case m.WireFormat == WireWelcome && m.Welcome != nil:
		m.Welcome.MarshalTLS(w)
	case m.WireFormat == WireGroupInfo && m.GroupInfo != nil:
		m.GroupInfo.MarshalTLS(w)
	case m.WireFormat == WireKeyPackage && m.KeyPackage != nil:
		m.KeyPackage.MarshalTLS(w)
	case m.WireFormat == WireSemiPrivateMessage && m.SemiPrivateMessage != nil:
		m.SemiPrivateMessage.MarshalTLS(w)
	default:
		w.Fail(fmt.Errorf("%w: message of wire format %v lacks its content", ErrInvalidMessage, m.WireFormat))
	}
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (m *MLSMessage) UnmarshalTLS(r *tlspl.Reader) {
	*m = MLSMessage{}
	if v := ProtocolVersion(r.Uint16()); r.Err() == nil && v != MLS10 {
		r.Failf("protocol version %v", v)
		return
	}
	m.WireFormat = WireFormat(r.Uint16())
	if r.Err() != nil {
		return
	}
	switch m.WireFormat {
	case WirePublicMessage:
		m.PublicMessage = new(PublicMessage)
		m.PublicMessage.UnmarshalTLS(r)
	case WirePrivateMessage:
		m.PrivateMessage = new(PrivateMessage)
		m.PrivateMessage.UnmarshalTLS(r)
	case WireWelcome:
		m.Welcome = new(Welcome)
		m.Welcome.UnmarshalTLS(r)
	case WireGroupInfo:
		m.GroupInfo = new(GroupInfo)
		m.GroupInfo.UnmarshalTLS(r)
	case WireKeyPackage:
		m.KeyPackage = new(KeyPackage)
		m.KeyPackage.UnmarshalTLS(r)
		// Section 10: both versions must be the same.
		if v := m.KeyPackage.Version; r.Err() == nil && v != MLS10 {
			r.Failf("KeyPackage of protocol version %v in a message of MLS 1.0", v)
		}
	case WireSemiPrivateMessage:
		m.SemiPrivateMessage = new(SemiPrivateMessage)
		m.SemiPrivateMessage.UnmarshalTLS(r)
	default:
		r.Failf("wire format %v", m.WireFormat)
	}
}

// Epoch returns the group and epoch that a PublicMessage, PrivateMessage or
// SemiPrivateMessage belongs to; ok is false for other messages.
func (m *MLSMessage) Epoch() (groupID []byte, epoch Epoch, ok bool) {
	switch {
	case m.PublicMessage != nil:
		return m.PublicMessage.Content.GroupID, m.PublicMessage.Content.Epoch, true
	case m.PrivateMessage != nil:
		return m.PrivateMessage.GroupID, m.PrivateMessage.Epoch, true
	case m.SemiPrivateMessage != nil:
		return m.SemiPrivateMessage.GroupID, m.SemiPrivateMessage.Epoch, true
	}
	return nil, 0, false
}

// ContentType returns what a PublicMessage, PrivateMessage or
// SemiPrivateMessage carries, or 0.
func (m *MLSMessage) ContentType() ContentType {
	switch {
	case m.PublicMessage != nil:
		return m.PublicMessage.Content.ContentType
	case m.PrivateMessage != nil:
		return m.PrivateMessage.ContentType
	case m.SemiPrivateMessage != nil:
		return m.SemiPrivateMessage.ContentType
	}
	return 0
}
