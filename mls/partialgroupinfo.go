package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// RatchetTreePresence says what became of the ratchet_tree extension of a
// GroupInfo from one epoch to the next (ratchet-tree-options section 4).
type RatchetTreePresence uint8

// The values of draft-mahy-mls-ratchet-tree-options-03.
const (
	TreeAbsent  RatchetTreePresence = 0 // no_ratchet_tree: neither before nor now
	TreePresent RatchetTreePresence = 1 // present: before and now
	TreeRemoved RatchetTreePresence = 2 // removed: before, not now
	TreeAdded   RatchetTreePresence = 3 // added: now, not before
)

// treePresence returns the value for two epochs.
func treePresence(before, now bool) RatchetTreePresence {
	switch {
	case before && now:
		return TreePresent
	case before:
		return TreeRemoved
	case now:
		return TreeAdded
	}
	return TreeAbsent
}

// now reports whether the GroupInfo of the new epoch has the extension.
func (p RatchetTreePresence) now() bool { return p == TreePresent || p == TreeAdded }

// before reports whether the GroupInfo of the epoch before had it.
func (p RatchetTreePresence) before() bool { return p == TreePresent || p == TreeRemoved }

// PartialGroupInfo is what those who follow a group cannot compute of the
// GroupInfo of a new epoch. A committer sends it with its commit in place of
// the whole (ratchet-tree-options section 4):
//
//	enum {
//	    no_ratchet_tree(0), present(1), removed(2), added(3), (255)
//	} RatchetTreePresence;
//
//	struct {
//	    RatchetTreePresence ratchet_tree_presence;
//	    Extension group_info_extensions<V>; /* without ratchet_tree */
//	    opaque signature<V>; /* of the GroupInfo, by the committer */
//	} PartialGroupInfo;
type PartialGroupInfo struct {
	TreePresence RatchetTreePresence
	Extensions   Extensions
	Signature    []byte
}

// MarshalTLS implements tlspl.Marshaler.
func (p *PartialGroupInfo) MarshalTLS(w *tlspl.Writer) {
	if err := p.check(); err != nil {
		w.Fail(err)
		return
	}
	w.Uint8(uint8(p.TreePresence))
	p.Extensions.MarshalTLS(w)
	w.Opaque(p.Signature)
}

// UnmarshalTLS implements tlspl.Unmarshaler. It refuses unknown values, and
// extensions that occur twice or do not belong here.
func (p *PartialGroupInfo) UnmarshalTLS(r *tlspl.Reader) {
	*p = PartialGroupInfo{TreePresence: RatchetTreePresence(r.Uint8())}
	p.Extensions.UnmarshalTLS(r)
	p.Signature = r.Opaque(0)
	if r.Err() == nil {
		if err := p.check(); err != nil {
			r.Fail(err)
		}
	}
}

// check verifies what does not depend on the group.
func (p *PartialGroupInfo) check() error {
	if p.TreePresence > TreeAdded {
		return fmt.Errorf("%w: ratchet_tree_presence %d", ErrInvalidMessage, p.TreePresence)
	}
	if _, ok := p.Extensions.Find(ExtensionRatchetTree); ok {
		return fmt.Errorf("%w: ratchet_tree in a PartialGroupInfo", ErrInvalidMessage)
	}
	return p.Extensions.Validate()
}

// PartialGroupInfo returns what to send with a commit that was made here, for
// those who follow the group and rebuild the rest of its GroupInfo.
// treeBefore tells whether the GroupInfo of the epoch before carried a
// ratchet_tree extension; those of this package do not, unless
// CommitOptions.TreeInGroupInfo is set.
func (sc *StagedCommit) PartialGroupInfo(treeBefore bool) (*PartialGroupInfo, error) {
	if sc.GroupInfo == nil {
		return nil, fmt.Errorf("%w: not made here, so there is no GroupInfo for it", ErrInvalidCommit)
	}
	p := partsOf(sc.GroupInfo)
	return &PartialGroupInfo{
		TreePresence: treePresence(treeBefore, p.treeAt >= 0),
		Extensions:   p.extensions,
		Signature:    p.signature,
	}, nil
}

// CompleteGroupInfo rebuilds the GroupInfo of the epoch that a commit begins,
// as its committer signed it, from the commit and the PartialGroupInfo that
// came with it. It verifies the signature and the extensions, and, unless the
// commit removes the local member, that external_pub is the epoch's. It
// changes nothing.
func (g *Group) CompleteGroupInfo(sc *StagedCommit, p *PartialGroupInfo) (*GroupInfo, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	if sc == nil || sc.private == nil || sc.Before != g.state {
		return nil, fmt.Errorf("%w: commit was staged in another epoch, or by another group", ErrWrongEpoch)
	}
	gi, err := sc.completeGroupInfo(g.cfg, p)
	if err != nil {
		return nil, err
	}
	key, ok, err := gi.Extensions.ExternalPub()
	if err != nil || !ok || sc.private.secrets == nil {
		return gi, err
	}
	private, public, err := g.suite.deriveKeyPair(sc.private.secrets.external)
	if err != nil {
		return nil, err
	}
	wipe(private)
	if !bytes.Equal(key, public) {
		return nil, fmt.Errorf("%w: external_pub of the GroupInfo is not the epoch's", ErrInvalidMessage)
	}
	return gi, nil
}

// completeGroupInfo rebuilds and verifies the GroupInfo of sc.After.
func (sc *StagedCommit) completeGroupInfo(cfg *Config, p *PartialGroupInfo) (*GroupInfo, error) {
	if p == nil {
		return nil, fmt.Errorf("%w: no PartialGroupInfo", ErrInvalidMessage)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if n := len(mustMarshalExtensions(p.Extensions)); n > cfg.Limits.MaxExtensions {
		return nil, fmt.Errorf("%w: GroupInfo extensions of %d octets; the limit is %d", ErrLimit, n, cfg.Limits.MaxExtensions)
	}
	parts := groupInfoParts{signer: sc.Committer, extensions: p.Extensions, treeAt: -1, signature: p.Signature}
	if !p.TreePresence.now() {
		return parts.verified(sc.After)
	}
	// The draft does not say where in the list ratchet_tree was when the
	// committer signed it. Most put it last.
	var err error
	for i := range min(len(p.Extensions)+1, maxTreePlaces) {
		parts.treeAt = len(p.Extensions) - i
		var gi *GroupInfo
		if gi, err = parts.verified(sc.After); err == nil || !errors.Is(err, ErrInvalidSignature) {
			return gi, err
		}
	}
	return nil, err
}

// maxTreePlaces bounds how many places are tried for ratchet_tree, each at the
// cost of a signature over the whole tree.
const maxTreePlaces = 8

// groupInfoParts is a GroupInfo without what the State of its epoch knows. It
// is immutable.
type groupInfoParts struct {
	signer     LeafIndex
	extensions Extensions // without ratchet_tree
	treeAt     int        // where ratchet_tree is to be inserted; -1: nowhere
	signature  []byte
}

// partsOf takes a GroupInfo apart. The result shares no memory with it.
func partsOf(gi *GroupInfo) *groupInfoParts {
	p := &groupInfoParts{signer: gi.Signer, treeAt: -1, signature: bytes.Clone(gi.Signature)}
	for i, x := range gi.Extensions {
		if x.Type == ExtensionRatchetTree {
			p.treeAt = i
			continue
		}
		p.extensions = append(p.extensions, Extension{x.Type, bytes.Clone(x.Data)})
	}
	return p
}

// groupInfo puts the GroupInfo of the epoch s together again.
func (p *groupInfoParts) groupInfo(s *State) (*GroupInfo, error) {
	x := p.extensions
	if p.treeAt >= 0 {
		x = slices.Insert(slices.Clone(x), p.treeAt, Extension{ExtensionRatchetTree, mustMarshal(s.RatchetTree())})
	}
	var w tlspl.Writer
	w.Raw(s.encoded)
	x.MarshalTLS(&w)
	w.Opaque(s.confirmationTag)
	w.Uint32(uint32(p.signer))
	w.Opaque(p.signature)
	b, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	gi := new(GroupInfo)
	return gi, tlspl.Unmarshal(b, gi)
}

// verified puts the GroupInfo together and verifies it.
func (p *groupInfoParts) verified(s *State) (*GroupInfo, error) {
	gi, err := p.groupInfo(s)
	if err != nil {
		return nil, err
	}
	if err := s.verifyGroupInfo(gi); err != nil {
		return nil, err
	}
	return gi, nil
}
