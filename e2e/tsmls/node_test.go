// Package tsmls plays random groups whose members are of two kinds: those of
// package mls, and those of ts-mls, an independent implementation of RFC 9420
// in TypeScript that runs in Node.js.
package tsmls

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A node is a Node.js process that runs driver.mjs. It answers one request at
// a time.
type node struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// A driverError is what ts-mls refused, in its own words.
type driverError string

func (e driverError) Error() string { return "ts-mls: " + string(e) }

// needNode skips the test, saying why, unless Node.js and the packages are
// there.
func needNode(t *testing.T) {
	t.Helper()
	version, err := exec.Command("node", "--version").Output()
	if err != nil {
		t.Skipf("SKIPPED: no Node.js (%v), so nothing is known about how mls and ts-mls work together: `make prepare` installs it where it may", err)
	}
	var major int
	if _, err := fmt.Sscanf(string(version), "v%d.", &major); err != nil || major < 20 {
		t.Skipf("SKIPPED: ts-mls needs Node.js 20 or later, here is %q, so nothing is known about how mls and ts-mls work together", version)
	}
	if _, err := os.Stat(filepath.Join("node_modules", "ts-mls", "package.json")); err != nil {
		t.Skip("SKIPPED: ts-mls is not installed, so nothing is known about how mls and ts-mls work together: `make prepare` installs it, or `npm ci` in e2e/tsmls")
	}
}

func startNode(t *testing.T) *node {
	t.Helper()
	cmd := exec.Command("node", "driver.mjs")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := &node{cmd: cmd, in: in, out: bufio.NewReaderSize(out, 1<<16)}
	t.Cleanup(func() {
		_ = in.Close() // ends the driver
		if err := cmd.Wait(); err != nil {
			t.Errorf("the driver ended with %v", err)
		}
	})
	return n
}

// params are the fields of a request.
type params map[string]any

// call sends a request and decodes its result into result, which may be nil.
// What ts-mls refused is a driverError.
func (n *node) call(op string, p params, result any) error {
	request := params{"op": op}
	for k, v := range p {
		request[k] = v
	}
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := n.in.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("request to the driver: %w", err)
	}
	line, err := n.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("answer of the driver: %w", err)
	}
	var failed struct{ Error string }
	if err := json.Unmarshal(line, &failed); err != nil {
		return fmt.Errorf("answer of the driver: %w", err)
	}
	if failed.Error != "" {
		return driverError(failed.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(line, result)
}

// refused reports whether err is ts-mls refusing with exactly that text.
func refused(err error, text string) bool {
	var e driverError
	return errors.As(err, &e) && string(e) == text
}

// TestPinned makes sure that what is installed is what package.json pins.
func TestPinned(t *testing.T) {
	needNode(t)
	b, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct{ Dependencies map[string]string }
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	var got struct{ Node, TSMLS string }
	if err := startNode(t).call("version", nil, &got); err != nil {
		t.Fatal(err)
	}
	if got.TSMLS != want.Dependencies["ts-mls"] {
		t.Errorf("ts-mls %s is installed, package.json pins %s: run `npm ci` in e2e/tsmls", got.TSMLS, want.Dependencies["ts-mls"])
	}
	t.Logf("ts-mls %s, Node.js %s", got.TSMLS, got.Node)
}
