/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client and the smolvm-vmm that it started say to each other.
 *
 * The client prepares everything that needs a name (folder, lock, disks, shares) and hands over
 * descriptors; then one VMM_SPEC message on the control socket starts the machine. While the
 * socket is open the machine lives; when it is closed, by whatever end of the client, the machine
 * is ended and its run folder removed. All messages are those of proto/msg.h.
 */
#ifndef PROTO_VMM_H
#define PROTO_VMM_H

/* Descriptors that smolvm-vmm inherits. */
enum vmm_fd {
	VMM_FD_CONTROL = 3, /* a stream socket to the client */
	VMM_FD_LOCK,        /* flocked: the proof of the machine's life */
	VMM_FD_LISTEN,      /* the unix socket on which "CONNECT <port>\n" opens a stream */
	VMM_FD_CONSOLE,     /* where a verbose machine's console goes */
	VMM_FD_DISK = 8,    /* up to BACKEND_DISKS_MAX */
	VMM_FD_SHARE = 16,  /* up to SHARES_MAX, O_PATH */
};

#define VMM_SPEC_MAX (256u << 10)
#define VMM_SETUP_MAX (64u << 10)
/* The longest line before the streams' bytes in either direction, its newline included. */
#define VMM_CONNECT_LINE_MAX 32u

/* How long a machine may take until its agent has greeted and is set up. */
#define VMM_BOOT_TIMEOUT_MS 60000

enum vmm_msg {
	VMM_SPEC = 1,     /* to smolvm-vmm: TLV of enum vmm_key */
	VMM_COUNT,        /* to it, empty: asks for VMM_COUNTERS */
	VMM_SPAWNED = 64, /* from it: u64 CLOCK_MONOTONIC ns: the hypervisor has been started */
	VMM_HELLO,        /* the agent has greeted: VMM_HELLO_BODY */
	VMM_READY,        /* u64 ns: commands can be run */
	VMM_COUNTERS,     /* u64 each: the members of struct smolvm_vmm_counters */
	VMM_ENDED, /* TLV of enum failure_key: the machine has ended, and why; the last one */
};

/*
 * u64 ns, then what it took to get there, 0 where the backend does not know: u64 times that virtual
 * CPUs left the guest, and in ns when the kernel was in memory, when the guest began to run, and
 * when it had set up its first device.
 */
#define VMM_HELLO_BODY 40u

enum vmm_key {
	VMM_NAME = 1,    /* string */
	VMM_RUN_DIR,     /* string: removed at the end */
	VMM_BACKEND,     /* string */
	VMM_PROGRAM,     /* string: the hypervisor's executable */
	VMM_ACCELERATOR, /* u64: enum accelerator */
	VMM_CPUS,        /* u64 */
	VMM_MEMORY_MIB,  /* u64 */
	VMM_KERNEL,      /* string: path */
	VMM_OWN_KERNEL,  /* u64 1 */
	VMM_VERBOSE,     /* u64 1 */
	VMM_DISK,        /* u64 1: read-only; one for each disk */
	VMM_SHARE,       /* u64 1: read-only; one for each share */
	VMM_NESTED,      /* u64 1 */
	VMM_STREAM_SHARES, /* u64 1: no share is made a device */
	VMM_NO_JAIL,       /* u64 1: confine nothing */
	VMM_SETUP,       /* bytes: the body of CONTROL_SETUP, to which time and entropy are added */
};

#endif
