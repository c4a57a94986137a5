package mls

import "slices"

// A support summarises what the members below a tree node can do: what all of
// them list in their capabilities, and which credential types they use. Every
// node caches the summary of its subtree, so questions such as "does every
// member support this proposal type" cost nothing per commit.
//
// All lists are sorted, without duplicates and without GREASE, so that members
// that differ in nothing else share one summary. A support is immutable; nil is
// that of a subtree without members.
type support struct {
	extensions  []ExtensionType
	proposals   []ProposalType
	credentials []CredentialType
	inUse       []CredentialType
}

func supportOf(n *LeafNode) *support {
	return &support{
		extensions:  sortedSet(withoutGREASE(n.Capabilities.Extensions)),
		proposals:   sortedSet(withoutGREASE(n.Capabilities.Proposals)),
		credentials: sortedSet(withoutGREASE(n.Capabilities.Credentials)),
		inUse:       []CredentialType{n.Credential.Type},
	}
}

// and returns the summary of two sets of members. Where both agree, as in
// most groups, no new value is made.
func (s *support) and(o *support) *support {
	switch {
	case s == nil || s == o:
		return o
	case o == nil || s.equal(o):
		return s
	}
	return &support{
		extensions:  intersect(s.extensions, o.extensions),
		proposals:   intersect(s.proposals, o.proposals),
		credentials: intersect(s.credentials, o.credentials),
		inUse:       sortedSet(slices.Concat(s.inUse, o.inUse)),
	}
}

func (s *support) equal(o *support) bool {
	return slices.Equal(s.extensions, o.extensions) && slices.Equal(s.proposals, o.proposals) &&
		slices.Equal(s.credentials, o.credentials) && slices.Equal(s.inUse, o.inUse)
}

// extension reports whether all members support a type. The types of
// RFC 9420 itself need not be listed (section 11.1).
func (s *support) extension(t ExtensionType) bool {
	return t.isDefault() || s == nil || contains(s.extensions, t)
}

func (s *support) proposal(t ProposalType) bool {
	return t.isDefault() || s == nil || contains(s.proposals, t)
}

func (s *support) credential(t CredentialType) bool {
	return s == nil || contains(s.credentials, t)
}

// missing returns the first requirement that some member does not meet, as
// text, or "".
func (s *support) missing(r *RequiredCapabilities) string {
	for _, t := range r.Extensions {
		if !s.extension(t) {
			return "extension " + t.String()
		}
	}
	for _, t := range r.Proposals {
		if !s.proposal(t) {
			return "proposal " + t.String()
		}
	}
	for _, t := range r.Credentials {
		if !s.credential(t) {
			return "credential " + t.String()
		}
	}
	return ""
}

func sortedSet[T ~uint16](list []T) []T {
	set := slices.Clone(list)
	slices.Sort(set)
	return slices.Compact(set)
}

func contains[T ~uint16](sorted []T, t T) bool {
	_, ok := slices.BinarySearch(sorted, t)
	return ok
}

func intersect[T ~uint16](a, b []T) []T {
	var both []T
	for _, t := range a {
		if contains(b, t) {
			both = append(both, t)
		}
	}
	return both
}
