package mls

import "fmt"

// An extensionPlace is a structure that holds extensions.
type extensionPlace string

const (
	inKeyPackage   extensionPlace = "KeyPackage"
	inLeafNode     extensionPlace = "LeafNode"
	inGroupContext extensionPlace = "GroupContext"
	inGroupInfo    extensionPlace = "GroupInfo"
)

// placeOf names the one structure in which each extension of RFC 9420 may
// appear (section 17.3, column "Message(s)"). Those of other documents appear
// in several, or are not known here.
var placeOf = map[ExtensionType]extensionPlace{
	ExtensionApplicationID:        inLeafNode,
	ExtensionRatchetTree:          inGroupInfo,
	ExtensionRequiredCapabilities: inGroupContext,
	ExtensionExternalPub:          inGroupInfo,
	ExtensionExternalSenders:      inGroupContext,
}

// validIn reports a type that occurs twice, or one that does not belong
// where x stands: no receiver would look at it there.
func (x Extensions) validIn(here extensionPlace) error {
	for i := range x {
		if place, ok := placeOf[x[i].Type]; ok && place != here {
			return fmt.Errorf("%w: extension %v does not belong into a %s", ErrInvalidMessage, x[i].Type, here)
		}
	}
	return x.Validate()
}
