package bench

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/internal/admin"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

const suite = mls.X25519AES128SHA256Ed25519

// A device is a member of the room: enough of a client to be added, to
// receive and to send.
type device struct {
	at        int // index of its provider
	transport *client.HTTPTransport
	user, uri mimi.URI
	signer    mls.Signer
	cred      mls.Credential
	hub       mls.ExternalSender // of its provider
	token     string

	keyPackage *mls.KeyPackage
	private    *mls.KeyPackagePrivate
}

// transportTo returns connections to the client API of a provider. Each
// device has connections of its own, as if it were on another machine.
func transportTo(s *server, roots *x509.CertPool) (*client.HTTPTransport, error) {
	return client.NewHTTPTransport(client.HTTPConfig{URL: "https://" + s.cfg.Domain, Address: s.address, Roots: roots})
}

// rootsOf are the authorities that a provider trusts, which have to vouch for
// its own certificate, too.
func rootsOf(s *server) (*x509.CertPool, error) {
	if s.cfg.TLS.Roots == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(s.cfg.TLS.Roots)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("bench: %s holds no certificate", s.cfg.TLS.Roots)
	}
	return pool, nil
}

// enrol makes a user with one device that has a token and one KeyPackage.
func enrol(ctx context.Context, t *client.HTTPTransport, a *admin.Client, at int, name string) (*device, error) {
	code, err := a.AddUser(ctx, name)
	if err != nil {
		return nil, err
	}
	d := &device{at: at, transport: t}
	if d.signer, _, err = mls.GenerateSigner(suite, nil); err != nil {
		return nil, err
	}
	req := local.EnrolRequest{Code: code.Code, DeviceName: "bench", CipherSuite: uint16(suite), PublicKey: d.signer.Public()}
	tbs, err := req.TBS()
	if err != nil {
		return nil, err
	}
	if req.Signature, err = mls.SignWithLabel(d.signer, local.LabelEnrol, tbs); err != nil {
		return nil, err
	}
	var resp local.EnrolResponse
	if err := d.json(ctx, local.PathEnrol, req, &resp); err != nil {
		return nil, err
	}
	d.cred = mls.X509Credential(resp.Certificate)
	if d.user, err = mimi.ParseURI(resp.User); err != nil {
		return nil, err
	}
	if d.uri, err = mimi.ParseURI(resp.Device); err != nil {
		return nil, err
	}
	if err := mls.Unmarshal(resp.ExternalSender, &d.hub); err != nil {
		return nil, err
	}
	if err := d.login(ctx); err != nil {
		return nil, err
	}
	return d, d.publish(ctx)
}

// login gets a token.
func (d *device) login(ctx context.Context) error {
	var challenge local.ChallengeResponse
	if err := d.json(ctx, local.PathChallenge, nil, &challenge); err != nil {
		return err
	}
	sig, err := mls.SignWithLabel(d.signer, local.LabelToken, challenge.Challenge)
	if err != nil {
		return err
	}
	var token local.TokenResponse
	err = d.json(ctx, local.PathToken, local.TokenRequest{Device: d.uri.String(), Challenge: challenge.Challenge, Signature: sig}, &token)
	d.token = token.Token
	return err
}

// publish gives the provider one KeyPackage.
func (d *device) publish(ctx context.Context) (err error) {
	x, err := room.LeafExtensions()
	if err != nil {
		return err
	}
	d.keyPackage, d.private, err = mls.NewKeyPackage(mls.KeyPackageParams{
		CipherSuite: suite, Signer: d.signer, Credential: d.cred, LeafExtensions: x, Lifetime: 24 * time.Hour,
	})
	if err != nil {
		return err
	}
	var w tlspl.Writer
	tlspl.WriteVector(&w, []*mls.KeyPackage{d.keyPackage}, func(w *tlspl.Writer, kp **mls.KeyPackage) { w.Value(*kp) })
	body, err := w.Bytes()
	if err != nil {
		return err
	}
	_, err = d.do(ctx, client.Request{Method: http.MethodPut, Path: local.PathKeyPackages, ContentType: local.MediaTypeTLS, Body: body})
	return err
}

// do makes a request that has to succeed.
func (d *device) do(ctx context.Context, req client.Request) (client.Response, error) {
	req.Token = d.token
	resp, err := d.transport.Do(ctx, req)
	if err != nil {
		return resp, err
	}
	return resp, refusal(resp)
}

// refusal is the error of an answer that is not 2xx.
func refusal(resp client.Response) error {
	if resp.Status >= 200 && resp.Status < 300 {
		return nil
	}
	e := &client.StatusError{Status: resp.Status, RetryAfter: resp.RetryAfter}
	var p local.Problem
	if json.Unmarshal(resp.Body, &p) == nil {
		e.Code, e.Detail = p.Code, p.Message
	}
	return e
}

func (d *device) json(ctx context.Context, path string, in, out any) error {
	req := client.Request{Method: http.MethodPost, Path: path}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		req.Body, req.ContentType = b, local.MediaTypeJSON
	}
	resp, err := d.do(ctx, req)
	if err != nil {
		return err
	}
	return json.NewDecoder(bytes.NewReader(resp.Body)).Decode(out)
}

// tls posts a TLS-encoded body and decodes the answer.
func (d *device) tls(ctx context.Context, path string, in tlspl.Marshaler, out tlspl.Unmarshaler) error {
	body, err := mls.Marshal(in)
	if err != nil {
		return err
	}
	resp, err := d.do(ctx, client.Request{Method: http.MethodPost, Path: path, ContentType: local.MediaTypeTLS, Body: body})
	if err != nil || out == nil {
		return err
	}
	return mls.Unmarshal(resp.Body, out)
}
