package mls

import (
	"crypto/rand"
	"fmt"
	"math/bits"

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

// senderData says who sent a PrivateMessage and with which key (RFC 9420
// section 6.3.2):
//
//	struct {
//	    uint32 leaf_index;
//	    uint32 generation;
//	    opaque reuse_guard[4];
//	} SenderData;
type senderData struct {
	leaf       LeafIndex
	generation uint32
	guard      [4]byte
}

// contentAAD encodes PrivateContentAAD (RFC 9420 section 6.3.1):
//
//	struct {
//	    opaque group_id<V>;
//	    uint64 epoch;
//	    ContentType content_type;
//	    opaque authenticated_data<V>;
//	} PrivateContentAAD;
func (m *PrivateMessage) contentAAD() ([]byte, error) {
	w := tlspl.NewWriter(make([]byte, 0, len(m.GroupID)+len(m.AuthenticatedData)+20))
	w.Opaque(m.GroupID)
	w.Uint64(m.Epoch)
	w.Uint8(uint8(m.ContentType))
	w.Opaque(m.AuthenticatedData)
	return w.Bytes()
}

// senderDataAAD encodes SenderDataAAD (RFC 9420 section 6.3.2):
//
//	struct {
//	    opaque group_id<V>;
//	    uint64 epoch;
//	    ContentType content_type;
//	} SenderDataAAD;
func (m *PrivateMessage) senderDataAAD() ([]byte, error) {
	w := tlspl.NewWriter(make([]byte, 0, len(m.GroupID)+16))
	w.Opaque(m.GroupID)
	w.Uint64(m.Epoch)
	w.Uint8(uint8(m.ContentType))
	return w.Bytes()
}

// senderDataKey derives the key of the sender data from a sample of the
// ciphertext (RFC 9420 section 6.3.2).
func (s *suite) senderDataKey(secret, ciphertext []byte) (k messageKey, err error) {
	sample := ciphertext[:min(len(ciphertext), s.nh())]
	if k.key, err = s.expandWithLabel(secret, "key", sample, s.keySize); err != nil {
		return k, err
	}
	k.nonce, err = s.expandWithLabel(secret, "nonce", sample, nonceSize)
	return k, err
}

// private encrypts signed content of a member with the default padding. k is
// used up; the caller wipes it.
func (a *AuthenticatedContent) private(s *suite, k messageKey, generation uint32, senderDataSecret []byte) (*PrivateMessage, error) {
	return a.privatePadded(s, k, generation, senderDataSecret, paddedSize)
}

// privatePadded is private with the padding of Config.Padding.
func (a *AuthenticatedContent) privatePadded(s *suite, k messageKey, generation uint32, senderDataSecret []byte, padding func(size int) int) (*PrivateMessage, error) {
	if a.WireFormat != WirePrivateMessage || a.Content.Sender.Type != SenderMember {
		return nil, fmt.Errorf("%w: content was not signed by a member for a PrivateMessage", ErrInvalidMessage)
	}
	sd := senderData{leaf: a.Content.Sender.Leaf, generation: generation}
	if _, err := rand.Read(sd.guard[:]); err != nil {
		return nil, fmt.Errorf("mls: randomness for a reuse guard: %w", err)
	}
	m := &PrivateMessage{
		GroupID:           a.Content.GroupID,
		Epoch:             a.Content.Epoch,
		ContentType:       a.Content.ContentType,
		AuthenticatedData: a.Content.AuthenticatedData,
	}
	aad, err := m.contentAAD()
	if err != nil {
		return nil, err
	}
	if m.Ciphertext, err = a.sealContent(s, k, sd.guard, aad, padding); err != nil {
		return nil, err
	}
	if m.EncryptedSenderData, err = m.sealSenderData(s, senderDataSecret, sd); err != nil {
		return nil, err
	}
	return m, nil
}

// sealContent encrypts content with its proof and padding.
func (a *AuthenticatedContent) sealContent(s *suite, k messageKey, guard [4]byte, aad []byte, padding func(size int) int) ([]byte, error) {
	size := len(a.Content.Application) + len(a.Auth.Signature) + 16
	w := tlspl.NewWriter(make([]byte, 0, max(padding(size), size)+16))
	a.Content.marshalBody(w)
	a.Auth.marshal(w, a.Content.ContentType)
	pt, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	if n := padding(len(pt)) - len(pt); n > 0 {
		pt = append(pt, make([]byte, n)...)
	}
	aead, err := s.newAEAD(k.key)
	if err != nil {
		return nil, fmt.Errorf("mls: message key: %w", err)
	}
	return aead.Seal(pt[:0], xorGuard(k.nonce, guard), pt, aad), nil
}

func (m *PrivateMessage) sealSenderData(s *suite, secret []byte, sd senderData) ([]byte, error) {
	k, err := s.senderDataKey(secret, m.Ciphertext)
	if err != nil {
		return nil, err
	}
	defer k.wipe()
	aad, err := m.senderDataAAD()
	if err != nil {
		return nil, err
	}
	aead, err := s.newAEAD(k.key)
	if err != nil {
		return nil, fmt.Errorf("mls: sender data key: %w", err)
	}
	var w tlspl.Writer
	w.Uint32(uint32(sd.leaf))
	w.Uint32(sd.generation)
	w.Raw(sd.guard[:])
	pt, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, k.nonce, pt, aad), nil
}

// openSenderData decrypts the sender data. Its sender is not authenticated
// yet: any member can have made it.
func (m *PrivateMessage) openSenderData(s *suite, secret []byte) (senderData, error) {
	k, err := s.senderDataKey(secret, m.Ciphertext)
	if err != nil {
		return senderData{}, err
	}
	defer k.wipe()
	aad, err := m.senderDataAAD()
	if err != nil {
		return senderData{}, err
	}
	aead, err := s.newAEAD(k.key)
	if err != nil {
		return senderData{}, fmt.Errorf("mls: sender data key: %w", err)
	}
	pt, err := aead.Open(nil, k.nonce, m.EncryptedSenderData, aad)
	if err != nil {
		return senderData{}, fmt.Errorf("%w: sender data", ErrDecrypt)
	}
	r := tlspl.NewReader(pt)
	sd := senderData{leaf: LeafIndex(r.Uint32()), generation: r.Uint32()}
	copy(sd.guard[:], r.Raw(4))
	return sd, r.Finish()
}

// openContent decrypts the content with key k. The result is not
// authenticated before its signature was checked.
func (m *PrivateMessage) openContent(s *suite, k messageKey, sd senderData) (*AuthenticatedContent, error) {
	aad, err := m.contentAAD()
	if err != nil {
		return nil, err
	}
	return s.openContent(k, sd.guard, aad, m.Ciphertext, AuthenticatedContent{
		WireFormat: WirePrivateMessage,
		Content: FramedContent{
			GroupID:           m.GroupID,
			Epoch:             m.Epoch,
			Sender:            MemberSender(sd.leaf),
			AuthenticatedData: m.AuthenticatedData,
			ContentType:       m.ContentType,
		},
	})
}

// openContent decrypts the body and proof of a, whose other fields were read
// or derived before.
func (s *suite) openContent(k messageKey, guard [4]byte, aad, ciphertext []byte, a AuthenticatedContent) (*AuthenticatedContent, error) {
	aead, err := s.newAEAD(k.key)
	if err != nil {
		return nil, fmt.Errorf("mls: message key: %w", err)
	}
	pt, err := aead.Open(nil, xorGuard(k.nonce, guard), ciphertext, aad)
	if err != nil {
		return nil, fmt.Errorf("%w: content", ErrDecrypt)
	}
	r := tlspl.NewReader(pt)
	a.Content.unmarshalBody(r)
	a.Auth.unmarshal(r, a.Content.ContentType)
	var nonzero byte
	for _, b := range r.Raw(r.Len()) {
		nonzero |= b
	}
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("mls: decrypted content: %w", err)
	}
	if nonzero != 0 {
		return nil, fmt.Errorf("%w: padding is not zero", ErrInvalidMessage)
	}
	if a.Content.raw, err = tlspl.Marshal(&a.Content); err != nil {
		return nil, err
	}
	return &a, nil
}

// paddedSize returns the size to which content of n octets is padded. It
// leaks O(log log n) bits of the size and adds at most 12 % (the Padmé
// scheme), but never less than to 64 octets.
func paddedSize(n int) int {
	if n <= 64 {
		return 64
	}
	e := bits.Len(uint(n)) - 1
	mask := 1<<(e-bits.Len(uint(e))) - 1
	return (n + mask) &^ mask
}
