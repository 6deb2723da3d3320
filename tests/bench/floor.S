/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A "kernel" whose first instructions reset the machine (a triple fault): what QEMU and its
 * firmware take by themselves. Entered in 32-bit mode through the PVH note (type 18, owner Xen).
 */
	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start
_start:
	lidt none
	ud2
	.balign 8
none:	.quad 0
	.section .note.GNU-stack, "", @progbits
