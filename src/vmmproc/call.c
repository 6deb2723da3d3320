/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request of smolvm-vmm's own to the agent, and its answer: over a pair of sockets, one of
 * which is joined with the agent's port as a client's would be.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmmproc/vmm.h"

/* syscalls (main): socketpair(AF_UNIX) sendto shutdown */

#define ANSWER_MAX 4096u

struct call {
	struct vmm *vmm;
	struct loop_watch watch;
	struct buf out, in;
	bool accepted; /* the OK line has been read */
	void (*answered)(struct vmm *v, const struct msg *m, int error);
};

static void finish(struct call *c, const struct msg *m, int error)
{
	int fd = c->watch.fd;

	loop_remove(c->vmm->loop, &c->watch);
	fd_close(&fd);
	c->answered(c->vmm, m, error);
	buf_fini(&c->out);
	buf_fini(&c->in);
	free(c);
}

/* Return: 0 or -errno. */
static int write_request(struct call *c)
{
	while (c->out.len) {
		ssize_t n = send(c->watch.fd, buf_peek(&c->out), c->out.len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return -errno;
		buf_drop(&c->out, (size_t)n);
	}
	loop_set(c->vmm->loop, &c->watch, LOOP_READ | (c->out.len ? LOOP_WRITE : 0));
	return 0;
}

/* Return: 1 with *@ret, 0 when there is not yet enough, -errno. */
static int take_answer(struct call *c, struct msg *ret)
{
	long len;

	if (!c->accepted) {
		const uint8_t *line = buf_peek(&c->in);
		const uint8_t *end = c->in.len ? memchr(line, '\n', c->in.len) : NULL;

		if (!end)
			return c->in.len < VMM_CONNECT_LINE_MAX ? 0 : -EPROTO;
		buf_drop(&c->in, (size_t)(end + 1 - line));
		c->accepted = true;
	}
	len = msg_parse(buf_peek(&c->in), c->in.len, ANSWER_MAX, ret);
	return len < 0 ? -EPROTO : len > 0;
}

static void on_socket(struct loop_watch *w, unsigned int events)
{
	struct call *c = w->ctx;
	struct vmm *v = c->vmm;
	uint8_t *room = buf_reserve(&c->in, 1024);
	ssize_t n = -1;
	struct msg m;
	int rc = room ? write_request(c) : -ENOBUFS;

	if (rc == 0) {
		n = read(w->fd, room, 1024);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			goto out;
		rc = n < 0 ? -errno : 0;
	}
	if (n > 0) {
		buf_commit(&c->in, (size_t)n);
		rc = take_answer(c, &m);
		if (rc == 0)
			goto out;
	}
	finish(c, rc == 1 ? &m : NULL, rc == 1 ? 0 : rc);
out:
	channel_flush(v);
}

int call_agent(struct vmm *v, uint32_t port, uint8_t type, struct buf *body,
	       void (*answered)(struct vmm *v, const struct msg *m, int error))
{
	struct call *c = calloc(1, sizeof(*c));
	uint8_t header[MSG_HEADER];
	int fds[2], rc;

	if (!c || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
		free(c);
		return -ENOMEM;
	}
	c->vmm = v;
	c->answered = answered;
	buf_init(&c->out, MSG_HEADER + body->len);
	buf_init(&c->in, ANSWER_MAX + MSG_HEADER + VMM_CONNECT_LINE_MAX + 1024);
	msg_header(header, type, (uint32_t)body->len);
	rc = buf_add(&c->out, header, sizeof(header));
	rc = rc ? rc : buf_add(&c->out, buf_peek(body), body->len);
	c->watch = (struct loop_watch){ fds[0], LOOP_READ | LOOP_WRITE, on_socket, c };
	rc = rc ? rc : loop_add(v->loop, &c->watch);
	if (rc < 0) {
		close(fds[0]);
		close(fds[1]);
		buf_fini(&c->out);
		free(c);
		return rc;
	}
	buf_drop(body, body->len);
	carrier_connect(v, port, fds[1]);
	return 0;
}
