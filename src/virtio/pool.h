/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workers of a machine: the threads that may wait for a disk.
 */
#ifndef VIRTIO_POOL_H
#define VIRTIO_POOL_H

#include "virtio/device.h"

/*
 * As many requests of a machine wait for its disks at once. More helps drives with deep queues
 * only, which want another kind of I/O anyway (docs/decisions/0005-no-io-uring.md).
 */
#define POOL_THREADS 4

struct pool;

/**
 * struct pool_job - something to do; its owner embeds it, and leaves it alone until @run is called.
 * @run: in a worker's thread, without any lock; may submit the job again.
 */
struct pool_job {
	struct pool_job *next;
	void (*run)(struct pool_job *job);
};

/**
 * struct pool_batch - jobs on their way to pool_submit(), in order. All zeroes: none.
 */
struct pool_batch {
	struct pool_job *first, *last;
	unsigned int n;
};

/** pool_add() - put @job at the end of @batch. */
void pool_add(struct pool_batch *batch, struct pool_job *job);

/**
 * pool_ref() - have the machine's pool in @env->pool: one more user, or a new one. Before the
 * machine runs, one thread at a time. The threads are made here and not when there is work: a
 * thread's confinement is what its maker's was at most, and can fail while there is a start() to
 * fail. Return: 0 or -errno with @err.
 */
int pool_ref(struct virtio_env *env, struct smolvm_error *err);

/** pool_unref() - one user less; the last one ends the threads. No job may be under way. */
void pool_unref(struct virtio_env *env);

/** pool_submit() - let the jobs of @batch be run, which is empty then. Any thread. */
void pool_submit(struct pool *pool, struct pool_batch *batch);

#endif
