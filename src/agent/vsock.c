/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The carrier by sockets: each stream a connection between this machine and its host.
 *
 * The agent listens on its ports before it says hello: the host may connect as soon as it has heard
 * of it. Only the host may: processes of this machine reach the same ports (by the loopback
 * address, or the machine's own), and so do machines that run inside it; their connections are
 * told by the address that the kernel, not they, put on them, and closed. The connection of the
 * hello stays open and idle: its end is the host's.
 */
#include "agent/carrier.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "base/endian.h"
#include "base/err.h"
#include "base/fd.h"
#include "proto/agent.h"
#include "proto/msg.h"
#include "proto/sockets.h"

#define CONNECT_SECONDS 10
#define BACKLOG		((int)STREAMS_MAX)
#define STRANGERS	64 /* turned away before others have their turn */
#define PORTS		4
#define HELLO_LEN	(MSG_HEADER + CARRIER_HELLO_BODY)

struct vsock;

/**
 * struct listener - one of the agent's ports.
 */
struct listener {
	struct vsock *vsock;
	struct loop_watch watch;
	uint32_t port;
};

/**
 * struct vsock - the carrier.
 * @hello: what the host has said, @hello_len bytes so far.
 */
struct vsock {
	struct carrier carrier;
	struct sockets *sockets;
	struct listener listeners[PORTS];
	struct loop_watch hello_watch;
	size_t hello_len;
	uint8_t hello[HELLO_LEN];
};

static struct vsock vsock; /* all zero: takes no room in the program */

static const uint32_t ports[PORTS] = {
	AGENT_PORT_CONTROL, AGENT_PORT_EXEC, AGENT_PORT_ECHO, AGENT_PORT_DISCARD,
};

static struct vsock *of(struct carrier *c)
{
	return (struct vsock *)c; /* it begins with it */
}

/* ---- connections from the host ---- */

/* Strangers are turned away in a row: they shall not fill the queue that the host stands in. */
static int accept_host(int listener)
{
	for (int i = 0; i < STRANGERS; i++) {
		struct sockaddr_vm peer = { .svm_cid = VMADDR_CID_ANY };
		socklen_t len = sizeof(peer);
		int fd = accept4(listener, (struct sockaddr *)&peer, &len,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 || (len >= sizeof(peer) && peer.svm_family == AF_VSOCK &&
			       peer.svm_cid == VMADDR_CID_HOST))
			return fd;
		close(fd);
	}
	return -1;
}

static void on_connection(struct loop_watch *w, unsigned int events)
{
	struct listener *l = w->ctx;
	struct vsock *v = l->vsock;
	int fd = accept_host(w->fd);
	struct stream *s;
	int rc;

	(void)events;
	if (fd < 0)
		return;
	s = sockets_add(v->sockets, fd, false);
	if (!s)
		return;
	rc = v->carrier.events->incoming(v->carrier.ctx, s, l->port);
	if (rc < 0)
		stream_reset(s, rc);
	sockets_flush(v->sockets);
}

static int listen_on(struct vsock *v, struct listener *l, uint32_t port)
{
	struct sockaddr_vm sa = { .svm_family = AF_VSOCK, .svm_port = port,
				  .svm_cid = VMADDR_CID_ANY };
	AUTO_FD fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	l->vsock = v;
	l->port = port;
	l->watch = (struct loop_watch){ .fd = fd, .events = LOOP_READ, .ready = on_connection,
					.ctx = l };
	rc = loop_add(v->carrier.loop, &l->watch);
	if (rc == 0)
		fd_take(&fd);
	return rc;
}

/* ---- connections to the host ---- */

/* Return: a socket that connects or has connected to the host's @port; -errno. */
static int connect_host(uint32_t port, int flags)
{
	struct sockaddr_vm sa = { .svm_family = AF_VSOCK, .svm_port = port,
				  .svm_cid = VMADDR_CID_HOST };
	struct timeval limit = { .tv_sec = CONNECT_SECONDS };
	AUTO_FD fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS)
		return -errno;
	return fd_take(&fd);
}

static struct stream *vsock_open(struct carrier *c, uint32_t port,
				 const struct stream_events *events, void *ctx)
{
	int fd = connect_host(port, SOCK_NONBLOCK);
	struct stream *s;

	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	s = sockets_add(of(c)->sockets, fd, true);
	if (s)
		stream_accept(s, events, ctx);
	return s;
}

/* ---- the hello ---- */

static void check_hello(struct vsock *v)
{
	struct msg m = { 0 };

	if (msg_parse(v->hello, v->hello_len, CARRIER_HELLO_BODY, &m) <= 0 ||
	    m.type != CARRIER_HELLO || m.len != CARRIER_HELLO_BODY)
		v->carrier.events->lost("the host broke the protocol: no greeting");
	else if (get_le32(m.body) != CARRIER_VERSION)
		v->carrier.events->lost("the host speaks another version of the protocol: "
					"use parts of one release");
}

static void on_hello(struct loop_watch *w, unsigned int events)
{
	struct vsock *v = w->ctx;
	uint8_t more;
	ssize_t n;

	(void)events;
	if (v->hello_len < HELLO_LEN)
		n = read(w->fd, v->hello + v->hello_len, HELLO_LEN - v->hello_len);
	else
		n = read(w->fd, &more, 1);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		v->carrier.events->lost("the host closed the channel");
	if (v->hello_len == HELLO_LEN)
		v->carrier.events->lost("the host broke the protocol: a second greeting");
	v->hello_len += (size_t)n;
	if (v->hello_len == HELLO_LEN)
		check_hello(v);
}

static int say_hello(struct vsock *v)
{
	uint8_t hello[HELLO_LEN] = { 0 };
	AUTO_FD fd = connect_host(AGENT_HELLO_PORT, 0);
	int rc;

	if (fd < 0)
		return fd;
	msg_header(hello, CARRIER_HELLO, CARRIER_HELLO_BODY);
	put_le32(hello + MSG_HEADER, CARRIER_VERSION);
	rc = fd_write_all(fd, hello, sizeof(hello));
	if (rc == 0)
		rc = fd_set_nonblock(fd, 1);
	v->hello_watch = (struct loop_watch){ .fd = fd, .events = LOOP_READ, .ready = on_hello,
					      .ctx = v };
	if (rc == 0)
		rc = loop_add(v->carrier.loop, &v->hello_watch);
	if (rc == 0)
		fd_take(&fd);
	return rc;
}

/* ---- the carrier ---- */

static void vsock_flush(struct carrier *c)
{
	sockets_flush(of(c)->sockets);
}

static void vsock_end(struct carrier *c, int error)
{
	sockets_destroy(of(c)->sockets, error);
}

static const struct carrier_ops vsock_ops = {
	.open = vsock_open, .flush = vsock_flush, .end = vsock_end,
};

int vsock_start(const struct carrier *given, struct carrier **ret, struct smolvm_error *err)
{
	struct vsock *v = &vsock;
	int rc = 0;

	v->carrier = *given;
	v->carrier.ops = &vsock_ops;
	v->sockets = sockets_create(given->loop);
	if (!v->sockets)
		return err_nomem(err);
	for (size_t i = 0; i < PORTS && rc == 0; i++)
		rc = listen_on(v, &v->listeners[i], ports[i]);
	if (rc < 0)
		return err_set(err, -rc, "listening for the host: %s", strerror(-rc));
	rc = say_hello(v);
	if (rc < 0)
		return err_set(err, -rc, "connecting to the host: %s", strerror(-rc));
	*ret = &v->carrier;
	return 0;
}
