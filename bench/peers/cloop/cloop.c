/* The bare epoll echo loop that evloop is measured against: no limits, no
 * timers, no half close, a write that blocks is waited for.
 *
 * cloop [PROCESSES] PORT: more than one share the port by SO_REUSEPORT, a
 * listener each. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char buf[64 << 10];

static int echo(int fd) {
	ssize_t n = read(fd, buf, sizeof buf);
	if (n <= 0)
		return n < 0 && errno == EAGAIN ? 0 : -1;
	for (ssize_t off = 0; off < n;) {
		ssize_t w = write(fd, buf + off, n - off);
		if (w < 0 && errno == EAGAIN) {
			struct pollfd p = {fd, POLLOUT, 0};
			poll(&p, 1, 1000);
		} else if (w < 0) {
			return -1;
		} else {
			off += w;
		}
	}
	return 0;
}

int main(int argc, char **argv) {
	for (int i = argc > 2 ? atoi(argv[1]) : 1; i > 1; i--)
		if (fork() == 0)
			break;
	int ln = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, ep = epoll_create1(0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[argc - 1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	setsockopt(ln, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (argc > 2)
		setsockopt(ln, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	setsockopt(ln, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (bind(ln, (struct sockaddr *)&a, sizeof a) || listen(ln, 4096)) {
		perror("listen");
		return 1;
	}
	struct epoll_event ev[128], e = {.events = EPOLLIN, .data.fd = ln};
	epoll_ctl(ep, EPOLL_CTL_ADD, ln, &e);
	for (;;) {
		int n = epoll_wait(ep, ev, 128, -1);
		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			if (fd != ln) {
				if (echo(fd))
					close(fd);
				continue;
			}
			while ((fd = accept4(ln, 0, 0, SOCK_NONBLOCK)) >= 0) {
				e.data.fd = fd;
				epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
			}
		}
	}
}
