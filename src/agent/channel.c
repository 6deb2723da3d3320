/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The byte channel to the host: a virtio console port, with the multiplexer on it.
 *
 * Emulated machines pay dearly for each system call and each notification, so a read takes many
 * of the port's page-sized buffers at once and a write carries as many frames as one of the port's
 * buffers can. A port whose host side is closed reports a hang-up and reads as end of file; this
 * is also what it does in the moment between its appearing and the host's connection to it.
 */
#include "agent/carrier.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "proto/mux.h"

#define OPEN_TIMEOUT_MS	   10000
#define CONNECT_TIMEOUT_MS 10000
#define CONNECT_STEP_NS	   200000
#define DEVICES_MAX	   24 /* virtio devices looked at */

/* The port takes at most this many bytes in one write, and hands out at most a page in one read. */
#define WRITE_MAX (32u << 10)
#define READ_MAX  (64u << 10)
#define PAGE	  4096u

/**
 * struct channel - the port.
 * @out:   bytes of the multiplexer on their way, from @out_at to @out_len.
 * @flushing: flush() has nothing to do, since somebody does it further up.
 */
struct channel {
	struct carrier carrier;
	struct mux *mux;
	struct loop_watch watch;
	int fd;
	size_t out_at, out_len;
	bool flushing;
	uint8_t out[WRITE_MAX];
	uint8_t in[READ_MAX];
};

static struct channel channel; /* all zero: takes no room in the program */

static bool may_come(int error)
{
	return error == ENOENT || error == ENXIO || error == ENODEV || error == EBUSY;
}

/* Port 1 of whichever device has one: which number that is depends on the order of all devices. */
static int open_any(void)
{
	char path[32];

	for (int i = 0; i < DEVICES_MAX; i++) {
		int fd;

		snprintf(path, sizeof(path), "/dev/vport%dp1", i);
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
		if (fd >= 0 || errno != ENOENT)
			return fd;
	}
	return -1;
}

/* Return: the descriptor (non-blocking), or -errno of the last attempt. */
static int open_port(void)
{
	int64_t deadline = 0;
	AUTO_FD notify = -1;

	for (;;) {
		int fd = open_any();
		struct pollfd p = { .events = POLLIN };
		char events[512];
		int e = errno;

		if (fd >= 0)
			return fd;
		if (!deadline)
			deadline = clock_ms() + OPEN_TIMEOUT_MS;
		if (!may_come(e) || clock_ms() > deadline)
			return -e;
		if (notify < 0) {
			notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
			if (notify >= 0)
				inotify_add_watch(notify, "/dev", IN_CREATE | IN_ATTRIB);
			continue; /* it may have come before the watch */
		}
		p.fd = notify;
		poll(&p, 1, e == ENOENT ? 100 : 1);
		while (read(notify, events, sizeof(events)) > 0)
			;
	}
}

/* The port is there; its host side may be reported as connected a moment later. */
static int wait_connected(int fd)
{
	int64_t deadline = clock_ms() + CONNECT_TIMEOUT_MS;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (poll(&p, 1, 0) >= 0 && p.revents & POLLHUP) {
		if (clock_ms() > deadline)
			return -ENOTCONN;
		nanosleep(&(struct timespec){ 0, CONNECT_STEP_NS }, NULL);
	}
	return 0;
}

static void update_watch(struct channel *c)
{
	bool waiting = c->out_at < c->out_len;

	loop_set(c->carrier.loop, &c->watch, LOOP_READ | (waiting ? LOOP_WRITE : 0));
}

static void flush(struct channel *c)
{
	if (c->flushing) /* a stream became writable inside mux_output(): the loop below goes on */
		return;
	c->flushing = true;
	for (;;) {
		ssize_t n;

		if (c->out_at == c->out_len) {
			c->out_at = 0;
			c->out_len = mux_output(c->mux, c->out, sizeof(c->out));
			if (c->out_len == 0)
				break;
		}
		n = write(c->fd, c->out + c->out_at, c->out_len - c->out_at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			c->carrier.events->lost("the channel cannot be written");
		if (n <= 0)
			break;
		c->out_at += (size_t)n;
	}
	c->flushing = false;
	update_watch(c);
}

static ssize_t read_port(struct channel *c)
{
	struct iovec pages[READ_MAX / PAGE];
	const int n = (int)(sizeof(pages) / sizeof(*pages));

	for (int i = 0; i < n; i++)
		pages[i] = (struct iovec){ c->in + (size_t)i * PAGE, PAGE };
	return readv(c->fd, pages, n); /* it stops at the first page that is not filled */
}

static void on_ready(struct loop_watch *w, unsigned int events)
{
	struct channel *c = w->ctx;
	struct smolvm_error err = SMOLVM_ERROR_INIT;

	if (events & (LOOP_READ | LOOP_HANGUP)) {
		ssize_t n = read_port(c);

		if (n == 0)
			c->carrier.events->lost("the host closed the channel");
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			c->carrier.events->lost("the channel cannot be read");
		c->flushing = true; /* once, when all of it has been taken */
		if (n > 0 && mux_input(c->mux, c->in, (size_t)n, &err) < 0)
			c->carrier.events->lost(err.message);
		c->flushing = false;
	}
	flush(c);
}

/* ---- the carrier ---- */

static struct channel *of(struct carrier *c)
{
	return (struct channel *)c; /* it begins with it */
}

static struct stream *channel_open(struct carrier *c, uint32_t port,
				   const struct stream_events *events, void *ctx)
{
	return mux_open(of(c)->mux, port, events, ctx);
}

static void channel_flush(struct carrier *c)
{
	flush(of(c));
}

static void channel_end(struct carrier *c, int error)
{
	mux_destroy(of(c)->mux, error);
}

static const struct carrier_ops channel_ops = {
	.open = channel_open, .flush = channel_flush, .end = channel_end,
};

static void on_hello(void *ctx, uint32_t features)
{
	(void)ctx, (void)features;
}

static int on_incoming(void *ctx, struct stream *s, uint32_t port)
{
	struct carrier *c = ctx;

	return c->events->incoming(c->ctx, s, port);
}

static const struct mux_events mux_events = { .hello = on_hello, .incoming = on_incoming };

int channel_start(const struct carrier *given, struct carrier **ret, struct smolvm_error *err)
{
	struct channel *c = &channel;
	int rc;

	c->carrier = *given;
	c->carrier.ops = &channel_ops;
	c->mux = mux_create(MUX_GUEST, 0, &mux_events, &c->carrier);
	if (!c->mux)
		return err_nomem(err);
	c->fd = open_port();
	if (c->fd < 0)
		return err_set(err, -c->fd, "opening the channel: %s", strerror(-c->fd));
	c->watch = (struct loop_watch){ .fd = c->fd, .events = LOOP_READ, .ready = on_ready,
					.ctx = c };
	flush(c); /* hello: the host may work on its answer while the rest is made ready */
	rc = wait_connected(c->fd);
	if (rc == 0)
		rc = loop_add(given->loop, &c->watch);
	if (rc < 0)
		return err_set(err, -rc, "starting the channel: %s", strerror(-rc));
	update_watch(c);
	*ret = &c->carrier;
	return 0;
}
