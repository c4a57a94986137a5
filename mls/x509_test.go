package mls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"slices"
	"testing"
	"time"
)

var certNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// An authority certifies in tests.
type authority struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// certify makes a certificate for a key, signed by issuer (nil: by itself).
func certify(t testing.TB, issuer *authority, key crypto.Signer, change func(c *x509.Certificate)) *authority {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: certNow.Add(-24 * time.Hour), NotAfter: certNow.Add(24 * time.Hour), BasicConstraintsValid: true,
	}
	if change != nil {
		change(c)
	}
	parent, signer := c, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	noError(t, err)
	cert, err := x509.ParseCertificate(der)
	noError(t, err)
	return &authority{key, cert}
}

func asCA(name string) func(c *x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.KeyUsage = name, true, x509.KeyUsageCertSign
	}
}

func asClient(uri string) func(c *x509.Certificate) {
	return func(c *x509.Certificate) {
		u, err := url.Parse(uri)
		if err != nil {
			panic(err)
		}
		c.URIs, c.KeyUsage = []*url.URL{u}, x509.KeyUsageDigitalSignature
	}
}

func ed25519Key(t testing.TB) crypto.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	noError(t, err)
	return k
}

func ecdsaKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	noError(t, err)
	return k
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	noError(t, err)
	return k
}

// chain lists certificates, the leaf's first.
func chain(a ...*authority) Credential {
	var der [][]byte
	for _, x := range a {
		der = append(der, x.cert.Raw)
	}
	return X509Credential(der...)
}

func pool(a ...*authority) *x509.CertPool {
	p := x509.NewCertPool()
	for _, x := range a {
		p.AddCert(x.cert)
	}
	return p
}

// mlsKey returns the public key in the encoding of RFC 9420.
func mlsKey(t testing.TB, k crypto.Signer) []byte {
	t.Helper()
	switch k := k.(type) {
	case ed25519.PrivateKey:
		return k.Public().(ed25519.PublicKey)
	case *ecdsa.PrivateKey:
		b, err := k.PublicKey.Bytes()
		noError(t, err)
		return b
	}
	t.Fatal("no key of a member")
	return nil
}

const someone = "mimi://a.example/d/1"

func TestX509VerifierAlgorithms(t *testing.T) {
	authorities := map[string]crypto.Signer{
		"Ed25519": ed25519Key(t), "P-256": ecdsaKey(t, elliptic.P256()), "P-384": ecdsaKey(t, elliptic.P384()), "P-521": ecdsaKey(t, elliptic.P521()), "RSA": rsaKey(t, 2048),
	}
	members := map[string]crypto.Signer{
		"Ed25519": ed25519Key(t), "P-256": ecdsaKey(t, elliptic.P256()), "P-384": ecdsaKey(t, elliptic.P384()), "P-521": ecdsaKey(t, elliptic.P521()),
	}
	pss := func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS }
	for rootName, rootKey := range authorities {
		root := certify(t, nil, rootKey, asCA("root"))
		for name, key := range authorities {
			intermediate := certify(t, root, key, asCA("intermediate"))
			for memberName, member := range members {
				leaf := certify(t, intermediate, member, func(c *x509.Certificate) {
					asClient(someone)(c)
					if name == "RSA" && memberName == "P-256" {
						pss(c)
					}
				})
				v := &X509Verifier{Roots: pool(root)}
				for _, c := range []Credential{chain(leaf, intermediate), chain(leaf, intermediate, root)} {
					if err := v.VerifyCredential(&c, mlsKey(t, member), certNow); err != nil {
						t.Errorf("%s below %s below %s: %v", memberName, name, rootName, err)
					}
				}
				c := chain(leaf)
				if err := v.VerifyCredential(&c, mlsKey(t, member), certNow); err == nil {
					t.Errorf("%s without its intermediate is genuine", memberName)
				}
				if name != "RSA" { // a longer chain that omits what is known
					second := certify(t, intermediate, ed25519Key(t), asCA("second"))
					below := certify(t, second, member, asClient(someone))
					c := chain(below, intermediate)
					v := &X509Verifier{Roots: pool(root), Intermediates: pool(second)}
					if err := v.VerifyCredential(&c, mlsKey(t, member), certNow); err != nil {
						t.Errorf("%s with a gap in its chain: %v", memberName, err)
					}
				}
				v.Intermediates = pool(intermediate)
				if err := v.VerifyCredential(&c, mlsKey(t, member), certNow); err != nil {
					t.Errorf("%s below a known intermediate: %v", memberName, err)
				}
			}
		}
	}
}

func TestX509VerifierRefuses(t *testing.T) {
	rootKey, caKey, key := ecdsaKey(t, elliptic.P256()), ed25519Key(t), ed25519Key(t)
	root := certify(t, nil, rootKey, asCA("root"))
	ca := certify(t, root, caKey, asCA("ca"))
	leafWith := func(issuer *authority, k crypto.Signer, change func(c *x509.Certificate)) *authority {
		return certify(t, issuer, k, func(c *x509.Certificate) {
			asClient(someone)(c)
			if change != nil {
				change(c)
			}
		})
	}
	leaf := leafWith(ca, key, nil)
	otherRoot := certify(t, nil, ecdsaKey(t, elliptic.P256()), asCA("root"))
	noCA := certify(t, root, caKey, func(c *x509.Certificate) { c.Subject.CommonName = "ca" })
	noSign := certify(t, root, caKey, func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.KeyUsage = "ca", true, x509.KeyUsageCRLSign
	})
	short := certify(t, root, caKey, func(c *x509.Certificate) { asCA("ca")(c); c.MaxPathLenZero = true })
	below := certify(t, short, ed25519Key(t), asCA("below"))
	expired := func(c *x509.Certificate) { c.NotAfter = certNow.Add(-time.Hour) }
	early := func(c *x509.Certificate) { c.NotBefore = certNow.Add(time.Hour) }
	oldCA := certify(t, root, caKey, func(c *x509.Certificate) { asCA("ca")(c); expired(c) })
	weak := certify(t, nil, rsaKey(t, 1024), asCA("weak"))
	rsaMember := rsaKey(t, 2048)
	long := []*authority{leafWith(ca, key, nil), ca, ca, ca, root}
	unrelated := certify(t, root, ed25519Key(t), asCA("unrelated"))
	bad := leaf.cert.Raw
	truncated := X509Credential(bad[:len(bad)-1], ca.cert.Raw)
	forged := slices.Clone(bad)
	forged[len(forged)-1] ^= 1
	public := mlsKey(t, key)
	for name, c := range map[string]struct {
		cred Credential
		key  []byte
		now  time.Time
		v    *X509Verifier
	}{
		"another root":            {cred: chain(leaf, ca), v: &X509Verifier{Roots: pool(otherRoot)}},
		"no roots":                {cred: chain(leaf, ca), v: &X509Verifier{}},
		"another key":             {cred: chain(leaf, ca), key: mlsKey(t, ed25519Key(t))},
		"key of another length":   {cred: chain(leaf, ca), key: public[1:]},
		"another certificate":     {cred: chain(leafWith(ca, ed25519Key(t), nil), ca)},
		"expired":                 {cred: chain(leafWith(ca, key, expired), ca)},
		"not valid yet":           {cred: chain(leafWith(ca, key, early), ca)},
		"expired CA":              {cred: chain(leaf, oldCA)},
		"never valid together":    {cred: chain(leafWith(oldCA, key, early), oldCA), now: time.Time{}},
		"intermediate is no CA":   {cred: chain(leafWith(noCA, key, nil), noCA)},
		"it may not certify":      {cred: chain(leafWith(noSign, key, nil), noSign)},
		"path length":             {cred: chain(leafWith(below, key, nil), below, short)},
		"too long":                {cred: chain(long...)},
		"out of order":            {cred: chain(leaf, root, ca)},
		"CA first":                {cred: chain(ca, leaf)},
		"unrelated in the chain":  {cred: chain(leaf, unrelated, ca)},
		"CA as a member":          {cred: chain(certify(t, ca, key, func(c *x509.Certificate) { asClient(someone)(c); c.IsCA = true }), ca)},
		"key agreement only":      {cred: chain(leafWith(ca, key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), ca)},
		"no identity":             {cred: chain(leafWith(ca, key, func(c *x509.Certificate) { c.URIs = nil }), ca)},
		"two identities":          {cred: chain(leafWith(ca, key, func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }), ca)},
		"RSA member":              {cred: chain(leafWith(ca, rsaMember, nil), ca)},
		"weak RSA":                {cred: chain(leafWith(weak, key, nil)), v: &X509Verifier{Roots: pool(weak)}},
		"signed by itself":        {cred: chain(leafWith(nil, key, nil))},
		"no certificate":          {cred: X509Credential()},
		"empty certificate":       {cred: X509Credential(nil, ca.cert.Raw)},
		"truncated":               {cred: truncated},
		"forged":                  {cred: X509Credential(forged, ca.cert.Raw)},
		"basic":                   {cred: BasicCredential([]byte(someone))},
		"too large":               {cred: chain(leaf, ca), v: &X509Verifier{Roots: pool(root), MaxSize: 100}},
		"fewer certificates":      {cred: chain(leaf, ca), v: &X509Verifier{Roots: pool(root), MaxChain: 1}},
		"extended key usage":      {cred: chain(leafWith(ca, key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), ca), v: &X509Verifier{Roots: pool(root), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}},
		"refused by the policy":   {cred: chain(leaf, ca), v: &X509Verifier{Roots: pool(root), Check: func(path []*x509.Certificate, _ time.Time) error { return errors.New("revoked") }}},
		"identity by the program": {cred: chain(leaf, ca), v: &X509Verifier{Roots: pool(root), Identity: func(*x509.Certificate) (string, error) { return "", errors.New("no") }}},
	} {
		v, k, now := c.v, c.key, c.now
		if v == nil {
			v = &X509Verifier{Roots: pool(root)}
		}
		if k == nil {
			k = public
		}
		if name != "never valid together" {
			now = certNow
		}
		if err := v.VerifyCredential(&c.cred, k, now); err == nil {
			t.Errorf("%s: genuine", name)
		}
	}
	good := chain(leaf, ca)
	seen := 0
	v := &X509Verifier{Roots: pool(root), Check: func(path []*x509.Certificate, now time.Time) error { seen = len(path); return nil }}
	if err := v.VerifyCredential(&good, public, certNow); err != nil || seen != 3 {
		t.Errorf("the chain that all others spoil: %v; Check saw %d certificates", err, seen)
	}

	// Only the admission mattered, and it is past.
	for _, c := range []Credential{
		chain(leafWith(ca, key, expired), ca), chain(leaf, oldCA), chain(leafWith(ca, key, early), ca),
	} {
		if err := v.VerifyCredential(&c, public, time.Time{}); err != nil {
			t.Errorf("at the zero time: %v", err)
		}
	}
}

func TestSuccessors(t *testing.T) {
	root := certify(t, nil, ed25519Key(t), asCA("root"))
	leaf := func(uri string) *LeafNode {
		return &LeafNode{Credential: chain(certify(t, root, ed25519Key(t), asClient(uri)))}
	}
	basic := func(id string) *LeafNode { return &LeafNode{Credential: BasicCredential([]byte(id))} }
	v := Verifiers{CredentialX509: &X509Verifier{Roots: pool(root)}, CredentialBasic: BasicVerifier{}}
	for name, c := range map[string]struct {
		old, new *LeafNode
		ok       bool
	}{
		"renewed":       {leaf(someone), leaf(someone), true},
		"another":       {leaf(someone), leaf("mimi://a.example/d/2"), false},
		"same identity": {basic("a"), basic("a"), true},
		"other":         {basic("a"), basic("b"), false},
		"x509 to basic": {leaf(someone), basic(someone), false},
		"basic to x509": {basic(someone), leaf(someone), false},
		"unknown type":  {&LeafNode{Credential: Credential{Type: 0x7777}}, &LeafNode{Credential: Credential{Type: 0x7777}}, false},
		"no chain":      {leaf(someone), &LeafNode{Credential: X509Credential()}, false},
	} {
		if err := v.VerifySuccessor(c.old, c.new); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (BasicVerifier{}).VerifySuccessor(leaf(someone), leaf(someone)); err == nil {
		t.Error("a BasicVerifier compares certificates")
	}
	byName := &X509Verifier{Roots: pool(root), Identity: func(c *x509.Certificate) (string, error) { return c.Subject.CommonName, nil }}
	if err := byName.VerifySuccessor(leaf(someone), leaf("mimi://a.example/d/2")); err != nil {
		t.Errorf("by common name: %v", err)
	}
}

// A group whose members have certificates and names: each keeps its type, an
// expired certificate keeps nobody from joining, and strangers stay out.
func TestGroupOfSeveralCredentials(t *testing.T) {
	root := certify(t, nil, ecdsaKey(t, elliptic.P384()), func(c *x509.Certificate) {
		asCA("root")(c)
		c.NotAfter = certNow.Add(96 * time.Hour)
	})
	known := map[string][]byte{}
	cfg := worldConfig()
	now := certNow
	cfg.Now = func() time.Time { return now }
	cfg.Credentials = Verifiers{
		CredentialX509: &X509Verifier{Roots: pool(root)},
		CredentialBasic: BasicVerifier{Accept: func(id, key []byte, _ time.Time) error {
			if string(known[string(id)]) != string(key) {
				return errors.New("unknown key")
			}
			return nil
		}},
	}
	caps := DefaultCapabilities()
	signer := func() (Signer, crypto.Signer) {
		s, seed, err := GenerateSigner(suite1, nil)
		noError(t, err)
		return s, ed25519.NewKeyFromSeed(seed)
	}
	founder, key := signer()
	g, err := CreateGroup(cfg, GroupParams{CipherSuite: suite1, Signer: founder, Capabilities: caps, Credential: chain(certify(t, root, key, asClient(someone)))})
	noError(t, err)
	s, _ := signer()
	known["bob"] = s.Public()
	pkg := func(s Signer, c Credential) (*KeyPackage, *KeyPackagePrivate) {
		kp, priv, err := NewKeyPackage(KeyPackageParams{CipherSuite: suite1, Signer: s, Capabilities: caps, Credential: c, Now: now})
		noError(t, err)
		return kp, priv
	}
	eve, _ := signer()
	for _, c := range []Credential{BasicCredential([]byte("bob")), BasicCredential([]byte("eve")), chain(certify(t, root, key, asClient(someone)))} {
		kp, _ := pkg(eve, c)
		if _, err := g.Commit(CommitOptions{Proposals: []Proposal{AddProposal(kp)}}); !errors.Is(err, ErrCredential) {
			t.Errorf("eve is added: %v", err)
		}
	}
	kp, priv := pkg(s, BasicCredential([]byte("bob")))
	sc, err := g.Commit(CommitOptions{Proposals: []Proposal{AddProposal(kp)}})
	noError(t, err)
	noError(t, g.Merge(sc))
	b, err := JoinWelcome(cfg, sc.Welcome, nil, kp, priv, s)
	noError(t, err)
	// The founder's certificate expires; others still come in.
	now = certNow.Add(48 * time.Hour)
	s2, _ := signer()
	known["carol"] = s2.Public()
	kp, priv = pkg(s2, BasicCredential([]byte("carol")))
	if sc, err = b.Commit(CommitOptions{Proposals: []Proposal{AddProposal(kp)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := JoinWelcome(cfg, sc.Welcome, nil, kp, priv, s2); err != nil {
		t.Errorf("carol cannot join: %v", err)
	}
	// Its own next leaf needs a valid one, of the same client.
	renewed := chain(certify(t, root, key, func(c *x509.Certificate) { asClient(someone)(c); c.NotAfter = certNow.Add(96 * time.Hour) }))
	stranger := chain(certify(t, root, key, func(c *x509.Certificate) {
		asClient("mimi://a.example/d/2")(c)
		c.NotAfter = certNow.Add(96 * time.Hour)
	}))
	for _, x := range []struct {
		c    *Credential
		want error
	}{{nil, ErrCredential}, {&stranger, ErrCredential}, {&renewed, nil}} {
		o := CommitOptions{ForcePath: true}
		if x.c != nil {
			o.Leaf = &LeafParams{Credential: x.c}
		}
		sc, err := g.Commit(o)
		if err == nil {
			_, err = b.StageCommit(sc.Message)
		}
		if !errors.Is(err, x.want) {
			t.Errorf("credential %v: got %v; want %v", x.c != nil, err, x.want)
		}
	}
}

// FuzzX509Verifier gives arbitrary octets as a credential: none is genuine but
// those of the seeds.
func FuzzX509Verifier(f *testing.F) {
	root := certify(f, nil, ed25519Key(f), asCA("root"))
	ca := certify(f, root, ecdsaKey(f, elliptic.P256()), asCA("ca"))
	key := ed25519Key(f)
	leaf := certify(f, ca, key, asClient(someone))
	v := &X509Verifier{Roots: pool(root)}
	for _, c := range []Credential{chain(leaf, ca), chain(leaf, ca, root), chain(leaf), chain(ca, leaf), BasicCredential([]byte("x"))} {
		f.Add(mustMarshal(c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Credential
		if Unmarshal(b, &c) != nil {
			return
		}
		for _, now := range []time.Time{certNow, {}} {
			if v.VerifyCredential(&c, mlsKey(t, key), now) == nil && string(c.Certificates[0]) != string(leaf.cert.Raw) {
				t.Fatal("a foreign certificate is genuine")
			}
		}
		_ = v.VerifySuccessor(&LeafNode{Credential: c}, &LeafNode{Credential: chain(leaf)})
	})
}
