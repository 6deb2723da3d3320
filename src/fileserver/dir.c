/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading directories.
 *
 * The offset of an entry is the host file system's own, which stays right while entries come and
 * go. Names are read ahead in larger pieces than the guest asks for; the buffer is the share's,
 * not the handle's, so that open directories cost nothing. A reader that finds another's names in
 * it, or wants another place, goes back to the offset.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "fileserver/server.h"

/* syscalls (fs): openat getdents64 lseek */

/* As getdents64() writes it. */
struct host_entry {
	uint64_t ino;
	int64_t next;
	uint16_t len;
	uint8_t type;
	char name[];
};

int op_opendir(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_open_out out = { 0 };
	AUTO_FD fd = -1;
	int path, r;

	if (req->node->type != S_IFDIR)
		return -ENOTDIR;
	path = node_dir_fd(fs, req->node);
	if (path < 0)
		return path;
	fd = openat(path, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = handle_add(fs, req->node, fd, true, &out.fh);
	if (r < 0)
		return r;
	fd_take(&fd);
	reply_add(rep, &out, sizeof(out));
	return 0;
}

int op_releasedir(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_release_in in;

	request_take(req, &in, sizeof(in));
	if (fs->dir.fh == in.fh)
		fs->dir.fh = 0;
	handle_drop(fs, in.fh, true);
	return 0;
}

/* The next entry of the directory; NULL at its end. Return: 0 or -errno. */
static int next_entry(struct fileserver *fs, int fd, const struct host_entry **ret)
{
	struct dir_buffer *b = &fs->dir;

	if (b->pos == b->len) {
		long n = syscall(SYS_getdents64, fd, b->data, sizeof(b->data));

		b->pos = b->len = 0;
		if (n < 0)
			return -errno;
		b->len = (size_t)n;
	}
	*ret = b->pos < b->len ? (const void *)(b->data + b->pos) : NULL;
	return 0;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Look @d up for READDIRPLUS. Return: false when it is no longer there. */
static bool fill_plus(struct fileserver *fs, const struct handle *h, const struct host_entry *d,
		      struct fuse_entry_out *out)
{
	struct node *dir = fs->nodes.table[h->node].node, *n;
	struct stat st;

	*out = (struct fuse_entry_out){ 0 };
	if (is_dots(d->name))
		return true;
	if (fstatat(h->fd, d->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno != ENOENT;
	n = node_found(fs, dir, d->name, &st);
	if (n != NULL)
		entry_fill(fs, n, &st, true, out);
	return true;
}

/* Add one entry. Return: false when it does not fit into @size. */
static bool add_entry(struct fileserver *fs, const struct handle *h, const struct host_entry *d,
		      bool plus, size_t size, struct reply *rep)
{
	size_t name_len = strlen(d->name);
	size_t before = plus ? sizeof(struct fuse_entry_out) : 0;
	size_t head = before + offsetof(struct fuse_dirent, name);
	size_t total = FUSE_REC_ALIGN(head + name_len);
	struct fuse_dirent out = {
		.ino = attr_ino(fs, fs->nodes.table[h->node].node->dev, d->ino),
		.off = (uint64_t)d->next,
		.namelen = (uint32_t)name_len,
		.type = d->type,
	};

	if (rep->len + total > size)
		return false;
	if (plus) {
		struct fuse_entry_out entry;

		if (!fill_plus(fs, h, d, &entry))
			return true;
		reply_add(rep, &entry, sizeof(entry));
	}
	reply_add(rep, &out, offsetof(struct fuse_dirent, name));
	reply_add(rep, d->name, name_len);
	memset(rep->data + rep->len, 0, total - head - name_len);
	rep->len += total - head - name_len;
	return true;
}

/* Make the buffer hold, or be about to hold, the entries of @fh from @offset on. */
static int seek_dir(struct fileserver *fs, int fd, const struct fuse_read_in *in)
{
	struct dir_buffer *b = &fs->dir;

	if (in->offset > INT64_MAX)
		return -EINVAL;
	if (b->fh == in->fh && b->next == (int64_t)in->offset && in->offset != 0)
		return 0;
	b->fh = 0;
	b->pos = b->len = 0;
	if (lseek(fd, (off_t)in->offset, SEEK_SET) < 0)
		return -errno;
	b->fh = in->fh;
	b->next = (int64_t)in->offset;
	return 0;
}

static int read_dir(struct fileserver *fs, struct request *req, struct reply *rep, bool plus)
{
	struct fuse_read_in in;
	const struct handle *h;
	int r;

	request_take(req, &in, sizeof(in));
	h = handle_get(fs, in.fh, true);
	if (h == NULL)
		return -EBADF;
	if (in.size > rep->room)
		return -EINVAL;
	r = seek_dir(fs, h->fd, &in);
	if (r < 0)
		return r;
	for (;;) {
		const struct host_entry *d = NULL;

		r = next_entry(fs, h->fd, &d);
		if (r < 0 || d == NULL || !add_entry(fs, h, d, plus, in.size, rep))
			break;
		fs->dir.pos += d->len;
		fs->dir.next = d->next;
	}
	return rep->len > 0 ? 0 : r;
}

int op_readdir(struct fileserver *fs, struct request *req, struct reply *rep)
{
	return read_dir(fs, req, rep, false);
}

int op_readdirplus(struct fileserver *fs, struct request *req, struct reply *rep)
{
	return read_dir(fs, req, rep, true);
}
