/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounting shared folders.
 *
 * A child process makes the mount points and mounts, one folder after the other, and reports each
 * through a pipe; the agent carries a folder's requests from that report on. So the child may wait
 * for a folder that is already mounted (to make a mount point in it) without anybody waiting for
 * the child. Folders that are virtio-fs devices are mounted the same way, in their turn, once the
 * host has been told whose their files are.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/device.h"
#include "agent/root.h"
#include "agent/share.h"
#include "agent/share_fs.h"
#include "agent/share_relay.h"
#include "base/err.h"
#include "base/fd.h"

#define TIMEOUT_MS 30000

/* What the child says: folder @index is mounted, or (with an error) all is over. */
struct report {
	uint32_t index;
	struct smolvm_error err;
};

/**
 * struct mounting - the agent's side.
 * @fd:     reports are read from it; -1 before there is a child.
 * @fs:     the host's answers for virtio-fs devices, which come first.
 * @failed: somebody has said why in @err.
 */
struct mounting {
	struct agent *agent;
	struct share_mounts m;
	setup_done_fn *done;
	void *ctx;
	struct loop_watch watch;
	struct loop_timer timer;
	struct child child;
	struct share_fs fs;
	int fd;
	bool failed;
	struct smolvm_error err;
};

static bool is_fs(const struct share_mounts *m, const struct share_spec *spec)
{
	return m->fs_shares >> spec->number & 1;
}

/* ---- in the child ---- */

static int make_mount_point(const struct share_spec *spec, struct smolvm_error *err)
{
	AUTO_FREE char *parent = strdup(spec->path);
	AUTO_FD fd = -1;
	struct stat st;
	int rc;

	if (!parent)
		return err_nomem(err);
	if (!spec->path[strspn(spec->path, "/")])
		return err_set(err, EINVAL, "a shared folder cannot be mounted on /");
	if (stat(spec->path, &st) == 0) {
		if (S_ISDIR(st.st_mode) == !spec->is_file)
			return 0;
		return err_set(err, spec->is_file ? EISDIR : ENOTDIR,
			       "sharing at %s: the image has a %s there", spec->path,
			       spec->is_file ? "directory" : "file");
	}
	if (spec->is_file)
		*strrchr(parent, '/') = '\0';
	rc = *parent ? root_make_dirs(parent) : 0;
	if (rc == 0 && spec->is_file) {
		fd = open(spec->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		rc = fd < 0 ? -errno : 0;
	}
	return rc == 0 ? 0 : err_set(err, -rc, "making the mount point %s: %s", spec->path,
				     strerror(-rc));
}

/*
 * Let the kernel read as much ahead as one request can hold. Nobody serves the folder yet: its root
 * may only be asked what the kernel knows by itself. Without this reading is slower, no more.
 */
static void read_far_ahead(const char *path)
{
	unsigned int major, minor;
	char name[80], kib[16];
	int n;

	if (device_of(path, &major, &minor) < 0)
		return;
	snprintf(name, sizeof(name), "/sys/class/bdi/%u:%u/read_ahead_kb", major, minor);
	n = snprintf(kib, sizeof(kib), "%u", SHARE_DATA_MAX >> 10);
	{
		AUTO_FD fd = open(name, O_WRONLY | O_CLOEXEC);

		if (fd >= 0)
			fd_write_all(fd, kib, (size_t)n);
	}
}

static int mount_stream(const struct share_spec *spec, unsigned long flags)
{
	int fd = share_fd(spec->number);
	char options[160];

	snprintf(options, sizeof(options), "fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other,"
		 "default_permissions,max_read=%u", fd, spec->is_file ? S_IFREG : S_IFDIR,
		 SHARE_DATA_MAX);
	if (mount("smolvm", spec->path, "fuse", flags, options) < 0)
		return -1;
	close(fd);
	return 0;
}

static int mount_device(const struct share_spec *spec, unsigned long flags)
{
	char tag[32];

	snprintf(tag, sizeof(tag), SHARE_TAG "%u", spec->number);
	return mount(tag, spec->path, "virtiofs", flags, NULL);
}

static int mount_one(const struct share_mounts *m, const struct share_spec *spec,
		     struct smolvm_error *err)
{
	unsigned long flags = MS_NODEV | (spec->read_only ? MS_RDONLY : 0);
	int rc = make_mount_point(spec, err);

	if (rc < 0)
		return rc;
	rc = is_fs(m, spec) ? mount_device(spec, flags) : mount_stream(spec, flags);
	if (rc < 0)
		return err_sys(err, "mounting a shared folder at %s", spec->path);
	read_far_ahead(spec->path);
	return 0;
}

static _Noreturn void child_run(const struct share_mounts *m, int report_fd)
{
	struct report r = { .index = 0 };

	for (uint32_t i = 0; i < m->n; i++) {
		memset(&r, 0, sizeof(r));
		r.index = i;
		if (mount_one(m, &m->shares[i], &r.err) < 0)
			break;
		fd_write_all(report_fd, &r, sizeof(r));
	}
	if (!r.err.code && m->then_read_only)
		root_make_read_only(&r.err);
	if (r.err.code)
		fd_write_all(report_fd, &r, sizeof(r));
	_exit(r.err.code ? 1 : 0);
}

/* ---- in the agent ---- */

static void finish(struct mounting *mg, int rc)
{
	struct agent *a = mg->agent;

	loop_remove(a->loop, &mg->watch);
	fd_close(&mg->fd);
	loop_cancel(a->loop, &mg->timer);
	share_fs_cancel(&mg->fs);
	mg->done(mg->ctx, rc, &mg->err);
	free(mg);
	carrier_flush(a->carrier);
}

static void read_reports(struct mounting *mg)
{
	struct report r;

	while (!mg->failed && read(mg->fd, &r, sizeof(r)) == (ssize_t)sizeof(r)) {
		if (r.err.code || r.index >= mg->m.n) {
			mg->failed = true;
			mg->err = r.err;
			mg->err.message[sizeof(mg->err.message) - 1] = '\0';
		} else {
			share_begin(mg->m.shares[r.index].number);
		}
	}
}

static void on_report(struct loop_watch *w, unsigned int events)
{
	struct mounting *mg = w->ctx;

	read_reports(mg);
	if (events & LOOP_HANGUP) /* its end is told by its status */
		loop_remove(mg->agent->loop, w);
}

static void on_exit_of_child(struct child *c, int status)
{
	struct mounting *mg = c->ctx;

	read_reports(mg);
	if (!mg->failed && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
		mg->failed = true;
		err_set(&mg->err, EIO, "mounting shared folders: the helper died");
	}
	for (size_t i = 0; i < mg->m.n && !mg->failed; i++) {
		if (!is_fs(&mg->m, &mg->m.shares[i]) && share_fd(mg->m.shares[i].number) < 0) {
			mg->failed = true;
			err_set(&mg->err, EIO, "the host does not serve the shared folder at %s",
				mg->m.shares[i].path);
		}
	}
	finish(mg, mg->failed ? -mg->err.code : 0);
}

static void on_timeout(struct loop_timer *t)
{
	struct mounting *mg = t->ctx;

	if (mg->child.pid > 0)
		kill(mg->child.pid, SIGKILL);
	children_forget(&mg->agent->children, &mg->child);
	finish(mg, err_set(&mg->err, ETIMEDOUT,
			   "mounting shared folders: the host does not answer"));
}

static int start_child(struct mounting *mg, struct smolvm_error *err)
{
	struct agent *a = mg->agent;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(err, "making a pipe");
	mg->fd = fds[0];
	fd_set_nonblock(mg->fd, 1);
	mg->child = (struct child){ .exited = on_exit_of_child, .ctx = mg };
	mg->child.pid = children_fork();
	if (mg->child.pid == 0)
		child_run(&mg->m, fds[1]);
	close(fds[1]);
	if (mg->child.pid < 0)
		return err_sys(err, "starting a process");
	children_add(&a->children, &mg->child);
	mg->watch = (struct loop_watch){ .fd = mg->fd, .events = LOOP_READ, .ready = on_report,
					 .ctx = mg };
	loop_add(a->loop, &mg->watch);
	return 0;
}

static void on_fs_answers(void *ctx, int result, uint32_t number)
{
	struct mounting *mg = ctx;

	if (result < 0)
		err_set(&mg->err, -result, "the host does not serve shared folder %u: %s",
			(unsigned int)number, strerror(-result));
	else
		result = start_child(mg, &mg->err);
	if (result < 0)
		finish(mg, result);
}

/* Ask the host for each folder. */
static int ask_all(struct mounting *mg, struct smolvm_error *err)
{
	const struct share_mounts *m = &mg->m;
	int rc = 0;

	for (size_t i = 0; i < m->n && rc == 0; i++) {
		uint32_t number = m->shares[i].number;

		if (!is_fs(m, &m->shares[i])) {
			rc = share_create(mg->agent, number, m->uid, m->gid, err);
			continue;
		}
		rc = share_fs_add(mg->agent, &mg->fs, number, m->uid, m->gid);
		if (rc < 0)
			err_set(err, -rc, "asking the host for a shared folder: %s", strerror(-rc));
	}
	return rc;
}

int share_mount_all(struct agent *a, const struct share_mounts *m, setup_done_fn *done, void *ctx,
		    struct smolvm_error *err)
{
	struct mounting *mg = calloc(1, sizeof(*mg));
	int rc;

	if (!mg)
		return err_nomem(err);
	*mg = (struct mounting){ .agent = a, .m = *m, .done = done, .ctx = ctx, .fd = -1 };
	mg->watch.fd = -1;
	mg->timer = (struct loop_timer){ .fired = on_timeout, .ctx = mg };
	mg->fs.done = on_fs_answers;
	mg->fs.ctx = mg;
	rc = ask_all(mg, err);
	if (rc == 0 && !mg->fs.n_pending)
		rc = start_child(mg, err);
	if (rc < 0) {
		share_fs_cancel(&mg->fs);
		fd_close(&mg->fd);
		free(mg);
		return rc;
	}
	loop_arm(a->loop, &mg->timer, TIMEOUT_MS);
	return 0;
}
