package content

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// htmlText returns the text of an HTML document. Block elements begin lines,
// images show as their alternative text, and a link whose text is not its
// target shows the target too (section 9.6). The result is not sanitised.
func htmlText(src []byte) string {
	var (
		w       htmlWriter
		targets []link // of the links that are open
		skip    atom.Atom
	)
	z := html.NewTokenizer(bytes.NewReader(src))
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			break // the end: the reader cannot fail
		}
		t := z.Token()
		switch {
		case skip != 0:
			if kind == html.EndTagToken && t.DataAtom == skip {
				skip = 0
			}
		case kind == html.TextToken:
			w.text(t.Data)
		case kind == html.StartTagToken, kind == html.SelfClosingTagToken:
			switch t.DataAtom {
			case atom.Script, atom.Style, atom.Title, atom.Template, atom.Textarea, atom.Iframe, atom.Noscript, atom.Noembed, atom.Noframes, atom.Xmp:
				if kind == html.StartTagToken {
					skip = t.DataAtom
				}
			case atom.Img:
				if alt := strings.TrimSpace(attribute(t, "alt")); alt != "" {
					w.text("[image: " + alt + "]")
				} else {
					w.text("[image]")
				}
			case atom.Li:
				w.line()
				w.text("- ")
			case atom.Br:
				w.line()
			case atom.A:
				if kind == html.StartTagToken {
					targets = append(targets, link{attribute(t, "href"), w.b.Len()})
				}
			default:
				w.block(t.DataAtom)
			}
		case kind == html.EndTagToken:
			if t.DataAtom == atom.A && len(targets) > 0 {
				w.target(targets[len(targets)-1])
				targets = targets[:len(targets)-1]
			}
			w.block(t.DataAtom)
		}
	}
	for len(targets) > 0 { // an author must not hide a target by not closing the link
		w.target(targets[len(targets)-1])
		targets = targets[:len(targets)-1]
	}
	return strings.TrimSpace(w.b.String())
}

type link struct {
	href  string
	start int // where its text begins
}

type htmlWriter struct {
	b     strings.Builder
	space bool // white space is owed before the next text
}

// text appends text with its white space collapsed.
func (w *htmlWriter) text(s string) {
	if s == "" {
		return
	}
	words := strings.Fields(s)
	w.space = w.space || isSpace(s[0])
	for _, word := range words {
		if w.space && w.b.Len() > 0 && !strings.HasSuffix(w.b.String(), "\n") {
			w.b.WriteByte(' ')
		}
		w.b.WriteString(word)
		w.space = true
	}
	w.space = isSpace(s[len(s)-1])
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' }

func (w *htmlWriter) line() {
	if w.b.Len() > 0 {
		w.b.WriteByte('\n')
	}
	w.space = false
}

func (w *htmlWriter) block(a atom.Atom) {
	switch a {
	case atom.P, atom.Div, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Ul, atom.Ol, atom.Tr,
		atom.Table, atom.Blockquote, atom.Pre, atom.Hr, atom.Section, atom.Article, atom.Header, atom.Footer:
		if w.b.Len() > 0 && !strings.HasSuffix(w.b.String(), "\n") {
			w.line()
		}
	case atom.Td, atom.Th:
		w.space = true
	}
}

func (w *htmlWriter) target(l link) {
	if href := strings.TrimSpace(l.href); href != "" && strings.TrimSpace(w.b.String()[l.start:]) != href {
		w.text(" <" + href + ">")
	}
}

func attribute(t html.Token, name string) string {
	for _, a := range t.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
