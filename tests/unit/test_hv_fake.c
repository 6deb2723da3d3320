/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fake hypervisor itself: exits, hand-over, kicks, event descriptors on and off.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "hypervisor/fake.h"

#define RAM_BYTES 0x10000u
#define DEVICE 0xd0000000u
#define CPUS_MAX 4

static const struct hv_ops *const ops = &hv_fake;

struct vm {
	struct hv *hv;
	uint8_t *ram;
	unsigned int cpus;
	struct hv_vcpu *vcpus[CPUS_MAX];
};

static void vm_open(struct vm *vm, unsigned int cpus, bool event_fds,
		    void (*script)(void *ctx, struct fake_cpu *cpu), void *ctx)
{
	const struct hv_boot boot = { .entry = HV_ENTRY_PVH, .ip = 0x1234 };
	struct smolvm_error err;

	fake_next_guest(
		&(struct fake_guest){ .script = script, .ctx = ctx, .event_fds = event_fds });
	assert_int_equal(ops->create(&vm->hv, &(struct hv_config){ .cpus = cpus }, &err), 0);
	vm->cpus = cpus;
	vm->ram = aligned_alloc(4096, RAM_BYTES);
	assert_non_null(vm->ram);
	memset(vm->ram, 0, RAM_BYTES);
	assert_int_equal(ops->map(vm->hv, 0, 0, vm->ram, RAM_BYTES, &err), 0);
	for (unsigned int i = 0; i < cpus; i++) {
		assert_int_equal(ops->vcpu_create(vm->hv, i, &vm->vcpus[i], &err), 0);
		assert_int_equal(ops->vcpu_boot(vm->vcpus[i], i == 0 ? &boot : NULL, &err), 0);
	}
}

static void vm_close(struct vm *vm)
{
	ops->destroy(vm->hv);
	free(vm->ram);
}

static void expect(struct vm *vm, enum hv_exit_kind kind, struct hv_exit *e)
{
	ops->vcpu_run(vm->vcpus[0], e);
	assert_int_equal(e->kind, kind);
}

static void expect_access(struct vm *vm, enum hv_exit_kind kind, bool write, uint64_t addr,
			  unsigned int size, struct hv_exit *e)
{
	expect(vm, kind, e);
	assert_int_equal(e->write, write);
	assert_int_equal(e->addr, addr);
	assert_int_equal(e->size, size);
	assert_int_equal(e->count, 1);
}

/* What a script has found; it cannot use the test's assertions, being another thread. */
struct found {
	uint64_t values[8];
	bool flags[8];
	char text[16];
	atomic_uint count;
};

/* ---------------------------------------------------------------- exits */

static void access_script(void *ctx, struct fake_cpu *cpu)
{
	struct found *f = ctx;
	uint8_t *ram = fake_mem(cpu, 0x100, 8);

	f->flags[0] = fake_mem(cpu, RAM_BYTES - 8, 8) && !fake_mem(cpu, RAM_BYTES - 7, 8) &&
		      !fake_mem(cpu, UINT64_MAX, 1) && !fake_mem(cpu, 0, UINT64_MAX);
	f->flags[1] = fake_index(cpu) == 0 && fake_boot(cpu) && fake_boot(cpu)->ip == 0x1234;
	memcpy(ram, "from it", 8);
	fake_mmio_write(cpu, DEVICE, 1, 0x11);
	fake_mmio_write(cpu, DEVICE + 8, 8, 0x8877665544332211);
	f->values[0] = fake_mmio_read(cpu, DEVICE, 4);
	f->values[1] = fake_mmio_read(cpu, DEVICE, 2);
	fake_out(cpu, 0x3f8, 2, 0xabcd);
	f->values[2] = fake_in(cpu, 0x3f8, 1);
	fake_outs(cpu, 0x3f8, 1, 5, "hello");
	fake_ins(cpu, 0x3f8, 2, 3, f->text);
	fake_exit(cpu, HV_EXIT_RESET);
	fake_exit(cpu, HV_EXIT_ERROR);
}

static void accesses(void **state)
{
	struct found f = { .count = 0 };
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, true, access_script, &f);
	expect_access(&vm, HV_EXIT_MMIO, true, DEVICE, 1, &e);
	assert_int_equal(e.data[0], 0x11);
	assert_string_equal(vm.ram + 0x100, "from it");
	expect_access(&vm, HV_EXIT_MMIO, true, DEVICE + 8, 8, &e);
	assert_memory_equal(e.data, "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
	expect_access(&vm, HV_EXIT_MMIO, false, DEVICE, 4, &e);
	memcpy(e.data, "\1\2\3\4", 4);
	expect_access(&vm, HV_EXIT_MMIO, false, DEVICE, 2, &e); /* not answered */
	expect_access(&vm, HV_EXIT_IO, true, 0x3f8, 2, &e);
	assert_memory_equal(e.data, "\xcd\xab", 2);
	expect_access(&vm, HV_EXIT_IO, false, 0x3f8, 1, &e);
	e.data[0] = 0x5a;
	expect(&vm, HV_EXIT_IO, &e);
	assert_true(e.write && e.size == 1 && e.count == 5);
	assert_memory_equal(e.data, "hello", 5);
	expect(&vm, HV_EXIT_IO, &e);
	assert_true(!e.write && e.size == 2 && e.count == 3);
	memcpy(e.data, "abcdef", 6);
	expect(&vm, HV_EXIT_RESET, &e);
	expect(&vm, HV_EXIT_ERROR, &e);
	assert_int_equal(e.error, EIO);
	assert_false(ops->vcpu_dead(vm.vcpus[0]));
	expect(&vm, HV_EXIT_HALT, &e);
	assert_true(ops->vcpu_dead(vm.vcpus[0]));
	vm_close(&vm);
	assert_true(f.flags[0]);
	assert_true(f.flags[1]);
	assert_int_equal(f.values[0], 0x04030201);
	assert_int_equal(f.values[1], 0xffff);
	assert_int_equal(f.values[2], 0x5a);
	assert_string_equal(f.text, "abcdef");
}

/* ---------------------------------------------------------------- kicks */

static void *kick_later(void *arg)
{
	nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	ops->vcpu_kick(arg);
	return NULL;
}

static void expect_kicked(struct vm *vm)
{
	struct hv_exit e;
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, kick_later, vm->vcpus[0]), 0);
	expect(vm, HV_EXIT_INTERRUPTED, &e);
	pthread_join(t, NULL);
}

static void wait_script(void *ctx, struct fake_cpu *cpu)
{
	struct found *f = ctx;

	f->flags[0] = fake_irq_wait(cpu, 3, 60000);
	fake_out(cpu, 1, 1, 0);
}

static void kicks(void **state)
{
	struct found f = { .count = 0 };
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, false, wait_script, &f);
	ops->vcpu_kick(vm.vcpus[0]); /* before it runs: the script does not begin */
	expect(&vm, HV_EXIT_INTERRUPTED, &e);
	expect_kicked(&vm);
	ops->irq(vm.hv, 3);
	expect(&vm, HV_EXIT_IO, &e);
	ops->vcpu_kick(vm.vcpus[0]);
	ops->vcpu_kick(vm.vcpus[0]);
	expect(&vm, HV_EXIT_INTERRUPTED, &e); /* two of them, one time */
	expect(&vm, HV_EXIT_HALT, &e);
	expect_kicked(&vm);
	expect_kicked(&vm);
	assert_true(ops->vcpu_dead(vm.vcpus[0]));
	vm_close(&vm);
	assert_true(f.flags[0]);
}

static void notify_script(void *ctx, struct fake_cpu *cpu)
{
	for (;;)
		fake_mmio_write(cpu, DEVICE + 0x50, 4, 1);
}

/* A guest that only notifies comes back, too. */
static void kick_in_notifies(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct vm vm;

	vm_open(&vm, 1, true, notify_script, NULL);
	assert_int_equal(ops->notify_fd(vm.hv, DEVICE + 0x50, 1, fd), 0);
	expect_kicked(&vm);
	vm_close(&vm);
	close(fd);
}

/* ---------------------------------------------------------------- event descriptors */

static void event_script(void *ctx, struct fake_cpu *cpu)
{
	struct found *f = ctx;

	fake_mmio_write(cpu, DEVICE + 0x50, 4, 0);
	fake_mmio_write(cpu, DEVICE + 0x50, 4, 1);
	fake_mmio_write(cpu, DEVICE + 0x50, 4, 1);
	fake_mmio_write(cpu, DEVICE + 0x50, 2, 1);
	fake_mmio_write(cpu, DEVICE + 0x54, 4, 1);
	f->flags[0] = fake_irq_wait(cpu, 5, 60000);
	f->flags[1] = fake_irq_wait(cpu, 5, 0); /* it was one only */
	f->flags[2] = fake_irq_wait(cpu, 6, 5); /* not this line */
	f->flags[3] = fake_irq_wait(cpu, 5, 60000);
}

static void *irqs_later(void *arg)
{
	int fd = *(int *)arg;

	for (int i = 0; i < 2; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 30000000 }, NULL);
		eventfd_write(fd, 1);
	}
	return NULL;
}

static void event_fds(void **state)
{
	struct found f = { .count = 0 };
	int fds[2], irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t n;
	struct hv_exit e;
	pthread_t t;
	struct vm vm;

	vm_open(&vm, 1, true, event_script, &f);
	for (uint32_t i = 0; i < 2; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_int_equal(ops->notify_fd(vm.hv, DEVICE + 0x50, i, fds[i]), 0);
	}
	assert_int_equal(ops->notify_fd(vm.hv, DEVICE + 0x50, 1, fds[0]), -EEXIST);
	assert_int_equal(ops->irq_fd(vm.hv, 5, irq), 0);
	assert_int_equal(ops->irq_fd(vm.hv, FAKE_PINS, irq), -EINVAL);
	expect_access(&vm, HV_EXIT_MMIO, true, DEVICE + 0x50, 2, &e);
	expect_access(&vm, HV_EXIT_MMIO, true, DEVICE + 0x54, 4, &e);
	assert_int_equal(eventfd_read(fds[0], &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(eventfd_read(fds[1], &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(pthread_create(&t, NULL, irqs_later, &irq), 0);
	expect(&vm, HV_EXIT_HALT, &e);
	pthread_join(t, NULL);
	vm_close(&vm);
	assert_true(f.flags[0]);
	assert_false(f.flags[1]);
	assert_false(f.flags[2]);
	assert_true(f.flags[3]);
	close(irq);
	close(fds[0]);
	close(fds[1]);
}

static void no_event_fds(void **state)
{
	struct found f = { .count = 0 };
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, false, event_script, &f);
	assert_int_equal(ops->notify_fd(vm.hv, DEVICE + 0x50, 0, 1), -ENOTSUP);
	assert_int_equal(ops->irq_fd(vm.hv, 5, 1), -ENOTSUP);
	for (int i = 0; i < 3; i++)
		expect_access(&vm, HV_EXIT_MMIO, true, DEVICE + 0x50, 4, &e);
	expect_access(&vm, HV_EXIT_MMIO, true, DEVICE + 0x50, 2, &e);
	expect_access(&vm, HV_EXIT_MMIO, true, DEVICE + 0x54, 4, &e);
	ops->irq(vm.hv, 5);
	ops->irq(vm.hv, 5); /* an edge on a line that is up already */
	ops->irq(vm.hv, 1000);
	expect_kicked(&vm);
	ops->irq(vm.hv, 5);
	expect(&vm, HV_EXIT_HALT, &e);
	vm_close(&vm);
	assert_true(f.flags[0]);
	assert_false(f.flags[1]);
	assert_true(f.flags[3]);
}

/* ---------------------------------------------------------------- hand-over, several vCPUs */

static void turns_script(void *ctx, struct fake_cpu *cpu)
{
	struct found *f = ctx;

	for (;;) {
		atomic_fetch_add(&f->count, 1);
		fake_exit(cpu, HV_EXIT_HALT);
	}
}

/* The script never runs but during vcpu_run(). */
static void strict_turns(void **state)
{
	struct found f = { .count = 0 };
	struct hv_exit e;
	struct vm vm;

	vm_open(&vm, 1, false, turns_script, &f);
	for (unsigned int i = 1; i <= 1000; i++) {
		assert_int_equal(f.count, i - 1);
		expect(&vm, HV_EXIT_HALT, &e);
		assert_int_equal(f.count, i);
	}
	vm_close(&vm);
	assert_int_equal(f.count, 1000);
}

static void smp_script(void *ctx, struct fake_cpu *cpu)
{
	unsigned int index = fake_index(cpu);

	for (unsigned int i = 0; i < 500; i++)
		fake_out(cpu, (uint16_t)index, 4, i);
	if ((index == 0) != (fake_boot(cpu) != NULL))
		fake_exit(cpu, HV_EXIT_SHUTDOWN);
}

static void *run_to_halt(void *arg)
{
	struct hv_exit e;
	uintptr_t n = 0;

	for (;;) {
		ops->vcpu_run(arg, &e);
		if (e.kind == HV_EXIT_IO)
			n++;
		else
			return (void *)(e.kind == HV_EXIT_HALT ? n : 0);
	}
}

static void several_cpus(void **state)
{
	pthread_t t[CPUS_MAX];
	void *n;
	struct vm vm;

	vm_open(&vm, CPUS_MAX, false, smp_script, NULL);
	for (int i = 0; i < CPUS_MAX; i++)
		assert_int_equal(pthread_create(&t[i], NULL, run_to_halt, vm.vcpus[i]), 0);
	for (int i = 0; i < CPUS_MAX; i++) {
		pthread_join(t[i], &n);
		assert_int_equal((uintptr_t)n, 500);
	}
	vm_close(&vm);
}

static void bad_input(void **state)
{
	struct smolvm_error err;
	struct hv_vcpu *vcpu;
	struct hv *hv;
	struct vm vm;

	assert_int_equal(ops->create(&hv, &(struct hv_config){ .cpus = 0 }, &err), -EINVAL);
	assert_int_equal(ops->create(&hv, &(struct hv_config){ .cpus = 65 }, &err), -EINVAL);
	vm_open(&vm, 1, false, turns_script, NULL);
	assert_int_equal(ops->cpus_max(vm.hv), FAKE_CPUS_MAX);
	assert_int_equal(ops->vcpu_create(vm.hv, 0, &vcpu, &err), -EINVAL);
	assert_int_equal(ops->vcpu_create(vm.hv, 1, &vcpu, &err), -EINVAL);
	assert_int_equal(ops->map(vm.hv, 0, 0x100000, vm.ram, 4096, &err), -EINVAL);
	assert_int_equal(ops->map(vm.hv, 1, 0x100001, vm.ram, 4096, &err), -EINVAL);
	assert_int_equal(ops->map(vm.hv, 1, 0x1000, vm.ram, 4096, &err), -EEXIST);
	vm_close(&vm); /* its script has never begun */
	ops->destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accesses),         cmocka_unit_test(kicks),
		cmocka_unit_test(kick_in_notifies), cmocka_unit_test(event_fds),
		cmocka_unit_test(no_event_fds),     cmocka_unit_test(strict_turns),
		cmocka_unit_test(several_cpus),     cmocka_unit_test(bad_input),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
