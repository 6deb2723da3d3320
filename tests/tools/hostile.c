/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's root that attacks the host through the agent's own channel: run inside a machine.
 *
 * hostile garbage|opens|greeting|frames|deaf|off|panic|dial
 *
 * The channel is a port of a virtio console, or the vsock connection on which the agent greeted.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define CHANNEL	  "/dev/vport"
#define SHARE_PORT 0x1000u
#define HELLO_PORT 0xfffu
#define DIALS	   10000

static void fail(const char *what)
{
	perror(what);
	exit(3);
}

/* Whether @fd, of a link's text @target, is the agent's connection to the host. */
static int is_channel(const char *target, int fd)
{
	struct sockaddr_vm peer = { .svm_family = 0 };
	socklen_t len = sizeof(peer);

	if (!strncmp(target, CHANNEL, strlen(CHANNEL)))
		return 1;
	return !strncmp(target, "socket:", 7) &&
	       getpeername(fd, (struct sockaddr *)&peer, &len) == 0 &&
	       peer.svm_family == AF_VSOCK && peer.svm_cid == VMADDR_CID_HOST &&
	       peer.svm_port == HELLO_PORT;
}

/* The agent's open channel: the port itself can be opened only once. */
static int steal(void)
{
	DIR *d = opendir("/proc/1/fd");
	char path[300], target[300];
	int pidfd = (int)syscall(SYS_pidfd_open, 1, 0);
	struct dirent *e;

	while (d && pidfd >= 0 && (e = readdir(d))) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/1/fd/%s", e->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		if (n > 0) {
			int fd = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(e->d_name), 0);

			if (fd >= 0 && is_channel(target, fd))
				return fd;
			if (fd >= 0)
				close(fd);
		}
	}
	fail("stealing the channel");
	return -1;
}

static void put(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n > 0) {
		ssize_t k = write(fd, at, n);

		if (k < 0 && errno != EAGAIN && errno != EINTR)
			fail("writing");
		if (k > 0)
			at += k, n -= (size_t)k;
	}
}

static void frame(int fd, uint8_t type, uint32_t stream, const void *payload, uint16_t len)
{
	uint8_t bytes[8 + 64] = { type, 0, (uint8_t)len, (uint8_t)(len >> 8) };

	memcpy(bytes + 4, &stream, 4);
	memcpy(bytes + 8, payload, len);
	put(fd, bytes, 8u + len);
}

static void garbage(int fd)
{
	uint32_t x = 12345, bytes[4096];

	for (int i = 0; i < 4096; i++)
		bytes[i] = x = x * 1664525 + 1013904223;
	put(fd, bytes, sizeof(bytes));
}

static void opens(int fd)
{
	uint32_t port = SHARE_PORT;

	for (uint32_t i = 0; i < 10000; i++)
		frame(fd, 2, 1000001 + 2 * i, &port, 4);
}

static void greeting(int fd)
{
	uint32_t hello[5] = { 0x4d564d53u, 1, 1, 0, 0 };

	frame(fd, 1, 0, hello, sizeof(hello));
}

/* Frames that are well formed and mean nothing: ends and credit of streams that are not there. */
static void frames(int fd)
{
	uint32_t n = 0xffffffffu;

	for (uint32_t i = 0; i < 1000; i++) {
		frame(fd, 5, 0x10000 + i, &n, 4);
		frame(fd, 6, 0x10000 + i, NULL, 0);
		frame(fd, 7, 0x10000 + i, &n, 4);
	}
}

/* Every port of the host that there might be, again and again: all refused, and nothing else. */
static int dial(void)
{
	for (int i = 0; i < DIALS; i++) {
		struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST };
		int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

		host.svm_port = i % 3 ? SHARE_PORT + (unsigned int)i % 80 : HELLO_PORT;
		if (fd < 0 || connect(fd, (struct sockaddr *)&host, sizeof(host)) == 0)
			fail("a connection that is not refused");
		close(fd);
	}
	return 0;
}

/* Nobody reads the channel any more. */
static void deaf(void)
{
	if (ptrace(PTRACE_ATTACH, 1, 0, 0) < 0)
		fail("ptrace");
	for (;;)
		pause();
}

/* The agent, which is process 1, crashes: the kernel panics. */
static void crash(void)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_ATTACH, 1, 0, 0) < 0 || waitpid(1, NULL, __WALL) < 0 ||
	    ptrace(PTRACE_GETREGS, 1, 0, &regs) < 0)
		fail("ptrace");
	regs.rip = 0;
	regs.orig_rax = (unsigned long long)-1;
	if (ptrace(PTRACE_SETREGS, 1, 0, &regs) < 0 || ptrace(PTRACE_DETACH, 1, 0, 0) < 0)
		fail("ptrace");
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (!strcmp(mode, "deaf"))
		deaf();
	else if (!strcmp(mode, "dial"))
		return dial();
	else if (!strcmp(mode, "off"))
		reboot(RB_AUTOBOOT);
	else if (!strcmp(mode, "panic"))
		crash();
	else if (!strcmp(mode, "garbage"))
		garbage(steal());
	else if (!strcmp(mode, "opens"))
		opens(steal());
	else if (!strcmp(mode, "greeting"))
		greeting(steal());
	else if (!strcmp(mode, "frames"))
		frames(steal());
	else
		return 2;
	sleep(30); /* the machine is expected to end */
	return 0;
}
