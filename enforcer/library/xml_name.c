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
#define _GNU_SOURCE
#include <string.h>
#include "enforcer.h"

#define BYTES_MAX (1 << 20)

struct reader {
	const char *at, *end;
};

static bool starts(const struct reader *r, const char *text)
{
	size_t length = strlen(text);

	return (size_t)(r->end - r->at) >= length && !memcmp(r->at, text, length);
}

static bool skip_past(struct reader *r, const char *text)
{
	const char *found = memmem(r->at, r->end - r->at, text, strlen(text));

	if (!found)
		return false;
	r->at = found + strlen(text);
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_blanks(struct reader *r)
{
	while (r->at < r->end && is_blank(*r->at))
		r->at++;
}

struct tag {
	const char *name;	/* of the element */
	size_t length;
	const char *attributes, *end;	/* what is between the name and the closing bracket */
	bool closes;		/* </name> */
	bool is_empty;		/* <name/> */
};

/* The tag at `<`; quoted attribute values may hold brackets. */
static bool read_tag(struct reader *r, struct tag *tag)
{
	char quote = 0;

	r->at++;
	tag->closes = r->at < r->end && *r->at == '/';
	r->at += tag->closes;
	tag->name = r->at;
	while (r->at < r->end && !is_blank(*r->at) && *r->at != '>' && *r->at != '/' &&
	       *r->at != '<')
		r->at++;
	tag->length = r->at - tag->name;
	tag->attributes = r->at;
	for (; r->at < r->end; r->at++) {
		if (quote)
			quote = *r->at == quote ? 0 : quote;
		else if (*r->at == '"' || *r->at == '\'')
			quote = *r->at;
		else if (*r->at == '<')
			return false;
		else if (*r->at == '>')
			break;
	}
	if (r->at >= r->end || !tag->length)
		return false;
	tag->end = r->at;
	tag->is_empty = tag->end > tag->attributes && tag->end[-1] == '/';
	r->at++;
	return true;
}

static bool is_named(const struct tag *tag, const char *name)
{
	return tag->length == strlen(name) && !memcmp(tag->name, name, tag->length);
}

/* What the name is behind its prefix. */
static const char *local_name(const char *name, const char *end)
{
	const char *colon = memchr(name, ':', end - name);

	return colon ? colon + 1 : name;
}

/* The value of an attribute of that name; NO: it has none. */
static enum certainty read_attribute(const struct tag *tag, const char *name, const char **value,
				     size_t *length)
{
	struct reader r = { tag->attributes, tag->end };

	for (;;) {
		const char *start, *stop, *local;
		char quote;

		skip_blanks(&r);
		start = r.at;
		while (r.at < r.end && !is_blank(*r.at) && *r.at != '=' && *r.at != '/')
			r.at++;
		stop = r.at;
		skip_blanks(&r);
		if (r.at >= r.end || *r.at != '=')
			return start == stop || *r.at == '/' ? NO : UNKNOWN;
		r.at++;
		skip_blanks(&r);
		if (r.at >= r.end || (*r.at != '"' && *r.at != '\''))
			return UNKNOWN;
		quote = *r.at++;
		*value = r.at;
		while (r.at < r.end && *r.at != quote)
			r.at++;
		if (r.at >= r.end)
			return UNKNOWN;
		*length = r.at - *value;
		r.at++;
		local = local_name(start, stop);
		if ((size_t)(stop - local) == strlen(name) && !memcmp(local, name, stop - local)) {
			if (local == start)
				return YES;
			if (stop - start > 6 && !memcmp(start, "xmlns:", 6))
				continue;	/* declares a prefix */
			return UNKNOWN;		/* libvirt goes by the name without its prefix */
		}
	}
}

/* What libxml2 passes on as it is: no references, no line ends that it would change. */
static bool is_plain_text(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == '&' || text[i] == '<' ||
		    text[i] == 0x7f)
			return false;
	return true;
}

/*
 * Whether elements without a prefix are in a namespace from there on: then libvirt doesn't find
 * them.
 */
static bool has_namespace(const struct tag *tag)
{
	const char *value;
	size_t length;

	return memchr(tag->name, ':', tag->length) ||
	       read_attribute(tag, "xmlns", &value, &length) != NO;
}

/* <?xml ...?>: only encodings that leave the bytes as they are. */
static bool read_declaration(struct reader *r)
{
	struct tag declaration = { .attributes = r->at + 5 };
	size_t length = 0;
	const char *value;

	if (!skip_past(r, "?>"))
		return false;
	declaration.end = r->at - 2;
	if (declaration.end < declaration.attributes)
		return false;
	switch (read_attribute(&declaration, "encoding", &value, &length)) {
	case NO:
		return true;
	case YES:
		return length == 5 && (!memcmp(value, "utf-8", 5) || !memcmp(value, "UTF-8", 5));
	default:
		return false;
	}
}

/* What may come before the root. */
static bool read_prolog(struct reader *r)
{
	if (starts(r, "<?xml") && r->end - r->at > 5 && is_blank(r->at[5]) && !read_declaration(r))
		return false;
	for (;;) {
		skip_blanks(r);
		if (!starts(r, "<!--"))
			break;
		r->at += 4;
		if (!skip_past(r, "-->"))
			return false;
	}
	return r->at < r->end && *r->at == '<' && !starts(r, "<!") && !starts(r, "<?");
}

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
