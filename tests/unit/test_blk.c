/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: what a driver gets, and what a hostile one, a failing host or a shrinking file get.
 */
#include "virtio_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "virtio/pool.h"

#define MIB (1u << 20)

#define F_RO	       (1ull << 5)
#define F_FLUSH	       (1ull << 9)
#define F_MQ	       (1ull << 12)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

enum { IN, OUT, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK, IOERR, UNSUPP, PENDING = 0xaa };

struct header {
	uint32_t type, reserved;
	uint64_t sector;
};

struct range {
	uint64_t sector;
	uint32_t sectors, flags;
};

struct t {
	struct vg g;
	int fd; /* a second descriptor of the disk's file */
	int disk_fd;
	bool loop;
};

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 7 + at / 512 * 13 + 1);
}

/* A file of @bytes with the pattern in it, already unlinked. */
static int make_file(const char *folder, uint64_t bytes)
{
	char path[64];
	uint8_t block[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/test-blk-XXXXXX", folder);
	fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	for (uint64_t at = 0; at < bytes; at += sizeof(block)) {
		uint64_t n = bytes - at < sizeof(block) ? bytes - at : sizeof(block);

		for (uint64_t i = 0; i < n; i++)
			block[i] = pattern(at + i);
		assert_int_equal(pwrite(fd, block, n, (off_t)at), n);
	}
	return fd;
}

static void begin(struct t *t, int fd, struct smolvm_vmm_disk config)
{
	struct virtio_device *d;

	vg_init(&t->g, t->loop);
	t->fd = fd;
	t->disk_fd = config.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	assert_int_equal(blk_create(&d, &t->g.env, &config, NULL), 0);
	vg_attach(&t->g, d);
	vg_boot(&t->g, ~0ull, 0);
}

static void end(struct t *t)
{
	vg_fini(&t->g);
	assert_null(t->g.env.pool);
	assert_int_equal(fcntl(t->disk_fd, F_GETFD), -1);
	close(t->fd);
}

struct request {
	uint16_t head;
	uint64_t data_gpa, status_gpa;
};

static uint8_t status_of(struct t *t, const struct request *r)
{
	return *(uint8_t *)vg_ptr(&t->g, r->status_gpa);
}

/* Publish a request with one buffer of @bytes at @gpa. */
static struct request add(struct t *t, unsigned int q, uint32_t type, uint64_t sector, uint64_t gpa,
			  uint32_t bytes)
{
	struct header h = { .type = type, .sector = sector };
	struct vg_buf bufs[3] = { vg_out(&t->g, &h, sizeof(h)) };
	struct request r = { .data_gpa = gpa };
	unsigned int n = 1;

	if (bytes)
		bufs[n++] = (struct vg_buf){ gpa, bytes, type == IN || type == GET_ID };
	bufs[n] = vg_in(&t->g, 1);
	*(uint8_t *)vg_ptr(&t->g, bufs[n].gpa) = PENDING;
	r.status_gpa = bufs[n++].gpa;
	r.head = vg_add(&t->g, q, bufs, n);
	return r;
}

/* One request, there and back. Return: its status. */
static int ask(struct t *t, uint32_t type, uint64_t sector, void *data, uint32_t bytes)
{
	uint64_t brk = t->g.brk, gpa = vg_alloc(&t->g, bytes + 1, 512);
	struct request r;
	uint16_t head = 0;
	uint32_t written = 0;

	if (data && type != IN && type != GET_ID)
		memcpy(vg_ptr(&t->g, gpa), data, bytes);
	r = add(t, 0, type, sector, gpa, bytes);
	vg_kick(&t->g, 0);
	assert_true(vg_wait(&t->g, 0, &head, &written));
	assert_int_equal(head, r.head);
	if (status_of(t, &r) == OK && type == IN)
		assert_int_equal(written, bytes + 1);
	if (status_of(t, &r) == OK && type == OUT)
		assert_int_equal(written, 1);
	if (data && (type == IN || type == GET_ID))
		memcpy(data, vg_ptr(&t->g, gpa), bytes);
	t->g.brk = brk;
	return status_of(t, &r);
}

static void check_pattern(const uint8_t *p, uint64_t at, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (p[i] != pattern(at + i))
			assert_int_equal(p[i], pattern(at + i));
}

static void check_zeroes(const uint8_t *p, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (p[i])
			assert_int_equal(p[i], 0);
}

/* ---- what is offered ---- */

static void test_config(void **state)
{
	struct t *t = *state;
	struct {
		uint64_t capacity;
		uint32_t size_max, seg_max, geometry, blk_size;
		uint8_t rest[36];
	} c;
	uint16_t queues;

	begin(t, make_file("/tmp", MIB + 511), (struct smolvm_vmm_disk){ .queues = 3 });
	vg_config(&t->g, 0, &c, sizeof(c));
	assert_int_equal(c.capacity, 2048);
	assert_int_equal(c.blk_size, 512);
	assert_true(c.seg_max >= 128 && c.size_max >= 65536);
	vg_config(&t->g, 34, &queues, sizeof(queues));
	assert_int_equal(queues, 3);
	assert_true(t->g.features & F_MQ);
	assert_true(t->g.features & F_FLUSH);
	assert_true(t->g.features & F_DISCARD);
	assert_true(t->g.features & F_WRITE_ZEROES);
	assert_false(t->g.features & F_RO);
	vg_config(&t->g, 60, c.rest, 36);
	check_zeroes(c.rest, 36);
	end(t);
}

static void refuse(int fd, struct smolvm_vmm_disk config, int error)
{
	struct virtio_device *d = NULL;
	struct smolvm_error err;
	struct virtio_env env = { 0 };

	config.fd = fd;
	assert_int_equal(blk_create(&d, &env, &config, &err), error);
	assert_null(d);
	if (fd >= 0)
		assert_int_equal(close(fd), 0); /* still ours */
}

static void test_refusals(void **state)
{
	int p[2];

	(void)state;
	refuse(make_file("/tmp", 511), (struct smolvm_vmm_disk){ 0 }, -EINVAL);
	refuse(make_file("/tmp", 0), (struct smolvm_vmm_disk){ 0 }, -EINVAL);
	refuse(make_file("/tmp", 512), (struct smolvm_vmm_disk){ .queues = 9 }, -EINVAL);
	refuse(open("/proc/self/exe", O_RDONLY), (struct smolvm_vmm_disk){ 0 }, -EACCES);
	refuse(open("/proc/self/exe", O_PATH), (struct smolvm_vmm_disk){ .read_only = 1 }, -EACCES);
	refuse(open("/dev/zero", O_RDWR), (struct smolvm_vmm_disk){ 0 }, -EINVAL);
	refuse(open("/tmp", O_RDONLY), (struct smolvm_vmm_disk){ .read_only = 1 }, -EINVAL);
	refuse(-1, (struct smolvm_vmm_disk){ 0 }, -EBADF);
	assert_int_equal(pipe(p), 0);
	close(p[1]);
	refuse(p[0], (struct smolvm_vmm_disk){ .read_only = 1 }, -EINVAL);
}

/* ---- reading and writing ---- */

static void test_data(void **state)
{
	struct t *t = *state;
	uint8_t buf[8192], back[8192];

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	assert_int_equal(ask(t, IN, 5, buf, sizeof(buf)), OK);
	check_pattern(buf, 5 * 512, sizeof(buf));
	assert_int_equal(ask(t, IN, 2047, buf, 512), OK);
	check_pattern(buf, 2047 * 512, 512);
	memset(buf, 'w', sizeof(buf));
	assert_int_equal(ask(t, OUT, 9, buf, sizeof(buf)), OK);
	assert_int_equal(pread(t->fd, back, sizeof(back), 9 * 512), sizeof(back));
	assert_memory_equal(back, buf, sizeof(buf));
	assert_int_equal(ask(t, IN, 8, back, 1536), OK);
	check_pattern(back, 8 * 512, 512);
	assert_memory_equal(back + 512, buf, 1024);
	assert_int_equal(ask(t, FLUSH, 0, NULL, 0), OK);
	assert_int_equal(ask(t, IN, 0, NULL, 0), OK);
	assert_int_equal(ask(t, OUT, 2048, NULL, 0), OK);
	assert_int_equal(t->g.counters.disk_requests, 7);
	assert_int_equal(t->g.counters.disk_bytes, 8192 + 512 + 8192 + 1536);
	end(t);
}

static void test_id(void **state)
{
	struct t *t = *state;
	char first[21] = "", second[21] = "";
	int fd = make_file("/tmp", MIB), other = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	begin(t, fd, (struct smolvm_vmm_disk){ 0 });
	assert_int_equal(ask(t, GET_ID, 0, first, 20), OK);
	assert_int_equal(ask(t, GET_ID, 0, NULL, 19), IOERR);
	assert_int_equal(ask(t, GET_ID, 0, NULL, 40), OK);
	end(t);
	begin(t, other, (struct smolvm_vmm_disk){ 0 });
	assert_int_equal(ask(t, GET_ID, 0, second, 20), OK);
	assert_string_equal(first, second);
	assert_memory_equal(first, "smolvm-", 7);
	end(t);
}

static void test_bad_requests(void **state)
{
	static const uint32_t types[] = { 2, 3, 5, 6, 7, 9, 10, 12, 14, 16, 0x80000000u, ~0u };
	static const struct {
		uint64_t sector;
		uint32_t bytes;
	} ranges[] = { { 2048, 512 },	  { 2047, 1024 },      { ~0ull, 512 }, { 0, 511 },
		       { 1ull << 55, 512 }, { ~0ull - 1, 2048 }, { 0, 513 },	 { 0, MIB + 512 } };
	struct t *t = *state;
	uint8_t back[4096];

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(ask(t, types[i], 0, NULL, 512), UNSUPP);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		assert_int_equal(ask(t, IN, ranges[i].sector, NULL, ranges[i].bytes), IOERR);
		assert_int_equal(ask(t, OUT, ranges[i].sector, NULL, ranges[i].bytes), IOERR);
	}
	assert_int_equal(pread(t->fd, back, sizeof(back), 0), sizeof(back));
	check_pattern(back, 0, sizeof(back));
	assert_false(vg_needs_reset(&t->g));
	end(t);
}

static void test_read_only(void **state)
{
	struct t *t = *state;
	struct range r = { 0, 8, 0 };
	uint8_t buf[512] = { 1 };
	int fd = make_file("/tmp", MIB);

	begin(t, fd, (struct smolvm_vmm_disk){ .read_only = 1 });
	assert_true(t->g.features & F_RO);
	assert_false(t->g.features & (F_DISCARD | F_WRITE_ZEROES));
	assert_int_equal(ask(t, OUT, 0, buf, sizeof(buf)), IOERR);
	assert_int_equal(ask(t, DISCARD, 0, &r, sizeof(r)), UNSUPP);
	assert_int_equal(ask(t, WRITE_ZEROES, 0, &r, sizeof(r)), UNSUPP);
	assert_int_equal(ask(t, FLUSH, 0, NULL, 0), OK);
	assert_int_equal(ask(t, IN, 0, buf, sizeof(buf)), OK);
	check_pattern(buf, 0, sizeof(buf));
	end(t);
}

/* Any split over descriptors is a legal one. */
static void test_splits(void **state)
{
	struct t *t = *state;
	struct header h = { .type = IN, .sector = 3 };
	struct vg_buf bufs[64];
	uint64_t data;
	unsigned int n = 0;

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	for (unsigned int i = 0; i < 16; i++)
		bufs[n++] = vg_out(&t->g, (uint8_t *)&h + i, 1);
	data = vg_alloc(&t->g, 1025, 1);
	bufs[n++] = (struct vg_buf){ data, 1, true };
	bufs[n++] = (struct vg_buf){ data + 1, 511, true };
	bufs[n++] = (struct vg_buf){ data + 512, 513, true }; /* the status at its end */
	*(uint8_t *)vg_ptr(&t->g, data + 1024) = PENDING;
	assert_int_equal(vg_request(&t->g, 0, bufs, n), 1025);
	check_pattern(vg_ptr(&t->g, data), 3 * 512, 1024);
	assert_int_equal(*(uint8_t *)vg_ptr(&t->g, data + 1024), OK);

	h = (struct header){ .type = OUT, .sector = 1 };
	n = 0;
	data = vg_alloc(&t->g, 16 + 512, 1);
	memcpy(vg_ptr(&t->g, data), &h, 16);
	memset(vg_ptr(&t->g, data + 16), 'x', 512);
	bufs[n++] = (struct vg_buf){ data, 5, false };
	bufs[n++] = (struct vg_buf){ data + 5, 100, false };
	bufs[n++] = (struct vg_buf){ data + 105, 16 + 512 - 105, false };
	bufs[n++] = vg_in(&t->g, 7); /* status: the last of them */
	memset(vg_ptr(&t->g, bufs[3].gpa), PENDING, 7);
	vg_request(&t->g, 0, bufs, n);
	assert_int_equal(*(uint8_t *)vg_ptr(&t->g, bufs[3].gpa + 6), OK);
	assert_int_equal(*(uint8_t *)vg_ptr(&t->g, bufs[3].gpa + 5), PENDING);
	assert_int_equal(pread(t->fd, vg_ptr(&t->g, data), 512, 512), 512);
	assert_memory_equal(vg_ptr(&t->g, data), vg_ptr(&t->g, data + 16), 512);
	end(t);
}

/* ---- discard and write zeroes ---- */

static uint64_t blocks_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks;
}

static void test_ranges_in(struct t *t, const char *folder)
{
	struct range ranges[17] = { { 8, 16, 0 }, { 64, 64, 0 } }, r;
	uint64_t before;
	uint8_t buf[32768];

	begin(t, make_file(folder, MIB), (struct smolvm_vmm_disk){ 0 });
	before = blocks_of(t->fd);
	assert_int_equal(ask(t, DISCARD, 0, ranges, 2 * sizeof(r)), OK);
	assert_int_equal(before - blocks_of(t->fd), 80);
	assert_int_equal(ask(t, IN, 8, buf, 8192), OK);
	check_zeroes(buf, 8192);
	assert_int_equal(ask(t, IN, 24, buf, 8192), OK);
	check_pattern(buf, 24 * 512, 8192);

	before = blocks_of(t->fd);
	r = (struct range){ 256, 64, 0 };
	assert_int_equal(ask(t, WRITE_ZEROES, 0, &r, sizeof(r)), OK);
	r = (struct range){ 512, 64, 1 };
	assert_int_equal(ask(t, WRITE_ZEROES, 0, &r, sizeof(r)), OK);
	assert_true(before - blocks_of(t->fd) >= 64);
	r = (struct range){ 1001, 3, 0 };
	assert_int_equal(ask(t, WRITE_ZEROES, 0, &r, sizeof(r)), OK);
	assert_int_equal(ask(t, IN, 256, buf, 32768), OK);
	check_zeroes(buf, 32768);
	assert_int_equal(ask(t, IN, 512, buf, 32768), OK);
	check_zeroes(buf, 32768);
	assert_int_equal(ask(t, IN, 1000, buf, 5 * 512), OK);
	check_pattern(buf, 1000 * 512, 512);
	check_zeroes(buf + 512, 3 * 512);
	check_pattern(buf + 4 * 512, 1004 * 512, 512);

	assert_int_equal(ask(t, DISCARD, 0, ranges, 0), IOERR);
	assert_int_equal(ask(t, DISCARD, 0, ranges, 15), IOERR);
	assert_int_equal(ask(t, DISCARD, 0, ranges, 17 * sizeof(r)), IOERR);
	assert_int_equal(ask(t, WRITE_ZEROES, 0, ranges, 2 * sizeof(r)), IOERR);
	r = (struct range){ 2047, 2, 0 };
	assert_int_equal(ask(t, DISCARD, 0, &r, sizeof(r)), IOERR);
	assert_int_equal(ask(t, WRITE_ZEROES, 0, &r, sizeof(r)), IOERR);
	r = (struct range){ ~0ull, ~0u, 0 };
	assert_int_equal(ask(t, DISCARD, 0, &r, sizeof(r)), IOERR);
	r = (struct range){ 0, 1, 1 };
	assert_int_equal(ask(t, DISCARD, 0, &r, sizeof(r)), UNSUPP);
	r = (struct range){ 0, 1, 2 };
	assert_int_equal(ask(t, WRITE_ZEROES, 0, &r, sizeof(r)), UNSUPP);
	assert_int_equal(ask(t, IN, 0, buf, 512), OK);
	check_pattern(buf, 0, 512);
	end(t);
}

static void test_ranges(void **state)
{
	test_ranges_in(*state, "/tmp");
	test_ranges_in(*state, "/dev/shm"); /* holes, but no ranges of zeroes */
}

/* ---- a host that fails ---- */

static void test_shrinking(void **state)
{
	struct t *t = *state;
	uint8_t buf[8192];

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	assert_int_equal(ask(t, IN, 2000, buf, 8192), OK);
	assert_int_equal(ftruncate(t->fd, MIB / 2 + 100), 0);
	assert_int_equal(ask(t, IN, 2000, buf, 8192), IOERR);
	assert_int_equal(ask(t, IN, 1020, buf, 8192), IOERR);
	assert_int_equal(ask(t, IN, 1000, buf, 8192), OK);
	check_pattern(buf, 1000 * 512, 8192);
	assert_int_equal(ask(t, OUT, 2000, buf, 8192), OK);
	assert_int_equal(ask(t, IN, 1900, buf, 8192), OK);
	check_zeroes(buf, 8192);
	assert_false(vg_needs_reset(&t->g));
	end(t);
}

/* The disk's descriptor becomes one that fails. */
static void replace(struct t *t, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(dup3(fd, t->disk_fd, O_CLOEXEC), t->disk_fd);
	close(fd);
}

static void test_errors(void **state)
{
	struct t *t = *state;
	uint8_t buf[4096] = { 0 };

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	assert_int_equal(ask(t, IN, 0, buf, sizeof(buf)), OK);
	replace(t, "/proc/self/mem", O_RDWR); /* EIO: nothing is mapped there */
	assert_int_equal(ask(t, IN, 0, buf, sizeof(buf)), IOERR);
	assert_int_equal(ask(t, OUT, 0, buf, sizeof(buf)), IOERR);
	replace(t, "/dev/full", O_RDWR); /* ENOSPC */
	assert_int_equal(ask(t, OUT, 0, buf, sizeof(buf)), IOERR);
	assert_int_equal(ask(t, FLUSH, 0, NULL, 0), IOERR);
	assert_int_equal(ask(t, IN, 0, buf, sizeof(buf)), OK);
	replace(t, "/dev/null", O_WRONLY);
	assert_int_equal(ask(t, IN, 0, buf, sizeof(buf)), IOERR);
	assert_false(vg_needs_reset(&t->g));
	assert_int_equal(t->g.counters.device_errors, 0);
	end(t);
}

static void test_unsafe_cache(void **state)
{
	struct t *t = *state;
	uint8_t buf[512] = { 0 };

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ .unsafe_cache = 1 });
	assert_false(t->g.features & F_FLUSH);
	replace(t, "/dev/full", O_RDWR); /* cannot be flushed */
	assert_int_equal(ask(t, FLUSH, 0, NULL, 0), OK);
	assert_int_equal(ask(t, OUT, 0, buf, sizeof(buf)), IOERR);
	end(t);
}

static void test_no_flush(void **state)
{
	struct t *t = *state;
	uint8_t buf[512] = { 7 }, back[512];

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	vg_boot(&t->g, ~F_FLUSH, 0);
	assert_int_equal(ask(t, OUT, 1, buf, sizeof(buf)), OK); /* written through */
	assert_int_equal(ask(t, IN, 1, back, sizeof(back)), OK);
	assert_memory_equal(buf, back, sizeof(buf));
	vg_boot(&t->g, ~F_DISCARD, 0);
	assert_int_equal(ask(t, DISCARD, 0, buf, 16), UNSUPP);
	end(t);
}

/* ---- hostile drivers ---- */

static void test_short_headers(void **state)
{
	struct t *t = *state;
	struct header h = { .type = OUT, .sector = 0 };

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	for (uint32_t n = 1; n < 16; n++) {
		struct vg_buf bufs[2] = { vg_out(&t->g, &h, n), vg_in(&t->g, 1) };

		vg_request(&t->g, 0, bufs, 2);
		assert_int_equal(*(uint8_t *)vg_ptr(&t->g, bufs[1].gpa), UNSUPP);
	}
	struct vg_buf only = vg_in(&t->g, 513);

	vg_request(&t->g, 0, &only, 1); /* no header at all */
	assert_int_equal(*(uint8_t *)vg_ptr(&t->g, only.gpa + 512), UNSUPP);
	assert_false(vg_needs_reset(&t->g));
	end(t);
}

static void test_no_status(void **state)
{
	struct t *t = *state;
	struct header h = { .type = OUT, .sector = 0 };
	struct vg_buf buf;

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	buf = vg_out(&t->g, &h, sizeof(h));
	vg_add(&t->g, 0, &buf, 1);
	vg_kick(&t->g, 0);
	assert_true(vg_wait_needs_reset(&t->g));
	vg_boot(&t->g, ~0ull, 0);
	assert_int_equal(ask(t, FLUSH, 0, NULL, 0), OK);
	end(t);
}

static void test_many_segments(void **state)
{
	struct t *t = *state;
	struct header h = { .type = IN };
	struct vg_buf *bufs = calloc(10002, sizeof(*bufs));
	uint64_t data;

	assert_non_null(bufs);
	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	data = vg_alloc(&t->g, 10001, 16);
	bufs[0] = vg_out(&t->g, &h, sizeof(h));
	for (unsigned int i = 0; i < 254; i++)
		bufs[1 + i] = (struct vg_buf){ data + i, 1, true };
	bufs[254].len = 512 - 253;
	bufs[255] = vg_in(&t->g, 1);
	vg_add_indirect(&t->g, 0, bufs, 256);
	vg_kick(&t->g, 0);
	assert_true(vg_wait(&t->g, 0, NULL, NULL));
	assert_int_equal(*(uint8_t *)vg_ptr(&t->g, bufs[255].gpa), OK);
	check_pattern(vg_ptr(&t->g, data), 0, 512);
	for (unsigned int i = 0; i < 10001; i++)
		bufs[1 + i] = (struct vg_buf){ data + i, 1, true };
	vg_add_indirect(&t->g, 0, bufs, 10002);
	vg_kick(&t->g, 0);
	assert_true(vg_wait_needs_reset(&t->g));
	vg_boot(&t->g, ~0ull, 0);
	assert_int_equal(ask(t, FLUSH, 0, NULL, 0), OK);
	end(t);
	free(bufs);
}

static void test_too_large(void **state)
{
	struct t *t = *state;
	struct header h = { .type = IN };
	struct vg_buf bufs[4] = { { 0 } };

	begin(t, make_file("/tmp", 64 * 4096), (struct smolvm_vmm_disk){ 0 });
	bufs[0] = vg_out(&t->g, &h, sizeof(h));
	bufs[1] = (struct vg_buf){ VG_RAM_GPA, VG_RAM_BYTES, true };
	bufs[2] = vg_in(&t->g, 1);
	vg_add(&t->g, 0, bufs, 3);
	vg_kick(&t->g, 0);
	assert_true(vg_wait_needs_reset(&t->g));
	end(t);
}

/* Every request of a full queue comes back, and nothing after a reset. */
static void test_reset_in_flight(void **state)
{
	struct t *t = *state;

	begin(t, make_file("/tmp", 8 * MIB), (struct smolvm_vmm_disk){ .queues = 2 });
	for (unsigned int round = 0; round < 40; round++) {
		uint64_t gpa = vg_alloc(&t->g, 32768, 4096);
		uint8_t *data = vg_ptr(&t->g, gpa);

		for (unsigned int i = 0; i < 80; i++)
			add(t, i & 1, i % 5 == 4 ? FLUSH : i % 3 ? OUT : IN, i * 64, gpa,
			    i % 5 == 4 ? 0 : 32768);
		vg_kick(&t->g, 0);
		vg_kick(&t->g, 1);
		for (unsigned int i = 0; i < round / 4; i++)
			vg_wait(&t->g, i & 1, NULL, NULL);
		virtio_mmio_reset(&t->g.mmio);
		memset(data, (int)round, 32768); /* is seen by nobody, under TSan */
		t->g.brk = VG_RAM_GPA;
		vg_boot(&t->g, ~0ull, 0);
	}
	end(t);
}

static void test_queue_stopped(void **state)
{
	struct t *t = *state;
	uint64_t gpa;

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ .queues = 2 });
	gpa = vg_alloc(&t->g, 32768, 4096);
	for (unsigned int i = 0; i < 60; i++)
		add(t, 0, i & 1 ? OUT : IN, i, gpa, 32768);
	vg_kick(&t->g, 0);
	vg_write(&t->g, VG_QUEUE_SEL, 0);
	vg_write(&t->g, VG_QUEUE_READY, 0);
	add(t, 1, IN, 0, gpa, 512);
	vg_kick(&t->g, 1);
	assert_true(vg_wait(&t->g, 1, NULL, NULL));
	vg_avail_idx(&t->g, 1, 9999);
	vg_kick(&t->g, 1);
	assert_true(vg_wait_needs_reset(&t->g));
	end(t);
}

/* ---- many at once ---- */

/* More than there are slots and queues hold, of all kinds, each right. */
static void test_concurrency(void **state)
{
	struct t *t = *state;
	enum { QUEUES = 4, EACH = 60, BYTES = 4096 };
	static struct request r[QUEUES][256]; /* by head */
	static uint64_t sector_of[QUEUES][256];

	begin(t, make_file("/tmp", 4 * MIB), (struct smolvm_vmm_disk){ .queues = QUEUES });
	for (unsigned int round = 0; round < 12; round++) {
		uint64_t brk = t->g.brk;

		for (unsigned int i = 0; i < QUEUES * EACH; i++) {
			uint64_t gpa = vg_alloc(&t->g, BYTES, 512), sector = i * 8ull;
			uint32_t type = (i + round) % 3 == 0 ? OUT : (i + round) % 29 ? IN : FLUSH;
			unsigned int q = i % QUEUES;
			struct request one;

			for (unsigned int k = 0; type == OUT && k < BYTES; k++)
				((uint8_t *)vg_ptr(&t->g, gpa))[k] = pattern(sector * 512 + k);
			one = add(t, q, type, sector, gpa, type == FLUSH ? 0 : BYTES);
			r[q][one.head] = one;
			sector_of[q][one.head] = type == IN ? sector : ~0ull;
		}
		for (unsigned int q = 0; q < QUEUES; q++)
			vg_kick(&t->g, q);
		for (unsigned int i = 0; i < QUEUES * EACH; i++) {
			unsigned int q = i % QUEUES;
			uint16_t head = 0;

			assert_true(vg_wait(&t->g, q, &head, NULL));
			assert_int_equal(status_of(t, &r[q][head]), OK);
			if (sector_of[q][head] != ~0ull)
				check_pattern(vg_ptr(&t->g, r[q][head].data_gpa),
					      sector_of[q][head] * 512, BYTES);
		}
		t->g.brk = brk;
	}
	assert_int_equal(t->g.counters.disk_requests, 12 * QUEUES * EACH);
	end(t);
}

/* What is asked for together is told together. */
static void test_one_interrupt(void **state)
{
	struct t *t = *state;
	uint64_t gpa;
	unsigned int before;

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	gpa = vg_alloc(&t->g, 32 * 4096, 4096);
	assert_int_equal(ask(t, IN, 0, NULL, 4096), OK);
	before = vg_irqs(&t->g);
	for (unsigned int i = 0; i < 32; i++)
		add(t, 0, IN, i * 8, gpa + i * 4096, 4096);
	vg_kick(&t->g, 0);
	for (unsigned int i = 0; i < 32; i++)
		assert_true(vg_wait(&t->g, 0, NULL, NULL));
	/* With each entry taken the driver asks for the next one's: two, where it was quick. */
	assert_in_range(vg_irqs(&t->g) - before, 1, 2);
	end(t);
}

/* Two disks have one pool. */
static void test_two_disks(void **state)
{
	struct t *t = *state;
	struct smolvm_vmm_disk config = { .fd = make_file("/tmp", MIB) };
	struct virtio_device *other;
	struct pool *pool;

	begin(t, make_file("/tmp", MIB), (struct smolvm_vmm_disk){ 0 });
	pool = t->g.env.pool;
	assert_int_equal(blk_create(&other, &t->g.env, &config, NULL), 0);
	assert_int_equal(other->ops->start(other, NULL), 0);
	assert_true(pool && t->g.env.pool == pool);
	other->ops->destroy(other);
	assert_true(t->g.env.pool == pool);
	assert_int_equal(ask(t, FLUSH, 0, NULL, 0), OK);
	end(t);
}

static int no_thread(void *ctx, enum smolvm_vmm_thread kind)
{
	assert_int_equal(kind, SMOLVM_VMM_THREAD_WORKER);
	return --*(int *)ctx < 0 ? -EPERM : 0;
}

static void test_no_threads(void **state)
{
	(void)state;
	for (int allowed = 0; allowed < POOL_THREADS; allowed++) {
		struct smolvm_vmm_disk config = { .fd = make_file("/tmp", MIB) };
		int left = allowed;
		struct virtio_env env = { .thread_started = no_thread, .thread_ctx = &left };
		struct virtio_device *d;

		assert_int_equal(blk_create(&d, &env, &config, NULL), 0);
		assert_int_equal(d->ops->start(d, NULL), -EPERM);
		assert_null(env.pool);
		d->ops->destroy(d);
	}
}

static struct t the;

static int with_loop(void **state)
{
	the.loop = true;
	*state = &the;
	return 0;
}

static int without_loop(void **state)
{
	the.loop = false;
	*state = &the;
	return 0;
}

#define BOTH(f) cmocka_unit_test_setup(f, with_loop), cmocka_unit_test_setup(f, without_loop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_config, with_loop),
		cmocka_unit_test(test_refusals),
		BOTH(test_data),
		cmocka_unit_test_setup(test_id, with_loop),
		BOTH(test_bad_requests),
		cmocka_unit_test_setup(test_read_only, with_loop),
		BOTH(test_splits),
		cmocka_unit_test_setup(test_ranges, with_loop),
		BOTH(test_shrinking),
		BOTH(test_errors),
		cmocka_unit_test_setup(test_unsafe_cache, with_loop),
		cmocka_unit_test_setup(test_no_flush, with_loop),
		BOTH(test_short_headers),
		BOTH(test_no_status),
		cmocka_unit_test_setup(test_many_segments, with_loop),
		cmocka_unit_test_setup(test_too_large, with_loop),
		BOTH(test_reset_in_flight),
		cmocka_unit_test_setup(test_queue_stopped, with_loop),
		BOTH(test_concurrency),
		cmocka_unit_test_setup(test_one_interrupt, with_loop),
		cmocka_unit_test_setup(test_two_disks, with_loop),
		cmocka_unit_test(test_no_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
