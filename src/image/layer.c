/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applying a layer: the entries of a tar archive, and whiteouts (OCI image-spec layer.md).
 *
 * Entries take effect in order and the last one of a name wins. Whiteouts concern what older layers
 * left, never what this layer brings, whichever of the two comes first in the archive.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "image/rootfs_priv.h"
#include "image/walk.h"

#define WHITEOUT        ".wh."
#define WHITEOUT_META   ".wh..wh." /* AUFS' own files, and the opaque mark */
#define WHITEOUT_OPAQUE ".wh..wh..opq"

static int set_metadata(struct rootfs *r, uint32_t inode, const struct tar_entry *e,
			struct smolvm_error *err)
{
	struct inode *i = tree_inode(&r->tree, inode);
	uint32_t xattrs;
	int rc = xattrs_add(&r->xattrs, e->xattrs, e->n_xattrs, &xattrs, err);

	if (rc < 0)
		return rc;
	i->mode = (uint16_t)((i->mode & S_IFMT) | (e->mode & 07777));
	i->uid = e->uid;
	i->gid = e->gid;
	i->mtime_s = e->mtime_s;
	i->mtime_ns = e->mtime_ns;
	i->xattrs = xattrs;
	return 0;
}

static int add_dir(struct rootfs *r, const struct walk *w, const struct tar_entry *e,
		   struct smolvm_error *err)
{
	uint32_t name = w->len ? tree_find(&r->tree, w->dir, w->name, w->len) : 0;
	uint32_t inode = w->len ? 0 : TREE_ROOT;
	int rc;

	if (name && S_ISDIR(tree_inode(&r->tree, tree_name(&r->tree, name)->inode)->mode)) {
		inode = tree_name(&r->tree, name)->inode;
		tree_name(&r->tree, name)->layer = r->layer;
	}
	if (!inode) {
		rc = tree_mkdir(&r->tree, w->dir, w->name, w->len, r->layer, &inode);
		if (rc < 0)
			return rootfs_fail(r, rc, err);
	}
	return set_metadata(r, inode, e, err);
}

static int add_hardlink(struct rootfs *r, const struct walk *w, const struct tar_entry *e,
			struct smolvm_error *err)
{
	uint32_t name = 0, inode;
	struct walk target;
	int rc = walk_to(&r->tree, e->hardlink, 0, &target, err);

	if (rc < 0) {
		err_prefix(err, "hard link to %s", e->hardlink);
		return rc;
	}
	if (rc > 0 && target.len > 0)
		name = tree_find(&r->tree, target.dir, target.name, target.len);
	if (!name)
		return err_set(err, EINVAL, "hard link to %s, which is not there", e->hardlink);
	inode = tree_name(&r->tree, name)->inode;
	if (S_ISDIR(tree_inode(&r->tree, inode)->mode))
		return err_set(err, EINVAL, "hard link to the directory %s", e->hardlink);
	rc = tree_link(&r->tree, w->dir, w->name, w->len, inode, r->layer);
	return rc < 0 ? rootfs_fail(r, rc, err) : 0;
}

static int copy_data(struct rootfs *r, uint32_t inode, struct tar *t, const struct tar_entry *e,
		     struct smolvm_error *err)
{
	const void *data;
	int64_t offset;
	ssize_t n;
	int rc = rootfs_file_begin(r, inode, (uint64_t)e->size, err);

	while (!rc && (n = tar_data(t, &data, &offset, err)) != 0)
		rc = n < 0 ? (int)n
			   : rootfs_file_write(r, (uint64_t)offset, data, (size_t)n, err);
	return rc < 0 ? rc : rootfs_file_end(r, err);
}

/* What makes a new inode, not yet linked, more than its metadata. */
static int fill_inode(struct rootfs *r, uint32_t inode, struct tar *t, const struct tar_entry *e,
		      struct smolvm_error *err)
{
	struct inode *i = tree_inode(&r->tree, inode);

	if (S_ISREG(e->mode))
		return copy_data(r, inode, t, e, err);
	if (S_ISLNK(e->mode))
		return rootfs_symlink(r, inode, e->symlink ? e->symlink : "",
				      e->symlink ? strlen(e->symlink) : 0, err);
	if (S_ISFIFO(e->mode))
		return 0;
	/* 12 and 20 bits, as in Linux */
	if (e->rdev_major >= 1u << 12 || e->rdev_minor >= 1u << 20)
		return err_set(err, EINVAL, "device number %u:%u", e->rdev_major, e->rdev_minor);
	i->dev.major = e->rdev_major;
	i->dev.minor = e->rdev_minor;
	return 0;
}

static int add_other(struct rootfs *r, const struct walk *w, struct tar *t,
		     const struct tar_entry *e, struct smolvm_error *err)
{
	uint32_t inode;
	int rc = tree_new(&r->tree, e->mode & S_IFMT, &inode);

	if (rc < 0)
		return rootfs_fail(r, rc, err);
	rc = set_metadata(r, inode, e, err);
	if (!rc)
		rc = fill_inode(r, inode, t, e, err);
	if (!rc) {
		rc = tree_link(&r->tree, w->dir, w->name, w->len, inode, r->layer);
		if (rc < 0)
			rootfs_fail(r, rc, err);
	}
	if (rc < 0)
		tree_drop(&r->tree, inode);
	return rc;
}

/* Below a directory that AUFS kept for itself, such as .wh..wh.plnk. */
static bool in_aufs_dir(const char *path)
{
	const char *p = path;

	while ((p = strstr(p, WHITEOUT_META))) {
		if ((p == path || p[-1] == '/') && strchr(p, '/') && strchr(p, '/')[1])
			return true;
		p++;
	}
	return false;
}

/* Return: 1 when @path's last component makes it a whiteout, which has then been applied; 0. */
static int apply_whiteout(struct rootfs *r, const char *path, struct smolvm_error *err)
{
	struct walk w;
	int rc = walk_to(&r->tree, path, 0, &w, err);
	const char *name;
	size_t len;

	if (rc < 0)
		return rc;
	if (in_aufs_dir(path))
		return 1;
	if (w.len < strlen(WHITEOUT) || memcmp(w.name, WHITEOUT, strlen(WHITEOUT)))
		return 0;
	if (rc == 0) /* of something that is not there */
		return 1;
	name = w.name + strlen(WHITEOUT);
	len = w.len - strlen(WHITEOUT);
	if (w.len == strlen(WHITEOUT_OPAQUE) && !memcmp(w.name, WHITEOUT_OPAQUE, w.len))
		rc = tree_hide_below(&r->tree, w.dir, r->layer);
	else if (w.len >= strlen(WHITEOUT_META) &&
		 !memcmp(w.name, WHITEOUT_META, strlen(WHITEOUT_META)))
		return 1;
	else if (len == 0 || (len <= 2 && !memcmp(name, "..", len)))
		return err_set(err, EINVAL, "a whiteout of nothing");
	else
		rc = tree_hide(&r->tree, w.dir, name, len, r->layer);
	return rc < 0 ? rootfs_fail(r, rc, err) : 1;
}

static int add_entry(struct rootfs *r, struct tar *t, const struct tar_entry *e,
		     struct smolvm_error *err)
{
	struct walk w;
	int rc;

	if (!e->hardlink && S_ISSOCK(e->mode))
		return 0;
	rc = walk_to(&r->tree, e->path, r->layer, &w, err);
	if (rc < 0)
		return rc;
	if (w.len == 0 && (e->hardlink || !S_ISDIR(e->mode)))
		return err_set(err, EINVAL, "the root can only be a directory");
	if (e->hardlink)
		return add_hardlink(r, &w, e, err);
	switch (e->mode & S_IFMT) {
	case S_IFDIR:
		return add_dir(r, &w, e, err);
	case S_IFREG:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
		return add_other(r, &w, t, e, err);
	default:
		return err_set(err, EINVAL, "a file of an unknown type");
	}
}

int rootfs_add_layer(struct rootfs *r, struct tar *t, bool whiteouts, struct smolvm_error *err)
{
	struct tar_entry e;
	int rc = rootfs_next_layer(r, err);

	if (rc < 0)
		return rc;
	while ((rc = tar_next(t, &e, err)) > 0) {
		rc = whiteouts && strstr(e.path, WHITEOUT) ? apply_whiteout(r, e.path, err) : 0;
		if (rc == 0)
			rc = add_entry(r, t, &e, err);
		if (rc < 0) {
			err_prefix(err, "%.200s", e.path);
			return rc;
		}
	}
	if (rc < 0)
		return rc;
	if (!whiteouts && !tar_complete(t))
		return err_set(err, EINVAL, "the archive has no end mark; it may be truncated");
	return 0;
}
