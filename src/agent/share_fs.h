/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared folders that are virtio-fs devices: the host is told who owns their files.
 */
#ifndef AGENT_SHARE_FS_H
#define AGENT_SHARE_FS_H

#include "agent/agent.h"
#include "proto/agent.h"

/**
 * struct share_fs - the folders that the host has not answered for.
 * @done:    called once when it has for all: 0, or -errno when it does not serve one, @number.
 * @pending: their streams.
 */
struct share_fs {
	void (*done)(void *ctx, int result, uint32_t number);
	void *ctx;
	bool failed;
	unsigned int n_pending;
	struct share_fs_one {
		struct share_fs *all;
		struct stream *stream;
		uint32_t number;
	} pending[SHARES_MAX];
};

/**
 * share_fs_add() - tell the host of @uid and @gid for share @number. done and ctx are filled in;
 * done() is not called before this returns to the loop.
 *
 * Return: 0 or -errno; share_fs_cancel() it then.
 */
int share_fs_add(struct agent *a, struct share_fs *f, uint32_t number, uint32_t uid, uint32_t gid);

/** share_fs_cancel() - nobody wants to know any more; done() is not called. */
void share_fs_cancel(struct share_fs *f);

#endif
