/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk under drivers that break the rules, that reset it at work, and that ask much at once.
 */
#include "blk_guest.h"

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
static void reset_in_flight(struct t *t, const char *folder)
{
	begin(t, make_file(folder, 8 * MIB), (struct smolvm_vmm_disk){ .queues = 2 });
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

/* Of a file whose reads the I/O thread does itself, and of one where they are the workers'. */
static void test_reset_in_flight(void **state)
{
	reset_in_flight(*state, "/tmp");
	reset_in_flight(*state, "/dev/shm");
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
static void concurrency(struct t *t, const char *folder)
{
	enum { QUEUES = 4, EACH = 60, BYTES = 4096 };
	static struct request r[QUEUES][256]; /* by head */
	static uint64_t sector_of[QUEUES][256];

	begin(t, make_file(folder, 4 * MIB), (struct smolvm_vmm_disk){ .queues = QUEUES });
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

static void test_concurrency(void **state)
{
	concurrency(*state, "/tmp");
	concurrency(*state, "/dev/shm");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_short_headers),
		BOTH(test_no_status),
		cmocka_unit_test_setup(test_many_segments, with_loop),
		cmocka_unit_test_setup(test_too_large, with_loop),
		BOTH(test_reset_in_flight),
		cmocka_unit_test_setup(test_queue_stopped, with_loop),
		BOTH(test_concurrency),
		cmocka_unit_test_setup(test_one_interrupt, with_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
