/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether an XML document has a text or an element in it: the document and what is sought come in;
 * yes, no, or that it can't be told goes out.
 */
#define _GNU_SOURCE
#include <string.h>
#include "xml.h"

/*
 * Whether text that is not in the document as it is can't be in it in another spelling. Tags can
 * have a prefix, which libvirt doesn't look at.
 */
bool is_plain_xml(const char *xml, const char *sought)
{
	struct reader r = { xml, xml + strlen(xml) };

	if (!read_prolog(&r))
		return false;
	if (*sought != '<')
		return !(strchr(r.at, '&') || strstr(r.at, "<!") || strstr(r.at, "<?"));
	while (skip_past(&r, "<")) {
		const char *colon = r.at + strcspn(r.at, ": \t\r\n/<>");

		if (*colon == ':' && !strncmp(colon + 1, sought + 1, strlen(sought + 1)))
			return false;
	}
	return true;
}

/* Whether the attribute has that value. */
static enum certainty is_attribute(const struct tag *tag, const char *name, const char *sought)
{
	size_t length = 0;
	const char *value;
	enum certainty has = read_attribute(tag, name, &value, &length);

	if (has != YES)
		return has;
	if (!is_plain_text(value, length))
		return UNKNOWN;
	return length == strlen(sought) && !memcmp(value, sought, length) ? YES : NO;
}

/*
 * Whether the document has an element of that name, or NAME\1ATTRIBUTE\1VALUE. What can't be read
 * with certainty may have everything.
 */
enum certainty has_element(const char *xml, const char *sought)
{
	struct reader r = { xml, xml + strnlen(xml, BYTES_MAX + 1) };
	size_t length = strcspn(sought, "\1");
	enum certainty result = NO;
	char attribute[64] = { 0 };
	const char *value = NULL;
	struct tag tag;

	if (sought[length]) {
		const char *rest = sought + length + 1;
		size_t n = strcspn(rest, "\1");

		if (n >= sizeof(attribute) || !rest[n])
			return UNKNOWN;
		memcpy(attribute, rest, n);
		value = rest + n + 1;
	}
	if (r.end - r.at > BYTES_MAX || !read_prolog(&r))
		return UNKNOWN;
	while (r.at < r.end) {
		const char *name;

		if (*r.at != '<') {
			r.at++;
			continue;
		}
		if (starts(&r, "<!--") || starts(&r, "<![CDATA[") || starts(&r, "<?")) {
			const char *end = starts(&r, "<?") ? "?>" : "-->";

			if (!skip_past(&r, starts(&r, "<![") ? "]]>" : end))
				return UNKNOWN;
			continue;
		}
		if (starts(&r, "<!") || !read_tag(&r, &tag))
			return UNKNOWN;
		name = local_name(tag.name, tag.name + tag.length);
		if (tag.closes || (size_t)(tag.name + tag.length - name) != length ||
		    memcmp(name, sought, length))
			continue;
		switch (value ? is_attribute(&tag, attribute, value) : YES) {
		case YES:
			return YES;
		case UNKNOWN:
			result = UNKNOWN;
			break;
		default:
			break;
		}
	}
	return result;
}
