package mls

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// ComponentData is the data of one component (mls-extensions section 4.6):
//
//	struct {
//	    ComponentID component_id;
//	    opaque data<V>;
//	} ComponentData;
type ComponentData struct {
	ComponentID ComponentID
	Data        []byte
}

// MarshalTLS implements tlspl.Marshaler.
func (c ComponentData) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(c.ComponentID))
	w.Opaque(c.Data)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (c *ComponentData) UnmarshalTLS(r *tlspl.Reader) {
	c.ComponentID = ComponentID(r.Uint16())
	c.Data = r.Opaque(0)
}

// AppDataDictionary is the content of the app_data_dictionary extension,
// ComponentData component_data<V>, in strictly increasing order of
// ComponentID (mls-extensions section 4.6). Treat it as immutable.
type AppDataDictionary []ComponentData

// MarshalTLS implements tlspl.Marshaler.
func (d AppDataDictionary) MarshalTLS(w *tlspl.Writer) {
	for i := 1; i < len(d); i++ {
		if d[i-1].ComponentID >= d[i].ComponentID {
			w.Fail(fmt.Errorf("%w: app_data_dictionary is not sorted", ErrInvalidMessage))
			return
		}
	}
	tlspl.WriteVector(w, d, func(w *tlspl.Writer, c *ComponentData) { c.MarshalTLS(w) })
}

// UnmarshalTLS implements tlspl.Unmarshaler. It fails unless the entries are
// sorted and unique.
func (d *AppDataDictionary) UnmarshalTLS(r *tlspl.Reader) {
	*d = tlspl.ReadVector(r, 0, func(r *tlspl.Reader, c *ComponentData) { c.UnmarshalTLS(r) })
	for i := 1; i < len(*d); i++ {
		if (*d)[i-1].ComponentID >= (*d)[i].ComponentID {
			r.Failf("component %v after %v in an app_data_dictionary", (*d)[i].ComponentID, (*d)[i-1].ComponentID)
			return
		}
	}
}

func (d AppDataDictionary) search(id ComponentID) (int, bool) {
	return slices.BinarySearchFunc(d, id, func(c ComponentData, id ComponentID) int {
		return int(c.ComponentID) - int(id)
	})
}

// Get returns the data of a component.
func (d AppDataDictionary) Get(id ComponentID) ([]byte, bool) {
	if i, ok := d.search(id); ok {
		return d[i].Data, true
	}
	return nil, false
}

// Set returns a copy of d in which the component has the given data.
func (d AppDataDictionary) Set(id ComponentID, data []byte) AppDataDictionary {
	i, ok := d.search(id)
	out := slices.Clone(d)
	if ok {
		out[i].Data = data
		return out
	}
	return slices.Insert(out, i, ComponentData{id, data})
}

// Without returns a copy of d that lacks the component.
func (d AppDataDictionary) Without(id ComponentID) AppDataDictionary {
	return slices.DeleteFunc(slices.Clone(d), func(c ComponentData) bool { return c.ComponentID == id })
}

// Components decodes the app_components entry: the components that a leaf
// supports, or that a group requires (mls-extensions section 5).
func (d AppDataDictionary) Components() (ComponentsList, error) {
	return d.componentsList(ComponentAppComponents)
}

// SafeAADComponents decodes the safe_aad entry and reports whether there is
// one: in a GroupContext its presence means that authenticated data is a
// SafeAAD.
func (d AppDataDictionary) SafeAADComponents() (ComponentsList, bool, error) {
	_, ok := d.Get(ComponentSafeAAD)
	list, err := d.componentsList(ComponentSafeAAD)
	return list, ok, err
}

func (d AppDataDictionary) componentsList(id ComponentID) (ComponentsList, error) {
	data, ok := d.Get(id)
	if !ok {
		return nil, nil
	}
	var list ComponentsList
	if err := tlspl.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("mls: component list %v: %w", id, err)
	}
	return list, nil
}

// MediaTypes decodes the content_media_types entry and reports whether there
// is one (mls-extensions section 6.2).
func (d AppDataDictionary) MediaTypes() (MediaTypeList, bool, error) {
	data, ok := d.Get(ComponentContentMediaTypes)
	if !ok {
		return nil, false, nil
	}
	var list MediaTypeList
	if err := tlspl.Unmarshal(data, &list); err != nil {
		return nil, true, fmt.Errorf("mls: content_media_types: %w", err)
	}
	return list, true, nil
}

// ComponentsList is a list of components, ComponentID component_ids<V>
// (mls-extensions section 5).
type ComponentsList []ComponentID

// MarshalTLS implements tlspl.Marshaler.
func (l ComponentsList) MarshalTLS(w *tlspl.Writer) { writeUint16s(w, l) }

// UnmarshalTLS implements tlspl.Unmarshaler.
func (l *ComponentsList) UnmarshalTLS(r *tlspl.Reader) { *l = readUint16s[ComponentID](r) }

// AppDataUpdate changes the data of one component (mls-extensions
// section 4.7):
//
//	struct {
//	    ComponentID component_id;
//	    AppDataUpdateOperation op;
//	    select (AppDataUpdate.op) {
//	        case update: opaque update<V>;
//	        case remove: struct{};
//	    };
//	} AppDataUpdate;
type AppDataUpdate struct {
	ComponentID ComponentID
	Op          AppDataOp
	Update      []byte // AppDataOpUpdate
}

// MarshalTLS implements tlspl.Marshaler.
func (u *AppDataUpdate) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(u.ComponentID))
	w.Uint8(uint8(u.Op))
	switch u.Op {
	case AppDataOpUpdate:
		w.Opaque(u.Update)
	case AppDataOpRemove:
	default:
		w.Fail(fmt.Errorf("%w: operation %d of an AppDataUpdate has no encoding", ErrInvalidProposal, u.Op))
	}
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (u *AppDataUpdate) UnmarshalTLS(r *tlspl.Reader) {
	*u = AppDataUpdate{ComponentID: ComponentID(r.Uint16()), Op: AppDataOp(r.Uint8())}
	switch u.Op {
	case AppDataOpUpdate:
		u.Update = r.Opaque(0)
	case AppDataOpRemove:
	default:
		r.Failf("operation %d of an AppDataUpdate", u.Op)
	}
}

// AppEphemeral attaches data of a component to a commit (mls-extensions
// section 4.8):
//
//	struct {
//	    ComponentID component_id;
//	    opaque data<V>;
//	} AppEphemeral;
type AppEphemeral struct {
	ComponentID ComponentID
	Data        []byte
}

// MarshalTLS implements tlspl.Marshaler.
func (e *AppEphemeral) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(e.ComponentID))
	w.Opaque(e.Data)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (e *AppEphemeral) UnmarshalTLS(r *tlspl.Reader) {
	e.ComponentID = ComponentID(r.Uint16())
	e.Data = r.Opaque(0)
}

// SafeAADItem is the authenticated data of one component (mls-extensions
// section 4.9):
//
//	struct {
//	    ComponentID component_id;
//	    opaque aad_item_data<V>;
//	} SafeAADItem;
type SafeAADItem struct {
	ComponentID ComponentID
	Data        []byte
}

// SafeAAD is the form of authenticated_data in groups that have the safe_aad
// component, SafeAADItem aad_items<V>, sorted by component (mls-extensions
// section 4.9). Its items are unique: the draft says "sorted in increasing
// order", which leaves no room for equals.
type SafeAAD []SafeAADItem

// MarshalTLS implements tlspl.Marshaler.
func (a SafeAAD) MarshalTLS(w *tlspl.Writer) {
	for i := 1; i < len(a); i++ {
		if a[i-1].ComponentID >= a[i].ComponentID {
			w.Fail(fmt.Errorf("%w: SafeAAD is not sorted", ErrInvalidMessage))
			return
		}
	}
	tlspl.WriteVector(w, a, func(w *tlspl.Writer, i *SafeAADItem) {
		w.Uint16(uint16(i.ComponentID))
		w.Opaque(i.Data)
	})
}

// UnmarshalTLS implements tlspl.Unmarshaler. It fails unless the items are
// sorted and unique.
func (a *SafeAAD) UnmarshalTLS(r *tlspl.Reader) {
	*a = tlspl.ReadVector(r, 0, func(r *tlspl.Reader, i *SafeAADItem) {
		i.ComponentID = ComponentID(r.Uint16())
		i.Data = r.Opaque(0)
	})
	for i := 1; i < len(*a); i++ {
		if (*a)[i-1].ComponentID >= (*a)[i].ComponentID {
			r.Failf("component %v after %v in a SafeAAD", (*a)[i].ComponentID, (*a)[i-1].ComponentID)
			return
		}
	}
}

// Get returns the item of a component.
func (a SafeAAD) Get(id ComponentID) ([]byte, bool) {
	for i := range a {
		if a[i].ComponentID == id {
			return a[i].Data, true
		}
	}
	return nil, false
}

// ComponentOperationLabel returns the label by which component id separates
// its use of MLS keys from all others (mls-extensions section 4.1):
//
//	struct {
//	    opaque base_label<V>; /* = "MLS Component" */
//	    ComponentID component_id;
//	    opaque label<V>;
//	} ComponentOperationLabel;
func ComponentOperationLabel(id ComponentID, label string) string {
	var w tlspl.Writer
	w.Opaque([]byte("MLS Component"))
	w.Uint16(uint16(id))
	w.Opaque([]byte(label))
	b, err := w.Bytes()
	if err != nil {
		// Only a label of a gibioctet fails; no operation accepts one.
		return ""
	}
	return string(b)
}
