/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that moves a command's standard streams on the agent's behalf.
 *
 * Even a non-blocking read of a pipe waits while its writer is inside a write or a splice, and that
 * may wait for a shared folder: a file being sent to the pipe, or a page of a mapped one. If the
 * agent, which carries the folder's answers, read the pipe itself, both would wait for ever. So
 * where there are shared folders, this process stands between the pipes and sockets that the agent
 * reads: a socket's reader never waits for its writer.
 */
#include "agent/pump.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "agent/children.h"
#include "base/fd.h"

#define BUFFER	  (64u << 10)
#define DRAIN_MAX (1u << 20) /* the most a pipe can hold */

/**
 * struct lane - @at to @len of @data wait to be written.
 * @last: only what can be read at once, @drained bytes of it so far.
 */
struct lane {
	int from, to;
	size_t at, len, drained;
	bool last;
	uint8_t data[BUFFER];
};

static struct lane lanes[PUMP_LANES];

static void lane_close(struct lane *l)
{
	fd_close(&l->from);
	fd_close(&l->to);
}

static void lane_read(struct lane *l)
{
	ssize_t n = read(l->from, l->data, sizeof(l->data));

	if (n < 0 && (errno == EINTR || (errno == EAGAIN && !l->last)))
		return;
	if (n <= 0 || (l->last && l->drained > DRAIN_MAX)) {
		lane_close(l);
		return;
	}
	l->at = 0;
	l->len = (size_t)n;
	if (l->last)
		l->drained += (size_t)n;
}

static void lane_write(struct lane *l)
{
	ssize_t n = write(l->to, l->data + l->at, l->len - l->at);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		lane_close(l);
	else if (n > 0)
		l->at += (size_t)n;
	if (l->at == l->len)
		l->at = l->len = 0;
}

static void lane_wait(const struct lane *l, struct pollfd *p)
{
	p[0] = (struct pollfd){ .fd = l->len ? -1 : l->from, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = l->to, .events = l->last ? 0 : POLLRDHUP };
	if (l->len)
		p[1].events |= POLLOUT;
}

static void lane_move(struct lane *l, const struct pollfd *p)
{
	if (l->to < 0)
		return;
	if (p[1].revents & (POLLERR | POLLHUP)) { /* nobody reads it any more */
		lane_close(l);
		return;
	}
	if (p[1].revents & POLLRDHUP)
		l->last = true;
	if (l->len == 0 && (p[0].revents || l->last))
		lane_read(l);
	if (l->len)
		lane_write(l);
}

static _Noreturn void pump_run(const struct pump_lane given[PUMP_LANES])
{
	struct pollfd p[2 * PUMP_LANES];
	int fds[2 * PUMP_LANES];

	for (int i = 0; i < PUMP_LANES; i++) {
		fds[2 * i] = given[i].from;
		fds[2 * i + 1] = given[i].to;
	}
	children_keep_only(fds, 2 * PUMP_LANES);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_IGN); /* it ends after the commands, not with them */
	for (int i = 0; i < PUMP_LANES; i++) {
		lanes[i].from = fds[2 * i];
		lanes[i].to = fds[2 * i + 1];
	}
	for (;;) {
		bool open = false, draining = false;

		for (int i = 0; i < PUMP_LANES; i++) {
			lane_wait(&lanes[i], p + 2 * i);
			open |= lanes[i].to >= 0;
			draining |= lanes[i].to >= 0 && lanes[i].last && !lanes[i].len;
		}
		if (!open)
			_exit(0);
		if (poll(p, 2 * PUMP_LANES, draining ? 0 : -1) < 0)
			continue;
		for (int i = 0; i < PUMP_LANES; i++)
			lane_move(&lanes[i], p + 2 * i);
	}
}

pid_t pump_start(const struct pump_lane given[PUMP_LANES])
{
	pid_t pid = children_fork();

	if (pid == 0)
		pump_run(given);
	return pid < 0 ? -errno : pid;
}
