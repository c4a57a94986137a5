package mls

import (
	"fmt"
	"slices"
	"time"
)

// checkLeaf verifies what RFC 9420 section 7.3 asks of a leaf by itself: its
// source, keys, capabilities, extensions, lifetime and signature. What
// depends on other members is checked on the whole tree (see checkSupport),
// and the credential by the caller.
func (c *Config) checkLeaf(s *suite, leaf *LeafNode, source LeafNodeSource, groupID []byte, at LeafIndex) error {
	if err := c.checkLeafContent(s, leaf, source); err != nil {
		return err
	}
	return leaf.VerifySignature(s.id, groupID, at)
}

// checkLeafContent is checkLeaf without the signature.
func (c *Config) checkLeafContent(s *suite, leaf *LeafNode, source LeafNodeSource) error {
	if leaf.Source != source {
		return fmt.Errorf("%w: leaf_node_source is %d where %d belongs", ErrInvalidKeyPackage, leaf.Source, source)
	}
	if source == LeafSourceKeyPackage && !c.SkipLifetime {
		if err := c.checkLifetime(leaf.Lifetime); err != nil {
			return err
		}
	}
	return checkLeafStatic(s, leaf)
}

// checkLeafStatic verifies what depends on nothing but the leaf and the
// cipher suite.
func checkLeafStatic(s *suite, leaf *LeafNode) error {
	if err := s.checkHPKEKey(leaf.EncryptionKey); err != nil {
		return err
	}
	if err := s.checkSignatureKey(leaf.SignatureKey); err != nil {
		return err
	}
	caps := &leaf.Capabilities
	if !slices.Contains(caps.Versions, MLS10) {
		return fmt.Errorf("%w: a leaf does not list MLS 1.0", ErrCapabilities)
	}
	if !slices.Contains(caps.CipherSuites, s.id) {
		return fmt.Errorf("%w: a leaf does not list the cipher suite %v", ErrCapabilities, s.id)
	}
	if !caps.SupportsCredential(leaf.Credential.Type) {
		return fmt.Errorf("%w: a leaf does not list its own credential type %v", ErrCapabilities, leaf.Credential.Type)
	}
	if err := leaf.Extensions.validIn(inLeafNode); err != nil {
		return err
	}
	for _, x := range leaf.Extensions {
		if !caps.SupportsExtension(x.Type) {
			return fmt.Errorf("%w: a leaf does not list its own extension %v", ErrCapabilities, x.Type)
		}
	}
	if leaf.Credential.isMulti() {
		if _, err := leaf.Credential.Multi(); err != nil {
			return err
		}
	}
	return checkLeafDictionary(leaf)
}

// checkLifetime verifies that a leaf is valid now and not for too long
// (sections 7.2 and 7.3).
func (c *Config) checkLifetime(l Lifetime) error {
	skew := uint64(c.Limits.MaxClockSkew / time.Second)
	most := uint64(c.Limits.MaxLifetime / time.Second)
	now := uint64(max(c.Now().Unix(), 0))
	switch {
	case l.NotAfter < l.NotBefore:
		return fmt.Errorf("%w: lifetime ends before it begins", ErrExpired)
	case c.Limits.MaxLifetime > 0 && l.NotAfter-l.NotBefore > most+2*skew:
		return fmt.Errorf("%w: lifetime of %d s; the limit is %d s", ErrExpired, l.NotAfter-l.NotBefore, most)
	case now+skew < l.NotBefore:
		return fmt.Errorf("%w: lifetime begins at %d, now is %d", ErrExpired, l.NotBefore, now)
	case now > skew && now-skew > l.NotAfter:
		return fmt.Errorf("%w: lifetime ended at %d, now is %d", ErrExpired, l.NotAfter, now)
	}
	return nil
}

// checkSupport verifies what section 7.3 asks of all members together: every
// credential type in use, every extension of the GroupContext and all that it
// requires is supported by every member.
func (t *tree) checkSupport(p *groupParams) error {
	all := t.supported()
	if all == nil {
		return fmt.Errorf("%w: no members", ErrInvalidTree)
	}
	for _, c := range all.inUse {
		if !all.credential(c) {
			return fmt.Errorf("%w: credential type %v is in use, but not supported by every member", ErrCapabilities, c)
		}
	}
	for _, x := range p.extensions {
		if !all.extension(x.Type) {
			return fmt.Errorf("%w: extension %v of the GroupContext is not supported by every member", ErrCapabilities, x.Type)
		}
	}
	if what := all.missing(&p.requires); what != "" {
		return fmt.Errorf("%w: %s is required, but not supported by every member", ErrCapabilities, what)
	}
	return t.checkMultiSupport()
}

// verifyTree checks a whole tree on joining (section 12.4.3.1), but for its
// hash: shape and unique keys were checked when it was built. Lifetimes are
// not checked, since they bound when a leaf may come in. Signatures are
// verified in parallel.
func (c *Config) verifyTree(t *tree, groupID []byte, p *groupParams) error {
	if err := t.verifyStructure(c.Limits.MaxMembers); err != nil {
		return err
	}
	if err := t.checkSupport(p); err != nil {
		return err
	}
	type member struct {
		at   LeafIndex
		leaf *LeafNode
	}
	members := make([]member, 0, t.size())
	entries := make([]*leafEntry, 0, t.size())
	for at, e := range t.entries() {
		members, entries = append(members, member{at: at}), append(entries, e)
	}
	err := parallel(len(members), func(i int) error {
		m := &members[i]
		m.leaf = entries[i].decode()
		if err := checkLeafStatic(t.suite, m.leaf); err != nil {
			return fmt.Errorf("leaf %d: %w", m.at, err)
		}
		if err := m.leaf.VerifySignature(t.suite.id, groupID, m.at); err != nil {
			return fmt.Errorf("leaf %d: %w", m.at, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := c.verifyAdmitted(&m.leaf.Credential, m.leaf.SignatureKey); err != nil {
			return fmt.Errorf("leaf %d: %w", m.at, err)
		}
	}
	return nil
}

// verifyStructure checks a tree without regard to its signatures: it is as
// narrow as its members allow, its parents have well-formed keys and valid
// parent hashes.
func (t *tree) verifyStructure(maxMembers int) error {
	if t.size() == 0 {
		return fmt.Errorf("%w: no members", ErrInvalidTree)
	}
	if t.size() > maxMembers {
		return fmt.Errorf("%w: %d members; the limit is %d", ErrLimit, t.size(), maxMembers)
	}
	if t.depth > 0 && t.below(rootPosition(t.depth).right()) == 0 {
		return fmt.Errorf("%w: wider than its members need", ErrInvalidTree)
	}
	for x, raw := range t.parents() {
		key, _ := cutOpaque(raw)
		if err := t.suite.checkHPKEKey([]byte(key)); err != nil {
			return fmt.Errorf("%w: node %d: %w", ErrInvalidTree, x, err)
		}
	}
	if err := t.verifyParentHashes(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidTree, err)
	}
	return nil
}
