/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections between host and agent, whatever carries them.
 *
 * Theory of operation. Everything here speaks through stream sockets. Where the machine has
 * connections of its own (BACKEND_STREAMS) a socket is handed to the backend; else it is joined
 * with a stream of the multiplexer. The agent's own connections come from the machine's I/O thread
 * or from the multiplexer; both call carrier_incoming(), which makes a pair of sockets, sends one
 * through a pipe to the event loop and gives back the other. Every port of the host's is accepted
 * once in the life of a machine, so the pipe never fills.
 *
 * Over connections the agent says hello on one of its own, which then stays open and silent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/fd.h"
#include "vmmproc/vmm.h"

/* syscalls (io, main): socketpair(AF_UNIX) */

struct arrival {
	uint32_t port;
	int fd;
};

/* ---- the agent's connections ---- */

/* Return: where it is noted that this port is taken, or NULL: nobody listens there. */
static bool *port_taken(struct vmm *v, uint32_t port)
{
	if (port == AGENT_HELLO_PORT && v->vm.extras & BACKEND_STREAMS)
		return &v->hello_arrived;
	if (port >= HOST_PORT_SHARE && port - HOST_PORT_SHARE < v->n_shares)
		return &v->shares[port - HOST_PORT_SHARE].arrived;
	return NULL;
}

int carrier_incoming(struct vmm *v, uint32_t port)
{
	bool *taken = port_taken(v, port);
	struct arrival a = { .port = port };
	int fds[2];

	if (!taken)
		return -ECONNREFUSED;
	if (__atomic_exchange_n(taken, true, __ATOMIC_RELAXED))
		return -EBUSY;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	a.fd = fds[0];
	if (write(v->arrivals[1], &a, sizeof(a)) != sizeof(a)) {
		close(fds[0]);
		close(fds[1]);
		return -EIO;
	}
	return fds[1];
}

static void drop_hello(struct vmm *v)
{
	int fd = v->hello_watch.fd;

	loop_remove(v->loop, &v->hello_watch);
	fd_close(&fd);
}

static void answer_hello(struct vmm *v)
{
	uint8_t out[MSG_HEADER + CARRIER_HELLO_BODY];
	struct msg m;

	if (msg_parse(v->hello_in, sizeof(v->hello_in), CARRIER_HELLO_BODY, &m) <= 0 ||
	    m.type != CARRIER_HELLO || m.len != CARRIER_HELLO_BODY) {
		vmmproc_end(v, EPROTO, "the guest: its greeting makes no sense");
		return;
	}
	if (get_le32(m.body) != CARRIER_VERSION) {
		vmmproc_end(v, EPROTONOSUPPORT,
			    "the guest's agent speaks version %u of the protocol, this program %u",
			    get_le32(m.body), CARRIER_VERSION);
		return;
	}
	msg_header(out, CARRIER_HELLO, CARRIER_HELLO_BODY);
	put_le32(out + MSG_HEADER, CARRIER_VERSION);
	put_le32(out + MSG_HEADER + 4, 0);
	if (send(v->hello_watch.fd, out, sizeof(out), MSG_NOSIGNAL) < 0)
		drop_hello(v); /* it is gone again, and the machine soon */
	else
		vmmproc_greeted(v);
}

/* Nothing comes here but the hello; its end is that of the machine, which is told elsewhere. */
static void on_hello(struct loop_watch *w, unsigned int events)
{
	struct vmm *v = w->ctx;
	uint8_t more[64];
	bool greeted = v->hello_len == sizeof(v->hello_in);
	ssize_t n = greeted ? read(w->fd, more, sizeof(more))
			    : read(w->fd, v->hello_in + v->hello_len,
				   sizeof(v->hello_in) - v->hello_len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop_hello(v);
		return;
	}
	if (greeted) {
		vmmproc_end(v, EPROTO,
			    "the guest broke the protocol: it speaks where it has greeted already");
		return;
	}
	v->hello_len += (size_t)n;
	if (v->hello_len == sizeof(v->hello_in))
		answer_hello(v);
}

static void on_arrival(struct loop_watch *w, unsigned int events)
{
	struct vmm *v = w->ctx;
	struct arrival a;

	while (read(w->fd, &a, sizeof(a)) == sizeof(a)) {
		if (a.port != AGENT_HELLO_PORT) {
			share_arrived(v, a.port - HOST_PORT_SHARE, a.fd);
			continue;
		}
		v->hello_watch = (struct loop_watch){ a.fd, LOOP_READ, on_hello, v };
		if (loop_add(v->loop, &v->hello_watch) < 0)
			vmmproc_end(v, ENOMEM, "out of memory");
	}
}

/* ---- both ways ---- */

void carrier_connect(struct vmm *v, uint32_t port, int fd)
{
	char greeting[VMM_CONNECT_LINE_MAX];

	if (v->mux) {
		join_connect(v, port, fd);
		return;
	}
	snprintf(greeting, sizeof(greeting), "OK %u\n", port);
	/* What fails closes the socket, which is all that a client is told. */
	v->vm.runner->connect(&v->vm, port, fd, greeting, NULL);
}

int carrier_start(struct vmm *v)
{
	int rc;

	v->arrivals_watch = (struct loop_watch){ v->arrivals[0], LOOP_READ, on_arrival, v };
	rc = loop_add(v->loop, &v->arrivals_watch);
	return rc < 0 || v->vm.extras & BACKEND_STREAMS ? rc : channel_start(v);
}
