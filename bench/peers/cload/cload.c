/* Load generator: closed-loop echo clients over epoll, and rated or idle
 * ones beside them. Prints one JSON line.
 *
 * cload PORT CONNS SIZE SECONDS [RATE [PROCESSES]]
 *   RATE 0 (default): every connection keeps one message in flight.
 *   RATE > 0: every connection sends RATE messages a second at fixed times;
 *   latency counts from the time at which the message was due, so a server
 *   that stalls is charged for all that it delayed.
 *   RATE < 0: -RATE connections are in the loop, the others stay idle.
 *   PROCESSES of them have CONNS connections each, begin together when all
 *   are connected, and print a line each.
 *   With the server's process in BENCH_SERVER_PIDS, "server_cpu" is what it
 *   used between the first and the last message: accepting and closing are
 *   not in it.
 * cload PORT bulk SECONDS: one endless stream, sent and read back. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct { int fd; int got; int waiting; uint64_t due; } conn;

#define SUB 32 /* histogram: 32 steps per power of two */
static uint64_t hist[64 * SUB];
static char out[1 << 20], in[1 << 20];
static int size;

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
static void send_one(conn *c, uint64_t due) {
	c->due = due;
	c->waiting = 1;
	c->got = 0;
	if (write(c->fd, out, size) != size)
		fatal("write");
}

static struct sockaddr_in server;

static int dial(void) {
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	for (int try = 0; connect(fd, (struct sockaddr *)&server, sizeof server); try++) {
		if (try == 200)
			fatal("connect");
		usleep(10000);
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

static int bulk(double seconds) {
	int fd = dial();
	uint64_t end = now() + (uint64_t)(seconds * 1e9), sent = 0, got = 0;
	while (now() < end) {
		struct pollfd p = {fd, POLLIN | POLLOUT, 0};
		poll(&p, 1, 100);
		ssize_t n;
		if (p.revents & POLLIN && (n = recv(fd, in, sizeof in, MSG_DONTWAIT)) > 0)
			got += n;
		if (p.revents & POLLOUT && (n = send(fd, out, sizeof out / 4, MSG_DONTWAIT)) > 0)
			sent += n;
	}
	printf("{\"bulk_mb_per_second\":%.1f}\n", got / seconds / 1e6);
	return 0;
}

/* Processor time of the servers so far, in seconds. */
static double server_cpu(void) {
	double sum = 0;
	for (char *s = getenv("BENCH_SERVER_PIDS"); s && *s; s += strcspn(s, ",") + (s[strcspn(s, ",")] == ',')) {
		clockid_t clock;
		struct timespec t;
		if (clock_getcpuclockid(atoi(s), &clock) == 0 && clock_gettime(clock, &t) == 0)
			sum += t.tv_sec + t.tv_nsec / 1e9;
	}
	return sum;
}

/* Wait until all processes are connected, and the server has accepted. */
static void together(volatile int *connected, int processes) {
	__sync_fetch_and_add(connected, 1);
	for (int tries = 0; *connected < processes; usleep(1000))
		if (++tries > 60000) {
			fprintf(stderr, "the other processes did not connect\n");
			exit(1);
		}
	usleep(200000);
}

int main(int argc, char **argv) {
	server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	if (!strcmp(argv[2], "bulk"))
		return bulk(atof(argv[3]));
	int conns = atoi(argv[2]), rate = argc > 5 ? atoi(argv[5]) : 0, processes = argc > 6 ? atoi(argv[6]) : 1, first = 1;
	volatile int *connected = mmap(0, sizeof *connected, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 1; i < processes && first; i++)
		first = fork() != 0;
	double seconds = atof(argv[4]);
	size = atoi(argv[3]);
	conn *cs = calloc(conns, sizeof *cs);
	int ep = epoll_create1(0), active = rate < 0 ? -rate : conns;
	if (active > conns)
		active = conns;
	for (int i = 0; i < conns; i++) {
		cs[i].fd = dial();
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = &cs[i]};
		if (epoll_ctl(ep, EPOLL_CTL_ADD, cs[i].fd, &e))
			fatal("epoll_ctl");
	}
	together(connected, processes);
	double used = first ? server_cpu() : 0;
	uint64_t start = now(), warm = start + (uint64_t)(seconds * 2e8), end = start + (uint64_t)(seconds * 1e9), total = 0, late = 0, all = 0;
	uint64_t period = rate > 0 ? 1000000000ull / rate : 0, next = start;
	int turn = 0;
	if (rate <= 0)
		for (int i = 0; i < active; i++)
			send_one(&cs[(int64_t)i * conns / active], now());
	struct epoll_event ev[512];
	struct rusage r0, r1;
	getrusage(RUSAGE_SELF, &r0);
	uint64_t t = now(), measured = 0;
	while (t < end) {
		int wait = 100;
		if (rate > 0) { /* connection i is due at start + i * period / conns + k * period */
			while (next <= t) {
				conn *c = &cs[turn];
				if (c->waiting)
					late++; /* still waits for the last: charged below by its own due time */
				else
					send_one(c, next);
				if (++turn == conns)
					turn = 0;
				next += period / conns;
			}
			wait = 0;
			struct timespec ts = {0, next > (t = now()) ? next - t : 0};
			int n = epoll_pwait2(ep, ev, 512, &ts, 0);
			wait = n;
		} else {
			wait = epoll_wait(ep, ev, 512, wait);
		}
		t = now();
		for (int i = 0; i < wait; i++) {
			conn *c = ev[i].data.ptr;
			int n = read(c->fd, in, sizeof in);
			if (n <= 0)
				fatal("server closed");
			c->got += n;
			if (c->got < size)
				continue;
			t = now();
			all++;
			if (t >= warm) {
				if (!measured)
					measured = t;
				count(t - c->due);
				total++;
			}
			c->waiting = 0;
			if (rate <= 0)
				send_one(c, t);
		}
	}
	used = first ? server_cpu() - used : 0;
	getrusage(RUSAGE_SELF, &r1);
	double cpu = r1.ru_utime.tv_sec + r1.ru_stime.tv_sec - r0.ru_utime.tv_sec - r0.ru_stime.tv_sec + (r1.ru_utime.tv_usec + r1.ru_stime.tv_usec - r0.ru_utime.tv_usec - r0.ru_stime.tv_usec) / 1e6;
	printf("{\"conns\":%d,\"size\":%d,\"messages\":%lu,\"all\":%lu,\"per_second\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"late\":%lu,\"load_cpu\":%.3f,\"server_cpu\":%.4f,\"seconds\":%.2f}\n",
		conns, size, total, all, total / ((end - warm) / 1e9), quantile(total, .5), quantile(total, .99), quantile(total, .999), late, cpu, used, (end - start) / 1e9);
	fflush(stdout);
	for (int failed; first && wait(&failed) > 0;)
		if (failed)
			return 1;
	return 0;
}
