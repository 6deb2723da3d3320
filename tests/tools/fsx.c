/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on a file, each checked against a copy in memory:
 *
 *	fsx [-n OPERATIONS] [-s SEED] [-z SIZE] FILE
 *
 * Reads, writes, maps, truncates, punches holes, allocates, appends, copies ranges, closes and
 * opens again. TAP on standard output; the seed is printed, and repeats a run. The file is removed
 * after a good run and left behind after a bad one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef FALLOC_FL_ZERO_RANGE
#define FALLOC_FL_ZERO_RANGE 0x10
#endif

#define LOG_SIZE 20u

/* What was done, for the report of a failure. */
struct step {
	const char *what;
	size_t offset, len;
};

static struct {
	const char *path;
	int fd;
	uint8_t *model, *buf;
	size_t max, size; /* the most the file may have; what it has */
	uint64_t random;
	struct step log[LOG_SIZE];
	unsigned long step;
} x;

static uint64_t next_random(void)
{
	x.random ^= x.random << 13;
	x.random ^= x.random >> 7;
	x.random ^= x.random << 17;
	return x.random * 0x2545f4914f6cdd1dull >> 16;
}

static size_t below(size_t n)
{
	return n > 0 ? (size_t)(next_random() % n) : 0;
}

static bool bad(const char *what, size_t at)
{
	printf("# %s at offset %zu in step %lu: %s\n", what, at, x.step, strerror(errno));
	for (unsigned int i = 0; i < LOG_SIZE && i < x.step; i++) {
		const struct step *s = &x.log[(x.step - i) % LOG_SIZE];

		printf("# step %lu: %s %zu+%zu\n", x.step - i, s->what, s->offset, s->len);
	}
	return false;
}

static bool same(const uint8_t *got, size_t offset, size_t len)
{
	errno = 0;
	if (memcmp(got, x.model + offset, len) == 0)
		return true;
	while (*got == x.model[offset]) {
		got++;
		offset++;
	}
	return bad("wrong data", offset);
}

static void fill(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(next_random() | 1);
}

/* ---- operations: each is given a place inside [0, max) ---- */

static bool do_read(size_t offset, size_t len)
{
	size_t want = offset < x.size ? x.size - offset : 0;
	ssize_t n = pread(x.fd, x.buf, len, (off_t)offset);

	if (want > len)
		want = len;
	if (n != (ssize_t)want)
		return bad("short read", offset);
	return same(x.buf, offset, want);
}

static void model_write(size_t offset, size_t len)
{
	if (offset + len > x.size)
		x.size = offset + len;
}

static bool do_write(size_t offset, size_t len)
{
	fill(x.model + offset, len);
	model_write(offset, len);
	if (pwrite(x.fd, x.model + offset, len, (off_t)offset) != (ssize_t)len)
		return bad("short write", offset);
	return true;
}

static bool do_append(size_t offset, size_t len)
{
	int fd;
	bool ok;

	if (x.size + len > x.max)
		return true;
	fd = open(x.path, O_WRONLY | O_APPEND);
	fill(x.model + x.size, len);
	ok = fd >= 0 && write(fd, x.model + x.size, len) == (ssize_t)len;
	x.size += len;
	if (fd >= 0)
		close(fd);
	return ok ? true : bad("append", offset);
}

static bool do_truncate(size_t offset, size_t len)
{
	if (offset < x.size)
		memset(x.model + offset, 0, x.size - offset);
	x.size = offset;
	if ((len & 1 ? truncate(x.path, (off_t)offset) : ftruncate(x.fd, (off_t)offset)) < 0)
		return bad("truncate", offset);
	return true;
}

static bool do_map(size_t offset, size_t len, bool write)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), start = offset & ~(page - 1);
	uint8_t *map;
	bool ok = true;

	if (offset >= x.size)
		return true;
	if (len > x.size - offset)
		len = x.size - offset;
	map = mmap(NULL, offset + len - start, write ? PROT_READ | PROT_WRITE : PROT_READ,
		   MAP_SHARED, x.fd, (off_t)start);
	if (map == MAP_FAILED)
		return bad("mmap", offset);
	if (write) {
		fill(x.model + offset, len);
		memcpy(map + (offset - start), x.model + offset, len);
		if (below(3) == 0 && msync(map, offset + len - start, MS_SYNC) < 0)
			ok = bad("msync", offset);
	} else {
		ok = same(map + (offset - start), offset, len);
	}
	munmap(map, offset + len - start);
	return ok;
}

static bool do_map_read(size_t offset, size_t len)
{
	return do_map(offset, len, false);
}

static bool do_map_write(size_t offset, size_t len)
{
	return do_map(offset, len, true);
}

static bool do_fallocate(size_t offset, size_t len, int mode)
{
	size_t in = offset < x.size ? x.size - offset : 0;

	if (fallocate(x.fd, mode, (off_t)offset, (off_t)len) < 0)
		return errno == EOPNOTSUPP ? true : bad("fallocate", offset);
	if (in > len)
		in = len;
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0)
		memset(x.model + offset, 0, in);
	if ((mode & FALLOC_FL_KEEP_SIZE) == 0)
		model_write(offset, len);
	return true;
}

static bool do_punch(size_t offset, size_t len)
{
	return do_fallocate(offset, len, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static bool do_zero(size_t offset, size_t len)
{
	return do_fallocate(offset, len,
			    FALLOC_FL_ZERO_RANGE | (below(2) == 0 ? FALLOC_FL_KEEP_SIZE : 0));
}

static bool do_allocate(size_t offset, size_t len)
{
	return do_fallocate(offset, len, below(2) == 0 ? FALLOC_FL_KEEP_SIZE : 0);
}

static bool do_copy(size_t offset, size_t len)
{
	size_t to = below(x.max - len), done = 0;

	if (offset + len > x.size || (to < offset + len && offset < to + len))
		return true;
	while (done < len) {
		int64_t in = (int64_t)(offset + done), out = (int64_t)(to + done);
		long n = syscall(SYS_copy_file_range, x.fd, &in, x.fd, &out, len - done, 0);

		if (n <= 0)
			return errno == EOPNOTSUPP || errno == ENOSYS ? true : bad("copy", offset);
		memcpy(x.model + to + done, x.model + offset + done, (size_t)n);
		model_write(to + done, (size_t)n);
		done += (size_t)n;
	}
	return true;
}

static bool do_stat(size_t offset, size_t len)
{
	struct stat st;

	if ((len & 1 ? stat(x.path, &st) : fstat(x.fd, &st)) < 0 || st.st_size != (off_t)x.size)
		return bad("wrong size", (size_t)st.st_size);
	return true;
}

static bool do_reopen(size_t offset, size_t len)
{
	close(x.fd);
	x.fd = open(x.path, O_RDWR);
	return x.fd >= 0 ? true : bad("open", offset);
}

static bool do_sync(size_t offset, size_t len)
{
	return (len & 1 ? fsync(x.fd) : fdatasync(x.fd)) == 0 ? true : bad("fsync", offset);
}

static const struct {
	const char *name;
	bool (*run)(size_t offset, size_t len);
	unsigned int weight;
} operations[] = {
	{ "read", do_read, 20 },	 { "write", do_write, 20 },
	{ "map-read", do_map_read, 12 }, { "map-write", do_map_write, 12 },
	{ "truncate", do_truncate, 5 },	 { "append", do_append, 5 },
	{ "punch", do_punch, 5 },	 { "zero", do_zero, 5 },
	{ "allocate", do_allocate, 4 },	 { "copy", do_copy, 5 },
	{ "stat", do_stat, 5 },		 { "reopen", do_reopen, 3 },
	{ "sync", do_sync, 1 },
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static bool one_step(void)
{
	size_t total = 0, pick, i = 0, len = 1 + below(below(4) == 0 ? x.max / 2 : 5000);
	size_t offset = below(x.max - len);
	struct step *s = &x.log[++x.step % LOG_SIZE];

	for (size_t k = 0; k < N_OPERATIONS; k++)
		total += operations[k].weight;
	pick = below(total);
	while (pick >= operations[i].weight)
		pick -= operations[i++].weight;
	*s = (struct step){ operations[i].name, offset, len };
	errno = 0;
	return operations[i].run(offset, len);
}

static bool run(unsigned long steps)
{
	unsigned long i = 0;

	x.fd = open(x.path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (x.fd < 0)
		return bad("open", 0);
	while (i < steps && one_step())
		i++;
	if (i < steps || !do_reopen(0, 0) || !do_read(0, x.max) || !do_stat(0, 1))
		return false;
	close(x.fd);
	unlink(x.path);
	return true;
}

int main(int argc, char **argv)
{
	unsigned long seed = (unsigned long)time(NULL) ^ (unsigned long)getpid() << 16;
	unsigned long steps = 1000;
	bool ok;
	int c;

	x.max = 300000;
	while ((c = getopt(argc, argv, "n:s:z:")) != -1) {
		if (c == 'n')
			steps = strtoul(optarg, NULL, 0);
		else if (c == 's')
			seed = strtoul(optarg, NULL, 0);
		else if (c == 'z')
			x.max = strtoul(optarg, NULL, 0);
		else
			return 2;
	}
	if (optind + 1 != argc || x.max < 20000) {
		fprintf(stderr, "usage: fsx [-n OPERATIONS] [-s SEED] [-z SIZE] FILE\n");
		return 2;
	}
	x.path = argv[optind];
	x.random = seed * 2 + 1;
	x.model = calloc(1, x.max);
	x.buf = malloc(x.max);
	if (x.model == NULL || x.buf == NULL)
		return 1;
	printf("1..1\n");
	ok = run(steps);
	printf("%sok 1 - %lu operations with seed %lu\n", ok ? "" : "not ", x.step, seed);
	free(x.model);
	free(x.buf);
	return ok ? 0 : 1;
}
