package mls

import (
	"github.com/comity-im/comity/internal/tlspl"
)

// KeyPackage lets others add a client to a group while it is offline
// (RFC 9420 section 10).
//
//	struct {
//	    ProtocolVersion version;
//	    CipherSuite cipher_suite;
//	    HPKEPublicKey init_key;
//	    LeafNode leaf_node;
//	    Extension extensions<V>;
//	    opaque signature<V>; /* SignWithLabel(., "KeyPackageTBS", KeyPackageTBS) */
//	} KeyPackage;
type KeyPackage struct {
	Version     ProtocolVersion
	CipherSuite CipherSuite
	InitKey     []byte
	LeafNode    LeafNode
	Extensions  Extensions
	Signature   []byte

	raw []byte // the encoding as received or signed
	tbs int    // how many octets of raw precede the signature
}

const keyPackageLabel = "KeyPackageTBS"

// MarshalTLS implements tlspl.Marshaler. A KeyPackage that was decoded or
// signed is written as it was.
func (kp *KeyPackage) MarshalTLS(w *tlspl.Writer) {
	if kp.raw != nil {
		w.Raw(kp.raw)
		return
	}
	kp.marshalTBS(w)
	w.Opaque(kp.Signature)
}

func (kp *KeyPackage) marshalTBS(w *tlspl.Writer) {
	w.Uint16(uint16(kp.Version))
	w.Uint16(uint16(kp.CipherSuite))
	w.Opaque(kp.InitKey)
	kp.LeafNode.MarshalTLS(w)
	kp.Extensions.MarshalTLS(w)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (kp *KeyPackage) UnmarshalTLS(r *tlspl.Reader) {
	*kp = KeyPackage{}
	start := r.Offset()
	kp.Version = ProtocolVersion(r.Uint16())
	kp.CipherSuite = CipherSuite(r.Uint16())
	kp.InitKey = r.Opaque(0)
	kp.LeafNode.UnmarshalTLS(r)
	kp.Extensions.UnmarshalTLS(r)
	kp.tbs = r.Offset() - start
	kp.Signature = r.Opaque(0)
	kp.raw = r.Since(start)
}

func (kp *KeyPackage) signedContent() ([]byte, error) {
	if kp.raw != nil {
		return kp.raw[:kp.tbs], nil
	}
	var w tlspl.Writer
	kp.marshalTBS(&w)
	return w.Bytes()
}

// sign sets the signature and fixes the encoding.
func (kp *KeyPackage) sign(signer Signer) error {
	kp.raw, kp.tbs = nil, 0
	content, err := kp.signedContent()
	if err != nil {
		return err
	}
	if kp.Signature, err = SignWithLabel(signer, keyPackageLabel, content); err != nil {
		return err
	}
	kp.tbs = len(content)
	w := tlspl.NewWriter(content)
	w.Opaque(kp.Signature)
	kp.raw, err = w.Bytes()
	return err
}

// VerifySignature checks the signatures of the KeyPackage and of its leaf.
func (kp *KeyPackage) VerifySignature() error {
	content, err := kp.signedContent()
	if err != nil {
		return err
	}
	if err := VerifyWithLabel(kp.CipherSuite, kp.LeafNode.SignatureKey, keyPackageLabel, content, kp.Signature); err != nil {
		return err
	}
	return kp.LeafNode.VerifySignature(kp.CipherSuite, nil, 0)
}

// Ref returns the KeyPackageRef, by which a Welcome names its receivers
// (RFC 9420 section 5.2).
func (kp *KeyPackage) Ref() (KeyPackageRef, error) {
	s, err := kp.CipherSuite.params()
	if err != nil {
		return nil, err
	}
	b, err := tlspl.Marshal(kp)
	if err != nil {
		return nil, err
	}
	return s.refHash(keyPackageRefLabel, b)
}
