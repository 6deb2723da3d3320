/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is there a KVM here that is worth using?
 */
#ifndef HYPERVISOR_KVM_PROBE_H
#define HYPERVISOR_KVM_PROBE_H

enum kvm_state {
	KVM_FINE,
	KVM_ABSENT,        /* no /dev/kvm */
	KVM_NO_PERMISSION, /* it cannot be opened */
	KVM_LOGIN_STALE,   /* the user is in its group, but this login is older than that */
	KVM_EMULATING,     /* it runs a guest's code instruction by instruction */
	KVM_BROKEN,        /* a system call fails that must not */
};

/**
 * kvm_probe() - open /dev/kvm and run a tiny guest in it: in less than 300 ms, 2 s on a busy host.
 *
 * The guest runs in a child process, which is killed when it takes too long.
 */
enum kvm_state kvm_probe(void);

/** kvm_probe_open() - the part of kvm_probe() that costs nothing. KVM_FINE: worth measuring. */
enum kvm_state kvm_probe_open(void);

/** kvm_state_text() - one line for a person: what was found, and what to do about it. */
const char *kvm_state_text(enum kvm_state state);

#endif
