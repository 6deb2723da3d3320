/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exec port: one command on one stream.
 *
 * States: WAITING for the request; STARTING until the status pipe tells whether the program could
 * be executed; RUNNING; DRAINING after the process has ended, until its output has; FINISHED when
 * the last message is sent. A command's output ends with its last writer. What the command left
 * running in the background may keep it open, so after a short grace whatever can be read at once
 * is taken for all. A client that goes away leaves an object without a stream, until the process
 * has ended.
 */
#include "agent/exec.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/ports.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/fd.h"
#include "proto/msg.h"

/* Waiting to be sent: what one reading of each output gave, and small messages. */
#define OUT_MAX (4 * (MSG_HEADER + EXEC_DATA_MAX))

static void exec_free(struct exec *e)
{
	struct agent *a = e->agent;

	loop_cancel(a->loop, &e->timer);
	loop_remove(a->loop, &e->status_watch);
	fd_close(&e->status_fd);
	exec_io_close(e);
	children_forget(&a->children, &e->child);
	buf_fini(&e->in);
	sender_fini(&e->out);
	a->n_execs--;
	free(e);
}

/* ---- the end ---- */

static void finish(struct exec *e)
{
	e->state = EXEC_FINISHED;
	loop_cancel(e->agent->loop, &e->timer);
	exec_io_close(e);
	if (e->out.stream && sender_flush(&e->out))
		stream_finish(e->out.stream);
}

static void fail(struct exec *e, const struct smolvm_error *err)
{
	if (sender_failure(&e->out, EXEC_FAILED, err) < 0 && e->out.stream) {
		stream_reset(e->out.stream, -ENOMEM);
		e->out.stream = NULL;
	}
	finish(e);
}

static void send_exit(struct exec *e)
{
	uint8_t body[2] = { WIFSIGNALED(e->status),
			    (uint8_t)(WIFSIGNALED(e->status) ? WTERMSIG(e->status)
							     : WEXITSTATUS(e->status)) };

	sender_message(&e->out, EXEC_EXIT, body, sizeof(body));
	finish(e);
}

static void kill_group(struct exec *e, int sig)
{
	pid_t foreground = 0;

	if (!e->pid)
		return;
	if (e->tty && e->output[0].fd >= 0 && ioctl(e->output[0].fd, TIOCGPGRP, &foreground) == 0 &&
	    foreground > 0 && kill(-foreground, sig) == 0)
		return;
	if (kill(-e->pid, sig) < 0)
		kill(e->pid, sig); /* not yet the leader of a group */
}

static void on_timer(struct loop_timer *t)
{
	struct exec *e = t->ctx;
	struct agent *a = e->agent;

	if (e->state == EXEC_DRAINING)
		exec_io_grace_over(e);
	else if (e->pid && kill(-e->pid, SIGKILL) < 0)
		kill(e->pid, SIGKILL);
	exec_progress(e);
	carrier_flush(a->carrier);
}

static void hang_up(struct exec *e)
{
	if (e->hung_up || e->state == EXEC_FINISHED)
		return;
	e->hung_up = true;
	kill_group(e, SIGHUP);
	kill_group(e, SIGCONT);
	exec_io_close(e);
	if (e->pid)
		loop_arm(e->agent->loop, &e->timer, EXEC_HANGUP_MS);
	exec_progress(e);
}

/*
 * Frees nothing that has a stream: callers go on using it. (Without one it is freed by whoever
 * takes the stream or the process away.)
 */
void exec_progress(struct exec *e)
{
	bool open;

	if (!sender_flush(&e->out))
		return;
	if (e->state == EXEC_FINISHED && e->out.stream)
		stream_finish(e->out.stream);
	if (e->state != EXEC_DRAINING && e->state != EXEC_RUNNING)
		return;
	for (int i = 0; i < 2; i++)
		exec_output_pump(&e->output[i]);
	if (e->state != EXEC_DRAINING)
		return;
	open = e->output[0].fd >= 0 || e->output[1].fd >= 0;
	if (!open)
		send_exit(e);
	else if (!e->grace_over && !e->timer.at_ms)
		loop_arm(e->agent->loop, &e->timer, EXEC_GRACE_MS);
}

/* ---- the process ---- */

static void read_status(struct exec *e)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	ssize_t n = read(e->status_fd, &err, sizeof(err));
	uint8_t body[4];

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	loop_remove(e->agent->loop, &e->status_watch);
	fd_close(&e->status_fd);
	if (n > 0) {
		err.message[sizeof(err.message) - 1] = '\0';
		fail(e, &err);
		return;
	}
	e->state = EXEC_RUNNING;
	put_le32(body, (uint32_t)e->pid);
	sender_message(&e->out, EXEC_STARTED, body, sizeof(body));
	if (!e->hung_up)
		exec_io_begin(e);
}

static void on_status(struct loop_watch *w, unsigned int events)
{
	struct exec *e = w->ctx;
	struct agent *a = e->agent;

	(void)events;
	read_status(e);
	carrier_flush(a->carrier);
}

static void on_exit_of_child(struct child *c, int status)
{
	struct exec *e = c->ctx;
	struct agent *a = e->agent;

	if (e->state == EXEC_STARTING)
		read_status(e);
	e->pid = 0;
	e->status = status;
	if (e->state == EXEC_RUNNING || e->state == EXEC_STARTING) {
		loop_cancel(a->loop, &e->timer);
		e->state = EXEC_DRAINING;
		exec_progress(e);
	}
	if (!e->out.stream)
		exec_free(e);
	carrier_flush(a->carrier);
}

static int start(struct exec *e, const struct msg *m, struct smolvm_error *err)
{
	struct agent *a = e->agent;
	struct command_io io = { .in = -1 };
	struct command c;
	pid_t pid = 0;
	int rc;

	if (a->setup != SETUP_DONE)
		return err_set(err, EBUSY, "the machine is not set up, or is shutting down");
	rc = command_parse(&c, m->body, m->len, err);
	if (rc == 0)
		pid = command_start(&c, a->dev_fd, a->shared, &io, err);
	e->tty = c.tty;
	e->detach = c.detach;
	command_fini(&c);
	if (rc < 0 || pid < 0)
		return rc < 0 ? rc : (int)pid;
	e->state = EXEC_STARTING;
	e->pumped = io.pumped;
	e->pid = pid;
	e->input.fd = io.in;
	e->output[0].fd = io.out;
	e->output[1].fd = io.err;
	e->status_fd = io.status;
	e->status_watch.fd = io.status;
	loop_add(a->loop, &e->status_watch);
	e->child = (struct child){ .pid = pid, .exited = on_exit_of_child, .ctx = e };
	children_add(&a->children, &e->child);
	return 0;
}

/* ---- messages ---- */

static int take_request(struct exec *e, const struct msg *m)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;

	if (e->state != EXEC_WAITING)
		return -EPROTO;
	if (start(e, m, &err) < 0)
		fail(e, &err);
	return 0;
}

static int take_stdin(struct exec *e, const struct msg *m)
{
	if (m->len)
		return exec_input_add(e, m->body, m->len);
	exec_input_end(e);
	return 0;
}

static int take_resize(struct exec *e, const struct msg *m)
{
	struct winsize size = { 0 };

	if (m->len != 4)
		return -EPROTO;
	size.ws_row = get_le16(m->body);
	size.ws_col = get_le16(m->body + 2);
	if (e->tty && e->output[0].fd >= 0)
		ioctl(e->output[0].fd, TIOCSWINSZ, &size);
	return 0;
}

static int take_signal(struct exec *e, const struct msg *m)
{
	if (m->len != 1 || m->body[0] == 0 || m->body[0] > 64)
		return -EPROTO;
	kill_group(e, m->body[0]);
	return 0;
}

static int take_close(struct exec *e, const struct msg *m)
{
	if (m->len != 1 || m->body[0] < 1 || m->body[0] > 2)
		return -EPROTO;
	exec_output_close(&e->output[m->body[0] - 1]);
	if (e->tty) /* a terminal whose screen is gone: hung up */
		exec_io_close(e);
	exec_progress(e);
	return 0;
}

static int take_window(struct exec *e, const struct msg *m)
{
	struct exec_output *o;
	uint32_t n;

	if (m->len != 5 || m->body[0] < 1 || m->body[0] > 2)
		return -EPROTO;
	o = &e->output[m->body[0] - 1];
	n = get_le32(m->body + 1);
	if (n > EXEC_WINDOW - o->window)
		return -EPROTO;
	o->window += n;
	exec_progress(e);
	return 0;
}

static const struct {
	uint8_t type;
	int (*take)(struct exec *e, const struct msg *m);
} messages[] = {
	{ EXEC_REQUEST, take_request }, { EXEC_STDIN, take_stdin },
	{ EXEC_RESIZE, take_resize },	{ EXEC_SIGNAL, take_signal },
	{ EXEC_CLOSE, take_close },	{ EXEC_WINDOW_ADD, take_window },
};

static int take_message(struct exec *e, const struct msg *m)
{
	if (e->state == EXEC_FINISHED) /* on its way while the command ended */
		return 0;
	if (e->state == EXEC_WAITING && m->type != EXEC_REQUEST)
		return -EPROTO;
	for (size_t i = 0; i < sizeof(messages) / sizeof(*messages); i++)
		if (messages[i].type == m->type)
			return messages[i].take(e, m);
	return -EPROTO;
}

/* Return: the bytes that were whole messages, or -errno. */
static ssize_t take_messages(struct exec *e, const uint8_t *p, size_t n)
{
	size_t done = 0;
	struct msg m;
	long k;
	int rc;

	for (;;) {
		bool any = e->state == EXEC_WAITING || e->state == EXEC_FINISHED;

		k = msg_parse(p + done, n - done, any ? MSG_BODY_MAX : EXEC_DATA_MAX, &m);
		if (k < 0)
			return k;
		if (k == 0)
			return (ssize_t)done;
		rc = take_message(e, &m);
		if (rc < 0)
			return rc;
		done += (size_t)k;
	}
}

/* ---- the stream ---- */

/* The stream is gone (or about to be, by our own reset). */
static void lose_stream(struct exec *e)
{
	e->out.stream = NULL;
	if (e->pid && !e->detach)
		hang_up(e);
	if (!e->pid || e->detach)
		exec_free(e);
}

static void exec_data(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	struct exec *e = ctx;
	ssize_t k = 0;

	stream_consumed(s, n);
	if (e->in.len) {
		k = buf_add(&e->in, p, n);
		if (k == 0)
			k = take_messages(e, buf_peek(&e->in), e->in.len);
		if (k > 0)
			buf_drop(&e->in, (size_t)k);
	} else {
		k = take_messages(e, p, n);
		if (k >= 0 && (size_t)k < n)
			k = buf_add(&e->in, p + k, n - (size_t)k);
	}
	if (k >= 0)
		return;
	stream_reset(s, (int)k);
	lose_stream(e);
}

static void exec_writable(void *ctx, struct stream *s)
{
	(void)s;
	exec_progress(ctx);
}

static void exec_ended(void *ctx, struct stream *s)
{
	struct exec *e = ctx;

	if (e->state == EXEC_WAITING)
		stream_finish(s);
	else if (!e->detach)
		hang_up(e);
}

static void exec_closed(void *ctx, struct stream *s, int error)
{
	(void)s, (void)error;
	lose_stream(ctx);
}

static const struct stream_events exec_events = {
	.data = exec_data, .writable = exec_writable, .ended = exec_ended, .closed = exec_closed,
};

int exec_incoming(struct agent *a, struct stream *s)
{
	struct exec *e = calloc(1, sizeof(*e));
	struct smolvm_error err = SMOLVM_ERROR_INIT;

	if (!e)
		return -ENOMEM;
	e->agent = a;
	e->status_fd = -1;
	e->status_watch = (struct loop_watch){ .fd = -1, .events = LOOP_READ, .ready = on_status,
					       .ctx = e };
	e->timer = (struct loop_timer){ .fired = on_timer, .ctx = e };
	buf_init(&e->in, MSG_HEADER + MSG_BODY_MAX + STREAM_WINDOW);
	sender_init(&e->out, s, OUT_MAX);
	exec_io_init(e);
	stream_accept(s, &exec_events, e);
	if (a->n_execs++ >= EXECS_MAX) {
		err_set(&err, EAGAIN, "%u commands are running already", EXECS_MAX);
		fail(e, &err);
	}
	return 0;
}
