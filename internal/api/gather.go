package api

import (
	"context"
	"net"
	"sync"
)

// gatherAt is how many octets are gathered before they are written anyway.
const gatherAt = 64 << 10

// Gather returns a listener whose connections let several frames of a stream
// leave with one system call, which is most of what a frame costs. Wrap the
// TCP listener in it, before TLS, and set the server's ConnContext to
// [ConnContext]. Without it everything works, only slower.
func Gather(l net.Listener) net.Listener { return gatherListener{l} }

type gatherListener struct{ net.Listener }

func (l gatherListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gatherer{Conn: c}, nil
}

type gathererKey struct{}

// ConnContext notes a connection of a Gather listener in the context of its
// requests.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for {
		switch v := c.(type) {
		case *gatherer:
			return context.WithValue(ctx, gathererKey{}, v)
		case interface{ NetConn() net.Conn }: // *tls.Conn
			c = v.NetConn()
		default:
			return ctx
		}
	}
}

// A gatherer is a connection that holds back what is written between hold and
// release. Others may write meanwhile; theirs is held back as well.
type gatherer struct {
	net.Conn

	mu   sync.Mutex // guards the rest, and the order of writes
	held bool
	buf  []byte // not empty only while held
}

// buffers are for gatherers that hold something: most connections are idle.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, gatherAt); return &b }}

func (g *gatherer) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.held {
		return g.Conn.Write(b)
	}
	if len(g.buf)+len(b) > gatherAt {
		if err := g.flush(); err != nil {
			return 0, err
		}
		if len(b) >= gatherAt {
			return g.Conn.Write(b)
		}
	}
	if g.buf == nil {
		g.buf = *buffers.Get().(*[]byte)
	}
	g.buf = append(g.buf, b...)
	return len(b), nil
}

// flush writes what is held back. The caller holds mu.
func (g *gatherer) flush() error {
	if len(g.buf) == 0 {
		return nil
	}
	_, err := g.Conn.Write(g.buf)
	b := g.buf[:0]
	buffers.Put(&b)
	g.buf = nil
	return err
}

func (g *gatherer) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = true
}

// release writes what was held back. An error means that the connection is of
// no further use.
func (g *gatherer) release() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = false
	return g.flush()
}
