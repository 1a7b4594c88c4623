/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Registers callbacks, one of which the program exports (with -rdynamic), and ends at once; prints
 * the names that they must have.
 */

#include "caller.h"

void on_lifecycle(void);
void on_lifecycle(void)
{
}

static void on_close(virConnectPtr conn, int reason, void *opaque)
{
	(void)conn;
	(void)reason;
	(void)opaque;
}

int main(void)
{
	virConnectPtr conn;
	int id;

	check(!virEventRegisterDefaultImpl(), "virEventRegisterDefaultImpl");
	conn = open_test();
	id = virConnectDomainEventRegisterAny(conn, NULL, VIR_DOMAIN_EVENT_ID_REBOOT,
					      (void *)on_lifecycle, NULL, free);
	check(id >= 0, "virConnectDomainEventRegisterAny");
	check(!virConnectRegisterCloseCallback(conn, on_close, conn, NULL),
	      "virConnectRegisterCloseCallback");
	printf("[\"on_lifecycle\", \"%p\", \"%p\"]\n", (void *)on_lifecycle, (void *)on_close);
	fflush(stdout);
	_exit(0);
}
