/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk on the host: a regular file or block device with sectors.
 */
#ifndef VIRTIO_DISK_H
#define VIRTIO_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <smolvm/error.h>

#define DISK_SECTOR   512u
#define DISK_ID_BYTES 20

/**
 * struct disk - an open one; constant but for what it learns about the file.
 * @fd:       the caller's.
 * @sectors:  how large it was when it was opened.
 * @can_discard: holes can be punched.
 * @id:       NUL-padded; the same whenever the same file or device is used.
 * @cached_reads, @cached_writes: worth trying without waiting; atomic.
 */
struct disk {
	int fd;
	bool block_device, read_only, can_discard;
	uint64_t sectors;
	char id[DISK_ID_BYTES];
	bool cached_reads, cached_writes;
};

/**
 * disk_init() - look at @fd.
 *
 * Return: 0, or -EINVAL (neither file nor block device, smaller than a sector, opened for
 * appending), -EACCES (not opened for what is asked), or what the host says, with @err.
 */
int disk_init(struct disk *k, int fd, bool read_only, struct smolvm_error *err);

/**
 * struct disk_io - bytes to be moved; what has been moved is cut off as it goes.
 * @iov:    changed; @left: the bytes in it.
 * @sync:   written through to the medium.
 */
struct disk_io {
	bool write, sync;
	struct iovec *iov;
	unsigned int n_iov;
	uint64_t offset, left;
};

/**
 * disk_move() - read or write.
 * @wait: false: only as far as it goes without waiting for the medium.
 *
 * Return: 0, -EAGAIN (not @wait: the rest would wait), -EIO (also: the file has become shorter than
 * it was), -ENOSPC, and so on.
 */
int disk_move(struct disk *k, struct disk_io *io, bool wait);

/** disk_flush() - what has been written is on the medium. Return: 0 or -errno. */
int disk_flush(struct disk *k);

/** disk_discard() - the bytes are not needed. Return: 0, -EOPNOTSUPP, -errno. */
int disk_discard(struct disk *k, uint64_t offset, uint64_t bytes);

/**
 * disk_zero() - make them zeroes, giving back their space if @unmap and possible.
 * Return: 0 or -errno.
 */
int disk_zero(struct disk *k, uint64_t offset, uint64_t bytes, bool unmap);

/** iov_cut() - drop @bytes (no more than there are) from the beginning of *@iov. */
void iov_cut(struct iovec **iov, unsigned int *n, uint64_t bytes);

#endif
