/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes on Linux: vfork-like start with exec errors reported, pidfds.
 */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"

#define FDS_MAX  96
#define FD_ABOVE 128 /* where descriptors wait while the low numbers are handed out */

extern char **environ;

/* A copy of @fd at @from or above. Return: it, or -1; where the limit is below that, EMFILE. */
static int copy_above(int fd, int from)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, from);

	if (copy < 0 && errno == EINVAL)
		errno = EMFILE;
	return copy;
}

/* In the child: only async-signal-safe calls from here on. */
static int child_fds(const struct proc_config *c, int report_fd)
{
	int moved[FDS_MAX];
	int null_fd = copy_above(open("/dev/null", O_RDWR), FD_ABOVE);
	bool std[3] = { false, false, false };

	if (null_fd < 0)
		return -errno;
	for (size_t i = 0; i < c->n_fds; i++) {
		int from = c->fds[i].from < 0 ? null_fd : c->fds[i].from;

		moved[i] = copy_above(from, FD_ABOVE);
		if (moved[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < c->n_fds; i++) {
		if (dup2(moved[i], c->fds[i].to) < 0)
			return -errno;
		if (c->fds[i].to < 3)
			std[c->fds[i].to] = true;
	}
	for (int i = 0; i < 3; i++)
		if (!std[i] && dup2(null_fd, i) < 0)
			return -errno;
	/* Close all the rest but the report, which closes itself on exec. */
	for (int fd = 3; fd < FD_ABOVE; fd++) {
		bool given = false;

		for (size_t i = 0; i < c->n_fds; i++)
			given |= c->fds[i].to == fd;
		if (!given)
			close(fd);
	}
	syscall(SYS_close_range, FD_ABOVE, report_fd - 1, 0);
	syscall(SYS_close_range, report_fd + 1, ~0u, 0);
	return 0;
}

static void child_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_main(const struct proc_config *c, int report_fd, pid_t parent)
{
	int e;

	child_signals();
	e = -child_fds(c, report_fd);
	if (e)
		goto failed;
	if (c->new_session)
		setsid();
	if (c->die_with_parent) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(127);
	}
	e = c->before_exec ? -c->before_exec(c->before_exec_ctx) : 0;
	if (e)
		goto failed;
	execve(c->path, (char **)(uintptr_t)c->argv, c->env ? (char **)(uintptr_t)c->env : environ);
	e = errno;
failed:
	if (write(report_fd, &e, sizeof(e)) < 0)
		_exit(126);
	_exit(127);
}

static int check_fds(const struct proc_config *c, struct smolvm_error *err)
{
	if (c->n_fds > FDS_MAX)
		return err_set(err, E2BIG, "too many descriptors for %s", c->path);
	for (size_t i = 0; i < c->n_fds; i++)
		if (c->fds[i].to < 0 || c->fds[i].to >= FD_ABOVE)
			return err_set(err, EINVAL, "%s cannot have a descriptor %d", c->path,
				       c->fds[i].to);
	return 0;
}

/* No signal reaches the child while it still has this process's handlers. */
static pid_t fork_child(const struct proc_config *c, int report_fd)
{
	pid_t parent = getpid(), pid;
	sigset_t all, old;
	int e;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid == 0)
		child_main(c, report_fd, parent);
	e = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = e;
	return pid;
}

static int cannot_start(const struct proc_config *c, int error, struct smolvm_error *err)
{
	return err_set(err, error, "cannot start %s: %s%s", c->path, strerror(error),
		       error == EMFILE ? "; raise the limit with 'ulimit -n'" : "");
}

int proc_spawn(const struct proc_config *c, pid_t *ret_pid, int *ret_pidfd,
	       struct smolvm_error *err)
{
	int report[2], high, e = 0, pidfd;
	ssize_t n;
	pid_t pid;

	e = check_fds(c, err);
	if (e < 0)
		return e;
	if (pipe2(report, O_CLOEXEC) < 0)
		return err_sys(err, "cannot start %s", c->path);
	high = copy_above(report[1], 2 * FD_ABOVE + FDS_MAX);
	if (high < 0)
		high = copy_above(report[1], FD_ABOVE);
	close(report[1]);
	pid = high < 0 ? -1 : fork_child(c, high);
	e = errno;
	if (high >= 0)
		close(high);
	if (pid < 0) {
		close(report[0]);
		return cannot_start(c, e, err);
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	e = pidfd < 0 ? errno : 0;
	n = fd_read_full(report[0], &e, sizeof(e));
	close(report[0]);
	if (n == sizeof(e) || pidfd < 0) {
		if (n != sizeof(e))
			kill(pid, SIGKILL);
		if (pidfd >= 0)
			close(pidfd);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return cannot_start(c, e, err);
	}
	fd_set_cloexec(pidfd, 1);
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

int proc_wait(pid_t pid, int pidfd, int timeout_ms, int *ret_status)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int64_t end = clock_ms() + timeout_ms;
	int n;

	while ((n = poll(&p, 1, timeout_ms)) < 0 && errno == EINTR) {
		int64_t left = end - clock_ms();

		if (timeout_ms >= 0)
			timeout_ms = left > 0 ? (int)left : 0;
	}
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ETIMEDOUT;
	while (waitpid(pid, ret_status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

void proc_kill(int pidfd, int signal)
{
	syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int proc_run(const struct proc_config *c, int timeout_ms, struct smolvm_error *err)
{
	AUTO_FD pidfd = -1;
	int status = 0, rc;
	pid_t pid = -1;

	rc = proc_spawn(c, &pid, &pidfd, err);
	if (rc < 0)
		return rc;
	rc = proc_wait(pid, pidfd, timeout_ms, &status);
	if (rc == -ETIMEDOUT) {
		proc_kill(pidfd, SIGKILL);
		proc_wait(pid, pidfd, -1, &status);
		return err_set(err, ETIMEDOUT, "%s did not finish within %d s", c->path,
			       timeout_ms / 1000);
	}
	return rc < 0 ? err_set(err, -rc, "waiting for %s failed", c->path) : status;
}
