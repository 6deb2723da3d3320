/* SPDX-License-Identifier: Apache-2.0 */
/* Entropy (virtio 1.2 §5.4): the host's getrandom(), some of it at a time. */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/err.h"
#include "virtio/devices.h"

#define RNG_QUEUE_SIZE	  64
#define RNG_BUFFERS_MAX	  64
#define RNG_REQUEST_MAX	  (1ull << 20) /* bytes that a request may ask for */
#define RNG_BYTES_MAX	  4096u	       /* ... and gets, at most */
#define RNG_REQUESTS_TURN 16	       /* before others have theirs */

/* Fill the buffers, without ever waiting. Return: bytes. */
static uint32_t fill(const struct virtq_request *r)
{
	uint32_t done = 0;

	for (unsigned int i = 0; i < r->n_in && done < RNG_BYTES_MAX; i++) {
		size_t want = r->iov[i].iov_len;
		ssize_t n;

		if (want > RNG_BYTES_MAX - done)
			want = RNG_BYTES_MAX - done;
		n = getrandom(r->iov[i].iov_base, want, GRND_NONBLOCK);
		if (n > 0)
			done += (uint32_t)n;
		if (n < 0 || (size_t)n < want)
			break;
	}
	return done;
}

static void rng_notify(struct virtio_device *d, unsigned int i)
{
	struct virtq *q = &d->queues[i];
	struct iovec iov[RNG_BUFFERS_MAX];
	struct virtq_request r;
	unsigned int n;

	for (n = 0; n < RNG_REQUESTS_TURN; n++) {
		uint32_t written;

		if (!virtio_pop(d, q, &r, iov, RNG_BUFFERS_MAX, RNG_REQUEST_MAX))
			break;
		if (r.n_out || !r.n_in) { /* §5.4.6.1 */
			virtio_fail(d);
			break;
		}
		written = fill(&r);
		virtio_count(&d->env->counters->rng_bytes, written);
		virtq_push(q, r.head, written);
	}
	virtio_interrupt(d, q);
	if (n == RNG_REQUESTS_TURN)
		virtio_again(d, i);
}

static void rng_destroy(struct virtio_device *d)
{
	virtio_fini(d);
	free(d);
}

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.id = VIRTIO_ID_ENTROPY,
	.queue_size = RNG_QUEUE_SIZE,
	.notify = rng_notify,
	.destroy = rng_destroy,
};

int rng_create(struct virtio_device **ret, struct virtio_env *env, struct smolvm_error *err)
{
	struct virtio_device *d = calloc(1, sizeof(*d));

	if (!d)
		return err_nomem(err);
	virtio_init(d, &rng_ops, env, 0, 1);
	*ret = d;
	return 0;
}
