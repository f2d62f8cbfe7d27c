package vnicbridge

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
	programs "github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/pcapfilter"
)

// A filter takes the same frames as a program for tc as it does as classic BPF.
func TestFromClassic(t *testing.T) {
	frames := append(hostileFrames(200),
		fromRouter(router, 4000, 80).udp("payload"), fromRouter(farHost, 4000, 80).tcp("S", ""),
		fromRouter(farHost, 4000, 443).tcp("A", "data"), fromRouter(router, 7, 7).echo("ping"))
	for _, expression := range []string{
		"", "ip", "arp", "tcp", "not udp", "host 192.168.1.1 or net 10.0.0.0/8", "port 80", "not (port 80 or port 443)", "portrange 1-1023",
		"tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn", "tcp[12] & 0xf0 >> 4 > 5", "ip[2:2] + 14 = 60", "udp[4:2] << 2 != 0", "icmp[icmptype] = icmp-echo", "ether[0:4] > 0x80000000",
		"ether[0:4] < 0x80000000", "less 60", "len >= 100", "ip[1000] = 0", "not ip[60:4] = 0", "tcp[200] | 1 = 1",
	} {
		classic, err := pcapfilter.Compile(expression, 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		vm, err := bpf.NewVM(classic)
		if err != nil {
			t.Fatal(err)
		}
		program := loadFilter(t, classic)
		runs := 0
		for _, frame := range frames {
			want, err := vm.Run(frame)
			if err != nil {
				t.Fatal(err)
			}
			got, err := program.Run(&ebpf.RunOptions{Data: frame})
			if errors.Is(err, unix.EINVAL) {
				continue // the kernel does not run programs on so short a frame
			}
			if err != nil {
				t.Fatal(err)
			}
			runs++
			if (got != 0) != (want != 0) {
				t.Errorf("%s returns %d, as classic BPF %d, for %x", expression, got, want, frame)
			}
		}
		program.Close()
		if runs < len(frames)/2 {
			t.Errorf("%s ran on %d frames of %d", expression, runs, len(frames))
		}
	}
}

func loadFilter(t *testing.T, classic []bpf.Instruction) *ebpf.Program {
	t.Helper()
	instructions, err := capture.FromClassic(classic, "match", "none")
	if err != nil {
		t.Fatal(err)
	}
	instructions = append(instructions,
		asm.Mov.Imm(asm.R0, 1).WithSymbol("match"), asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("none"), asm.Return())
	if classic[len(classic)-1] == (bpf.RetConstant{Val: 1 << 16}) {
		instructions = instructions[:len(instructions)-2] // the verifier takes no dead ends
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: instructions, License: programs.License})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	return program
}
