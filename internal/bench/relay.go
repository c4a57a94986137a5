package bench

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A relay passes connections on and counts their octets: what a provider
// sends to another, and what it gets back.
type relay struct {
	listener net.Listener
	to       string
	out, in  atomic.Int64

	wg    sync.WaitGroup
	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
	ended bool
}

func newRelay(to string) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	r := &relay{listener: l, to: to, conns: map[net.Conn]struct{}{}}
	r.wg.Go(r.accept)
	return r, nil
}

func (r *relay) address() string { return r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.pass(c) })
	}
}

// keep notes a connection to be closed with the relay.
func (r *relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *relay) drop(c net.Conn) {
	r.mu.Lock()
	delete(r.conns, c)
	r.mu.Unlock()
	_ = c.Close()
}

func (r *relay) pass(from net.Conn) {
	defer r.drop(from)
	to, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer r.drop(to)
	if !r.keep(from) || !r.keep(to) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(counted{to, &r.out}, from); _ = to.(*net.TCPConn).CloseWrite() })
	_, _ = io.Copy(counted{from, &r.in}, to)
	r.drop(from) // the other direction ends as well
	wg.Wait()
}

// close ends the relay and all its connections.
func (r *relay) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	r.ended = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// counted counts what is written.
type counted struct {
	w io.Writer
	n *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n.Add(int64(n))
	return n, err
}
