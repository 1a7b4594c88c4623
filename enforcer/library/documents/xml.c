/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goes through the tags of a plain XML document: what a reader is at comes in; tags, attributes and
 * texts go out, or that libxml2 may see something else there.
 *
 * That may be so because of entities, CDATA, encodings, document types, namespaces and processing
 * instructions. A document that libxml2 refuses may get any answer, since libvirt refuses it, too.
 */
#define _GNU_SOURCE
#include <string.h>
#include "xml.h"

bool starts(const struct reader *r, const char *text)
{
	size_t length = strlen(text);

	return (size_t)(r->end - r->at) >= length && !memcmp(r->at, text, length);
}

bool skip_past(struct reader *r, const char *text)
{
	const char *found = memmem(r->at, r->end - r->at, text, strlen(text));

	if (!found)
		return false;
	r->at = found + strlen(text);
	return true;
}

bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_blanks(struct reader *r)
{
	while (r->at < r->end && is_blank(*r->at))
		r->at++;
}

/* The tag at `<`; quoted attribute values may hold brackets. */
bool read_tag(struct reader *r, struct tag *tag)
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

bool is_named(const struct tag *tag, const char *name)
{
	return tag->length == strlen(name) && !memcmp(tag->name, name, tag->length);
}

/* What the name is behind its prefix. */
const char *local_name(const char *name, const char *end)
{
	const char *colon = memchr(name, ':', end - name);

	return colon ? colon + 1 : name;
}

/* The value of an attribute of that name; NO: it has none. */
enum certainty read_attribute(const struct tag *tag, const char *name, const char **value,
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
bool is_plain_text(const char *text, size_t length)
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
bool has_namespace(const struct tag *tag)
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
bool read_prolog(struct reader *r)
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
