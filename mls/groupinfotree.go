package mls

// GroupInfoWithTree is GroupInfo with the ratchet_tree extension (RFC 9420
// section 12.4.3.3), for joiners who get the tree from nowhere else. It takes
// O(N) octets: where the hub provides the tree, use GroupInfo.
func (g *Group) GroupInfoWithTree() (*GroupInfo, error) {
	if err := g.open(); err != nil {
		return nil, err
	}
	return newGroupInfo(g.suite, g.signer, g.own, g.state, g.epoch.external, g.state.RatchetTree())
}
