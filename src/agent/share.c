/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared folders: FUSE mounts whose requests travel to the host over streams.
 *
 * The kernel gives one whole request per read of /dev/fuse and takes one whole reply per write, so
 * this only carries messages: requests while the stream has room for them, replies as soon as they
 * are complete. Mounting is another matter (share_mount.c): making a mount point inside another
 * share means that somebody waits for this very relay.
 */
#include "agent/share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/share_relay.h"
#include "base/endian.h"
#include "base/err.h"

#define REPLY_MIN    16u /* struct fuse_out_header */
#define REQUESTS_MAX 16	 /* carried in a row before others have their turn */

static struct share *shares[SHARES_MAX]; /* by number */
static uint8_t request[SHARE_MESSAGE_MAX];

static void share_destroy(struct share *sh)
{
	if (shares[sh->number] == sh)
		shares[sh->number] = NULL;
	loop_remove(sh->agent->loop, &sh->watch);
	if (sh->fd >= 0)
		close(sh->fd); /* whoever waits for an answer gets an error now */
	sender_fini(&sh->out);
	buf_fini(&sh->reply);
	free(sh);
}

static void share_fail(struct share *sh, int error)
{
	if (sh->out.stream)
		stream_reset(sh->out.stream, error);
	share_destroy(sh);
}

/* ---- requests ---- */

static void on_request(struct loop_watch *w, unsigned int events)
{
	struct share *sh = w->ctx;
	struct agent *a = sh->agent;

	for (int i = 0; i < REQUESTS_MAX && sh->out.rest.len == 0; i++) {
		ssize_t n = read(sh->fd, request, sizeof(request));

		if (n < 0 && (errno == EINTR || errno == ENOENT)) /* taken back meanwhile */
			continue;
		if (n < 0 && errno == EAGAIN && !(events & LOOP_HANGUP))
			break;
		if (n <= 0 || sender_put(&sh->out, request, (size_t)n) < 0) {
			share_fail(sh, n == 0 ? -EIO : -errno); /* unmounted, mostly */
			carrier_flush(a->carrier);
			return;
		}
	}
	if (sh->out.rest.len)
		loop_set(a->loop, &sh->watch, 0);
	carrier_flush(a->carrier);
}

static void share_writable(void *ctx, struct stream *s)
{
	struct share *sh = ctx;

	(void)s;
	if (sender_flush(&sh->out))
		loop_set(sh->agent->loop, &sh->watch, LOOP_READ);
}

/* ---- replies ---- */

/* One whole message. A reply that the kernel does not want any more is nobody's fault. */
static int take_reply(struct share *sh, const uint8_t *p, size_t n)
{
	if (write(sh->fd, p, n) < 0 && errno == EINVAL)
		return -EPROTO;
	return 0;
}

/* Bytes up to the end of the message that has begun. Return: how many, or -errno. */
static ssize_t collect(struct share *sh, const uint8_t *p, size_t n)
{
	struct buf *b = &sh->reply;
	size_t want = REPLY_MIN;
	bool first;

	if (b->len >= REPLY_MIN)
		want = get_le32(buf_peek(b));
	first = b->len < REPLY_MIN;
	if (n > want - b->len)
		n = want - b->len;
	if (buf_add(b, p, n) < 0)
		return -ENOMEM;
	if (b->len < want)
		return (ssize_t)n;
	want = get_le32(buf_peek(b));
	if (want < REPLY_MIN || want > SHARE_MESSAGE_MAX)
		return -EPROTO;
	if (first && b->len < want)
		return buf_reserve(b, want - b->len) ? (ssize_t)n : -ENOMEM;
	want = b->len;
	b->len = b->head = 0;
	return take_reply(sh, b->data, want) < 0 ? -EPROTO : (ssize_t)n;
}

static int take_replies(struct share *sh, const uint8_t *p, size_t n)
{
	while (n > 0) {
		size_t len = n >= REPLY_MIN ? get_le32(p) : 0;
		ssize_t k;

		if (sh->reply.len == 0 && len >= REPLY_MIN && len <= n)
			k = take_reply(sh, p, len) < 0 ? -EPROTO : (ssize_t)len;
		else
			k = collect(sh, p, n);
		if (k < 0)
			return (int)k;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

static void share_data(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	struct share *sh = ctx;
	int rc = take_replies(sh, p, n);

	if (rc < 0)
		share_fail(sh, rc);
	else
		stream_consumed(s, n);
}

static void share_ended(void *ctx, struct stream *s)
{
	(void)s;
	share_fail(ctx, -EPIPE);
}

static void share_closed(void *ctx, struct stream *s, int error)
{
	struct share *sh = ctx;

	(void)s, (void)error;
	sh->out.stream = NULL;
	share_destroy(sh);
}

/* ---- life ---- */

static const struct stream_events share_events = {
	.data = share_data, .writable = share_writable, .ended = share_ended,
	.closed = share_closed,
};

int share_create(struct agent *a, uint32_t number, uint32_t uid, uint32_t gid,
		 struct smolvm_error *err)
{
	struct share *sh = calloc(1, sizeof(*sh));
	uint8_t preamble[SHARE_PREAMBLE];
	struct stream *s;

	if (!sh || shares[number]) {
		free(sh);
		return err_nomem(err);
	}
	sh->agent = a;
	sh->number = number;
	sh->watch.fd = -1;
	buf_init(&sh->reply, SHARE_MESSAGE_MAX);
	sh->fd = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (sh->fd < 0) {
		free(sh);
		return err_sys(err, "opening /dev/fuse");
	}
	s = carrier_open(a->carrier, HOST_PORT_SHARE + number, &share_events, sh);
	if (!s) {
		err_sys(err, "asking the host for a shared folder");
		share_destroy(sh);
		return -EIO;
	}
	sender_init(&sh->out, s, SHARE_MESSAGE_MAX);
	stream_grant(s, SHARE_MESSAGE_MAX);
	put_le32(preamble, uid);
	put_le32(preamble + 4, gid);
	sender_put(&sh->out, preamble, sizeof(preamble));
	shares[number] = sh;
	return 0;
}

int share_fd(uint32_t number)
{
	return shares[number] ? shares[number]->fd : -1;
}

void share_begin(uint32_t number)
{
	struct share *sh = shares[number];

	if (!sh)
		return;
	sh->watch = (struct loop_watch){ .fd = sh->fd, .ready = on_request, .ctx = sh };
	sh->watch.events = sh->out.rest.len ? 0 : LOOP_READ;
	loop_add(sh->agent->loop, &sh->watch);
}
