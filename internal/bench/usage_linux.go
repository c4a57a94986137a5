package bench

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/comity-im/comity/internal/admin"
)

// ticksPerSecond is the unit of /proc/<pid>/stat (USER_HZ), the same on all
// architectures that Go runs on.
const ticksPerSecond = 100

func ownPID() int { return os.Getpid() }

// usageOf reads the kernel's accounting of a process (proc(5)).
func usageOf(pid int) (u processUsage) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processUsage{err: err}
	}
	// The second field is the command in parentheses, which may hold anything.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 22 {
		return processUsage{err: fmt.Errorf("/proc/%d/stat is too short", pid)}
	}
	var v [3]int64 // utime (14), stime (15) and rss (24), of which two fields are cut off
	for i, n := range []int{14, 15, 24} {
		if v[i], err = strconv.ParseInt(string(fields[n-3]), 10, 64); err != nil {
			return processUsage{err: fmt.Errorf("/proc/%d/stat: %w", pid, err)}
		}
	}
	return processUsage{cpu: float64(v[0]+v[1]) / ticksPerSecond, resident: v[2] * int64(os.Getpagesize())}
}

// pidOf returns the process that serves the admin socket of a data folder.
func pidOf(dataDir string) (int, error) {
	conn, err := net.Dial("unix", admin.SocketPath(dataDir))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		cred, sockErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err == nil {
		err = sockErr
	}
	if err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}
