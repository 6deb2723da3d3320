/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUID tells a guest: KVM's answer, leaf by leaf by a table, with the topology made ours.
 *
 * A leaf that is not in the table does not exist for the guest; neither does one that KVM does not
 * support. Of the others the table says which bits never pass, and what is put in afterwards.
 * Sources: Intel SDM volume 2A "CPUID", AMD APM volume 3 appendix E, Documentation/virt/kvm/x86 of
 * the kernel (leaves 0x40000000 and up).
 */
#include "hypervisor/cpuid_x86_64.h"

#include <stdint.h>
#include <string.h>

#define BIT(n) (1u << (n))
#define LEAF(eax) (0x80000000u + (eax))
#define KVM_LEAF 0x40000000u

#define LEVEL_SMT 1u
#define LEVEL_CORE 2u

/* Leaf 1 */
#define ECX1_NEVER                                                                                 \
	(BIT(2) /* DTES64 */ | BIT(3) /* MONITOR */ | BIT(4) /* DS-CPL */ | BIT(6) /* SMX */ |     \
	 BIT(7) /* EIST */ | BIT(8) /* TM2 */ | BIT(11) /* SDBG */ | BIT(15) /* PDCM */ |          \
	 BIT(18) /* DCA */ | BIT(27) /* OSXSAVE: KVM's business */)
#define ECX1_VMX BIT(5)
#define ECX1_X2APIC BIT(21)
#define ECX1_TSC_DEADLINE BIT(24)
#define ECX1_HYPERVISOR BIT(31)
#define EDX1_NEVER (BIT(21) /* DS */ | BIT(22) /* ACPI */ | BIT(29) /* TM */ | BIT(31) /* PBE */)
#define EDX1_HTT BIT(28)
/* Leaf 7 */
#define EBX7_NEVER (BIT(2) /* SGX */ | BIT(12) | BIT(15) /* RDT */ | BIT(25) /* PT */)
#define ECX7_NEVER (BIT(5) /* WAITPKG */ | BIT(30) /* SGX-LC */)
#define EDX7_NEVER                                                                                 \
	(BIT(18) /* PCONFIG */ | BIT(19) /* arch. LBR */ | BIT(22) | BIT(24) | BIT(25) /* AMX */)
/* Leaf 0x80000001 */
#define ECX81_NEVER                                                                                \
	(BIT(3) /* ext. APIC space */ | BIT(10) /* IBS */ | BIT(12) /* SKINIT */ |                 \
	 BIT(13) /* WDT */ | BIT(15) /* LWP */ | BIT(19) /* node id MSR */ |                       \
	 BIT(23) /* PerfCtrExtCore */ | BIT(24) /* ...NB */ | BIT(28) /* ...LLC */ |               \
	 BIT(29) /* MONITORX */)
#define ECX81_CMP_LEGACY BIT(1)
#define ECX81_SVM BIT(2)

struct guest {
	struct cpuid_view view;
	bool amd; /* or Hygon */
};

/* Bits that hold the number @n of things counted from 0. */
static unsigned int bits_for(unsigned int n)
{
	unsigned int bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

static void fix_1(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	e->ebx = (e->ebx & 0xffff) | g->view.index << 24;
	if (g->view.cpus > 1)
		e->ebx |= (g->view.cpus > 128 ? 255 : 1u << bits_for(g->view.cpus)) << 16;
	e->ecx |= ECX1_HYPERVISOR | ECX1_X2APIC;
	e->ecx &= ~ECX1_TSC_DEADLINE;
	if (g->view.tsc_deadline)
		e->ecx |= ECX1_TSC_DEADLINE;
	if (!g->view.nested)
		e->ecx &= ~ECX1_VMX;
	e->edx &= ~EDX1_HTT;
	if (g->view.cpus > 1)
		e->edx |= EDX1_HTT;
}

/* Caches, Intel and AMD: the first two levels are a core's, the others the package's. */
static void fix_cache(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	unsigned int sharing = 0, level = e->eax >> 5 & 7;

	if (level > 2)
		sharing = (1u << bits_for(g->view.cpus)) - 1;
	e->eax = (e->eax & 0x3fff) | (sharing & 0xfff) << 14;
}

static void fix_4(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	bool cache = (e->eax & 0x1f) != 0;

	if (!cache)
		return;
	fix_cache(e, g);
	e->eax |= (((1u << bits_for(g->view.cpus)) - 1) & 0x3f) << 26;
}

static void fix_6(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	e->eax &= BIT(2); /* the LAPIC timer never stops */
	e->ebx = e->ecx = e->edx = 0;
}

/* AMX needs the process's permission, its state is large, and nobody has asked for it. */
static void fix_7(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	if (e->index == 0) {
		e->ebx &= ~EBX7_NEVER;
		e->ecx &= ~ECX7_NEVER;
		e->edx &= ~EDX7_NEVER;
	} else if (e->index == 1) {
		e->eax &= ~BIT(21);
		e->edx &= ~BIT(8);
	}
}

static void fix_d(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	if (e->index == 0)
		e->eax &= ~(BIT(17) | BIT(18));
	else if (e->index == 17 || e->index == 18)
		e->eax = e->ebx = e->ecx = e->edx = 0;
}

static void fix_81(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	if (!g->view.nested)
		e->ecx &= ~ECX81_SVM;
	if (g->amd && g->view.cpus > 1)
		e->ecx |= ECX81_CMP_LEGACY;
}

/* Cores of the package, and how many bits of an APIC id they take. */
static void fix_88(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	e->ecx = 0;
	if (g->amd)
		e->ecx = ((g->view.cpus - 1) & 0xff) | bits_for(g->view.cpus) << 12;
}

static void fix_8a(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	if (!g->view.nested)
		e->eax = e->ebx = e->ecx = e->edx = 0;
}

static void fix_81d(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	if ((e->eax & 0x1f) != 0)
		fix_cache(e, g);
}

static void fix_81e(struct kvm_cpuid_entry2 *e, const struct guest *g)
{
	e->eax = g->view.index;
	e->ebx = g->view.index; /* the core; one thread each */
	e->ecx = 0;             /* node 0 of 1 */
	e->edx = 0;
}

/*
 * The table. @never_*: bits that are taken out. @fix: what is done then.
 */
static const struct leaf {
	uint32_t function;
	uint32_t never_ecx, never_edx;
	void (*fix)(struct kvm_cpuid_entry2 *e, const struct guest *g);
} leaves[] = {
	{ 0x0 },                                /* vendor, last leaf */
	{ 0x1, ECX1_NEVER, EDX1_NEVER, fix_1 }, /* features, APIC id */
	{ 0x2 },                                /* caches, old style */
	{ 0x4, 0, 0, fix_4 },                   /* caches */
	{ 0x6, 0, 0, fix_6 },                   /* power */
	{ 0x7, 0, 0, fix_7 },                   /* more features */
	{ 0xd, 0, 0, fix_d },                   /* XSAVE */
	{ KVM_LEAF },                           /* KVM's signature */
	{ KVM_LEAF + 1 },                       /* kvmclock, steal time, ... */
	{ LEAF(0x0) },                          /* last leaf */
	{ LEAF(0x1), ECX81_NEVER, 0, fix_81 },  /* more features */
	{ LEAF(0x2) },                          /* the processor's name */
	{ LEAF(0x3) },
	{ LEAF(0x4) },
	{ LEAF(0x5) }, /* caches, AMD */
	{ LEAF(0x6) },
	{ LEAF(0x7) },                 /* the TSC is invariant */
	{ LEAF(0x8), 0, 0, fix_88 },   /* widths of addresses, cores */
	{ LEAF(0xa), 0, 0, fix_8a },   /* SVM */
	{ LEAF(0x19) },                /* TLBs of 1 GiB pages */
	{ LEAF(0x1a) },                /* performance hints */
	{ LEAF(0x1d), 0, 0, fix_81d }, /* caches, AMD */
	{ LEAF(0x1e), 0, 0, fix_81e }, /* topology, AMD */
	{ LEAF(0x21) },                /* more features */
};

static const struct leaf *find_leaf(uint32_t function)
{
	for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
		if (leaves[i].function == function)
			return &leaves[i];
	return NULL;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid_entry2 *e, size_t n, uint32_t function)
{
	for (size_t i = 0; i < n; i++)
		if (e[i].function == function && e[i].index == 0)
			return &e[i];
	return NULL;
}

/* Leaf 0xb or 0x1f: a level of threads (one), a level of cores, the end. */
static size_t add_topology(struct kvm_cpuid_entry2 *out, size_t n, uint32_t function,
			   const struct cpuid_view *view)
{
	const struct kvm_cpuid_entry2 levels[] = {
		{ .eax = 0, .ebx = 1, .ecx = LEVEL_SMT << 8 },
		{ .eax = bits_for(view->cpus), .ebx = view->cpus, .ecx = LEVEL_CORE << 8 },
		{ .eax = 0 },
	};

	for (uint32_t i = 0; i < 3 && n < CPUID_ENTRIES_MAX; i++, n++) {
		out[n] = levels[i];
		out[n].function = function;
		out[n].index = i;
		out[n].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		out[n].ecx |= i;
		out[n].edx = view->index;
	}
	return n;
}

/* The range that begins at @base ends where it ends now. */
static void set_last(struct kvm_cpuid_entry2 *out, size_t n, uint32_t base)
{
	struct kvm_cpuid_entry2 *first = find(out, n, base);
	uint32_t last = base;

	for (size_t i = 0; i < n; i++)
		if (out[i].function > last && out[i].function - base < 0x10000)
			last = out[i].function;
	if (first)
		first->eax = last;
}

/* "AuthenticAMD" or "HygonGenuine" */
static bool is_amd(const struct kvm_cpuid_entry2 *leaf_0)
{
	return leaf_0->ebx == 0x68747541 || leaf_0->ebx == 0x6f677948;
}

size_t cpuid_filter(const struct kvm_cpuid_entry2 *in, size_t n_in, const struct cpuid_view *view,
		    struct kvm_cpuid_entry2 *out)
{
	struct guest guest = { .view = *view };
	uint32_t last = 0;
	size_t n = 0;

	for (size_t i = 0; i < n_in; i++)
		if (in[i].function == 0) {
			last = in[i].eax;
			guest.amd = is_amd(&in[i]);
		}
	for (size_t i = 0; i < n_in && n < CPUID_ENTRIES_MAX; i++) {
		const struct leaf *leaf = find_leaf(in[i].function);

		if (!leaf)
			continue;
		out[n] = in[i];
		out[n].ecx &= ~leaf->never_ecx;
		out[n].edx &= ~leaf->never_edx;
		if (leaf->fix)
			leaf->fix(&out[n], &guest);
		n++;
	}
	if (last >= 0xb)
		n = add_topology(out, n, 0xb, view);
	if (last >= 0x1f)
		n = add_topology(out, n, 0x1f, view);
	set_last(out, n, 0);
	set_last(out, n, LEAF(0));
	set_last(out, n, KVM_LEAF);
	return n;
}

bool cpuid_has_nested(const struct kvm_cpuid_entry2 *in, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((in[i].function == 1 && (in[i].ecx & ECX1_VMX)) ||
		    (in[i].function == LEAF(1) && (in[i].ecx & ECX81_SVM)))
			return true;
	return false;
}
