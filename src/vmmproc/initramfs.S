/* SPDX-License-Identifier: Apache-2.0 */
/* The initramfs that carries the agent, as bytes of this program. */
	.section .rodata
	.global initramfs_start, initramfs_end
	.balign 16
initramfs_start:
	.incbin INITRAMFS
initramfs_end:
	.byte 0
	.section .note.GNU-stack, "", %progbits
