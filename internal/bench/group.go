package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/admin"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// A group is the room that is measured, and those who send to it.
type group struct {
	uri     mimi.URI
	config  mls.Config
	members []*device
	// senders are devices that are in the group, one at each provider, in the
	// providers' order.
	senders []*sender
}

type sender struct {
	*device
	group *mls.Group
}

// addAtOnce is how many users one commit adds.
const addAtOnce = 50

// assemble enrols the members, connects them, and makes the room.
func (r *run) assemble(ctx context.Context) error {
	members, err := r.enrolAll(ctx)
	if err != nil {
		return err
	}
	g := &group{members: members}
	r.room = g
	founder := members[0]
	hub := r.servers[0]
	roots, err := rootsOf(hub)
	if err != nil {
		return err
	}
	g.config = mls.Config{
		Credentials: client.NewVerifier(func(ctx context.Context, domain string) ([]byte, error) {
			resp, err := founder.do(ctx, client.Request{Method: "GET", Path: local.PathAnchors + domain})
			return resp.Body, err
		}, roots, &identity.MemoryPins{}, time.Now),
		Components: room.Components(),
	}
	if g.uri, err = mimi.NewURI(mimi.KindRoom, hub.cfg.Domain, r.tag); err != nil {
		return err
	}
	own, err := g.create(ctx, founder)
	if err != nil {
		return fmt.Errorf("bench: creating the room: %w", err)
	}
	g.senders = []*sender{own}
	if err := r.connect(ctx); err != nil {
		return err
	}

	// Whoever sends at the other provider is added last: its Welcome is then
	// for the epoch in which messages are sent. Members take turns, so it is
	// the second one.
	rest := members[1:]
	var last []*device
	if len(r.servers) > 1 {
		last, rest = members[1:2], members[2:]
	}
	added := 1
	for len(rest) > 0 {
		n := min(addAtOnce, len(rest))
		if err := g.add(ctx, own, rest[:n]); err != nil {
			return fmt.Errorf("bench: adding members: %w", err)
		}
		rest = rest[n:]
		added += n
		r.cfg.Progress("adding members", added, len(members))
	}
	for _, d := range last {
		if err := g.add(ctx, own, []*device{d}); err != nil {
			return fmt.Errorf("bench: adding members: %w", err)
		}
		s, err := g.join(ctx, d, r.readers[1])
		if err != nil {
			return fmt.Errorf("bench: %s joins: %w", d.user, err)
		}
		g.senders = append(g.senders, s)
	}
	r.cfg.Progress("adding members", len(members), len(members))
	return nil
}

// enrolAll makes the members, in turn at the providers.
func (r *run) enrolAll(ctx context.Context) ([]*device, error) {
	members := make([]*device, r.cfg.Members)
	for at, s := range r.servers {
		roots, err := rootsOf(s)
		if err != nil {
			return nil, err
		}
		a := admin.NewClient(s.cfg.DataDir)
		defer a.Close()
		for i := at; i < len(members); i += len(r.servers) {
			t, err := transportTo(s, roots)
			if err != nil {
				return nil, err
			}
			members[i] = &device{transport: t}
		}
		// The connections are the devices' own, so few at a time are enough.
		work, ctx := errgroup.WithContext(ctx)
		work.SetLimit(8)
		for i := at; i < len(members); i += len(r.servers) {
			work.Go(func() (err error) {
				t := members[i].transport
				members[i], err = enrol(ctx, t, a, at, fmt.Sprintf("%s-%d", r.tag, i))
				t.CloseIdle()
				if err != nil {
					return fmt.Errorf("bench: enrolling at %s: %w", s.cfg.Domain, err)
				}
				return nil
			})
		}
		if err := work.Wait(); err != nil {
			return nil, err
		}
		r.cfg.Progress("enrolling", (at+1)*len(members)/len(r.servers), len(members))
	}
	return members, nil
}

// create makes the group and the room.
func (g *group) create(ctx context.Context, d *device) (*sender, error) {
	template, err := room.NewTemplate(room.TemplateGroup)
	if err != nil {
		return nil, err
	}
	x, err := room.NewRoomExtensions(room.NewRoom{Room: g.uri, Hub: d.hub, Creator: d.user, Template: template, Name: "bench"})
	if err != nil {
		return nil, err
	}
	id, err := room.GroupID(g.uri)
	if err != nil {
		return nil, err
	}
	leaf, err := room.LeafExtensions()
	if err != nil {
		return nil, err
	}
	s := &sender{device: d}
	s.group, err = mls.CreateGroup(g.config, mls.GroupParams{
		CipherSuite: suite, GroupID: id, Signer: d.signer, Credential: d.cred,
		Capabilities: mls.DefaultCapabilities(mls.CredentialX509), LeafExtensions: leaf, Extensions: x,
	})
	if err != nil {
		return nil, err
	}
	gi, err := s.group.GroupInfo()
	if err != nil {
		return nil, err
	}
	tree, err := mimi.FullTree(s.group.State().RatchetTree())
	if err != nil {
		return nil, err
	}
	return s, d.tls(ctx, local.PathRooms, &local.CreateRoomRequest{GroupInfo: *gi, RatchetTree: tree}, nil)
}

// add claims the KeyPackages of devices' users and adds them in one commit.
func (g *group) add(ctx context.Context, by *sender, devices []*device) error {
	policy, err := room.PolicyOf(by.group.State().Dictionary())
	if err != nil {
		return err
	}
	var participants []room.Participant
	keyPackages := make([]*mls.KeyPackage, len(devices))
	work, claims := errgroup.WithContext(ctx)
	work.SetLimit(4)
	for i, d := range devices {
		participants = append(participants, room.Participant{User: d.user, Role: room.RoleMember})
		work.Go(func() (err error) {
			keyPackages[i], err = g.claim(claims, by, d.user)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	update, err := policy.Participants.Update(nil, nil, participants)
	if err != nil {
		return err
	}
	b, err := mls.Marshal(update)
	if err != nil {
		return err
	}
	proposals := []mls.Proposal{mls.AppDataUpdateProposal(mimi.ComponentParticipantList, b)}
	for _, kp := range keyPackages {
		proposals = append(proposals, mls.AddProposal(kp))
	}
	sc, err := by.group.Commit(mls.CommitOptions{Proposals: proposals, OmitTree: true})
	if err != nil {
		return err
	}
	var resp mimi.UpdateRoomResponse
	err = by.tls(ctx, local.PathUpdate+g.uri.PathSegment(), &mimi.UpdateRequest{
		Message: *sc.Message, Welcome: sc.Welcome, GroupInfo: mimi.GroupInfoOption{Full: sc.GroupInfo}, RatchetTree: mimi.HubTree(),
	}, &resp)
	if err != nil {
		return err
	}
	if resp.Code != mimi.UpdateSuccess {
		return fmt.Errorf("the hub answered %v: %s", resp.Code, resp.ErrorDescription)
	}
	return by.group.Merge(sc)
}

func (g *group) claim(ctx context.Context, by *sender, user mimi.URI) (*mls.KeyPackage, error) {
	req := &mimi.KeyMaterialRequest{Protocol: mimi.ProtocolMLS10, RequestingUser: by.user, TargetUser: user, Room: g.uri,
		CipherSuites: []mls.CipherSuite{suite}, Credential: by.cred}
	if err := req.Sign(by.signer); err != nil {
		return nil, err
	}
	var resp mimi.KeyMaterialResponse
	if err := by.tls(ctx, local.PathKeyMaterial+user.PathSegment(), req, &resp); err != nil {
		return nil, err
	}
	for i := range resp.Clients {
		if kp := resp.Clients[i].KeyPackage; kp != nil {
			return kp, nil
		}
	}
	return nil, fmt.Errorf("no KeyPackage of %s: %v", user, resp.UserStatus)
}

// join makes a device a sender by the Welcome that its reader gets.
func (g *group) join(ctx context.Context, d *device, from *reader) (*sender, error) {
	var body []byte
	select {
	case body = <-from.welcome:
	case <-from.ended:
		return nil, from.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var fm mimi.FanoutMessage
	if err := mls.Unmarshal(body, &fm); err != nil {
		return nil, err
	}
	if fm.Message.Welcome == nil {
		return nil, errors.New("the mail holds no Welcome")
	}
	tree, err := fm.RatchetTree.Nodes()
	if err != nil {
		return nil, err
	}
	s := &sender{device: d}
	s.group, err = mls.JoinWelcome(g.config, fm.Message.Welcome, tree, d.keyPackage, d.private, d.signer)
	return s, err
}

// encrypt makes one message with a text of size octets.
func (g *group) encrypt(s *sender, n, size int) (*mls.MLSMessage, error) {
	text := fmt.Sprintf("Message %d. ", n)
	text += strings.Repeat("All work and no play makes Jack a dull boy. ", size/44+1)
	c := content.Composer{SenderURI: s.user.String(), RoomURI: g.uri.String()}
	m, err := c.Text(text[:size])
	if err != nil {
		return nil, err
	}
	b, err := m.Encode()
	if err != nil {
		return nil, err
	}
	if b, err = s.group.State().Frame(mls.MediaType{Type: content.MediaTypeContent}, b); err != nil {
		return nil, err
	}
	return s.group.Encrypt(b, nil)
}
