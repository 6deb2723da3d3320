/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small virtio device for the tests of queues and transport: each request's readable bytes come
 * back in its writable ones. Twelve bytes of configuration, which the driver may write.
 */
#ifndef TESTS_VIRTIO_ECHO_H
#define TESTS_VIRTIO_ECHO_H

#include <stdlib.h>
#include <string.h>

#include "virtio/device.h"

#define ECHO_QUEUES  3
#define ECHO_BYTES   (64u << 10) /* in one request */
#define ECHO_BUFFERS 128
#define ECHO_CONFIG  12
#define ECHO_FEATURE (1ull << 3)
#define ECHO_PENDING 64

/**
 * struct echo - the device; what it has been told is counted.
 * @slow:    requests are done by a thread, without the lock, one by one.
 * @batched: silence and listen around a batch, as busy devices do.
 * @blind:   buffers are not touched, only looked at whether they lie in RAM.
 * @gate:    the thread waits before each request until this is open.
 */
struct echo {
	struct virtio_device d;
	uint8_t config[ECHO_CONFIG];
	unsigned int activated, was_reset, notified, served, config_writes;
	bool slow, batched, blind, gate;
	/* the thread's, under the lock */
	pthread_t thread;
	pthread_cond_t changed;
	bool threaded, stop, busy;
	unsigned int n_pending;
	struct echo_request {
		unsigned int queue;
		struct virtq_request r;
		struct iovec iov[8];
	} pending[ECHO_PENDING];
};

static inline uint32_t echo_serve(const struct virtq_request *r)
{
	uint8_t data[512];
	size_t done = 0, n;

	do {
		n = iov_read(r->iov, r->n_out, done, data, sizeof(data));
		n = iov_write(r->iov + r->n_out, r->n_in, done, data, n);
		done += n;
	} while (n == sizeof(data));
	return (uint32_t)done;
}

/* Buffers out of RAM end the process. */
static inline void echo_check(const struct gmem *mem, const struct virtq_request *r)
{
	for (unsigned int i = 0; i < r->n_out + r->n_in; i++) {
		const uint8_t *p = r->iov[i].iov_base, *end = p + r->iov[i].iov_len;
		bool inside = false;

		for (unsigned int k = 0; k < mem->n_regions; k++)
			inside |= p >= mem->regions[k].hva &&
				  end <= mem->regions[k].hva + mem->regions[k].bytes;
		if (!inside)
			abort();
	}
}

static inline void *echo_run(void *ctx)
{
	struct echo *e = ctx;
	struct virtio_device *d = &e->d;

	pthread_mutex_lock(&d->lock);
	while (!e->stop) {
		struct echo_request now;
		uint32_t written;

		if (!e->n_pending || !e->gate) {
			pthread_cond_wait(&e->changed, &d->lock);
			continue;
		}
		now = e->pending[0];
		now.r.iov = now.iov;
		e->n_pending--;
		memmove(e->pending, e->pending + 1, e->n_pending * sizeof(now));
		e->busy = true;
		pthread_mutex_unlock(&d->lock);
		written = echo_serve(&now.r);
		pthread_mutex_lock(&d->lock);
		e->busy = false;
		e->served++;
		virtq_push(&d->queues[now.queue], now.r.head, written);
		virtio_interrupt(d, &d->queues[now.queue]);
		pthread_cond_broadcast(&e->changed);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static inline int echo_start(struct virtio_device *d, struct smolvm_error *err)
{
	struct echo *e = (struct echo *)d;
	int rc;

	(void)err;
	if (!e->slow)
		return 0;
	rc = virtio_thread(d->env, SMOLVM_VMM_THREAD_WORKER, &e->thread, echo_run, e);
	e->threaded = rc == 0;
	return rc;
}

static inline void echo_activate(struct virtio_device *d)
{
	((struct echo *)d)->activated++;
}

static inline void echo_reset(struct virtio_device *d)
{
	struct echo *e = (struct echo *)d;

	e->was_reset++;
	e->n_pending = 0;
	while (e->busy)
		pthread_cond_wait(&e->changed, &d->lock);
}

static inline void echo_hand_over(struct echo *e, unsigned int i)
{
	while (e->n_pending < ECHO_PENDING) {
		struct echo_request *p = &e->pending[e->n_pending];

		if (!virtio_pop(&e->d, &e->d.queues[i], &p->r, p->iov, 8, ECHO_BYTES))
			break;
		p->queue = i;
		e->n_pending++;
	}
	pthread_cond_broadcast(&e->changed);
}

static inline void echo_notify(struct virtio_device *d, unsigned int i)
{
	struct echo *e = (struct echo *)d;
	struct virtq *q = &d->queues[i];
	struct iovec iov[ECHO_BUFFERS];
	struct virtq_request r;
	unsigned int turns = 2 * VIRTQ_SIZE_MAX;

	e->notified++;
	if (e->slow) {
		echo_hand_over(e, i);
		return;
	}
	do {
		if (e->batched)
			virtq_silence(q);
		while (turns && virtio_pop(d, q, &r, iov, ECHO_BUFFERS, ECHO_BYTES)) {
			turns--;
			e->served++;
			echo_check(d->env->mem, &r);
			virtq_push(q, r.head, e->blind ? 0 : echo_serve(&r));
		}
	} while (e->batched && virtq_listen(q) && turns);
	virtio_interrupt(d, q);
	if (!turns)
		virtio_again(d, i);
}

static inline void echo_config_read(struct virtio_device *d, unsigned int offset, uint8_t *p,
				    unsigned int len)
{
	for (unsigned int i = 0; i < len; i++)
		p[i] = offset + i < ECHO_CONFIG ? ((struct echo *)d)->config[offset + i] : 0;
}

static inline void echo_config_write(struct virtio_device *d, unsigned int offset, const uint8_t *p,
				     unsigned int len)
{
	((struct echo *)d)->config_writes++;
	for (unsigned int i = 0; i < len; i++)
		if (offset + i < ECHO_CONFIG)
			((struct echo *)d)->config[offset + i] = p[i];
}

static inline void echo_destroy(struct virtio_device *d)
{
	struct echo *e = (struct echo *)d;

	if (e->threaded) {
		pthread_mutex_lock(&d->lock);
		e->stop = true;
		pthread_cond_broadcast(&e->changed);
		pthread_mutex_unlock(&d->lock);
		pthread_join(e->thread, NULL);
	}
	pthread_cond_destroy(&e->changed);
	virtio_fini(d);
	free(d);
}

static inline struct echo *echo_create(struct virtio_env *env)
{
	static const struct virtio_ops ops = {
		.name = "echo",
		.id = 63,
		.start = echo_start,
		.activate = echo_activate,
		.reset = echo_reset,
		.notify = echo_notify,
		.config_read = echo_config_read,
		.config_write = echo_config_write,
		.destroy = echo_destroy,
	};
	struct echo *e = calloc(1, sizeof(*e));

	if (!e)
		abort();
	virtio_init(&e->d, &ops, env, ECHO_FEATURE, ECHO_QUEUES);
	pthread_cond_init(&e->changed, NULL);
	e->gate = true;
	return e;
}

#endif
