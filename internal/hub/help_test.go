package hub_test

import "github.com/comity-im/comity/internal/tlspl"

type tlsWriter = tlspl.Writer
