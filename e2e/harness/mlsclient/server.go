package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

const (
	// maxMessage bounds a request. A GroupInfo with the tree of the largest
	// group that a script of the harness makes is far smaller.
	maxMessage = 64 << 20
	// maxHandles bounds what a runner makes without Free.
	maxHandles = 1 << 20
	// stopTime is how long calls may go on after the server was told to stop.
	stopTime = 5 * time.Second
)

// serve lets s answer calls on l until ctx ends.
func serve(ctx context.Context, l net.Listener, s *server) error {
	g := grpc.NewServer(grpc.UnaryInterceptor(withStatus), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	mlsclientpb.RegisterMLSClientServer(g, s)
	stopped := make(chan struct{})
	defer func() { <-stopped }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(stopped)
		<-ctx.Done()
		hard := time.AfterFunc(stopTime, g.Stop)
		g.GracefulStop()
		hard.Stop()
	}()
	if err := g.Serve(l); !errors.Is(err, grpc.ErrServerStopped) { // before it began
		return err
	}
	return nil
}

// A server is one client under test. Its methods are those of the service.
type server struct {
	mlsclientpb.UnimplementedMLSClientServer

	pad bool // messages are padded

	mu      sync.Mutex // guards what follows
	last    uint32
	handles map[uint32]any // *member, *joiner, *signer or *successor
}

func newServer(pad bool) *server { return &server{pad: pad, handles: make(map[uint32]any)} }

// keep returns a handle for v. All kinds share one space of numbers, since
// StorePSK takes two of them; 0 stands for nothing.
func (s *server) keep(v any) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.handles) >= maxHandles {
		return 0, fmt.Errorf("%w: %d handles are in use: call Free", mls.ErrLimit, len(s.handles))
	}
	for {
		s.last++
		if _, taken := s.handles[s.last]; !taken && s.last != 0 {
			s.handles[s.last] = v
			return s.last, nil
		}
	}
}

// forget drops a handle and reports whether there was one.
func (s *server) forget(id uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.handles[id]
	delete(s.handles, id)
	return ok
}

// handle returns what id stands for.
func handle[T any](s *server, id uint32, what string) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.handles[id].(T)
	if !ok {
		return v, status.Errorf(codes.NotFound, "there is no %s %d", what, id)
	}
	return v, nil
}

// Name returns the name of this implementation.
func (s *server) Name(context.Context, *mlsclientpb.NameRequest) (*mlsclientpb.NameResponse, error) {
	name := "Comity"
	if info, ok := debug.ReadBuildInfo(); ok && info.GoVersion != "" {
		name += " (" + info.GoVersion + ")"
	}
	return &mlsclientpb.NameResponse{Name: name}, nil
}

// SupportedCiphersuites lists the suites that groups can use.
func (s *server) SupportedCiphersuites(context.Context, *mlsclientpb.SupportedCiphersuitesRequest) (*mlsclientpb.SupportedCiphersuitesResponse, error) {
	out := new(mlsclientpb.SupportedCiphersuitesResponse)
	for _, suite := range mls.UsableCipherSuites() {
		out.Ciphersuites = append(out.Ciphersuites, uint32(suite))
	}
	return out, nil
}

// Free forgets a handle of any kind.
func (s *server) Free(_ context.Context, r *mlsclientpb.FreeRequest) (*mlsclientpb.FreeResponse, error) {
	if !s.forget(r.StateId) {
		return nil, status.Errorf(codes.NotFound, "there is no handle %d to free", r.StateId)
	}
	return new(mlsclientpb.FreeResponse), nil
}

// withStatus turns the errors of all methods into statuses of gRPC.
func withStatus(ctx context.Context, r any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	v, err := next(ctx, r)
	if err == nil {
		return v, nil
	}
	if _, ok := status.FromError(err); ok {
		return nil, err
	}
	return nil, status.Error(code(err), err.Error())
}

// code says whose fault an error is. What package mls refuses was sent to it.
func code(err error) codes.Code {
	for _, c := range []struct {
		is   error
		code codes.Code
	}{
		{mls.ErrLimit, codes.ResourceExhausted},
		{mls.ErrWrongEpoch, codes.FailedPrecondition},
		{mls.ErrMissingProposal, codes.FailedPrecondition},
		{mls.ErrNotMember, codes.FailedPrecondition},
		{mls.ErrPSK, codes.FailedPrecondition},
		{mls.ErrState, codes.Internal},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return codes.InvalidArgument
}
