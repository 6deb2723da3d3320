/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's life: made, started, waited for, ended, taken apart.
 *
 * The end is one way and in one order: somebody sets a reason (the guest, by what it does; stop();
 * a failure), every vCPU leaves, the last one makes exit_fd readable. Devices go on until
 * destroy(): it resets each, which waits for what is under way while the event loop still turns,
 * then stops the loop, and only then frees what devices and loop have used.
 */
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"

#define MEMORY_MIB_DEFAULT 256

void vmm_stamp(int64_t *at)
{
	int64_t none = 0;

	if (!__atomic_load_n(at, __ATOMIC_RELAXED))
		__atomic_compare_exchange_n(at, &none, clock_ns(), false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
}

/* ---- making --------------------------------------------------------------------------------- */

static int check_config(struct smolvm_vmm_config *c, struct smolvm_error *err)
{
	if (!c->cpus)
		c->cpus = 1;
	if (!c->memory_mib)
		c->memory_mib = MEMORY_MIB_DEFAULT;
	if (c->cpus > SMOLVM_VMM_CPUS_MAX)
		return err_set(err, EINVAL, "%u virtual CPUs are too many: %u is the most",
			       c->cpus, SMOLVM_VMM_CPUS_MAX);
	if (c->memory_mib < SMOLVM_VMM_MEMORY_MIB_MIN || c->memory_mib > SMOLVM_VMM_MEMORY_MIB_MAX)
		return err_set(err, EINVAL, "%u MiB of memory: give %u to %u", c->memory_mib,
			       SMOLVM_VMM_MEMORY_MIB_MIN, SMOLVM_VMM_MEMORY_MIB_MAX);
	if (c->initramfs_bytes && !c->initramfs)
		return err_set(err, EINVAL, "an initramfs of %zu bytes that is nowhere",
			       c->initramfs_bytes);
	if (c->initramfs_bytes >> 20 >= c->memory_mib)
		return err_set(err, E2BIG, "the initramfs of %zu bytes does not fit into %u MiB of "
			       "memory; give the guest more", c->initramfs_bytes, c->memory_mib);
	return 0;
}

static int init_fds(struct smolvm_vmm *vmm, int kernel_fd, struct smolvm_error *err)
{
	vmm->config.kernel_fd = fcntl(kernel_fd, F_DUPFD_CLOEXEC, 3);
	if (vmm->config.kernel_fd < 0)
		return err_sys(err, "kernel_fd %d", kernel_fd);
	vmm->exit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vmm->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vmm->loop = loop_create();
	if (vmm->exit_fd < 0 || vmm->quit_fd < 0 || !vmm->loop)
		return err_sys(err, "cannot make an event loop");
	return 0;
}

static void init_env(struct smolvm_vmm *vmm)
{
	const struct smolvm_vmm_config *c = &vmm->config;
	const char *name = c->name ? c->name : "vmm";

	vmm->env = (struct virtio_env){
		.mem = &vmm->memory.gmem,
		.loop = vmm->loop,
		.counters = &vmm->counters,
		.thread_started = c->thread_started,
		.thread_ctx = c->thread_started_ctx,
	};
	memcpy(vmm->env.name, name, strnlen(name, sizeof(vmm->env.name) - 1));
	vmm->config.name = vmm->env.name;
}

static int init_memory(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	const struct gmem *mem = &vmm->memory.gmem;
	int r = memory_init(&vmm->memory, vmm->config.memory_mib, arch_layout.low_bytes,
			    arch_layout.high_gpa, vmm->config.huge_pages,
			    vmm->config.shared_memory, err);

	for (unsigned int i = 0; i < mem->n_regions && !r; i++)
		r = vmm->ops->map(vmm->hv, i, mem->regions[i].gpa, mem->regions[i].hva,
				  mem->regions[i].bytes, err);
	return r;
}

static int init_vcpus(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	unsigned int cpus = vmm->config.cpus;
	int r = 0;

	vmm->vcpus = calloc(cpus, sizeof(*vmm->vcpus));
	if (!vmm->vcpus)
		return err_nomem(err);
	for (unsigned int i = 0; i < cpus && !r; i++) {
		vmm->vcpus[i].vmm = vmm;
		vmm->vcpus[i].index = i;
		r = vmm->ops->vcpu_create(vmm->hv, i, &vmm->vcpus[i].hv, err);
	}
	return r;
}

static int init_hypervisor(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	const struct smolvm_vmm_config *c = &vmm->config;
	struct hv_config config = { .kvm_fd = c->kvm_fd, .cpus = c->cpus,
				    .nested = c->nested != 0 };
	int r = vmm->ops->create(&vmm->hv, &config, err);

	if (r)
		return r;
	if (c->cpus > vmm->ops->cpus_max(vmm->hv))
		return err_set(err, EINVAL, "%u virtual CPUs are too many: this host allows %u",
			       c->cpus, vmm->ops->cpus_max(vmm->hv));
	r = init_memory(vmm, err);
	return r ? r : init_vcpus(vmm, err);
}

static void init_locks(struct smolvm_vmm *vmm)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&vmm->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vmm->changed, &attr);
	pthread_condattr_destroy(&attr);
}

int vmm_create_on(const struct hv_ops *ops, struct smolvm_vmm **ret,
		  const struct smolvm_vmm_config *config, struct smolvm_error *err)
{
	struct smolvm_vmm *vmm = calloc(1, sizeof(*vmm));
	int r;

	if (!vmm)
		return err_nomem(err);
	vmm->ops = ops;
	vmm->config = *config;
	vmm->config.kernel_fd = vmm->exit_fd = vmm->quit_fd = vmm->memory.fd = -1;
	vmm_stamp(&vmm->timeline.create);
	init_locks(vmm);
	vmm->quit_watch.fd = -1;
	r = check_config(&vmm->config, err);
	if (r == 0)
		r = cmdline_init(&vmm->cmdline, config->cmdline, err);
	if (r == 0)
		r = init_fds(vmm, config->kernel_fd, err);
	if (r == 0) {
		init_env(vmm);
		r = init_hypervisor(vmm, err);
	}
	if (r == 0)
		r = arch_ports(vmm);
	if (r) {
		smolvm_vmm_destroy(vmm);
		return r;
	}
	*ret = vmm;
	return 0;
}

/* ---- starting ------------------------------------------------------------------------------- */

static int load(struct smolvm_vmm *vmm, struct hv_boot *ret, struct smolvm_error *err)
{
	struct arch_boot boot = {
		.mem = &vmm->memory.gmem,
		.kernel_fd = vmm->config.kernel_fd,
		.initramfs = vmm->config.initramfs,
		.initramfs_bytes = vmm->config.initramfs_bytes,
		.cmdline = vmm->cmdline.text,
		.cpus = vmm->config.cpus,
	};
	int r = 0;

	for (unsigned int i = 0; i < vmm->n_devices && !r; i++)
		r = arch_describe(&vmm->cmdline, i, err);
	if (r == 0)
		r = arch_load(&boot, ret, err);
	fd_close(&vmm->config.kernel_fd);
	vmm->config.initramfs = NULL;
	if (r == 0)
		vmm_stamp(&vmm->timeline.loaded);
	return r;
}

static void quit(struct loop_watch *w, unsigned int events)
{
	loop_stop(((struct smolvm_vmm *)w->ctx)->loop, 0);
}

static void *io_thread(void *arg)
{
	struct smolvm_vmm *vmm = arg;
	int r = loop_run(vmm->loop);

	if (r < 0)
		vmm_end(vmm, SMOLVM_VMM_FAILED, -r, "the event loop has failed");
	return NULL;
}

static int start_loop(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	int r;

	vmm->quit_watch = (struct loop_watch){ .fd = vmm->quit_fd, .events = LOOP_READ,
					       .ready = quit, .ctx = vmm };
	r = loop_add(vmm->loop, &vmm->quit_watch);
	if (r)
		return err_set(err, -r, "cannot watch for the machine's end: %s", strerror(-r));
	vcpus_watch(vmm);
	r = virtio_thread(&vmm->env, SMOLVM_VMM_THREAD_IO, &vmm->io_thread, io_thread, vmm);
	if (r)
		return err_set(err, -r, "cannot start the machine's I/O thread: %s", strerror(-r));
	vmm->has_io_thread = true;
	return 0;
}

static int start(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	struct hv_boot boot;
	int r = load(vmm, &boot, err);

	for (unsigned int i = 0; i < vmm->n_devices && !r; i++)
		r = device_start(&vmm->devices[i], err);
	for (unsigned int i = 0; i < vmm->config.cpus && !r; i++)
		r = vmm->ops->vcpu_boot(vmm->vcpus[i].hv, i ? NULL : &boot, err);
	if (r == 0)
		r = start_loop(vmm, err);
	return r ? r : vcpus_start(vmm, err);
}

int smolvm_vmm_start(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	struct smolvm_error why = SMOLVM_ERROR_INIT;
	int r;

	if (vmm->tried_start)
		return err_set(err, EBUSY, "the machine has been started already");
	vmm->tried_start = true;
	vmm_stamp(&vmm->timeline.start);
	r = start(vmm, &why);
	if (r) {
		if (err)
			*err = why;
		vmm_end(vmm, SMOLVM_VMM_FAILED, -r, why.message);
		vcpus_join(vmm);
		return r;
	}
	pthread_mutex_lock(&vmm->lock);
	if (vmm->want == VMM_WANT_WAIT)
		vcpus_set(vmm, vmm->config.paused ? VMM_WANT_PAUSE : VMM_WANT_RUN);
	pthread_mutex_unlock(&vmm->lock);
	return 0;
}

/* ---- ending --------------------------------------------------------------------------------- */

void vmm_end(struct smolvm_vmm *vmm, enum smolvm_vmm_reason reason, int error, const char *text)
{
	uint64_t one = 1;

	pthread_mutex_lock(&vmm->lock);
	if (!vmm->end.reason) {
		vmm_stamp(&vmm->timeline.end);
		vmm->end.reason = reason;
		vmm->end.error = error;
		snprintf(vmm->end.text, sizeof(vmm->end.text), "%.*s",
			 (int)sizeof(vmm->end.text) - 1, text);
		vcpus_set(vmm, VMM_WANT_STOP);
		/* Otherwise the last vCPU does this. A fresh eventfd takes it. */
		if (!vmm->n_running && write(vmm->exit_fd, &one, sizeof(one)) < 0)
			vmm->end.error = errno;
	}
	pthread_mutex_unlock(&vmm->lock);
}

int smolvm_vmm_memory_fd(const struct smolvm_vmm *vmm)
{
	return vmm->memory.fd >= 0 ? vmm->memory.fd : -ENODEV;
}

int smolvm_vmm_exit_fd(const struct smolvm_vmm *vmm)
{
	return vmm->exit_fd;
}

static struct timespec deadline(int timeout_ms)
{
	int64_t at = clock_ns() + (int64_t)timeout_ms * 1000000;

	return (struct timespec){ .tv_sec = at / 1000000000, .tv_nsec = at % 1000000000 };
}

int smolvm_vmm_wait(struct smolvm_vmm *vmm, int timeout_ms, struct smolvm_vmm_exit *ret,
		    struct smolvm_error *err)
{
	struct timespec until = deadline(timeout_ms > 0 ? timeout_ms : 0);
	int r = 0;

	pthread_mutex_lock(&vmm->lock);
	while (!(vmm->end.reason && !vmm->n_running) && r != ETIMEDOUT) {
		if (timeout_ms < 0)
			pthread_cond_wait(&vmm->changed, &vmm->lock);
		else if (timeout_ms == 0)
			r = ETIMEDOUT;
		else
			r = pthread_cond_timedwait(&vmm->changed, &vmm->lock, &until);
	}
	if (vmm->end.reason && !vmm->n_running) {
		r = 0;
		if (ret)
			*ret = vmm->end;
	}
	pthread_mutex_unlock(&vmm->lock);
	return r ? err_set(err, ETIMEDOUT, "the machine still runs") : 0;
}

void smolvm_vmm_stop(struct smolvm_vmm *vmm)
{
	vmm_end(vmm, SMOLVM_VMM_STOPPED, 0, "the machine was stopped");
	pthread_mutex_lock(&vmm->lock);
	while (vmm->n_running)
		pthread_cond_wait(&vmm->changed, &vmm->lock);
	pthread_mutex_unlock(&vmm->lock);
}

int smolvm_vmm_pause(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	bool ended;

	pthread_mutex_lock(&vmm->lock);
	if (vmm->want == VMM_WANT_RUN)
		vcpus_set(vmm, VMM_WANT_PAUSE);
	while (vmm->want == VMM_WANT_PAUSE && vmm->n_held < vmm->n_running)
		pthread_cond_wait(&vmm->changed, &vmm->lock);
	ended = vmm->end.reason != 0;
	pthread_mutex_unlock(&vmm->lock);
	return ended ? err_set(err, ESRCH, "the machine has ended") : 0;
}

int smolvm_vmm_resume(struct smolvm_vmm *vmm, struct smolvm_error *err)
{
	bool ended;

	pthread_mutex_lock(&vmm->lock);
	if (vmm->want == VMM_WANT_PAUSE)
		vcpus_set(vmm, VMM_WANT_RUN);
	ended = vmm->end.reason != 0;
	pthread_mutex_unlock(&vmm->lock);
	return ended ? err_set(err, ESRCH, "the machine has ended") : 0;
}

static void stop_loop(struct smolvm_vmm *vmm)
{
	uint64_t one = 1;

	if (vmm->has_io_thread && write(vmm->quit_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(vmm->io_thread, NULL);
	loop_remove(vmm->loop, &vmm->quit_watch);
	loop_cancel(vmm->loop, &vmm->tick);
}

void smolvm_vmm_destroy(struct smolvm_vmm *vmm)
{
	if (!vmm)
		return;
	smolvm_vmm_stop(vmm);
	vcpus_join(vmm);
	for (unsigned int i = 0; i < vmm->n_devices; i++)
		virtio_mmio_reset(&vmm->devices[i].mmio);
	if (vmm->tried_start)
		stop_loop(vmm);
	for (unsigned int i = 0; i < vmm->n_devices; i++)
		device_fini(&vmm->devices[i]);
	vmm->ops->destroy(vmm->hv);
	memory_fini(&vmm->memory);
	loop_destroy(vmm->loop);
	if (vmm->has_serial)
		serial_fini(&vmm->serial);
	fd_close(&vmm->config.kernel_fd);
	fd_close(&vmm->exit_fd);
	fd_close(&vmm->quit_fd);
	pthread_cond_destroy(&vmm->changed);
	pthread_mutex_destroy(&vmm->lock);
	free(vmm->vcpus);
	free(vmm);
}

/* ---- figures -------------------------------------------------------------------------------- */

void smolvm_vmm_counters(struct smolvm_vmm *vmm, struct smolvm_vmm_counters *ret)
{
	const uint64_t *from = (const uint64_t *)&vmm->counters;
	uint64_t kinds[HV_EXIT_ERROR + 1] = { 0 };
	uint64_t *to = (uint64_t *)ret;

	for (size_t i = 0; i < sizeof(*ret) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < vmm->config.cpus; i++)
		for (unsigned int k = 0; k <= HV_EXIT_ERROR; k++)
			kinds[k] += __atomic_load_n(&vmm->vcpus[i].exits_by_kind[k],
						    __ATOMIC_RELAXED);
	ret->exits_mmio = kinds[HV_EXIT_MMIO];
	ret->exits_io = kinds[HV_EXIT_IO];
	ret->exits_halt = kinds[HV_EXIT_HALT];
	ret->exits_interrupted = kinds[HV_EXIT_INTERRUPTED];
	ret->exits_other = kinds[HV_EXIT_SHUTDOWN] + kinds[HV_EXIT_RESET] +
			   kinds[HV_EXIT_POWEROFF] + kinds[HV_EXIT_ERROR];
	ret->exits = ret->exits_mmio + ret->exits_io + ret->exits_halt + ret->exits_interrupted +
		     ret->exits_other;
}

void smolvm_vmm_timeline(struct smolvm_vmm *vmm, struct smolvm_vmm_timeline *ret)
{
	const int64_t *from = (const int64_t *)&vmm->timeline;
	int64_t *to = (int64_t *)ret;

	for (size_t i = 0; i < sizeof(*ret) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
