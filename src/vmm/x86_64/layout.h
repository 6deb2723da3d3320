/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things lie in the memory of an x86 guest. Everything below 1 MiB is ours; a kernel begins
 * above that.
 */
#ifndef VMM_X86_64_LAYOUT_H
#define VMM_X86_64_LAYOUT_H

#define LAYOUT_GDT	   0x1000u
#define LAYOUT_START_INFO  0x2000u /* PVH; the module list and the memory map in the same page */
#define LAYOUT_BOOT_PARAMS 0x3000u
#define LAYOUT_CMDLINE	   0x4000u
#define LAYOUT_PAGE_TABLE  0x5000u /* six pages: 4 GiB, identity */
#define LAYOUT_LOW_END	   0x9fc00u /* RAM that the kernel may use ends here */
#define LAYOUT_MPTABLE	   0xf0000u
#define LAYOUT_KERNEL_MIN  0x100000u

#define LAYOUT_LOW_BYTES (3ull << 30)
#define LAYOUT_HIGH_GPA	 (4ull << 30)
#define LAYOUT_MMIO	 0xd0000000ull
#define LAYOUT_IOAPIC	 0xfec00000u
#define LAYOUT_LAPIC	 0xfee00000u

/* Interrupt lines (GSIs) of the IOAPIC. */
#define LAYOUT_GSIS	   24u
#define LAYOUT_GSI_CASCADE 2u
#define LAYOUT_GSI_SERIAL  4u
#define LAYOUT_GSI_DEVICES 5u
#define LAYOUT_GSI_RTC	   8u

#endif
