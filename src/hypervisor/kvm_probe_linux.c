/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is there a KVM here that is worth using? Measured, not assumed.
 *
 * A /dev/kvm may open, create machines and still be useless: without hardware support for nesting
 * a host's host may emulate guest kernel code at a million instructions a second, and get some of
 * them wrong. So a guest of three instructions in a loop is run, and the processor time that it
 * takes is looked at, which hardly depends on how busy this host is. A first run that is slow is
 * repeated: there is much that only a first entry has to do.
 */
#include "hypervisor/kvm_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fd.h"

#define LOOP_COUNT 50000 /* two instructions each: 0.1 ms on a CPU, 50 ms emulated */
#define FINE_NS (20 * 1000000ll)
#define LIMIT_MS 2000 /* for a host that is busy, or a KVM that hangs */
#define TRIES 2

/* Real mode: mov ecx, LOOP_COUNT; again: dec ecx; jnz again; hlt */
static const uint8_t guest_code[] = {
	0x66,
	0xb9,
	LOOP_COUNT & 0xff,
	LOOP_COUNT >> 8 & 0xff,
	LOOP_COUNT >> 16 & 0xff,
	0,
	0x66,
	0x49,
	0x75,
	0xfc,
	0xf4,
};

static const char *const texts[] = {
	[KVM_FINE] = "usable",
	[KVM_ABSENT] =
		"no /dev/kvm: the processor's virtualization is off in the firmware, this is a "
		"virtual machine without nesting, or the kvm module is not loaded",
	[KVM_NO_PERMISSION] = "no permission to open /dev/kvm: add yourself to its group with "
			      "'sudo usermod -aG kvm $USER', then log in again",
	[KVM_LOGIN_STALE] =
		"you are in the group of /dev/kvm, but this login is older than that: log "
		"out and in again, or run 'newgrp kvm'",
	[KVM_EMULATING] =
		"/dev/kvm opens, but only emulates: guest kernel code runs a thousand times "
		"too slowly (nested virtualization is not available on this host)",
	[KVM_BROKEN] = "/dev/kvm does not work",
};

const char *kvm_state_text(enum kvm_state state)
{
	return texts[state];
}

/* Whether the account is in @gid, though this process is not. */
static bool account_in_group(gid_t gid)
{
	struct passwd pw, *found = NULL;
	gid_t groups[256];
	int n = 256;
	char buf[4096];

	if (getpwuid_r(getuid(), &pw, buf, sizeof(buf), &found) != 0 || !found)
		return false;
	if (getgrouplist(pw.pw_name, pw.pw_gid, groups, &n) < 0)
		return false;
	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

enum kvm_state kvm_probe_open(void)
{
	AUTO_FD fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	enum kvm_state state = KVM_FINE;
	struct stat st;

	if (fd < 0 && (errno == EACCES || errno == EPERM))
		state = stat("/dev/kvm", &st) == 0 && account_in_group(st.st_gid)
				? KVM_LOGIN_STALE
				: KVM_NO_PERMISSION;
	else if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		state = KVM_ABSENT;
	else if (fd < 0 || ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		state = KVM_BROKEN;
	return state;
}

#ifdef __x86_64__
/* Processor time of one run of the guest, of this thread: guest and KVM alike; or -1. */
static int64_t time_run(int vcpu, const struct kvm_run *run)
{
	struct timespec from, to;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	if (ioctl(vcpu, KVM_RUN, 0) < 0 || run->exit_reason != KVM_EXIT_HLT)
		return -1;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	return (int64_t)(to.tv_sec - from.tv_sec) * 1000000000 + (to.tv_nsec - from.tv_nsec);
}

static int64_t time_guest(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = 4096 };
	struct kvm_regs regs = { .rip = 0, .rflags = 2 };
	struct kvm_sregs sregs;
	AUTO_FD kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	AUTO_FD vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	AUTO_FD vcpu = vm < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
	long run_size = vcpu < 0 ? -1 : ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run;
	int64_t first, second;
	void *memory;

	if (run_size < (long)sizeof(*run))
		return -1;
	run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (run == MAP_FAILED || memory == MAP_FAILED)
		return -1;
	memcpy(memory, guest_code, sizeof(guest_code));
	region.userspace_addr = (uintptr_t)memory;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ||
	    ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		return -1;
	first = time_run(vcpu, run);
	if (first < 0 || first < FINE_NS)
		return first;
	second = ioctl(vcpu, KVM_SET_REGS, &regs) < 0 ? -1 : time_run(vcpu, run);
	return second;
}
#else
static int64_t time_guest(void)
{
	return 0; /* only x86 hosts have been seen to emulate */
}
#endif

/* In a child, for the time limit's sake: the best of a few runs, or -1, through @fd. */
static void child_main(int fd)
{
	int64_t best = -1;

	for (int i = 0; i < TRIES; i++) {
		int64_t t = time_guest();

		if (t >= 0 && (best < 0 || t < best))
			best = t;
		if (t < 0 || best < FINE_NS)
			break;
	}
	_exit(fd_write_all(fd, &best, sizeof(best)) < 0);
}

static enum kvm_state measure(void)
{
	int64_t best = -1, deadline = clock_ms() + LIMIT_MS;
	struct pollfd p = { .events = POLLIN };
	int pipe_fds[2], n;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return KVM_BROKEN;
	pid = fork();
	if (pid == 0)
		child_main(pipe_fds[1]);
	close(pipe_fds[1]);
	p.fd = pipe_fds[0];
	do {
		int64_t left = deadline - clock_ms();

		n = pid < 0 ? -1 : poll(&p, 1, left < 0 ? 0 : (int)left);
	} while (n < 0 && errno == EINTR && pid > 0);
	if (n == 1 && read(pipe_fds[0], &best, sizeof(best)) != sizeof(best))
		best = -1;
	if (n == 0)
		best = INT64_MAX;
	close(pipe_fds[0]);
	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return best < 0 ? KVM_BROKEN : best < FINE_NS ? KVM_FINE : KVM_EMULATING;
}

enum kvm_state kvm_probe(void)
{
	enum kvm_state state = kvm_probe_open();

	return state == KVM_FINE ? measure() : state;
}
