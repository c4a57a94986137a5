package identity

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
)

// The PEM blocks of a stored CA. The first two are the CA's own; each earlier
// CA follows as a certificate and its endorsement of the one before it in the
// file, which has the signature scheme in a header.
const (
	pemKey         = "PRIVATE KEY" // PKCS #8
	pemCertificate = "CERTIFICATE"
	pemEndorsement = "COMITY ENDORSEMENT"
	pemScheme      = "Scheme"

	maxCAFile = 256 << 10
)

// MarshalPEM returns the CA with its private key, for [ParseCA].
func (ca *CA) MarshalPEM() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, refuse(ErrCA, "encode the key: %w", err)
	}
	var b bytes.Buffer
	blocks := []*pem.Block{{Type: pemKey, Bytes: key}, {Type: pemCertificate, Bytes: ca.cert.Raw}}
	for _, r := range ca.previous {
		blocks = append(blocks,
			&pem.Block{Type: pemCertificate, Bytes: r.cert.Raw},
			&pem.Block{
				Type:    pemEndorsement,
				Headers: map[string]string{pemScheme: fmt.Sprintf("0x%04X", uint16(r.scheme))},
				Bytes:   r.endorsement,
			})
	}
	for _, block := range blocks {
		if err := pem.Encode(&b, block); err != nil {
			return nil, refuse(ErrCA, "%w", err)
		}
	}
	return b.Bytes(), nil
}

// ParseCA reads what [CA.MarshalPEM] wrote. It checks that all parts belong
// together.
func ParseCA(text []byte) (*CA, error) {
	if len(text) > maxCAFile {
		return nil, refuse(ErrCA, "file of %d octets; the limit is %d", len(text), maxCAFile)
	}
	var blocks []*pem.Block
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) != 0 {
				return nil, refuse(ErrCA, "the file holds something besides PEM blocks")
			}
			break
		}
		blocks = append(blocks, block)
	}
	n := len(blocks)
	if n < 2 || n%2 != 0 || n > 2*MaxCAs || blocks[0].Type != pemKey || blocks[1].Type != pemCertificate {
		return nil, refuse(ErrCA, "the file does not start with a PRIVATE KEY and its CERTIFICATE, or has a wrong number of blocks")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(blocks[0].Bytes)
	if err != nil {
		return nil, refuse(ErrCA, "private key: %w", err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, refuse(ErrCA, "a key of type %T cannot sign", parsed)
	}
	cert, err := parseCertificate(blocks[1].Bytes)
	if err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	if len(cert.PermittedURIDomains) != 1 {
		return nil, refuse(ErrCA, "the certificate is not for one domain")
	}
	var previous []retired
	for i := 2; i < n; i += 2 {
		if blocks[i].Type != pemCertificate || blocks[i+1].Type != pemEndorsement {
			return nil, refuse(ErrCA, "an earlier CA is not a CERTIFICATE with a %s", pemEndorsement)
		}
		scheme, err := strconv.ParseUint(blocks[i+1].Headers[pemScheme], 0, 16)
		if err != nil {
			return nil, refuse(ErrCA, "scheme of an endorsement: %w", err)
		}
		earlier, err := parseCertificate(blocks[i].Bytes)
		if err != nil {
			return nil, refuse(ErrCA, "%w", err)
		}
		previous = append(previous, retired{earlier, tls.SignatureScheme(scheme), blocks[i+1].Bytes})
	}
	return newCA(cert.PermittedURIDomains[0], key, blocks[1].Bytes, previous)
}

// Save writes the CA to a file that only its owner may read (0600), so that
// after a crash either the old or the new content is there, durably.
func (ca *CA) Save(path string) error {
	text, err := ca.MarshalPEM()
	if err != nil {
		return err
	}
	if err := writeFile(path, text); err != nil {
		return refuse(ErrCA, "save %s: %w", path, err)
	}
	return nil
}

// LoadCA reads a CA from a file of [CA.Save]. It refuses a file that others
// than its owner may access.
func LoadCA(path string) (*CA, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, refuse(ErrCA, "%s holds a private key and is open to others (mode %04o): run chmod 600 on it", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCAFile+1))
	if err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	ca, err := ParseCA(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ca, nil
}

// writeFile replaces the file at path by one of mode 0600.
func writeFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	renamed := false
	defer func() {
		if err != nil && !renamed {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	renamed = true
	if runtime.GOOS == "windows" { // directories cannot be synced
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
