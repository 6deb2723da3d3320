/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of the virtio devices for their tests: a guest's driver, in this process.
 *
 *	struct vg g;
 *	struct virtio_device *d;
 *
 *	vg_init(&g, true);				RAM, env, event loop (true) or none
 *	assert_int_equal(rng_create(&d, &g.env, NULL), 0);
 *	vg_attach(&g, d);				transport, start(), loop in a thread
 *	vg_boot(&g, ~0ull, 64);				features, all queues, DRIVER_OK
 *	struct vg_buf in = vg_in(&g, 100);		a buffer that the device writes
 *	uint16_t head = vg_add(&g, 0, &in, 1);
 *	vg_kick(&g, 0);
 *	assert_true(vg_wait(&g, 0, &head, &written));	a used entry, within VG_WAIT_MS
 *	... vg_ptr(&g, in.gpa) ...
 *	vg_fini(&g);					resets, stops the loop, destroys the device
 *
 * With a loop, devices are notified in its thread, as in a machine; without, vg_kick() calls
 * notify() itself and everything that a simple device does is done when it returns.
 * Requests that break the rules are made by hand: vg_desc(), vg_publish(), vg_avail_idx().
 * Memory is taken by vg_alloc() from one end and never given back (but see vg.brk).
 */
#ifndef TESTS_VIRTIO_GUEST_H
#define TESTS_VIRTIO_GUEST_H

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/loop.h"
#include "virtio/devices.h"
#include "virtio/mmio.h"

#define VG_RAM_GPA   0x10000000ull
#define VG_RAM_BYTES (64ull << 20)
#define VG_GUARD     0x10000ull /* without access, before and after RAM */
#define VG_WAIT_MS   10000

/* Registers of virtio-mmio (virtio 1.2 §4.2.2). */
enum vg_reg {
	VG_MAGIC = 0x00,
	VG_VERSION = 0x04,
	VG_DEVICE_ID = 0x08,
	VG_VENDOR_ID = 0x0c,
	VG_DEVICE_FEATURES = 0x10,
	VG_DEVICE_FEATURES_SEL = 0x14,
	VG_DRIVER_FEATURES = 0x20,
	VG_DRIVER_FEATURES_SEL = 0x24,
	VG_QUEUE_SEL = 0x30,
	VG_QUEUE_NUM_MAX = 0x34,
	VG_QUEUE_NUM = 0x38,
	VG_QUEUE_READY = 0x44,
	VG_QUEUE_NOTIFY = 0x50,
	VG_ISR = 0x60,
	VG_ISR_ACK = 0x64,
	VG_STATUS = 0x70,
	VG_QUEUE_DESC = 0x80,
	VG_QUEUE_AVAIL = 0x90,
	VG_QUEUE_USED = 0xa0,
	VG_SHM_SEL = 0xac,
	VG_SHM_LEN = 0xb0,
	VG_SHM_BASE = 0xb8,
	VG_QUEUE_RESET = 0xc0,
	VG_GENERATION = 0xfc,
	VG_CONFIG = 0x100,
};

/* Flags of a descriptor. */
#define VG_NEXT	    1u
#define VG_WRITE    2u
#define VG_INDIRECT 4u

struct vg_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/** struct vg_buf - one buffer of a request: @len bytes at @gpa, @write: the device writes it. */
struct vg_buf {
	uint64_t gpa;
	uint32_t len;
	bool write;
};

/**
 * struct vg_queue - a queue as its driver sees it.
 * @desc_gpa, @avail_gpa, @used_gpa: its parts; @size: entries.
 * @avail: the index last published; @used: entries of the used ring that were looked at.
 * @quiet: ask for no interrupts from now on.
 */
struct vg_queue {
	uint64_t desc_gpa, avail_gpa, used_gpa;
	uint16_t size, avail, used;
	bool quiet;
	uint16_t free[VIRTQ_SIZE_MAX], n_free;
	uint16_t next[VIRTQ_SIZE_MAX], length[VIRTQ_SIZE_MAX]; /* of the chains, by head */
};

/**
 * struct vg - a guest with one device.
 * @mem:  its RAM; a test may cut it into regions before the device is made.
 * @brk:  where vg_alloc() goes on; set it back to use memory again.
 * @irqs: interrupts so far, read with vg_irqs(); @irq_fd: an eventfd that each adds to.
 */
struct vg {
	struct gmem mem;
	uint8_t *map, *ram;
	uint64_t brk;
	struct smolvm_vmm_counters counters;
	struct virtio_env env;
	struct virtio_mmio mmio;
	struct virtio_device *device;
	uint64_t features;
	unsigned int irqs;
	int irq_fd, stop_fd;
	bool running;
	pthread_t thread;
	struct loop_watch stop;
	struct vg_queue queues[VIRTIO_QUEUES_MAX];
};

/* ---- life ---- */

static inline void vg_init(struct vg *g, bool with_loop)
{
	memset(g, 0, sizeof(*g));
	g->map = mmap(NULL, VG_RAM_BYTES + 2 * VG_GUARD, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(g->map, MAP_FAILED);
	g->ram = g->map + VG_GUARD;
	assert_int_equal(mprotect(g->ram, VG_RAM_BYTES, PROT_READ | PROT_WRITE), 0);
	g->mem.regions[0] = (struct gmem_region){ VG_RAM_GPA, VG_RAM_BYTES, g->ram };
	g->mem.n_regions = 1;
	g->brk = VG_RAM_GPA;
	g->env = (struct virtio_env){ .mem = &g->mem, .counters = &g->counters, .name = "test" };
	if (with_loop) {
		g->env.loop = loop_create();
		assert_non_null(g->env.loop);
	}
	g->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(g->irq_fd >= 0 && g->stop_fd >= 0);
}

static inline void vg_raise(void *ctx)
{
	struct vg *g = ctx;
	uint64_t one = 1;

	__atomic_fetch_add(&g->irqs, 1, __ATOMIC_RELEASE);
	if (write(g->irq_fd, &one, sizeof(one)) < 0)
		abort();
}

/** vg_irqs() - how many interrupts there have been. */
static inline unsigned int vg_irqs(struct vg *g)
{
	return __atomic_load_n(&g->irqs, __ATOMIC_ACQUIRE);
}

static inline void vg_loop_stop(struct loop_watch *w, unsigned int events)
{
	struct vg *g = w->ctx;

	(void)events;
	loop_stop(g->env.loop, 0);
}

static inline void *vg_loop_run(void *ctx)
{
	struct vg *g = ctx;

	loop_run(g->env.loop);
	return NULL;
}

/** vg_attach() - put the transport before @d, start the device, let the loop run in a thread. */
static inline void vg_attach(struct vg *g, struct virtio_device *d)
{
	g->device = d;
	d->raise = vg_raise;
	d->raise_ctx = g;
	assert_int_equal(virtio_mmio_init(&g->mmio, d), 0);
	if (d->ops->start)
		assert_int_equal(d->ops->start(d, NULL), 0);
	if (!g->env.loop)
		return;
	g->stop = (struct loop_watch){
		.fd = g->stop_fd, .events = LOOP_READ, .ready = vg_loop_stop, .ctx = g
	};
	assert_int_equal(loop_add(g->env.loop, &g->stop), 0);
	assert_int_equal(pthread_create(&g->thread, NULL, vg_loop_run, g), 0);
	g->running = true;
}

/** vg_stop() - end the loop's thread: from now on nothing but the device's own threads runs. */
static inline void vg_stop(struct vg *g)
{
	uint64_t one = 1;

	if (!g->running)
		return;
	assert_int_equal(write(g->stop_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(g->thread, NULL), 0);
	loop_remove(g->env.loop, &g->stop);
	g->running = false;
}

static inline void vg_fini(struct vg *g)
{
	if (g->device) {
		virtio_mmio_reset(&g->mmio);
		vg_stop(g);
		virtio_mmio_reset(&g->mmio);
		virtio_mmio_fini(&g->mmio);
		g->device->ops->destroy(g->device);
	}
	loop_destroy(g->env.loop);
	close(g->irq_fd);
	close(g->stop_fd);
	munmap(g->map, VG_RAM_BYTES + 2 * VG_GUARD);
}

/* ---- memory ---- */

/** vg_alloc() - @bytes of guest memory, zeroed, at a multiple of @align (a power of two). */
static inline uint64_t vg_alloc(struct vg *g, uint64_t bytes, uint64_t align)
{
	uint64_t gpa = (g->brk + align - 1) & ~(align - 1);

	assert_true(gpa + bytes <= VG_RAM_GPA + VG_RAM_BYTES);
	g->brk = gpa + bytes;
	memset(g->ram + (gpa - VG_RAM_GPA), 0, bytes);
	return gpa;
}

/** vg_ptr() - where the guest's memory at @gpa is. */
static inline void *vg_ptr(struct vg *g, uint64_t gpa)
{
	assert_true(gpa >= VG_RAM_GPA && gpa < VG_RAM_GPA + VG_RAM_BYTES);
	return g->ram + (gpa - VG_RAM_GPA);
}

/** vg_out() - a buffer for the device to read, with @data in it. */
static inline struct vg_buf vg_out(struct vg *g, const void *data, uint32_t len)
{
	struct vg_buf b = { vg_alloc(g, len, 16), len, false };

	if (len)
		memcpy(vg_ptr(g, b.gpa), data, len);
	return b;
}

/** vg_in() - a buffer for the device to write. */
static inline struct vg_buf vg_in(struct vg *g, uint32_t len)
{
	return (struct vg_buf){ vg_alloc(g, len, 16), len, true };
}

/* ---- registers ---- */

static inline uint32_t vg_read(struct vg *g, uint64_t reg)
{
	uint32_t v = 0xdeadbeef;

	virtio_mmio_read(&g->mmio, reg, (uint8_t *)&v, sizeof(v));
	return v;
}

static inline void vg_write(struct vg *g, uint64_t reg, uint32_t v)
{
	virtio_mmio_write(&g->mmio, reg, (const uint8_t *)&v, sizeof(v));
}

/** vg_config() - @len bytes of the device's configuration at @offset, byte by byte. */
static inline void vg_config(struct vg *g, unsigned int offset, void *to, unsigned int len)
{
	for (unsigned int i = 0; i < len; i++)
		virtio_mmio_read(&g->mmio, VG_CONFIG + offset + i, (uint8_t *)to + i, 1);
}

static inline bool vg_needs_reset(struct vg *g)
{
	return (vg_read(g, VG_STATUS) & VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static inline uint64_t vg_offered(struct vg *g)
{
	uint64_t v;

	vg_write(g, VG_DEVICE_FEATURES_SEL, 0);
	v = vg_read(g, VG_DEVICE_FEATURES);
	vg_write(g, VG_DEVICE_FEATURES_SEL, 1);
	return v | (uint64_t)vg_read(g, VG_DEVICE_FEATURES) << 32;
}

/**
 * vg_negotiate() - reset the device and take those of @features that it offers, and VERSION_1.
 * Leaves it at FEATURES_OK, the queues to be set up.
 */
static inline void vg_negotiate(struct vg *g, uint64_t features)
{
	uint32_t status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;

	vg_write(g, VG_STATUS, 0);
	assert_int_equal(vg_read(g, VG_STATUS), 0);
	vg_write(g, VG_STATUS, VIRTIO_STATUS_ACKNOWLEDGE);
	vg_write(g, VG_STATUS, status);
	g->features = vg_offered(g) & (features | VIRTIO_F_VERSION_1);
	vg_write(g, VG_DRIVER_FEATURES_SEL, 0);
	vg_write(g, VG_DRIVER_FEATURES, (uint32_t)g->features);
	vg_write(g, VG_DRIVER_FEATURES_SEL, 1);
	vg_write(g, VG_DRIVER_FEATURES, (uint32_t)(g->features >> 32));
	vg_write(g, VG_STATUS, status | VIRTIO_STATUS_FEATURES_OK);
	assert_int_equal(vg_read(g, VG_STATUS), status | VIRTIO_STATUS_FEATURES_OK);
}

static inline void vg_driver_ok(struct vg *g)
{
	vg_write(g, VG_STATUS, vg_read(g, VG_STATUS) | VIRTIO_STATUS_DRIVER_OK);
}

/* ---- queues ---- */

static inline uint64_t vg_avail_bytes(uint16_t size)
{
	return 6 + 2ull * size;
}

static inline uint64_t vg_used_bytes(uint16_t size)
{
	return 6 + 8ull * size;
}

/** vg_place() - tell the device of queue @i as it stands in g->queues, and enable it. */
static inline void vg_place(struct vg *g, unsigned int i)
{
	struct vg_queue *q = &g->queues[i];
	const struct {
		uint32_t reg;
		uint64_t gpa;
	} parts[] = { { VG_QUEUE_DESC, q->desc_gpa },
		      { VG_QUEUE_AVAIL, q->avail_gpa },
		      { VG_QUEUE_USED, q->used_gpa } };

	vg_write(g, VG_QUEUE_SEL, i);
	vg_write(g, VG_QUEUE_NUM, q->size);
	for (unsigned int p = 0; p < 3; p++) {
		vg_write(g, parts[p].reg, (uint32_t)parts[p].gpa);
		vg_write(g, parts[p].reg + 4, (uint32_t)(parts[p].gpa >> 32));
	}
	vg_write(g, VG_QUEUE_READY, 1);
}

/** vg_queue() - set up queue @i with @size entries in fresh memory, and enable it. */
static inline struct vg_queue *vg_queue(struct vg *g, unsigned int i, uint16_t size)
{
	struct vg_queue *q = &g->queues[i];

	memset(q, 0, sizeof(*q));
	q->size = size;
	q->desc_gpa = vg_alloc(g, 16ull * size, 16);
	q->avail_gpa = vg_alloc(g, vg_avail_bytes(size), 2);
	q->used_gpa = vg_alloc(g, vg_used_bytes(size), 4);
	for (uint16_t k = 0; k < size; k++)
		q->free[q->n_free++] = (uint16_t)(size - 1 - k);
	vg_place(g, i);
	return q;
}

/**
 * vg_boot() - negotiate @features, set up every queue with @size entries (fewer where the device
 * takes no more; 0: as many as it takes), DRIVER_OK.
 */
static inline void vg_boot(struct vg *g, uint64_t features, uint16_t size)
{
	vg_negotiate(g, features);
	for (unsigned int i = 0; i < g->device->n_queues; i++) {
		uint32_t max;

		vg_write(g, VG_QUEUE_SEL, i);
		max = vg_read(g, VG_QUEUE_NUM_MAX);
		vg_queue(g, i, size && size < max ? size : (uint16_t)max);
		assert_int_equal(vg_read(g, VG_QUEUE_READY), 1);
	}
	vg_driver_ok(g);
}

static inline struct vg_desc *vg_desc_at(struct vg *g, unsigned int i, uint16_t n)
{
	return (struct vg_desc *)vg_ptr(g, g->queues[i].desc_gpa) + n;
}

/** vg_desc() - write descriptor @n of queue @i, whatever it says. */
static inline void vg_desc(struct vg *g, unsigned int i, uint16_t n, uint64_t addr, uint32_t len,
			   uint16_t flags, uint16_t next)
{
	*vg_desc_at(g, i, n) = (struct vg_desc){ addr, len, flags, next };
}

/** vg_avail_idx() - set the available ring's index, whatever it says. */
static inline void vg_avail_idx(struct vg *g, unsigned int i, uint16_t idx)
{
	uint16_t *avail = vg_ptr(g, g->queues[i].avail_gpa);

	g->queues[i].avail = idx;
	__atomic_store_n(&avail[1], idx, __ATOMIC_SEQ_CST);
}

/** vg_publish() - put @head into the available ring. */
static inline void vg_publish(struct vg *g, unsigned int i, uint16_t head)
{
	struct vg_queue *q = &g->queues[i];
	uint16_t *avail = vg_ptr(g, q->avail_gpa);

	avail[2 + q->avail % q->size] = head;
	vg_avail_idx(g, i, (uint16_t)(q->avail + 1));
}

static inline uint16_t vg_take(struct vg_queue *q)
{
	assert_true(q->n_free > 0);
	return q->free[--q->n_free];
}

/** vg_add() - publish a request of @n buffers, one descriptor each. Return: its head. */
static inline uint16_t vg_add(struct vg *g, unsigned int i, const struct vg_buf *bufs,
			      unsigned int n)
{
	struct vg_queue *q = &g->queues[i];
	uint16_t head = vg_take(q), at = head;

	assert_true(n >= 1);
	q->length[head] = (uint16_t)n;
	for (unsigned int k = 0; k < n; k++) {
		bool last = k + 1 == n;
		uint16_t next = last ? 0 : vg_take(q);

		vg_desc(g, i, at, bufs[k].gpa, bufs[k].len,
			(bufs[k].write ? VG_WRITE : 0) | (last ? 0 : VG_NEXT), next);
		q->next[at] = next;
		at = next;
	}
	vg_publish(g, i, head);
	return head;
}

/** vg_add_indirect() - the same by one descriptor and an indirect table. */
static inline uint16_t vg_add_indirect(struct vg *g, unsigned int i, const struct vg_buf *bufs,
				       unsigned int n)
{
	struct vg_queue *q = &g->queues[i];
	uint16_t head = vg_take(q);
	uint64_t gpa = vg_alloc(g, sizeof(struct vg_desc) * n, 16);
	struct vg_desc *table = vg_ptr(g, gpa);

	for (unsigned int k = 0; k < n; k++) {
		bool last = k + 1 == n;

		table[k] = (struct vg_desc){ bufs[k].gpa, bufs[k].len,
					     (bufs[k].write ? VG_WRITE : 0) | (last ? 0 : VG_NEXT),
					     last ? 0 : (uint16_t)(k + 1) };
	}
	q->length[head] = 1;
	vg_desc(g, i, head, gpa, (uint32_t)(sizeof(struct vg_desc) * n), VG_INDIRECT, 0);
	vg_publish(g, i, head);
	return head;
}

/** vg_kick() - notify the device of queue @i. */
static inline void vg_kick(struct vg *g, unsigned int i)
{
	vg_write(g, VG_QUEUE_NOTIFY, i);
}

/** vg_wants_kick() - whether the device asked to be notified of what was added since @old. */
static inline bool vg_wants_kick(struct vg *g, unsigned int i, uint16_t old)
{
	struct vg_queue *q = &g->queues[i];
	uint16_t *used = vg_ptr(g, q->used_gpa);
	uint16_t event;

	if (!(g->features & VIRTIO_F_EVENT_IDX))
		return !(__atomic_load_n(&used[0], __ATOMIC_SEQ_CST) & 1);
	event = __atomic_load_n(&used[2 + 4 * q->size], __ATOMIC_SEQ_CST);
	return (uint16_t)(q->avail - event - 1) < (uint16_t)(q->avail - old);
}

/* Ask for an interrupt with the next used entry, or for none. */
static inline void vg_want_irq(struct vg *g, struct vg_queue *q)
{
	uint16_t *avail = vg_ptr(g, q->avail_gpa);

	if (g->features & VIRTIO_F_EVENT_IDX)
		__atomic_store_n(&avail[2 + q->size], (uint16_t)(q->used - (q->quiet ? 1 : 0)),
				 __ATOMIC_SEQ_CST);
	else
		__atomic_store_n(&avail[0], q->quiet ? 1 : 0, __ATOMIC_SEQ_CST);
}

/** vg_used() - take the next used entry of queue @i; NULLs are allowed. Return: was there one? */
static inline bool vg_used(struct vg *g, unsigned int i, uint16_t *ret_head, uint32_t *ret_written)
{
	struct vg_queue *q = &g->queues[i];
	uint16_t *used = vg_ptr(g, q->used_gpa);
	uint32_t *entry, head;

	if (__atomic_load_n(&used[1], __ATOMIC_ACQUIRE) == q->used)
		return false;
	entry = (uint32_t *)(used + 2) + 2 * (q->used % q->size);
	head = entry[0];
	assert_true(head < q->size);
	if (ret_head)
		*ret_head = (uint16_t)head;
	if (ret_written)
		*ret_written = entry[1];
	for (uint16_t n = q->length[head], at = (uint16_t)head; n; n--, at = q->next[at])
		q->free[q->n_free++] = at;
	q->length[head] = 0;
	q->used++;
	vg_want_irq(g, q);
	return true;
}

/* ---- waiting ---- */

/**
 * vg_until() - wait until @done(@ctx), at most VG_WAIT_MS; it is asked again after each interrupt,
 * and every few milliseconds. Return: whether it came true.
 */
static inline bool vg_until(struct vg *g, bool (*done)(void *ctx), void *ctx)
{
	int64_t end = clock_ms() + VG_WAIT_MS;

	while (!done(ctx)) {
		struct pollfd p = { .fd = g->irq_fd, .events = POLLIN };
		uint64_t n;

		if (clock_ms() >= end)
			return false;
		if (poll(&p, 1, 2) > 0 && read(g->irq_fd, &n, sizeof(n)) < 0)
			continue;
	}
	return true;
}

struct vg_wait_for {
	struct vg *g;
	unsigned int queue;
};

static inline bool vg_has_used(void *ctx)
{
	struct vg_wait_for *w = ctx;
	struct vg_queue *q = &w->g->queues[w->queue];
	uint16_t *used = vg_ptr(w->g, q->used_gpa);

	return __atomic_load_n(&used[1], __ATOMIC_ACQUIRE) != q->used;
}

/** vg_wait() - vg_used(), waiting for it. */
static inline bool vg_wait(struct vg *g, unsigned int i, uint16_t *ret_head, uint32_t *ret_written)
{
	return vg_until(g, vg_has_used, &(struct vg_wait_for){ g, i }) &&
	       vg_used(g, i, ret_head, ret_written);
}

static inline bool vg_needs_reset_cb(void *ctx)
{
	return vg_needs_reset(ctx);
}

/** vg_wait_needs_reset() - until the device says that it needs a reset. */
static inline bool vg_wait_needs_reset(struct vg *g)
{
	return vg_until(g, vg_needs_reset_cb, g);
}

/** vg_request() - one request, there and back: add, kick, wait. Return: bytes written. */
static inline uint32_t vg_request(struct vg *g, unsigned int i, const struct vg_buf *bufs,
				  unsigned int n)
{
	uint16_t head = vg_add(g, i, bufs, n), got = 0;
	uint32_t written = 0;

	vg_kick(g, i);
	assert_true(vg_wait(g, i, &got, &written));
	assert_int_equal(got, head);
	return written;
}

#endif
