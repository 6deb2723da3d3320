/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things are in the memory of the bare-metal guests, for C and for the assembler.
 */
#ifndef LAB_KVM_GUEST_H
#define LAB_KVM_GUEST_H

#define GDT_GPA	    0x800
#define IDT_GPA	    0xa00 /* 64 gates */
#define CODE_GPA    0x1000
#define AP_GPA	    0x8000 /* what SIPI with vector 8 begins with */
#define STACK_GPA   0x10000
#define TABLES_GPA  0x11000 /* of pages, three of them, for 64-bit mode */
#define MAILBOX_GPA 0x20000 /* words that guest and test leave for each other; see each guest */
#define RAM_BYTES   0x200000

#define MMIO_GPA   0xd0000000
#define NOTIFY_GPA 0xd0000050

#define PORT_DONE  0xf4 /* the guest has come to its end */
#define PORT_READY 0xf5 /* ... to a point where the test has something to do */
#define PORT_TEST  0x5a0

#define IRQ_PIN	   5
#define IRQ_VECTOR 0x30
#define GP_VECTOR  13
#define UD_VECTOR  6

#define MSR_NOBODYS 0x4b56c477

#endif
