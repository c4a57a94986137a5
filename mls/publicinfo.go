package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// GroupInfo returns the GroupInfo of the present epoch, octet for octet as a
// member signed it, with the ratchet tree if it was signed with it. ok is
// false if none is known: no PartialGroupInfo or GroupInfo came with the
// commit that began the epoch.
func (g *PublicGroup) GroupInfo() (gi *GroupInfo, ok bool) {
	if g.info == nil {
		return nil, false
	}
	gi, err := g.info.groupInfo(g.state)
	if err != nil {
		panic("mls: GroupInfo without encoding: " + err.Error()) // it had one when it was verified
	}
	return gi, true
}

// CompleteGroupInfo rebuilds the GroupInfo of the epoch that a staged commit
// begins, as its committer signed it, and verifies it: the signature, the
// extensions, and that the ratchet tree is kept, dropped or added as p says.
// The group changes with Merge, which then keeps the GroupInfo for the new
// epoch. external_pub cannot be compared with the group's secrets here; only
// its form is verified.
func (g *PublicGroup) CompleteGroupInfo(sc *StagedCommit, p *PartialGroupInfo) (*GroupInfo, error) {
	if err := g.staged(sc); err != nil {
		return nil, err
	}
	gi, err := sc.completeGroupInfo(g.cfg, p)
	if err != nil {
		return nil, err
	}
	if g.info != nil && p.TreePresence.before() != (g.info.treeAt >= 0) {
		return nil, fmt.Errorf("%w: ratchet_tree_presence %d does not fit the GroupInfo of the epoch before", ErrInvalidMessage, p.TreePresence)
	}
	sc.info = partsOf(gi)
	return gi, nil
}

// AttachGroupInfo verifies a whole GroupInfo of the epoch that a staged commit
// begins, signed by its committer. Merge then keeps it for the new epoch.
func (g *PublicGroup) AttachGroupInfo(sc *StagedCommit, gi *GroupInfo) error {
	if err := g.staged(sc); err != nil {
		return err
	}
	if gi == nil {
		return fmt.Errorf("%w: no GroupInfo to attach", ErrInvalidMessage)
	}
	if gi.Signer != sc.Committer {
		return fmt.Errorf("%w: GroupInfo signed by leaf %d, the commit by leaf %d", ErrUnknownSender, gi.Signer, sc.Committer)
	}
	if err := g.checkInfoSize(gi); err != nil {
		return err
	}
	if err := sc.After.verifyGroupInfo(gi); err != nil {
		return err
	}
	sc.info = partsOf(gi)
	return nil
}

// KeepGroupInfo verifies a GroupInfo of the present epoch, as VerifyGroupInfo
// does, and keeps it in place of the one that is known.
func (g *PublicGroup) KeepGroupInfo(gi *GroupInfo) error {
	if err := g.checkInfoSize(gi); err != nil {
		return err
	}
	if err := g.VerifyGroupInfo(gi); err != nil {
		return err
	}
	g.info = partsOf(gi)
	return nil
}

func (g *PublicGroup) checkInfoSize(gi *GroupInfo) error {
	x := gi.Extensions.Without(ExtensionRatchetTree)
	if n := len(mustMarshalExtensions(x)); n > g.cfg.Limits.MaxExtensions {
		return fmt.Errorf("%w: GroupInfo extensions of %d octets; the limit is %d", ErrLimit, n, g.cfg.Limits.MaxExtensions)
	}
	return nil
}

// keyGroupInfo is the key of the record of a PublicGroup's GroupInfo.
const keyGroupInfo = "info"

// infoRecord is the stored form of what the State does not say about the
// GroupInfo of its epoch:
//
//	struct {
//	    uint8 version = 1;
//	    uint32 signer;
//	    optional<uint32> ratchet_tree_position;
//	    Extension group_info_extensions<V>;
//	    opaque signature<V>;
//	} InfoRecord;
type infoRecord groupInfoParts

func (p *infoRecord) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(stateRecordVersion)
	w.Uint32(uint32(p.signer))
	w.Optional(p.treeAt >= 0, func(w *tlspl.Writer) { w.Uint32(uint32(p.treeAt)) })
	p.extensions.MarshalTLS(w)
	w.Opaque(p.signature)
}

func (p *infoRecord) UnmarshalTLS(r *tlspl.Reader) {
	*p = infoRecord{treeAt: -1}
	if v := r.Uint8(); r.Err() == nil && v != stateRecordVersion {
		r.Failf("stored GroupInfo of version %d; this program reads version %d", v, stateRecordVersion)
	}
	p.signer = LeafIndex(r.Uint32())
	if r.Optional() {
		p.treeAt = int(r.Uint32())
	}
	p.extensions.UnmarshalTLS(r)
	p.signature = r.Opaque(0)
	if r.Err() == nil && p.treeAt > len(p.extensions) {
		r.Failf("ratchet_tree at position %d of %d extensions", p.treeAt, len(p.extensions)+1)
	}
}

// infoRecords appends what must be stored to go from the GroupInfo since to
// info; either may be nil.
func infoRecords(r *Records, info, since *groupInfoParts) {
	switch {
	case info == since:
	case info == nil:
		r.Delete = append(r.Delete, keyGroupInfo)
	default:
		r.Put = append(r.Put, Record{keyGroupInfo, mustMarshal((*infoRecord)(info))})
	}
}

// loadInfo restores and verifies the GroupInfo of an epoch, or returns nil if
// none was stored.
func loadInfo(s *State, records map[string][]byte) (*groupInfoParts, error) {
	if _, ok := records[keyGroupInfo]; !ok {
		return nil, nil
	}
	p := new(infoRecord)
	if err := loadRecord(records, keyGroupInfo, p); err != nil {
		return nil, err
	}
	info := (*groupInfoParts)(p)
	if _, err := info.verified(s); err != nil {
		return nil, fmt.Errorf("%w: record %q: %w", ErrState, keyGroupInfo, err)
	}
	return info, nil
}
