/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of machines, on a hypervisor whose guests are scripts.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/clock.h"
#include "hypervisor/fake.h"
#include "vmm/vmm.h"
#include "vmm_kernel.h"

#define WAIT_MS	 20000
#define MMIO	 0xd0000000ull
#define NOTIFY	 (MMIO + VIRTIO_MMIO_QUEUE_NOTIFY)
#define SERIAL	 0x3f8
#define NOWHERE	 0xdff00000ull

static struct smolvm_error err;

/* ---- machines ---- */

static int open_kernel(void)
{
	struct elf_file f = elf_file();

	return kernel_fd(&f, sizeof(f));
}

/* A machine that plays @script; @config->kernel_fd is filled in. */
static int create(struct smolvm_vmm **ret, struct smolvm_vmm_config config,
		  const struct fake_guest *guest)
{
	AUTO_FD fd = open_kernel();

	config.kernel_fd = fd;
	fake_next_guest(guest);
	return vmm_create_on(&hv_fake, ret, &config, &err);
}

static struct smolvm_vmm *start(struct smolvm_vmm_config config, const struct fake_guest *guest)
{
	struct smolvm_vmm *vmm = NULL;

	assert_int_equal(create(&vmm, config, guest), 0);
	assert_int_equal(smolvm_vmm_start(vmm, &err), 0);
	return vmm;
}

static struct smolvm_vmm_exit finish(struct smolvm_vmm *vmm)
{
	struct smolvm_vmm_exit end;
	struct pollfd p = { .fd = smolvm_vmm_exit_fd(vmm), .events = POLLIN };

	assert_int_equal(smolvm_vmm_wait(vmm, WAIT_MS, &end, &err), 0);
	assert_int_equal(poll(&p, 1, 0), 1);
	return end;
}

/* Run @script to its end. */
static struct smolvm_vmm_exit play(void (*script)(void *ctx, struct fake_cpu *cpu), void *ctx)
{
	struct fake_guest guest = { .script = script, .ctx = ctx };
	struct smolvm_vmm *vmm = start((struct smolvm_vmm_config){ .cpus = 1 }, &guest);
	struct smolvm_vmm_exit end = finish(vmm);

	smolvm_vmm_destroy(vmm);
	return end;
}

static unsigned int count_entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* ---- scripts ---- */

static void idle(void *ctx, struct fake_cpu *cpu)
{
	while (!fake_irq_wait(cpu, 23, 1000))
		;
}

static void busy(void *ctx, struct fake_cpu *cpu)
{
	for (;;) {
		fake_in(cpu, 0x80, 1);
		__atomic_add_fetch((unsigned int *)ctx, 1, __ATOMIC_SEQ_CST);
	}
}

static void do_exit(void *ctx, struct fake_cpu *cpu)
{
	fake_exit(cpu, *(enum hv_exit_kind *)ctx);
	idle(NULL, cpu);
}

struct port_write {
	uint16_t port;
	unsigned int size;
	uint64_t value;
};

static void do_out(void *ctx, struct fake_cpu *cpu)
{
	const struct port_write *w = ctx;

	fake_out(cpu, w->port, w->size, w->value);
	idle(NULL, cpu);
}

static void nothing(void *ctx, struct fake_cpu *cpu)
{
}

/* ---- configurations ---- */

static void refused(struct smolvm_vmm_config config, int code, const char *part)
{
	struct fake_guest guest = { .script = nothing };
	struct smolvm_vmm *vmm = NULL;

	assert_int_equal(create(&vmm, config, &guest), -code);
	assert_null(vmm);
	assert_int_equal(err.code, code);
	if (!strstr(err.message, part))
		fail_msg("\"%s\" is not in \"%s\"", part, err.message);
}

static void test_bad_configs(void **state)
{
	char cmdline[SMOLVM_VMM_CMDLINE_MAX + 2];
	struct smolvm_vmm_config config = { .kernel_fd = 999 };
	struct smolvm_vmm *vmm;

	memset(cmdline, 'a', sizeof(cmdline) - 1);
	cmdline[sizeof(cmdline) - 1] = '\0';
	refused((struct smolvm_vmm_config){ .cpus = 65 }, EINVAL, "65 virtual CPUs");
	refused((struct smolvm_vmm_config){ .memory_mib = 31 }, EINVAL, "31 MiB");
	refused((struct smolvm_vmm_config){ .memory_mib = UINT32_MAX }, EINVAL, "MiB of memory");
	refused((struct smolvm_vmm_config){ .initramfs_bytes = 1 }, EINVAL, "initramfs");
	refused((struct smolvm_vmm_config){ .initramfs = "", .initramfs_bytes = 256u << 20 },
		E2BIG, "initramfs");
	refused((struct smolvm_vmm_config){ .cmdline = cmdline }, E2BIG, "command line");
	assert_int_equal(vmm_create_on(&hv_fake, &vmm, &config, &err), -EBADF);
	config.kernel_fd = -1;
	assert_int_equal(vmm_create_on(&hv_fake, &vmm, &config, NULL), -EBADF);
	smolvm_vmm_destroy(NULL);
}

/* Sanitizers need terabytes of address space themselves. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED false
#endif

static void test_no_memory(void **state)
{
	struct rlimit old, small = { .rlim_cur = 1u << 30 };

	if (SANITIZED)
		skip();
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_AS, &small), 0);
	refused((struct smolvm_vmm_config){ .memory_mib = 2048 }, ENOMEM, "2048 MiB");
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
}

static void test_bad_kernel(void **state)
{
	struct fake_guest guest = { .script = nothing };
	struct smolvm_vmm_config config = { .kernel_fd = kernel_fd("hello", 5) };
	struct smolvm_vmm *vmm;

	fake_next_guest(&guest);
	assert_int_equal(vmm_create_on(&hv_fake, &vmm, &config, &err), 0);
	close(config.kernel_fd); /* the machine has its own */
	assert_int_equal(smolvm_vmm_start(vmm, &err), -ENOEXEC);
	assert_non_null(strstr(err.message, "neither"));
	assert_int_equal(finish(vmm).reason, SMOLVM_VMM_FAILED);
	assert_int_equal(smolvm_vmm_start(vmm, &err), -EBUSY);
	assert_int_equal(smolvm_vmm_pause(vmm, &err), -ESRCH);
	smolvm_vmm_destroy(vmm);
}

static void test_never_started(void **state)
{
	struct fake_guest guest = { .script = nothing };
	struct smolvm_vmm *vmm;

	assert_int_equal(create(&vmm, (struct smolvm_vmm_config){ .cpus = 8 }, &guest), 0);
	smolvm_vmm_destroy(vmm);
}

/* ---- ends ---- */

static void test_exits(void **state)
{
	static const struct {
		enum hv_exit_kind kind;
		enum smolvm_vmm_reason reason;
		int error;
		const char *text;
	} cases[] = {
		{ HV_EXIT_SHUTDOWN, SMOLVM_VMM_TRIPLE_FAULT, 0, "triple fault" },
		{ HV_EXIT_RESET, SMOLVM_VMM_RESET, 0, "reset" },
		{ HV_EXIT_POWEROFF, SMOLVM_VMM_POWEROFF, 0, "off" },
		{ HV_EXIT_ERROR, SMOLVM_VMM_FAILED, EIO, "virtual CPU 0: the script says so" },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct smolvm_vmm_exit end = play(do_exit, (void *)&cases[i].kind);

		assert_int_equal(end.reason, cases[i].reason);
		assert_int_equal(end.error, cases[i].error);
		assert_non_null(strstr(end.text, cases[i].text));
	}
}

static void test_ports_that_end_it(void **state)
{
	static const struct {
		struct port_write write;
		enum smolvm_vmm_reason reason;
	} cases[] = {
		{ { 0x64, 1, 0xfe }, SMOLVM_VMM_RESET },
		{ { 0xcf9, 1, 0x06 }, SMOLVM_VMM_RESET },
		{ { 0x604, 2, 0x2000 }, SMOLVM_VMM_POWEROFF },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(play(do_out, (void *)&cases[i].write).reason, cases[i].reason);
}

static void test_halted(void **state)
{
	struct fake_guest guest = { .script = nothing };
	struct smolvm_vmm *vmm = start((struct smolvm_vmm_config){ .cpus = 4 }, &guest);
	struct smolvm_vmm_exit end = finish(vmm);

	assert_int_equal(end.reason, SMOLVM_VMM_HALTED);
	smolvm_vmm_destroy(vmm);
}

static void but_the_last(void *ctx, struct fake_cpu *cpu)
{
	if (fake_index(cpu) == 3)
		idle(NULL, cpu);
}

/* A machine of which one vCPU lives is not dead, and is not asked all the time. */
static void test_not_halted(void **state)
{
	struct fake_guest guest = { .script = but_the_last };
	struct smolvm_vmm *vmm = start((struct smolvm_vmm_config){ .cpus = 4 }, &guest);
	struct smolvm_vmm_counters counters;
	struct smolvm_vmm_exit end;

	assert_int_equal(smolvm_vmm_wait(vmm, 2500, &end, &err), -ETIMEDOUT);
	smolvm_vmm_counters(vmm, &counters);
	assert_in_range(counters.exits_interrupted, 1, 12);
	smolvm_vmm_stop(vmm);
	assert_int_equal(finish(vmm).reason, SMOLVM_VMM_STOPPED);
	smolvm_vmm_destroy(vmm);
}

/* ---- buses ---- */

struct reads {
	uint64_t v[10];
	uint8_t string[6];
};

static void do_reads(void *ctx, struct fake_cpu *cpu)
{
	struct reads *r = ctx;

	r->v[0] = fake_in(cpu, 0x1234, 1);
	r->v[1] = fake_in(cpu, 0x1234, 4);
	r->v[2] = fake_mmio_read(cpu, NOWHERE, 8);
	r->v[3] = fake_mmio_read(cpu, MMIO, 4);
	r->v[4] = fake_in(cpu, SERIAL + 7, 2);
	r->v[5] = fake_in(cpu, 0x64, 1);
	fake_ins(cpu, 0x1234, 2, 3, r->string);
	fake_outs(cpu, 0x1234, 2, 3, r->string);
	fake_mmio_write(cpu, NOWHERE, 8, 0);
	fake_out(cpu, 0xcf9, 1, 0x02);
	fake_out(cpu, 0x604, 1, 0x00);
	fake_out(cpu, 0x604, 2, 0x1fff);
	fake_out(cpu, 0x64, 1, 0xfe);
}

static void test_nobody_there(void **state)
{
	struct reads r = { { 0 } };

	assert_int_equal(play(do_reads, &r).reason, SMOLVM_VMM_RESET);
	assert_int_equal(r.v[0], 0xff);
	assert_int_equal(r.v[1], 0xffffffff);
	assert_true(r.v[2] == UINT64_MAX);
	assert_int_equal(r.v[3], 0xffffffff);
	assert_int_equal(r.v[4], 0xffff);
	assert_int_equal(r.v[5], 0xfd);
	assert_memory_equal(r.string, "\xff\xff\xff\xff\xff\xff", 6);
}

static void note_access(void *ctx, const struct bus_access *a)
{
	*(struct bus_access *)ctx = *a;
	if (!a->write)
		a->data[0] = 1;
}

static void test_bus(void **state)
{
	struct bus_access seen = { 0 };
	struct bus bus = { .n_ranges = 0 };
	struct bus_range r = { 0x100, 0x10, note_access, &seen };
	uint8_t data[8] = { 0 };
	struct hv_exit e = { .size = 4, .count = 1, .data = data };

	assert_int_equal(bus_add(&bus, &r), 0);
	r.base = 0x10f;
	assert_int_equal(bus_add(&bus, &r), -EEXIST);
	r.base = 0xf1;
	assert_int_equal(bus_add(&bus, &r), -EEXIST);
	r.base = UINT64_MAX - 8;
	assert_int_equal(bus_add(&bus, &r), -EINVAL);
	r.bytes = 0;
	assert_int_equal(bus_add(&bus, &r), -EINVAL);
	r = (struct bus_range){ 0x110, 1, note_access, &seen };
	assert_int_equal(bus_add(&bus, &r), 0);
	for (e.addr = 0x100; e.addr <= 0x10c; e.addr++) {
		assert_true(bus_dispatch(&bus, &e));
		assert_int_equal(seen.offset, e.addr - 0x100);
		assert_int_equal(data[0], 1);
	}
	assert_false(bus_dispatch(&bus, &e)); /* 0x10d: leads out of its range */
	assert_int_equal(data[0], 0xff);
	e.addr = 0xff;
	assert_false(bus_dispatch(&bus, &e));
	e.addr = 0x110;
	assert_false(bus_dispatch(&bus, &e));
	e.addr = UINT64_MAX;
	assert_false(bus_dispatch(&bus, &e));
	r.bytes = 1;
	for (r.base = 0x1000; bus.n_ranges < BUS_RANGES_MAX; r.base += 2)
		assert_int_equal(bus_add(&bus, &r), 0);
	assert_int_equal(bus_add(&bus, &r), -ENOSPC);
}

/* ---- the serial port ---- */

static void say(struct fake_cpu *cpu, const char *text)
{
	fake_outs(cpu, SERIAL, 1, (unsigned int)strlen(text), text);
}

static void do_serial(void *ctx, struct fake_cpu *cpu)
{
	say(cpu, "one\ntw");
	fake_out(cpu, SERIAL, 1, 'o');
	fake_out(cpu, 0x64, 1, 0xfe);
}

static struct smolvm_vmm_exit play_serial(void (*script)(void *, struct fake_cpu *), void *ctx,
					  int fd)
{
	struct fake_guest guest = { .script = script, .ctx = ctx };
	struct smolvm_vmm *vmm = start((struct smolvm_vmm_config){ .serial_fd = fd }, &guest);
	struct smolvm_vmm_exit end = finish(vmm);

	smolvm_vmm_destroy(vmm);
	return end;
}

static void test_serial(void **state)
{
	char got[32] = "";
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	play_serial(do_serial, NULL, fds[1]);
	assert_int_equal(read(fds[0], got, sizeof(got) - 1), 7);
	assert_string_equal(got, "one\ntwo");
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	play_serial(do_serial, NULL, fds[1]);
	memset(got, 0, sizeof(got));
	assert_int_equal(recv(fds[0], got, sizeof(got) - 1, MSG_WAITALL | MSG_PEEK) > 0, 1);
	assert_string_equal(got, "one\ntwo");
	close(fds[0]);
	close(fds[1]);
}

static void flood(void *ctx, struct fake_cpu *cpu)
{
	char text[257];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (unsigned int i = 0; i < 1024; i++)
		say(cpu, text);
	fake_out(cpu, 0x64, 1, 0xfe);
}

/* Nobody reads, or nobody can any more: neither the guest nor this process minds. */
static void test_serial_blocked(void **state)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(play_serial(flood, NULL, fds[1]).reason, SMOLVM_VMM_RESET);
	close(fds[0]);
	assert_int_equal(play_serial(flood, NULL, fds[1]).reason, SMOLVM_VMM_RESET);
	close(fds[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(play_serial(flood, NULL, fds[1]).reason, SMOLVM_VMM_RESET);
	close(fds[0]);
	assert_int_equal(play_serial(flood, NULL, fds[1]).reason, SMOLVM_VMM_RESET);
	close(fds[1]);
}

/* What Linux's 8250 driver looks at to tell a 16550A, and its way of sending. */
static void probe_serial(void *ctx, struct fake_cpu *cpu)
{
	uint64_t *v = ctx;

	fake_out(cpu, SERIAL + 1, 1, 0x0f);
	v[0] = fake_in(cpu, SERIAL + 1, 1);
	fake_out(cpu, SERIAL + 1, 1, 0);
	fake_out(cpu, SERIAL + 4, 1, 0x1a);
	v[1] = fake_in(cpu, SERIAL + 6, 1) & 0xf0;
	fake_out(cpu, SERIAL + 4, 1, 0x0b);
	fake_out(cpu, SERIAL + 2, 1, 1);
	v[2] = fake_in(cpu, SERIAL + 2, 1);
	fake_out(cpu, SERIAL + 3, 1, 0x80);
	fake_out(cpu, SERIAL, 1, 0x41);
	v[3] = fake_in(cpu, SERIAL, 1);
	fake_out(cpu, SERIAL + 3, 1, 0x03);
	fake_irq_wait(cpu, 4, 0);
	fake_out(cpu, SERIAL + 1, 1, 2);
	v[4] = fake_irq_wait(cpu, 4, WAIT_MS);
	v[5] = fake_in(cpu, SERIAL + 2, 1);
	v[6] = fake_in(cpu, SERIAL + 2, 1);
	fake_out(cpu, SERIAL, 1, 'x');
	v[7] = fake_irq_wait(cpu, 4, WAIT_MS);
	v[8] = fake_in(cpu, SERIAL + 5, 1);
	fake_out(cpu, SERIAL + 7, 1, 0x5a);
	v[9] = fake_in(cpu, SERIAL + 7, 1);
	fake_out(cpu, 0x64, 1, 0xfe);
}

static void test_serial_driver(void **state)
{
	AUTO_FD null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	uint64_t v[10] = { 0 };

	play_serial(probe_serial, v, null);
	assert_int_equal(v[0], 0x0f);
	assert_int_equal(v[1], 0x90);
	assert_int_equal(v[2], 0xc1);
	assert_int_equal(v[3], 0x41);
	assert_int_equal(v[4], true);
	assert_int_equal(v[5], 0xc2);
	assert_int_equal(v[6], 0xc1);
	assert_int_equal(v[7], true);
	assert_int_equal(v[8], 0x60);
	assert_int_equal(v[9], 0x5a);
}

/* ---- pause, resume, stop ---- */

static void test_pause(void **state)
{
	unsigned int turns = 0, before;
	struct fake_guest guest = { .script = busy, .ctx = &turns };
	struct smolvm_vmm *vmm = start((struct smolvm_vmm_config){ .cpus = 4 }, &guest);

	for (int i = 0; i < 20; i++) {
		assert_int_equal(smolvm_vmm_pause(vmm, &err), 0);
		assert_int_equal(smolvm_vmm_pause(vmm, &err), 0);
		before = __atomic_load_n(&turns, __ATOMIC_SEQ_CST);
		poll(NULL, 0, 2);
		/* A script may be on its way to its next exit; it does not get further. */
		assert_in_range(__atomic_load_n(&turns, __ATOMIC_SEQ_CST), before, before + 4);
		before = __atomic_load_n(&turns, __ATOMIC_SEQ_CST);
		assert_int_equal(smolvm_vmm_resume(vmm, &err), 0);
		while (__atomic_load_n(&turns, __ATOMIC_SEQ_CST) < before + 100)
			sched_yield();
	}
	assert_int_equal(smolvm_vmm_pause(vmm, &err), 0);
	smolvm_vmm_stop(vmm);
	smolvm_vmm_stop(vmm);
	assert_int_equal(finish(vmm).reason, SMOLVM_VMM_STOPPED);
	assert_int_equal(smolvm_vmm_pause(vmm, &err), -ESRCH);
	assert_int_equal(smolvm_vmm_resume(vmm, &err), -ESRCH);
	smolvm_vmm_destroy(vmm);
}

/* Every thread is there, and none has entered the guest. */
static void test_start_paused(void **state)
{
	unsigned int turns = 0;
	struct fake_guest guest = { .script = busy, .ctx = &turns };
	struct smolvm_vmm_config config = { .cpus = 2, .paused = 1 };
	unsigned int before = count_entries("/proc/self/task");
	struct smolvm_vmm *vmm = start(config, &guest);
	struct smolvm_vmm_timeline t;

	assert_true(count_entries("/proc/self/task") >= before + 3);
	assert_int_equal(smolvm_vmm_pause(vmm, &err), 0);
	poll(NULL, 0, 20);
	smolvm_vmm_timeline(vmm, &t);
	assert_int_equal(t.run, 0);
	assert_int_equal(turns, 0);
	assert_int_equal(smolvm_vmm_resume(vmm, &err), 0);
	while (__atomic_load_n(&turns, __ATOMIC_SEQ_CST) < 100)
		sched_yield();
	smolvm_vmm_timeline(vmm, &t);
	assert_true(t.run >= t.loaded && t.loaded > 0);
	smolvm_vmm_destroy(vmm);
	/* One that never ran ends as well. */
	vmm = start(config, &guest);
	smolvm_vmm_stop(vmm);
	assert_int_equal(finish(vmm).reason, SMOLVM_VMM_STOPPED);
	assert_int_equal(smolvm_vmm_resume(vmm, &err), -ESRCH);
	smolvm_vmm_destroy(vmm);
}

static void *pauser(void *arg)
{
	struct smolvm_vmm *vmm = arg;

	while (smolvm_vmm_pause(vmm, NULL) == 0 && smolvm_vmm_resume(vmm, NULL) == 0)
		;
	return NULL;
}

static void *stopper(void *arg)
{
	struct smolvm_vmm *vmm = arg;

	poll(NULL, 0, 20);
	smolvm_vmm_stop(vmm);
	return NULL;
}

static void *waiter(void *arg)
{
	struct smolvm_vmm *vmm = arg;
	struct smolvm_vmm_exit end = { 0 };

	smolvm_vmm_wait(vmm, -1, &end, NULL);
	return end.reason == SMOLVM_VMM_STOPPED ? arg : NULL;
}

static void test_from_many_threads(void **state)
{
	void *(*const what[])(void *) = { pauser, pauser, waiter, waiter, stopper, stopper };
	unsigned int turns = 0;
	struct fake_guest guest = { .script = busy, .ctx = &turns };
	struct smolvm_vmm *vmm = start((struct smolvm_vmm_config){ .cpus = 3 }, &guest);
	struct smolvm_vmm_counters counters;
	pthread_t threads[6];
	void *result[6];

	for (int i = 0; i < 6; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, what[i], vmm), 0);
	smolvm_vmm_counters(vmm, &counters);
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], &result[i]);
	assert_non_null(result[2]);
	assert_non_null(result[3]);
	smolvm_vmm_destroy(vmm);
}

static void test_wait_for_nothing(void **state)
{
	struct fake_guest guest = { .script = idle };
	struct smolvm_vmm *vmm = start((struct smolvm_vmm_config){ .cpus = 2 }, &guest);
	struct smolvm_vmm_exit end;
	int64_t before = clock_ms();

	assert_int_equal(smolvm_vmm_wait(vmm, 0, &end, &err), -ETIMEDOUT);
	assert_int_equal(smolvm_vmm_wait(vmm, 50, &end, &err), -ETIMEDOUT);
	assert_true(clock_ms() - before >= 50);
	smolvm_vmm_destroy(vmm); /* while it runs */
}

/* ---- memory that others see ---- */

static void write_memory(void *ctx, struct fake_cpu *cpu)
{
	uint32_t *p = fake_mem(cpu, 16u << 20, sizeof(*p));

	*p = 0x600df00d;
	fake_exit(cpu, HV_EXIT_POWEROFF);
}

static void test_shared_memory(void **state)
{
	struct fake_guest guest = { .script = write_memory };
	struct smolvm_vmm *vmm = start((struct smolvm_vmm_config){ .shared_memory = 1 }, &guest);
	uint32_t seen = 0;
	struct stat st;
	int fd;

	assert_int_equal(finish(vmm).reason, SMOLVM_VMM_POWEROFF);
	fd = smolvm_vmm_memory_fd(vmm);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 256 << 20);
	assert_int_equal(pread(fd, &seen, sizeof(seen), 16 << 20), sizeof(seen));
	assert_int_equal(seen, 0x600df00d);
	smolvm_vmm_destroy(vmm);
	assert_int_equal(fstat(fd, &st), -1);
	vmm = start((struct smolvm_vmm_config){ 0 }, &guest);
	assert_int_equal(smolvm_vmm_memory_fd(vmm), -ENODEV);
	smolvm_vmm_destroy(vmm);
}

/* ---- side by side, and nothing left ---- */

static void test_two_machines(void **state)
{
	unsigned int turns[2] = { 0, 0 };
	struct fake_guest a = { .script = busy, .ctx = &turns[0] };
	struct fake_guest b = { .script = busy, .ctx = &turns[1] };
	struct smolvm_vmm *one = start((struct smolvm_vmm_config){ .cpus = 2 }, &a);
	struct smolvm_vmm *two = start((struct smolvm_vmm_config){ .cpus = 2 }, &b);
	unsigned int before;

	smolvm_vmm_stop(one);
	assert_int_equal(finish(one).reason, SMOLVM_VMM_STOPPED);
	before = __atomic_load_n(&turns[1], __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&turns[1], __ATOMIC_SEQ_CST) < before + 100)
		sched_yield();
	smolvm_vmm_destroy(one);
	assert_int_equal(smolvm_vmm_pause(two, &err), 0);
	smolvm_vmm_destroy(two);
}

static void test_nothing_is_left(void **state)
{
	unsigned int fds = count_entries("/proc/self/fd"), turns = 0;
	unsigned int threads = count_entries("/proc/self/task");
	struct fake_guest guest = { .script = busy, .ctx = &turns };

	for (int i = 0; i < 10; i++) {
		struct smolvm_vmm *vmm = start((struct smolvm_vmm_config){ .cpus = 4 }, &guest);

		assert_true(count_entries("/proc/self/fd") > fds);
		assert_true(count_entries("/proc/self/task") > threads);
		smolvm_vmm_destroy(vmm);
	}
	assert_int_equal(count_entries("/proc/self/fd"), fds);
	assert_int_equal(count_entries("/proc/self/task"), threads);
}

/* ---- threads ---- */

struct threads {
	enum smolvm_vmm_thread fails;
	int left; /* how many of these succeed */
	int seen[4];
	int unblocked;
};

static int thread_started(void *ctx, enum smolvm_vmm_thread kind)
{
	struct threads *t = ctx;
	sigset_t set;

	pthread_sigmask(SIG_SETMASK, NULL, &set);
	if (!sigismember(&set, SIGTERM) || !sigismember(&set, SIGRTMIN + 7))
		__atomic_add_fetch(&t->unblocked, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&t->seen[kind], 1, __ATOMIC_SEQ_CST);
	if (kind == t->fails && __atomic_sub_fetch(&t->left, 1, __ATOMIC_SEQ_CST) < 0)
		return -EACCES;
	return 0;
}

static void start_with(struct threads *t, int expected)
{
	struct fake_guest guest = { .script = idle };
	struct smolvm_vmm *vmm;
	struct smolvm_vmm_config config = { .cpus = 3, .thread_started = thread_started,
					    .thread_started_ctx = t };

	assert_int_equal(create(&vmm, config, &guest), 0);
	assert_int_equal(smolvm_vmm_start(vmm, &err), expected);
	if (expected)
		assert_int_equal(finish(vmm).reason, SMOLVM_VMM_FAILED);
	smolvm_vmm_destroy(vmm);
	assert_int_equal(t->unblocked, 0);
}

static void test_threads_started(void **state)
{
	struct threads t = { .fails = SMOLVM_VMM_THREAD_FS };

	start_with(&t, 0);
	assert_int_equal(t.seen[SMOLVM_VMM_THREAD_VCPU], 3);
	assert_int_equal(t.seen[SMOLVM_VMM_THREAD_IO], 1);
	t = (struct threads){ .fails = SMOLVM_VMM_THREAD_VCPU, .left = 2 };
	start_with(&t, -EACCES);
	t = (struct threads){ .fails = SMOLVM_VMM_THREAD_VCPU };
	start_with(&t, -EACCES);
	t = (struct threads){ .fails = SMOLVM_VMM_THREAD_IO };
	start_with(&t, -EACCES);
	assert_int_equal(t.seen[SMOLVM_VMM_THREAD_VCPU], 0);
}

/* ---- devices ---- */

/* A device of two queues that interrupts the guest for each notification of the second. */
struct toy {
	struct virtio_device d;
	int notified[2];
	int *destroyed;
	bool fails;
};

static int toy_start(struct virtio_device *d, struct smolvm_error *e)
{
	if (((struct toy *)d)->fails) {
		e->code = EIO;
		snprintf(e->message, sizeof(e->message), "the toy is broken");
		return -EIO;
	}
	return 0;
}

static void toy_notify(struct virtio_device *d, unsigned int q)
{
	__atomic_add_fetch(&((struct toy *)d)->notified[q], 1, __ATOMIC_SEQ_CST);
	if (q == 1)
		virtio_config_changed(d);
}

static void toy_destroy(struct virtio_device *d)
{
	struct toy *t = (struct toy *)d;

	__atomic_add_fetch(t->destroyed, 1, __ATOMIC_SEQ_CST);
	virtio_fini(d);
	free(t);
}

static const struct virtio_ops toy_ops = {
	.name = "toy",
	.id = VIRTIO_ID_ENTROPY,
	.queue_size = 16,
	.start = toy_start,
	.notify = toy_notify,
	.destroy = toy_destroy,
};

static struct toy *toy(struct smolvm_vmm *vmm, int *destroyed)
{
	struct toy *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	virtio_init(&t->d, &toy_ops, &vmm->env, 0, 2);
	t->destroyed = destroyed;
	return t;
}

static void set(struct fake_cpu *cpu, unsigned int reg, uint32_t v)
{
	fake_mmio_write(cpu, MMIO + reg, 4, v);
}

struct driver {
	uint64_t magic, id, status, isr;
	bool interrupt, second;
};

/* The shortest driver: features, both queues, DRIVER_OK; notify the second queue twice. */
static void drive(void *ctx, struct fake_cpu *cpu)
{
	struct driver *v = ctx;

	v->magic = fake_mmio_read(cpu, MMIO, 4);
	v->id = fake_mmio_read(cpu, MMIO + 8, 4);
	set(cpu, 0x70, 1);
	set(cpu, 0x70, 3);
	set(cpu, 0x24, 1);
	set(cpu, 0x20, 1);
	set(cpu, 0x70, 11);
	for (unsigned int q = 0; q < 2; q++) {
		set(cpu, 0x30, q);
		set(cpu, 0x38, 16);
		set(cpu, 0x80, 0x200000 + q * 0x10000);
		set(cpu, 0x90, 0x201000 + q * 0x10000);
		set(cpu, 0xa0, 0x202000 + q * 0x10000);
		set(cpu, 0x44, 1);
	}
	set(cpu, 0x70, 15);
	v->status = fake_mmio_read(cpu, MMIO + 0x70, 4);
	fake_mmio_write(cpu, NOTIFY, 4, 1);
	v->interrupt = fake_irq_wait(cpu, arch_irq(0), WAIT_MS);
	v->isr = fake_mmio_read(cpu, MMIO + 0x60, 4);
	fake_mmio_write(cpu, NOTIFY, 4, 1);
	v->second = fake_irq_wait(cpu, arch_irq(0), WAIT_MS);
	fake_out(cpu, 0x64, 1, 0xfe);
}

static void drive_toy(bool event_fds)
{
	struct driver v = { 0 };
	struct fake_guest guest = { .script = drive, .ctx = &v, .event_fds = event_fds };
	struct smolvm_vmm_timeline t;
	struct smolvm_vmm_counters c;
	struct smolvm_vmm *vmm;
	int destroyed = 0;

	assert_int_equal(create(&vmm, (struct smolvm_vmm_config){ .cpus = 1 }, &guest), 0);
	assert_int_equal(vmm_add(vmm, &toy(vmm, &destroyed)->d, &err), 0);
	assert_int_equal(smolvm_vmm_start(vmm, &err), 0);
	assert_int_equal(vmm_can_add(vmm, &err), -EBUSY);
	assert_int_equal(finish(vmm).reason, SMOLVM_VMM_RESET);
	smolvm_vmm_counters(vmm, &c);
	smolvm_vmm_timeline(vmm, &t);
	smolvm_vmm_destroy(vmm);
	assert_int_equal(destroyed, 1);
	assert_int_equal(v.magic, 0x74726976);
	assert_int_equal(v.id, VIRTIO_ID_ENTROPY);
	assert_int_equal(v.status, 15);
	assert_true(v.interrupt);
	assert_int_equal(v.isr, 2);
	assert_true(v.second);
	assert_int_equal(c.notifies, 2);
	assert_int_equal(c.interrupts, 2);
	/* With eventfds, notifications do not come back to this process's vCPUs. */
	assert_int_equal(c.exits_mmio, event_fds ? 22 : 24);
	assert_int_equal(c.exits_io, 1);
	assert_true(t.create && t.create <= t.start && t.start <= t.loaded && t.loaded <= t.run &&
		    t.run <= t.first_exit && t.first_exit <= t.driver && t.driver <= t.end);
}

static void test_device(void **state)
{
	drive_toy(false);
	drive_toy(true);
}

static void test_200_devices(void **state)
{
	struct fake_guest guest = { .script = idle };
	struct smolvm_vmm *vmm;
	int destroyed = 0, refusals = 0;

	assert_int_equal(create(&vmm, (struct smolvm_vmm_config){ .cpus = 1 }, &guest), 0);
	for (int i = 0; i < 200; i++) {
		int r = vmm_add(vmm, &toy(vmm, &destroyed)->d, &err);

		assert_int_equal(r, i < SMOLVM_VMM_DEVICES_MAX ? 0 : -ENOSPC);
		refusals += r < 0;
	}
	assert_int_equal(destroyed, refusals);
	assert_int_equal(smolvm_vmm_start(vmm, &err), 0);
	assert_non_null(strstr(vmm->cmdline.text, "4K@0xd002f000:"));
	smolvm_vmm_destroy(vmm);
	assert_int_equal(destroyed, 200);
}

static void test_no_room_for_devices(void **state)
{
	char cmdline[SMOLVM_VMM_CMDLINE_MAX + 1];
	struct fake_guest guest = { .script = idle };
	struct smolvm_vmm *vmm;
	int destroyed = 0;

	memset(cmdline, 'a', sizeof(cmdline) - 1);
	cmdline[sizeof(cmdline) - 1] = '\0';
	assert_int_equal(create(&vmm, (struct smolvm_vmm_config){ .cmdline = cmdline }, &guest),
			 0);
	assert_int_equal(vmm_add(vmm, &toy(vmm, &destroyed)->d, &err), 0);
	assert_int_equal(smolvm_vmm_start(vmm, &err), -E2BIG);
	smolvm_vmm_destroy(vmm);
}

static void test_device_that_fails(void **state)
{
	struct fake_guest guest = { .script = idle };
	struct smolvm_vmm *vmm;
	struct toy *t;
	int destroyed = 0;

	assert_int_equal(create(&vmm, (struct smolvm_vmm_config){ .cpus = 1 }, &guest), 0);
	t = toy(vmm, &destroyed);
	t->fails = true;
	assert_int_equal(vmm_add(vmm, &t->d, &err), 0);
	assert_int_equal(smolvm_vmm_start(vmm, &err), -EIO);
	assert_string_equal(err.message, "the toy is broken");
	assert_string_equal(finish(vmm).text, "the toy is broken");
	smolvm_vmm_destroy(vmm);
	assert_int_equal(destroyed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_configs),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_bad_kernel),
		cmocka_unit_test(test_never_started),
		cmocka_unit_test(test_exits),
		cmocka_unit_test(test_ports_that_end_it),
		cmocka_unit_test(test_halted),
		cmocka_unit_test(test_not_halted),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_bus),
		cmocka_unit_test(test_serial),
		cmocka_unit_test(test_serial_blocked),
		cmocka_unit_test(test_serial_driver),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_start_paused),
		cmocka_unit_test(test_from_many_threads),
		cmocka_unit_test(test_wait_for_nothing),
		cmocka_unit_test(test_shared_memory),
		cmocka_unit_test(test_two_machines),
		cmocka_unit_test(test_nothing_is_left),
		cmocka_unit_test(test_threads_started),
		cmocka_unit_test(test_device),
		cmocka_unit_test(test_200_devices),
		cmocka_unit_test(test_no_room_for_devices),
		cmocka_unit_test(test_device_that_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
