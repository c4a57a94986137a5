package mls

import "time"

// Bounds of the decoders. They lie far above what valid messages need.
const (
	maxCertificates    = 32      // certificates of one credential
	maxExtensions      = 1024    // extensions of one list
	maxCommitProposals = 1 << 16 // proposals of one commit; Limits is stricter
	maxPathNodes       = 32      // depth of the largest tree
	maxHashSize        = 64      // octets of a hash, MAC or secret
)

// Limits bounds what a group accepts. A zero field means its default.
//
// To join or follow a group, the signatures of all its leaves are verified.
// Ed25519 and P-256 take less than 0.1 ms each, Ed448 0.2 ms, but P-384
// 0.7 ms and P-521 3 ms: where groups may have these suites, MaxMembers should
// be what the devices can bear, since a tree of 10 000 leaves keeps a core
// busy for 7 s or 30 s.
type Limits struct {
	MaxMembers    int           // members of a group; default 100 000
	MaxProposals  int           // proposals of one epoch or commit; default 1 024
	MaxSkip       uint32        // generations that one message may skip, and skipped keys kept per sender; default 1 024
	PastEpochs    int           // past epochs whose application messages still decrypt; default 3, negative: none
	MaxLifetime   time.Duration // longest lifetime of a KeyPackage; default 91 days, negative: any
	MaxClockSkew  time.Duration // allowed before not_before and after not_after; default 1 hour
	MaxExtensions int           // octets of the GroupContext's extensions; default 4 MiB
}

// withDefaults returns l with every zero field replaced.
func (l Limits) withDefaults() Limits {
	if l.MaxMembers == 0 {
		l.MaxMembers = 100_000
	}
	if l.MaxProposals == 0 {
		l.MaxProposals = 1024
	}
	if l.MaxSkip == 0 {
		l.MaxSkip = 1024
	}
	if l.PastEpochs == 0 {
		l.PastEpochs = 3
	}
	if l.PastEpochs < 0 {
		l.PastEpochs = 0
	}
	if l.MaxLifetime == 0 {
		l.MaxLifetime = 91 * 24 * time.Hour
	}
	if l.MaxClockSkew == 0 {
		l.MaxClockSkew = time.Hour
	}
	if l.MaxExtensions == 0 {
		l.MaxExtensions = 4 << 20
	}
	return l
}
