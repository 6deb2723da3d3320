/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the ways to run a machine have in common.
 */
#include "backend/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"

static const struct backend_runner *const runners[] = {
#if defined(__x86_64__)
	&backend_run_builtin,
#endif
	&backend_run_qemu,
};

const struct backend_runner *backend_runner_find(const char *name)
{
	for (size_t i = 0; i < sizeof(runners) / sizeof(runners[0]); i++)
		if (!strcmp(runners[i]->name, name))
			return runners[i];
	return NULL;
}

void backend_vm_close(struct backend_vm *vm)
{
	fd_close(&vm->end_fd);
	fd_close(&vm->channel_fd);
	fd_close(&vm->console_fd);
	fd_close(&vm->messages_fd);
}

/* A guest that has KVM of its own does not switch it on before it is used. */
/* A guest's KVM takes hold of the processor with its first machine, not before. Where there is
 * nothing to take hold of, it would say so: two lines, an exit for every character. */
#define WITH_KVM    " kvm.enable_virt_at_load=0"
#define WITHOUT_KVM " initcall_blacklist=vmx_init,svm_init"

int backend_cmdline(const struct backend_spec *s, const char *more, char *ret, size_t cap)
{
	int n = snprintf(ret, cap,
			 "console=ttyS0 reboot=t panic=-1%s%s dummy.numdummies=0%s",
			 s->verbose ? "" : " quiet", s->nested ? WITH_KVM : WITHOUT_KVM, more);

	return n < 0 || (size_t)n >= cap ? -E2BIG : 0;
}
