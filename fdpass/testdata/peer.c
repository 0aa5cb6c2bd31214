/* A peer for the interoperation tests: see peerPrograms in interop_test.go. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHANNEL = 3, MAX = 253 };

union control {
	char buf[CMSG_SPACE(sizeof(int) * MAX)];
	struct cmsghdr align;
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void send_files(int count)
{
	char text[] = "from c";
	struct iovec iov = { text, strlen(text) };
	union control control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[MAX];

	for (int i = 0; i < count; i++) {
		fds[i] = memfd_create("peer", 0);
		if (fds[i] < 0 || dprintf(fds[i], "file %d", i) < 0)
			fail("memfd");
	}
	memset(&control, 0, sizeof control);
	msg.msg_control = control.buf;
	msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * count);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
	if (sendmsg(CHANNEL, &msg, 0) != (ssize_t)strlen(text))
		fail("sendmsg");
}

static void recv_files(int count)
{
	char text[100], data[100];
	struct iovec iov = { text, sizeof text - 1 };
	union control control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.buf, .msg_controllen = sizeof control.buf };
	int fds[MAX];

	ssize_t n = recvmsg(CHANNEL, &msg, MSG_CMSG_CLOEXEC);
	if (n <= 0 || msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))
		fail("recvmsg");
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int) * count)) {
		fprintf(stderr, "unexpected control data\n");
		exit(1);
	}
	memcpy(fds, CMSG_DATA(c), sizeof(int) * count);
	printf("%.*s\n", (int)n, text);
	for (int i = 0; i < count; i++) {
		n = pread(fds[i], data, sizeof data, 0);
		if (n < 0)
			fail("pread");
		printf("%.*s\n", (int)n, data);
	}
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	if (strcmp(argv[2], "send") == 0)
		send_files(atoi(argv[3]));
	else
		recv_files(atoi(argv[3]));
	return 0;
}
