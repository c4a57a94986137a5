package room

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A View is the policy and the membership of a room in one epoch. It is
// immutable and safe for concurrent use.
type View struct {
	cfg     *Config
	groupID []byte
	epoch   uint64
	dict    mls.AppDataDictionary
	policy  *Policy
	roster  *roster
	tallies map[uint32]tally // by role

	safeAAD  bool              // authenticated data is a SafeAAD
	requires *mls.Requirements // of every client; no commit changes it
}

// NewView returns the view of a group's epoch. The cost grows with the number
// of members; use Commit to follow the group. The error matches
// ErrInvalidRoom if the group is not a room: a component is missing or
// malformed, the hub named in external_senders is not of the room's domain,
// or a client's user is not a participant.
func NewView(cfg Config, s *mls.State) (*View, error) {
	if cfg.ClientURIs == nil || cfg.ProviderDomain == nil {
		return nil, errors.New("room: Config needs ClientURIs and ProviderDomain")
	}
	v := &View{cfg: &cfg, groupID: s.GroupID(), epoch: s.Epoch(), dict: s.Dictionary(), requires: s.Requirements()}
	var err error
	if v.policy, err = PolicyOf(v.dict); err != nil {
		return nil, err
	}
	domain := v.policy.Room().Domain()
	group, err := mimi.ParseURI(string(v.groupID))
	if err != nil || !group.Is(mimi.KindGroup) || group.Domain() != domain {
		return nil, fmt.Errorf("%w: group id %q is not a group of %s", ErrInvalidRoom, v.groupID, domain)
	}
	senders := s.ExternalSenders()
	if len(senders) == 0 {
		return nil, fmt.Errorf("%w: no external sender for the hub", ErrInvalidRoom)
	}
	switch hub, err := cfg.ProviderDomain(&senders[0].Credential); {
	case err != nil:
		return nil, fmt.Errorf("%w: credential of the hub: %w", ErrInvalidRoom, err)
	case hub != domain:
		return nil, fmt.Errorf("%w: the hub is of %s, the room of %s", ErrInvalidRoom, hub, domain)
	}
	if _, v.safeAAD, err = v.dict.SafeAADComponents(); err != nil {
		return nil, fmt.Errorf("%w: safe_aad: %w", ErrInvalidRoom, err)
	}
	v.roster = newRoster()
	for index, leaf := range s.Members() {
		c, err := cfg.client(leaf, index)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidRoom, err)
		}
		if err := v.admit(v.policy, v.roster, c); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidRoom, err)
		}
		v.roster.add(c)
	}
	v.tallies = make(map[uint32]tally)
	for _, p := range v.policy.Participants {
		t := v.tallies[p.Role]
		t.participants++
		if len(v.roster.clientsOf(p.User)) > 0 {
			t.active++
		}
		v.tallies[p.Role] = t
	}
	return v, nil
}

// Room returns the room's URI.
func (v *View) Room() mimi.URI { return v.policy.Room() }

// Epoch returns the epoch that v describes.
func (v *View) Epoch() uint64 { return v.epoch }

// Policy returns the policy.
func (v *View) Policy() *Policy { return v.policy }

// Client returns the client at a leaf.
func (v *View) Client(leaf mls.LeafIndex) (Client, bool) { return v.roster.leaves.get(leaf) }

// Device returns the client of a device URI.
func (v *View) Device(device mimi.URI) (Client, bool) {
	leaf, ok := v.roster.devices.get(device)
	if !ok {
		return Client{}, false
	}
	return v.Client(leaf)
}

// ClientsOf returns the clients of a user in the group.
func (v *View) ClientsOf(user mimi.URI) []Client {
	var clients []Client
	for _, l := range v.roster.clientsOf(user) {
		c, _ := v.roster.leaves.get(l)
		clients = append(clients, c)
	}
	return clients
}

// Clients returns all clients, in the order of their leaves.
func (v *View) Clients() []Client {
	clients := make([]Client, 0, v.roster.n)
	for _, shard := range v.roster.leaves.shards {
		for _, c := range shard {
			clients = append(clients, c)
		}
	}
	slices.SortFunc(clients, func(a, b Client) int { return int(int64(a.Leaf) - int64(b.Leaf)) })
	return clients
}

// NumClients returns how many clients are in the group.
func (v *View) NumClients() int { return v.roster.n }

// IsActive reports whether a user is a participant with a client in the
// group.
func (v *View) IsActive(user mimi.URI) bool {
	return v.policy.IsParticipant(user) && len(v.roster.clientsOf(user)) > 0
}

// Providers returns the domains that have clients in the group, sorted.
func (v *View) Providers() []string {
	domains := make([]string, 0, len(v.roster.domains))
	for d := range v.roster.domains {
		domains = append(domains, d)
	}
	slices.Sort(domains)
	return domains
}

// AuthoriseSend reports, as an error that matches ErrNotAllowed, why a user
// may not send messages to the room.
func (v *View) AuthoriseSend(user mimi.URI) error {
	switch {
	case !v.policy.IsParticipant(user):
		return denied("%q is not a participant, or is banned", user)
	case len(v.roster.clientsOf(user)) == 0:
		return denied("%q has no client in the room", user)
	case !v.policy.Can(user, CanSendMessage):
		return denied("%q may not send messages", user)
	}
	return nil
}

// AuthoriseProposals judges proposals that would be sent now, together with
// those that are pending already: each must be allowed for its sender, and a
// commit of all of them must be possible. The error matches ErrNotAllowed or
// ErrInvalidUpdate.
func (v *View) AuthoriseProposals(pending, proposals []mls.QueuedProposal) error {
	for i := range proposals {
		if err := v.checkAAD(proposals[i].AAD); err != nil {
			return err
		}
	}
	d, err := v.resolve(proposals, nil, nil)
	if err != nil {
		return err
	}
	for _, m := range d.motions {
		if err := v.policy.authorise(m, &v.policy.Meta); err != nil {
			return err
		}
	}
	_, err = v.project(slices.Concat(pending, proposals))
	return err
}

// checkAAD verifies the form of authenticated data. Members refuse a message
// in which it is wrong; a hub that let it pass would stop the room.
func (v *View) checkAAD(aad []byte) error {
	if !v.safeAAD {
		return nil
	}
	var safe mls.SafeAAD
	if err := tlspl.Unmarshal(aad, &safe); err != nil {
		return fmt.Errorf("%w: authenticated data is not a SafeAAD: %w", ErrInvalidUpdate, err)
	}
	return nil
}

// checkSupport reports what a new client lacks of what the room requires. A
// commit that brings it in would be refused anyway; a pending proposal would
// stop everyone from committing.
func (v *View) checkSupport(leaf *mls.LeafNode) error {
	if err := v.requires.Check(leaf); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	return nil
}

// checkReplacement verifies that a member's new leaf stands for the same
// client. The credential verifier has checked that too; the room does not
// depend on it.
func (v *View) checkReplacement(index mls.LeafIndex, leaf *mls.LeafNode) error {
	old, ok := v.roster.leaves.get(index)
	if !ok {
		return denied("leaf %d is no member", index)
	}
	c, err := v.cfg.client(leaf, index)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	if c != old {
		return denied("leaf %d changes from client %q of %q to client %q of %q", index, old.Device, old.User, c.Device, c.User)
	}
	return v.checkSupport(leaf)
}

// admit checks the invariant that every client belongs to a participant who
// is not banned, and that no two leaves are the same client.
func (v *View) admit(p *Policy, r *roster, c Client) error {
	if !p.IsParticipant(c.User) {
		return denied("client %q would be in the group, but its user %q is not a participant or is banned", c.Device, c.User)
	}
	if c.User.Is(mimi.KindPseudonym) && !p.Base.PseudonymsAllowed {
		return denied("%q is a pseudonym, which the room does not allow", c.User)
	}
	if _, dup := r.devices.get(c.Device); dup {
		return denied("client %q would be in the group twice; remove the old leaf", c.Device)
	}
	return nil
}

// sameGroup guards against a commit of another group.
func (v *View) sameGroup(s *mls.State) error {
	if !bytes.Equal(s.GroupID(), v.groupID) || s.Epoch() != v.epoch {
		return fmt.Errorf("%w: commit on epoch %d of another state, the view is at %d", ErrWrongEpoch, s.Epoch(), v.epoch)
	}
	return nil
}
