/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking over a directory of the host.
 *
 * The tree may change, and hold links made to lead elsewhere, while it is read: each directory is
 * opened as one name in the directory before, links are never followed, and the way back up is
 * checked against where it came from. One directory is open at a time, however deep the tree.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/rootfs_priv.h"

#define READ_BYTES      (256u << 10)
#define XATTR_NAMES_MAX (64u << 10)
#define XATTR_COUNT_MAX 256u

/* A directory whose names are being taken: @now is the current one in @names, @at the next. */
struct level {
	char *names; /* sorted, each with its NUL */
	size_t now, at, end;
	dev_t dev;
	ino_t ino;
	uint32_t inode;
};

/* A file with several names, by its place on the host. */
struct linked {
	dev_t dev;
	ino_t ino;
	uint32_t inode;
};

struct walker {
	struct rootfs *r;
	int fd; /* the current directory */
	dev_t root_dev;
	struct level *levels;
	size_t n_levels, cap_levels;
	struct linked *links; /* open addressing; a power of two */
	size_t n_links, cap_links;
	char *buf, *xattr_names, *xattr_values;
	struct tar_xattr xattrs[XATTR_COUNT_MAX];
};

/* --- names of a directory, sorted --- */

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct name_list {
	char **names;
	size_t n, cap, bytes;
};

static int add_name(struct name_list *l, const char *name)
{
	if (l->n == l->cap) {
		char **grown;

		l->cap = l->cap ? 2 * l->cap : 64;
		grown = realloc(l->names, l->cap * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		l->names = grown;
	}
	l->names[l->n] = strdup(name);
	if (!l->names[l->n])
		return -ENOMEM;
	l->bytes += strlen(name) + 1;
	l->n++;
	return 0;
}

static int list_names(int fd, struct name_list *l)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *de;

	if (!d) {
		r = -errno;
		if (copy >= 0)
			close(copy);
		return r;
	}
	while (!r) {
		errno = 0;
		de = readdir(d);
		if (!de) {
			r = -errno;
			break;
		}
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			r = add_name(l, de->d_name);
	}
	closedir(d);
	return r;
}

/* The names of @fd in @lv, sorted, one after the other. */
static int read_names(int fd, struct level *lv, struct smolvm_error *err)
{
	struct name_list l = { 0 };
	int r = list_names(fd, &l);
	size_t i;

	if (!r) {
		lv->names = malloc(l.bytes + 1);
		r = lv->names ? 0 : -ENOMEM;
	}
	if (!r && l.n > 0)
		qsort(l.names, l.n, sizeof(*l.names), compare_names);
	for (i = 0; i < l.n; i++) {
		if (!r) {
			size_t len = strlen(l.names[i]) + 1;

			memcpy(lv->names + lv->end, l.names[i], len);
			lv->end += len;
		}
		free(l.names[i]);
	}
	free(l.names);
	if (r < 0) {
		errno = -r;
		return err_sys(err, "reading the directory");
	}
	return 0;
}

/* --- attributes --- */

/* A path to @name in the current directory that the l*xattr calls do not follow to its end. */
static void proc_path(const struct walker *w, const char *name, char *buf, size_t size)
{
	snprintf(buf, size, "/proc/self/fd/%d/%s", w->fd, name);
}

static int read_xattrs(struct walker *w, const char *name, size_t *ret_n,
		       struct smolvm_error *err)
{
	size_t used = 0, n = 0;
	char path[64 + 256];
	ssize_t len, got;
	char *at;

	*ret_n = 0;
	proc_path(w, name, path, sizeof(path));
	len = llistxattr(path, w->xattr_names, XATTR_NAMES_MAX);
	if (len < 0)
		return errno == ENOTSUP ? 0 : err_sys(err, "reading extended attributes");
	for (at = w->xattr_names; at < w->xattr_names + len; at += strlen(at) + 1) {
		if (n >= XATTR_COUNT_MAX)
			return err_set(err, EFBIG, "more than %u attributes", XATTR_COUNT_MAX);
		got = lgetxattr(path, at, w->xattr_values + used, XATTRS_BYTES_MAX - used);
		if (got < 0 && (errno == ENODATA || errno == ENOTSUP))
			continue;
		if (got < 0)
			return err_sys(err, "reading the attribute %s", at);
		w->xattrs[n++] = (struct tar_xattr){ at, w->xattr_values + used, (size_t)got };
		used += (size_t)got;
	}
	*ret_n = n;
	return 0;
}

static int take_metadata(struct walker *w, uint32_t inode, const char *name,
			 const struct stat *st, struct smolvm_error *err)
{
	struct inode *i = tree_inode(&w->r->tree, inode);
	uid_t me = geteuid();
	size_t n;
	int r = read_xattrs(w, name, &n, err);

	if (!r)
		r = xattrs_add(&w->r->xattrs, w->xattrs, n, &i->xattrs, err);
	i->mode = (uint16_t)st->st_mode;
	i->uid = me != 0 && st->st_uid == me ? 0 : st->st_uid;
	i->gid = me != 0 && st->st_gid == getegid() ? 0 : st->st_gid;
	i->mtime_s = st->st_mtim.tv_sec;
	i->mtime_ns = (uint32_t)st->st_mtim.tv_nsec;
	return r;
}

/* --- files with several names --- */

static struct linked *find_link(const struct walker *w, const struct stat *st)
{
	uint64_t h = (st->st_ino ^ (uint64_t)st->st_dev << 32) * 0x9e3779b97f4a7c15ull;
	size_t i = (size_t)(h >> 32) & (w->cap_links - 1);

	while (w->links[i].inode &&
	       (w->links[i].ino != st->st_ino || w->links[i].dev != st->st_dev))
		i = (i + 1) & (w->cap_links - 1);
	return &w->links[i];
}

/* The place for a file in the table; @inode in it is 0 when it is new. */
static struct linked *link_slot(struct walker *w, const struct stat *st)
{
	struct linked *old = w->links;
	size_t n = w->cap_links, i;

	if (2 * w->n_links >= w->cap_links) {
		w->cap_links = n ? 2 * n : 256;
		w->links = calloc(w->cap_links, sizeof(*w->links));
		if (!w->links) {
			w->links = old;
			w->cap_links = n;
			return NULL;
		}
		for (i = 0; i < n; i++) {
			const struct stat key = { .st_dev = old[i].dev, .st_ino = old[i].ino };

			if (old[i].inode)
				*find_link(w, &key) = old[i];
		}
		free(old);
	}
	return find_link(w, st);
}

/* --- contents --- */

/*
 * Holes are found by asking for data. A file that shrinks meanwhile is filled up with zeroes, one
 * that grows is cut: the size was taken when it was opened.
 */
static int copy_contents(struct walker *w, int fd, uint32_t inode, uint64_t size,
			 struct smolvm_error *err)
{
	uint64_t pos = 0;
	int r = rootfs_file_begin(w->r, inode, size, err);
	off_t data;
	ssize_t n;

	while (!r && pos < size) {
		data = size > READ_BYTES ? lseek(fd, (off_t)pos, SEEK_DATA) : (off_t)pos;
		if (data < 0 && errno == ENXIO)
			break;
		pos = data < 0 ? pos : (uint64_t)data;
		if (pos >= size)
			break;
		n = fd_pread_full(fd, w->buf, size - pos < READ_BYTES ? size - pos : READ_BYTES,
				  (off_t)pos);
		if (n < 0) {
			errno = (int)-n;
			return err_sys(err, "reading");
		}
		if (n == 0)
			break;
		r = rootfs_file_write(w->r, pos, w->buf, (size_t)n, err);
		pos += (uint64_t)n;
	}
	return r < 0 ? r : rootfs_file_end(w->r, err);
}

static int take_regular(struct walker *w, uint32_t inode, const char *name, struct stat *st,
			struct smolvm_error *err)
{
	AUTO_FD fd = openat(w->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat now;

	if (fd < 0 || fstat(fd, &now) < 0)
		return err_sys(err, "opening");
	if (!S_ISREG(now.st_mode) || now.st_ino != st->st_ino || now.st_dev != st->st_dev)
		return err_set(err, EAGAIN, "changed while it was read");
	return copy_contents(w, fd, inode, (uint64_t)now.st_size, err);
}

static int take_symlink(struct walker *w, uint32_t inode, const char *name,
			struct smolvm_error *err)
{
	ssize_t n = readlinkat(w->fd, name, w->buf, ROOTFS_SYMLINK_MAX + 1);

	if (n < 0)
		return err_sys(err, "reading the link");
	return rootfs_symlink(w->r, inode, w->buf, (size_t)n, err);
}

static int take_file(struct walker *w, uint32_t dir, const char *name, struct stat *st,
		     struct smolvm_error *err)
{
	struct linked *slot = NULL;
	struct tree *t = &w->r->tree;
	uint32_t inode;
	int r;

	if (st->st_nlink > 1 && !(slot = link_slot(w, st)))
		return err_nomem(err);
	if (slot && slot->inode) {
		r = tree_link(t, dir, name, strlen(name), slot->inode, w->r->layer);
		return r < 0 ? rootfs_fail(w->r, r, err) : 0;
	}
	r = tree_new(t, st->st_mode & S_IFMT, &inode);
	if (r < 0)
		return rootfs_fail(w->r, r, err);
	r = take_metadata(w, inode, name, st, err);
	if (!r && S_ISREG(st->st_mode))
		r = take_regular(w, inode, name, st, err);
	else if (!r && S_ISLNK(st->st_mode))
		r = take_symlink(w, inode, name, err);
	else if (!r && (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))) {
		tree_inode(t, inode)->dev.major = major(st->st_rdev);
		tree_inode(t, inode)->dev.minor = minor(st->st_rdev);
	}
	if (!r) {
		r = tree_link(t, dir, name, strlen(name), inode, w->r->layer);
		if (r < 0)
			rootfs_fail(w->r, r, err);
	}
	if (r < 0) {
		tree_drop(t, inode);
		return r;
	}
	if (slot) {
		*slot = (struct linked){ st->st_dev, st->st_ino, inode };
		w->n_links++;
	}
	return 0;
}

/* --- directories --- */

/* What the kernel makes up (/proc and the like) is no part of a root file system. */
static bool is_made_up(int fd)
{
	static const unsigned long magics[] = {
		PROC_SUPER_MAGIC,   SYSFS_MAGIC,      DEVPTS_SUPER_MAGIC, CGROUP_SUPER_MAGIC,
		CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC,   TRACEFS_MAGIC,      SECURITYFS_MAGIC,
		BPF_FS_MAGIC,       PSTOREFS_MAGIC,   EFIVARFS_MAGIC,     BINFMTFS_MAGIC,
		SELINUX_MAGIC,      HUGETLBFS_MAGIC,  0x19800202 /* mqueue */,
		0x62656570 /* configfs */, 0x65735543 /* fusectl */,
	};
	struct statfs sf;
	size_t i;

	if (fstatfs(fd, &sf) < 0)
		return false;
	for (i = 0; i < sizeof(magics) / sizeof(*magics); i++)
		if ((unsigned long)sf.f_type == magics[i])
			return true;
	return false;
}

static int push_level(struct walker *w, const struct stat *st, uint32_t inode,
		      struct smolvm_error *err)
{
	struct level *lv;

	if (w->n_levels == w->cap_levels) {
		w->cap_levels = w->cap_levels ? 2 * w->cap_levels : 64;
		lv = realloc(w->levels, w->cap_levels * sizeof(*lv));
		if (!lv)
			return err_nomem(err);
		w->levels = lv;
	}
	lv = &w->levels[w->n_levels++];
	*lv = (struct level){ .dev = st->st_dev, .ino = st->st_ino, .inode = inode };
	if (st->st_dev != w->root_dev && is_made_up(w->fd))
		return 0;
	return read_names(w->fd, lv, err);
}

static int enter_dir(struct walker *w, uint32_t dir, const char *name, struct stat *st,
		     struct smolvm_error *err)
{
	struct tree *t = &w->r->tree;
	uint32_t known = tree_find(t, dir, name, strlen(name)), inode = 0;
	int fd, r = 0;

	if (known && S_ISDIR(tree_inode(t, tree_name(t, known)->inode)->mode))
		inode = tree_name(t, known)->inode;
	else
		r = tree_mkdir(t, dir, name, strlen(name), w->r->layer, &inode);
	if (r < 0)
		return rootfs_fail(w->r, r, err);
	fd = openat(w->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, st) < 0) {
		r = err_sys(err, "opening");
		fd_close(&fd);
		return r;
	}
	r = take_metadata(w, inode, name, st, err);
	close(w->fd);
	w->fd = fd;
	return r < 0 ? r : push_level(w, st, inode, err);
}

/* Up one directory, which must be the one that was left. */
static int leave_dir(struct walker *w, struct smolvm_error *err)
{
	const struct level *lv;
	struct stat st;
	int fd;

	free(w->levels[--w->n_levels].names);
	if (w->n_levels == 0)
		return 0;
	lv = &w->levels[w->n_levels - 1];
	fd = openat(w->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, "opening the directory above");
	close(w->fd);
	w->fd = fd;
	if (fstat(fd, &st) < 0 || st.st_dev != lv->dev || st.st_ino != lv->ino)
		return err_set(err, EAGAIN, "a directory was moved while it was read");
	return 0;
}

static int take_name(struct walker *w, uint32_t dir, const char *name, struct smolvm_error *err)
{
	struct stat st;
	int r;

	if (fstatat(w->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT)
			return 0; /* removed meanwhile */
		r = err_sys(err, "looking at it");
	} else if (S_ISSOCK(st.st_mode)) {
		return 0;
	} else if (S_ISDIR(st.st_mode)) {
		r = enter_dir(w, dir, name, &st, err);
	} else {
		r = take_file(w, dir, name, &st, err);
	}
	return r;
}

/* The path of what is being taken, cut at its end if need be. */
static void prefix_path(const struct walker *w, struct smolvm_error *err)
{
	char path[256] = "";
	size_t n = 0, i;

	for (i = 0; i < w->n_levels && n < sizeof(path); i++) {
		const struct level *lv = &w->levels[i];

		if (lv->now < lv->end) /* else it could not be read */
			n += (size_t)snprintf(path + n, sizeof(path) - n, "%s%s", i ? "/" : "",
					      lv->names + lv->now);
	}
	err_prefix(err, "%s", path);
}

static int walk_all(struct walker *w, struct smolvm_error *err)
{
	struct stat st;
	int r;

	if (fstat(w->fd, &st) < 0)
		return err_sys(err, "the directory");
	w->root_dev = st.st_dev;
	r = take_metadata(w, TREE_ROOT, ".", &st, err);
	if (!r)
		r = push_level(w, &st, TREE_ROOT, err);
	while (!r && w->n_levels > 0) {
		struct level *lv = &w->levels[w->n_levels - 1];
		const char *name = lv->names + lv->at;

		if (lv->at >= lv->end) {
			r = leave_dir(w, err);
			continue;
		}
		lv->now = lv->at;
		lv->at += strlen(name) + 1;
		r = take_name(w, lv->inode, name, err);
		if (r < 0)
			prefix_path(w, err);
	}
	return r;
}

int rootfs_add_tree(struct rootfs *r, int dir_fd, struct smolvm_error *err)
{
	struct walker w = { .r = r };
	int rc = rootfs_next_layer(r, err);

	if (rc < 0)
		return rc;
	w.fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w.fd < 0)
		return err_sys(err, "opening the directory");
	w.buf = malloc(READ_BYTES);
	w.xattr_names = malloc(XATTR_NAMES_MAX);
	w.xattr_values = malloc(XATTRS_BYTES_MAX);
	rc = w.buf && w.xattr_names && w.xattr_values ? walk_all(&w, err) : err_nomem(err);
	while (w.n_levels > 0)
		free(w.levels[--w.n_levels].names);
	free(w.levels);
	free(w.links);
	free(w.buf);
	free(w.xattr_names);
	free(w.xattr_values);
	fd_close(&w.fd);
	return rc;
}
