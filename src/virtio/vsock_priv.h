/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device's own: packets (vsock.c) and connections (vsock_conn.c).
 *
 * Every function here is called with the device's lock held. What touches the event loop or a
 * socket is called in the I/O thread; vsock_put() in any.
 */
#ifndef VIRTIO_VSOCK_PRIV_H
#define VIRTIO_VSOCK_PRIV_H

#include <stddef.h>

#include "base/buf.h"
#include "virtio/devices.h"

#define VSOCK_CID_HOST	2u
#define VSOCK_CID_FIRST 3u /* the lowest a guest may have */

#define VSOCK_QUEUE_SIZE      128u
#define VSOCK_PAYLOAD_MAX     (64u << 10) /* of one packet, either way */
#define VSOCK_RX_BUFFER_MAX   (1u << 20)  /* of one buffer that the guest gives */
#define VSOCK_SLOTS	      16u	  /* guest buffers filled by one read; a power of two */
#define VSOCK_PIECES_MAX      512u	  /* ... and the pieces that they consist of */
#define VSOCK_CONNECTIONS_MAX 1024u
#define VSOCK_INCOMING_MAX    768u /* of these, opened by the guest */
#define VSOCK_RESETS_MAX      64u  /* refusals that wait for a buffer of the guest */
#define VSOCK_BUCKETS	      256u
#define VSOCK_GREETING_MAX    63u
#define VSOCK_ANSWER_MS	      10000 /* for a request, and for the end of a connection */
#define VSOCK_SWEEP_MS	      1000
#define VSOCK_TX_QUIET_MS     2 /* how late the guest may hear that its packets were taken */
/* What a connection holds for a host that does not read; less where there are many of them. */
#define VSOCK_BUFFER_BYTES	 (256u << 10)
#define VSOCK_BUFFER_BYTES_SMALL (64u << 10)
#define VSOCK_BUFFER_MANY	 64u

/* virtio 1.2 §5.10.6. */
enum vsock_type {
	VSOCK_TYPE_STREAM = 1,
};

enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE,
	VSOCK_OP_RST,
	VSOCK_OP_SHUTDOWN,
	VSOCK_OP_RW,
	VSOCK_OP_CREDIT_UPDATE,
	VSOCK_OP_CREDIT_REQUEST,
};

/* Of a SHUTDOWN: its sender will receive, will send, no more. */
#define VSOCK_DOWN_RCV	1u
#define VSOCK_DOWN_SEND 2u
#define VSOCK_DOWN_BOTH 3u

struct vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

#define VSOCK_HDR_BYTES ((uint32_t)sizeof(struct vsock_hdr))

/* A ring of its head and its members; a link that is in none points at itself. */
struct vsock_link {
	struct vsock_link *prev, *next;
};

static inline void link_init(struct vsock_link *l)
{
	l->prev = l->next = l;
}

static inline bool link_alone(const struct vsock_link *l)
{
	return l->next == l;
}

static inline void link_append(struct vsock_link *head, struct vsock_link *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

static inline void link_remove(struct vsock_link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}

#define link_entry(l, type, member) ((type *)(void *)((char *)(l) - offsetof(type, member)))

/**
 * struct vsock_slot - a buffer of the receive queue, taken and not filled yet.
 */
struct vsock_slot {
	struct virtq_request req;
	struct iovec iov[VSOCK_QUEUE_SIZE];
};

/**
 * struct vsock - the device.
 * @running: between activate() and reset().
 * @epoch:  counts resets; connections of an earlier one are to be closed by the I/O thread
 *          (@stale).
 * @slots:  a ring, @n_slots from @first_slot on.
 * @ring:   connections that have something for the guest; each gets a turn.
 * @resets: refusals for connections that do not exist.
 * @tx_pending: the transmit queue may hold something.
 * @tx_unheard: packets taken since the guest was last interrupted; @tx_timer ends that.
 * @deadlines: connections that have one; @timer_on: the timer looks after them.
 */
struct vsock {
	struct virtio_device d;
	struct smolvm_vmm_vsock config;
	bool running, stale, tx_pending, rx_pushed, timer_on;
	uint32_t epoch;
	uint32_t next_port;
	int wake_fd;
	unsigned int n_conns, n_incoming, deadlines;
	struct vsock_link all, ring, buckets[VSOCK_BUCKETS];
	struct loop_watch wake;
	struct loop_timer timer, tx_timer;
	unsigned int tx_unheard;
	unsigned int n_resets;
	struct vsock_refusal {
		uint32_t guest_port, host_port;
		uint16_t type;
	} resets[VSOCK_RESETS_MAX];
	unsigned int first_slot, n_slots;
	struct vsock_slot slots[VSOCK_SLOTS];
	struct iovec tx_iov[VSOCK_QUEUE_SIZE];
	struct iovec pieces[VSOCK_PIECES_MAX];
};

enum vsock_state {
	VSOCK_CONNECTING, /* the guest is asked, or will be */
	VSOCK_OPEN,
	VSOCK_CLOSING, /* over in both directions; the guest has to say so too */
	VSOCK_RESET,   /* a RST is to be sent, then it is gone */
	VSOCK_ORPHAN,  /* gone for the guest; the host has not taken everything yet */
};

/**
 * struct vsock_conn - one stream of the guest joined with one socket of the host.
 * @fd:     -1 when closed; @watch.fd is -1 as well while it is not watched.
 * @pending: control packets to be sent, 1 << enum vsock_op.
 * @host_down, @down_told: VSOCK_DOWN_* of the host, and what the guest knows of them.
 * @guest_down: those of the guest.
 * @readable: the socket may hold something, or its end.
 * @hup:    the host's end is gone altogether; not watched any more.
 * @asked:  CREDIT_REQUEST has been sent since there was credit.
 * @tx_cnt, @peer_buf_alloc, @peer_fwd_cnt: to the guest: bytes sent, its buffer, bytes consumed.
 * @rx_cnt, @fwd_cnt, @told_fwd: from the guest: bytes received, passed on, and known to it as that.
 * @out:    bytes for the host, of which the first @own are not the guest's (the greeting).
 */
struct vsock_conn {
	struct vsock *v;
	struct vsock_link all, ring, bucket;
	uint32_t guest_port, host_port, epoch;
	enum vsock_state state;
	int fd;
	struct loop_watch watch;
	uint32_t pending;
	uint8_t host_down, down_told, guest_down;
	bool incoming, readable, hup, asked;
	int64_t deadline_ms; /* 0: none */
	uint32_t tx_cnt, peer_buf_alloc, peer_fwd_cnt;
	uint32_t rx_cnt, fwd_cnt, told_fwd, buf_alloc;
	size_t own;
	struct buf out;
	char greeting[VSOCK_GREETING_MAX + 1];
};

/* ---- vsock.c ---- */

/** vsock_slot() - the @i-th of them. */
static inline struct vsock_slot *vsock_slot(struct vsock *v, unsigned int i)
{
	return &v->slots[(v->first_slot + i) % VSOCK_SLOTS];
}

/** vsock_slots_most() - take buffers of the receive queue. Return: how many, up to VSOCK_SLOTS. */
unsigned int vsock_slots_most(struct vsock *v);

/** vsock_slots() - whether there are any: how many at least. */
static inline unsigned int vsock_slots(struct vsock *v)
{
	return v->n_slots ? v->n_slots : vsock_slots_most(v);
}

/**
 * vsock_put() - fill the first slot with a packet for the guest, whose @hdr->len bytes of payload
 * are there already; ports, len, type, op, flags and credit are given in host order. One slot less.
 */
void vsock_put(struct vsock *v, const struct vsock_hdr *hdr);

/** vsock_slice() - the pieces that hold @bytes from @offset on. Return: how many, at most @cap. */
unsigned int vsock_slice(const struct iovec *iov, unsigned int n, size_t offset, size_t bytes,
			 struct iovec *to, unsigned int cap);

/** vsock_wake() - let the I/O thread look at what has changed. Any thread. */
void vsock_wake(struct vsock *v);

/** vsock_work() - move packets while there are any. */
void vsock_work(struct vsock *v);

/** vsock_sweep_stale() - close the connections of before a reset. */
void vsock_sweep_stale(struct vsock *v);

/* ---- vsock_conn.c ---- */

/** vsock_conn_create() - a connection in the tables. Return: NULL without memory (@fd stays). */
struct vsock_conn *vsock_conn_create(struct vsock *v, uint32_t guest_port, uint32_t host_port,
				     int fd, bool incoming);

/** vsock_conn_find() - by its ports, or NULL. */
struct vsock_conn *vsock_conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port);

/** vsock_conn_destroy() - close its socket and forget it; the guest is not told. */
void vsock_conn_destroy(struct vsock_conn *c);

/** vsock_conn_abort() - close its socket, and reset it for the guest. */
void vsock_conn_abort(struct vsock_conn *c);

/** vsock_conn_queue() - it has something for the guest. */
void vsock_conn_queue(struct vsock_conn *c);

/** vsock_conn_open() - both ends have agreed: begin to watch the socket. */
void vsock_conn_open(struct vsock_conn *c);

/** vsock_conn_deadline() - begin, or end, waiting for the guest's answer. */
void vsock_conn_deadline(struct vsock_conn *c, bool on);

/** vsock_conn_packet() - a packet of the guest for it; @iov is its payload, hdr->len bytes. */
void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *hdr, struct iovec *iov,
		       unsigned int n);

/** vsock_conn_control() - send a packet without payload for it; there is a slot. */
void vsock_conn_control(struct vsock_conn *c, enum vsock_op op, uint32_t flags);

/** vsock_conn_turn() - its turn to fill slots, of which there is one at least. May free it. */
void vsock_conn_turn(struct vsock_conn *c);

#endif
