/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsmolvm-vmm on a real KVM: what the command line has no way to ask for. Prints TAP.
 *
 *	vmm_cases VMLINUX INIT	(INIT: vmm_init, which says what the guest sees)
 */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <smolvm/vmm.h>

#include "base/clock.h"
#include "base/fd.h"

#define MIB (1u << 20)
#define LIMIT_MS 30000 /* for a guest to do something; it may be emulated twice */
#define CMDLINE "console=ttyS0 quiet reboot=t panic=-1"
#define DISK_BYTES (8 * MIB)

static const char *vmlinux_path;
static uint8_t *initramfs;
static size_t initramfs_bytes;
static struct smolvm_error err;

/* ---------------------------------------------------------------- guests */

/* What the guest said last; see vmm_init.c. */
struct tick {
	unsigned long number, free_kib;
	int first, last, write;
};

struct guest {
	struct smolvm_vmm *vmm;
	int serial[2];
	char text[4096];
	size_t n;
	struct tick tick;
};

#define NEED(call)                                                                                 \
	do {                                                                                       \
		if ((call) < 0)                                                                    \
			fail_msg("%s: %s", #call, err.message);                                    \
	} while (0)

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return fd;
}

static void guest_create(struct guest *g, unsigned int memory_mib)
{
	struct smolvm_vmm_config config = { .kernel_fd = open_file(vmlinux_path, O_RDONLY),
					    .memory_mib = memory_mib, .initramfs = initramfs,
					    .initramfs_bytes = initramfs_bytes,
					    .cmdline = CMDLINE };

	*g = (struct guest){ 0 };
	assert_int_equal(pipe2(g->serial, O_CLOEXEC | O_NONBLOCK), 0);
	config.serial_fd = g->serial[1];
	NEED(smolvm_vmm_create(&g->vmm, &config, &err));
	close(config.kernel_fd);
}

static void guest_destroy(struct guest *g)
{
	smolvm_vmm_destroy(g->vmm);
	close(g->serial[0]);
	close(g->serial[1]);
}

static void take_line(struct guest *g, const char *line)
{
	struct tick t;

	if (sscanf(line, "tick %lu free %lu first %d last %d write %d", &t.number, &t.free_kib,
		   &t.first, &t.last, &t.write) == 5)
		g->tick = t;
}

/* Whatever there is to read, within @ms. Return: bytes. */
static size_t guest_read(struct guest *g, int ms)
{
	struct pollfd p = { .fd = g->serial[0], .events = POLLIN };
	ssize_t n;
	char *end;

	if (poll(&p, 1, ms) <= 0)
		return 0;
	if (g->n == sizeof(g->text) - 1)
		g->n = 0;
	n = read(p.fd, g->text + g->n, sizeof(g->text) - 1 - g->n);
	if (n <= 0)
		return 0;
	g->n += (size_t)n;
	g->text[g->n] = '\0';
	while ((end = strchr(g->text, '\n'))) {
		*end++ = '\0';
		take_line(g, g->text);
		g->n -= (size_t)(end - g->text);
		memmove(g->text, end, g->n + 1);
	}
	return (size_t)n;
}

static void guest_next(struct guest *g)
{
	int64_t limit = clock_ms() + LIMIT_MS;
	unsigned long was = g->tick.number;

	while (g->tick.number == was) {
		if (clock_ms() > limit || smolvm_vmm_wait(g->vmm, 0, NULL, NULL) == 0)
			fail_msg("the guest says nothing more; its last words: %s", g->text);
		guest_read(g, 100);
	}
}

/* Let the guest go on until @condition holds for @g. */
#define UNTIL(g, condition)                                                                        \
	do {                                                                                       \
		int64_t limit_ = clock_ms() + LIMIT_MS;                                            \
		guest_next(g);                                                                     \
		while (!(condition)) {                                                             \
			if (clock_ms() > limit_)                                                   \
				fail_msg("waited for %s", #condition);                             \
			guest_next(g);                                                             \
		}                                                                                  \
	} while (0)

static void guest_start(struct guest *g)
{
	NEED(smolvm_vmm_start(g->vmm, &err));
	guest_next(g);
}

static unsigned int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* ---------------------------------------------------------------- bare guests */

static const uint8_t code_off[] = { 0x66, 0xb8, 0x00, 0x20, 0x66, 0xba, 0x04, 0x06, 0x66, 0xef,
				    0xf4 }; /* out 0x2000 to port 0x604, hlt */

static int bare_kernel(void)
{
	struct {
		Elf64_Ehdr h;
		Elf64_Phdr load;
		uint8_t code[sizeof(code_off)];
	} f = {
		.h = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		       .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
		       .e_entry = MIB, .e_phoff = sizeof(f.h), .e_ehsize = sizeof(f.h),
		       .e_phentsize = sizeof(f.load), .e_phnum = 1 },
		.load = { .p_type = PT_LOAD, .p_offset = sizeof(f.h) + sizeof(f.load),
			  .p_paddr = MIB, .p_filesz = sizeof(f.code), .p_memsz = 4096 },
	};
	int fd = fd_memfd("kernel");

	memcpy(f.code, code_off, sizeof(f.code));
	assert_int_equal(fd_write_all(fd, &f, sizeof(f)), 0);
	return fd;
}

static int bare_create(struct smolvm_vmm **ret, struct smolvm_vmm_config config)
{
	int kernel = bare_kernel(), rc;

	config.kernel_fd = kernel;
	rc = smolvm_vmm_create(ret, &config, &err);
	close(kernel);
	return rc;
}

static void bare_end(struct smolvm_vmm *vmm)
{
	struct smolvm_vmm_exit end;

	NEED(smolvm_vmm_wait(vmm, LIMIT_MS, &end, &err));
	assert_int_equal(end.reason, SMOLVM_VMM_POWEROFF);
	smolvm_vmm_destroy(vmm);
}

/* ---------------------------------------------------------------- what it can do */

static void paused_it_stands_still(void **state)
{
	unsigned long before;
	struct guest g;

	guest_create(&g, 128);
	guest_start(&g);
	for (int i = 0; i < 3; i++) {
		NEED(smolvm_vmm_pause(g.vmm, &err));
		while (guest_read(&g, 100))
			;
		before = g.tick.number;
		assert_int_equal(guest_read(&g, 700), 0);
		NEED(smolvm_vmm_resume(g.vmm, &err));
		guest_next(&g);
		assert_int_equal(g.tick.number, before + 1);
	}
	NEED(smolvm_vmm_pause(g.vmm, &err));
	guest_destroy(&g);
}

static void the_balloon_takes_and_gives(void **state)
{
	struct smolvm_vmm_counters c;
	struct smolvm_vmm_memory m;
	unsigned long before;
	struct guest g;

	guest_create(&g, 256);
	assert_int_equal(smolvm_vmm_balloon(g.vmm, 1, &err), -ENODEV);
	assert_int_equal(smolvm_vmm_memory(g.vmm, &m, &err), -ENODEV);
	NEED(smolvm_vmm_add_balloon(g.vmm, &err));
	guest_start(&g);
	before = g.tick.free_kib;
	assert_int_equal(smolvm_vmm_balloon(g.vmm, 100000, &err), -EINVAL);
	NEED(smolvm_vmm_balloon(g.vmm, 100, &err));
	UNTIL(&g, g.tick.free_kib < before - 90 * 1024);
	UNTIL(&g, (smolvm_vmm_counters(g.vmm, &c), c.balloon_bytes == 100 * MIB));
	/* It speaks when it is asked, and is asked by the question. */
	UNTIL(&g, (smolvm_vmm_memory(g.vmm, &m, &err), m.total_bytes <= 256 * MIB));
	assert_true(m.free_bytes < m.total_bytes && m.available_bytes < m.total_bytes);
	NEED(smolvm_vmm_balloon(g.vmm, 0, &err));
	UNTIL(&g, g.tick.free_kib > before - 10 * 1024);
	UNTIL(&g, (smolvm_vmm_counters(g.vmm, &c), c.balloon_bytes == 0));
	guest_destroy(&g);
}

static int disk_file(const char *path)
{
	int fd = open_file(path, O_RDWR | O_CREAT | O_TRUNC);

	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	return fd;
}

static int temp_disk(char *path)
{
	int fd;

	strcpy(path, "/tmp/vmm-cases.XXXXXX");
	fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	return fd;
}

static void add_disk(struct guest *g, int fd)
{
	NEED(smolvm_vmm_add_disk(g->vmm, &(struct smolvm_vmm_disk){ .fd = fd }, &err));
}

static void it_counts(void **state)
{
	struct smolvm_vmm_counters c, d;
	struct smolvm_vmm_timeline t;
	char path[32];
	struct guest g;

	guest_create(&g, 128);
	add_disk(&g, temp_disk(path));
	NEED(smolvm_vmm_add_rng(g.vmm, &err));
	guest_start(&g);
	smolvm_vmm_counters(g.vmm, &c);
	guest_next(&g);
	guest_next(&g);
	smolvm_vmm_counters(g.vmm, &d);
	smolvm_vmm_timeline(g.vmm, &t);
	assert_true(c.exits > 0 && d.exits > c.exits && d.exits_io > c.exits_io);
	assert_true(d.notifies > c.notifies && d.interrupts > c.interrupts);
	assert_true(d.disk_requests >= c.disk_requests + 4);
	assert_true(d.disk_bytes >= c.disk_bytes + 4 * 4096);
	assert_true(d.device_errors == 0 && d.balloon_bytes == 0 && d.vsock_bytes == 0);
	assert_true(t.create > 0 && t.create <= t.start && t.start <= t.loaded);
	assert_true(t.loaded <= t.run && t.run <= t.first_exit && t.first_exit <= t.driver);
	assert_true(t.driver <= clock_ns() && t.end == 0);
	smolvm_vmm_stop(g.vmm);
	smolvm_vmm_timeline(g.vmm, &t);
	assert_true(t.end >= t.driver);
	guest_destroy(&g);
	unlink(path);
}

static void two_machines_in_one_process(void **state)
{
	struct guest a, b;

	guest_create(&a, 96);
	guest_create(&b, 192);
	guest_start(&a);
	guest_start(&b);
	guest_next(&a);
	assert_true(b.tick.free_kib > a.tick.free_kib + 64 * 1024);
	NEED(smolvm_vmm_pause(a.vmm, &err));
	guest_next(&b);
	guest_destroy(&a);
	guest_next(&b);
	guest_next(&b);
	guest_destroy(&b);
}

static void thirty_in_a_row_and_ten_at_once(void **state)
{
	struct smolvm_vmm *vmms[10];
	unsigned int fds = count_fds();

	for (int i = 0; i < 30; i++) {
		NEED(bare_create(&vmms[0], (struct smolvm_vmm_config){ .cpus = 2 }));
		NEED(smolvm_vmm_add_rng(vmms[0], &err));
		NEED(smolvm_vmm_start(vmms[0], &err));
		bare_end(vmms[0]);
		assert_int_equal(count_fds(), fds);
	}
	for (int i = 0; i < 10; i++)
		NEED(bare_create(&vmms[i], (struct smolvm_vmm_config){ 0 }));
	for (int i = 0; i < 10; i++)
		NEED(smolvm_vmm_start(vmms[i], &err));
	for (int i = 0; i < 10; i++)
		bare_end(vmms[i]);
	assert_int_equal(count_fds(), fds);
}

/* ---------------------------------------------------------------- disks */

static void a_disk_that_shrinks(void **state)
{
	struct smolvm_vmm_counters c;
	char path[32];
	struct guest g;

	guest_create(&g, 128);
	add_disk(&g, temp_disk(path));
	guest_start(&g);
	assert_int_equal(g.tick.first | g.tick.last | g.tick.write, 0);
	assert_int_equal(truncate(path, 4096), 0);
	UNTIL(&g, g.tick.last == EIO);
	assert_int_equal(g.tick.first, 0);
	assert_int_equal(truncate(path, DISK_BYTES), 0);
	UNTIL(&g, g.tick.last == 0);
	smolvm_vmm_counters(g.vmm, &c);
	assert_int_equal(c.device_errors, 0);
	guest_destroy(&g);
	unlink(path);
}

/* A loop device of 8 MiB, whose file is cut afterwards; -1: there are no loop devices. */
static int loop_device(int file)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd, n;
	char path[32];

	n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	if (control >= 0)
		close(control);
	if (n < 0)
		return -1;
	snprintf(path, sizeof(path), "/dev/loop%d", n);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, LOOP_SET_FD, file) < 0)
		fd_close(&fd);
	return fd;
}

static void a_disk_that_fails(void **state)
{
	struct smolvm_vmm_counters c;
	int file, loop, mine;
	char path[32];
	struct guest g;

	file = temp_disk(path);
	unlink(path);
	loop = loop_device(file);
	if (loop < 0) {
		close(file);
		skip();
	}
	mine = dup(loop);
	guest_create(&g, 128);
	add_disk(&g, loop);
	guest_start(&g);
	assert_int_equal(g.tick.first | g.tick.last | g.tick.write, 0);
	/* Backwards from the end: what is read next is in nobody's cache. */
	assert_int_equal(ftruncate(file, DISK_BYTES / 2), 0);
	UNTIL(&g, g.tick.last == EIO);
	assert_int_equal(g.tick.first, 0);
	smolvm_vmm_counters(g.vmm, &c);
	assert_int_equal(c.device_errors, 0);
	guest_destroy(&g);
	ioctl(mine, LOOP_CLR_FD, 0);
	close(mine);
	close(file);
}

static void a_disk_without_room(void **state)
{
	char folder[] = "/tmp/vmm-cases.XXXXXX", path[64];
	struct guest g;

	assert_non_null(mkdtemp(folder));
	if (mount("none", folder, "tmpfs", 0, "size=64k") < 0) {
		rmdir(folder);
		skip();
	}
	snprintf(path, sizeof(path), "%s/disk", folder);
	guest_create(&g, 128);
	add_disk(&g, disk_file(path));
	guest_start(&g);
	UNTIL(&g, g.tick.write != 0);
	assert_int_equal(g.tick.first | g.tick.last, 0);
	guest_destroy(&g);
	umount(folder);
	rmdir(folder);
}

static void disks_that_are_none(void **state)
{
	struct smolvm_vmm *vmm;
	char path[32];
	int fd = temp_disk(path);
	int null = open_file("/dev/null", O_RDWR);

	NEED(bare_create(&vmm, (struct smolvm_vmm_config){ 0 }));
	assert_int_equal(ftruncate(fd, 511), 0);
	assert_int_equal(smolvm_vmm_add_disk(vmm, &(struct smolvm_vmm_disk){ .fd = fd }, &err),
			 -EINVAL);
	assert_non_null(strstr(err.message, "smaller than a sector"));
	assert_int_equal(smolvm_vmm_add_disk(vmm, &(struct smolvm_vmm_disk){ .fd = null }, &err),
			 -EINVAL);
	assert_true(smolvm_vmm_add_disk(vmm, &(struct smolvm_vmm_disk){ .fd = 9999 }, &err) < 0);
	assert_true(err.message[0]);
	NEED(smolvm_vmm_start(vmm, &err));
	bare_end(vmm);
	fd_close(&fd);
	fd_close(&null);
	unlink(path);
}

/* ---------------------------------------------------------------- limits */

static void two_hundred_devices(void **state)
{
	struct guest g;
	int n = 0;

	guest_create(&g, 128);
	for (int i = 0; i < 200; i++) {
		int rc = smolvm_vmm_add_rng(g.vmm, &err);

		n += rc == 0;
		if (rc < 0) {
			assert_int_equal(rc, -ENOSPC);
			assert_non_null(strstr(err.message, "48"));
		}
	}
	assert_int_equal(n, SMOLVM_VMM_DEVICES_MAX);
	guest_start(&g);
	guest_destroy(&g);
}

static void a_command_line_that_is_too_long(void **state)
{
	char text[SMOLVM_VMM_CMDLINE_MAX + 2];
	struct smolvm_vmm *vmm = NULL;
	struct smolvm_vmm_config config = { .cmdline = text };

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(bare_create(&vmm, config), -E2BIG);
	assert_non_null(strstr(err.message, "command line"));
	text[sizeof(text) - 2] = '\0';
	NEED(bare_create(&vmm, config));
	NEED(smolvm_vmm_add_rng(vmm, &err));
	assert_int_equal(smolvm_vmm_start(vmm, &err), -E2BIG);
	assert_non_null(strstr(err.message, "command line"));
	smolvm_vmm_destroy(vmm);
	NEED(bare_create(&vmm, config));
	NEED(smolvm_vmm_start(vmm, &err));
	bare_end(vmm);
}

static void memory_that_cannot_be_had(void **state)
{
	unsigned int fds = count_fds();
	struct smolvm_vmm *vmm = NULL;
	struct rlimit was, small;

	getrlimit(RLIMIT_AS, &was);
	small = (struct rlimit){ 512 * MIB, was.rlim_max };
	setrlimit(RLIMIT_AS, &small);
	assert_int_equal(bare_create(&vmm, (struct smolvm_vmm_config){ .memory_mib = 1024 }),
			 -ENOMEM);
	setrlimit(RLIMIT_AS, &was);
	assert_non_null(strstr(err.message, "1024 MiB"));
	assert_null(vmm);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(bare_create(&vmm, (struct smolvm_vmm_config){ .memory_mib = UINT32_MAX }),
			 -EINVAL);
}

static void a_kvm_that_is_none(void **state)
{
	struct smolvm_vmm *vmm = NULL;
	int null = open_file("/dev/null", O_RDWR);

	assert_int_equal(bare_create(&vmm, (struct smolvm_vmm_config){ .kvm_fd = null }),
			 -ENODEV);
	assert_non_null(strstr(err.message, "not KVM"));
	close(null);
}

/* ---------------------------------------------------------------- main */

/* One file of a cpio archive, "newc". Return: bytes; @to: NULL to count only. */
static size_t cpio_add(uint8_t *to, const char *name, const uint8_t *data, size_t bytes)
{
	size_t name_bytes = strlen(name) + 1, head = (110 + name_bytes + 3) & ~(size_t)3;
	char text[160];

	if (to) {
		snprintf(text, sizeof(text),
			 "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", 1,
			 S_IFREG | 0755, 0, 0, 1, 0, bytes, 0, 0, 0, 0, name_bytes, 0);
		memcpy(to, text, 110);
		memcpy(to + 110, name, name_bytes);
		if (bytes)
			memcpy(to + head, data, bytes);
	}
	return head + ((bytes + 3) & ~(size_t)3);
}

static void make_initramfs(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *init;
	size_t n;

	if (fd < 0 || fstat(fd, &st) < 0) {
		printf("Bail out! %s: %s\n", path, strerror(errno));
		exit(1);
	}
	init = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	n = cpio_add(NULL, "init", init, (size_t)st.st_size);
	initramfs_bytes = n + cpio_add(NULL, "TRAILER!!!", NULL, 0);
	initramfs = calloc(1, initramfs_bytes);
	if (init == MAP_FAILED || !initramfs)
		abort();
	cpio_add(initramfs, "init", init, (size_t)st.st_size);
	cpio_add(initramfs + n, "TRAILER!!!", NULL, 0);
	munmap(init, (size_t)st.st_size);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paused_it_stands_still),
		cmocka_unit_test(the_balloon_takes_and_gives),
		cmocka_unit_test(it_counts),
		cmocka_unit_test(two_machines_in_one_process),
		cmocka_unit_test(thirty_in_a_row_and_ten_at_once),
		cmocka_unit_test(a_disk_that_shrinks),
		cmocka_unit_test(a_disk_that_fails),
		cmocka_unit_test(a_disk_without_room),
		cmocka_unit_test(disks_that_are_none),
		cmocka_unit_test(two_hundred_devices),
		cmocka_unit_test(a_command_line_that_is_too_long),
		cmocka_unit_test(memory_that_cannot_be_had),
		cmocka_unit_test(a_kvm_that_is_none),
	};

	if (argc != 3) {
		fprintf(stderr, "usage: vmm_cases VMLINUX INIT\n");
		return 2;
	}
	vmlinux_path = argv[1];
	make_initramfs(argv[2]);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
