/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes: showing them, setting them.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "fileserver/server.h"

/* syscalls (fs): fstat newfstatat statx faccessat faccessat2 fchmod fchmodat fchownat ftruncate
 * utimensat */

#define TICK_NS 100000000 /* more than a tick of any kernel */

/* ---- showing ---- */

uint64_t attr_ino(const struct fileserver *fs, uint64_t dev, uint64_t ino)
{
	uint64_t root = fs->nodes.table[NODE_ROOT].node->dev;

	return dev == root ? ino : ino ^ (dev ^ root) * 0x9e3779b97f4a7c15u;
}

int64_t attr_ctime_ns(const struct stat *st)
{
	return (int64_t)((uint64_t)st->st_ctim.tv_sec * 1000000000u +
			 (uint64_t)st->st_ctim.tv_nsec);
}

void attr_fill(const struct fileserver *fs, const struct stat *st, struct fuse_attr *a)
{
	*a = (struct fuse_attr){
		.ino = attr_ino(fs, st->st_dev, st->st_ino),
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.rdev = wire_dev(major(st->st_rdev), minor(st->st_rdev)),
		.blksize = (uint32_t)st->st_blksize,
	};
	ids_show(&fs->ids, st, &a->uid, &a->gid);
}

/*
 * Could the file change again without another ctime? The host's clock for files ticks every few
 * milliseconds only.
 */
static bool just_changed(const struct stat *st)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - attr_ctime_ns(st) < TICK_NS;
}

void entry_fill(struct fileserver *fs, struct node *n, const struct stat *st, bool listed,
		struct fuse_entry_out *e)
{
	if (listed && n->type == S_IFREG && just_changed(st))
		listed = false;
	*e = (struct fuse_entry_out){
		.nodeid = node_id(fs, n),
		.attr_valid = VALID_ATTR_S,
		.entry_valid = listed || n->type != S_IFREG ? VALID_NAME_S : 0,
	};
	attr_fill(fs, st, &e->attr);
	n->nlookup++;
	n->told_ns = attr_ctime_ns(st);
	n->listed = listed;
}

static int reply_attr(struct fileserver *fs, struct node *n, const struct stat *st,
		      struct reply *rep)
{
	struct fuse_attr_out out = { .attr_valid = VALID_ATTR_S };

	attr_fill(fs, st, &out.attr);
	n->told_ns = attr_ctime_ns(st);
	reply_add(rep, &out, sizeof(out));
	return 0;
}

int op_getattr(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_getattr_in in;
	struct handle *h = NULL;
	struct stat st;
	int r;

	request_take(req, &in, sizeof(in));
	if ((in.getattr_flags & FUSE_GETATTR_FH) != 0)
		h = handle_get(fs, in.fh, false);
	if (h != NULL && h->node == req->node->index)
		r = fstat(h->fd, &st) < 0 ? -errno : 0;
	else
		r = node_stat(fs, req->node, &st);
	return r != 0 ? r : reply_attr(fs, req->node, &st, rep);
}

int op_access(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_access_in in;
	struct node_fd nfd;
	char name[12];
	int r;

	request_take(req, &in, sizeof(in));
	if ((in.mask & ~(uint32_t)(R_OK | W_OK | X_OK)) != 0)
		return -EINVAL;
	if ((in.mask & W_OK) != 0 && fs->read_only)
		return -EROFS;
	r = node_fd(fs, req->node, &nfd);
	if (r < 0)
		return r;
	r = faccessat(fs->proc_fd, fd_name(name, nfd.fd), (int)in.mask, 0) < 0 ? -errno : 0;
	node_fd_done(&nfd);
	return r;
}

/* ---- setting ---- */

/*
 * Without privilege the host's kernel takes the set-id bits away by itself on each write; with it
 * the guest's kernel says when a writer has no such privilege in the guest.
 */
int kill_suid(const struct fileserver *fs, int fd)
{
	struct stat st;
	mode_t mode;

	if (!fs->ids.privileged)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	mode = st.st_mode & ~(mode_t)S_ISUID;
	if ((mode & S_IXGRP) != 0)
		mode &= ~(mode_t)S_ISGID;
	if (mode == st.st_mode)
		return 0;
	return fchmod(fd, mode & 07777) < 0 ? -errno : 0;
}

/* @handle: a descriptor open for writing, or -1. */
static int set_size(const struct fileserver *fs, const struct node_fd *nfd, int handle,
		    const struct fuse_setattr_in *in)
{
	int fd = handle, r = 0;

	if (in->size > INT64_MAX)
		return -EFBIG;
	if (fd < 0)
		fd = file_reopen(fs, nfd->fd, O_WRONLY);
	if (fd < 0)
		return fd;
	if ((in->valid & FATTR_KILL_SUIDGID) != 0)
		r = kill_suid(fs, fd);
	if (r == 0 && ftruncate(fd, (off_t)in->size) < 0)
		r = -errno;
	if (fd != handle)
		close(fd);
	return r;
}

static int set_owner(const struct fileserver *fs, const struct node_fd *nfd,
		     const struct fuse_setattr_in *in)
{
	uid_t uid = (in->valid & FATTR_UID) != 0 ? in->uid : (uid_t)-1;
	gid_t gid = (in->valid & FATTR_GID) != 0 ? in->gid : (gid_t)-1;
	int r = ids_take(&fs->ids, &uid, &gid);

	if (r < 0)
		return r;
	return fchownat(nfd->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno
											: 0;
}

static struct timespec new_time(const struct fuse_setattr_in *in, uint32_t set, uint32_t now,
				uint64_t sec, uint32_t nsec)
{
	struct timespec ts = { .tv_sec = (time_t)sec, .tv_nsec = nsec };

	if ((in->valid & now) != 0)
		ts = (struct timespec){ .tv_nsec = UTIME_NOW };
	else if ((in->valid & set) == 0)
		ts = (struct timespec){ .tv_nsec = UTIME_OMIT };
	return ts;
}

static int set_times(const struct fileserver *fs, const struct node_fd *nfd,
		     const struct fuse_setattr_in *in)
{
	struct timespec ts[2];
	char name[12];

	if (in->atimensec > 999999999 || in->mtimensec > 999999999)
		return -EINVAL;
	ts[0] = new_time(in, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec);
	ts[1] = new_time(in, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec);
	return utimensat(fs->proc_fd, fd_name(name, nfd->fd), ts, 0) < 0 ? -errno : 0;
}

/* The order matters: a new owner takes the set-id bits away, a new size changes the times. */
static int set_all(const struct fileserver *fs, const struct node *n, const struct node_fd *nfd,
		   int handle, const struct fuse_setattr_in *in)
{
	char name[12];
	int r = 0;

	if ((in->valid & FATTR_SIZE) != 0)
		r = n->type == S_IFREG ? set_size(fs, nfd, handle, in) : -EINVAL;
	if (r == 0 && (in->valid & (FATTR_UID | FATTR_GID)) != 0)
		r = set_owner(fs, nfd, in);
	if (r == 0 && (in->valid & FATTR_MODE) != 0) {
		if (n->type == S_IFLNK)
			r = -EOPNOTSUPP;
		else if (fchmodat(fs->proc_fd, fd_name(name, nfd->fd), in->mode & 07777, 0) < 0)
			r = -errno;
	}
	if (r == 0 && (in->valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW |
				    FATTR_MTIME_NOW)) != 0)
		r = set_times(fs, nfd, in);
	return r;
}

int op_setattr(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_setattr_in in;
	struct node_fd nfd;
	struct stat st;
	int handle = -1, r;

	request_take(req, &in, sizeof(in));
	if ((in.valid & FATTR_FH) != 0) {
		struct handle *h = handle_get(fs, in.fh, false);

		if (h == NULL || h->node != req->node->index)
			return -EBADF;
		handle = h->fd;
	}
	r = node_fd(fs, req->node, &nfd);
	if (r < 0)
		return r;
	r = set_all(fs, req->node, &nfd, handle, &in);
	if (r == 0 && fstat(nfd.fd, &st) < 0)
		r = -errno;
	node_fd_done(&nfd);
	return r != 0 ? r : reply_attr(fs, req->node, &st, rep);
}
