#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Bare-metal guests on KVM; see kvm_guest.c.
exec timeout -k 5 120 "${SMOLVM_BUILD:-build}/tests/lab/kvm_guest"
