package sqlite

import (
	"bytes"
	"sync"

	"github.com/comity-im/comity/internal/store"
)

// maxCachedDevices bounds a deviceCache. Beyond it any one is dropped.
const maxCachedDevices = 4096

// A deviceCache holds devices that were read, because every request of a
// client asks for one. This process is the only one that writes (the file is
// locked), so forgetting what was written is enough: a revocation counts from
// the moment PutDevice returns. The zero value is ready.
type deviceCache struct {
	mu      sync.Mutex // guards the rest
	devices map[string]store.Device
	writes  uint64 // how often something was forgotten
}

// get returns a device, or a mark to put it with once it is read.
func (c *deviceCache) get(uri string) (d store.Device, mark uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok = c.devices[uri]
	return copyOf(d), c.writes, ok
}

// put keeps a device unless something was written since the mark: what was
// read may be from before.
func (c *deviceCache) put(d store.Device, mark uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writes != mark {
		return
	}
	if c.devices == nil {
		c.devices = make(map[string]store.Device)
	}
	if len(c.devices) >= maxCachedDevices {
		for uri := range c.devices {
			delete(c.devices, uri)
			break
		}
	}
	c.devices[d.URI] = copyOf(d)
}

// forget is called after a write of a device, whatever came of it.
func (c *deviceCache) forget(uri string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	delete(c.devices, uri)
}

// copyOf keeps the caller's octets apart from those of the cache.
func copyOf(d store.Device) store.Device {
	d.PublicKey, d.Certificate, d.Data = bytes.Clone(d.PublicKey), bytes.Clone(d.Certificate), bytes.Clone(d.Data)
	return d
}
