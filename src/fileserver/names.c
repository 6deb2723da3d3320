/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names: finding, removing, moving and linking.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "fileserver/server.h"

/* syscalls (fs): readlinkat unlinkat renameat2 linkat */

int op_lookup(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_entry_out out;
	const char *name;
	struct node *n;
	struct stat st;
	int dir, r = request_name(req, &name);

	if (r < 0)
		return r;
	dir = node_dir_fd(fs, req->node);
	if (dir < 0)
		return dir;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	n = node_found(fs, req->node, name, &st);
	if (n == NULL)
		return -ENOMEM;
	entry_fill(fs, n, &st, false, &out);
	reply_add(rep, &out, sizeof(out));
	return 0;
}

int op_readlink(struct fileserver *fs, struct request *req, struct reply *rep)
{
	size_t room = rep->room < PATH_MAX ? rep->room : PATH_MAX;
	AUTO_FD fd = -1;
	struct stat st;
	ssize_t n;

	if (req->node->type != S_IFLNK)
		return -EINVAL;
	fd = node_open_name(fs, req->node, &st);
	if (fd < 0)
		return fd;
	n = readlinkat(fd, "", (char *)rep->data, room);
	if (n < 0)
		return -errno;
	rep->len = (size_t)n;
	return 0;
}

static int remove_name(struct fileserver *fs, struct request *req, int flags)
{
	const char *name;
	int dir, r = request_name(req, &name);

	if (r < 0)
		return r;
	dir = node_dir_fd(fs, req->node);
	if (dir < 0)
		return dir;
	return unlinkat(dir, name, flags) < 0 ? -errno : 0;
}

int op_unlink(struct fileserver *fs, struct request *req, struct reply *rep)
{
	return remove_name(fs, req, 0);
}

int op_rmdir(struct fileserver *fs, struct request *req, struct reply *rep)
{
	return remove_name(fs, req, AT_REMOVEDIR);
}

/* ---- rename ---- */

/* One end of a rename. */
struct end {
	struct node *dir;
	const char *name;
	int fd;
	struct node *moved; /* what is there before, if the guest knows it */
};

static void end_look(struct fileserver *fs, struct end *e)
{
	struct stat st;

	e->moved = NULL;
	if (fstatat(e->fd, e->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		e->moved = node_find(fs, &st);
}

static int move(struct fileserver *fs, struct end *from, struct end *to, unsigned int flags)
{
	end_look(fs, from);
	end_look(fs, to);
	if (syscall(SYS_renameat2, from->fd, from->name, to->fd, to->name, flags) < 0)
		return -errno;
	/* Two names of one inode: rename() does nothing then. */
	if (from->moved == to->moved)
		return 0;
	if (from->moved != NULL)
		node_place(fs, from->moved, to->dir, to->name);
	if (to->moved != NULL && (flags & RENAME_EXCHANGE) != 0)
		node_place(fs, to->moved, from->dir, from->name);
	return 0;
}

static int rename_to(struct fileserver *fs, struct request *req, uint64_t new_dir,
		     unsigned int flags)
{
	struct end from = { .dir = req->node }, to = { .dir = node_get(fs, new_dir) };
	int r = request_name(req, &from.name);

	if (r == 0)
		r = request_name(req, &to.name);
	if (r != 0)
		return r;
	if ((flags & ~(unsigned int)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0)
		return -EINVAL;
	if (to.dir == NULL)
		return -ESTALE;
	from.fd = node_dir_fd(fs, from.dir);
	if (from.fd < 0)
		return from.fd;
	node_pin(fs, from.dir);
	to.fd = node_dir_fd(fs, to.dir);
	node_pin(fs, NULL);
	if (to.fd < 0)
		return to.fd;
	to.dir->nlookup++; /* it must not go when its last child moves away */
	r = move(fs, &from, &to, flags);
	node_forget(fs, to.dir, 1);
	return r;
}

int op_rename(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_rename_in in;

	request_take(req, &in, sizeof(in));
	return rename_to(fs, req, in.newdir, 0);
}

int op_rename2(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_rename2_in in;

	request_take(req, &in, sizeof(in));
	return rename_to(fs, req, in.newdir, in.flags);
}

/* ---- hard links ---- */

static int link_node(struct fileserver *fs, struct node *n, int dir, const char *name,
		     struct stat *st)
{
	struct node_fd nfd;
	char proc[12];
	int r = node_fd(fs, n, &nfd);

	if (r < 0)
		return r;
	if (linkat(fs->proc_fd, fd_name(proc, nfd.fd), dir, name, AT_SYMLINK_FOLLOW) < 0 ||
	    fstat(nfd.fd, st) < 0)
		r = -errno;
	node_fd_done(&nfd);
	return r;
}

int op_link(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_entry_out out;
	struct fuse_link_in in;
	const char *name;
	struct node *n;
	struct stat st;
	int dir, r;

	request_take(req, &in, sizeof(in));
	r = request_name(req, &name);
	if (r < 0)
		return r;
	n = node_get(fs, in.oldnodeid);
	if (n == NULL)
		return -ESTALE;
	if (n->type == S_IFDIR || n->index == NODE_ROOT)
		return -EPERM;
	dir = node_dir_fd(fs, req->node);
	if (dir < 0)
		return dir;
	node_pin(fs, req->node);
	r = link_node(fs, n, dir, name, &st);
	node_pin(fs, NULL);
	if (r < 0)
		return r;
	node_place(fs, n, req->node, name);
	entry_fill(fs, n, &st, false, &out);
	reply_add(rep, &out, sizeof(out));
	return 0;
}
