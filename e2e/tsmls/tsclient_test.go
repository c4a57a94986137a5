package tsmls

import "github.com/comity-im/comity/mls"

// A tsClient is a client of ts-mls, which lives in a node.
type tsClient struct {
	node    *node
	named   string
	private bool
	kp      []byte
}

func newTSClient(n *node, suite mls.CipherSuite, name string, private bool) (*tsClient, error) {
	var r struct{ KeyPackage []byte }
	err := n.call("client", params{
		"client": name, "suite": suite, "pastEpochs": pastEpochs, "generations": generations,
	}, &r)
	return &tsClient{n, name, private, r.KeyPackage}, err
}

func (c *tsClient) call(op string, p params, result any) error {
	if p == nil {
		p = params{}
	}
	p["client"] = c.named
	return c.node.call(op, p, result)
}

func (c *tsClient) keyPackage() []byte { return c.kp }

func (c *tsClient) create(groupID []byte) error {
	return c.call("create", params{"groupID": groupID}, nil)
}

func (c *tsClient) joinWelcome(welcome, tree []byte) error {
	return c.call("joinWelcome", params{"welcome": welcome, "tree": tree}, nil)
}

func (c *tsClient) joinExternal(groupInfo, tree []byte, resync bool, psk string) ([]byte, error) {
	if psk != "" {
		panic("ts-mls offers no keys for an external commit")
	}
	var r struct{ Commit []byte }
	err := c.call("joinExternal", params{"groupInfo": groupInfo, "tree": tree, "resync": resync, "aad": aadOf("join")}, &r)
	return r.Commit, err
}

func (c *tsClient) proposeSelf(groupInfo []byte) ([]byte, error) {
	var r struct{ Message []byte }
	err := c.call("proposeSelf", params{"groupInfo": groupInfo}, &r)
	return r.Message, err
}

func (c *tsClient) propose(p proposal) ([]byte, error) {
	var r struct{ Message []byte }
	err := c.call("propose", params{"proposal": p, "private": c.private, "aad": aadOf("proposal")}, &r)
	return r.Message, err
}

func (c *tsClient) commit(o commitOptions) (*committed, error) {
	r := new(committed)
	return r, c.call("commit", params{
		"proposals": o.proposals, "private": c.private, "treeInWelcome": o.treeInWelcome, "aad": aadOf("commit"),
	}, r)
}

func (c *tsClient) merge() error { return c.call("merge", nil, nil) }

func (c *tsClient) drop() error { return c.call("drop", nil, nil) }

func (c *tsClient) process(message []byte) (bool, error) {
	var r struct{ Removed bool }
	err := c.call("process", params{"message": message}, &r)
	return r.Removed, err
}

func (c *tsClient) encrypt(data, aad []byte) ([]byte, error) {
	var r struct{ Message []byte }
	err := c.call("encrypt", params{"data": data, "aad": aad}, &r)
	return r.Message, err
}

func (c *tsClient) decrypt(message []byte) (*received, error) {
	r := new(received)
	return r, c.call("decrypt", params{"message": message}, r)
}

func (c *tsClient) groupInfo(withTree bool) (gi, tree []byte, err error) {
	var r struct{ GroupInfo, Tree []byte }
	if err := c.call("groupInfo", params{"withTree": withTree}, &r); err != nil {
		return nil, nil, err
	}
	if withTree {
		r.Tree = nil
	}
	return r.GroupInfo, r.Tree, nil
}

func (c *tsClient) successor(suite mls.CipherSuite) (client, error) {
	next := &tsClient{node: c.node, named: c.named + "'", private: c.private}
	var r struct{ KeyPackage []byte }
	err := next.call("successor", params{"from": c.named, "suite": suite, "identity": c.named}, &r)
	next.kp = r.KeyPackage
	return next, err
}

func (c *tsClient) succeed(k kind, groupID []byte, keyPackages [][]byte) (*committed, error) {
	r := new(committed)
	return r, c.call("succeed", params{"kind": k, "groupID": groupID, "keyPackages": keyPackages}, r)
}

func (c *tsClient) joinSuccessor(k kind, welcome, tree []byte) error {
	return c.call("joinSuccessor", params{"kind": k, "welcome": welcome, "tree": tree}, nil)
}
