/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks on Linux: preadv2() and pwritev2(), fallocate(), and what block devices have instead.
 *
 * No memory maps: a file that shrinks or a medium that fails is then an error of one request, and
 * no SIGBUS. RWF_NOWAIT tells whether the page cache can serve a request; file systems that do not
 * know it (tmpfs, and ext4 for writes) are asked once.
 */
#include "virtio/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

/* syscalls (worker, io): preadv2 pwritev2 preadv pwritev fdatasync fallocate fstat newfstatat lseek
 * ioctl(BLKDISCARD BLKGETSIZE64) */

/* Zeroes are written in pieces of as many bytes where the file system cannot make them. */
#define ZERO_PAGE 4096u
#define ZERO_IOVS 64u

static int measure(struct disk *k, const struct stat *st, struct smolvm_error *err)
{
	uint64_t bytes = (uint64_t)st->st_size;

	if (S_ISBLK(st->st_mode)) {
		k->block_device = true;
		if (ioctl(k->fd, BLKGETSIZE64, &bytes) < 0)
			return err_sys(err, "cannot tell the size of the block device");
	} else if (!S_ISREG(st->st_mode)) {
		return err_set(err, EINVAL, "a disk must be a regular file or a block device");
	}
	k->sectors = bytes / DISK_SECTOR;
	if (!k->sectors)
		return err_set(err, EINVAL, "the disk is smaller than a sector of %u bytes",
			       DISK_SECTOR);
	return 0;
}

static int check_mode(const struct disk *k, struct smolvm_error *err)
{
	int flags = fcntl(k->fd, F_GETFL), mode;

	if (flags < 0)
		return err_sys(err, "cannot look at the disk");
	mode = flags & O_ACCMODE;
	if ((flags & O_PATH) || mode == O_WRONLY)
		return err_set(err, EACCES, "the disk is not open for reading");
	if (!k->read_only && mode != O_RDWR)
		return err_set(err, EACCES, "the disk is not open for writing");
	if (!k->read_only && (flags & O_APPEND))
		return err_set(err, EINVAL, "the disk is open for appending");
	return 0;
}

/* Device and inode numbers, mixed: they name the file, and tell a guest nothing. */
static void make_id(struct disk *k, const struct stat *st)
{
	uint64_t h = k->block_device ? st->st_rdev : st->st_ino ^ (uint64_t)st->st_dev << 32;
	char text[DISK_ID_BYTES + 1];

	for (int i = 0; i < 3; i++) {
		h ^= h >> 31;
		h *= 0x9e3779b97f4a7c15ull;
	}
	h ^= h >> 29;
	snprintf(text, sizeof(text), "smolvm-%013llx", (unsigned long long)(h >> 12));
	memcpy(k->id, text, DISK_ID_BYTES);
}

int disk_init(struct disk *k, int fd, bool read_only, struct smolvm_error *err)
{
	struct stat st;
	int r;

	*k = (struct disk){ .fd = fd, .read_only = read_only };
	if (fstat(fd, &st) < 0)
		return err_sys(err, "cannot look at the disk");
	r = measure(k, &st, err);
	if (r == 0)
		r = check_mode(k, err);
	if (r < 0)
		return r;
	make_id(k, &st);
	/* A hole behind the end changes nothing, and tells whether there can be holes. */
	k->can_discard = !read_only &&
			 (k->block_device ||
			  fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    (st.st_size + ZERO_PAGE) & ~(off_t)(ZERO_PAGE - 1), 4096) == 0);
	k->cached_reads = k->cached_writes = true;
	return 0;
}

void iov_cut(struct iovec **iov, unsigned int *n, uint64_t bytes)
{
	while (*n && bytes >= (*iov)->iov_len) {
		bytes -= (*iov)->iov_len;
		(*iov)++;
		(*n)--;
	}
	if (*n && bytes) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + bytes;
		(*iov)->iov_len -= bytes;
	}
}

static ssize_t move_some(const struct disk *k, const struct disk_io *io, int flags)
{
	int n = io->n_iov < IOV_MAX ? (int)io->n_iov : IOV_MAX;

	if (io->write)
		return pwritev2(k->fd, io->iov, n, (off_t)io->offset,
				flags | (io->sync ? RWF_DSYNC : 0));
	return preadv2(k->fd, io->iov, n, (off_t)io->offset, flags);
}

int disk_move(struct disk *k, struct disk_io *io, bool wait)
{
	bool *worth = io->write ? &k->cached_writes : &k->cached_reads;

	if (!wait && (io->sync || !__atomic_load_n(worth, __ATOMIC_RELAXED)))
		return -EAGAIN;
	while (io->left) {
		ssize_t n = move_some(k, io, wait ? 0 : RWF_NOWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && !wait && errno != EAGAIN) {
			/* Something that cannot tell, or an error: a worker meets it again. */
			if (errno == EOPNOTSUPP || errno == ENOSYS)
				__atomic_store_n(worth, false, __ATOMIC_RELAXED);
			return -EAGAIN;
		}
		if (n < 0)
			return -errno;
		if (n == 0)
			return wait ? -EIO : -EAGAIN;
		io->offset += (uint64_t)n;
		io->left -= (uint64_t)n;
		iov_cut(&io->iov, &io->n_iov, (uint64_t)n);
	}
	return 0;
}

int disk_flush(struct disk *k)
{
	return k->read_only || fdatasync(k->fd) == 0 ? 0 : -errno;
}

static int allocate(struct disk *k, int mode, uint64_t offset, uint64_t bytes)
{
	int r;

	do {
		r = fallocate(k->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int disk_discard(struct disk *k, uint64_t offset, uint64_t bytes)
{
	uint64_t range[2] = { offset, bytes };

	if (!k->block_device)
		return allocate(k, FALLOC_FL_PUNCH_HOLE, offset, bytes);
	return ioctl(k->fd, BLKDISCARD, range) < 0 ? -errno : 0;
}

static int write_zeroes(struct disk *k, uint64_t offset, uint64_t bytes)
{
	static const uint8_t zeroes[ZERO_PAGE];
	struct iovec iov[ZERO_IOVS];

	while (bytes) {
		struct disk_io io = { .write = true, .iov = iov, .offset = offset };
		int r;

		for (; io.n_iov < ZERO_IOVS && io.left < bytes; io.n_iov++) {
			uint64_t left = bytes - io.left;

			iov[io.n_iov].iov_base = (void *)(uintptr_t)zeroes;
			iov[io.n_iov].iov_len = left < ZERO_PAGE ? left : ZERO_PAGE;
			io.left += iov[io.n_iov].iov_len;
		}
		offset += io.left;
		bytes -= io.left;
		r = disk_move(k, &io, true);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Block devices also say -EINVAL, where the range is not of whole blocks of theirs. */
static bool cannot(int r)
{
	return r == -EOPNOTSUPP || r == -EINVAL || r == -ENODEV;
}

int disk_zero(struct disk *k, uint64_t offset, uint64_t bytes, bool unmap)
{
	int r = allocate(k, unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE, offset, bytes);

	if (cannot(r))
		r = allocate(k, unmap ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE, offset, bytes);
	return cannot(r) ? write_zeroes(k, offset, bytes) : r;
}
