/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When and how the machine's process is confined; what each layer is, src/jail/ knows.
 *
 * The process opens everything, enters the layers that threads inherit, makes its threads, each of
 * which begins by giving up what its kind does not need, does the same with its main thread, and
 * only then lets the guest run. A hypervisor that is another program gets the outer
 * layers before it is executed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmmproc/vmm.h"

/* What is neither noted nor known to be evil ends the process: for finding missing notes. */
#define STRICT_VARIABLE "SMOLVM_JAIL_STRICT"

static int on_thread(void *ctx, enum smolvm_vmm_thread kind)
{
	static const enum jail_kind kinds[] = {
		[SMOLVM_VMM_THREAD_VCPU] = JAIL_VCPU,
		[SMOLVM_VMM_THREAD_IO] = JAIL_IO,
		[SMOLVM_VMM_THREAD_WORKER] = JAIL_WORKER,
		[SMOLVM_VMM_THREAD_FS] = JAIL_FS,
	};

	return confine_thread(ctx, kinds[kind]);
}

void confine_prepare(struct vmm *v)
{
	if (v->no_jail)
		return;
	v->jail_program = (struct jail_program){ .program = v->spec.program,
						 .kernel = v->spec.kernel,
						 .kvm = v->spec.accelerator == ACCEL_KVM };
	v->spec.confine = jail_enter_program;
	v->spec.confine_ctx = &v->jail_program;
	v->spec.events.thread_started = on_thread;
}

int confine(struct vmm *v, struct smolvm_error *err)
{
	struct jail_config config = { .child = v->vm.pid > 0,
				      .strict = getenv(STRICT_VARIABLE) != NULL,
				      .death = v->death };
	int rc;

	if (v->no_jail)
		return 0;
	for (unsigned int i = 0; i < v->n_shares; i++)
		config.shares[config.n_shares++] = (struct jail_share){
			VMM_FD_SHARE + (int)i, v->shares[i].read_only
		};
	rc = jail_enter(&v->jail, &config, err);
	/* A change of identity may have undone it. */
	if (rc == 0 && supervise_end_with_parent(v->parent) < 0)
		rc = err_set(err, ESRCH, "the supervisor is gone");
	return rc;
}

int confine_thread(struct vmm *v, enum jail_kind kind)
{
	return v->no_jail ? 0 : jail_thread(&v->jail, kind);
}

/* One line for each layer: its name, "on" or "off", and more about it; tabs between them. */
int confine_report(void)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct jail_config config = { 0 };
	struct jail *jail = calloc(1, sizeof(*jail));

	if (!jail)
		return 1;
	jail_enter(jail, &config, &err);
	for (unsigned int i = 0; i < JAIL_LAYERS; i++) {
		struct jail_status *s = &jail->layers[i];

		int rc = i == JAIL_SECCOMP && s->on ? jail_thread(jail, JAIL_MAIN) : 0;

		if (rc < 0) {
			s->on = false;
			snprintf(s->text, sizeof(s->text), "refused: %s", strerror(-rc));
		}
		printf("%s\t%s\t%s\n", jail_layer_name(i), s->on ? "on" : "off", s->text);
	}
	fflush(stdout);
	_exit(0); /* a confined process has nothing to put in order */
}
