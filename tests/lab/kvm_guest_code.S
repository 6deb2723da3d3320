/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bare-metal guests. Each is copied to CODE_GPA and entered in flat 32-bit mode, ebx = MAILBOX_GPA;
 * the 16-bit one to AP_GPA. They are data of the test program.
 */
#include "kvm_guest.h"

	.section .rodata

	.macro guest name
	.global guest_\name
	.balign 16
guest_\name:
	.endm

	.macro end name
	.global guest_\name\()_end
guest_\name\()_end:
	.endm

/* The address that a label of a guest has in its memory. */
#define AT(guest, label) (label - guest_##guest + CODE_GPA)

	.macro done
	mov $PORT_DONE, %edx
	out %eax, %dx
	.endm

	.code32

	/* Halts with interrupts off, for ever. */
	guest halt
1:	cli
	hlt
	jmp 1b
	end halt

	/* Says READY, and halts with interrupts on. */
	guest doze
	mov $STACK_GPA, %esp
	mov $PORT_READY, %edx
	out %eax, %dx
	sti
1:	hlt
	jmp 1b
	end doze

	/* Never comes out by itself; counts in mailbox[0]. */
	guest spin
1:	incl (%ebx)
	jmp 1b
	end spin

	/* Accesses a device for ever; mailbox[0] is made of what it reads. */
	guest busy
	mov $MMIO_GPA, %esi
1:	mov (%esi), %eax
	mov %eax, (%ebx)
	incl 4(%ebx)
	mov %eax, 4(%esi)
	mov $PORT_TEST, %edx
	in %dx, %eax
	add %eax, 8(%ebx)
	jmp 1b
	end busy

	/* Ports: every size out and in, a string of bytes and of words out, and one in. */
	guest ports
	mov $STACK_GPA, %esp
	cld
	mov $PORT_TEST, %edx
	mov $0x44332211, %eax
	out %al, %dx
	out %ax, %dx
	out %eax, %dx
	xor %eax, %eax
	in %dx, %al
	mov %eax, (%ebx)
	xor %eax, %eax
	in %dx, %ax
	mov %eax, 4(%ebx)
	in %dx, %eax
	mov %eax, 8(%ebx)
	mov $AT(ports, ports_text), %esi
	mov $5, %ecx
	rep outsb
	mov $AT(ports, ports_text), %esi
	mov $2, %ecx
	rep outsw
	lea 16(%ebx), %edi
	mov $6, %ecx
	rep insb
	mov $0x1234, %edx	/* nobody's */
	in %dx, %eax
	mov %eax, 12(%ebx)
	out %eax, %dx
	done
ports_text:
	.ascii "hello"
	end ports

	/* Device memory: every size written and read, and an access that crosses a page's end. */
	guest mmio
	mov $STACK_GPA, %esp
	mov $MMIO_GPA, %esi
	mov $0x44332211, %eax
	movb %al, (%esi)
	movw %ax, 2(%esi)
	movl %eax, 4(%esi)
	xor %eax, %eax
	movb (%esi), %al
	mov %eax, (%ebx)
	xor %eax, %eax
	movw 2(%esi), %ax
	mov %eax, 4(%ebx)
	movl 4(%esi), %eax
	mov %eax, 8(%ebx)
	mov %cr4, %eax
	or $0x600, %eax		/* SSE */
	mov %eax, %cr4
	movq 24(%ebx), %mm0
	movq %mm0, 8(%esi)	/* 8 bytes */
	movq 16(%esi), %mm1
	movq %mm1, 32(%ebx)
	movl 0xffd(%esi), %eax
	mov %eax, 12(%ebx)
	movl %eax, 0xffd(%esi)
	done
	end mmio

	/* No descriptor table of interrupts, and an exception. */
	guest triple
	ud2
	end triple

	/* Registers that nobody has: mailbox[0] counts the exceptions. */
	guest msrs
	mov $STACK_GPA, %esp
	mov $AT(msrs, msrs_gp), %eax
	mov $GP_VECTOR, %ecx
	call msrs_gate
	lidt AT(msrs, msrs_idtr)
	mov $MSR_NOBODYS, %ecx
	rdmsr
	mov $MSR_NOBODYS, %ecx
	mov $1, %eax
	xor %edx, %edx
	wrmsr
	mov $0xc0000080, %ecx	/* EFER, with bits that do not exist */
	mov $0xffffffff, %edx
	wrmsr
	movl $0x600d, 4(%ebx)
	done
msrs_gp:
	incl (%ebx)
	addl $2, 4(%esp)	/* over the instruction, of two bytes */
	add $4, %esp		/* the error code */
	iret
msrs_gate:
	shl $3, %ecx
	mov %ax, IDT_GPA(%ecx)
	movw $0x10, IDT_GPA + 2(%ecx)
	movw $0x8e00, IDT_GPA + 4(%ecx)
	shr $16, %eax
	mov %ax, IDT_GPA + 6(%ecx)
	ret
msrs_idtr:
	.word 64 * 8 - 1
	.long IDT_GPA
	end msrs

	/* mailbox: n, then n times eax, ecx of the question and room for eax, ebx, ecx, edx. */
	guest cpuid
	mov %ebx, %esi
	mov (%esi), %edi
	add $4, %esi
1:	mov (%esi), %eax
	mov 4(%esi), %ecx
	cpuid
	mov %eax, 8(%esi)
	mov %ebx, 12(%esi)
	mov %ecx, 16(%esi)
	mov %edx, 20(%esi)
	add $24, %esi
	dec %edi
	jnz 1b
	done
	end cpuid

	/* Notifies: 0, 1 and 2 many times; then a value and a size that nobody has asked for. */
	guest notify
	mov $NOTIFY_GPA, %esi
	mov $1000, %ecx
1:	movl $0, (%esi)
	movl $1, (%esi)
	dec %ecx
	jnz 1b
	movl $2, (%esi)
	movw $1, (%esi)
	movl $1, 4(%esi)
	done
	end notify

	/* Takes interrupts of pin IRQ_PIN; counts in mailbox[0]; says READY before each it waits for. */
	guest irq
	mov $STACK_GPA, %esp
	mov $0xff, %al		/* the PICs: nothing */
	out %al, $0x21
	out %al, $0xa1
	mov $AT(irq, irq_handler), %eax
	mov $(IDT_GPA + IRQ_VECTOR * 8), %ecx
	mov %ax, (%ecx)
	movw $0x10, 2(%ecx)
	movw $0x8e00, 4(%ecx)
	shr $16, %eax
	mov %ax, 6(%ecx)
	lidt AT(irq, irq_idtr)
	movl $0x1ff, 0xfee000f0		/* LAPIC on */
	movl $(0x10 + 2 * IRQ_PIN), 0xfec00000
	movl $IRQ_VECTOR, 0xfec00010	/* edge, fixed, not masked */
	movl $(0x11 + 2 * IRQ_PIN), 0xfec00000
	movl $0, 0xfec00010		/* to CPU 0 */
	xor %edi, %edi
1:	mov $PORT_READY, %edx
	out %eax, %dx
	inc %edi
2:	cli
	cmp %edi, (%ebx)
	jae 3f
	sti
	hlt
	jmp 2b
3:	sti
	cmp $100, %edi
	jb 1b
	done
irq_handler:
	push %eax
	incl (%ebx)
	movl $0, 0xfee000b0
	pop %eax
	iret
irq_idtr:
	.word 64 * 8 - 1
	.long IDT_GPA
	end irq

	/* Starts the second CPU: INIT, SIPI, until mailbox[0] shows that it runs. */
	guest smp
	mov $STACK_GPA, %esp
	movl $0x1ff, 0xfee000f0
	movl $0x01000000, 0xfee00310
	movl $0x00004500, 0xfee00300	/* INIT */
	movl $0x01000000, 0xfee00310
	movl $(0x00004600 | AP_GPA >> 12), 0xfee00300
1:	pause
	cmpl $0x600d, (%ebx)
	jne 1b
	done
	end smp

	/* An I/O window of a device as code. */
	guest jump
	mov $MMIO_GPA, %eax
	jmp *%eax
	end jump

	.code64

	/* Entered in 64-bit mode, rsi = MAILBOX_GPA: leaves registers there. */
	guest long
	mov %rsi, %rbx
	movabs $0x1122334455667788, %rax
	mov %rax, (%rbx)
	mov %cr0, %rax
	mov %rax, 8(%rbx)
	mov $STACK_GPA, %esp
	pushfq
	pop %rax
	mov %rax, 16(%rbx)
	mov %ds, %eax
	mov %eax, 24(%rbx)
	mov %cs, %eax
	mov %eax, 28(%rbx)
	mov $0x10, %eax		/* the loader's table is in use */
	push %rax
	lea 1f(%rip), %rax
	push %rax
	lretq
1:	done
	end long

	.code16
	guest ap
	mov $(MAILBOX_GPA >> 4), %ax
	mov %ax, %ds
	movl $0x600d, 0
1:	cli
	hlt
	jmp 1b
	end ap

	.section .note.GNU-stack, "", @progbits
