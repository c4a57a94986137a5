package mls

import (
	"fmt"
	"io"
	"log/slog"
)

// What holds secrets does not print them, whatever the verb, so that they
// cannot get into a log by a careless %v. The methods have value receivers:
// a copy prints no more than a pointer.

// redact prints a type's name and what of it may be read.
func redact(f fmt.State, format string, args ...any) {
	_, _ = io.WriteString(f, "mls."+fmt.Sprintf(format, args...)) // fmt keeps no error of a Formatter
}

// Format implements fmt.Formatter. It prints the group, the epoch and the own
// leaf.
func (g Group) Format(f fmt.State, _ rune) {
	if g.state == nil {
		redact(f, "Group{}")
		return
	}
	redact(f, "Group{%x epoch %d leaf %d}", g.state.GroupID(), g.state.Epoch(), g.own)
}

// Format implements fmt.Formatter. It prints no key.
func (p KeyPackagePrivate) Format(f fmt.State, _ rune) { redact(f, "KeyPackagePrivate{redacted}") }

// Format implements fmt.Formatter. It prints the names of the pre-shared keys
// only.
func (s GroupSecrets) Format(f fmt.State, _ rune) {
	redact(f, "GroupSecrets{redacted, %d pre-shared keys}", len(s.PSKs))
}

// Format implements fmt.Formatter. It prints the key, and how long the value
// is, which may be secret.
func (r Record) Format(f fmt.State, _ rune) { redact(f, "Record{%q: %d octets}", r.Key, len(r.Value)) }

// Format implements fmt.Formatter. It prints the epoch and who changes it.
func (sc StagedCommit) Format(f fmt.State, _ rune) {
	if sc.After == nil {
		redact(f, "StagedCommit{}")
		return
	}
	redact(f, "StagedCommit{%x epoch %d by leaf %d: %d proposals}", sc.After.GroupID(), sc.After.Epoch(), sc.Committer, len(sc.Proposals))
}

// Format implements fmt.Formatter. It prints the public key, if there is a new
// one: a verb that does not fit a pointer makes fmt print what is behind it
// without asking the signer.
func (p LeafParams) Format(f fmt.State, _ rune) {
	if p.Signer == nil {
		redact(f, "LeafParams{}")
		return
	}
	redact(f, "LeafParams{signer %x}", p.Signer.Public())
}

// Format implements fmt.Formatter. It prints the public key.
func (k ed25519Signer) Format(f fmt.State, _ rune) { redact(f, "Signer{%x}", k.Public()) }

// Format implements fmt.Formatter. It prints the public key.
func (k ed448Signer) Format(f fmt.State, _ rune) { redact(f, "Signer{%x}", k.Public()) }

// Format implements fmt.Formatter. It prints the public key.
func (k *ecdsaSigner) Format(f fmt.State, _ rune) { redact(f, "Signer{%x}", k.public) }

// LogValue implements slog.LogValuer, for handlers that do not use fmt.
func (p KeyPackagePrivate) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(p)) }

// LogValue implements slog.LogValuer.
func (s GroupSecrets) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// LogValue implements slog.LogValuer.
func (r Record) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }
