package mls

import (
	"fmt"
	"maps"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// exporterDepth is the depth of an Exporter Tree: one leaf per ComponentID.
const exporterDepth = 16

// exporterTree yields one secret per component, once (mls-extensions
// section 4.4). Like a secretTree it is expanded on demand and holds no
// secret from which one derives that was handed out.
type exporterTree map[uint32][]byte

// newExporterTree takes over application_export_secret.
func newExporterTree(secret []byte) exporterTree {
	return exporterTree{uint32(rootPosition(exporterDepth)): secret}
}

// take consumes the secret of a component.
func (t exporterTree) take(s *suite, id ComponentID) ([]byte, error) {
	from, siblings, secret, err := s.descend(t, exporterDepth, LeafIndex(id))
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, fmt.Errorf("%w: the exported secret of component %v was handed out in this epoch", ErrReplay, id)
	}
	wipe(t[from])
	delete(t, from)
	maps.Copy(t, siblings)
	return secret, nil
}

func (t exporterTree) wipe() {
	for _, s := range t {
		wipe(s)
	}
	clear(t)
}

// MarshalTLS implements tlspl.Marshaler.
func (t exporterTree) MarshalTLS(w *tlspl.Writer) {
	w.Vector(func(w *tlspl.Writer) {
		for _, x := range slices.Sorted(maps.Keys(t)) {
			w.Uint32(x)
			w.Opaque(t[x])
		}
	})
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (t *exporterTree) UnmarshalTLS(r *tlspl.Reader) {
	*t = exporterTree{}
	r.Vector(func(r *tlspl.Reader) {
		for !r.Empty() {
			x := r.Uint32()
			if _, ok := (*t)[x]; r.Err() == nil && (ok || x >= 2<<exporterDepth-1) {
				r.Failf("node %d of an exporter tree", x)
			}
			(*t)[x] = r.OpaqueCopy(maxHashSize)
		}
	})
}

// SafeExport returns the secret that the epoch exports to a component, of
// KDF.Nh octets (SafeExportSecret, mls-extensions section 4.4). Unlike Export
// it is forward secure: each component gets its secret once per epoch, and
// Records holds it no more afterwards. Store Records before using the secret.
func (g *Group) SafeExport(id ComponentID) ([]byte, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	return g.exports.take(g.suite, id)
}
