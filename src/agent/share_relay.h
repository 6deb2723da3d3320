/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay of one shared folder; for share.c and share_mount.c.
 */
#ifndef AGENT_SHARE_RELAY_H
#define AGENT_SHARE_RELAY_H

#include "agent/agent.h"
#include "agent/sender.h"
#include "proto/agent.h"

/**
 * struct share - one folder.
 * @fd:    /dev/fuse.
 * @out:   the stream, and the rest of a request that it had no room for.
 * @reply: a reply that has not arrived whole.
 */
struct share {
	struct agent *agent;
	uint32_t number;
	int fd;
	struct loop_watch watch;
	struct sender out;
	struct buf reply;
};

/** share_create() - open /dev/fuse and the stream. @number is not in use. Return: 0 or -errno. */
int share_create(struct agent *a, uint32_t number, uint32_t uid, uint32_t gid,
		 struct smolvm_error *err);

/** share_fd() - what to mount with; -1 when the host has ended the share. */
int share_fd(uint32_t number);

/** share_begin() - it is mounted: carry requests from now on. */
void share_begin(uint32_t number);

#endif
