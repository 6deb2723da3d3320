/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A whose transmitter is always empty and whose receiver always is, too.
 *
 * What the guest writes is sent at once as far as the guest can tell. It is gathered until a line
 * ends, until there is much of it, or until the driver switches interrupts on or off, which it
 * does around each piece of output. Whoever reads the output may be slow or gone: a vCPU never
 * waits for it, what is not taken at once is lost.
 *
 * Interrupt: "transmitter empty", each time that the driver may wait for it: when it enables that
 * interrupt, and after each byte while it is enabled. Reading IIR takes it back.
 */
#include "vmm/serial.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* syscalls (vcpu): sendto poll ppoll */

/* Registers; with the divisor latch open (LCR_DLAB), 0 and 1 are the divisor. */
enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_TRANSMIT  0x02
#define IER_MASK      0x0f
#define IIR_NONE      0x01
#define IIR_TRANSMIT  0x02
#define IIR_FIFO      0xc0
#define FCR_ENABLE    0x01
#define LCR_DLAB      0x80
#define LSR_EMPTY     0x60 /* transmitter and its holding register */
#define MCR_LOOP      0x10
#define MCR_MASK      0x1f
#define MSR_CONNECTED 0xb0 /* DCD, DSR, CTS */

void serial_init(struct serial *s, int fd, void (*irq)(void *ctx), void *ctx)
{
	struct stat st;

	memset(s, 0, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
	s->irq = irq;
	s->ctx = ctx;
	if (fd <= 0 || fstat(fd, &st))
		return;
	s->fd = fd;
	s->is_socket = S_ISSOCK(st.st_mode);
	/* A pipe that is ready takes PIPE_BUF without waiting; a terminal promises one byte. */
	s->chunk = S_ISCHR(st.st_mode) && isatty(fd) ? 1 : PIPE_BUF;
}

/* Without waiting; the descriptor is the caller's, and so is its O_NONBLOCK. */
static ssize_t write_some(const struct serial *s, const uint8_t *p, size_t n)
{
	struct pollfd pfd = { .fd = s->fd, .events = POLLOUT };

	if (s->is_socket)
		return send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (poll(&pfd, 1, 0) != 1 || pfd.revents != POLLOUT)
		return -1;
	return write(s->fd, p, n < s->chunk ? n : s->chunk);
}

static void flush(struct serial *s)
{
	for (unsigned int at = 0; at < s->bytes && s->fd > 0;) {
		ssize_t n = write_some(s, s->line + at, s->bytes - at);

		if (n <= 0)
			break;
		at += (unsigned int)n;
	}
	s->bytes = 0;
}

void serial_flush(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	flush(s);
	pthread_mutex_unlock(&s->lock);
}

void serial_fini(struct serial *s)
{
	serial_flush(s);
	pthread_mutex_destroy(&s->lock);
}

/* Return: whether to raise the interrupt. */
static bool transmit(struct serial *s, uint8_t byte)
{
	if (s->mcr & MCR_LOOP)
		return false;
	s->line[s->bytes++] = byte;
	if (byte == '\n' || s->bytes == SERIAL_LINE_MAX)
		flush(s);
	s->transmit_pending = (s->ier & IER_TRANSMIT) != 0;
	return s->transmit_pending;
}

static bool set_ier(struct serial *s, uint8_t value)
{
	bool was = (s->ier & IER_TRANSMIT) != 0;

	s->ier = value & IER_MASK;
	flush(s);
	s->transmit_pending = (s->ier & IER_TRANSMIT) && (!was || s->transmit_pending);
	return s->transmit_pending && !was;
}

static bool write_reg(struct serial *s, unsigned int reg, uint8_t value)
{
	bool dlab = (s->lcr & LCR_DLAB) != 0;

	switch (reg) {
	case REG_DATA:
		if (!dlab)
			return transmit(s, value);
		s->dll = value;
		break;
	case REG_IER:
		if (!dlab)
			return set_ier(s, value);
		s->dlm = value;
		break;
	case REG_IIR_FCR:
		s->fcr = value & FCR_ENABLE;
		break;
	case REG_LCR:
		s->lcr = value;
		break;
	case REG_MCR:
		s->mcr = value & MCR_MASK;
		break;
	case REG_SCR:
		s->scr = value;
		break;
	}
	return false;
}

/* In loop-back mode the modem's inputs are its outputs (RTS, DTR, OUT1, OUT2). */
static uint8_t read_msr(const struct serial *s)
{
	uint8_t mcr = s->mcr;

	if (!(mcr & MCR_LOOP))
		return MSR_CONNECTED;
	return (uint8_t)((mcr & 0x02) << 3 | (mcr & 0x01) << 5 | (mcr & 0x04) << 4 |
			 (mcr & 0x08) << 4);
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t iir = s->transmit_pending ? IIR_TRANSMIT : IIR_NONE;

	s->transmit_pending = false;
	return iir | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t read_reg(struct serial *s, unsigned int reg)
{
	bool dlab = (s->lcr & LCR_DLAB) != 0;

	switch (reg) {
	case REG_DATA:
		return dlab ? s->dll : 0;
	case REG_IER:
		return dlab ? s->dlm : s->ier;
	case REG_IIR_FCR:
		return read_iir(s);
	case REG_LCR:
		return s->lcr;
	case REG_MCR:
		return s->mcr;
	case REG_LSR:
		return LSR_EMPTY;
	case REG_MSR:
		return read_msr(s);
	default:
		return s->scr;
	}
}

void serial_access(void *ctx, const struct bus_access *a)
{
	struct serial *s = ctx;
	unsigned int reg = (unsigned int)a->offset;
	bool raise = false;

	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < a->count; i++) {
		uint8_t *p = a->data + (size_t)i * a->size;

		if (a->write)
			raise |= write_reg(s, reg, *p);
		else
			*p = read_reg(s, reg);
	}
	pthread_mutex_unlock(&s->lock);
	if (raise)
		s->irq(s->ctx);
}
