package store

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// What follows checks requests against the limits, the same for every engine. A
// name is text that every engine can keep: UTF-8 without NUL, since one of
// them can't hold that.

func checkName(what, s string) error {
	if s == "" {
		return fmt.Errorf("%w: %s is empty", ErrInvalid, what)
	}
	return checkText(what, s)
}

func checkText(what, s string) error {
	if len(s) > MaxName {
		return fmt.Errorf("%w: %s has %d bytes, %d are allowed", ErrInvalid, what, len(s), MaxName)
	}
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%w: %s is not UTF-8 text", ErrInvalid, what)
	}
	return nil
}

func checkValue(what string, b []byte) error {
	if len(b) > MaxValue {
		return fmt.Errorf("%w: %s has %d bytes, %d are allowed", ErrInvalid, what, len(b), MaxValue)
	}
	return nil
}

func checkItems(what string, n int) error {
	if n > MaxItems {
		return fmt.Errorf("%w: %d %s, %d are allowed", ErrInvalid, n, what, MaxItems)
	}
	return nil
}

// first gives the first error of several checks.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckName reports whether s can be a name (a URI, a domain, a key), as ErrInvalid.
func CheckName(what, s string) error { return checkName(what, s) }

// CheckValue reports whether b can be a body or value, as ErrInvalid.
func CheckValue(what string, b []byte) error { return checkValue(what, b) }

// Validate checks the request against the limits.
func (r *CreateRoom) Validate() error {
	if err := checkName("hub", r.Hub); err != nil {
		return err
	}
	a := Append{Room: r.Room, Events: r.Events, State: Delta{Put: r.State}, Members: r.Members, Peers: r.Peers, Mail: r.Mail, Requests: r.Requests}
	return a.Validate()
}

// Validate checks the request against the limits.
func (r *Append) Validate() error {
	err := first(
		checkName("room", r.Room),
		checkItems("events", len(r.Events)),
		checkItems("deleted state keys", len(r.State.Delete)),
		checkItems("state records", len(r.State.Put)),
		checkItems("member changes", len(r.Members)),
		checkItems("peer changes", len(r.Peers)),
		ValidateMail(r.Mail),
		ValidateRequests(r.Requests),
	)
	if err != nil {
		return err
	}
	seen := make(map[Hash]bool, len(r.Events))
	for i := range r.Events {
		e := &r.Events[i]
		if err := checkValue("event", e.Body); err != nil {
			return err
		}
		if e.Hash == (Hash{}) {
			continue
		}
		if seen[e.Hash] {
			return fmt.Errorf("%w: two events with one hash", ErrInvalid)
		}
		seen[e.Hash] = true
	}
	for _, k := range r.State.Delete {
		if err := checkName("state key", k); err != nil {
			return err
		}
	}
	for _, kv := range r.State.Put {
		if err := first(checkName("state key", kv.Key), checkValue("state record", kv.Value)); err != nil {
			return err
		}
	}
	for _, m := range r.Members {
		if err := first(checkName("device", m.Device), checkName("user", m.User)); err != nil {
			return err
		}
	}
	for _, p := range r.Peers {
		if err := checkName("domain", p.Domain); err != nil {
			return err
		}
	}
	return nil
}

// Size is about the number of bytes that the request writes.
func (r *Append) Size() int {
	n := 256
	for i := range r.Events {
		n += len(r.Events[i].Body) + 128
	}
	for _, kv := range r.State.Put {
		n += len(kv.Key) + len(kv.Value) + 64
	}
	n += 64 * (len(r.State.Delete) + len(r.Members) + len(r.Peers))
	return n + MailSize(r.Mail) + RequestsSize(r.Requests)
}

// ValidateMail checks mail against the limits.
func ValidateMail(mail []NewMail) error {
	if err := checkItems("pieces of mail", len(mail)); err != nil {
		return err
	}
	for i := range mail {
		m := &mail[i]
		if err := first(checkName("device", m.Device), checkText("room", m.Room), checkValue("mail", m.Body), checkRef(m.KeyPackageRef)); err != nil {
			return err
		}
	}
	return nil
}

// MailSize is about the number of bytes that the mail takes.
func MailSize(mail []NewMail) int {
	n := 0
	for i := range mail {
		n += len(mail[i].Body) + 256
	}
	return n
}

// ValidateRequests checks requests against the limits.
func ValidateRequests(reqs []NewRequest) error {
	if err := checkItems("requests", len(reqs)); err != nil {
		return err
	}
	for i := range reqs {
		r := &reqs[i]
		if err := first(checkName("domain", r.Domain), checkText("room", r.Room), checkText("device", r.Device), checkValue("request", r.Body)); err != nil {
			return err
		}
	}
	return nil
}

// RequestsSize is about the number of bytes that the requests take.
func RequestsSize(reqs []NewRequest) int {
	n := 0
	for i := range reqs {
		n += len(reqs[i].Body) + 256
	}
	return n
}

// Validate checks the user against the limits.
func (u *User) Validate() error {
	return first(checkName("user", u.URI), checkText("name", u.Name), checkValue("data", u.Data))
}

// Validate checks the device against the limits.
func (d *Device) Validate() error {
	return first(checkName("device", d.URI), checkName("user", d.User), checkText("name", d.Name),
		checkValue("public key", d.PublicKey), checkValue("certificate", d.Certificate), checkValue("data", d.Data))
}

// Validate checks the enrolment against the limits.
func (e *Enrolment) Validate() error {
	if e.CodeHash == (Hash{}) {
		return fmt.Errorf("%w: the code hash is empty", ErrInvalid)
	}
	return checkName("user", e.User)
}

func checkRef(ref []byte) error {
	if len(ref) > MaxName {
		return fmt.Errorf("%w: a KeyPackageRef has %d bytes, %d are allowed", ErrInvalid, len(ref), MaxName)
	}
	return nil
}

// ValidateKeyPackages checks KeyPackages against the limits.
func ValidateKeyPackages(device string, kps []KeyPackage) error {
	if err := first(checkName("device", device), checkItems("KeyPackages", len(kps))); err != nil {
		return err
	}
	for i := range kps {
		if len(kps[i].Ref) == 0 {
			return fmt.Errorf("%w: a KeyPackageRef is empty", ErrInvalid)
		}
		if err := first(checkRef(kps[i].Ref), checkValue("KeyPackage", kps[i].Body)); err != nil {
			return err
		}
	}
	return nil
}

// Validate checks the request against the limits.
func (r *ClaimRequest) Validate() error {
	return first(checkName("user", r.User), checkText("room", r.Room), checkItems("cipher suites", len(r.Suites)))
}

// ValidateRoutes checks claim routes against the limits.
func ValidateRoutes(routes []ClaimRoute) error {
	if err := checkItems("routes", len(routes)); err != nil {
		return err
	}
	for i := range routes {
		r := &routes[i]
		if len(r.Ref) == 0 {
			return fmt.Errorf("%w: a KeyPackageRef is empty", ErrInvalid)
		}
		if err := first(checkRef(r.Ref), checkName("target", r.Target), checkText("room", r.Room)); err != nil {
			return err
		}
	}
	return nil
}
