/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Init of the guests in which devices of two VMMs are compared: nothing of smolvm in it.
 *
 * The kernel command line says what to do:
 *   bench=blk:MIB:N    the disk /dev/vda, past the page cache: write and read MIB in pieces of
 *                      1 MiB, then N reads of 4 KiB all over it
 *   bench=vsock        serve AF_VSOCK: port 3 gives every byte back, port 4 takes them
 *   bench=net:MIB:N    with a host at 10.9.9.2: port 5003 gives bytes back, 5004 takes MIB,
 *                      5005 sends MIB: N round trips, then both
 * It prints lines of a name and numbers (nanoseconds, or bytes per second) and resets the machine.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define MIB	  (1u << 20)
#define BLOCK	  4096u
#define PIECE	  65536
#define SAMPLES	  100000
#define GATEWAY	  "10.9.9.2"
#define ADDRESS	  "10.9.9.15"

static char big[MIB] __attribute__((aligned(BLOCK)));
static int64_t took[SAMPLES];

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void end(void)
{
	fflush(stdout);
	fsync(1);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void die(const char *what)
{
	printf("guest: %s: %s\n", what, strerror(errno));
	end();
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void print_times(const char *name, unsigned int n)
{
	qsort(took, n, sizeof(*took), compare);
	printf("%s %lld %lld\n", name, (long long)took[n / 2], (long long)took[n * 99ull / 100]);
}

static void print_rate(const char *name, uint64_t bytes, int64_t since)
{
	printf("%s %.0f\n", name, (double)bytes * 1e9 / (double)(now_ns() - since));
}

/* ---- a disk ---- */

static void blk(unsigned int mib, unsigned int n)
{
	int fd = open("/dev/vda", O_RDWR | O_DIRECT);
	uint64_t at = 0;
	int64_t start = now_ns();

	if (fd < 0)
		die("/dev/vda");
	for (unsigned int i = 0; i < mib; i++)
		if (pwrite(fd, big, MIB, (off_t)i * MIB) != MIB)
			die("write");
	fsync(fd);
	print_rate("blkwrite", (uint64_t)mib * MIB, start);
	start = now_ns();
	for (unsigned int i = 0; i < mib; i++)
		if (pread(fd, big, MIB, (off_t)i * MIB) != MIB)
			die("read");
	print_rate("blkread", (uint64_t)mib * MIB, start);
	for (unsigned int i = 0; i < n; i++) {
		/* A walk that visits every block in an order that no read-ahead knows. */
		at = (at + 7919) % ((uint64_t)mib * MIB / BLOCK);
		start = now_ns();
		if (pread(fd, big, BLOCK, (off_t)(at * BLOCK)) != BLOCK)
			die("read");
		took[i] = now_ns() - start;
	}
	print_times("blkrandom", n);
}

/* ---- vsock ---- */

static void serve_one(int fd, int echo)
{
	ssize_t n;

	while ((n = read(fd, big, PIECE)) > 0)
		for (ssize_t done = 0, k; echo && done < n; done += k) {
			k = write(fd, big + done, (size_t)(n - done));
			if (k < 0)
				return;
		}
}

static void vsock(void)
{
	struct pollfd p[2];

	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < 2; i++) {
		struct sockaddr_vm addr = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY,
					    .svm_port = 3 + (unsigned int)i };

		p[i] = (struct pollfd){ socket(AF_VSOCK, SOCK_STREAM, 0), POLLIN, 0 };
		if (p[i].fd < 0 || bind(p[i].fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		    listen(p[i].fd, 64) < 0)
			die("vsock");
	}
	printf("serving\n");
	fflush(stdout);
	while (poll(p, 2, -1) >= 0)
		for (int i = 0; i < 2; i++) {
			int fd = p[i].revents ? accept(p[i].fd, NULL, NULL) : -1;

			if (fd >= 0 && fork() == 0) {
				serve_one(fd, i == 0);
				_exit(0);
			}
			if (fd >= 0)
				close(fd);
		}
}

/* ---- a network card ---- */

static void set_address(int fd, unsigned long request, const char *text)
{
	struct sockaddr_in *in;
	struct ifreq r = { .ifr_name = "eth0" };

	in = (struct sockaddr_in *)&r.ifr_addr;
	in->sin_family = AF_INET;
	inet_pton(AF_INET, text, &in->sin_addr);
	if (ioctl(fd, request, &r) < 0)
		die("eth0");
}

static void card_up(void)
{
	struct ifreq r = { .ifr_name = "eth0", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	set_address(fd, SIOCSIFADDR, ADDRESS);
	set_address(fd, SIOCSIFNETMASK, "255.255.255.0");
	if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		die("eth0");
	close(fd);
}

static int dial(uint16_t port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, GATEWAY, &addr.sin_addr);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die("connect");
	return fd;
}

static void net(unsigned int mib, unsigned int n)
{
	uint64_t bytes = (uint64_t)mib * MIB;
	int64_t start;
	ssize_t got;
	int fd;

	card_up();
	fd = dial(5003);
	for (unsigned int i = 0; i < n; i++) {
		start = now_ns();
		if (write(fd, big, 1) != 1 || read(fd, big, 1) != 1)
			die("round trip");
		took[i] = now_ns() - start;
	}
	print_times("netrtt", n);
	fd = dial(5004);
	start = now_ns();
	for (uint64_t left = bytes; left; left -= (uint64_t)got) {
		got = write(fd, big, left < PIECE ? left : PIECE);
		if (got <= 0)
			die("send");
	}
	shutdown(fd, SHUT_WR);
	if (read(fd, big, 1) != 1) /* the host has all of it */
		die("send");
	print_rate("netsend", bytes, start);
	fd = dial(5005);
	start = now_ns();
	for (uint64_t left = bytes; left; left -= (uint64_t)got) {
		got = read(fd, big, PIECE);
		if (got <= 0)
			die("receive");
	}
	print_rate("netreceive", bytes, start);
}

/* ---- */

/* What follows "bench=" on the command line, cut at the blank. */
static char *job(char *line, size_t cap)
{
	int fd = open("/proc/cmdline", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, line, cap - 1);
	char *p;

	if (n < 0)
		die("/proc/cmdline");
	line[n] = '\0';
	p = strstr(line, "bench=");
	if (!p)
		return line + n;
	p += 6;
	p[strcspn(p, " \n")] = '\0';
	return p;
}

int main(void)
{
	char line[2048], *what, *rest;
	unsigned int mib = 0, n = 0;

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	dup2(open("/dev/console", O_RDWR), 0);
	dup2(0, 1);
	dup2(0, 2);
	what = job(line, sizeof(line));
	rest = strchr(what, ':');
	if (rest) {
		*rest++ = '\0';
		mib = (unsigned int)strtoul(rest, &rest, 10);
		n = *rest ? (unsigned int)strtoul(rest + 1, NULL, 10) : 1;
		n = n < SAMPLES ? n : SAMPLES;
	}
	if (!strcmp(what, "blk"))
		blk(mib, n);
	else if (!strcmp(what, "net"))
		net(mib, n);
	else if (!strcmp(what, "vsock"))
		vsock();
	end();
}
