/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device, as its transport sees it; and what a device sees of its surroundings.
 *
 * A device knows guest memory through its queues, two calls to its transport (an interrupt, a
 * changed configuration), and an event loop; nothing of registers, vCPUs or the hypervisor.
 *
 * Threads. Every operation below is called with @lock held. Registers are accessed in vCPU
 * threads; notify() is called in the machine's I/O thread (the event loop's), unless @own_thread
 * is set: then the device itself waits for the queues' eventfds, in a thread of its own, and takes
 * the lock for popping and pushing. In tests there may be no loop (@env->loop NULL): the transport
 * then calls notify() directly. A device that lets others work (a pool, a thread) does so without
 * the lock, and its reset() waits until all of that has come back.
 */
#ifndef VIRTIO_DEVICE_H
#define VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <smolvm/vmm.h>

#include "base/loop.h"
#include "virtio/virtq.h"

#define VIRTIO_QUEUES_MAX 18

/* Device types (virtio 1.2 §5). */
enum virtio_id {
	VIRTIO_ID_NET = 1,
	VIRTIO_ID_BLOCK = 2,
	VIRTIO_ID_CONSOLE = 3,
	VIRTIO_ID_ENTROPY = 4,
	VIRTIO_ID_BALLOON = 5,
	VIRTIO_ID_VSOCK = 19,
	VIRTIO_ID_FS = 26,
};

/* Features that belong to no device (§6). */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX     (1ull << 29)
#define VIRTIO_F_VERSION_1     (1ull << 32)

/* Device status (§2.1). */
#define VIRTIO_STATUS_ACKNOWLEDGE 1u
#define VIRTIO_STATUS_DRIVER	  2u
#define VIRTIO_STATUS_DRIVER_OK	  4u
#define VIRTIO_STATUS_FEATURES_OK 8u
#define VIRTIO_STATUS_NEEDS_RESET 64u
#define VIRTIO_STATUS_FAILED	  128u

struct virtio_device;

/**
 * struct virtio_env - where a machine's devices live; outlives them.
 * @loop:     the I/O thread's; used only in that thread once the machine runs, and freely before.
 * @counters: of the machine; added to with virtio_count().
 * @thread_started, @thread_ctx: to be called first in every thread that a device makes, see
 *            smolvm/vmm.h; may be NULL. Such threads have all signals blocked.
 * @pool:     the disks' workers: NULL at first, made by the first disk, gone with the last one.
 * @name, @n_threads: what threads are called: the machine, their kind and number.
 */
struct virtio_env {
	const struct gmem *mem;
	struct loop *loop;
	struct smolvm_vmm_counters *counters;
	int (*thread_started)(void *ctx, enum smolvm_vmm_thread kind);
	void *thread_ctx;
	struct pool *pool;
	char name[9];
	unsigned int n_threads[SMOLVM_VMM_THREAD_FS + 1];
};

/**
 * struct virtio_ops - one type of device.
 * @features:  offered, besides INDIRECT_DESC, EVENT_IDX and VERSION_1, which all have.
 * @queue_size: of each queue, the most; 0: VIRTQ_SIZE_MAX.
 * @start:     before the guest runs: begin watching, make threads. May be NULL. -errno with @err.
 * @activate:  the driver is ready (DRIVER_OK): features and queues are settled. May be NULL.
 * @reset:     stop, and come back when nothing of the device touches a queue or guest memory any
 *             more; may release and take the lock meanwhile (pthread_cond_wait). Called only
 *             after activate(); @active is false already. May be NULL.
 * @notify:    queue @q has something new; only after activate(), the queue ready.
 * @config_read, @config_write: device configuration, @len bytes at @offset, any of them; what is
 *             outside reads as zeroes. May be NULL.
 * @destroy:   frees it; no thread uses it any more. The machine has called reset() before.
 */
struct virtio_ops {
	const char *name;
	enum virtio_id id;
	uint16_t queue_size;
	int (*start)(struct virtio_device *d, struct smolvm_error *err);
	void (*activate)(struct virtio_device *d);
	void (*reset)(struct virtio_device *d);
	void (*notify)(struct virtio_device *d, unsigned int q);
	void (*config_read)(struct virtio_device *d, unsigned int offset, uint8_t *p,
			    unsigned int len);
	void (*config_write)(struct virtio_device *d, unsigned int offset, const uint8_t *p,
			     unsigned int len);
	void (*destroy)(struct virtio_device *d);
};

/**
 * struct virtio_device - first member of every device's own struct.
 * @features:  what is offered; @acked: what the driver took.
 * @active:    between activate() and reset().
 * @notify_fds: an eventfd for each queue, which the transport made (-1 without a loop).
 * @raise, @raise_ctx: the transport's: makes the interrupt happen. Any thread.
 * @isr, @status, @generation: the transport's registers.
 */
struct virtio_device {
	const struct virtio_ops *ops;
	struct virtio_env *env;
	pthread_mutex_t lock;
	uint64_t features, acked;
	unsigned int n_queues;
	struct virtq queues[VIRTIO_QUEUES_MAX];
	int notify_fds[VIRTIO_QUEUES_MAX];
	bool active, own_thread;
	void (*raise)(void *ctx);
	void *raise_ctx;
	uint32_t isr; /* atomic */
	uint32_t status;
	uint32_t generation;
};

/**
 * virtio_init() - fill in the common part, in memory of any content; queues are of
 * @ops->queue_size. The transport's fields (raise, raise_ctx) are set after it.
 */
void virtio_init(struct virtio_device *d, const struct virtio_ops *ops, struct virtio_env *env,
		 uint64_t features, unsigned int n_queues);

/** virtio_fini() - free what the common part holds. */
void virtio_fini(struct virtio_device *d);

/** virtio_has() - whether the driver took this feature (a bit mask). */
static inline bool virtio_has(const struct virtio_device *d, uint64_t feature)
{
	return (d->acked & feature) != 0;
}

/**
 * virtio_interrupt() - requests of @q have been pushed: tell the driver if it wants to know.
 * Return: whether it was told; it looks at all of its queues then.
 */
bool virtio_interrupt(struct virtio_device *d, struct virtq *q);

/**
 * virtio_config_copy() - for config_read(): @len bytes at @offset of a device's configuration,
 * which has @bytes; what is behind it are zeroes.
 */
void virtio_config_copy(const void *config, size_t bytes, unsigned int offset, uint8_t *p,
			unsigned int len);

/** virtio_config_changed() - the device's configuration is another one now. */
void virtio_config_changed(struct virtio_device *d);

/**
 * virtio_fail() - the driver has broken the rules: "needs reset" (virtio 1.2 §2.1.2). Every queue
 * is stopped until then; the driver is told once.
 */
void virtio_fail(struct virtio_device *d);

/**
 * virtio_pop() - virtq_pop(), with virtio_fail() where that finds a malformed ring.
 * Return: 1, or 0 for nothing (more) to do.
 */
int virtio_pop(struct virtio_device *d, struct virtq *q, struct virtq_request *ret,
	       struct iovec *iov, unsigned int cap, uint64_t max_bytes);

/**
 * virtio_again() - have notify() called for queue @q once more, after others have had their turn:
 * for a device that stops after so many requests. Nothing happens without a loop.
 */
void virtio_again(struct virtio_device *d, unsigned int q);

/** virtio_count() - add to a counter of the machine. Any thread. */
static inline void virtio_count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/**
 * virtio_thread() - start a thread of kind @kind with all signals blocked, named, once the env's
 * thread_started() has allowed it. Return: 0 or -errno (thread_started()'s own).
 */
int virtio_thread(struct virtio_env *env, enum smolvm_vmm_thread kind, pthread_t *ret,
		  void *(*run)(void *), void *ctx);

#endif
