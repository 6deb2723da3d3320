/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where machines can be run: this host, and what each backend makes of it.
 *
 * This half is for choosing, and small; running a machine is backend/run.h.
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>

enum accelerator { ACCEL_NONE, ACCEL_TCG, ACCEL_KVM };

/** accelerator_name() - "tcg", "kvm" or "". */
const char *accelerator_name(enum accelerator a);

/**
 * struct backend_host - what is known about this host before a backend is asked.
 * @kvm_usable: there is a KVM that is worth using.
 * @kvm_worth_measuring: it could be opened, and backend_host_measure() would tell more.
 * @kvm_verdict: what a measurement found, to be kept: a number of backend_host_recall()'s.
 * @kvm_nested: KVM passes the processor's virtualization on to guests that are to have it.
 * @kvm_text:   one line: what was found, and what to do about it.
 */
struct backend_host {
	bool kvm_usable;
	bool kvm_worth_measuring;
	int kvm_verdict;
	bool kvm_nested;
	char kvm_text[256];
};

/** backend_host_look() - what can be seen without running anything. */
void backend_host_look(struct backend_host *ret);

/** backend_host_measure() - run a tiny guest in KVM, see kvm_probe(). */
void backend_host_measure(struct backend_host *h);

/**
 * backend_host_recall() - what an earlier measurement of this boot found.
 * Return: 0, or -EINVAL for what has to be measured again.
 */
int backend_host_recall(struct backend_host *h, int verdict);

/**
 * struct backend_probe - what a backend can do here.
 * @usable:      machines can be started.
 * @accelerator: with what.
 * @nested:      guests can run machines of their own.
 * @program:     path of the hypervisor's executable; "" for the built-in one.
 * @text:        one line: why it is usable, or why not and what to do.
 */
struct backend_probe {
	bool usable;
	enum accelerator accelerator;
	bool nested;
	char program[256];
	char text[256];
};

/**
 * struct backend - one hypervisor.
 * @probe: fills in @ret; cheap (no process is started), changes nothing.
 */
struct backend {
	const char *name;
	void (*probe)(const struct backend_host *host, struct backend_probe *ret);
};

/** backend_table - every backend, in order of preference; NULL-terminated. */
extern const struct backend *const backend_table[];

/** builtin_probe(), qemu_probe() - of each. */
void builtin_probe(const struct backend_host *host, struct backend_probe *ret);
void qemu_probe(const struct backend_host *host, struct backend_probe *ret);

/** backend_find() - by name; NULL when there is none. */
const struct backend *backend_find(const char *name);

#endif
