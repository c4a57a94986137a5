package content

import (
	"bytes"
	"mime"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// escapePasses is how often EscapeHTML parses its text before it escapes
// every angle bracket instead. Each pass can uncover tags, for example in
// what was an HTML block.
const escapePasses = 4

// maxParse is the longest Markdown in octets that is parsed. The parser
// takes quadratic time for some texts, and a gateway passes texts on that
// others wrote.
const maxParse = 16 << 10

// EscapeHTML replaces the opening angle bracket of every HTML tag in GFM-MIMI
// Markdown by &lt;, as the No HTML extension demands of senders (section
// 7.1.1): open and closing tags, comments, processing instructions,
// declarations, CDATA sections and the beginnings of HTML blocks. Angle
// brackets in code, in <scheme:…> links and before anything else stay. It
// also turns carriage returns into line feeds.
//
// The result has no HTML whatever the argument is. In a text of more than
// 16 KiB, or one that hides tags in tags, every angle bracket is replaced.
func EscapeHTML(markdown string) string {
	if strings.Contains(markdown, "\r") {
		markdown = strings.ReplaceAll(strings.ReplaceAll(markdown, "\r\n", "\n"), "\r", "\n")
	}
	src := []byte(markdown)
	for range escapePasses {
		tags, ok := htmlTags(src)
		if !ok {
			break
		}
		if len(tags) == 0 {
			return string(src)
		}
		var out []byte
		last := 0
		for _, at := range tags {
			out = append(append(out, src[last:at]...), "&lt;"...)
			last = at + 1
		}
		src = append(out, src[last:]...)
	}
	return string(bytes.ReplaceAll(src, []byte("<"), []byte("&lt;")))
}

// hasHTML reports whether GFM-MIMI Markdown contains an HTML tag.
func hasHTML(markdown []byte) bool {
	tags, ok := htmlTags(markdown)
	return !ok || len(tags) > 0
}

// parseGFM parses with the extensions that GFM-MIMI permits.
func parseGFM(src []byte) ast.Node {
	md := goldmark.New(goldmark.WithExtensions(extension.Table, extension.TaskList, extension.Strikethrough))
	return md.Parser().Parse(text.NewReader(src))
}

// htmlTags returns the ascending positions of the angle brackets that open
// HTML. It returns false if it cannot tell where one is.
func htmlTags(src []byte) (at []int, ok bool) {
	if bytes.IndexByte(src, '<') < 0 {
		return nil, true
	}
	if len(src) > maxParse {
		return nil, false
	}
	ok = true
	// The walker never fails: the function returns no error.
	_ = ast.Walk(parseGFM(src), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		var segments *text.Segments
		switch n := n.(type) {
		case *ast.RawHTML:
			segments = n.Segments
		case *ast.HTMLBlock:
			segments = n.Lines()
		default:
			return ast.WalkContinue, nil
		}
		if segments.Len() == 0 {
			ok = false
			return ast.WalkStop, nil
		}
		first := segments.At(0)
		i := bytes.IndexByte(src[first.Start:first.Stop], '<')
		if i < 0 || len(at) > 0 && at[len(at)-1] >= first.Start+i {
			ok = false
			return ast.WalkStop, nil
		}
		at = append(at, first.Start+i)
		return ast.WalkContinue, nil
	})
	return at, ok
}

// A Link is a link in Markdown.
type Link struct {
	Text   string // as shown, without markup
	Target string
}

// Links returns the links of GFM-MIMI Markdown in their order. A link whose
// target is the URI of a member is a mention (section 9.6); its text is but a
// hint. A text of more than 16 KiB is not parsed and has no links.
func Links(markdown string) []Link {
	if len(markdown) > maxParse {
		return nil
	}
	var links []Link
	src := []byte(markdown)
	_ = ast.Walk(parseGFM(src), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Link:
			links = append(links, Link{nodeText(n, src), string(n.Destination)})
		case *ast.AutoLink:
			links = append(links, Link{string(n.Label(src)), string(n.URL(src))})
		}
		return ast.WalkContinue, nil
	})
	return links
}

func nodeText(n ast.Node, src []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			switch n := n.(type) {
			case *ast.Text:
				b.Write(n.Value(src))
				if n.SoftLineBreak() || n.HardLineBreak() {
					b.WriteByte(' ')
				}
			case *ast.String:
				b.Write(n.Value)
			}
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// mediaType splits a content type into its lower-case type and its
// parameters. A type that is not well-formed is "".
func mediaType(contentType string) (string, map[string]string) {
	t, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", nil
	}
	return t, params
}

// isGFM reports whether the content type is GFM-MIMI Markdown.
func isGFM(contentType string) bool {
	t, params := mediaType(contentType)
	return t == "text/markdown" && strings.EqualFold(params["variant"], "GFM-MIMI")
}

// contentIDs returns the part indexes that a part of a type that can hold
// URIs refers to as cid:<index>@local.invalid (section 4.4).
func contentIDs(p SinglePart) []int {
	switch t, _ := mediaType(p.ContentType); t {
	case "text/html", "text/markdown", "text/vcard", "text/calendar":
	default:
		return nil
	}
	var found []int
	for rest := p.Content; ; {
		_, after, ok := bytes.Cut(rest, []byte("cid:"))
		if !ok {
			return found
		}
		rest = after
		index, digits := 0, 0
		for digits < len(rest) && digits < 4 && rest[digits] >= '0' && rest[digits] <= '9' {
			index = index*10 + int(rest[digits]-'0')
			digits++
		}
		if digits > 0 && bytes.HasPrefix(rest[digits:], []byte("@local.invalid")) {
			found = append(found, index)
		}
	}
}
