/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues, the device's side (virtio 1.2 §2.7).
 *
 * Everything in the three rings belongs to the guest and may change at any instant, so each field
 * is loaded once, into a copy, by an atomic load, and only the copy is looked at:
 *
 *	driver					device
 *	descriptors, available ring entry
 *	available index (release)	->	available index (acquire)
 *						the entry, the descriptors
 *						used ring entry
 *	used index (acquire)		<-	used index (release)
 *
 * Each side also tells the other up to where it wants to hear nothing (an event index, or a flag).
 * Storing "wake me" and then looking for more must not be reordered, nor publishing and then
 * looking whether somebody wants to be woken: those two pairs are sequentially consistent.
 *
 * A walk through descriptors takes at most VIRTQ_BUFFERS_MAX steps, whatever they say; that ends
 * loops too. Whatever lies in guest memory, the walk leaves pointers into RAM only.
 */
#include "virtio/virtq.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Guest fields are little endian, and read as they lie. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "big-endian hosts are not supported");

#define DESC_BYTES    16u
#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

/* Flags of the available and the used ring. */
#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY	   1u

/* Where things are in the rings. */
#define RING_FLAGS   0u
#define RING_IDX     2u
#define RING_ENTRIES 4u

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* A table of descriptors: the queue's own, or an indirect one. */
struct table {
	const uint8_t *at;
	uint32_t entries;
	bool indirect;
};

static uint16_t load16(const uint8_t *p, int order)
{
	return __atomic_load_n((const uint16_t *)(const void *)p, order);
}

static void store16(uint8_t *p, uint16_t v, int order)
{
	__atomic_store_n((uint16_t *)(void *)p, v, order);
}

/* Indirect tables may lie anywhere, the queue's own at a multiple of 16. */
static struct desc load_desc(const uint8_t *p)
{
	uint64_t word[2] = { 0, 0 };

	if ((uintptr_t)p % sizeof(word[0]) == 0) {
		const uint64_t *from = (const uint64_t *)(const void *)p;

		word[0] = __atomic_load_n(from, __ATOMIC_RELAXED);
		word[1] = __atomic_load_n(from + 1, __ATOMIC_RELAXED);
	} else {
		for (unsigned int i = 0; i < DESC_BYTES; i++)
			word[i / 8] |= (uint64_t)__atomic_load_n(p + i, __ATOMIC_RELAXED)
				       << i % 8 * 8;
	}
	return (struct desc){
		.addr = word[0],
		.len = (uint32_t)word[1],
		.flags = (uint16_t)(word[1] >> 32),
		.next = (uint16_t)(word[1] >> 48),
	};
}

void virtq_reset(struct virtq *q)
{
	*q = (struct virtq){ .mem = q->mem, .size_max = q->size_max };
}

/* One part of the queue: its place in RAM, or -errno. */
static int place(const struct virtq *q, uint64_t gpa, uint64_t bytes, uint64_t align, uint8_t **ret)
{
	uint8_t *p;

	if (gpa % align)
		return -EINVAL;
	p = gmem_slice(q->mem, gpa, bytes);
	if (!p)
		return -EFAULT;
	assert((uintptr_t)p % align == 0);
	*ret = p;
	return 0;
}

int virtq_enable(struct virtq *q)
{
	uint8_t *desc, *avail, *used;
	int rc;

	if (!q->size || q->size > q->size_max || (q->size & (q->size - 1)))
		return -EINVAL;
	rc = place(q, q->desc_gpa, (uint64_t)DESC_BYTES * q->size, 16, &desc);
	if (!rc)
		rc = place(q, q->avail_gpa, 6 + 2ull * q->size, 2, &avail);
	if (!rc)
		rc = place(q, q->used_gpa, 6 + 8ull * q->size, 4, &used);
	if (rc)
		return rc;
	q->desc = desc;
	q->avail = avail;
	q->used = used;
	q->next_avail = q->seen_avail = q->next_used = q->signalled_used = 0;
	q->signalled_valid = true;
	q->silent = q->broken = false;
	q->ready = true;
	return 0;
}

/* Have the driver tell us of whatever comes next. Return: its index after that. */
static uint16_t ask_for_notifications(struct virtq *q)
{
	if (q->event_idx)
		store16(q->used + RING_ENTRIES + 8u * q->size, q->next_avail, __ATOMIC_SEQ_CST);
	else
		store16(q->used + RING_FLAGS, 0, __ATOMIC_SEQ_CST);
	return load16(q->avail + RING_IDX, __ATOMIC_SEQ_CST);
}

void virtq_silence(struct virtq *q)
{
	if (!q->ready || q->broken)
		return;
	q->silent = true;
	if (!q->event_idx) /* an event index left behind is silence */
		store16(q->used + RING_FLAGS, USED_NO_NOTIFY, __ATOMIC_RELAXED);
}

bool virtq_listen(struct virtq *q)
{
	if (!q->ready || q->broken)
		return false;
	q->silent = false;
	return ask_for_notifications(q) != q->next_avail;
}

/* Return: 1 when there is a request, 0, or -EPROTO. */
static int look(struct virtq *q)
{
	uint16_t idx;

	if (q->seen_avail != q->next_avail)
		return 1;
	idx = load16(q->avail + RING_IDX, __ATOMIC_ACQUIRE);
	if (idx == q->next_avail && q->event_idx && !q->silent)
		idx = ask_for_notifications(q);
	if (idx == q->next_avail)
		return 0;
	if ((uint16_t)(idx - q->next_avail) > q->size)
		return -EPROTO;
	q->seen_avail = idx;
	return 1;
}

/* One buffer, at the end of the request's. */
static int add_buffer(const struct virtq *q, const struct desc *d, struct virtq_request *r,
		      unsigned int cap, uint64_t max_bytes)
{
	bool in = d->flags & DESC_WRITE;
	void *p;

	if (!in && r->n_in)
		return -EPROTO;
	if (!d->len)
		return 0;
	p = gmem_slice(q->mem, d->addr, d->len);
	if (!p || r->n_out + r->n_in == cap || d->len > max_bytes - r->out_bytes - r->in_bytes)
		return -EPROTO;
	r->iov[r->n_out + r->n_in] = (struct iovec){ p, d->len };
	if (in) {
		r->n_in++;
		r->in_bytes += d->len;
	} else {
		r->n_out++;
		r->out_bytes += d->len;
	}
	return 0;
}

/* §2.7.5.3: ends a chain, holds no further table, and is whole descriptors. */
static int open_table(const struct virtq *q, const struct desc *d, struct table *t)
{
	if (!q->indirect || t->indirect || (d->flags & DESC_NEXT) || d->len % DESC_BYTES)
		return -EPROTO;
	t->at = gmem_slice(q->mem, d->addr, d->len);
	t->entries = d->len / DESC_BYTES;
	t->indirect = true;
	return t->at ? 0 : -EPROTO;
}

static int walk(const struct virtq *q, struct virtq_request *r, unsigned int cap,
		uint64_t max_bytes)
{
	struct table t = { q->desc, q->size, false };
	uint32_t at = r->head;

	for (unsigned int steps = 0; steps <= VIRTQ_BUFFERS_MAX; steps++) {
		struct desc d;

		if (at >= t.entries)
			return -EPROTO;
		d = load_desc(t.at + (size_t)DESC_BYTES * at);
		at = d.next;
		if (d.flags & DESC_INDIRECT) {
			if (open_table(q, &d, &t) < 0)
				return -EPROTO;
			at = 0;
			continue;
		}
		if (add_buffer(q, &d, r, cap, max_bytes) < 0)
			return -EPROTO;
		if (!(d.flags & DESC_NEXT))
			return 0;
	}
	return -EPROTO;
}

int virtq_pop(struct virtq *q, struct virtq_request *ret, struct iovec *iov, unsigned int cap,
	      uint64_t max_bytes)
{
	int rc;

	if (!q->ready || q->broken)
		return 0;
	rc = look(q);
	if (rc == 0)
		return 0;
	if (rc > 0) {
		*ret = (struct virtq_request){
			.head = load16(q->avail + RING_ENTRIES +
					       2u * (q->next_avail & (q->size - 1u)),
				       __ATOMIC_RELAXED),
			.iov = iov,
		};
		rc = walk(q, ret, cap, max_bytes);
	}
	if (rc < 0) {
		q->broken = true;
		return rc;
	}
	q->next_avail++;
	return 1;
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t written)
{
	uint32_t *entry;

	if (!q->ready)
		return;
	assert(head < q->size);
	entry = (uint32_t *)(void *)(q->used + RING_ENTRIES + 8u * (q->next_used & (q->size - 1u)));
	__atomic_store_n(&entry[0], head, __ATOMIC_RELAXED);
	__atomic_store_n(&entry[1], written, __ATOMIC_RELAXED);
	q->next_used++;
	if (q->next_used == q->signalled_used)
		q->signalled_valid = false; /* once around: how far it is cannot be told */
	store16(q->used + RING_IDX, q->next_used, __ATOMIC_RELEASE);
}

/* §2.7.7.1, §2.7.10: the driver's event index lies behind the available ring. */
bool virtq_wants_interrupt(struct virtq *q)
{
	uint16_t old = q->signalled_used, now = q->next_used, event;
	bool valid = q->signalled_valid;

	if (!q->ready || (valid && now == old))
		return false;
	q->signalled_used = now;
	q->signalled_valid = true;
	store16(q->used + RING_IDX, now, __ATOMIC_SEQ_CST); /* as it stands: for the order */
	if (!q->event_idx)
		return !(load16(q->avail + RING_FLAGS, __ATOMIC_SEQ_CST) & AVAIL_NO_INTERRUPT);
	event = load16(q->avail + RING_ENTRIES + 2u * q->size, __ATOMIC_SEQ_CST);
	return !valid || (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

/* Copy between the buffers, from @offset on, and @flat. */
static size_t copy(const struct iovec *iov, unsigned int n, size_t offset, uint8_t *to,
		   const uint8_t *from, size_t bytes)
{
	size_t done = 0;

	for (unsigned int i = 0; i < n && done < bytes; i++) {
		uint8_t *p = iov[i].iov_base;
		size_t len = iov[i].iov_len;

		if (offset >= len) {
			offset -= len;
			continue;
		}
		len -= offset;
		if (len > bytes - done)
			len = bytes - done;
		if (to)
			memcpy(to + done, p + offset, len);
		else
			memcpy(p + offset, from + done, len);
		done += len;
		offset = 0;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, unsigned int n, size_t offset, void *to, size_t bytes)
{
	return copy(iov, n, offset, to, NULL, bytes);
}

size_t iov_write(const struct iovec *iov, unsigned int n, size_t offset, const void *from,
		 size_t bytes)
{
	return copy(iov, n, offset, NULL, from, bytes);
}
