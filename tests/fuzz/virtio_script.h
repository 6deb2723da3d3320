/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio driver that does what an input says: a script of requests, notifications, scribbling in
 * memory, register and configuration accesses.
 *
 * The input's first byte: bit 0: an event loop, or none; bits 1 to 3: event idx, indirect tables
 * and the device's own features are not taken. Then operations, each a byte with its operands
 * behind:
 *
 *	0 to 2  a request: queue, number of buffers; each: direction and fill, length, address
 *	3	notify a queue, and turn the loop
 *	4	scribble in memory
 *	5	write a register
 *	6	read and write the configuration
 *	7	the device's own
 *
 * Operands that are missing are zeroes.
 */
#ifndef TESTS_FUZZ_VIRTIO_SCRIPT_H
#define TESTS_FUZZ_VIRTIO_SCRIPT_H

#include <stdlib.h>
#include <string.h>

#include "virtio/devices.h"
#include "virtio/mmio.h"

#define VS_RAM_BYTES (128u << 10)
#define VS_DATA	     0x10000u /* queues lie before it */
#define VS_GPA	     0x40000000ull
#define VS_SIZE	     32u /* of each queue */

struct vs {
	const uint8_t *at, *end;
	struct gmem mem;
	uint8_t *ram;
	struct smolvm_vmm_counters counters;
	struct virtio_env env;
	struct virtio_mmio mmio;
	struct virtio_device *device;
	struct loop_timer timer;
	uint16_t desc[VIRTIO_QUEUES_MAX], avail[VIRTIO_QUEUES_MAX];
	uint64_t features_taken;
};

static inline uint32_t vs_take(struct vs *s, unsigned int bytes)
{
	uint32_t v = 0;

	for (unsigned int i = 0; i < bytes; i++)
		v |= (s->at < s->end ? (uint32_t)*s->at++ : 0) << (8 * i);
	return v;
}

static inline void vs_write(struct vs *s, uint64_t reg, uint32_t v)
{
	virtio_mmio_write(&s->mmio, reg, (const uint8_t *)&v, sizeof(v));
}

static inline uint32_t vs_queue_at(unsigned int q)
{
	return q * 0xc00;
}

/** vs_boot() - from reset to DRIVER_OK, every queue enabled. */
static inline void vs_boot(struct vs *s)
{
	vs_write(s, 0x70, 0);
	memset(s->ram, 0, VS_DATA);
	memset(s->desc, 0, sizeof(s->desc));
	memset(s->avail, 0, sizeof(s->avail));
	vs_write(s, 0x70, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	for (uint32_t i = 0; i < 2; i++) {
		vs_write(s, 0x24, i);
		vs_write(s, 0x20, (uint32_t)(s->features_taken >> (32 * i)));
	}
	vs_write(s, 0x70, VIRTIO_STATUS_FEATURES_OK);
	for (unsigned int q = 0; q < s->device->n_queues; q++) {
		uint64_t gpa = VS_GPA + vs_queue_at(q);

		vs_write(s, 0x30, q);
		vs_write(s, 0x38, VS_SIZE);
		vs_write(s, 0x80, (uint32_t)gpa);
		vs_write(s, 0x90, (uint32_t)gpa + 0x200);
		vs_write(s, 0xa0, (uint32_t)gpa + 0x400);
		vs_write(s, 0x44, 1);
	}
	vs_write(s, 0x70, VIRTIO_STATUS_DRIVER_OK);
}

/** vs_begin() - memory, env and, if the input wants it, a loop. */
static inline void vs_begin(struct vs *s, const uint8_t *data, size_t size, struct pool *pool)
{
	memset(s, 0, sizeof(*s));
	s->at = data;
	s->end = data + size;
	s->ram = aligned_alloc(64, VS_RAM_BYTES);
	if (!s->ram)
		abort();
	memset(s->ram, 0, VS_RAM_BYTES);
	s->mem = (struct gmem){ .regions = { { VS_GPA, VS_RAM_BYTES, s->ram } }, .n_regions = 1 };
	s->env = (struct virtio_env){
		.mem = &s->mem, .counters = &s->counters, .pool = pool, .name = "fuzz"
	};
	if (size && data[0] & 1)
		s->env.loop = loop_create();
}

/** vs_attach() - put the transport before @d, start and boot it. */
static inline void vs_attach(struct vs *s, struct virtio_device *d)
{
	uint32_t flags = vs_take(s, 1);

	s->device = d;
	if (virtio_mmio_init(&s->mmio, d) < 0 || (d->ops->start && d->ops->start(d, NULL) < 0))
		abort();
	s->features_taken = d->features;
	if (flags & 2)
		s->features_taken &= ~VIRTIO_F_EVENT_IDX;
	if (flags & 4)
		s->features_taken &= ~VIRTIO_F_INDIRECT_DESC;
	if (flags & 8)
		s->features_taken &= ~0xffffffull;
	vs_boot(s);
}

static inline void vs_stop(struct loop_timer *t)
{
	loop_stop(t->ctx, 0);
}

/** vs_turn() - one round of the loop, if there is one. */
static inline void vs_turn(struct vs *s)
{
	if (!s->env.loop)
		return;
	s->timer.fired = vs_stop;
	s->timer.ctx = s->env.loop;
	loop_arm(s->env.loop, &s->timer, 0);
	loop_run(s->env.loop);
}

static inline void vs_request(struct vs *s)
{
	unsigned int q = vs_take(s, 1) % s->device->n_queues, n = vs_take(s, 1) % 8 + 1;
	uint8_t *base = s->ram + vs_queue_at(q);
	uint16_t head = s->desc[q] % VS_SIZE;
	uint16_t *avail = (uint16_t *)(void *)(base + 0x200);

	for (unsigned int i = 0; i < n; i++) {
		uint32_t kind = vs_take(s, 1), len = vs_take(s, 2), off = vs_take(s, 2);
		uint64_t gpa = VS_GPA + VS_DATA + off;
		uint16_t d = s->desc[q]++ % VS_SIZE, flags = (uint16_t)(kind & 2);
		uint8_t *p = base + 16u * d;

		len <<= kind >> 7 ? 8 : 0;
		for (unsigned int k = kind >> 2 & 31; k; k--)
			s->ram[VS_DATA + (off + (kind >> 2 & 31) - k) % VS_DATA] =
				(uint8_t)vs_take(s, 1);
		if (i + 1 < n)
			flags |= 1;
		memcpy(p, &gpa, 8);
		memcpy(p + 8, &len, 4);
		memcpy(p + 12, &flags, 2);
		d = s->desc[q] % VS_SIZE;
		memcpy(p + 14, &d, 2);
	}
	avail[2 + s->avail[q] % VS_SIZE] = head;
	__atomic_store_n(&avail[1], ++s->avail[q], __ATOMIC_RELEASE);
}

static inline void vs_scribble(struct vs *s)
{
	uint32_t off = vs_take(s, 2) * 2, n = vs_take(s, 1) % 32;

	/* Bytes at odd times are the point; workers may be at them under no lock. */
	while (n--)
		__atomic_store_n(&s->ram[off++ % VS_RAM_BYTES], (uint8_t)vs_take(s, 1),
				 __ATOMIC_RELAXED);
}

/** vs_step() - one operation. Return: its number, 7 being the caller's; -1 at the end. */
static inline int vs_step(struct vs *s)
{
	uint8_t bytes[8];
	uint32_t op, reg;

	if (s->at >= s->end)
		return -1;
	op = vs_take(s, 1) % 8;
	switch (op) {
	case 3:
		vs_write(s, VIRTIO_MMIO_QUEUE_NOTIFY, vs_take(s, 1) % 32);
		vs_turn(s);
		break;
	case 4:
		vs_scribble(s);
		break;
	case 5:
		reg = vs_take(s, 1);
		vs_write(s, reg & 0xfc, vs_take(s, 4));
		if (reg & 1)
			vs_boot(s);
		break;
	case 6:
		reg = vs_take(s, 1);
		virtio_mmio_read(&s->mmio, 0x100 + reg, bytes, 1u << (reg & 3));
		virtio_mmio_write(&s->mmio, 0x100 + reg, bytes, 1u << (reg & 3));
		break;
	case 7:
		break;
	default:
		vs_request(s);
	}
	return (int)op;
}

static inline void vs_end(struct vs *s)
{
	virtio_mmio_reset(&s->mmio);
	if (s->device->status || s->device->active)
		abort();
	vs_turn(s);
	virtio_mmio_fini(&s->mmio);
	s->device->ops->destroy(s->device);
	loop_destroy(s->env.loop);
	free(s->ram);
}

#endif
