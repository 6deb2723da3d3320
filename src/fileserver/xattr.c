/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes.
 *
 * The system calls take a path, or a descriptor opened for good. An O_PATH descriptor therefore
 * goes by its name below /proc; a process that sees no /proc any more opens the file instead.
 * What means something to the host only stays out of it: POSIX access lists, which hold the host's
 * user numbers and which the guest's kernel would not keep to, and the labels of the host's
 * security modules. "Not supported" also makes ls ask once instead of once for each file.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "fileserver/server.h"

/* syscalls (fs): getxattr listxattr setxattr removexattr fgetxattr flistxattr fsetxattr
 * fremovexattr */

/**
 * struct call - one of the four system calls, with its arguments.
 * @opcode: which, as in the request.
 */
struct call {
	uint32_t opcode;
	const char *name;
	void *value;
	size_t size;
	int flags;
};

static ssize_t call_path(const struct call *c, const char *path)
{
	switch (c->opcode) {
	case FUSE_GETXATTR:
		return getxattr(path, c->name, c->value, c->size);
	case FUSE_LISTXATTR:
		return listxattr(path, c->value, c->size);
	case FUSE_SETXATTR:
		return setxattr(path, c->name, c->value, c->size, c->flags);
	default:
		return removexattr(path, c->name);
	}
}

static ssize_t call_fd(const struct call *c, int fd)
{
	switch (c->opcode) {
	case FUSE_GETXATTR:
		return fgetxattr(fd, c->name, c->value, c->size);
	case FUSE_LISTXATTR:
		return flistxattr(fd, c->value, c->size);
	case FUSE_SETXATTR:
		return fsetxattr(fd, c->name, c->value, c->size, c->flags);
	default:
		return fremovexattr(fd, c->name);
	}
}

/* Return: what the call returns, or -errno. */
static ssize_t call_node(struct fileserver *fs, struct node *n, const struct call *c)
{
	char path[32];
	struct node_fd nfd;
	AUTO_FD opened = -1;
	ssize_t r = node_fd(fs, n, &nfd);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", nfd.fd);
	r = nfd.real ? call_fd(c, nfd.fd) : call_path(c, path);
	if (r < 0 && !nfd.real && (errno == ENOENT || errno == EACCES) &&
	    (n->type == S_IFREG || n->type == S_IFDIR)) {
		int error = errno;

		opened = file_reopen(fs, nfd.fd, O_RDONLY);
		errno = error;
		if (opened >= 0)
			r = call_fd(c, opened);
	}
	if (r < 0)
		r = -errno;
	node_fd_done(&nfd);
	return r;
}

static bool is_hidden(const char *name)
{
	return strncmp(name, "system.posix_acl_", 17) == 0 ||
	       (strncmp(name, "security.", 9) == 0 && strcmp(name, XATTR_NAME_CAPS) != 0);
}

static int take_name(struct request *req, const char **ret)
{
	int r = request_text(req, XATTR_NAME_MAX, ret);

	if (r == -ENAMETOOLONG)
		return -ERANGE;
	if (r == 0 && is_hidden(*ret))
		return -EOPNOTSUPP;
	return r;
}

static size_t value_max(const struct reply *rep)
{
	return rep->room < XATTR_SIZE_MAX ? rep->room : XATTR_SIZE_MAX;
}

/* Bytes for @asked: their number when @asked is 0. */
static int reply_bytes(struct reply *rep, uint32_t asked, size_t n)
{
	struct fuse_getxattr_out out = { .size = (uint32_t)n };

	if (asked == 0)
		reply_add(rep, &out, sizeof(out));
	else if (n > asked)
		return -ERANGE;
	else
		rep->len = n;
	return 0;
}

int op_getxattr(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_getxattr_in in;
	struct call c = { .opcode = FUSE_GETXATTR, .value = rep->data };
	ssize_t n;
	int r;

	request_take(req, &in, sizeof(in));
	r = take_name(req, &c.name);
	if (r < 0)
		return r;
	c.size = in.size < value_max(rep) ? in.size : value_max(rep);
	n = call_node(fs, req->node, &c);
	return n < 0 ? (int)n : reply_bytes(rep, in.size, (size_t)n);
}

int op_listxattr(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_getxattr_in in;
	struct call c = { .opcode = FUSE_LISTXATTR, .value = rep->data, .size = value_max(rep) };
	char *from, *to;
	ssize_t n;

	request_take(req, &in, sizeof(in));
	n = call_node(fs, req->node, &c);
	if (n < 0)
		return (int)n;
	from = to = (char *)rep->data;
	while (from < (char *)rep->data + n) {
		size_t len = strlen(from) + 1;

		if (!is_hidden(from)) {
			memmove(to, from, len);
			to += len;
		}
		from += len;
	}
	return reply_bytes(rep, in.size, (size_t)(to - (char *)rep->data));
}

int op_setxattr(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_setxattr_in in = { 0 };
	struct call c = { .opcode = FUSE_SETXATTR };
	int r;

	request_take(req, &in, FUSE_COMPAT_SETXATTR_IN_SIZE);
	r = take_name(req, &c.name);
	if (r < 0)
		return r;
	if (in.size > req->left || (in.flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)) != 0)
		return -EINVAL;
	if (in.size > XATTR_SIZE_MAX)
		return -E2BIG;
	c.value = (void *)(uintptr_t)req->body; /* only read */
	c.size = in.size;
	c.flags = (int)in.flags;
	return (int)call_node(fs, req->node, &c);
}

int op_removexattr(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct call c = { .opcode = FUSE_REMOVEXATTR };
	int r = take_name(req, &c.name);

	return r < 0 ? r : (int)call_node(fs, req->node, &c);
}
