/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MP table, by which a kernel without ACPI finds its processors and the IOAPIC (Intel
 * MultiProcessor Specification 1.4, chapter 4).
 */
#include <string.h>

#include "vmm/x86_64/layout.h"
#include "vmm/x86_64/load.h"

enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INTERRUPT, ENTRY_LOCAL };
enum { INTERRUPT_INT = 0, INTERRUPT_NMI = 1, INTERRUPT_EXTINT = 3 };

#define FLOATING_BYTES 16u
#define HEADER_BYTES   44u
#define REVISION       4
#define APIC_VERSION   0x14
#define IOAPIC_VERSION 0x11
#define CPU_ENABLED    1
#define CPU_BOOT       2
#define CPU_FEATURES   0x201u /* floating point, APIC */
#define EVERY_APIC     0xff

static uint8_t checksum(const uint8_t *p, unsigned int n)
{
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

static uint8_t *add_cpu(uint8_t *p, unsigned int id)
{
	p[0] = ENTRY_CPU;
	p[1] = (uint8_t)id;
	p[2] = APIC_VERSION;
	p[3] = CPU_ENABLED | (id ? 0 : CPU_BOOT);
	put_le32(p + 4, 0x600);
	put_le32(p + 8, CPU_FEATURES);
	return p + 20;
}

/* An interrupt of the ISA bus, edge-triggered and active high as that bus has them. */
static uint8_t *add_interrupt(uint8_t *p, uint8_t entry, uint8_t type, unsigned int source,
			      unsigned int apic, unsigned int pin)
{
	p[0] = entry;
	p[1] = type;
	p[5] = (uint8_t)source;
	p[6] = (uint8_t)apic;
	p[7] = (uint8_t)pin;
	return p + 8;
}

static uint8_t *add_entries(uint8_t *p, unsigned int cpus, unsigned int *n)
{
	unsigned int ioapic = cpus;

	for (unsigned int i = 0; i < cpus; i++)
		p = add_cpu(p, i);
	p[0] = ENTRY_BUS;
	memcpy(p + 2, "ISA   ", 6);
	p += 8;
	p[0] = ENTRY_IOAPIC;
	p[1] = (uint8_t)ioapic;
	p[2] = IOAPIC_VERSION;
	p[3] = 1; /* enabled */
	put_le32(p + 4, LAYOUT_IOAPIC);
	p += 8;
	for (unsigned int gsi = 0; gsi < LAYOUT_GSIS; gsi++)
		if (gsi != LAYOUT_GSI_CASCADE)
			p = add_interrupt(p, ENTRY_INTERRUPT, INTERRUPT_INT, gsi, ioapic, gsi);
	p = add_interrupt(p, ENTRY_LOCAL, INTERRUPT_EXTINT, 0, EVERY_APIC, 0);
	p = add_interrupt(p, ENTRY_LOCAL, INTERRUPT_NMI, 0, EVERY_APIC, 1);
	*n = cpus + 2 + (LAYOUT_GSIS - 1) + 2;
	return p;
}

void mptable_write(uint8_t *p, uint32_t gpa, unsigned int cpus)
{
	uint8_t *header = p + FLOATING_BYTES;
	unsigned int entries, bytes;

	bytes = (unsigned int)(add_entries(header + HEADER_BYTES, cpus, &entries) - header);
	memcpy(header, "PCMP", 4);
	put_le16(header + 4, (uint16_t)bytes);
	header[6] = REVISION;
	memcpy(header + 8, "SMOLVM  ", 8);
	memcpy(header + 16, "VMM         ", 12);
	put_le16(header + 34, (uint16_t)entries);
	put_le32(header + 36, LAYOUT_LAPIC);
	header[7] = checksum(header, bytes);

	memcpy(p, "_MP_", 4);
	put_le32(p + 4, gpa + FLOATING_BYTES);
	p[8] = 1; /* units of 16 bytes */
	p[9] = REVISION;
	p[10] = checksum(p, FLOATING_BYTES);
}
