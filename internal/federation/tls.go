package federation

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// ServerTLS returns the configuration of the listener on which [Handler] is
// served. It asks for a client certificate; the Handler verifies it, because
// the directory is public and because a provider certificate may have only the
// serverAuth usage.
func (p *Peers) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if p.cfg.Certificate == nil {
				return nil, errors.New("federation: no certificate is configured")
			}
			return p.cfg.Certificate()
		},
		ClientAuth: tls.RequestClientCert,
		Time:       p.cfg.Now,
		NextProtos: []string{"h2", "http/1.1"},
	}
}

// transport returns the connections to one peer. Each peer has its own, so
// that a connection authenticated for one provider domain never carries
// requests for another.
func (p *Peers) transport(domain string) http.RoundTripper {
	if p.cfg.Transport != nil {
		return p.cfg.Transport(domain)
	}
	return &http.Transport{
		DialContext: p.dial,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			RootCAs:    p.cfg.Roots,
			Time:       p.cfg.Now,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return p.cfg.Certificate()
			},
			// The TLS stack checks the chain and the host of the URL. That the
			// host may speak for the provider is checked here (CONFORMANCE.md, protocol section 4.1).
			VerifyConnection: func(cs tls.ConnectionState) error {
				return authenticates(cs.PeerCertificates, domain)
			},
		},
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    2,
		MaxConnsPerHost:        16,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  p.cfg.Limits.RequestTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}

// authenticates checks that the leaf certificate names domain by a dNSName
// that is not a wildcard: a wildcard is often shared by tenants.
func authenticates(certs []*x509.Certificate, domain string) error {
	if len(certs) == 0 {
		return fmt.Errorf("federation: %w: no certificate", ErrPeerIdentity)
	}
	for _, name := range certs[0].DNSNames {
		if strings.EqualFold(strings.TrimSuffix(name, "."), domain) {
			return nil
		}
	}
	return fmt.Errorf("federation: %w: the certificate is for %q, not for %s", ErrPeerIdentity, certs[0].DNSNames, domain)
}

// dial connects to a host of a directory URL, by the static map if it has it.
func (p *Peers) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	static, ok := p.cfg.Resolve[strings.ToLower(strings.TrimSuffix(host, "."))]
	if ok {
		address = static
	}
	if p.cfg.Dial != nil {
		return p.cfg.Dial(ctx, network, address)
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	if !ok && !p.cfg.PrivateNetworks {
		d.Control = publicOnly
	}
	return d.DialContext(ctx, network, address)
}

// publicOnly refuses addresses inside our own network: a peer, or whoever
// names a domain to us, must not reach them through us.
func publicOnly(network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	a := ap.Addr().Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || sharedSpace.Contains(a) {
		return fmt.Errorf("federation: %s is not a public address; name it in the static map or permit private networks", a)
	}
	return nil
}

// sharedSpace is RFC 6598.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// A verifiedChain remembers that a client certificate chain was verified.
type verifiedChain struct{ from, until time.Time }

// maxChains bounds Peers.chain.
const maxChains = 1024

// clientDomain returns the provider domain that the sender of a request
// claims in the From field, once the client certificate proves it.
func (p *Peers) clientDomain(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", fmt.Errorf("federation: %w: no client certificate", ErrUnauthenticated)
	}
	if err := p.verifyChain(r.TLS.PeerCertificates); err != nil {
		return "", err
	}
	from := r.Header.Values("From")
	if len(from) != 1 {
		return "", fmt.Errorf("federation: %w: %d From fields; one is expected", ErrForbidden, len(from))
	}
	domain, ok := strings.CutPrefix(from[0], "mimi@")
	if !ok {
		return "", fmt.Errorf("federation: %w: From is not mimi@<domain>", ErrForbidden)
	}
	domain = strings.ToLower(domain)
	if err := authenticates(r.TLS.PeerCertificates, domain); err != nil {
		return "", fmt.Errorf("federation: %w: From: %w", ErrForbidden, err)
	}
	return domain, nil
}

// verifyChain verifies a client's chain against the roots, now.
func (p *Peers) verifyChain(certs []*x509.Certificate) error {
	now := p.cfg.Now()
	h := sha256.New()
	for _, c := range certs {
		sum := sha256.Sum256(c.Raw)
		h.Write(sum[:])
	}
	key := [32]byte(h.Sum(nil))
	p.mu.Lock()
	known, ok := p.chain[key]
	p.mu.Unlock()
	if ok && !now.Before(known.from) && now.Before(known.until) {
		return nil
	}
	opts := x509.VerifyOptions{
		Roots:         p.cfg.Roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := certs[0].Verify(opts)
	if err != nil {
		return fmt.Errorf("federation: %w: client certificate: %w", ErrUnauthenticated, err)
	}
	known = verifiedChain{from: now, until: now.Add(time.Hour)}
	for _, c := range chains[0] {
		if c.NotAfter.Before(known.until) {
			known.until = c.NotAfter
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.chain) >= maxChains {
		clear(p.chain)
	}
	p.chain[key] = known
	return nil
}
