/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A single-threaded event loop: descriptors and timers.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#define LOOP_READ   1u
#define LOOP_WRITE  2u
#define LOOP_HANGUP 4u /* reported always, asked for never */

struct loop;

/**
 * struct loop_watch - interest in one descriptor. The owner embeds it, and removes it before the
 * descriptor is closed; removing a watch inside any callback is allowed, its own included.
 * @fd:     the descriptor, -1 while the watch is not in a loop.
 * @events: what is waited for now (LOOP_READ | LOOP_WRITE).
 * @ready:  called with what is ready.
 * @ctx:    the owner's.
 *
 * A regular file is always ready.
 */
struct loop_watch {
	int fd;
	unsigned int events;
	void (*ready)(struct loop_watch *w, unsigned int events);
	void *ctx;
	bool always; /* the loop's: a file that cannot be waited for */
	struct loop_watch *next;
};

/**
 * struct loop_timer - one deadline. The owner embeds it and cancels it before it goes away.
 * @at_ms: clock_ms() at which it fires; 0 while not armed.
 */
struct loop_timer {
	int64_t at_ms;
	void (*fired)(struct loop_timer *t);
	void *ctx;
	struct loop_timer *next;
};

/** loop_create() - Return: the loop, or NULL when memory or descriptors cannot be had. */
struct loop *loop_create(void);
void loop_destroy(struct loop *l);

/** loop_add() - start watching @w (fd, events, ready and ctx filled in). Return: 0 or -errno. */
int loop_add(struct loop *l, struct loop_watch *w);

/** loop_set() - change what @w waits for; cheap when nothing changes. */
void loop_set(struct loop *l, struct loop_watch *w, unsigned int events);

/** loop_remove() - stop watching; @w->fd becomes -1 and is not closed. Safe on a removed watch. */
void loop_remove(struct loop *l, struct loop_watch *w);

/** loop_arm() - fire @t once, @ms milliseconds from now; re-arming moves it. */
void loop_arm(struct loop *l, struct loop_timer *t, int64_t ms);
void loop_cancel(struct loop *l, struct loop_timer *t);

/**
 * loop_run() - dispatch until loop_stop(), which counts for the next run when none is under way.
 *
 * Return: what loop_stop() was given, or -errno.
 */
int loop_run(struct loop *l);
void loop_stop(struct loop *l, int result);

#endif
