/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Init of the guests that smolvm is compared with: started by QEMU alone, nothing of smolvm in it.
 *
 * The kernel command line says what to do:
 *   bench=9p:MIB:FILES        mount the 9p share "share" and run /fswork in it
 *   bench=virtiofs:MIB:FILES  the same with virtio-fs
 *   bench=port                serve the virtio-serial port: each request is 16 bytes (operation,
 *                             seven unused, count as u64), then that many bytes. 'E' gives every
 *                             byte back, 'D' takes them and answers with one byte at the end
 * Afterwards the machine is reset.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PORT	   "/dev/vport0p1"
#define PIECE	   32768 /* what the port takes at once */
#define RETRIES	   2000
/* With cache=none Linux 6.12 asks for 4 KiB at a time and is thirty times slower. */
#define NINE_P	   "trans=virtio,version=9p2000.L,msize=512000,cache=mmap"

static void end(void)
{
	fflush(stdout);
	/* What is written to a serial line goes out later. */
	fsync(1);
	sync();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void die(const char *what)
{
	printf("guest: %s: %s\n", what, strerror(errno));
	end();
}

static void share(const char *type, const char *options, const char *mib, const char *files)
{
	int status;
	pid_t pid;

	mkdir("/mnt", 0755);
	if (mount("share", "/mnt", type, 0, options) < 0)
		die("mount");
	pid = fork();
	if (pid == 0) {
		execl("/fswork", "fswork", "/mnt", mib, files, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
		printf("guest: fswork failed\n");
	umount("/mnt");
}

/* The port may be there a moment before it can be opened. */
static int open_port(void)
{
	struct timespec pause_1ms = { 0, 1000000 };

	for (int i = 0; i < RETRIES; i++) {
		int fd = open(PORT, O_RDWR);

		if (fd >= 0)
			return fd;
		nanosleep(&pause_1ms, NULL);
	}
	die(PORT);
	return -1;
}

static void write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t done = write(fd, p, n);

		if (done < 0)
			die("write");
		p += done;
		n -= (size_t)done;
	}
}

static size_t read_some(int fd, char *p, size_t n)
{
	ssize_t got = read(fd, p, n);

	/* 0: the other side has closed it. */
	if (got <= 0)
		end();
	return (size_t)got;
}

static void port(void)
{
	static char piece[PIECE];
	int fd = open_port();

	for (;;) {
		char request[16];
		uint64_t left;

		for (size_t n = 0; n < sizeof(request);)
			n += read_some(fd, request + n, sizeof(request) - n);
		memcpy(&left, request + 8, 8);
		while (left) {
			size_t n = read_some(fd, piece, left < PIECE ? (size_t)left : PIECE);

			left -= n;
			if (request[0] == 'E')
				write_all(fd, piece, n);
		}
		if (request[0] == 'D')
			write_all(fd, "", 1);
	}
}

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
	char line[2048], *what, *mib, *files;

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	dup2(open("/dev/console", O_RDWR), 0);
	dup2(0, 1);
	dup2(0, 2);
	what = job(line, sizeof(line));
	if (!strcmp(what, "port"))
		port();
	mib = strchr(what, ':');
	files = mib ? strchr(mib + 1, ':') : NULL;
	if (files) {
		*mib++ = '\0';
		*files++ = '\0';
		if (!strcmp(what, "9p"))
			share("9p", NINE_P, mib, files);
		else
			share("virtiofs", NULL, mib, files);
	}
	end();
}
