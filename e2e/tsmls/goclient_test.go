package tsmls

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/comity-im/comity/mls"
)

// verifier accepts basic credentials; a successor keeps the identity.
type verifier struct{}

func (verifier) VerifyCredential(c *mls.Credential, _ []byte, _ time.Time) error {
	if c.Type != mls.CredentialBasic || len(c.Identity) == 0 {
		return errors.New("not a credential of this test")
	}
	return nil
}

func (verifier) VerifySuccessor(old, new *mls.LeafNode) error {
	if !bytes.Equal(old.Credential.Identity, new.Credential.Identity) {
		return errors.New("another identity")
	}
	return nil
}

func config() mls.Config {
	return mls.Config{
		Credentials: verifier{},
		PSK: func(id *mls.PreSharedKeyID) ([]byte, error) {
			if id.Type != mls.PSKExternal {
				return nil, errNoKey
			}
			return pskValue(string(id.ID)), nil
		},
		NewMemberProposals: func(*mls.State, *mls.KeyPackage) error { return nil },
		Limits:             mls.Limits{PastEpochs: pastEpochs, MaxSkip: generations},
	}
}

// A goClient is a client of package mls.
type goClient struct {
	cfg    mls.Config
	suite  mls.CipherSuite
	named  string
	signer mls.Signer
	kp     *mls.KeyPackage
	priv   *mls.KeyPackagePrivate
	group  *mls.Group
	staged *mls.StagedCommit
	from   *goClient // of the group that this client's group follows
}

func newGoClient(suite mls.CipherSuite, name string, private bool) (*goClient, error) {
	signer, _, err := mls.GenerateSigner(suite, nil)
	if err != nil {
		return nil, err
	}
	kp, priv, err := mls.NewKeyPackage(mls.KeyPackageParams{
		CipherSuite: suite, Signer: signer, Credential: mls.BasicCredential([]byte(name)),
	})
	cfg := config()
	if private {
		cfg.HandshakeFormat = mls.WirePrivateMessage
	}
	return &goClient{cfg: cfg, suite: suite, named: name, signer: signer, kp: kp, priv: priv}, err
}

func (c *goClient) keyPackage() []byte { return encode(mls.KeyPackageMessage(c.kp)) }

func (c *goClient) create(groupID []byte) (err error) {
	c.group, err = mls.CreateGroup(c.cfg, mls.GroupParams{
		CipherSuite: c.suite, GroupID: groupID, Signer: c.signer, Credential: mls.BasicCredential([]byte(c.named)),
	})
	return err
}

// decodeTree returns nil for no tree.
func decodeTree(b []byte) (mls.RatchetTree, error) {
	if b == nil {
		return nil, nil
	}
	var tree mls.RatchetTree
	return tree, mls.Unmarshal(b, &tree)
}

func (c *goClient) joinWelcome(welcome, tree []byte) error {
	m, err := decode(welcome)
	if err != nil {
		return err
	}
	nodes, err := decodeTree(tree)
	if err != nil {
		return err
	}
	c.group, err = mls.JoinWelcome(c.cfg, m.Welcome, nodes, c.kp, c.priv, c.signer)
	return err
}

func (c *goClient) joinExternal(groupInfo, tree []byte, resync bool, psk string) ([]byte, error) {
	m, err := decode(groupInfo)
	if err != nil {
		return nil, err
	}
	nodes, err := decodeTree(tree)
	if err != nil {
		return nil, err
	}
	p := mls.JoinParams{Signer: c.signer, Credential: mls.BasicCredential([]byte(c.named)), AAD: aadOf("join")}
	if resync {
		p.ByValue = append(p.ByValue, mls.RemoveProposal(c.group.OwnLeaf()))
	}
	if psk != "" {
		id, err := c.externalPSK(psk)
		if err != nil {
			return nil, err
		}
		p.ByValue = append(p.ByValue, mls.PreSharedKeyProposal(id))
	}
	g, sc, err := mls.JoinExternal(c.cfg, m.GroupInfo, nodes, p)
	if err != nil {
		return nil, err
	}
	c.group = g
	return encode(sc.Message), nil
}

func (c *goClient) externalPSK(id string) (mls.PreSharedKeyID, error) {
	nonce, err := mls.NewPSKNonce(c.suite)
	return mls.PreSharedKeyID{Type: mls.PSKExternal, ID: []byte(id), Nonce: nonce}, err
}

func (c *goClient) proposeSelf(groupInfo []byte) ([]byte, error) {
	m, err := decode(groupInfo)
	if err != nil {
		return nil, err
	}
	gc := &m.GroupInfo.GroupContext
	p, err := mls.NewMemberProposal(gc.GroupID, gc.Epoch, c.signer, c.kp, aadOf("proposal"))
	if err != nil {
		return nil, err
	}
	return encode(p), nil
}

// proposal makes any but an Update.
func (c *goClient) proposal(p proposal) (mls.Proposal, error) {
	switch p.Kind {
	case add:
		m, err := decode(p.KeyPackage)
		if err != nil {
			return mls.Proposal{}, err
		}
		if err := m.KeyPackage.Verify(&c.cfg); err != nil {
			return mls.Proposal{}, err
		}
		return mls.AddProposal(m.KeyPackage), nil
	case remove:
		return mls.RemoveProposal(mls.LeafIndex(p.Leaf)), nil
	case psk:
		id, err := c.externalPSK(p.PSK)
		return mls.PreSharedKeyProposal(id), err
	case resumption:
		nonce, err := mls.NewPSKNonce(c.suite)
		return mls.PreSharedKeyProposal(mls.PreSharedKeyID{
			Type: mls.PSKResumption, Usage: mls.ResumptionApplication,
			GroupID: c.group.State().GroupID(), Epoch: p.Epoch, Nonce: nonce,
		}), err
	case reinit:
		return mls.ReInitProposal(mls.ReInit{GroupID: p.GroupID, Version: mls.MLS10, CipherSuite: p.Suite}), nil
	case extensions:
		return mls.GroupContextExtensionsProposal(mls.Extensions{{Type: mls.ExtensionRequiredCapabilities, Data: p.Extension}}), nil
	}
	return mls.Proposal{}, fmt.Errorf("no proposal of kind %q", p.Kind)
}

func (c *goClient) propose(p proposal) ([]byte, error) {
	if p.Kind == update {
		m, err := c.group.ProposeUpdate(mls.LeafParams{}, aadOf("proposal"))
		if err != nil {
			return nil, err
		}
		return encode(m), nil
	}
	prop, err := c.proposal(p)
	if err != nil {
		return nil, err
	}
	m, err := c.group.Propose(prop, aadOf("proposal"))
	if err != nil {
		return nil, err
	}
	return encode(m), nil
}

func (c *goClient) commit(o commitOptions) (*committed, error) {
	co := mls.CommitOptions{ForcePath: o.forcePath, AAD: aadOf("commit"), OmitTree: !o.treeInWelcome}
	for _, p := range o.proposals {
		prop, err := c.proposal(p)
		if err != nil {
			return nil, err
		}
		co.Proposals = append(co.Proposals, prop)
	}
	sc, err := c.group.Commit(co)
	if err != nil {
		return nil, err
	}
	c.staged = sc
	r := &committed{Commit: encode(sc.Message)}
	if sc.Welcome != nil {
		r.Welcome = encode(mls.WelcomeMessage(sc.Welcome))
	}
	r.Tree, err = mls.Marshal(sc.After.RatchetTree())
	return r, err
}

func (c *goClient) merge() error {
	sc := c.staged
	c.staged = nil
	return c.group.Merge(sc)
}

func (c *goClient) drop() error {
	c.staged = nil
	return nil
}

func (c *goClient) process(message []byte) (bool, error) {
	m, err := decode(message)
	if err != nil {
		return false, err
	}
	if m.ContentType() == mls.ContentProposal {
		q, err := c.group.Proposal(m)
		if err != nil {
			return false, err
		}
		return false, c.group.Enqueue(q)
	}
	sc, err := c.group.StageCommit(m)
	if err != nil {
		return false, err
	}
	return sc.SelfRemoved, c.group.Merge(sc)
}

func (c *goClient) encrypt(data, aad []byte) ([]byte, error) {
	m, err := c.group.Encrypt(data, aad)
	if err != nil {
		return nil, err
	}
	return encode(m), nil
}

func (c *goClient) decrypt(message []byte) (*received, error) {
	m, err := decode(message)
	if err != nil {
		return nil, err
	}
	got, err := c.group.Decrypt(m)
	if err != nil {
		return nil, err
	}
	return &received{Data: got.Data, AAD: got.AAD, sender: string(got.Leaf.Credential.Identity)}, nil
}

func (c *goClient) groupInfo(bool) (gi, tree []byte, err error) {
	m, err := c.group.GroupInfo()
	if err != nil {
		return nil, nil, err
	}
	tree, err = mls.Marshal(c.group.State().RatchetTree())
	return encode(mls.GroupInfoMessage(m)), tree, err
}

func (c *goClient) report(label string, context []byte) (*report, error) {
	s := c.group.State()
	encoded, err := mls.Marshal(s.GroupContext())
	if err != nil {
		return nil, err
	}
	authenticator, err := c.group.EpochAuthenticator()
	if err != nil {
		return nil, err
	}
	exported, err := c.group.Export(label, context, 32)
	return &report{
		GroupContext: encoded, TreeHash: s.GroupContext().TreeHash, ConfirmationTag: s.ConfirmationTag(),
		Authenticator: authenticator, Exported: exported, Leaf: uint32(c.group.OwnLeaf()), Pending: len(c.group.Pending()),
	}, err
}

func (c *goClient) successor(suite mls.CipherSuite) (client, error) {
	next, err := newGoClient(suite, c.named, c.cfg.HandshakeFormat == mls.WirePrivateMessage)
	if err != nil {
		return nil, err
	}
	next.from = c
	return next, nil
}

func (c *goClient) succeed(k kind, groupID []byte, keyPackages [][]byte) (*committed, error) {
	p := mls.SuccessorParams{Signer: c.signer, Credential: mls.BasicCredential([]byte(c.named)), OmitTree: true}
	for _, b := range keyPackages {
		m, err := decode(b)
		if err != nil {
			return nil, err
		}
		p.KeyPackages = append(p.KeyPackages, m.KeyPackage)
	}
	var sc *mls.StagedCommit
	var err error
	if k == branch {
		p.GroupID = groupID
		c.group, sc, err = c.from.group.Branch(p)
	} else {
		c.group, sc, err = c.from.group.Reinitialize(p)
	}
	if err != nil {
		return nil, err
	}
	tree, err := mls.Marshal(c.group.State().RatchetTree())
	return &committed{Welcome: encode(mls.WelcomeMessage(sc.Welcome)), Tree: tree}, err
}

func (c *goClient) joinSuccessor(k kind, welcome, tree []byte) error {
	m, err := decode(welcome)
	if err != nil {
		return err
	}
	nodes, err := decodeTree(tree)
	if err != nil {
		return err
	}
	join := c.from.group.JoinReinitialized
	if k == branch {
		join = c.from.group.JoinBranch
	}
	c.group, err = join(m.Welcome, nodes, c.kp, c.priv, c.signer)
	return err
}
