package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

// The command says where it listens, on loopback unless told otherwise,
// answers there, and ends when it is told to.
func TestRun(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"--port", "0"}, in, io.Discard) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	noError(t, err)
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok || !strings.HasPrefix(addr, "127.0.0.1:") {
		t.Fatalf("the command says %q", line)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	noError(t, err)
	defer conn.Close()
	r, err := mlsclientpb.NewMLSClientClient(conn).Name(t.Context(), &mlsclientpb.NameRequest{})
	noError(t, err)
	if !strings.HasPrefix(r.Name, "Comity") {
		t.Errorf("the name is %q", r.Name)
	}
	// The port is taken now.
	var stderr bytes.Buffer
	if err := run(t.Context(), []string{"--port", addr[strings.LastIndexByte(addr, ':')+1:]}, io.Discard, &stderr); err == nil {
		t.Error("two servers listen on one port")
	}
	stop()
	noError(t, <-done)
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"--port", "65536"}, {"--port", "x"}, {"50051"}, {"--nonsense"}} {
		var stderr bytes.Buffer
		if err := run(t.Context(), args, io.Discard, &stderr); !errors.Is(err, errUsage) || stderr.Len() == 0 {
			t.Errorf("%v: %v, and %q is said", args, err, stderr.String())
		}
	}
}

// What cannot be done is refused with a code that says whose fault it is, and
// leaves everything as it was.
func TestRefusals(t *testing.T) {
	p := newPlay(t, newStage(t, "anna", "ben"), mls.X25519AES128SHA256Ed25519, true)
	p.group("anna", "ben")
	anna, state := p.as("anna"), p.states["anna"]
	known := p.update("anna")
	closing := p.proposeReInit("ben", []byte("elsewhere"), p.suite)
	must(p, p.as("ben").Commit, &mlsclientpb.CommitRequest{StateId: p.states["ben"], ForcePath: true})
	must(p, p.as("ben").HandlePendingCommit, &mlsclientpb.HandlePendingCommitRequest{StateId: p.states["ben"]})
	late := p.protect("ben", "of an epoch that anna has not seen")
	ahead := p.update("ben")

	ctx := t.Context()
	for name, c := range map[string]struct {
		want codes.Code
		call func() (any, error)
	}{
		"unknown state": {codes.NotFound, func() (any, error) {
			return anna.StateAuth(ctx, &mlsclientpb.StateAuthRequest{StateId: 4711})
		}},
		"unknown transaction": {codes.NotFound, func() (any, error) {
			return anna.JoinGroup(ctx, &mlsclientpb.JoinGroupRequest{TransactionId: state})
		}},
		"unknown reinitialization": {codes.NotFound, func() (any, error) {
			return anna.ReInitWelcome(ctx, &mlsclientpb.ReInitWelcomeRequest{ReinitId: state})
		}},
		"unknown signer": {codes.NotFound, func() (any, error) {
			return anna.ExternalSignerProposal(ctx, &mlsclientpb.ExternalSignerProposalRequest{SignerId: state})
		}},
		"nothing to free": {codes.NotFound, func() (any, error) {
			return anna.Free(ctx, &mlsclientpb.FreeRequest{})
		}},
		"key for nobody": {codes.NotFound, func() (any, error) {
			return anna.StorePSK(ctx, &mlsclientpb.StorePSKRequest{PskId: []byte("a"), PskSecret: []byte("b")})
		}},
		"suite that does not exist": {codes.InvalidArgument, func() (any, error) {
			return anna.CreateKeyPackage(ctx, &mlsclientpb.CreateKeyPackageRequest{CipherSuite: 0x10001})
		}},
		"damaged message": {codes.InvalidArgument, func() (any, error) {
			return anna.Unprotect(ctx, &mlsclientpb.UnprotectRequest{StateId: state, Ciphertext: []byte{0, 1, 0, 2}})
		}},
		"a proposal for a message": {codes.InvalidArgument, func() (any, error) {
			return anna.AddProposal(ctx, &mlsclientpb.AddProposalRequest{StateId: state, KeyPackage: known})
		}},
		"message of a later epoch": {codes.FailedPrecondition, func() (any, error) {
			return anna.Unprotect(ctx, &mlsclientpb.UnprotectRequest{StateId: state, Ciphertext: late})
		}},
		"proposal of a later epoch": {codes.FailedPrecondition, func() (any, error) {
			return anna.Commit(ctx, &mlsclientpb.CommitRequest{StateId: state, ByReference: [][]byte{ahead}})
		}},
		"own update": {codes.InvalidArgument, func() (any, error) {
			return anna.Commit(ctx, &mlsclientpb.CommitRequest{StateId: state, ByReference: [][]byte{known}})
		}},
		"pre-shared key that nobody stored": {codes.FailedPrecondition, func() (any, error) {
			return anna.Commit(ctx, &mlsclientpb.CommitRequest{StateId: state, ByValue: p.value("externalPSK", &mlsclientpb.ProposalDescription{PskId: []byte("none")})})
		}},
		"proposal of an unknown type": {codes.InvalidArgument, func() (any, error) {
			return anna.Commit(ctx, &mlsclientpb.CommitRequest{StateId: state, ByValue: p.value("nonsense", &mlsclientpb.ProposalDescription{})})
		}},
		"removal of nobody": {codes.InvalidArgument, func() (any, error) {
			return anna.RemoveProposal(ctx, &mlsclientpb.RemoveProposalRequest{StateId: state, RemovedId: []byte("nobody")})
		}},
		"ReInit beside another proposal": {codes.InvalidArgument, func() (any, error) {
			return anna.ReInitCommit(ctx, &mlsclientpb.CommitRequest{StateId: state, ByReference: [][]byte{closing}, ByValue: p.value("groupContextExtensions", &mlsclientpb.ProposalDescription{})})
		}},
		"closing by a commit without ReInit": {codes.InvalidArgument, func() (any, error) {
			return anna.ReInitCommit(ctx, &mlsclientpb.CommitRequest{StateId: state})
		}},
		"nothing to merge": {codes.InvalidArgument, func() (any, error) {
			return anna.HandlePendingCommit(ctx, &mlsclientpb.HandlePendingCommitRequest{StateId: state})
		}},
		"too long an export": {codes.ResourceExhausted, func() (any, error) {
			return anna.Export(ctx, &mlsclientpb.ExportRequest{StateId: state, Label: "a", KeyLength: 1 << 31})
		}},
		"external signer with a wrong place": {codes.InvalidArgument, func() (any, error) {
			s := must(p, anna.CreateExternalSigner, &mlsclientpb.CreateExternalSignerRequest{CipherSuite: uint32(p.suite)})
			info := must(p, anna.GroupInfo, &mlsclientpb.GroupInfoRequest{StateId: state})
			return anna.ExternalSignerProposal(ctx, &mlsclientpb.ExternalSignerProposalRequest{SignerId: s.SignerId, SignerIndex: 1, GroupInfo: info.GroupInfo})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			before := must(p, anna.StateAuth, &mlsclientpb.StateAuthRequest{StateId: state}).StateAuthSecret
			v, err := c.call()
			if status.Code(err) != c.want || status.Convert(err).Message() == "" {
				t.Errorf("%v, %v; want %v", v, err, c.want)
			}
			if after := must(p, anna.StateAuth, &mlsclientpb.StateAuthRequest{StateId: state}).StateAuthSecret; !bytes.Equal(before, after) {
				t.Error("it changed the epoch")
			}
		})
	}
}

// No status tells a secret that was sent along.
func TestErrorsWithoutSecrets(t *testing.T) {
	p := newPlay(t, newStage(t, "anna"), mls.X25519AES128SHA256Ed25519, false)
	p.create("anna")
	const secret = "a pre-shared key that nobody may see"
	must(p, p.as("anna").StorePSK, &mlsclientpb.StorePSKRequest{StateOrTransactionId: p.states["anna"], PskId: []byte("known"), PskSecret: []byte(secret)})
	for _, kind := range []string{"externalPSK", "resumptionPSK"} {
		_, err := p.as("anna").Commit(t.Context(), &mlsclientpb.CommitRequest{
			StateId: p.states["anna"], ByValue: p.value(kind, &mlsclientpb.ProposalDescription{PskId: []byte("unknown"), EpochId: 7}),
		})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
