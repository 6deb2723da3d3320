/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling in error objects.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <smolvm/error.h>

/**
 * err_set() - say why something failed, at the lowest point that knows.
 * @err:  filled in; may be NULL.
 * @code: a positive errno value.
 * @fmt:  one line for a person, without a newline. Control characters in the result (a name from
 *        an archive, say) are replaced by '?', and what does not fit is cut.
 *
 * Return: -@code, so that `return err_set(err, EINVAL, ...)` is the whole failure path.
 */
int err_set(struct smolvm_error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/**
 * err_sys() - err_set() for a system call that just failed: ": strerror(errno)" is added.
 *
 * Return: -errno (-EIO where errno is 0).
 */
int err_sys(struct smolvm_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/**
 * err_prefix() - put context in front of a message that is already set ("importing x.tar: ...").
 */
void err_prefix(struct smolvm_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** err_nomem() - the one message for memory that cannot be had. Return: -ENOMEM. */
int err_nomem(struct smolvm_error *err);

#endif
