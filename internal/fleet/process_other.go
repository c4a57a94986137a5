//go:build !linux

package fleet

import "syscall"

// processAttributes puts the process into a group of its own.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
