/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An event callback that ends in a jump to virDomainResume: says whether that call, which libvirt
 * seems to make, was denied.
 */

#include "caller.h"

static int events;

__attribute__((noinline)) static int on_event(virConnectPtr conn, virDomainPtr domain, int event,
					      int detail, void *data)
{
	(void)conn;
	(void)event;
	(void)detail;
	(void)data;
	events++;
	return virDomainResume(domain);
}

int main(void)
{
	virDomainPtr domain;
	virConnectPtr conn;
	virDomainInfo info;

	check(!virEventRegisterDefaultImpl(), "virEventRegisterDefaultImpl");
	conn = open_test();
	check(virConnectDomainEventRegister(conn, on_event, NULL, NULL) >= 0,
	      "virConnectDomainEventRegister");
	domain = find_domain(conn, "test");
	check(!virDomainSuspend(domain), "virDomainSuspend");	/* raises the event */
	while (!events)
		check(!virEventRunDefaultImpl(), "virEventRunDefaultImpl");
	check(!virDomainGetInfo(domain, &info), "virDomainGetInfo");
	puts(info.state == VIR_DOMAIN_PAUSED ? "denied" : "passed");
	return 0;
}
