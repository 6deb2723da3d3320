/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM: machines, memory, virtual CPUs and their exits, as far as all architectures have in common.
 *
 * Calling a vCPU back. A kick must end KVM_RUN, now or the next time, must not be lost between two
 * runs, and must not hit a thread that has nothing to do with it. HV_KICK_SIGNAL is blocked in the
 * vCPU's thread; KVM lets it through while it runs the guest (KVM_SET_SIGNAL_MASK), gives EINTR
 * and blocks it again, so that no handler is ever called; the thread then takes it from the queue
 * itself. The word @kick says who may send it:
 *
 *	enter:  |= RUNNING. If KICKED was there already, the guest is not entered.
 *	kick:   |= KICKED. Only the one that turns RUNNING into RUNNING|KICKED sends the signal,
 *	        and says SENT afterwards. So at most one signal is under way, however many kick.
 *	leave:  &= ~RUNNING. If it was KICKED meanwhile, the signal is on its way or here: wait for
 *	        SENT, take it. From here on nobody sends to this thread, which may as well end.
 *
 * A kick that comes with another exit stays in the word and is reported by the next run. That run
 * enters KVM with immediate_exit, if the guest's last access is still to be finished: what is seen
 * of a vCPU after HV_EXIT_INTERRUPTED is whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "hypervisor/kvm.h"

/* syscalls (vcpu): ioctl(KVM_RUN) rt_sigtimedwait */
/* syscalls (vcpu, io, worker, fs): ioctl(KVM_IRQ_LINE) */

#define KICK_RUNNING 1u
#define KICK_KICKED 2u
#define KICK_SENT 4u

#define KERNEL_SIGSET_BYTES 8

static const struct kvm_cap common_caps[] = {
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
	{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
	{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
	{ 0, NULL },
};

int kvm_ioctl_n(int fd, unsigned long request, unsigned long arg)
{
	int rc;

	do {
		rc = ioctl(fd, request, arg);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	return kvm_ioctl_n(fd, request, (uintptr_t)arg);
}

/* ---------------------------------------------------------------- the machine */

static int kvm_open(struct smolvm_error *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENXIO)
		errno = ENODEV;
	if (errno == EPERM)
		errno = EACCES;
	return err_sys(err, "cannot open /dev/kvm");
}

static int check_caps(int kvm, const struct kvm_cap *caps, struct smolvm_error *err)
{
	for (; caps->name; caps++)
		if (kvm_ioctl_n(kvm, KVM_CHECK_EXTENSION, caps->cap) <= 0)
			return err_set(err, ENOTSUP, "this host's KVM lacks %s", caps->name);
	return 0;
}

static int check_kvm(int kvm, struct smolvm_error *err)
{
	int version = kvm_ioctl_n(kvm, KVM_GET_API_VERSION, 0), rc;

	if (version < 0)
		return err_set(err, ENODEV, "/dev/kvm is not KVM: %s", strerror(-version));
	if (version != KVM_API_VERSION)
		return err_set(err, ENOTSUP, "KVM's interface has version %d, not %d", version,
			       KVM_API_VERSION);
	rc = check_caps(kvm, common_caps, err);
	return rc < 0 ? rc : check_caps(kvm, kvm_arch_caps, err);
}

/* The most vCPUs of one machine, or 0. */
static unsigned int query_cpus_max(int kvm)
{
	int n = kvm_ioctl_n(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	if (n <= 0)
		n = kvm_ioctl_n(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS);
	if (n <= 0)
		n = 4; /* what the interface's documentation says for a KVM that does not tell */
	return n > KVM_CPUS_LIMIT ? KVM_CPUS_LIMIT : (unsigned int)n;
}

static void kvm_destroy(struct hv *hv)
{
	if (!hv)
		return;
	for (unsigned int i = 0; i < hv->cpus; i++) {
		struct hv_vcpu *vcpu = hv->vcpus[i];

		if (!vcpu)
			continue;
		munmap(vcpu->run, hv->run_bytes);
		close(vcpu->fd);
		free(vcpu);
	}
	kvm_arch_destroy(hv);
	fd_close(&hv->vm);
	free(hv);
}

/* The part of create() in which @hv is there already; on failure the caller destroys it. */
static int create_vm(struct hv *hv, int kvm, struct smolvm_error *err)
{
	int rc = kvm_ioctl_n(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (rc < (int)sizeof(struct kvm_run) || rc > (int)KVM_RUN_LIMIT)
		return err_set(err, ENOTSUP, "KVM's struct kvm_run has an odd size: %d", rc);
	hv->run_bytes = (size_t)rc;
	rc = kvm_ioctl_n(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
	hv->slots = rc > 0 ? (unsigned int)rc : 32;
	rc = kvm_ioctl_n(kvm, KVM_CREATE_VM, kvm_arch_vm_type(kvm));
	if (rc < 0)
		return err_set(err, -rc, "KVM refuses a new machine: %s", strerror(-rc));
	hv->vm = rc;
	return kvm_arch_create(hv, kvm, err);
}

static int kvm_create(struct hv **ret, const struct hv_config *config, struct smolvm_error *err)
{
	AUTO_FD opened = -1;
	int kvm = config->kvm_fd, rc;
	unsigned int max;
	struct hv *hv;

	if (kvm == 0) {
		opened = kvm_open(err);
		kvm = opened;
	}
	if (kvm < 0)
		return kvm;
	rc = check_kvm(kvm, err);
	if (rc < 0)
		return rc;
	max = query_cpus_max(kvm);
	if (config->cpus == 0 || config->cpus > max)
		return err_set(err, EINVAL, "%u CPUs: this host's KVM takes 1 to %u", config->cpus,
			       max);
	hv = calloc(1, sizeof(*hv) + config->cpus * sizeof(struct hv_vcpu *));
	if (!hv)
		return err_nomem(err);
	hv->vm = -1;
	hv->cpus = config->cpus;
	hv->cpus_max = max;
	hv->nested = config->nested;
	rc = create_vm(hv, kvm, err);
	if (rc < 0) {
		kvm_destroy(hv);
		return rc;
	}
	*ret = hv;
	return 0;
}

static unsigned int kvm_cpus_max(struct hv *hv)
{
	return hv->cpus_max;
}

static int kvm_map(struct hv *hv, unsigned int slot, uint64_t gpa, void *hva, uint64_t bytes,
		   struct smolvm_error *err)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)hva,
	};
	int rc;

	if (slot >= hv->slots)
		return err_set(err, EINVAL, "memory slot %u: KVM has %u", slot, hv->slots);
	if (((gpa | (uintptr_t)hva | bytes) & (KVM_PAGE_BYTES - 1)) != 0 || bytes == 0 || !hva ||
	    gpa + bytes < gpa)
		return err_set(err, EINVAL,
			       "memory of 0x%llx bytes at 0x%llx is not made of whole pages",
			       (unsigned long long)bytes, (unsigned long long)gpa);
	rc = kvm_ioctl(hv->vm, KVM_SET_USER_MEMORY_REGION, &region);
	if (rc < 0)
		return err_set(err, -rc, "KVM refuses %llu MiB of memory at 0x%llx: %s%s",
			       (unsigned long long)bytes >> 20, (unsigned long long)gpa,
			       strerror(-rc),
			       rc == -EINVAL ? "; it may be more than this processor can address"
					     : "");
	return 0;
}

static int kvm_notify_fd(struct hv *hv, uint64_t gpa, uint32_t value, int fd)
{
	struct kvm_ioeventfd event = {
		.datamatch = value,
		.addr = gpa,
		.len = 4,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	return kvm_ioctl(hv->vm, KVM_IOEVENTFD, &event);
}

static int kvm_irq_fd(struct hv *hv, unsigned int gsi, int fd)
{
	struct kvm_irqfd event = { .fd = (uint32_t)fd, .gsi = gsi };

	return kvm_ioctl(hv->vm, KVM_IRQFD, &event);
}

static void kvm_irq(struct hv *hv, unsigned int gsi)
{
	struct kvm_irq_level line = { .irq = gsi, .level = 1 };

	kvm_ioctl(hv->vm, KVM_IRQ_LINE, &line);
	line.level = 0;
	kvm_ioctl(hv->vm, KVM_IRQ_LINE, &line);
}

/* ---------------------------------------------------------------- virtual CPUs */

/* While the guest runs, only the kick gets through. */
static int set_signal_mask(struct hv_vcpu *vcpu)
{
	union {
		struct kvm_signal_mask head;
		uint8_t bytes[sizeof(struct kvm_signal_mask) + KERNEL_SIGSET_BYTES];
	} mask = { .head.len = KERNEL_SIGSET_BYTES };
	uint64_t set = ~(1ull << (HV_KICK_SIGNAL - 1));

	memcpy(mask.head.sigset, &set, sizeof(set));
	return kvm_ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask);
}

static int kvm_vcpu_create(struct hv *hv, unsigned int index, struct hv_vcpu **ret,
			   struct smolvm_error *err)
{
	AUTO_FREE struct hv_vcpu *vcpu = calloc(1, sizeof(*vcpu));
	AUTO_FD fd = -1;
	int rc;

	if (index >= hv->cpus || hv->vcpus[index])
		return err_set(err, EINVAL, "CPU %u of %u, or a second time", index, hv->cpus);
	if (!vcpu)
		return err_nomem(err);
	fd = kvm_ioctl_n(hv->vm, KVM_CREATE_VCPU, index);
	if (fd < 0)
		return err_set(err, -fd, "KVM refuses CPU %u: %s", index, strerror(-fd));
	vcpu->hv = hv;
	vcpu->index = index;
	vcpu->fd = fd;
	rc = set_signal_mask(vcpu);
	if (rc < 0)
		return err_set(err, -rc, "KVM refuses the signal mask: %s", strerror(-rc));
	vcpu->run = mmap(NULL, hv->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (vcpu->run == MAP_FAILED)
		return err_sys(err, "cannot map CPU %u", index);
	rc = kvm_arch_vcpu_create(vcpu, err);
	if (rc < 0) {
		munmap(vcpu->run, hv->run_bytes);
		return rc;
	}
	fd_take(&fd);
	*ret = hv->vcpus[index] = vcpu;
	ptr_take(vcpu);
	return 0;
}

static int kvm_vcpu_boot(struct hv_vcpu *vcpu, const struct hv_boot *boot, struct smolvm_error *err)
{
	return kvm_arch_vcpu_boot(vcpu, boot, err);
}

static bool kvm_vcpu_dead(struct hv_vcpu *vcpu)
{
	return kvm_arch_vcpu_dead(vcpu);
}

static void kvm_vcpu_kick(struct hv_vcpu *vcpu)
{
	unsigned int was = atomic_fetch_or(&vcpu->kick, KICK_KICKED);

	if (was != KICK_RUNNING)
		return;
	syscall(SYS_tgkill, getpid(), vcpu->tid, HV_KICK_SIGNAL);
	atomic_fetch_or(&vcpu->kick, KICK_SENT);
}

/* The guest is left: make sure that no signal is, or will be, on its way here. */
static void take_kick(struct hv_vcpu *vcpu)
{
	const struct timespec now = { 0, 0 };
	sigset_t set;

	if (!(atomic_fetch_and(&vcpu->kick, ~KICK_RUNNING) & KICK_KICKED))
		return;
	while (!(atomic_load(&vcpu->kick) & KICK_SENT))
		sched_yield(); /* the sender is between two instructions and one system call */
	sigemptyset(&set);
	sigaddset(&set, HV_KICK_SIGNAL);
	while (sigtimedwait(&set, NULL, &now) < 0 && errno == EINTR)
		;
	atomic_fetch_and(&vcpu->kick, ~KICK_SENT);
}

/* ---------------------------------------------------------------- exits */

static bool exit_error(struct hv_exit *ret, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static bool exit_error(struct hv_exit *ret, int error, const char *fmt, ...)
{
	va_list ap;

	ret->kind = HV_EXIT_ERROR;
	ret->error = error;
	va_start(ap, fmt);
	vsnprintf(ret->text, sizeof(ret->text), fmt, ap);
	va_end(ap);
	return true;
}

static bool exit_kind(struct hv_exit *ret, enum hv_exit_kind kind)
{
	ret->kind = kind;
	return true;
}

/* Handlers of exits. Return: whether it is one for the caller; otherwise the guest goes on. */

static bool on_io(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	const __typeof__(vcpu->run->io) *io = &vcpu->run->io;
	uint64_t bytes = (uint64_t)io->size * io->count;

	if (bytes == 0 || io->data_offset > vcpu->hv->run_bytes ||
	    bytes > vcpu->hv->run_bytes - io->data_offset)
		return exit_error(ret, EIO, "KVM reports an impossible port access");
	ret->kind = HV_EXIT_IO;
	ret->write = io->direction == KVM_EXIT_IO_OUT;
	ret->addr = io->port;
	ret->size = io->size;
	ret->count = io->count;
	ret->data = (uint8_t *)vcpu->run + io->data_offset;
	if (!ret->write)
		memset(ret->data, 0xff, bytes);
	vcpu->pending = true;
	return true;
}

static bool on_mmio(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	__typeof__(vcpu->run->mmio) *mmio = &vcpu->run->mmio;

	if (!mmio->is_write)
		memset(mmio->data, 0xff, sizeof(mmio->data));
	vcpu->pending = true;
	/* Part of an access across a page's end. No device has registers there. */
	if (mmio->len != 1 && mmio->len != 2 && mmio->len != 4 && mmio->len != 8)
		return false;
	ret->kind = HV_EXIT_MMIO;
	ret->write = mmio->is_write;
	ret->addr = mmio->phys_addr;
	ret->size = mmio->len;
	ret->count = 1;
	ret->data = mmio->data;
	return true;
}

static bool on_halt(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	return exit_kind(ret, HV_EXIT_HALT);
}

static bool on_shutdown(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	return exit_kind(ret, HV_EXIT_SHUTDOWN);
}

static bool on_interrupted(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	return false;
}

static bool on_system_event(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	unsigned int type = vcpu->run->system_event.type;

	if (type == KVM_SYSTEM_EVENT_SHUTDOWN)
		return exit_kind(ret, HV_EXIT_POWEROFF);
	if (type == KVM_SYSTEM_EVENT_RESET)
		return exit_kind(ret, HV_EXIT_RESET);
	if (type == KVM_SYSTEM_EVENT_CRASH)
		return exit_error(ret, EIO, "the guest reports that it has crashed");
	return exit_error(ret, ENOTSUP, "KVM reports system event %u", type);
}

static bool on_fail_entry(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	return exit_error(ret, EIO, "the processor refuses to enter the guest: reason 0x%llx",
			  (unsigned long long)vcpu->run->fail_entry.hardware_entry_failure_reason);
}

static bool on_internal_error(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	static const char *const names[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "an instruction that it cannot emulate",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "an exception in an exception",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "an exit while an event was delivered",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "an exit that it does not know",
	};
	unsigned int sub = vcpu->run->internal.suberror;
	bool known = sub < sizeof(names) / sizeof(names[0]) && names[sub];

	return exit_error(ret, EIO, "KVM gives up: %s (%u), at 0x%llx",
			  known ? names[sub] : "internal error", sub,
			  (unsigned long long)kvm_arch_vcpu_ip(vcpu));
}

static bool on_unknown(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	return exit_error(ret, EIO, "KVM does not know the processor's exit 0x%llx",
			  (unsigned long long)vcpu->run->hw.hardware_exit_reason);
}

static bool (*const handlers[])(struct hv_vcpu *vcpu, struct hv_exit *ret) = {
	[KVM_EXIT_UNKNOWN] = on_unknown,
	[KVM_EXIT_IO] = on_io,
	[KVM_EXIT_HLT] = on_halt,
	[KVM_EXIT_MMIO] = on_mmio,
	[KVM_EXIT_IRQ_WINDOW_OPEN] = on_interrupted,
	[KVM_EXIT_SHUTDOWN] = on_shutdown,
	[KVM_EXIT_FAIL_ENTRY] = on_fail_entry,
	[KVM_EXIT_INTR] = on_interrupted,
	[KVM_EXIT_INTERNAL_ERROR] = on_internal_error,
	[KVM_EXIT_SYSTEM_EVENT] = on_system_event,
};

static bool normalise(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	unsigned int reason = vcpu->run->exit_reason;

	if (reason >= sizeof(handlers) / sizeof(handlers[0]) || !handlers[reason])
		return exit_error(ret, ENOTSUP, "KVM's exit %u is not known here", reason);
	return handlers[reason](vcpu, ret);
}

/* KVM_RUN has failed with @error. */
static bool on_failure(struct hv_vcpu *vcpu, int error, struct hv_exit *ret)
{
	/* EINTR without a kick: a debugger, a freezer. EAGAIN: a waiting vCPU has been started. */
	if (error == EINTR || error == EAGAIN)
		return false;
	if (error == EFAULT || error == EHWPOISON)
		return exit_error(ret, error,
				  "the host has lost a page of the guest, at 0x%llx: %s",
				  (unsigned long long)kvm_arch_vcpu_ip(vcpu), strerror(error));
	return exit_error(ret, error, "KVM cannot run the guest: %s", strerror(error));
}

/* Run, until there is something for the caller (true) or none of its business (false). */
static bool run_once(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	int rc;

	vcpu->pending = false;
	rc = ioctl(vcpu->fd, KVM_RUN, 0);
	return rc < 0 ? on_failure(vcpu, errno, ret) : normalise(vcpu, ret);
}

/*
 * Let KVM finish the last access without entering the guest. One instruction may consist of several
 * accesses; then the next of them comes out.
 */
static bool finish_access(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	bool done;

	vcpu->run->immediate_exit = 1;
	done = run_once(vcpu, ret);
	vcpu->run->immediate_exit = 0;
	return done;
}

/* Before the first run: whose thread this is. */
static bool adopt_thread(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	sigset_t set;

	if (pthread_sigmask(SIG_SETMASK, NULL, &set) != 0 || !sigismember(&set, HV_KICK_SIGNAL)) {
		exit_error(ret, EINVAL, "signal %d is not blocked in this thread", HV_KICK_SIGNAL);
		return false;
	}
	vcpu->tid = gettid();
	return true;
}

static void kvm_vcpu_run(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	bool done = false;

	if (vcpu->tid == 0 && !adopt_thread(vcpu, ret))
		return;
	while (!done) {
		bool kicked = atomic_fetch_or(&vcpu->kick, KICK_RUNNING) & KICK_KICKED;

		if (kicked && !vcpu->pending) {
			atomic_store(&vcpu->kick, 0);
			done = exit_kind(ret, HV_EXIT_INTERRUPTED);
		} else if (kicked) {
			done = finish_access(vcpu, ret);
			atomic_fetch_and(&vcpu->kick, ~KICK_RUNNING);
		} else {
			done = run_once(vcpu, ret);
			take_kick(vcpu);
		}
	}
}

const struct hv_ops hv_kvm = {
	.name = "kvm",
	.create = kvm_create,
	.destroy = kvm_destroy,
	.cpus_max = kvm_cpus_max,
	.map = kvm_map,
	.vcpu_create = kvm_vcpu_create,
	.vcpu_boot = kvm_vcpu_boot,
	.vcpu_run = kvm_vcpu_run,
	.vcpu_kick = kvm_vcpu_kick,
	.vcpu_dead = kvm_vcpu_dead,
	.notify_fd = kvm_notify_fd,
	.irq_fd = kvm_irq_fd,
	.irq = kvm_irq,
};
