/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop on epoll.
 *
 * Events of one epoll_wait() are handed out one by one while callbacks may remove watches whose
 * events are still to come: loop_remove() therefore blanks the removed watch in the batch. Files
 * that epoll refuses (regular ones) stand in a list of their own and are ready in every round.
 */
#include "base/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"

/* syscalls (main, io): epoll_wait epoll_pwait epoll_ctl */

#define BATCH 64

struct loop {
	int epoll_fd;
	bool stopped;
	int result;
	struct loop_timer *timers; /* by deadline */
	struct epoll_event batch[BATCH];
	int batch_at, batch_len;
	struct loop_watch *always, *always_at; /* the next one to look at in this round */
};

struct loop *loop_create(void)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0) {
		free(l);
		return NULL;
	}
	return l;
}

void loop_destroy(struct loop *l)
{
	if (!l)
		return;
	close(l->epoll_fd);
	free(l);
}

static uint32_t to_epoll(unsigned int events)
{
	return (events & LOOP_READ ? EPOLLIN | EPOLLRDHUP : 0) |
	       (events & LOOP_WRITE ? EPOLLOUT : 0);
}

int loop_add(struct loop *l, struct loop_watch *w)
{
	struct epoll_event ev = { .events = to_epoll(w->events), .data.ptr = w };

	w->always = false;
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, w->fd, &ev) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	w->always = true;
	w->next = l->always;
	l->always = w;
	return 0;
}

void loop_set(struct loop *l, struct loop_watch *w, unsigned int events)
{
	struct epoll_event ev = { .events = to_epoll(events), .data.ptr = w };

	if (w->fd < 0 || w->events == events)
		return;
	w->events = events;
	if (w->always)
		return;
	epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev);
}

static void remove_always(struct loop *l, struct loop_watch *w)
{
	if (l->always_at == w)
		l->always_at = w->next;
	for (struct loop_watch **at = &l->always; *at; at = &(*at)->next) {
		if (*at == w) {
			*at = w->next;
			break;
		}
	}
}

void loop_remove(struct loop *l, struct loop_watch *w)
{
	if (w->fd < 0)
		return;
	if (w->always) {
		remove_always(l, w);
		w->fd = -1;
		return;
	}
	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	w->fd = -1;
	for (int i = l->batch_at; i < l->batch_len; i++)
		if (l->batch[i].data.ptr == w)
			l->batch[i].data.ptr = NULL;
}

void loop_arm(struct loop *l, struct loop_timer *t, int64_t ms)
{
	struct loop_timer **at = &l->timers;

	loop_cancel(l, t);
	t->at_ms = clock_ms() + ms;
	while (*at && (*at)->at_ms <= t->at_ms)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
}

void loop_cancel(struct loop *l, struct loop_timer *t)
{
	if (!t->at_ms)
		return;
	for (struct loop_timer **at = &l->timers; *at; at = &(*at)->next) {
		if (*at == t) {
			*at = t->next;
			break;
		}
	}
	t->at_ms = 0;
}

static void fire_timers(struct loop *l)
{
	int64_t now = clock_ms();

	while (l->timers && l->timers->at_ms <= now && !l->stopped) {
		struct loop_timer *t = l->timers;

		l->timers = t->next;
		t->at_ms = 0;
		t->fired(t);
	}
}

static int next_timeout(const struct loop *l)
{
	int64_t ms;

	for (const struct loop_watch *w = l->always; w; w = w->next)
		if (w->events)
			return 0;
	if (!l->timers)
		return -1;
	ms = l->timers->at_ms - clock_ms();
	return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

static unsigned int from_epoll(uint32_t events)
{
	return (events & (EPOLLIN | EPOLLRDHUP) ? LOOP_READ : 0) |
	       (events & EPOLLOUT ? LOOP_WRITE : 0) |
	       (events & (EPOLLHUP | EPOLLERR) ? LOOP_HANGUP : 0);
}

int loop_run(struct loop *l)
{
	while (!l->stopped) {
		int n = epoll_wait(l->epoll_fd, l->batch, BATCH, next_timeout(l));

		if (n < 0 && errno != EINTR)
			return -errno;
		l->batch_len = n < 0 ? 0 : n;
		for (l->batch_at = 0; l->batch_at < l->batch_len && !l->stopped;) {
			struct epoll_event *ev = &l->batch[l->batch_at++];
			struct loop_watch *w = ev->data.ptr;

			unsigned int events = w ? from_epoll(ev->events) : 0;

			/* An earlier callback of this round may have lost interest for it. */
			events &= w ? w->events | LOOP_HANGUP : 0;
			if (events)
				w->ready(w, events);
		}
		l->batch_at = l->batch_len = 0;
		l->always_at = l->always;
		while (l->always_at && !l->stopped) {
			struct loop_watch *w = l->always_at;

			l->always_at = w->next;
			if (w->events)
				w->ready(w, w->events);
		}
		fire_timers(l);
	}
	l->stopped = false;
	return l->result;
}

void loop_stop(struct loop *l, int result)
{
	l->stopped = true;
	l->result = result;
}
