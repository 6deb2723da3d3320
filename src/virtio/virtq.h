/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues, the device's side (virtio 1.2 §2.7): the only code that reads descriptors.
 */
#ifndef VIRTIO_VIRTQ_H
#define VIRTIO_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/gmem.h"

#define VIRTQ_SIZE_MAX 1024u
/* Buffers of one request, those of an indirect table included. */
#define VIRTQ_BUFFERS_MAX 1026u

/**
 * struct virtq - one queue. The transport sets it up; the device pops and pushes, one thread at a
 * time (the device's lock).
 * @size:      a power of two, at most @size_max.
 * @desc, @avail, @used: guest physical addresses, until virtq_enable(); pointers after it.
 * @ready:     enabled by the driver and sound.
 * @broken:    a malformed ring has stopped it.
 */
struct virtq {
	const struct gmem *mem;
	uint16_t size_max, size;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	const uint8_t *desc, *avail;
	uint8_t *used;
	bool ready, broken;
	bool event_idx; /* VIRTIO_F_EVENT_IDX was negotiated */
	bool indirect;	/* VIRTIO_F_INDIRECT_DESC was */
	bool silent;	/* between virtq_silence() and virtq_listen() */
	uint16_t next_avail, next_used;
	uint16_t seen_avail; /* the driver's index as it was last seen */
	uint16_t signalled_used;
	bool signalled_valid;
};

/**
 * struct virtq_request - one request, checked; the device's until it is pushed.
 * @head:     for virtq_push().
 * @iov:      first @n_out buffers that the device reads, then @n_in that it writes.
 * @out_bytes, @in_bytes: their sums.
 */
struct virtq_request {
	uint16_t head;
	unsigned int n_out, n_in;
	uint64_t out_bytes, in_bytes;
	struct iovec *iov; /* @cap of virtq_pop() */
};

/** virtq_reset() - as if it had never been set up; @size_max and @mem stay. */
void virtq_reset(struct virtq *q);

/**
 * virtq_enable() - check the addresses and sizes that the driver gave, and begin.
 * Return: 0, -EINVAL (alignment, size), -EFAULT (not inside one piece of RAM).
 */
int virtq_enable(struct virtq *q);

/**
 * virtq_pop() - take the next request.
 * @iov, @cap: room for its buffers.
 * @max_bytes: the most bytes, of both directions together, that a request of this device has.
 *
 * Every field of guest memory is read once. Return: 1; 0: there is none; -EPROTO: the ring is
 * malformed (an index out of range, a loop, a table nested or odd, readable after writable, more
 * buffers or bytes than allowed, memory that is not there): the queue is broken from now on.
 * Buffers of no bytes are left out, so that a request may have none at all. Finding nothing asks
 * for a notification of the next request, unless virtq_silence() has been called.
 */
int virtq_pop(struct virtq *q, struct virtq_request *ret, struct iovec *iov, unsigned int cap,
	      uint64_t max_bytes);

/**
 * virtq_push() - give it back, @written bytes having been written into its buffers. Nothing happens
 * on a queue that the driver has stopped meanwhile.
 */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);

/** virtq_wants_interrupt() - whether the driver wants to hear of what was pushed since last asked.
 */
bool virtq_wants_interrupt(struct virtq *q);

/**
 * virtq_silence() - ask the driver for no notifications (a hint), while the queue is being emptied.
 * virtq_listen() - ask for them again. Return: whether requests have come meanwhile: pop on.
 */
void virtq_silence(struct virtq *q);
bool virtq_listen(struct virtq *q);

/** iov_read() - copy up to @bytes from the buffers, beginning at @offset. Return: how many. */
size_t iov_read(const struct iovec *iov, unsigned int n, size_t offset, void *to, size_t bytes);
size_t iov_write(const struct iovec *iov, unsigned int n, size_t offset, const void *from,
		 size_t bytes);

#endif
