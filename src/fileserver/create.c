/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making files, directories, links and special files.
 *
 * With privilege they are made as this process's own and then given to the requester: changing
 * the user for the time of the call would lose the supplementary groups that the guest's kernel
 * has already allowed for.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "fileserver/server.h"

/* syscalls (fs): openat mknodat mkdirat symlinkat */

/* ---- owner and mode ---- */

struct wanted {
	uid_t uid;
	gid_t gid;
	mode_t mode; /* 07777 */
};

/* What the file that @st describes should be like; below a set-gid directory the group stays. */
static int wanted_of(const struct fileserver *fs, const struct request *req, int dir_fd,
		     mode_t mode, const struct stat *st, struct wanted *w)
{
	struct stat dir;

	*w = (struct wanted){ st->st_uid, st->st_gid, mode & 07777 };
	if (S_ISDIR(mode))
		w->mode |= st->st_mode & S_ISGID;
	if (S_ISLNK(mode))
		w->mode = st->st_mode & 07777;
	if (!fs->ids.privileged)
		return 0;
	if (fstat(dir_fd, &dir) < 0)
		return -errno;
	w->uid = req->head.uid;
	if ((dir.st_mode & S_ISGID) == 0)
		w->gid = req->head.gid;
	return 0;
}

static bool is_wanted(const struct wanted *w, const struct stat *st)
{
	return w->uid == st->st_uid && w->gid == st->st_gid && w->mode == (st->st_mode & 07777);
}

/* Open what was just made at a name, unless somebody has put another file there. */
static int open_made(const struct fileserver *fs, int dir_fd, const char *name,
		     const struct stat *st)
{
	int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat now;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &now) < 0 || now.st_ino != st->st_ino || now.st_dev != st->st_dev ||
	    now.st_mode != st->st_mode || now.st_uid != fs->ids.uid ||
	    (!S_ISDIR(now.st_mode) && now.st_nlink != 1)) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

int made_by(struct fileserver *fs, const struct request *req, int dir_fd, const char *name, int fd,
	    mode_t mode, struct stat *st)
{
	AUTO_FD opened = -1;
	struct wanted w;
	char proc[12];
	int r;

	if ((fd >= 0 ? fstat(fd, st) : fstatat(dir_fd, name, st, AT_SYMLINK_NOFOLLOW)) < 0)
		return -errno;
	r = wanted_of(fs, req, dir_fd, mode, st, &w);
	if (r < 0 || is_wanted(&w, st))
		return r;
	if (fd < 0) {
		if ((st->st_mode & S_IFMT) != (mode & S_IFMT))
			return -ESTALE;
		opened = open_made(fs, dir_fd, name, st);
		fd = opened;
		if (fd < 0)
			return fd;
	}
	if ((w.uid != st->st_uid || w.gid != st->st_gid) &&
	    fchownat(fd, "", w.uid, w.gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (!S_ISLNK(mode) && fchmodat(fs->proc_fd, fd_name(proc, fd), w.mode, 0) < 0)
		return -errno;
	return fstat(fd, st) < 0 ? -errno : 0;
}

/* ---- operations ---- */

/* Tell the guest of what was made, or remove it when @r says that it went wrong. */
static int finish(struct fileserver *fs, struct request *req, struct reply *rep, int r,
		  const char *name, const struct stat *st)
{
	struct fuse_entry_out out;
	struct node *n;

	if (r < 0)
		return r;
	n = node_found(fs, req->node, name, st);
	if (n == NULL)
		return -ENOMEM;
	entry_fill(fs, n, st, false, &out);
	reply_add(rep, &out, sizeof(out));
	return 0;
}

static int make_regular(int dir_fd, const char *name, mode_t mode)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			mode & 07777);

	return fd < 0 ? -errno : fd;
}

int op_mknod(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_mknod_in in;
	AUTO_FD fd = -1;
	const char *name;
	struct stat st;
	int dir, r;

	request_take(req, &in, sizeof(in));
	r = request_name(req, &name);
	if (r < 0)
		return r;
	dir = node_dir_fd(fs, req->node);
	if (dir < 0)
		return dir;
	switch (in.mode & S_IFMT) {
	case S_IFREG:
		fd = make_regular(dir, name, in.mode);
		r = fd < 0 ? fd : 0;
		break;
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		r = mknodat(dir, name, in.mode & (S_IFMT | 07777),
			    makedev(wire_major(in.rdev), wire_minor(in.rdev)));
		r = r < 0 ? -errno : 0;
		break;
	default:
		r = -EINVAL;
	}
	if (r < 0)
		return r;
	r = made_by(fs, req, dir, name, fd, in.mode, &st);
	if (r < 0)
		unlinkat(dir, name, 0);
	return finish(fs, req, rep, r, name, &st);
}

int op_mkdir(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_mkdir_in in;
	const char *name;
	struct stat st;
	int dir, r;

	request_take(req, &in, sizeof(in));
	r = request_name(req, &name);
	if (r < 0)
		return r;
	dir = node_dir_fd(fs, req->node);
	if (dir < 0)
		return dir;
	if (mkdirat(dir, name, in.mode & 07777) < 0)
		return -errno;
	r = made_by(fs, req, dir, name, -1, S_IFDIR | (in.mode & 07777), &st);
	if (r < 0)
		unlinkat(dir, name, AT_REMOVEDIR);
	return finish(fs, req, rep, r, name, &st);
}

int op_symlink(struct fileserver *fs, struct request *req, struct reply *rep)
{
	const char *name, *target;
	struct stat st;
	int dir, r;

	r = request_name(req, &name);
	if (r == 0)
		r = request_text(req, PATH_MAX - 1, &target);
	if (r != 0)
		return r;
	dir = node_dir_fd(fs, req->node);
	if (dir < 0)
		return dir;
	if (symlinkat(target, dir, name) < 0)
		return -errno;
	r = made_by(fs, req, dir, name, -1, S_IFLNK | 0777, &st);
	if (r < 0)
		unlinkat(dir, name, 0);
	return finish(fs, req, rep, r, name, &st);
}

/*
 * The name was there already, which the guest did not know: open that, if it is a regular file.
 * Anything else is the guest's kernel's business; ESTALE makes it look again.
 */
static int open_existing(struct fileserver *fs, int dir_fd, const char *name, int flags,
			 struct stat *st)
{
	AUTO_FD path = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int fd;

	if (path < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	if (fstat(path, st) < 0 || !S_ISREG(st->st_mode))
		return -ESTALE;
	fd = file_reopen(fs, path, flags);
	if (fd >= 0 && fstat(fd, st) < 0) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/* Return: the open file or -errno; *@st describes it. */
static int create_or_open(struct fileserver *fs, struct request *req, int dir_fd, const char *name,
			  const struct fuse_create_in *in, struct stat *st)
{
	int flags = file_flags(fs, in->flags), fd, r;

	if (flags < 0)
		return flags;
	fd = openat(dir_fd, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    in->mode & 07777);
	if (fd < 0 && errno == EEXIST && (in->flags & O_EXCL) == 0)
		return open_existing(fs, dir_fd, name, flags, st);
	if (fd < 0)
		return -errno;
	r = made_by(fs, req, dir_fd, name, fd, S_IFREG | (in->mode & 07777), st);
	if (r < 0) {
		unlinkat(dir_fd, name, 0);
		close(fd);
		return r;
	}
	return fd;
}

int op_create(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_create_in in;
	struct fuse_entry_out entry;
	struct fuse_open_out out = { 0 };
	AUTO_FD fd = -1;
	const char *name;
	struct node *n;
	struct stat st;
	int dir, r;

	request_take(req, &in, sizeof(in));
	r = request_name(req, &name);
	if (r < 0)
		return r;
	dir = node_dir_fd(fs, req->node);
	if (dir < 0)
		return dir;
	if (fs->handles.used >= fs->handles.limit)
		return -ENFILE;
	fd = create_or_open(fs, req, dir, name, &in, &st);
	if (fd < 0)
		return fd;
	n = node_found(fs, req->node, name, &st);
	if (n == NULL)
		return -ENOMEM;
	r = handle_add(fs, n, fd, false, &out.fh);
	if (r < 0) {
		node_put(fs, n);
		return r;
	}
	fd_take(&fd);
	entry_fill(fs, n, &st, false, &entry);
	reply_add(rep, &entry, sizeof(entry));
	reply_add(rep, &out, sizeof(out));
	return 0;
}
