/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks on files, and files and folders that live as long as a lock is held.
 *
 * A lock file may be unlinked only by who holds its lock. Whoever gets a lock therefore looks
 * whether the path still leads to the file that it has locked, and starts again if not: then a
 * lock that is held is always one that others see.
 */
#include "store/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"

#define LOCK_SUFFIX   ".lock"
#define TEMP_ATTEMPTS 16
#define OPEN_FLAGS    (O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK)

static bool is_still_at(int fd, const char *path)
{
	struct stat held, seen;

	return fstat(fd, &held) == 0 && lstat(path, &seen) == 0 && held.st_ino == seen.st_ino &&
	       held.st_dev == seen.st_dev;
}

static int take(const char *path, int open_flags, int operation, int *ret_fd)
{
	for (;;) {
		AUTO_FD fd = open(path, OPEN_FLAGS | open_flags, 0600);

		if (fd < 0)
			return -errno;
		while (flock(fd, operation) < 0) {
			if (errno != EINTR)
				return errno == EWOULDBLOCK ? -EBUSY : -errno;
		}
		if (is_still_at(fd, path)) {
			*ret_fd = fd_take(&fd);
			return 0;
		}
	}
}

int lock_try(const char *path, int *ret_fd)
{
	return take(path, O_CREAT, LOCK_EX | LOCK_NB, ret_fd);
}

int lock_wait(const char *path, int *ret_fd)
{
	return take(path, O_CREAT, LOCK_EX, ret_fd);
}

int temp_create(const char *dir, char **ret_path, int *ret_fd)
{
	for (int i = 0; i < TEMP_ATTEMPTS; i++) {
		AUTO_FREE char *path = NULL;
		uint64_t number;
		int rc;

		if (getrandom(&number, sizeof(number), 0) != sizeof(number))
			return -EIO;
		if (asprintf(&path, "%s/%016llx", dir, (unsigned long long)number) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		/* Between the two steps of take() a sweep may have removed it: it starts again,
		 * finds nothing there and makes it anew. */
		rc = take(path, O_CREAT | O_EXCL, LOCK_EX, ret_fd);
		if (rc == -EEXIST)
			continue;
		if (rc == 0)
			*ret_path = ptr_take(path);
		return rc;
	}
	return -EEXIST;
}

/* Calls @remove for each name in @dir that ends in @suffix and whose lock nobody holds. */
static int sweep(const char *dir, const char *suffix, void (*remove_it)(const char *path))
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name);
		AUTO_FREE char *path = NULL;
		AUTO_FD fd = -1;

		if (e->d_name[0] == '.' || len < strlen(suffix) ||
		    strcmp(e->d_name + len - strlen(suffix), suffix) != 0)
			continue;
		path = path_join(dir, e->d_name);
		if (!path || take(path, 0, LOCK_EX | LOCK_NB, &fd) < 0)
			continue;
		remove_it(path);
		n++;
	}
	if (d)
		closedir(d);
	return n;
}

static void remove_temp(const char *path)
{
	unlink(path);
}

int temp_sweep(const char *dir)
{
	return sweep(dir, "", remove_temp);
}

/* @lock_path is the folder's path and LOCK_SUFFIX; its lock is held. */
static void remove_rundir(const char *lock_path)
{
	AUTO_FREE char *path = strndup(lock_path, strlen(lock_path) - strlen(LOCK_SUFFIX));

	/* What cannot be removed now keeps its lock file, so that it is found again. */
	if (path && path_remove_tree(path) == 0)
		unlink(lock_path);
}

int rundir_sweep(const char *dir)
{
	return sweep(dir, LOCK_SUFFIX, remove_rundir);
}

int rundir_create(const char *dir, const char *name, char **ret_path, int *ret_lock,
		  struct smolvm_error *err)
{
	AUTO_FREE char *path = path_join(dir, name);
	AUTO_FREE char *lock_path = NULL;
	AUTO_FD lock = -1;
	int rc;

	if (!path || asprintf(&lock_path, "%s" LOCK_SUFFIX, path) < 0) {
		lock_path = NULL;
		return err_nomem(err);
	}
	rc = lock_try(lock_path, &lock);
	if (rc == -EBUSY)
		return err_set(err, EEXIST, "there is a machine with the name %s already", name);
	if (rc < 0)
		return err_set(err, -rc, "cannot lock %s: %s", lock_path, strerror(-rc));
	rc = path_remove_tree(path);
	if (rc == 0 && mkdir(path, 0700) < 0)
		rc = -errno;
	if (rc < 0) {
		unlink(lock_path);
		return err_set(err, -rc, "cannot make %s: %s", path, strerror(-rc));
	}
	*ret_path = ptr_take(path);
	*ret_lock = fd_take(&lock);
	return 0;
}

void rundir_remove(const char *dir, const char *name, int *lock)
{
	AUTO_FREE char *lock_path = NULL;

	if (asprintf(&lock_path, "%s/%s" LOCK_SUFFIX, dir, name) < 0)
		lock_path = NULL;
	if (lock_path && *lock >= 0)
		remove_rundir(lock_path);
	fd_close(lock);
}
