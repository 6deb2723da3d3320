/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a machine ended: from how its hypervisor did, and from what was said on the console.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmmproc/vmm.h"

/* syscalls (main): poll ppoll */

/* What the guest's console says when its kernel, or the agent, gives up. */
#define PANIC_TEXT "Kernel panic - not syncing: "
#define AGENT_TEXT "smolvm-agent: "
/* A kernel without ACPI can say that it is off, and no more than that. */
static const char *const off_texts[] = {
	"reboot: System halted",
	"reboot: Power off not available",
	"reboot: Power down",
};
#define RESTART_TEXT "reboot: Restarting system"
#define KERNEL_ADVICE                                                                              \
	"; a kernel of one's own needs virtio-mmio with devices on its command line, "             \
	"virtio console and block devices, EROFS, ext4, overlay and FUSE built in"
#define READS_AT_ONCE 16u

static void keep_tail(struct buf *b, const uint8_t *p, size_t n)
{
	if (n > b->max) {
		p += n - b->max;
		n = b->max;
	}
	if (n > buf_room(b))
		buf_drop(b, n - buf_room(b));
	buf_add(b, p, n);
}

/* The last line with anything in it, copied to @out. */
static void last_line(const struct buf *b, char *out, size_t cap)
{
	const char *text = (const char *)buf_peek(b);
	size_t end = b->len, start;

	while (end > 0 && (unsigned char)text[end - 1] <= ' ')
		end--;
	for (start = end; start > 0 && text[start - 1] != '\n'; start--)
		;
	snprintf(out, cap, "%.*s", (int)(end - start), end ? text + start : "");
}

/* What follows the last @mark on the console, up to the end of its line. Return: its length. */
static size_t said_after(const struct buf *b, const char *mark, const char **ret)
{
	const char *at = (const char *)buf_peek(b), *end = at + b->len, *found = NULL;
	size_t n = strlen(mark);

	while (at && (at = memmem(at, (size_t)(end - at), mark, n)))
		found = at += n;
	if (!found)
		return 0;
	*ret = found;
	for (n = 0; found + n < end && found[n] != '\r' && found[n] != '\n'; n++)
		;
	return n;
}

static size_t said(const struct buf *b, const char *mark, const char **ret)
{
	return b->len ? said_after(b, mark, ret) : 0;
}

static bool has_said(const struct buf *b, const char *mark)
{
	return b->len && memmem(buf_peek(b), b->len, mark, strlen(mark));
}

static void end_from_texts(struct vmm *v, const struct backend_end *end)
{
	const char *text, *how = *end->text ? end->text : "the guest switched itself off";
	char line[200];
	size_t n = said(&v->console_text, PANIC_TEXT, &text);
	bool restarted = has_said(&v->console_text, RESTART_TEXT);

	if (n) {
		vmmproc_end(v, EIO, "the guest's kernel panicked: %.*s", (int)n, text);
		return;
	}
	n = said(&v->console_text, AGENT_TEXT, &text);
	last_line(&v->messages_text, line, sizeof(line));
	if (end->failed && !restarted)
		vmmproc_end(v, EIO, "%s%s%s", end->text, *line ? ": " : "", line);
	else if (n)
		vmmproc_end(v, EIO, "the guest gave up: %.*s%s", (int)n, text,
			    v->ready || v->spec.own_kernel ? "" : KERNEL_ADVICE);
	else
		vmmproc_end(v, EIO, "%s%s", restarted ? "the guest restarted itself" : how,
			    v->ready ? "" : " before it was ready (see it with --verbose)");
}

/* ---- events ---- */

/* The client's terminal may be stopped, its pipe full: what does not fit is lost. */
static void show(const uint8_t *p, size_t n)
{
	struct pollfd room = { .fd = VMM_FD_CONSOLE, .events = POLLOUT };

	/* A pipe with room has room for PIPE_BUF bytes. */
	if (poll(&room, 1, 0) == 1 && (room.revents & POLLOUT) && write(room.fd, p, n) < 0)
		return;
}

/* Read at most @reads times. Return: whether the end was reached. */
static bool take_text(struct vmm *v, struct loop_watch *w, struct buf *text, unsigned int reads)
{
	uint8_t bytes[4096];
	ssize_t n = 1;

	while (w->fd >= 0 && reads-- && (n = read(w->fd, bytes, sizeof(bytes))) > 0) {
		keep_tail(text, bytes, (size_t)n);
		if (v->spec.verbose)
			show(bytes, (size_t)n);
	}
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void end_if_off(struct vmm *v)
{
	for (size_t i = 0; i < sizeof(off_texts) / sizeof(*off_texts); i++)
		if (has_said(&v->console_text, off_texts[i]))
			vmmproc_end(v, EIO, "the guest switched itself off");
}

static void on_console(struct loop_watch *w, unsigned int events)
{
	struct vmm *v = w->ctx;

	/* A guest that never stops talking does not keep the other events waiting. */
	if (take_text(v, w, &v->console_text, READS_AT_ONCE))
		loop_remove(v->loop, w);
	end_if_off(v);
}

static void on_messages(struct loop_watch *w, unsigned int events)
{
	struct vmm *v = w->ctx;

	if (take_text(v, w, &v->messages_text, READS_AT_ONCE))
		loop_remove(v->loop, w);
}

static void on_end(struct loop_watch *w, unsigned int events)
{
	struct backend_end end = { 0 };
	struct vmm *v = w->ctx;

	take_text(v, &v->console_watch, &v->console_text, UINT_MAX);
	take_text(v, &v->messages_watch, &v->messages_text, UINT_MAX);
	v->runner->ended(&v->vm, &end);
	loop_remove(v->loop, w);
	end_if_off(v);
	end_from_texts(v, &end);
}

static int watch(struct vmm *v, struct loop_watch *w, int fd,
		 void (*ready)(struct loop_watch *, unsigned int))
{
	*w = (struct loop_watch){ fd, LOOP_READ, ready, v };
	return fd < 0 ? 0 : loop_add(v->loop, w);
}

int ending_watch(struct vmm *v)
{
	int rc = watch(v, &v->end_watch, v->vm.end_fd, on_end);

	rc = rc ? rc : watch(v, &v->console_watch, v->vm.console_fd, on_console);
	return rc ? rc : watch(v, &v->messages_watch, v->vm.messages_fd, on_messages);
}

void ending_last_line(const struct vmm *v, char *ret, size_t cap)
{
	last_line(&v->console_text, ret, cap);
}
