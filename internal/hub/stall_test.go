package hub_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/fedtest"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

type trusting struct{}

func (trusting) VerifyCredential(*mls.Credential, []byte, time.Time) error { return nil }
func (trusting) VerifySuccessor(_, _ *mls.LeafNode) error                  { return nil }

// A request that names a provider which does not answer, so that its CA cannot
// be had, holds up nobody else in the room.
func TestSilentProviderHoldsUpNobody(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan struct{}, 64)
	s := newSceneWith(t, room.TemplateGroup, fedtest.Options{Federation: func(cfg *federation.Config) {
		dial := cfg.Dial
		if cfg.Domain != "a.example" {
			return
		}
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, _, _ := net.SplitHostPort(address); host == "silent.example" {
				asked <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return dial(ctx, network, address)
		}
	}})
	eve := s.Start("silent.example").Enrol("eve", "1")
	x, err := room.LeafExtensions()
	s.OK(err)
	kp, _, err := mls.NewKeyPackage(mls.KeyPackageParams{CipherSuite: fedtest.Suite, Signer: eve.Signer, Credential: eve.Cred,
		Capabilities: room.Capabilities([]mls.CipherSuite{fedtest.Suite}, mls.CredentialX509), LeafExtensions: x})
	s.OK(err)
	// Alice does not ask who eve is.
	records := make(map[string][]byte)
	for _, r := range s.alice.Rooms[s.uri].Group.Records().Put {
		records[r.Key] = r.Value
	}
	g, err := mls.LoadGroup(mls.Config{Credentials: trusting{}, Components: room.Components()}, records, s.alice.Signer)
	s.OK(err)
	p, err := s.alice.Rooms[s.uri].Participants(nil, nil, []room.Participant{{User: eve.User, Role: room.RoleMember}})
	s.OK(err)
	sc, err := g.Commit(mls.CommitOptions{OmitTree: true, Proposals: []mls.Proposal{p, mls.AddProposal(kp)}})
	s.OK(err)
	message, err := s.bob.Encrypt(s.uri, "meanwhile")
	s.OK(err)

	body := encode(t, fedtest.CommitRequest(sc))
	answered := make(chan error, 1)
	go func() {
		_, err := s.a.Hub.Update(context.Background(), s.fromA, s.uri, body)
		answered <- err
	}()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	answer, err := s.a.Hub.Submit(ctx, s.fromB, s.uri, encode(t, message))
	if err != nil {
		t.Errorf("a message in the meantime: %v", err)
	} else {
		resp := new(mimi.SubmitMessageResponse)
		s.OK(mls.Unmarshal(answer, resp))
		if resp.Code != mimi.SubmitAccepted {
			t.Errorf("a message in the meantime: %v", resp.Code)
		}
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("the commit, once the provider answers: %v", err)
	}
}
