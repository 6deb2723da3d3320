/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUID tells a guest. Pure: no system calls, so that any host's answers can be tried.
 */
#ifndef HYPERVISOR_CPUID_X86_64_H
#define HYPERVISOR_CPUID_X86_64_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>

#define CPUID_ENTRIES_MAX 256

/**
 * struct cpuid_view - for whom.
 * @index, @cpus: vCPU @index (its APIC id) of @cpus, all in one package, one thread per core.
 * @nested:       it sees VMX or SVM, if the host's KVM offers that.
 * @tsc_deadline: KVM has the LAPIC timer's TSC deadline mode.
 */
struct cpuid_view {
	unsigned int index, cpus;
	bool nested, tsc_deadline;
};

/**
 * cpuid_filter() - what of the leaves that KVM supports a vCPU is to have.
 * @in:  KVM_GET_SUPPORTED_CPUID's answer, @n entries.
 * @out: room for CPUID_ENTRIES_MAX entries.
 *
 * Return: entries of @out.
 */
size_t cpuid_filter(const struct kvm_cpuid_entry2 *in, size_t n, const struct cpuid_view *view,
		    struct kvm_cpuid_entry2 *out);

/** cpuid_has_nested() - whether KVM's answer @in offers VMX or SVM to guests. */
bool cpuid_has_nested(const struct kvm_cpuid_entry2 *in, size_t n);

#endif
