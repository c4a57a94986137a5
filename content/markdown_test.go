package content

import (
	"reflect"
	"strings"
	"testing"
)

var escapeTable = []struct{ name, in, want string }{
	{"plain", "a < b > c, <3, 1<2", "a < b > c, <3, 1<2"},
	{"open tag", "a <b>c</b>", "a &lt;b>c&lt;/b>"},
	{"attributes", `x <a href="u" title='v' w>y</a>`, `x &lt;a href="u" title='v' w>y&lt;/a>`},
	{"attribute over lines", "x <a\nhref='u'>", "x &lt;a\nhref='u'>"},
	{"self-closing", "x <br/> y", "x &lt;br/> y"},
	{"comment", "x <!-- c --> y", "x &lt;!-- c --> y"},
	{"processing instruction", "x <?php y ?> z", "x &lt;?php y ?> z"},
	{"declaration", "x <!DOCTYPE html> y", "x &lt;!DOCTYPE html> y"},
	{"CDATA", "x <![CDATA[>&<]]> y", "x &lt;![CDATA[>&<]]> y"},
	{"tag in emphasis", "*x <b>y</b>*", "*x &lt;b>y&lt;/b>*"},
	{"tag in link text", "[<b>x</b>](https://example.com)", "[&lt;b>x&lt;/b>](https://example.com)"},
	{"tag in a list", "- <b>x</b>", "- &lt;b>x&lt;/b>"},
	{"tag in a quote", "> <b>x</b>", "> &lt;b>x&lt;/b>"},
	{"tag in a heading", "# <b>x</b>", "# &lt;b>x&lt;/b>"},
	{"tag in a table", "|a|b|\n|-|-|\n|<i>x</i>|`<i>`|", "|a|b|\n|-|-|\n|&lt;i>x&lt;/i>|`<i>`|"},
	{"tag after an escaped pipe", "|a|b|\n|-|-|\n|\\|<i>x|y|", "|a|b|\n|-|-|\n|\\|&lt;i>x|y|"},
	{"block", "<div>\n*x*\n</div>", "&lt;div>\n*x*\n&lt;/div>"},
	{"block without end", "<div\n  onclick=x", "&lt;div\n  onclick=x"},
	{"script block", "<script>\nalert(1)\n</script>", "&lt;script>\nalert(1)\n&lt;/script>"},
	{"script without end", "<script\nx", "&lt;script\nx"},
	{"block in a list", "- <div>\n  x", "- &lt;div>\n  x"},
	{"comment block", "<!-- x\n\ny -->\nz", "&lt;!-- x\n\ny -->\nz"},
	{"comment block on a line", "<!-- x -->", "&lt;!-- x -->"},
	{"nested blocks", "<div>\n<pre>\n<b>x</b>\n</pre>\n</div>", "&lt;div>\n&lt;pre>\n&lt;b>x&lt;/b>\n&lt;/pre>\n&lt;/div>"},
	{"indented block", "   <div>x</div>", "   &lt;div>x&lt;/div>"},
	{"code span", "use `<b>` here", "use `<b>` here"},
	{"code fence", "```\n<b>x</b>\n```", "```\n<b>x</b>\n```"},
	{"code by indentation", "    <b>x</b>", "    <b>x</b>"},
	{"not a code span", "use `<b> here", "use `&lt;b> here"},
	{"escaped", `\<b>`, `\<b>`},
	{"escaped backslash", `\\<b>`, `\\&lt;b>`},
	{"URI link", "<https://example.com/a> <mimi://example.com/u/alice-smith>", "<https://example.com/a> <mimi://example.com/u/alice-smith>"},
	{"mail link", "<a@example.com>", "<a@example.com>"},
	{"link destination", "[x](<https://example.com/a b>)", "[x](<https://example.com/a b>)"},
	{"already escaped", "&lt;b>", "&lt;b>"},
	{"carriage return", "a\r<div\r\nx", "a\n&lt;div\nx"},
	{"custom element", "<x-y z>", "&lt;x-y z>"},
}

func TestEscapeHTML(t *testing.T) {
	for _, tt := range escapeTable {
		t.Run(tt.name, func(t *testing.T) {
			got := EscapeHTML(tt.in)
			if got != tt.want {
				t.Errorf("EscapeHTML(%q) = %q, want %q", tt.in, got, tt.want)
			}
			if hasHTML([]byte(got)) {
				t.Errorf("%q still has HTML", got)
			}
			if want := tt.in != tt.want && !strings.Contains(tt.in, "\r"); want && !hasHTML([]byte(tt.in)) {
				t.Errorf("%q was taken to have no HTML", tt.in)
			}
		})
	}
}

// What hides a further block behind each that is escaped ends in a finite
// number of passes, and without HTML.
func TestEscapeHTMLNested(t *testing.T) {
	s := strings.Repeat("<!--x\n\n", 200) + strings.Repeat("<div>\n", 200)
	if got := EscapeHTML(s); hasHTML([]byte(got)) {
		t.Error("HTML is left")
	}
}

// A long text is not parsed, since that can take long; it is escaped all the
// same.
func TestEscapeHTMLLong(t *testing.T) {
	pad := strings.Repeat("- ", maxParse)
	got := EscapeHTML(pad + "<b> `<c>`")
	if want := pad + "&lt;b> `&lt;c>`"; got != want {
		t.Errorf("got …%q", got[len(pad):])
	}
	if hasHTML([]byte(got)) || !hasHTML([]byte(pad+"<b>")) {
		t.Error("hasHTML of a long text")
	}
}

func TestLinks(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []Link
	}{
		{"no link https://example.com", nil}, // no autolink extension
		{"Kudos to [@Alice Smith](mimi://example.com/u/alice-smith) for it", []Link{{"@Alice Smith", "mimi://example.com/u/alice-smith"}}},
		{"<mimi://example.com/u/a> [*b* `c`](https://d.example \"t\")", []Link{{"mimi://example.com/u/a", "mimi://example.com/u/a"}, {"b c", "https://d.example"}}},
		{"`[a](https://b.example)`", nil},
	} {
		if got := Links(tt.in); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Links(%q) = %v, want %v", tt.in, got, tt.want)
		}
	}
	if got := Links("[a](b:c)" + strings.Repeat(" ", maxParse)); got != nil {
		t.Errorf("links of a long text: %v", got)
	}
}
