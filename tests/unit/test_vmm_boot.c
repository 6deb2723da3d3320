/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading kernels, and what they are told: x86.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/err.h"
#include "vmm/memory.h"
#include "vmm/x86_64/layout.h"
#include "vmm/x86_64/load.h"
#include "vmm_kernel.h"

#define MEMORY_MIB 64

static struct memory memory;
static struct smolvm_error err;
static struct hv_boot boot;

static int make_memory(void **state)
{
	memset(&err, 0, sizeof(err));
	memset(&boot, 0, sizeof(boot));
	return memory_init(&memory, MEMORY_MIB, LAYOUT_LOW_BYTES, LAYOUT_HIGH_GPA, false, false,
			   NULL);
}

static int free_memory(void **state)
{
	memory_fini(&memory);
	return 0;
}

static uint8_t *at(uint64_t gpa, uint64_t bytes)
{
	uint8_t *p = gmem_slice(&memory.gmem, gpa, bytes);

	assert_non_null(p);
	return p;
}

static int load_with(const void *kernel, size_t bytes, const void *initramfs, size_t n,
		     const char *cmdline)
{
	AUTO_FD fd = kernel_fd(kernel, bytes);
	struct arch_boot b = { .mem = &memory.gmem, .kernel_fd = fd, .initramfs = initramfs,
			       .initramfs_bytes = n, .cmdline = cmdline, .cpus = 2 };

	return arch_load(&b, &boot, &err);
}

static int load(const void *kernel, size_t bytes)
{
	return load_with(kernel, bytes, NULL, 0, "quiet");
}

/* ---- good ones ---- */

static void check_map(const uint8_t *p, unsigned int entry_bytes, unsigned int entries)
{
	static const uint64_t want[3][3] = {
		{ 0, 0x9fc00, 1 },
		{ 0x9fc00, 0x100000 - 0x9fc00, 2 },
		{ 0x100000, (MEMORY_MIB << 20) - 0x100000, 1 },
	};

	assert_int_equal(entries, 3);
	for (unsigned int i = 0; i < 3; i++, p += entry_bytes) {
		assert_int_equal(get_le64(p), want[i][0]);
		assert_int_equal(get_le64(p + 8), want[i][1]);
		assert_int_equal(get_le32(p + 16), want[i][2]);
	}
}

static void check_gdt(uint64_t code)
{
	const uint8_t *p = at(boot.gdt, boot.gdt_bytes);

	assert_true(boot.gdt_bytes >= 0x28);
	assert_int_equal(get_le64(p), 0);
	assert_int_equal(get_le64(p + 8), 0);
	assert_int_equal(get_le64(p + 0x10), code);
	assert_int_equal(get_le64(p + 0x18), 0x00cf93000000ffff);
}

static void test_pvh(void **state)
{
	struct elf_file f = elf_file();
	uint64_t initramfs;
	const uint8_t *p;

	assert_int_equal(load_with(&f, sizeof(f), "INITRAMFS", 9, "a=b c"), 0);
	assert_int_equal(boot.entry, HV_ENTRY_PVH);
	assert_int_equal(boot.ip, KERNEL_IP);
	assert_memory_equal(at(KERNEL_GPA, 64), f.code, 64);
	check_gdt(0x00cf9b000000ffff);
	p = at(boot.argument, 0x200);
	assert_int_equal(get_le32(p), 0x336ec578);
	assert_int_equal(get_le32(p + 4), 1);
	assert_int_equal(get_le32(p + 12), 1);
	initramfs = get_le64(at(get_le64(p + 16), 32));
	assert_int_equal(initramfs, (MEMORY_MIB << 20) - 4096);
	assert_int_equal(get_le64(at(get_le64(p + 16) + 8, 8)), 9);
	assert_memory_equal(at(initramfs, 10), "INITRAMFS", 10);
	assert_string_equal((char *)at(get_le64(p + 24), 6), "a=b c");
	check_map(at(get_le64(p + 40), 72), 24, get_le32(p + 48));
}

static void test_pvh_without_initramfs(void **state)
{
	struct elf_file f = elf_file();

	f.xen.h.n_descsz = 4;
	f.note.p_filesz = sizeof(f.xen) - 4;
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(boot.ip, KERNEL_IP);
	assert_int_equal(get_le32(at(boot.argument + 12, 4)), 0);
	assert_int_equal(get_le64(at(boot.argument + 16, 8)), 0);
}

/* Each address that a kernel may have mapped at entry leads to itself. */
static void check_identity(uint64_t gpa)
{
	uint64_t e = boot.page_table;

	for (unsigned int shift = 39; shift >= 21; shift -= 9) {
		e = get_le64(at((e & ~0xfffull) + ((gpa >> shift & 511) * 8), 8));
		assert_int_equal(e & 3, 3);
	}
	assert_true(e & 0x80);
	assert_int_equal(e & ~0x1fffffull, gpa & ~0x1fffffull);
}

static void test_elf_64(void **state)
{
	struct elf_file f = elf_file();
	const uint8_t *p;

	f.h.e_phnum = 1;
	assert_int_equal(load_with(&f, sizeof(f), "x", 1, "quiet"), 0);
	assert_int_equal(boot.entry, HV_ENTRY_LINUX64);
	assert_int_equal(boot.ip, KERNEL_GPA + 1);
	check_gdt(0x00af9b000000ffff);
	check_identity(0);
	check_identity(KERNEL_GPA);
	check_identity(0xffffffff);
	p = at(boot.argument, 4096);
	assert_int_equal(get_le16(p + BZ_BOOT_FLAG), 0xaa55);
	assert_memory_equal(p + BZ_MAGIC, "HdrS", 4);
	assert_int_equal(p[BZ_LOADER], 0xff);
	assert_int_equal(get_le32(p + 0x218), (MEMORY_MIB << 20) - 4096);
	assert_int_equal(get_le32(p + 0x21c), 1);
	assert_string_equal((char *)at(get_le32(p + 0x228), 6), "quiet");
	check_map(p + 0x2d0, 20, p[0x1e8]);
}

static void test_notes_of_others(void **state)
{
	struct elf_file f = elf_file();

	f.xen.h.n_type = 17;
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(boot.entry, HV_ENTRY_LINUX64);
	f = elf_file();
	memcpy(f.xen.name, "Not", 4);
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(boot.entry, HV_ENTRY_LINUX64);
	f = elf_file();
	f.xen.h.n_descsz = UINT32_MAX;
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(boot.entry, HV_ENTRY_LINUX64);
	f = elf_file();
	f.xen.h.n_namesz = UINT32_MAX;
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(boot.entry, HV_ENTRY_LINUX64);
}

static void test_bzimage(void **state)
{
	struct bz_file f = bz_file();
	const uint8_t *p;

	assert_int_equal(load_with(&f, sizeof(f), "initrd", 6, "quiet"), 0);
	assert_int_equal(boot.entry, HV_ENTRY_LINUX64);
	assert_int_equal(boot.ip, KERNEL_GPA + 0x200);
	assert_memory_equal(at(KERNEL_GPA, 1024), f.b + 1024, 1024);
	p = at(boot.argument, 4096);
	assert_int_equal(p[BZ_LOADER], 0xff);
	assert_int_equal(get_le16(p + BZ_VERSION), 0x20f);
	assert_int_equal(get_le64(p + BZ_PREF_ADDRESS), KERNEL_GPA);
	assert_int_equal(get_le32(p + 0x218), (MEMORY_MIB << 20) - 4096);
	check_map(p + 0x2d0, 20, p[0x1e8]);
	/* Nothing of the setup code itself, and nothing behind its header. */
	assert_int_equal(p[0x1f0], 0);
	for (unsigned int i = 0x290; i < 0x2d0; i++)
		assert_int_equal(p[i], 0);
}

static void test_bzimage_initramfs_limit(void **state)
{
	struct bz_file f = bz_file();

	bz_put(&f, BZ_INITRD_MAX, 4, 0x2ffffff);
	assert_int_equal(load_with(&f, sizeof(f), "initrd", 6, "quiet"), 0);
	assert_int_equal(get_le32(at(boot.argument + 0x218, 4)), 0x2fff000);
}

static void test_high_memory(void **state)
{
	struct elf_file f = elf_file();
	const uint8_t *p;
	int r;

	memory_fini(&memory);
	r = memory_init(&memory, 4608, LAYOUT_LOW_BYTES, LAYOUT_HIGH_GPA, true, false, NULL);
	assert_int_equal(r, 0);
	assert_int_equal(memory.gmem.n_regions, 2);
	assert_int_equal((uintptr_t)memory.gmem.regions[0].hva & 0x1fffff, 0);
	assert_int_equal((uintptr_t)memory.gmem.regions[1].hva & 0x1fffff, 0);
	assert_null(gmem_slice(&memory.gmem, LAYOUT_LOW_BYTES - 1, 2));
	assert_int_equal(load_with(&f, sizeof(f), "x", 1, ""), 0);
	p = at(boot.argument, 0x200);
	assert_int_equal(get_le32(p + 48), 4);
	p = at(get_le64(p + 40), 96);
	assert_int_equal(get_le64(p + 56), LAYOUT_LOW_BYTES - 0x100000);
	assert_int_equal(get_le64(p + 72), LAYOUT_HIGH_GPA);
	assert_int_equal(get_le64(p + 80), 1536ull << 20);
	p = at(boot.argument, 0x200);
	assert_int_equal(get_le64(at(get_le64(p + 16), 8)), LAYOUT_LOW_BYTES - 4096);
}

/* ---- bad ones ---- */

static void expect(int r, int code, const char *part)
{
	if (r != -code || err.code != code || !strstr(err.message, part))
		print_error("got %d, %d: %s\n", r, err.code, err.message);
	assert_int_equal(r, -code);
	assert_int_equal(err.code, code);
	assert_non_null(strstr(err.message, part));
}

static void test_no_kernel(void **state)
{
	uint8_t arm64[128] = { 0 };
	struct arch_boot b = { .mem = &memory.gmem, .cmdline = "" };
	int fds[2];

	expect(load("", 0), ENOEXEC, "empty");
	expect(load("hello, world\n", 13), ENOEXEC, "neither");
	expect(load("\x7f" "ELF", 4), ENOEXEC, "truncated");
	memcpy(arm64 + 0x38, "ARM\x64", 4);
	expect(load(arm64, sizeof(arm64)), ENOEXEC, "arm64");
	expect(load("\x1f\x8b" "12345678", 10), ENOEXEC, "gzip");
	assert_int_equal(pipe(fds), 0);
	b.kernel_fd = fds[0];
	expect(arch_load(&b, &boot, &err), EINVAL, "regular");
	close(fds[0]);
	close(fds[1]);
	b.kernel_fd = fds[0];
	expect(arch_load(&b, &boot, &err), EBADF, "read the kernel");
}

static void test_truncated_at_every_byte(void **state)
{
	struct elf_file elf = elf_file();
	struct bz_file bz = bz_file();

	/* The segment is the file's last piece; without its note the ELF one is another kernel. */
	for (size_t n = 0; n < sizeof(elf); n++)
		assert_int_equal(load(&elf, n), -ENOEXEC);
	for (size_t n = 0; n < sizeof(bz); n += 13)
		assert_int_equal(load(&bz, n), -ENOEXEC);
	expect(load(&bz, sizeof(bz) - 1), ENOEXEC, "truncated");
}

static void test_elf_other_machine(void **state)
{
	struct elf_file f = elf_file();

	f.h.e_machine = EM_AARCH64;
	expect(load(&f, sizeof(f)), ENOEXEC, "arm64");
	f.h.e_machine = EM_386;
	f.h.e_ident[EI_CLASS] = ELFCLASS32;
	expect(load(&f, sizeof(f)), ENOEXEC, "32-bit");
	f = elf_file();
	f.h.e_ident[EI_DATA] = ELFDATA2MSB;
	expect(load(&f, sizeof(f)), ENOEXEC, "another processor");
	f = elf_file();
	f.h.e_type = ET_REL;
	expect(load(&f, sizeof(f)), ENOEXEC, "no executable");
}

static void test_elf_headers(void **state)
{
	struct elf_file f = elf_file();

	f.h.e_phoff = UINT64_MAX - 8;
	expect(load(&f, sizeof(f)), ENOEXEC, "program headers");
	f = elf_file();
	f.h.e_phnum = 0xffff;
	expect(load(&f, sizeof(f)), ENOEXEC, "program headers");
	f = elf_file();
	f.h.e_phentsize = 32;
	expect(load(&f, sizeof(f)), ENOEXEC, "program headers");
	f = elf_file();
	f.h.e_phnum = 1;
	f.h.e_entry = KERNEL_GPA + 64;
	expect(load(&f, sizeof(f)), ENOEXEC, "entry");
	f = elf_file();
	f.xen.entry = 0x5000;
	expect(load(&f, sizeof(f)), ENOEXEC, "entry");
	f = elf_file();
	f.note.p_offset = UINT64_MAX - 2;
	expect(load(&f, sizeof(f)), ENOEXEC, "notes");
}

static void test_elf_segments(void **state)
{
	struct elf_file f = elf_file();

	f.load.p_paddr = 0x2000;
	expect(load(&f, sizeof(f)), ENOEXEC, "tables");
	f.load.p_paddr = (MEMORY_MIB << 20) - 4095;
	expect(load(&f, sizeof(f)), E2BIG, "fit");
	f.load.p_paddr = UINT64_MAX - 100;
	expect(load(&f, sizeof(f)), ENOEXEC, "damaged");
	f.load.p_paddr = 0x100000000;
	expect(load(&f, sizeof(f)), E2BIG, "fit");
	f = elf_file();
	f.load.p_memsz = 1ull << 40;
	expect(load(&f, sizeof(f)), E2BIG, "fit");
	f = elf_file();
	f.load.p_filesz = 8192;
	expect(load(&f, sizeof(f)), ENOEXEC, "damaged");
	f = elf_file();
	f.load.p_offset = UINT64_MAX - 3;
	expect(load(&f, sizeof(f)), ENOEXEC, "truncated");
}

static void test_bad_bzimages(void **state)
{
	struct bz_file f = bz_file();

	bz_put(&f, BZ_VERSION, 2, 0x20b);
	expect(load(&f, sizeof(f)), ENOEXEC, "2.11");
	f = bz_file();
	bz_put(&f, BZ_XLOADFLAGS, 2, 2);
	expect(load(&f, sizeof(f)), ENOEXEC, "32-bit");
	f = bz_file();
	bz_put(&f, BZ_INIT_SIZE, 4, 0xffffffff);
	expect(load(&f, sizeof(f)), E2BIG, "fit");
	f = bz_file();
	bz_put(&f, BZ_PREF_ADDRESS, 8, 0x1000);
	expect(load(&f, sizeof(f)), ENOEXEC, "damaged");
	f = bz_file();
	bz_put(&f, BZ_PREF_ADDRESS, 8, UINT64_MAX - 100);
	expect(load(&f, sizeof(f)), ENOEXEC, "damaged");
	f = bz_file();
	bz_put(&f, BZ_SYSSIZE, 4, 0xffffffff);
	expect(load(&f, sizeof(f)), ENOEXEC, "truncated");
	f = bz_file();
	bz_put(&f, BZ_SYSSIZE, 4, 0);
	expect(load(&f, sizeof(f)), ENOEXEC, "damaged");
	f = bz_file();
	bz_put(&f, BZ_CMDLINE_SIZE, 4, 4);
	expect(load(&f, sizeof(f)), E2BIG, "command line");
}

static void test_initramfs_too_large(void **state)
{
	struct elf_file f = elf_file();
	size_t bytes = (MEMORY_MIB << 20) - KERNEL_GPA - 4096;
	AUTO_FREE uint8_t *data = calloc(1, bytes + 1);

	assert_non_null(data);
	assert_int_equal(load_with(&f, sizeof(f), data, bytes, ""), 0);
	expect(load_with(&f, sizeof(f), data, bytes + 1, ""), E2BIG, "initramfs");
	expect(load_with(&f, sizeof(f), data, SIZE_MAX - 1, ""), E2BIG, "initramfs");
}

/* ---- the MP table ---- */

static uint8_t sum(const uint8_t *p, unsigned int n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static void check_mptable(unsigned int cpus)
{
	static const unsigned int sizes[] = { 20, 8, 8, 8, 8 };
	unsigned int seen[5] = { 0 }, boots = 0, entries;
	uint8_t table[MPTABLE_MAX] = { 0 };
	const uint8_t *p = table, *end;

	mptable_write(table, 0xf0000, cpus);
	assert_memory_equal(p, "_MP_", 4);
	assert_int_equal(sum(p, 16), 0);
	assert_int_equal(get_le32(p + 4), 0xf0010);
	p += 16;
	end = p + get_le16(p + 4);
	assert_true(end <= table + sizeof(table));
	assert_memory_equal(p, "PCMP", 4);
	assert_int_equal(sum(p, get_le16(p + 4)), 0);
	assert_int_equal(get_le32(p + 36), 0xfee00000);
	entries = get_le16(p + 34);
	p += 44;
	for (unsigned int i = 0; i < entries; i++) {
		assert_true(p < end && p[0] <= 4);
		if (p[0] == 0) {
			assert_int_equal(p[1], seen[0]);
			boots += (p[3] & 2) != 0;
		}
		if (p[0] == 2) {
			assert_int_equal(p[1], cpus);
			assert_int_equal(get_le32(p + 4), 0xfec00000);
		}
		if (p[0] == 3) {
			assert_int_equal(p[5], p[7]);
			assert_int_equal(p[6], cpus);
			assert_int_not_equal(p[5], 2);
		}
		seen[p[0]]++;
		p += sizes[p[0]];
	}
	assert_ptr_equal(p, end);
	assert_int_equal(seen[0], cpus);
	assert_int_equal(boots, 1);
	assert_int_equal(seen[1], 1);
	assert_int_equal(seen[2], 1);
	assert_int_equal(seen[3], 23);
	assert_int_equal(seen[4], 2);
}

static void test_mptable(void **state)
{
	check_mptable(1);
	check_mptable(2);
	check_mptable(64);
}

static void test_irqs(void **state)
{
	bool seen[24] = { false };

	for (unsigned int i = 0; i < 18; i++) {
		assert_in_range(arch_irq(i), 5, 23);
		assert_int_not_equal(arch_irq(i), 8);
		assert_false(seen[arch_irq(i)]);
		seen[arch_irq(i)] = true;
	}
	assert_int_equal(arch_irq(18), arch_irq(0));
}

/* ---- the command line ---- */

static void test_cmdline(void **state)
{
	struct cmdline c;

	assert_int_equal(cmdline_init(&c, NULL, &err), 0);
	assert_int_equal(arch_describe(&c, 0, &err), 0);
	assert_int_equal(arch_describe(&c, 47, &err), 0);
	assert_string_equal(c.text, "virtio_mmio.device=4K@0xd0000000:5 "
				    "virtio_mmio.device=4K@0xd002f000:17");
	cmdline_init(&c, "quiet -- a b", &err);
	assert_int_equal(cmdline_add(&c, "x", &err), 0);
	assert_int_equal(cmdline_add(&c, "y", &err), 0);
	assert_string_equal(c.text, "quiet x y -- a b");
	cmdline_init(&c, "-- a", &err);
	assert_int_equal(cmdline_add(&c, "x", &err), 0);
	assert_string_equal(c.text, "x -- a");
	cmdline_init(&c, "q=\"a -- b\" --no", &err);
	assert_int_equal(cmdline_add(&c, "x", &err), 0);
	assert_string_equal(c.text, "q=\"a -- b\" --no x");
	cmdline_init(&c, "quiet --", &err);
	assert_int_equal(cmdline_add(&c, "x", &err), 0);
	assert_string_equal(c.text, "quiet x --");
}

static void test_cmdline_too_long(void **state)
{
	char text[SMOLVM_VMM_CMDLINE_MAX + 2];
	struct cmdline c;

	memset(text, 'a', sizeof(text));
	text[SMOLVM_VMM_CMDLINE_MAX + 1] = '\0';
	expect(cmdline_init(&c, text, &err), E2BIG, "too long");
	text[SMOLVM_VMM_CMDLINE_MAX] = '\0';
	assert_int_equal(cmdline_init(&c, text, &err), 0);
	expect(cmdline_add(&c, "", &err), E2BIG, "too long");
	text[SMOLVM_VMM_CMDLINE_MAX - 2] = '\0';
	assert_int_equal(cmdline_init(&c, text, &err), 0);
	assert_int_equal(cmdline_add(&c, "b", &err), 0);
	assert_int_equal(strlen(c.text), SMOLVM_VMM_CMDLINE_MAX);
	expect(cmdline_add(&c, "b", &err), E2BIG, "too long");
}

#define BOOT_TEST(f) cmocka_unit_test_setup_teardown(f, make_memory, free_memory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOOT_TEST(test_pvh),
		BOOT_TEST(test_pvh_without_initramfs),
		BOOT_TEST(test_elf_64),
		BOOT_TEST(test_notes_of_others),
		BOOT_TEST(test_bzimage),
		BOOT_TEST(test_bzimage_initramfs_limit),
		BOOT_TEST(test_high_memory),
		BOOT_TEST(test_no_kernel),
		BOOT_TEST(test_truncated_at_every_byte),
		BOOT_TEST(test_elf_other_machine),
		BOOT_TEST(test_elf_headers),
		BOOT_TEST(test_elf_segments),
		BOOT_TEST(test_bad_bzimages),
		BOOT_TEST(test_initramfs_too_large),
		BOOT_TEST(test_mptable),
		BOOT_TEST(test_irqs),
		BOOT_TEST(test_cmdline),
		BOOT_TEST(test_cmdline_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
