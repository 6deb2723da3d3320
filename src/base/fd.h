/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File descriptors and memory owned by a scope, and reads and writes that finish.
 */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static inline void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static inline void mem_free(void *p)
{
	free(*(void **)p);
}

/* The scope owns it: closed or freed on every way out. */
#define AUTO_FD   __attribute__((cleanup(fd_close))) int
#define AUTO_FREE __attribute__((cleanup(mem_free)))

/** fd_take() - move a descriptor out of an AUTO_FD. */
static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/** ptr_take() - move a pointer out of an AUTO_FREE. */
#define ptr_take(p) ({ __typeof__(p) taken_ = (p); (p) = NULL; taken_; })

/** fd_write_all() - write @len bytes, through short writes and EINTR. Return: 0 or -errno. */
int fd_write_all(int fd, const void *buf, size_t len);

/** fd_pwrite_all() - the same at @offset. */
int fd_pwrite_all(int fd, const void *buf, size_t len, off_t offset);

/** fd_read_full() - read until @len bytes or end of file. Return: the bytes read, or -errno. */
ssize_t fd_read_full(int fd, void *buf, size_t len);

/** fd_pread_full() - the same at @offset. */
ssize_t fd_pread_full(int fd, void *buf, size_t len, off_t offset);

/** fd_set_nonblock() - switch O_NONBLOCK on or off. Return: 0 or -errno. */
int fd_set_nonblock(int fd, int on);

/** fd_set_cloexec() - switch FD_CLOEXEC on or off. Return: 0 or -errno. */
int fd_set_cloexec(int fd, int on);

/** fd_memfd() - an anonymous file, close-on-exec. Return: the descriptor or -errno. */
int fd_memfd(const char *name);

/**
 * file_read() - the whole of a small file, NUL-terminated.
 * @max: the most bytes accepted; a larger file gives -EFBIG.
 *
 * Return: the length (without the NUL) or -errno. *@ret_data is the caller's to free().
 */
ssize_t file_read(const char *path, size_t max, char **ret_data);

#endif
