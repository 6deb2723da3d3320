/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smolvm-vmm: one process for each running machine, which owns its devices' back ends, its control
 * socket and its lifetime.
 *
 * Theory of operation. The client has prepared everything and hands over descriptors and one
 * description (proto/vmm.h). This process starts the hypervisor, greets the agent, tells it what to
 * mount, and from then on joins connections on the machine's socket with streams to the agent. It
 * ends, and the machine with it, when the client's socket closes, on SIGTERM, when the hypervisor
 * ends, and when the guest breaks the channel's protocol; the first of these is the reason that is
 * told. The hypervisor is killed and waited for, then the run folder is removed, then the process
 * exits: whoever waits for the process has waited for all of it. Should the process be killed, the
 * kernel kills the hypervisor, and the lock on the run folder is free.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/proc.h"
#include "proto/endian.h"
#include "proto/msg.h"
#include "proto/tlv.h"
#include "proto/vmm.h"
#include "vmmproc/vmm.h"

/* What the guest's console says when its kernel, or the agent, gives up. */
#define PANIC_TEXT "Kernel panic - not syncing: "
#define AGENT_TEXT "smolvm-agent: "
/* A kernel without ACPI can say that it is off, and no more than that. */
static const char *const off_texts[] = {
	"reboot: System halted",
	"reboot: Power off not available",
	"reboot: Power down",
};
#define KERNEL_ADVICE                                                                              \
	"; a kernel of one's own needs virtio-mmio with devices on its command line, "             \
	"virtio console and block devices, EROFS, ext4, overlay and FUSE built in"
#define DEATH_WAIT_MS 10000
#define READS_AT_ONCE 16u

/* The initramfs with the agent, linked in. */
extern const uint8_t initramfs_start[], initramfs_end[];

/* ---- telling the client ---- */

static void tell(enum vmm_msg type, const void *body, size_t len)
{
	uint8_t bytes[1024];

	msg_header(bytes, type, (uint32_t)len);
	memcpy(bytes + MSG_HEADER, body, len);
	/* A client that does not read its few short messages is none. */
	if (send(VMM_FD_CONTROL, bytes, MSG_HEADER + len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void tell_now(enum vmm_msg type)
{
	uint8_t ns[8];

	put_le64(ns, (uint64_t)clock_ns());
	tell(type, ns, sizeof(ns));
}

static void tell_ended(int error, const char *text)
{
	struct buf b;

	buf_init(&b, 1000);
	if (tlv_put_u64(&b, FAILURE_ERRNO, (uint64_t)error) == 0 &&
	    tlv_put_str(&b, FAILURE_TEXT, text) == 0)
		tell(VMM_ENDED, buf_peek(&b), b.len);
	buf_fini(&b);
}

void vmm_end(struct vmm *v, int error, const char *fmt, ...)
{
	struct smolvm_error printable = SMOLVM_ERROR_INIT;
	char text[SMOLVM_ERROR_MESSAGE_MAX];
	va_list ap;

	if (v->ending)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_set(&printable, error, "%s", text);
	v->ending = true;
	tell_ended(error, printable.message);
	loop_stop(v->loop, error);
}

void vmm_greeted(struct vmm *v)
{
	tell_now(VMM_HELLO);
	boot_setup(v);
}

void vmm_ready(struct vmm *v)
{
	v->ready = true;
	loop_cancel(v->loop, &v->deadline);
	tell_now(VMM_READY);
}

/* ---- why a machine ended ---- */

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

static void end_from_texts(struct vmm *v, int status)
{
	const char *said;
	char line[200];
	size_t n;

	n = v->console_text.len ? said_after(&v->console_text, PANIC_TEXT, &said) : 0;
	if (n) {
		vmm_end(v, EIO, "the guest's kernel panicked: %.*s", (int)n, said);
		return;
	}
	n = v->console_text.len ? said_after(&v->console_text, AGENT_TEXT, &said) : 0;
	last_line(&v->messages_text, line, sizeof(line));
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		vmm_end(v, EIO, "the hypervisor was killed; was the host out of memory?");
	else if (WIFSIGNALED(status))
		vmm_end(v, EIO, "the hypervisor crashed (signal %d) %s", WTERMSIG(status), line);
	else if (WEXITSTATUS(status))
		vmm_end(v, EIO, "the hypervisor failed: %s", *line ? line : "it gave no reason");
	else if (n)
		vmm_end(v, EIO, "the guest gave up: %.*s%s", (int)n, said,
			v->ready || v->spec.own_kernel ? "" : KERNEL_ADVICE);
	else if (!v->ready)
		vmm_end(v, EIO, "the guest stopped before it was ready (see it with --verbose)");
	else
		vmm_end(v, EIO, "the guest switched itself off");
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
	const struct buf *b = &v->console_text;

	for (size_t i = 0; b->len && i < sizeof(off_texts) / sizeof(*off_texts); i++)
		if (memmem(buf_peek(b), b->len, off_texts[i], strlen(off_texts[i])))
			vmm_end(v, EIO, "the guest switched itself off");
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

static void on_hypervisor_end(struct loop_watch *w, unsigned int events)
{
	struct vmm *v = w->ctx;
	int status = 0;

	take_text(v, &v->console_watch, &v->console_text, UINT_MAX);
	take_text(v, &v->messages_watch, &v->messages_text, UINT_MAX);
	while (waitpid(v->vm.pid, &status, 0) < 0 && errno == EINTR)
		;
	v->vm.pid = -1;
	loop_remove(v->loop, w);
	end_from_texts(v, status);
}

static void on_control(struct loop_watch *w, unsigned int events)
{
	char c[64];
	ssize_t n = read(w->fd, c, sizeof(c));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		vmm_end(w->ctx, ECANCELED, "its owner is gone");
}

static void on_signal(struct loop_watch *w, unsigned int events)
{
	struct signalfd_siginfo info;

	if (read(w->fd, &info, sizeof(info)) == sizeof(info))
		vmm_end(w->ctx, ECANCELED, "smolvm-vmm was ended by signal %u", info.ssi_signo);
}

static void on_listen(struct loop_watch *w, unsigned int events)
{
	struct vmm *v = w->ctx;
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0) {
		relay_accept(v, fd);
	} else if (errno == EMFILE || errno == ENFILE) {
		/* Turn the client away with the descriptor kept for this; else it would wait. */
		fd_close(&v->spare_fd);
		fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
		fd_close(&fd);
		v->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
}

static void on_deadline(struct loop_timer *t)
{
	struct vmm *v = t->ctx;
	char line[160];

	last_line(&v->console_text, line, sizeof(line));
	vmm_end(v, ETIMEDOUT, "the guest was not ready within %d s%s%s", VMM_BOOT_TIMEOUT_MS / 1000,
		*line ? "; the last that it said: " : " and said nothing", line);
}

/* ---- start ---- */

static int read_spec(struct vmm *v, struct smolvm_error *err)
{
	uint8_t header[MSG_HEADER];
	AUTO_FREE uint8_t *body = NULL;
	struct msg m;
	uint32_t len;

	if (fd_read_full(VMM_FD_CONTROL, header, sizeof(header)) != sizeof(header))
		return err_set(err, EPROTO, "smolvm-vmm is started by smolvm, not by hand");
	len = get_le32(header);
	body = len <= VMM_SPEC_MAX && msg_parse(header, MSG_HEADER, VMM_SPEC_MAX, &m) >= 0
		       ? malloc(len + 1)
		       : NULL;
	if (!body || header[4] != VMM_SPEC ||
	    fd_read_full(VMM_FD_CONTROL, body, len) != (ssize_t)len)
		return err_set(err, EBADMSG, "the machine's description is malformed");
	return spec_parse(v, body, len, err);
}

static int open_initramfs(struct vmm *v, struct smolvm_error *err)
{
	size_t len = (uintptr_t)initramfs_end - (uintptr_t)initramfs_start;
	int fd = fd_memfd("initramfs");

	if (fd < 0 || fd_write_all(fd, initramfs_start, len) < 0)
		return err_set(err, ENOMEM, "no memory for the initramfs");
	v->spec.initramfs_fd = fd;
	return 0;
}

/* Before there is any thread: one that does not block a signal would die of it. */
static int signal_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	sigaction(SIGXFSZ, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int watch(struct vmm *v, struct loop_watch *w, int fd,
		 void (*ready)(struct loop_watch *, unsigned int))
{
	*w = (struct loop_watch){ fd, LOOP_READ, ready, v };
	return loop_add(v->loop, w);
}

static int watch_all(struct vmm *v, int signals)
{
	int rc = watch(v, &v->control_watch, VMM_FD_CONTROL, on_control);

	rc = rc ? rc : watch(v, &v->listen_watch, VMM_FD_LISTEN, on_listen);
	rc = rc ? rc : watch(v, &v->pid_watch, v->vm.pidfd, on_hypervisor_end);
	rc = rc ? rc : watch(v, &v->console_watch, v->vm.console_fd, on_console);
	rc = rc ? rc : watch(v, &v->messages_watch, v->vm.messages_fd, on_messages);
	return rc ? rc : watch(v, &v->signal_watch, signals, on_signal);
}

static int start(struct vmm *v, struct smolvm_error *err)
{
	int rc = read_spec(v, err), signals = -1;

	if (rc == 0)
		rc = open_initramfs(v, err);
	if (rc == 0) {
		signals = signal_fd();
		/* Made by the child's birth, inherited by nobody else. */
		for (int fd = VMM_FD_CONTROL; fd < VMM_FD_SHARE + (int)SHARES_MAX; fd++)
			fd_set_cloexec(fd, 1);
		rc = v->backend->start(&v->spec, &v->vm, err);
	}
	if (rc < 0)
		return rc;
	tell_now(VMM_SPAWNED);
	for (unsigned int i = 0; rc == 0 && i < v->n_shares; i++)
		rc = share_create(v, i, VMM_FD_SHARE + (int)i, v->share_read_only[i], err);
	if (rc < 0)
		return rc;
	if (watch_all(v, signals) < 0 || channel_start(v) < 0)
		return err_nomem(err);
	v->deadline = (struct loop_timer){ .fired = on_deadline, .ctx = v };
	loop_arm(v->loop, &v->deadline, VMM_BOOT_TIMEOUT_MS);
	return 0;
}

static void kill_hypervisor(struct vmm *v)
{
	int status;

	if (v->vm.pid <= 0)
		return;
	proc_kill(v->vm.pidfd, SIGKILL);
	proc_wait(v->vm.pid, v->vm.pidfd, DEATH_WAIT_MS, &status);
}

/* The folder first, then its lock: who finds no lock finds no folder either. */
static void remove_run_dir(struct vmm *v)
{
	AUTO_FREE char *lock = NULL;

	if (!v->run_dir)
		return;
	path_remove_tree(v->run_dir);
	if (asprintf(&lock, "%s.lock", v->run_dir) < 0)
		lock = NULL;
	else
		unlink(lock);
}

int main(int argc, char **argv)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct vmm *v = calloc(1, sizeof(*v));
	struct rlimit files;
	int rc;

	if (argc > 1 && !strcmp(argv[1], "--version")) {
		puts("smolvm-vmm " SMOLVM_VMM_VERSION);
		return 0;
	}
	if (!v || !(v->loop = loop_create()))
		return 1;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	prctl(PR_SET_NAME, "smolvm-vmm");
	v->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	v->vm = (struct backend_vm){ -1, -1, -1, -1, -1 };
	buf_init(&v->console_text, CONSOLE_KEPT);
	buf_init(&v->messages_text, MESSAGES_KEPT);
	rc = start(v, &err);
	if (rc < 0) {
		v->ending = true;
		tell_ended(err.code, err.message);
	} else {
		channel_flush(v);
		rc = loop_run(v->loop);
	}
	kill_hypervisor(v);
	remove_run_dir(v);
	return rc ? 1 : 0;
}
