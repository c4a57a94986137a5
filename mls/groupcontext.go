package mls

import "github.com/comity-im/comity/internal/tlspl"

// GroupContext is the public state that all members of an epoch agree on
// (RFC 9420 section 8.1):
//
//	struct {
//	    ProtocolVersion version = mls10;
//	    CipherSuite cipher_suite;
//	    opaque group_id<V>;
//	    uint64 epoch;
//	    opaque tree_hash<V>;
//	    opaque confirmed_transcript_hash<V>;
//	    Extension extensions<V>;
//	} GroupContext;
type GroupContext struct {
	Version                 ProtocolVersion
	CipherSuite             CipherSuite
	GroupID                 []byte
	Epoch                   Epoch
	TreeHash                []byte
	ConfirmedTranscriptHash []byte
	Extensions              Extensions
}

// MarshalTLS implements tlspl.Marshaler.
func (c *GroupContext) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(c.Version))
	w.Uint16(uint16(c.CipherSuite))
	w.Opaque(c.GroupID)
	w.Uint64(c.Epoch)
	w.Opaque(c.TreeHash)
	w.Opaque(c.ConfirmedTranscriptHash)
	c.Extensions.MarshalTLS(w)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (c *GroupContext) UnmarshalTLS(r *tlspl.Reader) {
	c.Version = ProtocolVersion(r.Uint16())
	c.CipherSuite = CipherSuite(r.Uint16())
	c.GroupID = r.Opaque(0)
	c.Epoch = r.Uint64()
	c.TreeHash = r.Opaque(maxHashSize)
	c.ConfirmedTranscriptHash = r.Opaque(maxHashSize)
	c.Extensions.UnmarshalTLS(r)
}
