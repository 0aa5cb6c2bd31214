//go:build linux

// Command goloop is the bare epoll echo loop in Go that evloop is measured
// against: no feature at all, a partial write is lost. goloop PORT
package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

func main() {
	port, _ := strconv.Atoi(os.Args[1])
	ln, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	_ = unix.SetsockoptInt(ln, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	_ = unix.SetsockoptInt(ln, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if unix.Bind(ln, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}) != nil || unix.Listen(ln, 4096) != nil {
		os.Exit(1)
	}
	ep, _ := unix.EpollCreate1(0)
	_ = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ln, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(ln)})
	ev, buf := make([]unix.EpollEvent, 128), make([]byte, 64<<10)
	for {
		n, _ := unix.EpollWait(ep, ev, -1)
		for i := range max(n, 0) {
			if fd := int(ev[i].Fd); fd == ln {
				for fd, _, err := unix.Accept4(ln, unix.SOCK_NONBLOCK); err == nil; fd, _, err = unix.Accept4(ln, unix.SOCK_NONBLOCK) {
					_ = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
				}
			} else if n, err := unix.Read(fd, buf); n > 0 {
				_, _ = unix.Write(fd, buf[:n])
			} else if err != unix.EAGAIN {
				_ = unix.Close(fd)
			}
		}
	}
}
