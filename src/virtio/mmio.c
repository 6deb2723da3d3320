/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio transport (virtio 1.2 §4.2).
 *
 * A device's life, as its status register tells it (§2.1, §3.1):
 *
 *	0 -> ACKNOWLEDGE, DRIVER -> FEATURES_OK -> DRIVER_OK	bits are only added
 *	     features are written   queues are      activate(),
 *				    enabled	    then notify()
 *
 *	a write of 0 leads back from anywhere: reset(), then every register as at first
 *
 * FEATURES_OK stays off for features that were not offered, or without VERSION_1. A queue can be
 * enabled between FEATURES_OK and DRIVER_OK only, is settled from then on, and can be stopped at
 * any time: the rings are left alone from that moment on, requests under way finish into their
 * buffers. What a driver must not do either has no effect or, where it would leave the two sides
 * with different rings, makes the device say NEEDS_RESET.
 *
 * Registers are accessed under the device's lock, but for the interrupt registers and
 * notifications, which a guest uses all the time and which must not wait for a device at work.
 * While a device's reset() waits for others, having released the lock, nothing else is written;
 * the status is not 0 yet.
 */
#include "virtio/mmio.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Registers (§4.2.2, table 4.1). */
enum {
	MAGIC_VALUE = 0x000,
	VERSION = 0x004,
	DEVICE_ID = 0x008,
	VENDOR_ID = 0x00c,
	DEVICE_FEATURES = 0x010,
	DEVICE_FEATURES_SEL = 0x014,
	DRIVER_FEATURES = 0x020,
	DRIVER_FEATURES_SEL = 0x024,
	QUEUE_SEL = 0x030,
	QUEUE_NUM_MAX = 0x034,
	QUEUE_NUM = 0x038,
	QUEUE_READY = 0x044,
	QUEUE_NOTIFY = VIRTIO_MMIO_QUEUE_NOTIFY,
	INTERRUPT_STATUS = 0x060,
	INTERRUPT_ACK = 0x064,
	STATUS = 0x070,
	QUEUE_DESC_LOW = 0x080,
	QUEUE_DESC_HIGH = 0x084,
	QUEUE_DRIVER_LOW = 0x090,
	QUEUE_DRIVER_HIGH = 0x094,
	QUEUE_DEVICE_LOW = 0x0a0,
	QUEUE_DEVICE_HIGH = 0x0a4,
	SHM_LEN_LOW = 0x0b0,
	SHM_LEN_HIGH = 0x0b4,
	SHM_BASE_LOW = 0x0b8,
	SHM_BASE_HIGH = 0x0bc,
	CONFIG_GENERATION = 0x0fc,
	CONFIG = 0x100,
};

#define MAGIC	     0x74726976u /* "virt" */
#define MMIO_VERSION 2u
#define VENDOR	     0x564c4d53u /* "SMLV" */

/* What a driver sets in the status. */
#define STATUS_DRIVERS                                                                             \
	(VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_DRIVER_OK |              \
	 VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_FAILED)

/* ---- notifications ---- */

/* Queue @i has been notified @n times. */
static void notified(struct virtio_mmio *m, unsigned int i, uint64_t n)
{
	struct virtio_device *d = m->device;
	struct virtq *q = &d->queues[i];

	virtio_count(&d->env->counters->notifies, n);
	pthread_mutex_lock(&d->lock);
	if (d->active && q->ready && !q->broken)
		d->ops->notify(d, i);
	pthread_mutex_unlock(&d->lock);
}

static void eventfd_ready(struct loop_watch *w, unsigned int events)
{
	struct virtio_mmio *m = w->ctx;
	uint64_t n;

	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		notified(m, (unsigned int)(w - m->watches), n);
}

/* The register, where the hypervisor does not write the eventfd itself. */
static void queue_notify(struct virtio_mmio *m, uint32_t i)
{
	if (i >= m->device->n_queues)
		return;
	if (m->device->notify_fds[i] < 0)
		notified(m, i, 1);
	else
		virtio_again(m->device, i);
}

int virtio_mmio_init(struct virtio_mmio *m, struct virtio_device *d)
{
	*m = (struct virtio_mmio){ .device = d };
	for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++)
		m->watches[i].fd = -1;
	if (!d->env->loop)
		return 0;
	for (unsigned int i = 0; i < d->n_queues; i++) {
		int rc = d->notify_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		if (rc < 0) {
			rc = -errno;
		} else if (!d->own_thread) {
			m->watches[i] = (struct loop_watch){
				.fd = rc, .events = LOOP_READ, .ready = eventfd_ready, .ctx = m
			};
			rc = loop_add(d->env->loop, &m->watches[i]);
			if (rc < 0)
				m->watches[i].fd = -1;
		}
		if (rc < 0) {
			virtio_mmio_fini(m);
			return rc;
		}
	}
	return 0;
}

void virtio_mmio_fini(struct virtio_mmio *m)
{
	struct virtio_device *d = m->device;

	for (unsigned int i = 0; i < d->n_queues; i++) {
		if (m->watches[i].fd >= 0)
			loop_remove(d->env->loop, &m->watches[i]);
		if (d->notify_fds[i] >= 0)
			close(d->notify_fds[i]);
		d->notify_fds[i] = -1;
	}
}

/* ---- status ---- */

static void reset(struct virtio_mmio *m)
{
	struct virtio_device *d = m->device;

	m->resetting = true;
	if (d->active) {
		d->active = false;
		if (d->ops->reset)
			d->ops->reset(d);
	}
	for (unsigned int i = 0; i < d->n_queues; i++)
		virtq_reset(&d->queues[i]);
	d->acked = 0;
	d->status = 0;
	__atomic_store_n(&d->isr, 0, __ATOMIC_SEQ_CST);
	m->queue_sel = m->feature_sel = m->driver_feature_sel = 0;
	m->feature_beyond = false;
	m->resetting = false;
}

static bool features_fit(const struct virtio_mmio *m)
{
	const struct virtio_device *d = m->device;

	return !m->feature_beyond && !(d->acked & ~d->features) && (d->acked & VIRTIO_F_VERSION_1);
}

static void write_status(struct virtio_mmio *m, uint32_t v)
{
	struct virtio_device *d = m->device;
	uint32_t known = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;
	uint32_t all;

	if (v == 0) {
		reset(m);
		return;
	}
	v &= STATUS_DRIVERS & ~d->status;
	all = d->status | v;
	if ((v & VIRTIO_STATUS_FEATURES_OK) && ((all & known) != known || !features_fit(m)))
		v &= ~VIRTIO_STATUS_FEATURES_OK;
	all = d->status | v;
	if (!(all & VIRTIO_STATUS_FEATURES_OK) || (all & VIRTIO_STATUS_NEEDS_RESET))
		v &= ~VIRTIO_STATUS_DRIVER_OK;
	d->status |= v;
	if (!(v & VIRTIO_STATUS_DRIVER_OK))
		return;
	d->active = true;
	__atomic_store_n(&m->driver_seen, true, __ATOMIC_RELEASE);
	if (d->ops->activate)
		d->ops->activate(d);
}

void virtio_mmio_reset(struct virtio_mmio *m)
{
	pthread_mutex_lock(&m->device->lock);
	if (!m->resetting)
		reset(m);
	pthread_mutex_unlock(&m->device->lock);
}

/* ---- features and queues ---- */

static void write_features(struct virtio_mmio *m, uint32_t v)
{
	struct virtio_device *d = m->device;
	unsigned int shift = m->driver_feature_sel * 32;

	if (m->driver_feature_sel > 1)
		m->feature_beyond |= v != 0;
	else
		d->acked = (d->acked & ~(0xffffffffull << shift)) | (uint64_t)v << shift;
}

static struct virtq *selected(struct virtio_mmio *m)
{
	return m->queue_sel < m->device->n_queues ? &m->device->queues[m->queue_sel] : NULL;
}

static void write_ready(struct virtio_mmio *m, uint32_t v)
{
	struct virtio_device *d = m->device;
	struct virtq *q = selected(m);

	if (q && v == 0)
		q->ready = false;
	if (!q || v != 1 || q->ready)
		return;
	q->event_idx = virtio_has(d, VIRTIO_F_EVENT_IDX);
	q->indirect = virtio_has(d, VIRTIO_F_INDIRECT_DESC);
	if (!(d->status & VIRTIO_STATUS_FEATURES_OK) || d->active ||
	    (d->status & VIRTIO_STATUS_NEEDS_RESET) || virtq_enable(q) < 0)
		virtio_fail(d);
}

/* The low or the high half of an address. */
static void set_half(uint64_t *gpa, bool high, uint32_t v)
{
	unsigned int shift = high ? 32 : 0;

	*gpa = (*gpa & ~(0xffffffffull << shift)) | (uint64_t)v << shift;
}

/* Size and places of the selected queue, which cannot be moved while it runs. */
static void write_queue(struct virtio_mmio *m, uint64_t offset, uint32_t v)
{
	struct virtq *q = selected(m);

	if (!q)
		return;
	if (q->ready) {
		virtio_fail(m->device);
		return;
	}
	switch (offset) {
	case QUEUE_NUM:
		q->size = v <= VIRTQ_SIZE_MAX ? (uint16_t)v : 0;
		break;
	case QUEUE_DESC_LOW:
	case QUEUE_DESC_HIGH:
		set_half(&q->desc_gpa, offset == QUEUE_DESC_HIGH, v);
		break;
	case QUEUE_DRIVER_LOW:
	case QUEUE_DRIVER_HIGH:
		set_half(&q->avail_gpa, offset == QUEUE_DRIVER_HIGH, v);
		break;
	case QUEUE_DEVICE_LOW:
	case QUEUE_DEVICE_HIGH:
		set_half(&q->used_gpa, offset == QUEUE_DEVICE_HIGH, v);
		break;
	}
}

/* ---- registers ---- */

static uint32_t read_register(struct virtio_mmio *m, uint64_t offset)
{
	struct virtio_device *d = m->device;
	const struct virtq *q = selected(m);

	switch (offset) {
	case MAGIC_VALUE:
		return MAGIC;
	case VERSION:
		return MMIO_VERSION;
	case DEVICE_ID:
		return d->ops->id;
	case VENDOR_ID:
		return VENDOR;
	case DEVICE_FEATURES:
		return m->feature_sel > 1 ? 0 : (uint32_t)(d->features >> m->feature_sel * 32);
	case QUEUE_NUM_MAX:
		return q ? q->size_max : 0;
	case QUEUE_READY:
		return q && q->ready;
	case STATUS:
		return d->status;
	case CONFIG_GENERATION:
		return d->generation;
	case SHM_LEN_LOW:
	case SHM_LEN_HIGH:
	case SHM_BASE_LOW:
	case SHM_BASE_HIGH:
		return UINT32_MAX; /* no region has this number, whichever was selected */
	default:
		return 0;
	}
}

static void write_register(struct virtio_mmio *m, uint64_t offset, uint32_t v)
{
	switch (offset) {
	case DEVICE_FEATURES_SEL:
		m->feature_sel = v;
		break;
	case DRIVER_FEATURES_SEL:
		m->driver_feature_sel = v;
		break;
	case DRIVER_FEATURES:
		if (!(m->device->status & VIRTIO_STATUS_FEATURES_OK))
			write_features(m, v);
		break;
	case QUEUE_SEL:
		m->queue_sel = v;
		break;
	case STATUS:
		write_status(m, v);
		break;
	case QUEUE_READY:
		write_ready(m, v);
		break;
	case QUEUE_NUM:
	case QUEUE_DESC_LOW:
	case QUEUE_DESC_HIGH:
	case QUEUE_DRIVER_LOW:
	case QUEUE_DRIVER_HIGH:
	case QUEUE_DEVICE_LOW:
	case QUEUE_DEVICE_HIGH:
		write_queue(m, offset, v);
		break;
	}
}

static bool config_access(uint64_t offset, unsigned int size)
{
	return offset >= CONFIG && offset < VIRTIO_MMIO_BYTES && size <= VIRTIO_MMIO_BYTES - offset;
}

void virtio_mmio_read(struct virtio_mmio *m, uint64_t offset, uint8_t *p, unsigned int size)
{
	struct virtio_device *d = m->device;
	uint32_t v;

	memset(p, 0, size);
	if (offset < CONFIG && (size != sizeof(v) || offset % sizeof(v)))
		return;
	if (offset == INTERRUPT_STATUS) {
		v = __atomic_load_n(&d->isr, __ATOMIC_SEQ_CST);
		memcpy(p, &v, sizeof(v));
		return;
	}
	pthread_mutex_lock(&d->lock);
	if (offset < CONFIG) {
		v = read_register(m, offset);
		memcpy(p, &v, sizeof(v));
	} else if (config_access(offset, size) && d->ops->config_read) {
		d->ops->config_read(d, (unsigned int)offset - CONFIG, p, size);
	}
	pthread_mutex_unlock(&d->lock);
}

void virtio_mmio_write(struct virtio_mmio *m, uint64_t offset, const uint8_t *p, unsigned int size)
{
	struct virtio_device *d = m->device;
	uint32_t v = 0;

	if (offset < CONFIG) {
		if (size != sizeof(v) || offset % sizeof(v))
			return;
		memcpy(&v, p, sizeof(v));
	}
	if (offset == QUEUE_NOTIFY) {
		queue_notify(m, v);
		return;
	}
	if (offset == INTERRUPT_ACK) {
		__atomic_fetch_and(&d->isr, ~v, __ATOMIC_SEQ_CST);
		return;
	}
	pthread_mutex_lock(&d->lock);
	if (m->resetting)
		; /* another vCPU is at it */
	else if (offset < CONFIG)
		write_register(m, offset, v);
	else if (config_access(offset, size) && d->ops->config_write &&
		 (d->status & VIRTIO_STATUS_DRIVER))
		d->ops->config_write(d, (unsigned int)offset - CONFIG, p, size);
	pthread_mutex_unlock(&d->lock);
}
