/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running command and its stream; for exec.c and exec_io.c.
 */
#ifndef AGENT_EXEC_H
#define AGENT_EXEC_H

#include "agent/agent.h"
#include "agent/command.h"
#include "agent/sender.h"
#include "proto/agent.h"

#define EXECS_MAX      512u
#define EXEC_GRACE_MS  50   /* for output of what the command left running behind it */
#define EXEC_HANGUP_MS 2000 /* from SIGHUP to SIGKILL when the client is gone */

enum exec_state {
	EXEC_WAITING,  /* for the request */
	EXEC_STARTING, /* the process is there, the program perhaps not */
	EXEC_RUNNING,
	EXEC_DRAINING, /* it has ended; its output not */
	EXEC_FINISHED, /* the last message is sent */
};

/**
 * struct exec_output - standard output or error.
 * @fd:      -1 once it has ended or nobody wants it.
 * @window:  bytes that the client will still take.
 * @drained: bytes read since the grace after the command's end was over.
 */
struct exec_output {
	struct exec *exec;
	int fd;
	struct loop_watch watch;
	uint32_t window;
	uint32_t drained;
	uint8_t type;
};

/**
 * struct exec_input - standard input.
 * @fd:     -1 once it is closed.
 * @queue:  bytes that the command has not read.
 * @window: bytes that the client may still send.
 * @due:    bytes to give back to it.
 * @ended:  the client sends no more; to be passed on after the queue.
 * @last:   the last byte passed on.
 */
struct exec_input {
	struct exec *exec;
	int fd;
	struct loop_watch watch;
	struct buf queue;
	uint32_t window, due;
	bool ended;
	uint8_t last;
};

/**
 * struct exec - a command and its stream. It lives as long as one of the two.
 * @in:         a message that has not arrived whole.
 * @out:        messages that the stream had no room for.
 * @pid:        0 when there is no process (any more).
 * @pumped:     standard streams are sockets of a process that ends them (pump.h).
 * @hung_up:    the client is gone; its output is thrown away.
 * @grace_over: what can be read now is the last.
 * @timer:      the grace, or the time until SIGKILL.
 */
struct exec {
	struct agent *agent;
	enum exec_state state;
	struct buf in;
	struct sender out;
	struct child child;
	pid_t pid;
	int status;
	int status_fd;
	struct loop_watch status_watch;
	struct exec_input input;
	struct exec_output output[2];
	bool tty, detach, pumped, hung_up, grace_over;
	struct loop_timer timer;
};

/** exec_io_init() - no descriptors yet, windows full. */
void exec_io_init(struct exec *e);

/** exec_io_begin() - the program runs: move its output from now on. */
void exec_io_begin(struct exec *e);

/** exec_io_close() - close all of its standard streams. */
void exec_io_close(struct exec *e);

/**
 * exec_io_grace_over() - the command has ended a while ago: what can be read at once is the last.
 */
void exec_io_grace_over(struct exec *e);

/** exec_input_add() - bytes from the client. Return: 0, -EPROTO over the window, -ENOMEM. */
int exec_input_add(struct exec *e, const uint8_t *p, size_t n);

/** exec_input_end() - the client sends no more input. */
void exec_input_end(struct exec *e);

/** exec_output_close() - stop reading one output. */
void exec_output_close(struct exec_output *o);

/**
 * exec_output_pump() - move what the command has written, as far as window and stream have room.
 */
void exec_output_pump(struct exec_output *o);

/** exec_progress() - something has changed: go on with whatever can go on. */
void exec_progress(struct exec *e);

#endif
