/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Confinement of smolvm-vmm and of the hypervisors that it starts.
 *
 * Theory of operation. A process that a guest may take over should find nothing worth having.
 * There are layers, each of which holds when another one is missing or broken; what the host does
 * not offer is left out, and said. Two steps: jail_enter() once, by a process of one thread that
 * has everything open, is inherited by all of its threads; jail_thread() then gives up, in each
 * thread, what its kind does not need. docs/decisions/0006-confinement.md tells why.
 *
 * The system calls of each kind of thread stand beside the code that makes them:
 *
 *	[slash][star] syscalls (io): readv writev ioctl(FIONREAD) [star][slash]
 *
 * tools/syscall_notes.py collects them, and filter_gen.c makes BPF of them while smolvm is built.
 */
#ifndef JAIL_JAIL_H
#define JAIL_JAIL_H

#include <stdbool.h>
#include <stddef.h>

#include <smolvm/error.h>

/** enum jail_layer - the layers, in the order in which they are entered. */
enum jail_layer {
	JAIL_NAMESPACES,   /* an empty view of files, no network */
	JAIL_PRIVILEGES,   /* no new privileges, no core dumps, no look into its memory */
	JAIL_LANDLOCK,	   /* no files but the shares, no network */
	JAIL_CAPABILITIES, /* root's powers */
	JAIL_LIMITS,	   /* resource limits */
	JAIL_SECCOMP,	   /* system calls, by kind of thread */
	JAIL_LAYERS
};

/** enum jail_kind - kinds of threads. */
enum jail_kind {
	JAIL_MAIN,   /* the machine's control: clients, the agent's channel, a child hypervisor */
	JAIL_VCPU,   /* runs the guest */
	JAIL_IO,     /* devices' event loop */
	JAIL_WORKER, /* waits for disks */
	JAIL_FS,     /* serves a shared folder: the only kind that opens files */
	JAIL_KINDS
};

#define JAIL_SHARES_MAX 64

/**
 * struct jail_death - memory shared with the supervisor: what a thread died of. @syscall: its
 * number and 1; 0: nothing has been noted. Written by the confined process: not to be trusted.
 */
struct jail_death {
	volatile int syscall;
	volatile int kind;
};

/**
 * struct jail_config - what a process still needs. All zeroes: nothing.
 * @shares:   descriptors (O_PATH) of what is shared; in their place, and in that of duplicates,
 *            come equal ones that lead nowhere else.
 * @child:    there is a child process, which is signalled and waited for.
 * @strict:   a call that is neither noted nor known to be evil ends the process instead of being
 *            refused with EPERM. For tests.
 * @skip:     layers to leave out, as 1u << enum jail_layer. For tests.
 * @death:    may be NULL.
 */
struct jail_config {
	struct jail_share {
		int fd;
		bool read_only;
	} shares[JAIL_SHARES_MAX];
	size_t n_shares;
	bool child;
	bool strict;
	unsigned int skip;
	struct jail_death *death;
};

/**
 * struct jail - a process's confinement.
 * @layers: for each layer whether it is @on, and how, or why not, in a few words.
 */
struct jail {
	struct jail_config config;
	struct jail_status {
		bool on;
		char text[160];
	} layers[JAIL_LAYERS];
};

/** jail_layer_name() - "namespaces"; a static string. */
const char *jail_layer_name(enum jail_layer layer);

/** jail_kind_name() - "vcpu"; a static string. */
const char *jail_kind_name(unsigned int kind);

/**
 * jail_enter() - confine the calling process, which has one thread, for good.
 * @jail: filled in; lives as long as threads are confined by it.
 *
 * What is open stays open, but a directory can no longer be left through "..".
 * Return: 0; -EPERM with @err when the host offers so little that nothing worth the name is left.
 * After a failure the process is in an unknown state and must end.
 */
int jail_enter(struct jail *jail, const struct jail_config *config, struct smolvm_error *err);

/**
 * jail_thread() - confine the calling thread further, by its kind.
 *
 * In the main thread, once all other threads have been made. Return: 0 or -errno.
 */
int jail_thread(const struct jail *jail, enum jail_kind kind);

/**
 * struct jail_program - another program, to be confined before it is executed.
 * @program, @kernel: paths that it reads (and executes).
 * @kvm: it uses /dev/kvm.
 */
struct jail_program {
	const char *program;
	const char *kernel;
	bool kvm;
};

/**
 * jail_enter_program() - the outer layers for the program that is executed next.
 * @ctx: struct jail_program.
 *
 * Between fork() and exec(). Layers that the host does not offer are left out in silence: they are
 * the same that jail_enter() reports. Return: 0 or -errno.
 */
int jail_enter_program(void *ctx);

/** jail_syscall_name() - of a system call that is never allowed; NULL for others. */
const char *jail_syscall_name(int number);

#endif
