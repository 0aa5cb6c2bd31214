/* fdpass/fdrate in C: two processes, blocking sendmsg and recvmsg on a
 * SOCK_SEQPACKET pair, every received descriptor closed.
 *
 *	fdrate -n DESCRIPTORS -batch PER_MESSAGE -size BYTES
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX = 253, MAX_SIZE = 65536 };

static char data[MAX_SIZE];
static union {
	char buf[CMSG_SPACE(sizeof(int) * MAX)];
	struct cmsghdr align;
} control;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void answer(int channel)
{
	if (send(channel, "", 1, 0) != 1)
		fail("answer");
}

static void receive(int channel, long messages, int batch, size_t size)
{
	int fds[MAX];

	answer(channel);
	for (long i = 0; i < messages; i++) {
		struct iovec iov = { data, size };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
			.msg_control = control.buf, .msg_controllen = sizeof control.buf };
		if (recvmsg(channel, &msg, MSG_CMSG_CLOEXEC) != (ssize_t)size)
			fail("recvmsg");
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		if (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC) || !c ||
		    c->cmsg_len != CMSG_LEN(sizeof(int) * batch))
			fail("control data");
		memcpy(fds, CMSG_DATA(c), sizeof(int) * batch);
		for (int k = 0; k < batch; k++)
			if (close(fds[k]) != 0)
				fail("close");
	}
	answer(channel);
}

static void transmit(int channel, long messages, int batch, size_t size)
{
	int fds[MAX];
	int lent = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct timespec start, end;
	char byte;

	for (int k = 0; k < batch; k++)
		fds[k] = lent;
	if (recv(channel, &byte, 1, 0) != 1)
		fail("ready");
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (long i = 0; i < messages; i++) {
		struct iovec iov = { data, size };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
			.msg_control = control.buf, .msg_controllen = CMSG_SPACE(sizeof(int) * batch) };
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * batch);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * batch);
		if (sendmsg(channel, &msg, 0) != (ssize_t)size)
			fail("sendmsg");
	}
	if (recv(channel, &byte, 1, 0) != 1)
		fail("done");
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.0f\n", messages * batch /
		(end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9));
}

int main(int argc, char **argv)
{
	long total = 200000, batch = 1, size = 128;
	int ends[2];

	for (int i = 1; i + 1 < argc; i += 2) {
		long value = atol(argv[i + 1]);
		if (strcmp(argv[i], "-n") == 0)
			total = value;
		else if (strcmp(argv[i], "-batch") == 0)
			batch = value;
		else if (strcmp(argv[i], "-size") == 0)
			size = value;
	}
	if (batch < 1 || batch > MAX || size < 1 || size > MAX_SIZE)
		return 2;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		fail("socketpair");
	pid_t child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		close(ends[0]);
		receive(ends[1], total / batch, batch, size);
		return 0;
	}
	close(ends[1]);
	transmit(ends[0], total / batch, batch, size);
	int status;
	return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
