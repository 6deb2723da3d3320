/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hypervisor for tests: memory, and vCPUs that are scripts.
 */
#ifndef HYPERVISOR_FAKE_H
#define HYPERVISOR_FAKE_H

#include "hypervisor/hv.h"

struct fake_cpu;

extern const struct hv_ops hv_fake;

#define FAKE_CPUS_MAX 64
#define FAKE_SLOTS    8
#define FAKE_FDS_MAX  512 /* of notify_fd(), and of irq_fd() */
#define FAKE_PINS     24  /* interrupt lines */

/**
 * struct fake_guest - what plays the guest.
 * @script: called once for each vCPU by its first vcpu_run(), in a thread of its own with which
 *          vcpu_run() takes turns: it calls fake_mmio_*(), fake_out() and the like, each of which
 *          makes vcpu_run() return with that exit, and goes on when it is run again. When it
 *          returns, the vCPU halts for ever: HV_EXIT_HALT once, and then nothing but kicks.
 *          A kick is noticed in these calls, so a script that waits for something in memory calls
 *          fake_irq_wait() in its loop. hv_fake.destroy() ends it inside such a call.
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

/** fake_index() - which vCPU this is. */
unsigned int fake_index(const struct fake_cpu *cpu);

/** fake_boot() - what vcpu_boot() was given, or NULL: it would wait for INIT/SIPI. */
const struct hv_boot *fake_boot(const struct fake_cpu *cpu);

uint64_t fake_mmio_read(struct fake_cpu *cpu, uint64_t gpa, unsigned int size);
void fake_mmio_write(struct fake_cpu *cpu, uint64_t gpa, unsigned int size, uint64_t value);
uint64_t fake_in(struct fake_cpu *cpu, uint16_t port, unsigned int size);
void fake_out(struct fake_cpu *cpu, uint16_t port, unsigned int size, uint64_t value);
/** fake_outs(), fake_ins() - @count accesses of @size bytes to one port; 4096 bytes at most. */
void fake_outs(struct fake_cpu *cpu, uint16_t port, unsigned int size, unsigned int count,
	       const void *data);
void fake_ins(struct fake_cpu *cpu, uint16_t port, unsigned int size, unsigned int count,
	      void *data);
/** fake_exit() - come back with this kind, which needs no handling. */
void fake_exit(struct fake_cpu *cpu, enum hv_exit_kind kind);
/**
 * fake_irq_wait() - until interrupt @gsi is raised, or has been since the last time.
 *
 * Return: whether it was, within @ms.
 */
bool fake_irq_wait(struct fake_cpu *cpu, unsigned int gsi, int ms);

#endif
