/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: what a driver gets, and what it gets from a host that fails or a file that shrinks.
 */
#include "blk_guest.h"

#include "virtio/pool.h"

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
		cmocka_unit_test_setup(test_two_disks, with_loop),
		cmocka_unit_test(test_no_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
