package mls

import (
	"github.com/comity-im/comity/internal/tlspl"
)

// GroupInfo is a member's signed statement of a group's state, with which
// others join (RFC 9420 section 12.4.3):
//
//	struct {
//	    GroupContext group_context;
//	    Extension extensions<V>;
//	    MAC confirmation_tag;
//	    uint32 signer;
//	    opaque signature<V>; /* SignWithLabel(., "GroupInfoTBS", GroupInfoTBS) */
//	} GroupInfo;
type GroupInfo struct {
	GroupContext    GroupContext
	Extensions      Extensions
	ConfirmationTag []byte
	Signer          LeafIndex
	Signature       []byte

	raw []byte // the encoding as received or signed
	tbs int    // how many octets of raw precede the signature
}

const groupInfoLabel = "GroupInfoTBS"

// MarshalTLS implements tlspl.Marshaler. A GroupInfo that was decoded or
// signed is written as it was.
func (gi *GroupInfo) MarshalTLS(w *tlspl.Writer) {
	if gi.raw != nil {
		w.Raw(gi.raw)
		return
	}
	gi.marshalTBS(w)
	w.Opaque(gi.Signature)
}

func (gi *GroupInfo) marshalTBS(w *tlspl.Writer) {
	gi.GroupContext.MarshalTLS(w)
	gi.Extensions.MarshalTLS(w)
	w.Opaque(gi.ConfirmationTag)
	w.Uint32(uint32(gi.Signer))
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (gi *GroupInfo) UnmarshalTLS(r *tlspl.Reader) {
	*gi = GroupInfo{}
	start := r.Offset()
	gi.GroupContext.UnmarshalTLS(r)
	gi.Extensions.UnmarshalTLS(r)
	gi.ConfirmationTag = r.Opaque(maxHashSize)
	gi.Signer = LeafIndex(r.Uint32())
	gi.tbs = r.Offset() - start
	gi.Signature = r.Opaque(0)
	gi.raw = r.Since(start)
}

func (gi *GroupInfo) signedContent() ([]byte, error) {
	if gi.raw != nil {
		return gi.raw[:gi.tbs], nil
	}
	var w tlspl.Writer
	gi.marshalTBS(&w)
	return w.Bytes()
}

// sign sets the signature and fixes the encoding.
func (gi *GroupInfo) sign(signer Signer) error {
	gi.raw, gi.tbs = nil, 0
	content, err := gi.signedContent()
	if err != nil {
		return err
	}
	if gi.Signature, err = SignWithLabel(signer, groupInfoLabel, content); err != nil {
		return err
	}
	gi.tbs = len(content)
	w := tlspl.NewWriter(content)
	w.Opaque(gi.Signature)
	gi.raw, err = w.Bytes()
	return err
}

// VerifySignature checks the signature with the key of the leaf Signer.
func (gi *GroupInfo) VerifySignature(signatureKey []byte) error {
	content, err := gi.signedContent()
	if err != nil {
		return err
	}
	return VerifyWithLabel(gi.GroupContext.CipherSuite, signatureKey, groupInfoLabel, content, gi.Signature)
}
