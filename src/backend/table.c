/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backends that there are.
 */
#include "backend/backend.h"

#include <string.h>

static const struct backend builtin = { "builtin", builtin_probe };
static const struct backend qemu = { "qemu", qemu_probe };

const struct backend *const backend_table[] = {
	&builtin,
	&qemu,
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
