/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of the channel's, joined with a stream socket.
 *
 * Each side reads only as fast as the other one takes: the socket is left alone while the stream
 * has no room, and credit goes back to the agent only for bytes that the socket took.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmmproc/vmm.h"

/* syscalls (main): sendto recvfrom shutdown */

#define READ_MAX (64u << 10)

struct join {
	struct vmm *vmm;
	struct loop_watch watch;
	struct stream *stream; /* NULL when it is closed */
	uint32_t port;
	struct buf to_socket;
	size_t ok_bytes;   /* of to_socket: the OK line, which needs no credit */
	bool socket_ended; /* it sends no more */
	bool stream_ended; /* the agent sends no more */
};

static void join_destroy(struct join *j)
{
	int fd = j->watch.fd;

	if (j->stream)
		stream_reset(j->stream, -ECONNRESET);
	loop_remove(j->vmm->loop, &j->watch);
	close(fd);
	buf_fini(&j->to_socket);
	free(j);
}

static void update_watch(struct join *j)
{
	bool reads = !j->socket_ended && j->stream && stream_room(j->stream) > 0;

	loop_set(j->vmm->loop, &j->watch,
		 (reads ? LOOP_READ : 0) | (j->to_socket.len ? LOOP_WRITE : 0));
}

/* Write what is queued for the socket. Return: false when the join is gone. */
static bool drain(struct join *j)
{
	while (j->to_socket.len) {
		ssize_t n =
			send(j->watch.fd, buf_peek(&j->to_socket), j->to_socket.len, MSG_NOSIGNAL);
		size_t ok;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			join_destroy(j);
			return false;
		}
		buf_drop(&j->to_socket, (size_t)n);
		ok = (size_t)n < j->ok_bytes ? (size_t)n : j->ok_bytes;
		j->ok_bytes -= ok;
		if (j->stream)
			stream_consumed(j->stream, (size_t)n - ok);
	}
	if (!j->to_socket.len && j->stream_ended) {
		if (!j->stream) {
			join_destroy(j);
			return false;
		}
		shutdown(j->watch.fd, SHUT_WR);
	}
	update_watch(j);
	return true;
}

/* ---- the stream's side ---- */

static void on_opened(void *ctx, struct stream *s)
{
	struct join *j = ctx;
	char ok[VMM_CONNECT_LINE_MAX];
	int n = snprintf(ok, sizeof(ok), "OK %u\n", j->port);

	if (buf_add(&j->to_socket, ok, (size_t)n) == 0)
		j->ok_bytes = (size_t)n;
	drain(j);
}

static void on_data(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	struct join *j = ctx;

	if (buf_add(&j->to_socket, p, n) < 0)
		join_destroy(j);
	else
		drain(j);
}

static void on_writable(void *ctx, struct stream *s)
{
	update_watch(ctx);
}

static void on_ended(void *ctx, struct stream *s)
{
	struct join *j = ctx;

	j->stream_ended = true;
	drain(j);
}

static void on_closed(void *ctx, struct stream *s, int error)
{
	struct join *j = ctx;

	j->stream = NULL;
	j->stream_ended = true;
	if (error)
		join_destroy(j);
	else
		drain(j);
}

static const struct stream_events join_events = {
	.opened = on_opened,
	.data = on_data,
	.writable = on_writable,
	.ended = on_ended,
	.closed = on_closed,
};

/* ---- the socket's side ---- */

static void read_socket(struct join *j)
{
	uint8_t bytes[READ_MAX];
	size_t room = stream_room(j->stream);
	ssize_t n;

	if (!room) {
		update_watch(j);
		return;
	}
	n = read(j->watch.fd, bytes, room < sizeof(bytes) ? room : sizeof(bytes));
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		join_destroy(j);
		return;
	}
	if (n == 0) {
		j->socket_ended = true;
		stream_finish(j->stream);
	} else if (n > 0) {
		stream_write(j->stream, bytes, (size_t)n);
	}
	update_watch(j);
}

static void on_socket(struct loop_watch *w, unsigned int events)
{
	struct join *j = w->ctx;
	struct vmm *v = j->vmm;

	if (events & LOOP_WRITE && !drain(j)) {
		channel_flush(v);
		return;
	}
	if (events & LOOP_READ) {
		if (j->stream && !j->socket_ended)
			read_socket(j);
	} else if (events & LOOP_HANGUP) { /* closed in both directions: nobody is there */
		join_destroy(j);
	}
	channel_flush(v);
}

static struct join *join_create(struct vmm *v, int fd)
{
	struct join *j = calloc(1, sizeof(*j));

	if (!j) {
		close(fd);
		return NULL;
	}
	j->vmm = v;
	buf_init(&j->to_socket, STREAM_WINDOW + VMM_CONNECT_LINE_MAX);
	j->watch = (struct loop_watch){ fd, LOOP_READ, on_socket, j };
	if (loop_add(v->loop, &j->watch) < 0) {
		close(fd);
		free(j);
		return NULL;
	}
	return j;
}

void join_connect(struct vmm *v, uint32_t port, int fd)
{
	struct join *j = join_create(v, fd);

	if (!j)
		return;
	j->port = port;
	j->stream = mux_open(v->mux, port, &join_events, j);
	if (!j->stream)
		join_destroy(j);
}

int join_accept(struct vmm *v, struct stream *s, int fd)
{
	struct join *j = join_create(v, fd);

	if (!j)
		return -ENOMEM;
	j->stream = s;
	j->to_socket.max += SHARE_MESSAGE_MAX;
	stream_accept(s, &join_events, j);
	stream_grant(s, SHARE_MESSAGE_MAX); /* a share: room for one request as a whole */
	return 0;
}
