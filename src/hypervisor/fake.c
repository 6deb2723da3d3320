/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hypervisor for tests: memory, and vCPUs that are scripts.
 *
 * A script has a thread of its own and takes turns with the thread that calls vcpu_run(): exactly
 * one of the two runs at any time, whoever @turn says. The script hands over in give_way(), with an
 * exit filled in, and stands still there until the next vcpu_run(). A kick that finds the script
 * running is seen by the script's next call; waits inside a call end by a byte in @wake.
 */
#include "hypervisor/fake.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"

#define PAGE_BYTES 4096u
#define STRING_BYTES 4096u

enum turn {
	TURN_HOST,  /* the script stands still, or has not begun */
	TURN_GUEST, /* vcpu_run() waits for the script */
	TURN_OVER,  /* the script has returned */
};

/*
 * struct fake_cpu - one vCPU. @lock guards what follows it.
 * @wake: eventfd: look at @kicked, @closing and the interrupt lines again.
 * @exit: what vcpu_run() gives out; the script fills it in during its turn.
 */
struct fake_cpu {
	struct hv *hv;
	unsigned int index;
	bool has_boot;
	struct hv_boot boot;
	pthread_t thread;
	int wake;

	pthread_mutex_t lock;
	pthread_cond_t turned;
	enum turn turn;
	bool started, kicked, closing, halt_told;
	struct hv_exit exit;
	uint8_t data[STRING_BYTES];
};

struct hv_vcpu {
	struct fake_cpu cpu;
};

struct slot {
	uint64_t gpa, bytes;
	uint8_t *hva;
};

struct notify {
	uint64_t gpa;
	uint32_t value;
	int fd;
};

struct line {
	unsigned int gsi;
	int fd;
};

/* struct hv - a machine. @lock guards @raised. */
struct hv {
	struct fake_guest guest;
	unsigned int cpus;
	struct slot slots[FAKE_SLOTS];
	struct notify notifies[FAKE_FDS_MAX];
	size_t n_notifies;
	struct line lines[FAKE_FDS_MAX];
	size_t n_lines;
	pthread_mutex_t lock;
	bool raised[FAKE_PINS];
	struct hv_vcpu *vcpus[FAKE_CPUS_MAX];
};

static _Thread_local struct fake_guest next_guest;

void fake_next_guest(const struct fake_guest *guest)
{
	next_guest = *guest;
}

static void ring(int fd)
{
	uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* ---------------------------------------------------------------- turns */

/* The script's side: its exit is filled in; go on when the vCPU is run again. */
static void give_way(struct fake_cpu *cpu)
{
	pthread_mutex_lock(&cpu->lock);
	cpu->turn = TURN_HOST;
	pthread_cond_broadcast(&cpu->turned);
	while (cpu->turn != TURN_GUEST && !cpu->closing)
		pthread_cond_wait(&cpu->turned, &cpu->lock);
	pthread_mutex_unlock(&cpu->lock);
	if (cpu->closing)
		pthread_exit(NULL);
}

/* In every call of the script: a kick makes it give way first. */
static void heed_kick(struct fake_cpu *cpu)
{
	bool kicked, closing;

	pthread_mutex_lock(&cpu->lock);
	kicked = cpu->kicked;
	closing = cpu->closing;
	cpu->kicked = false;
	pthread_mutex_unlock(&cpu->lock);
	if (closing)
		pthread_exit(NULL);
	if (!kicked)
		return;
	cpu->exit = (struct hv_exit){ .kind = HV_EXIT_INTERRUPTED };
	give_way(cpu);
}

static void *script_main(void *arg)
{
	struct fake_cpu *cpu = arg;

	cpu->hv->guest.script(cpu->hv->guest.ctx, cpu);
	pthread_mutex_lock(&cpu->lock);
	cpu->turn = TURN_OVER;
	pthread_cond_broadcast(&cpu->turned);
	pthread_mutex_unlock(&cpu->lock);
	return NULL;
}

/* As every thread of the library: with all signals blocked. */
static int start_script(struct fake_cpu *cpu)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&cpu->thread, NULL, script_main, cpu);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

/* With @lock held: the script has its turn, until it gives way or ends. */
static void give_turn(struct fake_cpu *cpu)
{
	int rc = 0;

	cpu->turn = TURN_GUEST;
	if (!cpu->started)
		rc = start_script(cpu);
	if (rc != 0) {
		cpu->turn = TURN_HOST;
		cpu->exit = (struct hv_exit){ .kind = HV_EXIT_ERROR, .error = rc };
		snprintf(cpu->exit.text, sizeof(cpu->exit.text), "no thread for a script");
		return;
	}
	cpu->started = true;
	pthread_cond_broadcast(&cpu->turned);
	while (cpu->turn == TURN_GUEST)
		pthread_cond_wait(&cpu->turned, &cpu->lock);
}

static void fake_vcpu_run(struct hv_vcpu *vcpu, struct hv_exit *ret)
{
	struct fake_cpu *cpu = &vcpu->cpu;

	pthread_mutex_lock(&cpu->lock);
	if (!cpu->kicked && cpu->turn == TURN_HOST)
		give_turn(cpu);
	else if (cpu->turn == TURN_HOST)
		cpu->exit = (struct hv_exit){ .kind = HV_EXIT_INTERRUPTED };
	if (cpu->turn == TURN_OVER) {
		while (cpu->halt_told && !cpu->kicked)
			pthread_cond_wait(&cpu->turned, &cpu->lock);
		cpu->exit = (struct hv_exit){ .kind = cpu->halt_told ? HV_EXIT_INTERRUPTED
								     : HV_EXIT_HALT };
		cpu->halt_told = true;
	}
	if (cpu->exit.kind == HV_EXIT_INTERRUPTED)
		cpu->kicked = false;
	*ret = cpu->exit;
	pthread_mutex_unlock(&cpu->lock);
}

static void fake_vcpu_kick(struct hv_vcpu *vcpu)
{
	struct fake_cpu *cpu = &vcpu->cpu;

	pthread_mutex_lock(&cpu->lock);
	cpu->kicked = true;
	pthread_cond_broadcast(&cpu->turned);
	pthread_mutex_unlock(&cpu->lock);
	ring(cpu->wake);
}

static bool fake_vcpu_dead(struct hv_vcpu *vcpu)
{
	bool over;

	pthread_mutex_lock(&vcpu->cpu.lock);
	over = vcpu->cpu.turn == TURN_OVER;
	pthread_mutex_unlock(&vcpu->cpu.lock);
	return over;
}

/* ---------------------------------------------------------------- what a script can do */

unsigned int fake_index(const struct fake_cpu *cpu)
{
	return cpu->index;
}

const struct hv_boot *fake_boot(const struct fake_cpu *cpu)
{
	return cpu->has_boot ? &cpu->boot : NULL;
}

void *fake_mem(struct fake_cpu *cpu, uint64_t gpa, uint64_t bytes)
{
	for (size_t i = 0; i < FAKE_SLOTS; i++) {
		const struct slot *slot = &cpu->hv->slots[i];

		if (bytes <= slot->bytes && gpa >= slot->gpa &&
		    gpa - slot->gpa <= slot->bytes - bytes)
			return slot->hva + (gpa - slot->gpa);
	}
	return NULL;
}

/* One access, or some of them: out, and back with what the handler made of @data. */
static void do_access(struct fake_cpu *cpu, const struct hv_exit *access, void *data)
{
	size_t bytes = (size_t)access->size * access->count;

	if (bytes > sizeof(cpu->data))
		abort();
	heed_kick(cpu);
	if (access->write)
		memcpy(cpu->data, data, bytes);
	else
		memset(cpu->data, 0xff, bytes);
	cpu->exit = *access;
	cpu->exit.data = cpu->data;
	give_way(cpu);
	if (!access->write)
		memcpy(data, cpu->data, bytes);
}

static uint64_t access_value(struct fake_cpu *cpu, enum hv_exit_kind kind, uint64_t addr,
			     unsigned int size, bool write, uint64_t value)
{
	struct hv_exit access = {
		.kind = kind,
		.write = write,
		.addr = addr,
		.size = size,
		.count = 1,
	};

	if (size > sizeof(value))
		abort();
	if (!write)
		value = 0;
	do_access(cpu, &access, &value);
	return value;
}

uint64_t fake_mmio_read(struct fake_cpu *cpu, uint64_t gpa, unsigned int size)
{
	return access_value(cpu, HV_EXIT_MMIO, gpa, size, false, 0);
}

static bool notify(struct fake_cpu *cpu, uint64_t gpa, uint64_t value)
{
	for (size_t i = 0; i < cpu->hv->n_notifies; i++) {
		const struct notify *n = &cpu->hv->notifies[i];

		if (n->gpa == gpa && n->value == (uint32_t)value) {
			ring(n->fd);
			return true;
		}
	}
	return false;
}

void fake_mmio_write(struct fake_cpu *cpu, uint64_t gpa, unsigned int size, uint64_t value)
{
	heed_kick(cpu);
	if (size == 4 && notify(cpu, gpa, value))
		return;
	access_value(cpu, HV_EXIT_MMIO, gpa, size, true, value);
}

uint64_t fake_in(struct fake_cpu *cpu, uint16_t port, unsigned int size)
{
	return access_value(cpu, HV_EXIT_IO, port, size, false, 0);
}

void fake_out(struct fake_cpu *cpu, uint16_t port, unsigned int size, uint64_t value)
{
	access_value(cpu, HV_EXIT_IO, port, size, true, value);
}

static void string_access(struct fake_cpu *cpu, uint16_t port, unsigned int size,
			  unsigned int count, bool write, void *data)
{
	struct hv_exit access = {
		.kind = HV_EXIT_IO,
		.write = write,
		.addr = port,
		.size = size,
		.count = count,
	};

	do_access(cpu, &access, data);
}

void fake_outs(struct fake_cpu *cpu, uint16_t port, unsigned int size, unsigned int count,
	       const void *data)
{
	string_access(cpu, port, size, count, true, (void *)data);
}

void fake_ins(struct fake_cpu *cpu, uint16_t port, unsigned int size, unsigned int count,
	      void *data)
{
	string_access(cpu, port, size, count, false, data);
}

void fake_exit(struct fake_cpu *cpu, enum hv_exit_kind kind)
{
	heed_kick(cpu);
	cpu->exit = (struct hv_exit){ .kind = kind };
	if (kind == HV_EXIT_ERROR) {
		cpu->exit.error = EIO;
		snprintf(cpu->exit.text, sizeof(cpu->exit.text), "the script says so");
	}
	give_way(cpu);
}

/* Takes what has been raised, by irq() or by an eventfd. */
static bool take_irq(struct hv *hv, unsigned int gsi)
{
	bool raised;

	pthread_mutex_lock(&hv->lock);
	raised = hv->raised[gsi];
	hv->raised[gsi] = false;
	for (size_t i = 0; i < hv->n_lines; i++) {
		struct pollfd p = { .fd = hv->lines[i].fd, .events = POLLIN };
		uint64_t count;

		if (hv->lines[i].gsi == gsi && poll(&p, 1, 0) == 1 &&
		    read(p.fd, &count, sizeof(count)) == sizeof(count))
			raised = true;
	}
	pthread_mutex_unlock(&hv->lock);
	return raised;
}

/* Until @wake or an eventfd of the line has something, or it is time. */
static void wait_irq(struct fake_cpu *cpu, unsigned int gsi, int ms)
{
	struct pollfd polls[FAKE_FDS_MAX + 1] = { { .fd = cpu->wake, .events = POLLIN } };
	struct hv *hv = cpu->hv;
	uint64_t count;
	nfds_t n = 1;

	for (size_t i = 0; i < hv->n_lines; i++)
		if (hv->lines[i].gsi == gsi)
			polls[n++] = (struct pollfd){ .fd = hv->lines[i].fd, .events = POLLIN };
	poll(polls, n, ms);
	if (polls[0].revents && read(cpu->wake, &count, sizeof(count)) < 0)
		return; /* another one has read it: look again all the same */
}

bool fake_irq_wait(struct fake_cpu *cpu, unsigned int gsi, int ms)
{
	int64_t deadline = clock_ms() + ms, left;

	if (gsi >= FAKE_PINS)
		abort();
	for (;;) {
		heed_kick(cpu);
		if (take_irq(cpu->hv, gsi))
			return true;
		left = deadline - clock_ms();
		if (left <= 0)
			return false;
		wait_irq(cpu, gsi, (int)left);
	}
}

/* ---------------------------------------------------------------- the machine */

static void vcpu_destroy(struct hv_vcpu *vcpu)
{
	struct fake_cpu *cpu;

	if (!vcpu)
		return;
	cpu = &vcpu->cpu;
	pthread_mutex_lock(&cpu->lock);
	cpu->closing = true;
	pthread_cond_broadcast(&cpu->turned);
	pthread_mutex_unlock(&cpu->lock);
	ring(cpu->wake);
	if (cpu->started)
		pthread_join(cpu->thread, NULL);
	pthread_cond_destroy(&cpu->turned);
	pthread_mutex_destroy(&cpu->lock);
	close(cpu->wake);
	free(vcpu);
}

static void fake_destroy(struct hv *hv)
{
	if (!hv)
		return;
	for (unsigned int i = 0; i < hv->cpus; i++)
		vcpu_destroy(hv->vcpus[i]);
	pthread_mutex_destroy(&hv->lock);
	free(hv);
}

static int fake_create(struct hv **ret, const struct hv_config *config, struct smolvm_error *err)
{
	struct hv *hv;

	if (config->cpus == 0 || config->cpus > FAKE_CPUS_MAX)
		return err_set(err, EINVAL, "%u CPUs: the fake hypervisor takes 1 to %u",
			       config->cpus, FAKE_CPUS_MAX);
	hv = calloc(1, sizeof(*hv));
	if (!hv)
		return err_nomem(err);
	hv->guest = next_guest;
	hv->cpus = config->cpus;
	pthread_mutex_init(&hv->lock, NULL);
	*ret = hv;
	return 0;
}

static unsigned int fake_cpus_max(struct hv *hv)
{
	return FAKE_CPUS_MAX;
}

static int fake_map(struct hv *hv, unsigned int slot, uint64_t gpa, void *hva, uint64_t bytes,
		    struct smolvm_error *err)
{
	if (slot >= FAKE_SLOTS || hv->slots[slot].bytes != 0)
		return err_set(err, EINVAL, "memory slot %u", slot);
	if (((gpa | (uintptr_t)hva | bytes) & (PAGE_BYTES - 1)) != 0 || bytes == 0 || !hva ||
	    gpa + bytes < gpa)
		return err_set(err, EINVAL, "memory is not made of whole pages");
	for (size_t i = 0; i < FAKE_SLOTS; i++)
		if (gpa < hv->slots[i].gpa + hv->slots[i].bytes && hv->slots[i].gpa < gpa + bytes)
			return err_set(err, EEXIST, "memory overlaps slot %zu", i);
	hv->slots[slot] = (struct slot){ .gpa = gpa, .bytes = bytes, .hva = hva };
	return 0;
}

static int fake_vcpu_create(struct hv *hv, unsigned int index, struct hv_vcpu **ret,
			    struct smolvm_error *err)
{
	struct hv_vcpu *vcpu;

	if (index >= hv->cpus || hv->vcpus[index])
		return err_set(err, EINVAL, "CPU %u of %u, or a second time", index, hv->cpus);
	vcpu = calloc(1, sizeof(*vcpu));
	if (!vcpu)
		return err_nomem(err);
	vcpu->cpu.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vcpu->cpu.wake < 0) {
		free(vcpu);
		return err_sys(err, "no eventfd");
	}
	vcpu->cpu.hv = hv;
	vcpu->cpu.index = index;
	pthread_mutex_init(&vcpu->cpu.lock, NULL);
	pthread_cond_init(&vcpu->cpu.turned, NULL);
	*ret = hv->vcpus[index] = vcpu;
	return 0;
}

static int fake_vcpu_boot(struct hv_vcpu *vcpu, const struct hv_boot *boot,
			  struct smolvm_error *err)
{
	vcpu->cpu.has_boot = boot != NULL;
	if (boot)
		vcpu->cpu.boot = *boot;
	return 0;
}

static int fake_notify_fd(struct hv *hv, uint64_t gpa, uint32_t value, int fd)
{
	if (!hv->guest.event_fds)
		return -ENOTSUP;
	for (size_t i = 0; i < hv->n_notifies; i++)
		if (hv->notifies[i].gpa == gpa && hv->notifies[i].value == value)
			return -EEXIST;
	if (hv->n_notifies == FAKE_FDS_MAX)
		return -ENOSPC;
	hv->notifies[hv->n_notifies++] = (struct notify){ .gpa = gpa, .value = value, .fd = fd };
	return 0;
}

static int fake_irq_fd(struct hv *hv, unsigned int gsi, int fd)
{
	if (!hv->guest.event_fds)
		return -ENOTSUP;
	if (gsi >= FAKE_PINS)
		return -EINVAL;
	if (hv->n_lines == FAKE_FDS_MAX)
		return -ENOSPC;
	hv->lines[hv->n_lines++] = (struct line){ .gsi = gsi, .fd = fd };
	return 0;
}

static void fake_irq(struct hv *hv, unsigned int gsi)
{
	if (gsi >= FAKE_PINS)
		return;
	pthread_mutex_lock(&hv->lock);
	hv->raised[gsi] = true;
	pthread_mutex_unlock(&hv->lock);
	for (unsigned int i = 0; i < hv->cpus; i++)
		if (hv->vcpus[i])
			ring(hv->vcpus[i]->cpu.wake);
}

const struct hv_ops hv_fake = {
	.name = "fake",
	.create = fake_create,
	.destroy = fake_destroy,
	.cpus_max = fake_cpus_max,
	.map = fake_map,
	.vcpu_create = fake_vcpu_create,
	.vcpu_boot = fake_vcpu_boot,
	.vcpu_run = fake_vcpu_run,
	.vcpu_kick = fake_vcpu_kick,
	.vcpu_dead = fake_vcpu_dead,
	.notify_fd = fake_notify_fd,
	.irq_fd = fake_irq_fd,
	.irq = fake_irq,
};
