/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM on x86_64: interrupt controllers, and the registers that a vCPU begins with.
 *
 * The interrupt controllers are all in the kernel, with KVM's default routing: line n is pin n of
 * the one IOAPIC (and, below 16, of the PICs). There is no PIT: guests have kvmclock and the
 * LAPIC's timer with TSC deadlines.
 */
#include <asm/kvm.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "hypervisor/cpuid_x86_64.h"
#include "hypervisor/kvm.h"

/* syscalls (vcpu): ioctl(KVM_GET_NESTED_STATE KVM_GET_MP_STATE KVM_GET_REGS KVM_GET_VCPU_EVENTS) */

/* Four pages below the BIOS's place that Intel's older processors need for real mode. */
#define IDENTITY_MAP_GPA 0xfffbc000ull
#define TSS_GPA 0xfffbd000ull

#define CR0_PE (1u << 0)
#define CR0_ET (1u << 4)
#define CR0_PG (1u << 31)
#define CR4_PAE (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

#define RFLAGS_FIXED (1u << 1)
#define RFLAGS_IF (1u << 9)

#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define SELECTOR_TASK 0x20

#define FCW_INIT 0x37f
#define MXCSR_INIT 0x1f80

#define MSR_IA32_FEATURE_CONTROL 0x3a
#define FEATURE_CONTROL_LOCKED (1u << 0)
#define FEATURE_CONTROL_VMXON (1u << 2)
#define MSR_IA32_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRINGS (1u << 0)
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLED_WRITE_BACK ((1u << 11) | 6)

#define APIC_LVT0 0x350
#define APIC_LVT1 0x360
#define APIC_DELIVER_NMI (4u << 8)
#define APIC_DELIVER_EXTINT (7u << 8)

#define NESTED_STATE_BYTES (12u << 10) /* a header and two pages, and to spare */

/*
 * struct kvm_arch - what a machine keeps.
 * @cpuid, @n: what KVM supports.
 */
struct kvm_arch {
	bool tsc_deadline;
	size_t n;
	struct kvm_cpuid_entry2 cpuid[CPUID_ENTRIES_MAX];
};

/* struct kvm_cpuid2 and struct kvm_msrs with room for their entries. */
union cpuid_list {
	struct kvm_cpuid2 head;
	uint8_t bytes[sizeof(struct kvm_cpuid2) +
		      CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2)];
};

union one_msr {
	struct kvm_msrs head;
	uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

const struct kvm_cap kvm_arch_caps[] = {
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
	{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
	{ 0, NULL },
};

unsigned long kvm_arch_vm_type(int kvm)
{
	return 0;
}

/* ---------------------------------------------------------------- the machine */

static int get_supported_cpuid(struct kvm_arch *arch, int kvm, struct smolvm_error *err)
{
	union cpuid_list list = { .head.nent = CPUID_ENTRIES_MAX };
	int rc = kvm_ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &list);

	if (rc < 0)
		return err_set(err, -rc, "KVM does not tell what CPUID it supports: %s",
			       strerror(-rc));
	arch->n = list.head.nent <= CPUID_ENTRIES_MAX ? list.head.nent : CPUID_ENTRIES_MAX;
	memcpy(arch->cpuid, list.head.entries, arch->n * sizeof(arch->cpuid[0]));
	return 0;
}

/* No performance counters: fewer registers for a guest to play with. Older KVMs cannot. */
static void disable_pmu(struct hv *hv, int kvm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_PMU_CAPABILITY,
		.args = { KVM_PMU_CAP_DISABLE },
	};
	int offered = kvm_ioctl_n(kvm, KVM_CHECK_EXTENSION, KVM_CAP_PMU_CAPABILITY);

	if (offered > 0 && (offered & KVM_PMU_CAP_DISABLE))
		kvm_ioctl(hv->vm, KVM_ENABLE_CAP, &cap);
}

int kvm_arch_create(struct hv *hv, int kvm, struct smolvm_error *err)
{
	struct kvm_arch *arch = hv->arch = calloc(1, sizeof(*arch));
	uint64_t identity_map = IDENTITY_MAP_GPA;
	int rc;

	if (!arch)
		return err_nomem(err);
	arch->tsc_deadline = kvm_ioctl_n(kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	rc = get_supported_cpuid(arch, kvm, err);
	if (rc < 0)
		return rc;
	if (hv->nested && !cpuid_has_nested(arch->cpuid, arch->n))
		return err_set(err, ENOTSUP,
			       "this host's KVM offers no nested virtualization "
			       "(the option \"nested\" of kvm_intel or kvm_amd)");
	rc = kvm_ioctl(hv->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (rc >= 0)
		rc = kvm_ioctl_n(hv->vm, KVM_SET_TSS_ADDR, TSS_GPA);
	if (rc < 0)
		return err_set(err, -rc, "KVM refuses the place of its own pages: %s",
			       strerror(-rc));
	disable_pmu(hv, kvm);
	rc = kvm_ioctl_n(hv->vm, KVM_CREATE_IRQCHIP, 0);
	if (rc < 0)
		return err_set(err, -rc, "KVM refuses interrupt controllers: %s", strerror(-rc));
	return 0;
}

void kvm_arch_destroy(struct hv *hv)
{
	free(hv->arch);
	hv->arch = NULL;
}

/* ---------------------------------------------------------------- a processor */

static int set_cpuid(struct hv_vcpu *vcpu, struct smolvm_error *err)
{
	const struct kvm_arch *arch = vcpu->hv->arch;
	struct cpuid_view view = {
		.index = vcpu->index,
		.cpus = vcpu->hv->cpus,
		.nested = vcpu->hv->nested,
		.tsc_deadline = arch->tsc_deadline,
	};
	union cpuid_list list = { .bytes = { 0 } };
	int rc;

	list.head.nent = (uint32_t)cpuid_filter(arch->cpuid, arch->n, &view, list.head.entries);
	rc = kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, &list);
	if (rc < 0)
		return err_set(err, -rc, "KVM refuses CPU %u's CPUID: %s", vcpu->index,
			       strerror(-rc));
	return 0;
}

/* One at a time: a KVM that does not know one stops there. */
static int set_msr(struct hv_vcpu *vcpu, uint32_t index, uint64_t value)
{
	union one_msr msr = { .bytes = { 0 } };

	msr.head.nmsrs = 1;
	msr.head.entries[0].index = index;
	msr.head.entries[0].data = value;
	return kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &msr) == 1 ? 0 : -EINVAL;
}

static uint64_t get_msr(struct hv_vcpu *vcpu, uint32_t index)
{
	union one_msr msr = { .bytes = { 0 } };

	msr.head.nmsrs = 1;
	msr.head.entries[0].index = index;
	return kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &msr) == 1 ? msr.head.entries[0].data : 0;
}

/* What firmware would have set. A KVM that refuses one of them has its own idea of it: fine. */
static void set_msrs(struct hv_vcpu *vcpu)
{
	uint64_t misc = get_msr(vcpu, MSR_IA32_MISC_ENABLE);

	set_msr(vcpu, MSR_IA32_MISC_ENABLE, misc | MISC_ENABLE_FAST_STRINGS);
	set_msr(vcpu, MSR_MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK);
	if (vcpu->hv->nested)
		set_msr(vcpu, MSR_IA32_FEATURE_CONTROL,
			FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON);
}

static int set_fpu(struct hv_vcpu *vcpu, struct smolvm_error *err)
{
	struct kvm_fpu fpu = { .fcw = FCW_INIT, .mxcsr = MXCSR_INIT };
	int rc = kvm_ioctl(vcpu->fd, KVM_SET_FPU, &fpu);

	if (rc < 0)
		return err_set(err, -rc, "KVM refuses CPU %u's FPU: %s", vcpu->index,
			       strerror(-rc));
	return 0;
}

int kvm_arch_vcpu_create(struct hv_vcpu *vcpu, struct smolvm_error *err)
{
	int rc = set_cpuid(vcpu, err);

	if (rc < 0)
		return rc;
	set_msrs(vcpu);
	return set_fpu(vcpu, err);
}

/* ---------------------------------------------------------------- where it begins */

static void set_lapic_reg(struct kvm_lapic_state *lapic, unsigned int offset, uint32_t value)
{
	memcpy(lapic->regs + offset, &value, sizeof(value));
}

/* As firmware leaves it: the PICs and NMIs come in at the boot CPU's pins. */
static int set_lapic(struct hv_vcpu *vcpu)
{
	struct kvm_lapic_state lapic;
	int rc = kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic);

	if (rc < 0)
		return rc;
	set_lapic_reg(&lapic, APIC_LVT0, APIC_DELIVER_EXTINT);
	set_lapic_reg(&lapic, APIC_LVT1, APIC_DELIVER_NMI);
	return kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic);
}

/* Flat segments of 4 GiB, as the loader's descriptor table has them. */
static void set_segments(struct kvm_sregs *sregs, const struct hv_boot *boot)
{
	bool is_64 = boot->entry == HV_ENTRY_LINUX64;
	struct kvm_segment flat = { .limit = 0xffffffff, .present = 1, .s = 1, .g = 1 };

	flat.type = 11; /* code, readable, accessed */
	flat.selector = SELECTOR_CODE;
	flat.l = is_64;
	flat.db = !is_64;
	sregs->cs = flat;
	flat.type = 3; /* data, writable, accessed */
	flat.selector = SELECTOR_DATA;
	flat.l = 0;
	flat.db = 1;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = flat;
	sregs->tr = (struct kvm_segment){
		.selector = SELECTOR_TASK,
		.limit = 0x67,
		.type = 11, /* busy task state */
		.present = 1,
	};
	sregs->ldt = (struct kvm_segment){ .unusable = 1 };
	sregs->gdt.base = boot->gdt;
	sregs->gdt.limit = (uint16_t)(boot->gdt_bytes ? boot->gdt_bytes - 1 : 0);
	sregs->idt.base = 0;
	sregs->idt.limit = 0;
}

static int set_sregs(struct hv_vcpu *vcpu, const struct hv_boot *boot)
{
	struct kvm_sregs sregs;
	int rc = kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);

	if (rc < 0)
		return rc;
	set_segments(&sregs, boot);
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr3 = 0;
	sregs.cr4 = 0;
	sregs.efer = 0;
	if (boot->entry == HV_ENTRY_LINUX64) {
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = boot->page_table;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	return kvm_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs);
}

static int set_regs(struct hv_vcpu *vcpu, const struct hv_boot *boot)
{
	struct kvm_regs regs = { .rip = boot->ip, .rflags = RFLAGS_FIXED };

	if (boot->entry == HV_ENTRY_LINUX64)
		regs.rsi = boot->argument;
	else
		regs.rbx = boot->argument;
	return kvm_ioctl(vcpu->fd, KVM_SET_REGS, &regs);
}

static int set_mp_state(struct hv_vcpu *vcpu, uint32_t state)
{
	struct kvm_mp_state mp = { .mp_state = state };

	return kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp);
}

int kvm_arch_vcpu_boot(struct hv_vcpu *vcpu, const struct hv_boot *boot, struct smolvm_error *err)
{
	int rc;

	if (!boot) {
		rc = set_mp_state(vcpu, KVM_MP_STATE_UNINITIALIZED);
	} else {
		rc = set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE);
		if (rc >= 0)
			rc = set_lapic(vcpu);
		if (rc >= 0)
			rc = set_sregs(vcpu, boot);
		if (rc >= 0)
			rc = set_regs(vcpu, boot);
	}
	if (rc < 0)
		return err_set(err, -rc, "KVM refuses CPU %u's first registers: %s", vcpu->index,
			       strerror(-rc));
	return 0;
}

/* ---------------------------------------------------------------- looking at it */

/* A guest of the guest: its interrupt flag says nothing about what wakes the processor. */
static bool in_nested_guest(struct hv_vcpu *vcpu)
{
	union {
		struct kvm_nested_state state;
		uint8_t bytes[NESTED_STATE_BYTES];
	} nested;
	int rc;

	if (!vcpu->hv->nested)
		return false;
	memset(&nested.state, 0, sizeof(nested.state));
	nested.state.size = sizeof(nested);
	rc = kvm_ioctl(vcpu->fd, KVM_GET_NESTED_STATE, &nested);
	return rc < 0 || (nested.state.flags & KVM_STATE_NESTED_GUEST_MODE);
}

/*
 * Halted and deaf: interrupts off, no NMI or SMI under way. Or never started: only another CPU can
 * do that. (An INIT that is under way is worked off by KVM_GET_MP_STATE.)
 */
bool kvm_arch_vcpu_dead(struct hv_vcpu *vcpu)
{
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_regs regs;

	if (kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp) < 0)
		return false;
	if (mp.mp_state == KVM_MP_STATE_UNINITIALIZED || mp.mp_state == KVM_MP_STATE_INIT_RECEIVED)
		return true;
	if (mp.mp_state != KVM_MP_STATE_HALTED || kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ||
	    (regs.rflags & RFLAGS_IF) || kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events) < 0)
		return false;
	return !events.nmi.pending && !events.nmi.injected && !events.smi.pending &&
	       !in_nested_guest(vcpu);
}

uint64_t kvm_arch_vcpu_ip(struct hv_vcpu *vcpu)
{
	struct kvm_regs regs;

	return kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ? 0 : regs.rip;
}
