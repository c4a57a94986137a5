package fleet

import "syscall"

// processAttributes puts the process into a group of its own, and has the
// kernel end it should we be killed.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
