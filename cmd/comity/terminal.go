package main

import (
	"hash/fnv"
	"io"
	"os"

	"golang.org/x/term"
)

// isTerminal reports whether a stream is a terminal and not a pipe or a file.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A palette colours text, or not.
type palette bool

// paletteFor colours what goes to a terminal, unless the user does not want
// that (https://no-color.org).
func paletteFor(w io.Writer) palette {
	return palette(isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paint colours s, which must not come from elsewhere unsanitised.
func (p palette) paint(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// name gives each name a colour of its own.
func (p palette) name(s string) string {
	colours := [...]string{"34", "35", "36", "32", "94", "95", "96", "92"}
	h := fnv.New32a()
	h.Write([]byte(s))
	return p.paint(colours[h.Sum32()%uint32(len(colours))], s)
}
