/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks on files, and files and folders that live as long as a lock is held.
 */
#ifndef STORE_LOCK_H
#define STORE_LOCK_H

#include <stdbool.h>

#include <smolvm/error.h>

/**
 * lock_try() - hold a lock, unless another process does.
 * @path: a file that exists for nothing else; made when missing.
 * @ret_fd: close-on-exec; the lock lasts until every copy of it is closed (a child that inherits
 *          one keeps the lock).
 *
 * Return: 0, -EBUSY when it is held, or another negative errno.
 */
int lock_try(const char *path, int *ret_fd);

/** lock_wait() - the same, waiting for it: only for locks that are held for moments. */
int lock_wait(const char *path, int *ret_fd);

/**
 * temp_create() - a new file in @dir whose lock is held through the descriptor.
 * @ret_path: the caller's to free(). The file is for the caller to rename or to unlink.
 *
 * temp_sweep() removes it when the process has ended without doing either.
 */
int temp_create(const char *dir, char **ret_path, int *ret_fd);

/** temp_sweep() - remove the files in @dir that nobody holds. Return: how many (0 on failure). */
int temp_sweep(const char *dir);

/**
 * rundir_create() - a folder @dir/@name (0700) that lasts as long as the lock @dir/@name.lock.
 * @ret_path: the caller's to free(). @ret_lock: as from lock_try().
 *
 * What an owner that died left under that name is removed first.
 * Return: 0, -EEXIST when the name is in use, or another negative errno.
 */
int rundir_create(const char *dir, const char *name, char **ret_path, int *ret_lock,
		  struct smolvm_error *err);

/** rundir_remove() - remove the folder, then the lock, then close *@lock. */
void rundir_remove(const char *dir, const char *name, int *lock);

/** rundir_sweep() - remove the folders in @dir whose lock nobody holds. Return: how many. */
int rundir_sweep(const char *dir);

#endif
