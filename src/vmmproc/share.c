/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared folders: one stream, one file server and one thread each.
 *
 * Theory of operation. The agent opens the share's stream, sends who its user is, then FUSE
 * requests. The event loop cuts the bytes into whole requests and queues them; the thread answers
 * them one after another, because a file system may block for as long as it likes, into one of a
 * few reply buffers; the loop, told through an eventfd, writes full buffers into the stream and
 * gives them back. What the guest may have under way is bounded by the stream's window, whose
 * credit comes back only when a request has been answered.
 *
 * The lock guards the two queues. A share is served to one stream in its life: what a second one
 * would know of the first's nodes is nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "fileserver/fileserver.h"
#include "proto/endian.h"
#include "vmmproc/vmm.h"

#define REPLIES 4
#define REQUEST_MIN 40u /* struct fuse_in_header */

struct request {
	struct request *next;
	uint32_t len;
	uint8_t bytes[];
};

struct reply {
	size_t len, sent;     /* full while len is not 0; the loop's while so */
	size_t request_bytes; /* to give back as credit */
	uint8_t *bytes;       /* SHARE_MESSAGE_MAX */
};

struct share {
	struct vmm *vmm;
	struct fileserver *server;
	struct mux_stream *stream;
	bool used; /* a stream was opened */
	struct loop_watch done_watch;
	struct buf in; /* what is not yet a whole request; the preamble first */
	bool preamble_read;

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct request *first, **last; /* waiting for the thread */
	struct reply replies[REPLIES]; /* filled and sent in turn */
	unsigned int fill_at, send_at;
	size_t forgotten_bytes; /* of requests that have no reply: credit to give back */
	bool broken;            /* the guest sent what is no request */
	int done_fd;
};

/* ---- the thread ---- */

static void tell_loop(struct share *sh)
{
	uint64_t one = 1;

	if (write(sh->done_fd, &one, sizeof(one)) < 0)
		return; /* full: it is awake anyway */
}

/* Return: the next request, with a free reply buffer in *@ret. Called with the lock held. */
static struct request *next_request(struct share *sh, struct reply **ret)
{
	struct request *q;

	while (!sh->first || sh->replies[sh->fill_at].len)
		pthread_cond_wait(&sh->changed, &sh->lock);
	q = sh->first;
	sh->first = q->next;
	if (!sh->first)
		sh->last = &sh->first;
	*ret = &sh->replies[sh->fill_at];
	return q;
}

static void *serve(void *ctx)
{
	struct share *sh = ctx;

	pthread_mutex_lock(&sh->lock);
	for (;;) {
		struct reply *r;
		struct request *q = next_request(sh, &r);
		ssize_t n;

		pthread_mutex_unlock(&sh->lock);
		n = fileserver_handle(sh->server, q->bytes, q->len, r->bytes, SHARE_MESSAGE_MAX);
		pthread_mutex_lock(&sh->lock);
		if (n > 0) {
			r->request_bytes = q->len;
			r->sent = 0;
			r->len = (size_t)n;
			sh->fill_at = (sh->fill_at + 1) % REPLIES;
		} else {
			sh->forgotten_bytes += q->len;
			sh->broken |= n < 0;
		}
		free(q);
		tell_loop(sh);
	}
	return NULL;
}

/* ---- the event loop's side ---- */

/* Write what is answered. Called in the loop's thread without the lock. */
static void send_replies(struct share *sh)
{
	size_t credit;
	bool broken;

	pthread_mutex_lock(&sh->lock);
	credit = sh->forgotten_bytes;
	sh->forgotten_bytes = 0;
	broken = sh->broken;
	while (sh->replies[sh->send_at].len) {
		struct reply *r = &sh->replies[sh->send_at];

		if (sh->stream) {
			r->sent += mux_write(sh->stream, r->bytes + r->sent, r->len - r->sent);
			if (r->sent < r->len)
				break;
		}
		credit += r->request_bytes;
		r->len = 0;
		sh->send_at = (sh->send_at + 1) % REPLIES;
		pthread_cond_signal(&sh->changed);
	}
	pthread_mutex_unlock(&sh->lock);
	if (sh->stream && credit)
		mux_consumed(sh->stream, credit);
	if (sh->stream && broken) {
		mux_reset(sh->stream, -EPROTO);
		sh->stream = NULL;
	}
}

static void on_done(struct loop_watch *w, unsigned int events)
{
	struct share *sh = w->ctx;
	uint64_t n;

	if (read(w->fd, &n, sizeof(n)) < 0)
		return;
	send_replies(sh);
	channel_flush(sh->vmm);
}

static int queue_request(struct share *sh, const uint8_t *bytes, uint32_t len)
{
	struct request *q = malloc(sizeof(*q) + len);

	if (!q)
		return -ENOMEM;
	q->next = NULL;
	q->len = len;
	memcpy(q->bytes, bytes, len);
	pthread_mutex_lock(&sh->lock);
	*sh->last = q;
	sh->last = &q->next;
	pthread_cond_signal(&sh->changed);
	pthread_mutex_unlock(&sh->lock);
	return 0;
}

/* Cut whole requests off what has arrived. Return: 0 or -errno. */
static int cut_requests(struct share *sh)
{
	while (sh->in.len >= 4) {
		uint32_t len = get_le32(buf_peek(&sh->in));
		int rc;

		if (len < REQUEST_MIN || len > SHARE_MESSAGE_MAX)
			return -EPROTO;
		if (sh->in.len < len)
			return 0;
		rc = queue_request(sh, buf_peek(&sh->in), len);
		if (rc < 0)
			return rc;
		buf_drop(&sh->in, len);
	}
	return 0;
}

static void on_data(void *ctx, struct mux_stream *s, const uint8_t *p, size_t n)
{
	struct share *sh = ctx;
	int rc = buf_add(&sh->in, p, n);

	if (rc == 0 && !sh->preamble_read) {
		if (sh->in.len < SHARE_PREAMBLE)
			return;
		/* The thread has nothing to do yet, so it does not look. */
		fileserver_set_guest_user(sh->server, get_le32(buf_peek(&sh->in)),
					  get_le32(buf_peek(&sh->in) + 4));
		buf_drop(&sh->in, SHARE_PREAMBLE);
		mux_consumed(s, SHARE_PREAMBLE);
		sh->preamble_read = true;
	}
	if (rc == 0)
		rc = cut_requests(sh);
	if (rc < 0) {
		sh->stream = NULL;
		mux_reset(s, rc);
	}
}

static void on_writable(void *ctx, struct mux_stream *s)
{
	send_replies(ctx);
}

static void on_ended(void *ctx, struct mux_stream *s)
{
	mux_finish(s);
}

static void on_closed(void *ctx, struct mux_stream *s, int error)
{
	struct share *sh = ctx;

	sh->stream = NULL;
}

static const struct mux_stream_events share_events = {
	.data = on_data,
	.writable = on_writable,
	.ended = on_ended,
	.closed = on_closed,
};

int share_incoming(struct vmm *v, struct mux_stream *s, unsigned int number)
{
	struct share *sh = v->shares[number];

	if (!sh)
		return -ENOENT;
	if (sh->used)
		return -EBUSY;
	sh->used = true;
	sh->stream = s;
	mux_accept(s, &share_events, sh);
	mux_grant(s, SHARE_MESSAGE_MAX);
	return 0;
}

static int make_buffers(struct share *sh)
{
	buf_init(&sh->in, MUX_WINDOW + SHARE_MESSAGE_MAX);
	sh->last = &sh->first;
	for (int i = 0; i < REPLIES; i++) {
		sh->replies[i].bytes = malloc(SHARE_MESSAGE_MAX); /* touched as it is needed */
		if (!sh->replies[i].bytes)
			return -ENOMEM;
	}
	sh->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return sh->done_fd < 0 ? -errno : 0;
}

int share_create(struct vmm *v, unsigned int number, int root_fd, bool read_only,
		 struct smolvm_error *err)
{
	struct fileserver_config config = { root_fd, read_only, SHARE_DATA_MAX };
	struct share *sh = calloc(1, sizeof(*sh));
	int rc = sh ? make_buffers(sh) : -ENOMEM;

	/* On failure the machine ends, and the process with it: nothing is undone. */
	if (rc < 0)
		return err_set(err, -rc, "cannot set up shared folder %u", number);
	rc = fileserver_create(&sh->server, &config, err);
	if (rc < 0)
		return rc;
	sh->vmm = v;
	v->shares[number] = sh;
	sh->done_watch = (struct loop_watch){ sh->done_fd, LOOP_READ, on_done, sh };
	rc = loop_add(v->loop, &sh->done_watch);
	pthread_mutex_init(&sh->lock, NULL);
	pthread_cond_init(&sh->changed, NULL);
	if (rc == 0)
		rc = -pthread_create(&sh->thread, NULL, serve, sh);
	return rc < 0 ? err_set(err, -rc, "cannot set up shared folder %u", number) : 0;
}
