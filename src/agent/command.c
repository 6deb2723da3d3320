/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a command's description, and its pipes or terminal.
 */
#include "agent/command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/children.h"
#include "agent/command_child.h"
#include "agent/pump.h"
#include "base/err.h"
#include "base/fd.h"
#include "proto/agent.h"
#include "proto/tlv.h"

/* ---- description ---- */

static int strings_add(struct strings *s, const struct tlv *t)
{
	int rc;

	if (s->n >= COMMAND_STRINGS_MAX)
		return -E2BIG;
	if (s->n + 1 >= s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;
		char **v = realloc(s->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->cap = cap;
	}
	rc = tlv_str(t, &s->v[s->n]);
	if (rc == 0)
		s->n++;
	s->v[s->n] = NULL;
	return rc;
}

static int take_string(const struct tlv *t, char **ret)
{
	return *ret ? -EINVAL : tlv_str(t, ret);
}

static int take_key(struct command *c, const struct tlv *t)
{
	uint64_t v = 0;

	switch (t->key) {
	case EXEC_ARG:
		return strings_add(&c->args, t);
	case EXEC_ENV:
		return memchr(t->data, '=', t->len) ? strings_add(&c->env, t) : -EINVAL;
	case EXEC_CWD:
		return take_string(t, &c->cwd);
	case EXEC_USER:
		return take_string(t, &c->user);
	case EXEC_TTY:
		c->tty = true;
		if (tlv_u64(t, &v) < 0 || v > UINT32_MAX)
			return -EINVAL;
		c->rows = (uint16_t)(v >> 16);
		c->columns = (uint16_t)v;
		return 0;
	case EXEC_NO_STDIN:
		c->no_stdin = true;
		return tlv_u64(t, &v) < 0 || v != 1 ? -EINVAL : 0;
	case EXEC_DETACH:
		c->detach = true;
		return tlv_u64(t, &v) < 0 || v != 1 ? -EINVAL : 0;
	default:
		return -EINVAL;
	}
}

int command_parse(struct command *c, const uint8_t *body, size_t len, struct smolvm_error *err)
{
	struct tlv_reader r;
	struct tlv t;
	int rc;

	memset(c, 0, sizeof(*c));
	tlv_reader_init(&r, body, len);
	while ((rc = tlv_next(&r, &t)) > 0) {
		rc = take_key(c, &t);
		if (rc < 0)
			return err_set(err, -rc, "running a command: bad value for key %u: %s",
				       t.key, strerror(-rc));
	}
	if (rc < 0)
		return err_set(err, -rc, "running a command: malformed request");
	if (c->args.n == 0)
		return err_set(err, EINVAL, "running a command: no command");
	if (c->tty && c->detach)
		return err_set(err, EINVAL, "running a command: detached, and on a terminal");
	if (c->cwd && *c->cwd && *c->cwd != '/')
		return err_set(err, EINVAL, "the working directory '%s' is not absolute", c->cwd);
	return 0;
}

static void strings_fini(struct strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
}

void command_fini(struct command *c)
{
	strings_fini(&c->args);
	strings_fini(&c->env);
	free(c->cwd);
	free(c->user);
	memset(c, 0, sizeof(*c));
}

/* ---- standard streams ---- */

/* The descriptors while a process is being started: the agent's ends and the child's. */
struct ends {
	int agent[4], child[4]; /* in, out, err, status */
};

enum { END_IN, END_OUT, END_ERR, END_STATUS, ENDS };

static void close_ends(int ends[ENDS])
{
	for (int i = 0; i < ENDS; i++)
		fd_close(&ends[i]);
}

/* @reads: the agent does. */
static int make_pipe(struct ends *e, int which, bool reads)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	e->agent[which] = fds[reads ? 0 : 1];
	e->child[which] = fds[reads ? 1 : 0];
	return fcntl(e->agent[which], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/*
 * Two descriptors of the terminal's other side: input and output are waited for apart. The
 * terminal's own side is the child's to open, by an ioctl: no path is involved.
 */
static int make_terminal(struct ends *e, const struct command *c, int dev_fd)
{
	struct winsize size = { .ws_row = c->rows, .ws_col = c->columns };
	int fd = openat(dev_fd, "ptmx", O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	int unlock = 0;

	if (fd < 0)
		return -errno;
	e->agent[END_OUT] = fd;
	e->agent[END_IN] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (e->agent[END_IN] < 0 || ioctl(fd, TIOCSPTLCK, &unlock) < 0)
		return -errno;
	if (size.ws_row && size.ws_col && ioctl(fd, TIOCSWINSZ, &size) < 0)
		return -errno;
	fd = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	e->child[END_IN] = fd;
	return fd < 0 ? -errno : 0;
}

/* Input and output that lead nowhere. */
static int make_null(struct ends *e, int which, int dev_fd)
{
	e->child[which] = openat(dev_fd, "null", O_RDWR | O_CLOEXEC);
	return e->child[which] < 0 ? -errno : 0;
}

static int make_ends(struct ends *e, const struct command *c, int dev_fd)
{
	int rc = make_pipe(e, END_STATUS, true);

	if (rc == 0 && c->tty)
		return make_terminal(e, c, dev_fd);
	if (rc == 0)
		rc = c->no_stdin || c->detach ? make_null(e, END_IN, dev_fd)
					      : make_pipe(e, END_IN, false);
	if (rc == 0)
		rc = c->detach ? make_null(e, END_OUT, dev_fd) : make_pipe(e, END_OUT, true);
	if (rc == 0)
		rc = c->detach ? make_null(e, END_ERR, dev_fd) : make_pipe(e, END_ERR, true);
	return rc;
}

/* A socket to the agent in the place of each pipe, and the process that moves the bytes. */
static int add_pump(struct ends *e)
{
	struct pump_lane lanes[PUMP_LANES] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	int theirs[PUMP_LANES] = { -1, -1, -1 }, ours[PUMP_LANES] = { -1, -1, -1 };
	int fds[2], rc = 0;

	for (int i = END_IN; i <= END_ERR && rc == 0; i++) {
		if (e->agent[i] < 0)
			continue;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
			rc = -errno;
			break;
		}
		ours[i] = fds[0];
		theirs[i] = fds[1];
		lanes[i].from = i == END_IN ? theirs[i] : e->agent[i];
		lanes[i].to = i == END_IN ? e->agent[i] : theirs[i];
	}
	if (rc == 0)
		rc = pump_start(lanes);
	for (int i = END_IN; i <= END_ERR; i++) {
		fd_close(&theirs[i]);
		if (rc < 0) {
			fd_close(&ours[i]);
		} else if (ours[i] >= 0) {
			close(e->agent[i]);
			e->agent[i] = ours[i];
		}
	}
	return rc < 0 ? rc : 0;
}

pid_t command_start(const struct command *c, int dev_fd, bool pumped, struct command_io *ret,
		    struct smolvm_error *err)
{
	struct ends e = { { -1, -1, -1, -1 }, { -1, -1, -1, -1 } };
	int rc = make_ends(&e, c, dev_fd);
	pid_t pid;

	pumped = pumped && !c->tty && !c->detach;
	if (rc == 0 && pumped)
		rc = add_pump(&e);
	if (rc < 0) {
		close_ends(e.agent);
		close_ends(e.child);
		return err_set(err, -rc, "making the command's %s: %s",
			       c->tty ? "terminal" : "pipes", strerror(-rc));
	}
	pid = children_fork();
	if (pid == 0)
		command_child(c, e.child, e.child[END_STATUS]);
	close_ends(e.child);
	if (pid < 0) {
		err_sys(err, "starting a process");
		close_ends(e.agent);
		return -err->code;
	}
	*ret = (struct command_io){ .status = e.agent[END_STATUS], .in = e.agent[END_IN],
				    .out = e.agent[END_OUT], .err = e.agent[END_ERR],
				    .pumped = pumped };
	return pid;
}
