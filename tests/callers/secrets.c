/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hands libvirt a secret in every way there is; without an object, so that nothing comes of it.
 * Prints how many calls that were.
 */

#include "caller.h"
#include <libvirt/libvirt-qemu.h>

#define SECRET "swordfish"
#define URI "qemu+tcp://fred:" SECRET "@host/system"
#define XML(element) "<domain type='test'><name>web1</name>" element "</domain>"

static virTypedParameter params[3];

static void text(int i, const char *field, const char *value)
{
	strcpy(params[i].field, field);
	params[i].type = VIR_TYPED_PARAM_STRING;
	params[i].value.s = (char *)value;
}

/* Plumbing, seen with -a only. */
static void from_params(void)
{
	virTypedParameterPtr made = NULL;
	int count = 0, room = 0;
	const char *found = NULL;

	virTypedParamsAddString(&made, &count, &room, VIR_DOMAIN_LAUNCH_SECURITY_SEV_SECRET,
				SECRET);
	virTypedParamsGetString(made, count, VIR_DOMAIN_LAUNCH_SECURITY_SEV_SECRET, &found);
	virTypedParamsFree(made, count);
	virGetLastErrorMessage();
}

int main(void)
{
	const char *keys[] = { "ssh-ed25519 " SECRET " one", "ssh-ed25519 " SECRET " two" };
	const char *documents[] = {
		XML("<devices><graphics type='vnc' passwd='" SECRET "'/></devices>"),
		XML("<devices><graphics type='spice' passwd=\"" SECRET "\" port='5'/></devices>"),
		XML("<sysinfo><secret>" SECRET "</secret></sysinfo>"),
		XML("<disk><source><auth username='fred'><password>" SECRET
		    "</password></auth></source></disk>"),
		XML("<description>" URI "</description>"),
		/* does not end: libvirt quotes it */
		XML("<devices><graphics type='vnc' passwd='" SECRET "'/></device>"),
		XML("<devices><graphics type='" SECRET "'/></devices>"),
		XML("<" SECRET "/><memory>" SECRET "</memory>"),
		XML("<memory unit='" SECRET "'>1</memory>"),
		"<!DOCTYPE domain [<!ENTITY p '" SECRET "'>]>"
		XML("<devices><graphics type='vnc' passwd='&p;'/></devices>"),
		XML("<x:secret xmlns:x='u'><x:value><![CDATA[" SECRET
		    "]]></x:value></x:secret><!-- " SECRET " -->"),
		"<domain type='test' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
		"<name>web1</name><qemu:commandline>"
		"<qemu:env name='VNC_PASSWORD' value='" SECRET
		"'/><qemu:arg value='{&quot;data&quot;:&quot;" SECRET "&quot;}'/>"
		"</qemu:commandline></domain>",
		XML("<sysinfo type='smbios'><oemStrings><entry>passwd.plaintext-password.root="
		    SECRET "</entry></oemStrings></sysinfo>"),
		"user-data: password: " SECRET,
		/* cut in the middle of it, and without an end */
		XML("<devices><graphics type='vnc' passwd='" SECRET SECRET SECRET SECRET SECRET
		    SECRET SECRET SECRET SECRET),
	};
	const char *commands[] = {
		"{\"execute\":\"set_password\",\"arguments\":{\"protocol\":\"vnc\",\"password\":\""
		SECRET "\"}}",
		"set_password vnc " SECRET,
		"change vnc password \"a " SECRET "\"",
		"set_password vnc -d id " SECRET,
		"{\"execute\":\"object-add\",\"arguments\":{\"data\":\"" SECRET
		"\",\"qom-type\":\"secret\",\"id\":\"s\"}}",
		"{\"execute\":\"set_password\",\"arguments\":{\"pass\\u0077ord\":\"a\\\"" SECRET
		"\"}}",
		/* cut in the middle of it */
		"{\"execute\":\"set_password\",\"arguments\":{\"protocol\":\"vnc\",\"password\":\""
		SECRET SECRET SECRET SECRET SECRET SECRET SECRET SECRET SECRET SECRET SECRET
		SECRET SECRET SECRET SECRET SECRET SECRET SECRET SECRET SECRET SECRET SECRET
		SECRET SECRET SECRET "\"}}",
	};
	const char *uris[] = { "esx://user:pa/" SECRET "@localhost/",
			       "nosuch+tcp://u:" SECRET "?x@h/y", "test:///nosuch?token=" SECRET };
	virConnectPtr conn = open_test();
	int calls = 0;

	virDomainSetUserPassword(NULL, "root", SECRET, 0), calls++;
	virSecretSetValue(NULL, (const unsigned char *)SECRET, strlen(SECRET), 0), calls++;
	virDomainAuthorizedSSHKeysSet(NULL, "root", keys, 2, 0), calls++;
	virStreamSend(NULL, SECRET, strlen(SECRET)), calls++;
	virConnectOpen(URI), calls++;
	virDomainMigrateToURI3(NULL, URI, NULL, 0, 0), calls++;
	text(0, VIR_MIGRATE_PARAM_URI, URI);
	text(1, VIR_MIGRATE_PARAM_DEST_XML, documents[0]);
	text(2, "a.password", SECRET);
	virDomainMigrateToURI3(NULL, "qemu:///system", params, 3, 0), calls++;
	text(0, VIR_DOMAIN_LAUNCH_SECURITY_SEV_SECRET, SECRET);
	virDomainSetLaunchSecurityState(find_domain(conn, "test"), params, 1, 0), calls++;
	for (size_t i = 0; i < sizeof(documents) / sizeof(*documents); i++) {
		virDomainDefineXML(NULL, documents[i]), calls++;
		virDomainUpdateDeviceFlags(NULL, documents[i], 0), calls++;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		virDomainQemuMonitorCommand(NULL, commands[i], NULL, 0), calls++;
	for (size_t i = 0; i < sizeof(documents) / sizeof(*documents); i++)
		/* libvirt reads these, and says what is wrong with them */
		virDomainDefineXML(conn, documents[i]), calls++;
	for (size_t i = 0; i < sizeof(uris) / sizeof(*uris); i++)
		virConnectOpen(uris[i]), calls++;
	virDomainQemuAgentCommand(NULL, commands[0], 1, 0), calls++;
	virConnectDomainXMLFromNative(NULL, "qemu-argv", "-object secret,id=a,data=" SECRET, 0);
	virDomainSetMetadata(NULL, VIR_DOMAIN_METADATA_ELEMENT,
			     "<a><password>" SECRET "</password></a>", "k", "uri:x", 0);
	virDomainSetMetadata(NULL, VIR_DOMAIN_METADATA_DESCRIPTION, "the password is " SECRET, NULL,
			     NULL, 0);
	calls += 3;
	from_params();
	virConnectClose(conn);
	printf("%d\n", calls);
	return 0;
}
