/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the server share: its state, a request, an answer, the handlers.
 */
#ifndef FILESERVER_SERVER_H
#define FILESERVER_SERVER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fileserver/fileserver.h"
#include "fileserver/fuse_wire.h"
#include "fileserver/handles.h"
#include "fileserver/ids.h"
#include "fileserver/nodes.h"

/* How long the guest may use what it was told, in seconds. */
#define VALID_ATTR_S 1u
/* A name. Regular files found by LOOKUP have none: each open() or stat() asks again. */
#define VALID_NAME_S 1u

#define DIR_BUFFER_SIZE 32768u

/**
 * struct dir_buffer - names read ahead from one directory, the one that was read last.
 * @fh:   whose; 0: nobody's.
 * @next: the offset of the entry at @pos.
 */
struct dir_buffer {
	uint64_t fh;
	int64_t next;
	size_t pos, len;
	uint8_t data[DIR_BUFFER_SIZE] __attribute__((aligned(8)));
};

/**
 * struct fileserver - one share.
 * @proc_fd: /proc/self/fd, by which an O_PATH descriptor is opened for good.
 * @now_ms:  when the present request came in.
 */
struct fileserver {
	int root_fd, proc_fd;
	bool read_only;
	uint32_t data_max;
	int64_t now_ms;
	struct ids ids;
	struct nodes nodes;
	struct handles handles;
	struct dir_buffer dir;
};

/**
 * struct request - what the guest asks.
 * @head: the header; @node: what head.nodeid means, for the operations that have one.
 * @body: what is left of the body; @left: its length.
 * @data: where the data of a READ or WRITE is, if not in @body or the answer; NULL.
 */
struct request {
	struct fuse_in_header head;
	struct node *node;
	const uint8_t *body;
	size_t left;
	struct fileserver_data *data;
};

/**
 * struct reply - the answer's body.
 * @data: room for @room bytes; @len: how many are used.
 */
struct reply {
	uint8_t *data;
	size_t room, len;
};

/** request_name() - take one NUL-terminated file name. Return: 0, -EINVAL, -ENAMETOOLONG. */
int request_name(struct request *req, const char **ret);

/** request_text() - take a NUL-terminated string of 1 to @max bytes. Errors as above. */
int request_text(struct request *req, size_t max, const char **ret);

/** request_take() - copy @n bytes off the front; the dispatcher has seen that they are there. */
void request_take(struct request *req, void *to, size_t n);

/** reply_add() - append to the answer. */
void reply_add(struct reply *rep, const void *data, size_t n);

/** fd_name() - the name of @fd in /proc/self/fd. @buf: room for 12 bytes. Return: @buf. */
char *fd_name(char *buf, int fd);

/** attr_fill() - @st as the guest shall see it. */
void attr_fill(const struct fileserver *fs, const struct stat *st, struct fuse_attr *a);

/** attr_ino() - the number that the guest shall see: different for files of different devices. */
uint64_t attr_ino(const struct fileserver *fs, uint64_t dev, uint64_t ino);

/** attr_ctime_ns() - the ctime in one number. */
int64_t attr_ctime_ns(const struct stat *st);

/** entry_fill() - tell the guest of @n: counts a lookup. @listed: by READDIRPLUS. */
void entry_fill(struct fileserver *fs, struct node *n, const struct stat *st, bool listed,
		struct fuse_entry_out *e);

/** kill_suid() - a write by somebody who must not keep the set-id bits of the file. 0, -errno. */
int kill_suid(const struct fileserver *fs, int fd);

/** file_reopen() - open an O_PATH descriptor of a regular file or directory. Or -errno. */
int file_reopen(const struct fileserver *fs, int path_fd, int flags);

/** file_flags() - the guest's open() flags as the host shall use them. -EINVAL, -EROFS. */
int file_flags(const struct fileserver *fs, uint32_t flags);

/**
 * made_by() - give what was just made its owner and mode, whatever this process's umask is.
 * @fd:   open on it, or -1; @dir_fd, @name: where it is.
 * @mode: what it is to be, type included.
 * @st:   filled in.
 *
 * Return: 0 or -errno; the caller then removes what was made.
 */
int made_by(struct fileserver *fs, const struct request *req, int dir_fd, const char *name, int fd,
	    mode_t mode, struct stat *st);

/*
 * The handlers, one for each operation. Each returns 0 with the answer's body in @rep, or -errno.
 */
typedef int handler(struct fileserver *fs, struct request *req, struct reply *rep);

handler op_init, op_destroy, op_lookup, op_forget, op_batch_forget; /* fileserver.c, names.c */
handler op_statfs;
handler op_getattr, op_setattr, op_access;			       /* attr.c */
handler op_setxattr, op_getxattr, op_listxattr, op_removexattr;	       /* xattr.c */
handler op_mknod, op_mkdir, op_symlink, op_create;		       /* create.c */
handler op_unlink, op_rmdir, op_rename, op_rename2, op_link, op_readlink; /* names.c */
handler op_open, op_read, op_write, op_release, op_fsync, op_lseek;    /* file.c */
handler op_fallocate, op_copy_file_range;			       /* file.c */
handler op_opendir, op_readdir, op_readdirplus, op_releasedir, op_fsyncdir; /* dir.c */

#endif
