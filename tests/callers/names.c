/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls with names that would like to steer a terminal, fake a line or break an encoder; prints
 * each name and its text form.
 */

#include "caller.h"

static const struct {
	const char *name;
	const char *text;	/* in the text form of the log */
} names[] = {
	{ "\033[2J\033]0;owned\007", "\"\\x1b[2J\\x1b]0;owned\\x07\"" },
	{ "one\n23:59:59.000000 1 virsh root virDomainDestroy(domain=x) = 0 <1us>\r\tend",
	  "\"one\\n23:59:59.000000 1 virsh root virDomainDestroy(domain=x) = 0 <1us>\\r\\tend\"" },
	{ "[bold red]markup[/bold red] [link=file:///etc/passwd]x[/link] :warning:",
	  "\"[bold red]markup[/bold red] [link=file:///etc/passwd]x[/link] :warning:\"" },
	{ "safe\342\200\256exe.txt\342\201\246x\342\201\251",
	  "\"safe\\u202eexe.txt\\u2066x\\u2069\"" },
	/* not UTF-8: first as \xNN, backslashes doubled */
	{ "bad\377\376utf8\\", "\"bad\\\\xff\\\\xfeutf8\\\\\\\\\"" },
	{ "\302\23331m", "\"\\u009b31m\"" },
	{ "\"}\\\",\"pid\":1", "\"\\\"}\\\\\\\",\\\"pid\\\":1\"" },
	{ "\177\001\033", "\"\\x7f\\x01\\x1b\"" },
	{ "NULL", "\"NULL\"" },
	{ "\355\240\200", "\"\\\\xed\\\\xa0\\\\x80\"" },
	{ "\346\227\245\346\234\254 dom\303\244ne", "\"\346\227\245\346\234\254 dom\303\244ne\"" },
	{ "zero\342\200\213width\342\200\250line", "\"zero\\u200bwidth\\u2028line\"" },
	{ "", "\"\"" },
};

int main(void)
{
	static const char xml[] =
		"<domain type='test'><name>a-name-with-room-for-a-hundred-bytes-and-some-more-"
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"xxxxxxxxxxxxxxxxxxxxxxxx"
		"</name><memory>1024</memory><os><type>hvm</type></os></domain>";
	virConnectPtr conn = open_test();
	virDomainPtr domain = virDomainDefineXML(conn, xml);
	char *name;

	check(domain, "virDomainDefineXML");
	name = (char *)virDomainGetName(domain);	/* the name inside the handle */
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		strcpy(name, names[i].name);
		check(virDomainGetName(domain) == name, "virDomainGetName");
		check(!virDomainLookupByName(conn, names[i].name), "looking for nothing");
		printf("{\"name\":");
		print_bytes(names[i].name, strlen(names[i].name));
		printf(",\"text\":");
		print_bytes(names[i].text, strlen(names[i].text));
		puts("}");
	}
	return 0;
}
