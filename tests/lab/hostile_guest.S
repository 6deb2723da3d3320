/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the hostile guest begins: by the PVH note in 32-bit mode, from there to 64-bit mode with
 * the first 4 GiB mapped to themselves. The second processor comes the same way from 16-bit mode.
 */
#include "hostile_guest.h"

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start
_start:
	cli
	mov %ebx, start_info
	mov $page_tables, %edi
	lea 0x1003(%edi), %eax
	mov %eax, (%edi)		/* PML4 */
	lea 0x2003(%edi), %eax
	mov $4, %ecx
	lea 0x1000(%edi), %edx
1:	mov %eax, (%edx)		/* PDPT */
	add $0x1000, %eax
	add $8, %edx
	loop 1b
	mov $0x83, %eax
	mov $2048, %ecx
	lea 0x2000(%edi), %edx
2:	mov %eax, (%edx)		/* four page directories of 2 MiB pages */
	add $0x200000, %eax
	add $8, %edx
	loop 2b
	mov $stack_top, %esp
	mov $guest_main, %ebp

	/* Both processors: to 64-bit mode, stack esp, then call ebp. */
to_long:
	lgdt gdt_pointer
	mov %cr4, %eax
	or $0x20, %eax			/* PAE */
	mov %eax, %cr4
	mov $page_tables, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax			/* LME */
	wrmsr
	mov %cr0, %eax
	or $0x80000001, %eax
	mov %eax, %cr0
	ljmp $0x08, $long_mode
	.code64
long_mode:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %ebp, %ebp
	mov %esp, %esp
	xor %eax, %eax
	push %rax
	jmp *%rbp

	.code32
ap32:
	mov $0x10, %eax
	mov %eax, %ds
	mov $ap_stack_top, %esp
	mov $ap_main, %ebp
	jmp to_long

	/* Copied to AP_GPA. */
	.code16
	.globl ap_begin, ap_end
ap_begin:
	cli
	mov %cs, %ax
	mov %ax, %ds
	lgdtl ap_gdt_pointer - ap_begin
	mov %cr0, %eax
	or $1, %eax
	mov %eax, %cr0
	ljmpl $0x18, $ap32
ap_gdt_pointer:
	.word 31
	.long gdt
ap_end:

	.code64
	.macro vector n
vector_\n:
	.if \n != 8 && (\n < 10 || \n > 14) && \n != 17 && \n != 21
	push $0
	.endif
	push $\n
	jmp common
	.endm
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vector \n
	.endr
	.irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	vector \n
	.endr
common:
	push %rax
	push %rcx
	push %rdx
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	mov %rsp, %rdi
	cld
	call exception
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq

	.globl ap_interrupt
ap_interrupt:
	push %rax
	mov $0xfee000b0, %eax
	movl $0, (%rax)
	pop %rax
	iretq

	.section .rodata
	.balign 8
	.globl vectors
vectors:
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	.quad vector_\n
	.endr
	.irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	.quad vector_\n
	.endr

	.data
	.balign 8
gdt:	.quad 0
	.quad 0x00af9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0x00cf9b000000ffff
gdt_pointer:
	.word 31
	.long gdt
	.globl start_info
start_info:
	.long 0

	.bss
	.balign 4096
page_tables:
	.skip 6 * 4096
	.skip STACK_BYTES
stack_top:
	.skip STACK_BYTES
	.globl ap_stack_top
ap_stack_top:
	.section .note.GNU-stack, "", @progbits
