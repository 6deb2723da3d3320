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
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "proto/tlv.h"
#include "vmmproc/vmm.h"

/* syscalls (main): accept4 sendto recvfrom fcntl(F_DUPFD_CLOEXEC) */

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

void vmmproc_tell_ended(int error, const char *text)
{
	struct buf b;

	buf_init(&b, 1000);
	if (tlv_put_u64(&b, FAILURE_ERRNO, (uint64_t)error) == 0 &&
	    tlv_put_str(&b, FAILURE_TEXT, text) == 0)
		tell(VMM_ENDED, buf_peek(&b), b.len);
	buf_fini(&b);
}

void vmmproc_end(struct vmm *v, int error, const char *fmt, ...)
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
	vmmproc_tell_ended(error, printable.message);
	loop_stop(v->loop, error);
}

static void tell_hello(struct vmm *v)
{
	struct backend_stats stats = { 0 };
	uint8_t body[VMM_HELLO_BODY];

	if (v->runner->stats)
		v->runner->stats(&v->vm, &stats);
	put_le64(body, (uint64_t)clock_ns());
	put_le64(body + 8, stats.counters.exits);
	put_le64(body + 16, (uint64_t)stats.loaded);
	put_le64(body + 24, (uint64_t)stats.run);
	put_le64(body + 32, (uint64_t)stats.driver);
	tell(VMM_HELLO, body, sizeof(body));
}

static void tell_counters(struct vmm *v)
{
	struct backend_stats stats = { 0 };
	const uint64_t *counters = (const uint64_t *)&stats.counters;
	uint8_t body[sizeof(stats.counters)];

	if (v->runner->stats)
		v->runner->stats(&v->vm, &stats);
	for (size_t i = 0; i < sizeof(body); i += sizeof(*counters))
		put_le64(body + i, counters[i / sizeof(*counters)]);
	tell(VMM_COUNTERS, body, sizeof(body));
}

void vmmproc_greeted(struct vmm *v)
{
	tell_hello(v);
	boot_setup(v);
}

void vmmproc_ready(struct vmm *v)
{
	v->ready = true;
	loop_cancel(v->loop, &v->deadline);
	tell_now(VMM_READY);
}

/* ---- events ---- */

/* The client asks for the counters, or is gone. */
static void on_control(struct loop_watch *w, unsigned int events)
{
	uint8_t header[MSG_HEADER];
	struct msg m;
	ssize_t n = read(w->fd, header, sizeof(header));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		vmmproc_end(w->ctx, ECANCELED, "its owner is gone");
	else if (n > 0 && msg_parse(header, (size_t)n, 0, &m) > 0 && m.type == VMM_COUNT)
		tell_counters(w->ctx);
}

static void on_signal(struct loop_watch *w, unsigned int events)
{
	struct signalfd_siginfo info;

	if (read(w->fd, &info, sizeof(info)) == sizeof(info))
		vmmproc_end(w->ctx, ECANCELED, "smolvm-vmm was ended by signal %u", info.ssi_signo);
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
		v->spare_fd = fcntl(w->fd, F_DUPFD_CLOEXEC, 3);
	}
}

static void on_deadline(struct loop_timer *t)
{
	struct vmm *v = t->ctx;
	char line[160];

	ending_last_line(v, line, sizeof(line));
	vmmproc_end(v, ETIMEDOUT, "the guest was not ready within %d s%s%s",
		    VMM_BOOT_TIMEOUT_MS / 1000,
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

/* The signals that supervise() has blocked. */
static int signal_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
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
	rc = rc ? rc : watch(v, &v->signal_watch, signals, on_signal);
	rc = rc ? rc : ending_watch(v);
	return rc ? rc : carrier_start(v);
}

static int on_incoming(void *ctx, uint32_t port)
{
	return carrier_incoming(ctx, port);
}

static bool is_directory(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

/* What the backend is asked for; the first of the shared directories as devices, if it can. */
static void complete_spec(struct vmm *v)
{
	struct backend_spec *s = &v->spec;

	s->initramfs = initramfs_start;
	s->initramfs_bytes = (uintptr_t)initramfs_end - (uintptr_t)initramfs_start;
	s->folder_tag = SHARE_TAG;
	s->events = (struct backend_events){ .incoming = on_incoming, .ctx = v };
	for (unsigned int i = 0; !v->stream_shares && i < v->n_shares; i++)
		if (s->n_folders < BACKEND_FOLDERS_MAX && is_directory(VMM_FD_SHARE + (int)i))
			s->folders[s->n_folders++] = (struct backend_folder){
				VMM_FD_SHARE + (int)i, i, v->shares[i].read_only
			};
}

static int open_shares(struct vmm *v, struct smolvm_error *err)
{
	int rc = 0;

	for (size_t i = 0; v->vm.extras & BACKEND_FOLDERS && i < v->spec.n_folders; i++)
		v->shares[v->spec.folders[i].number].device = true;
	for (unsigned int i = 0; rc == 0 && i < v->n_shares; i++) {
		v->shares[i].vmm = v;
		v->shares[i].number = i;
		if (!v->shares[i].device)
			rc = share_create(v, i, VMM_FD_SHARE + (int)i, err);
	}
	return rc;
}

/* Everything that has a name, and every process: after this the machine needs nothing more. */
static int open_all(struct vmm *v, struct smolvm_error *err)
{
	int signals = signal_fd(), rc;

	/* Made by the child's birth, inherited by nobody else. */
	for (int fd = VMM_FD_CONTROL; fd < VMM_FD_SHARE + (int)SHARES_MAX; fd++)
		fd_set_cloexec(fd, 1);
	if (signals < 0 || pipe2(v->arrivals, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(err, "cannot start");
	complete_spec(v);
	confine_prepare(v);
	rc = v->runner->open(&v->spec, &v->vm, err);
	if (rc < 0)
		return rc;
	tell_now(VMM_SPAWNED);
	rc = open_shares(v, err);
	if (rc < 0)
		return rc;
	return watch_all(v, signals) < 0 ? err_nomem(err) : 0;
}

/* Open everything, give up what was needed for it, then let the guest run. */
static int start(struct vmm *v, struct smolvm_error *err)
{
	int rc = read_spec(v, err);

	rc = rc ? rc : supervise(v, err);
	rc = rc ? rc : open_all(v, err);
	rc = rc ? rc : confine(v, err);
	rc = rc ? rc : share_start_all(v, err);
	if (rc == 0 && v->runner->prepare)
		rc = v->runner->prepare(&v->vm, err);
	if (rc == 0 && confine_thread(v, JAIL_MAIN) < 0)
		rc = err_set(err, EPERM, "the machine's process cannot be confined");
	if (rc == 0 && v->runner->run)
		rc = v->runner->run(&v->vm, err);
	if (rc < 0)
		return rc;
	v->deadline = (struct loop_timer){ .fired = on_deadline, .ctx = v };
	loop_arm(v->loop, &v->deadline, VMM_BOOT_TIMEOUT_MS);
	return 0;
}

int main(int argc, char **argv)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct vmm *v = calloc(1, sizeof(*v));
	struct rlimit files;
	int rc;

	if (argc > 1 && !strcmp(argv[1], "--confinement"))
		return confine_report();
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
	v->vm = (struct backend_vm)BACKEND_VM_INIT;
	buf_init(&v->console_text, CONSOLE_KEPT);
	buf_init(&v->messages_text, MESSAGES_KEPT);
	rc = start(v, &err);
	if (rc < 0) {
		v->ending = true;
		vmmproc_tell_ended(err.code, err.message);
	} else {
		channel_flush(v);
		rc = loop_run(v->loop);
	}
	if (v->vm.runner)
		v->vm.runner->kill(&v->vm);
	if (!v->parent) /* there is no supervisor yet */
		supervise_clear(v->run_dir);
	return rc ? 1 : 0;
}
