/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines that live as long as their owner: start and end.
 *
 * Theory of operation. The run folder with its lock comes first, so that a machine which any
 * command could see exists before any process of it. Disks, shares and the listening socket are
 * opened here and handed to smolvm-vmm, which then holds the only copy of the lock: a held lock
 * is a living machine. The control socket between the two is the machine's lifeline. Whichever
 * side dies, the other notices and clears up; when both are killed at once, nothing is left but a
 * folder whose lock is free, which the next smolvm removes.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/proc.h"
#include "machine/machine.h"
#include "proto/agent.h"
#include "proto/msg.h"
#include "proto/tlv.h"
#include "proto/vmm.h"
#include "store/lock.h"
#include "store/store.h"

#define CONTROL_BODY_MAX 4096
#define START_TIMEOUT_MS (VMM_BOOT_TIMEOUT_MS + 5000)
#define DESTROY_TIMEOUT_MS 15000
#define COUNTERS_TIMEOUT_MS 5000
#define LISTEN_BACKLOG 64

/**
 * struct start - what is open while a machine is being started.
 */
struct start {
	struct machine_plan plan;
	char name[64];
	char *run_dir, *kernel, *vmm_path;
	int lock_fd, listen_fd, control_fds[2];
	int disk_fds[2];
	int share_fds[SHARES_MAX];
	bool share_is_file[SHARES_MAX];
	size_t n_shares;
	struct smolvm_image *base_image;
};

/* ---- what smolvm-vmm says ---- */

static void take_ended(struct smolvm_machine *m, const struct msg *msg)
{
	struct tlv_reader r;
	struct tlv t;
	uint64_t n;

	m->ended = true;
	m->ended_errno = EIO;
	tlv_reader_init(&r, msg->body, msg->len);
	while (tlv_next(&r, &t) == 1) {
		if (t.key == FAILURE_ERRNO && tlv_u64(&t, &n) == 0 && n > 0 && n < 4096)
			m->ended_errno = (int)n;
		else if (t.key == FAILURE_TEXT)
			snprintf(m->ended_text, sizeof(m->ended_text), "%.*s", (int)t.len,
				 (const char *)t.data);
	}
}

/* Beside when it greeted: what it took to get there, from the end of the phase before. */
static void take_hello(struct smolvm_machine *m, const struct msg *msg)
{
	int64_t loaded, run, driver;

	if (msg->len != VMM_HELLO_BODY)
		return;
	m->boot.exits = get_le64(msg->body + 8);
	loaded = (int64_t)get_le64(msg->body + 16);
	run = (int64_t)get_le64(msg->body + 24);
	driver = (int64_t)get_le64(msg->body + 32);
	if (!loaded || !run || !driver)
		return;
	m->boot.load_ns = loaded - m->spawned_ns;
	m->boot.enter_ns = run - loaded;
	m->boot.driver_ns = driver - run;
}

static void take_counters(struct smolvm_machine *m, const struct msg *msg)
{
	uint64_t *counters = (uint64_t *)&m->counters;

	for (size_t i = 0; msg->len == sizeof(m->counters) && i < msg->len; i += sizeof(*counters))
		counters[i / sizeof(*counters)] = get_le64(msg->body + i);
}

static void lost(struct smolvm_machine *m, const char *why)
{
	m->ended = true;
	m->ended_errno = EIO;
	snprintf(m->ended_text, sizeof(m->ended_text), "%s", why);
}

/*
 * The next message, waiting at most @wait_ms. Return: its type with *@ret_ns, 0 when there is none
 * yet; after VMM_ENDED or the end of the socket m->ended is set. Called with the lock held.
 */
static int next_message(struct smolvm_machine *m, int wait_ms, int64_t *ret_ns)
{
	struct pollfd p = { .fd = m->control_fd, .events = POLLIN };
	struct msg msg;
	uint8_t *room;
	ssize_t n;
	long len;
	int type;

	len = msg_parse(buf_peek(&m->control_in), m->control_in.len, CONTROL_BODY_MAX, &msg);
	if (len == 0) {
		if (m->ended || poll(&p, 1, wait_ms) != 1)
			return 0;
		room = buf_reserve(&m->control_in, 1024);
		n = room ? recv(m->control_fd, room, 1024, MSG_DONTWAIT) : -1;
		if (n > 0)
			buf_commit(&m->control_in, (size_t)n);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			lost(m, "smolvm-vmm was killed; was the host out of memory?");
		len = msg_parse(buf_peek(&m->control_in), m->control_in.len, CONTROL_BODY_MAX,
				&msg);
	}
	if (len <= 0) {
		if (len < 0)
			lost(m, "smolvm-vmm sent nonsense");
		return 0;
	}
	type = msg.type;
	*ret_ns = msg.len >= 8 ? (int64_t)get_le64(msg.body) : 0;
	if (type == VMM_ENDED)
		take_ended(m, &msg);
	else if (type == VMM_SPAWNED)
		m->spawned_ns = *ret_ns;
	else if (type == VMM_HELLO)
		take_hello(m, &msg);
	else if (type == VMM_COUNTERS)
		take_counters(m, &msg);
	buf_drop(&m->control_in, (size_t)len);
	return type;
}

int machine_ended(struct smolvm_machine *m, int wait_ms, struct smolvm_error *err)
{
	int64_t ns;
	int rc = 0;

	pthread_mutex_lock(&m->lock);
	while (!m->ended && next_message(m, wait_ms, &ns))
		;
	if (m->ended)
		rc = err_set(err, m->ended_errno, "the machine ended: %s", m->ended_text);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

int smolvm_machine_counters(struct smolvm_machine *m, struct smolvm_vmm_counters *ret,
			    struct smolvm_error *err)
{
	int64_t ns, end = clock_ms() + COUNTERS_TIMEOUT_MS, left = COUNTERS_TIMEOUT_MS;
	uint8_t header[MSG_HEADER];
	int rc, type = 0;

	msg_header(header, VMM_COUNT, 0);
	pthread_mutex_lock(&m->lock);
	if (!m->ended && send(m->control_fd, header, sizeof(header), MSG_NOSIGNAL) >= 0)
		for (; !m->ended && type != VMM_COUNTERS && left > 0; left = end - clock_ms())
			type = next_message(m, (int)left, &ns);
	*ret = m->counters;
	pthread_mutex_unlock(&m->lock);
	rc = type == VMM_COUNTERS ? 0 : machine_ended(m, 0, err);
	if (rc == 0 && type != VMM_COUNTERS)
		rc = err_set(err, ETIMEDOUT, "the machine's process does not answer");
	if (rc == 0 && !ret->exits)
		rc = err_set(err, ENOTSUP, "this machine's backend does not count");
	return rc;
}

/* ---- start ---- */

static void start_fini(struct start *st)
{
	fd_close(&st->lock_fd);
	fd_close(&st->listen_fd);
	fd_close(&st->control_fds[0]);
	fd_close(&st->control_fds[1]);
	fd_close(&st->disk_fds[0]);
	fd_close(&st->disk_fds[1]);
	for (size_t i = 0; i < st->n_shares; i++)
		fd_close(&st->share_fds[i]);
	smolvm_image_free(st->base_image);
	free(st->run_dir);
	free(st->kernel);
	free(st->vmm_path);
}

static int find_programs(struct start *st, const struct smolvm_machine_config *c,
			 struct smolvm_error *err)
{
	st->plan.own_kernel = !c->kernel;
	st->vmm_path = program_file("smolvm-vmm");
	if (!st->vmm_path)
		return err_set(err, ENOENT,
			       "smolvm-vmm is neither beside this program nor installed: build "
			       "or install it, or name its folder with SMOLVM_LIBEXEC");
	st->kernel = c->kernel ? realpath(c->kernel, NULL) : program_file("vmlinux");
	if (!st->kernel && c->kernel)
		return err_sys(err, "cannot open the kernel %s", c->kernel);
	if (!st->kernel)
		return err_set(err, ENOENT,
			       "the guest kernel is not there: 'make' builds it, or give "
			       "one with --kernel");
	st->plan.kernel = st->kernel;
	return kernel_check(st->kernel, err);
}

static int open_shares(struct start *st, const struct smolvm_machine_config *c,
		       struct smolvm_error *err)
{
	for (size_t i = 0; i < c->n_shares; i++) {
		int fd = config_open_share(&c->shares[i], &st->share_is_file[i], err);

		if (fd < 0)
			return fd;
		st->share_fds[st->n_shares++] = fd;
	}
	st->plan.share_is_file = st->share_is_file;
	return 0;
}

static int open_disks(struct smolvm *s, struct start *st, const struct smolvm_machine_config *c,
		      struct smolvm_error *err)
{
	const char *path;
	int rc;

	st->plan.image = c->image;
	if (!c->image) {
		rc = smolvm_image_get(s, NULL, NULL, &st->base_image, err);
		if (rc < 0)
			return rc;
		st->plan.image = st->base_image;
	}
	path = st->plan.image->rootfs_path;
	st->disk_fds[0] = open(path, O_RDONLY | O_CLOEXEC);
	if (st->disk_fds[0] < 0)
		return err_sys(err, "cannot open the image's root file system %s", path);
	if (c->read_only)
		return 0;
	st->disk_fds[1] =
		scratch_create(s, c->storage_mib ? c->storage_mib : SMOLVM_STORAGE_MIB, err);
	st->plan.has_scratch = st->disk_fds[1] >= 0;
	return st->disk_fds[1] < 0 ? st->disk_fds[1] : 0;
}

/* The run folder, under the name asked for or one made up. */
static int take_name(struct smolvm *s, struct start *st, const struct smolvm_machine_config *c,
		     struct smolvm_error *err)
{
	uint32_t r;
	int rc = -EEXIST;

	for (int i = 0; i < 8 && rc == -EEXIST; i++) {
		if (c->name)
			snprintf(st->name, sizeof(st->name), "%s", c->name);
		else if (getrandom(&r, sizeof(r), 0) == sizeof(r))
			snprintf(st->name, sizeof(st->name), "sandbox-%08x", r);
		rc = rundir_create(store_run_dir(s), st->name, &st->run_dir, &st->lock_fd, err);
		if (rc == -EEXIST && c->name)
			return err_set(err, EEXIST,
				       "a machine called \"%s\" is running: choose another "
				       "name",
				       c->name);
	}
	st->plan.name = st->name;
	st->plan.run_dir = st->run_dir;
	return rc;
}

static int open_sockets(struct start *st, char **ret_path, struct smolvm_error *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	AUTO_FREE char *path = path_join(st->run_dir, "vm.sock");

	if (!path)
		return err_nomem(err);
	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, ENAMETOOLONG, "the path of the socket %s is too long", path);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	st->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (st->listen_fd < 0 || bind(st->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(st->listen_fd, LISTEN_BACKLOG) < 0)
		return err_sys(err, "cannot make the socket %s", path);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, st->control_fds) < 0)
		return err_sys(err, "cannot make a socket for the machine");
	*ret_path = ptr_take(path);
	return 0;
}

static int spawn_vmm(struct smolvm_machine *m, struct start *st, struct smolvm_error *err)
{
	const struct smolvm_machine_config *c = st->plan.config;
	const char *const argv[] = { "smolvm-vmm", st->name, NULL };
	struct proc_fd fds[16 + SHARES_MAX] = {
		{ st->control_fds[1], VMM_FD_CONTROL },
		{ st->lock_fd, VMM_FD_LOCK },
		{ st->listen_fd, VMM_FD_LISTEN },
		{ st->disk_fds[0], VMM_FD_DISK },
	};
	struct proc_config config = {
		.path = st->vmm_path, .argv = argv, .fds = fds, .n_fds = 4, .new_session = true
	};

	if (st->disk_fds[1] >= 0)
		fds[config.n_fds++] = (struct proc_fd){ st->disk_fds[1], VMM_FD_DISK + 1 };
	if (c->verbose)
		fds[config.n_fds++] =
			(struct proc_fd){ c->console_fd > 0 ? c->console_fd : 2, VMM_FD_CONSOLE };
	for (size_t i = 0; i < st->n_shares; i++)
		fds[config.n_fds++] = (struct proc_fd){ st->share_fds[i], VMM_FD_SHARE + (int)i };
	return proc_spawn(&config, &m->vmm_pid, &m->vmm_pidfd, err);
}

static int send_spec(struct smolvm_machine *m, struct start *st, struct smolvm_error *err)
{
	uint8_t header[MSG_HEADER];
	struct buf b;
	int rc;

	buf_init(&b, VMM_SPEC_MAX);
	rc = config_encode(&st->plan, &b, err);
	if (rc == 0) {
		msg_header(header, VMM_SPEC, (uint32_t)b.len);
		if (send(m->control_fd, header, sizeof(header), MSG_NOSIGNAL) < 0 ||
		    send(m->control_fd, buf_peek(&b), b.len, MSG_NOSIGNAL) != (ssize_t)b.len)
			rc = err_set(err, EIO, "smolvm-vmm did not start");
	}
	buf_fini(&b);
	return rc;
}

/* Wait for news of the start or for a cancellation. Return: 0 or -EINTR. */
static int wait_news(struct smolvm_machine *m, struct smolvm_control *control, int64_t deadline_ms)
{
	struct pollfd p[2] = { { .fd = m->control_fd, .events = POLLIN },
			       { .fd = control_fd(control), .events = POLLIN } };
	int64_t left = deadline_ms - clock_ms();
	struct control_record r;

	if (left <= 0)
		return -ETIMEDOUT;
	if (m->control_in.len == 0 && poll(p, 2, (int)left) < 0 && errno != EINTR)
		return -errno;
	while (control_take(control, &r))
		if (r.type == CONTROL_RECORD_CANCEL)
			return -EINTR;
	return 0;
}

static int wait_ready(struct smolvm_machine *m, struct smolvm_control *control, int64_t begun_ns,
		      struct smolvm_error *err)
{
	int64_t deadline_ms = clock_ms() + START_TIMEOUT_MS, last_ns = begun_ns, ns = 0;
	static const struct {
		enum vmm_msg msg;
		enum smolvm_phase phase;
	} steps[] = {
		{ VMM_SPAWNED, SMOLVM_PHASE_SPAWN },
		{ VMM_HELLO, SMOLVM_PHASE_KERNEL },
		{ VMM_READY, SMOLVM_PHASE_AGENT },
	};

	while (!m->ended) {
		int type = next_message(m, 0, &ns);
		int rc;

		for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
			if (type == (int)steps[i].msg) {
				m->phase_ns[steps[i].phase] = ns - last_ns;
				last_ns = ns;
			}
		}
		if (type == VMM_READY)
			return 0;
		if (type || m->ended)
			continue;
		rc = wait_news(m, control, deadline_ms);
		if (rc == -EINTR)
			return err_set(err, EINTR, "interrupted");
		if (rc < 0)
			return err_set(err, -rc, "the machine did not start: %s", strerror(-rc));
	}
	return err_set(err, m->ended_errno, "%s", m->ended_text);
}

static int run_start(struct smolvm *s, struct smolvm_machine *m, struct start *st,
		     const struct smolvm_machine_config *c, struct smolvm_error *err)
{
	int64_t begun_ns = clock_ns();
	int rc = config_check(c, err);

	st->plan.config = c;
	if (rc == 0)
		rc = choose_backend(s, c->backend, &st->plan.backend, &st->plan.probe, err);
	m->phase_ns[SMOLVM_PHASE_PROBE] = clock_ns() - begun_ns;
	begun_ns = clock_ns();
	if (rc == 0 && c->nested && !st->plan.probe.nested)
		rc = err_set(err, ENOTSUP,
			     "the backend %s cannot give a guest virtualization of its own here: "
			     "switch it on for KVM (modprobe kvm_intel or kvm_amd with nested=1), "
			     "or use a backend that emulates",
			     st->plan.backend->name);
	if (rc == 0)
		rc = find_programs(st, c, err);
	if (rc == 0)
		rc = open_shares(st, c, err);
	if (rc == 0)
		rc = open_disks(s, st, c, err);
	if (rc == 0)
		rc = take_name(s, st, c, err);
	if (rc < 0)
		return rc;
	assert(st->run_dir);
	m->name = strdup(st->name);
	m->runs_dir = strdup(store_run_dir(s));
	m->run_dir = strdup(st->run_dir);
	if (!m->name || !m->runs_dir || !m->run_dir)
		return err_nomem(err);
	rc = open_sockets(st, &m->socket_path, err);
	if (rc == 0)
		rc = spawn_vmm(m, st, err);
	if (rc < 0)
		return rc;
	m->control_fd = fd_take(&st->control_fds[0]);
	/* From here on smolvm-vmm alone has the lock and the rest. */
	fd_close(&st->control_fds[1]);
	fd_close(&st->lock_fd);
	rc = send_spec(m, st, err);
	return rc < 0 ? rc : wait_ready(m, c->control, begun_ns, err);
}

int smolvm_machine_start(struct smolvm *s, const struct smolvm_machine_config *config,
			 struct smolvm_machine **ret, struct smolvm_error *err)
{
	struct start st = {
		.lock_fd = -1, .listen_fd = -1, .control_fds = { -1, -1 }, .disk_fds = { -1, -1 }
	};
	struct smolvm_machine *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return err_nomem(err);
	m->vmm_pidfd = m->control_fd = -1;
	buf_init(&m->control_in, 2 * CONTROL_BODY_MAX);
	pthread_mutex_init(&m->lock, NULL);
	rc = run_start(s, m, &st, config, err);
	if (rc < 0 && st.run_dir && m->vmm_pidfd < 0)
		rundir_remove(store_run_dir(s), st.name, &st.lock_fd);
	start_fini(&st);
	if (rc < 0) {
		smolvm_machine_destroy(m);
		return rc;
	}
	*ret = m;
	return 0;
}

void smolvm_machine_destroy(struct smolvm_machine *m)
{
	int status;

	if (!m)
		return;
	fd_close(&m->control_fd);
	if (m->vmm_pidfd >= 0) {
		if (proc_wait(m->vmm_pid, m->vmm_pidfd, DESTROY_TIMEOUT_MS, &status) < 0) {
			proc_kill(m->vmm_pidfd, SIGKILL);
			proc_wait(m->vmm_pid, m->vmm_pidfd, DESTROY_TIMEOUT_MS, &status);
		}
		/* One that was killed could not clear up. */
		if (access(m->run_dir, F_OK) == 0)
			rundir_sweep(m->runs_dir);
	}
	fd_close(&m->vmm_pidfd);
	buf_fini(&m->control_in);
	pthread_mutex_destroy(&m->lock);
	free(m->socket_path);
	free(m->run_dir);
	free(m->runs_dir);
	free(m->name);
	free(m);
}

const char *smolvm_machine_name(const struct smolvm_machine *m)
{
	return m->name;
}

int64_t smolvm_machine_phase_ns(const struct smolvm_machine *m, enum smolvm_phase phase)
{
	return m->phase_ns[phase];
}

void smolvm_machine_boot(const struct smolvm_machine *m, struct smolvm_machine_boot *ret)
{
	*ret = m->boot;
}

int machine_connect(struct smolvm_machine *m, unsigned int port, struct smolvm_error *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char line[VMM_CONNECT_LINE_MAX];
	int n = snprintf(line, sizeof(line), "CONNECT %u\n", port);

	memcpy(addr.sun_path, m->socket_path, strlen(m->socket_path) + 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    send(fd, line, (size_t)n, MSG_NOSIGNAL) != n) {
		int rc = -errno;

		if (machine_ended(m, 1000, err) < 0)
			return -ECONNRESET;
		return err_set(err, -rc, "cannot reach the machine: %s", strerror(-rc));
	}
	return fd_take(&fd);
}
