package mls

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"iter"
	"slices"
)

// A treeKeys holds the HPKE private keys that a member knows: of its leaf and
// of nodes above it (RFC 9420 section 4.2).
type treeKeys map[nodeIndex][]byte

// check verifies that every key fits the public key in the tree.
func (k treeKeys) check(t *tree) error {
	for x, private := range k {
		public, ok := t.publicKey(x)
		if !ok {
			return fmt.Errorf("%w: private key for the blank node %d", ErrState, x)
		}
		own, err := t.suite.hpkePublic(private)
		if err != nil {
			return err
		}
		if !bytes.Equal(own, public) {
			return fmt.Errorf("%w: private key of node %d does not fit the tree", ErrKey, x)
		}
	}
	return nil
}

// prune returns the keys that are still of use in t, the tree of a later
// epoch: those whose node is not blank. What a path replaced is overwritten
// by the path's keys.
func (k treeKeys) prune(t *tree) treeKeys {
	kept := make(treeKeys, len(k))
	for x, private := range k {
		if _, ok := t.publicKey(x); ok {
			kept[x] = private
		}
	}
	return kept
}

// wipeBut destroys the keys of k, unless kept holds them, too.
func (k treeKeys) wipeBut(kept treeKeys) {
	for x, private := range k {
		if old := kept[x]; len(old) == 0 || len(private) == 0 || &old[0] != &private[0] {
			wipe(private)
		}
	}
}

// publicKey returns the encryption key at x; ok is false for a node that is
// blank or out of range.
func (t *tree) publicKey(x nodeIndex) (key []byte, ok bool) {
	if !t.has(x) {
		return nil, false
	}
	k := t.encryptionKey(x)
	return []byte(k), k != ""
}

// receivers yields the nodes to which the path secret of x, a node on the
// committer's filtered direct path, is encrypted: the resolution of its child
// on the copath without leaves that the commit adds (section 7.5).
func (p *provisional) receivers(x nodeIndex) iter.Seq[nodeIndex] {
	return func(yield func(nodeIndex) bool) {
		for y := range p.tree.resolution(copathChild(x, p.committer)) {
			if y.isLeaf() && containsLeaf(p.added, y.leaf()) {
				continue
			}
			if !yield(y) {
				return
			}
		}
	}
}

// A pathNode is one step of a chain of path secrets (section 7.4).
type pathNode struct{ secret, private, public []byte }

// derivePath derives n path nodes from the first path secret, and the
// commit_secret that follows them.
func (s *suite) derivePath(secret []byte, n int) (nodes []pathNode, commitSecret []byte, err error) {
	nodes = make([]pathNode, n)
	for i := range nodes {
		if nodes[i], err = s.derivePathNode(secret); err != nil {
			wipePath(nodes)
			return nil, nil, err
		}
		if secret, err = s.deriveSecret(secret, "path"); err != nil {
			wipePath(nodes)
			return nil, nil, err
		}
	}
	return nodes, secret, nil
}

func (s *suite) derivePathNode(secret []byte) (pathNode, error) {
	node, err := s.deriveSecret(secret, "node")
	if err != nil {
		return pathNode{}, err
	}
	defer wipe(node)
	private, public, err := s.deriveKeyPair(node)
	return pathNode{secret, private, public}, err
}

// wipePath destroys path nodes that came to nothing.
func wipePath(nodes []pathNode) {
	for _, n := range nodes {
		wipe(n.secret, n.private)
	}
}

// A createdPath is a new UpdatePath with what its creator knows of it.
type createdPath struct {
	path         *UpdatePath // without encrypted path secrets until encrypt
	commitSecret []byte
	keys         treeKeys // of the new leaf and path
	secrets      []pathNode
	filtered     []nodeIndex
}

// secretFor returns the path secret that a member which this commit adds at
// leaf l needs: that of the lowest path node above it (section 12.4.3.1).
func (c *createdPath) secretFor(l LeafIndex) ([]byte, bool) {
	for i, x := range c.filtered {
		if x.covers(l) {
			return c.secrets[i].secret, true
		}
	}
	return nil, false
}

// wipe forgets the path secrets, once nobody needs them any more.
func (c *createdPath) wipe() {
	for i := range c.secrets {
		wipe(c.secrets[i].secret)
	}
}

// createPath makes a path for the committer and merges it into the tree
// (section 7.5). leaf holds the signature key, credential, capabilities and
// extensions of the new leaf; the rest is set here. The caller completes the
// path with encrypt once it is done with changes to p.
func (p *provisional) createPath(leaf *LeafNode, signer Signer) (*createdPath, error) {
	s := p.tree.suite
	if err := p.placeCommitter(); err != nil {
		return nil, err
	}
	filtered := p.tree.filteredPath(p.committer)
	first := make([]byte, s.nh())
	if _, err := rand.Read(first); err != nil {
		return nil, fmt.Errorf("mls: randomness for a path: %w", err)
	}
	nodes, commitSecret, err := s.derivePath(first, len(filtered))
	if err != nil {
		return nil, err
	}
	private, public, err := GenerateHPKEKey(s.id)
	if err != nil {
		return nil, err
	}
	keys := make([][]byte, len(nodes))
	for i := range nodes {
		keys[i] = nodes[i].public
	}
	c := &createdPath{
		path: new(UpdatePath), commitSecret: commitSecret, secrets: nodes, filtered: filtered,
		keys: treeKeys{leafPosition(p.committer): private},
	}
	for i, x := range filtered {
		c.keys[x] = nodes[i].private
		c.path.Nodes = append(c.path.Nodes, UpdatePathNode{EncryptionKey: keys[i]})
	}
	done := false
	defer func() {
		if !done {
			c.wipe()
			c.keys.wipeBut(nil)
			wipe(c.commitSecret)
		}
	}()
	hash, err := p.tree.mergePath(p.committer, keys)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidCommit, err)
	}
	c.path.LeafNode = LeafNode{
		EncryptionKey: public, SignatureKey: leaf.SignatureKey, Credential: leaf.Credential,
		Capabilities: leaf.Capabilities, Source: LeafSourceCommit, ParentHash: hash, Extensions: leaf.Extensions,
	}
	if err := c.path.LeafNode.sign(signer, p.context.GroupID, p.committer); err != nil {
		return nil, err
	}
	if err := p.checkPathLeaf(&c.path.LeafNode); err != nil {
		return nil, fmt.Errorf("%w: own leaf: %w", ErrInvalidCommit, err)
	}
	own, err := c.path.LeafNode.detached()
	if err != nil {
		return nil, err
	}
	if err := p.tree.setLeaf(p.committer, own); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidCommit, err)
	}
	p.hasPath = true
	if err := p.seal(); err != nil {
		return nil, err
	}
	if err := p.encryptPath(c); err != nil {
		return nil, err
	}
	done = true
	return c, nil
}

// pathLabel is the label of encrypted path secrets (section 7.6).
const pathLabel = "UpdatePathNode"

// encryptPath encrypts the path secrets to the group, in parallel.
func (p *provisional) encryptPath(c *createdPath) error {
	context, err := p.confirm(p.before.context.ConfirmedTranscriptHash)
	if err != nil {
		return err
	}
	info, err := labelled(pathLabel, context)
	if err != nil {
		return err
	}
	type seal struct {
		public []byte
		node   int
		to     *HPKECiphertext
	}
	var seals []seal
	for i, x := range c.filtered {
		first := len(seals)
		for y := range p.receivers(x) {
			seals = append(seals, seal{public: []byte(p.tree.encryptionKey(y)), node: i})
		}
		c.path.Nodes[i].EncryptedPathSecret = make([]HPKECiphertext, len(seals)-first)
		for j := range c.path.Nodes[i].EncryptedPathSecret {
			seals[first+j].to = &c.path.Nodes[i].EncryptedPathSecret[j]
		}
	}
	sealer := p.tree.suite.newSealer(info)
	return parallel(len(seals), func(i int) (err error) {
		*seals[i].to, err = sealer.seal(seals[i].public, c.secrets[seals[i].node].secret)
		return err
	})
}

// decryptPath opens a path that applyPath merged, as the member at leaf own
// with its keys as of the tree before the path (section 7.5). It returns the
// commit_secret and the keys of the new epoch.
func (p *provisional) decryptPath(path *UpdatePath, own LeafIndex, keys treeKeys) (commitSecret []byte, updated treeKeys, err error) {
	s := p.tree.suite
	filtered := p.tree.filteredPath(p.committer)
	at := slices.IndexFunc(filtered, func(x nodeIndex) bool { return x.covers(own) })
	if at < 0 || own == p.committer || len(path.Nodes) != len(filtered) {
		return nil, nil, fmt.Errorf("%w: leaf %d is no receiver of the path", ErrInvalidCommit, own)
	}
	var ct *HPKECiphertext
	var private, public []byte
	i := 0
	for x := range p.receivers(filtered[at]) {
		if x.covers(own) && i < len(path.Nodes[at].EncryptedPathSecret) {
			if key, ok := keys[x]; ok {
				ct, private, public = &path.Nodes[at].EncryptedPathSecret[i], key, []byte(p.tree.encryptionKey(x))
				break
			}
		}
		i++
	}
	if ct == nil {
		return nil, nil, fmt.Errorf("%w: no private key opens the path", ErrKey)
	}
	// The encryption is bound to the context before the commit is confirmed.
	provisional := p.context
	provisional.ConfirmedTranscriptHash = p.before.context.ConfirmedTranscriptHash
	info, err := labelled(pathLabel, mustMarshal(&provisional))
	if err != nil {
		return nil, nil, err
	}
	secret, err := s.newSealer(info).open(private, public, *ct)
	if err != nil {
		return nil, nil, fmt.Errorf("path secret of node %d: %w", filtered[at], err)
	}
	if len(secret) != s.nh() {
		wipe(secret)
		return nil, nil, fmt.Errorf("%w: path secret of %d octets", ErrInvalidCommit, len(secret))
	}
	return p.implantPath(path, filtered, at, secret, keys)
}

// implantPath derives the keys of a path from the secret of its node at, and
// checks them against the public keys of the path.
func (p *provisional) implantPath(path *UpdatePath, filtered []nodeIndex, at int, secret []byte, keys treeKeys) ([]byte, treeKeys, error) {
	nodes, commitSecret, err := p.tree.suite.derivePath(secret, len(filtered)-at)
	if err != nil {
		return nil, nil, err
	}
	updated := keys.prune(p.tree)
	for i, n := range nodes {
		wipe(n.secret)
		if !bytes.Equal(n.public, path.Nodes[at+i].EncryptionKey) {
			wipe(commitSecret)
			wipePath(nodes)
			return nil, nil, fmt.Errorf("%w: path secret does not give the public key of node %d", ErrInvalidCommit, filtered[at+i])
		}
		updated[filtered[at+i]] = n.private
	}
	return commitSecret, updated, nil
}

// implant derives a member's keys from a path secret that a Welcome brings
// for the node that is above both its leaf and the committer's
// (section 12.4.3.1), and adds them to keys. Every key must fit the tree.
func (t *tree) implant(keys treeKeys, own, committer LeafIndex, secret []byte) error {
	if len(secret) != t.suite.nh() {
		return fmt.Errorf("%w: path secret of %d octets", ErrInvalidWelcome, len(secret))
	}
	filtered := t.filteredPath(committer)
	at := slices.IndexFunc(filtered, func(x nodeIndex) bool { return x.covers(own) })
	if at < 0 || own == committer {
		return fmt.Errorf("%w: path secret for a leaf that the path does not reach", ErrInvalidWelcome)
	}
	nodes, commitSecret, err := t.suite.derivePath(secret, len(filtered)-at)
	if err != nil {
		return err
	}
	wipe(commitSecret)    // went into the joiner_secret
	nodes[0].secret = nil // is the caller's
	for i, n := range nodes {
		wipe(n.secret)
		if public, ok := t.publicKey(filtered[at+i]); !ok || !bytes.Equal(public, n.public) {
			wipePath(nodes[i:])
			return fmt.Errorf("%w: path secret does not fit node %d", ErrInvalidWelcome, filtered[at+i])
		}
		keys[filtered[at+i]] = n.private
	}
	return nil
}
