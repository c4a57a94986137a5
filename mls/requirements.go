package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// Requirements is what the extensions of a GroupContext ask of every member,
// beyond the support of these extensions themselves (RFC 9420 section 11.1,
// mls-extensions sections 5 and 6.2).
type Requirements struct {
	Capabilities RequiredCapabilities // required_capabilities
	WireFormats  WireFormats          // required_wire_formats
	Components   ComponentsList       // app_components
	SafeAAD      ComponentsList       // safe_aad: components whose authenticated data is understood
	MediaTypes   MediaTypeList        // content_media_types
}

// Requirements decodes what x, the extensions of a GroupContext, requires.
func (x Extensions) Requirements() (Requirements, error) {
	d, err := x.Dictionary()
	if err != nil {
		return Requirements{}, err
	}
	return x.requirements(d)
}

// requirements is Requirements for a dictionary that was decoded.
func (x Extensions) requirements(d AppDataDictionary) (r Requirements, err error) {
	if r.Capabilities, err = x.RequiredCapabilities(); err != nil {
		return r, err
	}
	if r.WireFormats, err = x.RequiredWireFormats(); err != nil {
		return r, err
	}
	if r.Components, err = d.Components(); err != nil {
		return r, err
	}
	if r.SafeAAD, _, err = d.SafeAADComponents(); err != nil {
		return r, err
	}
	r.MediaTypes, _, err = d.MediaTypes()
	return r, err
}

// Check reports, as an error that matches ErrCapabilities, what leaf lacks.
func (r *Requirements) Check(leaf *LeafNode) error {
	if what := supportOf(leaf).missing(r); what != "" {
		return fmt.Errorf("%w: the client does not support %s, which the group requires", ErrCapabilities, what)
	}
	return nil
}

// Requirements returns what the group requires of every member.
func (s *State) Requirements() *Requirements { return &s.params.requires }

// SupportedWireFormats decodes the supported_wire_formats extension of x, the
// extensions of a LeafNode: wire formats beyond those of RFC 9420 (mls-extensions
// section 5). It is empty where there is none.
func (x Extensions) SupportedWireFormats() (WireFormats, error) {
	return x.wireFormats(ExtensionSupportedWireFormats, "supported_wire_formats")
}

// RequiredWireFormats decodes the required_wire_formats extension of x, the
// extensions of a GroupContext (mls-extensions section 5). It is empty where
// there is none.
func (x Extensions) RequiredWireFormats() (WireFormats, error) {
	return x.wireFormats(ExtensionRequiredWireFormats, "required_wire_formats")
}

func (x Extensions) wireFormats(t ExtensionType, name string) (WireFormats, error) {
	data, ok := x.Find(t)
	if !ok {
		return nil, nil
	}
	var f WireFormats
	if err := tlspl.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("mls: %s extension: %w", name, err)
	}
	return f, nil
}

// isDefault reports whether every client supports f without saying so.
func (f WireFormat) isDefault() bool { return f >= WirePublicMessage && f <= WireKeyPackage }

// Dictionary decodes the app_data_dictionary extension of a KeyPackage. That
// of its leaf is another.
func (kp *KeyPackage) Dictionary() (AppDataDictionary, error) { return kp.Extensions.Dictionary() }

// Dictionary decodes the app_data_dictionary extension of a GroupContext.
func (c *GroupContext) Dictionary() (AppDataDictionary, error) { return c.Extensions.Dictionary() }

// Dictionary decodes the app_data_dictionary extension of a GroupInfo itself:
// data for those who join. That of its GroupContext is another.
func (gi *GroupInfo) Dictionary() (AppDataDictionary, error) { return gi.Extensions.Dictionary() }

// WithDictionary returns a copy of x whose app_data_dictionary extension is d.
func (x Extensions) WithDictionary(d AppDataDictionary) (Extensions, error) {
	data, err := tlspl.Marshal(d)
	if err != nil {
		return nil, err
	}
	return x.Set(ExtensionAppDataDictionary, data), nil
}

// checkLeafDictionary decodes what a leaf says of itself in extensions that
// this package knows, so that nothing malformed comes into a tree.
func checkLeafDictionary(leaf *LeafNode) error {
	if _, err := leaf.Extensions.SupportedWireFormats(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidKeyPackage, err)
	}
	d, err := leaf.Dictionary()
	if err == nil {
		_, err = d.Components()
	}
	if err == nil {
		_, _, err = d.SafeAADComponents()
	}
	if err == nil {
		_, _, err = d.MediaTypes()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidKeyPackage, err)
	}
	return nil
}

// ownComponents is the app_components entry of a client that supports no
// component but those that come with the extension.
var ownComponents = ComponentsList{ComponentAppComponents, ComponentSafeAAD}

// advertised returns the extensions of an own leaf: one that supports the
// app_data_dictionary extension must have the app_components component
// (mls-extensions section 4.6), which is added if x lacks it.
func advertised(caps *Capabilities, x Extensions) (Extensions, error) {
	if !caps.SupportsExtension(ExtensionAppDataDictionary) {
		return x, nil
	}
	d, err := x.Dictionary()
	if err != nil {
		return nil, err
	}
	if _, ok := d.Get(ComponentAppComponents); ok {
		return x, nil
	}
	data, err := tlspl.Marshal(ownComponents)
	if err != nil {
		return nil, err
	}
	return x.WithDictionary(d.Set(ComponentAppComponents, data))
}
