/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ports that measure the channel: echo and discard.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/ports.h"
#include "agent/sender.h"

/* What the host may have sent and not seen again: its window. */
#define ECHO_MAX STREAM_WINDOW

/**
 * struct echo - one stream; what waits in @out has not been given back to the window.
 */
struct echo {
	struct sender out;
	bool ended;
};

static void echo_progress(struct echo *e)
{
	size_t before = e->out.rest.len;
	bool empty = sender_flush(&e->out);

	stream_consumed(e->out.stream, before - e->out.rest.len);
	if (empty && e->ended)
		stream_finish(e->out.stream);
}

static void echo_data(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	struct echo *e = ctx;
	size_t before = e->out.rest.len;

	if (sender_put(&e->out, p, n) < 0) {
		stream_reset(s, -ENOMEM);
		sender_fini(&e->out);
		free(e);
		return;
	}
	stream_consumed(s, before + n - e->out.rest.len);
}

static void echo_writable(void *ctx, struct stream *s)
{
	(void)s;
	echo_progress(ctx);
}

static void echo_ended(void *ctx, struct stream *s)
{
	struct echo *e = ctx;

	(void)s;
	e->ended = true;
	echo_progress(e);
}

static void echo_closed(void *ctx, struct stream *s, int error)
{
	struct echo *e = ctx;

	(void)s, (void)error;
	sender_fini(&e->out);
	free(e);
}

static const struct stream_events echo_events = {
	.data = echo_data, .writable = echo_writable, .ended = echo_ended, .closed = echo_closed,
};

int echo_incoming(struct agent *a, struct stream *s)
{
	struct echo *e = calloc(1, sizeof(*e));

	(void)a;
	if (!e)
		return -ENOMEM;
	sender_init(&e->out, s, ECHO_MAX);
	stream_accept(s, &echo_events, e);
	return 0;
}

static void discard_data(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	(void)ctx, (void)p;
	stream_consumed(s, n);
}

static void discard_ended(void *ctx, struct stream *s)
{
	(void)ctx;
	stream_finish(s);
}

static void discard_closed(void *ctx, struct stream *s, int error)
{
	(void)ctx, (void)s, (void)error;
}

static const struct stream_events discard_events = {
	.data = discard_data, .ended = discard_ended, .closed = discard_closed,
};

int discard_incoming(struct agent *a, struct stream *s)
{
	stream_accept(s, &discard_events, a);
	return 0;
}
