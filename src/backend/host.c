/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host offers to every backend: a usable KVM, or not.
 */
#include "backend/backend.h"

#include <errno.h>
#include <stdio.h>

#include "hypervisor/kvm_probe.h"

static void set(struct backend_host *h, enum kvm_state state)
{
	h->kvm_usable = state == KVM_FINE;
	h->kvm_worth_measuring = false;
	h->kvm_verdict = state;
	snprintf(h->kvm_text, sizeof(h->kvm_text), "%s", kvm_state_text(state));
}

void backend_host_look(struct backend_host *ret)
{
	enum kvm_state state = kvm_probe_open();

	*ret = (struct backend_host){ 0 };
	set(ret, state);
	if (state == KVM_FINE) {
		ret->kvm_usable = false;
		ret->kvm_worth_measuring = true;
	}
}

void backend_host_measure(struct backend_host *h)
{
	set(h, kvm_probe());
}

int backend_host_recall(struct backend_host *h, int verdict)
{
	/* What is broken may be mended (another hypervisor ends), and is found out quickly. */
	if (verdict != KVM_FINE && verdict != KVM_EMULATING)
		return -EINVAL;
	set(h, (enum kvm_state)verdict);
	return 0;
}
