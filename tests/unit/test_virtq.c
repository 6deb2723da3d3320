/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtqueues, clause by clause (the numbers are those of virtio 1.2): requests of every form and
 * size, and when each side is told of the other's.
 */
#include <stdio.h>

#include "virtio_echo_guest.h"

/* ---- guest memory and buffers ---- */

static void test_gmem(void **state)
{
	uint8_t a[64], b[64];
	struct gmem m = { .regions = { { 0x1000, 64, a }, { 0x1040, 64, b } }, .n_regions = 2 };

	assert_ptr_equal(gmem_slice(&m, 0x1000, 64), a);
	assert_ptr_equal(gmem_slice(&m, 0x103f, 1), a + 63);
	assert_ptr_equal(gmem_slice(&m, 0x1040, 1), b);
	assert_null(gmem_slice(&m, 0x1000, 0));
	assert_null(gmem_slice(&m, 0x1000, 65)); /* into the next region */
	assert_null(gmem_slice(&m, 0x0fff, 1));
	assert_null(gmem_slice(&m, 0x0fff, 2));
	assert_null(gmem_slice(&m, 0x1080, 1));
	assert_null(gmem_slice(&m, 0x107f, UINT64_MAX));
	assert_null(gmem_slice(&m, 0x107f, UINT64_MAX - 0x107e));
	assert_null(gmem_slice(&m, UINT64_MAX, 1));
	assert_null(gmem_slice(&m, UINT64_MAX, UINT64_MAX));
	m.regions[1].gpa = UINT64_MAX - 63; /* the last bytes that can be named */
	assert_ptr_equal(gmem_slice(&m, UINT64_MAX, 1), b + 63);
	assert_null(gmem_slice(&m, UINT64_MAX, 2));
	m.n_regions = 0;
	assert_null(gmem_slice(&m, 0x1000, 1));
}

static void test_iov(void **state)
{
	char a[] = "abc", b[] = "d", c[] = "efgh", to[16] = "";
	struct iovec iov[] = { { a, 3 }, { b, 1 }, { NULL, 0 }, { c, 4 } };

	assert_int_equal(iov_read(iov, 4, 0, to, sizeof(to)), 8);
	assert_string_equal(to, "abcdefgh");
	memset(to, 0, sizeof(to));
	assert_int_equal(iov_read(iov, 4, 2, to, 3), 3);
	assert_string_equal(to, "cde");
	assert_int_equal(iov_read(iov, 4, 8, to, 3), 0);
	assert_int_equal(iov_read(iov, 4, SIZE_MAX, to, 3), 0);
	assert_int_equal(iov_read(iov, 0, 0, to, 3), 0);
	assert_int_equal(iov_read(iov, 4, 0, to, 0), 0);
	assert_int_equal(iov_write(iov, 4, 1, "123456789", 9), 7);
	assert_memory_equal(a, "a12", 3);
	assert_memory_equal(b, "3", 1);
	assert_memory_equal(c, "4567", 4);
}

/* ---- requests, §2.7 ---- */

/* Every size, direct and indirect, with event indices and without, three times around. */
static void test_sizes(void **state)
{
	static const uint64_t features[] = { 0, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX,
					     VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX };
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	for (unsigned int f = 0; f < 8; f++) {
		e->batched = f >= 4;
		for (uint16_t size = 1; size <= VIRTQ_SIZE_MAX; size = (uint16_t)(size * 2)) {
			bool indirect = features[f % 4] & VIRTIO_F_INDIRECT_DESC;

			g.brk = VG_RAM_GPA;
			vg_boot(&g, features[f % 4], size);
			for (unsigned int i = 0; i < 3u * size; i++) {
				char text[16];

				snprintf(text, sizeof(text), "%u", i);
				if (size == 1 && !indirect) {
					struct vg_buf b = vg_out(&g, text, 4);

					assert_int_equal(vg_request(&g, 2, &b, 1), 0);
				} else {
					echo_once(&g, 2, text, indirect);
				}
			}
			assert_false(vg_needs_reset(&g));
			assert_int_equal(g.queues[2].n_free, size);
		}
	}
	vg_fini(&g);
}

/* A full queue at once: one notification, one interrupt, all served in order. */
static void test_batch(void **state)
{
	struct echo *e;
	struct vg g;

	for (unsigned int event_idx = 0; event_idx < 2; event_idx++) {
		uint16_t heads[256], got = 0;

		e = begin(&g, false);
		e->batched = true;
		vg_boot(&g, event_idx ? VIRTIO_F_EVENT_IDX : 0, 256);
		for (unsigned int i = 0; i < 256; i++) {
			struct vg_buf b = vg_in(&g, 16);

			heads[i] = vg_add(&g, 0, &b, 1);
		}
		vg_kick(&g, 0);
		assert_int_equal(vg_irqs(&g), 1);
		for (unsigned int i = 0; i < 256; i++) {
			assert_true(vg_used(&g, 0, &got, NULL));
			assert_int_equal(got, heads[i]);
		}
		assert_false(vg_used(&g, 0, NULL, NULL));
		assert_int_equal(e->notified, 1);
		assert_int_equal(g.counters.notifies, 1);
		assert_int_equal(g.counters.interrupts, 1);
		vg_fini(&g);
	}
}

/* A chain as long as the queue, and as the device takes. */
static void test_long_chains(void **state)
{
	struct vg_buf b[ECHO_BUFFERS + 1];
	struct vg g;

	begin(&g, false);
	for (unsigned int i = 0; i <= ECHO_BUFFERS; i++)
		b[i] = (struct vg_buf){ VG_RAM_GPA + 0x100000 + i * 0x100, 8, i >= 64 };
	vg_boot(&g, ~0ull, ECHO_BUFFERS);
	assert_int_equal(vg_request(&g, 0, b, ECHO_BUFFERS), 64 * 8);
	vg_add_indirect(&g, 0, b, ECHO_BUFFERS);
	vg_kick(&g, 0);
	assert_true(vg_used(&g, 0, NULL, NULL));
	vg_add_indirect(&g, 0, b, ECHO_BUFFERS + 1);
	vg_kick(&g, 0);
	assert_true(vg_needs_reset(&g));
	assert_false(vg_used(&g, 0, NULL, NULL));
	vg_fini(&g);
}

/* §2.7.5.3.2: an indirect table may follow ordinary descriptors, its own WRITE flag is ignored. */
static void test_indirect_forms(void **state)
{
	struct vg_queue *q;
	struct vg_desc table[2];
	uint64_t gpa;
	struct vg g;

	begin(&g, false);
	vg_boot(&g, ~0ull, 8);
	q = &g.queues[0];
	for (unsigned int shift = 0; shift < 17; shift++) { /* the table may lie anywhere */
		struct vg_buf first = vg_out(&g, "abcd", 4), second = vg_out(&g, "efgh", 4);
		struct vg_buf in = vg_in(&g, 8);
		uint32_t written = 0;

		gpa = vg_alloc(&g, 64, 64) + shift;
		table[0] = (struct vg_desc){ second.gpa, 4, VG_NEXT, 1 };
		table[1] = (struct vg_desc){ in.gpa, 8, VG_WRITE, 0 };
		memcpy(vg_ptr(&g, gpa), table, sizeof(table));
		vg_desc(&g, 0, 5, first.gpa, 4, VG_NEXT, 2);
		vg_desc(&g, 0, 2, gpa, sizeof(table), VG_INDIRECT | (shift % 2 ? VG_WRITE : 0), 7);
		q->length[5] = 0;
		vg_publish(&g, 0, 5);
		vg_kick(&g, 0);
		assert_true(vg_used(&g, 0, NULL, &written));
		assert_int_equal(written, 8);
		assert_memory_equal(vg_ptr(&g, in.gpa), "abcdefgh", 8);
	}
	vg_fini(&g);
}

/* Buffers of no bytes are no buffers. */
static void test_empty_buffers(void **state)
{
	struct vg_buf b[] = { { VG_RAM_GPA, 0, false }, { VG_RAM_GPA, 4, false }, { 0, 0, false },
			      { VG_RAM_GPA + 64, 0, true }, { VG_RAM_GPA + 64, 4, true } };
	struct vg g;

	begin(&g, false);
	g.brk += 4096;
	vg_boot(&g, ~0ull, 8);
	memcpy(g.ram, "abcd", 4);
	assert_int_equal(vg_request(&g, 0, b, 5), 4);
	assert_memory_equal(g.ram + 64, "abcd", 4);
	assert_int_equal(vg_request(&g, 0, b, 1), 0);
	vg_fini(&g);
}

/* ---- event indices, §2.7.7, §2.7.10 ---- */

/* Interrupts come exactly where the driver asked, around 65535 too. */
static void test_used_event(void **state)
{
	struct vg_buf b = { VG_RAM_GPA, 4, true };
	unsigned int irqs, wanted = 0;
	uint16_t event = 10, *avail;
	struct vg g;

	begin(&g, false);
	g.brk += 4096;
	vg_boot(&g, VIRTIO_F_EVENT_IDX, 4);
	avail = vg_ptr(&g, g.queues[0].avail_gpa);
	irqs = vg_irqs(&g);
	for (unsigned int i = 0; i < 140000; i++) {
		vg_add(&g, 0, &b, 1);
		avail[2 + 4] = event;
		vg_kick(&g, 0);
		if ((uint16_t)i == event) {
			wanted++;
			event = (uint16_t)(event + 1 + i % 1000);
		}
		if (vg_irqs(&g) != irqs + wanted)
			fail_msg("%u interrupts instead of %u after %u requests",
				 vg_irqs(&g) - irqs, wanted, i + 1);
		assert_true(vg_used(&g, 0, NULL, NULL));
	}
	assert_true(wanted > 200);
	vg_fini(&g);
}

/* Several at once: one interrupt when the index that was asked for is among them. */
static void test_used_event_batches(void **state)
{
	struct vg_buf b = { VG_RAM_GPA, 4, true };
	uint16_t *avail, event = 0, used = 0;
	unsigned int irqs;
	struct vg g;

	begin(&g, false);
	g.brk += 4096;
	vg_boot(&g, VIRTIO_F_EVENT_IDX, 64);
	avail = vg_ptr(&g, g.queues[0].avail_gpa);
	for (unsigned int i = 0; i < 30000; i++) {
		uint16_t n = (uint16_t)(1 + i % 7);
		bool among;

		for (uint16_t k = 0; k < n; k++)
			vg_add(&g, 0, &b, 1);
		event = (uint16_t)(used + i % 11);
		avail[2 + 64] = event;
		among = (uint16_t)(event - used) < n;
		irqs = vg_irqs(&g);
		vg_kick(&g, 0);
		if (vg_irqs(&g) != irqs + among)
			fail_msg("at %u, %u more, event %u: %u", used, n, event,
				 vg_irqs(&g) - irqs);
		used = (uint16_t)(used + n);
		for (uint16_t k = 0; k < n; k++)
			assert_true(vg_used(&g, 0, NULL, NULL));
	}
	vg_fini(&g);
}

/* Pushing once around without asking does not lose the interrupt. */
static void test_used_event_lapped(void **state)
{
	struct virtq_request r;
	struct iovec iov[4];
	struct virtq *q;
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	vg_boot(&g, VIRTIO_F_EVENT_IDX, 4);
	q = &e->d.queues[0];
	assert_false(virtq_wants_interrupt(q)); /* nothing was pushed */
	for (unsigned int i = 0; i < 65536; i++) {
		vg_add(&g, 0, &(struct vg_buf){ VG_RAM_GPA, 4, true }, 1);
		g.queues[0].quiet = true;
		assert_int_equal(virtq_pop(q, &r, iov, 4, 64), 1);
		virtq_push(q, r.head, 0);
		assert_true(vg_used(&g, 0, NULL, NULL));
	}
	assert_true(virtq_wants_interrupt(q));
	assert_false(virtq_wants_interrupt(q));
	vg_fini(&g);
}

/* Without event indices, by flag. */
static void test_no_interrupt_flag(void **state)
{
	struct vg_buf b = { VG_RAM_GPA, 4, true };
	unsigned int irqs;
	struct vg g;

	begin(&g, false);
	g.brk += 4096;
	vg_boot(&g, 0, 4);
	g.queues[0].quiet = true;
	vg_add(&g, 0, &b, 1);
	vg_kick(&g, 0);
	assert_int_equal(vg_irqs(&g), 1);
	assert_true(vg_used(&g, 0, NULL, NULL)); /* sets the flag */
	irqs = vg_irqs(&g);
	vg_add(&g, 0, &b, 1);
	vg_kick(&g, 0);
	assert_int_equal(vg_irqs(&g), irqs);
	g.queues[0].quiet = false;
	assert_true(vg_used(&g, 0, NULL, NULL));
	vg_add(&g, 0, &b, 1);
	vg_kick(&g, 0);
	assert_int_equal(vg_irqs(&g), irqs + 1);
	vg_kick(&g, 0); /* nothing new, nothing to tell */
	assert_int_equal(vg_irqs(&g), irqs + 1);
	vg_fini(&g);
}

/* Notifications wanted and not, for both ways of saying it, around 65535 too. */
static void test_silence(void **state)
{
	for (unsigned int event_idx = 0; event_idx < 2; event_idx++) {
		struct virtq_request r;
		struct iovec iov[4];
		struct virtq *q;
		struct echo *e;
		struct vg g;

		e = begin(&g, false);
		g.brk += 4096;
		vg_boot(&g, event_idx ? VIRTIO_F_EVENT_IDX : 0, 8);
		q = &e->d.queues[0];
		for (unsigned int i = 0; i < 33000; i++) {
			struct vg_buf b = { VG_RAM_GPA, 4, true };
			uint16_t old = g.queues[0].avail;

			vg_add(&g, 0, &b, 1);
			assert_true(vg_wants_kick(&g, 0, old));
			virtq_silence(q);
			assert_int_equal(virtq_pop(q, &r, iov, 4, 64), 1);
			virtq_push(q, r.head, 0);
			old = g.queues[0].avail;
			vg_add(&g, 0, &b, 1);
			assert_false(vg_wants_kick(&g, 0, old));
			assert_true(virtq_listen(q)); /* it has come meanwhile */
			virtq_silence(q);
			assert_int_equal(virtq_pop(q, &r, iov, 4, 64), 1);
			assert_int_equal(virtq_pop(q, &r, iov, 4, 64), 0);
			virtq_push(q, r.head, 0);
			assert_false(virtq_listen(q));
			assert_true(vg_used(&g, 0, NULL, NULL));
			assert_true(vg_used(&g, 0, NULL, NULL));
		}
		/* One who never asks for silence is told of everything. */
		for (unsigned int i = 0; i < 100; i++) {
			uint16_t old = g.queues[0].avail;

			vg_add(&g, 0, &(struct vg_buf){ VG_RAM_GPA, 4, true }, 1);
			assert_true(vg_wants_kick(&g, 0, old));
			assert_int_equal(virtq_pop(q, &r, iov, 4, 64), 1);
			assert_int_equal(virtq_pop(q, &r, iov, 4, 64), 0);
			virtq_push(q, r.head, 0);
			assert_true(vg_used(&g, 0, NULL, NULL));
		}
		vg_fini(&g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gmem),
		cmocka_unit_test(test_iov),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_long_chains),
		cmocka_unit_test(test_indirect_forms),
		cmocka_unit_test(test_empty_buffers),
		cmocka_unit_test(test_used_event),
		cmocka_unit_test(test_used_event_batches),
		cmocka_unit_test(test_used_event_lapped),
		cmocka_unit_test(test_no_interrupt_flag),
		cmocka_unit_test(test_silence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
