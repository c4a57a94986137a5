package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// epochSecrets are the secrets of one epoch that outlive its start (RFC 9420
// section 8). epoch_secret and joiner_secret are wiped once these are
// derived; encryption moves into a secret tree and is wiped there.
type epochSecrets struct {
	senderData    []byte
	encryption    []byte
	exporter      []byte
	external      []byte
	confirmation  []byte
	membership    []byte
	resumption    []byte
	authenticator []byte
	init          []byte
	appExport     []byte // application_export_secret (mls-extensions section 4.4)
}

// wipe destroys all secrets of the epoch.
func (e *epochSecrets) wipe() {
	if e == nil {
		return
	}
	wipe(e.senderData, e.encryption, e.exporter, e.external, e.confirmation,
		e.membership, e.resumption, e.authenticator, e.init, e.appExport)
}

// joinerSecret starts the key schedule of an epoch:
//
//	joiner_secret = ExpandWithLabel(KDF.Extract(init_secret, commit_secret),
//	                                "joiner", GroupContext, KDF.Nh)
func (s *suite) joinerSecret(initSecret, commitSecret, context []byte) ([]byte, error) {
	x := s.extract(initSecret, commitSecret)
	defer wipe(x)
	return s.expandWithLabel(x, "joiner", context, s.nh())
}

// memberSecret combines joiner_secret and psk_secret; welcome_secret and
// epoch_secret derive from it.
func (s *suite) memberSecret(joiner, pskSecret []byte) []byte {
	return s.extract(joiner, pskSecret)
}

// welcomeSecret derives the secret that encrypts a GroupInfo in a Welcome.
func (s *suite) welcomeSecret(joiner, pskSecret []byte) ([]byte, error) {
	m := s.memberSecret(joiner, pskSecret)
	defer wipe(m)
	return s.deriveSecret(m, "welcome")
}

// epochFromJoiner derives the secrets of the epoch that context describes.
func (s *suite) epochFromJoiner(joiner, pskSecret, context []byte) (*epochSecrets, error) {
	m := s.memberSecret(joiner, pskSecret)
	defer wipe(m)
	epoch, err := s.expandWithLabel(m, "epoch", context, s.nh())
	if err != nil {
		return nil, err
	}
	defer wipe(epoch)
	return s.epochFromSecret(epoch)
}

// epochFromSecret derives the secrets of an epoch from its epoch_secret.
func (s *suite) epochFromSecret(epoch []byte) (*epochSecrets, error) {
	e := new(epochSecrets)
	for _, d := range []struct {
		label string
		out   *[]byte
	}{
		{"sender data", &e.senderData},
		{"encryption", &e.encryption},
		{"exporter", &e.exporter},
		{"external", &e.external},
		{"confirm", &e.confirmation},
		{"membership", &e.membership},
		{"resumption", &e.resumption},
		{"authentication", &e.authenticator},
		{"init", &e.init},
		{"application_export", &e.appExport},
	} {
		v, err := s.deriveSecret(epoch, d.label)
		if err != nil {
			e.wipe()
			return nil, err
		}
		*d.out = v
	}
	return e, nil
}

// export is MLS-Exporter (RFC 9420 section 8.5).
func (s *suite) export(exporterSecret []byte, label string, context []byte, n int) ([]byte, error) {
	secret, err := s.deriveSecret(exporterSecret, label)
	if err != nil {
		return nil, err
	}
	defer wipe(secret)
	return s.expandWithLabel(secret, "exported", s.sum(context), n)
}

// welcomeKey derives the AEAD key and nonce of a Welcome's GroupInfo
// (RFC 9420 section 12.4.3.1).
func (s *suite) welcomeKey(welcomeSecret []byte) (key, nonce []byte, err error) {
	if key, err = s.expandWithLabel(welcomeSecret, "key", nil, s.keySize); err != nil {
		return nil, nil, err
	}
	nonce, err = s.expandWithLabel(welcomeSecret, "nonce", nil, nonceSize)
	return key, nonce, err
}

// sealGroupInfo encrypts a GroupInfo for a Welcome.
func (s *suite) sealGroupInfo(welcomeSecret []byte, gi *GroupInfo) ([]byte, error) {
	pt, err := tlspl.Marshal(gi)
	if err != nil {
		return nil, err
	}
	key, nonce, err := s.welcomeKey(welcomeSecret)
	if err != nil {
		return nil, err
	}
	defer wipe(key, nonce)
	aead, err := s.newAEAD(key)
	if err != nil {
		return nil, fmt.Errorf("mls: welcome key: %w", err)
	}
	return aead.Seal(nil, nonce, pt, nil), nil
}

// openGroupInfo decrypts the GroupInfo of a Welcome.
func (s *suite) openGroupInfo(welcomeSecret, ciphertext []byte) (*GroupInfo, error) {
	key, nonce, err := s.welcomeKey(welcomeSecret)
	if err != nil {
		return nil, err
	}
	defer wipe(key, nonce)
	aead, err := s.newAEAD(key)
	if err != nil {
		return nil, fmt.Errorf("mls: welcome key: %w", err)
	}
	pt, err := aead.Open(nil, nonce, ciphertext, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: GroupInfo of the Welcome", ErrDecrypt)
	}
	gi := new(GroupInfo)
	if err := tlspl.Unmarshal(pt, gi); err != nil {
		return nil, fmt.Errorf("mls: GroupInfo of the Welcome: %w", err)
	}
	return gi, nil
}
