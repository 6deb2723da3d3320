/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bare-metal guests on KVM: what src/hypervisor promises, shown on the real thing. Prints TAP;
 * where there is no usable KVM, all is skipped with the reason.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "hypervisor/hv.h"
#include "hypervisor/kvm_probe.h"
#include "kvm_guest.h"

#define GUEST(name) extern const uint8_t guest_##name[], guest_##name##_end[]
GUEST(halt);
GUEST(doze);
GUEST(spin);
GUEST(busy);
GUEST(ports);
GUEST(mmio);
GUEST(triple);
GUEST(msrs);
GUEST(cpuid);
GUEST(notify);
GUEST(irq);
GUEST(smp);
GUEST(jump);
GUEST(long);
GUEST(ap);

#define CPUS_MAX 4

struct vm {
	struct hv *hv;
	uint8_t *ram;
	unsigned int cpus;
	struct hv_vcpu *vcpus[CPUS_MAX];
};

static const struct hv_ops *const ops = &hv_kvm;

/* Null, null, code, data, task: flat. */
static const uint64_t gdt[5] = {
	0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00008b0000000067,
};

static void vm_open(struct vm *vm, unsigned int cpus, bool nested)
{
	struct smolvm_error err;
	int rc = ops->create(&vm->hv, &(struct hv_config){ .cpus = cpus, .nested = nested }, &err);

	if (rc < 0)
		fail_msg("create: %s", err.message);
	vm->cpus = cpus;
	vm->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(vm->ram, MAP_FAILED);
	if (ops->map(vm->hv, 0, 0, vm->ram, RAM_BYTES, &err) < 0)
		fail_msg("map: %s", err.message);
	for (unsigned int i = 0; i < cpus; i++)
		if (ops->vcpu_create(vm->hv, i, &vm->vcpus[i], &err) < 0)
			fail_msg("vcpu_create: %s", err.message);
}

static void vm_load_as(struct vm *vm, enum hv_entry entry, const uint8_t *code, const uint8_t *end)
{
	const struct hv_boot boot = {
		.entry = entry,
		.ip = CODE_GPA,
		.argument = MAILBOX_GPA,
		.page_table = entry == HV_ENTRY_LINUX64 ? TABLES_GPA : 0,
		.gdt = GDT_GPA,
		.gdt_bytes = sizeof(gdt),
	};
	struct smolvm_error err;

	memcpy(vm->ram + GDT_GPA, gdt, sizeof(gdt));
	memcpy(vm->ram + CODE_GPA, code, (size_t)(end - code));
	for (unsigned int i = 0; i < vm->cpus; i++)
		if (ops->vcpu_boot(vm->vcpus[i], i == 0 ? &boot : NULL, &err) < 0)
			fail_msg("vcpu_boot: %s", err.message);
}

static void vm_load(struct vm *vm, const uint8_t *code, const uint8_t *end)
{
	vm_load_as(vm, HV_ENTRY_PVH, code, end);
}

static void vm_close(struct vm *vm)
{
	ops->destroy(vm->hv);
	munmap(vm->ram, RAM_BYTES);
}

#define LOAD(vm, name) vm_load(vm, guest_##name, guest_##name##_end)

static uint32_t *mailbox(struct vm *vm)
{
	return (uint32_t *)(void *)(vm->ram + MAILBOX_GPA);
}

static void expect_io(const struct hv_exit *e, bool write, uint16_t port, unsigned int size,
		      unsigned int count)
{
	if (e->kind == HV_EXIT_ERROR)
		fail_msg("%s", e->text);
	assert_int_equal(e->kind, HV_EXIT_IO);
	assert_int_equal(e->write, write);
	assert_int_equal(e->addr, port);
	assert_int_equal(e->size, size);
	assert_int_equal(e->count, count);
}

static void expect_done(struct vm *vm)
{
	struct hv_exit e;

	ops->vcpu_run(vm->vcpus[0], &e);
	expect_io(&e, true, PORT_DONE, 4, 1);
}

/* ---------------------------------------------------------------- a kick, some time later */

struct kicker {
	pthread_t thread;
	struct hv_vcpu *vcpu;
	int after_ms;
};

static void *kick_later(void *arg)
{
	struct kicker *k = arg;
	struct timespec t = { .tv_nsec = k->after_ms * 1000000l };

	nanosleep(&t, NULL);
	ops->vcpu_kick(k->vcpu);
	return NULL;
}

/* Run until the kick that is @ms away. */
static void run_for(struct hv_vcpu *vcpu, int ms, struct hv_exit *e)
{
	struct kicker k = { .vcpu = vcpu, .after_ms = ms };

	assert_int_equal(pthread_create(&k.thread, NULL, kick_later, &k), 0);
	ops->vcpu_run(vcpu, e);
	pthread_join(k.thread, NULL);
}

/* Run, a little at a time, until the vCPU is halted for ever. Return: whether it came to that. */
static bool run_until_dead(struct hv_vcpu *vcpu)
{
	int64_t limit = clock_ms() + 5000;
	struct hv_exit e;

	while (!ops->vcpu_dead(vcpu) && clock_ms() < limit) {
		run_for(vcpu, 5, &e);
		assert_int_equal(e.kind, HV_EXIT_INTERRUPTED);
	}
	return ops->vcpu_dead(vcpu);
}

/* ---------------------------------------------------------------- tests */

static void halted_for_ever(void **state)
{
	struct vm vm;

	vm_open(&vm, 1, false);
	LOAD(&vm, halt);
	assert_false(ops->vcpu_dead(vm.vcpus[0]));
	assert_true(run_until_dead(vm.vcpus[0]));
	vm_close(&vm);
}

static void halted_for_now(void **state)
{
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, false);
	LOAD(&vm, doze);
	ops->vcpu_run(vm.vcpus[0], &e);
	expect_io(&e, true, PORT_READY, 4, 1);
	for (int i = 0; i < 5; i++) {
		run_for(vm.vcpus[0], 10, &e);
		assert_int_equal(e.kind, HV_EXIT_INTERRUPTED);
		assert_false(ops->vcpu_dead(vm.vcpus[0]));
	}
	vm_close(&vm);
}

static void ports(void **state)
{
	static const unsigned int sizes[] = { 1, 2, 4 };
	uint8_t text[16];
	size_t n = 0;
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, false);
	LOAD(&vm, ports);
	for (int i = 0; i < 3; i++) {
		ops->vcpu_run(vm.vcpus[0], &e);
		expect_io(&e, true, PORT_TEST, sizes[i], 1);
		assert_memory_equal(e.data, "\x11\x22\x33\x44", sizes[i]);
	}
	for (int i = 0; i < 3; i++) {
		ops->vcpu_run(vm.vcpus[0], &e);
		expect_io(&e, false, PORT_TEST, sizes[i], 1);
		memcpy(e.data, "\x55\x66\x77\x88", sizes[i]);
	}
	for (n = 0; n < 9; n += (size_t)e.size * e.count) { /* KVM may cut a string */
		ops->vcpu_run(vm.vcpus[0], &e);
		expect_io(&e, true, PORT_TEST, n < 5 ? 1 : 2, e.count);
		assert_true(n + (size_t)e.size * e.count <= sizeof(text));
		memcpy(text + n, e.data, (size_t)e.size * e.count);
	}
	assert_memory_equal(text, "hellohell", 9);
	for (n = 0; n < 6; n += e.count) {
		ops->vcpu_run(vm.vcpus[0], &e);
		expect_io(&e, false, PORT_TEST, 1, e.count);
		assert_true(n + e.count <= 6);
		memcpy(e.data, &"abcdef"[n], e.count);
	}
	ops->vcpu_run(vm.vcpus[0], &e);
	expect_io(&e, false, 0x1234, 4, 1); /* not answered: all ones */
	ops->vcpu_run(vm.vcpus[0], &e);
	expect_io(&e, true, 0x1234, 4, 1);
	expect_done(&vm);
	assert_int_equal(mailbox(&vm)[0], 0x55);
	assert_int_equal(mailbox(&vm)[1], 0x6655);
	assert_int_equal(mailbox(&vm)[2], 0x88776655);
	assert_int_equal(mailbox(&vm)[3], 0xffffffff);
	assert_memory_equal(&mailbox(&vm)[4], "abcdef", 7);
	vm_close(&vm);
}

static void expect_mmio(struct vm *vm, bool write, uint64_t gpa, unsigned int size,
			const char *data)
{
	struct hv_exit e;

	ops->vcpu_run(vm->vcpus[0], &e);
	if (e.kind == HV_EXIT_ERROR)
		fail_msg("%s", e.text);
	assert_int_equal(e.kind, HV_EXIT_MMIO);
	assert_int_equal(e.write, write);
	assert_int_equal(e.addr, gpa);
	assert_int_equal(e.size, size);
	assert_int_equal(e.count, 1);
	if (write)
		assert_memory_equal(e.data, data, size);
	else if (data)
		memcpy(e.data, data, size);
}

static void mmio(void **state)
{
	struct vm vm;

	vm_open(&vm, 1, false);
	LOAD(&vm, mmio);
	memcpy(&mailbox(&vm)[6], "87654321", 8);
	expect_mmio(&vm, true, MMIO_GPA, 1, "\x11");
	expect_mmio(&vm, true, MMIO_GPA + 2, 2, "\x11\x22");
	expect_mmio(&vm, true, MMIO_GPA + 4, 4, "\x11\x22\x33\x44");
	expect_mmio(&vm, false, MMIO_GPA, 1, "\x55");
	expect_mmio(&vm, false, MMIO_GPA + 2, 2, "\x55\x66");
	expect_mmio(&vm, false, MMIO_GPA + 4, 4, NULL);
	expect_mmio(&vm, true, MMIO_GPA + 8, 8, "87654321");
	expect_mmio(&vm, false, MMIO_GPA + 16, 8, "12345678");
	/* Across a page: three bytes are for nobody, the last one is an access. */
	expect_mmio(&vm, false, MMIO_GPA + 0x1000, 1, "\x77");
	expect_mmio(&vm, true, MMIO_GPA + 0x1000, 1, "\x77");
	expect_done(&vm);
	assert_int_equal(mailbox(&vm)[0], 0x55);
	assert_int_equal(mailbox(&vm)[1], 0x6655);
	assert_int_equal(mailbox(&vm)[2], 0xffffffff);
	assert_int_equal(mailbox(&vm)[3], 0x77ffffff);
	assert_memory_equal(&mailbox(&vm)[8], "12345678", 8);
	vm_close(&vm);
}

/* 64-bit mode: three tables map the first 2 MiB. */
static void long_mode(void **state)
{
	uint64_t *tables, *found;
	struct vm vm;

	vm_open(&vm, 1, false);
	tables = (uint64_t *)(void *)(vm.ram + TABLES_GPA);
	found = (uint64_t *)(void *)mailbox(&vm);
	tables[0] = (TABLES_GPA + 0x1000) | 3;
	tables[512] = (TABLES_GPA + 0x2000) | 3;
	tables[1024] = 0x83;
	vm_load_as(&vm, HV_ENTRY_LINUX64, guest_long, guest_long_end);
	((uint64_t *)(void *)(vm.ram + GDT_GPA))[2] = 0x00af9b000000ffff;
	expect_done(&vm);
	assert_true(found[0] == 0x1122334455667788);
	assert_int_equal(found[1] & 0x80000001, 0x80000001);
	assert_int_equal(found[2] & 0x200, 0);
	assert_int_equal(found[3], 0x1000000018);
	vm_close(&vm);
}

static void triple_fault(void **state)
{
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, false);
	LOAD(&vm, triple);
	ops->vcpu_run(vm.vcpus[0], &e);
	assert_int_equal(e.kind, HV_EXIT_SHUTDOWN);
	vm_close(&vm);
}

static void code_in_a_device(void **state)
{
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, false);
	LOAD(&vm, jump);
	ops->vcpu_run(vm.vcpus[0], &e);
	assert_int_equal(e.kind, HV_EXIT_ERROR);
	assert_int_equal(e.error, EIO);
	assert_non_null(strstr(e.text, "cannot emulate"));
	assert_non_null(strstr(e.text, "0xd0000000"));
	vm_close(&vm);
}

static void lost_page(void **state)
{
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, false);
	LOAD(&vm, spin);
	munmap(vm.ram + MAILBOX_GPA, 0x1000);
	ops->vcpu_run(vm.vcpus[0], &e);
	assert_int_equal(e.kind, HV_EXIT_ERROR);
	assert_int_equal(e.error, EFAULT);
	vm_close(&vm);
}

static void msrs_of_nobody(void **state)
{
	struct vm vm;

	vm_open(&vm, 1, false);
	LOAD(&vm, msrs);
	expect_done(&vm);
	assert_int_equal(mailbox(&vm)[0], 3);
	assert_int_equal(mailbox(&vm)[1], 0x600d);
	vm_close(&vm);
}

struct answer {
	uint32_t leaf, subleaf, eax, ebx, ecx, edx;
};

/* Let the guest ask for @n leaves. */
static void ask(struct vm *vm, struct answer *answers, uint32_t n)
{
	LOAD(vm, cpuid);
	mailbox(vm)[0] = n;
	memcpy(&mailbox(vm)[1], answers, n * sizeof(*answers));
	expect_done(vm);
	memcpy(answers, &mailbox(vm)[1], n * sizeof(*answers));
}

static void cpuid(void **state)
{
	struct answer a[] = {
		{ 0x0 },        { 0x1 },        { 0xa },        { 0xb },
		{ 0xb, 1 },     { 0xb, 2 },     { 0x40000000 }, { 0x80000000 },
		{ 0x80000001 }, { 0x8000000a }, { 0x80000008 },
	};
	struct vm vm;

	vm_open(&vm, 3, false);
	ask(&vm, a, sizeof(a) / sizeof(a[0]));
	assert_true(a[0].eax >= 0xd);
	assert_int_equal(a[1].ebx >> 24, 0);        /* APIC id */
	assert_int_equal(a[1].ebx >> 16 & 0xff, 4); /* of so many */
	assert_true(a[1].ecx & 1u << 31);           /* a hypervisor */
	assert_true(a[1].ecx & 1u << 21);           /* x2APIC */
	assert_true(a[1].ecx & 1u << 24);           /* TSC deadline */
	assert_false(a[1].ecx & 1u << 3);           /* MONITOR */
	assert_false(a[1].ecx & 1u << 5);           /* VMX */
	assert_true(a[1].edx & 1u << 28);           /* HTT */
	assert_int_equal(a[2].eax, 0);
	assert_int_equal(a[3].ebx, 1);
	assert_int_equal(a[3].ecx, 0x100);
	assert_int_equal(a[4].eax, 2);
	assert_int_equal(a[4].ebx, 3);
	assert_int_equal(a[4].ecx, 0x201);
	assert_int_equal(a[5].ecx >> 8, 0);
	assert_memory_equal(&a[6].ebx, "KVMKVMKVM\0\0", 12);
	assert_false(a[8].ecx & 1u << 2); /* SVM */
	assert_int_equal(a[9].eax, 0);
	vm_close(&vm);
}

static void cpuid_nested(void **state)
{
	struct answer a[] = { { 0x1 }, { 0x80000001 }, { 0x8000000a } };
	struct vm vm;

	vm_open(&vm, 1, true);
	ask(&vm, a, 3);
	assert_true(a[0].ecx & 1u << 5 || a[1].ecx & 1u << 2);
	if (a[1].ecx & 1u << 2)
		assert_int_not_equal(a[2].ebx, 0); /* ASIDs */
	assert_false(a[0].edx & 1u << 28);
	assert_int_equal(a[0].ebx >> 16 & 0xff, 0);
	vm_close(&vm);
}

static uint64_t fd_count(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void notified(void **state)
{
	struct vm vm;
	int fds[3];

	vm_open(&vm, 1, false);
	for (uint32_t i = 0; i < 3; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_int_equal(ops->notify_fd(vm.hv, NOTIFY_GPA, i, fds[i]), 0);
	}
	assert_int_equal(ops->notify_fd(vm.hv, NOTIFY_GPA, 2, fds[2]), -EEXIST);
	assert_true(ops->notify_fd(vm.hv, NOTIFY_GPA, 3, 1000) < 0);
	LOAD(&vm, notify);
	expect_mmio(&vm, true, NOTIFY_GPA, 2, "\1");
	expect_mmio(&vm, true, NOTIFY_GPA + 4, 4, "\1\0\0");
	expect_done(&vm);
	assert_int_equal(fd_count(fds[0]), 1000);
	assert_int_equal(fd_count(fds[1]), 1000);
	assert_int_equal(fd_count(fds[2]), 1);
	vm_close(&vm);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

/* A hundred interrupts, each one waited for: by eventfd or by a call. */
static void take_irqs(bool by_fd)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, false);
	assert_int_equal(ops->irq_fd(vm.hv, IRQ_PIN, fd), 0);
	LOAD(&vm, irq);
	for (uint32_t i = 0; i < 100; i++) {
		ops->vcpu_run(vm.vcpus[0], &e);
		expect_io(&e, true, PORT_READY, 4, 1);
		assert_int_equal(mailbox(&vm)[0], i);
		if (by_fd)
			assert_int_equal(eventfd_write(fd, 1), 0);
		else
			ops->irq(vm.hv, IRQ_PIN);
	}
	expect_done(&vm);
	assert_int_equal(mailbox(&vm)[0], 100);
	vm_close(&vm);
	close(fd);
}

static void interrupted_by_fd(void **state)
{
	take_irqs(true);
}

static void interrupted_by_call(void **state)
{
	take_irqs(false);
}

/* ---------------------------------------------------------------- kicks */

struct runner {
	pthread_t thread;
	struct hv_vcpu *vcpu;
	atomic_uint asked, seen; /* kicks, and those after which the vCPU has come back */
	atomic_bool stop, dead;
	atomic_ulong interrupted;
	unsigned long others;
	char text[128];
};

/* A vCPU's thread: everything is answered; what has been asked for has been seen at a kick. */
static void *run_vcpu(void *arg)
{
	struct runner *r = arg;
	struct hv_exit e;

	while (!atomic_load(&r->stop)) {
		unsigned int asked;

		ops->vcpu_run(r->vcpu, &e);
		asked = atomic_load(&r->asked);
		if (e.kind == HV_EXIT_INTERRUPTED) {
			atomic_fetch_add(&r->interrupted, 1);
			atomic_store(&r->dead, ops->vcpu_dead(r->vcpu));
			atomic_store(&r->seen, asked);
		} else {
			r->others++;
		}
		if (e.kind == HV_EXIT_ERROR) {
			memcpy(r->text, e.text, sizeof(r->text));
			break;
		}
	}
	return NULL;
}

static void runner_start(struct runner *r, struct hv_vcpu *vcpu)
{
	memset(r, 0, sizeof(*r));
	r->vcpu = vcpu;
	assert_int_equal(pthread_create(&r->thread, NULL, run_vcpu, r), 0);
}

static void runner_end(struct runner *r)
{
	atomic_store(&r->stop, true);
	ops->vcpu_kick(r->vcpu);
	pthread_join(r->thread, NULL);
	assert_string_equal(r->text, "");
}

/* Kick number @i, and until the vCPU has come back from it. */
static void kick_and_wait_for(struct runner *r, unsigned int i)
{
	int64_t limit = clock_ms() + 10000;

	atomic_store(&r->asked, i);
	ops->vcpu_kick(r->vcpu);
	while (atomic_load(&r->seen) != i)
		if (clock_ms() > limit)
			fail_msg("kick %u is lost", i);
		else
			sched_yield();
}

static void kick_and_wait(struct runner *r, unsigned int times)
{
	for (unsigned int i = 1; i <= times; i++)
		kick_and_wait_for(r, i);
}

/* Kicks without a pause, until the vCPU has been interrupted often. */
static void *storm(void *arg)
{
	struct runner *r = arg;
	unsigned long enough = atomic_load(&r->interrupted) + 200;
	int64_t limit = clock_ms() + 30000;

	while (atomic_load(&r->interrupted) < enough && clock_ms() < limit) {
		for (int i = 0; i < 64; i++)
			ops->vcpu_kick(r->vcpu);
		sched_yield();
	}
	return NULL;
}

static void kick_guest(const uint8_t *code, const uint8_t *end)
{
	pthread_t threads[2];
	struct runner r;
	struct vm vm;

	vm_open(&vm, 1, false);
	vm_load(&vm, code, end);
	runner_start(&r, vm.vcpus[0]);
	kick_and_wait(&r, 300);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, storm, &r), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	kick_and_wait(&r, 301);
	runner_end(&r);
	assert_true(r.interrupted >= 601 + 200);
	print_message("# %lu interrupted, %lu other exits\n", atomic_load(&r.interrupted),
		      r.others);
	vm_close(&vm);
}

static void kicks_while_spinning(void **state)
{
	kick_guest(guest_spin, guest_spin_end);
}

static void kicks_while_halted(void **state)
{
	kick_guest(guest_halt, guest_halt_end);
}

static void kicks_while_busy(void **state)
{
	kick_guest(guest_busy, guest_busy_end);
}

static void kick_before_run(void **state)
{
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 2, false);
	LOAD(&vm, spin);
	for (int i = 0; i < 2; i++) {
		ops->vcpu_kick(vm.vcpus[i]);
		ops->vcpu_kick(vm.vcpus[i]);
		ops->vcpu_run(vm.vcpus[i], &e);
		assert_int_equal(e.kind, HV_EXIT_INTERRUPTED);
		run_for(vm.vcpus[i], 5, &e);
		assert_int_equal(e.kind, HV_EXIT_INTERRUPTED);
	}
	/* The second one of the two kicks has not stayed: the guest does run. */
	for (int i = 0; i < 500 && mailbox(&vm)[0] == 0; i++)
		run_for(vm.vcpus[0], 10, &e);
	assert_int_not_equal(mailbox(&vm)[0], 0);
	assert_true(ops->vcpu_dead(vm.vcpus[1])); /* never started */
	vm_close(&vm);
}

/* The data of an access gets to the guest though a kick comes before it goes on. */
static void kick_after_access(void **state)
{
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, false);
	LOAD(&vm, busy);
	expect_mmio(&vm, false, MMIO_GPA, 4, "\1\2\3\4");
	ops->vcpu_kick(vm.vcpus[0]);
	ops->vcpu_run(vm.vcpus[0], &e);
	assert_int_equal(e.kind, HV_EXIT_INTERRUPTED);
	expect_mmio(&vm, true, MMIO_GPA + 4, 4, "\1\2\3\4");
	assert_int_equal(mailbox(&vm)[0], 0x04030201);
	vm_close(&vm);
}

static void signal_not_blocked(void **state)
{
	struct hv_exit e;
	sigset_t set;
	struct vm vm;

	vm_open(&vm, 1, false);
	LOAD(&vm, halt);
	sigemptyset(&set);
	sigaddset(&set, HV_KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	ops->vcpu_run(vm.vcpus[0], &e);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	assert_int_equal(e.kind, HV_EXIT_ERROR);
	assert_int_equal(e.error, EINVAL);
	vm_close(&vm);
}

/* It waits for SIPI, runs, and halts for ever. */
static void second_cpu(void **state)
{
	struct runner r;
	struct vm vm;

	vm_open(&vm, 2, false);
	LOAD(&vm, smp);
	memcpy(vm.ram + AP_GPA, guest_ap, (size_t)(guest_ap_end - guest_ap));
	runner_start(&r, vm.vcpus[1]);
	kick_and_wait(&r, 1);
	assert_true(r.dead); /* not started: a kick does not start it */
	expect_done(&vm);
	for (unsigned int i = 2; i < 1000 && (i < 4 || !r.dead); i++)
		kick_and_wait_for(&r, i);
	assert_true(r.dead);
	runner_end(&r);
	assert_int_equal(r.others, 0);
	assert_false(ops->vcpu_dead(vm.vcpus[0]));
	vm_close(&vm);
}

/* ---------------------------------------------------------------- machines, and bad input */

/* Descriptors of this process; each must be close-on-exec, but the first three. */
static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d))) {
		int fd = (int)strtol(e->d_name, NULL, 10);

		if (e->d_name[0] == '.')
			continue;
		n++;
		if (fd > 2 && fd != dirfd(d))
			assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
	closedir(d);
	return n;
}

static void many_machines(void **state)
{
	int before = count_fds(), kvm;
	struct smolvm_error err;
	struct hv *hv;

	for (int i = 0; i < 50; i++) {
		struct hv_exit e;
		struct vm vm;

		vm_open(&vm, 1 + i % CPUS_MAX, false);
		/* The machine and its vCPUs: /dev/kvm itself is not kept. */
		assert_int_equal(count_fds(), before + 1 + 1 + i % CPUS_MAX);
		LOAD(&vm, triple);
		ops->vcpu_run(vm.vcpus[0], &e);
		assert_int_equal(e.kind, HV_EXIT_SHUTDOWN);
		vm_close(&vm);
		assert_int_equal(count_fds(), before);
	}
	/* One with a descriptor of ours, which stays open. */
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	assert_int_equal(ops->create(&hv, &(struct hv_config){ .kvm_fd = kvm, .cpus = 1 }, &err),
			 0);
	ops->destroy(hv);
	assert_int_equal(close(kvm), 0);
	ops->destroy(NULL);
	assert_int_equal(count_fds(), before);
}

static void bad_machines(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), before = count_fds();
	struct smolvm_error err;
	struct hv_vcpu *vcpu;
	struct hv *hv;
	struct vm vm;

	assert_int_equal(ops->create(&hv, &(struct hv_config){ .cpus = 0 }, &err), -EINVAL);
	assert_non_null(strstr(err.message, "0 CPUs"));
	assert_int_equal(ops->create(&hv, &(struct hv_config){ .cpus = 100000 }, &err), -EINVAL);
	assert_int_equal(ops->create(&hv, &(struct hv_config){ .cpus = 1, .kvm_fd = null }, &err),
			 -ENODEV);
	assert_int_equal(count_fds(), before);
	vm_open(&vm, 1, false);
	assert_true(ops->cpus_max(vm.hv) >= 1);
	assert_int_equal(ops->vcpu_create(vm.hv, 0, &vcpu, &err), -EINVAL);
	assert_int_equal(ops->vcpu_create(vm.hv, 1, &vcpu, &err), -EINVAL);
	vm_close(&vm);
	close(null);
}

static void bad_memory(void **state)
{
	static const struct {
		unsigned int slot;
		uint64_t gpa, offset, bytes;
		int error;
	} cases[] = {
		{ 1, 0x300800, 0, 0x1000, EINVAL },
		{ 1, 0x300000, 8, 0x1000, EINVAL },
		{ 1, 0x300000, 0, 0x1001, EINVAL },
		{ 1, 0x300000, 0, 0, EINVAL },
		{ 1, UINT64_MAX - 0xfff, 0, 0x2000, EINVAL },
		{ 1000000, 0x300000, 0, 0x1000, EINVAL },
		{ 1, 0x1000, 0, 0x1000, EEXIST },
	};
	struct smolvm_error err;
	struct vm vm;

	vm_open(&vm, 1, false);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(ops->map(vm.hv, cases[i].slot, cases[i].gpa,
					  vm.ram + cases[i].offset, cases[i].bytes, &err),
				 -cases[i].error);
	assert_int_equal(ops->map(vm.hv, 1, 0x300000, NULL, 0x1000, &err), -EINVAL);
	assert_int_equal(ops->map(vm.hv, 1, 0x300000, vm.ram, 0x1000, &err), 0);
	vm_close(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(halted_for_ever),
		cmocka_unit_test(halted_for_now),
		cmocka_unit_test(ports),
		cmocka_unit_test(mmio),
		cmocka_unit_test(long_mode),
		cmocka_unit_test(triple_fault),
		cmocka_unit_test(code_in_a_device),
		cmocka_unit_test(lost_page),
		cmocka_unit_test(msrs_of_nobody),
		cmocka_unit_test(cpuid),
		cmocka_unit_test(cpuid_nested),
		cmocka_unit_test(notified),
		cmocka_unit_test(interrupted_by_fd),
		cmocka_unit_test(interrupted_by_call),
		cmocka_unit_test(second_cpu),
		cmocka_unit_test(kicks_while_spinning),
		cmocka_unit_test(kicks_while_halted),
		cmocka_unit_test(kicks_while_busy),
		cmocka_unit_test(kick_before_run),
		cmocka_unit_test(kick_after_access),
		cmocka_unit_test(signal_not_blocked),
		cmocka_unit_test(many_machines),
		cmocka_unit_test(bad_machines),
		cmocka_unit_test(bad_memory),
	};
	enum kvm_state kvm = kvm_probe();
	sigset_t set;

	for (int i = 0; i < 10 && kvm == KVM_EMULATING; i++)
		kvm = kvm_probe(); /* a busy host may look like that for a while */
	if (kvm != KVM_FINE) {
		printf("1..0 # SKIP %s\n", kvm_state_text(kvm));
		return 0;
	}
	sigfillset(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
