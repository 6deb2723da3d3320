/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes as a script of register accesses and memory writes of a guest, against a small device:
 * whatever it does, the device stays within memory, and works after a reset.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/virtio_echo.h"
#include "virtio/devices.h"
#include "virtio/mmio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM	  0x40000u
#define GPA	  0x40000000ull
#define STEPS_MAX 512u

enum step {
	STEP_WRITE,  /* register, value */
	STEP_READ,   /* register */
	STEP_ACCESS, /* offset, size, value: anywhere, of any size */
	STEP_MEMORY, /* offset, length, bytes */
	STEP_KICK,   /* queue */
	STEP_BOOT,   /* log2 of the size: all as it should be */
	STEP_ADD,    /* queue, length, flags: a request as it should be */
	STEP_HOST,   /* the host has something to say */
	STEPS,
};

struct script {
	const uint8_t *p;
	size_t left;
};

static uint8_t ram[RAM] __attribute__((aligned(65536)));

static uint32_t take(struct script *s, unsigned int bytes)
{
	uint32_t v = 0;

	for (unsigned int i = 0; i < bytes && s->left; i++, s->left--)
		v |= (uint32_t)*s->p++ << (8 * i);
	return v;
}

static uint32_t reg_read(struct virtio_mmio *m, uint64_t reg)
{
	uint32_t v;

	virtio_mmio_read(m, reg, (uint8_t *)&v, sizeof(v));
	return v;
}

static void reg_write(struct virtio_mmio *m, uint64_t reg, uint32_t v)
{
	virtio_mmio_write(m, reg, (const uint8_t *)&v, sizeof(v));
}

/* Queue @i: its descriptors at i * 0x8000, the rings behind them. */
static void queue(struct virtio_mmio *m, unsigned int i, unsigned int size_log)
{
	uint32_t base = (uint32_t)GPA + i * 0x8000u;

	reg_write(m, 0x30, i);
	reg_write(m, 0x38, 1u << size_log);
	for (unsigned int part = 0; part < 3; part++) {
		reg_write(m, 0x80 + 0x10 * part, base + (part ? 0x4000 + (part - 1) * 0x1000 : 0));
		reg_write(m, 0x84 + 0x10 * part, 0);
	}
	reg_write(m, 0x44, 1);
}

static void boot(struct virtio_mmio *m, unsigned int size_log)
{
	reg_write(m, 0x70, 0);
	memset(ram, 0, sizeof(ram));
	reg_write(m, 0x70, 3);
	for (uint32_t i = 0; i < 2; i++) {
		reg_write(m, 0x14, i);
		reg_write(m, 0x24, i);
		reg_write(m, 0x20, reg_read(m, 0x10));
	}
	reg_write(m, 0x70, 11);
	for (unsigned int i = 0; i < m->device->n_queues; i++)
		queue(m, i, size_log);
	reg_write(m, 0x70, 15);
	assert(reg_read(m, 0x70) == 15);
}

/* A request of one buffer in descriptor 0, where boot() has put the rings. */
static void add(struct virtio_mmio *m, unsigned int i, uint32_t len, uint16_t flags)
{
	uint8_t *desc = ram + i * 0x8000u;
	uint64_t addr = GPA + 0x30000;
	uint16_t zero = 0, idx, size = m->device->queues[i].size;

	if (!size)
		return;
	memcpy(desc, &addr, 8);
	memcpy(desc + 8, &len, 4);
	memcpy(desc + 12, &flags, 2);
	memcpy(&idx, desc + 0x4002, 2);
	memcpy(desc + 0x4004 + 2 * (idx % size), &zero, 2);
	idx++;
	memcpy(desc + 0x4002, &idx, 2);
}

static void step_memory(struct script *s)
{
	uint32_t at = take(s, 3) % RAM, n = take(s, 1);

	if (n > RAM - at)
		n = RAM - at;
	if (n > s->left)
		n = (uint32_t)s->left;
	memcpy(ram + at, s->p, n);
	s->p += n;
	s->left -= n;
}

static void step_access(struct virtio_mmio *m, struct script *s)
{
	uint64_t offset = take(s, 2) % (VIRTIO_MMIO_BYTES + 64), value;
	unsigned int size = 1u << take(s, 1) % 4;
	uint8_t p[8];

	value = take(s, 4) * 0x100000001ull;
	memcpy(p, &value, sizeof(p));
	virtio_mmio_write(m, offset, p, size);
	virtio_mmio_read(m, offset, p, size);
}

static void step_host(struct virtio_device *d)
{
	uint64_t stats[BALLOON_STATS];

	if (d->ops->id == VIRTIO_ID_BALLOON) {
		balloon_set(d, d->generation + 1);
		balloon_stats(d, stats);
		return;
	}
	pthread_mutex_lock(&d->lock);
	virtio_config_changed(d);
	pthread_mutex_unlock(&d->lock);
}

static void step(struct virtio_mmio *m, struct script *s)
{
	unsigned int n_queues = m->device->n_queues;
	uint32_t a;

	switch ((enum step)(take(s, 1) % STEPS)) {
	case STEP_WRITE:
		a = take(s, 1) * 4;
		reg_write(m, a, take(s, 4));
		break;
	case STEP_READ:
		reg_read(m, take(s, 1) * 4);
		break;
	case STEP_ACCESS:
		step_access(m, s);
		break;
	case STEP_MEMORY:
		step_memory(s);
		break;
	case STEP_KICK:
		reg_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, take(s, 1));
		break;
	case STEP_BOOT:
		boot(m, take(s, 1) % 7);
		break;
	case STEP_ADD:
		a = take(s, 1) % n_queues;
		add(m, a, take(s, 2), (uint16_t)take(s, 1));
		reg_write(m, VIRTIO_MMIO_QUEUE_NOTIFY, a);
		break;
	case STEP_HOST:
	case STEPS:
		step_host(m->device);
		break;
	}
}

static struct virtio_device *device(unsigned int kind, struct virtio_env *env)
{
	struct virtio_device *d;
	int rc = 0;

	switch (kind % 4) {
	case 0:
		rc = rng_create(&d, env, NULL);
		break;
	case 1:
		rc = balloon_create(&d, env, NULL);
		break;
	default:
		d = &echo_create(env)->d;
		((struct echo *)d)->batched = kind % 4 == 2;
	}
	assert(rc == 0);
	return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gmem mem = { .regions = { { GPA, RAM, ram } }, .n_regions = 1 };
	struct smolvm_vmm_counters counters = { 0 };
	struct virtio_env env = { .mem = &mem, .counters = &counters, .name = "fuzz" };
	struct script s = { data, size };
	struct virtio_device *d = device(take(&s, 1), &env);
	struct virtio_mmio m;
	uint16_t used;

	assert(virtio_mmio_init(&m, d) == 0);
	memset(ram, 0, sizeof(ram));
	for (unsigned int i = 0; i < STEPS_MAX && s.left; i++)
		step(&m, &s);
	assert(counters.balloon_bytes <= RAM);
	/* And now as it should be. */
	boot(&m, 3);
	add(&m, 0, 4, d->ops->id == VIRTIO_ID_BALLOON ? 0 : 2);
	if (d->ops->id == VIRTIO_ID_BALLOON)
		memcpy(ram + 0x30000, "\x20\x00\x04\x00", 4); /* a page of RAM */
	reg_write(&m, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	memcpy(&used, ram + 0x5002, sizeof(used));
	assert(used == 1 && reg_read(&m, 0x70) == 15);
	virtio_mmio_reset(&m);
	virtio_mmio_fini(&m);
	d->ops->destroy(d);
	return 0;
}
