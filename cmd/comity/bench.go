package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/comity-im/comity/internal/bench"
	"github.com/comity-im/comity/internal/provider"
)

func newBench() *cobra.Command {
	var configs []string
	var local, asJSON bool
	cfg := bench.Config{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what providers can do, and what it costs them",
		Long: `Start two providers on this machine, or attach to running ones (--config), fill
a room with members spread over both, and send encrypted messages for a time.
Prints messages and deliveries per second, latency, and the servers' processor
time, memory and disk per message.

Measured: the servers' whole way of a message. It is submitted over HTTPS by a
device at each provider in turn, authorised and ordered by the hub, synced to
disk there and at the other provider, and delivered to every member over a
stream (WebSocket, TLS) of its own. Every frame that arrives is compared with
what was sent: each message must reach each member exactly once and in one
order, or the command fails. Latency is from submission to arrival at a member.

Not measured: the clients. Messages are encrypted before the run, and members
receive but do not decrypt. Devices, streams and checks still share this machine
with the servers, which lowers messages/s and raises latency; "generator" is
their processor time. What carries over to other machines is deliveries per CPU
second of the servers, read from the kernel's accounting (on Linux).

By default each of --in-flight messages is followed by another when all members
have it (closed loop). With --rate messages come due at a steady rate whether or
not earlier ones have arrived (open loop), and latency counts from then.

Ctrl-C while messages are sent ends the run early; the figures so far are
printed. Providers that were attached to keep the room and its users.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if len(configs) > 0 && (local || cfg.Dir != "") {
				return usage(errors.New("--local and --dir are for providers that are started, not with --config"))
			}
			for _, path := range configs {
				c, err := provider.LoadConfig(path)
				if err != nil {
					return usage(err)
				}
				cfg.Providers = append(cfg.Providers, c)
			}
			if len(configs) == 0 {
				cfg.Domains = []string{"a.example", "b.example"}
				if local {
					cfg.Domains = cfg.Domains[:1]
				}
				if cfg.Dir == "" {
					if cfg.Dir, err = os.MkdirTemp("", "comity-bench-"); err != nil {
						return err
					}
					defer func() { err = errors.Join(err, os.RemoveAll(cfg.Dir)) }()
				}
			}
			bar := newProgress(cmd.ErrOrStderr())
			cfg.Progress = bar.show
			res, err := bench.Run(cmd.Context(), cfg)
			bar.close()
			switch {
			case errors.Is(err, bench.ErrConfig):
				return usage(err)
			case err != nil:
				return err
			case asJSON:
				return printJSON(cmd.OutOrStdout(), res)
			}
			return printBench(cmd.OutOrStdout(), res)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&configs, "config", nil, "configuration of a provider that runs on this machine; once or twice, the hub first")
	f.BoolVar(&local, "local", false, "one provider only, no federation")
	f.IntVar(&cfg.Members, "members", 20, fmt.Sprintf("members of the room, in turn at the providers (2 to %d)", bench.MaxMembers))
	f.IntVar(&cfg.InFlight, "in-flight", 32, fmt.Sprintf("messages in flight, or connections with --rate (1 to %d)", bench.MaxInFlight))
	f.Float64Var(&cfg.Rate, "rate", 0, "messages per second (open loop); 0: as fast as they arrive")
	f.DurationVar(&cfg.Duration, "duration", 10*time.Second, fmt.Sprintf("how long to send, at most (to %v)", bench.MaxDuration))
	f.IntVar(&cfg.Messages, "messages", 0, fmt.Sprintf("how many messages to send, at most (to %d); 0: only the time counts", bench.MaxMessages))
	f.IntVar(&cfg.Size, "size", 256, fmt.Sprintf("octets of a message's text (1 to %d)", bench.MaxSize))
	f.BoolVar(&cfg.Link, "link", false, "count the octets between the providers, by a relay in this process")
	f.StringVar(&cfg.Dir, "dir", "", "where the providers store everything, and keep it (default: a temporary folder)")
	jsonFlag(cmd, &asJSON)
	_ = cmd.MarkFlagFilename("config", "toml")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

func printBench(out io.Writer, r *bench.Result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	mode := fmt.Sprintf("%d in flight", r.InFlight)
	if r.Rate > 0 {
		mode = fmt.Sprintf("%g messages/s wanted", r.Rate)
	}
	fmt.Fprintf(w, "%d members, %d providers, texts of %d octets (messages of %.0f), %s\n", r.Members, len(r.Servers), r.Size, r.MessageOctets, mode)
	fmt.Fprintf(w, "%d messages in %.1f s, each delivered to all members exactly once (%d deliveries)", r.Messages, r.Elapsed, r.Deliveries)
	if r.Ended == "interrupted" {
		fmt.Fprint(w, "; interrupted")
	}
	fmt.Fprintln(w)
	if r.Retries > 0 || r.Pending > 0 {
		fmt.Fprintf(w, "%d submissions repeated; %d messages pending for a time\n", r.Retries, r.Pending)
	}
	fmt.Fprintf(w, "\nmessages/s\t%.0f\n", r.MessagesPerSec)
	fmt.Fprintf(w, "deliveries/s\t%.0f\n", r.DeliveriesPerSec)

	fmt.Fprintf(w, "\nlatency, ms\tp50\tp90\tp99\tmax\n")
	row := func(name string, l bench.Latency) {
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%.1f\n", name, l.P50, l.P90, l.P99, l.Max)
	}
	row("accepted", r.Accepted)
	row("delivered", r.Delivery)
	if len(r.Servers) > 1 {
		for _, s := range r.Servers {
			row("  at "+s.Domain, s.Delivery)
		}
	}

	fmt.Fprintf(w, "\nserver\tmembers\tCPU, s\tmemory, MB\tdisk, octets/message\n")
	for _, s := range r.Servers {
		name, cpu, memory := s.Domain, "-", "-"
		if s.Hub {
			name += " (hub)"
		}
		if s.CPU != nil {
			cpu, memory = fmt.Sprintf("%.2f", *s.CPU), fmt.Sprintf("%.0f", float64(s.Memory)/1e6)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.0f\n", name, s.Members, cpu, memory, s.DiskPerMessage)
	}
	if r.CPU != nil {
		fmt.Fprintf(w, "generator\t\t%.2f\n", r.GeneratorCPU)
		fmt.Fprintf(w, "\nserver CPU per message\t%.0f µs\n", r.CPU.PerMessage)
		fmt.Fprintf(w, "server CPU per delivery\t%.1f µs\n", r.CPU.PerDelivery)
		fmt.Fprintf(w, "deliveries per server CPU second\t%.0f\n", r.CPU.DeliveriesPerSec)
	} else {
		fmt.Fprintf(w, "\nserver CPU\tnot known: %s\n", r.CPUUnknown)
	}
	if r.Link != nil {
		fmt.Fprintf(w, "octets between the providers\t%.0f per message (%d from the hub, %d to it)\n", r.Link.PerMessage, r.Link.FromHub, r.Link.ToHub)
	}
	return w.Flush()
}
