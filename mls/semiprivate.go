package mls

import (
	"bytes"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// SemiPrivateMessage is a proposal or commit of a member, encrypted like a
// PrivateMessage, whose key the external receivers of the group get as well
// (draft-mahy-mls-semiprivatemessage-07 section 3.1, under private code
// points; off unless Config.ExternalReceivers is set):
//
//	struct {
//	    opaque group_id<V>;
//	    uint64 epoch;
//	    ContentType content_type;
//	    opaque authenticated_data<V>;
//	    opaque partial_context_hash<V>;
//	    KeyForExternalReceiver keys_for_external_receivers<V>;
//	    opaque framed_content_tbs_hash<V>;
//	    opaque encrypted_sender_data<V>;
//	    opaque ciphertext<V>;
//	} SemiPrivateMessage;
type SemiPrivateMessage struct {
	GroupID              []byte
	Epoch                Epoch
	ContentType          ContentType
	AuthenticatedData    []byte
	PartialContextHash   []byte
	Keys                 []KeyForExternalReceiver
	FramedContentTBSHash []byte
	EncryptedSenderData  []byte
	Ciphertext           []byte
}

// KeyForExternalReceiver brings the key of one message to one receiver:
//
//	struct {
//	    ExternalReceiverRef external_receiver_ref; /* opaque<V> */
//	    HPKECiphertext encrypted_keys_and_nonces;
//	} KeyForExternalReceiver;
type KeyForExternalReceiver struct {
	Receiver      []byte
	EncryptedKeys HPKECiphertext
}

// MarshalTLS implements tlspl.Marshaler.
func (m *SemiPrivateMessage) MarshalTLS(w *tlspl.Writer) {
	m.marshalAAD(w)
	w.Opaque(m.EncryptedSenderData)
	w.Opaque(m.Ciphertext)
}

// marshalAAD writes what precedes the ciphertexts, which is authenticated
// with the content:
//
//	struct {
//	    opaque group_id<V>;
//	    uint64 epoch;
//	    ContentType content_type;
//	    opaque authenticated_data<V>;
//	    opaque partial_context_hash<V>;
//	    KeyForExternalReceiver keys_for_external_receivers<V>;
//	    opaque framed_content_tbs_hash<V>;
//	} SemiPrivateContentAAD;
func (m *SemiPrivateMessage) marshalAAD(w *tlspl.Writer) {
	w.Opaque(m.GroupID)
	w.Uint64(m.Epoch)
	w.Uint8(uint8(m.ContentType))
	w.Opaque(m.AuthenticatedData)
	w.Opaque(m.PartialContextHash)
	tlspl.WriteVector(w, m.Keys, func(w *tlspl.Writer, k *KeyForExternalReceiver) {
		w.Opaque(k.Receiver)
		k.EncryptedKeys.MarshalTLS(w)
	})
	w.Opaque(m.FramedContentTBSHash)
}

func (m *SemiPrivateMessage) contentAAD() ([]byte, error) {
	var w tlspl.Writer
	m.marshalAAD(&w)
	return w.Bytes()
}

// UnmarshalTLS implements tlspl.Unmarshaler. It refuses application data.
func (m *SemiPrivateMessage) UnmarshalTLS(r *tlspl.Reader) {
	*m = SemiPrivateMessage{GroupID: r.Opaque(0), Epoch: r.Uint64(), ContentType: ContentType(r.Uint8())}
	if m.ContentType != ContentProposal && m.ContentType != ContentCommit {
		r.Failf("content type %d in a SemiPrivateMessage", m.ContentType)
	}
	m.AuthenticatedData = r.Opaque(0)
	m.PartialContextHash = r.Opaque(maxHashSize)
	m.Keys = tlspl.ReadVector(r, maxReceivers, func(r *tlspl.Reader, k *KeyForExternalReceiver) {
		k.Receiver = r.Opaque(maxHashSize)
		k.EncryptedKeys.UnmarshalTLS(r)
	})
	m.FramedContentTBSHash = r.Opaque(maxHashSize)
	m.EncryptedSenderData = r.Opaque(0)
	m.Ciphertext = r.Opaque(0)
}

// senderPart returns the PrivateMessage whose sender data are sealed and
// opened in the same way.
func (m *SemiPrivateMessage) senderPart() *PrivateMessage {
	return &PrivateMessage{
		GroupID: m.GroupID, Epoch: m.Epoch, ContentType: m.ContentType,
		EncryptedSenderData: m.EncryptedSenderData, Ciphertext: m.Ciphertext,
	}
}

// check verifies what everybody can see: the group uses such messages, and
// each of its external receivers gets the key, nobody else.
func (m *SemiPrivateMessage) check(st *State) error {
	if err := st.requireSemiPrivate(); err != nil {
		return err
	}
	if n := len(m.Keys); n != len(st.params.receivers) {
		return fmt.Errorf("%w: keys for %d external receivers; the group has %d", ErrInvalidMessage, n, len(st.params.receivers))
	}
	// The draft does not fix the order. Receivers differ, so that each key
	// found means that none is there twice.
	for i := range st.params.receivers {
		ref, err := st.params.receivers[i].ref(st.suite)
		if err != nil {
			return err
		}
		if m.find(ref) == nil {
			return fmt.Errorf("%w: no key for the external receiver %d", ErrInvalidMessage, i)
		}
	}
	return nil
}

// find returns the key for the receiver named by ref, or nil.
func (m *SemiPrivateMessage) find(ref []byte) *HPKECiphertext {
	for i := range m.Keys {
		if bytes.Equal(m.Keys[i].Receiver, ref) {
			return &m.Keys[i].EncryptedKeys
		}
	}
	return nil
}

// perMessageKey is what an external receiver needs to read one message:
//
//	struct {
//	    opaque key<V>;
//	    opaque nonce<V>;
//	    opaque reuse_guard[4];
//	    uint32 sender_leaf_index;
//	} PerMessageKeyAndNonces;
type perMessageKey struct {
	messageKey
	guard [4]byte
	leaf  LeafIndex
}

// MarshalTLS implements tlspl.Marshaler.
func (k *perMessageKey) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(k.key)
	w.Opaque(k.nonce)
	w.Raw(k.guard[:])
	w.Uint32(uint32(k.leaf))
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (k *perMessageKey) UnmarshalTLS(r *tlspl.Reader) {
	k.key = r.OpaqueCopy(maxHashSize)
	k.nonce = r.OpaqueCopy(maxHashSize)
	copy(k.guard[:], r.Raw(len(k.guard)))
	k.leaf = LeafIndex(r.Uint32())
}

// partialContextHash binds the keys for external receivers to the sender and
// the message:
//
//	partial_context_hash = hash(sender_leaf_index || nonce)
func (s *suite) partialContextHash(leaf LeafIndex, nonce []byte) []byte {
	return s.sum([]byte{byte(leaf >> 24), byte(leaf >> 16), byte(leaf >> 8), byte(leaf)}, nonce)
}

// semiPrivateLabel is the label under which keys are encrypted to external
// receivers.
const semiPrivateLabel = "SemiPrivateMessageReceiver"

// receiverContext encodes the context of that encryption:
//
//	struct {
//	    opaque group_id<V>;
//	    uint64 epoch;
//	    opaque partial_context_hash<V>;
//	} SemiPrivateMessageContext;
func (m *SemiPrivateMessage) receiverContext() ([]byte, error) {
	var w tlspl.Writer
	w.Opaque(m.GroupID)
	w.Uint64(m.Epoch)
	w.Opaque(m.PartialContextHash)
	return w.Bytes()
}
