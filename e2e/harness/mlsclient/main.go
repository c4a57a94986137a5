// Command mlsclient is Comity's MLS as a client under test of the MLS working
// group's interop harness: a gRPC server with the service MLSClient. It is
// for tests only: whoever reaches it may read every secret.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "mlsclient:", err)
		os.Exit(1)
	}
}

// errUsage means that the command line is wrong; what is wrong was said.
var errUsage = errors.New("wrong command line")

// run serves until ctx ends. It says on stdout where it listens.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("mlsclient", flag.ContinueOnError)
	flags.SetOutput(stderr)
	host := flags.String("host", "127.0.0.1", "address to listen on; whoever reaches it may read every secret")
	port := flags.Uint("port", 50051, "TCP port to listen on; 0: any that is free")
	plain := flags.Bool("no-padding", false, "do not pad what is encrypted, for stacks that cannot read it")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return errUsage
	}
	if flags.NArg() > 0 || *port > 0xffff {
		fmt.Fprintln(stderr, "usage: mlsclient [--host address] [--port 0…65535] [--no-padding]")
		return errUsage
	}
	l, err := net.Listen("tcp", net.JoinHostPort(*host, strconv.FormatUint(uint64(*port), 10)))
	if err != nil {
		return fmt.Errorf("%w: choose another address with --host or --port", err)
	}
	fmt.Fprintln(stdout, "listening on", l.Addr())
	return serve(ctx, l, newServer(!*plain))
}
