/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client's connection to the machine's socket, joined with one stream.
 *
 * A client writes "CONNECT <port>\n" and may go on at once; "OK <port>\n" comes back when the agent
 * has accepted, then the stream's bytes. A connection that is closed instead was refused. Each side
 * reads only as fast as the other one takes: a client's socket is left alone while the stream has
 * no room, and credit goes back to the agent only for bytes that the client's socket took.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "proto/vmm.h"
#include "vmmproc/vmm.h"

#define READ_MAX (64u << 10)

struct relay {
	struct vmm *vmm;
	struct loop_watch watch;
	struct mux_stream *stream; /* NULL before CONNECT, and when it is closed */
	uint32_t port;
	char line[VMM_CONNECT_LINE_MAX];
	size_t line_len;
	struct buf to_client;
	size_t ok_bytes;   /* of to_client: the OK line, which needs no credit */
	bool client_ended; /* it sends no more */
	bool stream_ended; /* the agent sends no more */
};

static void relay_destroy(struct relay *r)
{
	int fd = r->watch.fd;

	if (r->stream)
		mux_reset(r->stream, -ECONNRESET);
	loop_remove(r->vmm->loop, &r->watch);
	close(fd);
	buf_fini(&r->to_client);
	r->vmm->n_relays--;
	free(r);
}

static void update_watch(struct relay *r)
{
	bool reads = !r->client_ended && (!r->stream ? !r->stream_ended : mux_room(r->stream) > 0);

	loop_set(r->vmm->loop, &r->watch,
		 (reads ? LOOP_READ : 0) | (r->to_client.len ? LOOP_WRITE : 0));
}

/* Write what is queued for the client. Return: false when the relay is gone. */
static bool drain(struct relay *r)
{
	while (r->to_client.len) {
		ssize_t n =
			send(r->watch.fd, buf_peek(&r->to_client), r->to_client.len, MSG_NOSIGNAL);
		size_t ok;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			relay_destroy(r);
			return false;
		}
		buf_drop(&r->to_client, (size_t)n);
		ok = (size_t)n < r->ok_bytes ? (size_t)n : r->ok_bytes;
		r->ok_bytes -= ok;
		if (r->stream)
			mux_consumed(r->stream, (size_t)n - ok);
	}
	if (!r->to_client.len && r->stream_ended) {
		if (!r->stream) {
			relay_destroy(r);
			return false;
		}
		shutdown(r->watch.fd, SHUT_WR);
	}
	update_watch(r);
	return true;
}

static void on_opened(void *ctx, struct mux_stream *s)
{
	struct relay *r = ctx;
	char ok[VMM_CONNECT_LINE_MAX];
	int n = snprintf(ok, sizeof(ok), "OK %u\n", r->port);

	if (buf_add(&r->to_client, ok, (size_t)n) == 0)
		r->ok_bytes = (size_t)n;
	drain(r);
}

static void on_data(void *ctx, struct mux_stream *s, const uint8_t *p, size_t n)
{
	struct relay *r = ctx;

	if (buf_add(&r->to_client, p, n) < 0)
		relay_destroy(r);
	else
		drain(r);
}

static void on_writable(void *ctx, struct mux_stream *s)
{
	update_watch(ctx);
}

static void on_ended(void *ctx, struct mux_stream *s)
{
	struct relay *r = ctx;

	r->stream_ended = true;
	drain(r);
}

static void on_closed(void *ctx, struct mux_stream *s, int error)
{
	struct relay *r = ctx;

	r->stream = NULL;
	r->stream_ended = true;
	if (error)
		relay_destroy(r);
	else
		drain(r);
}

static const struct mux_stream_events relay_events = {
	.opened = on_opened,
	.data = on_data,
	.writable = on_writable,
	.ended = on_ended,
	.closed = on_closed,
};

/* The bytes before the newline. Return: the port, or -1. */
static long parse_connect(char *line)
{
	char *end;
	long port;

	if (strncmp(line, "CONNECT ", 8) || line[8] < '0' || line[8] > '9')
		return -1;
	port = strtol(line + 8, &end, 10);
	return *end || port > INT_MAX ? -1 : port;
}

/* Return: false when the relay is gone. */
static bool read_line(struct relay *r)
{
	long port;

	/* Byte by byte, so that nothing of what follows is taken: it is one short line. */
	while (r->line_len < sizeof(r->line) - 1) {
		ssize_t n = read(r->watch.fd, r->line + r->line_len, 1);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0)
			break;
		if (r->line[r->line_len++] == '\n') {
			r->line[r->line_len - 1] = '\0';
			port = parse_connect(r->line);
			if (port < 0)
				break;
			r->port = (uint32_t)port;
			r->stream = mux_open(r->vmm->mux, r->port, &relay_events, r);
			if (!r->stream)
				break;
			return true;
		}
	}
	relay_destroy(r);
	return false;
}

static void read_client(struct relay *r)
{
	uint8_t bytes[READ_MAX];
	size_t room = mux_room(r->stream);
	ssize_t n;

	if (!room) {
		update_watch(r);
		return;
	}
	n = read(r->watch.fd, bytes, room < sizeof(bytes) ? room : sizeof(bytes));
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		relay_destroy(r);
		return;
	}
	if (n == 0) {
		r->client_ended = true;
		mux_finish(r->stream);
	} else if (n > 0) {
		mux_write(r->stream, bytes, (size_t)n);
	}
	update_watch(r);
}

static void on_client(struct loop_watch *w, unsigned int events)
{
	struct relay *r = w->ctx;
	struct vmm *v = r->vmm;

	if ((events & LOOP_WRITE) && !drain(r)) {
		channel_flush(v);
		return;
	}
	if (events & LOOP_READ) {
		if (!r->stream && !read_line(r))
			goto out;
		if (r->stream && !r->client_ended)
			read_client(r);
	} else if (events & LOOP_HANGUP) { /* closed in both directions: nobody is there */
		relay_destroy(r);
	}
out:
	channel_flush(v);
}

void relay_accept(struct vmm *v, int fd)
{
	struct relay *r = v->n_relays < MUX_STREAMS_MAX ? calloc(1, sizeof(*r)) : NULL;

	if (!r) {
		close(fd);
		return;
	}
	r->vmm = v;
	buf_init(&r->to_client, MUX_WINDOW + VMM_CONNECT_LINE_MAX);
	r->watch = (struct loop_watch){ fd, LOOP_READ, on_client, r };
	fd_set_nonblock(fd, 1);
	if (loop_add(v->loop, &r->watch) < 0) {
		close(fd);
		free(r);
		return;
	}
	v->n_relays++;
}
