/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process of one machine: its parts and what they share.
 */
#ifndef VMMPROC_VMM_H
#define VMMPROC_VMM_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/run.h"
#include "base/buf.h"
#include "base/loop.h"
#include "jail/jail.h"
#include "proto/agent.h"
#include "proto/msg.h"
#include "proto/mux.h"
#include "proto/vmm.h"

#define CHANNEL_BUFFER (256u << 10)
#define CONSOLE_KEPT (16u << 10)
#define MESSAGES_KEPT (4u << 10)

struct fileserver;

/**
 * struct share - a shared folder.
 * @device:   the backend makes a device of it; else @server serves it, over a connection whose
 *            number is written to @orders.
 * @arrived:  the agent has connected to its port. Any thread, atomic.
 * @watch, @preamble, @preamble_len: the connection while its preamble is being read.
 */
struct share {
	struct vmm *vmm;
	unsigned int number;
	bool read_only, device;
	bool arrived;
	struct fileserver *server;
	int orders;
	struct loop_watch watch;
	uint8_t preamble[SHARE_PREAMBLE];
	size_t preamble_len;
};

/**
 * struct vmm - one machine.
 * @mux:          the streams on the channel; NULL where the machine has connections of its own.
 * @console_text, @messages_text: the last bytes of the guest's console and the hypervisor's own
 *                messages, for saying why it ended.
 * @arrivals:     a pipe: connections of the guest's, on their way to the event loop.
 * @hello_arrived: as struct share's @arrived. @hello_in: what the agent has said there.
 * @parent, @death: of the supervisor. @no_jail: nothing is confined.
 * @ending:       the reason is known and told; nothing but the way out is left.
 */
struct vmm {
	struct loop *loop;
	struct mux *mux;
	struct backend_vm vm;
	struct backend_spec spec;
	const struct backend_runner *runner;
	char *name, *run_dir, *backend_name, *program, *kernel;
	struct buf setup;
	bool ready, ending;

	struct loop_watch control_watch, listen_watch, end_watch, channel_watch, console_watch,
		messages_watch, signal_watch, arrivals_watch, hello_watch;
	struct loop_timer deadline;
	struct buf channel_out;
	uint8_t *channel_in; /* CHANNEL_BUFFER bytes */
	struct buf console_text, messages_text;
	int arrivals[2];
	bool hello_arrived;
	uint8_t hello_in[MSG_HEADER + CARRIER_HELLO_BODY];
	size_t hello_len;

	struct share shares[SHARES_MAX];
	unsigned int n_shares;
	bool stream_shares; /* no share is a device */
	unsigned int n_relays;
	pid_t parent;
	bool no_jail;
	struct jail jail;
	struct jail_death *death;
	struct jail_program jail_program;
	int spare_fd; /* given up for a moment when there are no more descriptors */
};

/* main.c */

/** vmmproc_end() - the machine ends now; @error positive errno, the text for a person. Once. */
void vmmproc_end(struct vmm *v, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** vmmproc_greeted() - the agent has said hello. */
void vmmproc_greeted(struct vmm *v);

/** vmmproc_ready() - the agent has done what it was told. */
void vmmproc_ready(struct vmm *v);

/** vmmproc_tell_ended() - tell the client why the machine has ended; the last message to it. */
void vmmproc_tell_ended(int error, const char *text);

/* supervise.c */

/**
 * supervise() - part the process in two. Returns in the one that is to be the machine: 0, or -errno
 * with @err; the other one stays in here until the end, and exits with its status.
 */
int supervise(struct vmm *v, struct smolvm_error *err);

/** supervise_end_with_parent() - have this process killed with its parent. 0, or -ESRCH. */
int supervise_end_with_parent(pid_t parent_pid);

/** supervise_clear() - remove a machine's folder and its lock. NULL is allowed. */
void supervise_clear(const char *run_dir);

/* confine.c */

/** confine_prepare() - what the backend must know before it opens anything. */
void confine_prepare(struct vmm *v);

/** confine() - everything is open and there is one thread: confine the process. 0 or -errno. */
int confine(struct vmm *v, struct smolvm_error *err);

/** confine_thread() - the calling thread is of @kind, and does nothing else. 0 or -errno. */
int confine_thread(struct vmm *v, enum jail_kind kind);

/** confine_report() - print which layers are in force here. Return: the exit status. */
int confine_report(void);

/* spec.c */

/** spec_parse() - fill in @v from the body of VMM_SPEC. Return: 0 or -errno with @err. */
int spec_parse(struct vmm *v, const uint8_t *body, size_t len, struct smolvm_error *err);

/* ending.c: what the guest and the hypervisor say, and what that tells */

/** ending_watch() - begin to listen. Return: 0 or -errno. */
int ending_watch(struct vmm *v);

/** ending_last_line() - the last line on the console with anything in it. */
void ending_last_line(const struct vmm *v, char *ret, size_t cap);

/* carrier.c: connections, whatever carries them */

/** carrier_start() - get ready to speak to the agent, after the backend's open(). 0 or -errno. */
int carrier_start(struct vmm *v);

/**
 * carrier_connect() - join @fd, a connected stream socket, with @port of the agent: "OK <port>\n"
 * is written to it when the agent has accepted, then come the agent's bytes; it is closed when the
 * agent refuses. @fd is taken in any case.
 */
void carrier_connect(struct vmm *v, uint32_t port, int fd);

/**
 * carrier_incoming() - the agent connects to @port of the host. In any thread; must not block.
 * Return: a connected stream socket, the other end of which goes its way here; or -errno.
 */
int carrier_incoming(struct vmm *v, uint32_t port);

/* channel.c: the carrier that is one byte channel */

/** channel_start() - begin to speak to the agent. Return: 0 or -errno. */
int channel_start(struct vmm *v);

/** channel_flush() - send what the streams have to say; at the end of every event. */
void channel_flush(struct vmm *v);

/* join.c: a stream of the channel and a socket */

/** join_connect() - carrier_connect() by a new stream. */
void join_connect(struct vmm *v, uint32_t port, int fd);

/** join_accept() - accept @s and join it with @fd, which is taken in any case. 0 or -errno. */
int join_accept(struct vmm *v, struct stream *s, int fd);

/* call.c */

/**
 * call_agent() - send one request to @port of the agent.
 * @body:     of the message; its bytes are taken out of it.
 * @answered: called once: with the answer, or NULL and a negative errno (0: it just ended).
 * Return: 0 or -errno.
 */
int call_agent(struct vmm *v, uint32_t port, uint8_t type, struct buf *body,
	       void (*answered)(struct vmm *v, const struct msg *m, int error));

/* boot.c */

/** boot_setup() - the agent has greeted: tell it what to mount. vmmproc_ready() or an end. */
void boot_setup(struct vmm *v);

/* relay.c */

/** relay_accept() - a client has connected to the machine's socket. */
void relay_accept(struct vmm *v, int fd);

/* share.c */

/**
 * share_create() - get ready to serve share @number, which is no device. Takes @root_fd over.
 * Return: 0 or -errno with @err.
 */
int share_create(struct vmm *v, unsigned int number, int root_fd, struct smolvm_error *err);

/** share_start_all() - make the threads of shares, which wait. 0, or -errno with @err. */
int share_start_all(struct vmm *v, struct smolvm_error *err);

/** share_arrived() - the agent has connected to the port of share @number; @fd is taken. */
void share_arrived(struct vmm *v, unsigned int number, int fd);

#endif
