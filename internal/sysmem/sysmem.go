// Package sysmem tells how much memory this process may use: that of the machine, or less where a control group of Linux bounds it, as
// containers and batch systems do.
package sysmem

// Total returns the bytes of memory that the process may use in all. Where the system does not tell, that is 4 GiB. Any goroutine may call it.
func Total() int64 {
	if n := total(); n > 0 {
		return n
	}
	return 4 << 30
}

// Available returns the bytes that the system thinks it could still give to the process; 0 where it does not tell. Any goroutine may call it.
func Available() int64 { return available() }
