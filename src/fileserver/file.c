/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular files: opening them, and their data.
 *
 * Data goes straight between the request or the answer and the file. The guest's kernel keeps
 * pages of it. It drops them at each open(), unless the file is still what it was at an earlier
 * open(): the same ctime, and one old enough that a later change must have moved it (a program
 * that writes through a memory mapping moves it when the kernel writes the pages back, and not on
 * tmpfs, which has no such moment).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "fileserver/server.h"

/* syscalls (fs): openat pread64 preadv preadv2 pwrite64 pwritev pwritev2 fsync fdatasync lseek
 * fallocate copy_file_range */

/* Dirty pages are written back after 30 s, looked for every 5 s. */
#define SETTLED_NS (60ll * 1000000000)
/* The most that one COPY_FILE_RANGE copies: the share can do nothing else meanwhile. */
#define COPY_MAX   (64u << 20)

/* ---- opening ---- */

int file_flags(const struct fileserver *fs, uint32_t flags)
{
	int kept = (int)(flags & (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC));

	if ((flags & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	if (fs->read_only && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0))
		return -EROFS;
	return kept;
}

int file_reopen(const struct fileserver *fs, int path_fd, int flags)
{
	char name[12];
	int fd = openat(fs->proc_fd, fd_name(name, path_fd), flags | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? -errno : fd;
}

/* Did the file change so long ago that another change would show? */
static bool settled(int fd, int64_t ctime_ns)
{
	struct timespec now;
	struct statfs sfs;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 - ctime_ns > SETTLED_NS &&
	       fstatfs(fd, &sfs) == 0 && sfs.f_type != TMPFS_MAGIC;
}

/* May the guest go on using the pages it has of @n, which is as @st says? */
static bool keep_cache(struct node *n, int fd, const struct stat *st)
{
	int64_t ctime_ns = attr_ctime_ns(st);
	bool keep = n->clean_ns != 0 && n->clean_ns == ctime_ns;

	if (!keep)
		n->clean_ns = settled(fd, ctime_ns) ? ctime_ns : 0;
	return keep;
}

/*
 * The file at the name of @n. After a READDIRPLUS the guest uses names and sizes for a while
 * without asking; when they turn out to be old here, ESTALE makes it ask once.
 */
static int open_path(struct fileserver *fs, struct node *n, struct node_fd *nfd, struct stat *st)
{
	int fd, r;

	if (n->index == NODE_ROOT) {
		*nfd = (struct node_fd){ .fd = fs->root_fd };
		return fstat(fs->root_fd, st) < 0 ? -errno : 0;
	}
	fd = node_open_name(fs, n, st);
	*nfd = (struct node_fd){ .fd = fd, .owned = fd >= 0 };
	r = fd < 0 ? fd : 0;
	if (n->listed && (r == -ESTALE || (r == 0 && attr_ctime_ns(st) != n->told_ns))) {
		n->listed = false;
		node_fd_done(nfd);
		return -ESTALE;
	}
	if (r == -ESTALE && n->handles != 0) {
		/* Unlinked and still open, and opened again through /proc in the guest. */
		r = node_fd(fs, n, nfd);
		if (r == 0 && fstat(nfd->fd, st) < 0)
			r = -errno;
	}
	return r;
}

int op_open(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_open_in in;
	struct fuse_open_out out = { 0 };
	struct node_fd nfd;
	AUTO_FD fd = -1;
	struct stat st;
	int flags, r;

	request_take(req, &in, sizeof(in));
	if (req->node->type != S_IFREG)
		return req->node->type == S_IFDIR ? -EISDIR : -ENXIO;
	flags = file_flags(fs, in.flags);
	if (flags < 0)
		return flags;
	r = open_path(fs, req->node, &nfd, &st);
	if (r < 0)
		return r;
	fd = file_reopen(fs, nfd.fd, flags);
	node_fd_done(&nfd);
	if (fd < 0)
		return fd;
	if ((flags & O_TRUNC) != 0 && (in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0) {
		r = kill_suid(fs, fd);
		if (r < 0)
			return r;
	}
	if (keep_cache(req->node, fd, &st) && (flags & O_TRUNC) == 0)
		out.open_flags = FOPEN_KEEP_CACHE;
	r = handle_add(fs, req->node, fd, false, &out.fh);
	if (r < 0)
		return r;
	fd_take(&fd);
	reply_add(rep, &out, sizeof(out));
	return 0;
}

int op_release(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_release_in in;

	request_take(req, &in, sizeof(in));
	handle_drop(fs, in.fh, false);
	return 0;
}

/* ---- data ---- */

/* Take @n bytes off the front. */
static void data_advance(struct fileserver_data *d, size_t n)
{
	d->bytes -= n;
	while (d->n && n >= d->iov->iov_len) {
		n -= d->iov->iov_len;
		d->iov++;
		d->n--;
	}
	if (d->n) {
		d->iov->iov_base = (uint8_t *)d->iov->iov_base + n;
		d->iov->iov_len -= n;
	}
}

/* Cut the end off: no more than @bytes. */
static void data_limit(struct fileserver_data *d, size_t bytes)
{
	unsigned int n = 0;

	d->bytes = bytes;
	while (bytes) {
		if (d->iov[n].iov_len > bytes)
			d->iov[n].iov_len = bytes;
		bytes -= d->iov[n++].iov_len;
	}
	d->n = n;
}

/* Until there is no more room, or the file ends. Return: how many bytes, or -errno. */
static ssize_t read_data(int fd, struct fileserver_data *d, off_t offset)
{
	size_t done = 0;

	while (d->n) {
		ssize_t n = preadv(fd, d->iov, d->n < IOV_MAX ? (int)d->n : IOV_MAX,
				   offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && !done)
			return -errno;
		if (n <= 0)
			break;
		done += (size_t)n;
		data_advance(d, (size_t)n);
	}
	return (ssize_t)done;
}

int op_read(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_read_in in;
	const struct handle *h;
	ssize_t n;

	request_take(req, &in, sizeof(in));
	h = handle_get(fs, in.fh, false);
	if (h == NULL)
		return -EBADF;
	if (in.size > rep->room || in.offset > INT64_MAX)
		return -EINVAL;
	if (req->data != NULL) {
		if (in.size > req->data->bytes)
			return -EINVAL;
		data_limit(req->data, in.size);
		n = read_data(h->fd, req->data, (off_t)in.offset);
	} else {
		n = fd_pread_full(h->fd, rep->data, in.size, (off_t)in.offset);
	}
	if (n < 0)
		return (int)n;
	rep->len = (size_t)n;
	return 0;
}

/*
 * With O_APPEND the end of the file counts, wherever the guest thinks it is: the host may have
 * written there too. Pages of a mapping carry their place with them.
 */
static ssize_t write_some(int fd, const struct fileserver_data *d, off_t offset, bool append)
{
	int count = d->n < IOV_MAX ? (int)d->n : IOV_MAX;
	ssize_t n;

	do {
		n = append ? pwritev2(fd, d->iov, count, offset, RWF_APPEND)
			   : pwritev(fd, d->iov, count, offset);
		if (n < 0 && append && (errno == ENOSYS || errno == EOPNOTSUPP)) {
			append = false;
			errno = EINTR;
		}
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int op_write(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_write_in in;
	struct fuse_write_out out = { 0 };
	struct iovec body = { (void *)(uintptr_t)(req->body + sizeof(in)), req->left - sizeof(in) };
	struct fileserver_data inside = { &body, 1, body.iov_len };
	struct fileserver_data *data = req->data != NULL ? req->data : &inside;
	const struct handle *h;
	bool append;

	request_take(req, &in, sizeof(in));
	h = handle_get(fs, in.fh, false);
	if (h == NULL)
		return -EBADF;
	if (in.size != data->bytes || (req->data != NULL && req->left != 0) ||
	    in.size > fs->data_max || in.offset > (uint64_t)INT64_MAX - in.size)
		return -EINVAL;
	if ((in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0) {
		int r = kill_suid(fs, h->fd);

		if (r < 0)
			return r;
	}
	append = (in.flags & O_APPEND) != 0 && (in.write_flags & FUSE_WRITE_CACHE) == 0;
	while (out.size < in.size) {
		ssize_t n = write_some(h->fd, data, (off_t)(in.offset + out.size), append);

		if (n < 0 && out.size == 0)
			return (int)n;
		if (n <= 0)
			break;
		out.size += (uint32_t)n;
		data_advance(data, (size_t)n);
	}
	reply_add(rep, &out, sizeof(out));
	return 0;
}

static int sync_fd(const struct handle *h, const struct fuse_fsync_in *in)
{
	int r;

	if (h == NULL)
		return -EBADF;
	r = (in->fsync_flags & FUSE_FSYNC_FDATASYNC) != 0 ? fdatasync(h->fd) : fsync(h->fd);
	return r < 0 ? -errno : 0;
}

int op_fsync(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_fsync_in in;

	request_take(req, &in, sizeof(in));
	return sync_fd(handle_get(fs, in.fh, false), &in);
}

int op_fsyncdir(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_fsync_in in;

	request_take(req, &in, sizeof(in));
	return sync_fd(handle_get(fs, in.fh, true), &in);
}

int op_lseek(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_lseek_in in;
	struct fuse_lseek_out out;
	const struct handle *h;
	off_t at;

	request_take(req, &in, sizeof(in));
	h = handle_get(fs, in.fh, false);
	if (h == NULL)
		return -EBADF;
	if ((in.whence != SEEK_DATA && in.whence != SEEK_HOLE) || in.offset > INT64_MAX)
		return -EINVAL;
	at = lseek(h->fd, (off_t)in.offset, (int)in.whence);
	if (at < 0)
		return -errno;
	out.offset = (uint64_t)at;
	reply_add(rep, &out, sizeof(out));
	return 0;
}

int op_fallocate(struct fileserver *fs, struct request *req, struct reply *rep)
{
	const uint32_t known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	struct fuse_fallocate_in in;
	const struct handle *h;

	request_take(req, &in, sizeof(in));
	h = handle_get(fs, in.fh, false);
	if (h == NULL)
		return -EBADF;
	if ((in.mode & ~known) != 0)
		return -EOPNOTSUPP;
	if (in.offset > INT64_MAX || in.length > (uint64_t)INT64_MAX - in.offset)
		return -EFBIG;
	return fallocate(h->fd, (int)in.mode, (off_t)in.offset, (off_t)in.length) < 0 ? -errno : 0;
}

int op_copy_file_range(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_copy_file_range_in in;
	struct fuse_write_out out = { 0 };
	const struct handle *from, *to;
	off_t off_in, off_out;
	ssize_t n;

	request_take(req, &in, sizeof(in));
	from = handle_get(fs, in.fh_in, false);
	to = handle_get(fs, in.fh_out, false);
	if (from == NULL || to == NULL)
		return -EBADF;
	if (in.flags != 0 || in.off_in > INT64_MAX || in.off_out > INT64_MAX)
		return -EINVAL;
	off_in = (off_t)in.off_in;
	off_out = (off_t)in.off_out;
	n = copy_file_range(from->fd, &off_in, to->fd, &off_out,
			    in.len < COPY_MAX ? in.len : COPY_MAX, 0);
	if (n < 0)
		return errno == EXDEV || errno == ENOSYS ? -EOPNOTSUPP : -errno;
	out.size = (uint32_t)n;
	reply_add(rep, &out, sizeof(out));
	return 0;
}
