/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a machine out of a kernel that has booted: identity, root file system, shared folders.
 */
#ifndef AGENT_SETUP_H
#define AGENT_SETUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/agent.h"
#include "proto/agent.h"

#define SETUP_ENTROPY_MIN 32u
#define SETUP_ENTROPY_MAX 512u
#define SETUP_STRING_MAX  4095u /* PATH_MAX */

/**
 * struct share_spec - a shared folder to mount.
 */
struct share_spec {
	char *path;
	uint32_t number;
	bool read_only, is_file;
};

/**
 * struct setup - the request; strings are NULL when they were not given.
 * @fs_shares: bit n: share number n is a virtio-fs device; not for single files, which those
 *             cannot have as their root.
 */
struct setup {
	char *hostname, *root_device, *write_device, *user;
	uint64_t time_ns;
	uint8_t entropy[SETUP_ENTROPY_MAX];
	size_t entropy_len;
	bool read_only;
	struct share_spec shares[SHARES_MAX];
	size_t n_shares;
	uint64_t fs_shares;
};

/**
 * setup_parse() - read the TLVs of CONTROL_SETUP; *@s is zeroed first. Pure.
 *
 * Return: 0, -EINVAL (an unknown key, a value out of range), -EBADMSG, -ENOMEM. setup_fini() it in
 * each case.
 */
int setup_parse(struct setup *s, const uint8_t *body, size_t len, struct smolvm_error *err);
void setup_fini(struct setup *s);

/** setup_done_fn - how it ended: 0 or -errno, with @err filled in. */
typedef void setup_done_fn(void *ctx, int result, struct smolvm_error *err);

/**
 * setup_start() - do what CONTROL_SETUP asks for; @done is called once, perhaps before this
 * returns.
 */
void setup_start(struct agent *a, const uint8_t *body, size_t len, setup_done_fn *done, void *ctx);

#endif
