/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's command line, with the devices that it is told of there.
 */
#ifndef VMM_CMDLINE_H
#define VMM_CMDLINE_H

#include <smolvm/error.h>
#include <smolvm/vmm.h>

/** struct cmdline - @bytes characters and a NUL. */
struct cmdline {
	char text[SMOLVM_VMM_CMDLINE_MAX + 1];
	unsigned int bytes;
};

/** cmdline_init() - begin with the caller's own (NULL: nothing). -E2BIG. */
int cmdline_init(struct cmdline *c, const char *text, struct smolvm_error *err);

/**
 * cmdline_add() - one more parameter, for the kernel: before a "--", behind which everything is
 * init's. -E2BIG.
 */
int cmdline_add(struct cmdline *c, const char *parameter, struct smolvm_error *err);

#endif
