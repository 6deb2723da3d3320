/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent understands: its ports, and the messages on each.
 *
 * All messages are those of proto/msg.h; bodies marked TLV are lists of proto/tlv.h values. A
 * receiver refuses a key that it does not know: both sides come from one build, or have agreed on
 * features in the hello.
 */
#ifndef PROTO_AGENT_H
#define PROTO_AGENT_H

#include <stdint.h>

/* Ports of the agent, opened by the host. */
#define AGENT_PORT_CONTROL 1u /* one request, one answer, then FIN: enum control_msg */
#define AGENT_PORT_EXEC 2u    /* one command: enum exec_msg */
#define AGENT_PORT_ECHO 3u    /* every byte comes back */
#define AGENT_PORT_DISCARD 4u /* takes bytes until FIN, then FIN */

/* Ports of the host, opened by the agent: share number n at HOST_PORT_SHARE + n, each once. */
#define HOST_PORT_SHARE 0x1000u
#define SHARES_MAX 64u

/* ---- the carrier ---- */

/*
 * What carries the streams: the multiplexer of proto/mux.h over one byte channel, or, where the
 * machine has sockets to the host (vsock), a connection for each stream, to the same ports. The
 * agent is told of sockets by this variable of its environment, which stands on the kernel's
 * command line.
 */
#define AGENT_CARRIER_VARIABLE "SMOLVM_CARRIER"
#define AGENT_CARRIER_VSOCK "vsock"

/*
 * Over sockets the agent connects to this port of the host first, once, and sends CARRIER_HELLO:
 * u32 version, u32 features, little endian. The host answers with its own, and both keep the
 * connection open: when it ends, the other side is gone.
 */
#define AGENT_HELLO_PORT 0xfffu
#define CARRIER_VERSION 1u
#define CARRIER_HELLO_BODY 8u
enum carrier_msg { CARRIER_HELLO = 1 };

/* ---- control ---- */

enum control_msg {
	CONTROL_SETUP = 1, /* to the agent, TLV of enum setup_key; once, before any command */
	CONTROL_SHUTDOWN,  /* to the agent, empty: sync, unmount, then power off */
	CONTROL_SYNC,      /* to the agent, empty: flush every file system */
	CONTROL_OK = 64,   /* from the agent, empty */
	CONTROL_ERROR,     /* from the agent, TLV of enum failure_key */
};

enum setup_key {
	SETUP_HOSTNAME = 1, /* string */
	SETUP_TIME_NS,      /* u64: CLOCK_REALTIME */
	SETUP_ENTROPY,      /* 32 bytes, or more */
	SETUP_ROOT_DEVICE,  /* string: "/dev/vda", holding EROFS */
	SETUP_WRITE_DEVICE, /* string: "/dev/vdb", holding ext4; none: a tmpfs takes the writes */
	SETUP_READ_ONLY,    /* u64 1: writes are refused, but in /tmp, /run and /var/tmp */
	SETUP_USER,         /* string as for EXEC_USER: who owns shared files */
	SETUP_SHARE,        /* nested TLV of enum share_key; in the order to mount */
	SETUP_FS_SHARES,    /* u64: bit n: share n is a virtio-fs device; SHARE_TAG */
};

enum share_key {
	SHARE_NUMBER = 1, /* u64, below SHARES_MAX */
	SHARE_PATH,       /* string: absolute path in the guest; made when missing */
	SHARE_READ_ONLY,  /* u64 1 */
	SHARE_IS_FILE,    /* u64 1: a single file and no directory */
};

enum failure_key {
	FAILURE_ERRNO = 1, /* u64 */
	FAILURE_TEXT,      /* string, one line */
};

/*
 * A share's stream starts with this many bytes from the agent: uid (u32) and gid (u32), little
 * endian, that SETUP_USER means in the image. What follows is the kernel's FUSE protocol as it is,
 * each message framed by the length it begins with: requests to the host, replies to the guest.
 */
#define SHARE_PREAMBLE 8u
/*
 * A share that is a virtio-fs device has this tag, its number behind it ("share0"). The agent sends
 * the preamble alone to the share's port, before it mounts: one byte 0 comes back, then the stream
 * ends. Only a directory can be one: the kernel takes the root of each virtio-fs for a directory.
 */
#define SHARE_TAG "share"
/* The most bytes of a FUSE message: 1 MiB of data, and headers. */
#define SHARE_DATA_MAX (1u << 20)
#define SHARE_MESSAGE_MAX (SHARE_DATA_MAX + 4096u)

/* ---- exec ---- */

/*
 * The client sends EXEC_REQUEST first; the agent answers EXEC_STARTED or EXEC_FAILED. Standard
 * streams have windows of their own inside the stream, so that a reader that is slow on one does
 * not hold back the other: a side sends at most EXEC_WINDOW bytes of EXEC_STDIN, EXEC_STDOUT or
 * EXEC_STDERR beyond those that the other has returned with EXEC_WINDOW_ADD. EXEC_EXIT is the
 * agent's last message, after all output: it then sends FIN. A stream that ends without it has
 * lost the machine; a client that ends it early hangs the command up (SIGHUP, then SIGKILL), unless
 * it was started with EXEC_DETACH.
 */
enum exec_msg {
	EXEC_REQUEST = 1, /* TLV of enum exec_key */
	EXEC_STDIN,       /* bytes; an empty body is the end of the input */
	EXEC_RESIZE,      /* u16 rows, u16 columns */
	EXEC_SIGNAL,      /* u8: sent to the command's process group */
	EXEC_CLOSE, /* u8 1 or 2: nobody reads this output any more; the command gets SIGPIPE */
	EXEC_WINDOW_ADD,   /* u8 stream (0, 1, 2), u32 bytes; in both directions */
	EXEC_STARTED = 64, /* u32: process id in the guest */
	EXEC_FAILED,       /* TLV of enum failure_key: not started, and why; the last message */
	EXEC_STDOUT,       /* bytes */
	EXEC_STDERR,       /* bytes; not with a terminal */
	EXEC_EXIT,         /* u8 1 when a signal ended it, u8 exit code or signal */
};

#define EXEC_WINDOW (256u << 10)
#define EXEC_DATA_MAX (32u << 10) /* body of EXEC_STDIN, EXEC_STDOUT, EXEC_STDERR */

enum exec_key {
	EXEC_ARG = 1, /* string; repeated: the command and its arguments */
	EXEC_ENV,  /* string NAME=VALUE; repeated; PATH, HOME and TERM are filled in if missing */
	EXEC_CWD,  /* string: absolute; made when missing; "/" by default */
	EXEC_USER, /* string: user, uid, user:group, uid:gid...; root by default */
	EXEC_TTY,  /* u64: rows << 16 | columns: run on a terminal of that size */
	EXEC_NO_STDIN, /* u64 1: standard input is /dev/null */
	EXEC_DETACH,   /* u64 1: outlives the stream; no standard streams */
};

#endif
