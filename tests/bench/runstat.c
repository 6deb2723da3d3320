/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run a command and write what it took to descriptor 3.
 *
 *     runstat COMMAND [ARGUMENT...]    "wall_ns cpu_ns peak_kib status\n"
 *
 * A small program for it, since a child's peak of memory counts that of the process which started
 * it until the exec, and an interpreter's own time would be in the figures.
 */
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REPORT_FD 3

extern char **environ;

static long long ns(long s, long fraction, long unit)
{
	return s * 1000000000ll + fraction * unit;
}

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ns(t.tv_sec, t.tv_nsec, 1);
}

int main(int argc, char **argv)
{
	posix_spawn_file_actions_t actions;
	struct rusage used;
	long long start;
	int status = 0;
	pid_t pid;

	if (argc < 2 || posix_spawn_file_actions_init(&actions) ||
	    posix_spawn_file_actions_addclose(&actions, REPORT_FD))
		return 2;
	start = now_ns();
	if (posix_spawnp(&pid, argv[1], &actions, NULL, argv + 1, environ))
		return 127;
	if (wait4(pid, &status, 0, &used) < 0)
		return 2;
	dprintf(REPORT_FD, "%lld %lld %ld %d\n", now_ns() - start,
		ns(used.ru_utime.tv_sec + used.ru_stime.tv_sec,
		   used.ru_utime.tv_usec + used.ru_stime.tv_usec, 1000), used.ru_maxrss,
		WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}
