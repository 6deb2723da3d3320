/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes.
 */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <smolvm/error.h>

/**
 * struct proc_fd - one descriptor that a child gets.
 * @from: descriptor here; -1 is /dev/null.
 * @to:   its number there.
 */
struct proc_fd {
	int from, to;
};

/**
 * struct proc_config - how to start a child.
 * @path: the executable; @argv, @env NULL-terminated; @env NULL: this process's.
 * @fds, @n_fds: everything it gets; 0, 1 and 2 are /dev/null when not named. At most 96; no @to
 *        is above 127.
 * @die_with_parent: the kernel kills it when the calling thread ends (Linux).
 * @new_session: it leaves the caller's session and process group.
 * @before_exec, @before_exec_ctx: called last in the child, which has no thread but this one and
 *        must not allocate; -errno makes the start fail with it. May be NULL.
 */
struct proc_config {
	const char *path;
	const char *const *argv;
	const char *const *env;
	const struct proc_fd *fds;
	size_t n_fds;
	bool die_with_parent;
	bool new_session;
	int (*before_exec)(void *ctx);
	void *before_exec_ctx;
};

/**
 * proc_spawn() - fork and exec, with signals at their defaults and nothing blocked.
 * @ret_pidfd: a descriptor that becomes readable when the child ends.
 *
 * Return: 0, or -errno of what failed, the exec included.
 */
int proc_spawn(const struct proc_config *config, pid_t *ret_pid, int *ret_pidfd,
	       struct smolvm_error *err);

/**
 * proc_wait() - wait for a child to end, at most @timeout_ms (-1: for ever).
 * @ret_status: as waitpid() gives it. Return: 0, -ETIMEDOUT, or -errno.
 */
int proc_wait(pid_t pid, int pidfd, int timeout_ms, int *ret_status);

/** proc_kill() - a signal to that very process, never to another that got its number. */
void proc_kill(int pidfd, int signal);

/** proc_run() - spawn and wait; after @timeout_ms it is killed. Return: status or -errno. */
int proc_run(const struct proc_config *config, int timeout_ms, struct smolvm_error *err);

#endif
