/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System call filters (seccomp), one for each kind of thread.
 *
 * Theory of operation. What is noted for a kind is allowed; a call that no honest code makes
 * (starting a program, looking into another process, a new socket) ends the process; all the rest
 * fails with EPERM, because a new C library may try something harmless that nobody has noted. A
 * call that ends the process first runs a signal handler in the thread that made it: the handler
 * notes who died of what in memory that the supervisor reads, and then makes the one call that the
 * kernel kills for at once. The call itself is not made in any case.
 *
 * The disposition of SIGSYS and where deaths are noted belong to the process, hence the static
 * variables: they are written once, before there are threads.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "jail/filter.h"
#include "jail/layers.h"

struct filter_name {
	int number;
	const char *name;
};

#include "jail_filters.h"

/*
 * What the C library does by itself: memory, locks, the end of threads, abort(). Files below /proc
 * that malloc() would look at cannot be opened; it does without.
 */
/* syscalls (all): brk mmap mprotect munmap mremap madvise(MADV_DONTNEED MADV_FREE MADV_HUGEPAGE)
 * futex sched_yield sched_getaffinity set_robust_list rseq membarrier
 * rt_sigprocmask rt_sigreturn restart_syscall tgkill gettid getpid
 * clock_gettime clock_nanosleep nanosleep getrandom
 * read write writev close exit exit_group */

/* How threads are named, and how they go on to confine themselves. */
/* syscalls (all): prctl(PR_SET_NAME) */

/* syscalls (absent): clone3 */

/* syscalls (never): execve execveat fork vfork ptrace process_vm_readv process_vm_writev
 * pidfd_getfd kcmp process_madvise
 * socket connect bind listen
 * mount umount2 pivot_root chroot setns unshare open_tree move_mount mount_setattr fsopen
 * fsmount fsconfig fspick open_by_handle_at
 * init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff
 * bpf perf_event_open userfaultfd keyctl add_key request_key acct syslog
 * settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname
 * setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid
 * personality prlimit64 setrlimit iopl ioperm modify_ldt
 * msgget semget shmget mq_open */

static const struct {
	const struct sock_filter *code;
	size_t n;
} filters[JAIL_KINDS] = {
#define FILTER(name) { filter_##name, sizeof(filter_##name) / sizeof(*filter_##name) }
	[JAIL_MAIN] = FILTER(main),	[JAIL_VCPU] = FILTER(vcpu), [JAIL_IO] = FILTER(io),
	[JAIL_WORKER] = FILTER(worker), [JAIL_FS] = FILTER(fs),
};

#define LARGEST_FILTER 1024
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code: the signal comes from a filter */
#endif

static struct jail_death *noted;
static __thread int my_kind = JAIL_MAIN;

const char *jail_syscall_name(int number)
{
	for (size_t i = 0; i < sizeof(filter_names) / sizeof(*filter_names); i++)
		if (filter_names[i].number == number)
			return filter_names[i].name;
	return NULL;
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	if (info->si_code == SYS_SECCOMP && noted && !noted->syscall) {
		noted->kind = my_kind;
		noted->syscall = info->si_syscall + 1;
	}
	syscall(FILTER_DEATH, 0, 0, 0, 0);
	_exit(1);
}

static bool sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	return true;
#endif
#endif
	return false;
}

void filter_prepare(const struct jail_config *c, struct jail_status *s)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	unsigned int trap = SECCOMP_RET_TRAP;

	if (sanitized()) {
		status_set(s, false, "not in a build with sanitizers");
		return;
	}
	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &trap) < 0) {
		status_set(s, false, "this kernel has no filters: %s", strerror(errno));
		return;
	}
	noted = c->death;
	sigaction(SIGSYS, &action, NULL);
	status_set(s, true, "a list for each kind of thread, no programs, no sockets");
}

/* Fill in what is known only now. */
static void complete(struct sock_filter *f, size_t n, bool strict)
{
	for (size_t i = 0; i < n; i++) {
		if (f[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && f[i].k == FILTER_OWN_PID)
			f[i].k = (unsigned int)getpid();
		if (strict && f[i].code == (BPF_RET | BPF_K) &&
		    f[i].k == (SECCOMP_RET_ERRNO | EPERM))
			f[i].k = SECCOMP_RET_TRAP;
	}
}

int filter_install(const struct jail_config *c, enum jail_kind kind)
{
	struct sock_filter code[LARGEST_FILTER];
	struct sock_fprog program = { (unsigned short)filters[kind].n, code };
	sigset_t set;

	if (filters[kind].n > LARGEST_FILTER)
		return -E2BIG;
	memcpy(code, filters[kind].code, filters[kind].n * sizeof(*code));
	complete(code, filters[kind].n, c->strict);
	my_kind = (int)kind;
	/* A thread that has it blocked would die without a word. */
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}
