/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The init of vmm_cases.c's guests. Some times a second it tries its disk, if it has one, and says
 * on the serial port: "tick NUMBER free KIB first ERROR last ERROR write ERROR", where an error is
 * that of reading the disk's first block, its last one, and of writing one in its middle.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096

static unsigned long free_kib(void)
{
	unsigned long kib = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && !kib && fgets(line, sizeof(line), f))
		sscanf(line, "MemFree: %lu", &kib);
	if (f)
		fclose(f);
	return kib;
}

static int try_read(int fd, void *block, off_t at)
{
	ssize_t n = pread(fd, block, BLOCK, at);

	return n == BLOCK ? 0 : n < 0 ? errno : EPIPE;
}

static int try_write(int fd, void *block, off_t at)
{
	ssize_t n = pwrite(fd, block, BLOCK, at);

	return n == BLOCK && fsync(fd) == 0 ? 0 : errno;
}

int main(void)
{
	static uint8_t block[BLOCK] __attribute__((aligned(BLOCK)));
	int disk, tty, first = 0, last = 0, write_error = 0;
	off_t bytes = 0, at;

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	tty = open("/dev/ttyS0", O_WRONLY);
	disk = open("/dev/vda", O_RDWR | O_DIRECT);
	if (disk >= 0)
		bytes = lseek(disk, 0, SEEK_END);
	for (unsigned long n = 1;; n++) {
		if (disk >= 0) {
			/* Other places each time: what the host has in its cache stays. */
			at = (off_t)(n * BLOCK) % (bytes / 4);
			first = try_read(disk, block, 0);
			last = try_read(disk, block, bytes - BLOCK - at);
			memset(block, (int)n, sizeof(block));
			write_error = try_write(disk, block, bytes / 2 + at);
		}
		dprintf(tty, "tick %lu free %lu first %d last %d write %d\n", n, free_kib(),
			first, last, write_error);
		usleep(50000);
	}
}
