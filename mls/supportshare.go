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
	of   map[string]weak.Pointer[support] // by support.key
	leaf map[string]weak.Pointer[support] // by supportKey: saves parsing what was parsed lately
}{of: make(map[string]weak.Pointer[support]), leaf: make(map[string]weak.Pointer[support])}

// maxSupportKeys bounds the entries of supports.leaf. Leaves can say the same
// in endlessly many ways.
const maxSupportKeys = 1024

// supportOf returns the support of a leaf. What of its extensions is malformed
// counts as absent: checkLeafStatic refuses such a leaf.
func supportOf(n *LeafNode) *support {
	key := supportKey(n)
	supports.Lock()
	s := supports.leaf[string(key)].Value()
	supports.Unlock()
	if s != nil {
		return s
	}
	s = parseSupport(n).share()
	supports.Lock()
	defer supports.Unlock()
	if len(supports.leaf) >= maxSupportKeys {
		clear(supports.leaf)
	}
	supports.leaf[string(key)] = weak.Make(s)
	return s
}

// share returns the one support of s's content; s itself if there was none.
func (s *support) share() *support {
	key := s.key()
	supports.Lock()
	defer supports.Unlock()
	if other := supports.of[key].Value(); other != nil {
		return other
	}
	supports.of[key] = weak.Make(s)
	runtime.AddCleanup(s, func(key string) {
		supports.Lock()
		defer supports.Unlock()
		if supports.of[key].Value() == nil { // it may have been made anew
			delete(supports.of, key)
		}
	}, key)
	return s
}

// key encodes the content of s.
func (s *support) key() string {
	w := tlspl.NewWriter(make([]byte, 0, 192))
	writeUint16s(w, s.extensions)
	writeUint16s(w, s.proposals)
	writeUint16s(w, s.credentials)
	writeUint16s(w, s.suites)
	writeUint16s(w, s.wireFormats)
	writeUint16s(w, s.components)
	writeUint16s(w, s.safeAAD)
	writeUint16s(w, s.inUse)
	w.Opaque([]byte(encodeKinds(s.bindings)))
	for _, list := range [][]string{s.weak, s.media} {
		tlspl.WriteVector(w, list, func(w *tlspl.Writer, text *string) { w.Opaque([]byte(*text)) })
	}
	b, _ := w.Bytes() // parts of what was encoded before
	return string(b)
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
