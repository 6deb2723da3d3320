/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hypervisor for tests: memory, and vCPUs that are scripts.
 */
#ifndef HYPERVISOR_FAKE_H
#define HYPERVISOR_FAKE_H

#include "hypervisor/hv.h"

struct fake_cpu;

extern const struct hv_ops hv_fake;

/**
 * struct fake_guest - what plays the guest.
 * @script: called in each vCPU's thread by its first vcpu_run(), in a context of its own: it calls
 *          fake_mmio_*(), fake_out() and the like, each of which makes vcpu_run() return with that
 *          exit, and goes on when it is run again. When it returns, the vCPU halts for ever.
 * @event_fds: notify_fd() and irq_fd() work; otherwise they give -ENOTSUP.
 */
struct fake_guest {
	void (*script)(void *ctx, struct fake_cpu *cpu);
	void *ctx;
	bool event_fds;
};

/** fake_next_guest() - what the next hv_fake.create() of this thread plays. Copied. */
void fake_next_guest(const struct fake_guest *guest);

/** fake_mem() - @bytes of guest memory at @gpa, or NULL: the script's own view of RAM. */
void *fake_mem(struct fake_cpu *cpu, uint64_t gpa, uint64_t bytes);

uint64_t fake_mmio_read(struct fake_cpu *cpu, uint64_t gpa, unsigned int size);
void fake_mmio_write(struct fake_cpu *cpu, uint64_t gpa, unsigned int size, uint64_t value);
uint64_t fake_in(struct fake_cpu *cpu, uint16_t port, unsigned int size);
void fake_out(struct fake_cpu *cpu, uint16_t port, unsigned int size, uint64_t value);
/** fake_exit() - come back with this kind, which needs no handling. */
void fake_exit(struct fake_cpu *cpu, enum hv_exit_kind kind);
/** fake_irq_wait() - until interrupt @gsi is raised. Return: whether it was, within @ms. */
bool fake_irq_wait(struct fake_cpu *cpu, unsigned int gsi, int ms);

#endif
