/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory balloon (virtio 1.2 §5.5): guest memory goes back to the host.
 *
 * Two ways. The guest reports ranges that are free (reporting queue) and does not use them until
 * it has the request back; or it is asked by num_pages to give up so many pages, and hands them
 * over page by page (inflate queue) until it wants them back (deflate queue). Either way the pages
 * are given back by MADV_DONTNEED; when the guest touches one again the host gives a fresh one.
 * Statistics: the guest keeps one buffer with us; returning it asks for newer figures.
 *
 * Queues are numbered 0 to 4 by the specification; drivers in use leave no gap for the free page
 * hints (queue 3), which are not offered, nor for statistics that they do not want. So the
 * reporting queue is the last one that the driver has enabled.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "virtio/devices.h"

#define F_STATS_VQ	 (1ull << 1)
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_REPORTING	 (1ull << 5)

enum {
	QUEUE_INFLATE,
	QUEUE_DEFLATE,
	QUEUE_STATS,
	QUEUE_REPORTING_FIRST = QUEUE_STATS, /* at the earliest */
	QUEUES = 5,
};

#define BALLOON_QUEUE_SIZE  128
#define BALLOON_BUFFERS_MAX 128
#define PAGE_SHIFT	    12 /* of the balloon's pages, on every guest */
#define PAGES_MAX	    1024u	 /* in one request */
#define REPORT_BYTES_MAX    (16ull << 30) /* likewise */
#define STATS_MAX	    64u		 /* likewise */
#define REQUESTS_TURN	    4		 /* before others have theirs */

/* Configuration (§5.5.4). */
struct config {
	uint32_t num_pages, actual;
};

struct stat_entry {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

/**
 * struct balloon - the device. All under its lock.
 * @pages: of the guest's memory; @held: those that the guest has given up.
 * @reporting: the queue of free page reports, or 0.
 * @stats_held: the guest's buffer @stats_head is with us.
 */
/* syscalls (io): madvise(MADV_REMOVE) */

struct balloon {
	struct virtio_device d;
	struct config config;
	uint64_t pages, held;
	uintptr_t host_page;
	unsigned int reporting;
	bool stats_held;
	uint16_t stats_head;
	uint64_t stats[BALLOON_STATS];
};

static struct balloon *balloon_of(struct virtio_device *d)
{
	return (struct balloon *)d;
}

/* Give the host's pages that lie wholly inside back. Return: bytes. */
static uint64_t give_back(const struct balloon *b, void *p, uint64_t bytes)
{
	uintptr_t mask = b->host_page - 1;
	uintptr_t start = ((uintptr_t)p + mask) & ~mask, end = ((uintptr_t)p + bytes) & ~mask;

	/* Of a file that is mapped, only the file itself can give pages back. */
	int advice = b->d.env->mem->shared ? MADV_REMOVE : MADV_DONTNEED;

	if (start >= end || madvise((void *)start, end - start, advice) < 0)
		return 0;
	return end - start;
}

static void hold(struct balloon *b, uint64_t held)
{
	struct smolvm_vmm_counters *counters = b->d.env->counters;

	virtio_count(&counters->balloon_bytes, (held - b->held) << PAGE_SHIFT);
	b->held = held;
}

/* ---- inflating and deflating ---- */

/* @n page numbers, runs of neighbours taken together. Return: whether all of them are RAM. */
static bool inflate(struct balloon *b, const uint32_t *page, unsigned int n)
{
	for (unsigned int i = 0, run; i < n; i += run) {
		uint32_t low = page[i];
		void *p;

		run = 1;
		while (i + run < n && page[i + run] == page[i] + run)
			run++;
		if (run == 1) {
			while (i + run < n && page[i + run] == page[i] - run)
				run++;
			low -= run - 1;
		}
		p = gmem_slice(b->d.env->mem, (uint64_t)low << PAGE_SHIFT,
			       (uint64_t)run << PAGE_SHIFT);
		if (!p && run > 1) { /* from one region into the next, perhaps */
			if (!inflate(b, page + i, 1))
				return false;
			run = 1;
			continue;
		}
		if (!p)
			return false;
		give_back(b, p, (uint64_t)run << PAGE_SHIFT);
	}
	return true;
}

static bool all_ram(const struct balloon *b, const uint32_t *page, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (!gmem_slice(b->d.env->mem, (uint64_t)page[i] << PAGE_SHIFT, 1u << PAGE_SHIFT))
			return false;
	return true;
}

/* Return: false where the request breaks the rules. */
static bool pages_request(struct balloon *b, unsigned int i, const struct virtq_request *r)
{
	uint32_t page[PAGES_MAX];
	unsigned int n = (unsigned int)(r->out_bytes / sizeof(page[0]));
	uint64_t held;

	if (r->n_in || r->out_bytes % sizeof(page[0]))
		return false;
	iov_read(r->iov, r->n_out, 0, page, sizeof(page));
	if (i == QUEUE_DEFLATE) {
		if (!all_ram(b, page, n))
			return false;
		held = b->held > n ? b->held - n : 0;
	} else {
		if (!inflate(b, page, n))
			return false;
		held = b->held + n < b->pages ? b->held + n : b->pages;
	}
	hold(b, held);
	return true;
}

/* ---- free page reports ---- */

static bool report_request(struct balloon *b, const struct virtq_request *r)
{
	uint64_t bytes = 0;

	if (r->n_out)
		return false;
	for (unsigned int i = 0; i < r->n_in; i++)
		bytes += give_back(b, r->iov[i].iov_base, r->iov[i].iov_len);
	virtio_count(&b->d.env->counters->reported_bytes, bytes);
	return true;
}

/* ---- statistics ---- */

static void stats_return(struct balloon *b)
{
	struct virtq *q = &b->d.queues[QUEUE_STATS];

	if (!b->stats_held)
		return;
	b->stats_held = false;
	virtq_push(q, b->stats_head, 0);
	virtio_interrupt(&b->d, q);
}

/* The buffer stays with us; a second one should not come, and sends the first back. */
static bool stats_request(struct balloon *b, const struct virtq_request *r)
{
	struct stat_entry entry[STATS_MAX];
	size_t n;

	if (r->n_in)
		return false;
	n = iov_read(r->iov, r->n_out, 0, entry, sizeof(entry)) / sizeof(entry[0]);
	for (size_t i = 0; i < n; i++)
		if (entry[i].tag < BALLOON_STATS)
			b->stats[entry[i].tag] = entry[i].value;
	stats_return(b);
	b->stats_held = true;
	b->stats_head = r->head;
	return true;
}

void balloon_stats(struct virtio_device *d, uint64_t ret[BALLOON_STATS])
{
	struct balloon *b = balloon_of(d);

	pthread_mutex_lock(&d->lock);
	memcpy(ret, b->stats, sizeof(b->stats));
	if (d->active)
		stats_return(b);
	pthread_mutex_unlock(&d->lock);
}

/* ---- the device ---- */

static void balloon_notify(struct virtio_device *d, unsigned int i)
{
	struct balloon *b = balloon_of(d);
	bool reporting = b->reporting && i == b->reporting;
	bool stats = i == QUEUE_STATS && !reporting && virtio_has(d, F_STATS_VQ);
	struct iovec iov[BALLOON_BUFFERS_MAX];
	struct virtq *q = &d->queues[i];
	struct virtq_request r;
	unsigned int n;

	for (n = 0; n < REQUESTS_TURN; n++) {
		uint64_t most = reporting ? REPORT_BYTES_MAX :
				stats	  ? STATS_MAX * sizeof(struct stat_entry) :
					    PAGES_MAX * sizeof(uint32_t);
		bool good;

		if (!virtio_pop(d, q, &r, iov, BALLOON_BUFFERS_MAX, most))
			break;
		if (reporting)
			good = report_request(b, &r);
		else if (stats)
			good = stats_request(b, &r);
		else
			good = i <= QUEUE_DEFLATE && pages_request(b, i, &r);
		if (!good) {
			virtio_fail(d);
			break;
		}
		if (!stats)
			virtq_push(q, r.head, 0);
	}
	virtio_interrupt(d, q);
	if (n == REQUESTS_TURN)
		virtio_again(d, i);
}

static void balloon_activate(struct virtio_device *d)
{
	struct balloon *b = balloon_of(d);

	b->pages = 0;
	for (unsigned int i = 0; i < d->env->mem->n_regions; i++)
		b->pages += d->env->mem->regions[i].bytes >> PAGE_SHIFT;
	b->reporting = 0;
	/* Linux gives the first buffer, and says so, before DRIVER_OK: that went unheard. */
	if (virtio_has(d, F_STATS_VQ))
		virtio_again(d, QUEUE_STATS);
	if (!virtio_has(d, F_REPORTING))
		return;
	for (unsigned int i = QUEUE_REPORTING_FIRST + virtio_has(d, F_STATS_VQ); i < QUEUES; i++)
		if (d->queues[i].ready)
			b->reporting = i;
}

static void balloon_reset(struct virtio_device *d)
{
	struct balloon *b = balloon_of(d);

	b->stats_held = false;
	b->config.actual = 0;
	memset(b->stats, 0xff, sizeof(b->stats));
	hold(b, 0);
}

static void balloon_config_read(struct virtio_device *d, unsigned int offset, uint8_t *p,
				unsigned int len)
{
	const struct config *config = &balloon_of(d)->config;

	virtio_config_copy(config, sizeof(*config), offset, p, len);
}

/* The driver says how many pages it has given up. */
static void balloon_config_write(struct virtio_device *d, unsigned int offset, const uint8_t *p,
				 unsigned int len)
{
	uint8_t *config = (uint8_t *)&balloon_of(d)->config;

	for (unsigned int i = 0; i < len; i++)
		if (offset + i >= offsetof(struct config, actual) &&
		    offset + i < sizeof(struct config))
			config[offset + i] = p[i];
}

void balloon_set(struct virtio_device *d, uint32_t pages)
{
	struct balloon *b = balloon_of(d);

	pthread_mutex_lock(&d->lock);
	if (b->config.num_pages != pages) {
		b->config.num_pages = pages;
		virtio_config_changed(d);
	}
	pthread_mutex_unlock(&d->lock);
}

static void balloon_destroy(struct virtio_device *d)
{
	virtio_fini(d);
	free(d);
}

static const struct virtio_ops balloon_ops = {
	.name = "balloon",
	.id = VIRTIO_ID_BALLOON,
	.queue_size = BALLOON_QUEUE_SIZE,
	.activate = balloon_activate,
	.reset = balloon_reset,
	.notify = balloon_notify,
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.destroy = balloon_destroy,
};

int balloon_create(struct virtio_device **ret, struct virtio_env *env, struct smolvm_error *err)
{
	struct balloon *b = calloc(1, sizeof(*b));

	if (!b)
		return err_nomem(err);
	virtio_init(&b->d, &balloon_ops, env, F_STATS_VQ | F_DEFLATE_ON_OOM | F_REPORTING, QUEUES);
	b->host_page = (uintptr_t)sysconf(_SC_PAGESIZE);
	memset(b->stats, 0xff, sizeof(b->stats));
	*ret = &b->d;
	return 0;
}
