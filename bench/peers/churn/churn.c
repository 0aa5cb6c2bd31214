/* Load generator: connections that send one message, read the answer and close.
 * Prints one JSON line.
 *
 * churn PORT CONNS SIZE SECONDS
 *   CONNS at a time, each begun when one has ended. Latency runs from connect to
 *   the last byte of the answer. The first fifth is not counted. An answer that
 *   is not the message ends the program with 1.
 *
 * The end that closes first keeps its port for a while, so the clients come from
 * many addresses of the loopback network. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct { int fd, got; uint64_t since; } conn;

#define SUB 32 /* histogram: 32 steps per power of two */
static uint64_t hist[64 * SUB];
static char in[1 << 16], out[1 << 16];
static int size, ep;
static struct sockaddr_in server;

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}
static void count(uint64_t ns) {
	int p = 63 - __builtin_clzll(ns | SUB);
	hist[(p - 5) * SUB + (ns >> (p - 5)) % SUB]++;
}
static double quantile(uint64_t total, double q) {
	uint64_t want = q * total, sum = 0;
	for (int i = 0; i < 64 * SUB; i++)
		if ((sum += hist[i]) > want)
			return (double)((uint64_t)(SUB + i % SUB) << (i / SUB)) / 1000;
	return 0;
}
static void fatal(const char *what) { perror(what); exit(1); }

static void begin(conn *c) {
	static uint32_t from;
	int one = 1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(0x7f000100 + from++ % 200)}};
	c->since = now();
	c->got = 0;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		fatal("socket");
	setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (bind(c->fd, (struct sockaddr *)&a, sizeof a))
		fatal("bind");
	if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
		fatal("connect");
	struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e))
		fatal("epoll_ctl");
}

/* step returns 1 when the answer is there. */
static int step(conn *c, uint32_t events) {
	if (events & EPOLLOUT) {
		if (write(c->fd, out, size) != size)
			fatal("write");
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
		if (epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e))
			fatal("epoll_ctl");
		return 0;
	}
	ssize_t n = read(c->fd, in, size - c->got);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		fatal("the server closed");
	if (memcmp(in, out + c->got, n)) {
		fprintf(stderr, "another answer\n");
		exit(1);
	}
	c->got += n;
	return c->got == size;
}

int main(int argc, char **argv) {
	if (argc != 5)
		return 2;
	server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int conns = atoi(argv[2]);
	double seconds = atof(argv[4]);
	size = atoi(argv[3]);
	if (size < 1 || size > (int)sizeof in || conns < 1)
		return 2;
	for (int i = 0; i < size; i++)
		out[i] = 'a' + i % 26;
	conn *cs = calloc(conns, sizeof *cs);
	ep = epoll_create1(0);
	uint64_t start = now(), warm = start + (uint64_t)(seconds * 2e8), end = start + (uint64_t)(seconds * 1e9), total = 0, t = start;
	for (int i = 0; i < conns; i++)
		begin(&cs[i]);
	struct epoll_event ev[256];
	while (t < end) {
		int n = epoll_wait(ep, ev, 256, 100);
		for (int i = 0; i < n; i++) {
			conn *c = ev[i].data.ptr;
			if (!step(c, ev[i].events))
				continue;
			t = now();
			if (t >= warm) {
				count(t - c->since);
				total++;
			}
			close(c->fd);
			begin(c);
		}
		t = now();
	}
	printf("{\"conns\":%d,\"size\":%d,\"per_second\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f}\n",
		conns, size, total / ((end - warm) / 1e9), quantile(total, .5), quantile(total, .99), quantile(total, .999));
	return 0;
}
