package content

import (
	"fmt"
	"slices"
	"strings"
)

// A Renderer picks the parts of a message that a client can show. The zero
// value is for a terminal: it understands plain text, Markdown as plain text
// and the text of HTML, and external content as a note.
type Renderer struct {
	// Languages are RFC 5646 tags, the preferred one first.
	Languages []string
	// Quality tells how well the client shows a single part of this type,
	// and an external part if external is set: 0 for not at all, more for
	// better. nil means TerminalQuality.
	Quality func(contentType string, external bool) int
}

// TerminalQuality is the Quality of a client that shows text only. It
// prefers plain text to Markdown and Markdown to HTML.
func TerminalQuality(contentType string, external bool) int {
	if external {
		return 1
	}
	t, params := mediaType(contentType)
	switch cs := strings.ToLower(params["charset"]); cs {
	case "", "utf-8", "us-ascii":
	default:
		return 0
	}
	switch t {
	case "text/plain":
		return 4
	case "text/markdown":
		return 3
	case "text/html":
		return 2
	}
	return 0
}

// A Choice is a part to process. If it is not Understood it is one that the
// client cannot show: a single part of an unknown type, or a multipart of
// which nothing may be shown.
type Choice struct {
	Index      int // part index
	Part       *NestedPart
	Understood bool
}

// Select returns the parts to process, in order, by the rules of section 4.4:
// of chooseOne the best part, of singleUnit all parts or none, of processAll
// each part; and no part that an earlier one has referred to by cid:. Null
// parts are left out.
func (r *Renderer) Select(body *NestedPart) []Choice {
	s := &selection{r: r, index: map[*NestedPart]int{}, score: map[*NestedPart]int{}}
	for i, p := range body.Parts() {
		s.index[p] = i
	}
	s.rate(body)
	s.pick(body)
	referred := map[int]bool{}
	var out []Choice
	for _, c := range s.out {
		if referred[c.Index] {
			continue
		}
		out = append(out, c)
		if single, ok := c.Part.Part.(SinglePart); ok && c.Understood {
			for _, i := range contentIDs(single) {
				referred[i] = true
			}
		}
	}
	return out
}

type selection struct {
	r     *Renderer
	index map[*NestedPart]int
	score map[*NestedPart]int
	out   []Choice
}

// languageSteps separates quality from language in a score: a better type
// outweighs a better language.
const languageSteps = 64

// rate scores p and the parts inside; 0 means not understood.
func (s *selection) rate(p *NestedPart) int {
	score := 0
	switch part := p.Part.(type) {
	case NullPart:
		score = 1
	case SinglePart:
		score = s.leaf(p, part.ContentType, false)
	case ExternalPart:
		score = s.leaf(p, part.ContentType, true)
	case MultiPart:
		scores := make([]int, len(part.Parts))
		for i := range part.Parts {
			scores[i] = s.rate(&part.Parts[i])
		}
		switch {
		case len(scores) == 0:
		case part.Semantics == ChooseOne:
			score = slices.Max(scores)
		case part.Semantics == SingleUnit:
			score = slices.Min(scores)
		default:
			if score = slices.Max(scores); score > 1 && slices.Min(scores) == 0 {
				score-- // another choice without gaps is better
			}
		}
	}
	s.score[p] = score
	return score
}

func (s *selection) leaf(p *NestedPart, contentType string, external bool) int {
	quality := s.r.Quality
	if quality == nil {
		quality = TerminalQuality
	}
	q := quality(contentType, external)
	if q <= 0 {
		return 0
	}
	return q*languageSteps + s.r.language(p.Language)
}

// language scores a list of tags: 2 if the language does not matter, more
// for one of the client's, less for another.
func (r *Renderer) language(tags string) int {
	if strings.TrimSpace(tags) == "" {
		return 2
	}
	best := 1
	for tag := range strings.SplitSeq(tags, ",") {
		tag = strings.ToLower(strings.TrimSpace(tag))
		for i, want := range r.Languages {
			want = strings.ToLower(want)
			if tag == want || strings.HasPrefix(tag, want+"-") || strings.HasPrefix(want, tag+"-") {
				best = max(best, languageSteps-1-min(i, languageSteps-4))
			}
		}
	}
	return best
}

func (s *selection) pick(p *NestedPart) {
	choice := Choice{s.index[p], p, s.score[p] > 0}
	multi, ok := p.Part.(MultiPart)
	switch {
	case p.Part == nil, p.Part == NullPart{}:
	case !ok:
		s.out = append(s.out, choice)
	case !choice.Understood && multi.Semantics != ProcessAll:
		s.out = append(s.out, choice)
	case multi.Semantics == ChooseOne:
		best := 0
		for i := range multi.Parts {
			if s.score[&multi.Parts[i]] > s.score[&multi.Parts[best]] {
				best = i
			}
		}
		s.pick(&multi.Parts[best])
	default:
		for i := range multi.Parts {
			s.pick(&multi.Parts[i])
		}
	}
}

// Text returns the message as text for a terminal, in which nothing is a
// control character but line feeds and tabs (see [SanitizeText]). It is
// empty for a delete. Markdown is shown as it is; what cannot be shown is a
// note in square brackets.
func (m *Message) Text() string { return new(Renderer).Text(m) }

// Text is [Message.Text] with r's preferences. r.Quality may claim only
// types that are text.
func (r *Renderer) Text(m *Message) string {
	var lines []string
	for _, c := range r.Select(&m.Body) {
		lines = append(lines, describe(c))
	}
	return strings.Join(lines, "\n")
}

func describe(c Choice) string {
	switch part := c.Part.Part.(type) {
	case SinglePart:
		if !c.Understood {
			return fmt.Sprintf("[%s: %s, %d octets]", c.Part.Disposition.Effective(), typeName(part.ContentType), len(part.Content))
		}
		if t, _ := mediaType(part.ContentType); t == "text/html" {
			return SanitizeText(htmlText(part.Content))
		}
		return SanitizeText(string(part.Content))
	case ExternalPart:
		return describeExternal(c.Part.Disposition, &part)
	}
	return "[content that this client cannot show]"
}

func describeExternal(d Disposition, p *ExternalPart) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s:", d.Effective())
	for _, s := range []string{p.Filename, p.Description} {
		if s = strings.TrimSpace(SanitizeLine(s)); s != "" {
			fmt.Fprintf(&b, " %s,", s)
		}
	}
	fmt.Fprintf(&b, " %s", typeName(p.ContentType))
	if p.Size > 0 {
		fmt.Fprintf(&b, ", %d octets", p.Size)
	}
	if p.EncAlg == 0 { // else the address alone is of no use
		fmt.Fprintf(&b, ", %s", SanitizeLine(p.URL))
	}
	b.WriteByte(']')
	return b.String()
}

func typeName(contentType string) string {
	if t, _ := mediaType(contentType); t != "" {
		return SanitizeLine(t)
	}
	return "unknown type"
}
