/* SPDX-License-Identifier: Apache-2.0 */
/* What all virtio devices have in common. */
#include "virtio/device.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define ISR_QUEUE  1u
#define ISR_CONFIG 2u

#define FEATURES_OF_ALL (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

void virtio_init(struct virtio_device *d, const struct virtio_ops *ops, struct virtio_env *env,
		 uint64_t features, unsigned int n_queues)
{
	assert(n_queues <= VIRTIO_QUEUES_MAX && ops->queue_size <= VIRTQ_SIZE_MAX);
	*d = (struct virtio_device){
		.ops = ops,
		.env = env,
		.features = features | FEATURES_OF_ALL,
		.n_queues = n_queues,
	};
	pthread_mutex_init(&d->lock, NULL);
	for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		d->notify_fds[i] = -1;
		d->queues[i].mem = env->mem;
		d->queues[i].size_max = ops->queue_size ? ops->queue_size : VIRTQ_SIZE_MAX;
	}
}

void virtio_fini(struct virtio_device *d)
{
	pthread_mutex_destroy(&d->lock);
}

static void interrupt(struct virtio_device *d, uint32_t why)
{
	__atomic_fetch_or(&d->isr, why, __ATOMIC_SEQ_CST);
	virtio_count(&d->env->counters->interrupts, 1);
	if (d->raise)
		d->raise(d->raise_ctx);
}

bool virtio_interrupt(struct virtio_device *d, struct virtq *q)
{
	if (!d->active || !virtq_wants_interrupt(q))
		return false;
	interrupt(d, ISR_QUEUE);
	return true;
}

void virtio_config_copy(const void *config, size_t bytes, unsigned int offset, uint8_t *p,
			unsigned int len)
{
	const uint8_t *from = config;

	for (unsigned int i = 0; i < len; i++)
		p[i] = offset < bytes && i < bytes - offset ? from[offset + i] : 0;
}

void virtio_config_changed(struct virtio_device *d)
{
	d->generation++;
	if (d->active)
		interrupt(d, ISR_CONFIG);
}

void virtio_fail(struct virtio_device *d)
{
	for (unsigned int i = 0; i < d->n_queues; i++)
		d->queues[i].broken = true;
	if (d->status & VIRTIO_STATUS_NEEDS_RESET)
		return;
	d->status |= VIRTIO_STATUS_NEEDS_RESET;
	virtio_count(&d->env->counters->device_errors, 1);
	if (d->active)
		interrupt(d, ISR_CONFIG);
}

int virtio_pop(struct virtio_device *d, struct virtq *q, struct virtq_request *ret,
	       struct iovec *iov, unsigned int cap, uint64_t max_bytes)
{
	int rc = virtq_pop(q, ret, iov, cap, max_bytes);

	if (rc < 0)
		virtio_fail(d);
	return rc > 0;
}

void virtio_again(struct virtio_device *d, unsigned int q)
{
	uint64_t one = 1;

	/* A counter that is full has told it already. */
	if (d->notify_fds[q] >= 0 && write(d->notify_fds[q], &one, sizeof(one)) < 0)
		return;
}

/* ---- threads ---- */

static const char *const thread_names[] = {
	[SMOLVM_VMM_THREAD_VCPU] = "cpu",
	[SMOLVM_VMM_THREAD_IO] = "io",
	[SMOLVM_VMM_THREAD_WORKER] = "disk",
	[SMOLVM_VMM_THREAD_FS] = "fs",
};

/* What a new thread is told; its maker's, who waits for @told. */
struct beginning {
	struct virtio_env *env;
	enum smolvm_vmm_thread kind;
	void *(*run)(void *);
	void *ctx;
	sem_t told;
	int rc;
};

static void *begin(void *arg)
{
	struct beginning *b = arg;
	void *(*run)(void *) = b->run;
	void *ctx = b->ctx;
	unsigned int number = __atomic_fetch_add(&b->env->n_threads[b->kind], 1, __ATOMIC_RELAXED);
	char name[16];
	int rc = 0;

	snprintf(name, sizeof(name), "%.8s-%s%u", b->env->name, thread_names[b->kind],
		 number % 100);
	pthread_setname_np(pthread_self(), name);
	if (b->env->thread_started)
		rc = b->env->thread_started(b->env->thread_ctx, b->kind);
	b->rc = rc;
	sem_post(&b->told); /* @b is gone from here on */
	return rc ? NULL : run(ctx);
}

int virtio_thread(struct virtio_env *env, enum smolvm_vmm_thread kind, pthread_t *ret,
		  void *(*run)(void *), void *ctx)
{
	struct beginning b = { .env = env, .kind = kind, .run = run, .ctx = ctx };
	sigset_t all, before;
	pthread_t thread;
	int rc;

	sem_init(&b.told, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, NULL, begin, &b);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc) {
		sem_destroy(&b.told);
		return -rc;
	}
	while (sem_wait(&b.told) < 0)
		;
	sem_destroy(&b.told);
	if (b.rc) {
		pthread_join(thread, NULL);
		return b.rc;
	}
	*ret = thread;
	return 0;
}
