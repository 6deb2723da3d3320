/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a command: its streams between the caller's descriptors and the agent.
 *
 * Theory of operation. One connection carries one command (proto/agent.h). An event loop of its
 * own, in the calling thread, waits for the connection, the three descriptors, the control pipe
 * and the time limit. The caller's descriptors stay blocking: before each write it is asked whether
 * one would block, and a pipe is written at most PIPE_BUF bytes at a time, which a pipe that is
 * ready takes. Credit for output goes back to the agent only for bytes that were written, so what
 * waits here is bounded by EXEC_WINDOW for each stream.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/loop.h"
#include "machine/machine.h"
#include "proto/agent.h"
#include "proto/msg.h"
#include "proto/tlv.h"
#include "proto/vmm.h"

#define READ_MAX (64u << 10)
#define REQUEST_MAX (3u << 20)
#define WINDOW_BATCH (EXEC_WINDOW / 4)
#define FILE_WRITE_MAX (256u << 10)

struct run;

/* Standard output or error of the command. */
struct output {
	struct run *run;
	uint8_t number;          /* 1 or 2 */
	struct loop_watch watch; /* of a duplicate of the caller's; its fd is -1 when not watched */
	int fd;                  /* that duplicate; -1: thrown away */
	size_t write_max;        /* bytes that a write takes without blocking when it is ready */
	struct buf waiting;
	uint32_t window_due; /* bytes written, not yet returned to the agent */
	int error;           /* of a write, other than that the reader is gone */
};

struct run {
	struct smolvm_machine *machine;
	const struct smolvm_exec_config *config;
	struct loop *loop;
	struct loop_watch socket_watch, stdin_watch, control_watch;
	struct loop_timer deadline;
	int socket_fd, stdin_fd;
	struct buf out; /* to the agent */
	struct buf in;  /* from it */
	bool greeted, started, exited, stdin_ended;
	uint32_t stdin_window;
	struct output outputs[2];
	struct smolvm_exec_result result;
	struct smolvm_error *err;
};

static void stop(struct run *r, int result)
{
	loop_stop(r->loop, result);
}

/* ---- to the agent ---- */

static void send_out(struct run *r)
{
	while (r->out.len) {
		ssize_t n = send(r->socket_fd, buf_peek(&r->out), r->out.len,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) /* a machine that is gone is noticed in reading */
			break;
		buf_drop(&r->out, (size_t)n);
	}
	loop_set(r->loop, &r->socket_watch, LOOP_READ | (r->out.len ? LOOP_WRITE : 0));
}

static int put(struct run *r, enum exec_msg type, const void *body, size_t len)
{
	uint8_t header[MSG_HEADER];

	msg_header(header, type, (uint32_t)len);
	if (buf_add(&r->out, header, sizeof(header)) < 0 || buf_add(&r->out, body, len) < 0)
		return -ENOMEM;
	send_out(r);
	return 0;
}

static int encode_strings(struct buf *b, uint16_t key, const char *const *list)
{
	int rc = 0;

	for (; rc == 0 && list && *list; list++)
		rc = tlv_put_str(b, key, *list);
	return rc;
}

static int put_request(struct run *r)
{
	const struct smolvm_exec_config *c = r->config;
	struct buf b;
	int rc;

	buf_init(&b, REQUEST_MAX);
	rc = encode_strings(&b, EXEC_ARG, c->argv);
	rc = rc ? rc : encode_strings(&b, EXEC_ENV, c->env);
	if (rc == 0 && c->cwd && *c->cwd)
		rc = tlv_put_str(&b, EXEC_CWD, c->cwd);
	if (rc == 0 && c->user && *c->user)
		rc = tlv_put_str(&b, EXEC_USER, c->user);
	if (rc == 0 && c->tty)
		rc = tlv_put_u64(&b, EXEC_TTY, (uint64_t)c->rows << 16 | (c->columns & 0xffff));
	if (rc == 0 && c->stdin_fd < 0)
		rc = tlv_put_u64(&b, EXEC_NO_STDIN, 1);
	rc = rc ? rc : put(r, EXEC_REQUEST, buf_peek(&b), b.len);
	buf_fini(&b);
	if (rc == -ENOBUFS)
		return err_set(r->err, E2BIG, "arguments and environment are longer than %u MiB",
			       REQUEST_MAX >> 20);
	return rc < 0 ? err_nomem(r->err) : 0;
}

/* ---- standard input ---- */

static bool stdin_wanted(const struct run *r)
{
	return r->started && !r->stdin_ended && r->stdin_window && r->out.len < READ_MAX;
}

static void watch_stdin(struct run *r)
{
	bool wanted = stdin_wanted(r);

	if (wanted && r->stdin_watch.fd < 0 && r->stdin_fd >= 0) {
		r->stdin_watch.fd = r->stdin_fd;
		r->stdin_watch.events = LOOP_READ;
		loop_add(r->loop, &r->stdin_watch);
	}
	loop_set(r->loop, &r->stdin_watch, wanted ? LOOP_READ : 0);
}

static void end_stdin(struct run *r)
{
	r->stdin_ended = true;
	loop_remove(r->loop, &r->stdin_watch);
	put(r, EXEC_STDIN, NULL, 0);
}

static void on_stdin(struct loop_watch *w, unsigned int events)
{
	struct run *r = w->ctx;
	uint8_t bytes[EXEC_DATA_MAX];
	size_t want = r->stdin_window < sizeof(bytes) ? r->stdin_window : sizeof(bytes);
	ssize_t n;

	if (!stdin_wanted(r)) {
		/* Its hangup would be reported again and again: watch_stdin() takes it back. */
		loop_remove(r->loop, w);
		return;
	}
	n = read(r->stdin_fd, bytes, want);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		end_stdin(r);
		return;
	}
	r->stdin_window -= (uint32_t)n;
	if (put(r, EXEC_STDIN, bytes, (size_t)n) < 0)
		stop(r, err_nomem(r->err));
	watch_stdin(r);
}

/* ---- standard output and error ---- */

static void return_window(struct output *o, size_t n)
{
	uint8_t body[5] = { o->number };

	o->window_due += (uint32_t)n;
	if (o->window_due < WINDOW_BATCH || o->run->exited)
		return;
	put_le32(body + 1, o->window_due);
	o->window_due = 0;
	put(o->run, EXEC_WINDOW_ADD, body, sizeof(body));
}

static void close_output(struct output *o, int error)
{
	size_t lost = o->waiting.len;

	if (error != EPIPE)
		o->error = error;
	loop_remove(o->run->loop, &o->watch);
	fd_close(&o->fd);
	buf_drop(&o->waiting, lost);
	if (!o->run->exited)
		put(o->run, EXEC_CLOSE, &o->number, 1);
	return_window(o, lost);
}

static bool would_block(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, 0) != 1 || !(p.revents & (POLLOUT | POLLERR | POLLHUP));
}

static void finish_if_done(struct run *r)
{
	if (r->exited && !r->outputs[0].waiting.len && !r->outputs[1].waiting.len)
		stop(r, 0);
}

static void write_waiting(struct output *o)
{
	while (o->fd >= 0 && o->waiting.len && !would_block(o->fd)) {
		size_t want = o->waiting.len < o->write_max ? o->waiting.len : o->write_max;
		ssize_t n = write(o->fd, buf_peek(&o->waiting), want);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			close_output(o, errno);
			break;
		}
		buf_drop(&o->waiting, (size_t)n);
		return_window(o, (size_t)n);
	}
	loop_set(o->run->loop, &o->watch, o->waiting.len ? LOOP_WRITE : 0);
	finish_if_done(o->run);
}

static void on_output(struct loop_watch *w, unsigned int events)
{
	struct output *o = w->ctx;

	if ((events & LOOP_HANGUP) && !(events & LOOP_WRITE))
		close_output(o, EPIPE);
	write_waiting(o);
}

static void take_output(struct output *o, const struct msg *m)
{
	if (o->fd < 0) {
		return_window(o, m->len);
		return;
	}
	if (buf_add(&o->waiting, m->body, m->len) < 0)
		stop(o->run, err_set(o->run->err, EPROTO, "the guest sent more than it may"));
	else
		write_waiting(o);
}

static int output_open(struct run *r, unsigned int number, int fd)
{
	struct output *o = &r->outputs[number - 1];
	struct stat st;

	*o = (struct output){ .run = r, .number = (uint8_t)number, .fd = -1, .watch.fd = -1 };
	buf_init(&o->waiting, EXEC_WINDOW);
	if (fd < 0)
		return 0;
	o->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (o->fd < 0 || fstat(o->fd, &st) < 0)
		return err_sys(r->err, "the command's output cannot be written to descriptor %d",
			       fd);
	o->write_max = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) ? FILE_WRITE_MAX : PIPE_BUF;
	o->watch = (struct loop_watch){ o->fd, 0, on_output, o };
	return loop_add(r->loop, &o->watch) < 0 ? err_nomem(r->err) : 0;
}

/* ---- from the agent ---- */

static int take_failed(struct run *r, const struct msg *m)
{
	struct tlv_reader reader;
	uint64_t code = EIO;
	struct tlv t;
	char text[256] = "the command could not be started";

	tlv_reader_init(&reader, m->body, m->len);
	while (tlv_next(&reader, &t) == 1) {
		if (t.key == FAILURE_ERRNO)
			tlv_u64(&t, &code);
		else if (t.key == FAILURE_TEXT)
			snprintf(text, sizeof(text), "%.*s", (int)t.len, (const char *)t.data);
	}
	return err_set(r->err, code > 0 && code < 4096 ? (int)code : EIO, "%s", text);
}

static int take_message(struct run *r, const struct msg *m)
{
	switch (m->type) {
	case EXEC_STARTED:
		r->started = true;
		watch_stdin(r);
		return 0;
	case EXEC_FAILED:
		stop(r, take_failed(r, m));
		return 0;
	case EXEC_STDOUT:
	case EXEC_STDERR:
		take_output(&r->outputs[m->type - EXEC_STDOUT], m);
		return 0;
	case EXEC_WINDOW_ADD:
		if (m->len != 5 || m->body[0] != 0 || get_le32(m->body + 1) > EXEC_WINDOW)
			return -EPROTO;
		r->stdin_window += get_le32(m->body + 1);
		if (r->stdin_window > EXEC_WINDOW)
			return -EPROTO;
		watch_stdin(r);
		return 0;
	case EXEC_EXIT:
		if (m->len != 2)
			return -EPROTO;
		r->result.signal = m->body[0] ? m->body[1] : 0;
		r->result.exit_code = m->body[0] ? 0 : m->body[1];
		r->exited = true;
		finish_if_done(r);
		return 0;
	default:
		return -EPROTO;
	}
}

/* The line "OK <port>" comes first. Return: 1 when it was taken, 0 for more bytes, -EPROTO. */
static int take_greeting(struct run *r)
{
	const uint8_t *end = memchr(buf_peek(&r->in), '\n', r->in.len);

	if (!end)
		return r->in.len >= VMM_CONNECT_LINE_MAX ? -EPROTO : 0;
	if (memcmp(buf_peek(&r->in), "OK ", 3))
		return -EPROTO;
	buf_drop(&r->in, (size_t)(end - buf_peek(&r->in)) + 1);
	r->greeted = true;
	return 1;
}

static int take_input(struct run *r)
{
	struct msg m;
	long len;
	int rc;

	if (!r->greeted) {
		rc = r->in.len ? take_greeting(r) : 0;
		if (rc <= 0)
			return rc;
	}
	while (!r->exited && r->in.len) {
		len = msg_parse(buf_peek(&r->in), r->in.len, EXEC_DATA_MAX, &m);
		if (len <= 0)
			return (int)len;
		rc = take_message(r, &m);
		if (rc < 0)
			return rc;
		buf_drop(&r->in, (size_t)len);
	}
	return 0;
}

static void on_lost(struct run *r)
{
	if (r->exited) { /* only output is still to be written */
		loop_remove(r->loop, &r->socket_watch);
		return;
	}
	if (machine_ended(r->machine, 2000, r->err) == 0)
		err_set(r->err, ECONNRESET, "the connection to the machine was lost");
	stop(r, -ECONNRESET);
}

static void on_socket(struct loop_watch *w, unsigned int events)
{
	struct run *r = w->ctx;
	uint8_t *room;
	ssize_t n;

	if (events & LOOP_WRITE) {
		send_out(r);
		watch_stdin(r);
	}
	if (!(events & (LOOP_READ | LOOP_HANGUP)))
		return;
	room = buf_reserve(&r->in, READ_MAX);
	if (!room) {
		stop(r, err_nomem(r->err));
		return;
	}
	n = recv(r->socket_fd, room, READ_MAX, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		on_lost(r);
		return;
	}
	buf_commit(&r->in, (size_t)n);
	if (take_input(r) < 0)
		stop(r, err_set(r->err, EPROTO, "the guest's agent sent nonsense"));
}

/* ---- the caller's side ---- */

static void on_control(struct loop_watch *w, unsigned int events)
{
	struct run *r = w->ctx;
	struct control_record c;
	uint8_t body[4];

	while (control_take(r->config->control, &c)) {
		if (c.type == CONTROL_RECORD_CANCEL) {
			stop(r, err_set(r->err, EINTR, "interrupted"));
		} else if (c.type == CONTROL_RECORD_SIGNAL) {
			body[0] = (uint8_t)c.a;
			put(r, EXEC_SIGNAL, body, 1);
		} else {
			put_le16(body, (uint16_t)c.a);
			put_le16(body + 2, (uint16_t)c.b);
			put(r, EXEC_RESIZE, body, 4);
		}
	}
}

static void on_deadline(struct loop_timer *t)
{
	struct run *r = t->ctx;

	stop(r, err_set(r->err, ETIMEDOUT, "the command was still running after %lld ms",
			(long long)r->config->timeout_ms));
}

static int run_open(struct run *r)
{
	const struct smolvm_exec_config *c = r->config;
	int rc;

	r->loop = loop_create();
	if (!r->loop)
		return err_nomem(r->err);
	r->socket_fd = machine_connect(r->machine, AGENT_PORT_EXEC, r->err);
	if (r->socket_fd < 0)
		return r->socket_fd;
	r->socket_watch = (struct loop_watch){ r->socket_fd, LOOP_READ, on_socket, r };
	rc = loop_add(r->loop, &r->socket_watch);
	if (rc == 0 && c->stdin_fd >= 0) {
		r->stdin_fd = fcntl(c->stdin_fd, F_DUPFD_CLOEXEC, 3);
		r->stdin_watch = (struct loop_watch){ r->stdin_fd, 0, on_stdin, r };
		rc = r->stdin_fd < 0 ? -errno : loop_add(r->loop, &r->stdin_watch);
	}
	if (rc == 0 && c->control) {
		r->control_watch =
			(struct loop_watch){ control_fd(c->control), LOOP_READ, on_control, r };
		rc = loop_add(r->loop, &r->control_watch);
	}
	if (rc < 0)
		return err_set(r->err, -rc, "cannot wait for the command's streams: %s",
			       strerror(-rc));
	rc = output_open(r, 1, c->stdout_fd);
	if (rc == 0)
		rc = output_open(r, 2, c->stderr_fd);
	if (c->timeout_ms > 0) {
		r->deadline = (struct loop_timer){ .fired = on_deadline, .ctx = r };
		loop_arm(r->loop, &r->deadline, c->timeout_ms);
	}
	return rc;
}

static void run_close(struct run *r)
{
	for (int i = 0; i < 2; i++) {
		fd_close(&r->outputs[i].fd);
		buf_fini(&r->outputs[i].waiting);
	}
	fd_close(&r->socket_fd);
	fd_close(&r->stdin_fd);
	buf_fini(&r->out);
	buf_fini(&r->in);
	loop_destroy(r->loop);
}

/* Writes raise SIGPIPE in this thread: it is kept blocked, and taken away if it came. */
static void pipe_block(sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, old);
}

static void pipe_restore(const sigset_t *old)
{
	const struct timespec now = { 0, 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	if (!sigismember(old, SIGPIPE))
		while (sigtimedwait(&set, NULL, &now) > 0)
			;
	pthread_sigmask(SIG_SETMASK, old, NULL);
}

int smolvm_exec(struct smolvm_machine *m, const struct smolvm_exec_config *config,
		struct smolvm_exec_result *ret, struct smolvm_error *err)
{
	struct run r = { .machine = m,
			 .config = config,
			 .socket_fd = -1,
			 .stdin_fd = -1,
			 .stdin_watch.fd = -1,
			 .control_watch.fd = -1,
			 .outputs = { { .fd = -1 }, { .fd = -1 } },
			 .stdin_window = EXEC_WINDOW,
			 .err = err };
	sigset_t old;
	int rc;

	if (!config->argv || !config->argv[0])
		return err_set(err, EINVAL, "no command to run");
	buf_init(&r.out, REQUEST_MAX + 2 * READ_MAX);
	buf_init(&r.in, 2 * READ_MAX + MSG_HEADER);
	pipe_block(&old);
	rc = run_open(&r);
	if (rc == 0)
		rc = put_request(&r);
	if (rc == 0)
		rc = loop_run(r.loop);
	for (int i = 0; rc == 0 && i < 2; i++)
		if (r.outputs[i].error)
			rc = err_set(err, r.outputs[i].error,
				     "the command's output cannot be written: %s",
				     strerror(r.outputs[i].error));
	run_close(&r);
	pipe_restore(&old);
	if (rc == 0)
		*ret = r.result;
	return rc;
}
