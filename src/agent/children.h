/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every process that ends in this machine and has no other parent is the agent's to reap.
 */
#ifndef AGENT_CHILDREN_H
#define AGENT_CHILDREN_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/loop.h"

/**
 * struct child - a process somebody waits for; embedded in its owner.
 * @exited: called once, with the status as waitpid() gives it; the child is forgotten before.
 */
struct child {
	pid_t pid;
	void (*exited)(struct child *c, int status);
	void *ctx;
	struct child *next;
};

/**
 * struct children - the reaper.
 * @alone: called whenever no process but the agent is left; NULL: nobody wants to know.
 */
struct children {
	struct loop *loop;
	struct loop_watch watch;
	struct child *list;
	void (*alone)(void *ctx);
	void *alone_ctx;
};

/** children_init() - block SIGCHLD, and reap from the loop. Return: 0 or -errno. */
int children_init(struct children *cs, struct loop *l);

/** children_fork() - fork(), in the child with signals as a program expects them. */
pid_t children_fork(void);

/**
 * children_keep_only() - in a forked child that does not execute a program soon: close every
 * descriptor but 0, 1, 2 and @fds, which become 3, 4, ... in that order (-1 stays -1). Others'
 * pipes and terminals would not end otherwise, nor shared folders whose host has gone.
 */
void children_keep_only(int *fds, int n);

/** children_add() - @c (pid, exited, ctx filled in) is told when it ends. */
void children_add(struct children *cs, struct child *c);

/** children_forget() - nobody waits for it any more; it is still reaped. Safe when not there. */
void children_forget(struct children *cs, struct child *c);

/** children_reap() - look at once for those that have ended. */
void children_reap(struct children *cs);

/**
 * struct task - work that may block, done in a child process for a bounded time.
 * @done: called once: 0, -EIO when the work failed, -ETIMEDOUT (it is killed and left behind).
 */
struct task {
	struct children *children;
	struct child child;
	struct loop_timer timer;
	void (*done)(struct task *t, int result);
	void *ctx;
};

/**
 * task_start() - run @work(@ctx) in a child; it returns 0 when it has succeeded.
 *
 * done and ctx of @t are filled in. Return: 0 or -errno, and then done() is not called.
 */
int task_start(struct children *cs, struct task *t, int (*work)(void *ctx), int timeout_ms);

/** task_cancel() - kill it, if it runs; done() is not called. */
void task_cancel(struct task *t);

#endif
