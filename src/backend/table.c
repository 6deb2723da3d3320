/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backends that there are.
 */
#include "backend/backend.h"

#include <string.h>

#include "base/fd.h"

const struct backend *const backend_table[] = {
	&backend_qemu,
	NULL,
};

const struct backend *backend_find(const char *name)
{
	for (const struct backend *const *b = backend_table; *b; b++)
		if (!strcmp((*b)->name, name))
			return *b;
	return NULL;
}

const char *accelerator_name(enum accelerator a)
{
	static const char *const names[] = { "", "tcg", "kvm" };

	return names[a];
}

void backend_vm_close(struct backend_vm *vm)
{
	fd_close(&vm->pidfd);
	fd_close(&vm->channel_fd);
	fd_close(&vm->console_fd);
	fd_close(&vm->messages_fd);
}
