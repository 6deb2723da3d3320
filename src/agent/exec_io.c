/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command's standard streams.
 *
 * Output is read only when the client's window and the stream have room for it, so that a slow
 * reader stops the command and nothing piles up here. A descriptor that is not to be read is taken
 * out of the loop, since a pipe whose other end is closed would be reported without end.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "agent/exec.h"
#include "base/endian.h"
#include "proto/msg.h"

#define DRAIN_MAX (1u << 20) /* the most a pipe can hold */
#define ROUND_MAX (128u << 10)
#define DUE_BATCH (EXEC_WINDOW / 4)
#define CTRL_D	  0x04

static void watch_set(struct loop *l, struct loop_watch *w, int fd, unsigned int events)
{
	if (w->fd >= 0 && !events) {
		loop_remove(l, w);
	} else if (w->fd < 0 && events && fd >= 0) {
		w->fd = fd;
		w->events = events;
		loop_add(l, w);
	}
}

/* ---- output ---- */

void exec_output_close(struct exec_output *o)
{
	if (o->fd < 0)
		return;
	watch_set(o->exec->agent->loop, &o->watch, o->fd, 0);
	close(o->fd);
	o->fd = -1;
}

/* How much may be read now. */
static size_t output_room(const struct exec_output *o)
{
	if (o->exec->out.rest.len)
		return 0;
	return o->window < EXEC_DATA_MAX ? o->window : EXEC_DATA_MAX;
}

static int output_send(struct exec_output *o, uint8_t *message, size_t n)
{
	msg_header(message, o->type, (uint32_t)n);
	o->window -= (uint32_t)n;
	if (o->exec->grace_over)
		o->drained += (uint32_t)n;
	return sender_put(&o->exec->out, message, MSG_HEADER + n);
}

void exec_output_pump(struct exec_output *o)
{
	static uint8_t message[MSG_HEADER + EXEC_DATA_MAX];
	struct exec *e = o->exec;
	size_t moved = 0;

	while (o->fd >= 0 && moved < ROUND_MAX) {
		size_t room = output_room(o);
		ssize_t n;

		if (room == 0) {
			watch_set(e->agent->loop, &o->watch, o->fd, 0);
			return;
		}
		n = read(o->fd, message + MSG_HEADER, room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && (!e->grace_over || e->pumped))
			break;
		if (n > 0 && output_send(o, message, (size_t)n) < 0 && e->out.stream) {
			stream_reset(e->out.stream, -ENOMEM); /* rather than output with a hole */
			e->out.stream = NULL;
		}
		if (n <= 0 || (o->drained > DRAIN_MAX && !e->pumped)) {
			exec_output_close(o); /* the end; EIO from a terminal */
			return;
		}
		moved += (size_t)n;
		if ((size_t)n < room && e->state == EXEC_RUNNING)
			break; /* nothing more just now */
	}
	watch_set(e->agent->loop, &o->watch, o->fd, LOOP_READ);
}

static void on_output(struct loop_watch *w, unsigned int events)
{
	struct exec_output *o = w->ctx;
	struct agent *a = o->exec->agent;

	(void)events;
	exec_output_pump(o);
	if (o->exec->state != EXEC_RUNNING) /* it may have been the last that was waited for */
		exec_progress(o->exec);
	carrier_flush(a->carrier);
}

/* ---- input ---- */

static void input_close(struct exec_input *in)
{
	if (in->fd < 0)
		return;
	watch_set(in->exec->agent->loop, &in->watch, in->fd, 0);
	close(in->fd);
	in->fd = -1;
}

static void input_give_back(struct exec_input *in, size_t n)
{
	uint8_t body[5] = { 0 };

	in->due += (uint32_t)n;
	if (in->due < DUE_BATCH || in->exec->state == EXEC_FINISHED)
		return;
	put_le32(body + 1, in->due);
	in->window += in->due;
	in->due = 0;
	sender_message(&in->exec->out, EXEC_WINDOW_ADD, body, sizeof(body));
}

/* Write what the command takes. Return: bytes done with; all of them when it reads no more. */
static size_t input_write(struct exec_input *in, const uint8_t *p, size_t n)
{
	size_t done = 0;

	while (done < n && in->fd >= 0) {
		ssize_t k = write(in->fd, p + done, n - done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && errno == EAGAIN)
			break;
		if (k < 0)
			input_close(in);
		else
			done += (size_t)k;
	}
	if (done)
		in->last = p[done - 1];
	if (in->fd < 0)
		done = n;
	input_give_back(in, done);
	return done;
}

/*
 * The end of the input. A terminal does not end: the key for it is typed, twice where it only
 * hands over a line that was begun.
 */
static void input_finish(struct exec_input *in)
{
	struct termios t;
	uint8_t eof[2] = { CTRL_D, CTRL_D };
	ssize_t n;

	if (in->exec->tty && in->fd >= 0) {
		if (tcgetattr(in->fd, &t) == 0)
			memset(eof, t.c_cc[VEOF], sizeof(eof));
		do
			n = write(in->fd, eof, in->last == '\n' || !in->last ? 1 : 2);
		while (n < 0 && errno == EINTR);
		if (n < 0 && errno == EAGAIN)
			return; /* when it has read something */
	}
	input_close(in);
}

static void input_progress(struct exec_input *in)
{
	if (in->queue.len)
		buf_drop(&in->queue, input_write(in, buf_peek(&in->queue), in->queue.len));
	if (in->queue.len == 0 && in->ended)
		input_finish(in);
	watch_set(in->exec->agent->loop, &in->watch, in->fd,
		  in->queue.len || (in->ended && in->fd >= 0) ? LOOP_WRITE : 0);
}

int exec_input_add(struct exec *e, const uint8_t *p, size_t n)
{
	struct exec_input *in = &e->input;
	size_t done = 0;
	int rc = 0;

	if (n > in->window || in->ended)
		return -EPROTO;
	in->window -= (uint32_t)n;
	if (in->queue.len == 0)
		done = input_write(in, p, n);
	if (done < n) {
		rc = buf_add(&in->queue, p + done, n - done);
		watch_set(e->agent->loop, &in->watch, in->fd, LOOP_WRITE);
	}
	return rc;
}

void exec_input_end(struct exec *e)
{
	e->input.ended = true;
	input_progress(&e->input);
}

static void on_input(struct loop_watch *w, unsigned int events)
{
	struct exec_input *in = w->ctx;

	(void)events;
	input_progress(in);
	carrier_flush(in->exec->agent->carrier);
}

/* ---- both ---- */

void exec_io_init(struct exec *e)
{
	static const uint8_t types[] = { EXEC_STDOUT, EXEC_STDERR };

	e->input = (struct exec_input){ .exec = e, .fd = -1, .window = EXEC_WINDOW };
	e->input.watch = (struct loop_watch){ .fd = -1, .ready = on_input, .ctx = &e->input };
	buf_init(&e->input.queue, EXEC_WINDOW);
	for (int i = 0; i < 2; i++) {
		struct exec_output *o = &e->output[i];

		*o = (struct exec_output){ .exec = e, .fd = -1, .window = EXEC_WINDOW,
					   .type = types[i] };
		o->watch = (struct loop_watch){ .fd = -1, .ready = on_output, .ctx = o };
	}
}

void exec_io_begin(struct exec *e)
{
	for (int i = 0; i < 2; i++)
		watch_set(e->agent->loop, &e->output[i].watch, e->output[i].fd, LOOP_READ);
}

void exec_io_grace_over(struct exec *e)
{
	e->grace_over = true;
	for (int i = 0; i < 2 && e->pumped; i++)
		if (e->output[i].fd >= 0)
			shutdown(e->output[i].fd, SHUT_WR);
}

void exec_io_close(struct exec *e)
{
	input_close(&e->input);
	buf_fini(&e->input.queue);
	for (int i = 0; i < 2; i++)
		exec_output_close(&e->output[i]);
}
