/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reaping, and work in child processes.
 */
#include "agent/children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES_GUESS 8192u

void children_reap(struct children *cs)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct child *c = cs->list;

		while (c && c->pid != pid)
			c = c->next;
		if (!c)
			continue;
		children_forget(cs, c);
		c->exited(c, status);
	}
	if (pid < 0 && errno == ECHILD && cs->alone)
		cs->alone(cs->alone_ctx);
}

static void on_signal(struct loop_watch *w, unsigned int events)
{
	struct signalfd_siginfo info;

	(void)events;
	if (read(w->fd, &info, sizeof(info)) > 0)
		children_reap(w->ctx);
}

int children_init(struct children *cs, struct loop *l)
{
	sigset_t set;
	int rc;

	cs->loop = l;
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	cs->watch = (struct loop_watch){ .events = LOOP_READ, .ready = on_signal, .ctx = cs };
	cs->watch.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (cs->watch.fd < 0)
		return -errno;
	rc = loop_add(l, &cs->watch);
	return rc;
}

pid_t children_fork(void)
{
	pid_t pid = fork();
	sigset_t none;

	if (pid == 0) {
		sigemptyset(&none);
		signal(SIGPIPE, SIG_DFL);
		sigprocmask(SIG_SETMASK, &none, NULL);
	}
	return pid;
}

void children_keep_only(int *fds, int n)
{
	const unsigned int first = 3, end = first + (unsigned int)n;

	for (int i = 0; i < n; i++) /* out of the way */
		if (fds[i] >= 0)
			fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, (int)end);
	for (int i = 0; i < n; i++) {
		int to = (int)first + i;

		if (fds[i] < 0)
			close(to);
		else
			fds[i] = dup3(fds[i], to, O_CLOEXEC);
	}
	if (syscall(SYS_close_range, end, ~0u, 0) == 0)
		return;
	for (unsigned int fd = end; fd < FILES_GUESS; fd++) /* before Linux 5.9 */
		close((int)fd);
}

void children_add(struct children *cs, struct child *c)
{
	c->next = cs->list;
	cs->list = c;
}

void children_forget(struct children *cs, struct child *c)
{
	for (struct child **at = &cs->list; *at; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			return;
		}
	}
}

static void task_exited(struct child *c, int status)
{
	struct task *t = c->ctx;

	loop_cancel(t->children->loop, &t->timer);
	t->child.pid = 0;
	t->done(t, WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO);
}

static void task_expired(struct loop_timer *timer)
{
	struct task *t = timer->ctx;

	task_cancel(t);
	t->done(t, -ETIMEDOUT);
}

int task_start(struct children *cs, struct task *t, int (*work)(void *ctx), int timeout_ms)
{
	pid_t pid = children_fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(work(t->ctx) == 0 ? 0 : 1);
	t->children = cs;
	t->child = (struct child){ .pid = pid, .exited = task_exited, .ctx = t };
	t->timer = (struct loop_timer){ .fired = task_expired, .ctx = t };
	children_add(cs, &t->child);
	loop_arm(cs->loop, &t->timer, timeout_ms);
	return 0;
}

void task_cancel(struct task *t)
{
	if (!t->child.pid)
		return;
	kill(t->child.pid, SIGKILL);
	children_forget(t->children, &t->child);
	loop_cancel(t->children->loop, &t->timer);
	t->child.pid = 0;
}
