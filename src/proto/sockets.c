/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams that are sockets of their own, on an event loop.
 *
 * Theory of operation. A stream that something was done to stands in the touched list, and is
 * settled at the next flush: what is queued is sent, an end passed on, its interest in the socket
 * brought up to date. Callbacks come from the loop's events and from settling only, and while they
 * do, a flush asked for by somebody further down waits for the one further up; so a stream that a
 * callback resets is freed when nobody looks at it any more, at its turn in the list.
 *
 * A socket is read while the window is open, and not at all otherwise: what its peer sends then
 * stays in the kernel, up to the limit that is there. A hang-up is told without being asked for and
 * again and again, so a stream that wants nothing of its socket just then leaves the loop.
 */
#include "proto/sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/buf.h"

/**
 * struct sock - a stream.
 * @fd:        -1 when it is gone (reset), and only to be freed.
 * @window:    bytes that may still be handed out.
 * @error:     it is to be closed with this at its next turn.
 * @turn:      of the flush that last called writable().
 * @blocked:   the socket did not take all; it will say when it takes more.
 * @starved:   somebody waits for writable().
 * @finishing: no more will be written; @fin_sent: the peer has been told.
 * @ended:     the peer sends no more.
 */
struct sock {
	struct stream stream;
	struct sockets *set;
	struct sock *prev, *next;
	struct sock *touched_next;
	struct loop_watch watch;
	struct buf tx;
	size_t window;
	int fd, error;
	unsigned int turn;
	bool touched, connecting, blocked, starved, finishing, fin_sent, ended;
};

/**
 * struct sockets - all of them.
 * @busy: a callback may be under way: sockets_flush() leaves it to whoever has called that.
 */
struct sockets {
	struct loop *loop;
	struct sock *list;
	struct sock *touched, **touched_last;
	unsigned int n, turn;
	bool busy, broken;
	uint8_t in[SOCKETS_READ_MAX];
};

static struct sock *of(struct stream *stream)
{
	return (struct sock *)stream; /* it begins with it */
}

static void touch(struct sock *s)
{
	if (s->touched)
		return;
	s->touched = true;
	s->touched_next = NULL;
	*s->set->touched_last = s;
	s->set->touched_last = &s->touched_next;
}

static struct sock *next_touched(struct sockets *set)
{
	struct sock *s = set->touched;

	if (!s)
		return NULL;
	set->touched = s->touched_next;
	if (!set->touched)
		set->touched_last = &set->touched;
	s->touched = false;
	return s;
}

/* The socket is let go; the object is not. */
static void let_go(struct sock *s)
{
	struct sockets *set = s->set;

	loop_remove(set->loop, &s->watch);
	close(s->fd);
	s->fd = -1;
	buf_fini(&s->tx);
	if (s->next)
		s->next->prev = s->prev;
	*(s->prev ? &s->prev->next : &set->list) = s->next;
	set->n--;
}

static void stream_close(struct sock *s, int error)
{
	let_go(s);
	s->touched = true; /* never again */
	s->stream.events->closed(s->stream.ctx, &s->stream, error);
	free(s);
}

/* ---- sending ---- */

/*
 * Send what is queued, and then @p. Return: how many bytes of @p went; what did not go for an error
 * is told at the stream's next turn.
 */
static size_t send_now(struct sock *s, const void *p, size_t n)
{
	struct iovec pieces[2] = { { buf_peek(&s->tx), s->tx.len }, { (void *)(uintptr_t)p, n } };
	struct msghdr m = { .msg_iov = s->tx.len ? pieces : pieces + 1, .msg_iovlen = 1 };
	size_t queued = s->tx.len, sent;
	ssize_t k;

	m.msg_iovlen = queued && n ? 2 : 1;
	do
		k = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (k < 0 && errno == EINTR);
	if (k < 0 && errno != EAGAIN)
		s->error = -errno;
	sent = k < 0 ? 0 : (size_t)k;
	s->blocked = sent < queued + n;
	buf_drop(&s->tx, sent < queued ? sent : queued);
	return sent < queued ? 0 : sent - queued;
}

static size_t sock_write(struct stream *stream, const void *p, size_t n)
{
	struct sock *s = of(stream);
	size_t done = 0, rest;

	touch(s);
	if (s->finishing)
		return 0;
	if (n >= SOCKETS_DIRECT_MIN && !s->connecting && !s->blocked && !s->error)
		done = send_now(s, p, n);
	rest = n - done < buf_room(&s->tx) ? n - done : buf_room(&s->tx);
	if (!s->error && buf_add(&s->tx, (const uint8_t *)p + done, rest) < 0)
		s->error = -ENOMEM;
	if (s->error)
		return 0;
	if (done + rest < n)
		s->starved = true;
	return done + rest;
}

static size_t sock_room(struct stream *stream)
{
	struct sock *s = of(stream);
	size_t room = s->finishing || s->error ? 0 : buf_room(&s->tx);

	if (room == 0)
		s->starved = true;
	return room;
}

/* ---- what else streams do ---- */

static void sock_accept(struct stream *stream, const struct stream_events *events, void *ctx)
{
	stream->events = events;
	stream->ctx = ctx;
}

static void sock_finish(struct stream *stream)
{
	of(stream)->finishing = true;
	touch(of(stream));
}

static void sock_consumed(struct stream *stream, size_t n)
{
	struct sock *s = of(stream);

	if (s->window == 0)
		touch(s);
	s->window += n;
}

static void sock_grant(struct stream *stream, uint32_t n)
{
	sock_consumed(stream, n);
}

/* Others may hold the socket for a moment, processes that are being started: it ends for all. */
static void sock_reset(struct stream *stream, int error)
{
	struct sock *s = of(stream);

	(void)error;
	shutdown(s->fd, SHUT_RDWR);
	let_go(s);
	touch(s);
}

static const struct stream_ops sock_ops = {
	.accept = sock_accept,
	.write = sock_write,
	.room = sock_room,
	.finish = sock_finish,
	.consumed = sock_consumed,
	.grant = sock_grant,
	.reset = sock_reset,
};

/* ---- settling ---- */

static bool wants_read(const struct sock *s)
{
	return !s->connecting && !s->ended && s->window > 0;
}

static bool wants_write(const struct sock *s)
{
	return s->connecting || s->tx.len || (s->starved && !s->finishing);
}

static void update_watch(struct sock *s)
{
	unsigned int events = (wants_read(s) ? LOOP_READ : 0) | (wants_write(s) ? LOOP_WRITE : 0);

	if (s->watch.fd >= 0) {
		loop_set(s->set->loop, &s->watch, events);
	} else if (events) {
		s->watch.fd = s->fd;
		s->watch.events = events;
		if (loop_add(s->set->loop, &s->watch) < 0) {
			s->watch.fd = -1;
			stream_close(s, -ENOMEM);
		}
	}
}

static void settle(struct sock *s)
{
	const bool open = !s->connecting;

	if (s->fd < 0) {
		free(s);
		return;
	}
	if (open && s->tx.len && !s->blocked && !s->error)
		send_now(s, NULL, 0);
	if (s->error) {
		stream_close(s, s->error);
		return;
	}
	if (open && s->starved && !s->finishing && s->tx.len <= STREAM_QUEUE_MAX / 2 &&
	    s->turn != s->set->turn) { /* once a flush: then others have their turn */
		s->turn = s->set->turn;
		s->starved = false;
		touch(s);
		if (s->stream.events->writable)
			s->stream.events->writable(s->stream.ctx, &s->stream);
		return;
	}
	if (open && s->finishing && !s->fin_sent && !s->tx.len) {
		shutdown(s->fd, SHUT_WR);
		s->fin_sent = true;
	}
	if (s->fin_sent && s->ended)
		stream_close(s, 0);
	else
		update_watch(s);
}

void sockets_flush(struct sockets *set)
{
	struct sock *s;

	if (set->busy)
		return;
	set->busy = true;
	set->turn++;
	while ((s = next_touched(set)))
		settle(s);
	set->busy = false;
}

/* ---- events ---- */

static void take_input(struct sock *s)
{
	const struct stream_events *events = s->stream.events;
	struct sockets *set = s->set;
	size_t want = s->window < sizeof(set->in) ? s->window : sizeof(set->in);
	ssize_t n = recv(s->fd, set->in, want, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		touch(s);
	if (n < 0) {
		s->error = -errno;
	} else if (n == 0) {
		s->ended = true;
		events->ended(s->stream.ctx, &s->stream);
	} else {
		s->window -= (size_t)n;
		if (s->window == 0)
			touch(s);
		events->data(s->stream.ctx, &s->stream, set->in, (size_t)n);
	}
}

static void take_connection(struct sock *s)
{
	socklen_t size = sizeof(s->error);
	int error = 0;

	touch(s);
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error) {
		s->error = -error;
		return;
	}
	s->connecting = false;
	if (s->stream.events->opened)
		s->stream.events->opened(s->stream.ctx, &s->stream);
}

static void on_ready(struct loop_watch *w, unsigned int events)
{
	struct sock *s = w->ctx;
	struct sockets *set = s->set;

	set->busy = true;
	if (s->connecting) {
		take_connection(s);
	} else {
		if (events & LOOP_WRITE || (events & LOOP_HANGUP && wants_write(s))) {
			s->blocked = false;
			touch(s);
		}
		if (events & (LOOP_READ | LOOP_HANGUP) && wants_read(s))
			take_input(s);
		else if (events == LOOP_HANGUP && !wants_write(s))
			loop_remove(set->loop, w);
	}
	set->busy = false;
	sockets_flush(set);
}

/* ---- life ---- */

struct sockets *sockets_create(struct loop *l)
{
	struct sockets *set = calloc(1, sizeof(*set));

	if (!set)
		return NULL;
	set->loop = l;
	set->touched_last = &set->touched;
	return set;
}

void sockets_destroy(struct sockets *set, int error)
{
	struct sock *s;

	if (!set)
		return;
	set->broken = true; /* closed() opens nothing any more */
	set->busy = true;
	do {
		while ((s = next_touched(set)))
			if (s->fd < 0)
				free(s);
		if (set->list)
			stream_close(set->list, error); /* which may touch others */
	} while (set->list || set->touched);
	free(set);
}

struct stream *sockets_add(struct sockets *set, int fd, bool connecting)
{
	struct sock *s = NULL;
	int rc = -EMFILE;

	if (!set->broken && set->n < STREAMS_MAX) {
		s = calloc(1, sizeof(*s));
		rc = -ENOMEM;
	}
	if (s) {
		s->watch = (struct loop_watch){ .fd = fd, .ready = on_ready, .ctx = s };
		s->watch.events = connecting ? LOOP_WRITE : LOOP_READ;
		rc = loop_add(set->loop, &s->watch);
	}
	if (rc < 0) {
		close(fd);
		free(s);
		errno = -rc;
		return NULL;
	}
	s->stream.ops = &sock_ops;
	s->set = set;
	s->fd = fd;
	s->window = STREAM_WINDOW;
	s->connecting = connecting;
	buf_init(&s->tx, STREAM_QUEUE_MAX);
	s->next = set->list;
	if (s->next)
		s->next->prev = s;
	set->list = s;
	set->n++;
	return &s->stream;
}

unsigned int sockets_streams(const struct sockets *set)
{
	return set->n;
}
