package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// clockTicks is USER_HZ, the unit of times in /proc/PID/stat: 100 on every
// architecture that Go has (proc_pid_stat(5)).
const clockTicks = 100

// groupUsage sums what the processes of a group have used so far. With
// resetPeak their peak memory starts anew at what they have now.
func groupUsage(pgid int, resetPeak bool) (usage, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return usage{}, err
	}
	var total usage
	found := false
	for _, dir := range dirs {
		group, cpu, err := readStat(dir)
		if isGone(err) {
			continue
		}
		if err != nil {
			return usage{}, err
		}
		if group != pgid {
			continue
		}
		found = true
		if resetPeak {
			// 5 resets VmHWM (proc_pid_clear_refs(5)).
			if err := os.WriteFile(dir+"/clear_refs", []byte("5"), 0); err != nil && !isGone(err) {
				return usage{}, err
			}
		}
		rss, err := readPeak(dir)
		if err != nil && !isGone(err) {
			return usage{}, err
		}
		total.cpu += cpu
		total.rss += rss
	}
	if !found {
		return usage{}, fmt.Errorf("process group %d is gone", pgid)
	}
	return total, nil
}

// isGone reports an error of a process that ended while it was looked at.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// readStat reads the group and the CPU seconds of a process, with those of
// its children that have ended.
func readStat(dir string) (pgid int, cpu float64, err error) {
	text, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0, 0, err
	}
	// The name in parentheses may hold anything; fields count from 3 after it.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return 0, 0, fmt.Errorf("%s/stat: %d fields", dir, len(fields))
	}
	if pgid, err = strconv.Atoi(fields[5-3]); err != nil {
		return 0, 0, fmt.Errorf("%s/stat: %w", dir, err)
	}
	for _, i := range []int{14, 15, 16, 17} { // utime stime cutime cstime
		ticks, err := strconv.ParseInt(fields[i-3], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s/stat: %w", dir, err)
		}
		cpu += float64(ticks) / clockTicks
	}
	return pgid, cpu, nil
}

// readPeak reads the peak memory of a process in bytes; a zombie has none.
func readPeak(dir string) (int64, error) {
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s/status: %w", dir, err)
			}
			return kib << 10, nil
		}
	}
	return 0, nil
}
