/* SPDX-License-Identifier: GPL-2.0 */
/* The little that the interposer needs in place of the C library */
#ifndef _TEXT_H
#define _TEXT_H

static char *put_string(char *p, const char *s)
{
	while (*s)
		*p++ = *s++;
	return p;
}

static char *put_hex(char *p, unsigned long n)
{
	int shift = 60;

	while (shift && !(n >> shift))
		shift -= 4;
	p = put_string(p, "0x");
	for (; shift >= 0; shift -= 4)
		*p++ = "0123456789abcdef"[n >> shift & 15];
	return p;
}

static char *put_number(char *p, long n)
{
	unsigned long rest = n;
	char digits[20];
	int i = 0;

	if (n < 0) {
		*p++ = '-';
		rest = -rest;
	}
	do {
		digits[i++] = '0' + rest % 10;
		rest /= 10;
	} while (rest);
	while (i)
		*p++ = digits[--i];
	return p;
}

/* The value of an environment variable; name ends with "=" */
static const char *variable(char **envp, const char *name)
{
	const char *value = 0;
	int i;

	for (; *envp; envp++) {
		for (i = 0; name[i] && (*envp)[i] == name[i]; i++)
			;
		if (!name[i])
			value = *envp + i;
	}
	return value;
}

static int equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

#endif /* _TEXT_H */
