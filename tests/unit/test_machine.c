/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What machines are started with: where to run, on what disk, and which kernel.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "machine/machine.h"
#include "store/store.h"

static char home[64];
static struct smolvm store = { .home = home, .tmp_dir = home, .scratch_dir = home };

static int make_home(void **state)
{
	snprintf(home, sizeof(home), "/tmp/smolvm-unit-XXXXXX");
	store.read_only = false;
	return mkdtemp(home) ? 0 : -1;
}

static int remove_home(void **state)
{
	return path_remove_tree(home);
}

/* --- a host whose KVM is as these say, in place of src/backend/ --- */

enum { GOOD = 1, BAD };

static int verdict, measured;

const struct backend *const backend_table[] = { NULL };

const struct backend *backend_find(const char *name)
{
	return NULL;
}

const char *accelerator_name(enum accelerator a)
{
	return "";
}

void backend_host_look(struct backend_host *ret)
{
	*ret = (struct backend_host){ .kvm_worth_measuring = true };
}

void backend_host_measure(struct backend_host *h)
{
	measured++;
	*h = (struct backend_host){ .kvm_usable = verdict == GOOD, .kvm_verdict = verdict };
}

int backend_host_recall(struct backend_host *h, int kept)
{
	if (kept != GOOD && kept != BAD)
		return -EINVAL;
	*h = (struct backend_host){ .kvm_usable = kept == GOOD, .kvm_verdict = kept };
	return 0;
}

/* Whether it is said to be usable, and how often that was measured. */
static void chooses(bool anew, bool usable, int times)
{
	struct backend_host host;

	measured = 0;
	choose_host(&store, anew, &host);
	assert_int_equal(host.kvm_usable, usable);
	assert_false(host.kvm_worth_measuring);
	assert_int_equal(measured, times);
}

static void kept_since(int64_t seconds)
{
	AUTO_FREE char *path = path_join(home, "kvm-probe");
	struct timespec t[2] = { { .tv_sec = time(NULL) - seconds } };

	t[1] = t[0];
	assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void a_good_verdict_lasts(void **state)
{
	verdict = GOOD;
	chooses(false, true, 1);
	verdict = BAD;
	chooses(false, true, 0);
	kept_since(30 * 86400);
	chooses(false, true, 0);
}

static void a_bad_verdict_lasts_an_hour(void **state)
{
	verdict = BAD;
	chooses(false, false, 1);
	verdict = GOOD;
	chooses(false, false, 0);
	kept_since(3500);
	chooses(false, false, 0);
	kept_since(3601);
	verdict = BAD;
	chooses(false, false, 1);
	verdict = GOOD;
	chooses(false, false, 0); /* for another hour */
	kept_since(-100);         /* the clock has been set back */
	chooses(false, true, 1);
	chooses(false, true, 0);
}

static void doctor_measures_anew(void **state)
{
	verdict = BAD;
	chooses(false, false, 1);
	verdict = GOOD;
	chooses(true, true, 1);
	verdict = BAD;
	chooses(false, true, 0);
	chooses(true, false, 1);
	store.read_only = true;
	verdict = GOOD;
	chooses(true, true, 1);
	chooses(false, false, 0); /* it could not be kept */
}

static void a_cache_of_nonsense_is_not_believed(void **state)
{
	static const char *const texts[] = { "", "x 1\n", "-1", "\n\n\n" };
	AUTO_FREE char *path = path_join(home, "kvm-probe");

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		assert_int_equal(fd_write_all(fd, texts[i], strlen(texts[i])), 0);
		verdict = BAD;
		chooses(false, false, 1);
	}
}

/* --- the disk --- */

static bool there(const char *name)
{
	AUTO_FREE char *path = path_join(home, name);

	return access(path, F_OK) == 0;
}

static void make_old(const char *name, int64_t seconds)
{
	struct timespec t[2] = { { .tv_sec = time(NULL) - seconds } };
	AUTO_FREE char *path = path_join(home, name);
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	t[1] = t[0];
	assert_int_equal(futimens(fd, t), 0);
}

static void disks_are_of(unsigned int mib)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	AUTO_FD fd = scratch_create(&store, mib, &err);
	struct stat st;

	if (fd < 0)
		fail_msg("%s", err.message);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, (off_t)mib << 20);
	assert_int_equal(st.st_nlink, 0);
}

static void few_templates_are_kept(void **state)
{
	static const char *const others[] = { "empty-2-64.ext4",  "empty-1-064.ext4",
					      "empty-1-.ext4",    "empty-1-64.ext4.bak",
					      "empty--1-64.ext4", "notes" };
	AUTO_FREE char *tool = path_find_tool("mke2fs");
	char name[32];

	if (!tool)
		skip();
	for (unsigned int i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "empty-1-%u.ext4", 1000 + i);
		make_old(name, 100 + (i * 5) % 12); /* out of order */
	}
	make_old("empty-0-64.ext4", 0);
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		make_old(others[i], 1000);
	disks_are_of(8);
	assert_true(there("empty-1-8.ext4"));
	assert_false(there("empty-0-64.ext4"));
	for (unsigned int i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "empty-1-%u.ext4", 1000 + i);
		assert_int_equal(there(name), (i * 5) % 12 < 7);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		assert_true(there(others[i]));
	/* One that is there is used as it is, and drops none. */
	make_old("empty-1-2000.ext4", 1000);
	disks_are_of(8);
	assert_true(there("empty-1-2000.ext4"));
	disks_are_of(9);
	assert_false(there("empty-1-2000.ext4"));
	assert_true(there("empty-1-8.ext4"));
}

/* --- the kernel --- */

#ifdef __x86_64__
struct vmlinux {
	Elf64_Ehdr elf;
	Elf64_Phdr segments[2];
	struct note {
		Elf64_Nhdr head;
		char name[4];
		char value[8];
	} notes[2];
};

static struct vmlinux pvh_kernel(void)
{
	return (struct vmlinux){
		.elf = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			 .e_type = ET_EXEC,
			 .e_machine = EM_X86_64,
			 .e_phoff = offsetof(struct vmlinux, segments),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 2 },
		.segments = { { .p_type = PT_LOAD },
			      { .p_type = PT_NOTE,
				.p_offset = offsetof(struct vmlinux, notes),
				.p_filesz = 2 * sizeof(struct note),
				.p_align = 4 } },
		.notes = { { { 4, 8, 3 }, "GNU", "" }, { { 4, 8, 18 }, "Xen", "" } },
	};
}

static int checked(const struct vmlinux *kernel, size_t len)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	AUTO_FREE char *path = path_join(home, "vmlinux");
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc;

	assert_int_equal(fd_write_all(fd, kernel, len), 0);
	rc = kernel_check(path, &err);
	if (rc < 0)
		assert_true(strstr(err.message, "is no kernel that can be booted directly") ||
			    strstr(err.message, "is truncated"));
	return rc;
}

static void a_kernel_says_where_to_enter_it(void **state)
{
	static const struct {
		size_t at;
		uint32_t value;
	} spoilt[] = {
		{ offsetof(struct vmlinux, notes[1].head.n_type), 17 },
		{ offsetof(struct vmlinux, notes[1].name), 0x6e6559 },
		{ offsetof(struct vmlinux, notes[1].head.n_namesz), 3 },
		{ offsetof(struct vmlinux, notes[1].head.n_descsz), 0 },
		{ offsetof(struct vmlinux, notes[1].head.n_descsz), 9 },
		{ offsetof(struct vmlinux, notes[0].head.n_descsz), UINT32_MAX },
		{ offsetof(struct vmlinux, notes[0].head.n_namesz), UINT32_MAX },
		{ offsetof(struct vmlinux, notes[0].head.n_namesz), UINT32_MAX - 2 },
		{ offsetof(struct vmlinux, segments[1].p_type), PT_LOAD },
		{ offsetof(struct vmlinux, segments[1].p_offset), 1 << 20 },
		{ offsetof(struct vmlinux, segments[1].p_offset) + 4, UINT32_MAX },
		{ offsetof(struct vmlinux, segments[1].p_filesz), 0 },
		{ offsetof(struct vmlinux, elf.e_phoff), 1 << 20 },
		{ offsetof(struct vmlinux, elf.e_phoff) + 4, UINT32_MAX },
		{ offsetof(struct vmlinux, elf.e_phentsize), 32 },
	};
	struct vmlinux kernel = pvh_kernel();

	assert_int_equal(checked(&kernel, sizeof(kernel)), 0);
	kernel.segments[1].p_align = 8;
	assert_int_equal(checked(&kernel, sizeof(kernel)), 0);
	kernel.segments[1].p_filesz = UINT64_MAX;
	assert_int_equal(checked(&kernel, sizeof(kernel)), -EINVAL);
	kernel = pvh_kernel();
	assert_int_equal(checked(&kernel, sizeof(kernel) - 1), -EINVAL);
	assert_int_equal(checked(&kernel, offsetof(struct vmlinux, segments[1])), -EINVAL);
	for (size_t i = 0; i < sizeof(spoilt) / sizeof(*spoilt); i++) {
		kernel = pvh_kernel();
		memcpy((char *)&kernel + spoilt[i].at, &spoilt[i].value, 4);
		assert_int_equal(checked(&kernel, sizeof(kernel)), -EINVAL);
	}
}
#endif

#define CASE(f) cmocka_unit_test_setup_teardown(f, make_home, remove_home)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_good_verdict_lasts),
		CASE(a_bad_verdict_lasts_an_hour),
		CASE(doctor_measures_anew),
		CASE(a_cache_of_nonsense_is_not_believed),
		CASE(few_templates_are_kept),
#ifdef __x86_64__
		CASE(a_kernel_says_where_to_enter_it),
#endif
	};

	return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
