package mls

import (
	"runtime"
	"sync"
	"weak"

	"github.com/comity-im/comity/internal/tlspl"
)

// supports holds one support per content that some tree is using, whatever
// the group: clients of one kind say the same about themselves, and 10 000
// leaves need not remember it 10 000 times. An entry goes with the last tree
// that refers to it.
var supports = struct {
	sync.Mutex
	of map[string]weak.Pointer[support]
}{of: make(map[string]weak.Pointer[support])}

// supportOf returns the support of a leaf. What of its extensions is malformed
// counts as absent: checkLeafStatic refuses such a leaf.
func supportOf(n *LeafNode) *support {
	key := supportKey(n)
	supports.Lock()
	defer supports.Unlock()
	if s := supports.of[string(key)].Value(); s != nil {
		return s
	}
	s := parseSupport(n)
	at := string(key)
	supports.of[at] = weak.Make(s)
	runtime.AddCleanup(s, func(at string) {
		supports.Lock()
		defer supports.Unlock()
		if supports.of[at].Value() == nil { // it may have been made anew
			delete(supports.of, at)
		}
	}, at)
	return s
}

// supportKey encodes what parseSupport depends on.
func supportKey(n *LeafNode) []byte {
	w := tlspl.NewWriter(make([]byte, 0, 192))
	n.Capabilities.MarshalTLS(w)
	w.Uint16(uint16(n.Credential.Type))
	if n.Credential.isMulti() {
		w.Opaque(n.Credential.Opaque)
	}
	formats, _ := n.Extensions.Find(ExtensionSupportedWireFormats)
	w.Opaque(formats)
	dictionary, _ := n.Extensions.Find(ExtensionAppDataDictionary)
	// Other components' data may well be different in every leaf.
	r := tlspl.NewReader(dictionary)
	sorted, last := true, -1
	r.Vector(func(r *tlspl.Reader) {
		for !r.Empty() {
			id := ComponentID(r.Uint16())
			data := r.Opaque(0)
			sorted, last = sorted && last < int(id), int(id)
			switch id {
			case ComponentAppComponents, ComponentSafeAAD, ComponentContentMediaTypes:
				w.Uint16(uint16(id))
				w.Opaque(data)
			}
		}
	})
	w.Bool(sorted && r.Finish() == nil)
	b, _ := w.Bytes() // what was decoded, or is about to be signed, encodes
	return b
}

func parseSupport(n *LeafNode) *support {
	s := &support{
		extensions:  sortedSet(n.Capabilities.Extensions),
		proposals:   sortedSet(n.Capabilities.Proposals),
		credentials: sortedSet(n.Capabilities.Credentials),
		suites:      sortedSet(n.Capabilities.CipherSuites),
		inUse:       []CredentialType{n.Credential.Type},
	}
	if f, err := n.Extensions.SupportedWireFormats(); err == nil {
		s.wireFormats = sortedSet(f)
	}
	if d, err := n.Dictionary(); err == nil {
		if list, err := d.Components(); err == nil {
			s.components = sortedSet(list)
		}
		if list, _, err := d.SafeAADComponents(); err == nil {
			s.safeAAD = sortedSet(list)
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
