package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// LeafNode describes one client in a group, signed by that client (RFC 9420
// section 7.2).
//
//	struct {
//	    HPKEPublicKey encryption_key;
//	    SignaturePublicKey signature_key;
//	    Credential credential;
//	    Capabilities capabilities;
//	    LeafNodeSource leaf_node_source;
//	    select (LeafNode.leaf_node_source) {
//	        case key_package: Lifetime lifetime;
//	        case update:      struct{};
//	        case commit:      opaque parent_hash<V>;
//	    };
//	    Extension extensions<V>;
//	    opaque signature<V>; /* SignWithLabel(., "LeafNodeTBS", LeafNodeTBS) */
//	} LeafNode;
type LeafNode struct {
	EncryptionKey []byte
	SignatureKey  []byte
	Credential    Credential
	Capabilities  Capabilities
	Source        LeafNodeSource
	Lifetime      Lifetime // LeafSourceKeyPackage
	ParentHash    []byte   // LeafSourceCommit
	Extensions    Extensions
	Signature     []byte

	raw []byte // the encoding as received or signed
	tbs int    // how many octets of raw precede the signature
}

const leafNodeLabel = "LeafNodeTBS"

// MarshalTLS implements tlspl.Marshaler. A leaf that was decoded or signed
// is written as it was.
func (l *LeafNode) MarshalTLS(w *tlspl.Writer) {
	if l.raw != nil {
		w.Raw(l.raw)
		return
	}
	l.marshalTBS(w)
	w.Opaque(l.Signature)
}

func (l *LeafNode) marshalTBS(w *tlspl.Writer) {
	w.Opaque(l.EncryptionKey)
	w.Opaque(l.SignatureKey)
	l.Credential.MarshalTLS(w)
	l.Capabilities.MarshalTLS(w)
	w.Uint8(uint8(l.Source))
	switch l.Source {
	case LeafSourceKeyPackage:
		l.Lifetime.MarshalTLS(w)
	case LeafSourceUpdate:
	case LeafSourceCommit:
		w.Opaque(l.ParentHash)
	default:
		w.Fail(fmt.Errorf("mls: leaf node source %d has no encoding", l.Source))
	}
	l.Extensions.MarshalTLS(w)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (l *LeafNode) UnmarshalTLS(r *tlspl.Reader) {
	*l = LeafNode{}
	start := r.Offset()
	l.EncryptionKey = r.Opaque(0)
	l.SignatureKey = r.Opaque(0)
	l.Credential.UnmarshalTLS(r)
	l.Capabilities.UnmarshalTLS(r)
	l.Source = LeafNodeSource(r.Uint8())
	switch l.Source {
	case LeafSourceKeyPackage:
		l.Lifetime.UnmarshalTLS(r)
	case LeafSourceUpdate:
	case LeafSourceCommit:
		l.ParentHash = r.Opaque(0)
	default:
		r.Failf("leaf node source %d", l.Source)
	}
	l.Extensions.UnmarshalTLS(r)
	l.tbs = r.Offset() - start
	l.Signature = r.Opaque(0)
	l.raw = r.Since(start)
}

// signedContent returns LeafNodeTBS: the fields before the signature and,
// unless the leaf is part of a KeyPackage, its place:
//
//	case update, commit:
//	    opaque group_id<V>;
//	    uint32 leaf_index;
func (l *LeafNode) signedContent(groupID []byte, leaf LeafIndex) ([]byte, error) {
	w := tlspl.NewWriter(make([]byte, 0, l.tbs+len(groupID)+8))
	if l.raw != nil {
		w.Raw(l.raw[:l.tbs])
	} else {
		l.marshalTBS(w)
	}
	if l.Source != LeafSourceKeyPackage {
		w.Opaque(groupID)
		w.Uint32(uint32(leaf))
	}
	return w.Bytes()
}

// sign sets the signature and fixes the encoding. groupID and leaf are
// ignored for a leaf of a KeyPackage.
func (l *LeafNode) sign(signer Signer, groupID []byte, leaf LeafIndex) error {
	l.raw, l.tbs = nil, 0
	content, err := l.signedContent(groupID, leaf)
	if err != nil {
		return err
	}
	if l.Signature, err = SignWithLabel(signer, leafNodeLabel, content); err != nil {
		return err
	}
	var w tlspl.Writer
	l.marshalTBS(&w)
	n, err := w.Bytes()
	if err != nil {
		return err
	}
	l.tbs = len(n)
	w.Opaque(l.Signature)
	l.raw, err = w.Bytes()
	return err
}

// VerifySignature checks the leaf's signature. groupID and leaf are ignored
// for a leaf of a KeyPackage.
func (l *LeafNode) VerifySignature(s CipherSuite, groupID []byte, leaf LeafIndex) error {
	content, err := l.signedContent(groupID, leaf)
	if err != nil {
		return err
	}
	return VerifyWithLabel(s, l.SignatureKey, leafNodeLabel, content, l.Signature)
}

// Dictionary decodes the leaf's app_data_dictionary extension.
func (l *LeafNode) Dictionary() (AppDataDictionary, error) { return l.Extensions.Dictionary() }
