package mls

import "fmt"

// LastResort reports whether the KeyPackage may be used more than once, when
// no other is left (mls-extensions section 6.4). The mark is signed, so that
// the members of a group can judge an Add by it, too.
func (kp *KeyPackage) LastResort() bool {
	d, err := kp.Dictionary()
	if err != nil {
		return false
	}
	_, ok := d.Get(ComponentLastResortKeyPackage)
	return ok
}

// withLastResort returns the extensions of a KeyPackage with the mark.
func (x Extensions) withLastResort() (Extensions, error) {
	d, err := x.Dictionary()
	if err != nil {
		return nil, err
	}
	return x.WithDictionary(d.Set(ComponentLastResortKeyPackage, nil))
}

// checkDictionary verifies the application data of a KeyPackage: the mark of
// a last resort has no data.
func (kp *KeyPackage) checkDictionary() error {
	d, err := kp.Dictionary()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidKeyPackage, err)
	}
	if data, ok := d.Get(ComponentLastResortKeyPackage); ok && len(data) > 0 {
		return fmt.Errorf("%w: last_resort_key_package with %d octets of data", ErrInvalidKeyPackage, len(data))
	}
	return nil
}

// Joined is to be called after JoinWelcome with kp, once the new group is
// stored. Unless kp is a last resort it destroys the keys and returns true:
// whoever stored them deletes them, so that the Welcome cannot be opened again
// (RFC 9420 section 12.4.3.1). The keys of a last resort stay until it is
// replaced; a member that joined by it should soon commit with a path, since
// its leaf has the same encryption key in every such group.
func (p *KeyPackagePrivate) Joined(kp *KeyPackage) (destroyed bool) {
	if kp.LastResort() {
		return false
	}
	p.Wipe()
	return true
}
