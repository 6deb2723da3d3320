/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device and the memory balloon, driven by a guest in this process. */
#include <errno.h>
#include <stdio.h>

#include "virtio_guest.h"

#define PAGE 4096u

/* Features of the balloon. */
#define STATS_VQ	(1ull << 1)
#define DEFLATE_ON_OOM	(1ull << 2)
#define REPORTING	(1ull << 5)

#define INFLATE 0
#define DEFLATE 1
#define STATS	2

static void rng_guest(struct vg *g, bool with_loop)
{
	struct virtio_device *d;

	vg_init(g, with_loop);
	assert_int_equal(rng_create(&d, &g->env, NULL), 0);
	vg_attach(g, d);
	vg_boot(g, ~0ull, 0);
}

static void balloon_guest(struct vg *g, uint64_t features)
{
	struct virtio_device *d;

	vg_init(g, true);
	assert_int_equal(balloon_create(&d, &g->env, NULL), 0);
	vg_attach(g, d);
	vg_boot(g, features, 0);
}

static unsigned int zeroes(const uint8_t *p, unsigned int n)
{
	unsigned int found = 0;

	for (unsigned int i = 0; i < n; i++)
		found += p[i] == 0;
	return found;
}

/* ---- entropy ---- */

static void test_rng_fills(void **state)
{
	struct vg_buf in[2];
	struct vg g;

	rng_guest(&g, true);
	assert_int_equal(vg_read(&g, VG_DEVICE_ID), 4);
	in[0] = vg_in(&g, 300);
	in[1] = vg_in(&g, 1000);
	assert_int_equal(vg_request(&g, 0, in, 2), 1300);
	assert_in_range(zeroes(vg_ptr(&g, in[0].gpa), 300), 0, 30);
	assert_in_range(zeroes(vg_ptr(&g, in[1].gpa), 1000), 0, 60);
	assert_int_equal(g.counters.rng_bytes, 1300);
	assert_false(vg_needs_reset(&g));
	vg_fini(&g);
}

/* However much is asked for, one request gets a little, and no byte behind it is touched. */
static void test_rng_bounded(void **state)
{
	struct vg_buf in;
	uint32_t n;
	struct vg g;

	rng_guest(&g, true);
	in = vg_in(&g, 1u << 20);
	n = vg_request(&g, 0, &in, 1);
	assert_in_range(n, 1, 1u << 16);
	assert_int_equal(zeroes((uint8_t *)vg_ptr(&g, in.gpa) + n, in.len - n), in.len - n);
	vg_fini(&g);
}

/* More requests than the device serves in one turn, all of them served after one kick. */
static void test_rng_turns(void **state)
{
	unsigned int served = 0;
	struct vg g;

	rng_guest(&g, true);
	for (unsigned int i = 0; i < 64; i++)
		vg_add(&g, 0, &(struct vg_buf){ vg_alloc(&g, 64, 64), 64, true }, 1);
	vg_kick(&g, 0);
	while (served < 64) {
		uint32_t written;

		assert_true(vg_wait(&g, 0, NULL, &written));
		assert_int_equal(written, 64);
		served++;
	}
	vg_fini(&g);
}

/* Queues are no longer than the device says. */
static void test_rng_queue_size(void **state)
{
	uint32_t max;
	struct vg g;

	rng_guest(&g, false);
	vg_write(&g, VG_QUEUE_SEL, 0);
	max = vg_read(&g, VG_QUEUE_NUM_MAX);
	assert_in_range(max, 1, VIRTQ_SIZE_MAX / 2);
	vg_negotiate(&g, ~0ull);
	vg_queue(&g, 0, (uint16_t)(2 * max));
	assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
	assert_true(vg_needs_reset(&g));
	vg_fini(&g);
}

static void rng_refuses(const struct vg_buf *bufs, unsigned int n)
{
	struct vg g;

	rng_guest(&g, true);
	vg_add(&g, 0, bufs, n);
	vg_kick(&g, 0);
	assert_true(vg_wait_needs_reset(&g));
	assert_int_equal(g.counters.device_errors, 1);
	assert_int_equal(g.counters.rng_bytes, 0);
	/* It can be used again after a reset. */
	vg_boot(&g, ~0ull, 0);
	assert_int_equal(vg_request(&g, 0, &(struct vg_buf){ VG_RAM_GPA + 0x8000, 8, true }, 1), 8);
	vg_fini(&g);
}

static void test_rng_refuses(void **state)
{
	const struct vg_buf readable[] = { { VG_RAM_GPA, 64, false } };
	const struct vg_buf mixed[] = { { VG_RAM_GPA, 64, false }, { VG_RAM_GPA, 64, true } };
	const struct vg_buf empty[] = { { VG_RAM_GPA, 0, true } };
	const struct vg_buf huge[] = { { VG_RAM_GPA, 2u << 20, true } };

	rng_refuses(readable, 1);
	rng_refuses(mixed, 2);
	rng_refuses(empty, 1);
	rng_refuses(huge, 1);
}

/* ---- the balloon ---- */

/* Bytes of the range that the host holds for us. */
static uint64_t resident(struct vg *g, uint64_t gpa, uint64_t bytes)
{
	unsigned char *vec = malloc(bytes / PAGE);
	uint64_t n = 0;

	assert_int_equal(mincore(vg_ptr(g, gpa), bytes, vec), 0);
	for (uint64_t i = 0; i < bytes / PAGE; i++)
		n += vec[i] & 1;
	free(vec);
	return n * PAGE;
}

static uint64_t touched(struct vg *g, uint64_t bytes)
{
	uint64_t gpa = vg_alloc(g, bytes, PAGE);

	memset(vg_ptr(g, gpa), 0x5a, bytes);
	assert_int_equal(resident(g, gpa, bytes), bytes);
	return gpa;
}

/* The reporting queue in the two numberings that drivers have: 4, and 3 when no gap is left. */
static void reporting(bool gap, bool shared)
{
	const uint64_t bytes = 8u << 20;
	struct virtio_device *d;
	struct vg_buf in[2];
	uint64_t gpa;
	struct vg g;
	unsigned int q = gap ? 4 : 3;

	vg_init(&g, true);
	g.mem.shared = shared;
	if (shared)
		assert_ptr_equal(mmap(g.ram, VG_RAM_BYTES, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0), g.ram);
	assert_int_equal(balloon_create(&d, &g.env, NULL), 0);
	vg_attach(&g, d);
	vg_negotiate(&g, ~0ull);
	for (unsigned int i = 0; i < 3; i++)
		vg_queue(&g, i, 64);
	vg_queue(&g, q, 32);
	vg_driver_ok(&g);
	gpa = touched(&g, bytes);
	in[0] = (struct vg_buf){ gpa, 4u << 20, true };
	in[1] = (struct vg_buf){ gpa + (5u << 20), 2u << 20, true };
	vg_request(&g, q, in, 2);
	assert_int_equal(resident(&g, gpa, 4u << 20), 0);
	assert_int_equal(resident(&g, gpa + (4u << 20), 1u << 20), 1u << 20);
	assert_int_equal(resident(&g, gpa + (5u << 20), 2u << 20), 0);
	assert_int_equal(resident(&g, gpa + (7u << 20), 1u << 20), 1u << 20);
	assert_int_equal(g.counters.reported_bytes, 6u << 20);
	assert_int_equal(*(uint8_t *)vg_ptr(&g, gpa), 0);
	assert_int_equal(*(uint8_t *)vg_ptr(&g, gpa + (4u << 20)), 0x5a);
	assert_false(vg_needs_reset(&g));
	vg_fini(&g);
}

static void test_reporting(void **state)
{
	reporting(true, false);
	reporting(false, false);
	reporting(true, true);
}

/* What is not whole pages of the host: nothing outside of the range is lost. */
static void test_reporting_odd(void **state)
{
	struct vg_buf in;
	uint64_t gpa;
	uint8_t *p;
	struct vg g;

	balloon_guest(&g, ~0ull);
	gpa = touched(&g, 4 * PAGE);
	p = vg_ptr(&g, gpa);
	in = (struct vg_buf){ gpa + 100, 2 * PAGE, true };
	vg_request(&g, 4, &in, 1);
	assert_int_equal(g.counters.reported_bytes, PAGE);
	assert_int_equal(zeroes(p, PAGE), 0);
	assert_int_equal(zeroes(p + PAGE, PAGE), PAGE);
	assert_int_equal(zeroes(p + 2 * PAGE, 2 * PAGE), 0);
	in = (struct vg_buf){ gpa + 2 * PAGE + 1, PAGE, true };
	vg_request(&g, 4, &in, 1);
	assert_int_equal(g.counters.reported_bytes, PAGE);
	assert_int_equal(zeroes(p + 2 * PAGE, 2 * PAGE), 0);
	vg_fini(&g);
}

static void test_reporting_readable(void **state)
{
	struct vg_buf out;
	struct vg g;

	balloon_guest(&g, ~0ull);
	out = (struct vg_buf){ touched(&g, PAGE), PAGE, false };
	vg_add(&g, 4, &out, 1);
	vg_kick(&g, 4);
	assert_true(vg_wait_needs_reset(&g));
	assert_int_equal(zeroes(vg_ptr(&g, out.gpa), PAGE), 0);
	vg_fini(&g);
}

static struct vg_buf pages(struct vg *g, uint64_t gpa, int step, unsigned int n)
{
	uint32_t page[1024];

	for (unsigned int i = 0; i < n; i++)
		page[i] = (uint32_t)(gpa / PAGE) + (uint32_t)(step * (int)i);
	return vg_out(g, page, n * 4);
}

static void test_inflate_deflate(void **state)
{
	const uint64_t bytes = 4u << 20;
	unsigned int n = bytes / PAGE;
	struct vg_buf out;
	uint64_t gpa;
	struct vg g;

	balloon_guest(&g, ~0ull);
	gpa = touched(&g, bytes);
	out = pages(&g, gpa, 1, n / 2); /* upwards */
	vg_request(&g, INFLATE, &out, 1);
	assert_int_equal(resident(&g, gpa, bytes), bytes / 2);
	assert_int_equal(resident(&g, gpa, bytes / 2), 0);
	assert_int_equal(g.counters.balloon_bytes, bytes / 2);
	out = pages(&g, gpa + bytes - PAGE, -1, n / 4); /* downwards */
	vg_request(&g, INFLATE, &out, 1);
	assert_int_equal(resident(&g, gpa, bytes), bytes / 4);
	assert_int_equal(resident(&g, gpa + bytes / 4 * 3, bytes / 4), 0);
	out = pages(&g, gpa + bytes / 2, 2, n / 8); /* with gaps */
	vg_request(&g, INFLATE, &out, 1);
	assert_int_equal(resident(&g, gpa, bytes), bytes / 8);
	assert_int_equal(g.counters.balloon_bytes, bytes / 8 * 7);

	out = pages(&g, gpa, 1, n / 2);
	vg_request(&g, DEFLATE, &out, 1);
	assert_int_equal(g.counters.balloon_bytes, bytes / 8 * 3);
	for (unsigned int i = 0; i < 8; i++) {
		out = pages(&g, gpa, 1, n / 2); /* more than it holds */
		vg_request(&g, DEFLATE, &out, 1);
	}
	assert_int_equal(g.counters.balloon_bytes, 0);
	assert_false(vg_needs_reset(&g));
	vg_fini(&g);
}

/* However often the guest gives the same pages, it is never said to have given more than it has. */
static void test_inflate_again(void **state)
{
	struct vg_buf out;
	struct vg g;

	balloon_guest(&g, ~0ull);
	out = pages(&g, VG_RAM_GPA + (32u << 20), 1, 1024);
	for (unsigned int i = 0; i < 32; i++)
		vg_request(&g, INFLATE, &out, 1);
	assert_int_equal(g.counters.balloon_bytes, VG_RAM_BYTES);
	vg_write(&g, VG_STATUS, 0);
	assert_int_equal(g.counters.balloon_bytes, 0);
	vg_fini(&g);
}

/* A run of pages from the end of one region into the next. */
static void test_inflate_regions(void **state)
{
	struct virtio_device *d;
	struct vg_buf out;
	uint64_t gpa;
	struct vg g;

	vg_init(&g, true);
	g.mem.regions[0].bytes = 32u << 20;
	g.mem.regions[1] = (struct gmem_region){ VG_RAM_GPA + (32u << 20), 32u << 20,
						 g.ram + (32u << 20) };
	g.mem.n_regions = 2;
	assert_int_equal(balloon_create(&d, &g.env, NULL), 0);
	vg_attach(&g, d);
	vg_boot(&g, ~0ull, 0);
	gpa = VG_RAM_GPA + (31u << 20);
	memset(vg_ptr(&g, gpa), 1, 2u << 20);
	out = pages(&g, gpa, 1, 512);
	vg_request(&g, INFLATE, &out, 1);
	assert_int_equal(resident(&g, gpa, 2u << 20), 0);
	assert_int_equal(g.counters.balloon_bytes, 2u << 20);
	vg_fini(&g);
}

static void balloon_refuses(unsigned int q, const uint32_t *page, unsigned int bytes, bool write)
{
	struct vg_buf b;
	uint64_t gpa;
	struct vg g;

	balloon_guest(&g, ~0ull);
	gpa = touched(&g, PAGE);
	b = vg_out(&g, page, bytes);
	b.write = write;
	vg_add(&g, q, &b, 1);
	vg_kick(&g, q);
	assert_true(vg_wait_needs_reset(&g));
	assert_int_equal(zeroes(vg_ptr(&g, gpa), PAGE), 0);
	assert_int_equal(g.counters.balloon_bytes, 0);
	vg_fini(&g);
}

static void test_pages_refused(void **state)
{
	static const uint32_t bad[] = { 0, UINT32_MAX, (VG_RAM_GPA + VG_RAM_BYTES) / PAGE,
					VG_RAM_GPA / PAGE - 1 };
	static const uint32_t many[1025];
	const uint32_t wrap[] = { UINT32_MAX, 0 }, down[] = { 0, UINT32_MAX };
	const uint32_t good = VG_RAM_GPA / PAGE + 1000;

	for (unsigned int q = INFLATE; q <= DEFLATE; q++) {
		for (unsigned int i = 0; i < 4; i++)
			balloon_refuses(q, &bad[i], 4, false);
		balloon_refuses(q, wrap, 8, false);
		balloon_refuses(q, down, 8, false);
		balloon_refuses(q, &good, 3, false);
		balloon_refuses(q, &good, 4, true);
		balloon_refuses(q, many, sizeof(many), false);
	}
}

static void test_config(void **state)
{
	uint32_t config[4], v = 77;
	unsigned int irqs;
	struct vg g;

	balloon_guest(&g, ~0ull);
	vg_config(&g, 0, config, sizeof(config));
	assert_int_equal(config[0], 0);
	assert_int_equal(config[1], 0);
	irqs = vg_irqs(&g);
	v = vg_read(&g, VG_GENERATION);
	balloon_set(g.device, 4096);
	assert_int_equal(vg_irqs(&g), irqs + 1);
	assert_int_equal(vg_read(&g, VG_ISR), 2);
	vg_write(&g, VG_ISR_ACK, 2);
	assert_int_not_equal(vg_read(&g, VG_GENERATION), v);
	balloon_set(g.device, 4096);
	assert_int_equal(vg_irqs(&g), irqs + 1);
	vg_write(&g, VG_CONFIG + 4, 4096);
	vg_write(&g, VG_CONFIG + 0, 1); /* not the driver's */
	vg_write(&g, VG_CONFIG + 8, 0x55555555);
	vg_config(&g, 0, config, sizeof(config));
	assert_int_equal(config[0], 4096);
	assert_int_equal(config[1], 4096);
	assert_int_equal(config[2], 0);
	assert_int_equal(config[3], 0);
	vg_fini(&g);
}

/* What Linux does: the first buffer is there, and notified of, before DRIVER_OK. */
static void test_stats_early(void **state)
{
	struct {
		uint16_t tag;
		uint64_t value;
	} __attribute__((packed)) said = { 4, 1000 };
	uint64_t stats[BALLOON_STATS];
	int64_t end = clock_ms() + VG_WAIT_MS;
	struct virtio_device *d;
	struct vg_buf out;
	struct vg g;

	vg_init(&g, true);
	assert_int_equal(balloon_create(&d, &g.env, NULL), 0);
	vg_attach(&g, d);
	vg_negotiate(&g, ~0ull);
	for (unsigned int i = 0; i <= STATS; i++)
		vg_queue(&g, i, 8);
	out = vg_out(&g, &said, sizeof(said));
	vg_add(&g, STATS, &out, 1);
	vg_kick(&g, STATS);
	poll(NULL, 0, 20); /* for the notification to be looked at, too early */
	vg_driver_ok(&g);
	do
		balloon_stats(g.device, stats);
	while (stats[4] == UINT64_MAX && clock_ms() < end);
	assert_int_equal(stats[4], 1000);
	vg_fini(&g);
}

static void test_stats(void **state)
{
	struct {
		uint16_t tag;
		uint64_t value;
	} __attribute__((packed)) said[] = { { 4, 1000 }, { 5, 2000 }, { 99, 3 }, { 15, 7 } };
	struct vg_buf out;
	uint64_t stats[BALLOON_STATS];
	int64_t end = clock_ms() + VG_WAIT_MS;
	uint16_t head, got;
	struct vg g;

	balloon_guest(&g, ~0ull);
	balloon_stats(g.device, stats);
	assert_int_equal(stats[4], UINT64_MAX);
	out = vg_out(&g, said, sizeof(said));
	head = vg_add(&g, STATS, &out, 1);
	vg_kick(&g, STATS);
	do { /* asking sends the buffer back */
		balloon_stats(g.device, stats);
	} while (stats[4] == UINT64_MAX && clock_ms() < end);
	assert_int_equal(stats[4], 1000);
	assert_int_equal(stats[5], 2000);
	assert_int_equal(stats[15], 7);
	assert_int_equal(stats[0], UINT64_MAX);
	assert_true(vg_wait(&g, STATS, &got, NULL));
	assert_int_equal(got, head);
	assert_false(vg_used(&g, STATS, NULL, NULL));

	/* Two at once: the first comes back by itself. */
	said[0].value = 1111;
	memcpy(vg_ptr(&g, out.gpa), said, sizeof(said));
	head = vg_add(&g, STATS, &out, 1);
	vg_add(&g, STATS, &out, 1);
	vg_kick(&g, STATS);
	assert_true(vg_wait(&g, STATS, &got, NULL));
	assert_int_equal(got, head);
	balloon_stats(g.device, stats);
	assert_int_equal(stats[4], 1111);
	/* A reset with a buffer held: of two, the second. */
	assert_true(vg_wait(&g, STATS, NULL, NULL));
	vg_add(&g, STATS, &out, 1);
	vg_add(&g, STATS, &out, 1);
	vg_kick(&g, STATS);
	assert_true(vg_wait(&g, STATS, NULL, NULL));
	vg_boot(&g, ~0ull, 0);
	balloon_stats(g.device, stats);
	assert_int_equal(stats[4], UINT64_MAX);
	assert_false(vg_used(&g, STATS, NULL, NULL));
	vg_fini(&g);
}

static void test_stats_refused(void **state)
{
	struct vg_buf bad[] = { { VG_RAM_GPA, 100, true }, { VG_RAM_GPA, 1000000, false } };

	for (unsigned int i = 0; i < 2; i++) {
		struct vg g;

		balloon_guest(&g, ~0ull);
		vg_add(&g, STATS, &bad[i], 1);
		vg_kick(&g, STATS);
		assert_true(vg_wait_needs_reset(&g));
		vg_fini(&g);
	}
}

/* What was not negotiated does nothing but break the device. */
static void test_not_negotiated(void **state)
{
	struct vg g;

	balloon_guest(&g, ~(STATS_VQ | REPORTING | DEFLATE_ON_OOM));
	vg_add(&g, 4, &(struct vg_buf){ touched(&g, PAGE), PAGE, true }, 1);
	vg_kick(&g, 4);
	assert_true(vg_wait_needs_reset(&g));
	assert_int_equal(g.counters.reported_bytes, 0);
	vg_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rng_fills),
		cmocka_unit_test(test_rng_bounded),
		cmocka_unit_test(test_rng_turns),
		cmocka_unit_test(test_rng_queue_size),
		cmocka_unit_test(test_rng_refuses),
		cmocka_unit_test(test_reporting),
		cmocka_unit_test(test_reporting_odd),
		cmocka_unit_test(test_reporting_readable),
		cmocka_unit_test(test_inflate_deflate),
		cmocka_unit_test(test_inflate_again),
		cmocka_unit_test(test_inflate_regions),
		cmocka_unit_test(test_pages_refused),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_stats_early),
		cmocka_unit_test(test_stats_refused),
		cmocka_unit_test(test_not_negotiated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
