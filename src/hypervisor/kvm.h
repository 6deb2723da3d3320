/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the KVM hypervisor: what kvm_linux.c, common to all architectures, and the file of the
 * architecture (kvm_x86_64.c) tell each other. For nobody else.
 */
#ifndef HYPERVISOR_KVM_H
#define HYPERVISOR_KVM_H

#include <linux/kvm.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "hypervisor/hv.h"

#define KVM_CPUS_LIMIT 254        /* APIC ids of 8 bits, without the broadcast */
#define KVM_RUN_LIMIT (64u << 10) /* bytes of struct kvm_run and what is behind it */
#define KVM_PAGE_BYTES 4096u

struct kvm_arch; /* what an architecture keeps for a machine */

/**
 * struct hv - a machine.
 * @run_bytes: of each vCPU's mapping of struct kvm_run.
 * @slots:     memory slots that there may be.
 * @vcpus:     @cpus of them; NULL until vcpu_create().
 */
struct hv {
	int vm;
	size_t run_bytes;
	unsigned int cpus, cpus_max, slots;
	bool nested;
	struct kvm_arch *arch;
	struct hv_vcpu *vcpus[];
};

/**
 * struct hv_vcpu - a processor.
 * @kick:    see "Calling a vCPU back" in kvm_linux.c.
 * @tid:     its thread, from the first run on.
 * @pending: KVM has an access to finish at the next run.
 */
struct hv_vcpu {
	struct hv *hv;
	unsigned int index;
	int fd;
	struct kvm_run *run;
	atomic_uint kick;
	pid_t tid;
	bool pending;
};

/** struct kvm_cap - something that KVM must offer. A table of them ends with @name NULL. */
struct kvm_cap {
	unsigned int cap;
	const char *name;
};

/** kvm_ioctl() - ioctl(), again after EINTR. Return: its result, or -errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg);
int kvm_ioctl_n(int fd, unsigned long request, unsigned long arg);

/* ---------------------------------------------------------------- given by the architecture */

extern const struct kvm_cap kvm_arch_caps[];

/** kvm_arch_vm_type() - the argument of KVM_CREATE_VM. */
unsigned long kvm_arch_vm_type(int kvm);

/** kvm_arch_create() - the machine exists: its interrupt controller and so on. */
int kvm_arch_create(struct hv *hv, int kvm, struct smolvm_error *err);

/** kvm_arch_destroy() - also after a create() that failed half way. */
void kvm_arch_destroy(struct hv *hv);

/** kvm_arch_vcpu_create() - the vCPU exists and is mapped: what it looks like to the guest. */
int kvm_arch_vcpu_create(struct hv_vcpu *vcpu, struct smolvm_error *err);

int kvm_arch_vcpu_boot(struct hv_vcpu *vcpu, const struct hv_boot *boot, struct smolvm_error *err);
bool kvm_arch_vcpu_dead(struct hv_vcpu *vcpu);

/** kvm_arch_vcpu_ip() - where it is, for messages; 0 when that cannot be told. */
uint64_t kvm_arch_vcpu_ip(struct hv_vcpu *vcpu);

#endif
