/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control port: one request, one answer.
 *
 * The answer may come long after the request (shared folders are mounted, file systems flushed by
 * child processes), and the stream may be gone by then: the object lives as long as either.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/ports.h"
#include "agent/power.h"
#include "agent/sender.h"
#include "agent/setup.h"
#include "base/err.h"
#include "proto/agent.h"
#include "proto/msg.h"

#define REQUEST_MAX	(256u << 10)
#define ANSWER_MAX	4096u
#define SYNC_TIMEOUT_MS 30000
#define UNHEARD_MS	500 /* from the answer to the end, when the host does not take notice */
#define HEARD_MS	10

/**
 * struct control - a request.
 * @in:   it, as far as it has arrived.
 * @busy: it has arrived and is not answered.
 */
struct control {
	struct agent *agent;
	struct buf in;
	struct sender out;
	bool received, busy, power_off;
	struct task task;
};

static void control_free(struct control *c)
{
	buf_fini(&c->in);
	sender_fini(&c->out);
	free(c);
}

static void answer(struct control *c, int result, struct smolvm_error *err)
{
	struct agent *a = c->agent;

	c->busy = false;
	if (!c->out.stream) {
		control_free(c);
	} else {
		if (result == 0)
			sender_message(&c->out, CONTROL_OK, NULL, 0);
		else
			sender_failure(&c->out, CONTROL_ERROR, err);
		stream_finish(c->out.stream); /* a new stream has room for so little */
	}
	carrier_flush(a->carrier);
}

/* ---- requests ---- */

static void setup_done(void *ctx, int result, struct smolvm_error *err)
{
	answer(ctx, result, err);
}

static void start_setup(struct control *c, const struct msg *m)
{
	setup_start(c->agent, m->body, m->len, setup_done, c);
}

static int sync_work(void *ctx)
{
	(void)ctx;
	children_keep_only(NULL, 0);
	sync();
	return 0;
}

static void sync_done(struct task *t, int result)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;

	if (result < 0)
		err_set(&err, -result, "flushing the file systems: %s",
			result == -ETIMEDOUT ? "takes too long" : "failed");
	answer(t->ctx, result, &err);
}

static void start_sync(struct control *c, const struct msg *m)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	int rc;

	(void)m;
	c->task = (struct task){ .done = sync_done, .ctx = c };
	rc = task_start(&c->agent->children, &c->task, sync_work, SYNC_TIMEOUT_MS);
	if (rc < 0)
		answer(c, rc, (err_set(&err, -rc, "starting a process failed"), &err));
}

static void shutdown_done(void *ctx)
{
	struct control *c = ctx;

	c->power_off = true;
	if (!c->out.stream)
		agent_power_off();
	power_off_soon(c->agent, UNHEARD_MS);
	answer(c, 0, NULL);
}

static void start_shutdown(struct control *c, const struct msg *m)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;

	(void)m;
	if (power_down(c->agent, shutdown_done, c) < 0)
		answer(c, -EALREADY,
		       (err_set(&err, EALREADY, "the machine is already shutting down"), &err));
}

static const struct {
	uint8_t type;
	void (*start)(struct control *c, const struct msg *m);
} requests[] = {
	{ CONTROL_SETUP, start_setup },
	{ CONTROL_SYNC, start_sync },
	{ CONTROL_SHUTDOWN, start_shutdown },
};

/* ---- the stream ---- */

static void control_data(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	struct control *c = ctx;
	struct msg m = { 0 };
	long k;

	stream_consumed(s, n);
	if (c->received) /* one request a stream; what follows is ignored */
		return;
	k = buf_add(&c->in, p, n);
	if (k == 0)
		k = msg_parse(buf_peek(&c->in), c->in.len, REQUEST_MAX, &m);
	if (k < 0) {
		stream_reset(s, (int)k);
		control_free(c);
		return;
	}
	if (k == 0)
		return;
	c->received = c->busy = true;
	for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		if (requests[i].type == m.type) {
			requests[i].start(c, &m);
			return;
		}
	}
	c->busy = false;
	stream_reset(s, -EBADMSG);
	control_free(c);
}

static void control_writable(void *ctx, struct stream *s)
{
	(void)ctx, (void)s;
}

static void control_ended(void *ctx, struct stream *s)
{
	struct control *c = ctx;

	if (!c->received)
		stream_finish(s);
}

static void control_closed(void *ctx, struct stream *s, int error)
{
	struct control *c = ctx;

	(void)s, (void)error;
	c->out.stream = NULL;
	if (c->power_off) /* the last bytes may not have left yet */
		power_off_soon(c->agent, HEARD_MS);
	if (!c->busy)
		control_free(c);
}

static const struct stream_events control_events = {
	.data = control_data, .writable = control_writable, .ended = control_ended,
	.closed = control_closed,
};

int control_incoming(struct agent *a, struct stream *s)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->agent = a;
	buf_init(&c->in, REQUEST_MAX + MSG_HEADER + STREAM_WINDOW);
	sender_init(&c->out, s, ANSWER_MAX);
	stream_accept(s, &control_events, c);
	return 0;
}
