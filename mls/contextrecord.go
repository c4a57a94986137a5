package mls

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// keyExtensions is the prefix of the records of large GroupContext
// extensions, which are named by their hash.
const keyExtensions = "extensions/"

// inlineExtensions is the size up to which the extensions of a GroupContext
// are stored with the rest of it. Larger ones, such as a list of participants,
// have a record of their own, so that a commit that does not change them does
// not write them again.
const inlineExtensions = 512

// contextVersion2 is the version of a record in which a GroupContext is stored
// without its extensions; version 1 holds all of it.
const contextVersion2 = 2

// A contextRecord is the stored form of a GroupContext inside of another
// record:
//
//	select (version) {
//	    case 1: GroupContext context;
//	    case 2: opaque context_without_extensions<V>;
//	            opaque extensions_hash<V>;
//	}
type contextRecord struct {
	context []byte // version 2: without extensions
	hash    []byte // version 2
}

// splitContext returns the stored form of an encoded GroupContext, and its
// extensions if they are stored apart.
func (s *suite) splitContext(context []byte) (c contextRecord, extensions []byte) {
	r := tlspl.NewReader(context)
	r.Uint16()
	r.Uint16()
	r.Opaque(0)
	r.Uint64()
	r.Opaque(maxHashSize)
	r.Opaque(maxHashSize)
	extensions = context[r.Offset():]
	if len(extensions) <= inlineExtensions {
		return contextRecord{context: context}, nil
	}
	return contextRecord{context[:r.Offset()], s.sum(extensions)}, extensions
}

// version returns the version of the record that holds c.
func (c *contextRecord) version() uint8 {
	if c.hash != nil {
		return contextVersion2
	}
	return stateRecordVersion
}

// key returns the key of the extensions' record, "" if they are not stored
// apart.
func (c *contextRecord) key() string {
	if c.hash == nil {
		return ""
	}
	return keyExtensions + hex.EncodeToString(c.hash)
}

// join returns the encoded GroupContext.
func (c *contextRecord) join(s *suite, records map[string][]byte) ([]byte, error) {
	if c.hash == nil {
		return c.context, nil
	}
	extensions, ok := records[c.key()]
	if !ok {
		return nil, fmt.Errorf("%w: no record %q", ErrState, c.key())
	}
	if !bytes.Equal(s.sum(extensions), c.hash) {
		return nil, fmt.Errorf("%w: record %q is not what its key names", ErrState, c.key())
	}
	return slices.Concat(c.context, extensions), nil
}

// storedExtensions returns the record of the extensions of s, with an empty
// key if they are not stored apart.
func (s *State) storedExtensions() Record {
	if s == nil || s.inline {
		return Record{}
	}
	c, extensions := s.suite.splitContext(s.encoded)
	return Record{c.key(), extensions}
}

// extensionRecords appends what must be stored to go from the extensions of
// the state since, which may be nil, to those of s.
func (s *State) extensionRecords(r *Records, since *State) {
	if s == since {
		return
	}
	is, was := s.storedExtensions(), since.storedExtensions()
	if s.inline { // it was loaded, and is written anew
		c, extensions := s.suite.splitContext(s.encoded)
		is = Record{c.key(), extensions}
	}
	if is.Key == was.Key {
		return
	}
	if was.Key != "" {
		r.Delete = append(r.Delete, was.Key)
	}
	if is.Key != "" {
		r.Put = append(r.Put, is)
	}
}

// extensionRecords appends the changes of the extensions that the records of
// the current epoch and of past ones refer to.
func (g *Group) extensionRecords(r *Records) {
	needed := make(map[string][]byte)
	need := func(rec Record) {
		if rec.Key != "" {
			needed[rec.Key] = rec.Value
		}
	}
	need(g.state.storedExtensions())
	for _, p := range g.past {
		if !p.inline {
			c, extensions := g.suite.splitContext(p.context)
			need(Record{c.key(), extensions})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(needed)) {
		if !g.saved.extensions[key] {
			r.Put = append(r.Put, Record{key, bytes.Clone(needed[key])})
			if g.saved.extensions == nil {
				g.saved.extensions = make(map[string]bool)
			}
			g.saved.extensions[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(g.saved.extensions)) {
		if _, ok := needed[key]; !ok {
			r.Delete = append(r.Delete, key)
			delete(g.saved.extensions, key)
		}
	}
}
