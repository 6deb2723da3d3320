/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a PC without firmware has at its ports: a serial port, and three ways to end.
 *
 * There is no keyboard controller but for its reset line. Its status says "input buffer empty,
 * output buffer full", always: a kernel that wants to reset need not wait, and one that looks for
 * a controller finds at once that this is none.
 */
#include "vmm/vmm.h"
#include "vmm/x86_64/layout.h"

#define PORT_SERIAL   0x3f8
#define PORT_I8042    0x64 /* keyboard controller, command and status */
#define PORT_RESET    0xcf9 /* reset control register of PC chip sets */
#define PORT_POWEROFF 0x604 /* ACPI PM1a control, where QEMU's PCs have it */

#define I8042_STATUS   0xfd
#define I8042_RESET    0xfe
#define RESET_CPU      0x04
#define POWEROFF_VALUE 0x2000 /* SLP_EN, with SLP_TYP 0 */

static void i8042_access(void *ctx, const struct bus_access *a)
{
	for (unsigned int i = 0; i < a->count * a->size; i += a->size) {
		if (!a->write)
			a->data[i] = I8042_STATUS;
		else if (a->data[i] == I8042_RESET)
			vmm_end(ctx, SMOLVM_VMM_RESET, 0, "the guest reset itself");
	}
}

static void reset_access(void *ctx, const struct bus_access *a)
{
	if (a->write && (a->data[0] & RESET_CPU))
		vmm_end(ctx, SMOLVM_VMM_RESET, 0, "the guest reset itself");
}

static void poweroff_access(void *ctx, const struct bus_access *a)
{
	if (a->write && a->size >= 2 && (a->data[1] << 8 & POWEROFF_VALUE))
		vmm_end(ctx, SMOLVM_VMM_POWEROFF, 0, "the guest switched itself off");
}

static void serial_irq(void *ctx)
{
	struct smolvm_vmm *vmm = ctx;

	vmm->ops->irq(vmm->hv, LAYOUT_GSI_SERIAL);
}

int arch_ports(struct smolvm_vmm *vmm)
{
	const struct bus_range ranges[] = {
		{ PORT_I8042, 1, i8042_access, vmm },
		{ PORT_SERIAL, SERIAL_BYTES, serial_access, &vmm->serial },
		{ PORT_POWEROFF, 2, poweroff_access, vmm },
		{ PORT_RESET, 1, reset_access, vmm },
	};

	vmm->has_serial = true;
	serial_init(&vmm->serial, vmm->config.serial_fd, serial_irq, vmm);
	for (unsigned int i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		int r;

		/* A port that nobody listens to would cost the guest a driver's set-up. */
		if (ranges[i].base == PORT_SERIAL && vmm->config.serial_fd <= 0)
			continue;
		r = bus_add(&vmm->ports, &ranges[i]);

		if (r)
			return r;
	}
	return 0;
}
