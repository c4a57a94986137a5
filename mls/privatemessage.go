package mls

import (
	"github.com/comity-im/comity/internal/tlspl"
)

// PrivateMessage is signed and encrypted content (RFC 9420 section 6.3):
//
//	struct {
//	    opaque group_id<V>;
//	    uint64 epoch;
//	    ContentType content_type;
//	    opaque authenticated_data<V>;
//	    opaque encrypted_sender_data<V>;
//	    opaque ciphertext<V>;
//	} PrivateMessage;
type PrivateMessage struct {
	GroupID             []byte
	Epoch               Epoch
	ContentType         ContentType
	AuthenticatedData   []byte
	EncryptedSenderData []byte
	Ciphertext          []byte
}

// MarshalTLS implements tlspl.Marshaler.
func (m *PrivateMessage) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(m.GroupID)
	w.Uint64(m.Epoch)
	w.Uint8(uint8(m.ContentType))
	w.Opaque(m.AuthenticatedData)
	w.Opaque(m.EncryptedSenderData)
	w.Opaque(m.Ciphertext)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (m *PrivateMessage) UnmarshalTLS(r *tlspl.Reader) {
	m.GroupID = r.Opaque(0)
	m.Epoch = r.Uint64()
	m.ContentType = ContentType(r.Uint8())
	if m.ContentType < ContentApplication || m.ContentType > ContentCommit {
		r.Failf("content type %d", m.ContentType)
	}
	m.AuthenticatedData = r.Opaque(0)
	m.EncryptedSenderData = r.Opaque(0)
	m.Ciphertext = r.Opaque(0)
}
