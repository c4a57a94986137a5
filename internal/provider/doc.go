// Package provider puts a whole messaging provider together from its parts:
// store, keys, hub, replica, delivery, federation and client API. It is what
// `comity serve` runs, and what tests run many of in one process.
package provider
