/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of the machine: SIGTERM to all, a while later SIGKILL, then the file systems.
 *
 * All of it runs in the event loop, since processes that end may still have to write to shared
 * folders, and commands have output to deliver.
 */
#include "agent/power.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TERM_MS	 2000
#define KILL_MS	 1000
#define FLUSH_MS 10000
#define SYNC_MS	 3000 /* without a loop, when the host is gone */
#define STEP_NS	 1000000

static struct {
	struct agent *agent;
	void (*done)(void *ctx);
	void *ctx;
	struct loop_timer timer;
	struct task task;
	bool killed;
} down;

static int flush_work(void *ctx)
{
	struct agent *a = ctx;
	int rw_fd = a->rw_fd;
	char path[64];

	children_keep_only(&rw_fd, 1);
	sync();
	mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
	if (rw_fd >= 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", rw_fd);
		mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL);
	}
	return 0;
}

static void flushed(struct task *t, int result)
{
	(void)t, (void)result;
	down.done(down.ctx);
}

static void flush(void)
{
	struct agent *a = down.agent;

	a->children.alone = NULL;
	loop_cancel(a->loop, &down.timer);
	down.task = (struct task){ .done = flushed, .ctx = a };
	if (task_start(&a->children, &down.task, flush_work, FLUSH_MS) < 0)
		down.done(down.ctx);
}

static void on_alone(void *ctx)
{
	(void)ctx;
	flush();
}

static void on_timer(struct loop_timer *t)
{
	if (down.killed) {
		flush();
		return;
	}
	down.killed = true;
	kill(-1, SIGKILL);
	loop_arm(down.agent->loop, t, KILL_MS);
}

int power_down(struct agent *a, void (*done)(void *ctx), void *ctx)
{
	if (down.agent)
		return -EALREADY;
	down.agent = a;
	down.done = done;
	down.ctx = ctx;
	down.timer = (struct loop_timer){ .fired = on_timer };
	a->setup = SETUP_FAILED; /* no new commands */
	a->children.alone = on_alone;
	kill(-1, SIGTERM);
	kill(-1, SIGCONT);
	loop_arm(a->loop, &down.timer, TERM_MS);
	children_reap(&a->children);
	return 0;
}

static void off(struct loop_timer *t)
{
	(void)t;
	agent_power_off();
}

void power_off_soon(struct agent *a, int ms)
{
	loop_cancel(a->loop, &down.timer);
	down.timer = (struct loop_timer){ .fired = off };
	loop_arm(a->loop, &down.timer, ms);
}

/*
 * A flush may wait for ever for a folder whose host is gone: it is a child's business. The machine
 * ends by a restart, which every kind of machine understands and none performs.
 */
void agent_power_off(void)
{
	pid_t pid = children_fork();

	if (pid == 0) {
		children_keep_only(NULL, 0);
		sync();
		_exit(0);
	}
	for (int i = 0; i < SYNC_MS && waitpid(pid, NULL, WNOHANG) == 0; i++)
		nanosleep(&(struct timespec){ 0, STEP_NS }, NULL);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
