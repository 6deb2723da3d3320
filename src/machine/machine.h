/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside libsmolvm's machines.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include <smolvm/smolvm.h>
#include <smolvm/vmm.h>

#include "backend/backend.h"
#include "base/buf.h"

/**
 * struct smolvm_machine - a running machine, as its owner sees it.
 * @run_dir:    its folder; @socket_path: where streams to the agent are opened.
 * @control_fd: to its smolvm-vmm: while it is open the machine lives.
 * @lock:       guards @control_in, @ended and @ended_text.
 */
struct smolvm_machine {
	char *name;
	char *runs_dir, *run_dir, *socket_path;
	pid_t vmm_pid;
	int vmm_pidfd;
	int control_fd;
	int64_t phase_ns[SMOLVM_PHASES];
	int64_t spawned_ns;
	struct smolvm_machine_boot boot;
	struct smolvm_vmm_counters counters;
	pthread_mutex_t lock;
	struct buf control_in;
	bool ended;
	int ended_errno;
	char ended_text[SMOLVM_ERROR_MESSAGE_MAX];
};

/* control.c: what reaches a call that blocks */

enum control_type { CONTROL_RECORD_SIGNAL = 1, CONTROL_RECORD_RESIZE, CONTROL_RECORD_CANCEL };

struct control_record {
	int type;
	int a, b;
};

/** control_fd() - becomes readable when there is a record; -1 for NULL. */
int control_fd(const struct smolvm_control *c);

/** control_take() - the next record. Return: whether there was one. */
bool control_take(struct smolvm_control *c, struct control_record *ret);

/* choose.c: where to run */

/**
 * choose_backend() - the backend to use, asked for or the first usable one.
 * @s:    for remembering what was measured; may be NULL.
 * @name: NULL: $SMOLVM_BACKEND, else any.
 *
 * Return: 0, -EINVAL (no such backend), -ENOENT (not usable: the message says why).
 */
int choose_backend(const struct smolvm *s, const char *name, const struct backend **ret,
		   struct backend_probe *ret_probe, struct smolvm_error *err);

/**
 * choose_host() - what is known of this host.
 * @s:    where what was measured is remembered; may be NULL.
 * @anew: measure KVM also when it has been, and remember that instead.
 */
void choose_host(const struct smolvm *s, bool anew, struct backend_host *ret);

/* files.c: what belongs to smolvm itself */

/** program_file() - the path of "smolvm-vmm" or "vmlinux"; the caller's to free(). NULL: none. */
char *program_file(const char *name);

/** kernel_check() - Return: 0, or -errno with @err when @path holds no kernel for this host. */
int kernel_check(const char *path, struct smolvm_error *err);

/* scratch.c: the disk that takes a machine's writes */

/**
 * scratch_create() - an empty ext4 of @mib MiB, sparse, already unlinked.
 * Return: a descriptor, or -errno with @err.
 */
int scratch_create(const struct smolvm *s, unsigned int mib, struct smolvm_error *err);

/* config.c: checking and encoding a configuration */

/** config_check() - Return: 0, or -EINVAL naming what is wrong. */
int config_check(const struct smolvm_machine_config *c, struct smolvm_error *err);

/** config_open_share() - Return: an O_PATH descriptor of the share's host side, or -errno. */
int config_open_share(const struct smolvm_share *share, bool *ret_is_file,
		      struct smolvm_error *err);

/**
 * struct machine_plan - what a machine is started with, gathered from configuration and host.
 */
struct machine_plan {
	const struct smolvm_machine_config *config;
	const struct smolvm_image *image;
	const struct backend *backend;
	struct backend_probe probe;
	const char *name;
	const char *run_dir;
	const char *kernel;
	bool own_kernel;
	bool has_scratch;
	const bool *share_is_file;
};

/** config_encode() - the body of VMM_SPEC. Return: 0 or -errno with @err. */
int config_encode(const struct machine_plan *plan, struct buf *b, struct smolvm_error *err);

/* machine.c */

/** machine_ended() - whether it has ended; then why, as @err. Waits up to @wait_ms for the news. */
int machine_ended(struct smolvm_machine *m, int wait_ms, struct smolvm_error *err);

/** machine_connect() - open a stream to @port of the agent. Return: a socket or -errno. */
int machine_connect(struct smolvm_machine *m, unsigned int port, struct smolvm_error *err);

#endif
