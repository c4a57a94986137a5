package replica_test

import "github.com/comity-im/comity/mls"

// commitPending commits what is pending, with a fresh path.
var commitPending = mls.CommitOptions{ForcePath: true}
