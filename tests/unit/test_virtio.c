/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mmio transport and its devices' lives, clause by clause (the numbers are those of virtio
 * 1.2): what a driver that keeps to the rules gets, and what one that does not is refused.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "virtio_echo_guest.h"

#define KNOWN	   (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER)
#define NEGOTIATED (KNOWN | VIRTIO_STATUS_FEATURES_OK)
#define RUNNING	   (NEGOTIATED | VIRTIO_STATUS_DRIVER_OK)

/* ---- registers, §4.2.2 ---- */

static void test_identity(void **state)
{
	struct vg g;
	uint8_t p[8];

	begin(&g, false);
	assert_int_equal(vg_read(&g, VG_MAGIC), 0x74726976);
	assert_int_equal(vg_read(&g, VG_VERSION), 2);
	assert_int_equal(vg_read(&g, VG_DEVICE_ID), 63);
	assert_int_not_equal(vg_read(&g, VG_VENDOR_ID), 0);
	/* Shared memory regions: none, whichever is selected. */
	for (uint32_t i = 0; i < 3; i++) {
		vg_write(&g, VG_SHM_SEL, i);
		assert_int_equal(vg_read(&g, VG_SHM_LEN), UINT32_MAX);
		assert_int_equal(vg_read(&g, VG_SHM_LEN + 4), UINT32_MAX);
		assert_int_equal(vg_read(&g, VG_SHM_BASE), UINT32_MAX);
		assert_int_equal(vg_read(&g, VG_SHM_BASE + 4), UINT32_MAX);
	}
	/* VIRTIO_F_RING_RESET is not offered, so the register is not there. */
	assert_int_equal(vg_read(&g, VG_QUEUE_RESET), 0);
	/* §4.2.2.2: the registers are 32 bits wide. */
	for (unsigned int size = 1; size <= 8; size *= 2) {
		if (size == 4)
			continue;
		memset(p, 0xaa, sizeof(p));
		virtio_mmio_read(&g.mmio, VG_MAGIC, p, size);
		for (unsigned int i = 0; i < size; i++)
			assert_int_equal(p[i], 0);
	}
	virtio_mmio_read(&g.mmio, VG_MAGIC + 2, p, 4);
	assert_int_equal(p[0], 0);
	virtio_mmio_write(&g.mmio, VG_STATUS, (const uint8_t *)"\1\0\0\0\0\0\0\0", 8);
	virtio_mmio_write(&g.mmio, VG_STATUS, (const uint8_t *)"\1", 1);
	virtio_mmio_write(&g.mmio, VG_STATUS + 1, (const uint8_t *)"\1\1\1\1", 4);
	assert_int_equal(vg_read(&g, VG_STATUS), 0);
	vg_fini(&g);
}

/* Registers that are not there read as zero, and nothing comes of writing any but the known. */
static void test_absent(void **state)
{
	static const uint16_t written[] = { 0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70,
					    0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4 };
	struct vg g;

	begin(&g, false);
	vg_boot(&g, ~0ull, 8);
	for (uint64_t reg = 0; reg < 0x100; reg += 4) {
		bool known = false;

		for (unsigned int i = 0; i < sizeof(written) / sizeof(written[0]); i++)
			known |= written[i] == reg;
		if (!known)
			vg_write(&g, reg, UINT32_MAX);
	}
	assert_int_equal(vg_read(&g, VG_STATUS), RUNNING);
	echo_once(&g, 0, "still here", false);
	assert_int_equal(vg_read(&g, 0x18), 0);
	assert_int_equal(vg_read(&g, 0x48), 0);
	assert_int_equal(vg_read(&g, 0xf8), 0);
	assert_int_equal(vg_read(&g, 0x1000), 0);
	assert_int_equal(vg_read(&g, UINT64_MAX - 3), 0);
	vg_fini(&g);
}

/* ---- features, §2.2, §3.1.1, §6 ---- */

static uint32_t try_features(struct vg *g, uint64_t features, uint32_t sel, uint32_t beyond)
{
	uint32_t status;

	vg_write(g, VG_STATUS, 0);
	vg_write(g, VG_STATUS, KNOWN);
	vg_write(g, VG_DRIVER_FEATURES_SEL, sel);
	vg_write(g, VG_DRIVER_FEATURES, beyond);
	for (uint32_t i = 0; i < 2; i++) {
		vg_write(g, VG_DRIVER_FEATURES_SEL, i);
		vg_write(g, VG_DRIVER_FEATURES, (uint32_t)(features >> (32 * i)));
	}
	vg_write(g, VG_STATUS, NEGOTIATED);
	status = vg_read(g, VG_STATUS);
	assert_int_equal(status & ~VIRTIO_STATUS_FEATURES_OK, KNOWN);
	return status & VIRTIO_STATUS_FEATURES_OK;
}

static void test_features(void **state)
{
	const uint64_t all = ECHO_FEATURE | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
			     VIRTIO_F_VERSION_1;
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	assert_int_equal(vg_offered(&g), all);
	vg_write(&g, VG_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(vg_read(&g, VG_DEVICE_FEATURES), 0);
	vg_write(&g, VG_DEVICE_FEATURES_SEL, UINT32_MAX);
	assert_int_equal(vg_read(&g, VG_DEVICE_FEATURES), 0);

	assert_true(try_features(&g, all, 0, 0));
	assert_true(try_features(&g, VIRTIO_F_VERSION_1, 0, 0));
	assert_true(try_features(&g, VIRTIO_F_VERSION_1, 2, 0));
	assert_false(try_features(&g, VIRTIO_F_VERSION_1, 2, 1));
	assert_false(try_features(&g, VIRTIO_F_VERSION_1, UINT32_MAX, 1u << 31));
	assert_false(try_features(&g, 0, 0, 0));
	assert_false(try_features(&g, all & ~VIRTIO_F_VERSION_1, 0, 0));
	for (unsigned int i = 0; i < 64; i++)
		if (!(all & 1ull << i))
			assert_false(try_features(&g, all | 1ull << i, 0, 0));

	/* A driver that was refused may try again with less. */
	assert_false(try_features(&g, all | 1, 0, 0));
	vg_write(&g, VG_DRIVER_FEATURES_SEL, 0);
	vg_write(&g, VG_DRIVER_FEATURES, (uint32_t)ECHO_FEATURE);
	vg_write(&g, VG_STATUS, NEGOTIATED);
	assert_int_equal(vg_read(&g, VG_STATUS), NEGOTIATED);
	/* They are settled then. */
	vg_write(&g, VG_DRIVER_FEATURES, UINT32_MAX);
	vg_write(&g, VG_STATUS, RUNNING);
	assert_int_equal(e->d.acked, ECHO_FEATURE | VIRTIO_F_VERSION_1);
	vg_fini(&g);
}

/* ---- status, §2.1 ---- */

static void test_status(void **state)
{
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	assert_int_equal(vg_read(&g, VG_STATUS), 0);
	/* FEATURES_OK before the driver has made itself known; DRIVER_OK before FEATURES_OK. */
	vg_write(&g, VG_STATUS, VIRTIO_STATUS_FEATURES_OK);
	assert_int_equal(vg_read(&g, VG_STATUS), 0);
	vg_write(&g, VG_DRIVER_FEATURES_SEL, 1);
	vg_write(&g, VG_DRIVER_FEATURES, 1);
	vg_write(&g, VG_STATUS, VIRTIO_STATUS_FEATURES_OK);
	assert_int_equal(vg_read(&g, VG_STATUS), 0);
	vg_write(&g, VG_STATUS, VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK);
	assert_int_equal(vg_read(&g, VG_STATUS), VIRTIO_STATUS_DRIVER);
	vg_write(&g, VG_STATUS, KNOWN);
	vg_write(&g, VG_STATUS, KNOWN | VIRTIO_STATUS_DRIVER_OK);
	assert_int_equal(vg_read(&g, VG_STATUS), KNOWN);
	assert_int_equal(e->activated, 0);
	/* NEEDS_RESET is not the driver's to set. */
	vg_write(&g, VG_STATUS, KNOWN | VIRTIO_STATUS_NEEDS_RESET | 0xffffff00);
	assert_int_equal(vg_read(&g, VG_STATUS), KNOWN);

	assert_false(g.mmio.driver_seen);
	vg_boot(&g, ~0ull, 8);
	assert_int_equal(vg_read(&g, VG_STATUS), RUNNING);
	assert_int_equal(e->activated, 1);
	assert_true(g.mmio.driver_seen);
	/* §2.1.1: bits are not cleared but by a reset, and DRIVER_OK counts once. */
	vg_write(&g, VG_STATUS, VIRTIO_STATUS_ACKNOWLEDGE);
	vg_write(&g, VG_STATUS, RUNNING);
	assert_int_equal(vg_read(&g, VG_STATUS), RUNNING);
	assert_int_equal(e->activated, 1);
	vg_write(&g, VG_STATUS, RUNNING | VIRTIO_STATUS_FAILED);
	assert_int_equal(vg_read(&g, VG_STATUS), RUNNING | VIRTIO_STATUS_FAILED);
	assert_int_equal(e->was_reset, 0);
	vg_write(&g, VG_STATUS, 0);
	assert_int_equal(vg_read(&g, VG_STATUS), 0);
	assert_int_equal(e->was_reset, 1);
	vg_fini(&g);
}

/* A reset from every state on the way, after which everything is as at first (§2.4). */
static void test_reset_everywhere(void **state)
{
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	for (unsigned int stop = 0; stop < 9; stop++) {
		vg_write(&g, VG_STATUS, 0);
		if (stop >= 1)
			vg_write(&g, VG_STATUS, VIRTIO_STATUS_ACKNOWLEDGE);
		if (stop >= 2)
			vg_write(&g, VG_STATUS, KNOWN);
		if (stop >= 3)
			vg_negotiate(&g, ~0ull);
		if (stop >= 4)
			vg_queue(&g, 1, 16);
		if (stop >= 5)
			vg_driver_ok(&g);
		if (stop == 6)
			echo_once(&g, 1, "x", false);
		if (stop == 7)
			vg_avail_idx(&g, 1, 500), vg_kick(&g, 1);
		if (stop == 8)
			virtio_config_changed(&e->d);
		assert_int_equal(vg_needs_reset(&g), stop == 7);
		vg_write(&g, VG_STATUS, 0);
		assert_int_equal(vg_read(&g, VG_STATUS), 0);
		assert_int_equal(vg_read(&g, VG_ISR), 0);
		assert_int_equal(e->d.acked, 0);
		for (unsigned int i = 0; i < ECHO_QUEUES; i++) {
			vg_write(&g, VG_QUEUE_SEL, i);
			assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
			assert_int_equal(e->d.queues[i].desc_gpa, 0);
			assert_int_equal(e->d.queues[i].size, 0);
		}
		vg_boot(&g, ~0ull, 16);
		echo_once(&g, 0, "after", true);
		echo_once(&g, 1, "a reset", false);
		assert_int_equal(vg_read(&g, VG_STATUS), RUNNING);
		g.brk = VG_RAM_GPA;
	}
	vg_fini(&g);
}

/* ---- queues, §4.2.3.2, §2.7 ---- */

static void test_queue_registers(void **state)
{
	struct vg g;

	begin(&g, false);
	vg_negotiate(&g, ~0ull);
	vg_write(&g, VG_QUEUE_SEL, 0);
	assert_int_equal(vg_read(&g, VG_QUEUE_NUM_MAX), VIRTQ_SIZE_MAX);
	assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
	for (uint32_t i = ECHO_QUEUES; i < 40; i++) {
		vg_write(&g, VG_QUEUE_SEL, i);
		assert_int_equal(vg_read(&g, VG_QUEUE_NUM_MAX), 0);
		vg_write(&g, VG_QUEUE_NUM, 8);
		vg_write(&g, VG_QUEUE_READY, 1);
		assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
	}
	vg_write(&g, VG_QUEUE_SEL, UINT32_MAX);
	assert_int_equal(vg_read(&g, VG_QUEUE_NUM_MAX), 0);
	assert_false(vg_needs_reset(&g));
	/* Taken back before DRIVER_OK, and given again. */
	vg_queue(&g, 0, 8);
	assert_int_equal(vg_read(&g, VG_QUEUE_READY), 1);
	vg_write(&g, VG_QUEUE_READY, 0);
	assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
	vg_queue(&g, 0, 32);
	assert_int_equal(vg_read(&g, VG_QUEUE_READY), 1);
	vg_write(&g, VG_QUEUE_READY, 1);
	vg_driver_ok(&g);
	echo_once(&g, 0, "hello", false);
	vg_fini(&g);
}

/* Enable queue 0 as it is described. Return: whether the device took it. */
static bool try_queue(struct vg *g, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
	const uint64_t gpa[3] = { desc, avail, used };

	vg_negotiate(g, ~0ull);
	vg_write(g, VG_QUEUE_NUM, size);
	for (unsigned int i = 0; i < 3; i++) {
		vg_write(g, VG_QUEUE_DESC + 16 * i, (uint32_t)gpa[i]);
		vg_write(g, VG_QUEUE_DESC + 16 * i + 4, (uint32_t)(gpa[i] >> 32));
	}
	vg_write(g, VG_QUEUE_READY, 1);
	assert_int_equal(vg_needs_reset(g), !vg_read(g, VG_QUEUE_READY));
	return vg_read(g, VG_QUEUE_READY);
}

static void test_queue_places(void **state)
{
	const uint64_t at = VG_RAM_GPA, end = VG_RAM_GPA + VG_RAM_BYTES;
	const uint64_t a = at + 0x10000, u = at + 0x20000;
	struct vg g;

	begin(&g, false);
	assert_true(try_queue(&g, 8, at, a, u));
	/* Sizes: powers of two up to the most that was said. */
	assert_true(try_queue(&g, 1, at, a, u));
	assert_true(try_queue(&g, 1024, at, a, u));
	assert_false(try_queue(&g, 0, at, a, u));
	assert_false(try_queue(&g, 3, at, a, u));
	assert_false(try_queue(&g, 1023, at, a, u));
	assert_false(try_queue(&g, 2048, at, a, u));
	assert_false(try_queue(&g, 32768, at, a, u));
	assert_false(try_queue(&g, 65536 + 8, at, a, u));
	assert_false(try_queue(&g, 0x80000008, at, a, u));
	/* Alignment: 16, 2, 4. */
	assert_false(try_queue(&g, 8, at + 8, a, u));
	assert_false(try_queue(&g, 8, at, a + 1, u));
	assert_false(try_queue(&g, 8, at, a, u + 2));
	assert_true(try_queue(&g, 8, at + 16, a + 2, u + 4));
	/* To the last byte of RAM, and one step further. */
	assert_true(try_queue(&g, 8, end - 128, a, u));
	assert_false(try_queue(&g, 8, end - 112, a, u));
	assert_true(try_queue(&g, 8, at, end - 22, u));
	assert_false(try_queue(&g, 8, at, end - 20, u));
	assert_true(try_queue(&g, 8, at, a, end - 72));
	assert_false(try_queue(&g, 8, at, a, end - 68));
	/* No RAM there at all. */
	assert_false(try_queue(&g, 8, 0, a, u));
	assert_false(try_queue(&g, 8, at, at - 2, u));
	assert_false(try_queue(&g, 8, at, a, end));
	assert_false(try_queue(&g, 8, UINT64_MAX - 15, a, u));
	assert_false(try_queue(&g, 8, at, UINT64_MAX - 1, u));
	assert_false(try_queue(&g, 8, at, a, UINT64_MAX - 3));
	assert_false(try_queue(&g, 8, at | 1ull << 63, a, u));
	vg_fini(&g);
}

/* §3.1.1: queues come after FEATURES_OK and before DRIVER_OK. */
static void test_queue_order(void **state)
{
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	vg_write(&g, VG_STATUS, KNOWN);
	vg_queue(&g, 0, 8);
	assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
	assert_true(vg_needs_reset(&g));
	assert_int_equal(vg_irqs(&g), 0); /* §2.1.2: told only after DRIVER_OK */
	/* Once it is broken, neither a good queue nor DRIVER_OK helps. */
	vg_negotiate(&g, ~0ull);
	vg_queue(&g, 0, 7);
	assert_true(vg_needs_reset(&g));
	vg_queue(&g, 0, 8);
	assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
	vg_driver_ok(&g);
	assert_int_equal(vg_read(&g, VG_STATUS), NEGOTIATED | VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(e->activated, 0);
	vg_negotiate(&g, ~0ull);
	vg_driver_ok(&g);
	vg_queue(&g, 0, 8);
	assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
	assert_true(vg_needs_reset(&g));
	assert_int_equal(vg_irqs(&g), 1);
	vg_fini(&g);
}

/* ---- interrupts, §4.2.2 ---- */

static void test_isr(void **state)
{
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	virtio_config_changed(&e->d); /* nobody there yet to be told */
	assert_int_equal(vg_irqs(&g), 0);
	vg_boot(&g, ~0ull, 8);
	assert_int_equal(vg_read(&g, VG_ISR), 0);
	echo_once(&g, 0, "x", false);
	assert_int_equal(vg_read(&g, VG_ISR), 1);
	virtio_config_changed(&e->d);
	assert_int_equal(vg_read(&g, VG_ISR), 3);
	assert_int_equal(vg_irqs(&g), 2);
	vg_write(&g, VG_ISR_ACK, 1);
	assert_int_equal(vg_read(&g, VG_ISR), 2);
	vg_write(&g, VG_ISR_ACK, 0);
	assert_int_equal(vg_read(&g, VG_ISR), 2);
	vg_write(&g, VG_ISR, 0xff);
	assert_int_equal(vg_read(&g, VG_ISR), 2);
	vg_write(&g, VG_ISR_ACK, UINT32_MAX);
	assert_int_equal(vg_read(&g, VG_ISR), 0);
	vg_fini(&g);
}

/* ---- configuration, §2.5 ---- */

static void test_config(void **state)
{
	uint8_t p[8], all[ECHO_CONFIG];
	uint32_t generation;
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	for (unsigned int i = 0; i < ECHO_CONFIG; i++)
		e->config[i] = (uint8_t)(i + 1);
	/* Can be read before anything else, at any offset, in any size (§2.5.1). */
	vg_config(&g, 0, all, sizeof(all));
	assert_memory_equal(all, e->config, sizeof(all));
	for (unsigned int size = 1; size <= 8; size *= 2) {
		for (unsigned int offset = 0; offset < 24; offset++) {
			memset(p, 0xee, sizeof(p));
			virtio_mmio_read(&g.mmio, VG_CONFIG + offset, p, size);
			for (unsigned int i = 0; i < size; i++)
				assert_int_equal(p[i],
						 offset + i < ECHO_CONFIG ? offset + i + 1 : 0);
		}
	}
	memset(p, 0xee, sizeof(p));
	virtio_mmio_read(&g.mmio, VIRTIO_MMIO_BYTES - 2, p, 4); /* over the end */
	assert_memory_equal(p, "\0\0\0\0", 4);
	virtio_mmio_read(&g.mmio, VG_CONFIG - 2, p, 4); /* over the beginning */
	assert_memory_equal(p, "\0\0\0\0", 4);

	/* Written only by a driver that has made itself known. */
	vg_write(&g, VG_CONFIG, 0x04030201);
	assert_int_equal(e->config_writes, 0);
	vg_write(&g, VG_STATUS, KNOWN);
	vg_write(&g, VG_CONFIG + 4, 0x44332211);
	assert_int_equal(e->config_writes, 1);
	assert_memory_equal(e->config + 4, "\x11\x22\x33\x44", 4);
	vg_write(&g, VG_CONFIG - 2, 0);
	vg_write(&g, VIRTIO_MMIO_BYTES - 2, 0);
	vg_write(&g, VIRTIO_MMIO_BYTES, 0);
	assert_int_equal(e->config_writes, 1);

	generation = vg_read(&g, VG_GENERATION);
	assert_int_equal(vg_read(&g, VG_GENERATION), generation);
	virtio_config_changed(&e->d);
	assert_int_not_equal(vg_read(&g, VG_GENERATION), generation);
	vg_fini(&g);
}

/* ---- notifications ---- */

/* Only after DRIVER_OK, only for a queue that is ready; with eventfds and without. */
static void test_notify_early(void **state)
{
	for (unsigned int with_loop = 0; with_loop < 2; with_loop++) {
		struct vg_buf b;
		struct echo *e;
		struct vg g;

		e = begin(&g, with_loop);
		vg_kick(&g, 0);
		vg_negotiate(&g, ~0ull);
		vg_queue(&g, 0, 8);
		b = vg_in(&g, 8);
		vg_add(&g, 0, &b, 1);
		vg_kick(&g, 0);
		vg_driver_ok(&g);
		vg_kick(&g, 1); /* not set up */
		vg_kick(&g, ECHO_QUEUES);
		vg_kick(&g, VIRTIO_QUEUES_MAX + 5);
		vg_kick(&g, UINT32_MAX);
		vg_queue(&g, 2, 8); /* too late: the device needs a reset, and works no more */
		vg_kick(&g, 0);
		vg_stop(&g);
		if (!with_loop) {
			assert_int_equal(g.counters.notifies, 4); /* of queues that there are */
			assert_int_equal(e->notified, 0);
			assert_int_equal(e->served, 0);
		}
		vg_fini(&g);
	}
}

/* §4.2.2.2: a queue is stopped by 0 in QueueReady; the rings are left alone from then on. */
static void test_queue_stop(void **state)
{
	unsigned int irqs;
	struct vg_buf b;
	struct echo *e;
	struct vg g;

	e = begin(&g, false);
	e->slow = true;
	assert_int_equal(echo_start(&e->d, NULL), 0);
	e->gate = false;
	vg_boot(&g, ~0ull, 8);
	b = vg_in(&g, 8);
	vg_add(&g, 0, &b, 1);
	vg_kick(&g, 0);
	vg_write(&g, VG_QUEUE_SEL, 0);
	vg_write(&g, VG_QUEUE_READY, 0);
	assert_int_equal(vg_read(&g, VG_QUEUE_READY), 0);
	irqs = vg_irqs(&g);
	vg_add(&g, 0, &b, 1);
	vg_kick(&g, 0);
	pthread_mutex_lock(&e->d.lock);
	assert_int_equal(e->notified, 1);
	e->gate = true;
	pthread_cond_broadcast(&e->changed);
	while (!e->served)
		pthread_cond_wait(&e->changed, &e->d.lock);
	pthread_mutex_unlock(&e->d.lock);
	assert_false(vg_used(&g, 0, NULL, NULL));
	assert_int_equal(vg_irqs(&g), irqs);
	echo_once(&g, 1, "the others go on", false);
	assert_int_equal(vg_read(&g, VG_STATUS), RUNNING);
	vg_fini(&g);
}

/* ---- a device that works in threads ---- */

struct resetter {
	struct vg *g;
	bool done;
};

static void *reset_thread(void *ctx)
{
	struct resetter *r = ctx;

	vg_write(r->g, VG_STATUS, 0);
	__atomic_store_n(&r->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/*
 * A reset waits for what is under way; meanwhile the status is not 0, nothing else is written, and
 * registers can be read.
 */
static void test_reset_waits(void **state)
{
	struct resetter r = { .done = false };
	pthread_t thread;
	struct vg_buf b;
	struct echo *e;
	struct vg g;
	int64_t end = clock_ms() + VG_WAIT_MS;
	bool resetting = false;

	e = begin(&g, true);
	r.g = &g;
	vg_boot(&g, ~0ull, 8);
	b = vg_in(&g, 8);
	pthread_mutex_lock(&e->d.lock);
	e->busy = true; /* as if a thread were at work */
	pthread_mutex_unlock(&e->d.lock);
	assert_int_equal(pthread_create(&thread, NULL, reset_thread, &r), 0);
	while (!resetting && clock_ms() < end) {
		pthread_mutex_lock(&e->d.lock);
		resetting = e->was_reset == 1;
		pthread_mutex_unlock(&e->d.lock);
	}
	assert_true(resetting);
	assert_int_equal(vg_read(&g, VG_STATUS), RUNNING);
	vg_write(&g, VG_STATUS, RUNNING);
	vg_write(&g, VG_STATUS, 0);
	vg_write(&g, VG_QUEUE_SEL, 0);
	vg_write(&g, VG_QUEUE_READY, 0);
	vg_write(&g, VG_CONFIG, 0x01020304);
	vg_add(&g, 0, &b, 1);
	vg_kick(&g, 0);
	assert_false(__atomic_load_n(&r.done, __ATOMIC_SEQ_CST));
	assert_int_equal(vg_read(&g, VG_STATUS), RUNNING);
	pthread_mutex_lock(&e->d.lock);
	assert_int_equal(e->was_reset, 1);
	assert_int_equal(e->activated, 1);
	assert_int_equal(e->config_writes, 0);
	e->busy = false;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->d.lock);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(vg_read(&g, VG_STATUS), 0);
	vg_boot(&g, ~0ull, 8);
	echo_once(&g, 0, "again", false);
	vg_fini(&g);
}

static void test_slow_device(void **state)
{
	struct echo *e;
	struct vg g;

	vg_init(&g, true);
	e = echo_create(&g.env);
	e->slow = true;
	vg_attach(&g, &e->d);
	vg_boot(&g, ~0ull, 8);
	for (unsigned int i = 0; i < 500; i++) {
		echo_once(&g, i % ECHO_QUEUES, "by a thread", i % 2);
		if (i % 100 == 99) { /* a reset with one under way, perhaps */
			struct vg_buf b = vg_in(&g, 8);

			vg_add(&g, 0, &b, 1);
			vg_kick(&g, 0);
			vg_boot(&g, ~0ull, 8);
		}
	}
	vg_fini(&g);
}

struct started {
	int kinds[4], rc;
	bool blocked;
	char name[16];
};

static int on_start(void *ctx, enum smolvm_vmm_thread kind)
{
	struct started *s = ctx;
	sigset_t set;

	s->kinds[kind]++;
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	s->blocked = sigismember(&set, SIGINT) && sigismember(&set, SIGCHLD);
	pthread_getname_np(pthread_self(), s->name, sizeof(s->name));
	return s->rc;
}

static void *count_run(void *ctx)
{
	__atomic_fetch_add((int *)ctx, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void test_thread(void **state)
{
	struct started s = { .rc = 0 };
	struct virtio_env env = { .thread_started = on_start, .thread_ctx = &s,
				  .name = "12345678" };
	sigset_t before, after;
	pthread_t t;
	int ran = 0;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(virtio_thread(&env, SMOLVM_VMM_THREAD_WORKER, &t, count_run, &ran), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(ran, 1);
	assert_int_equal(s.kinds[SMOLVM_VMM_THREAD_WORKER], 1);
	assert_true(s.blocked);
	assert_string_equal(s.name, "12345678-disk0");
	s.rc = -EPERM;
	assert_int_equal(virtio_thread(&env, SMOLVM_VMM_THREAD_FS, &t, count_run, &ran), -EPERM);
	assert_int_equal(ran, 1);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_int_equal(sigismember(&after, SIGINT), sigismember(&before, SIGINT));
	env.thread_started = NULL;
	assert_int_equal(virtio_thread(&env, SMOLVM_VMM_THREAD_IO, &t, count_run, &ran), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(ran, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_absent),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_reset_everywhere),
		cmocka_unit_test(test_queue_registers),
		cmocka_unit_test(test_queue_places),
		cmocka_unit_test(test_queue_order),
		cmocka_unit_test(test_isr),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_notify_early),
		cmocka_unit_test(test_queue_stop),
		cmocka_unit_test(test_reset_waits),
		cmocka_unit_test(test_slow_device),
		cmocka_unit_test(test_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
