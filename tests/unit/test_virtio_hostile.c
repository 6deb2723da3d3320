/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that break the rules of virtqueues and transport. The device says "needs reset", once, and
 * nothing else happens: no request is served, no memory touched, and a reset makes it work again.
 */
#include <errno.h>
#include <stdio.h>

#include "virtio_echo.h"
#include "virtio_guest.h"

#define SIZE	8u
#define RING	(VG_RAM_GPA + 0x1000)
#define DATA	(VG_RAM_GPA + 0x100000)
#define TABLE	(VG_RAM_GPA + 0x200000)
#define RAM_END (VG_RAM_GPA + VG_RAM_BYTES)
#define ENTRY	16u

static struct echo *begin(struct vg *g, bool with_loop)
{
	struct echo *e;

	vg_init(g, with_loop);
	e = echo_create(&g->env);
	vg_attach(g, &e->d);
	g->brk = RING;
	return e;
}

/* As after a reset: a request goes there and back. */
static void works_again(struct vg *g)
{
	struct vg_buf b[2];
	uint32_t written = 0;

	g->brk = RING;
	vg_boot(g, ~0ull, SIZE);
	b[0] = vg_out(g, "still alive", 12);
	b[1] = vg_in(g, 12);
	vg_add(g, 0, b, 2);
	vg_kick(g, 0);
	assert_true(vg_wait(g, 0, NULL, &written));
	assert_int_equal(written, 12);
	assert_string_equal(vg_ptr(g, b[1].gpa), "still alive");
	assert_false(vg_needs_reset(g));
}

/* ---- one malformed request ---- */

/**
 * struct bad - a request that no driver may make.
 * @desc:  descriptors 0 to 3 of the queue; @table: those at TABLE.
 * @head:  what the available ring says; @jump: how far its index goes.
 */
struct bad {
	const char *name;
	struct vg_desc desc[4], table[4];
	uint16_t head, jump;
};

static const struct bad bad_requests[] = {
	{ "head just out of range", { { DATA, 8, 0, 0 } }, .head = SIZE },
	{ "head far out of range", { { DATA, 8, 0, 0 } }, .head = 0xffff },
	{ "next just out of range", { { DATA, 8, VG_NEXT, SIZE } } },
	{ "next far out of range", { { DATA, 8, VG_NEXT, 0xffff } } },
	{ "a loop of one", { { DATA, 8, VG_NEXT, 0 } } },
	{ "a loop of two", { { DATA, 8, VG_NEXT, 1 }, { DATA, 8, VG_NEXT, 0 } } },
	{ "a loop of nothing", { { DATA, 0, VG_NEXT, 1 }, { DATA, 0, VG_NEXT, 0 } } },
	{ "a loop of writable nothing", { { DATA, 0, VG_NEXT | VG_WRITE, 0 } } },
	{ "address zero", { { 0, 8, 0, 0 } } },
	{ "before RAM", { { VG_RAM_GPA - 1, 1, 0, 0 } } },
	{ "into RAM", { { VG_RAM_GPA - 1, 8, 0, 0 } } },
	{ "behind RAM", { { RAM_END, 1, VG_WRITE, 0 } } },
	{ "over the end of RAM", { { RAM_END - 7, 8, VG_WRITE, 0 } } },
	{ "over the end of addresses", { { UINT64_MAX - 3, 8, VG_WRITE, 0 } } },
	{ "around all addresses", { { UINT64_MAX - 0xff, UINT32_MAX, VG_WRITE, 0 } } },
	{ "the longest length", { { DATA, UINT32_MAX, 0, 0 } } },
	{ "a high bit of the address", { { DATA | 1ull << 63, 8, 0, 0 } } },
	{ "the second one out of RAM", { { DATA, 8, VG_NEXT, 1 }, { RAM_END, 8, VG_WRITE, 0 } } },
	{ "readable after writable", { { DATA, 8, VG_NEXT | VG_WRITE, 1 }, { DATA, 8, 0, 0 } } },
	{ "one byte too many", { { DATA, ECHO_BYTES, VG_NEXT, 1 }, { DATA, 1, VG_WRITE, 0 } } },
	{ "too many bytes to read", { { DATA, ECHO_BYTES + 1, 0, 0 } } },
	{ "too many bytes to write", { { DATA, ECHO_BYTES + 1, VG_WRITE, 0 } } },
	{ "an odd table", { { TABLE, ENTRY + 8, VG_INDIRECT, 0 } }, { { DATA, 8, 0, 0 } } },
	{ "a short table", { { TABLE, ENTRY - 1, VG_INDIRECT, 0 } }, { { DATA, 8, 0, 0 } } },
	{ "an empty table", { { TABLE, 0, VG_INDIRECT, 0 } }, { { DATA, 8, 0, 0 } } },
	{ "a table without end", { { TABLE, UINT32_MAX & ~15u, VG_INDIRECT, 0 } } },
	{ "a table out of RAM", { { RAM_END, ENTRY, VG_INDIRECT, 0 } } },
	{ "a table over the end of RAM", { { RAM_END - ENTRY, 2 * ENTRY, VG_INDIRECT, 0 } } },
	{ "a table and more",
	  { { TABLE, ENTRY, VG_INDIRECT | VG_NEXT, 1 }, { DATA, 8, 0, 0 } },
	  { { DATA, 8, 0, 0 } } },
	{ "a table in a table",
	  { { TABLE, 2 * ENTRY, VG_INDIRECT, 0 } },
	  { { TABLE + ENTRY, ENTRY, VG_INDIRECT, 0 }, { DATA, 8, 0, 0 } } },
	{ "the queue's own table as a table", { { RING, 2 * ENTRY, VG_INDIRECT, 0 } } },
	{ "out of the table",
	  { { TABLE, 2 * ENTRY, VG_INDIRECT, 0 } },
	  { { DATA, 8, VG_NEXT, 2 }, { DATA, 8, 0, 0 }, { DATA, 8, 0, 0 } } },
	{ "far out of the table",
	  { { TABLE, ENTRY, VG_INDIRECT, 0 } },
	  { { DATA, 8, VG_NEXT, 0xffff } } },
	{ "a loop in the table",
	  { { TABLE, 2 * ENTRY, VG_INDIRECT, 0 } },
	  { { DATA, 0, VG_NEXT, 1 }, { DATA, 0, VG_NEXT, 0 } } },
	{ "readable in the table after writable before it",
	  { { DATA, 8, VG_NEXT | VG_WRITE, 1 }, { TABLE, ENTRY, VG_INDIRECT, 0 } },
	  { { DATA, 8, 0, 0 } } },
	{ "bytes of the table and before it",
	  { { DATA, ECHO_BYTES, VG_NEXT, 1 }, { TABLE, ENTRY, VG_INDIRECT, 0 } },
	  { { DATA, 1, VG_WRITE, 0 } } },
	{ "an index ahead by more than the queue", { { DATA, 8, 0, 0 } }, .jump = SIZE + 1 },
	{ "an index half around", { { DATA, 8, 0, 0 } }, .jump = 0x8000 },
	{ "an index going back", { { DATA, 8, 0, 0 } }, .jump = 0xffff },
};

static void put(struct vg *g, const struct bad *b, uint16_t at)
{
	uint16_t *avail = vg_ptr(g, g->queues[0].avail_gpa);

	memcpy(vg_desc_at(g, 0, 0), b->desc, sizeof(b->desc));
	memcpy(vg_ptr(g, TABLE), b->table, sizeof(b->table));
	avail[2 + at % SIZE] = b->head;
	vg_avail_idx(g, 0, (uint16_t)(at + (b->jump ? b->jump : 1)));
}

/* @good: how many good requests go before it. */
static void one_bad(struct vg *g, struct echo *e, const struct bad *b, unsigned int good)
{
	uint64_t errors = g->counters.device_errors;
	unsigned int irqs, served;
	uint8_t *data = vg_ptr(g, DATA);

	g->brk = RING;
	vg_boot(g, ~0ull, SIZE);
	for (unsigned int i = 0; i < good; i++) {
		struct vg_buf in = { DATA, 16, true };

		vg_request(g, 0, &in, 1);
	}
	memset(data, 0x5a, ECHO_BYTES + 16);
	vg_write(g, VG_ISR_ACK, 3);
	irqs = vg_irqs(g);
	served = e->served;
	put(g, b, (uint16_t)good);
	vg_kick(g, 0);
	if (!vg_needs_reset(g))
		fail_msg("accepted: %s", b->name);
	assert_int_equal(vg_read(g, VG_ISR), 2); /* §2.1.2: a change of the configuration */
	assert_int_equal(vg_irqs(g), irqs + 1);
	assert_int_equal(g->counters.device_errors, errors + 1);
	assert_int_equal(e->served, served);
	assert_false(vg_used(g, 0, NULL, NULL));
	for (unsigned int i = 0; i < ECHO_BYTES + 16; i++)
		assert_int_equal(data[i], 0x5a);
	/* Every queue has stopped, and no more is said of it. */
	for (unsigned int i = 0; i < 100; i++)
		vg_kick(g, i % ECHO_QUEUES);
	vg_add(g, 1, &(struct vg_buf){ DATA, 8, true }, 1);
	vg_kick(g, 1);
	assert_false(vg_used(g, 1, NULL, NULL));
	vg_write(g, VG_STATUS, 0xff);
	assert_int_equal(vg_irqs(g), irqs + 1);
	assert_int_equal(g->counters.device_errors, errors + 1);
}

static void test_requests(void **state)
{
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	for (unsigned int batched = 0; batched < 2; batched++) {
		e->batched = batched;
		for (size_t i = 0; i < sizeof(bad_requests) / sizeof(bad_requests[0]); i++) {
			one_bad(&g, e, &bad_requests[i], 0);
			one_bad(&g, e, &bad_requests[i], 1 + (unsigned int)i);
			works_again(&g);
		}
	}
	vg_fini(&g);
}

/* Indirect tables without having negotiated them. */
static void test_not_negotiated(void **state)
{
	struct bad b = { "", { { TABLE, ENTRY, VG_INDIRECT, 0 } }, { { DATA, 8, 0, 0 } } };
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	vg_boot(&g, ~VIRTIO_F_INDIRECT_DESC, SIZE);
	put(&g, &b, 0);
	vg_kick(&g, 0);
	assert_true(vg_needs_reset(&g));
	assert_int_equal(e->served, 0);
	vg_fini(&g);
}

/* What was good before the bad one is served and told. */
static void test_good_then_bad(void **state)
{
	struct vg_buf in;
	struct echo *e;
	uint16_t got = 0, head;
	struct vg g;

	e = begin(&g, false);
	vg_boot(&g, ~0ull, SIZE);
	in = vg_in(&g, 8);
	head = vg_add(&g, 0, &in, 1);
	vg_desc(&g, 0, 5, 0, 8, 0, 0);
	vg_publish(&g, 0, 5);
	vg_kick(&g, 0);
	assert_true(vg_needs_reset(&g));
	assert_int_equal(e->served, 1);
	assert_true(vg_used(&g, 0, &got, NULL));
	assert_int_equal(got, head);
	assert_false(vg_used(&g, 0, NULL, NULL));
	assert_int_equal(vg_read(&g, VG_ISR), 3);
	vg_fini(&g);
}

/* The index jumps while a batch is served. */
static void test_index_between(void **state)
{
	struct virtq_request r;
	struct iovec iov[4];
	struct virtq *q;
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	vg_boot(&g, ~0ull, SIZE);
	q = &e->d.queues[0];
	vg_desc(&g, 0, 0, DATA, 8, 0, 0);
	vg_publish(&g, 0, 0);
	assert_int_equal(virtq_pop(q, &r, iov, 4, 64), 1);
	vg_avail_idx(&g, 0, 0x4000);
	assert_true(virtq_listen(q));
	assert_int_equal(virtq_pop(q, &r, iov, 4, 64), -EPROTO);
	assert_int_equal(virtq_pop(q, &r, iov, 4, 64), 0);
	assert_false(virtq_listen(q));
	virtq_silence(q);
	assert_true(q->broken);
	vg_fini(&g);
}

/* ---- rings in odd places ---- */

/* Three rings at the same address. */
static void test_rings_overlap(void **state)
{
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	for (unsigned int k = 0; k < 4; k++) {
		struct vg_queue *q = &g.queues[0];

		vg_negotiate(&g, k % 2 ? ~0ull : ~VIRTIO_F_EVENT_IDX);
		*q = (struct vg_queue){ RING, RING, RING, 1024 };
		if (k >= 2) /* the used ring over the descriptors that are being read */
			q->avail_gpa = RING + 0x10000;
		memset(vg_ptr(&g, RING), 0, 0x20000);
		vg_place(&g, 0);
		vg_driver_ok(&g);
		for (unsigned int i = 0; i < 2000; i++) {
			vg_desc(&g, 0, (uint16_t)(i % 1024), RING + i, i % 64,
				(uint16_t)(i % 3 ? VG_WRITE : VG_NEXT), (uint16_t)(i % 1024));
			vg_avail_idx(&g, 0, (uint16_t)(e->d.queues[0].next_avail + i % 1024));
			vg_kick(&g, 0);
		}
	}
	works_again(&g);
	vg_fini(&g);
}

static void test_rings_at_the_end(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 8, 256, 1024 };
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	for (unsigned int i = 0; i < 5; i++) {
		uint64_t bytes[3] = { 16ull * sizes[i], vg_avail_bytes(sizes[i]),
				      vg_used_bytes(sizes[i]) };

		for (unsigned int part = 0; part < 3; part++) {
			struct vg_queue *q = &g.queues[0];
			uint64_t *gpa[3] = { &q->desc_gpa, &q->avail_gpa, &q->used_gpa };

			vg_negotiate(&g, ~0ull);
			memset(q, 0, sizeof(*q));
			q->size = sizes[i];
			for (unsigned int p = 0; p < 3; p++)
				*gpa[p] = p == part ? RAM_END - ((bytes[p] + 3) & ~3ull) :
						      RING + p * 0x10000;
			for (uint16_t k = 0; k < q->size; k++)
				q->free[q->n_free++] = k;
			memset(vg_ptr(&g, RING), 0, 0x30000);
			memset(vg_ptr(&g, RAM_END - 0x10000), 0, 0x10000);
			vg_place(&g, 0);
			vg_driver_ok(&g);
			e->served = 0;
			for (unsigned int n = 0; n < 2100; n++) {
				struct vg_buf in = { DATA, 8, true };

				vg_request(&g, 0, &in, 1);
			}
			assert_int_equal(e->served, 2100);
			assert_false(vg_needs_reset(&g));
		}
	}
	vg_fini(&g);
}

/* RAM in two regions that touch: no ring and no buffer reaches from one into the other. */
static void test_regions(void **state)
{
	const uint64_t half = VG_RAM_BYTES / 2, seam = VG_RAM_GPA + half;
	struct echo *e;
	struct vg g;

	vg_init(&g, false);
	g.mem.regions[0].bytes = half;
	g.mem.regions[1] = (struct gmem_region){ seam, half, g.ram + half };
	g.mem.n_regions = 2;
	e = echo_create(&g.env);
	vg_attach(&g, &e->d);
	for (unsigned int part = 0; part < 3; part++) {
		vg_negotiate(&g, ~0ull);
		g.queues[0] = (struct vg_queue){ RING, RING + 0x1000, RING + 0x2000, SIZE };
		*(part == 0 ? &g.queues[0].desc_gpa :
		  part == 1 ? &g.queues[0].avail_gpa :
			      &g.queues[0].used_gpa) = seam - 16;
		vg_place(&g, 0);
		assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
		assert_true(vg_needs_reset(&g));
	}
	g.brk = RING;
	vg_boot(&g, ~0ull, SIZE);
	vg_add(&g, 0, &(struct vg_buf){ seam - 4, 4, true }, 1);
	vg_add(&g, 0, &(struct vg_buf){ seam, 4, true }, 1);
	vg_kick(&g, 0);
	assert_int_equal(e->served, 2);
	vg_add(&g, 0, &(struct vg_buf){ seam - 4, 8, true }, 1);
	vg_kick(&g, 0);
	assert_int_equal(e->served, 2);
	assert_true(vg_needs_reset(&g));
	/* An indirect table over the seam. */
	g.brk = RING;
	vg_boot(&g, ~0ull, SIZE);
	vg_desc(&g, 0, 0, seam - 16, 32, VG_INDIRECT, 0);
	vg_publish(&g, 0, 0);
	vg_kick(&g, 0);
	assert_int_equal(e->served, 2);
	assert_true(vg_needs_reset(&g));
	vg_fini(&g);
}

/* A queue that is moved, resized or set up anew while it runs. */
static void test_queue_moved(void **state)
{
	static const uint32_t regs[] = { VG_QUEUE_NUM, VG_QUEUE_DESC, VG_QUEUE_DESC + 4,
					 VG_QUEUE_AVAIL, VG_QUEUE_AVAIL + 4, VG_QUEUE_USED,
					 VG_QUEUE_USED + 4 };
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	for (unsigned int i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
		struct virtq before;

		g.brk = RING;
		vg_boot(&g, ~0ull, SIZE);
		vg_add(&g, 0, &(struct vg_buf){ DATA, 8, true }, 1);
		before = e->d.queues[0];
		vg_write(&g, VG_QUEUE_SEL, 0);
		vg_write(&g, regs[i], 0x1000);
		assert_true(vg_needs_reset(&g));
		before.broken = true;
		assert_memory_equal(&before, &e->d.queues[0], sizeof(before));
		vg_kick(&g, 0);
		assert_int_equal(e->served, 0);
	}
	e->served = 0;
	works_again(&g);
	/* Stopped, moved, started: not without a reset. */
	vg_write(&g, VG_QUEUE_SEL, 0);
	vg_write(&g, VG_QUEUE_READY, 0);
	assert_false(vg_needs_reset(&g));
	vg_queue(&g, 0, SIZE);
	assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
	assert_true(vg_needs_reset(&g));
	works_again(&g);
	vg_fini(&g);
}

/* ---- all registers, all sizes ---- */

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void scribble(struct vg *g, uint64_t seed, bool keep_status)
{
	for (unsigned int size = 1; size <= 8; size *= 2) {
		for (uint64_t offset = 0; offset < VIRTIO_MMIO_BYTES + 16; offset++) {
			uint64_t v = next_random(&seed) >> (next_random(&seed) % 64), old;

			if (keep_status && offset < VG_CONFIG)
				continue;
			virtio_mmio_write(&g->mmio, offset, (const uint8_t *)&v, size);
			virtio_mmio_read(&g->mmio, offset, (uint8_t *)&old, size);
		}
	}
}

static void test_config_writes(void **state)
{
	struct virtio_device *d;
	struct vg g;

	for (unsigned int kind = 0; kind < 3; kind++) {
		vg_init(&g, false);
		if (kind == 0)
			d = &echo_create(&g.env)->d;
		else if (kind == 1)
			assert_int_equal(rng_create(&d, &g.env, NULL), 0);
		else
			assert_int_equal(balloon_create(&d, &g.env, NULL), 0);
		vg_attach(&g, d);
		for (uint64_t seed = 1; seed < 20; seed++) {
			g.brk = RING;
			vg_boot(&g, ~0ull, SIZE);
			scribble(&g, seed, true); /* the configuration alone */
			assert_false(vg_needs_reset(&g));
			scribble(&g, seed, false);
		}
		g.brk = RING;
		vg_boot(&g, ~0ull, SIZE);
		assert_false(vg_needs_reset(&g));
		vg_fini(&g);
	}
}

/* ---- others at the same time ---- */

struct changer {
	struct vg *g;
	bool stop;
	uint64_t seed;
};

/* Rewrites the descriptors and the table for ever, a word at a time. */
static void *change_run(void *ctx)
{
	static const uint64_t addr[] = { DATA,		TABLE, 0,	    RAM_END - 8,
					 TABLE + ENTRY, RING,  RAM_END - ENTRY, UINT64_MAX };
	struct changer *c = ctx;
	uint64_t *desc = vg_ptr(c->g, c->g->queues[0].desc_gpa), *table = vg_ptr(c->g, TABLE);

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		uint64_t r = next_random(&c->seed);
		uint64_t *d = (r & 64 ? table : desc) + r % SIZE * 2;
		uint64_t len = r & 1u << 12 ? r >> 20 & 127 : 32;
		uint64_t flags = r >> 8 & (r & 128 ? 7 : 3);

		__atomic_store_n(&d[0], addr[r >> 50 & (r & 1u << 13 ? 7 : 1)], __ATOMIC_RELAXED);
		__atomic_store_n(&d[1], len | flags << 32 | (r >> 40 & 15) << 48, __ATOMIC_RELAXED);
	}
	return NULL;
}

/*
 * Whatever it reads at whichever instant, the device stays within RAM and goes on. (It does not
 * touch the buffers: those may be the rings themselves, and a copy of what is being changed is a
 * race by itself.)
 */
static void test_changed_while_read(void **state)
{
	struct changer c = { .seed = 88172645463325252ull };
	int64_t end = clock_ms() + VG_WAIT_MS;
	unsigned int failed = 0, i = 0;
	uint16_t *avail;
	pthread_t thread;
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	e->blind = true;
	vg_boot(&g, ~0ull, SIZE);
	c.g = &g;
	assert_int_equal(pthread_create(&thread, NULL, change_run, &c), 0);
	avail = vg_ptr(&g, g.queues[0].avail_gpa);
	while ((i < 20000 || failed < 500 || e->served < 500) && clock_ms() < end) {
		__atomic_store_n(&avail[2 + i % SIZE], (uint16_t)(i % SIZE), __ATOMIC_RELAXED);
		__atomic_store_n(&avail[1], (uint16_t)(e->d.queues[0].next_avail + 1),
				 __ATOMIC_RELEASE);
		vg_kick(&g, 0);
		i++;
		if (!vg_needs_reset(&g))
			continue;
		failed++;
		vg_negotiate(&g, ~0ull);
		vg_place(&g, 0);
		vg_driver_ok(&g);
	}
	__atomic_store_n(&c.stop, true, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(failed >= 500);
	assert_true(e->served >= 500);
	e->blind = false;
	works_again(&g);
	vg_fini(&g);
}

static void *storm_run(void *ctx)
{
	struct changer *c = ctx;

	for (unsigned int i = 0; i < 20000; i++)
		vg_kick(c->g, (unsigned int)(next_random(&c->seed) % (ECHO_QUEUES + 1)));
	return NULL;
}

/* Notifications from several processors without anything new: few of them reach the device. */
static void test_notify_storm(void **state)
{
	struct changer c[3];
	pthread_t thread[3];
	struct echo *e;
	struct vg g;

	e = begin(&g, true);
	vg_boot(&g, ~0ull, SIZE);
	for (unsigned int i = 0; i < 3; i++) {
		c[i] = (struct changer){ &g, false, i + 1 };
		assert_int_equal(pthread_create(&thread[i], NULL, storm_run, &c[i]), 0);
	}
	for (unsigned int i = 0; i < 200; i++) {
		struct vg_buf in = { DATA, 8, true };

		vg_request(&g, 0, &in, 1);
	}
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	pthread_mutex_lock(&e->d.lock);
	assert_int_equal(vg_irqs(&g), 200);
	assert_int_equal(e->served, 200);
	pthread_mutex_unlock(&e->d.lock);
	assert_false(vg_needs_reset(&g));
	vg_fini(&g);
}

/* Sets the device up, uses it a little, and resets it, for ever. */
static void *life_run(void *ctx)
{
	struct changer *c = ctx;
	uint16_t *avail = vg_ptr(c->g, c->g->queues[0].avail_gpa);

	for (unsigned int i = 0; i < 300; i++) {
		uint32_t status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;

		vg_write(c->g, VG_STATUS, 0);
		vg_write(c->g, VG_STATUS, status);
		vg_write(c->g, VG_DRIVER_FEATURES_SEL, 1);
		vg_write(c->g, VG_DRIVER_FEATURES, 1);
		vg_write(c->g, VG_STATUS, status | VIRTIO_STATUS_FEATURES_OK);
		vg_place(c->g, 0);
		vg_driver_ok(c->g);
		__atomic_store_n(&avail[1], (uint16_t)(1 + i % SIZE), __ATOMIC_SEQ_CST);
		for (unsigned int k = 0; k < i % 8; k++)
			vg_kick(c->g, 0);
	}
	return NULL;
}

/*
 * Three processors reset, set up and notify the same device at once, whose own thread is in the
 * middle of requests. What they get is their own affair; afterwards it works.
 */
static void test_reset_storm(void **state)
{
	struct changer c[3];
	pthread_t thread[3];
	uint16_t *avail;
	struct echo *e;
	struct vg g;

	vg_init(&g, true);
	e = echo_create(&g.env);
	e->slow = true;
	vg_attach(&g, &e->d);
	g.brk = RING;
	vg_boot(&g, VIRTIO_F_VERSION_1, SIZE);
	avail = vg_ptr(&g, g.queues[0].avail_gpa);
	for (uint16_t i = 0; i < SIZE; i++) {
		vg_desc(&g, 0, i, DATA + 4096u * i, 4096, VG_WRITE, 0);
		avail[2 + i] = i;
	}
	for (unsigned int i = 0; i < 3; i++) {
		c[i] = (struct changer){ &g, false, i + 1 };
		assert_int_equal(pthread_create(&thread[i], NULL, life_run, &c[i]), 0);
	}
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	works_again(&g);
	vg_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_not_negotiated),
		cmocka_unit_test(test_good_then_bad),
		cmocka_unit_test(test_index_between),
		cmocka_unit_test(test_rings_overlap),
		cmocka_unit_test(test_rings_at_the_end),
		cmocka_unit_test(test_regions),
		cmocka_unit_test(test_queue_moved),
		cmocka_unit_test(test_config_writes),
		cmocka_unit_test(test_changed_while_read),
		cmocka_unit_test(test_notify_storm),
		cmocka_unit_test(test_reset_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
