/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of the virtual CPUs: running the guest, and doing what it comes back for.
 *
 * A vCPU that halts stays in the hypervisor, and nobody is told when all of them have halted with
 * their interrupts off, which is for ever. So a timer of the event loop looks, each second and
 * less and less often in a quiet machine, whether any vCPU has come back since; if none has, it
 * asks the first whether it is dead, which only the vCPU itself can find out. One that is asks the
 * next one. When all of them have said so twice in a row the machine has ended. An idle guest is
 * asked once, and costs one kick each eight seconds.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/vmm.h"

#define TICK_MAX_S 8u

static bool is_wanted(const struct vcpu *v, enum vmm_want want)
{
	return __atomic_load_n(&v->vmm->want, __ATOMIC_SEQ_CST) == want;
}

/* ---- dead or alive -------------------------------------------------------------------------- */

/* Under @lock. */
static void ask(struct vcpu *v)
{
	__atomic_store_n(&v->ask, true, __ATOMIC_SEQ_CST);
	if (v->in)
		v->vmm->ops->vcpu_kick(v->hv);
	pthread_cond_broadcast(&v->vmm->changed);
}

static void answer(struct vcpu *v)
{
	struct smolvm_vmm *vmm = v->vmm;
	bool dead = vmm->ops->vcpu_dead(v->hv), all = false;

	pthread_mutex_lock(&vmm->lock);
	if (vmm->asking) {
		vmm->asking = dead;
		all = dead && ++vmm->asked == 2 * vmm->config.cpus;
		if (all)
			vmm->asking = false;
		else if (dead)
			ask(&vmm->vcpus[vmm->asked % vmm->config.cpus]);
	}
	pthread_mutex_unlock(&vmm->lock);
	if (all)
		vmm_end(vmm, SMOLVM_VMM_HALTED, 0, "the guest has halted for good");
}

/* Under @lock. */
static void start_asking(struct smolvm_vmm *vmm)
{
	if (vmm->asking || vmm->want != VMM_WANT_RUN)
		return;
	vmm->asking = true;
	vmm->asked = 0;
	ask(&vmm->vcpus[0]);
}

/* The hypervisor does not keep halts to itself: wait here if it is for ever. */
static void halted(struct vcpu *v)
{
	struct smolvm_vmm *vmm = v->vmm;

	if (!vmm->ops->vcpu_dead(v->hv))
		return;
	pthread_mutex_lock(&vmm->lock);
	start_asking(vmm);
	while (vmm->want == VMM_WANT_RUN && !__atomic_load_n(&v->ask, __ATOMIC_SEQ_CST))
		pthread_cond_wait(&vmm->changed, &vmm->lock);
	pthread_mutex_unlock(&vmm->lock);
}

static void tick(struct loop_timer *t)
{
	struct smolvm_vmm *vmm = t->ctx;
	uint64_t exits = 0;

	for (unsigned int i = 0; i < vmm->config.cpus; i++) {
		struct vcpu *v = &vmm->vcpus[i];

		exits += __atomic_load_n(&v->exits, __ATOMIC_RELAXED) -
			 __atomic_load_n(&v->exits_by_kind[HV_EXIT_INTERRUPTED], __ATOMIC_RELAXED);
	}
	pthread_mutex_lock(&vmm->lock);
	if (exits != vmm->tick_exits) {
		vmm->tick_exits = exits;
		vmm->tick_s = 1;
	} else {
		start_asking(vmm);
		vmm->tick_s = vmm->tick_s * 2 > TICK_MAX_S ? TICK_MAX_S : vmm->tick_s * 2;
	}
	pthread_mutex_unlock(&vmm->lock);
	loop_arm(vmm->loop, t, vmm->tick_s * 1000);
}

void vcpus_watch(struct smolvm_vmm *vmm)
{
	vmm->tick = (struct loop_timer){ .fired = tick, .ctx = vmm };
	vmm->tick_s = 1;
	loop_arm(vmm->loop, &vmm->tick, 1000);
}

/* ---- exits ---------------------------------------------------------------------------------- */

static void count(struct vcpu *v, enum hv_exit_kind kind)
{
	/* This thread is the only one that writes. */
	__atomic_store_n(&v->exits_by_kind[kind], v->exits_by_kind[kind] + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&v->exits, v->exits + 1, __ATOMIC_RELAXED);
}

static void failed(struct vcpu *v, const struct hv_exit *e)
{
	char text[sizeof(e->text) + 24];

	snprintf(text, sizeof(text), "virtual CPU %u: %s", v->index, e->text);
	vmm_end(v->vmm, SMOLVM_VMM_FAILED, e->error ? e->error : EIO, text);
}

static void handle(struct vcpu *v, const struct hv_exit *e)
{
	struct smolvm_vmm *vmm = v->vmm;

	switch (e->kind) {
	case HV_EXIT_MMIO:
		vmm_stamp(&vmm->timeline.first_exit);
		bus_dispatch(&vmm->mmio, e);
		break;
	case HV_EXIT_IO:
		vmm_stamp(&vmm->timeline.first_exit);
		bus_dispatch(&vmm->ports, e);
		break;
	case HV_EXIT_HALT:
		halted(v);
		break;
	case HV_EXIT_SHUTDOWN:
		vmm_end(vmm, SMOLVM_VMM_TRIPLE_FAULT, 0, "the guest ended in a triple fault");
		break;
	case HV_EXIT_RESET:
		vmm_end(vmm, SMOLVM_VMM_RESET, 0, "the guest reset itself");
		break;
	case HV_EXIT_POWEROFF:
		vmm_end(vmm, SMOLVM_VMM_POWEROFF, 0, "the guest switched itself off");
		break;
	case HV_EXIT_INTERRUPTED:
		break;
	case HV_EXIT_ERROR:
		failed(v, e);
		break;
	}
}

/* ---- threads -------------------------------------------------------------------------------- */

/* Wait until there is something to run. Return: whether there is, ever. */
static bool hold(struct vcpu *v)
{
	struct smolvm_vmm *vmm = v->vmm;
	bool run;

	pthread_mutex_lock(&vmm->lock);
	v->in = false;
	vmm->n_held++;
	pthread_cond_broadcast(&vmm->changed);
	while (vmm->want == VMM_WANT_WAIT || vmm->want == VMM_WANT_PAUSE)
		pthread_cond_wait(&vmm->changed, &vmm->lock);
	vmm->n_held--;
	run = v->in = vmm->want == VMM_WANT_RUN;
	pthread_mutex_unlock(&vmm->lock);
	return run;
}

static void leave(struct vcpu *v)
{
	struct smolvm_vmm *vmm = v->vmm;
	uint64_t one = 1;
	bool last;

	serial_flush(&vmm->serial);
	pthread_mutex_lock(&vmm->lock);
	last = --vmm->n_running == 0;
	pthread_cond_broadcast(&vmm->changed);
	/* A fresh eventfd takes this; it cannot fail. */
	if (last && write(vmm->exit_fd, &one, sizeof(one)) < 0)
		vmm->end.error = errno;
	pthread_mutex_unlock(&vmm->lock);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	struct smolvm_vmm *vmm = v->vmm;
	struct hv_exit exit;

	exit.text[0] = '\0';
	while (hold(v)) {
		vmm_stamp(&vmm->timeline.run);
		while (is_wanted(v, VMM_WANT_RUN)) {
			if (__atomic_load_n(&v->ask, __ATOMIC_RELAXED)) {
				__atomic_store_n(&v->ask, false, __ATOMIC_SEQ_CST);
				answer(v);
			}
			vmm->ops->vcpu_run(v->hv, &exit);
			count(v, exit.kind);
			handle(v, &exit);
		}
	}
	leave(v);
	return NULL;
}

int vcpus_start(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	for (unsigned int i = 0; i < vmm->config.cpus; i++) {
		struct vcpu *v = &vmm->vcpus[i];
		int r;

		pthread_mutex_lock(&vmm->lock);
		vmm->n_running++;
		pthread_mutex_unlock(&vmm->lock);
		r = virtio_thread(&vmm->env, SMOLVM_VMM_THREAD_VCPU, &v->thread, vcpu_thread, v);
		if (r) {
			pthread_mutex_lock(&vmm->lock);
			vmm->n_running--;
			pthread_mutex_unlock(&vmm->lock);
			return err_set(err, -r, "cannot start the thread of virtual CPU %u: %s", i,
				       strerror(-r));
		}
		v->has_thread = true;
	}
	return 0;
}

void vcpus_set(struct smolvm_vmm *vmm, enum vmm_want want)
{
	__atomic_store_n(&vmm->want, want, __ATOMIC_SEQ_CST);
	for (unsigned int i = 0; vmm->vcpus && i < vmm->config.cpus; i++)
		if (want != VMM_WANT_RUN && vmm->vcpus[i].in)
			vmm->ops->vcpu_kick(vmm->vcpus[i].hv);
	pthread_cond_broadcast(&vmm->changed);
}

void vcpus_join(struct smolvm_vmm *vmm)
{
	for (unsigned int i = 0; vmm->vcpus && i < vmm->config.cpus; i++) {
		if (vmm->vcpus[i].has_thread)
			pthread_join(vmm->vcpus[i].thread, NULL);
		vmm->vcpus[i].has_thread = false;
	}
}
