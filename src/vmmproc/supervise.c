/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor: the half of smolvm-vmm that stays outside.
 *
 * Theory of operation. A machine that confines itself can no longer remove its own run folder, so
 * the process parts in two before it does anything: the child becomes the machine; the parent has
 * nothing of the guest's, knows the folder's name, holds the lock, and waits. Whoever waits for the
 * parent has waited for all of it. The kernel kills the child when the parent ends in whatever way,
 * and a hypervisor when the child does; the lock, the proof of the machine's life, is the parent's
 * alone, so that it is free as soon as nobody is left who would clear up.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/proc.h"
#include "proto/vmm.h"
#include "vmmproc/vmm.h"

/* The folder first, then its lock: who finds no lock finds no folder either. */
void supervise_clear(const char *run_dir)
{
	AUTO_FREE char *lock = NULL;

	if (!run_dir)
		return;
	path_remove_tree(run_dir);
	if (asprintf(&lock, "%s.lock", run_dir) < 0)
		lock = NULL;
	else
		unlink(lock);
}

/* What only this side knows; the child has told all the rest. */
static void tell_death(int status, const struct jail_death *death)
{
	char text[200];
	const char *name;
	int number;

	if (!WIFSIGNALED(status) || WTERMSIG(status) == SIGKILL)
		return; /* "smolvm-vmm was killed", says the client */
	number = death->syscall - 1;
	if (WTERMSIG(status) != SIGSYS || number < 0) {
		snprintf(text, sizeof(text), "smolvm-vmm crashed (signal %d)", WTERMSIG(status));
	} else {
		name = jail_syscall_name(number);
		snprintf(text, sizeof(text),
			 "smolvm-vmm was stopped: its %s thread tried the forbidden system call %s "
			 "(%d); please report this",
			 jail_kind_name((unsigned int)death->kind), name ? name : "number", number);
	}
	vmmproc_tell_ended(EIO, text);
}

/* Until the child has ended; signals go on to it. Return: as waitpid() gives it. */
static int attend(pid_t pid, int pidfd, int signals)
{
	struct pollfd p[2] = { { .fd = pidfd, .events = POLLIN },
			       { .fd = signals, .events = POLLIN } };
	struct signalfd_siginfo info;
	int status = 0;

	while (poll(p, 2, -1) < 0 || !p[0].revents)
		if (p[1].revents & POLLIN && read(signals, &info, sizeof(info)) == sizeof(info))
			proc_kill(pidfd, (int)info.ssi_signo);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static void parent(const struct vmm *v, pid_t pid, const sigset_t *set)
{
	int pidfd, signals, status;

	syscall(SYS_close_range, VMM_FD_LOCK + 1, ~0u, 0);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	signals = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (pidfd < 0 || signals < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	} else {
		status = attend(pid, pidfd, signals);
	}
	tell_death(status, v->death);
	supervise_clear(v->run_dir);
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int supervise_end_with_parent(pid_t parent_pid)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return getppid() == parent_pid ? 0 : -ESRCH;
}

int supervise(struct vmm *v, struct smolvm_error *err)
{
	pid_t pid;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	/* Before there is any thread: one that does not block a signal would die of it. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	v->death = mmap(NULL, sizeof(*v->death), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (v->death == MAP_FAILED)
		return err_nomem(err);
	v->parent = getpid();
	pid = fork();
	if (pid < 0)
		return err_sys(err, "cannot start smolvm-vmm");
	if (pid > 0)
		parent(v, pid, &set);
	close(VMM_FD_LOCK);
	if (supervise_end_with_parent(v->parent) < 0)
		_exit(1);
	return 0;
}
