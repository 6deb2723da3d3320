/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of the machine's socket, until it is known what they want.
 *
 * A client writes "CONNECT <port>\n" and may go on at once; "OK <port>\n" comes back when the agent
 * has accepted, then the stream's bytes. A connection that is closed instead was refused.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmmproc/vmm.h"

/* syscalls (main): sendto recvfrom fcntl(F_GETFL F_SETFL) */

struct relay {
	struct vmm *vmm;
	struct loop_watch watch;
	char line[VMM_CONNECT_LINE_MAX];
	size_t line_len;
};

/* Return: the client's socket, nobody's now. */
static int relay_free(struct relay *r)
{
	int fd = r->watch.fd;

	loop_remove(r->vmm->loop, &r->watch);
	r->vmm->n_relays--;
	free(r);
	return fd;
}

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

static void on_client(struct loop_watch *w, unsigned int events)
{
	struct relay *r = w->ctx;
	struct vmm *v = r->vmm;
	long port = -1;

	/* Byte by byte, so that nothing of what follows is taken: it is one short line. */
	while (r->line_len < sizeof(r->line) - 1) {
		ssize_t n = read(w->fd, r->line + r->line_len, 1);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			break;
		if (r->line[r->line_len++] == '\n') {
			r->line[r->line_len - 1] = '\0';
			port = parse_connect(r->line);
			break;
		}
	}
	if (port < 0) {
		close(relay_free(r));
		return;
	}
	carrier_connect(v, (uint32_t)port, relay_free(r));
	channel_flush(v);
}

void relay_accept(struct vmm *v, int fd)
{
	struct relay *r = v->n_relays < STREAMS_MAX ? calloc(1, sizeof(*r)) : NULL;

	if (!r) {
		close(fd);
		return;
	}
	r->vmm = v;
	r->watch = (struct loop_watch){ fd, LOOP_READ, on_client, r };
	fd_set_nonblock(fd, 1);
	if (loop_add(v->loop, &r->watch) < 0) {
		close(fd);
		free(r);
		return;
	}
	v->n_relays++;
}
