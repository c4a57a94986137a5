package content

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMarks is how many combining marks in a row SanitizeText keeps; more
// would paint over the lines around.
const maxMarks = 8

// SanitizeText makes text from elsewhere safe to print on a terminal. Control
// characters become visible symbols, so that no escape sequence remains; line
// feeds and tabs stay, and other line breaks become line feeds. Octets that
// are not UTF-8 become U+FFFD. Invisible characters that reorder or hide text
// are removed, except the joiners and tags that emoji and scripts need. Long
// runs of combining marks are cut.
//
// It keeps line breaks, so whoever prints it with other lines around must
// indent or prefix each line, or the text could pass for one of those.
func SanitizeText(s string) string { return sanitize(s, false) }

// SanitizeLine is SanitizeText for what has to stay on one line, such as a
// file name: line breaks and tabs become spaces.
func SanitizeLine(s string) string { return sanitize(s, true) }

func sanitize(s string, line bool) string {
	if plainASCII(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	marks := 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == '\r' && i < len(s) && s[i] == '\n':
			continue
		case r == '\n', r == '\r', r == '\v', r == '\f', r == 0x85, r == 0x2028, r == 0x2029:
			r = '\n'
			if line {
				r = ' '
			}
		case r == '\t':
			if line {
				r = ' '
			}
		case r < 0x20:
			r += 0x2400 // the symbol for the control character
		case r == 0x7f:
			r = 0x2421
		case r < 0xa0 && r > 0x7f:
			r = utf8.RuneError
		case invisible(r):
			continue
		}
		if unicode.In(r, unicode.Mn, unicode.Me) {
			if marks++; marks > maxMarks {
				continue
			}
		} else {
			marks = 0
		}
		b.WriteRune(r)
	}
	return b.String()
}

// plainASCII reports whether s has printable ASCII only.
func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// invisible reports whether r reorders or hides text and has no use in a
// chat message.
func invisible(r rune) bool {
	switch {
	case r == 0x200c, r == 0x200d: // joiners: Persian, Indic scripts, emoji
		return false
	case r == 0x200e, r == 0x200f, r == 0x61c: // marks that affect their own place only
		return false
	case r >= 0xe0020 && r <= 0xe007f: // tags: flags of regions
		return false
	case r == 0x115f, r == 0x1160, r == 0x3164, r == 0xffa0: // Hangul fillers
		return true
	case r == 0x2800: // a blank that is not a space
		return false
	}
	return unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r) || unicode.Is(unicode.Noncharacter_Code_Point, r)
}
