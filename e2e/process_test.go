package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/fleet"
)

// patience bounds each wait for a process. What takes that long has failed.
const patience = 60 * time.Second

// build makes the binary once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "comity-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "comity")
	cmd := exec.Command("go", "build", "-o", path, module+"/cmd/comity")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// built is whether build has run, and so left a folder behind.
var built bool

func TestMain(m *testing.M) {
	code := m.Run()
	if built {
		if path, err := build(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

// binary returns the comity binary: that of COMITY_BINARY, or one built now.
func binary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes; not with -short")
	}
	if path := os.Getenv("COMITY_BINARY"); path != "" {
		return path
	}
	built = true
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// shortDir returns a folder with a path that is short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "comity-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// startFleet runs providers until the test ends.
func startFleet(t *testing.T, binary, dir string, domains ...string) *fleet.Fleet {
	t.Helper()
	f, err := fleet.New(fleet.Config{Binary: binary, Dir: dir, Domains: domains})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, p := range f.Providers {
				t.Logf("the end of the log of %s:\n%s", p.Config.Domain, p.LogTail(4000))
			}
		}
	})
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// A result is how a process ended.
type result struct {
	code        int
	out, errout string
}

// run runs the binary to its end.
func run(t *testing.T, stdin, binary string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errout
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("%v: %v\n%s%s", args, err, out.String(), errout.String())
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errout.String()}
}

// must is run for what has to succeed.
func must(t *testing.T, stdin, binary string, args ...string) result {
	t.Helper()
	r := run(t, stdin, binary, args...)
	if r.code != 0 {
		t.Fatalf("%v ended with %d\nstdout:\n%s\nstderr:\n%s", args, r.code, r.out, r.errout)
	}
	return r
}

// A process is a running binary that is talked to.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{} // closed when it has ended

	mu          sync.Mutex // guards the rest
	out, errout []string
	changed     chan struct{} // closed and replaced with every line
}

// start starts the binary; it is killed when the test ends.
func start(t *testing.T, name, binary string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(binary, args...)
	p := &process{name: name, cmd: cmd, ended: make(chan struct{}), changed: make(chan struct{})}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errout, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { p.read(out, &p.out) })
	readers.Go(func() { p.read(errout, &p.errout) })
	go func() {
		readers.Wait() // before Wait, which closes the pipes
		_ = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails if it has ended, as it should
		<-p.ended
	})
	return p
}

func (p *process) read(r io.Reader, into *[]string) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		p.mu.Lock()
		*into = append(*into, s.Text())
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
}

// write sends lines to the process.
func (p *process) write(t *testing.T, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if _, err := io.WriteString(p.stdin, l+"\n"); err != nil {
			t.Fatalf("%s: %v\n%s", p.name, err, p.dump())
		}
	}
}

// stdout waits for a line of standard output that matches and returns its
// submatches; stderr does the same for standard error.
func (p *process) stdout(t *testing.T, pattern string) []string {
	t.Helper()
	return p.wait(t, &p.out, pattern)
}

func (p *process) stderr(t *testing.T, pattern string) []string {
	t.Helper()
	return p.wait(t, &p.errout, pattern)
}

func (p *process) wait(t *testing.T, lines *[]string, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for ended := false; ; {
		p.mu.Lock()
		changed := p.changed
		for _, l := range *lines {
			if m := re.FindStringSubmatch(l); m != nil {
				p.mu.Unlock()
				return m
			}
		}
		p.mu.Unlock()
		if ended {
			t.Fatalf("%s ended without a line that matches %q:\n%s", p.name, pattern, p.dump())
		}
		select {
		case <-changed:
		case <-p.ended:
			ended = true
		case <-deadline:
			t.Fatalf("%s: no line matches %q after %v:\n%s", p.name, pattern, patience, p.dump())
		}
	}
}

// end closes the input and waits for the end.
func (p *process) end(t *testing.T) result {
	t.Helper()
	_ = p.stdin.Close()
	return p.finish(t)
}

// interrupt sends what Ctrl-C sends and waits for the end.
func (p *process) interrupt(t *testing.T) result {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatalf("%s: %v\n%s", p.name, err, p.dump())
	}
	return p.finish(t)
}

func (p *process) finish(t *testing.T) result {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%s has not ended after %v:\n%s", p.name, patience, p.dump())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return result{p.cmd.ProcessState.ExitCode(), strings.Join(p.out, "\n"), strings.Join(p.errout, "\n")}
}

func (p *process) dump() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("stdout:\n%s\nstderr:\n%s", strings.Join(p.out, "\n"), strings.Join(p.errout, "\n"))
}
