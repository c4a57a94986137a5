package client

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// A keyPackageRecord is a KeyPackage that others may use to add the device,
// with its private keys. It is deleted in the same step in which a group is
// joined with it.
type keyPackageRecord struct {
	KeyPackage []byte `json:"key_package"`
	Private    []byte `json:"private"`
	NotAfter   int64  `json:"not_after"` // seconds since the Unix epoch
	// published is set once the provider has confirmed it. It is a row of its
	// own: noting it must not bring back keys that were used meanwhile.
	published bool
}

// keyPackageGrace is how long the private keys of an expired KeyPackage are
// kept: a Welcome may be on its way.
const keyPackageGrace = 7 * 24 * time.Hour

// poolInterval is how often the pool is looked at without a reason.
const poolInterval = 6 * time.Hour

// A keyPackagePool keeps unused KeyPackages ready at the provider.
type keyPackagePool struct {
	c    *Client
	wake chan struct{}
	// mu is held while the pool is filled, so that it is not filled twice.
	mu sync.Mutex
}

// poke asks for a look at the pool.
func (p *keyPackagePool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *keyPackagePool) run(ctx context.Context) {
	if p.c.cfg.KeyPackages < 0 {
		return
	}
	retry := backoff{min: p.c.cfg.RetryMin, max: p.c.cfg.RetryMax}
	for {
		err := p.ensure(ctx)
		wait := poolInterval/2 + rand.N(poolInterval)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			retry.reset()
		case temporary(err):
			wait = retry.delay(err)
		default:
			p.c.problem(fmt.Errorf("client: KeyPackages: %w", err))
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-p.wake:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// PublishKeyPackages gives the provider the KeyPackages with which others can
// add this device, as many as Config.KeyPackages says. Run sees to that all
// the time; this is for a device that is enrolled now and runs later.
func (c *Client) PublishKeyPackages(ctx context.Context) error {
	if c.cfg.KeyPackages < 0 {
		return nil
	}
	return c.pool.ensure(ctx)
}

// ensure brings the pool to its size. What an earlier attempt may have left
// unconfirmed is published again; the provider passes over what it knows.
func (p *keyPackagePool) ensure(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	records, orphans, err := p.load(ctx)
	if err != nil {
		return err
	}
	now := p.c.cfg.Now()
	b := Batch{}
	for _, ref := range orphans {
		b.Remove(bucketPublished, ref)
	}
	var unconfirmed []string
	for ref, rec := range records {
		switch {
		case now.After(time.Unix(rec.NotAfter, 0).Add(keyPackageGrace)):
			b.Remove(bucketKeyPackages, ref)
			b.Remove(bucketPublished, ref)
		case !rec.published && now.Before(time.Unix(rec.NotAfter, 0)):
			unconfirmed = append(unconfirmed, ref)
		}
	}
	if !b.Empty() {
		if err := p.c.cfg.Store.Apply(ctx, b); err != nil {
			return err
		}
	}
	if len(unconfirmed) > 0 {
		if err := p.publish(ctx, records, unconfirmed); err != nil {
			return err
		}
	}
	resp, err := p.c.session.do(ctx, Request{Method: http.MethodGet, Path: local.PathKeyPackages})
	if err != nil {
		return err
	}
	var count local.KeyPackageCount
	if err := json.Unmarshal(resp.Body, &count); err != nil {
		return fmt.Errorf("client: KeyPackage count: %w", err)
	}
	target := p.c.cfg.KeyPackages
	if count.Count > target-(target+3)/4 {
		return nil
	}
	fresh := map[string]*keyPackageRecord{}
	var refs []string
	b = Batch{Durable: true} // the private keys are safe before anyone uses the public ones
	for range target - max(count.Count, 0) {
		ref, rec, err := p.generate(now)
		if err != nil {
			return err
		}
		value, err := json.Marshal(rec)
		if err != nil {
			return fmt.Errorf("client: %w", err)
		}
		b.Set(bucketKeyPackages, ref, value)
		fresh[ref] = rec
		refs = append(refs, ref)
	}
	if err := p.c.cfg.Store.Apply(ctx, b); err != nil {
		return err
	}
	return p.publish(ctx, fresh, refs)
}

// load reads the KeyPackages, and the notes about such that are gone.
func (p *keyPackagePool) load(ctx context.Context) (_ map[string]*keyPackageRecord, orphans []string, err error) {
	published, err := p.c.cfg.Store.Bucket(ctx, bucketPublished)
	if err != nil {
		return nil, nil, err
	}
	rows, err := p.c.cfg.Store.Bucket(ctx, bucketKeyPackages)
	if err != nil {
		return nil, nil, err
	}
	records := make(map[string]*keyPackageRecord, len(rows))
	for ref, value := range rows {
		rec := new(keyPackageRecord)
		if err := json.Unmarshal(value, rec); err != nil {
			return nil, nil, fmt.Errorf("client: stored KeyPackage: %w", err)
		}
		_, rec.published = published[ref]
		records[ref] = rec
	}
	for ref := range published {
		if records[ref] == nil {
			orphans = append(orphans, ref)
		}
	}
	return records, orphans, nil
}

// publish uploads KeyPackages and marks them.
func (p *keyPackagePool) publish(ctx context.Context, records map[string]*keyPackageRecord, refs []string) error {
	for len(refs) > 0 {
		part := refs[:min(len(refs), local.MaxKeyPackages)]
		refs = refs[len(part):]
		var w tlspl.Writer
		w.Vector(func(w *tlspl.Writer) {
			for _, ref := range part {
				w.Raw(records[ref].KeyPackage)
			}
		})
		body, err := w.Bytes()
		if err != nil {
			return fmt.Errorf("client: %w", err)
		}
		_, err = p.c.session.do(ctx, Request{Method: http.MethodPut, Path: local.PathKeyPackages, ContentType: local.MediaTypeTLS, Body: body})
		if err != nil {
			return err
		}
		var b Batch
		for _, ref := range part {
			b.Set(bucketPublished, ref, []byte{1})
		}
		if err := p.c.cfg.Store.Apply(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (p *keyPackagePool) generate(now time.Time) (ref string, rec *keyPackageRecord, err error) {
	life := p.c.cfg.KeyPackageLifetime
	notBefore := now.Add(-time.Hour)
	if cert, err := x509.ParseCertificate(p.c.id.Certificates[0]); err == nil {
		if left := cert.NotAfter.Sub(notBefore); left < life {
			life = left
		}
	}
	if life < 2*time.Hour {
		return "", nil, errors.New("client: the device's certificate has expired; enrol the device anew")
	}
	leaf, err := room.LeafExtensions()
	if err != nil {
		return "", nil, fmt.Errorf("client: new KeyPackage: %w", err)
	}
	kp, private, err := mls.NewKeyPackage(mls.KeyPackageParams{
		CipherSuite: p.c.id.Suite, Signer: p.c.signer, Credential: p.c.cred,
		Capabilities: capabilities(), LeafExtensions: leaf,
		NotBefore: notBefore, Lifetime: life, Now: now,
	})
	if err != nil {
		return "", nil, fmt.Errorf("client: new KeyPackage: %w", err)
	}
	defer private.Wipe()
	r, err := kp.Ref()
	if err != nil {
		return "", nil, fmt.Errorf("client: new KeyPackage: %w", err)
	}
	rec = &keyPackageRecord{NotAfter: notBefore.Add(life).Unix()}
	if rec.KeyPackage, err = mls.Marshal(kp); err != nil {
		return "", nil, fmt.Errorf("client: new KeyPackage: %w", err)
	}
	if rec.Private, err = mls.Marshal(private); err != nil {
		return "", nil, fmt.Errorf("client: new KeyPackage: %w", err)
	}
	return hex.EncodeToString(r), rec, nil
}

// keyPackage is a KeyPackage of this device with its private keys.
type keyPackage struct {
	ref     string
	public  *mls.KeyPackage
	private *mls.KeyPackagePrivate
}

// find returns the first KeyPackage that a Welcome is for, or nil.
func (p *keyPackagePool) find(ctx context.Context, w *mls.Welcome) (*keyPackage, error) {
	for i := range w.Secrets {
		ref := hex.EncodeToString(w.Secrets[i].NewMember)
		value, err := p.c.cfg.Store.Get(ctx, bucketKeyPackages, ref)
		if errors.Is(err, ErrNoValue) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var rec keyPackageRecord
		if err := json.Unmarshal(value, &rec); err != nil {
			return nil, fmt.Errorf("client: stored KeyPackage: %w", err)
		}
		k := &keyPackage{ref: ref, public: new(mls.KeyPackage), private: new(mls.KeyPackagePrivate)}
		if err := mls.Unmarshal(rec.KeyPackage, k.public); err != nil {
			return nil, fmt.Errorf("client: stored KeyPackage: %w", err)
		}
		if err := mls.Unmarshal(rec.Private, k.private); err != nil {
			return nil, fmt.Errorf("client: stored KeyPackage: %w", err)
		}
		return k, nil
	}
	return nil, nil
}
