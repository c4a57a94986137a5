package replica_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/comity-im/comity/mls"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// commitPending commits what is pending, with a fresh path.
var commitPending = mls.CommitOptions{ForcePath: true}

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }
