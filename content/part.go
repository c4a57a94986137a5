package content

import "iter"

// A NestedPart is the body of a message or a part of one (section 4.4):
//
//	NestedPart = [
//	  disposition: baseDispos / $extDispos / unknownDispos,  ; 0..255
//	  language: tstr,
//	  ( NullPart // SinglePart // ExternalPart // MultiPart)
//	]
//
// Language is empty or a comma-separated list of RFC 5646 tags; it is not
// checked. Part is a [NullPart], [SinglePart], [ExternalPart] or [MultiPart].
type NestedPart struct {
	Disposition Disposition
	Language    string
	Part        Part
}

// A Part is one of the four kinds of part.
type Part interface {
	Cardinality() Cardinality
}

// A NullPart is the empty body of a delete or unlike.
//
//	NullPart = ( cardinality: nullpart )
type NullPart struct{}

// A SinglePart carries its content inline.
//
//	SinglePart = ( cardinality: single, contentType: tstr, content: bstr )
type SinglePart struct {
	ContentType string // IANA media type with parameters
	Content     []byte
}

// An ExternalPart refers to content elsewhere (section 4.5). For public
// content EncAlg is 0 and Key, Nonce and AAD are empty.
//
//	ExternalPart = (
//	  cardinality: external, contentType: tstr, url: tstr,
//	  expires: uint .size 4, size: uint .size 8,
//	  encAlg: uint .size 2, key: bstr, nonce: bstr, aad: bstr,
//	  hashAlg: uint .size 1, contentHash: bstr,
//	  description: tstr, filename: tstr
//	)
type ExternalPart struct {
	ContentType string
	URL         string
	Expires     uint32 // seconds since the UNIX epoch, or 0 for never
	Size        uint64 // octets, or 0 when not given
	EncAlg      uint16 // IANA AEAD algorithm, or 0
	Key         []byte
	Nonce       []byte
	AAD         []byte
	HashAlg     uint8 // IANA named information hash algorithm, or 0
	ContentHash []byte
	Description string
	Filename    string
}

// A MultiPart holds two or more parts.
//
//	MultiPart = (
//	  cardinality: multi,
//	  partSemantics: chooseOne / singleUnit / processAll,
//	  parts: [2* NestedPart]
//	)
type MultiPart struct {
	Semantics PartSemantics
	Parts     []NestedPart
}

func (NullPart) Cardinality() Cardinality     { return CardinalityNull }
func (SinglePart) Cardinality() Cardinality   { return CardinalitySingle }
func (ExternalPart) Cardinality() Cardinality { return CardinalityExternal }
func (MultiPart) Cardinality() Cardinality    { return CardinalityMulti }

// Parts yields p and every part inside it with its part index, the
// zero-based, depth-first number that cid: URIs use (section 4.4).
func (p *NestedPart) Parts() iter.Seq2[int, *NestedPart] {
	return func(yield func(int, *NestedPart) bool) {
		next := 0
		var walk func(p *NestedPart) bool
		walk = func(p *NestedPart) bool {
			if !yield(next, p) {
				return false
			}
			next++
			if m, ok := p.Part.(MultiPart); ok {
				for i := range m.Parts {
					if !walk(&m.Parts[i]) {
						return false
					}
				}
			}
			return true
		}
		walk(p)
	}
}

// ByIndex returns the part with the given part index.
func (p *NestedPart) ByIndex(index int) (*NestedPart, bool) {
	for i, q := range p.Parts() {
		if i == index {
			return q, true
		}
	}
	return nil, false
}
