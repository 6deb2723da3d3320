/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes as guest memory with a virtqueue in it, popped until dry: every buffer of every request
 * lies inside memory, and the sums are right. Devices write into the buffers, over the rings too.
 */
#include <assert.h>
#include <string.h>

#include "virtio/virtq.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM	 0x4000u
#define GPA	 0x100000ull
#define CAP_MAX	 64u
#define POPS_MAX 4096u

static uint8_t ram[RAM] __attribute__((aligned(4096)));

/* What the input begins with. */
struct setup {
	uint8_t size_log, flags, cap, fill;
	uint16_t desc, avail, used, max_bytes;
};

enum {
	EVENT_IDX = 1,
	INDIRECT = 2,
	SILENCE = 4,
	TWO_REGIONS = 8,
	KEEP_IN = 16, /* devices write nothing */
};

static void check(const struct virtq_request *r, const struct iovec *iov, unsigned int cap,
		  uint64_t max_bytes)
{
	uint64_t out = 0, in = 0;

	assert(r->iov == iov && r->n_out + r->n_in <= cap);
	for (unsigned int i = 0; i < r->n_out + r->n_in; i++) {
		const uint8_t *p = iov[i].iov_base;

		assert(iov[i].iov_len && p >= ram && iov[i].iov_len <= RAM);
		assert((size_t)(p - ram) <= RAM - iov[i].iov_len);
		*(i < r->n_out ? &out : &in) += iov[i].iov_len;
	}
	assert(out == r->out_bytes && in == r->in_bytes && out + in <= max_bytes);
}

static void run(struct virtq *q, const struct setup *s)
{
	unsigned int cap = s->cap % (CAP_MAX + 1);
	struct iovec iov[CAP_MAX];
	struct virtq_request r;
	int rc = 0;

	for (unsigned int i = 0; i < POPS_MAX; i++) {
		if (s->flags & SILENCE && i % 4 == 0)
			virtq_silence(q);
		rc = virtq_pop(q, &r, iov, cap, s->max_bytes);
		if (rc == 0 && !virtq_listen(q))
			break;
		if (rc == 0)
			continue;
		if (rc < 0) {
			assert(q->broken && !virtq_listen(q));
			assert(virtq_pop(q, &r, iov, cap, s->max_bytes) == 0);
			break;
		}
		assert(r.head < q->size && !q->broken);
		check(&r, iov, cap, s->max_bytes);
		for (unsigned int k = r.n_out; k < r.n_out + r.n_in && !(s->flags & KEEP_IN); k++)
			memset(iov[k].iov_base, s->fill, iov[k].iov_len);
		virtq_push(q, r.head, (uint32_t)r.in_bytes);
		if (i % 3 == 0)
			virtq_wants_interrupt(q);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gmem mem = { .regions = { { GPA, RAM, ram } }, .n_regions = 1 };
	struct virtq q = { .mem = &mem, .size_max = VIRTQ_SIZE_MAX };
	struct setup s;

	if (size < sizeof(s))
		return 0;
	memcpy(&s, data, sizeof(s));
	data += sizeof(s);
	size -= sizeof(s);
	memset(ram, 0, sizeof(ram));
	memcpy(ram, data, size < RAM ? size : RAM);
	if (s.flags & TWO_REGIONS) {
		mem.regions[0].bytes = RAM / 2;
		mem.regions[1] = (struct gmem_region){ GPA + RAM / 2, RAM / 2, ram + RAM / 2 };
		mem.n_regions = 2;
	}
	virtq_reset(&q);
	q.size = (uint16_t)(s.size_log < 16 ? 1u << s.size_log : s.size_log);
	q.desc_gpa = GPA + s.desc;
	q.avail_gpa = GPA + s.avail;
	q.used_gpa = GPA + s.used;
	q.event_idx = s.flags & EVENT_IDX;
	q.indirect = s.flags & INDIRECT;
	if (virtq_enable(&q) == 0)
		run(&q, &s);
	else
		assert(!q.ready);
	return 0;
}
