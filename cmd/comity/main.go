// Command comity is a MIMI provider, its clients and its tools in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/comity-im/comity/internal/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode(err, os.Stderr))
}

// run executes one command line.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// exitCode reports err to people and returns 0 for success, 2 for a command
// line or a configuration that is wrong, 1 for everything else.
func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if code := store.Code(err); code != "" { // a word to search the documentation for
		fmt.Fprintf(stderr, "comity: %s: %v\n", code, err)
	} else {
		fmt.Fprintln(stderr, "comity:", err)
	}
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}
