/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (virtio 1.2 §5.2): requests from the queues, to a disk and back.
 *
 * The I/O thread takes requests from the rings. What the page cache can serve it does at once,
 * without the lock: handing a request to another thread and back costs several times what a cached
 * read does. Everything that may wait for a medium goes to the machine's workers (pool.h), who
 * complete it themselves: the I/O thread must not wait, since all other devices would wait with it.
 *
 * Reads that missed the cache, flushes and discards are jobs of their own, several at once. Writes
 * go through one worker at a time (the "writer"), in order: file systems let one thread at a time
 * write to a file in any case, and one thread tells the driver of many writes with one interrupt.
 * Figures, and why there is no io_uring: docs/decisions/0005-no-io-uring.md.
 *
 * Discarding is offered where holes can be punched. A block device tells only when it is asked:
 * "unsupported" then, so that the guest's fstrim says so too. Zeroes can always be written.
 *
 * A request lives in a slot from being popped until it is pushed. When all slots are taken nothing
 * is popped (@stalled) until one comes back: the driver's ring is the queue, and what one machine
 * can have us hold is bounded. reset() waits until all have come back.
 */
#include <errno.h>
#include <endian.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "virtio/devices.h"
#include "virtio/disk.h"
#include "virtio/pool.h"

#define BLK_QUEUES_MAX	  8
#define BLK_QUEUE_SIZE	  256
#define BLK_JOBS	  64u
#define BLK_SEGMENTS	  254u /* of data, in one request */
#define BLK_SEGMENT_BYTES (256u << 10)
#define BLK_HEADER	  16u
#define BLK_RANGES	  16u /* of one discard */
#define BLK_DISCARD_MAX	  (1u << 21) /* sectors */
#define BLK_ZEROES_MAX	  (1u << 17)

/* Header and status may be in as many buffers as they have bytes. */
#define BLK_IOVS	  (BLK_SEGMENTS + BLK_HEADER + 1)
#define BLK_REQUEST_BYTES ((uint64_t)BLK_SEGMENTS * BLK_SEGMENT_BYTES + BLK_HEADER + 1)

/* After as much of one queue's, the I/O thread looks at other things. */
#define ROUND_REQUESTS 64u
#define ROUND_BYTES    (1u << 20)

/* The writer tells the driver after as much, and lets others have its thread after as many. */
#define WRITER_BYTES (256u << 10)
#define WRITER_JOBS  32u

#define F_SIZE_MAX     (1ull << 1)
#define F_SEG_MAX      (1ull << 2)
#define F_RO	       (1ull << 5)
#define F_BLK_SIZE     (1ull << 6)
#define F_FLUSH	       (1ull << 9)
#define F_MQ	       (1ull << 12)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

enum type {
	T_IN = 0,
	T_OUT = 1,
	T_FLUSH = 4,
	T_GET_ID = 8,
	T_DISCARD = 11,
	T_WRITE_ZEROES = 13,
};

enum status {
	S_OK = 0,
	S_IOERR = 1,
	S_UNSUPP = 2,
};

#define RANGE_UNMAP 1u

struct blk_config {
	uint64_t capacity;
	uint32_t size_max, seg_max;
	uint8_t geometry[4];
	uint32_t blk_size;
	uint8_t topology[8], writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};

_Static_assert(sizeof(struct blk_config) == 64, "as the specification has it, and a pad");

struct blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};

struct blk_range {
	uint64_t sector;
	uint32_t sectors, flags;
};

struct blk;

/*
 * A request on its way. @data: its bytes, header and status apart; @written: to be told the driver
 * if all goes well; @ranges: as they were when it was popped, in bytes.
 */
struct job {
	struct pool_job pool;
	struct blk *blk;
	const struct kind *kind;
	unsigned int queue;
	uint16_t head;
	uint8_t *status;
	uint64_t data;
	uint32_t written;
	struct disk_io io;
	unsigned int n_ranges;
	struct {
		uint64_t offset, bytes;
		bool unmap;
	} ranges[BLK_RANGES];
	struct iovec iov[BLK_IOVS];
};

/*
 * What a type of request needs. @feature: negotiated, 0: nothing. @writes: refused where nothing
 * can be written. @begin, with the lock: 0 or -errno, and it is over; -EAGAIN: a worker's. @run: in
 * a worker, without the lock.
 */
struct kind {
	uint32_t type;
	uint64_t feature;
	bool writes;
	int (*begin)(struct blk *b, struct job *job, uint64_t sector);
	int (*run)(struct blk *b, struct job *job);
};

struct blk {
	struct virtio_device base;
	struct disk disk;
	bool unsafe_cache;
	struct blk_config config;
	/* The rest with the lock. */
	bool pooled, stopping;
	unsigned int stalled; /* queues, bits */
	struct job *jobs;
	uint8_t free[BLK_JOBS]; /* a stack: the fewest slots are used */
	unsigned int n_free;
	pthread_cond_t idle; /* all are free */
	struct pool_batch writes;
	struct pool_job writer;
	bool writing;
};

/* What one look at a queue has gathered. */
struct round {
	struct pool_batch jobs, writes;
	unsigned int n, finished;
	uint64_t bytes;
	bool stop;
};

static struct blk *to_blk(struct virtio_device *d)
{
	return (struct blk *)d;
}

static bool in_range(const struct blk *b, uint64_t sector, uint64_t sectors)
{
	return sector <= b->disk.sectors && sectors <= b->disk.sectors - sector;
}

/* ---- completion ---- */

static void finish(struct blk *b, struct job *job, int r)
{
	bool ok = r >= 0;

	*job->status = ok ? S_OK : r == -EOPNOTSUPP ? S_UNSUPP : S_IOERR;
	/* The status lies behind data that has not been written: nothing can be claimed then. */
	virtq_push(&b->base.queues[job->queue], job->head,
		   ok || job->written == 1 ? job->written : 0);
	virtio_count(&b->base.env->counters->disk_requests, 1);
	if (ok && (job->kind->type == T_IN || job->kind->type == T_OUT))
		virtio_count(&b->base.env->counters->disk_bytes, job->data);
	b->free[b->n_free++] = (uint8_t)(job - b->jobs);
	if (b->stopping && b->n_free == BLK_JOBS)
		pthread_cond_broadcast(&b->idle);
}

static void interrupt(struct blk *b, unsigned int queues)
{
	for (unsigned int i = 0; queues; i++, queues >>= 1)
		if (queues & 1)
			virtio_interrupt(&b->base, &b->base.queues[i]);
}

static void serve(struct blk *b, unsigned int qi);

/* Have the I/O thread look at queue @qi (again). */
static void kick(struct blk *b, unsigned int qi)
{
	if (b->base.notify_fds[qi] < 0)
		serve(b, qi);
	else
		virtio_again(&b->base, qi);
}

static void kick_stalled(struct blk *b)
{
	unsigned int queues = b->stalled;

	if (!queues || !b->n_free || b->stopping)
		return;
	b->stalled = 0;
	for (unsigned int i = 0; queues; i++, queues >>= 1)
		if (queues & 1)
			kick(b, i);
}

/* ---- the workers' side ---- */

static void run_job(struct pool_job *p)
{
	struct job *job = (struct job *)p;
	struct blk *b = job->blk;
	unsigned int queue = job->queue;
	int r = job->kind->run(b, job);

	pthread_mutex_lock(&b->base.lock);
	finish(b, job, r);
	interrupt(b, 1u << queue);
	kick_stalled(b);
	pthread_mutex_unlock(&b->base.lock);
}

static struct job *next_write(struct blk *b)
{
	struct job *job = (struct job *)b->writes.first;

	if (!job)
		return NULL;
	b->writes.first = job->pool.next;
	if (!b->writes.first)
		b->writes.last = NULL;
	b->writes.n--;
	return job;
}

/*
 * The writer: does writes until there are none. What is done is told when there is no more to do
 * or enough has come together: while memory takes writes that is soon.
 */
static void run_writes(struct pool_job *p)
{
	struct blk *b = (struct blk *)((uint8_t *)p - offsetof(struct blk, writer));
	struct pool_batch again = { 0 };
	unsigned int told = 0, n = 0;
	uint64_t bytes = 0;
	struct job *job;

	pthread_mutex_lock(&b->base.lock);
	while (n++ < WRITER_JOBS && (job = next_write(b))) {
		int r;

		pthread_mutex_unlock(&b->base.lock);
		r = job->kind->run(b, job);
		pthread_mutex_lock(&b->base.lock);
		bytes += job->data;
		told |= 1u << job->queue;
		finish(b, job, r);
		if (bytes < WRITER_BYTES)
			continue;
		interrupt(b, told);
		kick_stalled(b);
		told = 0;
		bytes = 0;
	}
	interrupt(b, told);
	b->writing = b->writes.first != NULL;
	if (b->writing) {
		pool_add(&again, &b->writer);
		pool_submit(b->base.env->pool, &again);
	}
	kick_stalled(b);
	pthread_mutex_unlock(&b->base.lock);
}

/* ---- the types of requests ---- */

static int begin_move(struct blk *b, struct job *job, uint64_t sector)
{
	bool write = job->kind->type == T_OUT;
	int r;

	if (job->data % DISK_SECTOR || !in_range(b, sector, job->data / DISK_SECTOR))
		return -EIO;
	job->io.write = write;
	/* A driver that cannot flush takes a completed write for a durable one (§5.2.6.2). */
	job->io.sync = write && !b->unsafe_cache && !virtio_has(&b->base, F_FLUSH);
	job->io.offset = sector * DISK_SECTOR;
	job->io.left = job->data;
	if (write && b->writing)
		return -EAGAIN; /* behind the others */
	pthread_mutex_unlock(&b->base.lock);
	r = disk_move(&b->disk, &job->io, false);
	pthread_mutex_lock(&b->base.lock);
	return r;
}

static int run_move(struct blk *b, struct job *job)
{
	return disk_move(&b->disk, &job->io, true);
}

static int begin_flush(struct blk *b, struct job *job, uint64_t sector)
{
	(void)job;
	(void)sector;
	return b->unsafe_cache || b->disk.read_only ? 0 : -EAGAIN;
}

static int run_flush(struct blk *b, struct job *job)
{
	(void)job;
	return disk_flush(&b->disk);
}

static int begin_id(struct blk *b, struct job *job, uint64_t sector)
{
	(void)sector;
	if (job->data < DISK_ID_BYTES)
		return -EIO;
	iov_write(job->io.iov, job->io.n_iov, 0, b->disk.id, DISK_ID_BYTES);
	job->written = DISK_ID_BYTES + (job->data == DISK_ID_BYTES);
	return 0;
}

static int begin_ranges(struct blk *b, struct job *job, uint64_t sector)
{
	bool zeroes = job->kind->type == T_WRITE_ZEROES;
	uint32_t max = zeroes ? BLK_ZEROES_MAX : BLK_DISCARD_MAX;
	uint64_t n = job->data / sizeof(struct blk_range);
	struct blk_range ranges[BLK_RANGES];

	(void)sector;
	if (!n || n > (zeroes ? 1 : BLK_RANGES) || job->data % sizeof(struct blk_range))
		return -EIO;
	iov_read(job->io.iov, job->io.n_iov, 0, ranges, job->data);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t first = le64toh(ranges[i].sector);
		uint32_t sectors = le32toh(ranges[i].sectors), flags = le32toh(ranges[i].flags);

		if (flags & ~(zeroes ? RANGE_UNMAP : 0))
			return -EOPNOTSUPP;
		if (sectors > max || !in_range(b, first, sectors))
			return -EIO;
		job->ranges[i].offset = first * DISK_SECTOR;
		job->ranges[i].bytes = (uint64_t)sectors * DISK_SECTOR;
		job->ranges[i].unmap = flags & RANGE_UNMAP;
	}
	job->n_ranges = (unsigned int)n;
	return -EAGAIN;
}

static int run_ranges(struct blk *b, struct job *job)
{
	bool zeroes = job->kind->type == T_WRITE_ZEROES;

	for (unsigned int i = 0; i < job->n_ranges; i++) {
		uint64_t offset = job->ranges[i].offset, bytes = job->ranges[i].bytes;
		int r = 0;

		if (bytes)
			r = zeroes ? disk_zero(&b->disk, offset, bytes, job->ranges[i].unmap)
				   : disk_discard(&b->disk, offset, bytes);
		if (r < 0)
			return r;
	}
	return 0;
}

static const struct kind kinds[] = {
	{ T_IN, 0, false, begin_move, run_move },
	{ T_OUT, 0, true, begin_move, run_move },
	{ T_FLUSH, 0, false, begin_flush, run_flush },
	{ T_GET_ID, 0, false, begin_id, NULL },
	{ T_DISCARD, F_DISCARD, true, begin_ranges, run_ranges },
	{ T_WRITE_ZEROES, F_WRITE_ZEROES, true, begin_ranges, run_ranges },
};

/* Of what there is no such thing. */
static const struct kind unknown = { .type = UINT32_MAX };

static const struct kind *find_kind(const struct blk *b, uint32_t type)
{
	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].type == type)
			return !kinds[i].feature || virtio_has(&b->base, kinds[i].feature)
				       ? &kinds[i]
				       : &unknown;
	return &unknown;
}

/* ---- the queues' side ---- */

/* Find header, data and status in what was popped. Return: 0, or -EPROTO: there is no status. */
static int parse(struct job *job, const struct virtq_request *req, struct blk_header *header)
{
	struct iovec *in = req->iov + req->n_out, *iov = req->iov;
	unsigned int n_in = req->n_in, n = req->n_out;

	*header = (struct blk_header){ .type = UINT32_MAX };
	job->head = req->head;
	job->n_ranges = 0;
	job->data = 0;
	if (!n_in)
		return -EPROTO;
	in[n_in - 1].iov_len--;
	job->status = (uint8_t *)in[n_in - 1].iov_base + in[n_in - 1].iov_len;
	job->written = (uint32_t)req->in_bytes;
	if (req->out_bytes < BLK_HEADER)
		return 0; /* of no type */
	iov_read(iov, n, 0, header, BLK_HEADER);
	iov_cut(&iov, &n, BLK_HEADER);
	switch (le32toh(header->type)) {
	case T_IN:
	case T_GET_ID:
		job->data = req->in_bytes - 1;
		job->io = (struct disk_io){ .iov = in, .n_iov = n_in };
		break;
	default:
		job->data = req->out_bytes - BLK_HEADER;
		job->io = (struct disk_io){ .iov = iov, .n_iov = n };
	}
	return 0;
}

static int begin(struct blk *b, struct job *job, const struct blk_header *header)
{
	job->kind = find_kind(b, le32toh(header->type));
	if (job->kind == &unknown)
		return -EOPNOTSUPP;
	if (job->kind->writes && b->disk.read_only)
		return -EROFS;
	return job->kind->begin(b, job, le64toh(header->sector));
}

static bool may_go_on(struct blk *b, unsigned int qi, struct round *round)
{
	round->stop = true;
	if (b->stopping || !b->base.active)
		return false;
	if (!b->n_free) {
		b->stalled |= 1u << qi;
		return false;
	}
	if (b->base.notify_fds[qi] >= 0 &&
	    (round->n >= ROUND_REQUESTS || round->bytes >= ROUND_BYTES)) {
		kick(b, qi);
		return false;
	}
	round->stop = false;
	return true;
}

/* Take one request of queue @qi and begin it. Return: whether to go on. */
static bool take(struct blk *b, unsigned int qi, struct round *round)
{
	struct virtq_request req;
	struct blk_header header;
	struct job *job;
	int r;

	if (!may_go_on(b, qi, round))
		return false;
	job = &b->jobs[b->free[b->n_free - 1]];
	if (!virtio_pop(&b->base, &b->base.queues[qi], &req, job->iov, BLK_IOVS, BLK_REQUEST_BYTES))
		return false;
	if (parse(job, &req, &header) < 0) {
		virtio_fail(&b->base);
		return false;
	}
	b->n_free--;
	job->queue = qi;
	round->n++;
	r = begin(b, job, &header);
	if (r == -EAGAIN) {
		pool_add(job->kind->type == T_OUT ? &round->writes : &round->jobs, &job->pool);
		return true;
	}
	round->bytes += job->data;
	round->finished++;
	finish(b, job, r);
	return true;
}

/* Hand over what is for workers. */
static void submit(struct blk *b, struct round *round)
{
	if (round->writes.first) {
		if (b->writes.last)
			b->writes.last->next = round->writes.first;
		else
			b->writes.first = round->writes.first;
		b->writes.last = round->writes.last;
		b->writes.n += round->writes.n;
		if (!b->writing)
			pool_add(&round->jobs, &b->writer);
		b->writing = true;
	}
	pool_submit(b->base.env->pool, &round->jobs);
}

/* Do or hand over what is in queue @qi. With the lock, which is released meanwhile. */
static void serve(struct blk *b, unsigned int qi)
{
	struct virtq *q = &b->base.queues[qi];
	struct round round = { .n = 0 };

	do {
		virtq_silence(q);
		while (take(b, qi, &round))
			;
	} while (!round.stop && b->base.active && !b->stopping && virtq_listen(q));
	submit(b, &round);
	if (round.finished)
		virtio_interrupt(&b->base, q);
	kick_stalled(b);
}

/* ---- the device ---- */

static int blk_start(struct virtio_device *d, struct smolvm_error *err)
{
	int r = pool_ref(d->env, err);

	to_blk(d)->pooled = r == 0;
	return r;
}

static void blk_reset(struct virtio_device *d)
{
	struct blk *b = to_blk(d);

	b->stopping = true;
	while (b->n_free < BLK_JOBS)
		pthread_cond_wait(&b->idle, &d->lock);
	b->stopping = false;
	b->stalled = 0;
}

static void blk_notify(struct virtio_device *d, unsigned int q)
{
	serve(to_blk(d), q);
}

static void blk_config_read(struct virtio_device *d, unsigned int offset, uint8_t *p,
			    unsigned int len)
{
	const struct blk_config *config = &to_blk(d)->config;

	virtio_config_copy(config, sizeof(*config), offset, p, len);
}

static void blk_destroy(struct virtio_device *d)
{
	struct blk *b = to_blk(d);

	if (b->pooled)
		pool_unref(d->env);
	pthread_cond_destroy(&b->idle);
	close(b->disk.fd);
	free(b->jobs);
	virtio_fini(d);
	free(b);
}

static const struct virtio_ops blk_ops = {
	.name = "blk",
	.id = VIRTIO_ID_BLOCK,
	.queue_size = BLK_QUEUE_SIZE,
	.start = blk_start,
	.reset = blk_reset,
	.notify = blk_notify,
	.config_read = blk_config_read,
	.destroy = blk_destroy,
};

static uint64_t offered(const struct blk *b, unsigned int queues)
{
	uint64_t features = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE;

	if (queues > 1)
		features |= F_MQ;
	if (b->disk.read_only)
		return features | F_RO;
	/* A driver that does not know of flushing does not wait for it. */
	if (!b->unsafe_cache)
		features |= F_FLUSH;
	return features | F_WRITE_ZEROES | (b->disk.can_discard ? F_DISCARD : 0);
}

static void fill_config(struct blk *b, unsigned int queues)
{
	b->config = (struct blk_config){
		.capacity = htole64(b->disk.sectors),
		.size_max = htole32(BLK_SEGMENT_BYTES),
		.seg_max = htole32(BLK_SEGMENTS),
		.blk_size = htole32(DISK_SECTOR),
		.num_queues = htole16((uint16_t)queues),
		.max_discard_sectors = htole32(BLK_DISCARD_MAX),
		.max_discard_seg = htole32(BLK_RANGES),
		.discard_sector_alignment = htole32(4096 / DISK_SECTOR),
		.max_write_zeroes_sectors = htole32(BLK_ZEROES_MAX),
		.max_write_zeroes_seg = htole32(1),
		.write_zeroes_may_unmap = 1,
	};
}

int blk_create(struct virtio_device **ret, struct virtio_env *env,
	       const struct smolvm_vmm_disk *config, struct smolvm_error *err)
{
	unsigned int queues = config->queues ? config->queues : 1;
	struct disk disk;
	struct blk *b;
	int r;

	if (queues > BLK_QUEUES_MAX)
		return err_set(err, EINVAL, "a disk has at most %d queues, not %u", BLK_QUEUES_MAX,
			       queues);
	r = disk_init(&disk, config->fd, config->read_only, err);
	if (r < 0)
		return r;
	b = calloc(1, sizeof(*b));
	if (b)
		b->jobs = calloc(BLK_JOBS, sizeof(*b->jobs));
	if (!b || !b->jobs) {
		free(b);
		return err_nomem(err);
	}
	b->disk = disk;
	b->unsafe_cache = config->unsafe_cache;
	for (unsigned int i = BLK_JOBS; i-- > 0;)
		b->free[b->n_free++] = (uint8_t)i;
	for (unsigned int i = 0; i < BLK_JOBS; i++) {
		b->jobs[i].blk = b;
		b->jobs[i].pool.run = run_job;
	}
	b->writer.run = run_writes;
	pthread_cond_init(&b->idle, NULL);
	fill_config(b, queues);
	virtio_init(&b->base, &blk_ops, env, offered(b, queues), queues);
	*ret = &b->base;
	return 0;
}
