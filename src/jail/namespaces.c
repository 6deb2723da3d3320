/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces: an empty view of files, a network of nothing, System V objects and a host name apart.
 *
 * Root makes them at once. Others make a user namespace first, in which they are alone: every
 * other owner then shows as "nobody". A process that serves files must show their owners, so with
 * shared folders it stays out of that and leaves files to Landlock, unless there is none.
 *
 * A descriptor of a directory is a way out: ".." leads up to the host's root. Before the old root
 * goes, each one is therefore replaced by an equal one that is the root of a mount of its own,
 * where ".." ends. That of /proc/self/fd, by which files are opened again, also gets its old place
 * in the new root, so that its name still works.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "jail/layers.h"

/* <sys/mount.h> and <linux/mount.h> cannot both be included everywhere. */
int mount(const char *source, const char *target, const char *type, unsigned long flags,
	  const void *data);
int umount2(const char *target, int flags);

#define M_RDONLY  1ul
#define M_NOSUID  2ul
#define M_NODEV	  4ul
#define M_NOEXEC  8ul
#define M_REMOUNT 32ul
#define M_MOVE	  8192ul
#define M_REC	  16384ul
#define M_PRIVATE (1ul << 18)
#define UMOUNT_DETACH 2

#define OUTER (CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
#define FDS_MAX 256 /* open directories; there are a few */
#define NEW_ROOT "/proc"
#define PROC_FD "proc/self/fd"

static int write_file(const char *path, const char *text)
{
	AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* Into new namespaces, by way of a user namespace where that takes it. Return: 0 or -errno. */
static int leave(int flags, bool *ret_user)
{
	unsigned int uid = geteuid(), gid = getegid();
	char map[64];
	int rc;

	*ret_user = false;
	if (unshare(flags) == 0)
		return 0;
	if (errno != EPERM || unshare(CLONE_NEWUSER | flags) < 0)
		return -errno;
	*ret_user = true;
	write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	rc = write_file("/proc/self/uid_map", map);
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	return rc < 0 ? rc : write_file("/proc/self/gid_map", map);
}

void namespaces_enter_outer(void)
{
	bool user;

	leave(OUTER, &user);
}

/* ---- open directories ---- */

/* Is @fd a share, or a duplicate of one? And one that is only read? */
static bool is_share(const struct jail_config *c, const struct stat *st, bool *ret_read_only)
{
	bool found = false;
	struct stat share;

	*ret_read_only = true;
	for (size_t i = 0; i < c->n_shares; i++) {
		if (fstat(c->shares[i].fd, &share) < 0 || share.st_ino != st->st_ino ||
		    share.st_dev != st->st_dev)
			continue;
		found = true;
		*ret_read_only &= c->shares[i].read_only;
	}
	return found;
}

/* Put in the place of @fd the root of a mount of its own. Return: 0 or -errno. */
static int cut_off(const struct jail_config *c, int fd, char *path, size_t cap)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };
	AUTO_FD tree = -1;
	bool share, read_only;
	struct stat old, new;
	char link[32];
	ssize_t n;

	if (fstat(fd, &old) < 0)
		return -errno;
	share = is_share(c, &old, &read_only);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, cap - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, path,
			    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW |
				    (share ? AT_RECURSIVE : 0));
	if (tree < 0)
		return -errno;
	if (fstat(tree, &new) < 0)
		return -errno;
	if (old.st_dev != new.st_dev || old.st_ino != new.st_ino)
		return -ESTALE; /* renamed, removed or mounted over */
	if (share && read_only)
		attr.attr_set |= MOUNT_ATTR_RDONLY;
	/* Older kernels lack this one; what it adds is enforced elsewhere, too. */
	syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr));
	return dup3(tree, fd, O_CLOEXEC) < 0 ? -errno : 0;
}

/* Which descriptors lead to files by name? Return: how many, or -errno. */
static int find_directories(int fds[FDS_MAX])
{
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *e;
	int n = 0;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		int fd = (int)strtol(e->d_name, NULL, 10), flags;
		struct stat st;

		if (e->d_name[0] == '.' || fd == dirfd(d) || fstat(fd, &st) < 0)
			continue;
		flags = fcntl(fd, F_GETFL);
		if (!S_ISDIR(st.st_mode) && !(flags >= 0 && (flags & O_PATH)))
			continue;
		if (n == FDS_MAX) {
			n = -EMFILE;
			break;
		}
		fds[n++] = fd;
	}
	closedir(d);
	return n;
}

static int cut_off_all(const struct jail_config *c, int *ret_proc_fd)
{
	int fds[FDS_MAX] = { 0 }, n = find_directories(fds), rc = n < 0 ? n : 0;
	char path[PATH_MAX], own[32];

	snprintf(own, sizeof(own), "/proc/%d/fd", getpid());
	for (int i = 0; rc == 0 && i < n; i++) {
		rc = cut_off(c, fds[i], path, sizeof(path));
		if (rc == 0 && !strcmp(path, own))
			*ret_proc_fd = fds[i];
	}
	return rc;
}

/* ---- the root ---- */

static int make_folders(const char *path)
{
	char part[64];

	for (const char *p = path; p; p = strchr(p + 1, '/')) {
		const char *end = strchr(p + 1, '/');

		snprintf(part, sizeof(part), "%.*s", (int)(end ? end - path : (long)strlen(path)),
			 path);
		if (mkdir(part, 0555) < 0)
			return -errno;
	}
	return 0;
}

static int pivot(void)
{
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		return umount2(".", UMOUNT_DETACH) < 0 ? -errno : 0;
	/* The root may be one that cannot be exchanged (an initramfs): cover it. */
	if (errno != EINVAL || mount(".", "/", NULL, M_MOVE, NULL) < 0 || chroot(".") < 0)
		return -errno;
	return 0;
}

static int empty_root(int proc_fd)
{
	const unsigned long flags = M_NOSUID | M_NODEV | M_NOEXEC;
	const char *options = "mode=555,size=4k,nr_inodes=8";
	int rc = 0;

	if (mount("none", NEW_ROOT, "tmpfs", flags, options) < 0 || chdir(NEW_ROOT) < 0)
		return -errno;
	if (proc_fd >= 0) {
		AUTO_FD again = dup(proc_fd);

		rc = make_folders(PROC_FD);
		/* Moved: the descriptor stays what it is, the root of that mount. */
		if (rc == 0 && syscall(SYS_move_mount, again, "", AT_FDCWD, PROC_FD,
				       MOVE_MOUNT_F_EMPTY_PATH) < 0)
			rc = -errno;
	}
	if (rc == 0 && mount("none", ".", NULL, M_REMOUNT | M_RDONLY | flags, options) < 0)
		rc = -errno;
	rc = rc < 0 ? rc : pivot();
	return rc == 0 && chdir("/") < 0 ? -errno : rc;
}

void namespaces_enter(const struct jail_config *c, struct jail_status *s)
{
	const char *step = "making them";
	int proc_fd = -1, rc;
	bool user = false;

	if (geteuid() != 0 && c->n_shares && landlock_suits(c)) {
		status_set(s, false,
			   "left to Landlock: with shared folders, owners would not show");
		return;
	}
	rc = leave(OUTER | CLONE_NEWNS, &user);
	if (rc == 0) {
		step = "parting the mounts";
		rc = mount(NULL, "/", NULL, M_REC | M_PRIVATE, NULL) < 0 ? -errno : 0;
	}
	if (rc == 0) {
		step = "cutting off open directories";
		rc = cut_off_all(c, &proc_fd);
	}
	if (rc == 0) {
		step = "an empty root";
		rc = empty_root(proc_fd);
	}
	if (rc < 0)
		status_set(s, false, "refused (%s: %s)", step, strerror(-rc));
	else
		status_set(s, true, "%san empty root, no network, IPC or host name of the host",
			   user ? "by a user namespace: " : "");
}
