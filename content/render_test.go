package content

import (
	"fmt"
	"strings"
	"testing"
)

var sanitizeTable = []struct{ name, in, text, line string }{
	{"plain", "hello", "hello", "hello"},
	{"empty", "", "", ""},
	{"line breaks", "a\nb\r\nc\rd\u2028e\u2029f\u0085g\vh\fi", "a\nb\nc\nd\ne\nf\ng\nh\ni", "a b c d e f g h i"},
	{"tab", "a\tb", "a\tb", "a b"},
	{"colour", "\x1b[31mred\x1b[0m", "␛[31mred␛[0m", "␛[31mred␛[0m"},
	{"title", "\x1b]0;owned\x07", "␛]0;owned␇", "␛]0;owned␇"},
	{"clipboard", "\x1b]52;c;cm0gLXJm\x1b\\", "␛]52;c;cm0gLXJm␛\\", "␛]52;c;cm0gLXJm␛\\"},
	{"C1 sequence", "\u009b31m\u009d0;x\u009c", "\ufffd31m\ufffd0;x\ufffd", "\ufffd31m\ufffd0;x\ufffd"},
	{"raw C1", "\x9b31m", "\ufffd31m", "\ufffd31m"},
	{"backspace", "safe\b\b\b\bevil\x7f", "safe␈␈␈␈evil␡", "safe␈␈␈␈evil␡"},
	{"null", "a\x00b", "a␀b", "a␀b"},
	{"bad UTF-8", "a\xc3(b\xff", "a\ufffd(b\ufffd", "a\ufffd(b\ufffd"},
	{"overrides", "a\u202eb\u202cc\u2066d\u2069", "abcd", "abcd"},
	{"direction marks", "\u05d0\u200f!", "\u05d0\u200f!", "\u05d0\u200f!"},
	{"zero width space", "a\u200bb\ufeffc\u2060d", "abcd", "abcd"},
	{"emoji sequence", "👩🏽\u200d⚕\ufe0f", "👩🏽\u200d⚕\ufe0f", "👩🏽\u200d⚕\ufe0f"},
	{"flag of a region", "🏴\U000e0067\U000e0062\U000e007f", "🏴\U000e0067\U000e0062\U000e007f", "🏴\U000e0067\U000e0062\U000e007f"},
	{"private use", "a\ue000b", "ab", "ab"},
	{"marks", "z" + strings.Repeat("\u0301", 50) + "a\u0301", "z" + strings.Repeat("\u0301", maxMarks) + "a\u0301", "z" + strings.Repeat("\u0301", maxMarks) + "a\u0301"},
}

func TestSanitize(t *testing.T) {
	for _, tt := range sanitizeTable {
		if got := SanitizeText(tt.in); got != tt.text {
			t.Errorf("%s: SanitizeText(%q) = %q, want %q", tt.name, tt.in, got, tt.text)
		}
		if got := SanitizeLine(tt.in); got != tt.line {
			t.Errorf("%s: SanitizeLine(%q) = %q, want %q", tt.name, tt.in, got, tt.line)
		}
	}
}

var htmlTable = []struct{ name, in, want string }{
	{"text", "a &amp; b", "a & b"},
	{"paragraphs", "<p>a</p><p>b\n  c</p>d", "a\nb c\nd"},
	{"mention", `<p>Kudos to <a href="mimi://example.com/u/a">@A</a> for it!</p>`, "Kudos to @A <mimi://example.com/u/a> for it!"},
	{"honest link", `<a href="https://example.com">https://example.com</a>`, "https://example.com"},
	{"dishonest link", `<a href="https://evil.example">https://example.com</a>`, "https://example.com <https://evil.example>"},
	{"open link", `<a href="https://evil.example">https://example.com`, "https://example.com <https://evil.example>"},
	{"nested links", `<a href="b:1"><a href="b:2">x</a></a>`, "x <b:2> <b:1>"},
	{"stray end", "</a>x", "x"},
	{"script", "a<script>alert('x')</script><style>p{}</style>b", "ab"},
	{"script without end", "a<script>alert('x')", "a"},
	{"comment", "a<!-- hidden -->b", "ab"},
	{"image", `<img src="cid:5@local.invalid" alt="Welcome image"/><img src=x>`, "[image: Welcome image][image]"},
	{"list", "<ul><li>a<li>b</ul>c", "- a\n- b\nc"},
	{"break", "a<br>b<br/>c", "a\nb\nc"},
	{"table", "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"},
	{"entity that is a control", "a&#27;[31mb&#x9b;c", "a␛[31mb›c"},
}

func TestHTMLText(t *testing.T) {
	for _, tt := range htmlTable {
		if got := SanitizeText(htmlText([]byte(tt.in))); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestTextOfExamples(t *testing.T) {
	for name, want := range map[string]string{
		"original":     "Hi everyone, we just shipped release 2.0. __Good  work__!",
		"reaction":     "❤",
		"mention":      "Kudos to [@Alice Smith](mimi://example.com/u/alice-smith) for making the release happen!",
		"mention-html": "Kudos to @Alice Smith <mimi://example.com/u/alice-smith> for making the release happen!",
		"delete":       "",
		"unlike":       "",
		"attachment":   "[attachment: bigfile.mp4, 2 hours of key signing video, video/mp4, 708234961 octets]",
		"conferencing": "[session: Join the Foo 118 conference, unknown type, https://example.com/join/12345]",
		"multipart-1":  "# Welcome!",
		"multipart-2":  "❤\n🥳\n🤞",
		"multipart-3":  "Welcome!\n[image: Welcome image]",
	} {
		if got := example(t, name).Text(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	m := example(t, "multipart-3")
	if got := (&Renderer{Languages: []string{"fr-CA", "en"}}).Text(m); got != "Bienvenue!\n[image: Image bienvenue]" {
		t.Errorf("in French: %q", got)
	}
}

// indexes lists the indexes of the chosen parts; one that is not understood
// has a question mark.
func indexes(choices []Choice) string {
	var s []string
	for _, c := range choices {
		mark := ""
		if !c.Understood {
			mark = "?"
		}
		s = append(s, fmt.Sprint(c.Index, mark))
	}
	return strings.Join(s, " ")
}

func TestSelectOfExample(t *testing.T) {
	m := example(t, "multipart-3")
	only := func(types ...string) func(string, bool) int {
		return func(contentType string, external bool) int {
			for i, ty := range types {
				if contentType == ty {
					return len(types) - i
				}
			}
			return 0
		}
	}
	for _, tt := range []struct {
		name string
		r    Renderer
		want string
	}{
		{"terminal", Renderer{}, "3"}, // the GIF is part of the HTML
		{"GIF in French", Renderer{Languages: []string{"fr"}, Quality: only("text/html;charset=utf-8", "image/gif")}, "4"},
		{"PNG", Renderer{Quality: only("image/png", "text/html;charset=utf-8")}, "8"},
		{"PNG without HTML", Renderer{Quality: only("image/png")}, "7? 10"},
		{"nothing", Renderer{Quality: only()}, "0?"},
	} {
		if got := indexes(tt.r.Select(&m.Body)); got != tt.want {
			t.Errorf("%s: parts %q, want %q", tt.name, got, tt.want)
		}
	}
	vendor := Renderer{Quality: only("application/vnd.examplevendor-fancy-im-message", MediaTypeMarkdown)}
	if m := example(t, "multipart-1"); indexes(vendor.Select(&m.Body)) != "2" {
		t.Errorf("vendor's client does not choose its own part")
	}
}

func TestSelect(t *testing.T) {
	part := func(contentType, content string) NestedPart {
		return NestedPart{Disposition: Render, Part: SinglePart{contentType, []byte(content)}}
	}
	image := part("image/png", "\x89PNG")
	multi := func(s PartSemantics, parts ...NestedPart) NestedPart {
		return NestedPart{Disposition: Render, Part: MultiPart{s, parts}}
	}
	lang := func(tags string) NestedPart {
		p := PlainText(tags)
		p.Language = tags
		return p
	}
	ext := NestedPart{Disposition: Inline, Part: ExternalPart{ContentType: "image/png", URL: "https://example.com/\x1b[2J", Filename: "a\nb\x1b", Size: 9}}
	for _, tt := range []struct {
		name       string
		body       NestedPart
		langs      []string
		want, text string
	}{
		{"single", PlainText("a"), nil, "0", "a"},
		{"unknown type", image, nil, "0?", "[render: image/png, 4 octets]"},
		{"unknown charset", part("text/plain;charset=utf-16", "a"), nil, "0?", "[render: text/plain, 1 octets]"},
		{"type that drives", part("\x1b[2J", "a"), nil, "0?", "[render: unknown type, 1 octets]"},
		{"text that drives", PlainText("a\x1b[2J"), nil, "0", "a␛[2J"},
		{"unknown disposition", NestedPart{Disposition: 200, Part: SinglePart{"text/plain", []byte("a")}}, nil, "0", "a"},
		{"external that drives", ext, nil, "0", "[inline: a b␛, image/png, 9 octets, https://example.com/␛[2J]"},
		{"plain over Markdown", multi(ChooseOne, Markdown("m"), PlainText("p")), nil, "2", "p"},
		{"Markdown over HTML", multi(ChooseOne, part(MediaTypeHTML, "h"), Markdown("m")), nil, "2", "m"},
		{"external over nothing", multi(ChooseOne, image, ext), nil, "2", "[inline: a b␛, image/png, 9 octets, https://example.com/␛[2J]"},
		{"first of equals", multi(ChooseOne, PlainText("a"), PlainText("b")), nil, "1", "a"},
		{"type over language", multi(ChooseOne, lang("de"), func() NestedPart { p := Markdown("en"); p.Language = "en"; return p }()), []string{"en"}, "1", "de"},
		{"language", multi(ChooseOne, lang("de"), lang("en-GB, fr")), []string{"fr", "de"}, "2", "en-GB, fr"},
		{"region", multi(ChooseOne, lang("de"), lang("en-GB")), []string{"en"}, "2", "en-GB"},
		{"no region", multi(ChooseOne, lang("de"), lang("en")), []string{"en-GB"}, "2", "en"},
		{"not a prefix", multi(ChooseOne, lang(""), lang("end")), []string{"en"}, "1", ""},
		{"neutral over foreign", multi(ChooseOne, lang("de"), PlainText("x")), []string{"en"}, "2", "x"},
		{"no choice", multi(ChooseOne, image, image), nil, "0?", "[content that this client cannot show]"},
		{"unit", multi(SingleUnit, PlainText("a"), PlainText("b")), nil, "1 2", "a\nb"},
		{"broken unit", multi(SingleUnit, PlainText("a"), image), nil, "0?", "[content that this client cannot show]"},
		{"all", multi(ProcessAll, PlainText("a"), image, PlainText("b")), nil, "1 2? 3", "a\n[render: image/png, 4 octets]\nb"},
		{"choice without gaps", multi(ChooseOne, multi(ProcessAll, PlainText("a"), image), multi(ProcessAll, PlainText("b"), ext)), nil, "5 6", "b\n[inline: a b␛, image/png, 9 octets, https://example.com/␛[2J]"},
		{"broken unit in a choice", multi(ChooseOne, multi(SingleUnit, PlainText("a"), image), part(MediaTypeHTML, "h")), nil, "4", "h"},
		{"null parts", multi(ProcessAll, NestedPart{Part: NullPart{}}, PlainText("a")), nil, "2", "a"},
		{"referred to", multi(ProcessAll, Markdown("![x](cid:2@local.invalid)"), image, PlainText("c")), nil, "1 3", "![x](cid:2@local.invalid)\nc"},
		{"referred to later", multi(ProcessAll, image, Markdown("![x](cid:1@local.invalid)")), nil, "1? 2", "[render: image/png, 4 octets]\n![x](cid:1@local.invalid)"},
		{"plain text does not refer", multi(ProcessAll, PlainText("cid:2@local.invalid"), PlainText("b")), nil, "1 2", "cid:2@local.invalid\nb"},
	} {
		r := &Renderer{Languages: tt.langs}
		if got := indexes(r.Select(&tt.body)); got != tt.want {
			t.Errorf("%s: parts %q, want %q", tt.name, got, tt.want)
		}
		got := r.Text(&Message{Body: tt.body})
		if got != tt.text {
			t.Errorf("%s: text %q, want %q", tt.name, got, tt.text)
		}
		checkTerminal(t, got)
	}
}
