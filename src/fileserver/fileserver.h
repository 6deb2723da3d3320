/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shared directory or file, served in the FUSE protocol; knows nothing of what carries it.
 */
#ifndef FILESERVER_FILESERVER_H
#define FILESERVER_FILESERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <smolvm/error.h>

struct fileserver;

/**
 * struct fileserver_config - one share.
 * @root_fd:   the directory or regular file, opened O_PATH; fileserver_create() takes it over on
 *             success.
 * @read_only: every change is refused with EROFS.
 * @data_max:  the most bytes of data in one READ or WRITE (offered to the guest as max_write);
 *             4 KiB to 16 MiB.
 */
struct fileserver_config {
	int root_fd;
	bool read_only;
	uint32_t data_max;
};

/**
 * fileserver_create() - serve a share.
 *
 * To be called in the process that will serve, with the user, capabilities and RLIMIT_NOFILE that
 * it will then have: at most half of the descriptors are used for the guest's open files, at most
 * a quarter for directories. A descriptor of /proc/self/fd is taken; nothing else is needed of the
 * file system outside the share.
 * Return: 0, -EINVAL (data_max), -ENOTDIR (neither directory nor regular file), -ENOMEM, or what
 * opening /proc/self/fd gave.
 */
int fileserver_create(struct fileserver **ret, const struct fileserver_config *config,
		      struct smolvm_error *err);

/** fileserver_destroy() - close everything, the share too. NULL is fine. */
void fileserver_destroy(struct fileserver *fs);

/**
 * fileserver_set_guest_user() - which guest user the host's user stands for.
 *
 * Only without privilege: what belongs to the host's effective user and group is then shown as
 * belonging to @uid and @gid, and what the guest makes belongs to the host's user. With privilege
 * numbers pass through as they are and files are made in the requester's name.
 */
void fileserver_set_guest_user(struct fileserver *fs, uint32_t uid, uint32_t gid);

/**
 * fileserver_handle() - answer one request.
 * @request: @len bytes, from a guest that may be hostile: any content.
 * @reply:   room for the answer, at least data_max + 4096 bytes.
 *
 * Blocks for as long as the file system below does. One thread per fileserver.
 * Return: the length of the answer; 0 when the request has none (FORGET and the like); -EPROTO
 * when it is too malformed to have one: the stream is then to be ended.
 */
ssize_t fileserver_handle(struct fileserver *fs, const uint8_t *request, size_t len,
			  uint8_t *reply, size_t cap);

/* Before the data of a WRITE in its request, and before that of a READ in its answer. */
#define FILESERVER_WRITE_HEAD 80u
#define FILESERVER_READ_HEAD  16u

enum fileserver_kind { FILESERVER_OTHER, FILESERVER_READ, FILESERVER_WRITE };

/** fileserver_kind() - what the request is whose first @len bytes are @request. */
enum fileserver_kind fileserver_kind(const uint8_t *request, size_t len);

/**
 * struct fileserver_data - the data of a READ or WRITE where it is to be, or lies: @n pieces, of
 * @bytes together. The list is used up; what is in the pieces may change at any time.
 */
struct fileserver_data {
	struct iovec *iov;
	unsigned int n;
	size_t bytes;
};

/**
 * fileserver_handle_data() - the same, with the data of READ and WRITE apart.
 * @request: of a WRITE the first FILESERVER_WRITE_HEAD bytes, @data the rest; else all of it.
 * @reply:   of a READ the first FILESERVER_READ_HEAD bytes, @data the rest; else all of it.
 *
 * The length returned is that of the whole answer.
 */
ssize_t fileserver_handle_data(struct fileserver *fs, const uint8_t *request, size_t len,
			       uint8_t *reply, size_t cap, struct fileserver_data *data);

#endif
