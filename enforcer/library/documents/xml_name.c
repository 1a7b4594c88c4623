/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads which object an XML document is about: the document comes in; its name and UUID go out, or
 * that they can't be told.
 *
 * libvirt parses the document with libxml2 and takes the first <name> and <uuid> below the root.
 * This reader goes through the tags of a plain document in one pass. Whatever could make libxml2
 * see another name (entities, CDATA, encodings, document types, namespaces, processing
 * instructions, comments inside) makes it give up: the answer is UNKNOWN. A document that libxml2
 * refuses may get any answer, since libvirt refuses it, too.
 */
#include <string.h>
#include "xml.h"

/* Of a hexadecimal digit; -1: it is none. */
static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool read_uuid(const char *text, size_t length, uint8_t uuid[16])
{
	size_t i = 0;

	/* as virUUIDParse: blanks around it, hyphens between any two digits' pairs */
	while (i < length && is_blank(text[i]))
		i++;
	for (unsigned n = 0; n < 32;) {
		char c = i < length ? text[i++] : 0;
		int digit = digit_of(c);

		if (c == '-' && n % 2 == 0)
			continue;
		if (digit < 0)
			return false;
		uuid[n / 2] = n % 2 ? uuid[n / 2] | digit : digit << 4;
		n++;
	}
	while (i < length && is_blank(text[i]))
		i++;
	return i == length;
}

/*
 * The text of an element whose opening tag was read, up to its closing one; false: something else
 * is in it.
 */
static bool read_text(struct reader *r, const struct tag *tag, const char **text, size_t *length)
{
	struct tag close;

	*text = r->at;
	*length = 0;
	if (tag->is_empty)
		return true;
	while (r->at < r->end && *r->at != '<')
		r->at++;
	*length = r->at - *text;
	if (r->at >= r->end || starts(r, "<!") || starts(r, "<?"))
		return false;
	return read_tag(r, &close) && close.closes && close.length == tag->length &&
	       !memcmp(close.name, tag->name, tag->length) && is_plain_text(*text, *length);
}

struct xml_identity read_xml_identity(const char *xml, enum xml_shape shape)
{
	const struct xml_identity unknown = { .has_name = UNKNOWN, .has_uuid = UNKNOWN };
	struct xml_identity found = { .has_name = NO, .has_uuid = NO }, source = { 0 };
	struct reader r = { xml, xml + strnlen(xml, BYTES_MAX + 1) };
	bool in_source = false, has_source = false, has_source_name = false;
	unsigned depth = 1;
	struct tag root, tag;
	const char *text;
	size_t length;

	if (r.end - r.at > BYTES_MAX || !read_prolog(&r) || !read_tag(&r, &root) || root.closes ||
	    has_namespace(&root))
		return unknown;
	if (shape == NAME_ATTRIBUTE) {
		found.has_name = read_attribute(&root, "name", &found.name, &found.length);
		if (found.has_name == YES && !is_plain_text(found.name, found.length))
			return unknown;
	}
	if (root.is_empty)
		return found;
	/*
	 * to the end of the root: a second <name> is none of libvirt's business, but what would end
	 * the first early must be seen
	 */
	while (depth) {
		while (r.at < r.end && *r.at != '<')
			r.at++;
		if (r.at >= r.end)
			return unknown;
		if (starts(&r, "<!--")) {
			r.at += 4;
			if (!skip_past(&r, "-->"))
				return unknown;
			continue;
		}
		if (starts(&r, "<!") || starts(&r, "<?") || !read_tag(&r, &tag))
			return unknown;
		if (tag.closes) {
			depth--;
			continue;
		}
		if (depth > 1) {
			/* a pool without a name has its source's */
			if (depth == 2 && in_source && !has_source_name && is_named(&tag, "name")) {
				if (has_namespace(&tag) ||
				    !read_text(&r, &tag, &source.name, &source.length))
					return unknown;
				has_source_name = true;
				continue;
			}
			depth += !tag.is_empty;
			continue;
		}
		in_source = shape == POOL_NAME && !has_source && is_named(&tag, "source");
		has_source |= in_source;
		if ((shape == NAME_CHILD || shape == POOL_NAME) && is_named(&tag, "name") &&
		    found.has_name == NO) {
			if (has_namespace(&tag) || !read_text(&r, &tag, &found.name, &found.length))
				return unknown;
			found.has_name = YES;
		} else if (is_named(&tag, "uuid") && found.has_uuid == NO) {
			if (has_namespace(&tag) || !read_text(&r, &tag, &text, &length) ||
			    !read_uuid(text, length, found.uuid))
				return unknown;
			found.has_uuid = YES;
		} else if (shape == PORTDEV_ATTRIBUTE && is_named(&tag, "portdev") &&
			   found.has_name == NO) {
			if (has_namespace(&tag))
				return unknown;
			found.has_name = read_attribute(&tag, "name", &found.name, &found.length);
			if (found.has_name == YES && !is_plain_text(found.name, found.length))
				return unknown;
			depth += !tag.is_empty;
		} else {
			if (shape == USAGE && is_named(&tag, "usage"))
				found.has_name = UNKNOWN;
			depth += !tag.is_empty;
		}
	}
	if (has_source_name && (found.has_name == NO || !found.length)) {
		found.has_name = YES;
		found.name = source.name;
		found.length = source.length;
	}
	return found;
}
