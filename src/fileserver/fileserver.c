/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared-folder server: takes a FUSE request apart, calls its handler, frames the answer.
 *
 * Nothing in a request is believed. Its length must be the one it states, else the stream is out
 * of step and ends; a known operation must have at least its fixed part; a node or handle number
 * is looked up; a name must be one component. Each structure is copied out before it is looked at.
 */
#include "fileserver/fileserver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "fileserver/server.h"

/* syscalls (fs): fstatfs close */

#define REPLY_SLACK  4096u
#define DATA_MIN     4096u
#define DATA_LIMIT   (16u << 20)
#define BACKGROUND   64
#define WIRE_PAGE    4096u
/* What the guest's kernel may do by itself, or leave to us. See op_init(). */
#define INIT_FLAGS                                                                                 \
	(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA |          \
	 FUSE_DO_READDIRPLUS | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |            \
	 FUSE_HANDLE_KILLPRIV_V2)

/* ---- operations ---- */

#define NODE   1u /* head.nodeid must be a known node */
#define CHANGE 2u /* refused on a read-only share */
#define SILENT 4u /* never answered */

struct operation {
	handler *handle;
	uint16_t fixed; /* bytes of the body that must be there */
	uint16_t flags;
};

static int op_nothing(struct fileserver *fs, struct request *req, struct reply *rep)
{
	return 0;
}

static const struct operation operations[] = {
	[FUSE_LOOKUP] = { op_lookup, 2, NODE },
	[FUSE_FORGET] = { op_forget, sizeof(struct fuse_forget_in), SILENT },
	[FUSE_GETATTR] = { op_getattr, sizeof(struct fuse_getattr_in), NODE },
	[FUSE_SETATTR] = { op_setattr, sizeof(struct fuse_setattr_in), NODE | CHANGE },
	[FUSE_READLINK] = { op_readlink, 0, NODE },
	[FUSE_SYMLINK] = { op_symlink, 4, NODE | CHANGE },
	[FUSE_MKNOD] = { op_mknod, sizeof(struct fuse_mknod_in), NODE | CHANGE },
	[FUSE_MKDIR] = { op_mkdir, sizeof(struct fuse_mkdir_in), NODE | CHANGE },
	[FUSE_UNLINK] = { op_unlink, 2, NODE | CHANGE },
	[FUSE_RMDIR] = { op_rmdir, 2, NODE | CHANGE },
	[FUSE_RENAME] = { op_rename, sizeof(struct fuse_rename_in), NODE | CHANGE },
	[FUSE_LINK] = { op_link, sizeof(struct fuse_link_in), NODE | CHANGE },
	[FUSE_OPEN] = { op_open, sizeof(struct fuse_open_in), NODE },
	[FUSE_READ] = { op_read, sizeof(struct fuse_read_in), 0 },
	[FUSE_WRITE] = { op_write, sizeof(struct fuse_write_in), CHANGE },
	[FUSE_STATFS] = { op_statfs, 0, 0 },
	[FUSE_RELEASE] = { op_release, sizeof(struct fuse_release_in), 0 },
	[FUSE_FSYNC] = { op_fsync, sizeof(struct fuse_fsync_in), 0 },
	[FUSE_SETXATTR] = { op_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, NODE | CHANGE },
	[FUSE_GETXATTR] = { op_getxattr, sizeof(struct fuse_getxattr_in), NODE },
	[FUSE_LISTXATTR] = { op_listxattr, sizeof(struct fuse_getxattr_in), NODE },
	[FUSE_REMOVEXATTR] = { op_removexattr, 2, NODE | CHANGE },
	[FUSE_INIT] = { op_init, 16, 0 },
	[FUSE_OPENDIR] = { op_opendir, sizeof(struct fuse_open_in), NODE },
	[FUSE_READDIR] = { op_readdir, sizeof(struct fuse_read_in), 0 },
	[FUSE_RELEASEDIR] = { op_releasedir, sizeof(struct fuse_release_in), 0 },
	[FUSE_FSYNCDIR] = { op_fsyncdir, sizeof(struct fuse_fsync_in), 0 },
	[FUSE_ACCESS] = { op_access, sizeof(struct fuse_access_in), NODE },
	[FUSE_CREATE] = { op_create, sizeof(struct fuse_create_in), NODE | CHANGE },
	[FUSE_INTERRUPT] = { op_nothing, 0, SILENT },
	[FUSE_DESTROY] = { op_destroy, 0, 0 },
	[FUSE_NOTIFY_REPLY] = { op_nothing, 0, SILENT },
	[FUSE_BATCH_FORGET] = { op_batch_forget, sizeof(struct fuse_batch_forget_in), SILENT },
	[FUSE_FALLOCATE] = { op_fallocate, sizeof(struct fuse_fallocate_in), CHANGE },
	[FUSE_READDIRPLUS] = { op_readdirplus, sizeof(struct fuse_read_in), 0 },
	[FUSE_RENAME2] = { op_rename2, sizeof(struct fuse_rename2_in), NODE | CHANGE },
	[FUSE_LSEEK] = { op_lseek, sizeof(struct fuse_lseek_in), 0 },
	[FUSE_COPY_FILE_RANGE] = { op_copy_file_range, sizeof(struct fuse_copy_file_range_in),
				   CHANGE },
};

/* ---- requests and replies ---- */

void request_take(struct request *req, void *to, size_t n)
{
	memcpy(to, req->body, n);
	req->body += n;
	req->left -= n;
}

int request_text(struct request *req, size_t max, const char **ret)
{
	const uint8_t *end = memchr(req->body, '\0', req->left);
	size_t len;

	if (end == NULL)
		return -EINVAL;
	len = (size_t)(end - req->body);
	if (len == 0)
		return -EINVAL;
	if (len > max)
		return -ENAMETOOLONG;
	*ret = (const char *)req->body;
	req->body += len + 1;
	req->left -= len + 1;
	return 0;
}

int request_name(struct request *req, const char **ret)
{
	const char *name;
	int r = request_text(req, WIRE_NAME_MAX, &name);

	if (r < 0)
		return r;
	if (strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	*ret = name;
	return 0;
}

void reply_add(struct reply *rep, const void *data, size_t n)
{
	memcpy(rep->data + rep->len, data, n);
	rep->len += n;
}

char *fd_name(char *buf, int fd)
{
	snprintf(buf, 12, "%d", fd);
	return buf;
}

static ssize_t answer(const struct request *req, uint8_t *reply, int error, size_t body)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + (error == 0 ? body : 0)),
		.error = error,
		.unique = req->head.unique,
	};

	memcpy(reply, &out, sizeof(out));
	return (ssize_t)out.len;
}

/* Look the request over and do it. Return: 0 or -errno. */
static int serve(struct fileserver *fs, const struct operation *op, struct request *req,
		 struct reply *rep)
{
	uint16_t extensions;
	int r;

	memcpy(&extensions, (const uint8_t *)&req->head + WIRE_EXTLEN_OFFSET, sizeof(extensions));
	if (extensions != 0 || req->left < op->fixed)
		return -EINVAL;
	if ((op->flags & CHANGE) != 0 && fs->read_only)
		return -EROFS;
	if ((op->flags & NODE) == 0)
		return op->handle(fs, req, rep);
	req->node = node_get(fs, req->head.nodeid);
	if (req->node == NULL)
		return -ESTALE;
	req->node->nlookup++; /* no handler loses it, whatever happens to its children */
	r = op->handle(fs, req, rep);
	node_forget(fs, req->node, 1);
	return r;
}

enum fileserver_kind fileserver_kind(const uint8_t *request, size_t len)
{
	struct fuse_in_header head;

	if (len < sizeof(head))
		return FILESERVER_OTHER;
	memcpy(&head, request, sizeof(head));
	if (head.opcode == FUSE_READ)
		return FILESERVER_READ;
	return head.opcode == FUSE_WRITE ? FILESERVER_WRITE : FILESERVER_OTHER;
}

ssize_t fileserver_handle(struct fileserver *fs, const uint8_t *request, size_t len,
			  uint8_t *reply, size_t cap)
{
	return fileserver_handle_data(fs, request, len, reply, cap, NULL);
}

ssize_t fileserver_handle_data(struct fileserver *fs, const uint8_t *request, size_t len,
			       uint8_t *reply, size_t cap, struct fileserver_data *data)
{
	struct request req = { .body = request + sizeof(req.head), .data = data };
	struct reply rep = { .data = reply + sizeof(struct fuse_out_header), .room = fs->data_max };
	const struct operation *op = NULL;
	int r = -ENOSYS;

	if (len < sizeof(req.head) || cap < (size_t)fs->data_max + REPLY_SLACK)
		return -EPROTO;
	memcpy(&req.head, request, sizeof(req.head));
	if (req.head.len != len + (data && req.head.opcode == FUSE_WRITE ? data->bytes : 0))
		return -EPROTO;
	req.left = len - sizeof(req.head);
	fs->now_ms = clock_ms();
	if (req.head.opcode < sizeof(operations) / sizeof(operations[0]))
		op = &operations[req.head.opcode];
	if (op != NULL && op->handle != NULL)
		r = serve(fs, op, &req, &rep);
	if (op != NULL && (op->flags & SILENT) != 0)
		return 0;
	return answer(&req, reply, r, rep.len);
}

/* ---- the session ---- */

/* How many descriptors this process may have. */
static uint32_t fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	return limit.rlim_cur < HANDLES_MAX * 4 ? (uint32_t)limit.rlim_cur : HANDLES_MAX * 4;
}

/* A mount begins or has ended: what the guest knew before is nobody's any more. 0 or -errno. */
static int session_reset(struct fileserver *fs)
{
	uint32_t limit = fs->handles.limit;
	struct stat st;

	if (fs->nodes.count == 1 && fs->handles.used == 0)
		return 0;
	handles_fini(&fs->handles);
	fs->handles.limit = limit;
	fs->dir.fh = 0;
	nodes_fini(&fs->nodes);
	if (fstat(fs->root_fd, &st) < 0)
		return -errno;
	return nodes_init(fs, fd_limit() / 4, &st);
}

int op_destroy(struct fileserver *fs, struct request *req, struct reply *rep)
{
	return session_reset(fs);
}

/*
 * What is not asked for is as much of a decision as what is. POSIX_LOCKS, FLOCK_LOCKS: without
 * them the guest's kernel keeps locks itself, which is all that processes of one guest need.
 * WRITEBACK_CACHE: without it a write has reached the host when it returns. CACHE_SYMLINKS: a link
 * replaced on the host often has the inode number of the old one. POSIX_ACL: the host's lists name
 * the host's users. READDIRPLUS_AUTO: find, du and rm -r read a whole directory before they look
 * at the first file; by then the kernel would have gone over to plain READDIR, and one LOOKUP for
 * each file. HANDLE_KILLPRIV_V2 spares one GETXATTR for each write; see kill_suid().
 */
int op_init(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_init_in in = { 0 };
	struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = WIRE_MINOR };
	int r = session_reset(fs);

	if (r < 0)
		return r;
	request_take(req, &in, 16);
	if (in.major < FUSE_KERNEL_VERSION ||
	    (in.major == FUSE_KERNEL_VERSION && in.minor < WIRE_MINOR_MIN))
		return -EPROTO;
	if (in.major == FUSE_KERNEL_VERSION) {
		out.minor = in.minor < WIRE_MINOR ? in.minor : WIRE_MINOR;
		out.flags = in.flags & INIT_FLAGS;
		out.max_readahead = fs->data_max; /* the guest takes less if it wants */
		out.max_background = BACKGROUND;
		out.congestion_threshold = BACKGROUND * 3 / 4;
		out.max_write = fs->data_max;
		out.time_gran = 1;
		out.max_pages = (uint16_t)(fs->data_max / WIRE_PAGE);
	}
	reply_add(rep, &out, sizeof(out));
	return 0;
}

int op_statfs(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_statfs_out out = { 0 };
	struct statfs st;

	if (fstatfs(fs->root_fd, &st) < 0)
		return -errno;
	out.st.blocks = st.f_blocks;
	out.st.bfree = st.f_bfree;
	out.st.bavail = st.f_bavail;
	out.st.files = st.f_files;
	out.st.ffree = st.f_ffree;
	out.st.bsize = (uint32_t)st.f_bsize;
	out.st.namelen = (uint32_t)st.f_namelen;
	out.st.frsize = (uint32_t)st.f_frsize;
	reply_add(rep, &out, sizeof(out));
	return 0;
}

static void forget(struct fileserver *fs, uint64_t nodeid, uint64_t count)
{
	struct node *n = node_get(fs, nodeid);

	if (n != NULL && n->index != NODE_ROOT)
		node_forget(fs, n, count);
}

int op_forget(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_forget_in in;

	request_take(req, &in, sizeof(in));
	forget(fs, req->head.nodeid, in.nlookup);
	return 0;
}

int op_batch_forget(struct fileserver *fs, struct request *req, struct reply *rep)
{
	struct fuse_batch_forget_in in;
	struct fuse_forget_one one;

	request_take(req, &in, sizeof(in));
	while (in.count-- > 0 && req->left >= sizeof(one)) {
		request_take(req, &one, sizeof(one));
		forget(fs, one.nodeid, one.nlookup);
	}
	return 0;
}

int fileserver_create(struct fileserver **ret, const struct fileserver_config *config,
		      struct smolvm_error *err)
{
	struct fileserver *fs;
	struct stat st;
	int r = 0;

	if (config->data_max < DATA_MIN || config->data_max > DATA_LIMIT)
		return err_set(err, EINVAL, "a shared folder cannot pass %u bytes at a time",
			       config->data_max);
	if (fstat(config->root_fd, &st) < 0)
		return err_sys(err, "cannot look at the shared folder");
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(err, ENOTDIR, "only a directory or a regular file can be shared");
	fs = calloc(1, sizeof(*fs));
	if (fs == NULL)
		return err_nomem(err);
	fs->root_fd = -1;
	fs->proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	fs->read_only = config->read_only;
	fs->data_max = config->data_max;
	ids_init(&fs->ids);
	fs->handles.limit = fd_limit() / 2 < HANDLES_MAX ? fd_limit() / 2 : HANDLES_MAX;
	if (fs->proc_fd < 0)
		r = err_sys(err, "sharing a folder needs /proc: cannot open /proc/self/fd");
	else if (nodes_init(fs, fd_limit() / 4, &st) < 0)
		r = err_nomem(err);
	if (r < 0) {
		fileserver_destroy(fs);
		return r;
	}
	fs->root_fd = config->root_fd;
	*ret = fs;
	return 0;
}

void fileserver_destroy(struct fileserver *fs)
{
	if (fs == NULL)
		return;
	handles_fini(&fs->handles);
	nodes_fini(&fs->nodes);
	fd_close(&fs->proc_fd);
	fd_close(&fs->root_fd);
	free(fs);
}

void fileserver_set_guest_user(struct fileserver *fs, uint32_t uid, uint32_t gid)
{
	fs->ids.guest_uid = uid;
	fs->ids.guest_gid = gid;
}
