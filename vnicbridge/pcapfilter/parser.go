package pcapfilter

import (
	"errors"
	"fmt"

	"golang.org/x/net/bpf"
)

// Compile compiles an expression to a program that returns snaplen if a frame matches, and 0
// if not. The empty expression matches every frame. The error says what is not understood, or
// that the expression is too long.
func Compile(expression string, snaplen uint32) ([]bpf.Instruction, error) {
	tokens, err := lex(expression)
	if err == nil && len(tokens) == 0 {
		return []bpf.Instruction{bpf.RetConstant{Val: snaplen}}, nil
	}
	var program []bpf.Instruction
	if err == nil {
		program, err = compile(tokens, snaplen)
	}
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w", expression, err)
	}
	return program, nil
}

func compile(tokens []string, snaplen uint32) ([]bpf.Instruction, error) {
	p := parser{tokens: tokens}
	n, err := p.expression()
	if err == nil && len(p.tokens) > 0 {
		err = fmt.Errorf("%q is too much", p.tokens[0])
	}
	if err != nil {
		return nil, err
	}
	return assemble(n, snaplen)
}

// parser parses an expression by recursive descent.
type parser struct {
	tokens []string
	last   *qualifiers // of the value before; they hold for a value without qualifiers
	depth  int
}

// peek returns the next token, or "" at the end.
func (p *parser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *parser) next() string {
	t := p.peek()
	if t != "" {
		p.tokens = p.tokens[1:]
	}
	return t
}

// accept takes the next token if it is one of some tokens.
func (p *parser) accept(tokens ...string) bool {
	for _, t := range tokens {
		if p.peek() == t {
			p.next()
			return true
		}
	}
	return false
}

func (p *parser) expression() (node, error) {
	n, err := p.factor()
	for err == nil {
		var right node
		switch {
		case p.accept("and", "&&"):
			right, err = p.factor()
			n = and{n, right}
		case p.accept("or", "||"):
			right, err = p.factor()
			n = or{n, right}
		default:
			return n, nil
		}
	}
	return nil, err
}

// maxDepth bounds parentheses and negations.
const maxDepth = 64

func (p *parser) factor() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, errTooLong
	}
	defer func() { p.depth-- }()
	switch {
	case p.accept("not", "!"):
		n, err := p.factor()
		return not{n}, err
	case p.accept("("):
		n, err := p.expression()
		if err == nil && !p.accept(")") {
			err = errors.New("a closing parenthesis is missing")
		}
		return n, err
	default:
		return p.primitive()
	}
}

func (p *parser) primitive() (node, error) {
	if p.peek() == "" {
		return nil, errors.New("it ends too early")
	}
	if p.peek() == "len" || len(p.tokens) > 1 && p.tokens[1][0] == '[' {
		return p.comparison()
	}
	if p.accept("less") {
		return p.length(bpf.JumpLessOrEqual)
	}
	if p.accept("greater") {
		return p.length(bpf.JumpGreaterOrEqual)
	}
	first := p.peek()
	q, given := p.qualifiers()
	switch {
	case !given && p.last == nil:
		return nil, fmt.Errorf("%q is not understood", first)
	case !given:
		return p.last.matches(p.next())
	case q == (qualifiers{proto: q.proto}) && protocols[q.proto] != nil && !p.atValue():
		return protocols[q.proto], nil
	}
	if !p.atValue() {
		return nil, fmt.Errorf("a value is missing behind %q", first)
	}
	p.last = &q
	return q.matches(p.next())
}

// atValue tells whether the next token may be a value.
func (p *parser) atValue() bool {
	switch p.peek() {
	case "", "and", "or", "not":
		return false
	}
	return operatorLength(p.peek()) == 0
}

// qualifiers takes the words before a value.
func (p *parser) qualifiers() (q qualifiers, given bool) {
	before := len(p.tokens)
	switch p.peek() {
	case "ether", "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6":
		q.proto = p.next()
	}
	q.direction = p.direction()
	switch p.peek() {
	case "host", "net", "port", "portrange", "proto":
		q.kind = p.next()
	}
	return q, len(p.tokens) < before
}

func (p *parser) direction() string {
	if p.peek() != "src" && p.peek() != "dst" {
		return ""
	}
	first := p.next()
	if len(p.tokens) < 2 || p.tokens[1] != "src" && p.tokens[1] != "dst" || p.tokens[1] == first {
		return first
	}
	switch {
	case p.accept("or"):
		p.next()
		return ""
	case p.accept("and"):
		p.next()
		return "src and dst"
	}
	return first
}

func (p *parser) length(cond bpf.JumpTest) (node, error) {
	n, err := number(p.next())
	return test{[]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtLen}}, cond, n}, err
}
