/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An event callback that ends in a jump to virDomainSuspend or virDomainResume, which raise the
 * next event, 23 times after a first. As far as the return addresses tell, libvirt calls them; it
 * was the program. Prints each function in order.
 */

#include "caller.h"

static int events;

static int on_event(virConnectPtr conn, virDomainPtr domain, int event, int detail, void *data)
{
	(void)conn;
	(void)event;
	(void)detail;
	(void)data;
	if (events++ >= CALLS)
		return 0;
	return events & 1 ? virDomainResume(domain) : virDomainSuspend(domain);
}

int main(void)
{
	virConnectPtr conn;

	check(!virEventRegisterDefaultImpl(), "virEventRegisterDefaultImpl");
	conn = open_test();
	check(virConnectDomainEventRegister(conn, on_event, NULL, NULL) >= 0,
	      "virConnectDomainEventRegister");
	/* raises the first event */
	check(!virDomainSuspend(find_domain(conn, "test")), "virDomainSuspend");
	while (events <= CALLS)
		check(!virEventRunDefaultImpl(), "virEventRunDefaultImpl");
	for (int i = 0; i <= CALLS; i++)
		printf("\"%s\"\n", i & 1 ? "virDomainResume" : "virDomainSuspend");
	return 0;
}
