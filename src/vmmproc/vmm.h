/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process of one machine: its parts and what they share.
 */
#ifndef VMMPROC_VMM_H
#define VMMPROC_VMM_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/buf.h"
#include "base/loop.h"
#include "proto/agent.h"
#include "proto/mux.h"

#define CHANNEL_BUFFER (256u << 10)
#define CONSOLE_KEPT (16u << 10)
#define MESSAGES_KEPT (4u << 10)

struct share;

/**
 * struct vmm - one machine.
 * @console_text, @messages_text: the last bytes of the guest's console and the hypervisor's own
 *                messages, for saying why it ended.
 * @ending:       the reason is known and told; nothing but the way out is left.
 */
struct vmm {
	struct loop *loop;
	struct mux *mux;
	struct backend_vm vm;
	const struct backend *backend;
	struct backend_spec spec;
	char *name, *run_dir, *backend_name, *program, *kernel;
	struct buf setup;
	bool ready, ending;

	struct loop_watch control_watch, listen_watch, pid_watch, channel_watch, console_watch,
		messages_watch, signal_watch;
	struct loop_timer deadline;
	struct buf control_in;
	struct buf channel_out;
	uint8_t *channel_in; /* CHANNEL_BUFFER bytes */
	struct buf console_text, messages_text;

	struct share *shares[SHARES_MAX];
	bool share_read_only[SHARES_MAX];
	unsigned int n_shares;
	unsigned int n_relays;
	int spare_fd; /* given up for a moment when there are no more descriptors */
};

/* main.c */

/** vmm_end() - the machine ends now; @error positive errno, the text for a person. Once. */
void vmm_end(struct vmm *v, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* spec.c */

/** spec_parse() - fill in @v from the body of VMM_SPEC. Return: 0 or -errno with @err. */
int spec_parse(struct vmm *v, const uint8_t *body, size_t len, struct smolvm_error *err);

/* channel.c */

/** channel_start() - begin to speak to the agent. Return: 0 or -errno. */
int channel_start(struct vmm *v);

/** channel_flush() - send what the streams have to say; at the end of every event. */
void channel_flush(struct vmm *v);

/* boot.c */

/** boot_setup() - the agent has greeted: tell it what to mount; vmm_ready() or vmm_end() follow. */
void boot_setup(struct vmm *v);

/** vmm_greeted() - in main.c: the agent has said hello. */
void vmm_greeted(struct vmm *v);

/** vmm_ready() - in main.c: the agent has done what it was told. */
void vmm_ready(struct vmm *v);

/* relay.c */

/** relay_accept() - a client has connected to the machine's socket. */
void relay_accept(struct vmm *v, int fd);

/* share.c */

/**
 * share_create() - serve the directory or file behind @root_fd (taken over) to the guest.
 * Return: 0 or -errno with @err.
 */
int share_create(struct vmm *v, unsigned int number, int root_fd, bool read_only,
		 struct smolvm_error *err);

/** share_incoming() - the agent asks for share @number. Return: 0 or -errno, as mux_events. */
int share_incoming(struct vmm *v, struct mux_stream *s, unsigned int number);

#endif
