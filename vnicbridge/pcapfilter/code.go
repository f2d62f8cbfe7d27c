package pcapfilter

import (
	"errors"

	"golang.org/x/net/bpf"
)

// node is a condition on a frame.
type node interface {
	// emit appends the code that goes on at one label if the condition holds, and
	// at the other if not.
	emit(c *code, then, otherwise label)
}

// test loads a value and compares it. Without a load it compares what the test before has
// loaded.
type test struct {
	load []bpf.Instruction
	cond bpf.JumpTest
	val  uint32
}

// oneOf loads a value, which must be one of some.
type oneOf struct {
	load []bpf.Instruction
	vals []uint32
}

// after executes an instruction before the node's own.
type after struct {
	first bpf.Instruction
	then  node
}

type (
	and struct{ a, b node }
	or  struct{ a, b node }
	not struct{ a node }
)

func (t test) emit(c *code, then, otherwise label) {
	for _, i := range t.load {
		c.lines = append(c.lines, line{plain: i})
	}
	c.lines = append(c.lines, line{test: t, then: then, otherwise: otherwise})
}

func (n oneOf) emit(c *code, then, otherwise label) {
	var sum node = test{n.load, bpf.JumpEqual, n.vals[0]}
	for _, val := range n.vals[1:] {
		sum = or{sum, test{nil, bpf.JumpEqual, val}}
	}
	sum.emit(c, then, otherwise)
}

func (n after) emit(c *code, then, otherwise label) {
	c.lines = append(c.lines, line{plain: n.first})
	n.then.emit(c, then, otherwise)
}

func (n and) emit(c *code, then, otherwise label) {
	second := c.label()
	n.a.emit(c, second, otherwise)
	c.place(second)
	n.b.emit(c, then, otherwise)
}

func (n or) emit(c *code, then, otherwise label) {
	second := c.label()
	n.a.emit(c, then, second)
	c.place(second)
	n.b.emit(c, then, otherwise)
}

func (n not) emit(c *code, then, otherwise label) { n.a.emit(c, otherwise, then) }

// all is the condition that all of them hold.
func all(nodes ...node) node {
	sum := nodes[0]
	for _, n := range nodes[1:] {
		sum = and{sum, n}
	}
	return sum
}

// label is a place in the code, by its number.
type label int

// code is a program whose jumps are not resolved yet. They all go forward.
type code struct {
	lines  []line
	places []int // of the labels
}

// line is an instruction, or a test that jumps.
type line struct {
	plain           bpf.Instruction
	test            test
	then, otherwise label
}

func (c *code) label() label {
	c.places = append(c.places, -1)
	return label(len(c.places) - 1)
}

func (c *code) place(l label) { c.places[l] = len(c.lines) }

// maxLength is how far a conditional jump can go.
const maxLength = 255

var errTooLong = errors.New("it is too long: a filter has room for about 10 conditions")

// assemble makes the program that returns snaplen if the condition holds, else 0.
func assemble(n node, snaplen uint32) ([]bpf.Instruction, error) {
	c := new(code)
	accept, reject := c.label(), c.label()
	n.emit(c, accept, reject)
	if len(c.lines) > maxLength {
		return nil, errTooLong
	}
	c.place(accept)
	c.lines = append(c.lines, line{plain: bpf.RetConstant{Val: snaplen}})
	c.place(reject)
	c.lines = append(c.lines, line{plain: bpf.RetConstant{}})
	program := make([]bpf.Instruction, len(c.lines))
	for i, l := range c.lines {
		if program[i] = l.plain; l.plain == nil {
			program[i] = bpf.JumpIf{
				Cond: l.test.cond, Val: l.test.val,
				SkipTrue: c.skip(i, l.then), SkipFalse: c.skip(i, l.otherwise),
			}
		}
	}
	return program, nil
}

func (c *code) skip(from int, to label) uint8 { return uint8(c.places[to] - from - 1) }
