/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hv_kvm against a KVM that is played by this file (ioctl() is wrapped): what it lacks, what it
 * refuses, and every kind of exit. The real one is the lab's: tests/lab/kvm_guest.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "hypervisor/hv.h"

#define RUN_BYTES 0x3000
#define NONE (-1)

static const struct hv_ops *const ops = &hv_kvm;

/* What this KVM does. */
static struct {
	long lacks;            /* this capability */
	unsigned long refuses; /* this request ... */
	int with;              /* ... with this errno */
	int times;             /* so often; -1: always */
	int version;
	int cpus_max;
	long run_bytes;
	bool no_nesting;
	struct kvm_run *run;  /* of the last vCPU */
	void (*on_run)(void); /* what KVM_RUN leaves in @run */
	int run_error;        /* or how it fails ... */
	int run_fails;        /* ... so often */
	unsigned int runs, immediate;
	uint32_t mp_state;
	uint64_t rflags;
	uint8_t nmi_pending;
} kvm;

static int played_cpuid(struct kvm_cpuid2 *list)
{
	list->nent = 2;
	list->entries[0] = (struct kvm_cpuid_entry2){ 0, .eax = 1 };
	list->entries[1] = (struct kvm_cpuid_entry2){ 1, .ecx = kvm.no_nesting ? 0 : 1 << 5 };
	return 0;
}

static int played_run(void)
{
	kvm.runs++;
	if (kvm.run->immediate_exit) {
		kvm.immediate++;
		errno = EINTR;
		return -1;
	}
	if (kvm.run_fails > 0) {
		kvm.run_fails--;
		errno = kvm.run_error;
		return -1;
	}
	kvm.on_run();
	return 0;
}

static int played_vcpu(void)
{
	int fd = memfd_create("vcpu", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, RUN_BYTES), 0);
	kvm.run = mmap(NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(kvm.run, MAP_FAILED);
	return fd;
}

static int played_extension(long cap)
{
	if (cap == kvm.lacks)
		return 0;
	if (cap == KVM_CAP_MAX_VCPUS || cap == KVM_CAP_NR_VCPUS)
		return kvm.cpus_max;
	return cap == KVM_CAP_NR_MEMSLOTS ? 8 : 1;
}

int __wrap_ioctl(int fd, unsigned long request, unsigned long arg);

int __wrap_ioctl(int fd, unsigned long request, unsigned long arg)
{
	void *p = (void *)arg; /* NOLINT(performance-no-int-to-ptr) */

	if (request == kvm.refuses && kvm.times != 0) {
		if (kvm.times > 0)
			kvm.times--;
		errno = kvm.with;
		return -1;
	}
	switch (request) {
	case KVM_GET_API_VERSION:
		return kvm.version;
	case KVM_CHECK_EXTENSION:
		return played_extension((long)arg);
	case KVM_GET_VCPU_MMAP_SIZE:
		return (int)kvm.run_bytes;
	case KVM_CREATE_VM:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case KVM_CREATE_VCPU:
		return played_vcpu();
	case KVM_GET_SUPPORTED_CPUID:
		return played_cpuid(p);
	case KVM_RUN:
		return played_run();
	case KVM_GET_MP_STATE:
		*(struct kvm_mp_state *)p = (struct kvm_mp_state){ kvm.mp_state };
		return 0;
	case KVM_GET_REGS:
		*(struct kvm_regs *)p = (struct kvm_regs){ .rip = 0x1234, .rflags = kvm.rflags };
		return 0;
	case KVM_GET_VCPU_EVENTS:
		*(struct kvm_vcpu_events *)p =
			(struct kvm_vcpu_events){ .nmi.pending = kvm.nmi_pending };
		return 0;
	default:
		return request == KVM_GET_MSRS || request == KVM_SET_MSRS ? 1 : 0;
	}
}

static int setup(void **state)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, HV_KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	memset(&kvm, 0, sizeof(kvm));
	kvm.lacks = NONE;
	kvm.version = KVM_API_VERSION;
	kvm.cpus_max = 1000;
	kvm.run_bytes = RUN_BYTES;
	return 0;
}

static int teardown(void **state)
{
	if (kvm.run)
		munmap(kvm.run, RUN_BYTES);
	return 0;
}

/* ---------------------------------------------------------------- what it lacks or refuses */

static int create(struct hv **hv, unsigned int cpus, bool nested, struct smolvm_error *err)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC), rc;

	rc = ops->create(hv, &(struct hv_config){ .kvm_fd = fd, .cpus = cpus, .nested = nested },
			 err);
	assert_int_equal(close(fd), 0); /* it has stayed ours */
	return rc;
}

static void expect_create(int error, const char *text)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct hv *hv;

	assert_int_equal(create(&hv, 1, true, &err), -error);
	assert_int_equal(err.code, error);
	if (!strstr(err.message, text))
		fail_msg("'%s' does not contain '%s'", err.message, text);
}

static void lacks_capability(void **state)
{
	static const struct {
		long cap;
		const char *name;
	} caps[] = {
		{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
		{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
		{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
		{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
		{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
		{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	};

	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		kvm.lacks = caps[i].cap;
		expect_create(ENOTSUP, caps[i].name);
	}
}

static void refuses(void **state)
{
	static const struct {
		unsigned long request;
		int with, error;
		const char *text;
	} cases[] = {
		{ KVM_GET_API_VERSION, ENOTTY, ENODEV, "not KVM" },
		{ KVM_CREATE_VM, ENOMEM, ENOMEM, "a new machine" },
		{ KVM_CREATE_VM, EBUSY, EBUSY, "a new machine" },
		{ KVM_GET_SUPPORTED_CPUID, E2BIG, E2BIG, "CPUID" },
		{ KVM_SET_TSS_ADDR, EINVAL, EINVAL, "its own pages" },
		{ KVM_CREATE_IRQCHIP, ENOMEM, ENOMEM, "interrupt controllers" },
	};
	struct smolvm_error err;
	struct hv *hv;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		kvm.refuses = cases[i].request;
		kvm.with = cases[i].with;
		kvm.times = -1;
		expect_create(cases[i].error, cases[i].text);
	}
	kvm.refuses = KVM_CREATE_VM; /* a signal in between is nothing */
	kvm.with = EINTR;
	kvm.times = 3;
	assert_int_equal(create(&hv, 1, false, &err), 0);
	ops->destroy(hv);
}

static void odd_kvm(void **state)
{
	struct smolvm_error err;
	struct hv *hv;

	kvm.version = 11;
	expect_create(ENOTSUP, "version 11");
	kvm.version = KVM_API_VERSION;
	kvm.run_bytes = 16;
	expect_create(ENOTSUP, "odd size");
	kvm.run_bytes = RUN_BYTES;
	kvm.no_nesting = true;
	expect_create(ENOTSUP, "nested");
	assert_int_equal(create(&hv, 254, false, &err), 0);
	assert_int_equal(ops->cpus_max(hv), 254);
	ops->destroy(hv);
	assert_int_equal(create(&hv, 255, false, &err), -EINVAL);
	kvm.cpus_max = 2;
	assert_int_equal(create(&hv, 3, false, &err), -EINVAL);
	assert_non_null(strstr(err.message, "1 to 2"));
}

static void vcpu_refused(void **state)
{
	static const unsigned long requests[] = {
		KVM_CREATE_VCPU,
		KVM_SET_SIGNAL_MASK,
		KVM_SET_CPUID2,
		KVM_SET_FPU,
	};
	struct smolvm_error err;
	struct hv_vcpu *vcpu;
	struct hv *hv;

	assert_int_equal(create(&hv, 1, false, &err), 0);
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		kvm.refuses = requests[i];
		kvm.with = EINVAL;
		kvm.times = -1;
		assert_int_equal(ops->vcpu_create(hv, 0, &vcpu, &err), -EINVAL);
		teardown(NULL);
		kvm.run = NULL;
	}
	kvm.times = 0;
	assert_int_equal(ops->vcpu_create(hv, 0, &vcpu, &err), 0);
	kvm.refuses = KVM_SET_SREGS;
	kvm.times = -1;
	assert_int_equal(ops->vcpu_boot(vcpu, &(struct hv_boot){ .ip = 1 }, &err), -EINVAL);
	ops->destroy(hv);
}

/* ---------------------------------------------------------------- exits */

static struct hv *run_hv;

static struct hv_vcpu *new_vcpu(void)
{
	struct smolvm_error err;
	struct hv_vcpu *vcpu;

	assert_int_equal(create(&run_hv, 1, false, &err), 0);
	assert_int_equal(ops->vcpu_create(run_hv, 0, &vcpu, &err), 0);
	return vcpu;
}

static void exit_unknown(void)
{
	kvm.run->exit_reason = KVM_EXIT_UNKNOWN;
	kvm.run->hw.hardware_exit_reason = 0x77;
}

static void exit_fail_entry(void)
{
	kvm.run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	kvm.run->fail_entry.hardware_entry_failure_reason = 0x80000021;
}

static void exit_emulation(void)
{
	kvm.run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	kvm.run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
}

static void exit_internal(void)
{
	kvm.run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	kvm.run->internal.suberror = 99;
}

static void exit_shutdown(void)
{
	kvm.run->exit_reason = KVM_EXIT_SHUTDOWN;
}

static void exit_halt(void)
{
	kvm.run->exit_reason = KVM_EXIT_HLT;
}

static void exit_poweroff(void)
{
	kvm.run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	kvm.run->system_event.type = KVM_SYSTEM_EVENT_SHUTDOWN;
}

static void exit_reset(void)
{
	kvm.run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	kvm.run->system_event.type = KVM_SYSTEM_EVENT_RESET;
}

static void exit_crash(void)
{
	kvm.run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	kvm.run->system_event.type = KVM_SYSTEM_EVENT_CRASH;
}

static void exit_event(void)
{
	kvm.run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	kvm.run->system_event.type = 55;
}

static void exit_debug(void)
{
	kvm.run->exit_reason = KVM_EXIT_DEBUG;
}

static void exit_future(void)
{
	kvm.run->exit_reason = 0xfffffff0;
}

static void exit_io(void)
{
	kvm.run->exit_reason = KVM_EXIT_IO;
	kvm.run->io.direction = KVM_EXIT_IO_IN;
	kvm.run->io.port = 0x60;
	kvm.run->io.size = 2;
	kvm.run->io.count = 3;
	kvm.run->io.data_offset = RUN_BYTES - 6;
}

static void exit_io_outside(void)
{
	exit_io();
	kvm.run->io.data_offset = RUN_BYTES - 5;
}

static void exit_io_far(void)
{
	exit_io();
	kvm.run->io.data_offset = UINT64_MAX - 2;
}

static void exit_io_nothing(void)
{
	exit_io();
	kvm.run->io.count = 0;
}

static void exit_io_huge(void)
{
	exit_io();
	kvm.run->io.count = UINT32_MAX;
}

static void exits(void **state)
{
	static const struct {
		void (*on_run)(void);
		enum hv_exit_kind kind;
		int error;
		const char *text;
	} cases[] = {
		{ exit_unknown, HV_EXIT_ERROR, EIO, "0x77" },
		{ exit_fail_entry, HV_EXIT_ERROR, EIO, "0x80000021" },
		{ exit_emulation, HV_EXIT_ERROR, EIO, "cannot emulate (1), at 0x1234" },
		{ exit_internal, HV_EXIT_ERROR, EIO, "internal error (99)" },
		{ exit_shutdown, HV_EXIT_SHUTDOWN, 0, NULL },
		{ exit_halt, HV_EXIT_HALT, 0, NULL },
		{ exit_poweroff, HV_EXIT_POWEROFF, 0, NULL },
		{ exit_reset, HV_EXIT_RESET, 0, NULL },
		{ exit_crash, HV_EXIT_ERROR, EIO, "crashed" },
		{ exit_event, HV_EXIT_ERROR, ENOTSUP, "event 55" },
		{ exit_debug, HV_EXIT_ERROR, ENOTSUP, "exit 4" },
		{ exit_future, HV_EXIT_ERROR, ENOTSUP, "exit 4294967280" },
		{ exit_io, HV_EXIT_IO, 0, NULL },
		{ exit_io_outside, HV_EXIT_ERROR, EIO, "impossible" },
		{ exit_io_far, HV_EXIT_ERROR, EIO, "impossible" },
		{ exit_io_nothing, HV_EXIT_ERROR, EIO, "impossible" },
		{ exit_io_huge, HV_EXIT_ERROR, EIO, "impossible" },
	};
	struct hv_vcpu *vcpu = new_vcpu();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hv_exit e = { .error = 0 };

		kvm.on_run = cases[i].on_run;
		ops->vcpu_run(vcpu, &e);
		assert_int_equal(e.kind, cases[i].kind);
		assert_int_equal(e.error, cases[i].error);
		if (cases[i].text && !strstr(e.text, cases[i].text))
			fail_msg("'%s' does not contain '%s'", e.text, cases[i].text);
		if (e.kind == HV_EXIT_IO) {
			assert_ptr_equal(memchr(e.data, 0xff, 6), e.data);
			assert_true(!e.write && e.addr == 0x60 && e.size == 2 && e.count == 3);
		}
	}
	ops->destroy(run_hv);
}

static void run_failures(void **state)
{
	static const struct {
		int run_error;
		enum hv_exit_kind kind; /* after one failure and, where it goes on, a halt */
	} cases[] = {
		{ EINTR, HV_EXIT_HALT },   { EAGAIN, HV_EXIT_HALT },  { ENOMEM, HV_EXIT_ERROR },
		{ EFAULT, HV_EXIT_ERROR }, { EINVAL, HV_EXIT_ERROR }, { EHWPOISON, HV_EXIT_ERROR },
	};
	struct hv_vcpu *vcpu = new_vcpu();

	kvm.on_run = exit_halt;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hv_exit e = { .error = 0 };

		kvm.run_error = cases[i].run_error;
		kvm.run_fails = 1;
		ops->vcpu_run(vcpu, &e);
		assert_int_equal(e.kind, cases[i].kind);
		assert_int_equal(e.error, e.kind == HV_EXIT_ERROR ? cases[i].run_error : 0);
	}
	ops->destroy(run_hv);
}

/* A kick that finds an access half done: KVM finishes it, and no guest runs. */
static void kick_finishes_access(void **state)
{
	struct hv_vcpu *vcpu = new_vcpu();
	struct hv_exit e;

	kvm.on_run = exit_io;
	ops->vcpu_run(vcpu, &e);
	assert_int_equal(kvm.runs, 1);
	ops->vcpu_kick(vcpu);
	ops->vcpu_run(vcpu, &e);
	assert_int_equal(e.kind, HV_EXIT_INTERRUPTED);
	assert_int_equal(kvm.runs, 2);
	assert_int_equal(kvm.immediate, 1);
	ops->vcpu_kick(vcpu); /* nothing is half done now */
	ops->vcpu_run(vcpu, &e);
	assert_int_equal(e.kind, HV_EXIT_INTERRUPTED);
	assert_int_equal(kvm.runs, 2);
	ops->vcpu_run(vcpu, &e);
	assert_int_equal(e.kind, HV_EXIT_IO);
	ops->destroy(run_hv);
}

static struct hv_vcpu *kicked_in_run;

static void kick_in_run(void)
{
	sigset_t set;

	ops->vcpu_kick(kicked_in_run);
	ops->vcpu_kick(kicked_in_run);
	assert_int_equal(sigpending(&set), 0);
	assert_true(sigismember(&set, HV_KICK_SIGNAL));
	exit_io();
}

/* A kick that comes while the guest is on its way out is for the next run; its signal is gone. */
static void kick_with_exit(void **state)
{
	struct hv_vcpu *vcpu = kicked_in_run = new_vcpu();
	struct hv_exit e;
	sigset_t set;

	for (int i = 0; i < 3; i++) {
		kvm.on_run = kick_in_run;
		ops->vcpu_run(vcpu, &e);
		assert_int_equal(e.kind, HV_EXIT_IO);
		assert_int_equal(sigpending(&set), 0);
		assert_false(sigismember(&set, HV_KICK_SIGNAL));
		ops->vcpu_run(vcpu, &e);
		assert_int_equal(e.kind, HV_EXIT_INTERRUPTED);
		kvm.on_run = exit_halt;
		ops->vcpu_run(vcpu, &e);
		assert_int_equal(e.kind, HV_EXIT_HALT);
	}
	ops->destroy(run_hv);
}

static void dead_or_not(void **state)
{
	static const struct {
		uint32_t mp_state;
		uint64_t rflags;
		uint8_t nmi;
		bool dead;
	} cases[] = {
		{ KVM_MP_STATE_RUNNABLE, 2, 0, false },
		{ KVM_MP_STATE_HALTED, 2, 0, true },
		{ KVM_MP_STATE_HALTED, 0x202, 0, false },
		{ KVM_MP_STATE_HALTED, 2, 1, false },
		{ KVM_MP_STATE_UNINITIALIZED, 2, 0, true },
		{ KVM_MP_STATE_INIT_RECEIVED, 2, 0, true },
		{ KVM_MP_STATE_SIPI_RECEIVED, 2, 0, false },
	};
	struct hv_vcpu *vcpu = new_vcpu();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		kvm.mp_state = cases[i].mp_state;
		kvm.rflags = cases[i].rflags;
		kvm.nmi_pending = cases[i].nmi;
		assert_int_equal(ops->vcpu_dead(vcpu), cases[i].dead);
	}
	ops->destroy(run_hv);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lacks_capability),     TEST(refuses),        TEST(odd_kvm),
		TEST(vcpu_refused),         TEST(exits),          TEST(run_failures),
		TEST(kick_finishes_access), TEST(kick_with_exit), TEST(dead_or_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
