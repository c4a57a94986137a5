package room

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// EpochTolerance is how many epochs back an application message may have been
// encrypted when it reaches the hub.
const EpochTolerance = 2

// MaxPendingProposals is how many accepted proposals may wait for a commit at
// the hub. It leaves room for what a committer adds.
const MaxPendingProposals = 512

// A State is a room as its hub or a replica keeps it: the view of the last
// commit, the proposals accepted since then, and the public state of the MLS
// group. It is immutable; Apply returns a new one.
type State struct {
	cfg       Config
	group     *mls.PublicGroup // never changed
	view      *View
	effective *View // with all pending proposals applied
	groupInfo *mls.GroupInfo
}

// New returns the state of the room whose group gi and tree describe. It
// verifies both. tree may be nil if gi carries it. The error matches
// ErrInvalidRoom if the group is not a room. A hub that creates a room calls
// CheckNew too.
func New(cfg Config, gi *mls.GroupInfo, tree mls.RatchetTree) (*State, error) {
	cfg.MLS.Components = Components()
	group, err := mls.NewPublicGroup(cfg.MLS, gi, tree)
	if err != nil {
		return nil, fmt.Errorf("room: %w", err)
	}
	s := &State{cfg: cfg, group: group, groupInfo: withoutTree(gi)}
	return s, s.derive()
}

// withoutTree returns gi, or nil if it carries the tree: what a hub hands out
// leaves it out, and a signed GroupInfo cannot be changed.
func withoutTree(gi *mls.GroupInfo) *mls.GroupInfo {
	if _, ok := gi.Extensions.Find(mls.ExtensionRatchetTree); ok {
		return nil
	}
	return gi
}

// derive computes the views from the group.
func (s *State) derive() error {
	var err error
	if s.view, err = NewView(s.cfg, s.group.State()); err != nil {
		return err
	}
	return s.deriveEffective()
}

func (s *State) deriveEffective() error {
	s.effective = s.view
	pending := s.group.Pending()
	if len(pending) == 0 {
		return nil
	}
	var err error
	s.effective, err = s.view.project(pending)
	return err
}

// CheckNew reports, as an error that matches ErrInvalidRoom or
// ErrNotAllowed, why the room cannot begin like this at its hub: the creator
// must be alone with one client, hub the only external sender, and what rooms
// rely on must be required of all members.
func (s *State) CheckNew(room mimi.URI, hub mls.ExternalSender, creator mimi.URI) error {
	g, p := s.group.State(), s.view.policy
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalidRoom, fmt.Sprintf(format, args...))
	}
	if p.Room() != room {
		return invalid("the metadata names %q, not %q", p.Room(), room)
	}
	if g.Epoch() != 0 || s.view.NumClients() != 1 || len(s.view.roster.clientsOf(creator)) != 1 {
		return invalid("a new room begins in epoch 0 with one client of its creator %q", creator)
	}
	senders := g.ExternalSenders()
	if len(senders) != 1 || !bytes.Equal(senders[0].SignatureKey, hub.SignatureKey) || !senders[0].Credential.Equal(&hub.Credential) {
		return invalid("external_senders must hold the hub and nobody else")
	}
	required := g.RequiredCapabilities()
	if !slices.Contains(required.Extensions, mls.ExtensionAppDataDictionary) ||
		!slices.Contains(required.Proposals, mls.ProposalAppDataUpdate) ||
		!slices.Contains(required.Proposals, mls.ProposalSelfRemove) {
		return invalid("required_capabilities must have app_data_dictionary, app_data_update and self_remove")
	}
	if p.Base.ParentDependent {
		return denied("rooms that depend on a parent room are not supported")
	}
	if p.Base.FixedMembership {
		for i := range p.Roles {
			if r := &p.Roles[i]; r.Index != RoleNone && !r.isBanned() && r.Can(CanAddParticipant) {
				return invalid("role %q of a room with fixed membership has canAddParticipant", r.Name)
			}
		}
	}
	if s.groupInfo == nil {
		return invalid("the GroupInfo carries the ratchet tree; send it separately")
	}
	return checkExternalPub(s.groupInfo)
}

// Room returns the room's URI.
func (s *State) Room() mimi.URI { return s.view.Room() }

// Hub returns the domain of the hub.
func (s *State) Hub() string { return s.view.Room().Domain() }

// Epoch returns the current epoch.
func (s *State) Epoch() uint64 { return s.view.epoch }

// Committed returns the view of the last commit: what clients know.
func (s *State) Committed() *View { return s.view }

// Effective returns the view with all pending proposals applied: what the hub
// decides by. Leaves of clients whose addition is pending are made up.
func (s *State) Effective() *View { return s.effective }

// Group returns the public state of the MLS group.
func (s *State) Group() *mls.State { return s.group.State() }

// Pending returns the proposals that were accepted since the last commit.
func (s *State) Pending() []mls.QueuedProposal { return s.group.Pending() }

// GroupInfo returns the GroupInfo of the current epoch, without the tree. It
// is nil if nobody gave it, as in a replica after a commit.
func (s *State) GroupInfo() *mls.GroupInfo { return s.groupInfo }

// A Source says who brought an event. Its zero value skips the checks that
// depend on it, which is right for a replica: its hub has made them.
type Source struct {
	Provider string   // authenticated domain of the provider
	User     mimi.URI // authenticated local user, or the sender that the provider names
}

// An Event is a message to the room.
type Event struct {
	Source  Source
	Message mls.MLSMessage

	MoreProposals []mls.MLSMessage // with a proposal: accepted together or not at all

	// With a commit at the hub.
	Welcome   *mls.Welcome
	GroupInfo mimi.GroupInfoOption
}

// UpdateEvent returns the event of an update request.
func UpdateEvent(source Source, req *mimi.UpdateRequest) Event {
	return Event{Source: source, Message: req.Message, MoreProposals: req.MoreProposals,
		Welcome: req.Welcome, GroupInfo: req.GroupInfo}
}

// FanoutEvent returns the event of a hub's notification.
func FanoutEvent(m *mimi.FanoutMessage) Event {
	return Event{Message: m.Message, MoreProposals: m.MoreProposals}
}

// Effects says what an accepted event changed and whom it concerns.
type Effects struct {
	Epoch    uint64              // current epoch after the event
	Accepted []mls.ProposalRef   // with proposals
	Change   *Change             // with a commit
	Welcome  []mls.KeyPackageRef // with a commit that adds clients: the KeyPackages used
	// Notify lists the providers that must receive the event: those that have
	// clients in the group before it or after it, sorted.
	Notify []string
}

// Apply judges an event and returns the state that follows. If it refuses,
// the error is an *Error. s stays as it was in any case.
func (s *State) Apply(e Event) (*State, *Effects, error) {
	switch e.Message.ContentType() {
	case mls.ContentProposal:
		return s.applyProposals(e)
	case mls.ContentCommit:
		return s.applyCommit(e)
	case mls.ContentApplication:
		if err := s.checkMessage(e); err != nil {
			return nil, nil, err
		}
		return s, &Effects{Epoch: s.view.epoch, Notify: s.view.Providers()}, nil
	}
	return nil, nil, refuse(CodeNotAllowed, errors.New("not a proposal, a commit or an application message"))
}

// checkMessage judges an application message by what the hub can see.
func (s *State) checkMessage(e Event) error {
	group, epoch, _ := e.Message.Epoch()
	switch {
	case e.Message.WireFormat != mls.WirePrivateMessage:
		return refuse(CodeNotAllowed, errors.New("an application message must be a PrivateMessage"))
	case !bytes.Equal(group, s.view.groupID):
		return refuse(CodeNotAllowed, mls.ErrWrongGroup)
	case s.view.checkAAD(e.Message.PrivateMessage.AuthenticatedData) != nil:
		return refuse(CodeNotAllowed, errors.New("authenticated data is not a SafeAAD"))
	case !s.cfg.Hub:
		return nil
	case epoch > s.view.epoch:
		return refuse(CodeNotAllowed, fmt.Errorf("message of epoch %d, the room is at %d", epoch, s.view.epoch))
	case epoch+EpochTolerance < s.view.epoch:
		return &Error{Code: CodeEpochTooOld, Epoch: s.view.epoch,
			Err: fmt.Errorf("message of epoch %d, the room is at %d", epoch, s.view.epoch)}
	}
	if err := e.Source.check(e.Source.User); err != nil {
		return refuse(CodeNotAllowed, err)
	}
	for _, v := range []*View{s.view, s.effective} {
		if err := v.AuthoriseSend(e.Source.User); err != nil {
			return refuse(CodeNotAllowed, err)
		}
	}
	return nil
}

// check verifies that a source may bring what a user sent.
func (src Source) check(user mimi.URI) error {
	if src.Provider != "" && user.Domain() != strings.ToLower(src.Provider) {
		return denied("provider %s cannot speak for %q", src.Provider, user)
	}
	if !src.User.IsZero() && src.User != user {
		return denied("%q cannot send a message of %q", src.User, user)
	}
	return nil
}

func (s *State) applyProposals(e Event) (*State, *Effects, error) {
	if e.Welcome != nil || e.GroupInfo.Full != nil || e.GroupInfo.Partial != nil {
		return nil, nil, refuse(CodeNotAllowed, errors.New("a proposal comes without Welcome and GroupInfo"))
	}
	group := s.group.Clone()
	pending := group.Pending()
	messages := append([]mls.MLSMessage{e.Message}, e.MoreProposals...)
	var added []mls.QueuedProposal
	effects := &Effects{Epoch: s.view.epoch, Notify: s.view.Providers()}
	known := make(map[string]bool, len(pending))
	for i := range pending {
		known[string(pending[i].Ref)] = true
	}
	for i := range messages {
		q, err := group.Proposal(&messages[i])
		if err != nil {
			return nil, nil, s.refuseMLS(err, CodeInvalidProposal)
		}
		if err := s.checkProposalSource(e.Source, q); err != nil {
			return nil, nil, refuse(CodeNotAllowed, err)
		}
		if known[string(q.Ref)] {
			return nil, nil, &Error{Code: CodeInvalidProposal, Refs: []mls.ProposalRef{q.Ref},
				Err: fmt.Errorf("%w: the proposal was accepted before", ErrInvalidUpdate)}
		}
		known[string(q.Ref)] = true
		if err := group.Enqueue(q); err != nil {
			return nil, nil, s.refuseMLS(err, CodeNotAllowed)
		}
		added = append(added, *q)
		effects.Accepted = append(effects.Accepted, q.Ref)
	}
	err := s.view.AuthoriseProposals(pending, added)
	if err == nil && s.cfg.Hub {
		err = s.authoriseEffective(added)
	}
	if err != nil {
		return nil, nil, refuseProposals(err, effects.Accepted)
	}
	if s.cfg.Hub {
		if n := len(pending) + len(added); n > MaxPendingProposals {
			return nil, nil, refuse(CodeNotAllowed, fmt.Errorf("%d proposals would be pending; commit some first", n))
		}
		if err := group.CheckPending(); err != nil {
			return nil, nil, refuseProposals(fmt.Errorf("room: no member could commit this: %w", err), effects.Accepted)
		}
	}
	next := &State{cfg: s.cfg, group: group, view: s.view, groupInfo: s.groupInfo}
	if err := next.deriveEffective(); err != nil {
		return nil, nil, refuseProposals(err, effects.Accepted)
	}
	return next, effects, nil
}

func (s *State) checkProposalSource(src Source, q *mls.QueuedProposal) error {
	if q.Sender.Type != mls.SenderMember {
		return denied("proposals by senders outside of the group are not accepted")
	}
	c, ok := s.view.Client(q.Sender.Leaf)
	if !ok {
		return denied("leaf %d is no member", q.Sender.Leaf)
	}
	return src.check(c.User)
}

// authoriseEffective judges proposals by the effective state: one who is
// removed or banned by a pending proposal may remove own clients and nothing
// else (draft-ietf-mimi-protocol-06 section 5.3).
func (s *State) authoriseEffective(added []mls.QueuedProposal) error {
	if s.effective == s.view {
		return nil
	}
	for i := range added {
		q := &added[i]
		if _, ok := s.effective.Client(q.Sender.Leaf); ok {
			continue
		}
		if q.Proposal.Type != mls.ProposalRemove && q.Proposal.Type != mls.ProposalSelfRemove {
			return denied("the client that proposes this is being removed")
		}
	}
	d, err := s.view.resolve(added, nil, nil)
	if err != nil {
		return err
	}
	for _, m := range d.motions {
		if !s.effective.policy.IsParticipant(m.user) && m.removesOwnOnly() {
			continue
		}
		if err := s.effective.policy.authorise(m, &s.view.policy.Meta); err != nil {
			return err
		}
	}
	return nil
}

// removesOwnOnly reports whether a motion does nothing but remove clients of
// its own user.
func (m *motion) removesOwnOnly() bool {
	return len(m.moves)+len(m.added) == 0 && m.meta == nil && m.roles == nil && m.base == nil && len(m.removed) > 0 &&
		!slices.ContainsFunc(m.removed, func(c Client) bool { return c.User != m.user })
}

func (s *State) applyCommit(e Event) (*State, *Effects, error) {
	if len(e.MoreProposals) > 0 {
		return nil, nil, refuse(CodeNotAllowed, errors.New("a commit comes without further proposals"))
	}
	group := s.group.Clone()
	pending := group.Pending()
	sc, err := group.StageCommit(&e.Message)
	if err != nil {
		return nil, nil, s.refuseMLS(err, CodeNotAllowed)
	}
	view, change, err := s.view.Commit(sc, pending)
	if err != nil {
		return nil, nil, refuseCommit(err)
	}
	if err := e.Source.check(change.Committer.User); err != nil {
		return nil, nil, refuse(CodeNotAllowed, err)
	}
	if s.cfg.Hub {
		if err := s.decideCommit(sc, change, pending); err != nil {
			return nil, nil, refuseCommit(err)
		}
	}
	if err := group.Merge(sc); err != nil {
		return nil, nil, s.refuseMLS(err, CodeNotAllowed)
	}
	next := &State{cfg: s.cfg, group: group, view: view, effective: view}
	if s.cfg.Hub {
		if next.groupInfo, err = checkGroupInfo(group, sc, &e.GroupInfo); err != nil {
			return nil, nil, refuse(CodeNotAllowed, fmt.Errorf("GroupInfo: %w", err))
		}
	}
	effects := &Effects{Epoch: view.epoch, Change: change}
	if effects.Welcome, err = addedKeyPackages(sc); err != nil {
		return nil, nil, refuse(CodeNotAllowed, err)
	}
	if s.cfg.Hub {
		if err := checkWelcome(e.Welcome, effects.Welcome, group.State().CipherSuite()); err != nil {
			return nil, nil, refuse(CodeNotAllowed, err)
		}
	}
	effects.Notify = slices.Concat(s.view.Providers(), view.Providers())
	slices.Sort(effects.Notify)
	effects.Notify = slices.Compact(effects.Notify)
	return next, effects, nil
}

// Records returns what must be stored to go from since to s; nil stands for
// an empty store.
func (s *State) Records(since *State) (mls.Records, error) {
	var old *mls.PublicGroup
	var oldInfo *mls.GroupInfo
	if since != nil {
		old, oldInfo = since.group, since.groupInfo
	}
	r := s.group.Records(old)
	for i := range r.Put {
		r.Put[i].Key = prefixGroup + r.Put[i].Key
	}
	for i := range r.Delete {
		r.Delete[i] = prefixGroup + r.Delete[i]
	}
	switch {
	case s.groupInfo == oldInfo:
	case s.groupInfo == nil:
		r.Delete = append(r.Delete, keyGroupInfo)
	default:
		b, err := tlspl.Marshal(s.groupInfo)
		if err != nil {
			return mls.Records{}, fmt.Errorf("room: store GroupInfo: %w", err)
		}
		r.Put = append(r.Put, mls.Record{Key: keyGroupInfo, Value: b})
	}
	return r, nil
}

// The keys of stored records: those of the group have the prefix.
const (
	prefixGroup  = "mls/"
	keyGroupInfo = "groupinfo"
)

// Load returns the state whose records were stored. Unknown keys are ignored.
func Load(cfg Config, records map[string][]byte) (*State, error) {
	cfg.MLS.Components = Components()
	of := make(map[string][]byte, len(records))
	for k, v := range records {
		if k, ok := strings.CutPrefix(k, prefixGroup); ok {
			of[k] = v
		}
	}
	group, err := mls.LoadPublicGroup(cfg.MLS, of)
	if err != nil {
		return nil, fmt.Errorf("room: %w", err)
	}
	s := &State{cfg: cfg, group: group}
	if b, ok := records[keyGroupInfo]; ok {
		s.groupInfo = new(mls.GroupInfo)
		if err := mls.Unmarshal(b, s.groupInfo); err != nil {
			return nil, fmt.Errorf("room: stored GroupInfo: %w", err)
		}
	}
	return s, s.derive()
}
