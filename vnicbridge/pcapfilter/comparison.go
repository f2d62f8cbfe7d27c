package pcapfilter

import (
	"fmt"
	"strings"

	"golang.org/x/net/bpf"
)

// headers are the headers whose bytes can be compared, with the condition that a frame has
// the header.
var headers = map[string]struct {
	holds node
	load  func(offset, size uint32) []bpf.Instruction
}{
	"ether": {nil, absolute},
	"ip":    {isIP, network},
	"ip6":   {isIPv6, network},
	"arp":   {isARP, network},
	"tcp":   {and{ipv4Protocol(protoTCP), unbroken}, transport},
	"udp":   {and{ipv4Protocol(protoUDP), unbroken}, transport},
	"icmp":  {and{ipv4Protocol(protoICMP), unbroken}, transport},
	"icmp6": {and{isIPv6, nextHeader(protoICMPv6)}, transportIPv6},
}

func network(offset, size uint32) []bpf.Instruction { return absolute(offIP+offset, size) }

var relations = map[string]bpf.JumpTest{
	"=": bpf.JumpEqual, "==": bpf.JumpEqual, "!=": bpf.JumpNotEqual,
	"<": bpf.JumpLessThan, ">": bpf.JumpGreaterThan, "<=": bpf.JumpLessOrEqual, ">=": bpf.JumpGreaterOrEqual,
}

var arithmetic = map[string]bpf.ALUOp{
	"&": bpf.ALUOpAnd, "|": bpf.ALUOpOr, "+": bpf.ALUOpAdd, "<<": bpf.ALUOpShiftLeft, ">>": bpf.ALUOpShiftRight,
}

// comparison parses a comparison of bytes of the frame, or of its length, with a number.
func (p *parser) comparison() (node, error) {
	holds, load, err := p.operand()
	if err != nil {
		return nil, err
	}
	for {
		operator := p.next()
		if cond, ok := relations[operator]; ok {
			n, err := p.constant()
			t := test{load, cond, n}
			if holds == nil {
				return t, err
			}
			return and{holds, t}, err
		}
		op, ok := arithmetic[operator]
		if !ok {
			return nil, fmt.Errorf("want a comparison with a number, as in tcp[tcpflags] & tcp-syn != 0, not %q", operator)
		}
		n, err := p.constant()
		if err == nil && n > 31 && (op == bpf.ALUOpShiftLeft || op == bpf.ALUOpShiftRight) {
			err = fmt.Errorf("a number has no %d bits to shift by", n)
		}
		if err != nil {
			return nil, err
		}
		load = append(load, bpf.ALUOpConstant{Op: op, Val: n})
	}
}

func (p *parser) operand() (holds node, load []bpf.Instruction, err error) {
	name := p.next()
	if name == "len" {
		return nil, []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtLen}}, nil
	}
	header, ok := headers[name]
	if !ok {
		return nil, nil, fmt.Errorf("%q is no header to look into", name)
	}
	inside := p.next()
	at, width, sized := strings.Cut(inside[1:len(inside)-1], ":")
	offset, err := number(strings.TrimSpace(at))
	size := uint32(1)
	if err == nil && sized {
		size, err = number(strings.TrimSpace(width))
	}
	if err != nil || offset > 0xffff || size != 1 && size != 2 && size != 4 {
		return nil, nil, fmt.Errorf("%s%s: want an offset, and a size of 1, 2 or 4", name, inside)
	}
	return header.holds, header.load(offset, size), nil
}

// constant parses a number, or several joined by | in parentheses.
func (p *parser) constant() (sum uint32, err error) {
	if !p.accept("(") {
		return number(p.next())
	}
	for {
		n, err := number(p.next())
		if err != nil {
			return 0, err
		}
		sum |= n
		if p.accept(")") {
			return sum, nil
		}
		if !p.accept("|") {
			return 0, fmt.Errorf("want numbers joined by | in parentheses, not %q", p.peek())
		}
	}
}
