package mls

import (
	"cmp"
	"slices"
)

// A support summarises what the members below a tree node can do: what all of
// them list in their capabilities and components, and which credentials they
// use. Every node caches the summary of its subtree, so questions such as
// "does every member support this proposal type" cost nothing per commit.
//
// All lists are sorted and without duplicates. GREASE values (RFC 9420
// section 13.5) are left out: they are random, and nothing may require them. A
// support is immutable, and leaves share equal ones (see intern); nil is that
// of a subtree without members.
type support struct {
	extensions  []ExtensionType
	proposals   []ProposalType
	credentials []CredentialType
	suites      []CipherSuite
	wireFormats []WireFormat
	components  []ComponentID // app_components
	safeAAD     []ComponentID // safe_aad
	media       []string      // content_media_types, each as canonical tells

	inUse    []CredentialType
	bindings []bindingKind // of multi-credentials in use
	weak     []string      // kinds of the bindings of each weak multi-credential in use
}

// supportOf returns the support of a leaf. What of its extensions is malformed
// counts as absent: checkLeafStatic refuses such a leaf.
func supportOf(n *LeafNode) *support {
	s := &support{
		extensions:  capable(n.Capabilities.Extensions),
		proposals:   capable(n.Capabilities.Proposals),
		credentials: capable(n.Capabilities.Credentials),
		suites:      capable(n.Capabilities.CipherSuites),
		inUse:       []CredentialType{n.Credential.Type},
	}
	if f, err := n.Extensions.SupportedWireFormats(); err == nil {
		s.wireFormats = capable(f)
	}
	if d, err := n.Dictionary(); err == nil {
		if list, err := d.Components(); err == nil {
			s.components = capable(list)
		}
		if list, _, err := d.SafeAADComponents(); err == nil {
			s.safeAAD = capable(list)
		}
		if list, _, err := d.MediaTypes(); err == nil {
			s.media = list.canonical()
		}
	}
	if m, err := n.Credential.Multi(); err == nil {
		if kinds := m.kinds(); n.Credential.Type == CredentialMulti {
			s.bindings = kinds
		} else {
			s.weak = []string{encodeKinds(kinds)}
		}
	}
	return s
}

// and returns the summary of two sets of members. Where one includes the
// other, as in most groups, it is that of the other.
func (s *support) and(o *support) *support {
	switch {
	case s == nil || s == o:
		return o
	case o == nil || s.equal(o):
		return s
	}
	both := &support{
		extensions:  intersect(s.extensions, o.extensions),
		proposals:   intersect(s.proposals, o.proposals),
		credentials: intersect(s.credentials, o.credentials),
		suites:      intersect(s.suites, o.suites),
		wireFormats: intersect(s.wireFormats, o.wireFormats),
		components:  intersect(s.components, o.components),
		safeAAD:     intersect(s.safeAAD, o.safeAAD),
		media:       intersect(s.media, o.media),
		inUse:       sortedSet(slices.Concat(s.inUse, o.inUse)),
		bindings:    sortedSet(slices.Concat(s.bindings, o.bindings)),
		weak:        sortedSet(slices.Concat(s.weak, o.weak)),
	}
	switch {
	case both.equal(s):
		return s
	case both.equal(o):
		return o
	}
	return both
}

func (s *support) equal(o *support) bool {
	return s == o || slices.Equal(s.extensions, o.extensions) && slices.Equal(s.proposals, o.proposals) &&
		slices.Equal(s.credentials, o.credentials) && slices.Equal(s.suites, o.suites) &&
		slices.Equal(s.wireFormats, o.wireFormats) && slices.Equal(s.components, o.components) &&
		slices.Equal(s.safeAAD, o.safeAAD) && slices.Equal(s.media, o.media) &&
		slices.Equal(s.inUse, o.inUse) && slices.Equal(s.bindings, o.bindings) && slices.Equal(s.weak, o.weak)
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

// wireFormat reports whether all members support a format; those of RFC 9420
// are not listed (mls-extensions section 5).
func (s *support) wireFormat(f WireFormat) bool {
	return f.isDefault() || s == nil || contains(s.wireFormats, f)
}

// component reports whether all members support a component. Whoever supports
// the app_data_dictionary extension must support app_components and safe_aad
// (mls-extensions section 4.6).
func (s *support) component(id ComponentID) bool {
	if s == nil || contains(s.components, id) {
		return true
	}
	return (id == ComponentAppComponents || id == ComponentSafeAAD) && s.extension(ExtensionAppDataDictionary)
}

// missing returns the first requirement that some member does not meet, as
// text, or "".
func (s *support) missing(r *Requirements) string {
	for _, t := range r.Capabilities.Extensions {
		if !s.extension(t) {
			return "extension " + t.String()
		}
	}
	for _, t := range r.Capabilities.Proposals {
		if !s.proposal(t) {
			return "proposal " + t.String()
		}
	}
	for _, t := range r.Capabilities.Credentials {
		if !s.credential(t) {
			return "credential " + t.String()
		}
	}
	for _, f := range r.WireFormats {
		if !s.wireFormat(f) {
			return "wire format " + f.String()
		}
	}
	for _, id := range r.Components {
		if !s.component(id) {
			return "component " + id.String()
		}
	}
	for _, id := range r.SafeAAD {
		if s != nil && !contains(s.safeAAD, id) {
			return "authenticated data of component " + id.String()
		}
	}
	for i := range r.MediaTypes {
		if s != nil && !contains(s.media, r.MediaTypes[i].canonical()) {
			return "media type " + r.MediaTypes[i].String()
		}
	}
	return ""
}

func sortedSet[T cmp.Ordered](list []T) []T {
	set := slices.Clone(list)
	slices.Sort(set)
	return slices.Compact(set)
}

// capable is sortedSet without GREASE.
func capable[T ~uint16](list []T) []T {
	return sortedSet(withoutGREASE(list))
}

func contains[T cmp.Ordered](sorted []T, t T) bool {
	_, ok := slices.BinarySearch(sorted, t)
	return ok
}

func intersect[T cmp.Ordered](a, b []T) []T {
	var both []T
	for _, t := range a {
		if contains(b, t) {
			both = append(both, t)
		}
	}
	return both
}
