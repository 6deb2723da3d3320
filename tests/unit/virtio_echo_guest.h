/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest whose device is the echoing one.
 */
#ifndef TESTS_VIRTIO_ECHO_GUEST_H
#define TESTS_VIRTIO_ECHO_GUEST_H

#include "virtio_echo.h"
#include "virtio_guest.h"

/* The device, before its driver has done anything. */
static inline struct echo *begin(struct vg *g, bool with_loop)
{
	struct echo *e;

	vg_init(g, with_loop);
	e = echo_create(&g->env);
	vg_attach(g, &e->d);
	return e;
}

/* One request there and back, its content checked. */
static inline void echo_once(struct vg *g, unsigned int q, const char *text, bool indirect)
{
	uint32_t len = (uint32_t)strlen(text) + 1, written = 0;
	uint64_t brk = g->brk;
	struct vg_buf b[2] = { vg_out(g, text, len), vg_in(g, len) };
	uint16_t head, got = 0;

	head = indirect ? vg_add_indirect(g, q, b, 2) : vg_add(g, q, b, 2);
	vg_kick(g, q);
	assert_true(vg_wait(g, q, &got, &written));
	assert_int_equal(got, head);
	assert_int_equal(written, len);
	assert_string_equal(vg_ptr(g, b[1].gpa), text);
	g->brk = brk;
}

#endif
