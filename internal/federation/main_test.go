package federation_test

import (
	"testing"

	"go.uber.org/goleak"
)

// net/http keeps a connection that it refuses open for half a second.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}
