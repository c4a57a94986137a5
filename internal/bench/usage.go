package bench

import "errors"

// usage is processor time in seconds, so far.
type usage struct {
	servers   []processUsage
	generator float64
}

type processUsage struct {
	cpu      float64 // seconds, user and system
	resident int64   // octets
	err      error   // not known
}

func (r *run) usage() usage {
	var u usage
	for _, s := range r.servers {
		if s.pid == 0 {
			u.servers = append(u.servers, processUsage{err: errors.New(s.why)})
			continue
		}
		u.servers = append(u.servers, usageOf(s.pid))
	}
	if own := usageOf(ownPID()); own.err == nil {
		u.generator = own.cpu
	}
	return u
}
