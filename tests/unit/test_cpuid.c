/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUID tells a guest, for answers that an Intel's, an AMD's and no one's KVM might give.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hypervisor/cpuid_x86_64.h"

#define ALL 0xffffffffu
#define EXT 0x80000000u

static struct kvm_cpuid_entry2 out[CPUID_ENTRIES_MAX];
static size_t n_out;

static const struct kvm_cpuid_entry2 *get(uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (size_t i = 0; i < n_out; i++)
		if (out[i].function == function && out[i].index == index) {
			assert_null(found); /* twice */
			found = &out[i];
		}
	return found;
}

static void filter(const struct kvm_cpuid_entry2 *in, size_t n, unsigned int index,
		   unsigned int cpus, bool nested, bool deadline)
{
	const struct cpuid_view view = {
		.index = index,
		.cpus = cpus,
		.nested = nested,
		.tsc_deadline = deadline,
	};

	n_out = cpuid_filter(in, n, &view, out);
}

/* Everything is supported, as it were. */
static const struct kvm_cpuid_entry2 intel[] = {
	{ 0, .eax = 0x1f, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e },
	{ 1, .eax = 0x806f8, .ebx = 0x12345678, .ecx = ALL, .edx = ALL },
	{ 4, 0, .eax = 0xfc004121, .ebx = 1 },
	{ 4, 3, .eax = 0xfc1fc163, .ebx = 3 },
	{ 4, 4, .eax = 0 },
	{ 5, .eax = ALL },
	{ 6, .eax = ALL, .ebx = ALL, .ecx = ALL },
	{ 7, 0, .eax = 1, .ebx = ALL, .ecx = ALL, .edx = ALL },
	{ 7, 1, .eax = ALL, .ebx = ALL, .ecx = ALL, .edx = ALL },
	{ 0xa, .eax = ALL },
	{ 0xb, 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 77 },
	{ 0xb, 1, .eax = 7, .ebx = 112, .ecx = 0x201, .edx = 77 },
	{ 0xd, 0, .eax = 0x602e7 },
	{ 0xd, 17, .eax = 64 },
	{ 0x12, .eax = ALL },
	{ 0x14, .eax = ALL },
	{ 0x1d, .eax = ALL },
	{ 0x1f, 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 77 },
	{ 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b },
	{ 0x40000001, .eax = 0x0100003b },
	{ 0x40000003, .eax = ALL },
	{ EXT, .eax = EXT + 8 },
	{ EXT + 1, .ecx = 0x121, .edx = 0x2c100800 },
	{ EXT + 8, .eax = 0x3934 },
	{ 0xc0000000, .eax = 0xc0000004 },
};
#define N_INTEL (sizeof(intel) / sizeof(intel[0]))

static const struct kvm_cpuid_entry2 amd[] = {
	{ 0, .eax = 0x10, .ebx = 0x68747541, .edx = 0x69746e65, .ecx = 0x444d4163 },
	{ 1, .ecx = 0xfedab201, .edx = 0x78bfbff },
	{ EXT, .eax = EXT + 0x22 },
	{ EXT + 1, .ecx = ALL, .edx = ALL },
	{ EXT + 8, .ebx = 0x1234, .ecx = 0x703f },
	{ EXT + 0xa, .eax = 1, .ebx = 8, .edx = ALL },
	{ EXT + 0x1d, 0, .eax = 0x4121 },
	{ EXT + 0x1d, 3, .eax = 0x3c163 },
	{ EXT + 0x1e, .eax = 99, .ebx = 0x199, .ecx = 0x307 },
	{ EXT + 0x1f, .eax = ALL },
	{ EXT + 0x22, .eax = ALL },
};
#define N_AMD (sizeof(amd) / sizeof(amd[0]))

static void features(void **state)
{
	filter(intel, N_INTEL, 0, 1, false, true);
	assert_int_equal(get(0, 0)->ebx, 0x756e6547);
	assert_int_equal(get(1, 0)->ecx & (1u << 3 | 1u << 5 | 1u << 6 | 1u << 15), 0);
	assert_int_equal(get(1, 0)->ecx >> 31, 1);
	assert_int_equal(get(1, 0)->ecx >> 24 & 1, 1);
	assert_int_equal(get(6, 0)->eax, 4);
	assert_int_equal(get(6, 0)->ecx, 0);
	assert_int_equal(get(7, 0)->ebx, ALL & ~(1u << 2 | 1u << 12 | 1u << 15 | 1u << 25));
	assert_int_equal(get(7, 0)->edx & (1u << 22 | 1u << 24 | 1u << 25), 0);
	assert_int_equal(get(7, 1)->eax, ALL & ~(1u << 21));
	assert_int_equal(get(0xd, 0)->eax, 0x2e7);
	assert_int_equal(get(0xd, 17)->eax, 0);
	assert_int_equal(get(0x40000001, 0)->eax, 0x0100003b);
	assert_int_equal(get(EXT + 8, 0)->eax, 0x3934);
	assert_int_equal(get(EXT + 8, 0)->ecx, 0);
}

static void leaves_of_no_one(void **state)
{
	static const uint32_t gone[] = {
		5, 0xa, 0x12, 0x14, 0x1d, 0x40000003, 0xc0000000, EXT + 0x1f, EXT + 0x22,
	};

	for (int i = 0; i < 2; i++) {
		filter(i ? amd : intel, i ? N_AMD : N_INTEL, 0, 4, true, true);
		for (size_t j = 0; j < sizeof(gone) / sizeof(gone[0]); j++)
			assert_null(get(gone[j], 0));
	}
	assert_int_equal(get(EXT, 0)->eax, EXT + 0x1e); /* AMD: the last one of those left */
	filter(intel, N_INTEL, 0, 4, true, true);
	assert_int_equal(get(0, 0)->eax, 0x1f);
	assert_int_equal(get(0x40000000, 0)->eax, 0x40000001);
}

static void nested(void **state)
{
	filter(intel, N_INTEL, 0, 1, true, true);
	assert_int_equal(get(1, 0)->ecx >> 5 & 1, 1);
	filter(amd, N_AMD, 0, 1, true, true);
	assert_int_equal(get(EXT + 1, 0)->ecx >> 2 & 1, 1);
	assert_int_equal(get(EXT + 0xa, 0)->ebx, 8);
	filter(amd, N_AMD, 0, 1, false, true);
	assert_int_equal(get(EXT + 1, 0)->ecx >> 2 & 1, 0);
	assert_int_equal(get(EXT + 0xa, 0)->ebx, 0);
	assert_int_equal(get(EXT + 0xa, 0)->edx, 0);
	assert_true(cpuid_has_nested(intel, N_INTEL));
	assert_true(cpuid_has_nested(amd, N_AMD));
	assert_false(cpuid_has_nested(intel, 1));
	assert_false(cpuid_has_nested(amd, 3));
}

static void tsc_deadline(void **state)
{
	filter(intel, N_INTEL, 0, 1, false, false);
	assert_int_equal(get(1, 0)->ecx >> 24 & 1, 0);
	filter(amd, N_AMD, 0, 1, false, true);
	assert_int_equal(get(1, 0)->ecx >> 24 & 1, 1);
}

/* For every size of machine and every CPU of it: ids are unique and fit what is said of them. */
static void topology(void **state)
{
	for (unsigned int cpus = 1; cpus <= 254; cpus++)
		for (unsigned int i = 0; i < cpus; i++) {
			filter(intel, N_INTEL, i, cpus, false, true);
			assert_int_equal(get(1, 0)->ebx >> 24, i);
			assert_int_equal(get(1, 0)->edx >> 28 & 1, cpus > 1);
			assert_true(cpus == 1 || (get(1, 0)->ebx >> 16 & 0xff) >= cpus);
			assert_int_equal(get(4, 0)->eax >> 14 & 0xfff, 0);
			assert_true((get(4, 3)->eax >> 14 & 0xfff) + 1 >= cpus);
			assert_int_equal(get(4, 4)->eax, 0);
			for (uint32_t leaf = 0xb; leaf <= 0x1f; leaf += 0x14) {
				assert_int_equal(get(leaf, 0)->edx, i);
				assert_int_equal(get(leaf, 0)->eax, 0);
				assert_int_equal(get(leaf, 0)->ebx, 1);
				assert_int_equal(get(leaf, 0)->ecx, 0x100);
				assert_int_equal(get(leaf, 1)->ebx, cpus);
				assert_int_equal(get(leaf, 1)->ecx, 0x201);
				assert_int_equal(i >> get(leaf, 1)->eax, 0);
				assert_int_equal(get(leaf, 2)->ebx, 0);
				assert_int_equal(get(leaf, 2)->ecx, 2);
			}
		}
}

static void topology_amd(void **state)
{
	filter(amd, N_AMD, 5, 6, false, true);
	assert_int_equal(get(EXT + 8, 0)->ecx & 0xff, 5);
	assert_int_equal(get(EXT + 8, 0)->ecx >> 12, 3);
	assert_int_equal(get(EXT + 8, 0)->ebx, 0x1234);
	assert_int_equal(get(EXT + 1, 0)->ecx >> 1 & 1, 1);
	assert_int_equal(get(EXT + 0x1d, 0)->eax >> 14 & 0xfff, 0);
	assert_int_equal(get(EXT + 0x1d, 3)->eax >> 14 & 0xfff, 7);
	assert_int_equal(get(EXT + 0x1e, 0)->eax, 5);
	assert_int_equal(get(EXT + 0x1e, 0)->ebx, 5);
	assert_int_equal(get(EXT + 0x1e, 0)->ecx, 0);
	assert_non_null(get(0xb, 0));
	assert_null(get(0x1f, 0));
}

/* More than there is room for, and nothing at all. */
static void odd_sizes(void **state)
{
	struct kvm_cpuid_entry2 many[CPUID_ENTRIES_MAX + 10] = { { 0, .eax = 0x1f } };

	for (uint32_t i = 1; i < CPUID_ENTRIES_MAX + 10; i++)
		many[i] = (struct kvm_cpuid_entry2){ 0xd, i };
	filter(many, CPUID_ENTRIES_MAX + 10, 0, 4, false, true);
	assert_int_equal(n_out, CPUID_ENTRIES_MAX);
	filter(many, 0, 0, 4, false, true);
	assert_int_equal(n_out, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(features),  cmocka_unit_test(leaves_of_no_one),
		cmocka_unit_test(nested),    cmocka_unit_test(tsc_deadline),
		cmocka_unit_test(topology),  cmocka_unit_test(topology_amd),
		cmocka_unit_test(odd_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
